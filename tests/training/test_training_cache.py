"""Compiled code on disk: made at one number of threads, used at another, the results are the same bits."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib, sys
import numba
import numpy as np
from c2f_np.data import load_dataset
from c2f_np.settings import Settings
from c2f_np.training.loop import train

settings = Settings.preset(
    "authors", n_coarse=8, n_fine=4, dim=48, n_components=4, max_epochs=1, seed=3, threads=int(sys.argv[1])
)
state = train(load_dataset("planted"), settings).finished["fine"].state
digest = hashlib.sha256()
for array in (state.E_coarse, state.E_fine, state.bias, state.S_coarse.data, state.S_coarse.indices):
    digest.update(np.ascontiguousarray(array).tobytes())
from c2f_np.kernels.codebook import _gather
hits = sum(_gather(48).stats.cache_hits.values())
print(digest.hexdigest(), hits, numba.config.NUMBA_NUM_THREADS)
"""


@pytest.mark.slow
def test_one_cache_serves_any_number_of_threads(tmp_path):
    def run(threads: int):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(threads)], env=environment, capture_output=True, text=True, check=True
        )
        digest, hits, available = done.stdout.split()
        return digest, int(hits), int(available)

    first, hits, available = run(1)
    assert hits == 0 and available == 1  # compiled here
    for threads in (2, 3):
        digest, hits, available = run(threads)
        assert hits > 0 and available == threads  # read from the cache
        assert digest == first
