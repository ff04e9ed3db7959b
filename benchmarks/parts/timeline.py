"""Where the time of a training step goes: its functions, one after the other.

Steps are those of the part `steps`, in rounds of some steps each; a function counts without the others that it calls.
"""

from __future__ import annotations

import time

from ..timing import summary, watched
from ..workload import JOINT, STAGES
from .steps import our_step

WATCHED = {
    "propagation": ("kernels.propagation.propagate", "kernels.propagation.propagate_collapsed"),
    "its adjoint": ("kernels.propagation.propagate_backward", "kernels.propagation.propagate_collapsed_backward"),
    "composition": ("kernels.propagation.compose", "kernels.propagation.compose_above"),
    "its adjoint, gradient of the codebook": ("kernels.propagation.compose_backward", "kernels.propagation.tanh_backward"),
    "occurrences of the batch, sorted": ("kernels.step.sort_slots",),
    "BPR loss": ("kernels.step.bpr_loss",),
    "its gradient": ("kernels.step.bpr_backward",),
    "regulariser, and its gradient": ("kernels.step.squared_norm_penalty", "kernels.step.squared_norm_penalty_backward"),
    "clipping and Adam": ("model.step.adam_step",),
}
STEPS_A_ROUND = 20


def run(plan, workloads):
    """A record for every size and kind of step."""
    for workload in workloads:
        for stage in STAGES + JOINT:
            yield _timeline(plan, workload, stage)


def _timeline(plan, workload, stage: str) -> dict:
    batch, n_steps = workload.batch_size(stage), 2 if plan.quick else STEPS_A_ROUND
    step = our_step(workload, stage, batch, "numba")
    found: dict[str, list[float]] = {name: [] for name in [*WATCHED, "the rest", "a step"]}
    with plan.ours():
        step()
        for _ in range(1 if plan.quick else plan.rounds):
            with watched(WATCHED) as seconds:
                began = time.perf_counter()
                for _ in range(n_steps):
                    step()
                whole = time.perf_counter() - began
            seconds |= {"the rest": whole - sum(seconds.values()), "a step": whole}
            for name, value in seconds.items():
                found[name].append(value / n_steps)
    rows = {name: {"of a step": summary(values)} for name, values in found.items() if any(values)}
    case = f"where a {stage} step goes, batch {batch:,}"
    return {"kind": "start", "part": "timeline", "case": case, "size": workload.size.name, "seconds": rows}
