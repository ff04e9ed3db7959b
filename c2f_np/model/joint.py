"""Joint training: both codebooks, and the weights of the links to them, learned together by gradient.

    F = soft_threshold(E_f, tau),   E_hat = g S_f F + (1 - g) E_c
    Y = S_c E_hat + S_d F,          Z = tanh(Y)
    H = mean(Z, A Z, ..., A^L Z)
    loss = BPR(H, b) + decay * regulariser(Z)

Three things differ from the two stages of the paper; docs/fine_codebook.md proves or measures the reason for each:

- **Direct links** S_d, from the entities themselves to fine rows. The bridge makes E_hat, a C x d matrix, out of two codebooks,
  and a trainable E_c is one already: only links of their own let the fine rows say what the coarse rows cannot.
- **Trained weights.** E_c, E_f, S_c, S_f, S_d and b all follow the gradient. The pattern of the links moves too
  if so set (:func:`exchange`).
- **No codebook nodes.** Propagation is over A alone: sharing a row does not make two entities neighbours.

With g = 1 the coarse rows consist of fine rows alone, E_hat = S_f F. This is a second level of composition, and E_c has no rows.

Without a fine codebook (``t_direct = 0`` and ``gate = 0``) what remains is the coarse codebook, trained in this way: a fair
rival. With a row for every entity and S_c = I it is a *table*, which the default preset trains first, and then codes.

Shapes
------
E_hat : (C, d)     E_c : (C, d), or (0, d) with g = 1     E_f, F : (M, d)     S_c : (N, C)     S_d : (N, M)     S_f : (C, M)
codebook = [E_hat; F] : (K, d)     links = [S_c, S_d] : (N, K)     Y, Z, H_entities : (N, d)     A : (N, N)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import scipy.sparse as sparse

from ..settings import Settings
from .codebook import bridge, bridge_backward, bridge_backward_assignment, soft_threshold, soft_threshold_backward
from .links import exchange_links, pursued_links
from .loss import Triples, batch_loss_backward
from .sparse import SparseOperator
from .step import AdamMoments, Forward, ModelState, Stage


@dataclass(frozen=True)
class JointGraph:
    """The adjacency, and the links of the entities to both codebooks side by side: the first C columns are the coarse ones."""

    A: SparseOperator
    links: SparseOperator
    S_fine: SparseOperator | None
    gate: float
    n_coarse: int
    engine: ModuleType


@dataclass(frozen=True)
class JointForward(Forward):
    """With the codebook [E_hat; F] that was composed from."""

    codebook: np.ndarray | None = None


def joint_graph(A, state: ModelState, gate: float, *, engine: ModuleType) -> JointGraph:
    """What joint training propagates and composes with; `A` is the normalised adjacency, symmetric to the last bit."""
    links, S_fine = _operators(state, engine)
    return JointGraph(engine.symmetric_operator(A), links, S_fine, gate, state.S_coarse.shape[1], engine)


def relinked(graph: JointGraph, state: ModelState) -> JointGraph:
    """The same graph with the links of another state, as after a step that moved their weights."""
    links, S_fine = _operators(state, graph.engine)
    return replace(graph, links=links, S_fine=S_fine)


def _operators(state: ModelState, engine: ModuleType) -> tuple[SparseOperator, SparseOperator | None]:
    """Of the links of entities, and of those of coarse rows."""
    return engine.operator(_links(state)), None if state.S_fine is None else engine.operator(state.S_fine)


def _links(state: ModelState) -> sparse.csr_array:
    """[S_c, S_d]; both have the same number of entries in every row, so the rows are laid side by side."""
    if state.S_direct is None:
        return state.S_coarse
    (n, c), m = state.S_coarse.shape, state.S_direct.shape[1]
    both = (state.S_coarse, state.S_direct)
    data = np.concatenate([S.data.reshape(n, -1) for S in both], axis=1)
    columns = np.concatenate([S.indices.reshape(n, S.nnz // n) + first for S, first in zip(both, (0, c), strict=True)], axis=1)
    t = columns.shape[1]
    return sparse.csr_array((data.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, c + m))


def joint_codebook(E_coarse: np.ndarray, E_fine: np.ndarray | None, graph: JointGraph, *, threshold: float) -> np.ndarray:
    """[E_hat; F], the rows that entities are linked to; without direct links E_hat alone."""
    F = None if E_fine is None else soft_threshold(E_fine, threshold)
    E_hat = E_coarse if graph.S_fine is None else bridge(E_coarse, graph.S_fine, F, graph.gate)
    return np.concatenate([E_hat, F]) if graph.links.shape[1] > graph.n_coarse else E_hat


def joint_forward(
    E_coarse: np.ndarray, E_fine: np.ndarray | None, graph: JointGraph,
    *, threshold: float, n_layers: int, batch: Triples | None = None,
) -> JointForward:  # fmt: skip
    """Embeddings of all entities, or of a batch's (model.md, joint training, 1-3)."""
    codebook = joint_codebook(E_coarse, E_fine, graph, threshold=threshold)
    Z = graph.engine.compose(graph.links, codebook)
    rows = None if batch is None else batch.entities
    H = graph.engine.propagate(Z, graph.A, n_layers, rows=rows)
    return JointForward(Z, H, rows=rows, codebook=codebook)


