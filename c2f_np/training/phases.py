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

from ..errors import SettingsError
from ..model import starts
from ..model.coarse import CoarseStage
from ..model.fine import FineStage
from ..model.joint import JointStage, table_stage
from ..settings import Settings
from .loop import STOPPING_METRIC, Best, Phase, Progress, Start
from .problem import Problem, evaluate_state

CONTROL = ("control_phase1", "control")
#: What tables, figures and progress bars call the result of a phase.
TITLES = {
    "popularity": "popularity",
    "coarse_phase1": "coarse, phase 1",
    "coarse": "coarse, phase 2",
    "fine_phase1": "fine, phase 1",
    "fine": "fine, phase 2",
    "control_phase1": "coarse continued, phase 1",
    "control": "coarse continued, phase 2",
    "partition": "start: graph partition",
    "table": "start: full table",
    "joint": "codebooks and links, jointly",
}


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
                  exchange_epochs=s.exchange_epochs, density=s.fine_density, **common),
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

    The state is also the first candidate of the phase, as that of an epoch 0, so that the result never validates worse; unless
    its fine codebook is yet to become sparse. (Without validation scores are NaN: no comparison holds, the table is taken, and
    every later state replaces it. A refit has trained only the one that was taken.)
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
    is_candidate = not math.isnan(score) and settings.fine_density == 1
    return Start(state, Best(score, 0, state) if is_candidate else None, started_from)
