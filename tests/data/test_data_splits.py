"""Splits and protocols: who gives how much, to whom, and by which seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_np.data import Interactions, apply_protocol, split_none, split_random, split_temporal
from c2f_np.data.interactions import keys_of_matrix
from c2f_np.errors import DataError


def users_with(*counts):
    """Return interactions where user u has counts[u] items, numbered from 0, at times 0, 1, ..."""
    users = [user for user, count in enumerate(counts) for _ in range(count)]
    items = [item for count in counts for item in range(count)]
    return Interactions.from_rows(users, items, timestamps=items)


def per_user(matrix):
    return np.diff(matrix.indptr).tolist()


@pytest.mark.parametrize(
    ("fraction", "n_test"), [(0.2, [0, 1, 1, 1, 2, 4]), (0.5, [0, 1, 2, 4, 5, 10]), (0.99, [0, 1, 2, 6, 9, 19])]
)
def test_random_split_sizes(fraction, n_test):
    split = split_random(users_with(1, 2, 3, 7, 10, 20), fraction, seed=1)
    assert per_user(split.test) == n_test
    assert per_user(split.train) == [1 - 0, 2 - n_test[1], 3 - n_test[2], 7 - n_test[3], 10 - n_test[4], 20 - n_test[5]]


def test_random_split_depends_on_its_seed_only():
    interactions = users_with(30, 30)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    one, same, other = (split_random(interactions, 0.2, seed) for seed in (1, 1, 2))
    assert keys_of_matrix(one.test).tolist() == keys_of_matrix(same.test).tolist()
    assert keys_of_matrix(one.test).tolist() != keys_of_matrix(other.test).tolist()
    assert "split seed 1" in one.how and "20%" in one.how
    with pytest.raises(DataError, match=r"split seed must be a whole number of at least 0 \(found 'a huge int'\)"):
        split_random(interactions, 0.2, -(10**5000))
    drawn = split_random(interactions, 0.2, np.random.default_rng(5))
    again = split_random(interactions, 0.2, np.random.default_rng(5))
    assert keys_of_matrix(drawn.test).tolist() == keys_of_matrix(again.test).tolist() and "a generator passed in" in drawn.how


def test_draws_stay_what_they_were():
    """Published splits are recreated from their seeds, so these draws must never change, and no two of them are the same."""
    interactions = users_with(12)
    tied = Interactions.from_rows(["a"] * 12, range(12), timestamps=[5] * 12)
    clean = apply_protocol(split_none(interactions), "clean", validation_fraction=0.3, seed=0)
    authors = apply_protocol(split_random(interactions, 0.5, seed=0), "authors", seed=0)
    assert split_random(users_with(10), 0.3, seed=0).test.indices.tolist() == [1, 3, 8]
    assert split_temporal(tied, 3, seed=0).test.indices.tolist() == [3, 4, 8]
    assert clean.validation.indices.tolist() == [0, 3, 8, 9]
    assert authors.validation.indices.tolist() == [2, 8]


def test_random_split_draws_all_items_alike():
    chosen = [split_random(users_with(5), 0.2, seed).test.indices[0] for seed in range(500)]
    assert np.bincount(chosen).min() > 70  # 100 expected, standard deviation 9


def test_temporal_split_takes_the_last():
    interactions = Interactions.from_rows(
        ["a"] * 4 + ["b"] * 2 + ["c"], ["p", "q", "r", "s", "p", "q", "p"], timestamps=[3, 9, 1, 7, 2, 1, 5]
    )
    one = split_temporal(interactions, 1)
    assert one.test.toarray().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert one.report["users_with_ties"] == 0
    two = split_temporal(interactions, 2)
    assert two.test.toarray().tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_temporal_ties_are_drawn_with_the_seed():
    interactions = Interactions.from_rows(["a"] * 4, ["p", "q", "r", "s"], timestamps=[1, 5, 5, 5])
    splits = [split_temporal(interactions, 1, seed) for seed in range(200)]
    counts = np.bincount([split.test.indices[0] for split in splits], minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 40  # 67 expected
    assert splits[0].report["users_with_ties"] == 1
    assert split_temporal(interactions, 3).report["users_with_ties"] == 0


def test_impossible_splits():
    interactions = users_with(3)
    for fraction in (0, 1, -0.1, float("nan"), "half", True):
        with pytest.raises(DataError, match="test_fraction must lie between 0 and 1"):
            split_random(interactions, fraction)
    for seed in (-1, 1.5, None, True):
        with pytest.raises(DataError, match="split seed"):
            split_random(interactions, 0.2, seed)
    for n_last in (0, 1.5, True):
        with pytest.raises(DataError, match="n_last"):
            split_temporal(interactions, n_last)
    with pytest.raises(DataError, match="needs timestamps, and a list has none"):
        split_temporal(Interactions.from_rows(["a"], ["x"], source="a list"))


def test_users_with_one_item_only():
    split = split_random(users_with(1, 1), 0.5)
    assert split.test is None and per_user(split.train) == [1, 1]


def test_pooled_brings_everything_back():
    interactions = users_with(5, 6)
    back = split_random(interactions, 0.4).pooled()
    assert back.user.tolist() == interactions.user.tolist() and back.item.tolist() == interactions.item.tolist()


# --- protocols ----------------------------------------------------------------------------------------------------


def test_authors_take_a_third_of_the_test_items_rounded_up():
    split = split_random(users_with(2, 4, 6, 8, 14), 0.5)
    assert per_user(split.test) == [1, 2, 3, 4, 7]
    data = apply_protocol(split, "authors")
    assert per_user(data.validation) == [1, 1, 1, 2, 3]
    assert per_user(data.test) == [0, 1, 2, 2, 4]
    assert keys_of_matrix(data.train).tolist() == keys_of_matrix(split.train).tolist()
    assert data.report["users_without_test"] == 1
    assert data.protocol == "authors" and "a third" in data.split


def test_clean_takes_a_share_of_training_and_leaves_the_test_alone():
    split = split_random(users_with(1, 2, 10, 100), 0.2)
    data = apply_protocol(split, "clean", validation_fraction=0.25)
    assert keys_of_matrix(data.test).tolist() == keys_of_matrix(split.test).tolist()
    together = np.union1d(keys_of_matrix(data.train), keys_of_matrix(data.validation))
    assert together.tolist() == keys_of_matrix(split.train).tolist()
    taken = per_user(data.validation)
    assert taken[:2] == [0, 0] and taken[2] == 2 and taken[3] == 20
    assert "25% of each user's training items" in data.split


def test_clean_rounds_in_proportion_so_that_small_users_count_too():
    data = apply_protocol(split_none(users_with(*[3] * 1000)), "clean", validation_fraction=0.1)
    assert 240 < data.validation.nnz < 360 and set(per_user(data.validation)) == {0, 1}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.floats(0.01, 0.99), st.integers(0, 99))
def test_clean_never_empties_a_user(counts, fraction, seed):
    data = apply_protocol(split_none(users_with(*counts)), "clean", validation_fraction=fraction, seed=seed)
    assert min(per_user(data.train)) >= 1


def test_validation_does_not_shift_the_test_items():
    interactions = users_with(20, 20)
    datasets = [
        apply_protocol(split_random(interactions, 0.2, 7), "clean", validation_fraction=fraction, seed=7)
        for fraction in (0.1, 0.3)
    ]
    assert keys_of_matrix(datasets[0].test).tolist() == keys_of_matrix(datasets[1].test).tolist()


def test_clean_without_validation():
    assert apply_protocol(split_none(users_with(5)), "clean", validation_fraction=0).validation is None
    with pytest.raises(DataError, match="validation_fraction must lie between 0 and 1, or be 0"):
        apply_protocol(split_none(users_with(5)), "clean", validation_fraction=1)


def test_authors_need_a_test_part_and_a_known_name():
    with pytest.raises(DataError, match="takes validation from the test items, and there are none"):
        apply_protocol(split_none(users_with(5)), "authors")
    with pytest.raises(DataError, match="one of authors, clean, not 'fair'"):
        apply_protocol(split_none(users_with(5)), "fair")
