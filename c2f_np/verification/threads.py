"""Compiled kernels on one thread while gradients are checked.

The problems are small and the calls many: handing a kernel out to threads takes longer than the kernel, most of all on a machine
that is busy. The kernels give the same bits at any thread count, so nothing is lost.
"""

from __future__ import annotations

from contextlib import contextmanager


@contextmanager
def one_kernel_thread():
    """Run Numba's parallel loops on one thread inside the block."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
