"""Joint training: how it starts, its step, its epoch, and the exchange of links.

If so set, every `update_every` epochs within the first `exchange_epochs` the links to one codebook are exchanged (coarse and fine
in turn) by the gradient of that whole epoch (`c2f_np.operations.link_exchange`). A new link starts at 0 and with fresh moments.

Shapes: see `c2f_np.stages.joint`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sparse

from ..operations.adam import AdamMoments, adam_step, clip_by_value
from ..operations.link_exchange import exchange_links
from ..operations.triples import Triples
from ..stages.batch_loss import batch_loss
from ..stages.joint import JointGraph, joint_codebook, joint_gradients, relinked
from ..stages.partition import partition_entities
from ..stages.start import start_biases, start_coarse_assignment, start_fine_assignment
from ..stages.state import ModelState
from .batches import epoch_batches, generator
from .parameters import trained_parameters, with_parameters
from .problem import Problem, forward
from .progress import Progress


def start_joint(problem: Problem) -> ModelState:
    """The state before the first epoch: both codebooks unit normal, links from two partitions of the entities.

    The fine codebook starts tau away from zero: soft thresholding returns the normal draw, and nothing begins in the dead zone.

    Returns
    -------
    ModelState
        In float64.
    """
    settings, n = problem.settings, problem.n_users + problem.n_items
    rng = generator(settings.seed, "start joint")
    weight, seed = settings.anchor_weight, settings.seed
    parts = partition_entities(problem.R, settings.n_coarse, method=settings.partition, seed=seed)
    S_coarse = start_coarse_assignment(parts, settings.n_coarse, settings.t_coarse, weight, rng)
    E_coarse = rng.standard_normal((settings.n_coarse, settings.dim))
    state = ModelState(E_coarse, S_coarse, *start_biases(n, settings.bias_start, rng))
    if not settings.has_fine_codebook:
        return state
    E_fine = rng.standard_normal((settings.n_fine, settings.dim))
    E_fine += settings.threshold * np.sign(E_fine)
    # Another partition than the coarse one, hence another seed.
    parts = partition_entities(problem.R, settings.n_fine, method=settings.partition, seed=seed + 1)
    S_fine = S_direct = None
    if settings.gate > 0:
        S_fine = start_fine_assignment(
            S_coarse, parts, settings.n_fine, settings.t_fine, renormalise=settings.renormalise_fine
        )
    if settings.t_direct:
        S_direct = start_coarse_assignment(parts, settings.n_fine, settings.t_direct, weight, rng)
    return dataclasses.replace(state, E_fine=E_fine, S_fine=S_fine, S_direct=S_direct)


def joint_step(
    state: ModelState, moments: AdamMoments, problem: Problem, graph: JointGraph, triples: Triples, learning_rate: float
):
    """One optimisation step on everything.

    Parameters
    ----------
    state : ModelState
    moments : AdamMoments
    problem : Problem
    graph : JointGraph
    triples : Triples
    learning_rate : float

    Returns
    -------
    state : ModelState
    moments : AdamMoments
    graph : JointGraph
        With the new weights.
    losses : ndarray, shape (2,)
        BPR loss and regulariser before the step.
    grad_Y : ndarray, shape (N, d)
        See :func:`c2f_np.stages.joint.joint_gradients`.
    """
    settings = problem.settings
    common = {"l2": settings.l2, "decay": settings.decay, "engine": settings.engine}
    result = forward(state, graph, settings, batch=triples)
    loss, slope = batch_loss(result, state.bias, state.bias_global, triples, **common)
    parameters = trained_parameters(state, settings)
    moves_weights = "S_coarse" in parameters  # of a table there are none
    gradients, grad_Y = joint_gradients(
        result, slope, state.E_fine, graph, triples, threshold=settings.threshold, n_layers=settings.n_layers,
        of_weights=moves_weights, **common,
    )  # fmt: skip
    clipped = {name: clip_by_value(gradients[name], settings.max_grad_value) for name in parameters}
    parameters, moments = adam_step(parameters, clipped, moments, learning_rate, engine=settings.engine)
    state = with_parameters(state, parameters)
    losses = np.array([loss.bpr, loss.regulariser], dtype=np.float64)
    return state, moments, relinked(graph, state) if moves_weights else graph, losses, grad_Y


def joint_epoch(progress: Progress, problem: Problem, graph: JointGraph, learning_rate: float):
    """All batches of an epoch, and the exchange of links if it is due.

    Returns
    -------
    state, moments, graph
    losses : ndarray, shape (2,)
        Means over the triples.
    """
    settings = problem.settings
    state, moments = progress.state, progress.moments
    due = progress.phase == "joint" and exchange_is_due(progress.phase_epoch, settings)
    pull = np.zeros((problem.n_users + problem.n_items, settings.dim), dtype=settings.dtype) if due else None
    totals, n_seen = np.zeros(2), 0
    for triples in epoch_batches(progress, problem, settings.coarse_batch):
        state, moments, graph, losses, grad_Y = joint_step(state, moments, problem, graph, triples, learning_rate)
        totals += losses * len(triples)
        n_seen += len(triples)
        if due:
            pull += grad_Y
    if due and np.isfinite(totals).all():
        turn = (progress.phase_epoch + 1) // max(settings.update_every, 1)
        state, moments = exchange(state, moments, graph, pull, turn, threshold=settings.threshold)
        graph = relinked(graph, state)
    return state, moments, graph, totals / n_seen


def exchange_is_due(epoch: int, settings) -> bool:
    """Whether links are exchanged at the end of this epoch, counted from 0."""
    if epoch >= settings.exchange_epochs:
        return False
    return epoch == 0 if settings.update_every == 0 else (epoch + 1) % settings.update_every == 0


def exchange(
    state: ModelState, moments: AdamMoments, graph: JointGraph, grad_Y: np.ndarray, turn: int, *, threshold: float
) -> tuple[ModelState, AdamMoments]:
    """Exchange the links to one codebook: in odd turns the coarse one, in even turns the fine one.

    A codebook that entities have a single link to, or none, is left out; the other then has every turn.

    Parameters
    ----------
    state : ModelState
    moments : AdamMoments
    graph : JointGraph
        Of this state.
    grad_Y : ndarray, shape (N, d)
    turn : int
    threshold : float
        tau.

    Returns
    -------
    state : ModelState
    moments : AdamMoments
    """
    # An entity's only link to a codebook is never given up: a new one starts at 0 and would leave it with nothing.
    movable = [name for name in ("S_coarse", "S_direct") if _links_a_row(getattr(state, name)) > 1]
    if not movable:
        return state, moments
    name = movable[(turn + 1) % len(movable)]
    codebook = joint_codebook(state.E_coarse, state.E_fine, graph, threshold=threshold)
    rows = codebook[graph.n_coarse :] if name == "S_direct" else codebook[: graph.n_coarse]
    exchanged = exchange_links(getattr(state, name), rows, grad_Y)
    moments = dataclasses.replace(
        moments,
        mean=moments.mean | {name: exchanged.carry(moments.mean[name])},
        square=moments.square | {name: exchanged.carry(moments.square[name])},
    )
    return dataclasses.replace(state, **{name: sparse.csr_array(exchanged.S)}), moments


def _links_a_row(S) -> int:
    """How many links every entity has; 0 if there is no such assignment."""
    return 0 if S is None else S.nnz // S.shape[0]
