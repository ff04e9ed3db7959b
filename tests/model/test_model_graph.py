"""The graph: literal matrices of two users and two items, then what must hold for any weights."""

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from model_rules import expanded_graph
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.errors import SettingsError
from c2f_np.model.graph import bipartite_adjacency, degree_factors, expand, normalise, normalised_adjacency

# User 0 took both items, user 1 the second.
R = sparse.csr_array(np.array([[1, 1], [0, 1]]))


def test_bipartite_adjacency():
    assert_array_equal(
        bipartite_adjacency(R).toarray(), [[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]]
    )  # fmt: skip


def test_interactions_count_once_and_stored_zeros_not_at_all():
    counts = sparse.csr_array((np.array([3, 2, 0]), (np.array([0, 0, 1]), np.array([0, 1, 0]))), shape=(2, 2))
    assert_array_equal(bipartite_adjacency(counts).toarray()[:2, 2:], [[1, 1], [0, 0]])
    assert counts.nnz == 3 and counts.data.tolist() == [3, 2, 0]  # the input is left as it was


def test_normalised_adjacency():
    half, root = 0.5, 1 / np.sqrt(2)
    assert_allclose(
        normalised_adjacency(R).toarray(),
        [[0, 0, root, half], [0, 0, 0, root], [root, 0, 0, 0], [half, root, 0, 0]],
        rtol=1e-15,
    )


