"""The jobs of a study: every (data set, run, seed), its settings in full, and the fingerprint that tells whether it is done."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from .._version import __version__
from ..errors import SettingsError
from .checks import c2f_settings
from .study import C2F, COARSE, Run, Source, Study

# What the coarse stage alone calls settings of c2f.
_OF_COARSE = {"coarse_lr": "lr", "coarse_batch": "batch"}


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes
    ----------
    key : str
        Name of its files, unique in the study.
    source : Source
    run : Run
    seed : int
    settings : dict
        All settings of the method c2f, or the given parameters of a baseline; with the seed.
    needs : str
        Key of the job whose bytes it takes; "" for none.
    """

    key: str
    source: Source
    run: Run
    seed: int
    settings: dict
    needs: str = ""


def jobs_of(study: Study) -> list[Job]:
    """All jobs in the order of the study: data set by data set, run by run, seed by seed.

    A baseline without a seed is computed once, for the first seed.

    Raises
    ------
    SettingsError
        If settings do not fit.
    """
    jobs = []
    for source in study.sources:
        runs = {run.name: run for run in study.runs if run.is_made_on(source)}
        for run in runs.values():
            for seed in _seeds(study, run):
                jobs.append(_job(study, source, run, seed, runs))
    return jobs


def _job(study: Study, source: Source, run: Run, seed: int, runs: dict[str, Run]) -> Job:
    needs = ""
    if run.bytes_of:
        if run.bytes_of not in runs:
            raise SettingsError(
                f"{study.path}: run {run.name!r}: bytes_of names {run.bytes_of!r}, which is not made on {source.name!r}"
            )
        seeds = _seeds(study, runs[run.bytes_of])
        needs = key_of(source.name, run.bytes_of, seed if seed in seeds else seeds[0])
    if run.method == C2F:
        settings = c2f_settings(study, run, source).to_dict() | {"seed": seed}
    else:
        settings = baseline_parameters(study, run, source)
        settings |= {"seed": seed} if has_parameter(run.method, "seed") else {}
    return Job(key_of(source.name, run.name, seed), source, run, seed, settings, needs)


def _seeds(study: Study, run: Run) -> tuple[int, ...]:
    seeds = run.seeds or study.seeds
    return seeds if run.method == C2F or has_parameter(run.method, "seed") else seeds[:1]


def has_parameter(method: str, name: str) -> bool:
    """Whether a baseline takes a parameter."""
    from ..baselines import make_baseline

    return name in make_baseline(method).get_params()


def baseline_parameters(study: Study, run: Run, source: Source) -> dict:
    """The parameters of a baseline on a data set: those of the data, those of the run.

    The coarse stage alone is a part of c2f: it also takes those of c2f's settings that it has, under its own names.

    Raises
    ------
    SettingsError
        If there is no such parameter.
    """
    from ..baselines import make_baseline

    shared = {}
    if run.method == COARSE:
        renamed = {_OF_COARSE.get(name, name): value for name, value in (study.common | source.settings).items()}
        shared = {name: value for name, value in renamed.items() if has_parameter(COARSE, name)}
    own = source.baselines.get(run.method, {}) | run.settings
    for name, value in own.items():
        if name in ("seed", "threads"):
            raise SettingsError(f"{study.path}: run {run.name!r}: {name} = {value!r} cannot be set: seeds and --jobs give it")
    try:
        make_baseline(run.method, **{name: value for name, value in own.items() if (run.method, name) != (COARSE, "bytes")})
    except SettingsError as error:
        raise SettingsError(f"{study.path}: run {run.name!r}: {error}") from error
    return shared | own


def key_of(source: str, run: str, seed: int) -> str:
    """A file name that a person can read. Names that had to be changed for it get a few digits of their hash."""
    words = []
    for text in (source, run):
        word = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:60]
        words.append(word if word == text else f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:6]}")
    return "_".join([*words, f"seed{seed}"])


def fingerprint(job: Job, data_fingerprint: str, settings: dict) -> str:
    """SHA-256 of everything that a job's result depends on.

    Parameters
    ----------
    job : Job
    data_fingerprint : str
        See :meth:`c2f_np.Dataset.fingerprint`.
    settings : dict
        Those of the job, with the bytes it was given. The number of threads does not count: results are the same.

    Returns
    -------
    str
    """
    inputs = {
        "data": data_fingerprint,
        "protocol": job.source.protocol,
        "method": job.run.method,
        "after": list(job.run.after),
        "settings": {key: value for key, value in settings.items() if key != "threads"},
        "seed": job.seed,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
