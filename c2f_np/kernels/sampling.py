"""Compiled drawing of training triples: the loops of `c2f_np.model.sampling`, one draw after another.

Shapes
------
indptr : (U + 1,), indices : (nnz,) csr of the interactions     users, positives : (D,)     negatives : (D, neg_size)
"""

from __future__ import annotations

import numpy as np
from numba import prange, uint64

from .compiled import njit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@njit(inline="always")
def _hash64(x):
    x = (x ^ (x >> uint64(30))) * _FIRST
    x = (x ^ (x >> uint64(27))) * _SECOND
    return x ^ (x >> uint64(31))


@njit(inline="always")
def _below(random, bound):
    return np.int64(np.float64(random >> uint64(11)) * 2.0**-53 * bound)


@njit(parallel=True)
def draw_triples(indptr, indices, n_items, n_draws, neg_size, key):
    """Users, positives and negatives of each draw; -1 where there is no (further) negative."""
    n_users = indptr.shape[0] - 1
    users = np.empty(n_draws, np.int32)
    positives = np.zeros(n_draws, np.int32)
    negatives = np.full((n_draws, neg_size), -1, np.int32)
    for b in prange(n_draws):
        stream = _hash64(key + uint64(b) * _GOLDEN)
        u = _below(_hash64(stream + _GOLDEN), n_users)
        users[b] = u
        first = indptr[u]
        degree = indptr[u + 1] - first
        if degree == 0:
            continue
        positives[b] = indices[first + _below(_hash64(stream + uint64(2) * _GOLDEN), degree)]
        n_free = n_items - degree
        n_negatives = min(neg_size, n_free)
        ranks = np.empty(n_negatives, np.int64)
        for k in range(n_negatives):
            top = n_free - n_negatives + k
            draw = _below(_hash64(stream + uint64(3 + k) * _GOLDEN), top + 1)
            for earlier in range(k):
                if ranks[earlier] == draw:
                    draw = top
                    break
            ranks[k] = draw
            low, high = 0, degree
            while low < high:
                middle = (low + high) // 2
                if indices[first + middle] - middle <= draw:
                    low = middle + 1
                else:
                    high = middle
            negatives[b, k] = draw + low
    return users, positives, negatives
