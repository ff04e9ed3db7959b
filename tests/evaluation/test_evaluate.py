"""Whole evaluations: the page's example, numbers of the released code, engines and threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import rows_of
from scipy import sparse

from c2f_np.errors import DataError, SettingsError
from c2f_np.evaluation import (
    count_ties_at_cut,
    evaluate_embeddings,
    evaluate_ranking,
    mean_metrics,
    metrics_per_user,
    rank_items,
)

ENGINES = ["numpy", "numba"]


# The example of docs/evaluation.md.
SCORES = np.array([[0.9, 0.8, 0.8, 0.1, 0.7, 0.3], [0.2, 0.1, 0.4, 0.9, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
TRAIN = rows_of([[0], [3], [4]], 6)
VALID = rows_of([[], [5], [5]], 6)
TEST = rows_of([[2, 4, 5], [2], []], 6)


def score_block(users):
    return SCORES[users]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_example_of_the_page(engine):
    log3 = np.log2(3)
    first = (1 / log3 + 1 / 2) / (1 + 1 / log3 + 1 / 2)
    assert round(first, 4) == 0.5307
    authors = evaluate_ranking(score_block, TEST, TRAIN, (1, 3), engine=engine, protocol="authors", per_user=True)
    assert authors.protocol == "authors"
    assert (authors.n_users, authors.n_users_left_out) == (2, 1)
    np.testing.assert_array_equal(authors.users, [0, 1])
    np.testing.assert_allclose(authors.per_user["ndcg@3"], [first, 1 / log3], rtol=1e-15)
    shown = {key: round(value, 4) for key, value in authors.metrics.items()}
    assert shown == {"recall@1": 0, "recall@3": 0.8333, "ndcg@1": 0, "ndcg@3": 0.5808}

    clean = evaluate_ranking(score_block, TEST, TRAIN + VALID, (1, 3), engine=engine, protocol="clean")
    shown = {key: round(value, 4) for key, value in clean.metrics.items()}
    assert shown == {"recall@1": 0.5, "recall@3": 0.8333, "ndcg@1": 0.5, "ndcg@3": 0.7654}
    assert clean.users is None and clean.per_user is None


# A tiny problem on which the released code was run: 9 users, 11 items. Its scores, as ranks (10 is a row's best).
RANKS = np.array(
    [
        [7, 10, 1, 4, 5, 2, 0, 6, 8, 3, 9],
        [4, 5, 1, 8, 9, 2, 0, 10, 7, 3, 6],
        [4, 2, 10, 5, 6, 8, 0, 7, 1, 9, 3],
        [4, 6, 1, 10, 8, 0, 7, 9, 3, 2, 5],
        [3, 2, 10, 5, 6, 8, 0, 7, 1, 9, 4],
        [3, 2, 10, 5, 6, 8, 0, 7, 1, 9, 4],
        [4, 5, 1, 8, 9, 2, 0, 10, 7, 3, 6],
        [5, 7, 1, 9, 8, 0, 4, 10, 3, 2, 6],
        [7, 10, 1, 4, 5, 2, 0, 6, 8, 3, 9],
    ]
)
SEEN = [
    [0, 1, 4, 7, 9], [5, 8, 9], [0, 1, 6, 9], [1, 3, 6], [2, 3, 7, 9], [0, 4, 5, 10], [1, 8, 10], [0, 1, 3, 4, 9],
    [1, 5, 9, 10],
]  # fmt: skip
HELD_OUT = [[5, 8], [0, 10], [8, 10], [5, 7], [1, 4], [1, 3], [0, 7], [6, 7], [2, 4]]


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_of_the_released_code(engine):
    result = evaluate_ranking(
        lambda users: RANKS[users], rows_of(HELD_OUT, 11), rows_of(SEEN, 11), (3, 5, 10), engine=engine, block_rows=4
    )
    assert result.n_users == 9
    expected = {
        "ndcg@3": 0.3244134210164653,
        "ndcg@5": 0.523828536394415,
        "ndcg@10": 0.6408319932455538,
        "recall@3": 0.3333333333333333,
        "recall@5": 0.7222222222222222,
        "recall@10": 1.0,
    }
    assert result.metrics == pytest.approx(expected, rel=1e-12)


def random_problem(seed, n_users=130, n_items=60, dtype=np.float32):
    rng = np.random.default_rng(seed)
    users, items = (rng.integers(-3, 4, (n, 4)).astype(dtype) for n in (n_users, n_items))
    bias = rng.integers(-3, 4, n_items).astype(dtype)
    split = rng.random((n_users, n_items))
    split[rng.random(n_users) < 0.2] = 0.5  # users without anything
    split[0] = 0.0  # one who has seen it all ...
    relevant = split > 0.95
    relevant[0, :3] = True  # ... and whose relevant items are among it
    return users, items, bias, sparse.csr_array(relevant), sparse.csr_array(split < 0.1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
def test_both_evaluators_engines_and_any_blocks_and_threads_agree(seed, dtype):
    users, items, bias, relevant, masked = random_problem(seed, dtype=dtype)
    scores = users @ items.T + bias
    expected = evaluate_ranking(
        lambda block: scores[block], relevant, masked, engine="numpy", block_rows=200, per_user=True
    )  # fmt: skip
    assert expected.users.tolist() == np.flatnonzero(relevant.sum(axis=1)).tolist()
    assert expected.n_users + expected.n_users_left_out == 130
    assert expected.per_user["ndcg@5"][0] == 0
    # The same from lists of everybody, without leaving out any user on the way.
    everybody = metrics_per_user(rank_items(scores, masked, 50, engine="numpy"), relevant)
    assert (expected.metrics, expected.n_users, expected.n_users_left_out) == mean_metrics(everybody)
    for k, n_ties in expected.ties.items():
        asked = expected.users
        assert n_ties == count_ties_at_cut(scores[asked], masked[asked], k, engine="numpy")
    for engine, n_threads, block_rows in (("numpy", 1, 48), ("numba", 1, None), ("numba", 2, 48), ("numba", 2, 7)):
        how = {"engine": engine, "n_threads": n_threads, "block_rows": block_rows, "per_user": True}
        for found in (
            evaluate_ranking(lambda block: scores[block], relevant, masked, **how),
            evaluate_embeddings(users, items, bias, relevant, masked, **how),
        ):
            assert found.metrics == expected.metrics
            assert found.ties == expected.ties and max(found.ties.values()) > 0
            np.testing.assert_array_equal(found.users, expected.users)
            for key, values in expected.per_user.items():
                np.testing.assert_array_equal(found.per_user[key], values)


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_at_the_ends_of_the_lists_are_counted(engine):
    # User 0 has 9 | 8 = 8 | 7 | ..., user 1 four equal scores, user 2 nothing to find. User 3 has two items left, equal ones.
    scores = np.array([[9, 8, 8, 7, 1.0], [5, 5, 5, 5, 1], [3, 3, 3, 3, 3], [2, 2, 9, 9, 9]])
    relevant, masked = rows_of([[4], [4], [], [0]], 5), rows_of([[], [], [], [2, 3, 4]], 5)
    expected = {2: 2, 1: 2, 4: 0, 3: 1, 5: 0, 9: 0}
    identity = np.eye(5)
    for ks in ((2, 1, 4, 3, 5, 9), (1, 2), (2,), (4,)):
        found = evaluate_ranking(lambda users: scores[users], relevant, masked, ks, engine=engine, block_rows=3)
        assert found.ties == {k: expected[k] for k in ks}
        found = evaluate_embeddings(scores, identity, None, relevant, masked, ks, engine=engine, n_threads=2)
        assert found.ties == {k: expected[k] for k in ks}


def test_real_valued_embeddings_give_the_same_bits_at_one_and_two_threads():
    _, _, bias, relevant, masked = random_problem(1, n_users=600)
    rng = np.random.default_rng(1)
    users, items = (rng.standard_normal((n, 37)).astype(np.float32) for n in (600, 60))
    one, two = (
        evaluate_embeddings(users, items, bias, relevant, masked, block_rows=96, n_threads=n, per_user=True)
        for n in (1, 2)
    )
    assert one == two
    for key, values in one.per_user.items():
        np.testing.assert_array_equal(values, two.per_user[key])


def test_only_users_with_relevant_items_are_scored():
    asked = []

    def record(users):
        asked.extend(users.tolist())
        return SCORES[users].astype(np.float32)

    evaluate_ranking(record, TEST, None, (1,), block_rows=1)
    assert asked == [0, 1]


def test_what_is_not_valid_is_refused():
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate_ranking(score_block, rows_of([[], []], 6), None)
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate_ranking(score_block, None, None)
    with pytest.raises(SettingsError, match=r"function of user indices, not ndarray; of a matrix: lambda rows: scores\[rows\]"):
        evaluate_ranking(SCORES, TEST, TRAIN)
    with pytest.raises(DataError, match="masked has the shape"):
        evaluate_ranking(score_block, TEST, rows_of([[0]], 6))
    with pytest.raises(DataError, match=r"score_block gave scores of shape \(2, 5\), expected \(2, 6\)"):
        evaluate_ranking(lambda users: SCORES[users, :5], TEST, TRAIN)
    with pytest.raises(DataError, match="user 1 and item 2 is not a number"):
        evaluate_ranking(lambda users: np.where(SCORES == 0.4, np.nan, SCORES)[users], TEST, TRAIN)
    with pytest.raises(SettingsError, match="ks"):
        evaluate_ranking(score_block, TEST, TRAIN, ())
    with pytest.raises(SettingsError, match="block_rows"):
        evaluate_ranking(score_block, TEST, TRAIN, block_rows=0)
    with pytest.raises(SettingsError, match="engine"):
        evaluate_ranking(score_block, TEST, TRAIN, engine="fortran")
    with pytest.raises(DataError, match=r"relevant has the shape \(3, 6\), expected \(2, 6\)"):
        evaluate_embeddings(np.zeros((2, 1)), np.zeros((6, 1)), None, TEST, None)
