"""The first verdict: the gradient against central differences of the forward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from c2f_np.gradcheck.differences import FIRST_STEP, entry_sampler, line_sampler, scale_of, slope, steps_of
from c2f_np.gradcheck.evidence import (
    Evidence,
    even_direction,
    graded_direction,
    sample_positions,
)
from c2f_np.gradcheck.kinks import Kinks
from c2f_np.gradcheck.operation import Operation
from c2f_np.gradcheck.settings import Settings
from c2f_np.gradcheck.values import norm, to_vector

#: Where the first step would cross kinks it is shorter, so that few entries do.
KINKED_STEP = 2.0**-10


def measure(
    operation: Operation,
    key: str,
    cotangents,
    kinks: Kinks,
    settings: Settings,
    rng: np.random.Generator,
    gradients=None,
    shrink: float = 1.0,
) -> Evidence:
    """Central differences of ``sum(cotangent_k * output_k)`` by one argument.

    Parameters
    ----------
    gradients : ndarray (K, n), optional
        Used only to choose which entries of a large argument are looked at.
    shrink : float
        First steps are this many times smaller than usual, and are not enlarged.

    Returns
    -------
    Evidence
    """
    entries = operation.entries(key)
    n, count = entries.size, len(cotangents)
    scales = steps_of(entries)
    if kinks:  # steps that start small are not enlarged then
        scales = np.maximum(np.abs(entries), scale_of(entries))
    first = (KINKED_STEP if kinks.within(key, FIRST_STEP * scales) else FIRST_STEP) / shrink
    grow = not kinks and shrink == 1
    crosses = kinks.crosses(key)
    small = n <= settings.entry_limit
    if small:
        positions = np.arange(n)
    elif gradients is None:
        positions = np.unique(rng.integers(0, n, settings.samples))
    else:
        positions = sample_positions(rng, gradients, settings.samples)
    if key in kinks.held:
        positions = positions[~kinks.held[key][positions]]

    slopes = [slope(entry_sampler(operation, key, i, crosses), cotangents, first * scales[i], grow=grow) for i in positions]
    scale = max((norm(s.value) for s in slopes), default=0.0)
    hidden = 0
    for row, i in enumerate(positions):
        if kinks and operation.differentiable and not _usable(slopes[row], scale, settings.central):
            masked = _without_crossing_elements(operation, key, i, cotangents, kinks, scales[i])
            if masked is not None:
                slopes[row], crossing = masked
                hidden = max(hidden, crossing)
    keep = np.array([_usable(s, scale, settings.central) for s in slopes], dtype=bool)
    left_out, examined = int((~keep).sum()), len(slopes)
    if hidden and not left_out:
        left_out, examined = hidden, max(to_vector(operation.templates[k]).size for k in operation.outputs)
    kept = [s for s, good in zip(slopes, keep, strict=True) if good]

    directions, alongs = [], []
    for d in range(0 if small else settings.directions):
        make = graded_direction if d % 3 == 2 else even_direction
        full = make(rng, entries)
        v, step = kinks.clean(key, full, first)
        examined += n
        left_out += int(np.count_nonzero((v == 0) & ~kinks.held.get(key, np.zeros(n, bool))))
        if not v.any():
            continue
        found = slope(line_sampler(operation, key, v, crosses), cotangents, step, grow=grow)
        if np.all(np.isfinite(found.error)):
            directions.append(v)
            alongs.append(found)
        else:
            left_out += int(np.count_nonzero(v))

    return Evidence(
        positions=positions[keep],
        value=np.array([s.value for s in kept]).reshape(-1, count),
        error=np.array([s.error for s in kept]).reshape(-1, count),
        mass=np.array([s.mass for s in kept]).reshape(-1, count),
        step=np.array([s.step for s in kept]),
        directions=np.array(directions).reshape(-1, n),
        along=np.array([s.value for s in alongs]).reshape(-1, count),
        along_error=np.array([s.error for s in alongs]).reshape(-1, count),
        along_step=np.array([s.step for s in alongs]),
        entry_share=1e-3,
        entry_floor=1e-12,
        entry_margin=100.0,
        left_out=left_out,
        examined=examined,
    )


def _usable(s, scale: float, tolerance: float) -> bool:
    """Whether an entry's difference is good enough: not if a kink leaves only hopelessly small steps."""
    if not np.all(np.isfinite(s.error)):
        return False
    return not s.crossings or bool(np.all(s.error <= 0.3 * tolerance * scale))


def _without_crossing_elements(operation: Operation, key: str, i: int, cotangents, kinks: Kinks, scale: float):
    """The slope along one entry that moves many elements (a threshold, a bias), some of which lie next to their kink.

    Where the active set has the shape of an output, the elements that cross get a zero cotangent: they are left out of
    the difference and of the gradient alike. Returns the slope and the number of elements left out, or None where that
    is not possible.
    """
    entries = operation.entries(key)
    step = 2.0**-14 * scale
    ends = [entries.copy(), entries.copy()]
    ends[0][i] += step
    ends[1][i] -= step
    parts = [a | b for a, b in zip(kinks.changed(key, ends[0]), kinks.changed(key, ends[1]), strict=True)]
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
        now = [kinks.changed(key, point) for point in points]
        return any(bool(np.any(a & ~b)) for side in now for a, b in zip(side, parts, strict=True))

    found = slope(entry_sampler(operation, key, i, crosses), masked, step, grow=False)
    gone = []  # what the left-out elements contribute is not checked: it is taken from the gradient itself
    for k in range(len(cotangents)):
        whole = operation.gradients(operation.alone(cotangents, k))[key][i]
        gone.append(whole - operation.gradients(operation.alone(masked, k))[key][i])
    return replace(found, value=found.value + np.array(gone)), crossing
