"""Carrying out a job: train, evaluate, weigh. It runs in a process of its own, prints nothing and never raises if a job fails."""

from __future__ import annotations

import dataclasses
import time
import traceback
import zlib
from bisect import bisect_right

import numpy as np
import scipy.sparse as sparse
from threadpoolctl import threadpool_limits

from ..data import Dataset
from ..errors import SettingsError
from ..evaluation import EvaluationResult
from ..machine import forget_peak_memory, peak_memory, processor, versions
from ..model.step import ModelState
from ..model_file import StoredModel, most_bytes, size_in_bytes
from ..schema import LIMITS
from ..serving.compact import INT8
from ..settings import Settings
from ..training import train, train_control
from ..training.loop import Progress
from ..training.problem import Problem, evaluate_entities, pose, stage_of
from .jobs import COARSE, Job
from .store import Measurement
from .study import C2F, WITHIN
from .surgery import ANALYSES


def carry_out(job: Job, data: Dataset, threads: int) -> tuple[dict, list[Measurement]]:
    """Do a job, whose settings must be in full; its row in plain JSON, and what was measured (nothing if it failed).

    `threads` = 0 leaves the choice to the method; BLAS has one thread in
    any case, so that results do not depend on their number.
    """
    forget_peak_memory()
    started = time.perf_counter()
    row = {"status": "done", "error": None, "settings": job.settings, "versions": versions()}
    measured: list[Measurement] = []
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            method = measure_c2f if job.run.method == C2F else measure_baseline
            measured = method(job, data, threads)
    except Exception as error:  # whatever it is, the other jobs go on and the report names it
        row["status"] = "failed"
        row["error"] = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    return row | {"seconds": time.perf_counter() - started, "peak_memory": peak_memory(), "processor": processor()}, measured


def measure_c2f(job: Job, data: Dataset, threads: int) -> list[Measurement]:
    """Train the model of this package; every finished phase, the last one as the run's result, then the analyses."""
    s, own, name = Settings(**(_own_settings(job.settings) | {"threads": threads})), [], job.run.name
    stored_as = job.settings.get("stored_as", "dtype")
    if "bytes" in job.settings:
        s = with_rows_for_bytes(s, "joint" if s.training == "joint" else "fine", job.settings["bytes"], data, stored_as)
        own = [f"{s.n_coarse} coarse and {s.n_fine} fine rows" if s.has_fine_codebook else f"{s.n_coarse} coarse rows"]
    problem = pose(data, s)
    started, stood_at = time.perf_counter(), {}

    def after_epoch(progress: Progress) -> None:
        for phase in progress.finished:
            stood_at.setdefault(phase, (time.perf_counter() - started, len(progress.history)))

    progress = train(data, s, after_epoch=after_epoch)
    measured, last = [], list(progress.finished)[-1]
    for phase, best in progress.finished.items():
        seconds, epochs = stood_at[phase]
        part = "" if phase == last else phase
        result = _measure_state(name, part, best.state, None, problem, seconds, stored_as if phase == last else "dtype")
        start = [f"started from the {progress.started_from}"] if phase == "joint" and progress.started_from else []
        measured.append(dataclasses.replace(result, epochs=epochs, best_epoch=best.epoch, note="; ".join(own + start)))
    return measured + [_analyse(analysis, name, progress, last, problem, stored_as) for analysis in job.run.after]


def _analyse(analysis: str, run: str, progress: Progress, last: str, problem: Problem, stored_as: str) -> Measurement:
    started, state = time.perf_counter(), progress.finished[last].state
    if analysis == INT8:
        return _measure_state(run, INT8, state, None, problem, 0.0, INT8)
    does_not_apply = Measurement(run + WITHIN + analysis, analysis, "other", {}, {}, 0.0, note="does not apply")
    if not state.is_fine or (analysis == "control" and "coarse" not in progress.finished):
        return does_not_apply
    if analysis == "no-fine-edges" and problem.settings.training == "joint":
        return dataclasses.replace(does_not_apply, note="does not apply: fine rows are no nodes of the graph")
    if analysis == "no-fine-edges" and stored_as == INT8:
        return dataclasses.replace(does_not_apply, note="does not apply: an exported model has the graph of its own state")
    if analysis != "control":
        # A stream of its own for each analysis, whatever others there are.
        rng = np.random.default_rng([problem.settings.seed, zlib.crc32(analysis.encode())])
        changed, graph = ANALYSES[analysis](state, problem, rng)
        return _measure_state(run, analysis, changed, graph, problem, time.perf_counter() - started, stored_as)
    try:
        control = train_control(progress, problem)
    except SettingsError as error:
        return dataclasses.replace(does_not_apply, note=f"does not apply: {error}")
    seconds, best = time.perf_counter() - started, list(control.finished.values())[-1]
    result = _measure_state(run, analysis, best.state, None, problem, seconds, stored_as)
    return dataclasses.replace(result, epochs=len(control.history), best_epoch=best.epoch)


