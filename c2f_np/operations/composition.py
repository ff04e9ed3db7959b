"""Composition: the embedding of an entity is a weighted sum of a few codebook rows, passed through tanh.

    Z = tanh(S E)

Shapes
------
S : (N, C) sparse assignment, t entries a row     E : (C, d) codebook     Z : (N, d) ego embeddings
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..engine import is_compiled
from .sparse_operator import as_operator
from .sparse_product import sparse_product, sparse_product_backward, sparse_product_backward_weights


def compose(S, E: np.ndarray, *, engine: str = "numpy") -> np.ndarray:
    """Compose the ego embeddings from a codebook (model.md, coarse stage, 1).

    Parameters
    ----------
    S : csr_array or SparseOperator, shape (N, C)
        Assignment.
    E : ndarray, shape (C, d)
        Codebook.
    engine : {"numpy", "numba"}

    Returns
    -------
    Z : ndarray, shape (N, d)
    """
    if is_compiled(engine):
        from ..kernels.composition import multiply_tanh

        S = as_operator(S)
        return multiply_tanh(S.matrix, S.row_bounds, E)
    return np.tanh(sparse_product(S, E))


def compose_above(S, E: np.ndarray, *, engine: str = "numpy") -> np.ndarray:
    """Composed embeddings above the codebook itself, [tanh(S E); E]: the start X0 of the coarse stage's propagation.

    Parameters
    ----------
    S : csr_array or SparseOperator, shape (N, C)
    E : ndarray, shape (C, d)
    engine : {"numpy", "numba"}

    Returns
    -------
    X0 : ndarray, shape (N + C, d)
    """
    if is_compiled(engine):
        from ..kernels.composition import multiply_tanh_above

        S = as_operator(S)
        return multiply_tanh_above(S.matrix, S.row_bounds, E)
    return np.concatenate([compose(S, E), E])


def compose_backward(grad_Z: np.ndarray, S, Z: np.ndarray, *, engine: str = "numpy") -> np.ndarray:
    """Gradient with respect to the codebook.

    With tanh' = 1 - tanh^2 the derivative needs only the output: ``grad_E = S^T (grad_Z * (1 - Z^2))``.

    Parameters
    ----------
    grad_Z : ndarray, shape (N, d)
    S : csr_array or SparseOperator, shape (N, C)
    Z : ndarray, shape (N, d)
        What :func:`compose` returned.
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_E : ndarray, shape (C, d)
    """
    if is_compiled(engine):
        from ..kernels.composition import multiply_tanh_backward

        S = as_operator(S)
        return multiply_tanh_backward(S.transpose, S.transpose_row_bounds, grad_Z, Z)
    return sparse_product_backward(tanh_backward(grad_Z, Z), S)


def tanh_backward(grad_Z: np.ndarray, Z: np.ndarray, *, engine: str = "numpy") -> np.ndarray:
    """Gradient before tanh, from its output: ``grad_Z * (1 - Z^2)``.

    Parameters
    ----------
    grad_Z, Z : ndarray, shape (N, d)
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_Y : ndarray, shape (N, d)
        At Y, where Z = tanh(Y).
    """
    if is_compiled(engine):
        from ..kernels.elementwise import scale_by_tanh_slope

        return scale_by_tanh_slope(grad_Z, Z)
    return grad_Z * (1 - Z**2)


def compose_backward_assignment(grad_Z: np.ndarray, S, E: np.ndarray, Z: np.ndarray) -> sparse.csr_array:
    """Gradient with respect to the stored assignment weights: ``<grad_Z[i] * (1 - Z[i]^2), E[j]>`` at (i, j).

    Nothing in training uses it (assignments are updated in closed form); it is there for the reader who asks.

    Parameters
    ----------
    grad_Z, Z : ndarray, shape (N, d)
    S : csr_array or SparseOperator, shape (N, C)
    E : ndarray, shape (C, d)

    Returns
    -------
    grad_S : csr_array, shape (N, C), with the pattern of S
    """
    return sparse_product_backward_weights(tanh_backward(grad_Z, Z), S, E)
