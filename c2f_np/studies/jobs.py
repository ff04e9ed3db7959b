"""The jobs of a study: every (data set, run, seed), its settings in full, and the fingerprint that tells whether it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from .._version import __version__
from ..errors import SettingsError, in_short
from ..schema import checked_values, parameters_of
from ..settings import Settings
from .search import at_point, n_trials, point_in_words, trials_of
from .study import C2F, COARSE, WITHIN, Run, Source, Study

#: Settings that the study's seeds and the number of jobs determine.
NOT_FOR_STUDIES = ("seed", "threads", "random_state", "n_jobs")
_MOST_JOBS = 100_000
# The coarse stage alone has its own names for these settings of c2f.
_OF_COARSE = {"coarse_lr": "lr", "coarse_batch": "batch"}


@dataclass(frozen=True)
class Job:
    """One training."""

    key: str  # name of its files, unique in the study
    source: Source
    run: Run
    seed: int
    settings: dict  # all settings of c2f, or the given parameters of a baseline; with the seed
    needs: str = ""  # key of the job whose bytes it takes
    trials: tuple[Job, ...] = ()  # of its run, whose best one it takes the searched settings of
    searched: dict = field(default_factory=dict)  # the values of the searched settings, if they are known

    @property
    def is_trial(self) -> bool:
        """Whether it only serves the choice of settings; no run of a study file may have such a name."""
        return WITHIN in self.run.name

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Keys of the jobs without whose rows its settings are not known."""
        return (*([self.needs] if self.needs else []), *(trial.key for trial in self.trials))


def jobs_of(study: Study) -> list[Job]:
    """All jobs: data set by data set, run by run, trials (of the first seed), seed by seed; SettingsError if settings do not fit.

    A baseline without a seed is computed once, for the first seed.
    """
    n = len(study.sources) * sum(n_trials(run, study.trials) + len(_seeds(study, run)) for run in study.runs)
    if n > _MOST_JOBS:
        made = f"data, runs, trials and seeds make {n:,} jobs"
        raise SettingsError(f"{study.path}: {made}, more than the {_MOST_JOBS:,} of any study")
    jobs = []
    for source in study.sources:
        runs = {run.name: run for run in study.runs if run.is_made_on(source)}
        for run in runs.values():
            seeds, trials = _seeds(study, run), list[Job]()
            for trial, point in trials_of(run, study.trials):
                trials.append(dataclasses.replace(_job(study, source, trial, seeds[0], runs), searched=point))
            given = (_job(study, source, run, seed, runs) for seed in seeds)
            jobs += [*trials, *(dataclasses.replace(job, trials=tuple(trials)) for job in given)]
    return jobs


def _job(study: Study, source: Source, run: Run, seed: int, runs: dict[str, Run]) -> Job:
    needs, place = "", f"{study.path}: run {in_short(run.name)}"
    if run.bytes_of:
        if run.bytes_of not in runs:
            raise SettingsError(f"{place}: bytes_of names {in_short(run.bytes_of)}, which is not made on {in_short(source.name)}")
        seeds = _seeds(study, runs[run.bytes_of])
        needs = key_of(source.name, run.bytes_of, seed if seed in seeds else seeds[0])
    if run.method == C2F:
        settings = settings_of_run(study, run, source).to_dict() | {"seed": seed}
    else:
        settings = _baseline_parameters(study, run, source, place)
        settings |= {"seed": seed} if has_parameter(run.method, "random_state") else {}
    settings |= {"stored_as": run.stored_as} if run.stored_as != "dtype" else {}
    return Job(key_of(source.name, run.name, seed), source, run, seed, settings, needs)


def _seeds(study: Study, run: Run) -> tuple[int, ...]:
    seeds = run.seeds or study.seeds
    return seeds if run.method == C2F or has_parameter(run.method, "random_state") else seeds[:1]


def has_parameter(method: str, name: str) -> bool:
    """Whether a baseline has a parameter."""
    from ..baselines import make_baseline

    return name in make_baseline(method).get_params()


def settings_of_run(study: Study, run: Run, source: Source) -> Settings:
    """The settings of a run of c2f on a data set: preset, [common], [presets], those of the data, [data.presets], the run's own.

    Of several values for one setting the last counts.
    """
    try:
        given = study.common | study.presets.get(run.preset, {}) | source.settings | source.presets.get(run.preset, {})
        return Settings.preset(run.preset, **(given | run.settings))
    except SettingsError as error:
        which = f"run {in_short(run.name)}: with the settings for {in_short(source.name)}"
        raise SettingsError(f"{study.path}: {which}: {error}") from error