def _measure_state(
    run: str, part: str, state: ModelState, graph, problem: Problem, seconds: float, stored_as: str = "dtype"
) -> Measurement:
    """Evaluate and weigh a state, as it is or as the exported model that has a byte for every number of codebooks and links."""
    data, n_users = problem.data, problem.n_users
    if stored_as == INT8:
        H, item_bias, size = _exported(state, problem)
    else:
        stage = stage_of(state, problem.settings)
        H = stage.forward(state, stage.graph(state, problem.A) if graph is None else graph).H_entities
        item_bias, size = state.bias[n_users:], size_of_state(state, problem.settings.threshold)

    def evaluate(part: str, per_user: bool) -> EvaluationResult | None:
        workers = {"engine": problem.settings.engine, "n_threads": problem.settings.threads or None}
        return evaluate_entities(H, item_bias, data, part, per_user=per_user, **workers)

    kind = "fine" if state.is_fine else "coarse"  # a joint model without a fine codebook is a coarse one
    label = run + WITHIN + part if part else run
    return Measurement(label, part, kind, size=size, seconds=seconds, **_evaluated(data, evaluate))


def _exported(state: ModelState, problem: Problem) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Embeddings of entities, item biases and bytes of a state that is exported with int8."""
    from ..serving.exporting import reduce_model
    from ..serving.served import Served

    stored = StoredModel(state, problem.settings, problem.R, problem.data.user_ids, problem.data.item_ids, {})
    served = Served(reduce_model(stored, codebook=INT8, weights=INT8, with_ids=False))
    parts = ("codebooks", "assignment weights", "assignment indices", "item biases", "model")
    return served.embeddings(), served.item_bias, {part: served.size_in_bytes()[part] for part in parts}


def _evaluated(data: Dataset, evaluate) -> dict:
    """The fields of a measurement that come from evaluations; of the report's part of the data, also the users' numbers."""
    main, metrics, of_users = data.judged_by(), {}, {}
    for part in ("validation", "test"):
        if data.held_out(part) is None:
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


def measure_baseline(job: Job, data: Dataset, threads: int) -> list[Measurement]:
    """Fit and evaluate a baseline."""
    from ..baselines import Coarse, make_baseline

    method = job.run.method
    parameters = {"random_state" if name == "seed" else name: value for name, value in job.settings.items()}
    if method == COARSE and "bytes" in parameters:  # it has no such parameter of its own
        budget, parameters = parameters["bytes"], _own_settings(parameters)
        resolved = with_rows_for_bytes(Coarse(**parameters).resolved_settings(), "coarse", budget, data)
        parameters["n_coarse"] = resolved.n_coarse
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
        return int(sum(values.size for values in model.parameters_.values() if values.dtype.kind in "fi"))
    return int(np.size(model.weights_)) if hasattr(model, "weights_") else None


def _own_settings(settings: dict) -> dict:
    """Without those of the study: what the model may weigh, and how it is stored."""
    return {name: value for name, value in settings.items() if name not in ("bytes", "stored_as")}


def with_rows_for_bytes(settings: Settings, phase: str, budget: int, data: Dataset, stored_as: str = "dtype") -> Settings:
    """The settings with as many rows in the codebooks as fit, in the proportion that they have; n_coarse is the largest possible.

    Everything else takes the bytes that it takes. A codebook has at least the rows that its links need, and the coarse one at
    most as many as there are entities.
    """
    n_entities, share = data.n_users + data.n_items, settings.n_fine / settings.n_coarse
    least = max(settings.t_direct, settings.t_fine if settings.has_bridge else 1)

    def of(n_coarse: int) -> Settings:
        return dataclasses.replace(settings, n_coarse=n_coarse, n_fine=max(round(share * n_coarse), least))

    most = min(n_entities, LIMITS["n_coarse"], int(LIMITS["n_fine"] / share))
    candidates = range(settings.t_coarse, most + 1)

    def weighs(n_coarse: int) -> int:
        return most_bytes(of(n_coarse), phase, data.n_users, data.n_items, stored_as)

    n_fit = bisect_right(candidates, budget, key=weighs)
    if n_fit == 0:
        needed = weighs(settings.t_coarse)
        raise SettingsError(f"bytes = {budget} are too few for {settings.t_coarse} coarse rows, which take {needed}")
    return of(candidates[n_fit - 1])
