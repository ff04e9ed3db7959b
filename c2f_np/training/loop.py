"""The loop: one phase after another, each a number of epochs that early stopping on validation NDCG@5 ends.

An epoch is a function of (progress, phases, problem): its random numbers come from (seed, stage, epoch), so that a resumed run
takes the very steps that an uninterrupted one takes.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError, SettingsError
from ..model.codebook import raised_threshold
from ..model.joint import exchange, relinked
from ..model.sampling import drawn_batches
from ..model.step import AdamMoments, ModelState, fresh_moments, train_step
from ..settings import Settings
from ..threads import working_threads
from .problem import Problem, evaluate_state

STOPPING_METRIC = "ndcg@5"
AfterEpoch = Callable[["Progress"], None] | None
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """One phase."""

    name: str  # a second phase carries the name of its stage, the first one that name and "_phase1"
    stage: Any  # what is trained and how: a `c2f_np.model.step.Stage`
    start: Callable | None  # start(finished, problem) -> Start; None goes on from where training stands, with its moments
    most_epochs: int
    patience: int  # evaluations without improvement that end the phase
    learning_rate: float
    batch: int
    schedule: str = "constant"  # or "cosine", "steps"
    schedule_epochs: int = 0  # E of the schedule; 0: most_epochs
    update_every: int | None = None  # epochs between closed-form updates of the assignment; 0: once; None: never
    exchange_every: int = 0  # epochs between exchanges of links; 0: once
    exchange_epochs: int = 0  # within which links are exchanged
    density: float = 1.0  # share of the fine codebook that the threshold is raised to leave

    def rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch of the phase, counted from 0.

        ``cosine`` is ``(1 + cos(pi e / E)) / 2`` of the rate; ``steps`` is 1 for two thirds of the E epochs, 1/3 for a sixth and
        1/10 for the last sixth.
        """
        rate, most = self.learning_rate, self.schedule_epochs or self.most_epochs
        if self.schedule == "cosine":
            return rate * (1 + math.cos(math.pi * epoch / most)) / 2
        if self.schedule == "steps":
            sixth = 6 * epoch // most
            return rate if sixth < 4 else rate / 3 if sixth == 4 else rate / 10
        return rate

    def density_after(self, epoch: int) -> float:
        """The share that the threshold leaves after an epoch, counted from 0: falls to that of the phase in 2/3 of its epochs.

        ``density + (1 - density) (1 - x)^3`` with x from 0 to 1: many entries go while many are small, few at the end.
        """
        falling = -(-2 * (self.schedule_epochs or self.most_epochs) // 3)
        return self.density + (1 - self.density) * max(0.0, 1 - (epoch + 1) / falling) ** 3

    def updates_in(self, epoch: int) -> bool:
        """Whether the assignment is updated in this epoch, counted from 0."""
        if self.update_every is None:
            return False
        return epoch == 0 if self.update_every == 0 else epoch % self.update_every == 0

    def exchanges_after(self, epoch: int) -> bool:
        """Whether links are exchanged at the end of this epoch, counted from 0."""
        if epoch >= self.exchange_epochs:
            return False
        return epoch == 0 if self.exchange_every == 0 else (epoch + 1) % self.exchange_every == 0


@dataclass(frozen=True)
class Best:
    """The best checkpoint of a phase."""

    score: float  # validation NDCG@5, or NaN where nothing was there to validate on
    epoch: int  # of the stage, from 1; 0 is the state that joint training after a table started from
    state: ModelState


@dataclass(frozen=True)
class Progress:
    """A training run between two epochs: all that the next one depends on, so that a run can go on as if never interrupted."""

    phase: str  # the name of a phase, or "done"
    stage_epoch: int  # epochs finished in this stage
    phase_epoch: int  # and in this phase
    state: ModelState  # where training stands, not the best checkpoint
    moments: AdamMoments
    best: Best | None = None  # of this phase, so far
    bad_evaluations: int = 0  # since it improved
    finished: dict[str, Best] = field(default_factory=dict)  # the result of each finished phase
    history: tuple[dict, ...] = ()  # a row for each epoch
    started_from: str = ""  # of joint training after a table, whichever validated better: "table" or "partition"

    @property
    def stage(self) -> str:
        """"coarse", "fine", "partition", "table" or "joint"."""
        return self.phase.removesuffix("_phase1")

    @property
    def is_done(self) -> bool:
        return self.phase == "done"

    @property
    def result(self) -> Best:
        """The best checkpoint of the phase that finished last: of a training that is done, the model."""
        return list(self.finished.values())[-1]


@dataclass(frozen=True)
class Start:
    """Where a phase begins; `best` is its first candidate, if the state counts as one."""

    state: Any
    best: Best | None = None
    started_from: str = ""


def run_phases(phases, problem: Problem, progress: Progress | None = None, after_epoch: AfterEpoch = None) -> Progress:
    """Train through a list of phases, from the beginning or from where an earlier run stood."""
    if progress is not None:
        _require_fit(progress, phases, problem)
    with working_threads(problem.threads, problem.settings.engine):
        progress = begin(phases, problem) if progress is None else progress
    graph = None
    while not progress.is_done:
        phase = progress.phase
        with working_threads(problem.threads, problem.settings.engine):  # anew: a phase has no use for the buffers of another
            while progress.phase == phase:
                progress, graph = run_epoch(phases, progress, problem, graph)
                text, is_milestone = epoch_in_words(progress)
                _log.log(logging.INFO if is_milestone else logging.DEBUG, text)
                if after_epoch is not None:
                    after_epoch(progress)
    return progress


def epoch_in_words(progress: Progress) -> tuple[str, bool]:
    """The epoch that was finished last, in one line; and whether it was evaluated or ended its phase."""
    row = progress.history[-1]
    score, ends = row["validation_ndcg@5"], progress.phase != row["phase"]
    validated = "" if math.isnan(score) else f", validation NDCG@5 {score:.4f}"
    text = f"{row['phase']}, epoch {row['epoch']}: loss {row['loss']:.4f}{validated}{'; the phase ends' if ends else ''}"
    return text, bool(validated) or ends


def _require_fit(progress: Progress, phases, problem: Problem) -> None:
    """No kernel may see a state of other entities, or moments of another shape; there must be an epoch left in its phase."""
    most = {phase.name: phase.most_epochs for phase in phases}
    if not progress.is_done and progress.phase not in most:
        raise SettingsError(f"the progress to go on from is in phase {progress.phase!r}; this training has {', '.join(most)}")
    if not progress.is_done and progress.phase_epoch >= most[progress.phase]:
        has_run = f"phase {progress.phase} has run for {progress.phase_epoch} epoch{'s' if progress.phase_epoch > 1 else ''}"
        raise SettingsError(f"{has_run}; with at most {most[progress.phase]} it would have ended: give it more, or begin anew")
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
        return progress, _handed_on(graph, phase, progress.phase_epoch)
    progress = dataclasses.replace(progress, finished={**progress.finished, phase.name: progress.best})
    if position + 1 == len(phases):
        return dataclasses.replace(progress, phase="done", phase_epoch=0, best=None, bad_evaluations=0), graph
    following = phases[position + 1]
    return _enter(following, progress, problem), _handed_on(graph, following, 0) if following.start is None else None


def _handed_on(graph, phase: Phase, epoch: int):
    """What an epoch needs of the graph that it begins with."""
    return phase.stage.graph_for_update(graph) if graph is not None and phase.updates_in(epoch) else graph


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
    if phase.density < 1:
        tau = raised_threshold(state.E_fine, state.tau(settings), phase.density_after(epoch))
        state = dataclasses.replace(state, threshold=np.full_like(state.threshold, tau))
    progress = dataclasses.replace(
        progress, state=state, moments=moments, stage_epoch=progress.stage_epoch + 1, phase_epoch=epoch + 1
    )
    score = float("nan")
    if progress.phase_epoch >= phase.most_epochs or progress.phase_epoch % settings.eval_every == 0:
        result = evaluate_state(state, problem, "validation", stage=stage, graph=graph)
        score = float("nan") if result is None else result.metrics[STOPPING_METRIC]
        # What is not yet as sparse as it must be is no candidate.
        progress = _note_evaluation(progress, score) if phase.density_after(epoch) == phase.density else progress
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
    rng = stage.random(settings.seed, progress.stage, progress.stage_epoch)
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
        # As far as Adam moves an entry in so many steps.
        reach = rate * (number + 1)
        state, moments = exchange(state, moments, graph, pull, turn, threshold=state.tau(settings), reach=reach)
        graph = relinked(graph, state)
    return state, moments, graph, totals / n_seen


def training_graph(stage, state, problem: Problem):
    """The graph of a state for the steps of an epoch."""
    return stage.graph_for_steps(state, problem.A, problem.R.nnz * problem.settings.neg_size)


def _note_evaluation(progress: Progress, score: float) -> Progress:
    """Keep the state if it is the best of its phase so far; without validation the latest is."""
    if progress.best is None or np.isnan(score) or score > progress.best.score:
        best = Best(score, progress.stage_epoch, progress.state)
        return dataclasses.replace(progress, best=best, bad_evaluations=0)
    return dataclasses.replace(progress, bad_evaluations=progress.bad_evaluations + 1)


def _share_above_threshold(state: ModelState, settings: Settings) -> float:
    """Share of the fine codebook that soft thresholding leaves alive; NaN without one."""
    return float(np.mean(np.abs(state.E_fine) > state.tau(settings))) if state.is_fine else float("nan")
