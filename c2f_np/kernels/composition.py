"""Compiled composition and its backward pass.

tanh itself is left to NumPy in the forward pass: its vectorised version is several times faster than a call per entry.

Shapes
------
S_transpose : (C, N) csr     grad_Z, Z : (N, d)     grad_E : (C, d)
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numba import prange

from ..threads import in_threads
from .accumulator import carray, stack_pointer
from .buffers import empty
from .compiled import njit
from .prefetch import prefetch_row
from .sparse_product import CompiledOperator, multiply
from .widths import has_own_kernel

# Entries between asking for their rows and using them.
_AHEAD = 8


def compose(S: CompiledOperator, E: np.ndarray) -> np.ndarray:
    """``tanh(S E)``."""
    return tanh_in_place(S.forward(E))


def compose_above(S: CompiledOperator, E: np.ndarray) -> np.ndarray:
    """``[tanh(S E); E]``, the first part computed where it belongs."""
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


def compose_backward(grad_Z: np.ndarray, S: CompiledOperator, Z: np.ndarray) -> np.ndarray:
    """``S^T (grad_Z * (1 - Z^2))`` without forming the product in the brackets."""
    T = S.transpose
    grad_E = np.zeros((T.shape[0], Z.shape[1]), dtype=np.result_type(T.dtype, grad_Z.dtype))
    grad_Z, Z = np.ascontiguousarray(grad_Z), np.ascontiguousarray(Z)
    _gather(Z.shape[1])(S.transpose_row_bounds, T.indptr, T.indices, T.data, grad_Z, Z, grad_E)
    return grad_E


@cache
def _gather(width: int):
    return _gather_fixed_width(width) if has_own_kernel(width) else _gather_any_width


def _gather_fixed_width(width: int):
    @njit(parallel=True)
    def gather(bounds, indptr, indices, data, grad_Z, Z, grad_E):
        one = grad_E.dtype.type(1)
        for g in prange(bounds.shape[0] - 1):
            row = carray(stack_pointer(grad_E, width), (width,))
            for c in range(bounds[g], bounds[g + 1]):
                for f in range(width):
                    row[f] = 0
                for p in range(indptr[c], indptr[c + 1]):
                    if p + _AHEAD < indices.shape[0]:
                        prefetch_row(Z, indices[p + _AHEAD], width)
                        prefetch_row(grad_Z, indices[p + _AHEAD], width)
                    i = np.int64(indices[p])
                    weight = data[p]
                    for f in range(width):
                        row[f] += weight * (grad_Z[i, f] * (one - Z[i, f] * Z[i, f]))
                for f in range(width):
                    grad_E[c, f] = row[f]

    return gather


@njit(parallel=True)
def _gather_any_width(bounds, indptr, indices, data, grad_Z, Z, grad_E):
    one = grad_E.dtype.type(1)
    for g in prange(bounds.shape[0] - 1):
        for c in range(bounds[g], bounds[g + 1]):
            for p in range(indptr[c], indptr[c + 1]):
                i = indices[p]
                weight = data[p]
                for f in range(Z.shape[1]):
                    grad_E[c, f] += weight * (grad_Z[i, f] * (one - Z[i, f] * Z[i, f]))
