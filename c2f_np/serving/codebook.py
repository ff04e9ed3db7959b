"""Codebooks in few bits: dense or, where that is smaller, only the entries that are not zero.

Shapes
------
a codebook : (n_rows, d)     scale : (n_rows,)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .compact import Compact, compact_matrix, quantise


@dataclass(frozen=True)
class Codebook:
    """Rows of d numbers, dense or sparse.

    Attributes
    ----------
    stored : ndarray, shape (n_rows, d), or Compact
    scale : ndarray of float32, shape (n_rows,), or None
    """

    stored: np.ndarray | Compact
    scale: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.stored.shape

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        of_scale = 0 if self.scale is None else self.scale.nbytes
        if isinstance(self.stored, Compact):
            return self.stored.index_bytes + self.stored.value_bytes + of_scale
        return self.stored.nbytes + of_scale

    def dense(self, dtype) -> np.ndarray:
        """The numbers, shape (n_rows, d)."""
        whole = self.stored.dense(dtype) if isinstance(self.stored, Compact) else self.stored.astype(dtype)
        return whole if self.scale is None else whole * self.scale.astype(dtype)[:, None]


def compact_codebook(table: np.ndarray, kind: str, what: str) -> Codebook:
    """A codebook in few bits, sparse where that is smaller.

    Parameters
    ----------
    table : ndarray of float, shape (n_rows, d)
    kind : str
        As for :func:`quantise`; one scale a row.
    what : str

    Returns
    -------
    Codebook

    Raises
    ------
    SettingsError
        If a number is too large for the type.
    """
    groups = np.repeat(np.arange(len(table)), table.shape[1])
    stored, scale = quantise(table.ravel(), kind, groups, len(table), what)
    stored = stored.reshape(table.shape)
    rows, columns = np.nonzero(stored)
    places = compact_matrix(rows, columns, None, table.shape, kind, what)
    entries = replace(places, values=stored[rows, columns])
    dense = Codebook(stored, scale)
    return min(dense, Codebook(entries, scale), key=lambda book: book.nbytes)
