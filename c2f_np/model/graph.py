"""The graph: bipartite adjacency, symmetric normalisation, and the expanded graph with codebook nodes.

    A = norm([[0, R], [R^T, 0]])            norm(X) = D^-1/2 X D^-1/2, D = row sums of X

    coarse stage, nodes (N, C):       X_hat = norm([[A, S_c], [S_c^T, 0]])
    fine stage, nodes (N, C, M):      X_hat = norm([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])

A is normalised before the codebook nodes are added, and the whole is normalised again. Backwards, with the cotangent G and

    X_hat[i, j] = X[i, j] f_i f_j,   f_i = s_i^(-1/2),   s_i = sum_j X[i, j]

a weight counts three times: as itself, in the degree of its row, and (through the transposed block) in that of its column.

    grad_f_i = sum_j G[i, j] X[i, j] f_j + sum_k G[k, i] X[k, i] f_k,   grad_s_i = -1/2 f_i^3 grad_f_i,
    grad_X[i, j] = G[i, j] f_i f_j + grad_s_i

Training never uses these gradients, since assignments are updated in closed form.

Shapes
------
R : (U, I) binary     A : (N, N), N = U + I, users first     S_c : (N, C)     S_f : (C, M)     X, X_hat : (n, n)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .degrees import inverse_roots
from .sparse import canonical


def bipartite_adjacency(R, dtype=np.float64) -> sparse.csr_array:
    """[[0, R], [R^T, 0]]; every stored nonzero of R counts as 1."""
    R = sparse.csr_array(R, dtype=dtype, copy=True)
    R.eliminate_zeros()
    R.data[:] = 1
    return canonical(sparse.block_array([[None, R], [R.T, None]], format="csr"))


def normalised_adjacency(R, dtype=np.float64) -> sparse.csr_array:
    """A, the normalised graph of LightGCN. Users and items without interactions keep empty rows (model.md, graph)."""
    return normalise(bipartite_adjacency(R, dtype))


def normalise(X, *, degree: str = "signed") -> sparse.csr_array:
    """norm(X), on the pattern of X.

    With negative weights (closed-form assignment updates can produce them) a row sum may be zero, negative, or a tiny
    remainder of a cancellation. ``degree="signed"`` divides by the row sums as the published code does, but a
    node whose row sum is not clearly positive gets the factor 0 and is thereby cut off, where that code produces NaN.
    ``degree="absolute"`` divides by the sums of the absolute weights: the same numbers for weights that are not
    negative, and a spectral radius of at most 1 for all others, so that no node is lost and none is blown up.
    """
    X = canonical(sparse.csr_array(X))
    factor = degree_factors(X, degree=degree)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    # The factors first: a symmetric matrix stays symmetric to the last bit.
    values = X.data * (factor[rows] * factor[X.indices])
    return sparse.csr_array((values, X.indices.copy(), X.indptr.copy()), shape=X.shape)


def degree_factors(X: sparse.csr_array, *, degree: str = "signed") -> np.ndarray:
    """D^-1/2, shape (n,); 0 for nodes without a positive degree."""
    # The sign of the real part rather than abs(): the same numbers, and analytic, as the complex step needs it.
    magnitudes = sparse.csr_array((X.data * np.sign(X.data.real), X.indices, X.indptr), shape=X.shape)
    absolute = np.asarray(magnitudes.sum(axis=1)).ravel()
    return inverse_roots(np.asarray(X.sum(axis=1)).ravel(), absolute, degree).astype(X.dtype)


def normalise_backward(grad_X_hat, X, *, degree: str = "signed") -> sparse.csr_array:
    """grad_X on the pattern of X. A node that is cut off (f_i = 0) passes nothing on."""
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


def expand(A, S_coarse, S_fine=None) -> sparse.csr_array:
    """The expanded graph before its normalisation: coarse nodes, and fine ones if `S_fine` is given."""
    if S_fine is None:
        blocks = [[A, S_coarse], [S_coarse.T, None]]
    else:
        blocks = [[A, S_coarse, None], [S_coarse.T, None, S_fine], [None, S_fine.T, None]]
    return canonical(sparse.block_array(blocks, format="csr"))


def expand_backward(grad_X, S_coarse, S_fine=None) -> tuple[sparse.csr_array, sparse.csr_array | None]:
    """Gradients of both assignments. A weight stands in the graph twice, at (i, j) and at (j, i): both gradients count."""
    n, c = S_coarse.shape
    grad_S_coarse = _both_blocks(grad_X, S_coarse, 0, n)
    return grad_S_coarse, None if S_fine is None else _both_blocks(grad_X, S_fine, n, n + c)


def expanded_graph(A, S_coarse, S_fine=None, *, degree: str = "signed") -> sparse.csr_array:
    """X_hat, symmetric to the last bit: of the coarse stage without `S_fine`, of the fine stage with it."""
    return normalise(expand(A, S_coarse, S_fine), degree=degree)


def expanded_graph_backward(grad_X_hat, A, S_coarse, S_fine=None, *, degree: str = "signed"):
    """Gradients of both assignments, through :func:`expanded_graph`."""
    X = expand(A, S_coarse, S_fine)
    return expand_backward(normalise_backward(grad_X_hat, X, degree=degree), S_coarse, S_fine)


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
