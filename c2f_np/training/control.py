"""The control that the paper lacks: the coarse stage simply goes on, as the fine stage would have trained.

The fine stage differs from the coarse one in more than its codebook: it has its own learning rate and batch size, and it comes
with further epochs. The control starts where the fine stage starts, from the best coarse checkpoint with fresh moments, and makes
as many epochs with the fine stage's learning rate and batches, first with S_c fixed and then with its updates, but trains E_c.
What the fine stage is better by is what the fine codebook and its nodes bring.

Shapes: see `c2f_np.stages`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..errors import SettingsError
from .loop import train_epoch
from .parameters import fresh_optimiser
from .problem import Problem, threads_of
from .progress import PHASES, Progress
from .threads import working_threads

CONTROL_PHASES = ("control_phase1", "control")


def train_control(
    done: Progress, problem: Problem, *, after_epoch: Callable[[Progress], None] | None = None
) -> Progress:
    """Continue the coarse stage of a finished training for as many epochs as its fine stage made.

    Parameters
    ----------
    done : Progress
        Of a training that came to its end.
    problem : Problem
        Its data and settings.
    after_epoch : callable, optional
        Called with the progress after every epoch.

    Returns
    -------
    Progress
        Done; ``finished`` holds the best state of each of CONTROL_PHASES, by the same validation metric.

    Raises
    ------
    SettingsError
        If the training has not ended.
    """
    if not done.is_done:
        raise SettingsError("the control needs a training that has come to its end: go on with --resume first")
    settings = problem.settings
    if settings.training != "stages":
        raise SettingsError("the control continues the coarse stage, and a joint training has none")
    settings = dataclasses.replace(settings, coarse_lr=settings.fine_lr, coarse_batch=settings.fine_batch)
    problem = dataclasses.replace(problem, settings=settings)
    epochs = [sum(row["phase"] == phase for row in done.history) for phase in PHASES[2:]]
    state = done.finished["coarse"].state
    progress = Progress(CONTROL_PHASES[0], 0, 0, state, fresh_optimiser(state, settings))
    graph = None
    with working_threads(threads_of(problem), settings.engine):
        for phase, n_epochs in zip(CONTROL_PHASES, epochs, strict=True):
            progress = dataclasses.replace(progress, phase=phase, phase_epoch=0, best=None, bad_evaluations=0)
            for _ in range(n_epochs):
                progress, graph = train_epoch(progress, problem, graph, n_epochs)
                if after_epoch is not None:
                    after_epoch(progress)
            progress = dataclasses.replace(progress, finished={**progress.finished, phase: progress.best})
    return dataclasses.replace(progress, phase="done", best=None)
