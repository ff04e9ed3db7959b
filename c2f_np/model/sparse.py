"""The sparse product Y = M X and its backward pass.

    grad_X = M^T grad_Y        grad_M[i, j] = <grad_Y[i], X[j]>, at the stored entries

Entries that are not stored have no gradient: they are the structure of the model, not its weights.

Shapes
------
M : (n, m) csr     X, grad_X : (m, d)     Y, grad_Y : (n, d)     grad_M : (nnz,), in the order in which M stores its entries
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse


@dataclass(frozen=True)
class SparseOperator:
    """A sparse matrix with its transpose, which is formed once a graph and not once a step."""

    matrix: sparse.csr_array
    transpose: sparse.csr_array

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    def forward(self, X: np.ndarray) -> np.ndarray:
        """``M X``."""
        return self.matrix @ X

    def adjoint(self, grad_Y: np.ndarray) -> np.ndarray:
        """``M^T grad_Y``: the gradient with respect to X."""
        return self.transpose @ grad_Y

    def add_forward(self, X: np.ndarray, total: np.ndarray) -> None:
        """``total += M X``, in place."""
        total += self.matrix @ X

    def weights_gradient(self, grad_Y: np.ndarray, X: np.ndarray) -> np.ndarray:
        """``<grad_Y[i], X[j]>`` for every stored entry (i, j): the gradient with respect to the weights."""
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.matrix.indptr))
        return np.sum(grad_Y[rows] * X[self.matrix.indices], axis=1)

    def structure_gradients(self, grad_Y: np.ndarray, X: np.ndarray) -> dict[str, np.ndarray]:
        """The gradient with respect to the weights as that of a layer (see `c2f_np.model.propagation`)."""
        return {"X_hat": self.weights_gradient(grad_Y, X)}

    def with_weights(self, weights: np.ndarray) -> sparse.csr_array:
        """A matrix of the same pattern."""
        return sparse.csr_array((weights, self.matrix.indices, self.matrix.indptr), shape=self.shape)


def operator(matrix) -> SparseOperator:
    """Prepare a matrix for products with it and with its transpose; an operator, of either engine, is returned as it is."""
    return matrix if isinstance(matrix, SparseOperator) else SparseOperator(*matrix_and_transpose(matrix))


def symmetric_operator(matrix: sparse.csr_array) -> SparseOperator:
    """An operator that is its own transpose to the last bit, which is the caller's promise: nothing is transposed."""
    return SparseOperator(matrix, matrix)


def matrix_and_transpose(matrix) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Both in csr format with sorted rows and no duplicates."""
    rows = canonical(sparse.csr_array(matrix))
    columns = sparse.csr_array(rows.T)
    columns.sort_indices()
    return rows, columns


def canonical(X: sparse.csr_array) -> sparse.csr_array:
    """Sorted indices, no duplicates: what every product here relies on."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
