"""The graph: bipartite adjacency, symmetric normalisation, and the expanded graph with codebook nodes.

    A = norm([[0, R], [R^T, 0]])            norm(X) = D^-1/2 X D^-1/2, D = row sums of X

    coarse stage, nodes (N, C):       X_hat = norm([[A, S_c], [S_c^T, 0]])
    fine stage, nodes (N, C, M):      X_hat = norm([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])

A is normalised before the codebook nodes are added, and the whole is normalised again.

Shapes
------
R : (U, I) binary     A : (N, N), N = U + I, users first     S_c : (N, C)     S_f : (C, M)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..engine import is_compiled
from ..errors import SettingsError

DEGREES = ("signed", "absolute")


def bipartite_adjacency(R, dtype=np.float64) -> sparse.csr_array:
    """Adjacency of the user-item graph, [[0, R], [R^T, 0]].

    Parameters
    ----------
    R : sparse, shape (U, I)
        Training interactions; every stored nonzero counts as 1.
    dtype : dtype

    Returns
    -------
    csr_array, shape (N, N)
    """
    R = sparse.csr_array(R, dtype=dtype, copy=True)
    R.eliminate_zeros()
    R.data[:] = 1
    return _canonical(sparse.block_array([[None, R], [R.T, None]], format="csr"))


def normalise(X, *, degree: str = "signed") -> sparse.csr_array:
    """Symmetric normalisation D^-1/2 X D^-1/2.

    With negative weights (closed-form assignment updates can produce them) a row sum may be zero, negative, or a tiny
    remainder of a cancellation. ``degree="signed"`` divides by the row sums as the published code does, but a
    node whose row sum is not clearly positive gets the factor 0 and is thereby cut off, where that code produces NaN.
    ``degree="absolute"`` divides by the sums of the absolute weights: the same numbers for weights that are not
    negative, and a spectral radius of at most 1 for all others, so that no node is lost and none is blown up.

    Parameters
    ----------
    X : sparse, shape (n, n)
    degree : {"signed", "absolute"}

    Returns
    -------
    csr_array, shape (n, n), of the pattern of X
    """
    X = _canonical(sparse.csr_array(X))
    factor = degree_factors(X, degree=degree)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    # The factors first: a symmetric matrix stays symmetric to the last bit.
    values = X.data * (factor[rows] * factor[X.indices])
    return sparse.csr_array((values, X.indices.copy(), X.indptr.copy()), shape=X.shape)


def degree_factors(X: sparse.csr_array, *, degree: str = "signed") -> np.ndarray:
    """The factors D^-1/2 of :func:`normalise`, 0 for nodes without a positive degree.

    Parameters
    ----------
    X : csr_array, shape (n, n)
    degree : {"signed", "absolute"}

    Returns
    -------
    ndarray, shape (n,)
    """
    # The sign of the real part rather than abs(): the same numbers, and analytic, as the complex step needs it.
    magnitudes = sparse.csr_array((X.data * np.sign(X.data.real), X.indices, X.indptr), shape=X.shape)
    absolute = np.asarray(magnitudes.sum(axis=1)).ravel()
    return _factors(np.asarray(X.sum(axis=1)).ravel(), absolute, degree).astype(X.dtype)


def _factors(sums: np.ndarray, absolute: np.ndarray, degree: str) -> np.ndarray:
    """D^-1/2 from the row sums and those of the absolute values."""
    if degree not in DEGREES:
        raise SettingsError(f"degree must be one of {', '.join(DEGREES)}, not {degree!r}")
    sums = absolute if degree == "absolute" else sums
    # A row sum below the rounding of its own terms is a cancellation, not a degree: its root would be noise, magnified.
    rounding = np.finfo(absolute.real.dtype).eps * 16 * absolute
    positive = sums.real > rounding.real
    return np.where(positive, 1 / np.sqrt(np.where(positive, sums, 1)), 0)


def normalised_adjacency(R, dtype=np.float64) -> sparse.csr_array:
    """A, the normalised graph of LightGCN (model.md, graph). Users and items without interactions keep empty rows."""
    return normalise(bipartite_adjacency(R, dtype))


def expand(A, S_coarse, S_fine=None) -> sparse.csr_array:
    """The expanded graph before its normalisation: coarse nodes, and fine ones if `S_fine` is given.

    Parameters
    ----------
    A : sparse, shape (N, N)
    S_coarse : sparse, shape (N, C)
    S_fine : sparse, shape (C, M), optional

    Returns
    -------
    csr_array, shape (N + C, N + C) or (N + C + M, N + C + M)
    """
    if S_fine is None:
        blocks = [[A, S_coarse], [S_coarse.T, None]]
    else:
        blocks = [[A, S_coarse, None], [S_coarse.T, None, S_fine], [None, S_fine.T, None]]
    return _canonical(sparse.block_array(blocks, format="csr"))


def expanded_graph(
    A, S_coarse, S_fine=None, *, degree: str = "signed", engine: str = "numpy"
) -> sparse.csr_array:
    """The normalised expanded graph X_hat: of the coarse stage without `S_fine`, of the fine stage with it.

    Parameters
    ----------
    A : sparse, shape (N, N)
        **Already normalised** adjacency.
    S_coarse : sparse, shape (N, C)
    S_fine : sparse, shape (C, M), optional
    degree : {"signed", "absolute"}
        See :func:`normalise`.
    engine : {"numpy", "numba"}
        The compiled engine writes the arrays of the result directly; this is done anew after every assignment update.

    Returns
    -------
    X_hat : csr_array, shape (N + C, N + C) or (N + C + M, N + C + M), symmetric to the last bit
    """
    if is_compiled(engine):
        from ..kernels import graph as kernels

        blocks = [_canonical(sparse.csr_array(block)) for block in (A, S_coarse, S_fine) if block is not None]
        dtype = np.result_type(*blocks)
        indptr, indices, data = kernels.expand(*(block.astype(dtype, copy=False) for block in blocks))
        factor = _factors(*kernels.row_sums(indptr, data), degree).astype(dtype)
        size = len(indptr) - 1
        data = kernels.scale_both_sides(indptr, indices, data, factor)
        return sparse.csr_array((data, indices, indptr), shape=(size, size))
    return normalise(expand(A, S_coarse, S_fine), degree=degree)


def _canonical(X: sparse.csr_array) -> sparse.csr_array:
    """Sorted indices, no duplicates: what every product here relies on."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
