"""The coarse stage (this alone is LEGCF): compose, propagate, score; and all of it backwards.

    Z = tanh(S_c E_c),   X_0 = [Z; E_c],   H = mean(X_0, ..., X_L),   X_{k+1} = X_hat X_k
    loss = BPR(H, b) + decay * regulariser(Z)

E_c affects the loss along three paths: through Z and the graph, through Z and the regulariser, and directly as X_0's coarse rows.

Shapes
------
E_coarse : (C, d)     Z, H_entities : (N, d)     H_coarse : (C, d)     X_hat : (N + C, N + C)     S_coarse : (N, C)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..operations.composition import compose_above, compose_backward
from ..operations.graph import expanded_graph
from ..operations.propagation import propagate, propagate_backward
from ..operations.regulariser import squared_norm_penalty_backward
from ..operations.sparse_operator import SparseOperator, as_operator, symmetric_operator
from ..operations.triples import Triples
from .batch_loss import batch_loss_backward


@dataclass(frozen=True)
class CoarseGraph:
    """The expanded graph of the coarse stage and the assignment it was built from.

    Attributes
    ----------
    X_hat : SparseOperator, shape (N + C, N + C)
    S_coarse : SparseOperator, shape (N, C)
    """

    X_hat: SparseOperator
    S_coarse: SparseOperator


def coarse_graph(A, S_coarse, *, degree: str = "signed", engine: str = "numpy") -> CoarseGraph:
    """Build the expanded graph of the coarse stage.

    Parameters
    ----------
    A : csr_array, shape (N, N)
        Normalised bipartite adjacency.
    S_coarse : csr_array, shape (N, C)
    degree : {"signed", "absolute"}
        See :func:`c2f_np.operations.graph.normalise`.
    engine : {"numpy", "numba"}

    Returns
    -------
    CoarseGraph
    """
    if S_coarse.shape[0] != A.shape[0]:
        raise SettingsError(f"the assignment has {S_coarse.shape[0]} rows, the graph {A.shape[0]} entities")
    X_hat = sparse.csr_array(expanded_graph(A, S_coarse, degree=degree, engine=engine), dtype=S_coarse.dtype)
    return CoarseGraph(symmetric_operator(X_hat), as_operator(S_coarse))


@dataclass(frozen=True)
class CoarseForward:
    """What the forward pass computed.

    Attributes
    ----------
    Z : ndarray, shape (N, d)
        Ego embeddings; also what the regulariser sees.
    H_entities : ndarray, shape (N, d), or (K, d) for a batch
    H_coarse : ndarray, shape (C, d), or None for a batch
    rows : ndarray of int, shape (K,), or None
        The entities that `H_entities` belongs to, if not all.
    """

    Z: np.ndarray
    H_entities: np.ndarray
    H_coarse: np.ndarray | None
    rows: np.ndarray | None = None


def coarse_forward(
    E_coarse: np.ndarray, graph: CoarseGraph, n_layers: int, *, batch: Triples | None = None, engine: str = "numpy"
) -> CoarseForward:
    """Embeddings of all nodes (model.md, coarse stage, 1-3), or of a batch's entities.

    Parameters
    ----------
    E_coarse : ndarray, shape (C, d)
    graph : CoarseGraph
    n_layers : int
    batch : Triples, optional
        Compute H only for the entities that occur here.
    engine : {"numpy", "numba"}

    Returns
    -------
    CoarseForward
    """
    n = graph.S_coarse.shape[0]
    X0 = compose_above(graph.S_coarse, E_coarse, engine=engine)
    rows = None if batch is None else batch.occurrences.entities
    H = propagate(X0, graph.X_hat, n_layers, rows=rows, engine=engine)
    if batch is not None:
        return CoarseForward(X0[:n], H, None, rows)
    return CoarseForward(X0[:n], H[:n], H[n:])


def coarse_gradients(
    forward: CoarseForward,
    slope: np.ndarray,
    graph: CoarseGraph,
    triples: Triples,
    *,
    n_layers: int,
    l2: float,
    decay: float,
    engine: str = "numpy",
) -> dict[str, np.ndarray]:
    """Gradients of the total loss with respect to everything the coarse stage trains.

    Parameters
    ----------
    forward : CoarseForward
    slope : ndarray, shape (B,)
        From :func:`c2f_np.stages.batch_loss.batch_loss`.
    graph : CoarseGraph
        The graph that the forward pass used.
    triples : Triples
    n_layers : int
    l2, decay : float
        With ``decay=0`` the result is the gradient of the data loss alone.
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "E_coarse" (C, d), "bias" (N,), "bias_global" (1,)
    """
    n, rows = len(forward.Z), triples.occurrences.entities
    grad_H, grad_bias, grad_bias_global = batch_loss_backward(forward, slope, triples, engine=engine)
    grad_X0 = propagate_backward(grad_H, graph.X_hat, n_layers, rows=rows, engine=engine)
    grad_Z = squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_X0[:n], engine=engine)
    grad_E_coarse = grad_X0[n:] + compose_backward(grad_Z, graph.S_coarse, forward.Z, engine=engine)
    return {"E_coarse": grad_E_coarse, "bias": grad_bias, "bias_global": grad_bias_global}
