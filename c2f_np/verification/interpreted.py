"""Processes in which Numba does not compile: kernels are plain Python there, slow to run but quick to change.

In all processes that run cases Numba may start three threads, whatever the number of cores: results must not depend on it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from ..engine import AVAILABLE_ENGINES, ENGINES
from ..processes import Workers
from ..threads import available_cores

PACKAGE = __name__.partition(".")[0]
_THREADS = {"NUMBA_NUM_THREADS": str(max(3, available_cores()))}
_UNCOMPILED = _THREADS | {"NUMBA_DISABLE_JIT": "1"}


def is_interpreted() -> bool:
    """Whether kernels are plain Python in this process; without Numba there are none."""
    if AVAILABLE_ENGINES != ENGINES:
        return False
    from numba import config

    return bool(config.DISABLE_JIT)


def environment_of_workers(compiled: bool) -> dict[str, str]:
    """For processes that compile or do not, and may use three threads."""
    return _THREADS if compiled else _UNCOMPILED


def call_interpreted(function: Callable, *arguments):
    """``function(*arguments)`` in a process that does not compile."""
    with Workers(1, _UNCOMPILED) as workers:
        return workers.submit(function, *arguments).result()


def run_interpreted(arguments: list[str]) -> int:
    """Run ``python -m c2f_np gradcheck`` with these arguments in a process that does not compile; its exit code."""
    root = os.path.dirname(os.path.dirname(sys.modules[PACKAGE].__file__))
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.stdout.flush()
    environment = os.environ | _UNCOMPILED | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, "-m", PACKAGE, "gradcheck", *arguments], env=environment).returncode
