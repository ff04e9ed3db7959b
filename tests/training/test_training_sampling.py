"""Sampling: both engines draw the same triples, the triples are what they should be, and every choice is uniform."""

import numba
import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.stats import chisquare

from c2f_np.engine import ENGINES, engine_named
from c2f_np.errors import DataError
from c2f_np.model import text
from c2f_np.model.sampling import below, hash64, sample_triples


def matrix(dense):
    return sparse.csr_array(np.asarray(dense, dtype=np.int8))


def random_matrix(seed, n_users=23, n_items=31, density=0.2):
    return matrix(np.random.default_rng(seed).random((n_users, n_items)) < density)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("neg_size", [1, 5, 40])
def test_engines_draw_the_same_triples(seed, neg_size):
    R = random_matrix(3)
    ours, compiled = (sample_triples(R, 200, neg_size, seed, engine=engine_named(engine)) for engine in ENGINES)
    for left, right in zip(ours, compiled, strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype == np.int32


def test_one_and_two_threads_draw_the_same_triples():
    R = random_matrix(4)
    before = numba.get_num_threads()
    try:
        drawn = []
        for n_threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(n_threads)
            drawn.append(np.stack(sample_triples(R, 5000, 5, 7, engine=engine_named("numba"))))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(*drawn)


def test_a_longer_epoch_begins_with_the_shorter_one():
    R = random_matrix(4)
    short, long = (np.stack(sample_triples(R, n, 2, 7, engine=text)) for n in (50, 80))
    np.testing.assert_array_equal(short, long[:, : short.shape[1]])


def test_other_seeds_other_triples():
    R = random_matrix(5)
    first, second = (np.stack(sample_triples(R, 300, 1, seed, engine=text)) for seed in (0, 1))
    assert first.shape != second.shape or (first != second).any(axis=0).mean() > 0.9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("density", [0.02, 0.5, 0.95])
def test_positives_are_interactions_and_negatives_are_not(engine, density):
    R = random_matrix(6, density=density)
    dense = R.toarray()
    users, positives, negatives = sample_triples(R, 2000, 5, 1, engine=engine_named(engine))
    assert len(users)
    assert dense[users, positives].all()
    assert not dense[users, negatives].any()
    assert negatives.min() >= 0 and negatives.max() < R.shape[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_negatives_of_a_draw_are_distinct(engine):
    R = random_matrix(7, n_items=12, density=0.4)
    degree = np.diff(R.indptr)
    assert (degree > 0).all() and (degree <= 7).sum() > 10
    R = R[degree <= 7]  # at least 5 free items: every draw makes exactly 5 triples
    users, positives, negatives = (c.reshape(-1, 5) for c in sample_triples(R, 1000, 5, 1, engine=engine_named(engine)))
    assert len(users) == 1000
    assert (users == users[:, :1]).all() and (positives == positives[:, :1]).all()
    assert (np.diff(np.sort(negatives, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_users_with_every_item_or_none_are_passed_over(engine):
    R = matrix([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]])
    users, positives, negatives = sample_triples(R, 300, 2, 0, engine=engine_named(engine))
    assert set(users) == {2} and set(positives) == {0, 2} and set(negatives) == {1, 3}
    # Passing over is not drawing again: about a third of the draws are left.
    assert 60 < len(users) / 2 < 140


@pytest.mark.parametrize("engine", ENGINES)
def test_fewer_free_items_than_negatives(engine):
    R = matrix([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    users, _, negatives = sample_triples(R, 200, 5, 0, engine=engine_named(engine))
    assert set(negatives[users == 1]) == {4}
    of_first = negatives[users == 0].reshape(-1, 2)
    np.testing.assert_array_equal(np.sort(of_first, axis=1), np.tile([3, 4], (len(of_first), 1)))


@pytest.mark.parametrize("dense", [np.ones((3, 4)), np.zeros((3, 4)), [[1, 1], [0, 0]]])
@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_with_both_is_an_error(dense, engine):
    with pytest.raises(DataError, match="nothing to rank"):
        sample_triples(matrix(dense), 10, 2, 0, engine=engine_named(engine))


@pytest.mark.parametrize("seed", [0, 11])
def test_users_are_uniform_whatever_they_interacted_with(seed):
    R = matrix(np.arange(20)[None, :] < np.arange(1, 16)[:, None])
    users, _, _ = sample_triples(R, 30_000, 1, seed, engine=text)
    assert chisquare(np.bincount(users, minlength=15)).pvalue > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_users_are_drawn_and_not_taken_in_turn(engine):
    """Whoever came before says nothing of who comes next: pairs of draws at any distance are uniform, also repeats."""
    R = matrix(np.eye(12, dtype=int)[:, ::-1])
    users, _, _ = sample_triples(R, 40_000, 1, 3, engine=engine_named(engine))
    for distance in (1, 2, 7, 12):
        pairs = np.bincount(12 * users[:-distance] + users[distance:], minlength=144)
        assert chisquare(pairs).pvalue > 1e-3
    # Of 1,000 users, 1,000 draws leave out 1 in e; standard deviation 9.9.
    drawn, _, _ = sample_triples(matrix(np.arange(1000)[:, None] % 2 == [0, 1]), 1000, 1, 8, engine=engine_named(engine))
    assert abs(len(set(drawn)) - 1000 * (1 - np.exp(-1))) < 35


def test_positive_and_negative_are_independent():
    R = matrix([np.arange(9) < 4])
    _, positives, negatives = sample_triples(R, 20_000, 1, 2, engine=text)
    assert chisquare(np.bincount(9 * positives + negatives, minlength=36).reshape(4, 9)[:, 4:].ravel()).pvalue > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_every_draw_counts(engine):
    """n draws of a user with f free items are n times min(neg_size, f) triples, those of one draw together."""
    dense = np.arange(8)[None, :] <= np.arange(9)[:, None] - 1  # user u has u items, and 8 - u are free
    users, positives, _ = sample_triples(matrix(dense), 500, 3, 4, engine=engine_named(engine))
    usable = np.bincount(users, minlength=9) / np.minimum(3, 8 - np.arange(9)).clip(1)
    assert usable[0] == usable[8] == 0 and (usable == usable.round()).all() and (usable[1:8] > 30).all()
    # About two draws in nine are of a user without items or with all.
    assert 350 < usable.sum() < 430
    of_two = positives[users == 6].reshape(-1, 2)
    np.testing.assert_array_equal(of_two[:, 0], of_two[:, 1])


@pytest.mark.parametrize("seed", [0, 11])
def test_positives_and_negatives_of_a_user_are_uniform(seed):
    held = np.zeros(24, dtype=bool)
    held[[0, 3, 4, 5, 11, 22, 23]] = True
    R = matrix([held, ~held])
    users, positives, negatives = sample_triples(R, 20_000, 3, seed, engine=text)
    for user, has in ((0, held), (1, ~held)):
        mine = users == user
        # Three triples share a positive: count draws.
        assert chisquare(np.bincount(positives[mine][::3], minlength=24)[has]).pvalue > 1e-3
        draws = negatives[mine].reshape(-1, 3)
        for position in range(2):
            # Floyd's last place is not uniform by itself; whole sets are.
            assert len(set(draws[:, position])) > 1
        assert chisquare(np.bincount(draws.ravel(), minlength=24)[~has]).pvalue > 1e-3


def test_every_set_of_negatives_is_equally_likely():
    R = matrix([[1, 0, 0, 1, 0, 0, 0]])
    _, _, negatives = sample_triples(R, 20_000, 2, 5, engine=text)
    pairs = np.sort(negatives.reshape(-1, 2), axis=1)
    _, counts = np.unique(pairs[:, 0] * 7 + pairs[:, 1], return_counts=True)
    assert len(counts) == 10  # 5 free items, 2 at a time
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("error")
def test_the_hash_wraps_around_in_silence(engine):
    sample_triples(random_matrix(8), 50, 3, 2**64 - 1, engine=engine_named(engine))


def test_below_stays_below():
    largest = np.array([2**64 - 1, 0], dtype=np.uint64)
    np.testing.assert_array_equal(below(largest, np.array([7, 7])), [6, 0])


def test_hash_is_splitmix64():
    # The first outputs of the published generator (Vigna) from state 0.
    states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    np.testing.assert_array_equal(hash64(states), np.array(expected, dtype=np.uint64))
