"""Random numbers for a check, and the scales that its steps are relative to.

Three kinds of direction take turns:

- *even*: every entry contributes about equally;
- *graded*: entries vary in proportion to their own size, so that small entries are not swamped by large ones;
- *balanced* (complex step only, which has no rounding to fear): inversely to the gradient, so that a small entry of the
  gradient weighs as much as a large one.

Shapes: a :class:`~c2f_np.gradcheck.operation.Leaf` has n entries; G (K, n) holds one gradient per output.
"""

from __future__ import annotations

import numpy as np


def stream(seed: int, *names) -> np.random.Generator:
    """A generator of its own for each check and argument, so that a check alone draws what it draws among others."""
    words = [part for name in names for part in str(name).encode()]
    return np.random.default_rng([seed, len(words), *words])


def floored(rng: np.random.Generator, size) -> np.ndarray:
    """Random entries of either sign whose magnitudes lie in [0.5, 1.5): each contributes, none dominates."""
    return rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)


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


def even_direction(rng: np.random.Generator, leaf) -> np.ndarray:
    """Entries of the same order of magnitude, as large as the argument's typical entry; none moves far beyond itself."""
    own = np.where(np.isfinite(leaf.entries) & (leaf.entries != 0), 100 * np.abs(leaf.entries), np.inf)
    return floored(rng, leaf.size) * np.minimum(own, leaf.scale)


def graded_direction(rng: np.random.Generator, leaf) -> np.ndarray:
    """Each entry in proportion to its own steps; those far below the typical size as if they were 1e-6 of it."""
    return floored(rng, leaf.size) * np.maximum(leaf.steps, 1e-6 * leaf.scale)


def balanced_direction(rng: np.random.Generator, leaf, gradients: np.ndarray) -> np.ndarray:
    """Each entry in inverse proportion to the gradient there, over at most eight decades."""
    size = np.max(np.abs(gradients), axis=0)
    top = size.max(initial=0.0)
    if top == 0:
        return even_direction(rng, leaf)
    weight = 1 / np.maximum(size / top, 1e-8)
    return floored(rng, leaf.size) * leaf.scale * weight / weight.max()


def sample_positions(rng: np.random.Generator, gradients: np.ndarray, count: int) -> np.ndarray:
    """A sample of entries of a large argument: largest, smallest nonzero, zero, and random ones, each a quarter."""
    size = np.max(np.abs(gradients), axis=0)
    order, zeros, part = np.argsort(size, kind="stable"), np.count_nonzero(size == 0), max(count // 4, 1)
    zero, nonzero = order[:zeros], order[zeros:]
    return np.unique(
        np.concatenate([nonzero[-part:], nonzero[:part], rng.permutation(zero)[:part], rng.integers(0, size.size, part)])
    )
