"""The loss of a batch: BPR of the propagated embeddings, and the regulariser of the ego embeddings.

    score(u, i) = <H_u, H_i> + b_u + b_i + b_0
    bpr  = mean over triples of softplus(score(u, negative) - score(u, positive))
    r    = l2 (|Z_user|^2 + |Z_positive|^2 + |Z_negative|^2) / B = l2 / B  sum_e count_e |Z_e|^2
    loss = bpr + decay * r

b_u and b_0 cancel in the difference: their gradient is exactly 0. The regulariser sees the composed Z, not the propagated H, and
counts every occurrence of an entity. With s the slope of a triple (u, i, j), i positive and j negative, the gradients of BPR are

    grad_H[u] += s (H_j - H_i),   grad_H[i] -= s H_u,   grad_H[j] += s H_u,   grad_b[i] -= s,   grad_b[j] += s

and an entity that occurs several times collects all its contributions.

Shapes
------
H, Z : (N, d)     b : (N,)     b_0 : (1,)     slope : (B,), the derivative of bpr by the difference of each triple's scores
In a batch only its K distinct entities are looked at: H may be (K, d), their rows alone, and grad_H is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .triples import Triples


@dataclass(frozen=True)
class Loss:
    """The loss of a batch; `regulariser` is r, without the decay."""

    bpr: float
    regulariser: float
    decay: float

    @property
    def total(self):
        """``bpr + decay * regulariser``."""
        return self.bpr + self.decay * self.regulariser


def score_pairs(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, left, right) -> np.ndarray:
    """Scores of pairs of entities (model.md, coarse stage, 4)."""
    return np.sum(H[left] * H[right], axis=1) + bias[left] + bias[right] + bias_global[0]


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow; complex input branches on the real part."""
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(-np.where(x.real > 0, x, -x)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), the derivative of softplus, without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def bpr_loss(H: np.ndarray, bias: np.ndarray, bias_global: np.ndarray, triples: Triples):
    """bpr and the slope of every triple (model.md, coarse stage, 5)."""
    positive = score_pairs(H, bias, bias_global, triples.user, triples.positive)
    negative = score_pairs(H, bias, bias_global, triples.user, triples.negative)
    return np.mean(softplus(negative - positive)), sigmoid((negative - positive).real) / len(triples)


def bpr_backward(H: np.ndarray, triples: Triples, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients with respect to H, b and b_0."""
    user, positive, negative = triples.user, triples.positive, triples.negative
    s = slope[:, None]
    grad_H = np.zeros_like(H)
    np.add.at(grad_H, user, s * (H[negative] - H[positive]))
    np.add.at(grad_H, positive, -s * H[user])
    np.add.at(grad_H, negative, s * H[user])
    grad_bias = np.zeros(len(H), dtype=H.dtype)
    np.add.at(grad_bias, positive, -slope)
    np.add.at(grad_bias, negative, slope)
    return grad_H, grad_bias, np.zeros(1, dtype=H.dtype)


def squared_norm_penalty(Z: np.ndarray, triples: Triples, l2: float):
    """r, without decay (model.md, coarse stage, 5)."""
    rows = [Z[triples.user], Z[triples.positive], Z[triples.negative]]
    return l2 * sum(np.sum(row * row) for row in rows) / len(triples)


def squared_norm_penalty_backward(grad_penalty: float, Z, triples: Triples, l2: float, onto: np.ndarray) -> np.ndarray:
    """``onto + grad_penalty * 2 l2 count_e Z_e / B``.

    `onto` is the gradient that reaches Z along another path. It is given away: the compiled version adds in place.
    """
    factor = 2 * l2 * grad_penalty / len(triples)
    count = np.zeros(len(Z), dtype=Z.dtype)
    for entities in (triples.user, triples.positive, triples.negative):
        np.add.at(count, entities, 1)
    return onto + (factor * count[:, None]).astype(Z.dtype) * Z


def batch_loss(forward, bias: np.ndarray, bias_global: np.ndarray, triples: Triples, *, l2: float, decay: float, engine):
    """The loss of a batch (model.md, coarse stage, 4-5), and the slopes. `forward` is of all entities or of this batch's."""
    rows = triples.entities
    bpr, slope = engine.bpr_loss(_rows_of_batch(forward, triples), bias[rows], bias_global, triples.local)
    return Loss(bpr, engine.squared_norm_penalty(forward.Z, triples, l2), decay), slope


def batch_loss_backward(forward, slope: np.ndarray, triples: Triples, *, engine):
    """grad_H of the batch's entities, shape (K, d), and grad_b and grad_b_0; all of the data loss."""
    H = _rows_of_batch(forward, triples)
    grad_H, grad_bias_rows, grad_bias_global = engine.bpr_backward(H, triples.local, slope)
    grad_bias = np.zeros(triples.n_entities, dtype=grad_bias_rows.dtype)
    grad_bias[triples.entities] = grad_bias_rows
    return grad_H, grad_bias, grad_bias_global


def _rows_of_batch(forward, triples: Triples) -> np.ndarray:
    """The propagated embeddings of the batch's distinct entities."""
    if forward.rows is None:
        return forward.H_entities[triples.entities]
    if forward.rows is not triples.entities:
        raise ValueError("the forward pass was made for the rows of another batch")
    return forward.H_entities
