"""The fine stage: threshold, bridge, compose, propagate with a bridge in every layer, score; and all of it backwards.

    F = soft_threshold(E_f, tau),   E_hat = g S_f F + (1 - g) E_c
    X_0 = [Z; E_hat; tanh(F)],      X_{k+1} = T X_k,   H = mean(X_0, ..., X_L)
    loss = BPR(H, b) + decay * regulariser(Z)

    composition="coarse" (the released code)    Z = tanh(S_c E_c): constant, since E_c and S_c are frozen
    composition="bridged" (the paper)           Z = tanh(S_c E_hat): the fine codebook reaches every entity, and the regulariser

With the first, propagation can be collapsed (`c2f_np.model.propagation`): :func:`collapsed_graph` does it, and the
forward and backward pass of a batch then make use of it. The numbers are the same up to rounding.

Shapes
------
E_f, F, H_fine : (M, d)     E_c, E_hat, H_coarse : (C, d)     Z, H_entities : (N, d), or (K, d) for a batch
S_c : (N, C)     S_f : (C, M)     X_hat : (N + C + M,) * 2
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError, require_one_of
from ..settings import COMPOSITIONS, Settings
from .codebook import (
    bridge,
    bridge_backward,
    bridge_backward_assignment,
    bridge_backward_gate,
    compose_backward_assignment,
    soft_threshold,
    soft_threshold_backward,
    soft_threshold_backward_tau,
)
from .graph import expanded_graph_backward
from .links import update_fine_assignment
from .loss import Triples, batch_loss_backward
from .propagation import (
    BridgedLayer,
    CollapsedPropagation,
    bridged_layer,
    collapse,
    collapse_pays,
    propagate_backward_structure,
)
from .step import Forward, ModelState, Stage


@dataclass(frozen=True)
class FineGraph:
    """The layer that propagates, the reading of the paper, and, if it was collapsed, what batches use instead of layers."""

    layer: BridgedLayer
    composition: str
    engine: ModuleType
    collapsed: CollapsedPropagation | None = None

    @property
    def gate(self) -> float:
        return self.layer.gate


@dataclass(frozen=True)
class FineForward(Forward):
    """With F, tanh(F) and, unless collapsed, E_hat."""

    H_fine: np.ndarray | None = None
    F: np.ndarray | None = None
    tanh_F: np.ndarray | None = None
    E_hat: np.ndarray | None = None


def fine_graph(
    A, S_coarse, S_fine, gate: float,
    *, composition: str = "coarse", layer_bridge: str = "raw", degree: str = "signed", engine: ModuleType,
) -> FineGraph:  # fmt: skip
    """Build the graph of the stage over the normalised adjacency `A`."""
    require_one_of(COMPOSITIONS, composition, "composition")
    X_hat = sparse.csr_array(engine.expanded_graph(A, S_coarse, S_fine, degree=degree), dtype=S_coarse.dtype)
    X_hat = engine.symmetric_operator(X_hat)
    return FineGraph(bridged_layer(X_hat, S_coarse, S_fine, gate, layer_bridge=layer_bridge, engine=engine), composition, engine)


def collapsed_graph(graph: FineGraph, E_coarse: np.ndarray, n_layers: int) -> FineGraph:
    """The same graph with its propagation collapsed, for training E_fine while E_coarse and the assignments stand still."""
    if graph.composition != "coarse":
        raise SettingsError('only composition="coarse" can be collapsed: otherwise tanh acts on the bridged codebook')
    Z = graph.engine.compose(graph.layer.S_coarse, E_coarse)
    return replace(graph, collapsed=collapse(Z, E_coarse, graph.layer, n_layers))


def fine_forward(
    E_fine: np.ndarray, E_coarse: np.ndarray, graph: FineGraph,
    *, threshold: float, n_layers: int, batch: Triples | None = None,
) -> FineForward:  # fmt: skip
    """Embeddings of all nodes (model.md, fine stage, 1-4), or of a batch's entities: collapsed, if the graph is."""
    layer, engine = graph.layer, graph.engine
    F = soft_threshold(E_fine, threshold)
    tanh_F = np.tanh(F)
    rows = None if batch is None else batch.entities
    if rows is not None and graph.collapsed is not None:
        if graph.collapsed.E_coarse is not E_coarse:
            raise SettingsError("the propagation was collapsed with another coarse codebook: collapse it anew")
        H = engine.propagate_collapsed(F, tanh_F, graph.collapsed, rows=rows)
        return FineForward(graph.collapsed.Z, H, rows=rows, F=F, tanh_F=tanh_F)
    E_hat = bridge(E_coarse, layer.S_fine, F, graph.gate)
    Z = engine.compose(layer.S_coarse, E_hat if graph.composition == "bridged" else E_coarse)
    H = engine.propagate(np.concatenate([Z, E_hat, tanh_F]), layer, n_layers, rows=rows)
    H_entities, H_coarse, H_fine = layer.split(H) if rows is None else (H, None, None)
    return FineForward(Z, H_entities, H_coarse, rows, H_fine, F, tanh_F, E_hat)


