"""Carrying out a job: train, evaluate, weigh. Runs in a process of its own, prints nothing, and never raises over a failed job.

Shapes: see `c2f_np.stages`.
"""

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
from ..model.state import ModelState
from ..model_file import size_in_bytes
from ..recommender import versions
from ..settings import Settings
from ..training.loop import train, train_control
from ..training.problem import Problem, pose, stage_of
from ..training.progress import Progress
from .jobs import COARSE, Job, has_parameter
from .memory import forget_peak, peak_in_bytes
from .outcome import Outcome, measured, part_of_report
from .study import C2F, WITHIN
from .surgery import ANALYSES


def carry_out(job: Job, data: Dataset, settings: dict, threads: int) -> tuple[dict, list[Outcome]]:
    """Do a job.

    Parameters
    ----------
    job : Job
    data : Dataset
    settings : dict
        Those of the job, with the bytes it was given.
    threads : int
        0 leaves the choice to the method. BLAS works on one thread in any case, so that results do not depend on it.

    Returns
    -------
    row : dict
        Plain JSON: "status" ("done" or "failed"), "error", "seconds", "peak_memory", "versions", "settings".
    outcomes : list of Outcome
        Empty if it failed.
    """
    forget_peak()
    started = time.perf_counter()
    row = {"status": "done", "error": None, "settings": settings, "versions": versions()}
    outcomes: list[Outcome] = []
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            method = c2f_outcomes if job.run.method == C2F else baseline_outcomes
            outcomes = method(job, data, settings, threads)
    except Exception as error:  # whatever it is, the other jobs go on and the report names it
        row["status"] = "failed"
        row["error"] = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    return row | {"seconds": time.perf_counter() - started, "peak_memory": peak_in_bytes()}, outcomes


def c2f_outcomes(job: Job, data: Dataset, settings: dict, threads: int) -> list[Outcome]:
    """Train the model of this package; every finished phase, the last one as the run's result, then the analyses."""
    settings = Settings(**(settings | {"threads": threads}))
    problem, name = pose(data, settings), job.run.name
    started, stood_at = time.perf_counter(), {}

    def after_epoch(progress: Progress) -> None:
        for phase in progress.finished:
            stood_at.setdefault(phase, (time.perf_counter() - started, len(progress.history)))

    progress = train(data, settings, after_epoch=after_epoch)
    outcomes, last = [], list(progress.finished)[-1]
    for phase, best in progress.finished.items():
        seconds, epochs = stood_at[phase]
        label = name if phase == last else name + WITHIN + phase
        outcome = _outcome_of(label, "" if phase == last else phase, best.state, None, problem, seconds)
        note = f"started from the {progress.started_from}" if phase == "joint" and progress.started_from else ""
        outcomes.append(dataclasses.replace(outcome, epochs=epochs, best_epoch=best.epoch, note=note))
    for analysis in job.run.after:
        outcomes.append(_analysis(analysis, name + WITHIN + analysis, progress, last, problem))
    return outcomes


def _analysis(analysis: str, label: str, progress: Progress, last: str, problem: Problem) -> Outcome:
    started, state = time.perf_counter(), progress.finished[last].state
    does_not_apply = Outcome(label, analysis, "other", {}, {}, 0.0, note="does not apply")
    if not state.is_fine:
        return does_not_apply
    if analysis == "no-fine-edges" and problem.settings.training == "joint":
        return dataclasses.replace(does_not_apply, note="does not apply: fine rows are no nodes of the graph")
    if analysis != "control":
        # A stream of its own for each analysis, whatever others there are.
        rng = np.random.default_rng([problem.settings.seed, zlib.crc32(analysis.encode())])
        changed, graph = ANALYSES[analysis](state, problem, rng)
        return _outcome_of(label, analysis, changed, graph, problem, time.perf_counter() - started)
    if "coarse" not in progress.finished:
        return does_not_apply
    try:
        done = train_control(progress, problem)
    except SettingsError as error:
        return dataclasses.replace(does_not_apply, note=f"does not apply: {error}")
    seconds, best = time.perf_counter() - started, list(done.finished.values())[-1]
    outcome = _outcome_of(label, analysis, best.state, None, problem, seconds)
    return dataclasses.replace(outcome, epochs=len(done.history), best_epoch=best.epoch)


