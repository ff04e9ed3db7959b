"""Study files: TOML in, a checked :class:`Study` out. docs/studies.md explains every key."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import tomllib
from importlib import resources
from pathlib import Path

from ..data import PROTOCOLS, load_dataset
from ..errors import SettingsError
from ..evaluation import DEFAULT_KS
from ..settings import PRESETS, Settings
from .checks import check_study, require_different_names
from .kinds import DEFAULTS, KINDS, OPTIONS, STAGED
from .study import C2F, FIGURES, Run, Source, Study
from .surgery import AFTER
from .table import Table

METRICS = tuple(f"{name}@{k}" for name in ("ndcg", "recall") for k in DEFAULT_KS)
# Given by the seeds of the study and by the number of jobs.
_NOT_FOR_STUDIES = ("seed", "threads")


def ready_studies() -> dict[str, Path]:
    """The studies that ship with the package: name to file."""
    folder = resources.files(__package__) / "ready"
    return {Path(str(file)).stem: Path(str(file)) for file in sorted(folder.iterdir(), key=str) if str(file).endswith(".toml")}


def read_study(name_or_path) -> Study:
    """Read a study file, or the ready study of that name.

    Parameters
    ----------
    name_or_path : str or path-like

    Returns
    -------
    Study

    Raises
    ------
    SettingsError
        If there is no such study, or its file says something that cannot be used; file, key and value are named.
    """
    ready = ready_studies()
    path = ready.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise SettingsError(f"no study {str(name_or_path)!r}: neither a file nor one of {', '.join(ready)}")
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: not TOML ({error})") from error
    return _study(Table(values, str(path)), path, text)


def _study(table: Table, path: Path, text: str) -> Study:
    kind = table.take("kind", str, "runs", choices=("runs", *KINDS))
    common = _settings_table(table.take("common", dict, {}), f"{path}: common")
    protocol = table.take("protocol", str, "clean", choices=PROTOCOLS)
    study = Study(
        name=path.stem,
        path=path,
        text=text,
        title=table.take("title", str),
        question=table.take("question", str),
        kind=kind,
        sources=_sources(table, protocol),
        protocol=protocol,
        seeds=_seeds(table, (0,)),
        metric=table.take("metric", str, "ndcg@20", choices=METRICS),
        reference=table.take("reference", str, ""),
        figure=table.take("figure", str, "means", choices=FIGURES),
        phases=table.take("phases", str, "all", choices=("all", "last")),
        common=common,
        presets=_presets_table(table.take("presets", dict, {}), f"{path}: presets"),
        runs=tuple(run for position, values in enumerate(table.take("run", list, [])) for run in _runs(table, position, values)),
        options=_options(table, kind),
        rerun=table.take("rerun", bool, False),
    )
    table.end()
    check_study(study)
    return study


def _options(study: Table, kind: str) -> dict:
    """What a special kind of study wants to know."""
    table = Table(study.take("options", dict, {}), f"{study.place}: options")
    options = dict(DEFAULTS.get(kind, {}))
    for key, form in OPTIONS.get(kind, {}).items():
        if key in table:
            options[key] = table.take_list(key, *form) if isinstance(form, list) else table.take(key, form)
            for value in options[key] if isinstance(form, list) else (options[key],):
                _check_option(table, key, value)
    table.end()
    return options


def _check_option(table: Table, key: str, value) -> None:
    if isinstance(value, int) and value < 1:
        raise table.error(f"{key} must be at least 1, not {value!r}")
    if isinstance(value, str) and value not in STAGED:
        raise table.error(f"{key} must be of {', '.join(STAGED)} (the study looks at the two stages), not {value!r}")


def _seeds(table: Table, default) -> tuple[int, ...]:
    seeds = table.take_list("seeds", int, list(default))
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise table.error(f"seeds must be different whole numbers, none negative, at least one, not {list(seeds)!r}")
    return seeds


def _sources(table: Table, protocol: str) -> tuple[Source, ...]:
    sources = []
    for position, value in enumerate(table.take("data", list, ["planted"])):
        if isinstance(value, str):
            value = {"source": value}
        own = Table(value, f"{table.place}: data {position + 1}")
        source = own.take("source", str)
        name = own.take("name", str, Path(source).name)
        own.place = f"{table.place}: data {name!r}"
        options = own.take("options", dict, {})
        _check_load_options(own, options)
        settings = _settings_table(own.take("settings", dict, {}), f"{own.place}: settings")
        presets = _presets_table(own.take("presets", dict, {}), f"{own.place}: presets")
        baselines = own.take("baselines", dict, {})
        for baseline, parameters in baselines.items():
            Table(parameters, f"{own.place}: baselines: {baseline}")
        protocol_here = own.take("protocol", str, protocol, choices=PROTOCOLS)
        sources.append(Source(source, name, protocol_here, options, settings, presets, baselines, like=name))
        own.end()
    if not sources:
        raise table.error("data must name at least one data set, not []")
    require_different_names(sources, table.place)
    return tuple(sources)


def _check_load_options(table: Table, options: dict) -> None:
    allowed = set(inspect.signature(load_dataset).parameters) - {"name_or_path", "protocol"}
    for key, value in options.items():
        if key not in allowed:
            raise table.error(f"options: unknown key {key!r} (its value is {value!r})")


def _settings_table(values: dict, place: str) -> dict:
    known = {item.name for item in dataclasses.fields(Settings)}
    for key, value in values.items():
        if key in _NOT_FOR_STUDIES:
            raise SettingsError(f"{place}: {key} = {value!r} cannot be set: the study's seeds and --jobs give it")
        if key not in known:
            raise SettingsError(f"{place}: unknown key {key!r} (its value is {value!r})")
    return values


def _presets_table(values: dict, place: str) -> dict[str, dict]:
    """Settings by the name of the preset whose runs they are for."""
    for preset, settings in values.items():
        if preset not in PRESETS:
            raise SettingsError(f"{place}: {preset!r} is no preset; there are {', '.join(PRESETS)}")
        if not isinstance(settings, dict):
            raise SettingsError(f"{place}: {preset} must be a table of settings, not {settings!r}")
        _settings_table(settings, f"{place}: {preset}")
    return values


def _runs(study: Table, position: int, values) -> list[Run]:
    """The runs of one table of the file: one, or one for each point of its grid and each of its cases."""
    table = Table(values, f"{study.place}: run {position + 1}")
    name = table.take("name", str)
    table.place = f"{study.place}: run {name!r}"
    method = table.take("method", str)
    of_c2f = method == C2F
    fixed = {
        "method": method,
        "preset": table.take("preset", str, "default", choices=tuple(PRESETS)) if of_c2f else "default",
        "after": table.take_list("after", str, []) if of_c2f else (),
        "seeds": _seeds(table, (0,)) if "seeds" in table else None,
        "only_data": table.take_list("only_data", str) if "only_data" in table else None,
    }
    for analysis in fixed["after"]:
        if analysis not in AFTER:
            raise table.error(f"after must be of {', '.join(AFTER)}, not {analysis!r}")
    bytes_of = "" if of_c2f else table.take("bytes_of", str, "")
    reference = table.take("reference", str, "")
    settings = table.take("settings", dict, {})
    points = _points(table)
    table.end()
    runs = []
    for point, named in points:
        own = settings | point
        preset = own.pop("preset", fixed["preset"]) if of_c2f else fixed["preset"]
        names = (_filled(table, template, point | named) for template in (name, bytes_of, reference))
        filled = dict(zip(("name", "bytes_of", "reference"), names, strict=True))
        if of_c2f:
            _settings_table(own, f"{table.place}: settings")
        runs.append(Run(settings=own, **(fixed | {"preset": preset}), **filled))
    return runs


def _points(table: Table) -> list[tuple[dict, dict]]:
    """Each combination of a grid's values with each of the cases: settings, and words (`each`) that only names are made of."""
    cases = table.take_list("cases", dict, [{}])
    grid, words = (_products(table, key) for key in ("grid", "each"))
    return [(case | point, word) for case in cases for point in grid for word in words]


def _products(table: Table, name: str) -> list[dict]:
    lists = table.take(name, dict, {})
    for key, values in lists.items():
        if not isinstance(values, list) or not values:
            raise table.error(f"{name}: {key} must be a list of values, not {values!r}")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _filled(table: Table, template: str, point: dict) -> str:
    try:
        return template.format(**point)
    except (KeyError, IndexError, ValueError) as error:
        raise table.error(f"{template!r} asks for {error}, which is no key of grid, cases or each") from error
