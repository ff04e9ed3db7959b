"""Threads: how many work, blocks of rows spread over them, and why the result does not depend on their number.

Compiled kernels gather, so that any number of threads gives the same bits. BLAS gives no such promise, so it works on one thread.

Several Python threads may train or load at once; where Numba's own threads cannot do two things at a time (its layer
"workqueue"), one waits for the other. After a fork of a process whose kernels have run, GNU OpenMP would end the new process when
it runs one, so an error is raised there.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

from threadpoolctl import ThreadpoolController

from .engine import AVAILABLE_ENGINES, ENGINES, is_compiled
from .errors import SettingsError
from .schema import LIMITS, Parameter

# Multiplications and additions in one sparse product below which a second thread does not pay for being woken. Measured: at 0.7
# million one thread is faster by a third, at 10 million two are; and on a busy machine every hand-over can take milliseconds.
_WORTH_A_THREAD = 4_000_000

#: Variables of the environment with which a process works on one thread, because it shares the machine with others.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

_lock, _kernels = threading.Lock(), threading.RLock()
_threads_lost = False
_controller: ThreadpoolController | None = None
_limiter = None
_holders = 0


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(n_jobs: int | None) -> int:
    """The setting ``threads`` for scikit-learn's `n_jobs`: None is 0 (the choice is ours), -1 all cores, -2 all but one."""
    number = Parameter("n_jobs", int, high=LIMITS["threads"], optional=True).checked(n_jobs)
    if number == 0:
        raise SettingsError("n_jobs must not be 0: give a number of threads, -1 for all cores, or None for our choice")
    return 0 if number is None else number if number > 0 else max(available_cores() + 1 + number, 1)


def in_threads(work: Callable[[int], None], starts: Iterable[int], n_threads: int) -> None:
    """Call ``work(start)`` for every start, on up to `n_threads` threads.

    If calls fail, the error of the earliest start among them is raised and what has not begun is dropped.
    """
    starts = list(starts)
    n_threads = min(n_threads, len(starts))
    if n_threads < 2:
        for start in starts:
            work(start)
        return
    with ThreadPoolExecutor(n_threads, thread_name_prefix="c2f") as pool:
        try:
            for _ in pool.map(work, starts):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def training_threads(threads: int, n_entries: int, width: int) -> int:
    """How many threads train: as many as asked for, else (0) one if the graph has few entries, else all cores."""
    if threads:
        return threads
    return 1 if n_entries * width < _WORTH_A_THREAD else available_cores()


@contextmanager
def working_threads(threads: int, engine: str) -> Iterator[int]:
    """Run the compiled kernels on so many threads (0: all) with reused buffers, and BLAS on one; restore all afterwards."""
    count = threads or available_cores()
    with one_blas_thread():
        if not is_compiled(engine):
            yield count
            return
        from .kernels.buffers import reused_buffers

        with kernel_threads(count), reused_buffers():
            yield count


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Run Numba's parallel loops, if there are any, on so many threads inside the block."""
    if AVAILABLE_ENGINES != ENGINES:
        yield
        return
    import numba

    if _threads_lost:
        raise SettingsError(
            "this process was forked from one in which compiled loops had run, and cannot run any itself: start processes "
            'with multiprocessing.get_context("spawn"), or use engine = "numpy"; a model loaded before the fork can recommend'
        )
    before = numba.get_num_threads()  # they are started now, if they were not
    with _kernels if _threading_layer() == "workqueue" else nullcontext():
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        try:
            yield
        finally:
            numba.set_num_threads(before)


def _threading_layer() -> str:
    """What Numba's threads come from: "omp", "tbb" or "workqueue"; "" before they are started, or where nothing is compiled."""
    try:
        numba = sys.modules["numba"]
        return "" if numba.config.DISABLE_JIT else numba.threading_layer()
    except (KeyError, ValueError):
        return ""


def _in_a_forked_process() -> None:
    """Make new locks, as a thread of the parent may have held the old ones; and note whether threads are lost."""
    global _lock, _kernels, _threads_lost
    _lock, _kernels = threading.Lock(), threading.RLock()
    _threads_lost = _threads_lost or _threading_layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_process)


@contextmanager
def one_blas_thread():
    """Hold BLAS to one thread, process-wide, until the last of the callers inside has left.

    BLAS may sum a product differently at each thread count. With one thread a product, and several products at a time,
    the bits are the same at any. Looking up the loaded libraries takes 4 ms and is done once; the limit takes 0.1 ms.
    Inside an outer limit, that one is what is restored. Holders are counted for calls from several Python threads: if
    each restored what it had found, the one that came second could leave the first one's limit in place for good.
    """
    global _controller, _limiter, _holders
    with _lock:
        if _holders == 0:
            if _controller is None:
                # np.matmul's library is all that is meant, and importing NumPy has loaded it.
                _controller = ThreadpoolController().select(user_api="blas")
            _limiter = _controller.limit(limits=1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _limiter.restore_original_limits()
                _limiter = None
