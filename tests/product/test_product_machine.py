"""What the system tells about the machine and the process."""

import platform

import numpy as np
import pytest

from c2f_np.machine import forget_peak_memory, peak_memory, processor


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux can forget the peak")
def test_the_peak_is_that_since_it_was_forgotten():
    forget_peak_memory()
    before = peak_memory()
    block = np.ones(16_000_000)
    peak = peak_memory()
    assert before + 0.9 * block.nbytes < peak < before + 1.5 * block.nbytes
    del block
    assert peak_memory() >= peak
    forget_peak_memory()
    assert peak_memory() < before + 64e6


def test_the_processor_has_a_name():
    assert processor().strip()
