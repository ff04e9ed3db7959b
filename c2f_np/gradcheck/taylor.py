"""The third verdict: how fast the Taylor remainder falls.

With the right gradient g, ``R(h) = |f(x + h v) - f(x) - h <g, v>|`` falls as ``h**2``; with a wrong one as ``h``, since
a share of the linear term is left. The verdict is the slope of log R against log h over the smallest steps that still
stand clear of rounding. Where rounding begins is read off the data: at the smallest steps nothing else is left once a
first-order term, which would fall exactly as the step, is taken off; and it is never less than what rounding the outputs
amounts to. A function that is linear (or nearly) leaves
no remainder but rounding; it passes as *linear*, with an infinite rate.

Shapes: S steps, D directions, K outputs; ``change`` (S, D, K), ``first`` (D, K).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from c2f_np.gradcheck.central import KINKED_STEP
from c2f_np.gradcheck.differences import RATIO, scale_of
from c2f_np.gradcheck.evidence import even_direction, graded_direction
from c2f_np.gradcheck.kinks import Kinks
from c2f_np.gradcheck.operation import Operation
from c2f_np.gradcheck.settings import Settings
from c2f_np.gradcheck.values import norm

TOP = 2.0**-4
STEPS = 15  # each a quarter of the one before
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
    left_out: int = 0
    examined: int = 0


@dataclass(frozen=True)
class Rate:
    """The worst output's rate (infinite: linear), whether it is accepted, and the reason in words."""

    rate: float
    accepted: bool
    reason: str
    zero: bool = False


def measure(operation: Operation, key: str, cotangents, kinks: Kinks, settings: Settings, rng: np.random.Generator) -> Ladder:
    """Evaluate the forward at x + h v for a ladder of halving steps along a few directions."""
    entries = operation.entries(key)
    here = operation.here()
    directions, changes, roundings, left_out = [], [], [], 0
    top = KINKED_STEP if kinks.within(key, TOP * np.maximum(np.abs(entries), scale_of(entries))) else TOP
    wanted = max(1, min(settings.directions, 3))
    cleaned = []
    for d in range(wanted):
        v = (graded_direction if d % 3 == 2 else even_direction)(rng, entries)
        v, step = kinks.clean(key, v, top)
        left_out += int(np.count_nonzero((v == 0) & ~kinks.held.get(key, np.zeros(v.size, bool))))
        top = min(top, step)
        if v.any():
            cleaned.append(v)
    if not kinks and cleaned:
        top = _visible(operation, key, entries, here, cleaned[0], cotangents, top)
    for v in cleaned:
        steps = top * RATIO ** -np.arange(STEPS)
        change, rounding = _remainders(operation, key, entries, here, v, cotangents, steps)
        if np.isfinite(change).all(axis=1).sum() < STEPS // 2 and not kinks:  # near the edge of the domain
            v = np.where(v == 0, 0.0, graded_direction(rng, entries))
            change, rounding = _remainders(operation, key, entries, here, v, cotangents, steps)
        directions.append(v)
        changes.append(change)
        roundings.append(rounding)
    shape = (STEPS, len(cotangents))
    return Ladder(
        top * RATIO ** -np.arange(STEPS),
        np.stack(changes, 1) if changes else np.zeros((shape[0], 0, shape[1])),
        np.stack(roundings, 1) if roundings else np.zeros((shape[0], 0, shape[1])),
        np.array(directions).reshape(-1, entries.size),
        left_out,
        wanted * entries.size,
    )


def _remainders(operation, key, entries, here, v, cotangents, steps):
    change, rounding = np.full((steps.size, len(here)), np.nan), np.full((steps.size, len(here)), np.nan)
    moved = [np.zeros(b.shape, bool) for b in here]  # what has moved at a larger step is rounded, even if it stands still
    for row, h in enumerate(steps):
        there = operation.try_values(**{key: entries + h * v})
        if there is None:
            continue
        for k, (c, a, b) in enumerate(zip(cotangents, there, here, strict=True)):
            change[row, k] = np.dot(c, a - b)
            moved[k] |= a != b
            there_and_here = np.abs(a[moved[k]]) + np.abs(b[moved[k]])
            rounding[row, k] = operation.grain * np.dot(np.abs(c[moved[k]]), there_and_here)
    return change, rounding


