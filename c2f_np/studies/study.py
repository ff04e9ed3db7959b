"""What a study is: data sets, runs (a method and its settings), seeds, and what its report compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

#: Method of the model of this package; every other name is one of :data:`c2f_np.baselines.BASELINES`.
C2F = "c2f"

#: The baseline that is the coarse stage alone.
COARSE = "coarse"

FIGURES = ("means", "frontier", "changes", "none")

#: Between the name of a run and what was measured of it besides its result: a phase, or an analysis.
WITHIN = " / "


@dataclass(frozen=True)
class Source:
    """A data set of a study, not loaded yet.

    Attributes
    ----------
    source : str
        Name or path, as :func:`c2f_np.load_dataset` takes it.
    name : str
        How the report calls it.
    protocol : {"authors", "clean"}
    options : dict
        Further keywords of :func:`c2f_np.load_dataset`.
    settings : dict
        Settings of the method c2f on these data.
    presets : dict of str to dict
        Settings on these data of the runs of one preset, by its name.
    baselines : dict of str to dict
        Parameters of a baseline on these data, by its name.
    like : str
        Name of the data set in the study file whose settings and runs it takes; its own name if it stands there itself.
    """

    source: str
    name: str
    protocol: str
    options: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    presets: dict[str, dict] = field(default_factory=dict)
    baselines: dict[str, dict] = field(default_factory=dict)
    like: str = ""


@dataclass(frozen=True)
class Run:
    """A method with its settings; a grid of the study file has become one run for each point.

    Attributes
    ----------
    name : str
    method : str
        :data:`C2F`, or the name of a baseline.
    preset : str
        Of the method c2f.
    settings : dict
        Fields of :class:`c2f_np.settings.Settings`, or parameters of the baseline.
    after : tuple of str
        Analyses of the trained model, of :data:`c2f_np.studies.surgery.ANALYSES` or "control".
    bytes_of : str
        Run whose size in bytes the baseline is given as its parameter `bytes`; "" for none.
    reference : str
        What the run is compared with; "" for the study's.
    seeds : tuple of int, or None
        None for the study's.
    only_data : tuple of str, or None
        Names of the data sets the run is made on; None for all.
    """

    name: str
    method: str
    preset: str = "default"
    settings: dict = field(default_factory=dict)
    after: tuple[str, ...] = ()
    bytes_of: str = ""
    reference: str = ""
    seeds: tuple[int, ...] | None = None
    only_data: tuple[str, ...] | None = None

    def is_made_on(self, source: Source) -> bool:
        return self.only_data is None or source.name in self.only_data or source.like in self.only_data


@dataclass(frozen=True)
class Study:
    """What a study file says.

    Attributes
    ----------
    name : str
        Of a ready study, or the file's name without its suffix.
    path : Path
        The study file.
    text : str
        Its content, which is kept beside the results.
    title, question : str
    kind : str
        "runs", or a key of :data:`c2f_np.studies.kinds.KINDS`.
    sources : tuple of Source
    protocol : {"authors", "clean"}
        Of data sets that do not name one.
    seeds : tuple of int
    metric : str
        Such as "ndcg@20".
    reference : str
        Run (or "run / phase") that all others are compared with; "" for none.
    figure : str
        One of :data:`FIGURES`.
    phases : {"all", "last"}
        Whether the report shows every phase of a run, or its result only. Analyses are always shown.
    common : dict
        Settings of all runs of the method c2f.
    presets : dict of str to dict
        Settings of all runs of one preset, by its name.
    runs : tuple of Run
    options : dict
        What a special kind of study wants to know.
    rerun : bool
        Whether results kept under docs/results are to be checked by a slow test that runs the study again.
    """

    name: str
    path: Path
    text: str
    title: str
    question: str
    kind: str = "runs"
    sources: tuple[Source, ...] = ()
    protocol: str = "clean"
    seeds: tuple[int, ...] = (0,)
    metric: str = "ndcg@20"
    reference: str = ""
    figure: str = "means"
    phases: str = "all"
    common: dict = field(default_factory=dict)
    presets: dict[str, dict] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    options: dict = field(default_factory=dict)
    rerun: bool = False
