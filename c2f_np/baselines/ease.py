"""EASE: the linear item-item model in closed form (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, 2019).

    minimise |R - R W|^2 + regularisation |W|^2  with a zero diagonal
    P = (R^T R + regularisation I)^-1,   W_ij = -P_ij / P_jj  off the diagonal

Shapes
------
R : (U, I) interactions     P, W : (I, I) dense; W cut to a budget is sparse
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ..archive import Array
from ..data import Dataset
from ..errors import SettingsError
from ..estimator import Baseline
from ..files import FilePath
from ..schema import checked_values, described
from ..serving.compact import INT8
from ..threads import one_blas_thread
from .cut import cut_layout, cut_to_bytes, pack_cut, size_of_cut, unpack_cut
from .stored import storage


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
        # Symmetric, positive definite: the inverse comes from the Cholesky factor. Transposed, as LAPACK copies other matrices.
        factor = scipy.linalg.cho_factor(gram.T, lower=True, overwrite_a=True)
        P = scipy.linalg.cho_solve(factor, np.eye(len(gram)).T, overwrite_b=True)
    P /= -np.diag(P).copy()
    np.fill_diagonal(P, 0)
    del gram, factor
    return np.ascontiguousarray(P, np.float32)


@dataclass(eq=False, repr=False, kw_only=True)
class EASE(Baseline):
    """The strongest of the simple ones, and the largest: I x I numbers, or those of them that a budget leaves.

    Parameters
    ----------
    regularisation : float
    max_items : int
        With more items ``fit`` refuses: at its peak it takes some 26 bytes for every pair of items, 44 with int8.
    bytes : int, optional
        Most that the model may weigh; if that is less than all weights, the largest by absolute value are kept.
    stored_as : {"dtype", "int8"}
        With int8 all weights are stored as cut ones are.
    engine, n_jobs, verbose
        As for every :class:`c2f_np.estimator.Baseline`.

    Attributes
    ----------
    weights_ : ndarray of float32, shape (I, I); csr_array where `bytes` leaves some of the weights, or with int8
    """

    regularisation: float = described(500.0, "weight of the squared weights", low=1e-9)
    max_items: int = described(15_000, "refuse to work with more items than this", low=1)
    bytes: int | None = described(None, "most that the model may weigh; the largest weights are kept", low=1)
    stored_as: str = storage()

    def _learn(self, data: Dataset, epochs: dict[str, int] | None, after_epoch: object = None) -> dict[str, int]:
        checked_values(self)
        if data.n_items > self.max_items:
            needed = (44 if self.stored_as == INT8 else 26) * data.n_items**2 / 2**30
            raise SettingsError(
                f"EASE holds all pairs of items: {data.n_items} items need about {needed:.1f} GiB, and max_items = "
                f"{self.max_items}; raise max_items if the memory is there"
            )
        weights = ease_weights(data.train, self.regularisation)
        self.weights_: np.ndarray | sparse.csr_array = (
            cut_to_bytes(weights, self.bytes, self.stored_as) if self._is_cut(data.n_items) else weights
        )
        return {}

    def _is_cut(self, n_items: int) -> bool:
        """Whether weights are stored one by one: in a byte each, or as all of them, of four bytes, take more than was given."""
        return self.stored_as == INT8 or (self.bytes is not None and self.bytes < 4 * n_items**2)

    def _packed(self) -> dict[str, np.ndarray]:
        whole = isinstance(self.weights_, np.ndarray)
        return {"weights": self.weights_} if whole else pack_cut("weights", self.weights_, self.stored_as)

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        checked_values(self)
        cut = self._is_cut(n_items)
        return cut_layout("weights", self.stored_as) if cut else {"weights": Array("float32", ("I", "I"))}, {"I": n_items}

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        n_items = len(self.item_ids_)
        self.weights_ = unpack_cut("weights", arrays, n_items, path) if self._is_cut(n_items) else arrays["weights"]

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """The user's row times the weights, float32, shape (n, I)."""
        return _dense(self.interactions_[rows].astype(np.float32) @ self.weights_)

    def size_in_bytes(self) -> dict[str, int]:
        """4 bytes for every pair of items; of cut weights each with its column, and where each row begins."""
        check_is_fitted(self, "interactions_")
        if sparse.issparse(self.weights_):
            return size_of_cut(self.weights_, self.stored_as)
        return {"weights": self.weights_.nbytes, "model": self.weights_.nbytes}

    def _similarities(self, rows: np.ndarray) -> np.ndarray:
        weights = self._weights_of(rows)
        # What was cut off is not known, and does not come before what is known to be unlike.
        return np.where(weights != 0, weights, -np.inf) if sparse.issparse(self.weights_) else weights

    def _weights_of(self, items: np.ndarray) -> np.ndarray:
        return _dense(self.weights_[items])


def _dense(weights: np.ndarray | sparse.csr_array) -> np.ndarray:
    return weights if isinstance(weights, np.ndarray) else weights.toarray()
