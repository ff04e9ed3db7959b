"""Progress bars: one per phase of a training, one for the jobs of a study."""

from __future__ import annotations

import math
import sys
from typing import Any

from ..settings import Settings
from ..training.phases import TITLES, Progress, phases_of


def _bar(**about):
    from tqdm import tqdm

    # In a log file a bar that is redrawn ten times a second is noise.
    pause = 0.1 if sys.stderr.isatty() else 10
    return tqdm(dynamic_ncols=True, mininterval=pause, maxinterval=pause, **about)


class PhaseBars:
    """Shows training as one bar per phase; a phase that early stopping ends completes its bar."""

    def __init__(self, settings: Settings):
        self._most = {phase.name: phase.most_epochs for phase in phases_of(settings, None)}
        self._bar: Any = None
        self._phase: str | None = None

    def __call__(self, progress: Progress) -> None:
        """Show a finished epoch."""
        row = progress.history[-1]
        if row["phase"] != self._phase:
            self._phase = row["phase"]
            done = sum(earlier["phase"] == self._phase for earlier in progress.history[:-1])
            # The control's phases are as long as a run's fine stage was, which settings do not say: a count without an end.
            most = self._most.get(self._phase)
            self._bar = _bar(total=most, initial=done, desc=f"{TITLES[self._phase]:<23}", unit="epoch")
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


class JobBar:
    """Shows how many jobs of a study are done."""

    def __init__(self):
        self._bar = None

    def __call__(self, n_done: int, n_all: int, key: str) -> None:
        if self._bar is None:
            self._bar = _bar(total=n_all, initial=n_done, unit="job")
            return
        self._bar.set_postfix_str(key, refresh=False)
        self._bar.update(n_done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