def require_fitting(study: Study, run: Run, source: Source, point: dict) -> None:
    """A point of a run's search must give settings that its method can have on a data set."""
    at = at_point(run, point)
    try:
        if run.method == C2F:
            settings_of_run(study, at, source)
        else:
            _baseline_parameters(study, at, source, f"{study.path}: run {in_short(run.name)}", values=True)
    except SettingsError as error:
        raise SettingsError(f"{error} (search: {point_in_words(point)})") from error


def _baseline_parameters(study: Study, run: Run, source: Source, place: str, *, values: bool = False) -> dict:
    """The parameters of a baseline on a data set: those of the data, then those of the run.

    Their names are checked; with `values` their values too, which otherwise happens when it is fitted.
    """
    from ..baselines import Coarse, make_baseline

    shared = {}
    if run.method == COARSE:  # a part of c2f, so it takes those of c2f's settings that it has
        renamed = {_OF_COARSE.get(name, name): value for name, value in (study.common | source.settings).items()}
        shared = {name: value for name, value in renamed.items() if has_parameter(COARSE, name)}
    parameters = shared | source.baselines.get(run.method, {}) | run.settings
    require_free(parameters, place)
    try:
        known = {name: value for name, value in parameters.items() if (run.method, name) != (COARSE, "bytes")}
        model = make_baseline(run.method, **known)
        if values:
            model.resolved_settings() if isinstance(model, Coarse) else checked_values(model)
    except SettingsError as error:
        raise SettingsError(f"{place}: {error}") from error
    return parameters


def require_free(settings: dict, place: str) -> None:
    """A study file must not set the seed or the threads."""
    for name in filter(settings.__contains__, NOT_FOR_STUDIES):
        given = f"{name} = {in_short(settings[name])}"
        raise SettingsError(f"{place}: {given} cannot be set: the study's seeds and --jobs determine it")


def key_of(source: str, run: str, seed: int) -> str:
    """The file name of a job."""
    return "_".join([word_for_files(source), word_for_files(run), f"seed{seed}"])


def word_for_files(name: str) -> str:
    """A name in the letters that any file may have; one that had to be changed for it gets a few digits of its hash."""
    word = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:60]
    return word if word == name else f"{word}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def fingerprint(job: Job, data_fingerprint: str) -> str:
    """SHA-256 of everything that a job's result depends on; its settings must be those that it is carried out with.

    The number of threads does not count, because results do not depend on it.
    """
    inputs = {
        "data": data_fingerprint,
        "protocol": job.source.protocol,
        "method": job.run.method,
        "after": list(job.run.after),
        "settings": {key: value for key, value in job.settings.items() if key != "threads"},
        "seed": job.seed,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def with_choices(study: Study, *, data=(), settings_of: str | None = None, protocol: str | None = None, seeds=()) -> Study:
    """The study on other data, under another protocol or with other seeds, as the command line asks for.

    `data` holds names, paths or ``NAME=PATH`` that replace the study's data; `settings_of` names the data set of the study file
    whose settings and runs they take.
    """
    listed = {source.name: source for source in study.sources}
    if settings_of is not None and settings_of not in listed:
        raise SettingsError(f"--settings-of must be one of {', '.join(listed)}, not {in_short(settings_of)}")
    sources = tuple(_chosen(each, study, listed, settings_of) for each in data) or study.sources
    require_different_names(sources, "--data")
    if protocol is not None:
        sources = tuple(dataclasses.replace(source, protocol=protocol) for source in sources)
    study = dataclasses.replace(study, sources=sources)
    if seeds:
        require_seeds(seeds, "--seeds")
        study = dataclasses.replace(study, seeds=tuple(seeds), runs=tuple(dataclasses.replace(r, seeds=None) for r in study.runs))
    return study


def _chosen(given: str, study: Study, listed: dict[str, Source], settings_of: str | None) -> Source:
    name, equals, path = given.partition("=")
    if not equals or Path(given).exists():
        name, path = Path(given).name, given
    if given in listed and settings_of in (None, given):
        return listed[given]
    model = listed.get(settings_of or name)
    if model is None:
        return Source(path, name, study.protocol)
    return dataclasses.replace(model, source=path, name=name, options={}, like=model.name)


def require_seeds(seeds, place: str) -> None:
    """A study needs at least one seed, and no two that are the same."""
    for seed in seeds:
        dataclasses.replace(parameters_of(Settings)["seed"], name=place).checked(seed)
    if not seeds or len(set(seeds)) < len(seeds):
        raise SettingsError(f"{place} must be different whole numbers, at least one, not {in_short(list(seeds))}")


def require_different_names(sources, place: str) -> None:
    """No two data sets of a study may have the same name."""
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{place}: two data sets are called {in_short(name)}; give one of them another name")
