"""Central differences along a line, with a step that is found and not guessed.

``(F(x + h v) - F(x - h v)) / 2h`` is wrong by about ``h**2`` for large h (truncation) and by about ``eps / h`` for
small h (rounding). A ladder of steps, each a quarter of the one before, is extrapolated to h = 0 (Richardson; the
triangle of Ridders 1982). Of all numbers in the triangle the one that agrees best with its neighbours is taken; that
disagreement, plus the rounding of the step, is its estimated error. The gradient under check takes no part in the
choice.

Shapes: n entries of the argument, K differentiated outputs, m entries of an output; v (n,) is a direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EPS = np.finfo(np.float64).eps
RATIO = 4.0
FIRST_STEP = 2.0**-6  # relative to the scale of what is varied
LEVELS = 13  # the last step is 9e-10 of that scale


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
    """The outputs at both ends of one step, and the true distance between the ends in units of the direction."""

    plus: list[np.ndarray]
    minus: list[np.ndarray]
    distance: float


def central(cotangents, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference quotient, its rounding error, and the mass of its terms, each (K,)."""
    value, rounding, mass = [], [], []
    for c, plus, minus in zip(cotangents, pair.plus, pair.minus, strict=True):
        difference = plus - minus  # outputs that do not depend on the argument cancel exactly
        moved = difference != 0
        value.append(np.dot(c, difference) / pair.distance)
        mass.append(np.dot(np.abs(c), np.abs(difference)) / pair.distance)
        size = np.dot(np.abs(c[moved]), np.abs(plus[moved]) + np.abs(minus[moved]))
        rounding.append(EPS * size / pair.distance / np.sqrt(max(moved.sum(), 1)))
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

    def take(h):
        if h not in cache:
            cache[h] = sample(h)
        return cache[h]

    if grow:
        step = _large_enough(take, cotangents, step)
    count = len(cotangents)
    best, best_error, best_mass = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    best_step, crossings, idle = step, 0, 0
    previous: list[np.ndarray] = []
    for level in range(LEVELS):
        h = step / RATIO**level
        pair = take(h)
        if isinstance(pair, str):
            crossings += pair == "crossed"
            previous = []
            continue
        value, rounding, mass = central(cotangents, pair)
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
        if len(row) > 2 and (np.all(best_error <= 1e-12 * np.abs(best)) or idle >= 3):
            break
    return Slope(best, best_error, best_mass, best_step, crossings)


def _large_enough(take, cotangents, step: float) -> float:
    """A first step at which rounding is small beside the difference: as large as leaves the slope the same."""
    pair = take(step)
    if isinstance(pair, str):
        return step
    value, rounding, _ = central(cotangents, pair)
    for _ in range(8):
        if np.all(rounding <= 1e-12 * np.abs(value)):
            return step
        larger = take(16 * step)
        if isinstance(larger, str):
            return step
        new, rounding, _ = central(cotangents, larger)
        if np.any(np.abs(new - value) > 0.1 * np.abs(value) + 10 * rounding * 16):
            return step
        step, value = 16 * step, new
    return step


def scale_of(entries: np.ndarray) -> float:
    """The typical size of an argument's entries; 1 when all are zero."""
    rms = float(np.sqrt(np.mean(np.square(entries)))) if entries.size else 0.0
    return rms if rms > 0 and np.isfinite(rms) else 1.0


def entry_sampler(operation, key: str, position: int, crosses) -> Callable[[float], Pair | str]:
    """``sample(h)`` for :func:`slope` along one entry. ``crosses(plus, minus)`` tells of a kink."""
    entries = operation.entries(key)

    def sample(h):
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
    return "outside" if below is None or distance == 0 else Pair(above, below, distance)
