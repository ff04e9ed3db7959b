"""Compiled assembly of the expanded graph: the csr arrays are written once, row by row, in order.

Shapes
------
A : (N, N), S_coarse : (N, C), S_fine : (C, M), each as (indptr, indices, data), rows sorted; M = 0 without fine nodes
X : (N + C + M,) * 2
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from numba import prange

from ..model.graph import inverse_roots
from ..model.sparse import canonical
from .compiled import njit


def expanded_graph(A, S_coarse, S_fine=None, *, degree: str = "signed") -> sparse.csr_array:
    """The normalised expanded graph; its arrays are written directly, since this is done anew after every assignment update."""
    blocks = [canonical(sparse.csr_array(block)) for block in (A, S_coarse, S_fine) if block is not None]
    dtype = np.result_type(*blocks)
    indptr, indices, data = expand(*(block.astype(dtype, copy=False) for block in blocks))
    factor = inverse_roots(*row_sums(indptr, data), degree).astype(dtype)
    size = len(indptr) - 1
    return sparse.csr_array((scale_both_sides(indptr, indices, data, factor), indices, indptr), shape=(size, size))


def expand(A, S_coarse, S_fine=None):
    """``[[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]]`` as (indptr, indices, data)."""
    if S_fine is None:
        c = S_coarse.shape[1]
        fine = (np.zeros(c + 1, A.indptr.dtype), A.indices[:0], A.data[:0])
        back = (np.zeros(1, A.indptr.dtype), A.indices[:0], A.data[:0])
    else:
        fine, back = _parts(S_fine), _transpose(S_fine)
    return _expand(*_parts(A), *_parts(S_coarse), *_transpose(S_coarse), *fine, *back)


def _parts(X):
    return X.indptr, X.indices, X.data


def _transpose(X):
    return _transposed(X.indptr, X.indices, X.data, X.shape[1])


@njit()
def _transposed(indptr, indices, data, n_columns):
    """Counting sort by column; the rows of the transpose come out sorted."""
    start = np.zeros(n_columns + 1, indptr.dtype)
    for p in range(indices.shape[0]):
        start[indices[p] + 1] += 1
    for j in range(n_columns):
        start[j + 1] += start[j]
    following = start[:-1].copy()
    rows, values = np.empty_like(indices), np.empty_like(data)
    for i in range(indptr.shape[0] - 1):
        for p in range(indptr[i], indptr[i + 1]):
            place = following[indices[p]]
            following[indices[p]] += 1
            rows[place] = i
            values[place] = data[p]
    return start, rows, values


@njit(parallel=True)
def _expand(
    A_indptr, A_indices, A_data, S_indptr, S_indices, S_data, T_indptr, T_indices, T_data,
    F_indptr, F_indices, F_data, G_indptr, G_indices, G_data,
):  # fmt: skip
    n, c, m = A_indptr.shape[0] - 1, T_indptr.shape[0] - 1, G_indptr.shape[0] - 1
    indptr = np.empty(n + c + m + 1, A_indptr.dtype)
    for i in range(n + 1):
        indptr[i] = A_indptr[i] + S_indptr[i]
    for k in range(1, c + 1):
        indptr[n + k] = indptr[n] + T_indptr[k] + F_indptr[k]
    for k in range(1, m + 1):
        indptr[n + c + k] = indptr[n + c] + G_indptr[k]
    indices = np.empty(indptr[n + c + m], A_indices.dtype)
    data = np.empty(indptr[n + c + m], A_data.dtype)
    for i in prange(n):
        place = indptr[i]
        for p in range(A_indptr[i], A_indptr[i + 1]):
            indices[place], data[place] = A_indices[p], A_data[p]
            place += 1
        for p in range(S_indptr[i], S_indptr[i + 1]):
            indices[place], data[place] = S_indices[p] + n, S_data[p]
            place += 1
    for k in prange(c):
        place = indptr[n + k]
        for p in range(T_indptr[k], T_indptr[k + 1]):
            indices[place], data[place] = T_indices[p], T_data[p]
            place += 1
        for p in range(F_indptr[k], F_indptr[k + 1]):
            indices[place], data[place] = F_indices[p] + n + c, F_data[p]
            place += 1
    for k in range(m):
        place = indptr[n + c + k]
        for p in range(G_indptr[k], G_indptr[k + 1]):
            indices[place], data[place] = G_indices[p] + n, G_data[p]
            place += 1
    return indptr, indices, data


@njit(parallel=True)
def row_sums(indptr, data):
    """Sums of the entries of each row, and of their absolute values."""
    sums, absolute = np.empty(indptr.shape[0] - 1, data.dtype), np.empty(indptr.shape[0] - 1, data.dtype)
    for i in prange(sums.shape[0]):
        total, magnitude = data.dtype.type(0), data.dtype.type(0)
        for p in range(indptr[i], indptr[i + 1]):
            total += data[p]
            magnitude += abs(data[p])
        sums[i], absolute[i] = total, magnitude
    return sums, absolute


@njit(parallel=True)
def scale_both_sides(indptr, indices, data, factor):
    """``factor[i] * x_ij * factor[j]``, the factors multiplied first: a symmetric matrix stays symmetric to the last bit."""
    scaled = np.empty_like(data)
    for i in prange(indptr.shape[0] - 1):
        for p in range(indptr[i], indptr[i + 1]):
            scaled[p] = data[p] * (factor[i] * factor[indices[p]])
    return scaled
