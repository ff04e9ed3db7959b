"""Training: one phase after another, each ended by early stopping on validation NDCG@5.

    coarse_phase1   E_c and biases, S_c fixed (left out if so set)
    coarse          goes on from where phase 1 stands; S_c is updated in closed form during the first batch of an epoch
    fine_phase1     starts from the best checkpoint of "coarse"; E_f and biases, S_f fixed
    fine            goes on; S_f is updated

    partition       joint training of everything (`c2f_np.training.joint`), from a partition of the entities
    table           a row for every entity, coded in the end (`c2f_np.training.table`)
    joint           joint training from the coded table, or from the partition's best state, if that validates better; without
                    a table, from a partition

An epoch is a function of (progress, problem): its random numbers come from (seed, stage, epoch), so that a resumed run takes
the very steps that an uninterrupted one takes.

Shapes: see `c2f_np.stages`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse

from ..data import Dataset
from ..errors import SettingsError
from ..evaluation import EvaluationResult, evaluate_embeddings
from ..operations.adam import adam_step, clip_by_value
from ..operations.assignment_update import update_coarse_assignment, update_fine_assignment
from ..operations.triples import Triples
from ..settings import Settings
from ..stages.batch_loss import batch_loss
from ..stages.coarse import coarse_gradients
from ..stages.fine import fine_gradients
from ..stages.partition import partition_entities
from ..stages.start import start_biases, start_coarse_assignment, start_fine_assignment, start_fine_codebook
from ..stages.state import ModelState
from .batches import epoch_batches, generator
from .joint import joint_epoch, start_joint
from .parameters import fresh_optimiser, trained_parameters
from .problem import Problem, build_graph, forward, graph_of, pose, threads_of
from .progress import Best, Progress, phases_of
from .table import code_table, start_table
from .threads import working_threads

STOPPING_METRIC = "ndcg@5"


def train(
    data: Dataset,
    settings: Settings,
    *,
    progress: Progress | None = None,
    after_epoch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train to the end, through all phases that the settings ask for.

    Parameters
    ----------
    data : Dataset
    settings : Settings
    progress : Progress, optional
        Where an earlier run of the same data and settings stood.
    after_epoch : callable, optional
        Called with the progress after every epoch; for logs and checkpoints.

    Returns
    -------
    Progress
        Done; ``finished`` holds the result of each phase.

    Raises
    ------
    SettingsError
        If settings do not fit the data, or training diverges.
    DataError
        If there is nothing to train on.
    """
    problem = pose(data, settings)
    with working_threads(threads_of(problem), settings.engine):
        progress = start(problem) if progress is None else progress
        graph = None
        while not progress.is_done:
            progress, graph = run_epoch(progress, problem, graph)
            if after_epoch is not None:
                after_epoch(progress)
    return progress


def start(problem: Problem) -> Progress:
    """Where a training begins: with the coarse stage, a table, or both codebooks."""
    settings = problem.settings
    if settings.training == "stages":
        return start_coarse(problem)
    phase = phases_of(settings)[0]
    state = _cast_state(start_table(problem) if phase == "table" else start_joint(problem), settings.dtype)
    return Progress(phase, 0, 0, state, fresh_optimiser(state, settings))


def start_coarse(problem: Problem) -> Progress:
    """The state before the first epoch (model.md, starts)."""
    settings, n = problem.settings, problem.n_users + problem.n_items
    rng = generator(settings.seed, "start coarse")
    parts = partition_entities(problem.R, settings.n_coarse, method=settings.partition, seed=settings.seed)
    S_coarse = start_coarse_assignment(parts, settings.n_coarse, settings.t_coarse, settings.anchor_weight, rng)
    E_coarse = rng.standard_normal((settings.n_coarse, settings.dim))
    bias, bias_global = start_biases(n, settings.bias_start, rng)
    state = ModelState(
        *(_cast(part, settings.dtype) for part in (E_coarse, S_coarse, bias, bias_global)),
    )
    return Progress(phases_of(settings)[0], 0, 0, state, fresh_optimiser(state, settings))


