"""Arrays for the results of kernels: aligned to cache lines and, while training, made from memory that is used again.

A training step needs the same few large arrays as the one before it. The system hands out large arrays as pages that it must
clear first, which takes a good part of the time of the product that fills them. Inside :func:`reused_buffers` the memory of an
array that nobody holds any more goes to the next one of about its size. Nothing else changes: an array in use is never touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

# A row of 16 float32 is one vector register and one cache line: an aligned row is read with half the accesses.
_ALIGNMENT = 64

# Free blocks by size, and the size from which blocks are used again.
_reused: ContextVar[tuple[dict[int, list[np.ndarray]], float]] = ContextVar("reused blocks", default=({}, math.inf))


def empty(shape, dtype) -> np.ndarray:
    """An array like that of ``numpy.empty``, aligned to a cache line."""
    dtype = np.dtype(dtype)
    size = int(math.prod(shape)) * dtype.itemsize
    free, smallest = _reused.get()
    if size < smallest:
        return _aligned(np.empty(size + _ALIGNMENT, np.uint8), size).view(dtype).reshape(shape)
    # Batches differ a little in their number of entities: blocks come in few sizes, so that they fit the next one too.
    room = _rounded_up(size)
    blocks = free.setdefault(room, [])
    block = blocks.pop() if blocks else np.empty(room + _ALIGNMENT, np.uint8)
    return np.asarray(_Loan(block, size, blocks)).view(dtype).reshape(shape)


@contextmanager
def reused_buffers(smallest: int = 1 << 20) -> Iterator[None]:
    """Within this block the memory of large arrays from :func:`empty` is used again once they are gone.

    Arrays below `smallest` bytes come from the allocator's own free lists, which are as fast.
    """
    token = _reused.set(({}, smallest))
    try:
        yield
    finally:
        _reused.reset(token)


class _Loan:
    """Owner of a block's memory as long as an array (or a view of it) lives; then the block is free again."""

    def __init__(self, block: np.ndarray, size: int, free: list[np.ndarray]):
        self.block, self.free = block, free
        self.__array_interface__ = _aligned(block, size).__array_interface__

    def __del__(self):
        self.free.append(self.block)


def _rounded_up(size: int) -> int:
    """The next of the sizes k * 2^m with k from 8 to 15: at most an eighth more than is needed."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def _aligned(block: np.ndarray, size: int) -> np.ndarray:
    start = -block.ctypes.data % _ALIGNMENT
    return block[start : start + size]
