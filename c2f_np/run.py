"""A run folder: train on a data set, keep checkpoints, write the model, the metrics, the log and the figure.

    run.json        what was asked for: data, options, settings, version of the program (written first)
    checkpoint.npz  where training stands, after every epoch
    history.csv     one row per epoch
    metrics.json    protocol, fingerprint, settings, seeds, versions, metrics, sizes, epochs, seconds
    model.npz       the last phase's result, with all that recommending needs
    refit.npz       the same trained on everything, if that was asked for: what recommends
    curves.png      learning curves and test NDCG@20
    control.json    the control's metrics and log, if it was run (`c2f_np.training.phases`)

A folder with a run.json of this program belongs to the run, which may replace files of these names, and no others; where files
of these names are and no such run.json, nothing is written. The figure comes last: without it everything is there.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ._version import __version__
from .baselines import Popularity
from .data import LOAD_OPTIONS, Dataset, load_dataset
from .errors import C2FError, ModelFileError, SettingsError
from .evaluation import DEFAULT_KS, DEFAULT_METRICS
from .files import FilePath, write_csv, write_json
from .folders import delete_unfinished, folder_named, locked, refuse_strangers
from .machine import peak_memory, versions
from .model_file import StoredModel, load_model, save_model, settings_of_file, size_in_bytes, where_from
from .schema import COUNT, NUMBER, TEXT, Parameter, check_form, parse_json, refuse_unknown
from .settings import PRESETS, Settings
from .shown import for_terminal, write_figure
from .threads import working_threads
from .training import train, train_control, train_refit
from .training.checkpoint import load_checkpoint, save_checkpoint
from .training.loop import Phase, Progress
from .training.phases import TITLES, chosen_epochs, phase_names, phases_of
from .training.problem import evaluate_state, pose

RUN, CHECKPOINT, HISTORY = "run.json", "checkpoint.npz", "history.csv"
METRICS, MODEL, FIGURE, CONTROL = "metrics.json", "model.npz", "curves.png", "control.json"
REFIT = "refit.npz"
RESULTS = (REFIT, METRICS, FIGURE, CONTROL, MODEL, HISTORY)
FILES = (*RESULTS, CHECKPOINT, RUN)
_PART = (None, {"*": dict.fromkeys(DEFAULT_METRICS, NUMBER)})
_FORMS: dict[str, dict] = {
    RUN: {
        "data": TEXT,
        "load_options": {f"{name}?": option for name, option in LOAD_OPTIONS.items()},
        "preset": Parameter("", str, choices=tuple(PRESETS)),
        "version?": TEXT,
        "settings": {},
    },
    METRICS: {
        "protocol": TEXT,
        "data": {"name": TEXT},
        "validation": _PART,
        "test": _PART,
        "size_in_bytes": {"*": {"model": COUNT}},
        "best_epoch": {"*": COUNT},
    },
}


@dataclass(frozen=True)
class Request:
    """What a run was asked to do.

    Attributes
    ----------
    source : str
        Name or path of the data.
    load_options : dict
        Keyword arguments of :func:`c2f_np.load_dataset`.
    preset : str
    settings : Settings
    """

    source: str
    load_options: dict
    preset: str
    settings: Settings

    def load_data(self) -> Dataset:
        """Read, split and check the data."""
        return load_dataset(self.source, **self.load_options)


def read_request(folder) -> Request:
    """The request that a run folder was made for.

    Raises
    ------
    ModelFileError
        If the folder holds no run, or a damaged one.
    """
    path = Path(folder) / RUN
    stored = read_json(path)
    try:
        refuse_unknown(stored["load_options"], LOAD_OPTIONS, "option of the data")
    except SettingsError as error:
        raise ModelFileError(f"{path}: load_options: {error}") from None
    settings = settings_of_file(stored["settings"], path)
    return Request(stored["data"], stored["load_options"], stored["preset"], settings)


def read_json(path: Path) -> dict:
    """A JSON object from a file of a run folder, of the form that files of this name have.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, or of another form; with the field.
    """
    if not path.is_file():
        raise ModelFileError(f"{path.parent}: not a run folder ({path.name} is missing)")
    try:
        stored = parse_json(path.read_bytes(), path)
        check_form(stored, _FORMS[path.name])
        for part in filter(stored.get, ("validation", "test") if path.name == METRICS else ()):
            check_form(stored["size_in_bytes"], dict.fromkeys(stored[part], {"model": COUNT}), "size_in_bytes")
    except OSError as error:
        raise ModelFileError(f"{path}: it cannot be read ({error.strerror or error})") from error
    except SettingsError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return stored


def run(
    request: Request,
    folder: FilePath,
    *,
    resume: bool = False,
    overwrite: bool = False,
    watch: Callable[[Progress], None] | None = None,
    before_start: Callable[[Phase, tuple[Phase, ...]], None] | None = None,
    data: Dataset | None = None,
) -> dict:
    """Carry out a request in a folder.

    Parameters
    ----------
    request : Request
    folder : path-like
        Made if it is not there, and held by a lock while it is written.
    resume : bool
        Go on from the folder's checkpoint. Where no epoch was finished yet, training begins.
    overwrite : bool
        Begin anew in a folder that already holds a run. That one is there until the first epoch of the new one is finished.
    watch : callable, optional
        Called with the progress after every epoch.
    before_start : callable, optional
        Called with a phase before its start is prepared, and with all phases.
    data : Dataset, optional
        The request's data, if they are loaded already.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Warns
    -----
    UserWarning
        If another version of the program began the run, or the figure cannot be drawn.

    Raises
    ------
    SettingsError
        If settings do not fit; if the folder holds a run and neither `resume` nor `overwrite` is given, or files of a run's names
        that this program has not written there; if another process is writing there.
    ModelFileError
        If there is a run to resume, but not its checkpoint, or one that does not fit the request.
    DataError, OSError
    """
    folder = folder_named(folder)
    if resume and overwrite:
        raise SettingsError("either resume a run or overwrite it, not both")
    goes_on_in(folder, resume, overwrite)
    data = request.load_data() if data is None else data
    # What cannot be trained must not leave a folder behind, nor empty one.
    pose(data, request.settings)
    with locked(folder):
        # Another process may have been there before it was locked.
        goes_on = goes_on_in(folder, resume, overwrite)
        return _run_alone(request, folder, data, goes_on, watch, before_start)


def goes_on_in(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether a run goes on from a checkpoint in a folder; SettingsError or ModelFileError if no run may begin there either."""
    if not holds_run(folder):
        return False
    if not (resume or overwrite):
        raise SettingsError(f"{folder} already holds a run: go on with --resume, or begin anew with --overwrite")
    if (folder / CHECKPOINT).exists():
        return resume
    left = [name for name in (MODEL, METRICS, HISTORY) if (folder / name).exists()]
    if resume and left:
        raise ModelFileError(
            f"{folder}: {CHECKPOINT} is missing, without which this run cannot go on; what is there ({', '.join(left)}) is left "
            "alone. Begin anew with --overwrite, or in another folder"
        )
    return False


