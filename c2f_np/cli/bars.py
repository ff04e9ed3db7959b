"""Progress bars: one per phase of a training, one for the jobs of a study."""

from __future__ import annotations

import math
import sys
from typing import Any

from ..settings import Settings
from ..training.loop import Phase, Progress
from ..training.phases import TITLES, phases_of

_PARTITION = "a partition of users and items"
_CODING = "a partition of users and items, then the table is coded"


def _bar(**about):
    from tqdm import tqdm

    # In a log file a bar that is redrawn ten times a second is noise.
    pause = 0.1 if sys.stderr.isatty() else 10
    return tqdm(dynamic_ncols=True, mininterval=pause, maxinterval=pause, **about)


def epochs_in_words(epochs: dict[str, int]) -> str:
    """How long each phase was trained; the one phase of a baseline needs no name."""
    names = {phase: f"{TITLES.get(phase, phase)}: " if len(epochs) > 1 else "" for phase in epochs}
    return "; ".join(f"{names[phase]}{n} epoch{'' if n == 1 else 's'}" for phase, n in epochs.items())


class PhaseBars:
    """Counts epochs and, unless quiet, shows one bar per phase; a phase that early stopping ends completes its bar."""

    def __init__(self, settings: Settings, quiet: bool = False):
        self.n_epochs, self._quiet = 0, quiet
        self._most = {phase.name: phase.most_epochs for phase in phases_of(settings, None)}
        joint = _CODING if settings.table_epochs else _PARTITION
        self._prepared = dict.fromkeys(("partition", "coarse_phase1", "coarse"), _PARTITION) | {"joint": joint}
        if settings.table_start == "svd":
            self._prepared["table"] = "singular vectors of the interactions"
        self._prepared["fine_phase1"] = "a sparse PCA of the coarse codebook and a partition"
        self._bar: Any = None
        self._phase: str | None = None

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __call__(self, progress: Progress) -> None:
        """Show a finished epoch."""
        self.n_epochs += 1
        if self._quiet:
            return
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
            self._bar.total = self._bar.n
            self._bar.refresh()
            self.close()

    def prepare(self, phase: Phase, phases: tuple[Phase, ...]) -> None:
        """Say what takes time before a phase begins; and note how many epochs each phase will have at most."""
        self._most = {each.name: each.most_epochs for each in phases}
        if not self._quiet and phase.name in self._prepared:
            from tqdm import tqdm

            tqdm.write(f"{TITLES[phase.name]:<23}: first {self._prepared[phase.name]}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar that is open as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._phase = None, None


class JobBar:
    """Shows how many jobs of a study are done, and which are at work."""

    def __init__(self):
        self._bar = None

    def __call__(self, n_done: int, n_all: int, ended: str, running: list[str]) -> None:
        if self._bar is None:
            self._bar = _bar(total=n_all, initial=n_done, unit="job")
        self._bar.update(n_done - self._bar.n)
        self._bar.set_postfix_str(f"{len(running)} at work: {', '.join(running)}" if running else "", refresh=False)
        # At once: until the next one is done, minutes may pass.
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
