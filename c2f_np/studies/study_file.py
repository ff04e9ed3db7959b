"""Study files: TOML in, a checked :class:`~c2f_np.studies.study.Study` out. docs/studies.md explains every key."""

from __future__ import annotations

import itertools
import math
import string
import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path

from ..data import LOAD_OPTIONS, PROTOCOLS
from ..errors import SettingsError, in_short
from ..evaluation import DEFAULT_METRICS
from ..schema import Parameter, check_form, parameters_of
from ..serving.compact import STORED_AS
from ..settings import PRESETS, STAGED, Settings
from ..training.phases import phase_names
from .jobs import has_parameter, require_different_names, require_fitting, require_free, require_seeds, settings_of_run
from .search import BYTES_USED, n_trials, points_of
from .study import C2F, COARSE, FIGURES, SPECIAL_KINDS, WITHIN, Run, Source, Study
from .surgery import AFTER

#: The most runs that a study may have, with their trials.
MOST_RUNS = 2_000

_LONGEST_NAME = 200

#: Keys of [options] by kind of study, with the types of values ([type] for lists). Numbers are from 1 to 1000; text names a
#: preset, which must be a staged one, because both kinds look at the two stages.
OPTIONS: dict[str, dict[str, type | list[type]]] = {
    "planted-structure": {"presets": [str]},
    "protocol": {"preset": str, "k": int, "other_ks": [int], "n_negatives": int, "n_draws": int},
}
#: Keys that say how runs are made and reported.
_OF_RUNS = ("metric", "trials", "reference", "figure", "phases", "presets", "rerun")
_DEFAULTS: dict[str, dict] = {"planted-structure": {"presets": STAGED}, "protocol": {"preset": "staged"}}