def start_fine(coarse: ModelState, problem: Problem) -> ModelState:
    """The fine stage's first state, from the coarse stage's result (model.md, starts).

    Returns
    -------
    ModelState
    """
    settings = problem.settings
    # Another partition than the coarse one, hence another seed.
    seed = settings.seed + 1
    parts = partition_entities(problem.R, settings.n_fine, method=settings.partition, seed=seed)
    S_fine = start_fine_assignment(
        coarse.S_coarse, parts, settings.n_fine, settings.t_fine, renormalise=settings.renormalise_fine
    )
    E_fine = start_fine_codebook(
        coarse.E_coarse,
        settings.n_fine,
        settings.n_components,
        kind=settings.fine_start,
        threshold=settings.threshold,
        seed=seed,
    )
    return dataclasses.replace(
        coarse, E_fine=_cast(E_fine, settings.dtype), S_fine=_cast(S_fine, settings.dtype)
    )


def run_epoch(progress: Progress, problem: Problem, graph=None) -> tuple[Progress, object]:
    """Train one epoch, evaluate if it is time, and move to the next phase if this one is over.

    Parameters
    ----------
    progress : Progress
    problem : Problem
    graph : CoarseGraph or FineGraph, optional
        That of ``progress.state``; built if it is not given.

    Returns
    -------
    progress : Progress
    graph : CoarseGraph, FineGraph or None
        That of the new state, if it is known.
    """
    settings = problem.settings
    most = settings.most_epochs(progress.phase)
    progress, graph = train_epoch(progress, problem, graph, most)
    if progress.phase_epoch >= most or progress.bad_evaluations >= settings.patience:
        return _next_phase(progress, problem, graph)
    return progress, graph


def train_epoch(progress: Progress, problem: Problem, graph, most_epochs: int) -> tuple[Progress, object]:
    """Train one epoch and evaluate if it is time; the phase stays what it is.

    Parameters
    ----------
    progress : Progress
    problem : Problem
    graph : CoarseGraph or FineGraph, or None
        That of ``progress.state``; built if it is not given.
    most_epochs : int
        After so many epochs of the phase there is an evaluation in any case.

    Returns
    -------
    progress : Progress
        With one more row of history.
    graph : CoarseGraph or FineGraph
    """
    started = time.perf_counter()
    settings = problem.settings
    graph = graph_of(progress.state, problem) if graph is None else graph
    if settings.training == "joint":
        result = joint_epoch(progress, problem, graph, learning_rate_of(progress, settings))
    else:
        result = _train_on_triples(progress, problem, graph)
    state, moments, graph, losses = result
    if not np.isfinite(losses).all():
        raise SettingsError(
            f"training diverged in epoch {progress.stage_epoch + 1} of the {progress.stage} stage: "
            "the loss is not finite; lower the learning rate"
        )
    progress = dataclasses.replace(
        progress,
        state=state,
        moments=moments,
        stage_epoch=progress.stage_epoch + 1,
        phase_epoch=progress.phase_epoch + 1,
    )
    score = float("nan")
    if progress.phase_epoch >= most_epochs or progress.phase_epoch % settings.eval_every == 0:
        result = evaluate_state(progress.state, problem, "validation", graph=graph)
        score = float("nan") if result is None else result.metrics[STOPPING_METRIC]
        progress = _note_evaluation(progress, score)
    row = {
        "stage": progress.stage,
        "phase": progress.phase,
        "epoch": progress.stage_epoch,
        "bpr": losses[0],
        "regulariser": losses[1],
        "loss": losses[0] + settings.decay * losses[1],
        "validation_ndcg@5": score,
        "nonzero_fine": _share_above_threshold(progress.state, settings),
        "seconds": time.perf_counter() - started,
    }
    return dataclasses.replace(progress, history=(*progress.history, row)), graph


def _train_on_triples(progress: Progress, problem: Problem, graph):
    """All batches of an epoch: new state, moments, graph, and the mean losses (BPR, regulariser)."""
    settings = problem.settings
    batch_size = settings.fine_batch if progress.state.is_fine else settings.coarse_batch
    state, moments, rate = progress.state, progress.moments, learning_rate_of(progress, settings)
    totals, n_seen = np.zeros(2), 0
    for number, triples in enumerate(epoch_batches(progress, problem, batch_size)):
        update = number == 0 and _update_is_due(progress, settings)
        state, moments, graph, losses = train_step(
            state, moments, problem, graph, triples, update_assignment=update, learning_rate=rate
        )
        totals += losses * len(triples)
        n_seen += len(triples)
    return state, moments, graph, totals / n_seen


