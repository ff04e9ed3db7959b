"""Propagation: L layers, and the mean over their outputs.

    X_{k+1} = T X_k,   H = mean(X_0, ..., X_L)

This is a linear map of X_0, so that its backward pass is the same recurrence with the adjoint, and no layer has to be remembered:
every layer passes back its share of the mean and what the next layer passes through T^T.

    G_L = grad_H / (L + 1),   G_k = grad_H / (L + 1) + T^T G_{k+1},   grad_X0 = G_0

A *layer* is anything with ``forward``, ``adjoint`` and ``structure_gradients``. In the coarse stage and in joint training it is
a sparse operator, T = X_hat or A. In the fine stage it is a :class:`BridgedLayer`: Y = X_hat X_k has rows h of entities, p of
coarse nodes and q of fine nodes, and the bridge follows.

    layer_bridge="raw" (the released code)           h <- h - S_c p
                                                     p <- p - S_f q
                                                     p <- g S_f q + (1 - g) p
                                                     h <- h + S_c p
    which is  h <- h + S_c ((2g - 1) S_f q - g p),   p <- (1 - g) p + (2g - 1) S_f q.

    layer_bridge="exchange" (the paper's words)      before the product, in what the entities receive, the coarse message p_k is
                                                     exchanged for the bridged one g S_f q_k + (1 - g) p_k:
                                                     h <- Y_h + X_hat[entities, coarse] g (S_f q_k - p_k)

A bridged layer is linear but not symmetric: its adjoint is another map.

With ``composition="coarse"`` only F varies in the fine stage, and E_hat = g S_f F + (1 - g) E_c. With P the whole propagation:

    H_entities = K + W1 F + W2 tanh(F),      grad_F = W1^T grad_H,   grad_tanh_F = W2^T grad_H
    K = P[entities, .] [Z; (1 - g) E_c; 0]      W1 = P[entities, coarse] g S_f      W2 = P[entities, fine]

This *collapse* is exact up to rounding; one propagation of 2 M + d columns replaces 2 L sparse products in every step.

A batch sees few rows of H. With `rows` only these are computed, and the cotangent is given for these alone.

Shapes
------
X0, X_k, H, grad_H : (n, d)     X_hat : (n, n)     S_c : (N, C)     S_f : (C, M)     n = N + C + M     g : scalar
rows : (K,) distinct row numbers     F, tanh_F : (M, d)     E_c : (C, d)     Z, K : (N, d)     W1, W2 : (N, M)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import SettingsError, require_one_of
from ..settings import LAYER_BRIDGES

if TYPE_CHECKING:
    from .sparse import SparseOperator


def propagate(X0: np.ndarray, layer, n_layers: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """H, or some of its rows (model.md, coarse stage, 3; fine stage, 4)."""
    layer = as_layer(layer, n_layers)
    X, total = X0, X0.copy()
    for _ in range(n_layers):
        X = layer.forward(X)
        total += X
    total = total if rows is None else total[rows]
    total /= n_layers + 1
    return total


def propagate_backward(grad_H: np.ndarray, layer, n_layers: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """grad_X0; with `rows` the cotangent of all other rows is 0."""
    layer = as_layer(layer, n_layers)
    share = (grad_H if rows is None else in_rows(grad_H, rows, layer.shape[0])) / (n_layers + 1)
    G = share
    for _ in range(n_layers):
        G = share + layer.adjoint(G)
    return G


def propagate_backward_structure(grad_H: np.ndarray, X0: np.ndarray, layer, n_layers: int) -> dict[str, np.ndarray]:
    """Gradients with respect to what a layer is made of: layer k adds that of ``sum(G_{k+1} * T X_k)``.

    They need every layer's output, which the gradient with respect to X0 does not, so the layers are computed anew.
    """
    layer = as_layer(layer, n_layers)
    outputs = [X0]
    for _ in range(n_layers - 1):
        outputs.append(layer.forward(outputs[-1]))
    share = grad_H / (n_layers + 1)
    G, total = share, layer.structure_gradients(np.zeros_like(X0), X0)
    for X in reversed(outputs[:n_layers]):
        total = {name: total[name] + part for name, part in layer.structure_gradients(G, X).items()}
        G = share + layer.adjoint(G)
    return total


@dataclass(frozen=True)
class BridgedLayer:
    """A layer of the fine stage. `coarse_message` is the block X_hat[entities, coarse], which only "exchange" uses."""

    X_hat: SparseOperator
    S_coarse: SparseOperator
    S_fine: SparseOperator
    coarse_message: SparseOperator | None
    gate: float

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, C, M."""
        return *self.S_coarse.shape, self.S_fine.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        return self.X_hat.shape

    def forward(self, X: np.ndarray) -> np.ndarray:
        """``T X`` (model.md, fine stage, 4)."""
        g = self.gate
        Y = self.X_hat.forward(X)
        h, p, q = self.split(Y)
        if self.coarse_message is not None:
            _, coarse, fine = self.split(X)
            bridged = g * self.S_fine.forward(fine) + (1 - g) * coarse
            self.coarse_message.add_forward(bridged - coarse, h)
            return Y
        self.bridge_raw(h, p, self.S_fine.forward(q))
        return Y

    def bridge_raw(self, h: np.ndarray, p: np.ndarray, fine: np.ndarray) -> None:
        """The four lines of the released code, in place; `fine` is S_f q."""
        g = self.gate
        h -= self.S_coarse.forward(p)
        p -= fine
        p[:] = g * fine + (1 - g) * p
        h += self.S_coarse.forward(p)

    def adjoint(self, grad_next: np.ndarray) -> np.ndarray:
        """``T^T grad_next``."""
        g = self.gate
        if self.coarse_message is not None:
            grad_X = self.X_hat.adjoint(grad_next)
            _, grad_p, grad_q = self.split(grad_X)
            # h += message (g S_f q - g p), with p and q the rows of the layer's input.
            grad_difference = self.coarse_message.adjoint(self.split(grad_next)[0])
            grad_p -= g * grad_difference
            grad_q += g * self.S_fine.adjoint(grad_difference)
            return grad_X
        grad_Y = grad_next.copy()
        grad_h, grad_p, grad_q = self.split(grad_Y)
        # Read the four lines of the forward from the last to the first:
        # h <- h + S_c p
        from_entities = self.S_coarse.adjoint(self.split(grad_next)[0])
        grad_p += from_entities
        # p <- g S_f q + (1 - g) p;  p <- p - S_f q:  q is reached with g along the first and with -(1 - g) along the second
        grad_q += self.S_fine.adjoint((2 * g - 1) * grad_p)
        grad_p *= 1 - g
        # h <- h - S_c p
        grad_p -= from_entities
        return self.X_hat.adjoint(grad_Y)

    def structure_gradients(self, grad_next: np.ndarray, X: np.ndarray) -> dict[str, np.ndarray]:
        """Gradients of ``sum(grad_next * T X)`` with respect to the stored weights of the matrices and to the gate."""
        g = self.gate
        grad_h = self.split(grad_next)[0]
        if self.coarse_message is not None:
            _, p, q = self.split(X)
            difference = self.S_fine.forward(q) - p
            grad_X_hat = self.X_hat.weights_gradient(grad_next, X)
            grad_X_hat[self._message_entries()] += self.coarse_message.weights_gradient(grad_h, g * difference)
            grad_difference = self.coarse_message.adjoint(grad_h)
            return {
                "X_hat": grad_X_hat,
                "S_coarse": np.zeros_like(self.S_coarse.matrix.data),
                "S_fine": self.S_fine.weights_gradient(g * grad_difference, q),
                "gate": np.sum(grad_difference * difference),
            }
        # h <- h + S_c change,  p <- p + change,  change = (2g - 1) S_f q - g p
        _, p, q = self.split(self.X_hat.forward(X))
        fine = self.S_fine.forward(q)
        change = (2 * g - 1) * fine - g * p
        grad_change = self.split(grad_next)[1] + self.S_coarse.adjoint(grad_h)
        grad_Y = grad_next.copy()
        _, grad_p, grad_q = self.split(grad_Y)
        grad_p -= g * grad_change
        grad_q += self.S_fine.adjoint((2 * g - 1) * grad_change)
        return {
            "X_hat": self.X_hat.weights_gradient(grad_Y, X),
            "S_coarse": self.S_coarse.weights_gradient(grad_h, change),
            "S_fine": self.S_fine.weights_gradient((2 * g - 1) * grad_change, q),
            "gate": np.sum(grad_change * (2 * fine - p)),
        }

    def split(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of entities, of coarse nodes, of fine nodes, as views."""
        n, c, _ = self.sizes
        return X[:n], X[n : n + c], X[n + c :]

    def _message_entries(self) -> np.ndarray:
        """Which stored entries of X_hat are those of `coarse_message`; both are sorted by row, then by column."""
        n, c, _ = self.sizes
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.X_hat.matrix.indptr))
        columns = self.X_hat.matrix.indices
        return (rows < n) & (columns >= n) & (columns < n + c)


def bridged_layer(X_hat, S_coarse, S_fine, gate: float, *, layer_bridge: str = "raw", engine) -> BridgedLayer:
    """Prepare a layer of the fine stage; `X_hat` may be an operator."""
    require_one_of(LAYER_BRIDGES, layer_bridge, "layer_bridge")
    n, c = S_coarse.shape
    size = n + c + S_fine.shape[1]
    if S_fine.shape[0] != c or X_hat.shape != (size, size):
        raise SettingsError(f"expanded graph {X_hat.shape}, S_coarse {S_coarse.shape} and S_fine {S_fine.shape} do not fit")
    X_hat = X_hat if hasattr(X_hat, "adjoint") else engine.operator(X_hat)
    message = None if layer_bridge == "raw" else engine.operator(X_hat.matrix[:n, n : n + c])
    # Here, and not above: an exported model is propagated by functions of this module where there is no SciPy.
    from .codebook import number

    return engine.BridgedLayer(X_hat, engine.operator(S_coarse), engine.operator(S_fine), message, number(gate))


# ---- the collapse ------------------------------------------------------------------------------------------------------
# What a multiplication and addition costs in a sparse product, in units of one in a dense product; measured on large float32
# problems with two threads. The choice between the two ways must not depend on a clock (a resumed run has to choose as the first
# one did), so it depends on this number.
SPARSE_COST = 4.0
# K and W are kept; if they are larger than this, layers are the better bargain.
MOST_BYTES = 2**30


@dataclass(frozen=True)
class CollapsedPropagation:
    """Everything of a propagation that F does not change: K, [W1, W2], Z, and the codebook that K was computed from."""

    constant: np.ndarray
    weights: np.ndarray
    Z: np.ndarray
    E_coarse: np.ndarray


def collapse(Z: np.ndarray, E_coarse: np.ndarray, layer: BridgedLayer, n_layers: int) -> CollapsedPropagation:
    """K, W1 and W2, by propagating them; Z must not depend on F (model.md, fine stage, collapsed)."""
    n, c, m = layer.sizes

    def entities_from(*parts: np.ndarray) -> np.ndarray:
        return propagate(np.concatenate(parts), layer, n_layers)[:n]

    def zeros(n_rows: int) -> np.ndarray:
        return np.zeros((n_rows, m), dtype=E_coarse.dtype)

    constant = (Z, (1 - layer.gate) * E_coarse, np.zeros((m, E_coarse.shape[1]), dtype=E_coarse.dtype))
    # A unit of each fine row, as the bridge spreads it over the coarse nodes (W1), and at the fine node itself (W2).
    own = np.eye(m, dtype=E_coarse.dtype)
    spread = layer.gate * layer.S_fine.forward(own)
    K, weights = entities_from(*constant).copy(), np.empty((n, 2 * m), dtype=E_coarse.dtype)
    weights[:, :m] = entities_from(zeros(n), spread, zeros(m))  # one after the other, which takes less memory
    weights[:, m:] = entities_from(zeros(n + c), own)
    return CollapsedPropagation(K, weights, Z, E_coarse)


def propagate_collapsed(F, tanh_F, collapsed: CollapsedPropagation, *, rows: np.ndarray) -> np.ndarray:
    """Some rows of H_entities: ``K + W1 F + W2 tanh(F)``."""
    return collapsed.constant[rows] + collapsed.weights[rows] @ np.concatenate([F, tanh_F])


def propagate_collapsed_backward(grad_H, collapsed: CollapsedPropagation, *, rows: np.ndarray):
    """grad_F and grad_tanh_F, as of two arguments."""
    W = collapsed.weights
    both = W.T @ in_rows(grad_H, rows, len(W))
    return both[: len(both) // 2], both[len(both) // 2 :]


def collapse_pays(
    n_entities: int, n_entries: int, n_fine: int, dim: int, n_layers: int, *, n_steps: int, n_rows: int, itemsize: int = 4
) -> bool:
    """Whether collapsing is cheaper than layers, for so many steps between two assignment updates.

    Counted are multiplications and additions: 2 L nnz d in sparse products for a layered step, 2 R (2 M) d in dense products for
    a collapsed one (R: at most `n_rows` distinct entities a batch), and L nnz (2 M + d) in sparse products once for collapsing.
    """
    if n_entities * (2 * n_fine + 2 * dim) * itemsize > MOST_BYTES:
        return False
    layered = n_steps * 2 * n_layers * n_entries * dim * SPARSE_COST
    collapsed = n_steps * 2 * n_rows * 2 * n_fine * dim
    collapsing = n_layers * n_entries * (2 * n_fine + dim) * SPARSE_COST
    return collapsed + collapsing < layered


def in_rows(values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """A matrix of n rows with `values` in the rows `rows` and zeros elsewhere: the adjoint of taking these rows."""
    whole = np.zeros((n, values.shape[1]), dtype=values.dtype)
    whole[rows] = values
    return whole


def as_layer(layer, n_layers: int):
    """A layer of which there are `n_layers`: a sparse matrix is made one."""
    if n_layers < 0:
        raise SettingsError(f"the number of layers must be 0 or more, not {n_layers}")
    if hasattr(layer, "adjoint"):
        return layer
    from .sparse import operator  # here for the same reason

    return operator(layer)
