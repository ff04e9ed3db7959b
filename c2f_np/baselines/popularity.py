"""Popularity: everybody gets the items with most training interactions. What any model has to beat.

Shapes: counts (I,); scores (n, I).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ..data import Dataset
from ..engine import DEFAULT_ENGINE, ENGINES
from ..estimator import Recommender, as_dataset
from ..schema import checked_values, described


@dataclass(eq=False, repr=False, kw_only=True)
class Popularity(Recommender):
    """Recommend what most users have.

    Parameters
    ----------
    engine : {"numba", "numpy"}
        Of the ranking.
    threads : int

    Attributes
    ----------
    counts_ : ndarray of int32, shape (I,)
    """

    engine: str = described(DEFAULT_ENGINE, "compiled ranking, or the readable one", choices=ENGINES)
    threads: int = described(0, "threads; 0: all cores", low=0)

    def fit(self, interactions: Dataset | sparse.sparray, validation: sparse.sparray | None = None) -> Self:
        """Count; see :meth:`Recommender.fit`."""
        checked_values(self)
        started, data = time.perf_counter(), as_dataset(interactions, validation)
        self.counts_ = np.bincount(data.train.indices, minlength=data.n_items).astype(np.int32)
        self._fitted_on(data)
        self.history_, self.best_epoch_, self.seconds_ = [], None, time.perf_counter() - started
        return self

    def score(self, users: np.ndarray) -> np.ndarray:
        """The counts, the same row for everyone: a read-only view, float64, shape (n, I)."""
        check_is_fitted(self, "interactions_")
        return np.broadcast_to(self.counts_.astype(np.float64), (len(users), len(self.counts_)))

    def size_in_bytes(self) -> dict[str, int]:
        """4 bytes an item."""
        check_is_fitted(self, "interactions_")
        return {"counts": self.counts_.nbytes, "model": self.counts_.nbytes}
