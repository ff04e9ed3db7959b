"""Compiled backward pass of composition.

tanh itself is left to NumPy in the forward pass: its vectorised version is several times faster than a call per entry.

Shapes
------
S_transpose : (C, N) csr     grad_Z, Z : (N, d)     grad_E : (C, d)
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .sparse_product import multiply


def multiply_tanh(S, bounds: np.ndarray, E: np.ndarray) -> np.ndarray:
    """``tanh(S @ E)``."""
    weighted = multiply(S, bounds, E)
    return np.tanh(weighted, out=weighted)


def multiply_tanh_backward(S_transpose, bounds: np.ndarray, grad_Z: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """``S^T (grad_Z * (1 - Z^2))`` without forming the product in the brackets."""
    grad_E = np.zeros((S_transpose.shape[0], Z.shape[1]), dtype=np.result_type(S_transpose.dtype, grad_Z.dtype))
    _gather(
        bounds,
        S_transpose.indptr,
        S_transpose.indices,
        S_transpose.data,
        np.ascontiguousarray(grad_Z),
        np.ascontiguousarray(Z),
        grad_E,
    )
    return grad_E


@njit(parallel=True, cache=True)
def _gather(bounds, indptr, indices, data, grad_Z, Z, grad_E):
    one = grad_E.dtype.type(1)
    for g in prange(bounds.shape[0] - 1):
        for c in range(bounds[g], bounds[g + 1]):
            for p in range(indptr[c], indptr[c + 1]):
                i = indices[p]
                weight = data[p]
                for f in range(Z.shape[1]):
                    grad_E[c, f] += weight * (grad_Z[i, f] * (one - Z[i, f] * Z[i, f]))