def learning_rate_of(progress: Progress, settings: Settings) -> float:
    """The learning rate of the next epoch: that of the stage, but in first phases times a factor if ``lr_schedule`` says so.

    e counts the phase's epochs from 0, E is the most that it may have. ``cosine`` is ``(1 + cos(pi e / E)) / 2``; ``steps`` is
    1 for two thirds of the epochs, 1/3 for a sixth and 1/10 for the last sixth. First phases (of the two stages) keep the
    rate: they only lead to where the assignments begin to move.
    """
    rates = {"fine": settings.fine_lr, "partition": settings.start_lr, "table": settings.start_lr}
    rate = rates.get(progress.stage, settings.coarse_lr)
    if settings.lr_schedule == "constant" or not progress.updates_assignment:
        return rate
    most = settings.most_epochs(progress.phase)
    if settings.lr_schedule == "cosine":
        return rate * (1 + math.cos(math.pi * progress.phase_epoch / most)) / 2
    sixth = 6 * progress.phase_epoch // most
    return rate if sixth < 4 else rate / 3 if sixth == 4 else rate / 10


def train_step(
    state: ModelState,
    moments,
    problem: Problem,
    graph,
    triples: Triples,
    *,
    update_assignment: bool = False,
    learning_rate: float | None = None,
):
    """One optimisation step.

    With `update_assignment` the assignment is replaced between the forward pass and the step; the gradient still belongs
    to the graph of the forward pass (model.md, two phases).

    Parameters
    ----------
    state : ModelState
    moments : AdamMoments
    problem : Problem
    graph : CoarseGraph or FineGraph
    triples : Triples
    update_assignment : bool
    learning_rate : float, optional
        By default the stage's own.

    Returns
    -------
    state : ModelState
    moments : AdamMoments
    graph : CoarseGraph or FineGraph
        A new one if the assignment was updated.
    losses : ndarray, shape (2,)
        BPR loss and regulariser before the step.
    """
    settings = problem.settings
    common = {"l2": settings.l2, "decay": settings.decay, "engine": settings.engine}
    # An assignment update looks at all nodes, a step only at those of its batch.
    result = forward(state, graph, settings, batch=None if update_assignment else triples)
    loss, slope = batch_loss(result, state.bias, state.bias_global, triples, **common)
    if state.is_fine:
        gradients = fine_gradients(
            result,
            slope,
            state.E_fine,
            graph,
            triples,
            threshold=settings.threshold,
            n_layers=settings.n_layers,
            **common,
        )
    else:
        gradients = coarse_gradients(result, slope, graph, triples, n_layers=settings.n_layers, **common)
    rate = learning_rate
    if rate is None:
        rate = settings.fine_lr if state.is_fine else settings.coarse_lr
    parameters = trained_parameters(state, settings)
    clipped = {name: clip_by_value(gradients[name], settings.max_grad_value) for name in parameters}
    parameters, moments = adam_step(parameters, clipped, moments, rate, engine=settings.engine)
    new = dataclasses.replace(state, **parameters)
    if update_assignment:
        new = dataclasses.replace(new, **updated_assignment(result, state, settings))
        graph = graph_of(new, problem)
    return new, moments, graph, np.array([loss.bpr, loss.regulariser], dtype=np.float64)


def updated_assignment(result, state: ModelState, settings: Settings) -> dict[str, sparse.csr_array]:
    """The closed-form update of the stage's assignment, from a forward pass, under the name of the state's field."""
    if not state.is_fine:
        S_coarse = update_coarse_assignment(
            result.H_entities, result.H_coarse, settings.t_coarse, engine=settings.engine
        )
        return {"S_coarse": S_coarse}
    S_fine = update_fine_assignment(
        result.H_entities,
        result.H_coarse,
        result.H_fine,
        settings.t_fine,
        renormalise=settings.renormalise_fine,
        engine=settings.engine,
    )
    return {"S_fine": S_fine}


