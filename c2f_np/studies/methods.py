"""Carrying out a job: train, evaluate, weigh. It runs in a process of its own, prints nothing and never raises if a job fails."""

from __future__ import annotations

import dataclasses
import time
import traceback
import zlib

import numpy as np
import scipy.sparse as sparse
from threadpoolctl import threadpool_limits

from ..data import Dataset
from ..errors import SettingsError
from ..evaluation import EvaluationResult, evaluate_embeddings
from ..machine import forget_peak_memory, peak_memory, processor, versions
from ..model.step import ModelState
from ..model_file import size_in_bytes
from ..settings import Settings
from ..training import train, train_control
from ..training.loop import Progress
from ..training.problem import Problem, pose, stage_of
from .jobs import COARSE, Job
from .store import Measurement, part_of_report
from .study import C2F, WITHIN
from .surgery import ANALYSES


def carry_out(job: Job, data: Dataset, settings: dict, threads: int) -> tuple[dict, list[Measurement]]:
    """Do a job; its row in plain JSON, and what was measured (nothing if it failed).

    `settings` are the job's, with the bytes it was given. `threads` = 0 leaves the choice to the method; BLAS has one thread in
    any case, so that results do not depend on their number.
    """
    forget_peak_memory()
    started = time.perf_counter()
    row = {"status": "done", "error": None, "settings": settings, "versions": versions()}
    measured: list[Measurement] = []
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            method = measure_c2f if job.run.method == C2F else measure_baseline
            measured = method(job, data, settings, threads)
    except Exception as error:  # whatever it is, the other jobs go on and the report names it
        row["status"] = "failed"
        row["error"] = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    return row | {"seconds": time.perf_counter() - started, "peak_memory": peak_memory(), "processor": processor()}, measured


def measure_c2f(job: Job, data: Dataset, settings: dict, threads: int) -> list[Measurement]:
    """Train the model of this package; every finished phase, the last one as the run's result, then the analyses."""
    settings = Settings(**(settings | {"threads": threads}))
    problem, name = pose(data, settings), job.run.name
    started, stood_at = time.perf_counter(), {}

    def after_epoch(progress: Progress) -> None:
        for phase in progress.finished:
            stood_at.setdefault(phase, (time.perf_counter() - started, len(progress.history)))

    progress = train(data, settings, after_epoch=after_epoch)
    measured, last = [], list(progress.finished)[-1]
    for phase, best in progress.finished.items():
        seconds, epochs = stood_at[phase]
        part = "" if phase == last else phase
        result = _measure_state(name, part, best.state, None, problem, seconds)
        note = f"started from the {progress.started_from}" if phase == "joint" and progress.started_from else ""
        measured.append(dataclasses.replace(result, epochs=epochs, best_epoch=best.epoch, note=note))
    return measured + [_analyse(analysis, name, progress, last, problem) for analysis in job.run.after]


def _analyse(analysis: str, run: str, progress: Progress, last: str, problem: Problem) -> Measurement:
    started, state = time.perf_counter(), progress.finished[last].state
    does_not_apply = Measurement(run + WITHIN + analysis, analysis, "other", {}, {}, 0.0, note="does not apply")
    if not state.is_fine or (analysis == "control" and "coarse" not in progress.finished):
        return does_not_apply
    if analysis == "no-fine-edges" and problem.settings.training == "joint":
        return dataclasses.replace(does_not_apply, note="does not apply: fine rows are no nodes of the graph")
    if analysis != "control":
        # A stream of its own for each analysis, whatever others there are.
        rng = np.random.default_rng([problem.settings.seed, zlib.crc32(analysis.encode())])
        changed, graph = ANALYSES[analysis](state, problem, rng)
        return _measure_state(run, analysis, changed, graph, problem, time.perf_counter() - started)
    try:
        control = train_control(progress, problem)
    except SettingsError as error:
        return dataclasses.replace(does_not_apply, note=f"does not apply: {error}")
    seconds, best = time.perf_counter() - started, list(control.finished.values())[-1]
    result = _measure_state(run, analysis, best.state, None, problem, seconds)
    return dataclasses.replace(result, epochs=len(control.history), best_epoch=best.epoch)


