"""What is measured of the forward alone, and the comparison of a gradient with it: the first two verdicts.

:func:`central_differences` and :func:`complex_steps` measure. Small arguments are measured entry by entry. Large ones are
measured along random directions (:mod:`c2f_np.gradcheck.directions`), and at a sample of entries: the largest of the
gradient, the smallest, zeros, and random ones.

Two rules decide (:func:`compare`). The *norm rule*: the error's norm relative to the gradient's norm. The *entry rule*: no
single entry may be wrong by a visible share of the terms it is a sum of, however small it is beside the largest; the norm
rule alone would let a small entry have the wrong sign.

Shapes: n entries of the argument, K differentiated outputs, P measured entries, D directions; G (K, n) is one gradient
per output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from .directions import balanced_direction, even_direction, graded_direction, sample_positions
from .kinks import KINKED_STEP, Kinks
from .operation import EPS, Leaf
from .slopes import COMPLEX_STEP, FIRST_STEP, NotApplicable, Slope, complex_slope, entry_sampler, line_sampler, slope, stack
from .values import norm, to_vector


class EntryRule(NamedTuple):
    """An entry may be off by a share of its mass, or by a share of the gradient's norm, or by so many times its error."""

    share: float
    floor: float
    margin: float


CENTRAL_RULE, COMPLEX_RULE = EntryRule(1e-3, 1e-12, 100.0), EntryRule(1e-6, 1e-14, 20.0)


@dataclass
class Evidence:
    """Derivatives of the forward: ``entries`` (P, K) one by one, and ``lines`` (D, K) along directions."""

    positions: np.ndarray  # (P,)
    entries: Slope
    directions: np.ndarray  # (D, n)
    lines: Slope
    balanced: np.ndarray  # (D,) which directions are balanced: the entry rule looks at them, the norm rule does not
    rule: EntryRule
    left_out: int = 0
    examined: int = 0

    def resolves(self, worst: Comparison) -> bool:
        """Whether the estimated error, at the place of a disagreement found elsewhere, is far below it."""
        if worst.position is None:
            noise = self.lines.error[:, worst.output]
        else:
            noise = self.entries.error[self.positions == worst.position, worst.output]
        return bool(noise.size and 100 * noise.max() <= abs(worst.ours - worst.numerical))

    def as_if(self, gradients: np.ndarray) -> Evidence:
        """Evidence that would have been measured, had the gradients G (K, n) been the truth."""
        entries = replace(self.entries, value=gradients[:, self.positions].T)
        lines = replace(self.lines, value=self.directions @ gradients.T)
        return replace(self, entries=entries, lines=lines, rule=self.rule._replace(share=np.inf))


