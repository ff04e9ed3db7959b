"""The fine stage: threshold, bridge, compose, propagate with a bridge in every layer, score; and all of it backwards.

    F = soft_threshold(E_f, tau),   E_hat = g S_f F + (1 - g) E_c
    X_0 = [Z; E_hat; tanh(F)],      H = mean(X_0, ..., X_L),   X_{k+1} = T X_k
    loss = BPR(H, b) + decay * l2-penalty(Z)

    composition="coarse" (the released code)    Z = tanh(S_c E_c): constant, since E_c and S_c are frozen
    composition="bridged" (the paper)           Z = tanh(S_c E_hat): the fine codebook reaches every entity, and the regulariser

Shapes
------
E_fine, F, H_fine : (M, d)     E_coarse, E_hat, H_coarse : (C, d)     Z, H_entities : (N, d)
S_coarse : (N, C)     S_fine : (C, M)     X_hat : (N + C + M,) * 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..operations.bpr import bpr_backward, bpr_loss
from ..operations.bridged_propagation import (
    BridgedGraph,
    bridged_graph,
    propagate_bridged,
    propagate_bridged_backward,
)
from ..operations.bridging import bridge, bridge_backward
from ..operations.composition import compose, compose_backward
from ..operations.graph import expanded_graph
from ..operations.regulariser import squared_norm_penalty, squared_norm_penalty_backward
from ..operations.soft_threshold import soft_threshold, soft_threshold_backward
from ..operations.triples import Triples
from .state import Loss

COMPOSITIONS = ("coarse", "bridged")


@dataclass(frozen=True)
class FineGraph:
    """Graph, assignments and the reading of the paper that the fine stage follows.

    Attributes
    ----------
    bridged : BridgedGraph
    composition : {"coarse", "bridged"}
    """

    bridged: BridgedGraph
    composition: str

    @property
    def gate(self) -> float:
        return self.bridged.gate


def fine_graph(
    A,
    S_coarse,
    S_fine,
    gate: float,
    *,
    composition: str = "coarse",
    layer_bridge: str = "raw",
    degree: str = "signed",
) -> FineGraph:
    """Build the expanded graph of the fine stage.

    Parameters
    ----------
    A : csr_array, shape (N, N)
        Normalised bipartite adjacency.
    S_coarse : csr_array, shape (N, C)
    S_fine : csr_array, shape (C, M)
    gate : float
        Bridge weight g.
    composition : {"coarse", "bridged"}
    layer_bridge : {"raw", "exchange"}
        See :mod:`c2f_np.operations.bridged_propagation`.
    degree : {"signed", "absolute"}

    Returns
    -------
    FineGraph

    Raises
    ------
    SettingsError
        If shapes do not fit or a name is unknown.
    """
    if composition not in COMPOSITIONS:
        raise SettingsError(f"composition must be one of {', '.join(COMPOSITIONS)}, not {composition!r}")
    X_hat = sparse.csr_array(expanded_graph(A, S_coarse, S_fine, degree=degree), dtype=S_coarse.dtype)
    return FineGraph(bridged_graph(X_hat, S_coarse, S_fine, gate, layer_bridge=layer_bridge), composition)


@dataclass(frozen=True)
class FineForward:
    """What the forward pass computed.

    Attributes
    ----------
    F : ndarray, shape (M, d)
        Soft-thresholded fine codebook.
    tanh_F : ndarray, shape (M, d)
        Start of the fine nodes.
    E_hat : ndarray, shape (C, d)
        Bridged coarse codebook, start of the coarse nodes.
    Z : ndarray, shape (N, d)
        Ego embeddings, start of the entities.
    H_entities, H_coarse, H_fine : ndarray, shapes (N, d), (C, d), (M, d)
    """

    F: np.ndarray
    tanh_F: np.ndarray
    E_hat: np.ndarray
    Z: np.ndarray
    H_entities: np.ndarray
    H_coarse: np.ndarray
    H_fine: np.ndarray


def fine_forward(
    E_fine: np.ndarray,
    E_coarse: np.ndarray,
    graph: FineGraph,
    *,
    threshold: float,
    n_layers: int,
    engine: str = "numpy",
) -> FineForward:
    """Embeddings of all nodes (model.md, fine stage, 1-4).

    Parameters
    ----------
    E_fine : ndarray, shape (M, d)
    E_coarse : ndarray, shape (C, d)
    graph : FineGraph
    threshold : float
        tau.
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    FineForward
    """
    n, c, _ = graph.bridged.sizes
    F = soft_threshold(E_fine, threshold, engine=engine)
    tanh_F = np.tanh(F)
    E_hat = bridge(E_coarse, graph.bridged.S_fine, F, graph.gate, engine=engine)
    Z = compose(graph.bridged.S_coarse, _composed_codebook(graph, E_coarse, E_hat), engine=engine)
    H = propagate_bridged(np.concatenate([Z, E_hat, tanh_F]), graph.bridged, n_layers, engine=engine)
    return FineForward(F, tanh_F, E_hat, Z, H[:n], H[n : n + c], H[n + c :])


def _composed_codebook(graph: FineGraph, E_coarse: np.ndarray, E_hat: np.ndarray) -> np.ndarray:
    """The codebook that entities are composed from."""
    return E_hat if graph.composition == "bridged" else E_coarse


def fine_backward(
    grad_H_entities: np.ndarray,
    grad_Z: np.ndarray,
    forward: FineForward,
    E_fine: np.ndarray,
    graph: FineGraph,
    *,
    threshold: float,
    n_layers: int,
    engine: str = "numpy",
) -> dict[str, np.ndarray]:
    """Gradients with respect to both codebooks.

    Parameters
    ----------
    grad_H_entities : ndarray, shape (N, d)
        Cotangent of the propagated entity embeddings.
    grad_Z : ndarray, shape (N, d)
        Cotangent of the ego embeddings, from the regulariser.
    forward : FineForward
    E_fine : ndarray, shape (M, d)
    graph : FineGraph
        The graph that the forward pass used.
    threshold : float
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "E_fine" (M, d) and "E_coarse" (C, d)
        The latter is what a joint training would use; the stage of the paper keeps E_c frozen.
    """
    n, c, _ = graph.bridged.sizes
    others = np.zeros((c + len(E_fine), E_fine.shape[1]), dtype=grad_H_entities.dtype)
    grad_X0 = propagate_bridged_backward(
        np.concatenate([grad_H_entities, others]), graph.bridged, n_layers, engine=engine
    )
    grad_Z, grad_E_hat, grad_tanh_F = grad_X0[:n] + grad_Z, grad_X0[n : n + c], grad_X0[n + c :]
    grad_composed = compose_backward(grad_Z, graph.bridged.S_coarse, forward.Z, engine=engine)
    if graph.composition == "bridged":
        grad_E_hat = grad_E_hat + grad_composed
    grad_E_coarse, grad_F = bridge_backward(grad_E_hat, graph.bridged.S_fine, graph.gate, engine=engine)
    if graph.composition == "coarse":
        grad_E_coarse = grad_E_coarse + grad_composed
    grad_F = grad_F + grad_tanh_F * (1 - forward.tanh_F**2)
    return {
        "E_fine": soft_threshold_backward(grad_F, E_fine, threshold, engine=engine),
        "E_coarse": grad_E_coarse,
    }


def fine_loss(
    forward: FineForward,
    bias: np.ndarray,
    bias_global: np.ndarray,
    triples: Triples,
    *,
    l2: float,
    decay: float,
    engine: str = "numpy",
) -> tuple[Loss, np.ndarray]:
    """Loss of a batch (model.md, fine stage, 5).

    Parameters
    ----------
    forward : FineForward
    bias : ndarray, shape (N,)
    bias_global : ndarray, shape (1,)
    triples : Triples
    l2, decay : float
    engine : {"numpy", "numba"}

    Returns
    -------
    loss : Loss
    slope : ndarray, shape (B,)
        For :func:`fine_gradients`.
    """
    bpr, slope = bpr_loss(forward.H_entities, bias, bias_global, triples, engine=engine)
    return Loss(bpr, squared_norm_penalty(forward.Z, triples, l2, engine=engine), decay), slope


def fine_gradients(
    forward: FineForward,
    slope: np.ndarray,
    E_fine: np.ndarray,
    graph: FineGraph,
    triples: Triples,
    *,
    threshold: float,
    n_layers: int,
    l2: float,
    decay: float,
    engine: str = "numpy",
) -> dict[str, np.ndarray]:
    """Gradients of the total loss with respect to both codebooks and the biases.

    Parameters
    ----------
    forward : FineForward
    slope : ndarray, shape (B,)
        From :func:`fine_loss`.
    E_fine : ndarray, shape (M, d)
    graph : FineGraph
    triples : Triples
    threshold : float
    n_layers : int
    l2, decay : float
        With ``decay=0`` the result is the gradient of the data loss alone.
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "E_fine" (M, d), "E_coarse" (C, d), "bias" (N,), "bias_global" (1,)
    """
    grad_H, grad_bias, grad_bias_global = bpr_backward(forward.H_entities, triples, slope, engine=engine)
    grad_Z = squared_norm_penalty_backward(decay, forward.Z, triples, l2, engine=engine)
    gradients = fine_backward(
        grad_H, grad_Z, forward, E_fine, graph, threshold=threshold, n_layers=n_layers, engine=engine
    )
    return gradients | {"bias": grad_bias, "bias_global": grad_bias_global}
