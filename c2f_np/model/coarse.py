"""The coarse stage (this alone is LEGCF): compose, propagate, score; and all of it backwards.

    Z = tanh(S_c E_c),   X_0 = [Z; E_c],   X_{k+1} = X_hat X_k,   H = mean(X_0, ..., X_L)
    loss = BPR(H, b) + decay * regulariser(Z)

E_c affects the loss along three paths: through Z and the graph, through Z and the regulariser, and directly as the coarse rows
of X_0. S_c, which training updates in closed form, has a gradient too: an assignment affects the loss in the composition and
through the expanded graph, where a weight stands twice and changes the degrees of both its nodes.

Shapes
------
E_c, H_coarse : (C, d)     Z, H_entities : (N, d), or (K, d) for a batch     X_hat : (N + C,) * 2     S_c : (N, C)
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..settings import Settings
from .codebook import compose_backward_assignment
from .graph import expanded_graph_backward
from .links import update_coarse_assignment
from .loss import Triples, batch_loss_backward
from .propagation import propagate_backward_structure
from .sparse import SparseOperator
from .step import Forward, ModelState, Stage


@dataclass(frozen=True)
class CoarseGraph:
    """The expanded graph and the assignment it was built from."""

    X_hat: SparseOperator
    S_coarse: SparseOperator
    engine: ModuleType


def coarse_graph(A, S_coarse, *, degree: str = "signed", engine: ModuleType) -> CoarseGraph:
    """Build the graph of the stage over the normalised adjacency `A`."""
    if S_coarse.shape[0] != A.shape[0]:
        raise SettingsError(f"the assignment has {S_coarse.shape[0]} rows, the graph {A.shape[0]} entities")
    X_hat = sparse.csr_array(engine.expanded_graph(A, S_coarse, degree=degree), dtype=S_coarse.dtype)
    return CoarseGraph(engine.symmetric_operator(X_hat), engine.operator(S_coarse), engine)


def coarse_forward(E_coarse: np.ndarray, graph: CoarseGraph, n_layers: int, *, batch: Triples | None = None) -> Forward:
    """Embeddings of all nodes, or of a batch's entities (model.md, coarse stage, 1-3)."""
    n, engine = graph.S_coarse.shape[0], graph.engine
    X0 = engine.compose_above(graph.S_coarse, E_coarse)
    rows = None if batch is None else batch.entities
    H = engine.propagate(X0, graph.X_hat, n_layers, rows=rows)
    return Forward(X0[:n], H[:n], H[n:]) if rows is None else Forward(X0[:n], H, None, rows)


def coarse_gradients(
    forward: Forward, slope: np.ndarray, graph: CoarseGraph, triples: Triples, *, n_layers: int, l2: float, decay: float
) -> dict[str, np.ndarray]:
    """Gradients of the loss with respect to E_coarse, bias and bias_global; ``decay=0`` leaves those of the data loss."""
    n, engine = len(forward.Z), graph.engine
    grad_H, grad_bias, grad_bias_global = batch_loss_backward(forward, slope, triples, engine=engine)
    grad_X0 = engine.propagate_backward(grad_H, graph.X_hat, n_layers, rows=triples.entities)
    grad_Z = engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_X0[:n])
    grad_E_coarse = grad_X0[n:] + engine.compose_backward(grad_Z, graph.S_coarse, forward.Z)
    return {"E_coarse": grad_E_coarse, "bias": grad_bias, "bias_global": grad_bias_global}


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


@dataclass(frozen=True)
class CoarseStage(Stage):
    """The stage as training sees it."""

    settings: Settings
    engine: ModuleType
    name = "coarse"
    trained = ("E_coarse", "bias", "bias_global")

    def graph(self, state: ModelState, A) -> CoarseGraph:
        return coarse_graph(A, state.S_coarse, degree=self.settings.degree, engine=self.engine)

    def forward(self, state: ModelState, graph: CoarseGraph, *, batch: Triples | None = None) -> Forward:
        return coarse_forward(state.E_coarse, graph, self.settings.n_layers, batch=batch)

    def gradients(self, forward: Forward, slope, state: ModelState, graph: CoarseGraph, triples: Triples, **weights):
        return coarse_gradients(forward, slope, graph, triples, n_layers=self.settings.n_layers, **weights)

    def updated(self, forward: Forward, state: ModelState) -> dict[str, sparse.csr_array]:
        """The closed-form assignment update."""
        columns = self.engine.largest_columns
        t = self.settings.t_coarse
        return {"S_coarse": update_coarse_assignment(forward.H_entities, forward.H_coarse, t, largest=columns)}
