"""What a step does beside sparse products, compiled: triples are drawn and put in order, the loss, its gradients, Adam.

A draw depends on its number alone, an entity or an entry belongs to one block and needs no other: the number of threads changes
nothing.

Shapes
------
indptr : (U + 1,), indices : (nnz,) csr of the interactions     users, positives : (D,)     negatives : (D, neg_size)
H, Z : (N, d)     bias : (N,)     user, positive, negative, slope : (B,)     slots : (3B,), slot s = role * B + triple
entities : (K,), start : (K + 1,), slots : the occurrences of `c2f_np.model.loss`     bounds : groups of entities
x, g, m, v : any one shape
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import prange, uint64

from ..model import step as text
from ..model.loss import Triples
from .buffers import empty
from .compiled import ENTRIES_OF_A_BLOCK, LANE, carray, njit, prefetch_row, row_sum, stack_pointer
from .propagation import add_scaled, constant_width, even_groups_of

# Triples or slots between asking for their rows and using them.
_AHEAD = 8
# Of the hash.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


# ---- drawing ----------------------------------------------------------------------------------------------------------
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


# ---- the batch -----------------------------------------------------------------------------------------------------------
@njit()
def sort_slots(user, positive, negative, n_entities):
    """Counting sort: the distinct entities, where each one's slots start, and the slots, ascending for each entity."""
    n_triples = user.shape[0]
    count = np.zeros(n_entities, np.int64)
    for b in range(n_triples):
        count[user[b]] += 1
        count[positive[b]] += 1
        count[negative[b]] += 1
    entities = np.flatnonzero(count)
    start = np.zeros(entities.shape[0] + 1, np.int64)
    following = np.empty(n_entities, np.int64)
    for k in range(entities.shape[0]):
        following[entities[k]] = start[k]
        start[k + 1] = start[k] + count[entities[k]]
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
    unsorted = np.empty(chosen.shape[0], np.int64)
    for k in range(chosen.shape[0]):
        unsorted[k] = users[chosen[k]]
        following[unsorted[k] + 1] += 1
    for u in range(n_users):
        following[u + 1] += following[u]
    user = np.empty(chosen.shape[0], np.int64)
    positive, negative = np.empty_like(user), np.empty_like(user)
    for k in range(chosen.shape[0]):
        b = chosen[k]
        u = unsorted[k]
        place = following[u]
        following[u] += 1
        user[place] = u
        positive[place] = positives[b] + n_users
        negative[place] = negatives[b] + n_users
    return user, positive, negative


# ---- BPR -----------------------------------------------------------------------------------------------------------------
def bpr_loss(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, triples: Triples):
    """The loss and the slope of every triple; the global bias cancels."""
    H = np.ascontiguousarray(H)
    differences = np.empty(len(triples), H.dtype)
    _differences(constant_width(H.shape[1]))(H, bias, triples.user, triples.positive, triples.negative, differences)
    losses, slope = _softplus_and_slopes(differences)
    return np.mean(losses), slope


@cache
def _differences(width: int):
    in_lanes = width - width % LANE

    @njit(parallel=True)
    def score_differences(H, bias, user, positive, negative, differences):
        n_triples = user.shape[0]
        for b in prange(n_triples):
            d = width if width else H.shape[1]
            if width and b + _AHEAD < n_triples:
                prefetch_row(H, user[b + _AHEAD], width)
                prefetch_row(H, positive[b + _AHEAD], width)
                prefetch_row(H, negative[b + _AHEAD], width)
            u, i, j = user[b], positive[b], negative[b]
            difference = bias[j] - bias[i]
            if width:
                row = carray(stack_pointer(H, width), (width,))
                for f in range(width):
                    row[f] = H[u, f] * (H[j, f] - H[i, f])
                # A sum of one number after the other would wait for each addition; 16 sums side by side fill a register.
                lanes = carray(stack_pointer(H, LANE), (LANE,))
                for f in range(LANE):
                    lanes[f] = 0
                for first in range(0, in_lanes, LANE):
                    for f in range(LANE):
                        lanes[f] += row[first + f]
                for f in range(LANE):
                    difference += lanes[f]
            for f in range(in_lanes, d):
                difference += H[u, f] * (H[j, f] - H[i, f])
            differences[b] = difference

    return score_differences


@njit(parallel=True)
def _softplus_and_slopes(differences):
    n_triples = differences.shape[0]
    losses, slope = np.empty_like(differences), np.empty_like(differences)
    zero, one, share = differences.dtype.type(0), differences.dtype.type(1), differences.dtype.type(n_triples)
    for b in prange(n_triples):
        difference = differences[b]
        small = np.exp(-abs(difference))
        losses[b] = max(difference, zero) + np.log1p(small)
        slope[b] = (one if difference >= 0 else small) / (one + small) / share
    return losses, slope


