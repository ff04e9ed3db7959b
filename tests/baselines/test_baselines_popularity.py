"""Popularity on a matrix that can be drawn."""

import numpy as np
import pytest
from scipy import sparse

from c2f_np.baselines import Popularity
from c2f_np.data import load_dataset
from c2f_np.evaluation import evaluate_ranking

# Item counts: 3, 1, 3, 0, 2. The values of the entries do not matter.
TRAIN = sparse.csr_array(
    np.array(
        [
            [1, 0, 5, 0, 1],
            [1, 0, 2, 0, 0],
            [1, 1, 1, 0, 1],
        ]
    )
)


def test_counts_scores_and_size():
    model = Popularity().fit(TRAIN)
    np.testing.assert_array_equal(model.counts_, [3, 1, 3, 0, 2])
    assert model.counts_.dtype == np.int32
    assert model.size_in_bytes()["model"] == 20
    scores = model.score_items(np.array([2, 0]))
    np.testing.assert_array_equal(scores, [[3, 1, 3, 0, 2]] * 2)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_evaluated_with_ties_by_index(engine):
    score = Popularity().fit(TRAIN).score_items
    # Unmasked, everybody's list is 0, 2, 4, 1, 3.
    # With the training items out, user 0 gets 1, 3; user 1 gets 4, 1, 3; user 2 gets 3.
    relevant = sparse.csr_array(np.array([[0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]]))
    result = evaluate_ranking(score, relevant, TRAIN, (1, 2), engine=engine)
    assert result.metrics["recall@1"] == pytest.approx(2 / 3)
    assert result.metrics["recall@2"] == 1.0
    assert result.metrics["ndcg@2"] == pytest.approx((1 / np.log2(3) + 1 + 1) / 3)
    # User 1's first item, 4, has no equal left (0 and 2 are masked); nobody's second has.
    assert result.ties == {1: 0, 2: 0}
    # Without a mask items 0 and 2 tie at the top of every list.
    unmasked = evaluate_ranking(score, relevant, None, (1, 2), engine=engine)
    assert unmasked.ties == {1: 3, 2: 0}


def test_ties_abound_in_counts():
    data = load_dataset("planted")
    result = Popularity(engine="numpy").fit(data).evaluate()
    # The figures of docs/evaluation.md.
    assert (result.n_users, result.ties) == (1000, {5: 0, 10: 12, 20: 292, 50: 432})
