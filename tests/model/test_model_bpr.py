import numpy as np
import pytest
from model_rules import WIDTHS, bpr_backward, bpr_loss, check_engines
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.errors import DataError
from c2f_np.model.loss import Triples, score_pairs, sigmoid, softplus

# Two users, two items; entity numbers 0, 1, 2, 3.
H = np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]])
BIAS, BIAS_GLOBAL = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5])


def random_batch(rng, n_users=6, n_items=9, size=40):
    users, positive, negative = (rng.integers(0, n, size) for n in (n_users, n_items, n_items))
    return Triples.from_items(users, positive, negative, n_users, n_items)


def test_scores_by_hand():
    assert_allclose(score_pairs(H, BIAS, BIAS_GLOBAL, [0, 1], [2, 3]), [17 + 0.1 + 0.3 + 0.5, 53 + 0.2 + 0.4 + 0.5])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_loss_by_hand(engine):
    triples = Triples.from_items([0], [0], [1], 2, 2)
    loss, slope = bpr_loss(H / 10, BIAS, BIAS_GLOBAL, triples, engine=engine)
    difference = (7 + 16 - 5 - 12) / 100 + 0.1
    assert loss == pytest.approx(np.log1p(np.exp(difference)), rel=1e-15)
    assert slope == pytest.approx(1 / (1 + np.exp(-difference)), rel=1e-15)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_gradient_by_hand(engine):
    """User 0 twice: positive 0 against 1, then 1 against 0; and user 1 whose positive is also its negative."""
    triples = Triples.from_items([0, 0, 1], [0, 1, 1], [1, 0, 1], 2, 2)
    grad_H, grad_bias, grad_global = bpr_backward(H, triples, np.array([1.0, 0.25, 8]), engine=engine)
    # grad_H[0] = 1 (H_3 - H_2) + 0.25 (H_2 - H_3);  item 0 gets -1 + 0.25 times H_0, item 1 the opposite
    assert_array_equal(grad_H, [[1.5, 1.5], [0, 0], [-0.75, -1.5], [0.75, 1.5]])
    assert_array_equal(grad_bias, [0, 0, -0.75, 0.75])
    assert_array_equal(grad_global, [0])


@pytest.mark.parametrize("size", [1, 40, 500])
@pytest.mark.parametrize("width", WIDTHS)
def test_engines(width, size):
    rng = np.random.default_rng(width)
    triples = random_batch(rng, size=size)
    H, bias = rng.normal(size=(15, width)) / np.sqrt(width), rng.normal(size=15)
    _, slope = check_engines(bpr_loss, H, bias, np.array([0.3]), triples)
    check_engines(bpr_backward, H, triples, slope)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_biases_of_users_and_the_global_one_have_no_gradient(engine):
    rng = np.random.default_rng(0)
    triples, H = random_batch(rng), rng.normal(size=(15, 3))
    _, slope = bpr_loss(H, np.zeros(15), np.zeros(1), triples, engine=engine)
    _, grad_bias, grad_global = bpr_backward(H, triples, slope, engine=engine)
    assert (grad_bias[:6] == 0).all() and grad_global == 0
    assert abs(grad_bias.sum()) < 1e-15


def test_softplus_and_sigmoid_do_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        x = np.array([-1000.0, -1, 0, 1, 1000])
        assert_allclose(softplus(x), [0, np.log1p(np.exp(-1)), np.log(2), 1 + np.log1p(np.exp(-1)), 1000], rtol=1e-15)
        assert_allclose(sigmoid(x), [0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1], rtol=1e-15)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_hopeless_and_perfect_scores_have_finite_losses(engine):
    far = np.array([[1e3], [1e3], [1e3], [-1e3]])
    for positive, negative, loss, slope in ((0, 1, 0, 0), (1, 0, 2e6, 1)):
        triples = Triples.from_items([0], [positive], [negative], 2, 2)
        assert bpr_loss(far, np.zeros(4), np.zeros(1), triples, engine=engine) == (loss, [slope])


def test_occurrences_by_hand():
    where = Triples.from_items([1, 0, 1], [0, 0, 1], [1, 1, 0], 2, 2).occurrences
    assert_array_equal(where.entities, [0, 1, 2, 3])
    assert_array_equal(where.counts, [1, 2, 3, 3])
    # slot = role * 3 + triple, ascending for each entity
    assert_array_equal(where.slots, [1, 0, 2, 3, 4, 8, 5, 6, 7])
    where = Triples.from_items([1], [1], [1], 5, 5).occurrences
    assert_array_equal(where.entities, [1, 6])
    assert_array_equal(where.slots, [0, 1, 2])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (([0], [0], []), "as many"),
        (([], [], []), "at least one"),
        (([[0]], [[0]], [[0]]), "as many"),
        (([2], [0], [0]), "user out of range 0..1"),
        (([0], [-1], [0]), "positive out of range 0..1"),
        (([0], [0], [2]), "negative out of range 0..1"),
    ],
)
def test_impossible_batches(batch, message):
    with pytest.raises(DataError, match=message):
        Triples.from_items(*batch, 2, 2)
