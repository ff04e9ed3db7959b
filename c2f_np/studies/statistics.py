"""Honest numbers: the uncertainty that comes from users and that from seeds, kept apart.

Seeds: the same settings trained again. Their spread says how far off one training may be. Users: the test users are a sample. A
bootstrap over them says how far off the mean over users may be, for these trained models. Two models are compared user by user:
what makes a user hard for both then cancels.

Shapes: values (n_users, K), a column for each model, the users in the same order; means (n_resamples, K).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

N_RESAMPLES = 2000
LEVEL = 0.95
# Draws of one piece of the bootstrap: 48 MB.
_DRAWS_AT_A_TIME = 4_000_000


def sample_deviation(values) -> float:
    """The standard deviation with n - 1 in the denominator; NaN for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def bootstrap_means(values, rng: np.random.Generator, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Means over users drawn with replacement; all columns see the same draws, so that their differences are paired."""
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    step = max(1, _DRAWS_AT_A_TIME // n)
    means = np.empty((n_resamples, values.shape[1]))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = rng.integers(0, n, size=size * n)
        # A row of ones at the users drawn. A sparse product adds up every row in the order of its draws; a dense one, in BLAS, in
        # an order that depends on how many rows there are, and the last bit of the sum with it.
        resamples = sparse.csr_array((np.ones(size * n), drawn, n * np.arange(size + 1)), shape=(size, n))
        means[start : start + size] = resamples @ values / n
    return means


def interval(samples, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval: the middle share `level` of the samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """One model minus another: the mean over users, its bootstrap interval, and how many users have more, less and the same."""

    mean: float
    low: float
    high: float
    won: int
    lost: int
    tied: int


def compare_models(values, references: list[int | None], rng: np.random.Generator, n_resamples: int = N_RESAMPLES):
    """The intervals of all models, and their differences to the columns `references`, from one set of draws.

    There is no difference (None) without a reference, or to the model itself.
    """
    values = np.asarray(values, dtype=np.float64)
    means = bootstrap_means(values, rng, n_resamples)
    differences: list[Difference | None] = []
    for own, other in enumerate(references):
        if other is None or other == own:
            differences.append(None)
            continue
        delta = values[:, own] - values[:, other]
        won, lost = int(np.count_nonzero(delta > 0)), int(np.count_nonzero(delta < 0))
        between = interval(means[:, own] - means[:, other])
        differences.append(Difference(float(delta.mean()), *between, won, lost, delta.size - won - lost))
    return [interval(column) for column in means.T], differences
