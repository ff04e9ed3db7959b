"""The second verdict: the gradient against the complex step, exact to rounding.

For an analytic forward ``Im F(x + i h v) / h`` is the derivative along v, without a difference and hence without
cancellation; h is 2**-100 of the argument's scale. What rounding is left comes
from terms that cancel in the sum over the outputs, and is estimated from their absolute sum. The forward must accept
complex numbers in that argument, and be analytic in it: ``abs``, ``conj``,
``numpy.linalg.norm`` are not. Whether it is, is measured: one central difference along a line must agree with the
complex step. If not, the verdict is *not applicable*, with the reason, and never *passed*.
"""

from __future__ import annotations

import numpy as np

from c2f_np.gradcheck.central import KINKED_STEP
from c2f_np.gradcheck.differences import FIRST_STEP, line_sampler, scale_of, slope
from c2f_np.gradcheck.evidence import (
    Evidence,
    balanced_direction,
    even_direction,
    graded_direction,
    sample_positions,
)
from c2f_np.gradcheck.kinks import Kinks
from c2f_np.gradcheck.operation import Operation, Trouble
from c2f_np.gradcheck.settings import Settings

STEP = 2.0**-100


class NotApplicable(Exception):
    """The complex step says nothing about this argument; the message says why."""


def measure(
    operation: Operation,
    key: str,
    cotangents,
    kinks: Kinks,
    settings: Settings,
    rng: np.random.Generator,
    gradients=None,
) -> Evidence:
    """Complex-step derivatives of ``sum(cotangent_k * output_k)`` by one argument.

    Raises
    ------
    NotApplicable
        When the forward does not accept complex numbers in this argument, drops their imaginary part, or is not
        analytic.
    """
    entries = operation.entries(key)
    n, count = entries.size, len(cotangents)
    small = n <= settings.entry_limit
    if small:
        positions = np.arange(n)
    elif gradients is None:
        positions = np.unique(rng.integers(0, n, settings.samples))
    else:
        positions = sample_positions(rng, gradients, settings.samples)
    held = kinks.held.get(key, np.zeros(n, bool))
    positions = positions[~held[positions]]
    h = STEP * scale_of(entries)
    value, mass = np.zeros((positions.size, count)), np.zeros((positions.size, count))
    for row, i in enumerate(positions):
        unit = np.zeros(n)
        unit[i] = 1.0
        value[row], mass[row] = along_line(operation, key, entries, unit, h, cotangents)

    chosen, balanced = [], []
    for d in range(0 if small else settings.directions):
        balanced.append(d % 3 == 2 and gradients is not None)
        if balanced[-1]:
            chosen.append(balanced_direction(rng, entries, gradients))
        else:
            chosen.append((graded_direction if d % 3 == 1 else even_direction)(rng, entries))
    directions = np.where(held, 0.0, np.array(chosen).reshape(-1, n))
    along, along_mass = np.zeros((len(directions), count)), np.zeros((len(directions), count))
    for row, v in enumerate(directions):
        along[row], along_mass[row] = along_line(operation, key, entries, v, STEP, cotangents)

    _confirm(operation, key, cotangents, kinks, rng, lambda v: along_line(operation, key, entries, v, STEP, cotangents)[0])
    return Evidence(
        positions=positions,
        value=value,
        error=2 * operation.eps * mass,
        mass=mass,
        step=np.full(positions.size, h),
        directions=directions,
        along=along,
        along_error=2 * operation.eps * along_mass,
        along_step=np.full(len(directions), STEP),
        entry_share=1e-6,
        entry_floor=1e-14,
        entry_margin=20.0,
        examined=positions.size + directions.size,
        balanced=np.array(balanced, dtype=bool),
    )


def along_line(operation, key: str, entries, direction, h: float, cotangents) -> tuple[np.ndarray, np.ndarray]:
    """Complex-step derivative along a direction for each output, and the mass of its terms, each (K,)."""
    try:
        values = operation.complex_values(key, entries + 1j * h * direction)
    except Trouble as trouble:
        cause = trouble.__cause__
        if isinstance(cause, np.exceptions.ComplexWarning):
            raise NotApplicable(f"the forward drops the imaginary part of {key}") from None
        first = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause).strip() else ''}"
        raise NotApplicable(f"the forward does not accept complex numbers in {key} ({first[:160]})") from None
    value, mass = [], []
    for c, part in zip(cotangents, values, strict=True):
        slopes = np.imag(part) / h
        if not np.all(np.isfinite(slopes)):
            raise NotApplicable(f"the forward is not finite for complex numbers in {key}")
        value.append(np.dot(c, slopes))
        mass.append(np.dot(np.abs(c), np.abs(slopes)))
    return np.array(value), np.array(mass)


def _confirm(operation, key, cotangents, kinks, rng, complex_slope) -> None:
    """Compare with central differences along lines; raise NotApplicable when the forward is not analytic."""
    entries = operation.entries(key)
    checked = False
    for make in (even_direction, graded_direction):
        v, step = kinks.clean(key, make(rng, entries), KINKED_STEP if kinks else FIRST_STEP)
        if not v.any():
            continue
        imaginary = complex_slope(v)
        off = np.inf
        for first, grow in ((step, not kinks), (step / 4096, False)):  # smaller steps have the last word, if they see as sharply
            real = slope(line_sampler(operation, key, v, kinks.crosses(key)), cotangents, first, grow=grow)
            usable = np.isfinite(real.error)
            error = 100 * np.where(usable, real.error, 0)
            allowed = max(1e-6, 1e3 * operation.eps) * np.maximum(real.mass, np.abs(imaginary)) + error
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
