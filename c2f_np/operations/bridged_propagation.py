"""Propagation of the fine stage: the same recurrence, with the bridge inside every layer.

A layer first mixes neighbours, Y = X_hat X_k, whose rows are entities h, coarse nodes p and fine nodes q. Then the bridge:

    layer_bridge="raw" (the released code)           h <- h - S_c p
                                                     p <- p - S_f q
                                                     p <- g S_f q + (1 - g) p
                                                     h <- h + S_c p
    which is  h <- h + S_c ((2g - 1) S_f q - g p),   p <- (1 - g) p + (2g - 1) S_f q.

    layer_bridge="exchange" (the paper's words)      before the product, in what the entities receive, the coarse message p_k is
                                                     exchanged for the bridged one g S_f q_k + (1 - g) p_k:
                                                     h <- Y_h + X_hat[entities, coarse] g (S_f q_k - p_k)

Either way a layer is linear, X_{k+1} = T X_k, but T is not symmetric: the backward pass needs T^T.

Shapes
------
X0, H : (N + C + M, d), rows entities, coarse, fine     X_hat : (N + C + M,) * 2 sparse
S_c : (N, C) sparse     S_f : (C, M) sparse     g : scalar     L : number of layers
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..engine import is_compiled
from ..errors import SettingsError
from .propagation import in_rows, require_layers
from .sparse_operator import SparseOperator, as_operator
from .sparse_product import sparse_product, sparse_product_backward

LAYER_BRIDGES = ("raw", "exchange")


@dataclass(frozen=True)
class BridgedGraph:
    """What one layer of the fine stage is made of.

    Attributes
    ----------
    X_hat : SparseOperator, shape (N + C + M, N + C + M)
        Normalised expanded graph.
    S_coarse, S_fine : SparseOperator, shapes (N, C) and (C, M)
    coarse_message : SparseOperator, shape (N, C), or None
        The block X_hat[entities, coarse], which only ``layer_bridge="exchange"`` uses.
    gate : float
    layer_bridge : {"raw", "exchange"}
    """

    X_hat: SparseOperator
    S_coarse: SparseOperator
    S_fine: SparseOperator
    coarse_message: SparseOperator | None
    gate: float
    layer_bridge: str

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, C, M."""
        return self.S_coarse.shape[0], self.S_coarse.shape[1], self.S_fine.shape[1]


def bridged_graph(X_hat, S_coarse, S_fine, gate: float, *, layer_bridge: str = "raw") -> BridgedGraph:
    """Collect the matrices of a fine-stage layer.

    Parameters
    ----------
    X_hat : csr_array or SparseOperator, shape (N + C + M, N + C + M)
    S_coarse : csr_array, shape (N, C)
    S_fine : csr_array, shape (C, M)
    gate : float
    layer_bridge : {"raw", "exchange"}

    Returns
    -------
    BridgedGraph

    Raises
    ------
    SettingsError
        If the shapes do not fit together or the name of the bridge is unknown.
    """
    if layer_bridge not in LAYER_BRIDGES:
        raise SettingsError(f"layer_bridge must be one of {', '.join(LAYER_BRIDGES)}, not {layer_bridge!r}")
    n, c = S_coarse.shape
    size = n + c + S_fine.shape[1]
    if S_fine.shape[0] != c or X_hat.shape != (size, size):
        raise SettingsError(f"expanded graph {X_hat.shape}, S_coarse {S_coarse.shape} and S_fine {S_fine.shape} do not fit")
    X_hat, S_coarse, S_fine = as_operator(X_hat), as_operator(S_coarse), as_operator(S_fine)
    message = None if layer_bridge == "raw" else as_operator(sparse.csr_array(X_hat.matrix[:n, n : n + c]))
    return BridgedGraph(X_hat, S_coarse, S_fine, message, gate, layer_bridge)


