"""The coarse stage (this alone is LEGCF): compose, propagate, score; and all of it backwards.

    Z = tanh(S_c E_c),   X_0 = [Z; E_c],   H = mean(X_0, ..., X_L),   X_{k+1} = X_hat X_k
    loss = BPR(H, b) + decay * l2-penalty(Z)

E_c reaches the loss on three ways: through Z and the graph, through Z and the regulariser, and directly as X_0's coarse rows.

Shapes
------
E_coarse : (C, d)     Z, H_entities : (N, d)     H_coarse : (C, d)     X_hat : (N + C, N + C)     S_coarse : (N, C)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..operations.bpr import bpr_backward, bpr_loss
from ..operations.composition import compose, compose_backward
from ..operations.graph import expanded_graph
from ..operations.propagation import propagate, propagate_backward
from ..operations.regulariser import squared_norm_penalty, squared_norm_penalty_backward
from ..operations.sparse_operator import SparseOperator, as_operator
from ..operations.triples import Triples
from .state import Loss


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


def coarse_graph(A, S_coarse, *, degree: str = "signed") -> CoarseGraph:
    """Build the expanded graph of the coarse stage.

    Parameters
    ----------
    A : csr_array, shape (N, N)
        Normalised bipartite adjacency.
    S_coarse : csr_array, shape (N, C)
    degree : {"signed", "absolute"}
        See :func:`c2f_np.operations.graph.normalise`.

    Returns
    -------
    CoarseGraph
    """
    if S_coarse.shape[0] != A.shape[0]:
        raise SettingsError(f"the assignment has {S_coarse.shape[0]} rows, the graph {A.shape[0]} entities")
    X_hat = expanded_graph(A, S_coarse, degree=degree)
    return CoarseGraph(as_operator(sparse.csr_array(X_hat, dtype=S_coarse.dtype)), as_operator(S_coarse))


@dataclass(frozen=True)
class CoarseForward:
    """What the forward pass computed.

    Attributes
    ----------
    Z : ndarray, shape (N, d)
        Ego embeddings; also what the regulariser sees.
    H_entities : ndarray, shape (N, d)
    H_coarse : ndarray, shape (C, d)
    """

    Z: np.ndarray
    H_entities: np.ndarray
    H_coarse: np.ndarray


def coarse_forward(E_coarse: np.ndarray, graph: CoarseGraph, n_layers: int, *, engine: str = "numpy") -> CoarseForward:
    """Embeddings of all nodes (model.md, coarse stage, 1-3).

    Parameters
    ----------
    E_coarse : ndarray, shape (C, d)
    graph : CoarseGraph
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    CoarseForward
    """
    Z = compose(graph.S_coarse, E_coarse, engine=engine)
    H = propagate(np.concatenate([Z, E_coarse]), graph.X_hat, n_layers, engine=engine)
    return CoarseForward(Z, H[: len(Z)], H[len(Z) :])


def coarse_backward(
    grad_H_entities: np.ndarray,
    grad_Z: np.ndarray,
    forward: CoarseForward,
    graph: CoarseGraph,
    n_layers: int,
    *,
    engine: str = "numpy",
) -> np.ndarray:
    """Gradient with respect to E_coarse.

    Parameters
    ----------
    grad_H_entities : ndarray, shape (N, d)
        Cotangent of the propagated entity embeddings.
    grad_Z : ndarray, shape (N, d)
        Cotangent of the ego embeddings, from the regulariser.
    forward : CoarseForward
    graph : CoarseGraph
        The graph that the forward pass used.
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_E_coarse : ndarray, shape (C, d)
    """
    n = len(forward.Z)
    grad_H = np.concatenate([grad_H_entities, np.zeros_like(forward.H_coarse)])
    grad_X0 = propagate_backward(grad_H, graph.X_hat, n_layers, engine=engine)
    return grad_X0[n:] + compose_backward(grad_X0[:n] + grad_Z, graph.S_coarse, forward.Z, engine=engine)


def coarse_loss(
    forward: CoarseForward,
    bias: np.ndarray,
    bias_global: np.ndarray,
    triples: Triples,
    *,
    l2: float,
    decay: float,
    engine: str = "numpy",
) -> tuple[Loss, np.ndarray]:
    """Loss of a batch (model.md, coarse stage, 4-5).

    Parameters
    ----------
    forward : CoarseForward
    bias : ndarray, shape (N,)
    bias_global : ndarray, shape (1,)
    triples : Triples
    l2, decay : float
    engine : {"numpy", "numba"}

    Returns
    -------
    loss : Loss
    slope : ndarray, shape (B,)
        For :func:`coarse_gradients`.
    """
    bpr, slope = bpr_loss(forward.H_entities, bias, bias_global, triples, engine=engine)
    return Loss(bpr, squared_norm_penalty(forward.Z, triples, l2, engine=engine), decay), slope


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
        From :func:`coarse_loss`.
    graph : CoarseGraph
    triples : Triples
    n_layers : int
    l2, decay : float
        With ``decay=0`` the result is the gradient of the data loss alone.
    engine : {"numpy", "numba"}

    Returns
    -------
    dict with "E_coarse" (C, d), "bias" (N,), "bias_global" (1,)
    """
    grad_H, grad_bias, grad_bias_global = bpr_backward(forward.H_entities, triples, slope, engine=engine)
    grad_Z = squared_norm_penalty_backward(decay, forward.Z, triples, l2, engine=engine)
    grad_E_coarse = coarse_backward(grad_H, grad_Z, forward, graph, n_layers, engine=engine)
    return {"E_coarse": grad_E_coarse, "bias": grad_bias, "bias_global": grad_bias_global}
