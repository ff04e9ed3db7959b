"""A batch of training triples (user, positive item, negative item), and where each entity occurs in it.

Shapes
------
user, positive, negative : (B,) entity numbers; an item i is entity U + i
occurrence slots 0 .. 3B - 1: slot s is triple s % B in the role s // B (0 user, 1 positive, 2 negative)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import DataError


@dataclass(frozen=True)
class Occurrences:
    """For each entity of a batch the slots it fills, so that gradients can be gathered rather than scattered.

    Attributes
    ----------
    entities : (K,) ndarray of int64
        The distinct entities of the batch, ascending.
    start : (K + 1,) ndarray of int64
        Entity ``entities[k]`` fills ``slots[start[k]:start[k + 1]]``.
    slots : (3B,) ndarray of int64
        Ascending for each entity: sums over them are always made in the same order.
    """

    entities: np.ndarray
    start: np.ndarray
    slots: np.ndarray

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
        """Build a batch from item numbers that start at 0.

        Raises
        ------
        DataError
            If the lengths differ, the batch is empty, or a number is out of range.
        """
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