def bridged_layer(X: np.ndarray, graph: BridgedGraph, *, engine: str = "numpy") -> np.ndarray:
    """One layer, X_{k+1} = T X_k (model.md, fine stage, 4).

    Parameters
    ----------
    X : ndarray, shape (N + C + M, d)
    graph : BridgedGraph
    engine : {"numpy", "numba"}

    Returns
    -------
    ndarray, shape (N + C + M, d)
    """
    n, c, _ = graph.sizes
    g = graph.gate
    Y = sparse_product(graph.X_hat, X, engine=engine)
    if graph.layer_bridge == "exchange":
        coarse, fine = X[n : n + c], X[n + c :]
        bridged = g * sparse_product(graph.S_fine, fine, engine=engine) + (1 - g) * coarse
        sparse_product(graph.coarse_message, bridged - coarse, onto=Y[:n], engine=engine)
        return Y
    h, p, q = Y[:n], Y[n : n + c], Y[n + c :]
    fine = sparse_product(graph.S_fine, q, engine=engine)
    if is_compiled(engine):
        # The four lines below change p by (2g - 1) S_f q - g p and h by S_c times that: one sparse product instead of two.
        change = (2 * g - 1) * fine - g * p
        sparse_product(graph.S_coarse, change, onto=h, engine=engine)
        p += change
        return Y
    h -= sparse_product(graph.S_coarse, p)
    p -= fine
    p[:] = g * fine + (1 - g) * p
    h += sparse_product(graph.S_coarse, p)
    return Y


def bridged_layer_backward(grad_X_next: np.ndarray, graph: BridgedGraph, *, engine: str = "numpy") -> np.ndarray:
    """Gradient with respect to the layer's input: T^T applied to the cotangent.

    Parameters
    ----------
    grad_X_next : ndarray, shape (N + C + M, d)
    graph : BridgedGraph
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_X : ndarray, shape (N + C + M, d)
    """
    n, c, _ = graph.sizes
    g = graph.gate
    if graph.layer_bridge == "exchange":
        grad_X = sparse_product_backward(grad_X_next, graph.X_hat, engine=engine)
        # h += message @ (g S_f q - g p), with p and q the rows of the layer's input.
        grad_difference = sparse_product_backward(grad_X_next[:n], graph.coarse_message, engine=engine)
        grad_X[n : n + c] -= g * grad_difference
        grad_X[n + c :] += g * sparse_product_backward(grad_difference, graph.S_fine, engine=engine)
        return grad_X
    grad_Y = grad_X_next.copy()
    grad_p, grad_q = grad_Y[n : n + c], grad_Y[n + c :]
    # Read the four lines of the forward from the last to the first:
    # h <- h + S_c p
    from_entities = sparse_product_backward(grad_X_next[:n], graph.S_coarse, engine=engine)
    grad_p += from_entities
    # p <- g S_f q + (1 - g) p;  p <- p - S_f q:  q is reached with g on the first way and with -(1 - g) on the second
    grad_q += sparse_product_backward((2 * g - 1) * grad_p, graph.S_fine, engine=engine)
    grad_p *= 1 - g
    # h <- h - S_c p
    grad_p -= from_entities
    return sparse_product_backward(grad_Y, graph.X_hat, engine=engine)


def propagate_bridged(
    X0: np.ndarray, graph: BridgedGraph, n_layers: int, *, rows: np.ndarray | None = None, engine: str = "numpy"
) -> np.ndarray:
    """L bridged layers and the mean over X_0, ..., X_L (model.md, fine stage, 4).

    Parameters
    ----------
    X0 : ndarray, shape (N + C + M, d)
    graph : BridgedGraph
    n_layers : int
    rows : ndarray of int, shape (K,), optional
        Distinct rows of H that are wanted; by default all.
    engine : {"numpy", "numba"}

    Returns
    -------
    H : ndarray, shape (N + C + M, d) or (K, d)
    """
    require_layers(n_layers)
    layer = X0
    total = X0.copy()
    for _ in range(n_layers):
        layer = bridged_layer(layer, graph, engine=engine)
        total += layer
    return (total if rows is None else total[rows]) / (n_layers + 1)


def propagate_bridged_backward(
    grad_H: np.ndarray, graph: BridgedGraph, n_layers: int, *, rows: np.ndarray | None = None, engine: str = "numpy"
) -> np.ndarray:
    """Gradient with respect to X0: G_L = grad_H / (L + 1), G_k = grad_H / (L + 1) + T^T G_{k+1}, grad_X0 = G_0.

    Parameters
    ----------
    grad_H : ndarray, shape (N + C + M, d) or (K, d)
    graph : BridgedGraph
    n_layers : int
    rows : ndarray of int, shape (K,), optional
        Distinct rows of H that `grad_H` belongs to; by default all.
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_X0 : ndarray, shape (N + C + M, d)
    """
    require_layers(n_layers)
    share = (grad_H if rows is None else in_rows(grad_H, rows, graph.X_hat.shape[0])) / (n_layers + 1)
    grad_layer = share
    for _ in range(n_layers):
        grad_layer = share + bridged_layer_backward(grad_layer, graph, engine=engine)
    return grad_layer
