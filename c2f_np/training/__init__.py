"""Training a model: the data and the settings as a problem, its phases, and the loop through them.

`problem` poses it, `phases` lists what is trained from where, `loop` goes through any such list, `checkpoint` stores where
training stands. The functions here put them together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..data import Dataset
from ..settings import Settings
from ..threads import working_threads
from .loop import AfterEpoch, Best, Phase, Progress, run_phases
from .phases import chosen_epochs, control_phases, phases_of, refit_phases
from .problem import Problem, pose

__all__ = ["train", "train_control", "train_or_refit", "train_refit"]

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
