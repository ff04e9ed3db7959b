"""The loss of a batch, the same in both stages: BPR of the propagated embeddings, and the regulariser of the ego embeddings.

    loss = BPR(H, b) + decay * regulariser(Z)

Only the K distinct entities of the batch are looked at: their rows of H, and gradients for these rows.

Shapes
------
H_entities : (N, d), or (K, d) if only the batch's rows were computed     Z : (N, d)     bias : (N,)
rows : (K,) the distinct entities of the batch, ascending     slope : (B,)
"""

from __future__ import annotations

import numpy as np

from ..operations.bpr import bpr_backward, bpr_loss
from ..operations.regulariser import squared_norm_penalty
from ..operations.triples import Triples
from .state import Loss


def batch_loss(
    forward,
    bias: np.ndarray,
    bias_global: np.ndarray,
    triples: Triples,
    *,
    l2: float,
    decay: float,
    engine: str = "numpy",
) -> tuple[Loss, np.ndarray]:
    """Loss of a batch (model.md, coarse stage, 4-5).

    Parameters
    ----------
    forward : CoarseForward or FineForward
        Of all entities, or of this batch's.
    bias : ndarray, shape (N,)
    bias_global : ndarray, shape (1,)
    triples : Triples
    l2, decay : float
    engine : {"numpy", "numba"}

    Returns
    -------
    loss : Loss
    slope : ndarray, shape (B,)
        For the gradients.
    """
    rows = triples.occurrences.entities
    bpr, slope = bpr_loss(rows_of_batch(forward, triples), bias[rows], bias_global, triples.local, engine=engine)
    return Loss(bpr, squared_norm_penalty(forward.Z, triples, l2, engine=engine), decay), slope


def batch_loss_backward(
    forward, slope: np.ndarray, triples: Triples, *, engine: str = "numpy"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the data loss with respect to the batch's embeddings and to the biases.

    Parameters
    ----------
    forward : CoarseForward or FineForward
    slope : ndarray, shape (B,)
        From :func:`batch_loss`.
    triples : Triples
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_H : ndarray, shape (K, d)
        Of the rows ``triples.occurrences.entities``; all other rows have none.
    grad_bias : ndarray, shape (N,)
    grad_bias_global : ndarray, shape (1,)
    """
    H = rows_of_batch(forward, triples)
    grad_H, grad_bias_rows, grad_bias_global = bpr_backward(H, triples.local, slope, engine=engine)
    grad_bias = np.zeros(triples.n_entities, dtype=grad_bias_rows.dtype)
    grad_bias[triples.occurrences.entities] = grad_bias_rows
    return grad_H, grad_bias, grad_bias_global


def rows_of_batch(forward, triples: Triples) -> np.ndarray:
    """The propagated embeddings of the batch's distinct entities, shape (K, d)."""
    rows = triples.occurrences.entities
    if forward.rows is None:
        return forward.H_entities[rows]
    if forward.rows is not rows:
        raise ValueError("the forward pass was made for the rows of another batch")
    return forward.H_entities