# ---- measuring ---------------------------------------------------------------------------------------------------------
def central_differences(leaf: Leaf, cotangents, kinks: Kinks, settings, rng, gradients=None, shrink: float = 1.0) -> Evidence:
    """Central differences of ``sum(cotangent_k * output_k)`` by one argument.

    The gradients G (K, n) only choose which entries of a large argument are looked at. First steps are ``shrink`` times
    smaller than usual; those that are smaller are not enlarged.
    """
    operation, crosses = leaf.operation, kinks.crosses
    first, grow = kinks.first_step(FIRST_STEP) / shrink, not kinks and shrink == 1
    positions, steps = _positions(leaf, kinks, settings, rng, gradients), first * kinks.scales
    slopes = [slope(entry_sampler(leaf, i, crosses), cotangents, steps[i], grow=grow) for i in positions]
    for row, i in enumerate(positions):
        # Beside a large sum, steps of the size of a small entry may move nothing, where a step of the usual size would.
        if gradients is not None and gradients[:, i].any() and not slopes[row].mass.any() and steps[i] < first * leaf.scale:
            usual = slope(entry_sampler(leaf, i, crosses), cotangents, first * leaf.scale, grow=grow)
            slopes[row] = usual if np.isfinite(usual.error).all() and not usual.crossings else slopes[row]
        if operation.grain > EPS and not slopes[row].mass.any():  # in float32 what does not move may only be too small to be seen
            unseen = [np.dot(np.abs(c), np.abs(f)) for c, f in zip(cotangents, operation.here, strict=True)]
            slopes[row] = replace(slopes[row], error=operation.grain * np.array(unseen) / (first * leaf.scale))
    scale = max((norm(s.value) for s in slopes), default=0.0)

    def usable(s) -> bool:  # not if a kink leaves only hopelessly small steps
        fine = not s.crossings or np.all(s.error <= 0.3 * settings.central * scale)
        return bool(np.isfinite(s.error).all() and fine)

    hidden = 0
    for row, i in enumerate(positions):
        if kinks and operation.differentiable and not usable(slopes[row]):
            masked = _without_crossing_elements(leaf, i, cotangents, kinks)
            if masked is not None:
                slopes[row], crossing = masked
                hidden = max(hidden, crossing)
    keep = np.array([usable(s) for s in slopes], dtype=bool)
    left_out, examined = int((~keep).sum()), len(slopes)
    if hidden and not left_out:
        left_out, examined = hidden, max(to_vector(operation.templates[k]).size for k in operation.outputs)

    directions, lines = [], []
    for d in range(settings.directions_of(leaf.size)):
        v, step = kinks.clean((graded_direction if d % 3 == 2 else even_direction)(rng, leaf), first)
        examined += leaf.size
        left_out += kinks.removed(v)
        if not v.any():
            continue
        found = slope(line_sampler(leaf, v, crosses), cotangents, step, grow=grow)
        if np.isfinite(found.error).all():
            directions.append(v)
            lines.append(found)
        else:
            left_out += int(np.count_nonzero(v))
    one_by_one = stack([s for s, good in zip(slopes, keep, strict=True) if good], len(cotangents))
    directions, balanced = np.array(directions).reshape(-1, leaf.size), np.zeros(len(lines), bool)
    together = stack(lines, len(cotangents))
    return Evidence(positions[keep], one_by_one, directions, together, balanced, CENTRAL_RULE, left_out, examined)


def complex_steps(leaf: Leaf, cotangents, kinks: Kinks, settings, rng, gradients=None, differences=None) -> Evidence:
    """Complex-step derivatives of ``sum(cotangent_k * output_k)`` by one argument; G (K, n) chooses entries and directions.

    ``differences``, cotangents and the central differences with them, spare others that tell whether the forward is analytic.
    :class:`NotApplicable` is raised when it is not, or does not accept complex numbers, or drops their imaginary part.
    """
    positions, count, h = _positions(leaf, kinks, settings, rng, gradients), len(cotangents), COMPLEX_STEP * leaf.scale
    slopes = [complex_slope(leaf, (np.arange(leaf.size) == i) * 1.0, h, cotangents) for i in positions]
    kinds = (even_direction, graded_direction, partial(balanced_direction, gradients=gradients))
    directions = [kinds[d % 3](rng, leaf) for d in range(settings.directions_of(leaf.size))]
    directions = np.where(kinks.held, 0.0, np.array(directions).reshape(-1, leaf.size))
    lines = [complex_slope(leaf, v, COMPLEX_STEP, cotangents) for v in directions]
    if differences is None or not _agree(leaf, *differences, rng):
        _confirm_analytic(leaf, cotangents, kinks, rng)
    balanced = np.arange(len(lines)) % 3 == 2
    return Evidence(positions, stack(slopes, count), directions, stack(lines, count), balanced, COMPLEX_RULE)


def _positions(leaf, kinks, settings, rng, gradients) -> np.ndarray:
    """The entries that are measured one by one: all of a small argument, a sample of a large one."""
    small = leaf.size <= settings.entry_limit
    positions = np.arange(leaf.size) if small else sample_positions(rng, gradients, settings.samples)
    return positions[~kinks.held[positions]]


