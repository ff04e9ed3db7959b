"""The derivative of a forward along a line, in two ways: by central differences and by the complex step.

*Central differences*, with a step that is found and not guessed. ``(F(x + h v) - F(x - h v)) / 2h`` is wrong by about
``h**2`` for large h (truncation) and by about ``eps / h`` for small h (rounding). A ladder of steps, each a quarter of the
one before, is extrapolated to h = 0 (Richardson; the triangle of Ridders 1982). Of all numbers in the triangle the one
that agrees best with its neighbours is taken; that disagreement, plus the rounding of the step, is its estimated error.
Large steps may agree with one another and yet see nothing of the function (both ends of a Gaussian's tail are 0); so a tiny
step must confirm what the ladder has found. The gradient under check takes no part in the choice.

*The complex step*, exact to rounding. For an analytic forward ``Im F(x + i h v) / h`` is the derivative along v, without a
difference and hence without cancellation; h is 2**-100 of the argument's scale. What rounding is left comes from terms that
cancel in the sum over the outputs, and is estimated from their absolute sum. The forward must accept complex numbers in
that argument, and be analytic in it: ``abs``, ``conj``, ``numpy.linalg.norm`` are not.

Shapes: n entries of the argument, K differentiated outputs, m entries of an output; v (n,) is a direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .operation import EPS, Leaf
from .trouble import Trouble

RATIO = 4.0
FIRST_STEP = 2.0**-6  # relative to the scale of what is varied
LEVELS = 17  # the last step is 4e-12 of that scale
CONFIRMING = 8  # the level whose step, 2.4e-7 of that scale, must confirm what larger ones have found
COMPLEX_STEP = 2.0**-100


class NotApplicable(Exception):
    """The complex step says nothing about this argument; the message says why."""


@dataclass(frozen=True)
class Slope:
    """The derivative of ``sum(cotangent_k * output_k)`` along one direction, for each of K outputs.

    ``value`` (K,); ``error`` (K,) its estimated error; ``mass`` (K,) the sum of the absolute terms, which says how much
    cancels in ``value``; ``step`` the step in use; ``crossings`` at how many steps a kink lay between the two ends. Those of
    several directions stacked have one more axis in front.
    """

    value: np.ndarray
    error: np.ndarray
    mass: np.ndarray
    step: float | np.ndarray
    crossings: int = 0


def stack(slopes: list[Slope], count: int) -> Slope:
    """Several slopes, each of ``count`` outputs, as one."""
    parts = (np.array([getattr(s, name) for s in slopes]).reshape(-1, count) for name in ("value", "error", "mass"))
    return Slope(*parts, step=np.array([s.step for s in slopes]))


def complex_slope(leaf: Leaf, direction: np.ndarray, h: float, cotangents) -> Slope:
    """The complex step along a direction (n,); :class:`NotApplicable` where the forward does not take complex numbers."""
    try:
        values = leaf.operation.complex_values(leaf.key, leaf.entries + 1j * h * direction)
    except Trouble as trouble:
        cause = trouble.__cause__
        if isinstance(cause, np.exceptions.ComplexWarning):
            raise NotApplicable(f"the forward drops the imaginary part of {leaf.key}") from None
        first = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause).strip() else ''}"
        raise NotApplicable(f"the forward does not accept complex numbers in {leaf.key} ({first[:160]})") from None
    slopes = [np.imag(part) / h for part in values]
    if not all(np.isfinite(part).all() for part in slopes):
        raise NotApplicable(f"the forward is not finite for complex numbers in {leaf.key}")
    value = np.array([np.dot(c, part) for c, part in zip(cotangents, slopes, strict=True)])
    mass = np.array([np.dot(np.abs(c), np.abs(part)) for c, part in zip(cotangents, slopes, strict=True)])
    return Slope(value, 2 * leaf.operation.eps * mass, mass, h)


@dataclass(frozen=True)
class Pair:
    """The outputs at both ends of one step, the true distance between the ends in units of the direction, and the
    rounding of the outputs."""

    plus: list[np.ndarray]
    minus: list[np.ndarray]
    distance: float
    eps: float


Sample = Callable[[float], Pair | str]  # the pair at a step, or why there is none: 'crossed' (a kink) or 'outside'


def entry_sampler(leaf: Leaf, position: int, crosses) -> Sample:
    """Samples for :func:`slope` along one entry. ``crosses(plus, minus)`` tells of a kink."""
    operation = leaf.operation

    def sample(h):
        if not np.isfinite(leaf.entries[position]):  # NaN stays NaN: the forward cannot depend on it
            return Pair(operation.here, operation.here, h, operation.grain)
        plus, minus = leaf.entries.copy(), leaf.entries.copy()
        plus[position] += h
        minus[position] -= h
        return _pair(leaf, plus, minus, plus[position] - minus[position], crosses)

    return sample


def line_sampler(leaf: Leaf, direction: np.ndarray, crosses) -> Sample:
    """Samples for :func:`slope` along a direction (n,)."""
    return lambda h: _pair(leaf, leaf.entries + h * direction, leaf.entries - h * direction, 2 * h, crosses)


def _pair(leaf, plus, minus, distance, crosses):
    if crosses is not None and crosses(plus, minus):
        return "crossed"
    above = leaf.values(plus)
    below = None if above is None else leaf.values(minus)
    return "outside" if below is None or distance == 0 else Pair(above, below, distance, leaf.operation.grain)


def slope(sample: Sample, cotangents, step: float, *, grow: bool = True) -> Slope:
    """The best derivative that a ladder of central differences from ``step`` downwards gives.

    With ``grow``, larger steps are tried when rounding spoils the first (the function is flat on the scale of its argument).
    """
    cache: dict[float, Pair | str] = {}
    dependent = [np.zeros(c.shape, bool) for c in cotangents]

    def take(h):
        if h not in cache:
            cache[h] = sample(h)
        return cache[h]

    if grow:
        step = _large_enough(take, cotangents, step, dependent)
    count = len(cotangents)
    best, best_error, best_mass = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    best_step, crossings, idle, confirming = step, 0, 0, CONFIRMING
    previous: list[np.ndarray] = []
    for level in range(LEVELS):
        h = step / RATIO**level
        pair = take(h)
        if isinstance(pair, str):
            crossings += pair == "crossed"
            previous = []
            continue
        value, rounding, mass = _central(cotangents, pair, dependent)
        row = [value]
        for j, before in enumerate(previous):
            weight = RATIO ** (2 * (j + 1))
            row.append((weight * row[j] - before) / (weight - 1))
        improved = False
        for j in range(len(row) if previous else 0):
            neighbours = [previous[0]] if j == 0 else [row[j - 1], previous[j - 1]]
            error = np.max([np.abs(row[j] - other) for other in neighbours], axis=0) + rounding
            better = error < best_error
            if better.any():
                best, best_error = np.where(better, row[j], best), np.where(better, error, best_error)
                best_mass, best_step, improved = np.where(better, mass, best_mass), h, True
        previous = row
        idle = 0 if improved else idle + 1
        rough = pair.eps / EPS
        hopeless = bool(np.all(rounding >= best_error))  # smaller steps round more
        enough = 1e-9 if hopeless or idle > 1 else 1e-10 if idle else 0.0
        allowed = np.maximum(1e-12 * rough * np.abs(best), enough * rough ** (2 / 3) * best_mass)
        if len(row) > 1 and np.all(best_error <= allowed):
            if _confirmed(take, cotangents, dependent, best, step / RATIO ** max(level, confirming)):
                break
            best_error, previous, idle, confirming = np.full(count, np.inf), [], 0, confirming + 4
        elif hopeless:
            break
    return Slope(best, best_error, best_mass, best_step, crossings)


def _central(cotangents, pair: Pair, dependent: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference quotient, its rounding error, and the mass of its terms, each (K,).

    ``dependent`` remembers, for each output, which elements have moved at any step: those are rounded, even at a step so
    small that they stand still; the others cancel exactly.
    """
    value, rounding, mass = [], [], []
    for k, (c, plus, minus) in enumerate(zip(cotangents, pair.plus, pair.minus, strict=True)):
        difference = plus - minus
        dependent[k] = moved = dependent[k] | (difference != 0)
        value.append(np.dot(c, difference) / pair.distance)
        mass.append(np.dot(np.abs(c), np.abs(difference)) / pair.distance)
        size = np.dot(np.abs(c[moved]), np.abs(plus[moved]) + np.abs(minus[moved]))
        rounding.append(pair.eps * size / pair.distance / np.sqrt(max(moved.sum(), 1)))
    return np.array(value), np.array(rounding), np.array(mass)