def joint_gradients(
    forward: JointForward, slope: np.ndarray, E_fine: np.ndarray | None, graph: JointGraph, triples: Triples,
    *, threshold: float, n_layers: int, l2: float, decay: float, of_weights: bool = True, dead_zone: str = "closed",
) -> dict[str, np.ndarray]:  # fmt: skip
    """Gradients of the loss with respect to all that the state has; ``decay=0`` leaves those of the data loss.

    Those of S_coarse, S_fine and S_direct are of the stored weights, row by row. "Y" is the gradient before tanh, shape (N, d),
    which :func:`exchange` asks for. With an open dead zone "E_fine" is the gradient at F.
    """
    engine, c = graph.engine, graph.n_coarse
    grad_H, grad_bias, grad_bias_global = batch_loss_backward(forward, slope, triples, engine=engine)
    grad_Z = engine.propagate_backward(grad_H, graph.A, n_layers, rows=triples.entities)
    grad_Z = engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)
    grad_Y = engine.tanh_backward(grad_Z, forward.Z)

    gradients = {"bias": grad_bias, "bias_global": grad_bias_global, "Y": grad_Y}
    grad_codebook = graph.links.adjoint(grad_Y)
    grad_E_hat, grad_F = grad_codebook[:c], grad_codebook[c:]
    if graph.S_fine is None:
        gradients["E_coarse"] = grad_E_hat
    else:
        grad_E_coarse, through_bridge = bridge_backward(grad_E_hat, graph.S_fine, graph.gate)
        gradients["E_coarse"] = grad_E_coarse if graph.gate < 1 else grad_E_coarse[:0]
        grad_F = through_bridge + grad_F if len(grad_F) else through_bridge
    if E_fine is not None:
        gradients["E_fine"] = grad_F if dead_zone == "open" else soft_threshold_backward(grad_F, E_fine, threshold)
    if of_weights:
        grad_links = graph.links.weights_gradient(grad_Y, forward.codebook)
        to_coarse = graph.links.matrix.indices < c
        gradients["S_coarse"] = grad_links[to_coarse]
        if graph.links.shape[1] > c:
            gradients["S_direct"] = grad_links[~to_coarse]
        if graph.S_fine is not None:
            F = soft_threshold(E_fine, threshold)
            gradients["S_fine"] = bridge_backward_assignment(grad_E_hat, graph.S_fine, F, graph.gate).data
    return gradients


def exchange(
    state: ModelState, moments: AdamMoments, graph: JointGraph, grad_Y: np.ndarray, turn: int,
    *, threshold: float, reach: float,
) -> tuple[ModelState, AdamMoments]:  # fmt: skip
    """Choose the links of one assignment anew, by an epoch's gradient at Y: S_c, S_d and S_f take turns.

    Of S_c and S_d one link of each row is exchanged; it starts at 0. An assignment with a single link a row, or none, is left
    out. All of S_f is found by pursuit of what the coarse rows would become if they were free: moved along their gradient by
    `reach`, the root mean square over their entries. New links have fresh moments.
    """
    # An entity's only link to a codebook is never given up: a new one starts at 0 and would leave it with nothing.
    movable = [name for name in ("S_coarse", "S_direct") if _links_a_row(getattr(state, name)) > 1]
    movable += ["S_fine"] if state.S_fine is not None else []
    if not movable:
        return state, moments
    name = movable[(turn - 1) % len(movable)]
    if name == "S_fine":
        F, grad_E_hat = soft_threshold(state.E_fine, threshold), graph.links.adjoint(grad_Y)[: graph.n_coarse]
        size = np.sqrt(np.mean(grad_E_hat**2, axis=1, keepdims=True))
        step = np.divide(reach / graph.gate * grad_E_hat, size, out=np.zeros_like(grad_E_hat), where=size > 0)
        exchanged = pursued_links(state.S_fine, F, state.S_fine @ F - step)
    else:
        codebook = joint_codebook(state.E_coarse, state.E_fine, graph, threshold=threshold)
        rows = codebook[graph.n_coarse :] if name == "S_direct" else codebook[: graph.n_coarse]
        exchanged = exchange_links(getattr(state, name), rows, grad_Y)
    moments = replace(
        moments,
        mean=moments.mean | {name: exchanged.carry(moments.mean[name])},
        square=moments.square | {name: exchanged.carry(moments.square[name])},
    )
    return replace(state, **{name: sparse.csr_array(exchanged.S)}), moments


def _links_a_row(S) -> int:
    """How many links every row has; 0 if there is no such assignment."""
    return 0 if S is None else S.nnz // S.shape[0]


@dataclass(frozen=True)
class JointStage(Stage):
    """Joint training as training sees it."""

    settings: Settings
    engine: ModuleType
    name = "joint"
    trained: tuple[str, ...] = ("E_coarse", "E_fine", "S_coarse", "S_fine", "S_direct", "bias", "bias_global")

    def graph(self, state: ModelState, A) -> JointGraph:
        return joint_graph(A, state, self.settings.gate, engine=self.engine)

    def forward(self, state: ModelState, graph: JointGraph, *, batch: Triples | None = None) -> JointForward:
        s = self.settings
        return joint_forward(state.E_coarse, state.E_fine, graph, threshold=state.tau(s), n_layers=s.n_layers, batch=batch)

    def gradients(self, forward: JointForward, slope, state: ModelState, graph: JointGraph, triples: Triples, **weights):
        s = self.settings
        return joint_gradients(
            forward, slope, state.E_fine, graph, triples,
            threshold=state.tau(s), n_layers=s.n_layers, of_weights="S_coarse" in self.trained, dead_zone=s.dead_zone, **weights,
        )  # fmt: skip

    def graph_after(self, graph: JointGraph, moved: ModelState) -> JointGraph:
        return relinked(graph, moved) if "S_coarse" in self.trained else graph


def table_stage(settings: Settings, engine: ModuleType) -> JointStage:
    """Joint training of a table: the links, S_c = I, are not trained."""
    return JointStage(settings, engine, trained=("E_coarse", "bias", "bias_global"))
