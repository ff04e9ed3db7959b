"""How many threads work, and why the result does not depend on it.

Compiled kernels gather, so that any number of threads gives the same bits. BLAS gives no such promise, so it works
on one thread meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..engine import is_compiled
from ..threads import available_cores, one_blas_thread


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