def _outcome_of(label: str, part: str, state: ModelState, graph, problem: Problem, seconds: float) -> Outcome:
    """Evaluate and weigh a state."""
    main = part_of_report(problem.data)
    stage = stage_of(state, problem.settings)
    H = stage.forward(state, stage.graph(state, problem.A) if graph is None else graph).H_entities
    results = {name: _evaluation(H, state, problem, name, per_user=name == main) for name in ("validation", "test")}
    kind = "fine" if state.is_fine else "coarse"  # a joint model without a fine codebook is a coarse one
    return Outcome(label, part, kind, size=size_of_state(state), seconds=seconds, **measured(results, main))


def _evaluation(H: np.ndarray, state: ModelState, problem: Problem, part: str, *, per_user: bool) -> EvaluationResult | None:
    """As :func:`c2f_np.training.problem.evaluate_state`, with the numbers of every user."""
    relevant, n_users = getattr(problem.data, part), problem.n_users
    if relevant is None or relevant.nnz == 0:
        return None
    return evaluate_embeddings(
        H[:n_users],
        H[n_users:],
        state.bias[n_users:],
        relevant,
        problem.data.masked_when_ranking(part),
        engine=problem.settings.engine,
        n_threads=problem.settings.threads or None,
        per_user=per_user,
        protocol=problem.data.protocol,
    )


def size_of_state(state: ModelState) -> dict[str, int]:
    """Bytes part by part, as :func:`c2f_np.model_file.size_in_bytes`, and the number of floats."""
    parts = [getattr(state, item.name) for item in dataclasses.fields(state)]
    floats = sum(part.nnz if sparse.issparse(part) else part.size for part in parts if part is not None)
    return size_in_bytes(state) | {"floats": int(floats)}


def baseline_outcomes(job: Job, data: Dataset, settings: dict, threads: int) -> list[Outcome]:
    """Fit a baseline; one outcome."""
    from ..baselines import make_baseline

    method, main = job.run.method, part_of_report(data)
    parameters = with_rows_for_bytes(settings, data) if method == COARSE else settings
    if has_parameter(method, "threads"):
        parameters = parameters | {"threads": threads}
    model = make_baseline(method, **parameters)
    model.fit(data)
    results = {}
    for part in ("validation", "test"):
        relevant = getattr(data, part)
        if relevant is not None and relevant.nnz:
            results[part] = model.evaluate(data, part, per_user=part == main)
    kind = method if method in ("popularity", COARSE) else "other"
    size = {name: int(value) for name, value in model.size_in_bytes().items()}
    epochs = len(model.history_) or None
    best = None if model.best_epoch_ is None else int(model.best_epoch_)
    size["floats"] = floats_of(model)
    return [
        Outcome(job.run.name, "", kind, size=size, seconds=float(model.seconds_), epochs=epochs, best_epoch=best,
                **measured(results, main))
    ]  # fmt: skip


def floats_of(model) -> int | None:
    """The number of floats that a fitted baseline stores; None if it does not say."""
    if hasattr(model, "state_"):
        return size_of_state(model.state_)["floats"]
    if hasattr(model, "parameters_"):
        return int(sum(np.size(values) for values in model.parameters_.values()))
    if hasattr(model, "weights_"):
        return int(np.size(model.weights_))
    return None


def with_rows_for_bytes(parameters: dict, data: Dataset) -> dict:
    """Parameters of the coarse stage with `bytes` turned into the largest n_coarse that they hold.

    A coarse row is d floats; every entity adds t weights, t indices in the smallest unsigned type, and a
    bias; and there is one global bias. The type depends on the number of rows, so one and two bytes are tried.

    Raises
    ------
    SettingsError
        If there is no room for t rows.
    """
    if "bytes" not in parameters or has_parameter(COARSE, "bytes"):
        return parameters
    own = {name: parameters.get(name, getattr(Settings(), name)) for name in ("dim", "t_coarse")}
    n_entities, n_coarse = data.n_users + data.n_items, 0
    for index, most in ((1, 2**8), (2, 2**16)):
        besides = n_entities * (own["t_coarse"] * (4 + index) + 4) + 4
        n_coarse = max(n_coarse, min(most, (parameters["bytes"] - besides) // (4 * own["dim"])))
    if n_coarse < own["t_coarse"]:
        raise SettingsError(f"bytes = {parameters['bytes']} have no room for {own['t_coarse']} coarse rows")
    return {name: value for name, value in parameters.items() if name != "bytes"} | {"n_coarse": int(n_coarse)}
