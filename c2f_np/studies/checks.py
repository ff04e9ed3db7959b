"""Whether a study fits together: runs that name each other, and settings that every run gets on every data set."""

from __future__ import annotations

from ..errors import SettingsError
from ..settings import Settings, settings_from_preset
from ..training.phases import phase_names
from .study import C2F, COARSE, WITHIN, Run, Source, Study


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


def check_study(study: Study) -> None:
    """What can only be seen with all of a study at hand: names, references, sizes in bytes, settings of every run on all data.

    Raises
    ------
    SettingsError
        It names the file, the run and the value.
    """
    if study.kind != "runs":
        if study.runs:
            name = study.runs[0].name
            raise SettingsError(f"{study.path}: [[run]] {name!r} has no place in a study of the kind {study.kind!r}")
        return
    if not study.runs:
        raise SettingsError(f"{study.path}: there is no [[run]]")
    names, parts = [run.name for run in study.runs], {run.name: _parts(study, run) for run in study.runs}
    for run in study.runs:
        place = f"{study.path}: run {run.name!r}"
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
    _check_reference(study.reference, parts, study.path)
    for run in study.runs:
        _check_no_circle(run, {each.name: each for each in study.runs}, study.path)


def _parts(study: Study, run: Run) -> set[str]:
    """What a run measures besides its result: its phases, on any of its data sets, and its analyses."""
    if run.method != C2F:
        return set()
    phases = set()
    for source in filter(run.is_made_on, study.sources):
        place = f"{study.path}: run {run.name!r}"
        phases |= set(phase_names(c2f_settings(study, run, source, place))[:-1])
    return phases | set(run.after)


def _check_reference(reference: str, parts: dict[str, set[str]], place) -> None:
    name, within, part = reference.partition(WITHIN)
    if reference and name not in parts:
        raise SettingsError(f"{place}: reference names no run, but {reference!r}")
    if within and part not in parts[name]:
        known = ", ".join(sorted(parts[name])) or "nothing"
        raise SettingsError(f"{place}: reference {reference!r}: besides its result, {name!r} measures {known}, not {part!r}")


def _check_no_circle(run: Run, runs: dict[str, Run], place) -> None:
    followed, given = [run.name], run
    while given.bytes_of:
        if given.bytes_of in followed:
            raise SettingsError(f"{place}: run {run.name!r}: bytes_of comes back to {given.bytes_of!r}")
        followed.append(given.bytes_of)
        given = runs[given.bytes_of]


def _check_baseline(run: Run, place) -> None:
    from ..baselines import BASELINES, make_baseline

    if run.method not in BASELINES:
        raise SettingsError(f"{place}: method must be one of {', '.join((C2F, *BASELINES))}, not {run.method!r}")
    if run.bytes_of and run.method != COARSE and "bytes" not in make_baseline(run.method).get_params():
        raise SettingsError(f"{place}: bytes_of = {run.bytes_of!r}, and {run.method} has no parameter 'bytes' to be given them")


def c2f_settings(study: Study, run: Run, source: Source, place: str = "") -> Settings:
    """The settings of a run of c2f on a data set.

    They are put together from the preset, [common], [presets], those of the data, [data.presets] and those of the run; the later
    wins.

    Raises
    ------
    SettingsError
        If they do not fit.
    """
    try:
        given = study.common | study.presets.get(run.preset, {}) | source.settings | source.presets.get(run.preset, {})
        return settings_from_preset(run.preset, **(given | run.settings))
    except SettingsError as error:
        raise SettingsError(f"{place or study.path}: with the settings for {source.name!r}: {error}") from error
