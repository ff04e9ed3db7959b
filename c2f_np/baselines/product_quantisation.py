"""Product quantisation of a trained LightGCN table: what one does who has a table and wants it small.

The width is split in m parts, and each part of a row becomes the number of the nearest of k centroids, which k-means finds among
that part of all rows (Jegou et al., Product Quantization for Nearest Neighbor Search, 2011). The table that the codes stand for
is propagated as LightGCN's own would be.

    Z[e] = (V_0[c_e0], ..., V_m-1[c_em-1])        V_j : the j-th part of the columns of V

Shapes
------
N = U + I entities, users first     E, Z : (N, d)     codes c : (N, m) of uint8     centroids V : (k, d), of every part k
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..archive import Array
from ..errors import SettingsError
from ..model.links import centres
from ..schema import described
from ..threads import one_blas_thread
from .table_stage import FullTable, Parameters
from .tables import TableRecommender

#: The most centroids of a part: a code is one byte.
MOST_CENTROIDS = 256
# Rows whose distances to all centroids are held at a time.
_BLOCK = 8192


@dataclass(frozen=True)
class QuantisedTable(FullTable):
    """Trained as a full table, Z = E; once it is quantised, rows are put together from centroids."""

    n_parts: int
    n_centroids: int

    def ego(self, parameters: Parameters) -> np.ndarray:
        if "codes" not in parameters:
            return super().ego(parameters)
        return put_together(parameters["codes"], parameters["centroids"])

    def quantised(self, parameters: Parameters, seed: int) -> Parameters:
        """The parameters with codes and centroids in the place of the embeddings."""
        codes, centroids = quantise_rows(parameters["embeddings"], self.n_parts, self.n_centroids, seed)
        others = {name: values for name, values in parameters.items() if name != "embeddings"}
        return {"codes": codes, "centroids": centroids} | others


def quantise_rows(E: np.ndarray, n_parts: int, n_centroids: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes and centroids of the rows of a table.

    Parameters
    ----------
    E : ndarray, shape (N, d)
    n_parts : int
        At most d. Where d is no multiple of it, the first parts have a column more.
    n_centroids : int
        At most 256 and at most N.
    seed : int
        Of k-means.

    Returns
    -------
    codes : ndarray of uint8, shape (N, n_parts)
        The nearest centroid, of equally near ones the first.
    centroids : ndarray, shape (n_centroids, d)
        In the dtype of E.
    """
    codes, centroids = [], []
    for part in np.array_split(E, n_parts, axis=1):
        centroids.append(centres(part, n_centroids, seed).astype(E.dtype))
        codes.append(_nearest(part, centroids[-1]))
    return np.stack(codes, axis=1), np.concatenate(centroids, axis=1)


def _nearest(Y: np.ndarray, V: np.ndarray) -> np.ndarray:
    """The number of the centroid that is nearest to each row, by |y - v|^2 - |y|^2."""
    V = V.astype(np.float64)
    squares, codes = np.sum(V**2, axis=1), np.empty(len(Y), np.uint8)
    with one_blas_thread():
        for start in range(0, len(Y), _BLOCK):
            block = slice(start, start + _BLOCK)
            codes[block] = np.argmin(squares - 2 * (Y[block].astype(np.float64) @ V.T), axis=1)
    return codes


def put_together(codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The table that codes stand for, shape (N, d)."""
    parts = np.array_split(centroids, codes.shape[1], axis=1)
    return np.concatenate([part[codes[:, j]] for j, part in enumerate(parts)], axis=1)


def parts_for_numbers(budget: int, n_entities: int, dim: int, number: int) -> tuple[int, int] | None:
    """How many parts, and centroids of each, so many bytes leave: those with which a row has most different codes, k^m.

    Parameters
    ----------
    budget : int
        Bytes of codes and centroids.
    n_entities, dim : int
    number : int
        Bytes of a number.

    Returns
    -------
    (n_parts, n_centroids), the fewest parts of equally many codes, or None if two centroids of one part are too much.
    """
    most = min(MOST_CENTROIDS, n_entities)
    sizes = [(m, min(most, (budget - n_entities * m) // (number * dim))) for m in range(1, dim + 1)]
    return max((each for each in sizes if each[1] >= 2), key=lambda each: each[0] * math.log2(each[1]), default=None)


@dataclass(eq=False, repr=False, kw_only=True)
class ProductQuantisedLightGCN(TableRecommender):
    """LightGCN as it is trained, and its table compressed afterwards: a byte for each part of a row, and centroids of each part.

    Parameters
    ----------
    bytes : int, optional
        Most that the model may weigh. Parts and centroids are chosen with which a row has most different codes, n_centroids to
        the power of n_parts.
    n_parts, n_centroids : int
        Where bytes is not given. There are no more centroids than entities.

    Attributes
    ----------
    parameters_ : dict of str to ndarray
        "codes" (uint8), "centroids", and "item_bias" if there is one. ``history_`` is that of the table before it is quantised.
    """

    n_parts: int = described(8, "parts of the width, where bytes is not given", low=1)
    n_centroids: int = described(
        MOST_CENTROIDS, "centroids of each part, where bytes is not given", low=2, high=MOST_CENTROIDS
    )
    bytes: int | None = described(None, "most that the model may weigh; parts and centroids follow", low=1)

    def _table(self, n_users: int, n_items: int) -> QuantisedTable:
        n = n_users + n_items
        if self.bytes is None:
            if self.n_parts > self.dim:
                raise SettingsError(f"n_parts = {self.n_parts} is more than dim = {self.dim}")
            return QuantisedTable(n, self.n_parts, min(self.n_centroids, n))
        number, scale, biases = self._bytes_of(n_items)
        others = biases + self.dim * scale
        found = parts_for_numbers(self.bytes - others, n, self.dim, number)
        if found is None:
            least = n + 2 * self.dim * number + others
            raise SettingsError(f"bytes = {self.bytes} is too little for two centroids of width {self.dim}: at least {least}")
        return QuantisedTable(n, *found)

    def _kept(self, trained: Parameters, table: Any) -> Parameters:
        return super()._kept(table.quantised(trained, self.seed), table)

    def _layout_of(self, table: Any, n_items: int) -> dict[str, Array]:
        codes = Array("uint8", (table.n_entities, table.n_parts), below=table.n_centroids)
        others = {name: array for name, array in super()._layout_of(table, n_items).items() if name != "embeddings"}
        return {"codes": codes, "centroids": Array(self.dtype, (table.n_centroids, self.dim))} | others
