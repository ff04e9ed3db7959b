"""BPR: a user's positive item should score higher than a negative one.

    score(u, i) = <H_u, H_i> + b_u + b_i + b_0
    loss = mean over triples of softplus(score(u, negative) - score(u, positive))

b_u and b_0 cancel in the difference: their gradient is exactly 0.

Shapes
------
H : (N, d) entity embeddings     b : (N,) entity biases     b_0 : (1,) global bias     B triples
"""

from __future__ import annotations

import numpy as np

from ..engine import is_compiled
from .triples import Triples


def score_pairs(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, left, right) -> np.ndarray:
    """Score pairs of entities (model.md, coarse stage, 4).

    Parameters
    ----------
    H : ndarray, shape (N, d)
    bias : ndarray, shape (N,)
    bias_global : ndarray, shape (1,)
    left, right : ndarray of int, shape (B,)
        Entity numbers of the users and of the items.

    Returns
    -------
    ndarray, shape (B,)
    """
    return np.sum(H[left] * H[right], axis=1) + bias[left] + bias[right] + bias_global[0]


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow; complex input branches on the real part."""
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(-np.where(x.real > 0, x, -x)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), the derivative of softplus, without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def bpr_loss(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, triples: Triples, *, engine: str = "numpy"):
    """Mean BPR loss of a batch (model.md, coarse stage, 5).

    Parameters
    ----------
    H : ndarray, shape (N, d)
    bias : ndarray, shape (N,)
    bias_global : ndarray, shape (1,)
    triples : Triples
    engine : {"numpy", "numba"}

    Returns
    -------
    loss : scalar
    slope : ndarray, shape (B,)
        Derivative of the loss with respect to each difference score(negative) - score(positive); what
        :func:`bpr_backward` needs.
    """
    if is_compiled(engine):
        from ..kernels.bpr import losses_and_slopes

        losses, slope = losses_and_slopes(H, bias, triples.user, triples.positive, triples.negative)
        return np.mean(losses), slope
    positive = score_pairs(H, bias, bias_global, triples.user, triples.positive)
    negative = score_pairs(H, bias, bias_global, triples.user, triples.negative)
    return np.mean(softplus(negative - positive)), sigmoid((negative - positive).real) / len(triples)


def bpr_backward(
    H: np.ndarray, triples: Triples, slope: np.ndarray, *, engine: str = "numpy"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the BPR loss with respect to embeddings and biases.

    With s = `slope` of a triple (u, i, j), i positive and j negative:

        grad_H[u] += s (H_j - H_i),   grad_H[i] -= s H_u,   grad_H[j] += s H_u,
        grad_b[i] -= s,   grad_b[j] += s,   grad_b[u] += s - s = 0,   grad_b0 += s - s = 0.

    An entity that occurs several times collects all its contributions.

    Parameters
    ----------
    H : ndarray, shape (N, d)
    triples : Triples
    slope : ndarray, shape (B,)
        From :func:`bpr_loss`.
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_H : ndarray, shape (N, d)
    grad_bias : ndarray, shape (N,)
    grad_bias_global : ndarray, shape (1,)
    """
    grad_bias_global = np.zeros(1, dtype=H.dtype)
    if is_compiled(engine):
        from ..kernels.bpr import gather_gradients

        where = triples.occurrences
        grad_H, grad_bias = gather_gradients(
            H, slope, triples.user, triples.positive, triples.negative, where.entities, where.start, where.slots
        )
        return grad_H, grad_bias, grad_bias_global
    user, positive, negative = triples.user, triples.positive, triples.negative
    s = slope[:, None]
    grad_H = np.zeros_like(H)
    np.add.at(grad_H, user, s * (H[negative] - H[positive]))
    np.add.at(grad_H, positive, -s * H[user])
    np.add.at(grad_H, negative, s * H[user])
    grad_bias = np.zeros(len(H), dtype=H.dtype)
    np.add.at(grad_bias, positive, -slope)
    np.add.at(grad_bias, negative, slope)
    return grad_H, grad_bias, grad_bias_global
