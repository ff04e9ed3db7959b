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
from ..settings import PRESETS, Settings, settings_from_preset
from ..training.progress import phases_of
from .kinds import DEFAULTS, KINDS, OPTIONS, STAGED
from .study import C2F, COARSE, FIGURES, WITHIN, Run, Source, Study
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
        runs=tuple(run for position, values in enumerate(table.take("run", list, [])) for run in _runs(table, position, values)),
        options=_options(table, kind),
        rerun=table.take("rerun", bool, False),
    )
    table.end()
    _check(study, table)
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
        baselines = own.take("baselines", dict, {})
        for baseline, parameters in baselines.items():
            Table(parameters, f"{own.place}: baselines: {baseline}")
        protocol_here = own.take("protocol", str, protocol, choices=PROTOCOLS)
        sources.append(Source(source, name, protocol_here, options, settings, baselines, like=name))
        own.end()
    if not sources:
        raise table.error("data must name at least one data set, not []")
    require_different_names(sources, table.place)
    return tuple(sources)


def require_different_names(sources, place: str) -> None:
    """Two data sets of a study need two names.

    Raises
    ------
    SettingsError
    """
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{place}: two data sets are called {name!r}; give one of them another name")


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


def _check(study: Study, table: Table) -> None:
    """What can only be seen with all of it at hand."""
    if study.kind != "runs":
        if study.runs:
            raise table.error(f"[[run]] {study.runs[0].name!r} has no place in a study of the kind {study.kind!r}")
        return
    if not study.runs:
        raise table.error("there is no [[run]]")
    names, parts = [run.name for run in study.runs], {run.name: _parts(study, run) for run in study.runs}
    for run in study.runs:
        place = f"{table.place}: run {run.name!r}"
        if names.count(run.name) > 1:
            raise SettingsError(f"{place}: the name is there twice; write the key that differs into it, such as {{gate}}")
        if WITHIN in run.name:
            raise SettingsError(f"{place}: a name must not contain {WITHIN!r}")
        if run.bytes_of and run.bytes_of not in names:
            raise SettingsError(f"{place}: bytes_of names no run, but {run.bytes_of!r}")
        _check_reference(run.reference, parts, place)
        for name in run.only_data or ():
            if name not in {source.name for source in study.sources}:
                raise SettingsError(f"{place}: only_data names no data set, but {name!r}")
        if run.method != C2F:
            _check_baseline(run, place)
    _check_reference(study.reference, parts, table.place)
    for run in study.runs:
        _check_no_circle(run, {each.name: each for each in study.runs}, table.place)


def _parts(study: Study, run: Run) -> set[str]:
    """What a run measures besides its result: its phases, on any of the data sets, and its analyses."""
    if run.method != C2F:
        return set()
    phases = set()
    for source in study.sources:
        place = f"{study.path}: run {run.name!r}"
        phases |= set(phases_of(c2f_settings(study, run, source, place))[:-1])
    return phases | set(run.after)


def _check_reference(reference: str, parts: dict[str, set[str]], place: str) -> None:
    name, within, part = reference.partition(WITHIN)
    if reference and name not in parts:
        raise SettingsError(f"{place}: reference names no run, but {reference!r}")
    if within and part not in parts[name]:
        known = ", ".join(sorted(parts[name])) or "nothing"
        raise SettingsError(f"{place}: reference {reference!r}: besides its result, {name!r} measures {known}, not {part!r}")


def _check_no_circle(run: Run, runs: dict[str, Run], place: str) -> None:
    followed, given = [run.name], run
    while given.bytes_of:
        if given.bytes_of in followed:
            raise SettingsError(f"{place}: run {run.name!r}: bytes_of comes back to {given.bytes_of!r}")
        followed.append(given.bytes_of)
        given = runs[given.bytes_of]


def _check_baseline(run: Run, place: str) -> None:
    from ..baselines import BASELINES, make_baseline

    if run.method not in BASELINES:
        raise SettingsError(f"{place}: method must be one of {', '.join((C2F, *BASELINES))}, not {run.method!r}")
    if run.bytes_of and run.method != COARSE and "bytes" not in make_baseline(run.method).get_params():
        raise SettingsError(f"{place}: bytes_of = {run.bytes_of!r}, and {run.method} has no parameter 'bytes' to be given them")


def c2f_settings(study: Study, run: Run, source: Source, place: str = "") -> Settings:
    """The settings of a run of c2f on a data set: preset, [common], those of the data, those of the run.

    Raises
    ------
    SettingsError
        If they do not fit.
    """
    try:
        return settings_from_preset(run.preset, **(study.common | source.settings | run.settings))
    except SettingsError as error:
        raise SettingsError(f"{place or study.path}: with the settings for {source.name!r}: {error}") from error


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
