"""Kinks: where a function changes branch, no difference across the change is a derivative.

The caller may give ``active_set(**arguments)``, an array (or tuple of arrays) of booleans or integers that says which
branch each element takes. A step is *crossing* when the active set at either end differs from the one at the point
itself.

- For a single entry, smaller steps are tried; an entry for which every step crosses is left out and counted.
- For a direction, the entries that cross are removed from it and counted: directly when the active set has the
argument's shape,
  otherwise by shortening the step and then by halving the set of entries until those that cross are found.

Kinks that nobody announced are looked for: at a kink the second difference falls as the step, elsewhere as its square
(:func:`look`). Where the point lies *on* a kink, the output elements that bend there are taken out of all checks by a
zero cotangent; where that would leave too few, the entries that bend them are held still instead. What is taken out is
judged by :func:`outside_of_slopes`: the gradient must lie between the slopes to either side. Kinks *near* the point are
named and left to the ladders of steps.

Shapes: n entries of the argument, v (n,) a direction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from c2f_np.gradcheck.differences import FIRST_STEP, steps_of
from c2f_np.gradcheck.operation import Operation, Trouble, call_with, floored, in_words
from c2f_np.gradcheck.values import is_sparse, to_vector

#: Steps at which second differences are compared, and the last one, which confirms that a kink is one.
LOOKS = [FIRST_STEP / 16.0**k for k in range(6)]
TINY, TINIER = LOOKS[4], LOOKS[5]

#: At most so many forward calls are spent on finding the entries of a large argument that lie at a kink.
SEARCH = 200


@dataclass
class Bend:
    """Kinks at the point itself that nobody announced, for one argument."""

    outputs: list[np.ndarray]  # for each output which elements bend and are taken out
    entries: np.ndarray  # (n,) which entries are held still instead
    where: list[str] = field(default_factory=list)
    near: float | None = None  # the smallest step, relative to the entries' scales, with a kink on the way

    def __bool__(self) -> bool:
        return bool(self.entries.any() or any(part.any() for part in self.outputs))


class Kinks:
    """The active set of an operation around its point, or nothing when no active set was given."""

    def __init__(self, operation: Operation, active_set=None):
        self.operation = operation
        self.active_set = active_set
        self.here = None if active_set is None else self._active({})
        self.held: dict[str, np.ndarray] = {}  # entries held still, by argument

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
        direction = np.where(self.held.get(key, False), 0.0, direction)
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


def find(operation: Operation, key: str, limit: int, rng: np.random.Generator) -> Bend:
    """The kinks at the point that nobody announced; arguments of at most ``limit`` entries are searched one by one."""
    entries = operation.entries(key)
    bent, near = look(operation, key, floored(rng, entries.size) * steps_of(entries))
    bend = Bend([np.zeros(part.shape, bool) for part in bent], np.zeros(entries.shape, bool), near=near)
    count = sum(int(part.sum()) for part in bent)
    if not count:
        return bend
    if count <= 0.5 * sum(part.size for part in bent):
        bend.outputs = bent
    else:
        bend.entries[_guilty(operation, key, limit, rng)] = True
    names = [operation.entry(key, int(i)) for i in np.flatnonzero(bend.entries)]
    if not names:
        same = len(bent) == 1 and bent[0].size == entries.size
        names = [
            operation.entry(key, int(i)) if same else f"element {int(i)} of output {k}"
            for k, part in zip(operation.outputs, bent, strict=True)
            for i in np.flatnonzero(part)
        ]
    bend.where = names
    return bend


def look(operation: Operation, key: str, direction: np.ndarray, steps=LOOKS) -> tuple[list[np.ndarray], float | None]:
    """Which elements of each output bend at the point itself along a direction, and the smallest step with a kink near.

    The last of the steps is only taken if the one before makes it necessary.
    """
    here, entries = operation.here(), operation.entries(key)
    none = [np.zeros(v.shape, bool) for v in here]
    size = np.concatenate([np.abs(v) for v in here])
    before, near, bent, jumps = None, None, None, False
    for h in steps:
        ends = [operation.try_values(**{key: entries + sign * h * direction}) for sign in (1, -1)]
        if any(end is None for end in ends):
            before = None
            continue
        plus, minus = (np.concatenate([a - b for a, b in zip(end, here, strict=True)]) for end in ends)
        second, moved = np.abs(plus + minus), np.abs(plus) + np.abs(minus)
        noise = 16 * operation.grain * (size + moved) + 1e-300
        if bent is not None:
            # A kink: the second difference falls as the step. Rounding does not fall, curvature falls as its square.
            jumps = bool(np.any((before[0] > 1e4 * noise) & (second > 0.5 * before[0])))
            bent &= (second > 4 * noise / 16) & (np.abs(np.log2(16 * second / np.maximum(before[0], 1e-300))) < 0.8)
            break
        if before is not None and np.any((before[0] > 1e3 * np.maximum(second, noise)) & (before[0] > 1e-3 * before[1])):
            near = before[2]
        before = second, moved, h
        if h == steps[-2]:
            bent = (second > 4 * noise) & (second > 1e-6 * moved)
            if not bent.any():
                break
    if jumps:
        raise Trouble(
            "active set", f"the forward jumps at this point as {key} moves: there is no derivative; move the point", key
        )
    if bent is None or not bent.any():
        return none, near
    return np.split(bent, np.cumsum([v.size for v in here])[:-1]), near


def _guilty(operation: Operation, key: str, limit: int, rng: np.random.Generator) -> np.ndarray:
    """The entries that bend an output on their own: each one tried, of a large argument by halving."""
    entries = operation.entries(key)
    direction = floored(rng, entries.size) * steps_of(entries)
    calls = 0

    def bends(part) -> bool:
        nonlocal calls
        calls += 1
        if calls > max(SEARCH, limit + 1):
            why = f"{key} lies on more kinks than can be told apart: give active_set=..., or move the point"
            raise Trouble("active set", why, key)
        return any(part.any() for part in look(operation, key, part, LOOKS[4:])[0])

    everywhere = np.arange(entries.size)
    if entries.size > limit and np.any(entries == 0):  # most kinks lie at 0
        zero = entries == 0
        if not bends(np.where(zero, 0.0, direction)):
            return everywhere[zero]
    if entries.size > limit:
        return _halve(everywhere, direction, bends)
    return np.array([i for i in everywhere if bends(np.where(everywhere == i, direction, 0.0))], dtype=int)


def outside_of_slopes(operation: Operation, key: str, bend: Bend, cotangents, gradients, limit: int, rng) -> str | None:
    """Where a gradient G (K, n) at a kink lies outside of what the slopes to either side allow, in words.

    Each output element may contribute any slope between its two, so any convention is accepted, for single entries,
    for all of them together, and at random; a wrong sign or factor is not.
    """
    entries, here = operation.entries(key), operation.here()
    scale, chosen = steps_of(entries), bend.entries if bend.entries.any() else np.ones(entries.shape, bool)
    directions = [scale * chosen, *(floored(rng, entries.size) * scale * chosen for _ in range(3))]
    if chosen.sum() <= limit:
        directions += [np.where(np.arange(entries.size) == i, scale, 0.0) for i in np.flatnonzero(chosen)]
    for v in reversed(directions):
        ends = [operation.try_values(**{key: entries + sign * TINY * v}) for sign in (1, -1)]
        if any(end is None for end in ends):
            continue
        for k, (c, plus, minus, f) in enumerate(zip(cotangents, *ends, here, strict=True)):
            right, left = c * (plus - f) / TINY, c * (f - minus) / TINY
            low, high = np.minimum(right, left).sum(), np.maximum(right, left).sum()
            noise = np.dot(np.abs(c), 1e-6 * (np.abs(plus - f) + np.abs(f - minus)) + 16 * operation.grain * np.abs(f)) / TINY
            ours = float(gradients[k] @ v)
            if not low - noise <= ours <= high + noise:
                i = np.flatnonzero(v)
                where = f"at {operation.entry(key, int(i[0]))}" if i.size == 1 else f"along a direction of {i.size} entries"
                unit = v[i[0]] if i.size == 1 else 1.0
                return (
                    f"at a kink the gradient must lie between the slopes to either side; {where} the backward says "
                    f"{ours / unit:.6g}, the slopes are {low / unit:.6g} to {high / unit:.6g}"
                )
    return None


def _halve(positions: np.ndarray, direction: np.ndarray, crosses) -> np.ndarray:
    """The entries of a direction that cross on their own, found by halving."""
    part = np.zeros_like(direction)
    part[positions] = direction[positions]
    if positions.size == 0 or not crosses(part):
        return positions[:0]
    if positions.size == 1:
        return positions
    middle = positions.size // 2
    return np.concatenate([_halve(positions[:middle], direction, crosses), _halve(positions[middle:], direction, crosses)])
