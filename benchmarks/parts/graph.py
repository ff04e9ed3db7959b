"""Rebuilding the graph after an assignment update; and that together with the first step on the new graph.

The second is there because a graph may postpone work to its first use: only the sum is what an update costs.
"""

from __future__ import annotations

import numpy as np

from c2f_np.training.loop import training_graph

from ..records import timing_record
from ..timing import Competitor, interleave
from ..torch_model import expanded_graph, sparse_tensor
from ..workload import STAGES


def run(plan, workloads):
    """Records of both stages, for every size."""
    for workload in workloads:
        for stage in STAGES:
            yield _rebuild(plan, workload, stage)
            yield _rebuild_and_step(plan, workload, stage)


def _rebuild(plan, workload, stage: str) -> dict:
    state, problem, phase = workload.state(stage), workload.problem(), workload.phase(stage)

    def plain():
        return expanded_graph(problem.R, state.S_coarse, state.S_fine).astype(np.float32)

    competitors = [
        Competitor("ours", lambda: training_graph(phase.stage, state, problem), plan.ours),
        Competitor("scipy", plain, plan.plain, note="X_hat alone, from the interactions, no transposes"),
    ]
    for name, layout in {"torch_csr": "csr", "torch_coo": "coo"}.items() if plan.torch else ():
        competitors.append(
            Competitor(
                name,
                lambda layout=layout: sparse_tensor(plan.torch, plain(), layout, plan.torch.float32),
                note="assembled with NumPy/SciPy, then made a tensor",
            )
        )
    times = interleave(competitors, **plan.measuring)
    return timing_record("graph", f"{stage} graph rebuilt", workload.size.name, times, ("torch_csr", "torch_coo"))


def _rebuild_and_step(plan, workload, stage: str) -> dict:
    state, moments, problem = workload.state(stage), workload.moments(stage), workload.problem()
    batch_size = workload.batch_size(stage)
    batch, step, phase = workload.batches(batch_size)[0], workload.step(stage), workload.phase(stage)

    def first_step():
        return step(state, moments, training_graph(phase.stage, state, problem), workload.triples(batch))

    times = interleave([Competitor("ours", first_step, plan.ours)], **plan.measuring)
    case = f"{stage} graph rebuilt, and the first step on it, batch {batch_size:,}"
    return timing_record("graph", case, workload.size.name, times)
