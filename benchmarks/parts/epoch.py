"""An epoch, ours alone: sampling, shuffling, every step, no evaluation; the two stages with and without an assignment update."""

from __future__ import annotations

import time

import numpy as np

from c2f_np.model.sampling import sample_triples

from ..records import timing_record
from ..timing import summary
from ..workload import JOINT, STAGES

# Of an epoch of more than MANY steps a FEW are made and scaled, unless all are asked for.
MANY_STEPS, FEW_STEPS = 60, 12


def run(plan, workloads):
    """Records of both stages and of joint training, for every size."""
    for workload in workloads:
        for stage in STAGES:
            for updates in (False, True):
                yield _epoch(plan, workload, stage, updates)
        for stage in JOINT:
            yield _epoch(plan, workload, stage, False)


def _epoch(plan, workload, stage: str, updates: bool) -> dict:
    with plan.ours():
        _, _, n_steps = _run_epoch(workload, stage, updates, most_steps=2)
        most_steps = FEW_STEPS if n_steps > MANY_STEPS and not plan.long else None
        rounds = 2 if plan.quick else max(3, plan.rounds // 2)
        began, runs = time.perf_counter(), []
        while len(runs) < rounds and (len(runs) < 2 or time.perf_counter() - began < plan.seconds):
            runs.append(_run_epoch(workload, stage, updates, most_steps))
    times = {"ours": summary([seconds for seconds, _, _ in runs])}
    if most_steps is not None:
        times["ours"]["note"] = f"scaled from {most_steps} of {n_steps} steps; sampling and update measured as a whole"
    case = f"{stage} epoch, {n_steps} steps" + (", with an assignment update" if updates else "")
    return timing_record("epoch", case, workload.size.name, times)


def _run_epoch(workload, stage: str, updates: bool, most_steps: int | None) -> tuple[float, int, int]:
    """Seconds of an epoch, steps made, and steps of a whole epoch."""
    problem, step = workload.problem(stage=stage), workload.step(stage)
    state, moments, graph = workload.state(stage), workload.moments(stage), workload.graph(stage)
    settings, batch_size = problem.settings, workload.batch_size(stage)
    shift = workload.data.n_users
    started = time.perf_counter()
    columns = sample_triples(problem.R, problem.R.nnz, settings.neg_size, 0, engine=problem.engine)
    order = np.random.default_rng(0).permutation(len(columns[0]))
    starts = range(0, len(order), batch_size)
    ends = []
    for start in starts[:most_steps]:
        chosen = order[start : start + batch_size]
        users, positives, negatives = (column[chosen].astype(np.int64) for column in columns)
        triples = workload.triples((users, positives + shift, negatives + shift))
        update = {"update_assignment": True} if updates and start == 0 else {}
        state, moments, graph, _ = step(state, moments, graph, triples, **update)
        ends.append(time.perf_counter())
    # The first step may carry the update, and the second what the new graph postponed; all others are alike.
    first = min(2, len(ends))
    scale = (len(starts) - first) / max(len(ends) - first, 1)
    return ends[first - 1] - started + (ends[-1] - ends[first - 1]) * scale, len(ends), len(starts)