def fine_gradients(
    forward: FineForward, slope: np.ndarray, E_fine: np.ndarray, graph: FineGraph, triples: Triples,
    *, threshold: float, n_layers: int, l2: float, decay: float,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Gradients of the loss with respect to E_fine, E_coarse, bias and bias_global; ``decay=0`` leaves those of the data loss.

    The stage keeps E_c frozen; a collapsed forward pass, in which it is a constant, leaves its gradient out.
    """
    layer, engine, rows = graph.layer, graph.engine, triples.entities
    grad_H, grad_bias, grad_bias_global = batch_loss_backward(forward, slope, triples, engine=engine)
    gradients = {"bias": grad_bias, "bias_global": grad_bias_global}
    if forward.E_hat is None:
        grad_F, grad_tanh_F = engine.propagate_collapsed_backward(grad_H, graph.collapsed, rows=rows)
    else:
        grad_X0 = engine.propagate_backward(grad_H, layer, n_layers, rows=rows)
        grad_Z, grad_E_hat, grad_tanh_F = layer.split(grad_X0)
        grad_Z = engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)
        grad_composed = engine.compose_backward(grad_Z, layer.S_coarse, forward.Z)
        if graph.composition == "bridged":
            grad_E_hat = grad_E_hat + grad_composed
        grad_E_coarse, grad_F = bridge_backward(grad_E_hat, layer.S_fine, graph.gate)
        gradients["E_coarse"] = grad_E_coarse + grad_composed if graph.composition == "coarse" else grad_E_coarse
    grad_F = grad_F + grad_tanh_F * (1 - forward.tanh_F**2)
    gradients["E_fine"] = soft_threshold_backward(grad_F, E_fine, threshold)
    return gradients


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


@dataclass(frozen=True)
class FineStage(Stage):
    """The stage as training sees it."""

    settings: Settings
    engine: ModuleType
    name = "fine"
    trained = ("E_fine", "bias", "bias_global")

    def graph(self, state: ModelState, A) -> FineGraph:
        s = self.settings
        return fine_graph(
            A, state.S_coarse, state.S_fine, s.gate,
            composition=s.composition, layer_bridge=s.layer_bridge, degree=s.degree, engine=self.engine,
        )  # fmt: skip

    def graph_for_steps(self, state: ModelState, A, n_triples: int) -> FineGraph:
        """The graph, collapsed where this pays."""
        graph = self.graph(state, A)
        return collapsed_graph(graph, state.E_coarse, self.settings.n_layers) if self._collapses(graph, n_triples) else graph

    def graph_for_update(self, graph: FineGraph) -> FineGraph:
        """Not collapsed: the memory is free when the next graph is."""
        return replace(graph, collapsed=None)

    def _collapses(self, graph: FineGraph, n_triples: int) -> bool:
        """Whether so many triples are cheaper collapsed. A function of sizes, so that every run decides alike."""
        s = self.settings
        if graph.composition != "coarse" or s.propagation != "auto":
            return s.propagation == "collapsed"
        n = graph.layer.S_coarse.shape[0]
        return collapse_pays(
            n, graph.layer.X_hat.matrix.nnz, s.n_fine, s.dim, s.n_layers,
            n_steps=-(-n_triples // s.fine_batch), n_rows=min(n, 3 * s.fine_batch), itemsize=np.dtype(s.dtype).itemsize,
        )  # fmt: skip

    def forward(self, state: ModelState, graph: FineGraph, *, batch: Triples | None = None) -> FineForward:
        s = self.settings
        return fine_forward(state.E_fine, state.E_coarse, graph, threshold=s.threshold, n_layers=s.n_layers, batch=batch)

    def gradients(self, forward: FineForward, slope, state: ModelState, graph: FineGraph, triples: Triples, **weights):
        s = self.settings
        return fine_gradients(
            forward, slope, state.E_fine, graph, triples, threshold=s.threshold, n_layers=s.n_layers, **weights
        )

    def updated(self, forward: FineForward, state: ModelState) -> dict[str, sparse.csr_array]:
        """The closed-form assignment update."""
        s, H = self.settings, (forward.H_entities, forward.H_coarse, forward.H_fine)
        columns = self.engine.largest_columns
        return {"S_fine": update_fine_assignment(*H, s.t_fine, renormalise=s.renormalise_fine, largest=columns)}
