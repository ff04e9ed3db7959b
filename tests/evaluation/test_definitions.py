"""Other code's NDCG and Recall: by hand, against scikit-learn where they coincide, and where they cannot."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import rows_of
from scipy import sparse
from sklearn.metrics import ndcg_score, recall_score

from c2f_np.errors import DataError, SettingsError
from c2f_np.evaluation import (
    DEFINITIONS,
    hit_matrix,
    metrics_per_user,
    over_all_users,
    rank_items,
    rank_sampled,
)
from c2f_np.evaluation import definitions as d

# Discounts of the places 1 to 4.
ONE, TWO, THREE, FOUR = 1.0, 0.6309297535714575, 0.5, 0.43067655807339306
# Lists of four. Row 0: three relevant items, found at places 2 and 4. Row 1: one, found at place 3. Row 2: five, found at the
# first. Row 3: none found. Row 4: nothing relevant.
HITS = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
N_RELEVANT = np.array([3, 1, 5, 2, 0])
K3 = ONE + TWO + THREE


@pytest.mark.parametrize(
    "function, expected",
    [
        (d.ndcg_at_k, [TWO / K3, THREE, ONE / K3, 0]),
        (d.ndcg_ideal_full, [TWO / K3, THREE / K3, ONE / K3, 0]),
        (d.ndcg_ideal_found, [TWO, THREE, 1, 0]),
        # Discounts 1, 1, 1/log2(3), 1/2, 1/log2(5); ideals of 3, 1, 5 and 2 hits.
        (d.ndcg_ideal_untruncated, [1 / (2 + TWO), TWO, 1 / (2 + TWO + THREE + FOUR), 0]),
        (d.recall_at_k, [1 / 3, 1, 1 / 5, 0]),
        (d.recall_truncated, [1 / 3, 1, 1 / 3, 0]),
        # min(3, relevant): 3, 1, 3, 2, in the mean 9/4; three hits in all
        (d.recall_pooled, [4 / 9, 4 / 9, 4 / 9, 0]),
        (d.hit_rate, [1, 1, 1, 0]),
    ],
)
def test_worked_out_by_hand_at_3(function, expected):
    np.testing.assert_allclose(function(HITS, N_RELEVANT, 3), [*expected, np.nan], rtol=1e-15)


def test_the_longest_list_may_give_the_hits_of_the_ideal():
    # Row 0 at 3 with the hits of the list of 4: two of them, so the ideal is 1 + 0.63.
    found = d.ndcg_ideal_found(HITS, N_RELEVANT, 3, longest=4)
    np.testing.assert_allclose(found[:2], [TWO / (ONE + TWO), THREE], rtol=1e-15)


def test_the_table_has_ours_and_means_leave_out_who_has_nothing():
    assert [each.metric for each in DEFINITIONS if each.name == "ours"] == ["ndcg", "recall"]
    assert len({(each.name, each.metric) for each in DEFINITIONS}) == len(DEFINITIONS)
    by_name = {(each.metric, each.name): each for each in DEFINITIONS}
    assert by_name["recall", "pooled"].mean(HITS, N_RELEVANT, 3) == pytest.approx(3 / 9)
    assert by_name["recall", "hit rate"].mean(HITS, N_RELEVANT, 3) == 3 / 4
    for each in DEFINITIONS:
        with pytest.raises(DataError, match="nothing to average"):
            each.mean(HITS[4:], N_RELEVANT[4:], 3)
        with pytest.raises(SettingsError, match="k must be"):
            each.mean(HITS, N_RELEVANT, 0)


def test_users_without_relevant_items_as_zero():
    np.testing.assert_array_equal(over_all_users([0.5, np.nan, 1.0], 4), [0.5, 1, 0, 0])
    with pytest.raises(DataError, match="2 users are counted, but there are 1"):
        over_all_users([0.5, 1.0], 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 14))
def test_scikit_learn_agrees_where_it_can(seed, n_items, k):
    # No ties. scikit-learn counts the rows without relevant items as 0.
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(n_items, dtype=float), (5, 1)), axis=1)
    relevant = rng.random((5, n_items)) < 0.3
    relevant[0, 0] = True
    topk = rank_items(scores, None, k, engine="numpy")
    found = metrics_per_user(topk, sparse.csr_array(relevant), (k,))
    ndcg = over_all_users(found[f"ndcg@{k}"], 5)
    assert ndcg.mean() == pytest.approx(ndcg_score(relevant, scores, k=k), rel=1e-12, abs=1e-15)
    listed = np.zeros_like(relevant)
    np.put_along_axis(listed, topk, True, axis=1)
    recall = over_all_users(found[f"recall@{k}"], 5)
    assert recall.mean() == pytest.approx(recall_score(relevant, listed, average="samples", zero_division=0), rel=1e-12)


def test_scikit_learn_averages_over_the_orders_of_a_tie():
    # Items 1, 2 and 3 tie across the cut; ours takes the lower index, scikit-learn the mean over all their orders.
    scores, relevant = np.array([[9.0, 5, 5, 5, 1]]), np.array([[0, 0, 0, 1, 0]])
    values = []
    for order in itertools.permutations([1, 2, 3]):
        order = [0, *order, 4]
        topk = rank_items(scores[:, order], None, 3, engine="numpy")
        values.append(metrics_per_user(topk, sparse.csr_array(relevant[:, order]), (3,))["ndcg@3"][0])
    assert values[0] == 0 and max(values) == pytest.approx(TWO)
    assert np.mean(values) == pytest.approx(ndcg_score(relevant, scores, k=3), rel=1e-12)


def test_sampled_lists_hold_candidates_only_and_all_of_them_is_the_full_ranking():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 5, (40, 30)).astype(np.uint8)  # with ties; minus 1 would be 255
    relevant = sparse.csr_array(rng.random((40, 30)) < 0.1)
    masked = sparse.csr_array(rng.random((40, 30)) < 0.3)
    everything = rank_sampled(scores, relevant, masked, 7, 30, rng)
    np.testing.assert_array_equal(everything, rank_items(scores, masked, 7, engine="numpy"))
    few = rank_sampled(scores, relevant, masked, 30, 2, rng)
    masked_hits = hit_matrix(few, masked)
    assert not masked_hits.any()
    allowed = (relevant.astype(int) - relevant.multiply(masked).astype(int)).sum(axis=1)
    n_others = 30 - (relevant.toarray() | masked.toarray()).sum(axis=1)
    np.testing.assert_array_equal((few >= 0).sum(axis=1), allowed + np.minimum(2, n_others))


def test_few_candidates_flatter():
    # The relevant item 0 is the 5th of 9; against one other item it is first or second.
    scores, relevant = np.array([[5.0, 9, 8, 7, 6, 4, 3, 2, 1]]), rows_of([[0]], 9)
    rng = np.random.default_rng(0)
    places = [int(np.argmax(rank_sampled(scores, relevant, None, 9, 1, rng)[0] == 0)) + 1 for _ in range(400)]
    assert set(places) == {1, 2}
    assert 0.4 < np.mean(np.array(places) == 1) < 0.6  # 4 of the 8 others are worse


def test_sampling_refuses_what_does_not_fit():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="relevant has the shape"):
        rank_sampled(np.zeros((1, 3)), rows_of([[0]], 4), None, 2, 1, rng)
    with pytest.raises(DataError, match="row 0, item 2 is not a number"):
        rank_sampled(np.array([[1.0, 2, np.nan, 0]]), rows_of([[0]], 4), None, 2, 1, rng)
    with pytest.raises(SettingsError, match="n_negatives"):
        rank_sampled(np.zeros((1, 4)), rows_of([[0]], 4), None, 2, 0, rng)
