"""Compiled passes over arrays of the size of a table, entry by entry, each in one trip through memory.

The entries are cut into blocks; an entry belongs to one block and needs no other, so the number of threads changes nothing.

Shapes
------
x, g, m, v, Z, grad_Z : any one shape, C-contiguous
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..model import adam as text
from .buffers import empty
from .compiled import njit

# Entries of a block.
_BLOCK = 1 << 14


def tanh_backward(grad_Z: np.ndarray, Z: np.ndarray, *, block: int = _BLOCK) -> np.ndarray:
    """``grad_Z * (1 - Z^2)``."""
    out = empty(Z.shape, np.result_type(grad_Z.dtype, Z.dtype))
    _scale_by_tanh_slope(*(np.ascontiguousarray(part).reshape(-1) for part in (grad_Z, Z)), out.reshape(-1), block)
    return out


@njit(parallel=True)
def _scale_by_tanh_slope(grad_Z, Z, out, block):
    one = out.dtype.type(1)
    for b in prange((out.shape[0] + block - 1) // block):
        for k in range(b * block, min((b + 1) * block, out.shape[0])):
            out[k] = grad_Z[k] * (one - Z[k] * Z[k])


def adam_update(
    x, g, m, v, rate: float, root_correction: float, *, block: int = _BLOCK, worth_compiled: int = 1 << 16
):  # fmt: skip
    """New x, m and v: in one trip through memory from `worth_compiled` entries on; below, NumPy's passes stay in the cache."""
    if x.size < worth_compiled:
        return text.adam_update(x, g, m, v, rate, root_correction)
    new, mean, square = (empty(x.shape, x.dtype) for _ in range(3))
    given = (np.ascontiguousarray(part).reshape(-1) for part in (x, g, m, v))
    # Factors in the precision of the parameters, as NumPy takes Python floats.
    beta1, beta2 = text.BETA1, text.BETA2
    factors = (x.dtype.type(f) for f in (rate, root_correction, beta1, 1 - beta1, beta2, 1 - beta2, text.EPSILON))
    _adam(*given, *factors, new.reshape(-1), mean.reshape(-1), square.reshape(-1), block)
    return new, mean, square


@njit(parallel=True)
def _adam(x, g, m, v, rate, root_correction, beta1, rest1, beta2, rest2, epsilon, new, mean, square, block):
    for b in prange((x.shape[0] + block - 1) // block):
        for k in range(b * block, min((b + 1) * block, x.shape[0])):
            mean[k] = beta1 * m[k] + rest1 * g[k]
            square[k] = beta2 * v[k] + rest2 * g[k] * g[k]
            new[k] = x[k] - rate * mean[k] / (np.sqrt(square[k]) / root_correction + epsilon)
