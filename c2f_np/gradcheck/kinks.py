"""Kinks: where a function changes branch, no difference across the change is a derivative.

The caller may give ``active_set(**arguments)``, an array (or tuple of arrays) of booleans or integers that says which
branch each element takes. A step is *crossing* when the active set at either end differs from the one at the point
itself.

- For a single entry, smaller steps are tried; an entry for which every step crosses is left out and counted.
- For a direction, the entries that cross are removed from it and counted: directly when the active set has the
argument's shape,
  otherwise by shortening the step and then by halving the set of entries until those that cross are found.

Shapes: n entries of the argument, v (n,) a direction.
"""

from __future__ import annotations

import numpy as np

from c2f_np.gradcheck.operation import Operation, Trouble, call_with, in_words
from c2f_np.gradcheck.values import is_sparse, to_vector


class Kinks:
    """The active set of an operation around its point, or nothing when no active set was given."""

    def __init__(self, operation: Operation, active_set=None):
        self.operation = operation
        self.active_set = active_set
        self.here = None if active_set is None else self._active({})

    def __bool__(self) -> bool:
        return self.active_set is not None

    def _active(self, changes: dict) -> list[np.ndarray]:
        arguments = self.operation.changed(changes)
        try:
            result = call_with(self.active_set, arguments)
        except Exception as error:
            raise Trouble("active set", f"active_set raises {in_words(error, arguments)}") from error
        parts = result if isinstance(result, tuple | list) else (result,)
        return [to_vector(part) if is_sparse(part) else np.asarray(part) for part in parts]

    def changed(self, key: str, entries: np.ndarray) -> list[np.ndarray]:
        """For each part of the active set, where it differs from the one at the point."""
        now = self._active({key: entries})
        return [a != b if a.shape == b.shape else np.ones(a.shape, bool) for a, b in zip(self.here, now, strict=True)]

    def crosses(self, key: str):
        """``crosses(plus, minus)`` for the samplers, or None without an active set."""
        if not self:
            return None

        def crosses(*ends):
            return any(bool(np.any(part)) for end in ends for part in self.changed(key, end))

        return crosses

    def within(self, key: str, steps: np.ndarray) -> bool:
        """Whether a kink lies within ``steps`` (n,) of the point: where none does, steps need not be kept short."""
        if not self:
            return False
        entries = self.operation.entries(key)
        return any(bool(np.any(part)) for end in (entries + steps, entries - steps) for part in self.changed(key, end))

    def clean(self, key: str, direction: np.ndarray, step: float) -> tuple[np.ndarray, float]:
        """The direction without the entries that cross at ``step``, and a step at which nothing crosses."""
        if not self:
            return direction, step
        entries = self.operation.entries(key)
        shape = self.operation.shape(key)
        direction = direction.copy()

        def crossing(v, h):
            return [self.changed(key, entries + h * v), self.changed(key, entries - h * v)]

        def any_crossing(v, h):
            return any(bool(np.any(part)) for side in crossing(v, h) for part in side)

        for _ in range(3):  # elementwise: the crossing elements are the entries themselves
            sides = crossing(direction, step)
            here = np.zeros(direction.shape, bool)
            for side in sides:
                for part in side:
                    if part.shape == shape or part.shape == direction.shape:
                        here |= part.ravel()
            if not here.any():
                break
            direction[here] = 0.0
        for _ in range(6):  # otherwise: a shorter step
            if not any_crossing(direction, step):
                return direction, step
            step /= 8
        guilty = _halve(np.flatnonzero(direction), direction, lambda v: any_crossing(v, step))
        direction[guilty] = 0.0
        if any_crossing(direction, step):
            direction[:] = 0.0
        return direction, step


def _halve(positions: np.ndarray, direction: np.ndarray, crosses) -> np.ndarray:
    """The entries of a direction that cross on their own, found by halving."""
    part = np.zeros_like(direction)
    part[positions] = direction[positions]
    if positions.size == 0 or not crosses(part):
        return positions[:0]
    if positions.size == 1:
        return positions
    middle = positions.size // 2
    return np.concatenate(
        [_halve(positions[:middle], direction, crosses), _halve(positions[middle:], direction, crosses)]
    )