def bpr_backward(H: np.ndarray, triples: Triples, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of H, b and b_0: every entity collects from its own occurrences, in their fixed order."""
    H, where = np.ascontiguousarray(H), triples.occurrences
    everywhere = len(where.entities) == len(H)
    grad_H = empty(H.shape, H.dtype) if everywhere else np.zeros_like(H)
    grad_bias = np.zeros(H.shape[0], H.dtype)
    _gather(constant_width(H.shape[1]))(
        even_groups_of(where.counts), H, slope, triples.user, triples.positive, triples.negative,
        where.entities, where.start, where.slots, grad_H, grad_bias,
    )  # fmt: skip
    return grad_H, grad_bias, np.zeros(1, dtype=H.dtype)


@njit(inline="always")
def _role(slot, n_triples):
    """Role and triple of a slot, role * B + triple; comparing is much faster than dividing."""
    if slot < n_triples:
        return 0, slot
    if slot < 2 * n_triples:
        return 1, slot - n_triples
    return 2, slot - 2 * n_triples


add_scaled_difference = row_sum(lambda total, weight, x, y: total + weight * (x - y))


@cache
def _gather(width: int):
    @njit(parallel=True)
    def gather(bounds, H, slope, user, positive, negative, entities, start, slots, grad_H, grad_bias):
        n_triples = user.shape[0]
        for g in prange(bounds.shape[0] - 1):
            d = width if width else H.shape[1]
            for k in range(bounds[g], bounds[g + 1]):
                row = carray(stack_pointer(grad_H, width), (width,)) if width else grad_H[entities[k]]
                for f in range(d):
                    row[f] = 0
                total = H.dtype.type(0)
                for p in range(start[k], start[k + 1]):
                    if width and p + _AHEAD < slots.shape[0]:
                        role, b = _role(slots[p + _AHEAD], n_triples)
                        if role == 0:
                            prefetch_row(H, positive[b], width)
                            prefetch_row(H, negative[b], width)
                        else:
                            prefetch_row(H, user[b], width)
                    role, b = _role(slots[p], n_triples)
                    s = slope[b]
                    if role == 0:
                        add_scaled_difference(row, s, H, negative[b], H, positive[b], width)
                    else:
                        if role == 1:
                            s = -s
                        add_scaled(row, s, H, user[b], width)
                        total += s
                for f in range(width):
                    grad_H[entities[k], f] = row[f]
                grad_bias[entities[k]] = total

    return gather


# ---- the regulariser -----------------------------------------------------------------------------------------------------
def squared_norm_penalty(Z: np.ndarray, triples: Triples, l2: float):
    """The regulariser, from the norms of the distinct entities."""
    where = triples.occurrences
    return Z.dtype.type(l2) * np.sum(squared_norms(Z, where.entities) * where.counts.astype(Z.dtype)) / len(triples)


def squared_norm_penalty_backward(grad_penalty: float, Z, triples: Triples, l2: float, onto: np.ndarray) -> np.ndarray:
    """``onto + grad_penalty * 2 l2 count_e Z_e / B``, in place."""
    where = triples.occurrences
    add_scaled_rows(onto, Z, where.entities, 2 * l2 * grad_penalty / len(triples) * where.counts)
    return onto


@njit(parallel=True)
def squared_norms(Z, entities):
    """Squared norm of the row of each of `entities`."""
    width = Z.shape[1]
    in_lanes = width - width % LANE
    norms = np.empty(entities.shape[0], Z.dtype)
    for k in prange(entities.shape[0]):
        e = entities[k]
        lanes = carray(stack_pointer(Z, LANE), (LANE,))
        for f in range(LANE):
            lanes[f] = 0
        for first in range(0, in_lanes, LANE):
            for f in range(LANE):
                lanes[f] += Z[e, first + f] * Z[e, first + f]
        total = Z.dtype.type(0)
        for f in range(LANE):
            total += lanes[f]
        for f in range(in_lanes, width):
            total += Z[e, f] * Z[e, f]
        norms[k] = total
    return norms


@njit(parallel=True)
def add_scaled_rows(total, Z, entities, factors):
    """Add ``factors[k] * Z[entities[k]]`` to the rows of `entities` of `total`, in place."""
    for k in prange(entities.shape[0]):
        factor = Z.dtype.type(factors[k])
        for f in range(Z.shape[1]):
            total[entities[k], f] += factor * Z[entities[k], f]


# ---- the optimiser ----------------------------------------------------------------------------------------------------
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
