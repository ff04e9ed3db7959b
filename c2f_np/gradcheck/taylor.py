"""The third verdict: how fast the Taylor remainder falls.

With the right gradient g, ``R(h) = |f(x + h v) - f(x) - h <g, v>|`` falls as ``h**2``; with a wrong one as ``h``, since
a share of the linear term is left. The verdict is the slope of log R against log h over the smallest steps that still
stand clear of rounding. Where rounding begins is read off the data: at the smallest steps nothing else is left once a
first-order term, which would fall exactly as the step, is taken off; and it is never less than what rounding the outputs
amounts to. A function that is linear (or nearly) leaves no remainder but rounding; it passes as *linear*, with an infinite
rate.

Shapes: S steps, D directions, K outputs; ``change`` (S, D, K).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .check_settings import CheckSettings
from .directions import even_direction, graded_direction
from .kinks import Kinks
from .operation import Leaf
from .slopes import RATIO
from .values import norm

TOP = 2.0**-4
STEPS = 15  # each a quarter of the one before
LINEAR = 8  # along a line on which the changes are proportional to so many steps no smaller ones are taken
TAIL = 4
CLEAR = 20.0  # a remainder this many times above the floor is not rounding
WINDOW = 4
NEGLIGIBLE = 1e-8  # of the first-order term: what a linear function's remainder may be, besides rounding


@dataclass
class Ladder:
    """Changes of the outputs along D directions at S steps. ``rounding`` (S, D, K) is what rounding may amount to."""

    steps: np.ndarray
    change: np.ndarray
    rounding: np.ndarray
    directions: np.ndarray
    left_out: int
    examined: int


@dataclass(frozen=True)
class Rate:
    """The worst output's rate (infinite: linear), whether it is accepted, and the reason in words."""

    rate: float
    accepted: bool
    reason: str
    zero: bool = False


ZERO = Rate(np.inf, True, "the gradient is zero here", zero=True)


def measure(leaf: Leaf, cotangents, kinks: Kinks, settings: CheckSettings, rng: np.random.Generator) -> Ladder:
    """Evaluate the forward at x + h v for a ladder of falling steps along a few directions."""
    top, left_out, directions = kinks.first_step(TOP), 0, []
    wanted = max(1, min(settings.directions, 3))
    for d in range(wanted):
        v, step = kinks.clean((graded_direction if d % 3 == 2 else even_direction)(rng, leaf), top)
        left_out += kinks.removed(v)
        top = min(top, step)
        if v.any():
            directions.append(v)
    lines = [_Line(leaf, v) for v in directions]
    if not kinks and lines:
        top = _visible(lines[0], cotangents, top)
    steps = top * RATIO ** -np.arange(STEPS)
    changes = [line.changes(cotangents, steps[:LINEAR]) for line in lines]
    if not all(_is_linear(*change) for change in changes):
        changes = []
        for d, line in enumerate(lines):
            changes.append(line.changes(cotangents, steps))
            if np.isfinite(changes[d][0]).all(axis=1).sum() < STEPS // 2 and not kinks:  # near the edge of the domain
                directions[d] = np.where(directions[d] == 0, 0.0, graded_direction(rng, leaf))
                changes[d] = _Line(leaf, directions[d]).changes(cotangents, steps)
    steps = steps[: len(changes[0][0]) if changes else 0]
    change, rounding = np.array(changes).reshape(len(lines), 2, steps.size, len(cotangents)).transpose(1, 2, 0, 3)
    return Ladder(steps, change, rounding, np.array(directions).reshape(-1, leaf.size), left_out, wanted * leaf.size)


class _Line:
    """The outputs along one direction v (n,), each computed once."""

    def __init__(self, leaf: Leaf, v: np.ndarray):
        self.operation, self.there = leaf.operation, cache(lambda h: leaf.values(leaf.entries + h * v))

    def changes(self, cotangents, steps) -> tuple[np.ndarray, np.ndarray]:
        """The changes of the outputs from the point to x + h v, and their rounding, each (S, K); NaN where there is none."""
        here = self.operation.here
        change, rounding = np.full((2, len(steps), len(here)), np.nan)
        moved = [np.zeros(b.shape, bool) for b in here]  # what has moved at a larger step is rounded, even if it stands still
        for row, h in enumerate(steps):
            there = self.there(float(h))
            if there is None:
                continue
            for k, (c, a, b) in enumerate(zip(cotangents, there, here, strict=True)):
                difference = a - b
                change[row, k] = np.dot(c, difference)
                moved[k] |= difference != 0
                rounding[row, k] = self.operation.grain * np.dot(np.abs(c), (np.abs(a) + np.abs(b)) * moved[k])
        return change, rounding


def _is_linear(change: np.ndarray, rounding: np.ndarray) -> bool:
    """Whether changes (S, K) fall exactly as their steps, to rounding: then smaller steps have nothing to add."""
    return bool(np.all(np.abs(change[:-1] - RATIO * change[1:]) <= rounding[:-1] + RATIO * rounding[1:]))


