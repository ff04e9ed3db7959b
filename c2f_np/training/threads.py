"""How many threads work, and why the result does not depend on it.

Compiled kernels gather, so that any number of threads gives the same bits. BLAS gives no such promise, so it works
on one thread meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..engine import is_compiled
from ..threads import available_cores, one_blas_thread

# Multiplications and additions in one sparse product below which a second thread does not pay for being woken. Measured: at 0.7
# million one thread is faster by a third, at 10 million two are; and on a busy machine every hand-over can take milliseconds.
_WORTH_A_THREAD = 4_000_000


def training_threads(threads: int, n_entries: int, width: int) -> int:
    """How many threads train: as many as asked for, else one if the problem is small, else all cores.

    Parameters
    ----------
    threads : int
        0 leaves the choice to us.
    n_entries : int
        Stored entries of the graph.
    width : int
        d.

    Returns
    -------
    int
    """
    if threads:
        return threads
    return 1 if n_entries * width < _WORTH_A_THREAD else available_cores()


@contextmanager
def working_threads(threads: int, engine: str) -> Iterator[int]:
    """Run the compiled kernels on `threads` threads, with buffers that are used again, and BLAS on one; restore all afterwards.

    Parameters
    ----------
    threads : int
        0 means all that this process may use.
    engine : {"numpy", "numba"}

    Yields
    ------
    int
        The number of threads in use.
    """
    count = threads or available_cores()
    with one_blas_thread():
        if not is_compiled(engine):
            yield count
            return
        import numba

        from ..kernels.buffers import reused_buffers

        before = numba.get_num_threads()
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        try:
            with reused_buffers():
                yield count
        finally:
            numba.set_num_threads(before)
