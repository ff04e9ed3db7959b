"""Item neighbours: an item is worth the similarities to what the user already has.

    s_ij = |users of both| / (sqrt(n_i n_j) + shrinkage)        cosine, damped where both have few users
    score(u, i) = sum of s_ij over the items j of u that are among the k neighbours of i

Shapes
------
R : (U, I) interactions     W : (I, I) csr, row i the neighbours of item i     n : (I,) users of each item
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ..archive import Array, csr_layout, pack_csr, unpack_csr
from ..data import Dataset
from ..engine import engine_named
from ..estimator import Baseline
from ..files import FilePath
from ..model.links import keep_largest
from ..schema import checked_values, described
from ..serving.compact import INT8
from .cut import cut_layout, cut_to_bytes, pack_cut, size_of_cut, unpack_cut
from .stored import storage

# Items whose similarities to all others are held at a time.
_BLOCK = 256


def item_neighbours(R: sparse.csr_array, k: int, shrinkage: float, *, engine: str = "numpy") -> sparse.csr_array:
    """The k most similar items of every item; among equals the lower number comes first.

    Parameters
    ----------
    R : csr_array, shape (U, I)
        Binary.
    k : int
        At most the number of items.
    shrinkage : float
    engine : {"numpy", "numba"}

    Returns
    -------
    csr_array of float32, shape (I, I)
        Without the diagonal; only similarities above 0 are stored.
    """
    R = sparse.csr_array(R, dtype=np.float64)
    items = sparse.csr_array(R.T)
    n = np.diff(items.indptr).astype(np.float64)
    blocks = []
    for start in range(0, len(n), _BLOCK):
        stop = min(start + _BLOCK, len(n))
        together = (items[start:stop] @ R).toarray()
        together[np.arange(stop - start), np.arange(start, stop)] = 0
        scale = np.sqrt(n[start:stop, None] * n) + shrinkage
        similar = np.divide(together, scale, out=np.zeros_like(together), where=together > 0)
        blocks.append(keep_largest(similar, min(k, len(n)), largest=engine_named(engine).largest_columns))
    W = sparse.csr_array(sparse.vstack(blocks, format="csr"), dtype=np.float32)
    W.eliminate_zeros()
    return W


@dataclass(eq=False, repr=False, kw_only=True)
class ItemKNN(Baseline):
    """Item-based neighbours by cosine.

    Parameters
    ----------
    k : int
        Neighbours kept for an item.
    shrinkage : float
    bytes : int, optional
        Most that the model may weigh; of the neighbours' similarities the largest are kept.
    stored_as : {"dtype", "int8"}
        With int8 all similarities are stored as cut ones are.
    engine, n_jobs, verbose
        As for every :class:`c2f_np.estimator.Baseline`.

    Attributes
    ----------
    neighbours_ : csr_array of float32, shape (I, I)
    """

    k: int = described(200, "neighbours kept for an item", low=1)
    shrinkage: float = described(10.0, "added to the denominator of the cosine", low=0.0)
    bytes: int | None = described(None, "most that the model may weigh; the largest similarities are kept", low=1)
    stored_as: str = storage()

    def _learn(self, data: Dataset, epochs: dict[str, int] | None, after_epoch: object = None) -> dict[str, int]:
        given = checked_values(self)
        neighbours = item_neighbours(data.train, given["k"], given["shrinkage"], engine=self.engine)
        self._set_neighbours(cut_to_bytes(neighbours, self.bytes, self.stored_as) if self._is_cut else neighbours)
        return {}

    def _set_neighbours(self, neighbours: sparse.csr_array) -> None:
        self.neighbours_ = neighbours
        # Columns are what a user's items are looked up in.
        self._columns = sparse.csr_array(neighbours.T)

    @property
    def _is_cut(self) -> bool:
        return self.bytes is not None or self.stored_as == INT8

    def _packed(self) -> dict[str, np.ndarray]:
        if self._is_cut:
            return pack_cut("neighbours", self.neighbours_, self.stored_as)
        return pack_csr("neighbours", self.neighbours_)

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        checked_values(self)
        whole = csr_layout("neighbours", "I", "I", "links", "float32")
        return cut_layout("neighbours", self.stored_as) if self._is_cut else whole, {"I": n_items}

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        n_items = len(self.item_ids_)
        if self._is_cut:
            self._set_neighbours(unpack_cut("neighbours", arrays, n_items, path))
        else:
            self._set_neighbours(unpack_csr("neighbours", arrays, (n_items, n_items), path))

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """Sums of similarities, float32, shape (n, I)."""
        scores: np.ndarray = (self.interactions_[rows].astype(np.float32) @ self._columns).toarray()
        return scores

    def size_in_bytes(self) -> dict[str, int]:
        """A float32 and an int32 for each neighbour, and where each row begins; cut to a budget, in the smallest types."""
        check_is_fitted(self, "interactions_")
        if self._is_cut:
            return size_of_cut(self.neighbours_, self.stored_as)
        parts = {
            "similarities": self.neighbours_.data.nbytes,
            "indices": self.neighbours_.nnz * 4,
            "row starts": (self.neighbours_.shape[0] + 1) * 4,
        }
        return parts | {"model": sum(parts.values())}

    def _similarities(self, rows: np.ndarray) -> np.ndarray:
        similarities: np.ndarray = self.neighbours_[rows].toarray()
        return np.where(similarities > 0, similarities, -np.inf)

    def _weights_of(self, items: np.ndarray) -> np.ndarray:
        weights: np.ndarray = self._columns[items].toarray()
        return weights
