"""Gradients of the whole loss of a stage with respect to what no stage trains: assignments, soft threshold, bridge weight.

An assignment reaches the loss on several ways: in the composition, in the bridges, inside the layers, and through the
expanded graph, where a weight stands twice and changes the degrees of both its nodes.

Shapes
------
S_coarse : (N, C)     S_fine : (C, M)     X_hat : (N + C [+ M],) * 2     others as in the stages
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..operations.bpr import bpr_backward
from ..operations.bridged_propagation import propagate_bridged_backward
from ..operations.bridging import bridge_backward, bridge_backward_assignment, bridge_backward_gate
from ..operations.composition import compose_backward, compose_backward_assignment
from ..operations.graph_backward import expanded_graph_backward
from ..operations.propagation import propagate_backward
from ..operations.propagation_structure import propagate_backward_weights, propagate_bridged_backward_structure
from ..operations.regulariser import squared_norm_penalty_backward
from ..operations.soft_threshold import soft_threshold_backward_tau
from ..operations.triples import Triples
from .coarse import CoarseForward, CoarseGraph
from .fine import FineForward, FineGraph


def coarse_structure_gradients(
    forward: CoarseForward,
    slope: np.ndarray,
    E_coarse: np.ndarray,
    A,
    graph: CoarseGraph,
    triples: Triples,
    *,
    n_layers: int,
    l2: float,
    decay: float,
    degree: str = "signed",
    engine: str = "numpy",
) -> dict[str, sparse.csr_array]:
    """Gradient of the coarse stage's loss with respect to the stored weights of S_coarse.

    Parameters
    ----------
    forward : CoarseForward
    slope : ndarray, shape (B,)
    E_coarse : ndarray, shape (C, d)
    A : csr_array, shape (N, N)
        The adjacency that `graph` was built from.
    graph : CoarseGraph
    triples : Triples
    n_layers : int
    l2, decay : float
    degree : {"signed", "absolute"}
        As for :func:`c2f_np.stages.coarse.coarse_graph`.
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "S_coarse", csr_array of shape (N, C)
    """
    n = len(forward.Z)
    S_coarse = graph.S_coarse.matrix
    grad_H_entities, _, _ = bpr_backward(forward.H_entities, triples, slope, engine=engine)
    grad_H = np.concatenate([grad_H_entities, np.zeros_like(forward.H_coarse)])
    X0 = np.concatenate([forward.Z, E_coarse])
    grad_X_hat = propagate_backward_weights(grad_H, X0, graph.X_hat, n_layers, engine=engine)
    through_graph, _ = expanded_graph_backward(grad_X_hat, A, S_coarse, degree=degree)
    grad_Z = propagate_backward(grad_H, graph.X_hat, n_layers, engine=engine)[:n]
    grad_Z = grad_Z + squared_norm_penalty_backward(decay, forward.Z, triples, l2, engine=engine)
    through_composition = compose_backward_assignment(grad_Z, S_coarse, E_coarse, forward.Z)
    return {"S_coarse": _sum(S_coarse, through_graph, through_composition)}


def fine_structure_gradients(
    forward: FineForward,
    slope: np.ndarray,
    E_fine: np.ndarray,
    E_coarse: np.ndarray,
    A,
    graph: FineGraph,
    triples: Triples,
    *,
    threshold: float,
    n_layers: int,
    l2: float,
    decay: float,
    degree: str = "signed",
    engine: str = "numpy",
) -> dict[str, object]:
    """Gradients of the fine stage's loss with respect to both assignments, the soft threshold and the bridge weight.

    Parameters
    ----------
    forward : FineForward
    slope : ndarray, shape (B,)
    E_fine : ndarray, shape (M, d)
    E_coarse : ndarray, shape (C, d)
    A : csr_array, shape (N, N)
    graph : FineGraph
    triples : Triples
    threshold : float
    n_layers : int
    l2, decay : float
    degree : {"signed", "absolute"}
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "S_coarse" (N, C) and "S_fine" (C, M), csr_array, and "threshold" and "gate", float
    """
    bridged = graph.bridged
    n, c, _ = bridged.sizes
    S_coarse, S_fine = bridged.S_coarse.matrix, bridged.S_fine.matrix
    grad_H_entities, _, _ = bpr_backward(forward.H_entities, triples, slope, engine=engine)
    grad_H = np.concatenate([grad_H_entities, np.zeros_like(forward.H_coarse), np.zeros_like(forward.H_fine)])
    X0 = np.concatenate([forward.Z, forward.E_hat, forward.tanh_F])
    inside = propagate_bridged_backward_structure(grad_H, X0, bridged, n_layers, engine=engine)
    graph_coarse, graph_fine = expanded_graph_backward(inside.X_hat, A, S_coarse, S_fine, degree=degree)

    grad_X0 = propagate_bridged_backward(grad_H, bridged, n_layers, engine=engine)
    grad_Z = grad_X0[:n] + squared_norm_penalty_backward(decay, forward.Z, triples, l2, engine=engine)
    grad_E_hat, grad_tanh_F = grad_X0[n : n + c], grad_X0[n + c :]
    composed = forward.E_hat if graph.composition == "bridged" else E_coarse
    composition_coarse = compose_backward_assignment(grad_Z, S_coarse, composed, forward.Z)
    if graph.composition == "bridged":
        grad_E_hat = grad_E_hat + compose_backward(grad_Z, bridged.S_coarse, forward.Z, engine=engine)
    bridge_fine = bridge_backward_assignment(grad_E_hat, S_fine, forward.F, graph.gate)
    gate = bridge_backward_gate(grad_E_hat, E_coarse, S_fine, forward.F)
    _, grad_F = bridge_backward(grad_E_hat, bridged.S_fine, graph.gate, engine=engine)
    grad_F = grad_F + grad_tanh_F * (1 - forward.tanh_F**2)
    return {
        "S_coarse": _sum(S_coarse, graph_coarse, composition_coarse, inside.S_coarse),
        "S_fine": _sum(S_fine, graph_fine, bridge_fine, inside.S_fine),
        "threshold": soft_threshold_backward_tau(grad_F, E_fine, threshold),
        "gate": float(gate + inside.gate),
    }


def _sum(like: sparse.csr_array, *parts: sparse.csr_array) -> sparse.csr_array:
    """The sum of matrices of one pattern."""
    return sparse.csr_array((sum(part.data for part in parts), like.indices, like.indptr), shape=like.shape)
