"""Small arrays: indices in the smallest type that holds them, numbers in few bits; sparse matrices and codebooks of these.

    int8:   number = stored * scale,   stored in -127..127,   one scale for each row of a codebook or column of an assignment

A product takes and returns its vectors as the *rows* of an array, (w, n), so that each of the w is contiguous in memory. It
handles the entries piece by piece, so that the working memory is a few vectors, whatever the number of entries.

Shapes
------
a matrix : (n_rows, n_columns) with `size` stored entries     X : (w, n_columns)     Y : (w, n_rows)     a codebook : (n_rows, d)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..archive import with_zeros, without_zeros
from ..errors import SettingsError

INT8 = "int8"
NUMBER_TYPES = ("float32", "float16", INT8)
#: How a model's numbers are kept: in the type in which they were trained, or a byte for each.
STORED_AS = ("dtype", INT8)
_PIECE = 2048


@dataclass(frozen=True)
class Compact:
    """A sparse matrix, row by row."""

    starts: np.ndarray | int  # where rows begin among the entries, shape (n_rows + 1,); or the one length that all rows have
    indices: np.ndarray  # columns, unsigned, shape (size,)
    values: np.ndarray | None  # shape (size,); None where every entry is 1
    scale: np.ndarray | None  # float32, shape (n_columns,)
    shape: tuple[int, int]

    @property
    def index_bytes(self) -> int:
        """Bytes of the places of the entries."""
        return self.indices.nbytes + (0 if isinstance(self.starts, int) else self.starts.nbytes)

    @property
    def value_bytes(self) -> int:
        """Bytes of the numbers in them."""
        return sum(part.nbytes for part in (self.values, self.scale) if part is not None)

    def row(self, i: int) -> np.ndarray:
        """Columns of row i."""
        first, last = self._bounds(i, i + 1)
        return self.indices[first:last].astype(np.intp)

    def row_values(self, i: int) -> np.ndarray:
        """Numbers of row i."""
        first, last = self._bounds(i, i + 1)
        scale = 1 if self.scale is None else self.scale[self.row(i)]
        return np.ones(last - first) if self.values is None else self.values[first:last] * scale

    def lengths(self) -> np.ndarray:
        """Number of entries in every row."""
        return np.diff(self._bounds(0, self.shape[0]))

    def magnitudes(self) -> Compact:
        """The matrix of absolute values."""
        return self if self.values is None else replace(self, values=np.abs(self.values))

    def times(self, X: np.ndarray) -> np.ndarray:
        """The product with the vectors in the rows of X: (w, n_columns) to (w, n_rows), in the precision of X."""
        Y = np.zeros((len(X), self.shape[0]), X.dtype)
        for first, last, rows, columns, weights in self._pieces(X.dtype):
            for x, y in zip(X, Y, strict=True):
                y[first:last] = _sums(rows, x[columns], weights, last - first)
        return Y

    def transposed_times(self, Y: np.ndarray) -> np.ndarray:
        """The product of the transpose: (w, n_rows) to (w, n_columns), in the precision of Y."""
        X = np.zeros((len(Y), self.shape[1]), Y.dtype)
        for first, last, rows, columns, weights in self._pieces(Y.dtype):
            for x, y in zip(X, Y, strict=True):
                x += _sums(columns, y[first:last][rows], weights, self.shape[1])
        return X

    def dense(self, dtype) -> np.ndarray:
        """All numbers, shape (n_rows, n_columns)."""
        whole = np.zeros(self.shape, dtype)
        for first, _, rows, columns, weights in self._pieces(np.dtype(dtype)):
            whole[first + rows, columns] = 1 if weights is None else weights
        return whole

    def _bounds(self, first: int, last: int) -> np.ndarray:
        """Where the rows first..last begin, as int64."""
        if isinstance(self.starts, int):
            return np.arange(first, last + 1, dtype=np.int64) * self.starts
        return self.starts[first : last + 1].astype(np.int64)

    @cached_property
    def _borders(self) -> list[int]:
        """Rows at which pieces begin and end: about 2,048 entries, or as many as there are columns, but at least one row."""
        n_rows, n_columns = self.shape
        starts, most, borders = self._bounds(0, n_rows), max(_PIECE, n_columns), [0]
        while borders[-1] < n_rows:
            here = borders[-1]
            borders.append(max(here + 1, int(np.searchsorted(starts, starts[here] + most, side="right")) - 1))
        return borders

    def _pieces(self, dtype) -> Iterator[tuple]:
        """For each piece: its first row and the one after its last; row (from there), column and number of every entry."""
        for first, last in pairwise(self._borders):
            bounds = self._bounds(first, last)
            columns = self.indices[bounds[0] : bounds[-1]].astype(np.intp)
            rows = np.repeat(np.arange(last - first), np.diff(bounds))
            weights = None
            if self.values is not None:
                weights = self.values[bounds[0] : bounds[-1]].astype(dtype)
                if self.scale is not None:
                    weights *= self.scale.astype(dtype)[columns]
            yield first, last, rows, columns, weights


def compact_matrix(rows: np.ndarray, columns: np.ndarray, values, shape, kind: str, what: str) -> Compact:
    """A sparse matrix from its entries, which must be ordered by row; `kind` and `what` as for :func:`quantise`."""
    lengths = np.bincount(rows, minlength=shape[0])
    if len(lengths) and (lengths == lengths[0]).all():
        starts = int(lengths[0])
    else:
        starts = smallest_unsigned(np.concatenate([[0], np.cumsum(lengths)]))
    stored, scale = (None, None) if values is None else quantise(values, kind, columns, shape[1], what)
    return Compact(starts, smallest_unsigned(columns), stored, scale, tuple(shape))


@dataclass(frozen=True)
class Codebook:
    """Rows of d numbers: all of them or, where that is smaller, those that are not zero and a bitmap of their places."""

    values: np.ndarray  # shape (n_rows, d), or (size,)
    bitmap: np.ndarray | None  # as :func:`c2f_np.archive.without_zeros` makes it
    scale: np.ndarray | None  # float32, shape (n_rows,)
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in (self.values, self.bitmap, self.scale) if part is not None)

    def dense(self, dtype) -> np.ndarray:
        """The numbers, shape (n_rows, d)."""
        whole = with_zeros(self.values, self.bitmap, self.shape).astype(dtype)
        return whole if self.scale is None else whole * self.scale.astype(dtype)[:, None]


def compact_codebook(table: np.ndarray, kind: str, what: str) -> Codebook:
    """A codebook from a table of floats, shape (n_rows, d); `kind` and `what` as for :func:`quantise`."""
    groups = np.repeat(np.arange(len(table)), table.shape[1])
    stored, scale = quantise(table.ravel(), kind, groups, len(table), what)
    return Codebook(*without_zeros(stored.reshape(table.shape)), scale, table.shape)


def smallest_unsigned(values: np.ndarray) -> np.ndarray:
    """The same whole numbers, none negative, in the smallest unsigned type that holds the largest of them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def quantise(values: np.ndarray, kind: str, groups: np.ndarray, n_groups: int, what: str):
    """Floats in fewer bits: ``(stored, scale)``, or a SettingsError about `what` if a number does not fit the type `kind`.

    With int8 the scale of a group is its largest magnitude / 127; `groups` says which group each number belongs to. Other types
    have no scale (None).
    """
    if not np.isfinite(values).all():
        raise SettingsError(f"{what} holds numbers that are not finite")
    scale = None
    with np.errstate(over="ignore"):
        if kind == INT8:
            largest = np.zeros(n_groups)
            np.maximum.at(largest, groups, np.abs(values))
            # Rounded to float32 first, so that numbers are divided by what they will be multiplied by.
            scale = (largest / 127).astype(np.float32)
            stored = np.rint(values / np.where(scale > 0, scale, 1)[groups])
            stored = np.clip(stored, -127, 127).astype(np.int8)
        else:
            stored = values.astype(kind)
    if not np.isfinite(stored if scale is None else scale).all():
        raise SettingsError(f"{what} holds numbers too large for {kind}: choose a wider type")
    return stored, scale


def _sums(places: np.ndarray, values: np.ndarray, weights: np.ndarray | None, n: int) -> np.ndarray:
    """Sums of values times weights by place, in float64."""
    return np.bincount(places, values if weights is None else values * weights, minlength=n)
