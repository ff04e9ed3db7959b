"""D^-1/2, by which a graph is normalised, from the degrees alone: exported models, which have no SciPy, normalise by it, too."""

from __future__ import annotations

import numpy as np

from ..errors import require_one_of
from ..settings import DEGREES


def inverse_roots(sums: np.ndarray, absolute: np.ndarray, degree: str, dtype=None) -> np.ndarray:
    """D^-1/2 from the row sums and those of the absolute values, of weights in `dtype`; 0 for nodes without a positive degree."""
    require_one_of(DEGREES, degree, "degree")
    sums = absolute if degree == "absolute" else sums
    # A row sum below the rounding of its own terms is a cancellation, not a degree: its root would be noise, magnified.
    rounding = np.finfo(dtype or absolute.real.dtype).eps * 16 * absolute
    positive = sums.real > rounding.real
    return np.where(positive, 1 / np.sqrt(np.where(positive, sums, 1)), 0)


def roots_of_counts(counts: np.ndarray) -> np.ndarray:
    """The same where every weight is 1: from the numbers of interactions."""
    counts = np.asarray(counts, np.float64)
    return inverse_roots(counts, counts, "signed")