def evaluate_state(state: ModelState, problem: Problem, part: str, *, graph=None, ks=(5, 10, 20, 50)) -> EvaluationResult | None:
    """Rank all items for the users of a part of the data, under the data's protocol.

    Parameters
    ----------
    state : ModelState
    problem : Problem
    part : {"validation", "test"}
    graph : CoarseGraph or FineGraph, optional
    ks : tuple of int

    Returns
    -------
    EvaluationResult, or None if the part is empty
    """
    relevant = getattr(problem.data, part)
    if relevant is None or relevant.nnz == 0:
        return None
    settings, n_users = problem.settings, problem.n_users
    graph = build_graph(state, problem.A, settings) if graph is None else graph
    H = forward(state, graph, settings).H_entities
    return evaluate_embeddings(
        H[:n_users],
        H[n_users:],
        state.bias[n_users:],
        relevant,
        problem.data.masked_when_ranking(part),
        ks,
        engine=settings.engine,
        n_threads=settings.threads or None,
        protocol=problem.data.protocol,
    )


def _note_evaluation(progress: Progress, score: float) -> Progress:
    """Keep the state if it is the best of its phase so far; without validation the latest is."""
    if progress.best is None or np.isnan(score) or score > progress.best.score:
        best = Best(score, progress.stage_epoch, progress.state)
        return dataclasses.replace(progress, best=best, bad_evaluations=0)
    return dataclasses.replace(progress, bad_evaluations=progress.bad_evaluations + 1)


def _next_phase(progress: Progress, problem: Problem, graph) -> tuple[Progress, object]:
    """Close the phase. A second phase goes on from where training stands; the others begin anew, with fresh moments."""
    finished = {**progress.finished, progress.phase: progress.best}
    phases = phases_of(problem.settings)
    following = phases.index(progress.phase) + 1
    phase = phases[following] if following < len(phases) else "done"
    progress = dataclasses.replace(
        progress, phase=phase, phase_epoch=0, best=None, bad_evaluations=0, finished=finished
    )
    if phase == "fine_phase1":
        state, best = start_fine(finished["coarse"].state, problem), None
    elif phase == "table":
        state, best = _cast_state(start_table(problem), problem.settings.dtype), None
    elif phase == "joint":
        state, best, started_from = _start_after_table(finished, problem)
        progress = dataclasses.replace(progress, started_from=started_from)
    else:
        return progress, graph
    moments = fresh_optimiser(state, problem.settings)
    return dataclasses.replace(progress, stage_epoch=0, state=state, moments=moments, best=best), None


def _start_after_table(finished: dict[str, Best], problem: Problem) -> tuple[ModelState, Best | None, str]:
    """Where joint training begins: with the best table, coded, or with the best that a partition led to; and which it was.

    The state is also the first candidate of the phase, as that of an epoch 0, so that the result never validates worse. (Without
    validation scores are NaN: no comparison holds, the table is taken, and every later state replaces it.)
    """
    state, started_from = _cast_state(code_table(finished["table"].state, problem), problem.settings.dtype), "table"
    result = evaluate_state(state, problem, "validation")
    score = float("nan") if result is None else result.metrics[STOPPING_METRIC]
    rival = finished.get("partition")
    if rival is not None and rival.score > score:
        state, score, started_from = rival.state, rival.score, "partition"
    return state, None if math.isnan(score) else Best(score, 0, state), started_from


def _update_is_due(progress: Progress, settings: Settings) -> bool:
    if not progress.updates_assignment:
        return False
    if settings.update_every == 0:
        return progress.phase_epoch == 0
    return progress.phase_epoch % settings.update_every == 0


def _share_above_threshold(state: ModelState, settings: Settings) -> float:
    """Share of the fine codebook that soft thresholding leaves alive; NaN in the coarse stage."""
    return float(np.mean(np.abs(state.E_fine) > settings.threshold)) if state.is_fine else float("nan")


def _cast_state(state: ModelState, dtype: str) -> ModelState:
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return ModelState(**{name: None if part is None else _cast(part, dtype) for name, part in parts.items()})


def _cast(value, dtype: str):
    if sparse.issparse(value):
        return sparse.csr_array(value, dtype=dtype)
    return value.astype(dtype)
