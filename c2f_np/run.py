"""A run folder: train on a data set, keep checkpoints, write the model, the metrics, the log and the figure.

    run.json        what was asked for: data, options, settings (written first)
    checkpoint.npz  where training stands, after every epoch
    history.csv     one row per epoch
    metrics.json    protocol, fingerprint, settings, seeds, versions, metrics, sizes, epochs, seconds
    model.npz       the last phase's result, with all that recommending needs
    curves.png      learning curves and test NDCG@20
    control.json    the control's metrics and log, if it was run (`c2f_np.training.phases`)
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .baselines import Popularity
from .data import LOAD_OPTIONS, Dataset, load_dataset
from .errors import ModelFileError, SettingsError
from .evaluation import DEFAULT_KS, DEFAULT_METRICS
from .files import write_text_atomically
from .machine import peak_memory
from .model_file import StoredModel, save_model, settings_of_file, size_in_bytes
from .recommender import versions
from .schema import COUNT, NUMBER, TEXT, Parameter, check_form, parse_json, refuse_unknown
from .settings import PRESETS, Settings
from .threads import working_threads
from .training.checkpoint import load_checkpoint, save_checkpoint
from .training.loop import train, train_control
from .training.phases import TITLES, Progress, phase_names, phases_of
from .training.problem import evaluate_state, pose

RUN, CHECKPOINT, HISTORY = "run.json", "checkpoint.npz", "history.csv"
METRICS, MODEL, FIGURE, CONTROL = "metrics.json", "model.npz", "curves.png", "control.json"
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
    folder,
    *,
    resume: bool = False,
    overwrite: bool = False,
    watch: Callable[[Progress], None] | None = None,
    data: Dataset | None = None,
) -> dict:
    """Carry out a request in a folder.

    Parameters
    ----------
    request : Request
    folder : path-like
        Made if it is not there.
    resume : bool
        Go on from the folder's checkpoint, if it has one.
    overwrite : bool
        Begin anew in a folder that already holds a run.
    watch : callable, optional
        Called with the progress after every epoch.
    data : Dataset, optional
        The request's data, if they are loaded already.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    SettingsError
        If the folder holds a run and neither `resume` nor `overwrite` is given, or settings do not fit.
    DataError, ModelFileError, OSError
    """
    data = request.load_data() if data is None else data
    folder = Path(folder)
    holds_run = any((folder / name).exists() for name in (RUN, CHECKPOINT, METRICS))
    if holds_run and not (resume or overwrite):
        raise SettingsError(f"{folder} already holds a run: go on with --resume, or begin anew with --overwrite")
    fingerprint, progress = data.fingerprint(), None
    if resume and (folder / CHECKPOINT).exists():
        progress = load_checkpoint(folder / CHECKPOINT, request.settings, data)
    # What cannot be trained must not leave a folder behind, nor empty one.
    pose(data, request.settings)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(
        folder / RUN,
        {
            "data": request.source,
            "load_options": request.load_options,
            "preset": request.preset,
            "settings": request.settings.to_dict(),
        },
    )
    for leftover in folder.glob(".*.part"):
        # A process that was killed while writing could not take its unfinished file away.
        leftover.unlink(missing_ok=True)
    # Only now: on a full disk the request cannot be written, and an earlier run stays whole.
    if progress is None:
        for name in (CHECKPOINT, HISTORY, METRICS, MODEL, FIGURE, CONTROL):
            (folder / name).unlink(missing_ok=True)

    def after_epoch(progress: Progress) -> None:
        save_checkpoint(folder / CHECKPOINT, progress, request.settings, fingerprint)
        _write_history(folder / HISTORY, progress.history)
        if watch is not None:
            watch(progress)

    progress = train(data, request.settings, progress=progress, after_epoch=after_epoch)
    metrics = summarise(request, data, progress)
    stored = StoredModel(
        progress.result.state,
        request.settings,
        data.train,
        data.user_ids,
        data.item_ids,
        {key: metrics[key] for key in ("preset", "data", "protocol", "versions")},
    )
    save_model(folder / MODEL, stored)
    _write_history(folder / HISTORY, progress.history)
    _write_figure(folder / FIGURE, metrics, progress)
    _write_json(folder / METRICS, metrics)
    return metrics


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
    request, metrics = read_request(folder), read_json(folder / METRICS)
    data = request.load_data()
    done = load_checkpoint(folder / CHECKPOINT, request.settings, data)
    problem = pose(data, request.settings)
    control = train_control(done, problem, after_epoch=watch)
    found = {"validation": {}, "test": {}, "size_in_bytes": {}, "best_epoch": {}, "history": list(control.history)}
    with working_threads(problem.threads, request.settings.engine):
        for phase, best in control.finished.items():
            found["best_epoch"][phase] = best.epoch
            found["size_in_bytes"][phase] = size_in_bytes(best.state)
            for part in ("validation", "test"):
                result = evaluate_state(best.state, problem, part)
                found[part][phase] = None if result is None else result.metrics
    _write_json(folder / CONTROL, json.loads(json.dumps(found), parse_constant=lambda name: None))
    for name in ("size_in_bytes", "best_epoch"):
        metrics[name] |= found[name]
    for part in ("validation", "test"):
        if metrics[part] is not None:
            metrics[part] |= found[part]
    return metrics


def summarise(request: Request, data: Dataset, progress: Progress) -> dict:
    """Everything worth knowing about a finished run, as plain JSON."""
    problem = pose(data, request.settings)
    with working_threads(problem.threads, request.settings.engine):
        parts = {part: _evaluate_phases(progress, problem, part) for part in ("validation", "test")}
    phases = phase_names(request.settings)
    sizes = {phase: size_in_bytes(progress.finished[phase].state) for phase in phases}
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
    relevant = getattr(problem.data, part)
    if relevant is None or relevant.nnz == 0:
        return None
    popular = Popularity(engine=problem.settings.engine, threads=problem.settings.threads).fit(problem.data)
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


def _write_figure(path: Path, metrics: dict, progress: Progress) -> None:
    from .plotting import learning_curves

    test = metrics["test"] or metrics["validation"]
    if test is None:
        return
    table = {TITLES[name]: test[name] for name in SHOWN if name in test}
    figure = learning_curves(list(progress.history), table, title=f"{metrics['data']['name']}, protocol {metrics['protocol']}")
    figure.write(path)


def _write_history(path: Path, history) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    write_text_atomically(path, text.getvalue())


def _write_json(path: Path, value: dict) -> None:
    write_text_atomically(path, json.dumps(value, indent=2) + "\n")
