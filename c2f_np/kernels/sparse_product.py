"""Compiled sparse products.

Shapes
------
matrix : (n, m) csr with indptr, indices, data     X : (m, d)     base, out : (n, d)     bounds : groups of rows
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray, njit, prange

from .accumulator import stack_pointer

# Widths that are a multiple of this get a kernel of their own, with the width as a constant of the program.
_LANE = 16
_WIDEST = 512


def multiply(matrix, bounds: np.ndarray, X: np.ndarray) -> np.ndarray:
    """``matrix @ X``."""
    X = np.ascontiguousarray(X)
    out = np.empty((matrix.shape[0], X.shape[1]), dtype=np.result_type(matrix.dtype, X.dtype))
    _kernel(X.shape[1])(bounds, matrix.indptr, matrix.indices, matrix.data, X, X[:0], out.dtype.type(1), out)
    return out


def mean_of_powers(matrix, bounds: np.ndarray, X: np.ndarray, n_layers: int) -> np.ndarray:
    """``(I + M + ... + M^L) X / (L + 1)`` by Horner's rule: L times Y <- X + M Y, starting from Y = X.

    The running sum over layers is part of the product, and no layer is stored.
    """
    X = np.ascontiguousarray(X)
    dtype = np.result_type(matrix.dtype, X.dtype)
    if n_layers == 0:
        return X.astype(dtype)
    kernel = _kernel(X.shape[1])
    one, share = dtype.type(1), dtype.type(1 / (n_layers + 1))
    Y, other = X, None
    for layer in range(n_layers):
        out = np.empty(X.shape, dtype=dtype) if other is None else other
        kernel(bounds, matrix.indptr, matrix.indices, matrix.data, Y, X, share if layer == n_layers - 1 else one, out)
        other = None if Y is X else Y
        Y = out
    return Y


@cache
def _kernel(width: int):
    """The product for one width: a constant of the program where that pays, any width otherwise."""
    return _fixed_width(width) if width % _LANE == 0 and 0 < width <= _WIDEST else _any_width


def _fixed_width(width: int):
    @njit(parallel=True, cache=True)
    def product(bounds, indptr, indices, data, X, base, scale, out):
        for g in prange(bounds.shape[0] - 1):
            row = carray(stack_pointer(out, width), (width,))
            for i in range(bounds[g], bounds[g + 1]):
                if base.shape[0] > 0:
                    for f in range(width):
                        row[f] = base[i, f]
                else:
                    for f in range(width):
                        row[f] = 0
                for p in range(indptr[i], indptr[i + 1]):
                    j = indices[p]
                    weight = data[p]
                    for f in range(width):
                        row[f] += weight * X[j, f]
                for f in range(width):
                    out[i, f] = scale * row[f]

    return product


@njit(parallel=True, cache=True)
def _any_width(bounds, indptr, indices, data, X, base, scale, out):
    for g in prange(bounds.shape[0] - 1):
        for i in range(bounds[g], bounds[g + 1]):
            for f in range(out.shape[1]):
                out[i, f] = base[i, f] if base.shape[0] > 0 else 0
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                weight = data[p]
                for f in range(out.shape[1]):
                    out[i, f] += weight * X[j, f]
            for f in range(out.shape[1]):
                out[i, f] *= scale


def weights_gradient(indptr: np.ndarray, indices: np.ndarray, grad_Y: np.ndarray, X: np.ndarray) -> np.ndarray:
    """``<grad_Y[i], X[j]>`` for every stored entry (i, j)."""
    values = np.empty(len(indices), dtype=np.result_type(grad_Y.dtype, X.dtype))
    _weights_gradient(indptr, indices, np.ascontiguousarray(grad_Y), np.ascontiguousarray(X), values)
    return values


@njit(parallel=True, cache=True)
def _weights_gradient(indptr, indices, grad_Y, X, values):
    for i in prange(indptr.shape[0] - 1):
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            total = values.dtype.type(0)
            for f in range(X.shape[1]):
                total += grad_Y[i, f] * X[j, f]
            values[p] = total
