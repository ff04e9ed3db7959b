"""Taking a batch from the triples of an epoch, and sorting its occurrences by entity.

Shapes
------
user, positive, negative : (B,)     slots : (3B,), slot s = role * B + triple
"""

from __future__ import annotations

import numpy as np

from .compiled import njit


@njit()
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


@njit()
def take_by_user(users, positives, negatives, chosen, n_users):
    """The chosen triples as entity numbers, by a counting sort in the order of their users."""
    following = np.zeros(n_users + 1, np.int64)
    for k in range(chosen.shape[0]):
        following[users[chosen[k]] + 1] += 1
    for u in range(n_users):
        following[u + 1] += following[u]
    user = np.empty(chosen.shape[0], np.int64)
    positive, negative = np.empty_like(user), np.empty_like(user)
    for k in range(chosen.shape[0]):
        b = chosen[k]
        u = users[b]
        place = following[u]
        following[u] += 1
        user[place] = u
        positive[place] = positives[b] + n_users
        negative[place] = negatives[b] + n_users
    return user, positive, negative