class TomlTable:
    """A TOML table: every key is asked for once, and a key that nobody asked for is an error. All errors begin with `place`."""

    def __init__(self, values, place: str):
        self.place = place
        if not isinstance(values, dict):
            raise self.error(f"must be a table, not {in_short(values)}")
        self._values = dict(values)

    def error(self, message: str) -> SettingsError:
        return SettingsError(f"{self.place}: {message}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, kind: type, default=None, **limits):
        """The value of a key, which must be of a kind and within limits; a key without a default (None) must be there."""
        if key not in self._values:
            if default is None:
                raise self.error(f"{key} is missing")
            return default
        return self._checked(Parameter(key, kind, **limits), self._values.pop(key))

    def take_list(self, key: str, kind: type, default=None, **limits) -> tuple:
        """A list whose members are of a kind and within limits."""
        member = Parameter(f"each member of {key}", kind, **limits)
        return tuple(self._checked(member, value) for value in self.take(key, list, default))

    def _checked(self, parameter: Parameter, value):
        try:
            return parameter.checked(value)
        except SettingsError as error:
            raise self.error(str(error)) from None

    def end(self) -> None:
        """Nothing may be left."""
        require_known(self._values, (), self.place)


def require_known(values: dict, known, place: str) -> None:
    """Every key must be a known one."""
    for key, value in values.items():
        if key not in known:
            raise SettingsError(f"{place}: unknown key {in_short(key)} (its value is {in_short(value)})")


def ready_studies() -> dict[str, Path]:
    """The studies that ship with the package: name to file."""
    files = sorted(map(Path, map(str, (resources.files(__package__) / "ready").iterdir())))
    return {file.stem: file for file in files if file.suffix == ".toml"}


def read_study(name_or_path) -> Study:
    """Read a study file, or the ready study of that name; SettingsError names file, key and value of whatever is wrong."""
    ready = ready_studies()
    path = ready.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise SettingsError(f"no study {in_short(str(name_or_path))}: neither a file nor one of {', '.join(ready)}")
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not TOML ({error})") from error
    return _study(TomlTable(values, str(path)), path, text)


def _study(table: TomlTable, path: Path, text: str) -> Study:
    kind = table.take("kind", str, "runs", choices=("runs", *SPECIAL_KINDS))
    for key in _OF_RUNS if kind != "runs" and "run" not in table else ():
        if key in table:
            raise table.error(f"{key} is of studies of runs; one of the kind {kind} has no use for it")
    protocol = table.take("protocol", str, "clean", choices=PROTOCOLS)
    trials = table.take("trials", int, Study.trials, low=1, high=1000)
    study = Study(
        name=path.stem,
        path=path,
        text=text,
        title=table.take("title", str),
        question=table.take("question", str),
        kind=kind,
        common=_settings(table, "common"),
        sources=_sources(table, protocol),
        protocol=protocol,
        seeds=_seeds(table),
        metric=table.take("metric", str, "ndcg@20", choices=DEFAULT_METRICS),
        trials=trials,
        reference=table.take("reference", str, ""),
        figure=table.take("figure", str, "means", choices=FIGURES),
        phases=table.take("phases", str, "all", choices=("all", "last")),
        presets=_presets(table),
        runs=_all_runs(table, trials),
        options=_options(table, kind),
        rerun=table.take("rerun", bool, False),
    )
    table.end()
    check_study(study)
    return study


def _options(study: TomlTable, kind: str) -> dict:
    """The options of a special kind of study."""
    table = TomlTable(study.take("options", dict, {}), f"{study.place}: options")
    options = dict(_DEFAULTS.get(kind, {}))
    for key, form in OPTIONS.get(kind, {}).items():
        if key not in table:
            continue
        kind, take = (form[0], table.take_list) if isinstance(form, list) else (form, table.take)
        options[key] = take(key, kind, **({"low": 1, "high": 1000} if kind is int else {}))
        for value in options[key] if isinstance(form, list) else (options[key],):
            if kind is str and value not in STAGED:
                staged = f"{', '.join(STAGED)} (the study looks at the two stages)"
                raise table.error(f"{key} must be of {staged}, not {in_short(value)}")
    table.end()
    return options


def _seeds(table: TomlTable) -> tuple[int, ...]:
    seeds = table.take_list("seeds", int, [0])
    require_seeds(seeds, f"{table.place}: seeds")
    return seeds


def _sources(table: TomlTable, protocol: str) -> tuple[Source, ...]:
    load_options = {name: option for name, option in LOAD_OPTIONS.items() if name != "protocol"}
    sources = []
    for position, value in enumerate(table.take("data", list, ["planted"])):
        own = TomlTable({"source": value} if isinstance(value, str) else value, f"{table.place}: data {position + 1}")
        source = own.take("source", str)
        name = own.take("name", str, Path(source).name)
        own.place = f"{table.place}: data {in_short(name)}"
        options = own.take("options", dict, {})
        require_known(options, load_options, f"{own.place}: options")
        check_form(options, {f"{name}?": option for name, option in load_options.items()}, f"{own.place}: options")
        baselines = own.take("baselines", dict, {})
        for baseline, parameters in baselines.items():
            TomlTable(parameters, f"{own.place}: baselines: {baseline}")
        protocol_here = own.take("protocol", str, protocol, choices=PROTOCOLS)
        sources.append(Source(source, name, protocol_here, options, _settings(own), _presets(own), baselines, like=name))
        own.end()
    if not sources:
        raise table.error("data must name at least one data set, not []")
    require_different_names(sources, table.place)
    return tuple(sources)


def _settings(table: TomlTable, key: str = "settings") -> dict:
    values = table.take(key, dict, {})
    require_settings(values, f"{table.place}: {key}")
    return values


def require_settings(values: dict, place: str) -> None:
    """Every key must be a setting of c2f that a study may set."""
    require_free(values, place)
    require_known(values, parameters_of(Settings), place)


def _presets(table: TomlTable) -> dict[str, dict]:
    """Settings by the name of the preset whose runs they are for."""
    values = table.take("presets", dict, {})
    presets = TomlTable(values, f"{table.place}: presets")
    for preset in values:
        if preset not in PRESETS:
            raise presets.error(f"{in_short(preset)} is not a preset; the presets are {', '.join(PRESETS)}")
    return {preset: _settings(presets, preset) for preset in values}


def _all_runs(study: TomlTable, trials: int) -> tuple[Run, ...]:
    runs: list[Run] = []
    for position, values in enumerate(study.take("run", list, [])):
        runs += _runs(study, position, values)
        require_number_of_runs(len(runs) + sum(n_trials(run, trials) for run in runs), study.place)
    return tuple(runs)


def _runs(study: TomlTable, position: int, values) -> list[Run]:
    """The runs of one table of the file: one, or one for each point of its grid and each of its cases."""
    table = TomlTable(values, f"{study.place}: run {position + 1}")
    name = table.take("name", str)
    table.place = f"{study.place}: run {in_short(name)}"
    method = table.take("method", str)
    of_c2f = method == C2F
    fixed = {
        "method": method,
        "preset": table.take("preset", str, "default", choices=tuple(PRESETS)) if of_c2f else "default",
        "after": table.take_list("after", str, [], choices=AFTER) if of_c2f else (),
        "stored_as": table.take("stored_as", str, "dtype", choices=STORED_AS),
        "seeds": _seeds(table) if "seeds" in table else None,
        "only_data": table.take_list("only_data", str) if "only_data" in table else None,
        "search": _lists(table, "search"),
    }
    templates = {key: table.take(key, str, "") for key in ("bytes_of", "reference")} | {"name": name}
    settings = {"bytes_share": table.take("bytes_share", float, 1.0)} | table.take("settings", dict, {})
    points = _points(table)
    table.end()
    runs = []
    for point, words in points:
        own = settings | point
        preset = own.pop("preset", fixed["preset"]) if of_c2f else fixed["preset"]
        share = TomlTable({"bytes_share": own.pop("bytes_share")}, table.place).take("bytes_share", float, above=0.0, high=1.0)
        filled = {key: _filled(table, template, point | words) for key, template in templates.items()}
        for key in fixed["search"]:
            if key in point:
                raise table.error(f"{in_short(key)} cannot be a key of both search and grid or cases")
        if of_c2f:
            require_settings(own, f"{table.place}: settings")
        runs.append(Run(settings=own, bytes_share=share, **(fixed | {"preset": preset}), **filled))
    return runs


def _points(table: TomlTable) -> list[tuple[dict, dict]]:
    """Each combination of a grid's values with each of the cases: settings, and the words of `each`, which only fill names."""
    cases = table.take_list("cases", dict, [{}])
    grid, words = (_products(table, key) for key in ("grid", "each"))
    require_number_of_runs(len(cases) * len(grid) * len(words), table.place)
    return [(case | point, word) for case in cases for point in grid for word in words]


def _products(table: TomlTable, name: str) -> list[dict]:
    return points_of(_lists(table, name))


def _lists(table: TomlTable, name: str) -> dict[str, list]:
    """Lists of values, none of them empty, of which there are not too many combinations."""
    lists = table.take(name, dict, {})
    for key, values in lists.items():
        if not isinstance(values, list) or not values:
            raise table.error(f"{name}: {key} must be a list of values, not {in_short(values)}")
    require_number_of_runs(math.prod(map(len, lists.values())), f"{table.place}: {name}")
    return lists


def require_number_of_runs(n: int, place: str) -> None:
    """Grids and searches multiply; no study has that many runs."""
    if n > MOST_RUNS:
        raise SettingsError(f"{place}: {n:,} combinations, more than the {MOST_RUNS:,} runs and trials that a study may have")


def _filled(table: TomlTable, template: str, point: dict) -> str:
    """The template with values in the place of their keys; without formats, as {x:1000000000} makes a text of that length."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise table.error(f"{in_short(template)} is not a template ({error})") from error
    for _, key, *more in parts:
        if key is not None and (any(more) or key not in point):
            used = f"{in_short(template)} uses {in_short(key)}"
            raise table.error(f"{used}, which is not, as it stands, a key of grid, cases or each")
    return "".join(text + ("" if key is None else str(point[key])) for text, key, *_ in parts)


def check_study(study: Study) -> None:
    """Check what only the whole study shows: names, references, sizes in bytes, and the settings of every run on all its data."""
    if study.kind != "runs":
        for source in study.sources:
            if source.presets:
                raise SettingsError(f"{study.path}: data {in_short(source.name)}: presets are of studies of runs")
        for run in study.runs:
            kind, example = in_short(study.kind), in_short(run.name)
            raise SettingsError(f"{study.path}: a study of the kind {kind} must not have a [[run]], such as {example}")
        return
    if not study.runs:
        raise SettingsError(f"{study.path}: there is no [[run]]")
    runs, parts = {run.name: run for run in study.runs}, {run.name: _parts(study, run) for run in study.runs}
    data, names = {source.name for source in study.sources}, Counter(run.name for run in study.runs)
    for run in study.runs:
        place = f"{study.path}: run {in_short(run.name)}"
        if len(run.name) > _LONGEST_NAME:
            raise SettingsError(f"{study.path}: a run's name has {len(run.name):,} characters; the most are {_LONGEST_NAME}")
        if names[run.name] > 1:
            raise SettingsError(f"{place}: the name occurs twice; put the key that differs into it, such as {{gate}}")
        if WITHIN in run.name:
            raise SettingsError(f"{place}: a name must not contain {in_short(WITHIN)}")
        if run.bytes_of and run.bytes_of not in runs:
            raise SettingsError(f"{place}: bytes_of must name a run, not {in_short(run.bytes_of)}")
        if run.bytes_share < 1 and not run.bytes_of:
            raise SettingsError(f"{place}: bytes_share = {run.bytes_share}, but no bytes_of says of which run")
        _check_reference(run.reference, parts, place)
        for name in run.only_data or ():
            if name not in data:
                raise SettingsError(f"{place}: only_data must name data sets of the study, not {in_short(name)}")
        _check_baseline(run, place)
        if run.search:
            _check_search(study, run, place)
    _check_reference(study.reference, parts, study.path)
    for run in study.runs:
        followed, given = [run.name], run
        while given.bytes_of:
            if given.bytes_of in followed:
                raise SettingsError(f"{study.path}: run {in_short(run.name)}: bytes_of leads back to {in_short(given.bytes_of)}")
            followed.append(given.bytes_of)
            given = runs[given.bytes_of]


def _parts(study: Study, run: Run) -> set[str]:
    """What a run measures besides its result: its phases, on any of its data sets, and its analyses."""
    if run.method != C2F:
        return set()
    phases = [phase_names(settings_of_run(study, run, source))[:-1] for source in study.sources if run.is_made_on(source)]
    return {*itertools.chain(*phases), *run.after}


def _check_reference(reference: str, parts: dict[str, set[str]], place) -> None:
    name, within, part = reference.partition(WITHIN)
    if reference and name not in parts:
        raise SettingsError(f"{place}: reference must name a run, not {in_short(reference)}")
    if within and part not in parts[name]:
        known = ", ".join(sorted(parts[name])) or "nothing"
        measured = f"besides its result, {in_short(name)} measures {known}"
        raise SettingsError(f"{place}: reference {in_short(reference)}: {measured}, not {in_short(part)}")


def _check_baseline(run: Run, place) -> None:
    from ..baselines import BASELINES

    if run.method not in (C2F, *BASELINES):
        raise SettingsError(f"{place}: method must be one of {', '.join((C2F, *BASELINES))}, not {in_short(run.method)}")
    if run.bytes_of and run.method not in (C2F, COARSE) and not has_parameter(run.method, "bytes"):
        raise SettingsError(f"{place}: bytes_of = {in_short(run.bytes_of)}, but {run.method} has no parameter 'bytes'")
    if run.stored_as != "dtype" and run.method != C2F and not has_parameter(run.method, "stored_as"):
        raise SettingsError(f"{place}: stored_as = {in_short(run.stored_as)}, but {run.method} has no parameter 'stored_as'")


def _check_search(study: Study, run: Run, place: str) -> None:
    """Every point of a search must fit, be it drawn or not, so that no file is refused by chance."""
    from ..baselines import make_baseline

    table = TomlTable(run.search, f"{place}: search")
    settings = {key: values for key, values in run.search.items() if key != BYTES_USED}
    require_free(settings, table.place)
    require_known(settings, parameters_of(Settings) if run.method == C2F else make_baseline(run.method).get_params(), table.place)
    for key, values in run.search.items():
        if key == BYTES_USED:
            table.take_list(key, float, above=0.0, high=1.0)
        for value in values:
            if values.count(value) > 1:
                raise table.error(f"{key} has {in_short(value)} twice")
    if BYTES_USED in run.search and not run.bytes_of:
        raise table.error(f"{BYTES_USED}, but no bytes_of says what the run may weigh")
    for source in study.sources:
        for point in points_of(run.search) if run.is_made_on(source) else ():
            require_fitting(study, run, source, point)
