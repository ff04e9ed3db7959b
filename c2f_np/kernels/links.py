"""Compiled choice of the largest entries of each row.

Shapes
------
W : (n, m)     columns : (n, t)
"""

from __future__ import annotations

import numpy as np
from numba import prange

from .compiled import njit


@njit(parallel=True)
def largest_columns(W, t):
    """Columns of the t largest entries of each row, ascending; among equals the lower column is kept."""
    n, m = W.shape
    columns = np.empty((n, t), np.int64)
    for i in prange(n):
        best = np.empty(t, np.int64)
        n_best = 0
        for j in range(m):
            if n_best == t and not W[i, j] > W[i, best[t - 1]]:
                continue
            position = n_best if n_best < t else t - 1
            while position > 0 and W[i, j] > W[i, best[position - 1]]:
                best[position] = best[position - 1]
                position -= 1
            best[position] = j
            if n_best < t:
                n_best += 1
        best.sort()
        columns[i] = best
    return columns
