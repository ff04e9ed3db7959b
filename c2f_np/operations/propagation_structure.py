"""Gradients of propagation with respect to what it propagates over: the graph, the assignments in the layers, the gate.

Training never uses them: a graph is fixed between two assignment updates. They need every layer's output, which the
backward pass with respect to X_0 does not, so the layers are computed anew here.

With G_k the gradient at X_k (G_L = grad_H / (L + 1), G_k = grad_H / (L + 1) + T^T G_{k+1}), layer k adds the gradient of
``sum(G_{k+1} * T X_k)`` with respect to what T is made of.

Shapes
------
X0, H : (n, d)     X_hat : (n, n) csr     S_c : (N, C)     S_f : (C, M)     g : scalar     n = N + C + M
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from .bridged_propagation import BridgedGraph, bridged_layer, bridged_layer_backward
from .propagation import require_layers
from .sparse_operator import as_operator
from .sparse_product import sparse_product, sparse_product_backward, sparse_product_backward_weights


def propagate_backward_weights(
    grad_H: np.ndarray, X0: np.ndarray, X_hat, n_layers: int, *, engine: str = "numpy"
) -> sparse.csr_array:
    """Gradient with respect to the stored entries of X_hat, through :func:`c2f_np.operations.propagation.propagate`.

    Parameters
    ----------
    grad_H, X0 : ndarray, shape (n, d)
    X_hat : csr_array or SparseOperator, shape (n, n)
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_X_hat : csr_array, shape (n, n), of the pattern of X_hat
    """
    require_layers(n_layers)
    X_hat = as_operator(X_hat)
    layers = [X0]
    for _ in range(n_layers - 1):
        layers.append(sparse_product(X_hat, layers[-1], engine=engine))
    share = grad_H / (n_layers + 1)
    grad_layer = share
    values = np.zeros_like(X_hat.matrix.data)
    for layer in reversed(layers[:n_layers]):
        values += sparse_product_backward_weights(grad_layer, X_hat, layer, engine=engine).data
        grad_layer = share + sparse_product_backward(grad_layer, X_hat, engine=engine)
    return sparse.csr_array((values, X_hat.matrix.indices, X_hat.matrix.indptr), shape=X_hat.shape)


@dataclass(frozen=True)
class StructureGradients:
    """Gradients with respect to what a bridged layer is made of, each matrix on its stored entries.

    Attributes
    ----------
    X_hat : csr_array, shape (N + C + M, N + C + M)
        With the part that came through the block ``coarse_message``.
    S_coarse : csr_array, shape (N, C)
    S_fine : csr_array, shape (C, M)
        Through the bridges inside the layers only.
    gate : float
    """

    X_hat: sparse.csr_array
    S_coarse: sparse.csr_array
    S_fine: sparse.csr_array
    gate: float

    def __add__(self, other: StructureGradients) -> StructureGradients:
        def add(a, b):
            return sparse.csr_array((a.data + b.data, a.indices, a.indptr), shape=a.shape)

        return StructureGradients(
            add(self.X_hat, other.X_hat),
            add(self.S_coarse, other.S_coarse),
            add(self.S_fine, other.S_fine),
            self.gate + other.gate,
        )


def bridged_layer_backward_structure(
    grad_X_next: np.ndarray, X: np.ndarray, graph: BridgedGraph, *, engine: str = "numpy"
) -> StructureGradients:
    """Gradients of one bridged layer with respect to its matrices and the gate.

    Parameters
    ----------
    grad_X_next, X : ndarray, shape (N + C + M, d)
        Cotangent of the layer's output, and the layer's input.
    graph : BridgedGraph
    engine : {"numpy", "numba"}

    Returns
    -------
    StructureGradients
    """
    n, c, _ = graph.sizes
    g = graph.gate
    grad_h = grad_X_next[:n]
    if graph.layer_bridge == "exchange":
        # h += message @ (g S_f q - g p), with p and q the rows of the layer's input.
        p, q = X[n : n + c], X[n + c :]
        difference = sparse_product(graph.S_fine, q, engine=engine) - p
        grad_X_hat = sparse_product_backward_weights(grad_X_next, graph.X_hat, X, engine=engine)
        message = sparse_product_backward_weights(grad_h, graph.coarse_message, g * difference, engine=engine)
        grad_X_hat = _add_block(grad_X_hat, message, n)
        grad_difference = sparse_product_backward(grad_h, graph.coarse_message, engine=engine)
        grad_S_fine = sparse_product_backward_weights(g * grad_difference, graph.S_fine, q, engine=engine)
        nothing = _like(graph.S_coarse.matrix, np.zeros_like(graph.S_coarse.matrix.data))
        return StructureGradients(grad_X_hat, nothing, grad_S_fine, np.sum(grad_difference * difference))
    # h <- h + S_c change,  p <- p + change,  change = (2g - 1) S_f q - g p
    Y = sparse_product(graph.X_hat, X, engine=engine)
    p, q = Y[n : n + c], Y[n + c :]
    fine = sparse_product(graph.S_fine, q, engine=engine)
    change = (2 * g - 1) * fine - g * p
    grad_change = grad_X_next[n : n + c] + sparse_product_backward(grad_h, graph.S_coarse, engine=engine)
    grad_S_coarse = sparse_product_backward_weights(grad_h, graph.S_coarse, change, engine=engine)
    grad_S_fine = sparse_product_backward_weights((2 * g - 1) * grad_change, graph.S_fine, q, engine=engine)
    grad_Y = grad_X_next.copy()
    grad_Y[n : n + c] -= g * grad_change
    grad_Y[n + c :] += sparse_product_backward((2 * g - 1) * grad_change, graph.S_fine, engine=engine)
    grad_X_hat = sparse_product_backward_weights(grad_Y, graph.X_hat, X, engine=engine)
    return StructureGradients(grad_X_hat, grad_S_coarse, grad_S_fine, np.sum(grad_change * (2 * fine - p)))


def propagate_bridged_backward_structure(
    grad_H: np.ndarray, X0: np.ndarray, graph: BridgedGraph, n_layers: int, *, engine: str = "numpy"
) -> StructureGradients:
    """Gradients of L bridged layers and their mean with respect to the matrices and the gate.

    Parameters
    ----------
    grad_H, X0 : ndarray, shape (N + C + M, d)
    graph : BridgedGraph
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    StructureGradients
    """
    require_layers(n_layers)
    layers = [X0]
    for _ in range(n_layers - 1):
        layers.append(bridged_layer(layers[-1], graph, engine=engine))
    share = grad_H / (n_layers + 1)
    grad_layer = share
    total = _no_gradients(graph)
    for layer in reversed(layers[:n_layers]):
        total = total + bridged_layer_backward_structure(grad_layer, layer, graph, engine=engine)
        grad_layer = share + bridged_layer_backward(grad_layer, graph, engine=engine)
    return total


def _no_gradients(graph: BridgedGraph) -> StructureGradients:
    matrices = (graph.X_hat.matrix, graph.S_coarse.matrix, graph.S_fine.matrix)
    return StructureGradients(*(_like(matrix, np.zeros_like(matrix.data)) for matrix in matrices), 0.0)


def _like(matrix: sparse.csr_array, values: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def _add_block(X: sparse.csr_array, block: sparse.csr_array, first_column: int) -> sparse.csr_array:
    """X with `block` added to its first rows from column `first_column` on; the block's entries are all stored in X."""
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    n, c = block.shape
    inside = (rows < n) & (X.indices >= first_column) & (X.indices < first_column + c)
    values = X.data.copy()
    # Both are sorted by row, then by column, so the entries come in the same order.
    values[inside] += block.data
    return _like(X, values)
