"""A batch of triples (user, positive item, negative item) and its loss: BPR, and the regulariser of the ego embeddings.

    score(u, i) = <H_u, H_i> + b_u + b_i + b_0
    bpr  = mean over triples of softplus(-x),   x = score(u, positive) - score(u, negative)
    r    = l2 (|Z_user|^2 + |Z_positive|^2 + |Z_negative|^2) / B = l2 / B  sum_e count_e |Z_e|^2
    loss = bpr + decay * r

b_u and b_0 cancel in the difference: their gradient is exactly 0. The regulariser sees the composed Z, not the propagated H, and
counts every occurrence of an entity. With s = sigmoid(-x) / B the slope of a triple (u, i, j), i positive and j negative, the
gradients of BPR are

    grad_H[u] -= s (H_i - H_j),   grad_H[i] -= s H_u,   grad_H[j] += s H_u,   grad_b[i] -= s,   grad_b[j] += s

and an entity that occurs several times collects all its contributions.

Shapes
------
user, positive, negative : (B,) entity numbers; an item i is entity U + i
occurrence slots 0 .. 3B - 1: slot s is triple s % B in the role s // B (0 user, 1 positive, 2 negative)
H, Z : (N, d)     b : (N,)     b_0 : (1,)     slope : (B,), minus the derivative of bpr by the x of each triple
In a batch only its K distinct entities are looked at: H may be (K, d), their rows alone, and grad_H is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import DataError


# ---- the batch -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Occurrences:
    """For each entity of a batch the slots it fills, so that gradients can be gathered rather than scattered."""

    entities: np.ndarray  # the distinct entities of the batch, ascending
    start: np.ndarray  # entity entities[k] fills slots[start[k]:start[k + 1]]
    slots: np.ndarray  # ascending for each entity: sums over them are always made in the same order

    @property
    def counts(self) -> np.ndarray:
        """How often each of `entities` occurs, shape (K,)."""
        return np.diff(self.start)


def sort_slots(user, positive, negative, n_entities: int):
    """The distinct entities, where each one's slots start, and the slots."""
    slots = np.concatenate([user, positive, negative])
    entities, counts = np.unique(slots, return_counts=True)
    return entities, np.concatenate([[0], np.cumsum(counts)]), np.argsort(slots, kind="stable")


def take_by_user(users, positives, negatives, chosen: np.ndarray, n_users: int):
    """The chosen triples as entity numbers, in the order of their users; within one user they keep their order."""
    chosen = chosen[np.argsort(users[chosen], kind="stable")]
    users, positives, negatives = (column[chosen].astype(np.int64) for column in (users, positives, negatives))
    return users, positives + n_users, negatives + n_users


@dataclass(frozen=True)
class Triples:
    """A batch of (user, positive, negative) triples as entity numbers below `n_entities`; `sort` is one of the engine's."""

    user: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    n_entities: int
    sort: Callable = sort_slots

    @classmethod
    def from_items(cls, users, positive_items, negative_items, n_users: int, n_items: int) -> Triples:
        """Build a batch from item numbers that start at 0; DataError if a number is out of range or the lengths differ."""
        columns = [np.asarray(column, dtype=np.int64) for column in (users, positive_items, negative_items)]
        if not (columns[0].shape == columns[1].shape == columns[2].shape) or columns[0].ndim != 1 or not len(columns[0]):
            raise DataError("a batch needs as many users as positive and negative items, and at least one")
        for name, column, size in zip(("user", "positive", "negative"), columns, (n_users, n_items, n_items), strict=True):
            wrong = (column < 0) | (column >= size)
            if wrong.any():
                raise DataError(f"{name} out of range 0..{size - 1}", value=column[wrong][0])
        return cls(columns[0], columns[1] + n_users, columns[2] + n_users, n_users + n_items)

    @classmethod
    def by_user(cls, columns, chosen: np.ndarray, n_users: int, n_items: int, *, engine) -> Triples:
        """Some of many sampled triples (users, positive and negative items), sorted by user.

        The order within a batch is free; sorted, the rows that the loss reads lie next to each other.
        """
        return cls(*engine.take_by_user(*columns, chosen, n_users), n_users + n_items, engine.sort_slots)

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def occurrences(self) -> Occurrences:
        """Where each entity of the batch occurs; computed at first use."""
        return Occurrences(*self.sort(self.user, self.positive, self.negative, self.n_entities))

    @property
    def entities(self) -> np.ndarray:
        """The distinct entities of the batch, ascending, shape (K,)."""
        return self.occurrences.entities

    @cached_property
    def local(self) -> Triples:
        """The same triples over the distinct entities of the batch alone: entity ``entities[k]`` is number k."""
        where = self.occurrences
        number = np.empty(self.n_entities, dtype=np.int64)
        number[where.entities] = np.arange(len(where.entities))
        local = Triples(number[self.user], number[self.positive], number[self.negative], len(where.entities), self.sort)
        # Only the names have changed: nothing need be sorted again.
        local.__dict__["occurrences"] = Occurrences(np.arange(len(where.entities)), where.start, where.slots)
        return local