def _visible(line: _Line, cotangents, top: float) -> float:
    """A first step at which the second-order term stands clear of rounding, if there is one."""
    for _ in range(6):
        change, rounding = line.changes(cotangents, (top, -top))
        second, first = np.abs(change.sum(0)), np.abs(change).max(0)
        noise = np.nan_to_num(rounding).max(0)
        if not np.all(np.isfinite(change)) or np.any(second > 1e4 * noise) or np.all(first == 0):
            return top
        larger, _ = line.changes(cotangents, (8 * top,))
        if not np.all(np.isfinite(larger)) or np.any(np.abs(larger[0] - 8 * change[0]) > 0.8 * np.abs(change[0]) + 100 * noise):
            return top
        top *= 8
    return top


def judge(ladder: Ladder, gradients: np.ndarray, tolerance: float, widest: float = 1e-5) -> Rate:
    """The rate for one gradient per output, G (K, n); the worst output counts.

    Where rounding is larger than :data:`NEGLIGIBLE`, so may a linear function's remainder be, up to ``widest``.
    """
    if ladder.directions.size == 0:
        return Rate(np.nan, False, "no direction is left: every one crosses a kink")
    rates = [_judge_one(ladder, k, g, tolerance, widest) for k, g in enumerate(gradients)]
    return min((rate for rate in rates if not rate.zero), key=lambda rate: (rate.accepted, rate.rate), default=ZERO)


def _judge_one(ladder: Ladder, k: int, g: np.ndarray, tolerance: float, widest: float) -> Rate:
    change, rounding = ladder.change[:, :, k], ladder.rounding[:, :, k]
    inside = np.all(np.isfinite(change), axis=1)
    unit = np.max(np.abs(change[inside]), initial=0.0) or np.max(np.abs(g), initial=0.0) or 1.0  # squares stay finite
    h, change, rounding, g = ladder.steps[inside], change[inside] / unit, rounding[inside] / unit, g / unit
    if h.size < WINDOW:
        return Rate(np.nan, False, "the forward is finite at too few steps")
    typical = norm([norm(v * g) for v in ladder.directions])
    signed = change - h[:, None] * (ladder.directions @ g)
    remainder = np.linalg.norm(signed, axis=1)  # all directions together: no accidental dips
    level, size = np.linalg.norm(rounding, axis=1), np.linalg.norm(change, axis=1)
    if np.all(size <= 4 * level) and np.all(h * typical <= 4 * level):
        return ZERO
    typical = typical or float(np.max(size / h))
    share = np.maximum(remainder, level) / (h * typical)  # a remainder below rounding says nothing
    above = np.flatnonzero(remainder > 8 * level)
    start = above[-1] + 1 if above.size else 0
    # `level` bounds the rounding of the outputs; inside of the forward there may be some more of it. At one or two of the largest
    # steps the second-order term may hide it, where kinks forbid steps at which that falls for longer.
    seen = slice(start if start <= 2 else 0, None)
    negligible = min(max(NEGLIGIBLE, 8 * float(np.min(level[seen] / (h[seen] * typical)))), widest)
    if start <= STEPS // 3 and h.size - start >= STEPS // 2 and share.min() <= negligible:
        suffix = " for all but the largest steps" if start else ""
        return Rate(np.inf, True, f"linear: the remainder is at rounding level{suffix}")
    if remainder[0] <= 1e-11 * h[0] * typical:
        return Rate(np.inf, True, "linear: the remainder is at rounding level")
    # A first-order remainder falls exactly as the step; what does not cancel is rounding, for wrong gradients too.
    floor = float(np.linalg.norm(signed[-TAIL:-1] - RATIO * signed[-TAIL + 1 :], axis=1).max()) / 2
    if np.any(change[-TAIL:] == 0):  # what stands still is below rounding
        floor = max(floor, 0.1 * float(level.max()))
    # Where the forward rounds nothing at all, the floor is 0, and what falls as the step is the rounding of the gradient.
    clear = remainder > np.maximum(CLEAR * floor, level)
    last = int(np.argmin(clear)) if not clear.all() else clear.size  # the run of clear steps, from the largest down
    if last < WINDOW - 2:
        if share.min() <= negligible:
            return Rate(np.inf, True, "linear: the remainder is at rounding level but for the largest steps")
        share_left = f"at best {share.min():.1e} of the first-order term"
        return Rate(np.nan, False, f"no range of steps in which the remainder falls ({share_left})")
    window = slice(max(0, last - WINDOW), last)
    rate = float(np.polyfit(np.log(h[window]), np.log(np.maximum(remainder[window], 1e-300)), 1)[0])
    good = rate > tolerance
    if not good and np.sort(share)[2] <= negligible:
        return Rate(np.inf, True, "the remainder is at rounding level, but for steps beyond a kink or a fast change")
    reason = f"rate {rate:.3f} over steps {h[window][0]:.1e} to {h[window][-1]:.1e}" + ("" if good else f", needed > {tolerance}")
    return Rate(rate, good, reason)