def holds_run(folder: Path) -> bool:
    """Whether a run of this program is in a folder; SettingsError if files of a run's names are there without one."""
    if not any(os.path.lexists(folder / name) for name in FILES):
        return False
    if not os.path.lexists(folder / RUN):
        refuse_strangers(folder, FILES, f"no run ({RUN} is missing)")
    try:
        read_json(folder / RUN)
    except ModelFileError as error:
        raise SettingsError(f"{error}; nothing in {folder} is replaced: choose another folder, or move {RUN} away") from error
    refuse_strangers(folder, [name for name in FILES if (folder / name).is_dir()], "a run has a file of that name")
    return True


def _run_alone(request: Request, folder: Path, data: Dataset, goes_on: bool, watch, before_start) -> dict:
    """Carry out a request in a folder that is locked and may be written, from its checkpoint or from the beginning."""
    fingerprint, progress, earlier = data.fingerprint(), None, holds_run(folder)
    delete_unfinished(folder, FILES)
    if goes_on:
        progress = load_checkpoint(folder / CHECKPOINT, request.settings, data)
        _warn_of_another_version(folder)
    about = {
        "version": __version__,
        "data": request.source,
        "load_options": request.load_options,
        "preset": request.preset,
        "settings": request.settings.to_dict(),
    }
    replaces = earlier and not goes_on
    if not replaces:
        write_json(folder / RUN, about)

    def after_epoch(progress: Progress) -> None:
        nonlocal replaces
        # If there is no room for it, an earlier run stays whole; once it is there, --resume with these settings goes on.
        save_checkpoint(folder / CHECKPOINT, progress, request.settings, fingerprint)
        if replaces:
            for name in RESULTS:
                (folder / name).unlink(missing_ok=True)
            write_json(folder / RUN, about)
            replaces = False
        _write_history(folder / HISTORY, progress.history)
        if watch is not None:
            watch(progress)

    try:
        progress = train(data, request.settings, progress=progress, after_epoch=after_epoch, before_start=before_start)
    except C2FError:
        if not earlier and not (folder / CHECKPOINT).exists():
            (folder / RUN).unlink()  # so that the mended command finds no run
        raise
    metrics = summarise(request, data, progress)
    stored = StoredModel(
        progress.result.state,
        request.settings,
        data.train,
        data.user_ids,
        data.item_ids,
        {key: metrics[key] for key in ("preset", "data", "protocol", "versions")}
        | {"epochs": chosen_epochs(phases_of(request.settings, None), progress)},
        data.known(),
    )
    save_model(folder / MODEL, stored)
    _write_history(folder / HISTORY, progress.history)
    write_json(folder / METRICS, metrics)
    test = metrics["test"] or metrics["validation"]
    if test is not None:
        table = {TITLES[name]: test[name] for name in SHOWN if name in test}
        title = f"{data.name}, protocol {data.protocol}"
        write_figure(folder / FIGURE, "results.learning_curves", list(progress.history), table, title=title)
    return metrics


