"""Compiled composition and its backward pass.

tanh itself is left to NumPy in the forward pass: its vectorised version is several times faster than a call per entry.

Shapes
------
S : (N, C)     E, grad_E : (C, d)     Z, grad_Z : (N, d)
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numba import prange

from ..threads import in_threads
from .buffers import empty
from .compiled import ENTRIES_OF_A_BLOCK, carray, njit, prefetch_row, stack_pointer
from .propagation import constant_width, multiply, operator

# Entries between asking for their rows and using them.
_AHEAD = 8


def compose(S, E: np.ndarray) -> np.ndarray:
    """``tanh(S E)``."""
    return tanh_in_place(operator(S).forward(E))


def compose_above(S, E: np.ndarray) -> np.ndarray:
    """``[tanh(S E); E]``, the first part computed where it belongs."""
    S = operator(S)
    n = S.shape[0]
    both = empty((n + len(E), E.shape[1]), np.result_type(S.matrix.dtype, E.dtype))
    tanh_in_place(multiply(S.matrix, S.row_bounds, E, out=both[:n]))
    both[n:] = E
    return both


def tanh_in_place(X: np.ndarray, *, worth_a_thread: int = 1 << 20, n_chunks: int = 16) -> np.ndarray:
    """NumPy's tanh, on as many threads as the kernels use.

    Below `worth_a_thread` entries, handing rows to threads takes longer than their tanh.
    """
    if X.size < worth_a_thread:
        return np.tanh(X, out=X)
    rows = -(-len(X) // n_chunks)

    def work(first: int) -> None:
        np.tanh(X[first : first + rows], out=X[first : first + rows])

    in_threads(work, range(0, len(X), rows), numba.get_num_threads())
    return X


def compose_backward(grad_Z: np.ndarray, S, Z: np.ndarray) -> np.ndarray:
    """``S^T (grad_Z * (1 - Z^2))`` without forming the product in the brackets, which would take several times as long."""
    S = operator(S)
    T = S.transpose
    grad_E = np.zeros((T.shape[0], Z.shape[1]), dtype=np.result_type(T.dtype, grad_Z.dtype))
    gather, csr = _gather(constant_width(Z.shape[1])), (T.indptr, T.indices, T.data)
    gather(S.transpose_row_bounds, *csr, np.ascontiguousarray(grad_Z), np.ascontiguousarray(Z), grad_E)
    return grad_E


@cache
def _gather(width: int):
    """The kernel for rows of one width, summed in registers; of any width (0), in memory."""

    @njit(parallel=True)
    def gather(bounds, indptr, indices, data, grad_Z, Z, grad_E):
        one = grad_E.dtype.type(1)
        for g in prange(bounds.shape[0] - 1):
            d = width if width else Z.shape[1]
            for c in range(bounds[g], bounds[g + 1]):
                row = carray(stack_pointer(grad_E, width), (width,)) if width else grad_E[c]
                for f in range(d):
                    row[f] = 0
                for p in range(indptr[c], indptr[c + 1]):
                    if width and p + _AHEAD < indices.shape[0]:
                        prefetch_row(Z, indices[p + _AHEAD], width)
                        prefetch_row(grad_Z, indices[p + _AHEAD], width)
                    i = np.int64(indices[p])
                    weight = data[p]
                    for f in range(d):
                        row[f] += weight * (grad_Z[i, f] * (one - Z[i, f] * Z[i, f]))
                for f in range(width):
                    grad_E[c, f] = row[f]

    return gather


def tanh_backward(grad_Z: np.ndarray, Z: np.ndarray, *, block: int = ENTRIES_OF_A_BLOCK) -> np.ndarray:
    """``grad_Z * (1 - Z^2)``, in one trip through memory."""
    out = empty(Z.shape, np.result_type(grad_Z.dtype, Z.dtype))
    _scale_by_tanh_slope(*(np.ascontiguousarray(part).reshape(-1) for part in (grad_Z, Z)), out.reshape(-1), block)
    return out


@njit(parallel=True)
def _scale_by_tanh_slope(grad_Z, Z, out, block):
    one = out.dtype.type(1)
    for b in prange((out.shape[0] + block - 1) // block):
        for k in range(b * block, min((b + 1) * block, out.shape[0])):
            out[k] = grad_Z[k] * (one - Z[k] * Z[k])
