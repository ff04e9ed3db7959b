"""A sparse matrix together with what its products need: its transpose and evenly loaded groups of rows.

Shapes
------
matrix : (n, m) csr, transpose : (m, n) csr
row_bounds : (G + 1,) row numbers; group g owns the rows row_bounds[g] .. row_bounds[g+1] - 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..kernels.row_groups import even_row_groups


@dataclass(frozen=True)
class SparseOperator:
    """A linear map x -> M x that also knows M^T.

    The compiled backward pass gathers through the transpose, so that each thread owns the rows it writes; forming the
    transpose once per graph is cheaper than once per step.

    Attributes
    ----------
    matrix : scipy.sparse.csr_array, shape (n, m)
    transpose : scipy.sparse.csr_array, shape (m, n)
    row_bounds, transpose_row_bounds : ndarray of int64
        Groups of consecutive rows with about the same number of stored entries.
    """

    matrix: sparse.csr_array
    transpose: sparse.csr_array
    row_bounds: np.ndarray
    transpose_row_bounds: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def dtype(self) -> np.dtype:
        return self.matrix.dtype


def as_operator(matrix) -> SparseOperator:
    """Prepare a sparse matrix for products with it and with its transpose.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array, shape (n, m), or SparseOperator
        An operator is returned as it is.

    Returns
    -------
    SparseOperator
    """
    if isinstance(matrix, SparseOperator):
        return matrix
    rows = sparse.csr_array(matrix)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    columns = sparse.csr_array(rows.T)
    columns.sort_indices()
    return SparseOperator(rows, columns, even_row_groups(rows.indptr), even_row_groups(columns.indptr))


def symmetric_operator(matrix: sparse.csr_array) -> SparseOperator:
    """An operator that is its own transpose, such as the normalised graph: nothing is transposed.

    Parameters
    ----------
    matrix : csr_array, shape (n, n)
        Symmetric to the last bit, with sorted indices; that is the caller's promise.

    Returns
    -------
    SparseOperator
    """
    bounds = even_row_groups(matrix.indptr)
    return SparseOperator(matrix, matrix, bounds, bounds)