def _warn_of_another_version(folder: Path) -> None:
    """Warn if another version of this program began the run in a folder."""
    began = read_json(folder / RUN).get("version", "an earlier one")
    if began != __version__:
        warnings.warn(
            f"{folder} was begun by another version of c2f_np ({for_terminal(began)}), and goes on with {__version__}: "
            "the result may be that of neither",
            stacklevel=3,
        )


def run_control(folder, *, watch: Callable[[Progress], None] | None = None) -> dict:
    """Train the control of a finished run and write ``control.json`` beside its metrics.

    Parameters
    ----------
    folder : path-like
    watch : callable, optional
        Called with the progress after every epoch.

    Returns
    -------
    dict
        The run's metrics (as :func:`run` returns them) with the control's phases among them.

    Raises
    ------
    SettingsError
        If the run has not come to its end.
    ModelFileError, DataError, OSError
    """
    folder = Path(folder)
    read_request(folder)
    _require_finished(folder, (folder / METRICS).is_file())
    with locked(folder):
        return _control_alone(folder, watch)


def _require_finished(folder: Path, is_finished: bool) -> None:
    if not is_finished:
        raise SettingsError(f"{folder}: the run has not come to its end: go on with train --resume first")


def _control_alone(folder: Path, watch) -> dict:
    request, metrics = read_request(folder), read_json(folder / METRICS)
    data = request.load_data()
    done = load_checkpoint(folder / CHECKPOINT, request.settings, data)
    problem = pose(data, request.settings)
    control = train_control(done, problem, after_epoch=watch)
    found = {"validation": {}, "test": {}, "size_in_bytes": {}, "best_epoch": {}, "history": list(control.history)}
    with working_threads(problem.threads, request.settings.engine):
        for phase, best in control.finished.items():
            found["best_epoch"][phase] = best.epoch
            found["size_in_bytes"][phase] = size_in_bytes(best.state, request.settings.threshold)
            for part in ("validation", "test"):
                result = evaluate_state(best.state, problem, part)
                found[part][phase] = None if result is None else result.metrics
    write_json(folder / CONTROL, json.loads(json.dumps(found), parse_constant=lambda name: None))
    for name in ("size_in_bytes", "best_epoch"):
        metrics[name] |= found[name]
    for part in ("validation", "test"):
        if metrics[part] is not None:
            metrics[part] |= found[part]
    return metrics


def run_refit(
    folder: FilePath,
    *,
    data: Dataset | None = None,
    on: Dataset | None = None,
    watch: Callable[[Progress], None] | None = None,
    before_start: Callable[[Phase, tuple[Phase, ...]], None] | None = None,
) -> StoredModel | None:
    """Train a finished run's model again on everything that its data hold, and write ``refit.npz``.

    Parameters
    ----------
    folder : path-like
    data : Dataset, optional
        The run's data, if they are loaded already.
    on : Dataset, optional
        To be learnt from in their place, such as all interactions of a month later; users and items may have come and gone.
    watch, before_start : callable, optional
        As for :func:`run`.

    Returns
    -------
    StoredModel or None
        None if nothing was held out: then the run's model has learnt from everything already, and nothing is written.

    Raises
    ------
    SettingsError
        If the run has not come to its end.
    ModelFileError, DataError, OSError
    """
    folder = folder_named(folder)
    request = read_request(folder)
    if on is None and data is None:
        data = request.load_data()
    with locked(folder):
        delete_unfinished(folder, [REFIT])
        if on is None:
            done = load_checkpoint(folder / CHECKPOINT, request.settings, data)
            _require_finished(folder, done.is_done)
            epochs = chosen_epochs(phases_of(request.settings, None), done)
        elif (epochs := load_model(folder / MODEL).about.get("epochs")) is None:
            raise ModelFileError(f"{folder / MODEL}: it does not say how many epochs led to it: train it once more")
        whole = (on or data).whole()
        if on is None and whole.train.nnz == data.train.nnz:
            return None
        problem = pose(whole, request.settings)
        phases = phases_of(request.settings, problem.engine)
        state = train_refit(phases, epochs, problem, after_epoch=watch, before_start=before_start).result.state
        about = {"preset": request.preset, **where_from(whole), "refit": epochs}
        stored = StoredModel(state, request.settings, whole.train, whole.user_ids, whole.item_ids, about)
        save_model(folder / REFIT, stored)
    return stored