def test_rows_without_entries_stay_empty():
    A = normalised_adjacency(sparse.csr_array(np.array([[1.0, 0], [0, 0]]))).toarray()
    assert_array_equal(A, [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_expanded_graphs():
    A = sparse.csr_array(np.array([[0.0, 1], [1, 0]]))
    S_coarse, S_fine = sparse.csr_array(np.array([[3.0], [8]])), sparse.csr_array(np.array([[5.0]]))
    assert_array_equal(expand(A, S_coarse).toarray(), [[0, 1, 3], [1, 0, 8], [3, 8, 0]])
    assert_array_equal(expand(A, S_coarse, S_fine).toarray(), [[0, 1, 3, 0], [1, 0, 8, 0], [3, 8, 0, 5], [0, 0, 5, 0]])
    # Row sums 4, 9, 11 and, with the fine node, 4, 9, 16, 5.
    assert_allclose(
        expanded_graph(A, S_coarse).toarray(),
        [[0, 1 / 6, 3 / np.sqrt(44)], [1 / 6, 0, 8 / np.sqrt(99)], [3 / np.sqrt(44), 8 / np.sqrt(99), 0]],
        rtol=1e-15,
    )
    fine = expanded_graph(A, S_coarse, S_fine).toarray()
    assert_allclose(fine[2], [3 / 8, 8 / 12, 0, 5 / np.sqrt(80)], rtol=1e-15)
    assert_array_equal(fine, fine.T)


def test_rectangular_assignment_without_symmetry():
    rng = np.random.default_rng(0)
    R = sparse.csr_array((rng.random((3, 5)) < 0.5).astype(float))
    S, T = sparse.csr_array(rng.random((8, 4))), sparse.csr_array(rng.random((4, 2)))
    X = expand(normalised_adjacency(R), S, T).toarray()
    sums = X.sum(axis=1)
    assert_allclose(
        expanded_graph(normalised_adjacency(R), S, T).toarray(), X / np.sqrt(np.outer(sums, sums)), rtol=1e-14
    )


@pytest.mark.parametrize("sum_of_row", [-1.0, 0.0, 1e-17])
def test_signed_degree_cuts_off_a_row_without_a_positive_sum(sum_of_row):
    X = np.array([[0, 1, sum_of_row - 1], [1, 0, 3], [sum_of_row - 1, 3, 0]])
    out = normalise(sparse.csr_array(X)).toarray()
    assert np.isfinite(out).all()
    assert_array_equal(out[0], 0)
    assert_array_equal(out[:, 0], 0)
    assert out[1, 2] == pytest.approx(3 / np.sqrt(4 * (2 + sum_of_row)))


def test_a_cancellation_is_not_a_degree():
    """0.1 + 0.2 - 0.3 is 5.6e-17 in floating point: its root would blow the row up 1e8 times."""
    X = np.zeros((4, 4))
    X[0, 1:] = X[1:, 0] = 0.1, 0.2, -0.3
    X[1, 2] = X[2, 1] = 1
    assert sum(X[0]) > 0
    assert_array_equal(normalise(sparse.csr_array(X)).toarray()[0], 0)


def test_absolute_degree_keeps_every_node():
    X = sparse.csr_array(np.array([[0, 1, -2], [1, 0, 3], [-2, 3, 0.0]]))
    assert_allclose(degree_factors(X, degree="absolute") ** -2, [3, 4, 5])
    assert_allclose(normalise(X, degree="absolute").toarray()[0], [0, 1 / np.sqrt(12), -2 / np.sqrt(15)])


weights = arrays(np.float64, (6, 6), elements=st.floats(-4, 4).map(lambda x: x if abs(x) > 1e-3 else 0.0))


@settings(deadline=None, max_examples=60)
@given(weights)
def test_any_symmetric_weights(W):
    X = sparse.csr_array(W + W.T)
    signed, absolute = normalise(X).toarray(), normalise(X, degree="absolute").toarray()
    assert np.isfinite(signed).all() and np.isfinite(absolute).all()
    assert_array_equal(signed, signed.T)
    assert np.abs(np.linalg.eigvalsh(absolute)).max() <= 1 + 1e-12
    same = normalise(abs(X)).toarray()
    assert_array_equal(same, normalise(abs(X), degree="absolute").toarray())


def test_dtype_is_kept_and_input_left_alone():
    X = sparse.csr_array(np.array([[0, 2], [2, 0]], dtype=np.float32))
    before = X.data.copy()
    assert normalise(X).dtype == np.float32
    assert normalised_adjacency(R, np.float32).dtype == np.float32
    assert_array_equal(X.data, before)


def test_duplicates_and_unsorted_indices():
    X = sparse.csr_array((np.array([1.0, 2, 2, 4]), np.array([1, 1, 0, 0]), np.array([0, 2, 4])), shape=(2, 2))
    assert_allclose(normalise(X).toarray(), [[0, 3 / np.sqrt(18)], [6 / np.sqrt(18), 0]])
    assert X.nnz == 4


def test_unknown_degree():
    with pytest.raises(SettingsError, match="signed, absolute"):
        normalise(R, degree="squared")


@pytest.mark.parametrize("degree", ["signed", "absolute"])
@pytest.mark.parametrize("with_fine", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_engines_expand_alike(dtype, with_fine, degree):
    """Isolated entities, unused rows of both codebooks, negative weights, a node whose sum cancels."""
    rng = np.random.default_rng(3)
    R = sparse.csr_array((rng.random((9, 14)) < 0.2).astype(dtype))
    dense_coarse = rng.normal(size=(23, 6)) * (rng.random((23, 6)) < 0.4)
    dense_coarse[[0, 5]], dense_coarse[:, 2] = 0, 0
    dense_coarse[3] = [1, -1, 0, 0, 0, 0]
    dense_fine = rng.normal(size=(6, 4)) * (rng.random((6, 4)) < 0.5)
    dense_fine[:, 1] = 0
    S_coarse, S_fine = (sparse.csr_array(S.astype(dtype)) for S in (dense_coarse, dense_fine))
    parts = (normalised_adjacency(R, dtype), S_coarse, S_fine if with_fine else None)
    expected = expanded_graph(*parts, degree=degree)
    found = expanded_graph(*parts, degree=degree, engine="numba")
    assert found.dtype == dtype and found.has_canonical_format
    assert_array_equal(found.indptr, expected.indptr)
    assert_array_equal(found.indices, expected.indices)
    assert_allclose(found.data, expected.data, rtol=0, atol=1e-5 if dtype == "float32" else 1e-14)
    for X_hat in (expected, found):
        assert_array_equal(X_hat.toarray(), X_hat.toarray().T)
