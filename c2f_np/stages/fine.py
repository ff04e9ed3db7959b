"""The fine stage: threshold, bridge, compose, propagate with a bridge in every layer, score; and all of it backwards.

    F = soft_threshold(E_f, tau),   E_hat = g S_f F + (1 - g) E_c
    X_0 = [Z; E_hat; tanh(F)],      H = mean(X_0, ..., X_L),   X_{k+1} = T X_k
    loss = BPR(H, b) + decay * regulariser(Z)

    composition="coarse" (the released code)    Z = tanh(S_c E_c): constant, since E_c and S_c are frozen
    composition="bridged" (the paper)           Z = tanh(S_c E_hat): the fine codebook reaches every entity, and the regulariser

With the first, propagation can be collapsed (`c2f_np.operations.collapsed_propagation`): :func:`collapsed_graph` does it, and the
forward and backward pass of a batch then make use of it. The numbers are the same up to rounding.

Shapes
------
E_fine, F, H_fine : (M, d)     E_coarse, E_hat, H_coarse : (C, d)     Z, H_entities : (N, d)
S_coarse : (N, C)     S_fine : (C, M)     X_hat : (N + C + M,) * 2
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..operations.bridged_propagation import (
    BridgedGraph,
    bridged_graph,
    propagate_bridged,
    propagate_bridged_backward,
)
from ..operations.bridging import bridge, bridge_backward
from ..operations.collapsed_propagation import (
    CollapsedPropagation,
    collapse,
    propagate_collapsed,
    propagate_collapsed_backward,
)
from ..operations.composition import compose, compose_backward
from ..operations.graph import expanded_graph
from ..operations.regulariser import squared_norm_penalty_backward
from ..operations.soft_threshold import soft_threshold, soft_threshold_backward
from ..operations.sparse_operator import symmetric_operator
from ..operations.triples import Triples
from .batch_loss import batch_loss_backward

COMPOSITIONS = ("coarse", "bridged")


@dataclass(frozen=True)
class FineGraph:
    """Graph, assignments and the reading of the paper that the fine stage follows.

    Attributes
    ----------
    bridged : BridgedGraph
    composition : {"coarse", "bridged"}
    collapsed : CollapsedPropagation, optional
        For batches, instead of layers.
    """

    bridged: BridgedGraph
    composition: str
    collapsed: CollapsedPropagation | None = None

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
    engine: str = "numpy",
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
    engine : {"numpy", "numba"}

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
    X_hat = expanded_graph(A, S_coarse, S_fine, degree=degree, engine=engine)
    X_hat = symmetric_operator(sparse.csr_array(X_hat, dtype=S_coarse.dtype))
    return FineGraph(bridged_graph(X_hat, S_coarse, S_fine, gate, layer_bridge=layer_bridge), composition)


def collapsed_graph(graph: FineGraph, E_coarse: np.ndarray, n_layers: int, *, engine: str = "numpy") -> FineGraph:
    """The same graph with its propagation collapsed, for training E_fine while E_coarse and the assignments stand still.

    Parameters
    ----------
    graph : FineGraph
        With ``composition="coarse"``.
    E_coarse : ndarray, shape (C, d)
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    FineGraph

    Raises
    ------
    SettingsError
        If entities are composed from the bridged codebook: then the propagated start is not linear in what is trained.
    """
    if graph.composition != "coarse":
        raise SettingsError('only composition="coarse" can be collapsed: otherwise tanh acts on the bridged codebook')
    Z = compose(graph.bridged.S_coarse, E_coarse, engine=engine)
    return replace(graph, collapsed=collapse(Z, E_coarse, graph.bridged, n_layers, engine=engine))


@dataclass(frozen=True)
class FineForward:
    """What the forward pass computed.

    Attributes
    ----------
    F : ndarray, shape (M, d)
        Soft-thresholded fine codebook.
    tanh_F : ndarray, shape (M, d)
        Start of the fine nodes.
    E_hat : ndarray, shape (C, d), or None if collapsed
        Bridged coarse codebook, start of the coarse nodes.
    Z : ndarray, shape (N, d)
        Ego embeddings, start of the entities.
    H_entities : ndarray, shape (N, d), or (K, d) for a batch
    H_coarse, H_fine : ndarray, shapes (C, d) and (M, d), or None for a batch
    rows : ndarray of int, shape (K,), or None
        The entities that `H_entities` belongs to, if not all.
    """

    F: np.ndarray
    tanh_F: np.ndarray
    E_hat: np.ndarray | None
    Z: np.ndarray
    H_entities: np.ndarray
    H_coarse: np.ndarray | None
    H_fine: np.ndarray | None
    rows: np.ndarray | None = None


def fine_forward(
    E_fine: np.ndarray,
    E_coarse: np.ndarray,
    graph: FineGraph,
    *,
    threshold: float,
    n_layers: int,
    batch: Triples | None = None,
    engine: str = "numpy",
) -> FineForward:
    """Embeddings of all nodes (model.md, fine stage, 1-4), or of a batch's entities.

    Parameters
    ----------
    E_fine : ndarray, shape (M, d)
    E_coarse : ndarray, shape (C, d)
    graph : FineGraph
    threshold : float
        tau.
    n_layers : int
    batch : Triples, optional
        Compute H only for the entities that occur here; by the collapsed propagation, if the graph has one.
    engine : {"numpy", "numba"}

    Returns
    -------
    FineForward

    Raises
    ------
    SettingsError
        If the propagation was collapsed with another coarse codebook.
    """
    n, c, _ = graph.bridged.sizes
    F = soft_threshold(E_fine, threshold, engine=engine)
    tanh_F = np.tanh(F)
    rows = None if batch is None else batch.occurrences.entities
    if batch is not None and graph.collapsed is not None:
        if graph.collapsed.E_coarse is not E_coarse:
            raise SettingsError("the propagation was collapsed with another coarse codebook: collapse it anew")
        H = propagate_collapsed(F, tanh_F, graph.collapsed, rows=rows, engine=engine)
        return FineForward(F, tanh_F, None, graph.collapsed.Z, H, None, None, rows)
    E_hat = bridge(E_coarse, graph.bridged.S_fine, F, graph.gate, engine=engine)
    Z = compose(graph.bridged.S_coarse, _composed_codebook(graph, E_coarse, E_hat), engine=engine)
    H = propagate_bridged(np.concatenate([Z, E_hat, tanh_F]), graph.bridged, n_layers, rows=rows, engine=engine)
    if batch is not None:
        return FineForward(F, tanh_F, E_hat, Z, H, None, None, rows)
    return FineForward(F, tanh_F, E_hat, Z, H[:n], H[n : n + c], H[n + c :])


def _composed_codebook(graph: FineGraph, E_coarse: np.ndarray, E_hat: np.ndarray) -> np.ndarray:
    """The codebook that entities are composed from."""
    return E_hat if graph.composition == "bridged" else E_coarse


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
        From :func:`c2f_np.stages.batch_loss.batch_loss`.
    E_fine : ndarray, shape (M, d)
    graph : FineGraph
        The graph that the forward pass used.
    triples : Triples
    threshold : float
    n_layers : int
    l2, decay : float
        With ``decay=0`` the result is the gradient of the data loss alone.
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "E_fine" (M, d), "E_coarse" (C, d), "bias" (N,), "bias_global" (1,)
        E_coarse's is what a joint training would use; the stage of the paper keeps E_c frozen, and a collapsed forward pass,
        in which it is a constant, leaves it out.
    """
    rows = triples.occurrences.entities
    grad_H, grad_bias, grad_bias_global = batch_loss_backward(forward, slope, triples, engine=engine)
    if forward.E_hat is None:
        grad_F, grad_tanh_F = propagate_collapsed_backward(grad_H, graph.collapsed, rows=rows, engine=engine)
        gradients = {}
    else:
        grad_X0 = propagate_bridged_backward(grad_H, graph.bridged, n_layers, rows=rows, engine=engine)
        grad_F, grad_tanh_F, grad_E_coarse = _start_backward(
            grad_X0, decay, forward, graph, triples, l2=l2, engine=engine
        )
        gradients = {"E_coarse": grad_E_coarse}
    grad_F = grad_F + grad_tanh_F * (1 - forward.tanh_F**2)
    grad_E_fine = soft_threshold_backward(grad_F, E_fine, threshold, engine=engine)
    return gradients | {"E_fine": grad_E_fine, "bias": grad_bias, "bias_global": grad_bias_global}


def _start_backward(grad_X0, decay: float, forward: FineForward, graph: FineGraph, triples: Triples, *, l2, engine):
    """Gradients at F, tanh(F) and E_c from that at X0 = [Z; E_hat; tanh(F)] and from the regulariser."""
    n, c, _ = graph.bridged.sizes
    grad_E_hat, grad_tanh_F = grad_X0[n : n + c], grad_X0[n + c :]
    grad_Z = squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)
    grad_composed = compose_backward(grad_Z, graph.bridged.S_coarse, forward.Z, engine=engine)
    if graph.composition == "bridged":
        grad_E_hat = grad_E_hat + grad_composed
    grad_E_coarse, grad_F = bridge_backward(grad_E_hat, graph.bridged.S_fine, graph.gate, engine=engine)
    if graph.composition == "coarse":
        grad_E_coarse = grad_E_coarse + grad_composed
    return grad_F, grad_tanh_F, grad_E_coarse
