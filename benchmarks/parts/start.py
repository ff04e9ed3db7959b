"""Cold and warm start, in fresh processes: imports, and the first step with and without compiled code in the cache."""

from __future__ import annotations

import tempfile

from .. import child
from ..timing import summary
from ..workload import JOINT, STAGES

# c2f_np imports its parts when they are first used; the training loop is what a training run has to wait for.
MODULES = {
    "interpreter alone": "nothing",
    "import numpy": "numpy",
    "import c2f_np": "c2f_np",
    "import c2f_np.training.loop": "c2f_np.training.loop",
    "import numba": "numba",
}


def run(plan, workloads):
    """Records of the imports and of the first steps; the latter at the smallest size, as compilation does not depend on it."""
    yield _imports(plan)
    smallest = min(workloads, key=lambda workload: workload.size.n_train).size.name
    size = plan.like if plan.data else smallest
    for stage in STAGES[:1] if plan.quick else STAGES + JOINT[:1]:
        yield _first_steps(plan, stage, size)


def _imports(plan) -> dict:
    modules = MODULES | ({"import torch": "torch"} if plan.torch else {})
    runs = {label: [] for label in modules}
    for module in () if plan.quick else modules.values():
        child.run("import", module)  # byte code and the file cache
    for _ in range(1 if plan.quick else max(5, plan.rounds)):
        for label, module in modules.items():
            runs[label].append(child.run("import", module))
    cases = {
        label: {part: summary([run[part] for run in found]) for part in ("import", "process")}
        for label, found in runs.items()
    }
    return {"kind": "start", "part": "start", "case": "imports", "size": "", "seconds": cases}


def _first_steps(plan, stage: str, size: str) -> dict:
    runs = {"cold": [], "warm": []}
    for _ in range(1 if plan.quick else 3):
        with tempfile.TemporaryDirectory() as folder:
            for kind in runs:
                runs[kind].append(child.run("step", stage, size, str(plan.threads), NUMBA_CACHE_DIR=folder))
    parts = ("prepare", "first_step", "second_step", "process")
    cases = {kind: {part: summary([run[part] for run in found]) for part in parts} for kind, found in runs.items()}
    case = f"first {stage} step: cold, the compiler's cache empty; warm, filled by the cold run"
    return {"kind": "start", "part": "start", "case": case, "size": size, "seconds": cases}