# ---- the loss ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Loss:
    """The loss of a batch; `regulariser` is r, without the decay."""

    bpr: float
    regulariser: float
    decay: float

    @property
    def total(self):
        """``bpr + decay * regulariser``."""
        return self.bpr + self.decay * self.regulariser


def score_pairs(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, left, right) -> np.ndarray:
    """Scores of pairs of entities (model.md, coarse stage, 4)."""
    return np.sum(H[left] * H[right], axis=1) + bias[left] + bias[right] + bias_global[0]


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow; complex input branches on the real part."""
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(-np.where(x.real > 0, x, -x)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), the derivative of softplus, without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def bpr_loss(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, triples: Triples):
    """bpr and the slope of every triple (model.md, coarse stage, 5)."""
    positive = score_pairs(H, bias, bias_global, triples.user, triples.positive)
    negative = score_pairs(H, bias, bias_global, triples.user, triples.negative)
    return np.mean(softplus(negative - positive)), sigmoid((negative - positive).real) / len(triples)


def bpr_backward(H: np.ndarray, triples: Triples, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients with respect to H, b and b_0."""
    user, positive, negative = triples.user, triples.positive, triples.negative
    s = slope[:, None]
    grad_H = np.zeros_like(H)
    np.add.at(grad_H, user, s * (H[negative] - H[positive]))
    np.add.at(grad_H, positive, -s * H[user])
    np.add.at(grad_H, negative, s * H[user])
    grad_bias = np.zeros(len(H), dtype=H.dtype)
    np.add.at(grad_bias, positive, -slope)
    np.add.at(grad_bias, negative, slope)
    return grad_H, grad_bias, np.zeros(1, dtype=H.dtype)


def squared_norm_penalty(Z: np.ndarray, triples: Triples, l2: float):
    """r, without decay (model.md, coarse stage, 5)."""
    rows = [Z[triples.user], Z[triples.positive], Z[triples.negative]]
    return float(l2) * sum(np.sum(row * row) for row in rows) / len(triples)


def squared_norm_penalty_backward(grad_penalty: float, Z, triples: Triples, l2: float, onto: np.ndarray) -> np.ndarray:
    """``onto + grad_penalty * 2 l2 count_e Z_e / B``.

    `onto` is the gradient that reaches Z along another path. It is given away: the compiled version adds in place.
    """
    factor = float(2 * l2 * grad_penalty / len(triples))
    count = np.zeros(len(Z), dtype=Z.dtype)
    for entities in (triples.user, triples.positive, triples.negative):
        np.add.at(count, entities, 1)
    return onto + (factor * count[:, None]).astype(Z.dtype) * Z


def batch_loss(forward, bias: np.ndarray, bias_global: np.ndarray, triples: Triples, *, l2: float, decay: float, engine):
    """The loss of a batch (model.md, coarse stage, 4-5), and the slopes. `forward` is of all entities or of this batch's."""
    rows = triples.entities
    bpr, slope = engine.bpr_loss(_rows_of_batch(forward, triples), bias[rows], bias_global, triples.local)
    return Loss(bpr, engine.squared_norm_penalty(forward.Z, triples, l2), decay), slope


def batch_loss_backward(forward, slope: np.ndarray, triples: Triples, *, engine):
    """grad_H of the batch's entities, shape (K, d), and grad_b and grad_b_0; all of the data loss."""
    H = _rows_of_batch(forward, triples)
    grad_H, grad_bias_rows, grad_bias_global = engine.bpr_backward(H, triples.local, slope)
    grad_bias = np.zeros(triples.n_entities, dtype=grad_bias_rows.dtype)
    grad_bias[triples.entities] = grad_bias_rows
    return grad_H, grad_bias, grad_bias_global


def _rows_of_batch(forward, triples: Triples) -> np.ndarray:
    """The propagated embeddings of the batch's distinct entities."""
    if forward.rows is None:
        return forward.H_entities[triples.entities]
    if forward.rows is not triples.entities:
        raise ValueError("the forward pass was made for the rows of another batch")
    return forward.H_entities
