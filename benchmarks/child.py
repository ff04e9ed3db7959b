"""What is measured in a process of its own: ``python -m benchmarks.child TASK ...`` prints one line of JSON.

Memory and start cannot be measured in a process that has done other things before. Nothing is imported here at the top that
a task might want to time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from . import ROOT


def run(*arguments: str, **environment: str) -> dict:
    """Run a task in a fresh process and return what it found, with the wall time of the whole process.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "benchmarks.child", *arguments]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=Path.cwd(), env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True
    )
    wall = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"benchmarks.child {' '.join(arguments[:3])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"process": wall}


def import_time(module: str) -> dict:
    """Seconds that an import takes; "nothing" for the interpreter alone."""
    started = time.perf_counter()
    if module != "nothing":
        __import__(module)
    return {"import": time.perf_counter() - started}


def first_step(stage: str, size: str, threads: int) -> dict:
    """Seconds of the first and of the second step, whatever is in the compiler's cache."""
    from .plan import Plan
    from .workload import workload_of

    plan = Plan(threads=threads, rounds=1, seconds=1)
    workload = workload_of(size, plan)
    batch = workload.batch_size(stage)
    from .parts.steps import our_step

    with plan.ours():
        workload.batches(batch)  # drawn by the NumPy engine: nothing is compiled yet
        started = time.perf_counter()
        step = our_step(workload, stage, batch, "numba")
        prepared = time.perf_counter()
        step()
        first = time.perf_counter()
        step()
        second = time.perf_counter()
    return {"prepare": prepared - started, "first_step": first - prepared, "second_step": second - first}


def memory(competitor: str, stage: str, size: str, threads: int, data: str | None = None) -> dict:
    """Bytes of this process: after the imports, before the steps, and at most during some of them."""
    from .parts.memory import measure

    return measure(competitor, stage, size, threads, data)


def training(*arguments: str) -> dict:
    """Seconds of each part of a training."""
    from .parts.outside import watched_training

    return watched_training(*arguments)


def scale(path: str, threads: int) -> dict:
    """Seconds and bytes of reading a file and of an epoch on it."""
    from .scale import measure

    return measure(path, threads)


def main(arguments: list[str]) -> None:
    """Run one task."""
    task, *rest = arguments
    tasks = {
        "import": lambda module: import_time(module),
        "step": lambda stage, size, threads: first_step(stage, size, int(threads)),
        "training": training,
        "scale": lambda path, threads: scale(path, int(threads)),
        "memory": lambda who, stage, size, threads, data=None: memory(who, stage, size, int(threads), data),
    }
    print(json.dumps(tasks[task](*rest)))


if __name__ == "__main__":
    main(sys.argv[1:])
