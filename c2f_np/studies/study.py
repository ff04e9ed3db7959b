"""What a study is: data sets, runs (a method and its settings), seeds, and what its report compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

#: The method that is this package's model; every other method is one of :data:`c2f_np.baselines.BASELINES`.
C2F = "c2f"

#: The baseline that is the coarse stage alone.
COARSE = "coarse"

FIGURES = ("means", "frontier", "changes", "none")

#: Separates the name of a run from what else was measured of it: a phase or an analysis.
WITHIN = " / "

#: Studies that are more than a table of runs, by `kind`: "module:function", which takes (study, data sets by name, folder) and
#: returns the text of the report.
SPECIAL_KINDS = {
    "planted-structure": "c2f_np.studies.planted_structure:carry_out_planted_study",
    "protocol": "c2f_np.studies.protocol:carry_out_protocol_study",
}


@dataclass(frozen=True)
class Source:
    """A data set of a study, not loaded yet."""

    source: str  # name or path, as `load_dataset` takes it
    name: str  # in the report
    protocol: str
    options: dict = field(default_factory=dict)  # further keywords of `load_dataset`
    settings: dict = field(default_factory=dict)  # of the method c2f on these data
    presets: dict[str, dict] = field(default_factory=dict)  # the same for the runs of one preset
    baselines: dict[str, dict] = field(default_factory=dict)  # parameters of a baseline on these data
    like: str = ""  # name of the study's data set whose settings and runs it takes


@dataclass(frozen=True)
class Run:
    """A method with its settings; every point of a grid in the study file has become a run."""

    name: str
    method: str
    preset: str = "default"
    settings: dict = field(default_factory=dict)  # of c2f, or parameters of the baseline
    after: tuple[str, ...] = ()  # analyses of the trained model, of `c2f_np.studies.surgery.AFTER`
    bytes_of: str = ""  # run whose size is what this one may weigh
    bytes_share: float = 1.0  # of that size
    stored_as: str = "dtype"  # or "int8": a byte for every number, in what is weighed and what is evaluated
    search: dict[str, list] = field(default_factory=dict)  # values among which its trials look for the best settings
    reference: str = ""  # what it is compared with, if not with the study's reference
    seeds: tuple[int, ...] | None = None  # None: the study's
    only_data: tuple[str, ...] | None = None  # None: all

    def is_made_on(self, source: Source) -> bool:
        """Whether the run has a job on a data set."""
        return self.only_data is None or source.name in self.only_data or source.like in self.only_data


@dataclass(frozen=True)
class Study:
    """The content of a study file; docs/studies.md explains every key."""

    name: str
    path: Path
    text: str  # of the file, which is kept beside the results
    title: str
    question: str
    kind: str = "runs"  # or one of SPECIAL_KINDS
    sources: tuple[Source, ...] = ()
    protocol: str = "clean"
    seeds: tuple[int, ...] = (0,)
    metric: str = "ndcg@20"
    trials: int = 8  # of every run that has a search and as many points
    reference: str = ""  # a run, or "run / phase", or "run / analysis"
    figure: str = "means"
    phases: str = "all"  # or "last": only the result of each run is in the report, and its analyses
    common: dict = field(default_factory=dict)  # settings of all runs of c2f
    presets: dict[str, dict] = field(default_factory=dict)  # settings of all runs of one preset
    runs: tuple[Run, ...] = ()
    options: dict = field(default_factory=dict)  # of a special kind
    rerun: bool = False  # a slow test runs the study again and compares with the results kept under docs/results
