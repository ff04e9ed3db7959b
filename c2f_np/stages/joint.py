"""Joint training: both codebooks, and the weights of the links to them, learned together by gradient.

    F = soft_threshold(E_f, tau),   E_hat = g S_f F + (1 - g) E_c
    Y = S_c E_hat + S_d F,          Z = tanh(Y)
    H = mean(Z, A Z, ..., A^L Z)
    loss = BPR(H, b) + decay * regulariser(Z)

Three things differ from the two stages of the paper, each for a reason that docs/fine_codebook.md proves or measures:

- **Direct links** S_d, from the entities themselves to fine rows. The bridge makes E_hat, a C x d matrix, out of two codebooks,
  and a trainable E_c is one already: only links of their own let the fine rows say what the coarse rows cannot.
- **Trained weights.** E_c, E_f, S_c, S_d and b all follow the gradient. The pattern of the links moves too
  if so set (`c2f_np.operations.link_exchange`). S_f starts as in the fine stage and stays.
- **No codebook nodes.** Propagation is over A alone: sharing a row does not make two entities neighbours.

Without a fine codebook (``t_direct = 0`` and ``gate = 0``) what remains is the coarse codebook, trained in this way: a fair
rival.

Shapes
------
E_coarse, E_hat : (C, d)     E_fine, F : (M, d)     S_coarse : (N, C)     S_direct : (N, M)     S_fine : (C, M)
codebook = [E_hat; F] : (K, d)     links = [S_c, S_d] : (N, K)     Y, Z, H_entities : (N, d)     A : (N, N)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sparse

from ..operations.bridging import bridge, bridge_backward
from ..operations.composition import compose, tanh_backward
from ..operations.propagation import propagate, propagate_backward
from ..operations.regulariser import squared_norm_penalty_backward
from ..operations.soft_threshold import soft_threshold, soft_threshold_backward
from ..operations.sparse_operator import SparseOperator, as_operator, symmetric_operator
from ..operations.sparse_product import sparse_product_backward, sparse_product_backward_weights
from ..operations.triples import Triples
from .batch_loss import batch_loss_backward
from .state import ModelState


@dataclass(frozen=True)
class JointGraph:
    """The graph, and the links of the entities to both codebooks side by side.

    Attributes
    ----------
    A : SparseOperator, shape (N, N)
    links : SparseOperator, shape (N, C + M), or (N, C) without direct links
    S_fine : SparseOperator, shape (C, M), or None without a bridge
    gate : float
        Bridge weight g.
    n_coarse : int
        C, where the columns of `links` divide.
    """

    A: SparseOperator
    links: SparseOperator
    S_fine: SparseOperator | None
    gate: float
    n_coarse: int


def joint_graph(A, state: ModelState, gate: float) -> JointGraph:
    """What joint training propagates and composes with.

    Parameters
    ----------
    A : csr_array, shape (N, N)
        Normalised bipartite adjacency.
    state : ModelState
    gate : float

    Returns
    -------
    JointGraph
    """
    S_fine = None if state.S_fine is None else as_operator(state.S_fine)
    return JointGraph(symmetric_operator(A), _links(state), S_fine, gate, state.S_coarse.shape[1])


def relinked(graph: JointGraph, state: ModelState) -> JointGraph:
    """The same graph with the links of another state, as after a step that moved their weights."""
    return replace(graph, links=_links(state))


def _links(state: ModelState) -> SparseOperator:
    """[S_c, S_d]; both have the same number of entries in every row, so the rows are laid side by side."""
    if state.S_direct is None:
        return as_operator(state.S_coarse)
    n, c = state.S_coarse.shape
    both = (state.S_coarse, state.S_direct)
    t_coarse, t_direct = (S.nnz // n for S in both)
    data = np.concatenate([S.data.reshape(n, -1) for S in both], axis=1)
    columns = np.concatenate(
        [state.S_coarse.indices.reshape(n, t_coarse), state.S_direct.indices.reshape(n, t_direct) + c], axis=1
    )
    t = t_coarse + t_direct
    shape = (n, c + state.S_direct.shape[1])
    return as_operator(sparse.csr_array((data.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=shape))


@dataclass(frozen=True)
class JointForward:
    """What the forward pass computed.

    Attributes
    ----------
    codebook : ndarray, shape (C + M, d)
        [E_hat; F], or E_hat alone without direct links.
    Z : ndarray, shape (N, d)
        Ego embeddings; also what the regulariser sees.
    H_entities : ndarray, shape (N, d), or (K, d) for a batch
    rows : ndarray of int, shape (K,), or None
        The entities that `H_entities` belongs to, if not all.
    """

    codebook: np.ndarray
    Z: np.ndarray
    H_entities: np.ndarray
    rows: np.ndarray | None = None


def joint_forward(
    E_coarse: np.ndarray,
    E_fine: np.ndarray | None,
    graph: JointGraph,
    *,
    threshold: float,
    n_layers: int,
    batch: Triples | None = None,
    engine: str = "numpy",
) -> JointForward:
    """Embeddings of all entities, or of a batch's.

    Parameters
    ----------
    E_coarse : ndarray, shape (C, d)
    E_fine : ndarray, shape (M, d), or None without a fine codebook
    graph : JointGraph
    threshold : float
        tau.
    n_layers : int
    batch : Triples, optional
        Compute H only for the entities that occur here.
    engine : {"numpy", "numba"}

    Returns
    -------
    JointForward
    """
    codebook = joint_codebook(E_coarse, E_fine, graph, threshold=threshold, engine=engine)
    Z = compose(graph.links, codebook, engine=engine)
    rows = None if batch is None else batch.occurrences.entities
    return JointForward(codebook, Z, propagate(Z, graph.A, n_layers, rows=rows, engine=engine), rows)


def joint_codebook(
    E_coarse: np.ndarray, E_fine: np.ndarray | None, graph: JointGraph, *, threshold: float, engine: str = "numpy"
) -> np.ndarray:
    """The rows that entities are linked to.

    Parameters
    ----------
    E_coarse : ndarray, shape (C, d)
    E_fine : ndarray, shape (M, d), or None
    graph : JointGraph
    threshold : float
    engine : {"numpy", "numba"}

    Returns
    -------
    ndarray, shape (C + M, d)
        [E_hat; F]; without direct links E_hat alone, shape (C, d).
    """
    F = None if E_fine is None else soft_threshold(E_fine, threshold, engine=engine)
    E_hat = E_coarse if graph.S_fine is None else bridge(E_coarse, graph.S_fine, F, graph.gate, engine=engine)
    return np.concatenate([E_hat, F]) if graph.links.shape[1] > graph.n_coarse else E_hat


def joint_gradients(
    forward: JointForward,
    slope: np.ndarray,
    E_fine: np.ndarray | None,
    graph: JointGraph,
    triples: Triples,
    *,
    threshold: float,
    n_layers: int,
    l2: float,
    decay: float,
    of_weights: bool = True,
    engine: str = "numpy",
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Gradients of the total loss with respect to everything that joint training moves.

    Parameters
    ----------
    forward : JointForward
    slope : ndarray, shape (B,)
        From :func:`c2f_np.stages.batch_loss.batch_loss`.
    E_fine : ndarray, shape (M, d), or None
    graph : JointGraph
        The graph that the forward pass used.
    triples : Triples
    threshold : float
    n_layers : int
    l2, decay : float
        With ``decay=0`` the result is the gradient of the data loss alone.
    of_weights : bool
        Whether the gradients of assignments are wanted.
    engine : {"numpy", "numba"}

    Returns
    -------
    gradients : dict
        "E_coarse" (C, d), "S_coarse" (N * t,), "bias" (N,), "bias_global" (1,); with a fine codebook "E_fine" (M, d); with direct
        links "S_direct" (N * t_direct,). Those of assignments are of their stored weights, row by row.
    grad_Y : ndarray, shape (N, d)
        At Y = S_c E_hat + S_d F, before tanh: what :func:`c2f_np.operations.link_exchange.exchange_links` asks for.
    """
    rows, c = triples.occurrences.entities, graph.n_coarse
    grad_H, grad_bias, grad_bias_global = batch_loss_backward(forward, slope, triples, engine=engine)
    grad_Z = propagate_backward(grad_H, graph.A, n_layers, rows=rows, engine=engine)
    grad_Z = squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_Z, engine=engine)
    grad_Y = tanh_backward(grad_Z, forward.Z, engine=engine)

    grad_codebook = sparse_product_backward(grad_Y, graph.links, engine=engine)
    grad_E_hat, grad_F = grad_codebook[:c], grad_codebook[c:]
    gradients = {"bias": grad_bias, "bias_global": grad_bias_global}
    if graph.S_fine is None:
        gradients["E_coarse"] = grad_E_hat
    else:
        gradients["E_coarse"], through_bridge = bridge_backward(grad_E_hat, graph.S_fine, graph.gate, engine=engine)
        grad_F = through_bridge + grad_F if len(grad_F) else through_bridge
    if E_fine is not None:
        gradients["E_fine"] = soft_threshold_backward(grad_F, E_fine, threshold, engine=engine)
    if not of_weights:
        return gradients, grad_Y
    grad_links = sparse_product_backward_weights(grad_Y, graph.links, forward.codebook, engine=engine).data
    if len(grad_codebook) == c:
        gradients["S_coarse"] = grad_links
    else:
        to_coarse = graph.links.matrix.indices < c
        gradients |= {"S_coarse": grad_links[to_coarse], "S_direct": grad_links[~to_coarse]}
    return gradients, grad_Y
