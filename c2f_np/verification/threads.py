"""On how many threads kernels run while they are checked, in which order where they are interpreted, and which of them run.

The problems are small and the calls many: handing a kernel out to threads takes longer than the kernel, most of all on a machine
that is busy. The kernels give the same bits at any thread count, so the gradients are checked on one, and the values on more.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import contextmanager, nullcontext

import numpy as np

from ..engine import AVAILABLE_ENGINES, ENGINES, is_compiled
from ..threads import kernel_threads


def one_kernel_thread():
    """Run Numba's parallel loops on one thread inside the block."""
    return kernel_threads(1)


def every_array_from_reused_memory(engine: str):
    """What only large arrays do in training: inside the block the compiled engine's arrays come from memory used again."""
    if not is_compiled(engine):
        return nullcontext()
    from ..kernels.buffers import reused_buffers

    return reused_buffers(smallest=1)


def possible_threads() -> range:
    """1, 2 and 3 threads, or as many of these as Numba may start here (``NUMBA_NUM_THREADS``)."""
    if AVAILABLE_ENGINES != ENGINES:
        return range(1, 2)
    import numba

    return range(1, min(3, numba.config.NUMBA_NUM_THREADS) + 1)


@contextmanager
def loops_in_random_order(rng: np.random.Generator):
    """Where kernels are interpreted, run their parallel loops in a random order; a loop that needs an order then shows it."""
    if AVAILABLE_ENGINES != ENGINES:
        yield
        return
    from numba.core import config

    before = [(module, module.prange) for module in kernel_modules() if config.DISABLE_JIT and hasattr(module, "prange")]
    for module, _ in before:
        module.prange = lambda *bounds: rng.permutation(np.arange(*bounds)).tolist()
    try:
        yield
    finally:
        for module, prange in before:
            module.prange = prange


@contextmanager
def watched_kernels():
    """The set of kernel functions called inside the block, "module.function"; it fills while the block runs."""
    called: set[str] = set()
    if AVAILABLE_ENGINES != ENGINES:
        yield called
        return
    from .. import kernels

    def watch(name, function):
        def watched(*given, **options):
            called.add(name)
            return function(*given, **options)

        return watched

    # The engine, which is the package itself, holds names of its own for what its modules define.
    before = [(module, name, value) for module in (kernels, *kernel_modules()) for name, value in vars(module).items()
              if _can_be_watched(value) and (module is kernels or value.__module__ == module.__name__)]  # fmt: skip
    for module, name, value in before:
        setattr(module, name, watch(f"{value.__module__.rpartition('.')[2]}.{name}", value))
    try:
        yield called
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _can_be_watched(value) -> bool:
    """Whether this is a function of the kernels that Python calls; one that compiled code calls must stay what it is."""
    from .. import kernels

    if not callable(value) or isinstance(value, type) or not getattr(value, "__module__", "").startswith(f"{kernels.__name__}."):
        return False
    return getattr(value, "__name__", "_")[0] != "_" or getattr(value, "targetoptions", {"parallel": True}).get("parallel", False)


def kernel_modules() -> list:
    from .. import kernels

    return [importlib.import_module(f"{kernels.__name__}.{module.name}") for module in pkgutil.iter_modules(kernels.__path__)]
