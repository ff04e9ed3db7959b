"""Honest numbers: what users and what seeds leave uncertain, kept apart.

Seeds: the same settings trained again. Their spread says how far one training may be off.
Users: the test users are a sample. A bootstrap over them says how far the mean over users may be off, for these trained models.
Two models are compared user by user: what makes a user hard for both then cancels.

Shapes
------
values : (n_users, K), a column for each model, the users in the same order     means : (n_resamples, K)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..errors import SettingsError

N_RESAMPLES = 2000
LEVEL = 0.95
# Draws of one piece of the bootstrap: 48 MB.
_DRAWS_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Spread:
    """Over seeds.

    Attributes
    ----------
    mean, sd, low, high : float
        sd with n - 1 in the denominator; NaN for one seed.
    n : int
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int


def spread(values) -> Spread:
    """Mean, standard deviation, least and greatest of some numbers.

    Parameters
    ----------
    values : array_like, shape (n,)

    Raises
    ------
    SettingsError
        If there is none.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    if not values.size:
        raise SettingsError("there is no value to summarise")
    sd = float(values.std(ddof=1)) if values.size > 1 else float("nan")
    return Spread(float(values.mean()), sd, float(values.min()), float(values.max()), values.size)


def bootstrap_means(values, rng: np.random.Generator, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Means over users drawn with replacement; all columns see the same draws, so that their differences are paired.

    Parameters
    ----------
    values : array_like, shape (n_users, K)
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    ndarray, shape (n_resamples, K)
    """
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
    """The percentile interval: what lies in the middle, with equal shares left out on both sides.

    Parameters
    ----------
    samples : array_like, shape (n,)
    level : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
    """
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """One model minus another, user by user.

    Attributes
    ----------
    mean, low, high : float
        Mean over users and its bootstrap interval.
    won, lost, tied : int
        Users with a greater, a smaller, an equal value.
    """

    mean: float
    low: float
    high: float
    won: int
    lost: int
    tied: int


def paired_difference(values, other, rng: np.random.Generator, n_resamples: int = N_RESAMPLES) -> Difference:
    """Compare two models on the same users.

    Parameters
    ----------
    values, other : array_like, shape (n_users,)
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    Difference
    """
    delta = np.asarray(values, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return _difference(delta, bootstrap_means(delta[:, None], rng, n_resamples)[:, 0])


def _difference(delta: np.ndarray, means: np.ndarray) -> Difference:
    low, high = interval(means)
    won, lost = int(np.count_nonzero(delta > 0)), int(np.count_nonzero(delta < 0))
    return Difference(float(delta.mean()), low, high, won, lost, delta.size - won - lost)


def compare(values, references: list[int | None], rng: np.random.Generator, n_resamples: int = N_RESAMPLES):
    """Intervals of all models and their differences to others, from one set of draws.

    Parameters
    ----------
    values : array_like, shape (n_users, K)
    references : list of int or None, length K
        Column that each model is compared with; None, or its own: with none.
    rng : numpy.random.Generator
    n_resamples : int

    Returns
    -------
    intervals : list of (low, high)
    differences : list of Difference or None
    """
    values = np.asarray(values, dtype=np.float64)
    means = bootstrap_means(values, rng, n_resamples)
    intervals = [interval(column) for column in means.T]
    differences = [
        None if other is None or other == own else _difference(values[:, own] - values[:, other], means[:, own] - means[:, other])
        for own, other in enumerate(references)
    ]
    return intervals, differences
