"""Kinks: where a function changes branch, no difference across the change is a derivative.

The caller may give ``active_set(**arguments)``, an array (or tuple of arrays) of booleans or integers that says which
branch each element takes. A step is *crossing* when the active set at either end differs from the one at the point
itself.

- For a single entry, smaller steps are tried; an entry for which every step crosses is left out and counted.
- For a direction, the entries that cross are removed from it and counted: directly when the active set has the argument's
  shape, otherwise by shortening the step and then by halving the set of entries until those that cross are found.

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

from .directions import floored, sample_positions
from .operation import Leaf, Operation, parameters_of
from .slopes import FIRST_STEP
from .trouble import Trouble, in_words
from .values import is_sparse, to_vector

#: Where the first step would cross kinks it is shorter, so that few entries do.
KINKED_STEP = 2.0**-10

#: Steps at which second differences are compared, and the last one, which confirms that a kink is one.
LOOKS = [FIRST_STEP / 16.0**k for k in range(6)]
TINY = LOOKS[4]

#: At most so many forward calls are spent on finding the entries of a large argument that lie at a kink.
SEARCH = 200

#: Of more entries at kinks than are tried one by one, so many of each kind are.
ALONE = 8


@dataclass
class Bend:
    """Kinks at the point itself that nobody announced, for one argument."""

    outputs: list[np.ndarray]  # for each output which elements bend and are taken out
    entries: np.ndarray  # (n,) which entries are held still instead
    where: list[str] = field(default_factory=list)
    near: float | None = None  # the smallest step, relative to the entries' scales, with a kink on the way

    def __bool__(self) -> bool:
        return bool(self.entries.any() or any(part.any() for part in self.outputs))


class ActiveSet:
    """Which branch each element takes, and took at the point."""

    def __init__(self, operation: Operation, function):
        self.operation, self.function, self._parameters = operation, function, parameters_of(function)
        self.here = self.at({})

    def at(self, changes: dict) -> list[np.ndarray]:
        """The parts of the active set, with the entries of some arguments changed."""
        arguments = self.operation.changed(changes)
        named = [p.name for p in self._parameters or ()]
        positional, keywords = (), arguments
        if self._parameters is not None and not any(p.kind == p.VAR_KEYWORD for p in self._parameters):
            keywords = {k: v for k, v in arguments.items() if k in named}  # it is given those of the arguments that it names
            positional = () if keywords else tuple(arguments.values())[: len(named)]
        try:
            result = self.function(*positional, **keywords)
        except Exception as error:
            raise Trouble(f"active_set raises {in_words(error, arguments)}", "active set") from error
        parts = result if isinstance(result, tuple | list) else (result,)
        return [to_vector(part) if is_sparse(part) else np.asarray(part) for part in parts]


class Kinks:
    """The kinks around one argument: those that the active set announces, and the entries that are held still."""

    def __init__(self, leaf: Leaf, active_set: ActiveSet | None = None):
        self.leaf, self.active_set = leaf, active_set
        self.held = np.zeros(leaf.size, bool)
        # What the steps of each entry are relative to: those that may cross a kink are not enlarged later.
        self.scales = leaf.steps if active_set is None else np.maximum(np.abs(leaf.entries), leaf.scale)

    def __bool__(self) -> bool:
        return self.active_set is not None

    def removed(self, direction: np.ndarray) -> int:
        """How many entries were removed from a direction, besides those that are held still."""
        return int(np.count_nonzero((direction == 0) & ~self.held))

    def changed(self, entries: np.ndarray) -> list[np.ndarray]:
        """For each part of the active set, where it differs from the one at the point."""
        pairs = zip(self.active_set.here, self.active_set.at({self.leaf.key: entries}), strict=True)
        return [a != b if a.shape == b.shape else np.ones(a.shape, bool) for a, b in pairs]

    def cross(self, *ends: np.ndarray) -> bool:
        """Whether a kink lies between the point and any of these ends."""
        return any(part.any() for end in ends for part in self.changed(end))

    @property
    def crosses(self):
        """:meth:`cross` for the samplers, or None without an active set."""
        return self.cross if self else None

    def first_step(self, step: float) -> float:
        """The first step of a ladder, relative to the scales: a shorter one where a kink lies within it."""
        ends = (self.leaf.entries + sign * step * self.scales for sign in (1, -1))
        return KINKED_STEP if self and self.cross(*ends) else step

    def clean(self, direction: np.ndarray, step: float) -> tuple[np.ndarray, float]:
        """The direction without the entries that cross at ``step``, and a step at which nothing crosses."""
        direction, entries = np.where(self.held, 0.0, direction), self.leaf.entries
        if not self:
            return direction, step

        def any_crossing(v, h):
            return self.cross(entries + h * v, entries - h * v)

        for _ in range(3):  # elementwise: the crossing elements are the entries themselves
            here = np.zeros(direction.shape, bool)
            for end in (entries + step * direction, entries - step * direction):
                for part in self.changed(end):
                    if part.shape in (self.leaf.shape, direction.shape):
                        here |= part.ravel()
            if not here.any():
                break
            direction[here] = 0.0
        for _ in range(6):  # otherwise: a shorter step
            if not any_crossing(direction, step):
                return direction, step
            step /= 8
        direction[_halve(np.flatnonzero(direction), direction, lambda v: any_crossing(v, step))] = 0.0
        if any_crossing(direction, step):
            direction[:] = 0.0
        return direction, step


def find(leaf: Leaf, limit: int, rng: np.random.Generator) -> Bend:
    """The kinks at the point that nobody announced; arguments of at most ``limit`` entries are searched one by one."""
    bent, near = look(leaf, floored(rng, leaf.size) * leaf.steps)
    bend = Bend([np.zeros(part.shape, bool) for part in bent], np.zeros(leaf.size, bool), near=near)
    count = sum(int(part.sum()) for part in bent)
    if not count:
        return bend
    if count <= 0.5 * sum(part.size for part in bent):
        bend.outputs = bent
    else:
        bend.entries[_guilty(leaf, limit, rng)] = True
    same = len(bent) == 1 and bent[0].size == leaf.size
    bend.where = [leaf.name(i) for i in np.flatnonzero(bend.entries)] or [
        leaf.name(i) if same else f"element {int(i)} of output {k}"
        for k, part in zip(leaf.operation.outputs, bent, strict=True)
        for i in np.flatnonzero(part)
    ]
    return bend


def look(leaf: Leaf, direction: np.ndarray, steps=LOOKS) -> tuple[list[np.ndarray], float | None]:
    """Which elements of each output bend at the point itself along a direction, and the smallest step with a kink near.

    The last of the steps is only taken if the one before makes it necessary.
    """
    here, grain = leaf.operation.here, leaf.operation.grain
    size = np.concatenate([np.abs(v) for v in here])
    before, near, bent = None, None, np.zeros(size.shape, bool)
    for h in steps:
        ends = leaf.either_side(h * direction)
        if ends is None:
            before = None
            continue
        plus, minus = (np.concatenate([a - b for a, b in zip(end, here, strict=True)]) for end in ends)
        second, moved = np.abs(plus + minus), np.abs(plus) + np.abs(minus)
        noise = 16 * grain * (size + moved) + 1e-300
        if bent.any():
            # A kink: the second difference falls as the step. Rounding does not fall, curvature falls as its square.
            if np.any((before[0] > 1e4 * noise) & (second > 0.5 * before[0])):
                what = f"the forward jumps at this point as {leaf.key} moves: there is no derivative; move the point"
                raise Trouble(what, "active set", leaf.key)
            bent &= (second > 4 * noise / 16) & (9 * second < before[0]) & (before[0] < 28 * second)
            break
        if before is not None and np.any((before[0] > 1e3 * np.maximum(second, noise)) & (before[0] > 1e-3 * before[1])):
            near = before[2]
        if h == steps[-2]:
            bent = (second > 4 * noise) & (second > 1e-6 * moved)
            if before is not None:  # it has fallen already, or is a jump: the rounding of terms that cancel is neither
                bent &= (before[0] > 9 * second) | (second > 1e4 * noise)
            if not bent.any():
                break
        before = second, moved, h
    return np.split(bent, np.cumsum([v.size for v in here])[:-1]), near


def _guilty(leaf: Leaf, limit: int, rng: np.random.Generator) -> np.ndarray:
    """The entries that bend an output on their own: each one tried, of a large argument by halving."""
    direction = floored(rng, leaf.size) * leaf.steps
    calls = 0

    def bends(part) -> bool:
        nonlocal calls
        calls += 1
        if calls > max(SEARCH, limit + 1):
            why = f"{leaf.key} lies on more kinks than can be told apart: give active_set=..., or move the point"
            raise Trouble(why, "active set", leaf.key)
        return any(part.any() for part in look(leaf, part, LOOKS[3:])[0])

    everywhere = np.arange(leaf.size)
    if leaf.size <= limit:
        return np.array([i for i in everywhere if bends(np.where(everywhere == i, direction, 0.0))], dtype=int)
    zero = leaf.entries == 0
    if zero.any() and not bends(np.where(zero, 0.0, direction)):  # most kinks lie at 0
        return everywhere[zero]
    return _halve(everywhere, direction, bends)


def outside_of_slopes(leaf: Leaf, bend: Bend, cotangents, gradients, limit: int, rng) -> str | None:
    """Where a gradient G (K, n) at a kink lies outside of what the slopes to either side allow, in words.

    Each output element may contribute any slope between its two, so any convention is accepted, for single entries,
    for all of them together, and at random; a wrong sign or factor is not.
    """
    here, grain, scale = leaf.operation.here, leaf.operation.grain, leaf.steps
    chosen = bend.entries if bend.entries.any() else np.ones(leaf.size, bool)
    directions = [scale * chosen, *(floored(rng, leaf.size) * scale * chosen for _ in range(3))]
    alone = np.flatnonzero(chosen)
    if alone.size > limit:
        alone = alone[sample_positions(rng, gradients[:, alone], ALONE)]
    directions += [np.where(np.arange(leaf.size) == i, scale, 0.0) for i in alone]
    for v in reversed(directions):
        ends = leaf.either_side(TINY * v)
        if ends is None:
            continue
        for k, (c, plus, minus, f) in enumerate(zip(cotangents, *ends, here, strict=True)):
            right, left = c * (plus - f) / TINY, c * (f - minus) / TINY
            low, high = np.minimum(right, left).sum(), np.maximum(right, left).sum()
            noise = np.dot(np.abs(c), 1e-6 * (np.abs(plus - f) + np.abs(f - minus)) + 16 * grain * np.abs(f)) / TINY
            ours = float(gradients[k] @ v)
            if not low - noise <= ours <= high + noise:
                i = np.flatnonzero(v)
                where = f"at {leaf.name(i[0])}" if i.size == 1 else f"along a direction of {i.size} entries"
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
