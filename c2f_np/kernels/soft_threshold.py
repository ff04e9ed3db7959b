"""Compiled soft thresholding.

Shapes
------
E, grad_F : (M, d)     tau : scalar of the same dtype
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def shrink(E, tau):
    """``sign(E) max(|E| - tau, 0)``."""
    F = np.zeros_like(E)
    for i in range(E.shape[0]):
        for f in range(E.shape[1]):
            if E[i, f] > tau:
                F[i, f] = E[i, f] - tau
            elif E[i, f] < -tau:
                F[i, f] = E[i, f] + tau
            elif np.isnan(E[i, f]):
                F[i, f] = E[i, f]
    return F


@njit(cache=True)
def mask_shrunk(grad_F, E, tau):
    """``grad_F`` where ``|E| > tau``, zero elsewhere."""
    grad_E = np.zeros_like(grad_F)
    for i in range(E.shape[0]):
        for f in range(E.shape[1]):
            if abs(E[i, f]) > tau:
                grad_E[i, f] = grad_F[i, f]
    return grad_E
