"""Central differences along a line, with a step that is found and not guessed.

``(F(x + h v) - F(x - h v)) / 2h`` is wrong by about ``h**2`` for large h (truncation) and by about ``eps / h`` for
small h (rounding). A ladder of steps, each a quarter of the one before, is extrapolated to h = 0 (Richardson; the
triangle of Ridders 1982). Of all numbers in the triangle the one that agrees best with its neighbours is taken; that
disagreement, plus the rounding of the step, is its estimated error. Large steps may agree with one another and yet see
nothing of the function (both ends of a Gaussian's tail are 0); so a tiny step must confirm what the ladder has found. The
gradient under check takes no part in the choice.

Shapes: n entries of the argument, K differentiated outputs, m entries of an output; v (n,) is a direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EPS = np.finfo(np.float64).eps
RATIO = 4.0
FIRST_STEP = 2.0**-6  # relative to the scale of what is varied
LEVELS = 17  # the last step is 4e-12 of that scale
CONFIRMING = 8  # the level whose step, 2.4e-7 of that scale, must confirm what larger ones have found


@dataclass(frozen=True)
class Slope:
    """The derivative of ``sum(cotangent_k * output_k)`` along one direction, for each of K outputs.

    ``value`` (K,); ``error`` (K,) its estimated error; ``mass`` (K,) the sum of the absolute terms, which says how much
    cancels in
    ``value``; ``step`` the step in use; ``crossings`` at how many steps a kink lay between the two ends.
    """

    value: np.ndarray
    error: np.ndarray
    mass: np.ndarray
    step: float
    crossings: int = 0


@dataclass(frozen=True)
class Pair:
    """The outputs at both ends of one step, the true distance between the ends in units of the direction, and the
    rounding of the outputs."""

    plus: list[np.ndarray]
    minus: list[np.ndarray]
    distance: float
    eps: float = EPS


def central(cotangents, pair: Pair, dependent: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def slope(sample: Callable[[float], Pair | str], cotangents, step: float, *, grow: bool = True) -> Slope:
    """The best derivative that a ladder of steps gives.

    Parameters
    ----------
    sample : callable
        ``sample(h)`` is the :class:`Pair` at step h, or a word why there is none: ``'crossed'`` (a kink lies between
        the ends) or
        ``'outside'`` (the forward raises or is not finite there).
    cotangents : list of arrays (m,)
    step : float
        The first, largest step.
    grow : bool
        Whether larger steps may be tried when rounding spoils the first one (the function is flat on the scale of its
        argument).
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
    best_step, crossings, idle = step, 0, 0
    previous: list[np.ndarray] = []
    confirming = CONFIRMING
    for level in range(LEVELS):
        h = step / RATIO**level
        pair = take(h)
        if isinstance(pair, str):
            crossings += pair == "crossed"
            previous = []
            continue
        value, rounding, mass = central(cotangents, pair, dependent)
        row = [value]
        improved = np.zeros(count, dtype=bool)
        for j in range(len(previous)):
            weight = RATIO ** (2 * (j + 1))
            row.append((weight * row[j] - previous[j]) / (weight - 1))
        for j in range(len(row) if previous else 0):
            neighbours = [previous[0]] if j == 0 else [row[j - 1], previous[j - 1]]
            error = np.max([np.abs(row[j] - other) for other in neighbours], axis=0) + rounding
            better = error < best_error
            improved |= better
            best, best_error = np.where(better, row[j], best), np.where(better, error, best_error)
            best_mass = np.where(better, mass, best_mass)
            if np.any(better):
                best_step = h
        previous = row
        idle = 0 if np.any(improved) else idle + 1
        rough = pair.eps / EPS
        settled = np.all(best_error <= 1e-12 * rough * np.abs(best)) or (
            idle >= 2 and np.all(best_error <= 1e-9 * rough ** (2 / 3) * best_mass)
        )
        if len(row) > 2 and settled:
            if _confirmed(take, cotangents, dependent, best, step / RATIO ** max(level, confirming)):
                break
            best_error, previous, idle, confirming = np.full(count, np.inf), [], 0, confirming + 4
    return Slope(best, best_error, best_mass, best_step, crossings)


def _confirmed(take, cotangents, dependent, value, step: float) -> bool:
    """Whether a tiny step agrees with the value, as far as its rounding lets one see."""
    pair = take(step)
    if isinstance(pair, str):
        return True
    tiny, rounding, mass = central(cotangents, pair, dependent)
    off = np.abs(tiny - value)
    if np.all((off <= 1e-3 * mass + 30 * rounding) | (tiny == 0)):  # what stands still may do so on a stair of rounding
        return True
    again = take(RATIO * step)  # two tiny steps that agree with each other contradict; two that do not are noise
    return isinstance(again, str) or bool(np.any(np.abs(central(cotangents, again, dependent)[0] - tiny) > 0.1 * np.max(off)))


def _large_enough(take, cotangents, step: float, dependent) -> float:
    """A first step at which rounding is small beside the difference: as large as leaves the slope the same."""
    pair = take(step)
    if isinstance(pair, str):
        return step
    value, rounding, _ = central(cotangents, pair, dependent)
    for _ in range(8):
        if np.all(rounding <= 1e-12 * pair.eps / EPS * np.abs(value)):
            return step
        larger = take(16 * step)
        if isinstance(larger, str):
            return step
        new, rounding, _ = central(cotangents, larger, dependent)
        if np.any(np.abs(new - value) > 0.1 * np.abs(value) + 10 * rounding * 16):
            return step
        step, value = 16 * step, new
    return step


def scale_of(entries: np.ndarray) -> float:
    """The typical size of an argument's entries, or of their differences if these are smaller; 1 when all are zero."""
    finite = entries[np.isfinite(entries)]
    sizes = np.abs(finite[finite != 0])
    if not sizes.size:
        return 1.0
    typical = float(np.median(sizes))
    spread = float(np.median(np.abs(finite - np.median(finite))))
    return min(typical, max(spread, 1e-6 * typical)) if spread > 0 else typical


def steps_of(entries: np.ndarray) -> np.ndarray:
    """For each entry (n,) the size that its steps are relative to: its own, or the typical one if that is smaller."""
    typical = scale_of(entries)
    sizes = np.where(np.isfinite(entries), np.abs(entries), 0.0)
    return np.where(sizes > 0, np.minimum(sizes, typical), typical)


def entry_sampler(operation, key: str, position: int, crosses) -> Callable[[float], Pair | str]:
    """``sample(h)`` for :func:`slope` along one entry. ``crosses(plus, minus)`` tells of a kink."""
    entries = operation.entries(key)

    def sample(h):
        if not np.isfinite(entries[position]):  # NaN stays NaN: the forward cannot depend on it
            return Pair(operation.here(), operation.here(), h, operation.grain)
        plus, minus = entries.copy(), entries.copy()
        plus[position] += h
        minus[position] -= h
        return _pair(operation, key, plus, minus, plus[position] - minus[position], crosses)

    return sample


def line_sampler(operation, key: str, direction: np.ndarray, crosses) -> Callable[[float], Pair | str]:
    """``sample(h)`` for :func:`slope` along a direction (n,)."""
    entries = operation.entries(key)

    def sample(h):
        return _pair(operation, key, entries + h * direction, entries - h * direction, 2 * h, crosses)

    return sample


def _pair(operation, key, plus, minus, distance, crosses):
    if crosses is not None and crosses(plus, minus):
        return "crossed"
    above = operation.try_values(**{key: plus})
    below = None if above is None else operation.try_values(**{key: minus})
    return "outside" if below is None or distance == 0 else Pair(above, below, distance, operation.grain)
