"""Arrays from reused memory behave as any others."""

import gc

import numpy as np
import pytest

from c2f_np.kernels.buffers import _rounded_up, empty, reused_buffers

LARGE = (1 << 18, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (700, 800), (np.int64(700), 800)])
def test_shape_type_and_alignment(shape, dtype):
    with reused_buffers():
        for array in (empty(shape, dtype), empty(shape, dtype)):
            assert array.shape == shape and array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
            assert array.size == 0 or array.ctypes.data % 64 == 0


def test_memory_returns_only_when_nobody_holds_it():
    with reused_buffers():
        first = empty(LARGE, np.float32)
        address, view = first.ctypes.data, first[10:20].T
        view[:] = 7
        del first
        gc.collect()
        second = empty(LARGE, np.float32)
        assert second.ctypes.data != address  # a view still lives
        second[:] = 1
        assert (view == 7).all()
        del view
        gc.collect()
        assert empty(LARGE, np.float32).ctypes.data == address


def test_a_slightly_smaller_array_takes_the_same_block():
    with reused_buffers():
        address = empty((1_000_000,), np.float32).ctypes.data
        assert empty((999_000,), np.float32).ctypes.data == address


def test_blocks_are_forgotten_at_the_end():
    with reused_buffers():
        kept = empty(LARGE, np.float32)
        kept[:] = 3
    other = empty(LARGE, np.float32)
    other[:] = 4
    assert (kept == 3).all()
    del kept  # must not fail, though the block within which it was made is over


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000, 1 << 20, (1 << 20) + 1, 36_000_000])
def test_sizes_are_few_and_close(size):
    assert size <= _rounded_up(size) <= size * 9 / 8 + 1
    assert _rounded_up(_rounded_up(size)) == _rounded_up(size)
