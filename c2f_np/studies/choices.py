"""A study on other data, under another protocol or with other seeds than its file says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..errors import SettingsError
from .checks import require_different_names
from .study import Source, Study


def with_choices(
    study: Study, *, data=(), settings_of: str | None = None, protocol: str | None = None, seeds=()
) -> Study:
    """The study on other data, under another protocol or with other seeds, as the command line asks for.

    Parameters
    ----------
    study : Study
    data : sequence of str
        Names or paths that take the place of the study's data; ``NAME=PATH`` says how the report calls it.
    settings_of : str, optional
        Data set of the study file whose settings and runs other data take.
    protocol : str, optional
    seeds : sequence of int

    Returns
    -------
    Study

    Raises
    ------
    SettingsError
    """
    listed = {source.name: source for source in study.sources}
    if settings_of is not None and settings_of not in listed:
        raise SettingsError(f"--settings-of must be one of {', '.join(listed)}, not {settings_of!r}")
    if data:
        sources = tuple(_chosen(each, study, listed, settings_of) for each in data)
        require_different_names(sources, "--data")
        study = dataclasses.replace(study, sources=sources)
    if protocol is not None:
        study = dataclasses.replace(study, sources=tuple(dataclasses.replace(s, protocol=protocol) for s in study.sources))
    if seeds:
        study = dataclasses.replace(study, seeds=tuple(seeds), runs=tuple(dataclasses.replace(r, seeds=None) for r in study.runs))
    if len(set(study.seeds)) < len(study.seeds) or min(study.seeds) < 0:
        raise SettingsError(f"--seeds must be different whole numbers, none negative, not {list(study.seeds)}")
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
