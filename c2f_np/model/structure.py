"""Gradients of the loss with respect to what no stage trains: assignments, soft threshold, bridge weight.

An assignment affects the loss along several paths: in the composition, in the bridges, inside the layers, and through the
expanded graph, where a weight stands twice and changes the degrees of both its nodes.

Shapes
------
S_coarse : (N, C)     S_fine : (C, M)     X_hat : (N + C [+ M],) * 2     others as in the stages
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .coarse import CoarseGraph, Forward
from .codebook import (
    bridge_backward,
    bridge_backward_assignment,
    bridge_backward_gate,
    compose_backward_assignment,
    soft_threshold_backward_tau,
)
from .fine import FineForward, FineGraph
from .graph import expanded_graph_backward
from .propagation import propagate_backward_structure
from .triples import Triples


def coarse_structure_gradients(
    forward: Forward, slope: np.ndarray, E_coarse: np.ndarray, A, graph: CoarseGraph, triples: Triples,
    *, n_layers: int, l2: float, decay: float, degree: str = "signed",
) -> dict[str, sparse.csr_array]:  # fmt: skip
    """Of the coarse stage, with respect to S_coarse. `A` and `degree` are those that the graph was built from."""
    n, engine, S_coarse = len(forward.Z), graph.engine, graph.S_coarse
    grad_H_entities, _, _ = engine.bpr_backward(forward.H_entities, triples, slope)
    grad_H = np.concatenate([grad_H_entities, np.zeros_like(forward.H_coarse)])
    X0 = np.concatenate([forward.Z, E_coarse])
    inside = propagate_backward_structure(grad_H, X0, graph.X_hat, n_layers)
    through_graph, _ = expanded_graph_backward(graph.X_hat.with_weights(inside["X_hat"]), A, S_coarse.matrix, degree=degree)
    grad_X0 = engine.propagate_backward(grad_H, graph.X_hat, n_layers)
    grad_Z = engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_X0[:n])
    through_composition = compose_backward_assignment(grad_Z, S_coarse, E_coarse, forward.Z)
    return {"S_coarse": S_coarse.with_weights(through_graph.data + through_composition.data)}


def fine_structure_gradients(
    forward: FineForward, slope: np.ndarray, E_fine: np.ndarray, E_coarse: np.ndarray, A, graph: FineGraph, triples: Triples,
    *, threshold: float, n_layers: int, l2: float, decay: float, degree: str = "signed",
) -> dict[str, object]:  # fmt: skip
    """Of the fine stage, with respect to S_coarse, S_fine, threshold and gate."""
    layer, engine = graph.layer, graph.engine
    S_coarse, S_fine = layer.S_coarse, layer.S_fine
    grad_H_entities, _, _ = engine.bpr_backward(forward.H_entities, triples, slope)
    grad_H = np.concatenate([grad_H_entities, np.zeros_like(forward.H_coarse), np.zeros_like(forward.H_fine)])
    X0 = np.concatenate([forward.Z, forward.E_hat, forward.tanh_F])
    inside = propagate_backward_structure(grad_H, X0, layer, n_layers)
    grad_X_hat = layer.X_hat.with_weights(inside["X_hat"])
    graph_coarse, graph_fine = expanded_graph_backward(grad_X_hat, A, S_coarse.matrix, S_fine.matrix, degree=degree)

    grad_Z, grad_E_hat, grad_tanh_F = layer.split(engine.propagate_backward(grad_H, layer, n_layers))
    grad_Z = engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)
    bridged = graph.composition == "bridged"
    composition_coarse = compose_backward_assignment(grad_Z, S_coarse, forward.E_hat if bridged else E_coarse, forward.Z)
    if bridged:
        grad_E_hat = grad_E_hat + engine.compose_backward(grad_Z, S_coarse, forward.Z)
    bridge_fine = bridge_backward_assignment(grad_E_hat, S_fine, forward.F, graph.gate)
    gate = bridge_backward_gate(grad_E_hat, E_coarse, S_fine, forward.F)
    _, grad_F = bridge_backward(grad_E_hat, S_fine, graph.gate)
    grad_F = grad_F + grad_tanh_F * (1 - forward.tanh_F**2)
    return {
        "S_coarse": S_coarse.with_weights(graph_coarse.data + composition_coarse.data + inside["S_coarse"]),
        "S_fine": S_fine.with_weights(graph_fine.data + bridge_fine.data + inside["S_fine"]),
        "threshold": soft_threshold_backward_tau(grad_F, E_fine, threshold),
        "gate": float(gate + inside["gate"]),
    }
