"""A training step of each stage, and of joint training: forward, loss, backward, clipping and Adam.

Every competitor is first held against ours: the losses of a batch and the clipped gradients. One that disagrees is not timed.
"""

from __future__ import annotations

import itertools

from c2f_np.model.step import BETA1

from ..records import TORCH_KINDS, relative_difference, timing_record
from ..timing import Competitor, interleave
from ..torch_model import tensors, torch_model
from ..workload import JOINT, STAGES

# Relative differences (Euclidean) beyond which two implementations do not compute the same thing. Rounding leaves some 1e-6
# and 1e-14; a forgotten term leaves 1e-2 or more.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


def run(plan, workloads):
    """Records of the steps of both stages at the batch sizes of both, and of joint training at its own, for every size."""
    for workload in workloads:
        batch_sizes = {stage: [workload.batch_size(stage)] for stage in STAGES + JOINT}
        batch_sizes["coarse"].append(workload.batch_size("fine"))
        for stage, sizes in batch_sizes.items():
            for batch_size in sizes:
                yield _steps(plan, workload, stage, batch_size)


def _steps(plan, workload, stage: str, batch_size: int) -> dict:
    verification = verify(plan, workload, stage, batch_size)
    competitors = [
        Competitor("ours", our_step(workload, stage, batch_size, "numba"), plan.ours),
        Competitor("ours_numpy", our_step(workload, stage, batch_size, "numpy"), lambda: plan.ours("numpy")),
    ]
    refused = {}
    for name, kind in TORCH_KINDS.items() if plan.torch else ():
        if verification[name]["agrees"]:
            competitors.append(Competitor(name, torch_step(plan.torch, workload, stage, batch_size, kind)))
        else:
            refused[name] = {"error": "disagrees with ours"}
    times = interleave(competitors, **plan.measuring) | refused
    return timing_record(
        "steps", f"{stage} step, batch {batch_size:,}", workload.size.name, times, TORCH_KINDS, verification=verification
    )


def our_step(workload, stage: str, batch_size: int, engine: str):
    """A call that makes a training step from the first state, on the next batch in turn."""
    step, state, moments = workload.step(stage, engine), workload.state(stage), workload.moments(stage)
    graph = workload.graph(stage, engine)
    batches = itertools.cycle(workload.batches(batch_size))
    return lambda: step(state, moments, graph, workload.triples(next(batches), engine))


def torch_step(torch, workload, stage: str, batch_size: int, kind: str):
    """The same with torch; its parameters move on, which changes nothing in the work."""
    model = torch_model(torch, stage, workload.state(stage), workload.problem().R, workload.settings(stage=stage), kind)
    batches = itertools.cycle([tensors(torch, batch) for batch in workload.batches(batch_size)])
    return lambda: model.step(next(batches))


def verify(plan, workload, stage: str, batch_size: int) -> dict[str, dict]:
    """Relative differences from ours (compiled) of losses and clipped gradients, in both precisions.

    Returns
    -------
    dict of str to dict
        For each competitor and dtype: "bpr", "regulariser", and what is trained but for the global bias, whose gradient is
        zero; and "agrees".
    """
    found: dict[str, dict] = {}
    for dtype, tolerance in TOLERANCE.items():
        with plan.ours():
            reference = _our_gradients(workload, stage, batch_size, "numba", dtype)
        with plan.ours("numpy"):
            others = {"ours_numpy": _our_gradients(workload, stage, batch_size, "numpy", dtype)}
        for name, kind in TORCH_KINDS.items() if plan.torch else ():
            others[name] = _torch_gradients(plan.torch, workload, stage, batch_size, kind, dtype)
        for name, values in others.items():
            differences = {key: relative_difference(values[key], reference[key]) for key in reference}
            entry = found.setdefault(name, {"agrees": True})
            entry[dtype] = differences
            entry["agrees"] = entry["agrees"] and max(differences.values()) < tolerance
    return found


def _our_gradients(workload, stage: str, batch_size: int, engine: str, dtype: str) -> dict:
    """Losses, and the clipped gradients as the first moments after a first step hold them, m = (1 - beta1) g."""
    state, graph = workload.state(stage, dtype), workload.graph(stage, engine, dtype)
    triples = workload.triples(workload.batches(batch_size)[0], engine)
    step = workload.step(stage, engine, dtype)
    _, moments, _, losses = step(state, workload.moments(stage, dtype), graph, triples)
    gradients = {name: mean / (1 - BETA1) for name, mean in moments.mean.items() if name != "bias_global"}
    return {"bpr": losses[0], "regulariser": losses[1]} | gradients


def _torch_gradients(torch, workload, stage: str, batch_size: int, kind: str, dtype: str) -> dict:
    settings = workload.settings(dtype=dtype, stage=stage)
    model = torch_model(torch, stage, workload.state(stage, dtype), workload.problem().R, settings, kind)
    bpr, regulariser = model.backward(tensors(torch, workload.batches(batch_size)[0]))
    gradients = {name: values.grad.numpy() for name, values in model.parameters.items() if name != "bias_global"}
    return {"bpr": bpr.item(), "regulariser": regulariser.item()} | gradients