def _without_crossing_elements(leaf: Leaf, i: int, cotangents, kinks: Kinks):
    """The slope along one entry that moves many elements (a threshold, a bias), some of which lie next to their kink.

    Where the active set has the shape of an output, the elements that cross get a zero cotangent: they are left out of
    the difference and of the gradient alike. Returns the slope and the number of elements left out, or None where that
    is not possible.
    """
    operation, step = leaf.operation, np.zeros(leaf.size)
    step[i] = 2.0**-14 * kinks.scales[i]
    ends = [kinks.changed(leaf.entries + sign * step) for sign in (1, -1)]
    parts = [a | b for a, b in zip(*ends, strict=True)]
    masked, crossing = [], 0
    for k, c in zip(operation.outputs, cotangents, strict=True):
        shape = np.shape(operation.templates[k])
        fitting = [part.ravel() for part in parts if part.shape == shape and part.ndim]
        here = np.any(fitting, axis=0) if fitting else np.zeros(c.shape, bool)
        crossing = max(crossing, int(here.sum()))
        if here.mean() > 0.01:
            return None
        masked.append(np.where(here, 0.0, c))
    if not crossing:
        return None

    def crosses(*points):
        return any(np.any(a & ~b) for point in points for a, b in zip(kinks.changed(point), parts, strict=True))

    found = slope(entry_sampler(leaf, i, crosses), masked, step[i], grow=False)
    # What the left-out elements contribute is not checked: it is taken from the gradient itself.
    gone = leaf.gradients(cotangents)[:, i] - leaf.gradients(masked)[:, i]
    return replace(found, value=found.value + gone), crossing


def _agree(leaf: Leaf, cotangents, evidence: Evidence, rng) -> bool:
    """Whether the complex step agrees with central differences of all entries, or along all lines, that were measured before.

    A direction through entries measured one by one is as good as a line.
    """
    if evidence.left_out:
        return False
    directions, value, error, mass = evidence.directions, evidence.lines.value, evidence.lines.error, evidence.lines.mass
    if not directions.size:
        chosen = np.stack([make(rng, leaf)[evidence.positions] for make in (even_direction, graded_direction)])
        directions = np.zeros((2, leaf.size))
        directions[:, evidence.positions] = chosen
        value = chosen @ evidence.entries.value
        error, mass = (np.abs(chosen) @ part for part in (evidence.entries.error, evidence.entries.mass))
    imaginary = np.array([complex_slope(leaf, v, COMPLEX_STEP, cotangents).value for v in directions])
    share = max(1e-6, 1e3 * leaf.operation.eps)
    return bool(np.all(error <= 1e-2 * share * mass) and np.all(np.abs(value - imaginary) <= share * mass))


def _confirm_analytic(leaf, cotangents, kinks, rng) -> None:
    """Compare with central differences along lines; raise NotApplicable when the forward is not analytic."""
    key, checked = leaf.key, False
    for make in (even_direction, graded_direction):
        v, step = kinks.clean(make(rng, leaf), KINKED_STEP if kinks else FIRST_STEP)
        if not v.any():
            continue
        imaginary = complex_slope(leaf, v, COMPLEX_STEP, cotangents).value
        off = np.inf
        for first, grow in ((step, not kinks), (step / 4096, False)):  # smaller steps have the last word, if they see as sharply
            real = slope(line_sampler(leaf, v, kinks.crosses), cotangents, first, grow=grow)
            usable = np.isfinite(real.error)
            error = 100 * np.where(usable, real.error, 0)
            allowed = max(1e-6, 1e3 * leaf.operation.eps) * np.maximum(real.mass, np.abs(imaginary)) + error
            wrong = usable & ((np.abs(real.value - imaginary) > allowed) | (error > off))
            if not wrong.any():
                break
            off = np.where(wrong, np.abs(real.value - imaginary), np.inf)
        checked |= bool(usable.any())
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            why = (
                f"the result stays real, so the imaginary part of {key} is lost on the way"
                if imaginary[k] == 0
                else f"the forward is not analytic in {key} (abs, conj, real, norm, or comparisons in it?)"
            )
            raise NotApplicable(f"{why}: along a line it gives {imaginary[k]:.6g}, a central difference {real.value[k]:.6g}")
    if not checked:
        raise NotApplicable(f"no central difference of {key} could be taken to confirm that the forward is analytic")