def _measure_state(run: str, part: str, state: ModelState, graph, problem: Problem, seconds: float) -> Measurement:
    """Evaluate and weigh a state."""
    data, n_users = problem.data, problem.n_users
    stage = stage_of(state, problem.settings)
    H = stage.forward(state, stage.graph(state, problem.A) if graph is None else graph).H_entities

    def evaluate(part: str, per_user: bool) -> EvaluationResult:
        return evaluate_embeddings(
            H[:n_users],
            H[n_users:],
            state.bias[n_users:],
            getattr(data, part),
            data.masked_when_ranking(part),
            engine=problem.settings.engine,
            n_threads=problem.settings.threads or None,
            per_user=per_user,
            protocol=data.protocol,
        )

    kind = "fine" if state.is_fine else "coarse"  # a joint model without a fine codebook is a coarse one
    label, size = run + WITHIN + part if part else run, size_of_state(state, problem.settings.threshold)
    return Measurement(label, part, kind, size=size, seconds=seconds, **_evaluated(data, evaluate))


def _evaluated(data: Dataset, evaluate) -> dict:
    """The fields of a measurement that come from evaluations; of the report's part of the data, also the users' numbers."""
    main, metrics, of_users = part_of_report(data), {}, {}
    for part in ("validation", "test"):
        relevant = getattr(data, part)
        if relevant is None or not relevant.nnz:
            continue
        result = evaluate(part, part == main)
        metrics[part] = result.metrics
        if part == main:
            per_user = {name: np.asarray(values, dtype=np.float32) for name, values in result.per_user.items()}
            of_users = {"per_user": per_user, "users": np.asarray(result.users, dtype=np.int64)}
    return {"metrics": metrics} | of_users


def size_of_state(state: ModelState, threshold: float = 0.0) -> dict[str, int]:
    """Bytes part by part, as :func:`c2f_np.model_file.size_in_bytes`, and the number of floats."""
    parts = [getattr(state, item.name) for item in dataclasses.fields(state)]
    floats = sum(part.nnz if sparse.issparse(part) else part.size for part in parts if part is not None)
    return size_in_bytes(state, threshold) | {"floats": int(floats)}


def measure_baseline(job: Job, data: Dataset, settings: dict, threads: int) -> list[Measurement]:
    """Fit and evaluate a baseline."""
    from ..baselines import make_baseline

    method = job.run.method
    parameters = with_rows_for_bytes(settings, data) if method == COARSE else settings
    parameters = {"random_state" if name == "seed" else name: value for name, value in parameters.items()}
    model = make_baseline(method, **parameters, n_jobs=threads or None)
    model.fit(data)
    return [
        Measurement(
            job.run.name,
            part="",
            kind=method if method in ("popularity", COARSE) else "other",
            size={name: int(value) for name, value in model.size_in_bytes().items()} | {"floats": floats_of(model)},
            seconds=float(model.seconds_),
            epochs=len(model.history_) or None,
            best_epoch=None if model.best_epoch_ is None else int(model.best_epoch_),
            **_evaluated(data, lambda part, per_user: model.evaluate(data, part, per_user=per_user)),
        )
    ]


def floats_of(model) -> int | None:
    """The number of floats that a fitted baseline stores; None if it does not say."""
    if hasattr(model, "state_"):
        return size_of_state(model.state_)["floats"]
    if hasattr(model, "parameters_"):
        return int(sum(np.size(values) for values in model.parameters_.values()))
    return int(np.size(model.weights_)) if hasattr(model, "weights_") else None


def with_rows_for_bytes(parameters: dict, data: Dataset) -> dict:
    """Parameters of the coarse stage with `bytes` turned into the largest n_coarse that fits.

    A coarse row is d floats; every entity adds t weights, t indices in the smallest unsigned type, and a bias; and there is one
    global bias. The type of the indices depends on the number of rows, so one and two bytes are tried.
    """
    if "bytes" not in parameters:
        return parameters
    own = {name: parameters.get(name, getattr(Settings(), name)) for name in ("dim", "t_coarse")}
    n_entities, n_coarse = data.n_users + data.n_items, 0
    for index, most in ((1, 2**8), (2, 2**16)):
        besides = n_entities * (own["t_coarse"] * (4 + index) + 4) + 4
        n_coarse = max(n_coarse, min(most, (parameters["bytes"] - besides) // (4 * own["dim"])))
    if n_coarse < own["t_coarse"]:
        raise SettingsError(f"bytes = {parameters['bytes']} are too few for {own['t_coarse']} coarse rows")
    return {name: value for name, value in parameters.items() if name != "bytes"} | {"n_coarse": int(n_coarse)}
