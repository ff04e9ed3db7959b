"""EASE: the linear item-item model in closed form (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, 2019).

    minimise |R - R W|^2 + regularisation |W|^2  with a zero diagonal
    P = (R^T R + regularisation I)^-1,   W_ij = -P_ij / P_jj  off the diagonal

Shapes
------
R : (U, I) interactions     P, W : (I, I) dense
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ..archive import Array
from ..data import Dataset
from ..engine import DEFAULT_ENGINE, ENGINES
from ..errors import SettingsError
from ..estimator import Recommender
from ..files import FilePath
from ..schema import checked_values, described
from ..threads import one_blas_thread


def ease_weights(R: sparse.csr_array, regularisation: float) -> np.ndarray:
    """The item-item weights.

    Parameters
    ----------
    R : csr_array, shape (U, I)
        Binary.
    regularisation : float
        Positive.

    Returns
    -------
    ndarray of float32, shape (I, I), with a zero diagonal

    Notes
    -----
    Computed in float64, with BLAS on one thread, so that the number of cores does not matter.
    """
    R = sparse.csr_array(R, dtype=np.float64)
    gram = (R.T @ R).toarray()
    gram[np.diag_indices_from(gram)] += regularisation
    with one_blas_thread():
        # Symmetric and positive definite; the inverse comes from the Cholesky factor.
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True)
        P = scipy.linalg.cho_solve(factor, np.eye(len(gram)), overwrite_b=True)
    W: np.ndarray = (P / -np.diag(P)).astype(np.float32)
    np.fill_diagonal(W, 0)
    return W


@dataclass(eq=False, repr=False, kw_only=True)
class EASE(Recommender):
    """The strongest of the simple ones, and the largest: I x I numbers.

    Parameters
    ----------
    regularisation : float
    max_items : int
        With more items ``fit`` refuses: the weights take 4 bytes and the computation another 16 for every pair of items.
    engine : {"numba", "numpy"}
        Of the ranking.
    threads : int

    Attributes
    ----------
    weights_ : ndarray of float32, shape (I, I)
    """

    regularisation: float = described(500.0, "weight of the squared weights", low=1e-9)
    max_items: int = described(15_000, "refuse to work with more items than this", low=1)
    engine: str = described(DEFAULT_ENGINE, "compiled ranking, or the readable one", choices=ENGINES)
    threads: int = described(0, "threads; 0: all cores", low=0)

    def _learn(self, data: Dataset, epochs: dict[str, int] | None, after_epoch: object = None) -> dict[str, int]:
        checked_values(self)
        if data.n_items > self.max_items:
            needed = 20 * data.n_items**2 / 2**30
            raise SettingsError(
                f"EASE holds all pairs of items: {data.n_items} items need about {needed:.1f} GiB, and max_items = "
                f"{self.max_items}; raise max_items if the memory is there"
            )
        self.weights_ = ease_weights(data.train, self.regularisation)
        self.history_, self.best_epoch_ = [], None
        return {}

    def _packed(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights_}

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        checked_values(self)
        return {"weights": Array("float32", (n_items, n_items))}, {}

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        self.weights_ = arrays["weights"]

    def score(self, users: np.ndarray) -> np.ndarray:
        """The user's row times the weights, float32, shape (n, I)."""
        check_is_fitted(self, "interactions_")
        scores: np.ndarray = self.interactions_[users].astype(np.float32) @ self.weights_
        return scores

    def size_in_bytes(self) -> dict[str, int]:
        """4 bytes for every pair of items."""
        check_is_fitted(self, "interactions_")
        return {"weights": self.weights_.nbytes, "model": self.weights_.nbytes}

    def _similarities(self, rows: np.ndarray) -> np.ndarray:
        similarities: np.ndarray = self.weights_[rows]
        return similarities

    def _weights_of(self, items: np.ndarray) -> np.ndarray:
        return self._similarities(items)
