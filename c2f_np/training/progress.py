"""Where a training run stands: everything the next epoch depends on, so that a run can go on as if never interrupted.

Shapes: see `c2f_np.model.state`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..model.adam import AdamMoments
from ..model.state import ModelState


@dataclass(frozen=True)
class Best:
    """The best checkpoint of a phase.

    Attributes
    ----------
    score : float
        Validation NDCG@5, or NaN where nothing was there to validate on.
    epoch : int
        Epoch of the stage, from 1; 0 is the state that joint training after a table started from.
    state : ModelState
    """

    score: float
    epoch: int
    state: ModelState


@dataclass(frozen=True)
class Progress:
    """A training run between two epochs.

    Attributes
    ----------
    phase : str
        Name of a phase (`c2f_np.training.phases`), or "done".
    stage_epoch, phase_epoch : int
        Epochs finished in this stage and in this phase.
    state : ModelState
        Where training stands (not the best checkpoint).
    moments : AdamMoments
    best : Best or None
        Of this phase, so far.
    bad_evaluations : int
        Evaluations since it improved.
    finished : dict of str to Best
        The result of each finished phase.
    history : tuple of dict
        One row per epoch.
    started_from : str
        Of joint training after a table: "table" or "partition", whichever validated better. Else empty.
    """

    phase: str
    stage_epoch: int
    phase_epoch: int
    state: ModelState
    moments: AdamMoments
    best: Best | None = None
    bad_evaluations: int = 0
    finished: dict[str, Best] = field(default_factory=dict)
    history: tuple[dict, ...] = ()
    started_from: str = ""

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
