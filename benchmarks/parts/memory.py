"""Peak memory of training steps, each competitor in a fresh process.

Two traps. The peak that ``getrusage`` gives survives ``exec``: a child of a large process starts with its parent's. Where
Linux tells it, the high-water mark of the process's own memory is read instead. And preparing a problem may take more
than working on it: the mark is reset before the steps, where the system lets us.
"""

from __future__ import annotations

import gc

from c2f_np.machine import forget_peak_memory, peak_memory, resident_memory

from .. import child
from ..records import TORCH_KINDS
from ..workload import JOINT, STAGES

N_STEPS = 3


def run(plan, workloads):
    """A record for every size and stage, and for both kinds of joint training."""
    names = ["ours", "ours_numpy", *(TORCH_KINDS if plan.torch else ())]
    if plan.quick:
        names = [name for name in names if name in ("ours", "torch_csr")]
    for workload in workloads:
        for stage in STAGES + JOINT:
            extra = [plan.data] if plan.data else []
            size = plan.like if plan.data else workload.size.name
            found = {name: child.run("memory", name, stage, size, str(plan.threads), *extra) for name in names}
            yield {
                "kind": "memory",
                "part": "memory",
                "case": f"{stage} step, batch {workload.batch_size(stage):,}",
                "size": workload.size.name,
                "bytes": found | ({} if plan.torch else dict.fromkeys(TORCH_KINDS, {"error": "not installed"})),
            }


def measure(competitor: str, stage: str, size: str, threads: int, data: str | None) -> dict:
    """Called in the child: make some steps and read the marks.

    Returns
    -------
    dict of str to int or None
        "loaded": resident once the data is there and what it was made with. "before": resident after a first step, before
        those that count. "peak_steps": most during these, None where the mark cannot be reset. "peak": most since the
        process began.
    """
    from ..plan import Plan, import_torch
    from ..workload import workload_of
    from .steps import our_step, torch_step

    torch = import_torch(threads) if competitor in TORCH_KINDS else None
    plan = Plan(threads=threads, rounds=1, seconds=1, torch=torch, data=data)
    workload = workload_of(size, plan)
    gc.collect()
    loaded = resident_memory()
    batch_size = workload.batch_size(stage)
    if torch is not None:
        step = torch_step(torch, workload, stage, batch_size, TORCH_KINDS[competitor])
        # Torch needs neither our graph nor our problem any more.
        del workload
        context = plan.plain
    else:
        engine = "numpy" if competitor == "ours_numpy" else "numba"
        step = our_step(workload, stage, batch_size, engine)

        def context():
            return plan.ours(engine)

    with context():
        step()
        gc.collect()
        before, earlier_peak = resident_memory(), peak_memory()
        is_reset = forget_peak_memory()
        for _ in range(N_STEPS):
            step()
    peak_steps, peak = peak_memory() if is_reset else None, max(earlier_peak or 0, peak_memory() or 0) or None
    return {"loaded": loaded, "before": before, "peak_steps": peak_steps, "peak": peak}
