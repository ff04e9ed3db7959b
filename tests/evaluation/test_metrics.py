"""Recall and NDCG: by hand and at the edges. (Against scikit-learn: test_definitions.py.)"""

import numpy as np
import pytest
from matrices import rows_of
from scipy import sparse

from c2f_np.errors import DataError, SettingsError
from c2f_np.evaluation import (
    DEFAULT_KS,
    hit_matrix,
    mean_metrics,
    metrics_per_user,
    ndcg_at_k,
    recall_at_k,
)

# Six items. Lists of up to four, and what is relevant:
TOPK = np.array(
    [
        [1, 2, 4, 5],  # relevant 2, 4, 5: hits at places 2, 3, 4
        [3, 0, 1, 2],  # relevant 3: a hit at place 1
        [0, 1, 2, 3],  # relevant 4, 5: no hit
        [0, 1, 2, 3],  # nothing relevant: left out
        [5, -1, -1, -1],  # a short list; relevant 0 and 5: a hit at place 1
    ]
)
RELEVANT = rows_of([[2, 4, 5], [3], [4, 5], [], [0, 5]], 6)


def test_hits():
    expected = np.array([[0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(hit_matrix(TOPK, RELEVANT), expected)


def test_metrics_worked_out_by_hand():
    # Discounts 1/log2(2), 1/log2(3), 1/log2(4), 1/log2(5):
    one, two, three, four = 1.0, 0.6309297535714575, 0.5, 0.43067655807339306
    nan = np.nan
    found = metrics_per_user(TOPK, RELEVANT, (1, 3, 4))
    expected = {
        "ndcg@1": [0, 1, 0, nan, 1],
        # Row 0 could have had hits at 1, 2, 3; row 4 at 1 and 2.
        "ndcg@3": [(two + three) / (one + two + three), 1, 0, nan, one / (one + two)],
        "ndcg@4": [(two + three + four) / (one + two + three), 1, 0, nan, one / (one + two)],
        "recall@1": [0, 1, 0, nan, 1 / 2],
        "recall@3": [2 / 3, 1, 0, nan, 1 / 2],
        "recall@4": [1, 1, 0, nan, 1 / 2],
    }
    assert list(found) == list(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-15, err_msg=key)
    means, n_users, n_left_out = mean_metrics(found)
    assert (n_users, n_left_out) == (4, 1)
    assert means["recall@3"] == pytest.approx((2 / 3 + 1 + 0 + 1 / 2) / 4, rel=1e-15)


def test_a_perfect_list_scores_exactly_one():
    n = 300
    relevant = sparse.csr_array(np.tri(n, dtype=np.int8))  # user u: items 0 to u
    topk = np.tile(np.arange(n), (n, 1))
    for key, values in metrics_per_user(topk, relevant, (5, 50, 300)).items():
        if key.startswith("ndcg"):
            assert (values == 1.0).all()


def test_lists_shorter_than_k_are_fine_only_if_the_catalogue_is():
    found = metrics_per_user([[1, 0]], rows_of([[0]], 2), (50,))
    assert found["recall@50"] == [1.0]
    assert found["ndcg@50"] == [1 / np.log2(3)]
    with pytest.raises(SettingsError, match="needs lists of 3 items; these have 2"):
        metrics_per_user([[1, 0]], rows_of([[0]], 3), (50,))
    assert DEFAULT_KS == (5, 10, 20, 50)


def test_empty_lists():
    hits = np.zeros((2, 0), bool)
    np.testing.assert_array_equal(ndcg_at_k(hits, [1, 0], 3), [0, np.nan])
    np.testing.assert_array_equal(recall_at_k(hits, [1, 0], 3), [0, np.nan])


def test_nobody_to_average():
    with pytest.raises(DataError, match="no user has a relevant item"):
        mean_metrics(metrics_per_user(TOPK, rows_of([[]] * 5, 6), (3,)))


def test_what_is_not_valid_is_refused():
    with pytest.raises(DataError, match="twice"):
        hit_matrix([[2, 2]], rows_of([[2]], 3))
    with pytest.raises(DataError, match="0 to 2"):
        hit_matrix([[3]], rows_of([[2]], 3))
    with pytest.raises(DataError, match="rows"):
        hit_matrix([[1]], rows_of([[2], []], 3))
    with pytest.raises(DataError, match="integer matrix"):
        hit_matrix([[1.0]], rows_of([[2]], 3))
    for ks in ((), (0,), (2.5,), "5", 5):
        with pytest.raises(SettingsError, match="ks"):
            metrics_per_user([[1]], rows_of([[2]], 3), ks)
