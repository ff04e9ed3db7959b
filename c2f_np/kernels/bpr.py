"""Compiled BPR loss and regulariser, forward and backward.

Shapes
------
H, Z : (N, d)     bias : (N,)     user, positive, negative, slope : (B,)
entities : (K,), start : (K + 1,), slots : (3B,) the occurrences of `c2f_np.operations.triples`
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True)
def losses_and_slopes(H, bias, user, positive, negative):
    """softplus(negative - positive) of each triple, and its derivative divided by the number of triples."""
    n_triples = user.shape[0]
    losses = np.empty(n_triples, H.dtype)
    slope = np.empty(n_triples, H.dtype)
    one = H.dtype.type(1)
    for b in prange(n_triples):
        u, i, j = user[b], positive[b], negative[b]
        difference = bias[j] - bias[i]
        for f in range(H.shape[1]):
            difference += H[u, f] * (H[j, f] - H[i, f])
        small = np.exp(-abs(difference))
        losses[b] = max(difference, H.dtype.type(0)) + np.log1p(small)
        slope[b] = (one if difference >= 0 else small) / (one + small) / H.dtype.type(n_triples)
    return losses, slope


@njit(parallel=True, cache=True)
def gather_gradients(H, slope, user, positive, negative, entities, start, slots):
    """Gradients of embeddings and biases: every entity collects from its own occurrences, in their fixed order."""
    n_triples = user.shape[0]
    grad_H = np.zeros_like(H)
    grad_bias = np.zeros(H.shape[0], H.dtype)
    for k in prange(entities.shape[0]):
        e = entities[k]
        for p in range(start[k], start[k + 1]):
            role, b = slots[p] // n_triples, slots[p] % n_triples
            s = slope[b]
            if role == 0:
                i, j = positive[b], negative[b]
                for f in range(H.shape[1]):
                    grad_H[e, f] += s * (H[j, f] - H[i, f])
            else:
                if role == 1:
                    s = -s
                u = user[b]
                for f in range(H.shape[1]):
                    grad_H[e, f] += s * H[u, f]
                grad_bias[e] += s
    return grad_H, grad_bias


@njit(parallel=True, cache=True)
def squared_norms(Z, entities):
    """Squared norm of the row of each of `entities`."""
    norms = np.empty(entities.shape[0], Z.dtype)
    for k in prange(entities.shape[0]):
        total = Z.dtype.type(0)
        for f in range(Z.shape[1]):
            total += Z[entities[k], f] * Z[entities[k], f]
        norms[k] = total
    return norms


@njit(parallel=True, cache=True)
def scale_rows(Z, entities, factors):
    """Zeros, but ``factors[k] * Z[entities[k]]`` in the rows of `entities`."""
    scaled = np.zeros_like(Z)
    for k in prange(entities.shape[0]):
        factor = Z.dtype.type(factors[k])
        for f in range(Z.shape[1]):
            scaled[entities[k], f] = factor * Z[entities[k], f]
    return scaled
