import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import (
    WIDTHS,
    check_engines,
    random_sparse,
    sparse_product,
    sparse_product_backward,
    sparse_product_backward_weights,
)
from numpy.testing import assert_array_equal

from c2f_np.errors import SettingsError
from c2f_np.kernels.propagation import even_row_groups
from c2f_np.model.sparse import operator

M = sparse.csr_array(np.array([[1.0, 2, 0], [0, 0, 3]]))
X = np.array([[1.0, 10], [2, 20], [3, 30]])
G = np.array([[1.0, 0], [2, 1]])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_by_hand(engine):
    assert_array_equal(sparse_product(M, X, engine=engine), [[5, 50], [9, 90]])
    assert_array_equal(sparse_product_backward(G, M, engine=engine), [[1, 0], [2, 0], [6, 3]])
    weights = sparse_product_backward_weights(G, M, X, engine=engine)
    assert_array_equal(weights.toarray(), [[1, 2, 0], [0, 0, 36]])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (1, 1), (200, 3)], ids=str)
def test_engines(shape, width):
    rng = np.random.default_rng(width)
    M = random_sparse(rng, *shape)
    X, G = rng.normal(size=(shape[1], width)), rng.normal(size=(shape[0], width))
    check_engines(sparse_product, M, X)
    check_engines(sparse_product_backward, G, M)
    check_engines(sparse_product_backward_weights, G, M, X)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_rows_may_lie_apart_in_memory(engine):
    rng = np.random.default_rng(0)
    M, X, G = random_sparse(rng, 9, 5), rng.normal(size=(10, 16))[::2, ::2], rng.normal(size=(8, 9)).T
    assert_array_equal(sparse_product(M, X, engine=engine), sparse_product(M, X.copy(), engine=engine))
    assert_array_equal(sparse_product_backward(G, M, engine=engine), sparse_product_backward(G.copy(), M, engine=engine))
    weights = sparse_product_backward_weights(G, M, X, engine=engine)
    assert_array_equal(weights.toarray(), sparse_product_backward_weights(G.copy(), M, X.copy(), engine=engine).toarray())


def test_rows_of_other_precisions_are_summed_in_the_wider_one():
    rng = np.random.default_rng(1)
    M, X = random_sparse(rng, 9, 5), rng.normal(size=(5, 8)).astype(np.float32)
    for mine, theirs in ((M, X), (M.astype(np.float32), X.astype(np.float64))):
        found = sparse_product(mine, theirs, engine="numba")
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, mine.toarray().astype(float) @ theirs.astype(float), rtol=1e-13)


def test_matrix_without_entries():
    empty = sparse.csr_array((3, 4))
    for engine in ("numpy", "numba"):
        assert_array_equal(sparse_product(empty, np.ones((4, 16)), engine=engine), np.zeros((3, 16)))
        assert sparse_product_backward_weights(np.ones((3, 2)), empty, np.ones((4, 2)), engine=engine).nnz == 0


def test_operator_knows_its_transpose():
    prepared = operator(M)
    assert prepared.shape == (2, 3)
    assert_array_equal(prepared.transpose.toarray(), M.toarray().T)
    assert prepared.transpose.has_sorted_indices


def test_operator_sums_duplicates_of_a_copy():
    doubled = sparse.csr_array((np.array([1.0, 2, 4]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    assert_array_equal(operator(doubled).matrix.toarray(), [[0, 3], [4, 0]])
    assert doubled.nnz == 3
    for engine in ("numpy", "numba"):
        assert_array_equal(sparse_product(doubled, np.eye(2), engine=engine), [[0, 3], [4, 0]])


@pytest.mark.parametrize("n_rows", [1, 3, 64, 1000])
def test_row_groups_cover_every_row_once(n_rows):
    indptr = np.concatenate([[0], np.cumsum(np.random.default_rng(0).integers(0, 50, n_rows))])
    bounds = even_row_groups(indptr)
    assert bounds[0] == 0 and bounds[-1] == n_rows and (np.diff(bounds) >= 0).all()
    load = np.diff(indptr[bounds] + bounds)
    assert load.max() <= (indptr[-1] + n_rows) / 64 + 51


def test_unknown_engine():
    with pytest.raises(SettingsError, match="numpy, numba"):
        sparse_product(M, X, engine="cupy")