# ---- comparing ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Comparison:
    """A gradient beside the evidence: the worst error relative to the norm, and where it is."""

    error: float
    tolerance: float
    output: int = 0
    ours: float = 0.0
    numerical: float = 0.0
    position: int | None = None  # the worst measured entry, as a position in the flattened argument
    small_entry: bool = False  # only the entry rule objects
    zero: bool = False  # every output's gradient is zero, in the backward and in the forward

    @property
    def accepted(self) -> bool:
        return self.error <= self.tolerance and not self.small_entry


def compare(evidence: Evidence, gradients: np.ndarray, tolerance: float, widest: float = 1e-5) -> Comparison:
    """Compare G (K, n) with the evidence; each output is judged by itself, the worst counts.

    The tolerance is widened to three times the measured error of the evidence where rounding allows no better, up to
    ``widest``.
    """

    def widened(noise: float, size: float) -> float:
        return float(min(max(tolerance, 3 * noise / size), max(widest, tolerance))) if size > 0 else tolerance

    found = []
    for k, g in enumerate(gradients):
        if evidence.positions.size:
            found.append(_compare_entries(evidence, k, g, widened))
        if evidence.directions.size:
            found.append(_compare_lines(evidence, k, g, widened))
    found = [c for c in found if c is not None]
    if not found:
        return Comparison(0.0, tolerance, zero=len(gradients) > 0)
    return max(found, key=lambda c: (not c.accepted, c.error / c.tolerance))


def _compare_entries(evidence: Evidence, k: int, g, widened) -> Comparison | None:
    """The comparison at the measured entries for one output, or None where both sides are zero."""
    ours, numbers, noise = g[evidence.positions], evidence.entries.value[:, k], evidence.entries.error[:, k]
    size, spread, rule = max(norm(ours), norm(numbers)), norm(noise), evidence.rule
    if size <= 30 * spread:
        return None
    off = np.abs(ours - numbers)
    allowed = np.maximum(np.maximum(rule.share * evidence.entries.mass[:, k], rule.floor * size), rule.margin * noise)
    suspicious, error, tolerance = bool(np.any(off > allowed)), norm(off) / size, widened(spread, size)
    worst = int(np.argmax(off if error > tolerance or not suspicious else off / np.maximum(allowed, 1e-300)))
    position, small_entry = int(evidence.positions[worst]), suspicious and error <= tolerance
    return Comparison(error, tolerance, k, float(ours[worst]), float(numbers[worst]), position, small_entry)


def _compare_lines(evidence: Evidence, k: int, g, widened) -> Comparison | None:
    """The comparison along the directions for one output, or None where both sides are zero."""
    ours, numbers, noise = evidence.directions @ g, evidence.lines.value[:, k], evidence.lines.error[:, k]
    typical = np.array([norm(v * g) for v in evidence.directions])
    if np.all(np.maximum(np.maximum(np.abs(ours), typical), np.abs(numbers)) <= 30 * noise):
        return None
    size = np.maximum(np.maximum(typical, np.abs(numbers)), 1e-300)
    off, balanced = np.abs(ours - numbers), evidence.balanced
    small_entry = bool(np.any(off[balanced] > np.maximum(1e-7 * size, 20 * noise)[balanced]))
    allowed = np.array([widened(e, s) for e, s in zip(noise, size, strict=True)])
    errors = np.where(balanced, -1.0, off / size)
    worst = int(np.argmax(errors / allowed))
    error, tolerance = float(errors[worst]), float(allowed[worst])
    small_entry = small_entry and error <= tolerance
    return Comparison(error, tolerance, k, float(ours[worst]), float(numbers[worst]), None, small_entry)
