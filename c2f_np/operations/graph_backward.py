"""Backward pass of the graph's normalisation and expansion: how a weight of an assignment reaches the loss through X_hat.

    X_hat = norm(X),   X_hat[i, j] = X[i, j] f_i f_j,   f_i = s_i^(-1/2),   s_i = sum_j X[i, j]

A weight counts three times: as itself, in the degree of its row, and (through the transposed block) in that of its column.
Nothing in training uses these gradients (assignments are updated in closed form); they are there for the reader who asks.

Shapes
------
X, X_hat, grad_X_hat : (n, n) csr of one pattern     f, s : (n,)     A : (N, N)     S_c : (N, C)     S_f : (C, M)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .graph import degree_factors, expand


def normalise_backward(grad_X_hat, X, *, degree: str = "signed") -> sparse.csr_array:
    """Gradient with respect to the stored entries of X, through :func:`c2f_np.operations.graph.normalise`.

    With G the cotangent:

        grad_f_i = sum_j G[i, j] X[i, j] f_j + sum_k G[k, i] X[k, i] f_k,   grad_s_i = -1/2 f_i^3 grad_f_i,
        grad_X[i, j] = G[i, j] f_i f_j + grad_s_i

    For ``degree="absolute"`` the last term takes the sign of X[i, j]. A node that is cut off (f_i = 0) passes nothing on.

    Parameters
    ----------
    grad_X_hat : csr_array, shape (n, n), of the pattern of X
    X : csr_array, shape (n, n)
        Sorted indices, no duplicates.
    degree : {"signed", "absolute"}

    Returns
    -------
    grad_X : csr_array, shape (n, n), of the pattern of X
    """
    n = X.shape[0]
    factor = degree_factors(X, degree=degree)
    rows = np.repeat(np.arange(n), np.diff(X.indptr))
    weighted = grad_X_hat.data * X.data
    grad_factor = np.zeros(n, dtype=X.dtype)
    np.add.at(grad_factor, rows, weighted * factor[X.indices])
    np.add.at(grad_factor, X.indices, weighted * factor[rows])
    grad_sum = -0.5 * factor**3 * grad_factor
    through_sum = grad_sum[rows] * (np.sign(X.data) if degree == "absolute" else 1)
    values = grad_X_hat.data * factor[rows] * factor[X.indices] + through_sum
    return sparse.csr_array((values, X.indices.copy(), X.indptr.copy()), shape=X.shape)


def expand_backward(grad_X, S_coarse, S_fine=None) -> tuple[sparse.csr_array, sparse.csr_array | None]:
    """Gradients with respect to the stored weights of the assignments, through :func:`c2f_np.operations.graph.expand`.

    Each weight stands in the expanded graph twice, at (i, j) and at (j, i): both gradients count.

    Parameters
    ----------
    grad_X : csr_array, shape (N + C, N + C) or (N + C + M, N + C + M)
    S_coarse : csr_array, shape (N, C)
    S_fine : csr_array, shape (C, M), optional

    Returns
    -------
    grad_S_coarse : csr_array of the pattern of S_coarse
    grad_S_fine : csr_array of the pattern of S_fine, or None
    """
    n, c = S_coarse.shape
    grad_S_coarse = _both_blocks(grad_X, S_coarse, 0, n)
    return grad_S_coarse, None if S_fine is None else _both_blocks(grad_X, S_fine, n, n + c)


def _both_blocks(grad_X, S, first_row: int, first_column: int) -> sparse.csr_array:
    """The sum of the block that holds S and of the transpose of the block that holds S^T, on the pattern of S."""
    rows = np.repeat(np.arange(S.shape[0]), np.diff(S.indptr)) + first_row
    columns = S.indices + first_column
    values = _entries(grad_X, rows, columns) + _entries(grad_X, columns, rows)
    return sparse.csr_array((values, S.indices.copy(), S.indptr.copy()), shape=S.shape)


def _entries(X, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Stored entries of X at the given places, which must be stored."""
    n = X.shape[1]
    stored = np.repeat(np.arange(X.shape[0], dtype=np.int64), np.diff(X.indptr)) * n + X.indices
    return X.data[np.searchsorted(stored, rows.astype(np.int64) * n + columns)]


def expanded_graph_backward(
    grad_X_hat, A, S_coarse, S_fine=None, *, degree: str = "signed"
) -> tuple[sparse.csr_array, sparse.csr_array | None]:
    """Gradients with respect to the assignments, through :func:`c2f_np.operations.graph.expanded_graph`.

    Parameters
    ----------
    grad_X_hat : csr_array of the pattern of the expanded graph
    A : csr_array, shape (N, N)
    S_coarse : csr_array, shape (N, C)
    S_fine : csr_array, shape (C, M), optional
    degree : {"signed", "absolute"}

    Returns
    -------
    grad_S_coarse : csr_array of the pattern of S_coarse
    grad_S_fine : csr_array of the pattern of S_fine, or None
    """
    X = expand(A, S_coarse, S_fine)
    return expand_backward(normalise_backward(grad_X_hat, X, degree=degree), S_coarse, S_fine)
