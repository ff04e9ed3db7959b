"""Sparse product Y = M X, the only thing that propagation is made of.

Shapes
------
M : (n, m) sparse     X : (m, d)     Y : (n, d)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..engine import is_compiled
from .sparse_operator import SparseOperator, as_operator


def sparse_product(M, X: np.ndarray, *, onto: np.ndarray | None = None, engine: str = "numpy") -> np.ndarray:
    """Multiply a sparse matrix with a dense one.

    Parameters
    ----------
    M : csr_array or SparseOperator, shape (n, m)
    X : ndarray, shape (m, d)
    onto : C-contiguous ndarray, shape (n, d), optional
        What the product is added to. The array is given away: it holds the result afterwards.
    engine : {"numpy", "numba"}

    Returns
    -------
    Y : ndarray, shape (n, d)
        ``M @ X``, or ``onto + M @ X``.
    """
    M = as_operator(M)
    if is_compiled(engine):
        from ..kernels.sparse_product import add_product, multiply

        if onto is not None:
            return add_product(M.matrix, M.row_bounds, X, onto)
        return multiply(M.matrix, M.row_bounds, X)
    if onto is not None:
        onto += M.matrix @ X
        return onto
    return M.matrix @ X


def sparse_product_backward(grad_Y: np.ndarray, M, *, engine: str = "numpy") -> np.ndarray:
    """Gradient of ``sum(grad_Y * (M X))`` with respect to X: the transpose, ``M^T grad_Y``.

    Parameters
    ----------
    grad_Y : ndarray, shape (n, d)
    M : csr_array or SparseOperator, shape (n, m)
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_X : ndarray, shape (m, d)
    """
    M = as_operator(M)
    if is_compiled(engine):
        from ..kernels.sparse_product import multiply

        return multiply(M.transpose, M.transpose_row_bounds, grad_Y)
    return M.transpose @ grad_Y


def sparse_product_backward_weights(grad_Y: np.ndarray, M, X: np.ndarray, *, engine: str = "numpy") -> sparse.csr_array:
    """Gradient of ``sum(grad_Y * (M X))`` with respect to the stored entries of M.

    Entry (i, j) meets row i of the cotangent and row j of X: ``grad_M[i, j] = <grad_Y[i], X[j]>``. Entries that are not
    stored have no gradient: they are the structure of the model, not its weights.

    Parameters
    ----------
    grad_Y : ndarray, shape (n, d)
    M : csr_array or SparseOperator, shape (n, m)
    X : ndarray, shape (m, d)
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_M : csr_array, shape (n, m), with the pattern of M
    """
    matrix = M.matrix if isinstance(M, SparseOperator) else sparse.csr_array(M)
    if is_compiled(engine):
        from ..kernels.sparse_product import weights_gradient

        values = weights_gradient(matrix.indptr, matrix.indices, grad_Y, X)
    else:
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        values = np.sum(grad_Y[rows] * X[matrix.indices], axis=1)
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
