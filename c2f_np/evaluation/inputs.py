"""Checks that every function of this package makes of what it is given.

Shapes: a mask or a set of relevant items is a sparse (n_rows, n_items) matrix; only where it is nonzero matters.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ..errors import DataError, SettingsError, in_short
from ..threads import available_cores


class Pattern(NamedTuple):
    """Where a sparse matrix is nonzero: CSR without the values.

    Attributes
    ----------
    indptr : ndarray of int64, shape (n_rows + 1,)
    indices : ndarray of int64, shape (nnz,)
        Ascending within a row, no duplicates.
    shape : tuple of int
    """

    indptr: np.ndarray
    indices: np.ndarray
    shape: tuple[int, int]


def pattern_of(matrix: sparse.sparray | None, name: str, shape: tuple[int, int] | None = None) -> Pattern:
    """Take the pattern of a sparse matrix; entries stored as 0 do not count. The matrix is not modified.

    Parameters
    ----------
    matrix : scipy sparse array, or None
        None stands for a matrix without entries and needs `shape`.
    name : str
        What the matrix is called in an error.
    shape : tuple of int, optional
        The shape it must have.

    Returns
    -------
    Pattern

    Raises
    ------
    DataError
        If it is not a sparse matrix, or of another shape.
    """
    if matrix is None and shape is not None:
        return Pattern(np.zeros(shape[0] + 1, np.int64), np.empty(0, np.int64), shape)
    if matrix is None or not sparse.issparse(matrix) or matrix.ndim != 2:
        raise DataError(f"{name} must be a sparse matrix (csr_array), not {type(matrix).__name__}")
    if shape is not None and matrix.shape != shape:
        raise DataError(f"{name} has the shape {matrix.shape}, expected {shape}")
    matrix = sparse.csr_array(matrix)  # may share its arrays with the caller's, hence the copy below
    if not matrix.has_canonical_format or np.count_nonzero(matrix.data) < matrix.nnz:
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    # One index type, so that the kernels are compiled for one.
    indptr, indices = (array.astype(np.int64, copy=False) for array in (matrix.indptr, matrix.indices))
    return Pattern(indptr, indices, matrix.shape)


def dense_scores(scores: ArrayLike) -> np.ndarray:
    """Return scores as a C-contiguous float32 or float64 matrix; integers and booleans become float64.

    Raises
    ------
    DataError
        If they are not a matrix of real numbers.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise DataError(f"scores must be a matrix (n_rows, n_items), not of shape {scores.shape}")
    if scores.dtype not in (np.float32, np.float64):
        if scores.dtype.kind not in "biuf":
            raise DataError(f"scores must be real numbers, not {scores.dtype}")
        scores = scores.astype(np.float64)
    return np.ascontiguousarray(scores)


def positive_integer(value: Any, name: str) -> int:
    """Return `value` as an int of at least 1, or raise SettingsError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool | np.bool_):
        raise SettingsError(f"{name} must be an integer of at least 1, not {in_short(value)}")
    return number


def list_lengths(ks: Iterable[int]) -> tuple[int, ...]:
    """Return the list lengths k in the order given, each once, or raise SettingsError."""
    if isinstance(ks, str | bytes) or not isinstance(ks, Iterable):
        raise SettingsError(f"ks must be a sequence of integers of at least 1, not {in_short(ks)}")
    lengths = tuple(dict.fromkeys(positive_integer(k, "each of ks") for k in ks))
    if not lengths:
        raise SettingsError("ks must name at least one list length")
    return lengths


def thread_count(n_threads: int | None) -> int:
    """`n_threads`, or for None the number of processors this process may use; SettingsError unless it is at least 1."""
    return available_cores() if n_threads is None else positive_integer(n_threads, "n_threads")
