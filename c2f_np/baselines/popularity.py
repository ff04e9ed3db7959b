"""Popularity: everybody gets the items with most training interactions. What any model has to beat.

Shapes: counts (I,); scores (n, I).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..archive import Array
from ..data import Dataset
from ..estimator import Baseline
from ..files import FilePath
from ..schema import checked_values


@dataclass(eq=False, repr=False, kw_only=True)
class Popularity(Baseline):
    """Recommend what most users have.

    Parameters
    ----------
    engine, n_jobs, verbose
        As for every :class:`c2f_np.estimator.Baseline`.

    Attributes
    ----------
    counts_ : ndarray of int32, shape (I,)
    """

    def _learn(self, data: Dataset, epochs: dict[str, int] | None, after_epoch: object = None) -> dict[str, int]:
        checked_values(self)
        self.counts_ = np.bincount(data.train.indices, minlength=data.n_items).astype(np.int32)
        return {}

    def _packed(self) -> dict[str, np.ndarray]:
        return {"counts": self.counts_}

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        checked_values(self)
        return {"counts": Array("int32", (n_items,), low=0)}, {}

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        self.counts_ = arrays["counts"]

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """The counts, the same row for everyone: a read-only view, float64, shape (n, I)."""
        return np.broadcast_to(self.counts_.astype(np.float64), (len(rows), len(self.counts_)))

    def size_in_bytes(self) -> dict[str, int]:
        """4 bytes an item."""
        check_is_fitted(self, "interactions_")
        return {"counts": self.counts_.nbytes, "model": self.counts_.nbytes}

    def _scores_of_new(self, items: np.ndarray) -> np.ndarray:
        return self.counts_.astype(np.float64)
