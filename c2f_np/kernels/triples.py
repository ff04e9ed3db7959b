"""Sorting the occurrences of a batch by entity.

Shapes
------
user, positive, negative : (B,)     slots : (3B,), slot s = role * B + triple
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def sort_slots(user, positive, negative, n_entities):
    """Counting sort: the distinct entities, where each one's slots start, and the slots, ascending for each entity."""
    n_triples = user.shape[0]
    count = np.zeros(n_entities, np.int64)
    for b in range(n_triples):
        count[user[b]] += 1
        count[positive[b]] += 1
        count[negative[b]] += 1
    n_distinct = 0
    for e in range(n_entities):
        if count[e] > 0:
            n_distinct += 1
    entities = np.empty(n_distinct, np.int64)
    start = np.zeros(n_distinct + 1, np.int64)
    following = np.empty(n_entities, np.int64)
    k = 0
    for e in range(n_entities):
        if count[e] > 0:
            entities[k] = e
            following[e] = start[k]
            start[k + 1] = start[k] + count[e]
            k += 1
    slots = np.empty(3 * n_triples, np.int64)
    for b in range(n_triples):
        slots[following[user[b]]] = b
        following[user[b]] += 1
    for b in range(n_triples):
        slots[following[positive[b]]] = n_triples + b
        following[positive[b]] += 1
    for b in range(n_triples):
        slots[following[negative[b]]] = 2 * n_triples + b
        following[negative[b]] += 1
    return entities, start, slots
