"""Bridging: every coarse row is refined by a few fine rows, mixed in with the bridge weight g ("gate").

    E_hat = g S_f F + (1 - g) E_c

Shapes
------
S_f : (C, M) sparse assignment     F : (M, d) thresholded fine codebook     E_c, E_hat : (C, d)     g : scalar
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .sparse_product import sparse_product, sparse_product_backward, sparse_product_backward_weights


def bridge(E_coarse: np.ndarray, S_fine, F: np.ndarray, gate: float, *, engine: str = "numpy") -> np.ndarray:
    """Mix the fine codebook into the coarse one (model.md, fine stage, 2).

    Parameters
    ----------
    E_coarse : ndarray, shape (C, d)
    S_fine : csr_array or SparseOperator, shape (C, M)
    F : ndarray, shape (M, d)
    gate : float
        Bridge weight g: the share of the fine codebook.
    engine : {"numpy", "numba"}

    Returns
    -------
    E_hat : ndarray, shape (C, d)
    """
    return gate * sparse_product(S_fine, F, engine=engine) + (1 - gate) * E_coarse


def bridge_backward(grad_E_hat: np.ndarray, S_fine, gate: float, *, engine: str = "numpy") -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to both codebooks.

    Parameters
    ----------
    grad_E_hat : ndarray, shape (C, d)
    S_fine : csr_array or SparseOperator, shape (C, M)
    gate : float
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_E_coarse : ndarray, shape (C, d)
        ``(1 - g) grad_E_hat``.
    grad_F : ndarray, shape (M, d)
        ``g S_f^T grad_E_hat``.
    """
    return (1 - gate) * grad_E_hat, gate * sparse_product_backward(grad_E_hat, S_fine, engine=engine)


def bridge_backward_gate(grad_E_hat: np.ndarray, E_coarse: np.ndarray, S_fine, F: np.ndarray) -> float:
    """Gradient with respect to the bridge weight: ``sum(grad_E_hat * (S_f F - E_c))``."""
    return float(np.sum(grad_E_hat * (sparse_product(S_fine, F) - E_coarse)))


def bridge_backward_assignment(grad_E_hat: np.ndarray, S_fine, F: np.ndarray, gate: float) -> sparse.csr_array:
    """Gradient with respect to the stored weights of S_f: ``g <grad_E_hat[i], F[j]>`` at (i, j)."""
    return sparse_product_backward_weights(gate * grad_E_hat, S_fine, F)