def _visible(operation, key, entries, here, v, cotangents, top: float) -> float:
    """A first step at which the second-order term stands clear of rounding, if there is one."""
    for _ in range(6):
        steps = np.array([top, -top])
        change, rounding = _remainders(operation, key, entries, here, v, cotangents, steps)
        second, first = np.abs(change.sum(0)), np.abs(change).max(0)
        noise = np.nan_to_num(rounding).max(0)
        if not np.all(np.isfinite(change)) or np.any(second > 1e4 * noise) or np.all(first == 0):
            return top
        larger, _ = _remainders(operation, key, entries, here, v, cotangents, 8 * steps[:1])
        if not np.all(np.isfinite(larger)) or np.any(np.abs(larger[0] - 8 * change[0]) > 0.8 * np.abs(change[0]) + 100 * noise):
            return top
        top *= 8
    return top


def judge(ladder: Ladder, gradients: np.ndarray, tolerance: float, widest: float = 1e-5) -> Rate:
    """The rate for one gradient per output, G (K, n); the worst output counts.

    Where rounding is larger than :data:`NEGLIGIBLE`, so may a linear function's remainder be, up to ``widest``.
    """
    worst = Rate(np.inf, True, "the gradient is zero here", zero=True)
    if ladder.directions.size == 0:
        return Rate(np.nan, False, "no direction is left: every one crosses a kink")
    for k, g in enumerate(gradients):
        rate = _judge_one(ladder, k, g, tolerance, widest)
        if rate.zero:
            continue
        if worst.zero or (rate.accepted, rate.rate) < (worst.accepted, worst.rate):
            worst = rate
    return worst


def _judge_one(ladder: Ladder, k: int, g: np.ndarray, tolerance: float, widest: float) -> Rate:
    change, rounding = ladder.change[:, :, k], ladder.rounding[:, :, k]
    inside = np.all(np.isfinite(change), axis=1)
    unit = np.max(np.abs(change[inside]), initial=0.0) or np.max(np.abs(g), initial=0.0) or 1.0  # squares stay finite
    h, change, rounding, g = ladder.steps[inside], change[inside] / unit, rounding[inside] / unit, g / unit
    if h.size < WINDOW:
        return Rate(np.nan, False, "the forward is finite at too few steps")
    first = ladder.directions @ g
    typical = norm([norm(v * g) for v in ladder.directions])
    signed = change - h[:, None] * first
    remainder = np.linalg.norm(signed, axis=1)  # all directions together: no accidental dips
    level = np.linalg.norm(rounding, axis=1)
    if np.all(np.linalg.norm(change, axis=1) <= 4 * level) and np.all(h * typical <= 4 * level):
        return Rate(np.inf, True, "the gradient is zero here", zero=True)
    typical = max(typical, float(np.max(np.linalg.norm(change, axis=1) / h)) if typical == 0 else 0.0)
    share = np.maximum(remainder, level) / (h * typical)  # a remainder below rounding says nothing
    # `level` bounds the rounding of the outputs; inside of the forward there may be some more of it.
    negligible = min(max(NEGLIGIBLE, 8 * float(np.min(level / (h * typical)))), widest)
    above = np.flatnonzero(remainder > 8 * level)
    start = above[-1] + 1 if above.size else 0
    if start <= STEPS // 3 and h.size - start >= STEPS // 2 and share.min() <= negligible:
        suffix = " for all but the largest steps" if start else ""
        return Rate(np.inf, True, f"linear: the remainder is at rounding level{suffix}")
    if remainder[0] <= 1e-11 * h[0] * typical:
        return Rate(np.inf, True, "linear: the remainder is at rounding level")
    # A first-order remainder falls exactly as the step; what does not cancel is rounding, for wrong gradients too.
    floor = float(np.linalg.norm(signed[-TAIL:-1] - RATIO * signed[-TAIL + 1 :], axis=1).max()) / 2
    if np.any(change[-TAIL:] == 0):  # what stands still is below rounding
        floor = max(floor, 0.1 * float(level.max()))
    clear = remainder > CLEAR * floor
    last = int(np.argmin(clear)) if not clear.all() else clear.size  # the run of clear steps, from the largest down
    if last < WINDOW - 2:
        if share.min() <= negligible:
            return Rate(np.inf, True, "linear: the remainder is at rounding level but for the largest steps")
        return Rate(
            np.nan,
            False,
            f"no range of steps in which the remainder falls (at best {share.min():.1e} of the first-order term)",
        )
    window = slice(max(0, last - WINDOW), last)
    rate = float(np.polyfit(np.log(h[window]), np.log(np.maximum(remainder[window], 1e-300)), 1)[0])
    good = rate > tolerance
    if not good and np.sort(share)[2] <= negligible:
        return Rate(np.inf, True, "the remainder is at rounding level, but for steps beyond a kink or a fast change")
    reason = f"rate {rate:.3f} over steps {h[window][0]:.1e} to {h[window][-1]:.1e}" + ("" if good else f", needed > {tolerance}")
    return Rate(rate, good, reason)