def summarise(request: Request, data: Dataset, progress: Progress) -> dict:
    """Everything worth knowing about a finished run, as plain JSON."""
    problem = pose(data, request.settings)
    with working_threads(problem.threads, request.settings.engine):
        parts = {part: _evaluate_phases(progress, problem, part) for part in ("validation", "test")}
    phases = phase_names(request.settings)
    sizes = {phase: size_in_bytes(progress.finished[phase].state, request.settings.threshold) for phase in phases}
    sizes["popularity"] = {"model": Popularity().fit(data).size_in_bytes()["model"]}
    seconds = {phase: sum(r["seconds"] for r in progress.history if r["phase"] == phase) for phase in phases}
    return {
        "protocol": data.protocol,
        "preset": request.preset,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint(),
            "split": data.split,
            "users": data.n_users,
            "items": data.n_items,
            "interactions": {part: matrix.nnz for part, matrix in data.parts() if matrix is not None},
            "report": data.report,
        },
        "settings": request.settings.to_dict(),
        "seeds": {"model": request.settings.seed, "split": request.load_options.get("split_seed", 0)},
        "versions": versions(),
        **parts,
        "size_in_bytes": sizes,
        "epochs": {phase: sum(r["phase"] == phase for r in progress.history) for phase in phases},
        "best_epoch": {phase: progress.finished[phase].epoch for phase in phases},
        "started_from": progress.started_from,
        "seconds": seconds | {"training": sum(seconds.values())},
        "peak_memory_bytes": peak_memory(),
    }


def _evaluate_phases(progress: Progress, problem, part: str) -> dict[str, dict] | None:
    """Metrics of popularity and of each phase's best state on a part of the data; None if the part is empty."""
    if problem.data.held_out(part) is None:
        return None
    popular = Popularity(engine=problem.settings.engine, n_jobs=problem.settings.threads or None).fit(problem.data)
    rows = {"popularity": popular.evaluate(part=part).metrics}
    for phase in phases_of(problem.settings, problem.engine):
        rows[phase.name] = evaluate_state(progress.finished[phase.name].state, problem, part, stage=phase.stage).metrics
    return rows


# What a run is summed up by; a first phase of the fine stage is left out.
SHOWN = ("popularity", "coarse_phase1", "coarse", "fine", "partition", "table", "joint")


def comparison_table(metrics: dict, part: str = "test", rows=SHOWN) -> str:
    """The models side by side: Recall and NDCG at 5, 10, 20, 50, and what each weighs.

    Parameters
    ----------
    metrics : dict
        As :func:`run` returns it.
    part : {"test", "validation"}
    rows : sequence of str
        Those that the run has are shown.

    Returns
    -------
    str
    """
    columns = "".join(f"{f'@{k}':>7}" for k in DEFAULT_KS)
    rows = [name for name in rows if name in metrics[part]]
    width = 1 + max([len("model"), *(len(TITLES[name]) for name in rows)])
    lines = [
        f"{part}, protocol {metrics['protocol']}",
        f"{'':<{width}}|{'Recall':^28}|{'NDCG':^28}|{'bytes':>10}",
        f"{'model':<{width}}|{columns}|{columns}|",
        "-" * width + "+" + "-" * 28 + "+" + "-" * 28 + "+" + "-" * 10,
    ]
    for name in rows:
        values = metrics[part][name]
        recall = "".join(f"{values[f'recall@{k}']:>7.4f}" for k in DEFAULT_KS)
        ndcg = "".join(f"{values[f'ndcg@{k}']:>7.4f}" for k in DEFAULT_KS)
        size = metrics["size_in_bytes"][name]["model"]
        lines.append(f"{TITLES[name]:<{width}}|{recall}|{ndcg}|{size:>10,}")
    return "\n".join(lines)


def _write_history(path: Path, history) -> None:
    write_csv(path, [{k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in history])
