"""Progress bars, one per phase."""

from __future__ import annotations

import math
import sys

from ..settings import Settings
from ..training.phases import phases_of
from ..training.progress import Progress


class PhaseBars:
    """Shows training as one bar per phase; a phase that early stopping ends completes its bar.

    Parameters
    ----------
    settings : Settings
    already : int
        Epochs that an earlier run finished.
    """

    def __init__(self, settings: Settings, already: int = 0):
        self._most = {phase.name: phase.most_epochs for phase in phases_of(settings, None)}
        self._already = already
        self._bar, self._phase = None, None

    def __call__(self, progress: Progress) -> None:
        """Take note of a finished epoch."""
        row = progress.history[-1]
        if row["phase"] != self._phase:
            self._open(row["phase"], sum(r["phase"] == row["phase"] for r in progress.history[:-1]))
        self._bar.update(1)
        score = row["validation_ndcg@5"]
        if not math.isnan(score):
            self._bar.set_postfix_str(f"loss {row['loss']:.4f}, validation NDCG@5 {score:.4f}", refresh=False)
        if progress.phase != row["phase"]:
            self.close()

    def close(self) -> None:
        """Finish the bar that is open."""
        if self._bar is not None:
            self._bar.total = self._bar.n
            self._bar.refresh()
            self._bar.close()
            self._bar, self._phase = None, None

    def _open(self, phase: str, done: int) -> None:
        from tqdm import tqdm

        self._phase = phase
        # In a log file a bar that is redrawn ten times a second is noise.
        pause = 0.1 if sys.stderr.isatty() else 10
        self._bar = tqdm(
            total=self._most[phase],
            initial=done,
            desc=f"{phase:<13}",
            unit="epoch",
            dynamic_ncols=True,
            mininterval=pause,
            maxinterval=pause,
        )
