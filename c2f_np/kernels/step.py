"""Compiled Adam update: entry by entry, in one trip through memory.

The entries are cut into blocks; an entry belongs to one block and needs no other, so the number of threads changes nothing.

Shapes
------
x, g, m, v : any one shape
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ..model import step as text
from .buffers import empty
from .compiled import ENTRIES_OF_A_BLOCK, njit


def adam_update(
    x, g, m, v, rate: float, root_correction: float, *, block: int = ENTRIES_OF_A_BLOCK, worth_compiled: int = 1 << 16
):  # fmt: skip
    """New x, m and v: compiled from `worth_compiled` entries on; below, NumPy's passes stay in the cache."""
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
