"""The phases of a training, as a list: what each trains, from where, with which rate, for how long.

    coarse_phase1   E_c and biases, S_c fixed (left out if so set)
    coarse          goes on from where phase 1 stands; S_c is updated in closed form during the first batch of an epoch
    fine_phase1     starts from the best checkpoint of "coarse"; E_f and biases, S_f fixed
    fine            goes on; S_f is updated

    partition       joint training of everything, from a partition of the entities
    table           a row for every entity, to be coded
    joint           joint training from the coded table, or from the best state of "partition", if that validates better; without
                    a table, from a partition

The control that the paper lacks (:func:`control_phases`), a refit (:func:`refit_phases`) and the trained baselines
(`c2f_np.baselines`) are lists of phases too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import SettingsError
from ..model import starts
from ..model.coarse import CoarseStage
from ..model.fine import FineStage
from ..model.joint import JointStage, table_stage
from ..model.step import AdamMoments, ModelState
from ..settings import Settings
from .problem import Problem, evaluate_state

STOPPING_METRIC = "ndcg@5"
CONTROL = ("control_phase1", "control")
#: What tables, figures and progress bars call the result of a phase.
TITLES = {
    "popularity": "popularity",
    "coarse_phase1": "coarse, phase 1",
    "coarse": "coarse, phase 2",
    "fine_phase1": "fine, phase 1",
    "fine": "fine, phase 2",
    "control_phase1": "control, phase 1",
    "control": "control, phase 2",
    "partition": "start: graph partition",
    "table": "start: full table",
    "joint": "both codebooks, jointly",
}


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


def phases_of(settings: Settings, engine) -> tuple[Phase, ...]:
    """The phases of a training in their order; the last one's result is the model."""
    s = settings
    if s.training == "joint":
        joint, table = JointStage(s, engine), table_stage(s, engine)
        common = {"patience": s.patience, "batch": s.coarse_batch, "schedule": s.lr_schedule}
        begin = _after_table if s.table_epochs else _from(starts.start_joint)
        phases = [
            Phase("partition", joint, _from(starts.start_joint), s.partition_epochs, learning_rate=s.start_lr, **common),
            Phase("table", table, _from(starts.start_table), s.table_epochs, learning_rate=s.start_lr, **common),
            Phase("joint", joint, begin, s.max_epochs, learning_rate=s.coarse_lr, exchange_every=s.update_every,
                  exchange_epochs=s.exchange_epochs, **common),
        ]  # fmt: skip
        return tuple(phase for phase in phases if phase.most_epochs)
    first = min(s.phase1_epochs, s.max_epochs) if s.phase1_epochs else s.max_epochs
    coarse = _two_phases(s, "coarse", CoarseStage(s, engine), _from(starts.start_coarse), first, s.coarse_lr, s.coarse_batch)
    if not s.coarse_phase1:
        coarse = (dataclasses.replace(coarse[1], start=coarse[0].start),)
    return *coarse, *_two_phases(s, "fine", FineStage(s, engine), _after_coarse, first, s.fine_lr, s.fine_batch)


def phase_names(settings: Settings) -> tuple[str, ...]:
    """The names of the phases in their order."""
    return tuple(phase.name for phase in phases_of(settings, None))


def _two_phases(s: Settings, name: str, stage, start, first: int, rate: float, batch: int) -> tuple[Phase, Phase]:
    """A stage: with the assignment fixed, then with its updates."""
    common = {"patience": s.patience, "learning_rate": rate, "batch": batch}
    return (
        Phase(f"{name}_phase1", stage, start, first, **common),
        Phase(name, stage, None, s.max_epochs, schedule=s.lr_schedule, update_every=s.update_every, **common),
    )


def control_phases(done: Progress, problem: Problem) -> tuple[Phase, Phase]:
    """The coarse stage simply goes on, as the fine stage would have trained.

    The fine stage differs from the coarse one in more than its codebook: it has its own learning rate and batch size, and it
    comes with further epochs. The control starts where the fine stage starts, from the best coarse checkpoint with fresh
    moments, and makes as many epochs with the fine stage's learning rate and batches, first with S_c fixed and then with its
    updates, but trains E_c. What the fine stage is better by is what the fine codebook and its nodes bring.
    """
    if not done.is_done:
        raise SettingsError("the control needs a training that has come to its end: go on with --resume first")
    s = problem.settings
    if s.training != "stages":
        raise SettingsError("the control continues the coarse stage, and a joint training has none")
    epochs = [sum(row["phase"] == phase for row in done.history) for phase in ("fine_phase1", "fine")]
    def start(finished, problem):
        return Start(done.finished["coarse"].state)

    stage = CoarseStage(s, problem.engine)
    phases = _two_phases(s, CONTROL[1], stage, start, s.max_epochs, s.fine_lr, s.fine_batch)
    # As many epochs as the fine stage made: no evaluation ends them.
    return tuple(
        dataclasses.replace(phase, most_epochs=n, patience=n + 1, schedule_epochs=phase.most_epochs)
        for phase, n in zip(phases, epochs, strict=True)
    )


def chosen_epochs(phases, done: Progress) -> dict[str, int]:
    """How many epochs of each phase led to the result of a finished training, in the order of the phases.

    A phase that the next one goes on from counts with all its epochs, others as far as the checkpoint that they handed on. Of the
    two starts of joint training only the one that was taken led anywhere.
    """
    rivals = {"table": "partition", "partition": "table"}
    epochs, before = {}, 0
    for phase, following in zip(phases, (*phases[1:], None), strict=True):
        if phase.name == rivals.get(done.started_from):
            continue
        if following is not None and following.start is None:
            epochs[phase.name] = sum(row["phase"] == phase.name for row in done.history)
            before += epochs[phase.name]
        else:
            epochs[phase.name], before = done.finished[phase.name].epoch - before, 0
    return epochs


def refit_phases(phases, epochs: dict[str, int]) -> tuple[Phase, ...]:
    """The phases of :func:`chosen_epochs`, each as long as it says, with the rates that these epochs had."""
    return tuple(
        dataclasses.replace(phase, most_epochs=epochs[phase.name], schedule_epochs=phase.schedule_epochs or phase.most_epochs)
        for phase in phases
        if phase.name in epochs
    )


def _from(make: Callable) -> Callable:
    """A start that depends on data and settings alone."""
    return lambda finished, problem: Start(make(problem.R, problem.settings).astype(problem.settings.dtype))


def _after_coarse(finished: dict[str, Best], problem: Problem) -> Start:
    """The fine stage's, from the coarse stage's result; only what is new is cast."""
    state = starts.start_fine(finished["coarse"].state, problem.R, problem.settings)
    return Start(state.astype(problem.settings.dtype))


def _after_table(finished: dict[str, Best], problem: Problem) -> Start:
    """Joint training's: the best table, coded, or the best that a partition led to; whichever validates better.

    The state is also the first candidate of the phase, as that of an epoch 0, so that the result never validates worse. (Without
    validation scores are NaN: no comparison holds, the table is taken, and every later state replaces it. A refit has trained
    only the one that was taken.)
    """
    settings = problem.settings
    if "table" not in finished:
        return Start(finished["partition"].state, None, "partition")
    state = starts.code_table(finished["table"].state, problem.R, settings).astype(settings.dtype)
    started_from, result = "table", evaluate_state(state, problem, "validation")
    score = float("nan") if result is None else result.metrics[STOPPING_METRIC]
    rival = finished.get("partition")
    if rival is not None and rival.score > score:
        state, score, started_from = rival.state, rival.score, "partition"
    return Start(state, None if math.isnan(score) else Best(score, 0, state), started_from)
