"""Training: one phase after another (`c2f_np.training.phases`), each ended by early stopping on validation NDCG@5.

An epoch is a function of (progress, phases, problem): its random numbers come from (seed, stage, epoch), so that a resumed run
takes the very steps that an uninterrupted one takes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from ..data import Dataset
from ..errors import DataError, SettingsError
from ..model.joint import exchange, relinked
from ..model.sampling import drawn_batches
from ..model.step import ModelState, fresh_moments, train_step
from ..settings import Settings
from ..threads import working_threads
from .phases import STOPPING_METRIC, Best, Phase, Progress, chosen_epochs, control_phases, phases_of, refit_phases
from .problem import Problem, evaluate_state, pose, training_graph

AfterEpoch = Callable[[Progress], None] | None
BeforeStart = Callable[[Phase, tuple[Phase, ...]], None] | None  # the phase, and all phases


def train(
    data: Dataset,
    settings: Settings,
    *,
    progress: Progress | None = None,
    after_epoch: AfterEpoch = None,
    before_start: BeforeStart = None,
) -> Progress:
    """Train to the end, through all phases that the settings ask for, from the beginning or from an earlier run's `progress`.

    `after_epoch` is called with the progress after every epoch, for logs and checkpoints, `before_start` with a phase before its
    start is prepared, which may take a while. ``finished`` of what is returned holds the result of each phase. SettingsError if
    settings do not fit the data, or training diverges; DataError if there is nothing to train on.
    """
    problem = pose(data, settings)
    return run_phases(announced(phases_of(settings, problem.engine), before_start), problem, progress, after_epoch)


def train_control(done: Progress, problem: Problem, *, after_epoch: AfterEpoch = None) -> Progress:
    """Continue the coarse stage of a finished training; see :func:`c2f_np.training.phases.control_phases`."""
    return run_phases(control_phases(done, problem), problem, None, after_epoch)


def train_refit(
    phases, epochs: dict[str, int], problem: Problem, *, after_epoch: AfterEpoch = None, before_start: BeforeStart = None
) -> Progress:
    """Train phases again, for as many epochs as :func:`c2f_np.training.phases.chosen_epochs` found, with nothing held out."""
    *earlier, last = announced(refit_phases(phases, epochs), before_start)
    if last.most_epochs:
        return run_phases([*earlier, last], problem, None, after_epoch)
    # No epoch improved on where the last phase starts, which then is the result.
    done = run_phases(earlier, problem, None, after_epoch)
    with working_threads(problem.threads, problem.settings.engine):
        state = last.start(done.finished, problem).state
    return dataclasses.replace(done, finished={**done.finished, last.name: Best(float("nan"), 0, state)})


def train_or_refit(
    phases, epochs: dict[str, int] | None, problem: Problem, *, progress: Progress | None = None, after_epoch: AfterEpoch = None
) -> tuple[Progress, dict[str, int]]:
    """Train phases, or with epochs train them again; also returned are the epochs that led to the result."""
    if epochs is not None:
        return train_refit(phases, epochs, problem, after_epoch=after_epoch), epochs
    done = run_phases(phases, problem, progress, after_epoch)
    return done, chosen_epochs(phases, done)


def announced(phases, before_start: BeforeStart) -> tuple[Phase, ...]:
    """The phases; each that does not go on from where training stands is told of before its start is prepared."""

    def told_of(phase: Phase) -> Phase:
        def start(finished, problem):
            before_start(phase, tuple(phases))
            return phase.start(finished, problem)

        return phase if phase.start is None else dataclasses.replace(phase, start=start)

    return tuple(phases) if before_start is None else tuple(map(told_of, phases))


def run_phases(phases, problem: Problem, progress: Progress | None = None, after_epoch: AfterEpoch = None) -> Progress:
    """Train through a list of phases, from the beginning or from where an earlier run stood."""
    if progress is not None:
        _require_fit(progress, problem)
    with working_threads(problem.threads, problem.settings.engine):
        progress = begin(phases, problem) if progress is None else progress
        graph = None
        while not progress.is_done:
            progress, graph = run_epoch(phases, progress, problem, graph)
            if after_epoch is not None:
                after_epoch(progress)
    return progress


def _require_fit(progress: Progress, problem: Problem) -> None:
    """No kernel may see a state of other entities, or moments of another shape than what they belong to."""
    n, state, moments = problem.n_users + problem.n_items, progress.state, progress.moments
    states = [state, *(best.state for best in (*progress.finished.values(), progress.best) if best is not None)]
    for each in states:
        if each.bias.shape != (n,) or each.S_coarse.shape[0] != n:
            raise SettingsError(f"the progress to go on from is that of {len(each.bias)} entities; the data have {n}")
    for name, values in state.parameters(tuple(moments.mean)).items():
        if not values.shape == moments.mean[name].shape == moments.square[name].shape:
            raise SettingsError(f"the progress to go on from has moments of {name} of another shape than {values.shape}")


def begin(phases, problem: Problem) -> Progress:
    """Where a training begins."""
    empty = Progress("", 0, 0, None, None)
    return _enter(phases[0], empty, problem)


def _enter(phase: Phase, progress: Progress, problem: Problem) -> Progress:
    """Begin a phase: from its start with fresh moments, or from where training stands."""
    progress = dataclasses.replace(progress, phase=phase.name, phase_epoch=0, best=None, bad_evaluations=0)
    if phase.start is None:
        return progress
    start = phase.start(progress.finished, problem)
    moments = fresh_moments(start.state.parameters(phase.stage.trained))
    return dataclasses.replace(
        progress, stage_epoch=0, state=start.state, moments=moments, best=start.best, started_from=start.started_from
    )


def run_epoch(phases, progress: Progress, problem: Problem, graph=None) -> tuple[Progress, object]:
    """Train one epoch, evaluate if it is time, and begin the next phase if this one is over.

    `graph` is that of ``progress.state``, and is built if it is not given; that of the new state is returned, if it is known.
    """
    names = [phase.name for phase in phases]
    position = names.index(progress.phase)
    phase = phases[position]
    progress, graph = train_epoch(phase, progress, problem, graph)
    if progress.phase_epoch < phase.most_epochs and progress.bad_evaluations < phase.patience:
        return progress, graph
    progress = dataclasses.replace(progress, finished={**progress.finished, phase.name: progress.best})
    if position + 1 == len(phases):
        return dataclasses.replace(progress, phase="done", phase_epoch=0, best=None, bad_evaluations=0), graph
    following = phases[position + 1]
    return _enter(following, progress, problem), graph if following.start is None else None


def train_epoch(phase: Phase, progress: Progress, problem: Problem, graph=None) -> tuple[Progress, object]:
    """Train one epoch and evaluate if it is time; one more row of history."""
    started = time.perf_counter()
    settings, stage, epoch = problem.settings, phase.stage, progress.phase_epoch
    state, moments, graph, losses = _train_on_triples(phase, progress, problem, graph)
    if not np.isfinite(losses).all():
        raise SettingsError(
            f"training diverged in epoch {progress.stage_epoch + 1} of the {progress.stage} stage: "
            "the loss is not finite; lower the learning rate"
        )
    progress = dataclasses.replace(
        progress, state=state, moments=moments, stage_epoch=progress.stage_epoch + 1, phase_epoch=epoch + 1
    )
    score = float("nan")
    if progress.phase_epoch >= phase.most_epochs or progress.phase_epoch % settings.eval_every == 0:
        result = evaluate_state(state, problem, "validation", stage=stage, graph=graph)
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
        "nonzero_fine": _share_above_threshold(state, settings),
        "seconds": time.perf_counter() - started,
    }
    return dataclasses.replace(progress, history=(*progress.history, row)), graph


def _train_on_triples(phase: Phase, progress: Progress, problem: Problem, graph):
    """All batches of an epoch: new state, moments, graph, and the mean losses (BPR, regulariser)."""
    settings, stage, epoch = problem.settings, phase.stage, progress.phase_epoch
    state, moments, rate = progress.state, progress.moments, phase.rate_of(epoch)
    rng = problem.random(progress.stage, progress.stage_epoch)
    exchanges, pull = phase.exchanges_after(epoch), 0
    totals, n_seen = np.zeros(2), 0
    for number, triples in enumerate(drawn_batches(rng, problem.R, settings.neg_size, phase.batch, engine=problem.engine)):
        graph = training_graph(stage, state, problem) if graph is None else graph
        step = train_step(
            stage, state, moments, graph, triples,
            l2=settings.l2, decay=settings.decay, clip=settings.max_grad_value, learning_rate=rate,
            update_assignment=number == 0 and phase.updates_in(epoch),
        )  # fmt: skip
        state, moments, graph = step.state, step.moments, step.graph
        totals += step.losses * len(triples)
        n_seen += len(triples)
        if exchanges:
            pull = pull + step.gradients["Y"]
    if not n_seen:
        degree = np.diff(problem.R.indptr)
        n_users = np.count_nonzero((degree > 0) & (degree < problem.n_items))
        raise DataError(
            f"nothing could be drawn to train on in epoch {progress.stage_epoch + 1} of the {progress.stage} stage: an epoch "
            f"draws as many users as there are training interactions ({problem.R.nnz:,}), and only {n_users:,} of "
            f"{problem.n_users:,} users have both an interaction and an item left over; leave out the others"
        )
    if exchanges:
        turn = (epoch + 1) // max(phase.exchange_every, 1)
        state, moments = exchange(state, moments, graph, pull, turn, threshold=settings.threshold)
        graph = relinked(graph, state)
    return state, moments, graph, totals / n_seen


def _note_evaluation(progress: Progress, score: float) -> Progress:
    """Keep the state if it is the best of its phase so far; without validation the latest is."""
    if progress.best is None or np.isnan(score) or score > progress.best.score:
        best = Best(score, progress.stage_epoch, progress.state)
        return dataclasses.replace(progress, best=best, bad_evaluations=0)
    return dataclasses.replace(progress, bad_evaluations=progress.bad_evaluations + 1)


def _share_above_threshold(state: ModelState, settings: Settings) -> float:
    """Share of the fine codebook that soft thresholding leaves alive; NaN without one."""
    return float(np.mean(np.abs(state.E_fine) > settings.threshold)) if state.is_fine else float("nan")
