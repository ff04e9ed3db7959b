"""What the system tells about the machine and the process."""

import platform

import numpy as np
import pytest

from c2f_np.machine import forget_peak_memory, peak_memory, processor


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux can forget the peak")
def test_the_peak_is_that_since_it_was_forgotten():
    forget_peak_memory()
    before = peak_memory()
    block_size = 128_000_000
    block = np.ones(block_size, np.int8)
    peak = peak_memory()
    assert before + 0.99 * block_size < peak < before + 1.05 * block_size
    del block
    assert peak_memory() > 0.95 * peak
    forget_peak_memory()
    assert peak_memory() < before + 0.5 * block_size


def test_the_processor_has_a_name():
    assert processor().strip()
