"""What was measured of the forward alone, and the comparison of a gradient with it.

Small arguments are measured entry by entry. Large ones are measured along random directions, and at a sample of
entries: the largest of the gradient, the smallest, zeros, and random ones. Three kinds of direction take turns:

- *even*: every entry contributes about equally;
- *graded*: entries vary in proportion to their own size, so that small entries are not swamped by large ones;
- *balanced* (complex step only, which has no rounding to fear): inversely to the gradient, so that a small entry of the
gradient weighs as
  much as a large one.

Two rules decide. The *norm rule*: the error's norm relative to the gradient's norm. The *entry rule*: no single entry
may be wrong by a visible share of the terms it is a sum of, however small it is beside the largest; the norm rule alone
would let a small entry have the wrong sign.

Shapes: n entries of the argument, K differentiated outputs, P measured entries, D directions; G (K, n) is one gradient
per output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from c2f_np.gradcheck.differences import scale_of, steps_of
from c2f_np.gradcheck.operation import floored
from c2f_np.gradcheck.values import norm


@dataclass
class Evidence:
    """Derivatives of the forward, entry by entry (P) and along directions (D), for each of K outputs.

    ``value``, ``error``, ``mass`` (P, K) and ``along``, ``along_error`` (D, K) as in
    :class:`c2f_np.gradcheck.differences.Slope`.
    """

    positions: np.ndarray
    value: np.ndarray
    error: np.ndarray
    mass: np.ndarray
    step: np.ndarray
    directions: np.ndarray
    along: np.ndarray
    along_error: np.ndarray
    along_step: np.ndarray
    entry_share: float  # an entry may be off by this share of its mass ...
    entry_floor: float  # ... or by this share of the gradient's norm ...
    entry_margin: float  # ... or by this many times its estimated error
    left_out: int = 0
    examined: int = 0
    balanced: np.ndarray | None = None  # (D,) which directions are balanced: the entry rule looks at them, the norm rule does not

    def resolves(self, worst: Comparison) -> bool:
        """Whether the estimated error, at the place of a disagreement found elsewhere, is far below it."""
        if worst.position is None:
            noise = self.along_error[:, worst.output]
        else:
            noise = self.error[self.positions == worst.position, worst.output]
        return bool(noise.size and 100 * noise.max() <= abs(worst.ours - worst.numerical))


@dataclass(frozen=True)
class Comparison:
    """A gradient beside the evidence: the worst error relative to the norm, and where it is."""

    error: float
    tolerance: float
    zero: bool = False  # every output's gradient is zero, in the backward and in the forward
    output: int = 0
    position: int | None = None  # the worst measured entry, as a position in the flattened argument
    ours: float = 0.0
    numerical: float = 0.0
    step: float | None = None
    small_entry: bool = False  # only the entry rule objects

    @property
    def accepted(self) -> bool:
        return self.error <= self.tolerance and not self.small_entry


def compare(evidence: Evidence, gradients: np.ndarray, tolerance: float, widest: float = 1e-5) -> Comparison:
    """Compare G (K, n) with the evidence; each output is judged by itself, the worst counts.

    The tolerance is widened to three times the measured error of the evidence where rounding allows no better, up to
    ``widest``.
    """
    worst: Comparison | None = None
    zeros = 0
    for k, g in enumerate(gradients):
        candidates = []
        ours, numbers, noise = g[evidence.positions], evidence.value[:, k], evidence.error[:, k]
        if evidence.positions.size:
            candidates.append(_entries(evidence, k, ours, numbers, noise, tolerance, widest))
        if evidence.directions.size:
            candidates.append(_directions(evidence, k, g, tolerance, widest))
        if all(c.zero for c in candidates):
            zeros += 1
            continue
        for c in candidates:
            if not c.zero and (worst is None or _badness(c) > _badness(worst)):
                worst = c
    if worst is None:
        return Comparison(0.0, tolerance, zero=zeros > 0)
    return worst


def _badness(c: Comparison) -> tuple:
    return (not c.accepted, c.error / c.tolerance)


def _widened(tolerance: float, widest: float, noise: float, size: float) -> float:
    return float(min(max(tolerance, 3 * noise / size), max(widest, tolerance))) if size > 0 else tolerance


def _entries(evidence, k, ours, numbers, noise, tolerance, widest) -> Comparison:
    size = max(norm(ours), norm(numbers))
    spread = norm(noise)
    if norm(ours) <= 30 * spread and norm(numbers) <= 30 * spread:
        return Comparison(0.0, tolerance, zero=True)
    off = np.abs(ours - numbers)
    allowed = np.maximum(evidence.entry_share * evidence.mass[:, k], evidence.entry_floor * size)
    allowed = np.maximum(allowed, evidence.entry_margin * noise)
    suspicious = off > allowed
    error, tolerance = norm(off) / size, _widened(tolerance, widest, spread, size)
    worst = (
        int(np.argmax(off)) if error > tolerance or not suspicious.any() else int(np.argmax(off / np.maximum(allowed, 1e-300)))
    )
    return Comparison(
        error,
        tolerance,
        output=k,
        position=int(evidence.positions[worst]),
        ours=float(ours[worst]),
        numerical=float(numbers[worst]),
        step=float(evidence.step[worst]),
        small_entry=bool(suspicious.any() and error <= tolerance),
    )


def _directions(evidence, k, g, tolerance, widest) -> Comparison:
    ours, numbers, noise = evidence.directions @ g, evidence.along[:, k], evidence.along_error[:, k]
    typical = np.array([norm(v * g) for v in evidence.directions])
    if np.all(np.maximum(np.abs(ours), typical) <= 30 * noise) and np.all(np.abs(numbers) <= 30 * noise):
        return Comparison(0.0, tolerance, zero=True)
    size = np.maximum(np.maximum(typical, np.abs(numbers)), 1e-300)
    off = np.abs(ours - numbers)
    balanced = np.zeros(off.shape, bool) if evidence.balanced is None else evidence.balanced
    small_entry = bool(np.any(off[balanced] > np.maximum(1e-7 * size, 20 * noise)[balanced]))
    allowed = np.array([_widened(tolerance, widest, e, s) for e, s in zip(noise, size, strict=True)])
    errors = np.where(balanced, -1.0, off / size)
    worst = int(np.argmax(errors / allowed))
    return Comparison(
        float(errors[worst]),
        float(allowed[worst]),
        output=k,
        ours=float(ours[worst]),
        numerical=float(numbers[worst]),
        step=float(evidence.along_step[worst]),
        small_entry=small_entry and errors[worst] <= allowed[worst],
    )


def sample_positions(rng: np.random.Generator, gradients: np.ndarray, count: int) -> np.ndarray:
    """A sample of entries of a large argument: largest, smallest nonzero, zero, and random ones, each a quarter."""
    size = np.max(np.abs(gradients), axis=0)
    order = np.argsort(size, kind="stable")
    nonzero = order[np.count_nonzero(size == 0) :]
    zero = order[: np.count_nonzero(size == 0)]
    part = max(count // 4, 1)
    chosen = [nonzero[-part:], nonzero[:part], rng.permutation(zero)[:part], rng.integers(0, size.size, part)]
    return np.unique(np.concatenate(chosen))


def even_direction(rng: np.random.Generator, entries: np.ndarray) -> np.ndarray:
    """Entries of the same order of magnitude, as large as the argument's typical entry; none moves far beyond itself."""
    own = np.where(np.isfinite(entries) & (entries != 0), 100 * np.abs(entries), np.inf)
    return floored(rng, entries.size) * np.minimum(own, scale_of(entries))


def graded_direction(rng: np.random.Generator, entries: np.ndarray) -> np.ndarray:
    """Each entry in proportion to its own steps; those far below the typical size as if they were 1e-6 of it."""
    return floored(rng, entries.size) * np.maximum(steps_of(entries), 1e-6 * scale_of(entries))


def balanced_direction(rng: np.random.Generator, entries: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Each entry in inverse proportion to the gradient there, over at most eight decades."""
    size = np.max(np.abs(gradients), axis=0)
    top = size.max(initial=0.0)
    if top == 0:
        return even_direction(rng, entries)
    weight = 1 / np.maximum(size / top, 1e-8)
    return floored(rng, entries.size) * scale_of(entries) * weight / weight.max()
