"""Links in closed form: the row that explains most, weights by least squares, and the codebook that links explain most with."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.errors import SettingsError
from c2f_np.model.links import fit_codebook, pursue

#: The ridge moves weights by this share, times what is lost if rows are nearly multiples of each other.
RIDGE = 1e-6


def squares(Y):
    return np.sum(Y**2, axis=1)


def columns(S):
    return S.indices.reshape(S.shape[0], -1)


# ---- links ---------------------------------------------------------------------------------------------------------------
def test_one_link_by_hand():
    """<y, E_j>^2 / |E_j|^2 is 36 / 4, 1 / 1 and 16 / 2; of the second row 0, 9 and 9 / 2."""
    E = np.array([[2.0, 0], [0, 1], [1, 1]])
    S = pursue(np.array([[3.0, 1], [0, -3]]), E, 1)
    assert columns(S).tolist() == [[0], [1]]
    assert_allclose(S.toarray(), [[1.5, 0, 0], [0, -3, 0]], rtol=RIDGE)


def test_two_links_by_hand():
    """After [1, 1] with weight 2, [1, -1] is left. [0, 1] explains it best, and then both weights are found anew."""
    E = np.array([[0.0, 1], [0.2, 0], [1, 1]])
    Y = np.array([[3.0, 1]])
    assert_allclose(pursue(Y, E[[0, 2]], 1).toarray(), [[0, 2]], rtol=RIDGE)
    S = pursue(Y, E[[0, 2]], 2)
    assert columns(S).tolist() == [[0, 1]]  # sorted, though the second was found first
    assert_allclose(S.toarray(), [[-2, 3]], rtol=RIDGE)


def test_a_greedy_choice_is_not_always_the_best():
    """[4, 4] is closest to [1, 1], and with it neither of the others ends at y; the two others together would."""
    E = np.array([[1.0, 0, 0], [0, 1, 0.0], [1, 1, 0.1]])
    S = pursue(np.array([[4.0, 4, 0]]), E, 2)
    assert 2 in columns(S)[0] and squares(S @ E - [4, 4, 0])[0] > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_one_link_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    Y, E = rng.normal(size=(20, 3)), rng.normal(size=(6, 3)) * rng.uniform(0.1, 10, (6, 1))
    S = pursue(Y, E, 1)
    weights = Y @ E.T / squares(E)
    left = np.array([[np.sum((y - w * e) ** 2) for w, e in zip(row, E, strict=True)] for y, row in zip(Y, weights, strict=True)])
    best = np.argmin(left, axis=1)
    assert_array_equal(columns(S)[:, 0], best)
    assert_allclose(S.data, weights[np.arange(20), best], rtol=1e-4)  # the ridge is one of the mean row, some are much shorter


@pytest.mark.parametrize("t", [1, 2, 3, 5])
def test_weights_are_least_squares_of_the_chosen_rows(t):
    rng = np.random.default_rng(t)
    Y, E = rng.normal(size=(15, 6)), rng.normal(size=(5, 6))
    S = pursue(Y, E, t)
    assert_array_equal(np.diff(S.indptr), t)
    assert (np.diff(columns(S), axis=1) > 0).all()  # sorted, none twice
    for y, chosen, weights in zip(Y, columns(S), S.data.reshape(15, t), strict=True):
        assert_allclose(weights, np.linalg.lstsq(E[chosen].T, y, rcond=None)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [2, 3])
def test_each_link_is_the_best_that_can_be_added(t):
    rng = np.random.default_rng(t)
    Y, E = rng.normal(size=(10, 4)), rng.normal(size=(5, 4))
    directions = E / np.linalg.norm(E, axis=1)[:, None]
    for y, before, after in zip(Y, columns(pursue(Y, E, t - 1)), columns(pursue(Y, E, t)), strict=True):
        left = y - np.linalg.lstsq(E[before].T, y, rcond=None)[0] @ E[before]
        others = sorted(set(range(5)) - set(before))
        assert set(after) == {*before, others[np.argmax(np.abs(directions[others] @ left))]}


def test_ties_go_to_the_lower_row():
    E = np.array([[0.0, 1], [1, 0], [0, 2], [-3, 0]])
    S = pursue(np.array([[5.0, 0], [0, 7], [2, 2]]), E, 1)
    assert columns(S).tolist() == [[1], [0], [0]]


def test_rows_of_zeros():
    """A row of zeros needs nothing: its links are the lowest, with weight 0. A codebook row of zeros explains nothing."""
    S = pursue(np.array([[0.0, 0], [0, 4]]), np.array([[1.0, 1], [0, 0], [0, 2]]), 2)
    assert S.nnz == 4 and columns(S).tolist() == [[0, 1], [0, 2]]
    assert_allclose(S.toarray(), [[0, 0, 0], [0, 0, 2]], rtol=RIDGE, atol=RIDGE)
    nothing = pursue(np.ones((2, 3)), np.zeros((4, 3)), 3)
    assert nothing.nnz == 6 and not nothing.data.any()


def test_multiples_of_each_other_have_finite_weights():
    """No least squares is unique here: the ridge takes the shortest, [3/5, 6/5]."""
    S = pursue(np.array([[3.0, 0]]), np.array([[1.0, 0], [2, 0]]), 2)
    assert_allclose(S.toarray(), [[0.6, 1.2]], rtol=RIDGE)
    nearly = pursue(np.array([[3.0, 1]]), np.array([[1.0, 0], [1, 1e-9]]), 2)
    assert np.abs(nearly.data).max() < 10


def test_scale_does_not_matter():
    rng = np.random.default_rng(0)
    Y, E = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    one, other = pursue(Y, E, 2), pursue(1e-6 * Y, 1e3 * E, 2)
    assert_array_equal(one.indices, other.indices)
    assert_allclose(other.data, 1e-9 * one.data, rtol=1e-9)


@pytest.mark.parametrize("t", [-1, 0, 4])
def test_a_number_of_links_that_cannot_be(t):
    with pytest.raises(SettingsError, match=f"coded by {t} rows of a codebook of 3"):
        pursue(np.ones((2, 2)), np.ones((3, 2)), t)


def test_blocks_of_rows_do_not_show():
    rng = np.random.default_rng(0)
    Y, E = rng.normal(size=(23, 4)), rng.normal(size=(6, 4))
    whole = pursue(Y, E, 2)
    for rows in (1, 5, 22):
        parts = pursue(Y, E, 2, rows_at_a_time=rows)
        assert_array_equal(whole.indices, parts.indices)
        assert_allclose(whole.data, parts.data, rtol=1e-12)


def test_single_precision_is_coded_in_double_and_inputs_stay():
    Y, E = np.array([[3.0, 1]], np.float32), np.array([[2.0, 0], [0, 1]], np.float32)
    S = pursue(Y, E, 1)
    assert S.dtype == np.float64 and S.shape == (1, 2)
    assert fit_codebook(Y, S, E).dtype == np.float64
    assert Y.tolist() == [[3, 1]] and E.tolist() == [[2, 0], [0, 1]]


# ---- the codebook --------------------------------------------------------------------------------------------------------
def test_a_codebook_by_hand():
    """Each row is the mean of what is linked to it, weighted: (1 * 2 + 2 * 6) / (1 + 4); nobody is linked to the last."""
    S = sparse.csr_array([[1.0, 0, 0], [2, 0, 0], [0, -1, 0]])
    E = fit_codebook(np.array([[2.0], [6], [5]]), S, np.array([[9.0], [9], [7]]))
    assert_allclose(E, [[14 / 5], [-5], [7]], rtol=1e-12)


def test_a_row_with_links_of_weight_0_alone_stays():
    S = sparse.csr_array((np.array([1.0, 0.0]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    assert S.nnz == 2
    assert_array_equal(fit_codebook(np.array([[3.0], [4]]), S, np.array([[1.0], [8]])), [[3], [8]])
    assert_allclose(fit_codebook(np.array([[3.0], [4]]), S, np.array([[1.0], [8]]), by_singular_values=1), [[3], [8]])
    assert_array_equal(fit_codebook(np.array([[3.0], [4]]), 0 * S, np.array([[1.0], [8]]), by_singular_values=1), [[1], [8]])


def test_a_planted_codebook_is_found():
    """Every pair of five rows once, with weights 1 and 2: the links determine the codebook."""
    planted = np.random.default_rng(0).normal(size=(5, 3))
    dense = np.zeros((10, 5))
    for row, (i, j) in enumerate(itertools.combinations(range(5), 2)):
        dense[row, [i, j]] = 1, 2
    assert_allclose(fit_codebook(dense @ planted, sparse.csr_array(dense), np.zeros((5, 3))), planted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("most", [6, 5])
@pytest.mark.parametrize("t", [1, 2])
def test_no_other_codebook_is_closer(t, most):
    """The slope of |Y - S E|^2, -2 S' (Y - S E), is 0 where links decide; with two rows that occur only together too."""
    rng = np.random.default_rng(t)
    Y, E = rng.normal(size=(30, 4)), rng.normal(size=(6, 4))
    S = pursue(Y, E, t).toarray()
    S[:, 5] = 3 * S[:, 4]
    fitted = fit_codebook(Y, sparse.csr_array(S), E, by_singular_values=most)
    assert_allclose(S.T @ (Y - S @ fitted), 0, atol=1e-11 if most == 6 else 1e-6)
    assert_allclose(fitted[5], 3 * fitted[4], atol=1e-6)  # of all that are as close, the one of least norm
    assert np.sum((Y - S @ fitted) ** 2) < 0.95 * np.sum((Y - S @ E) ** 2)