def _confirmed(take, cotangents, dependent, value, step: float) -> bool:
    """Whether a tiny step agrees with the value, as far as its rounding lets one see."""
    pair = take(step)
    if isinstance(pair, str):
        return True
    tiny, rounding, mass = _central(cotangents, pair, dependent)
    off = np.abs(tiny - value)
    if np.all((off <= 1e-3 * mass + 30 * rounding) | (tiny == 0)):  # what stands still may do so on a stair of rounding
        return True
    again = take(RATIO * step)  # two tiny steps that agree with each other contradict; two that do not are noise
    return isinstance(again, str) or bool(np.any(np.abs(_central(cotangents, again, dependent)[0] - tiny) > 0.1 * np.max(off)))


def _large_enough(take, cotangents, step: float, dependent) -> float:
    """A first step at which rounding is small beside the difference: as large as leaves the slope the same."""
    pair = take(step)
    if isinstance(pair, str):
        return step
    value, rounding, _ = _central(cotangents, pair, dependent)
    for _ in range(8):
        if np.all(rounding <= 1e-12 * pair.eps / EPS * np.abs(value)):
            return step
        larger = take(16 * step)
        if isinstance(larger, str):
            return step
        new, rounding, _ = _central(cotangents, larger, dependent)
        if np.any(np.abs(new - value) > 0.1 * np.abs(value) + 10 * rounding * 16):
            return step
        step, value = 16 * step, new
    return step
