"""Compiled code on disk: made at one number of threads, used at another, the results are the same bits."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib, sys
import numba
from c2f_np.baselines import LightGCN
from c2f_np.data import load_dataset

threads = int(sys.argv[1])
model = LightGCN(dim=48, max_epochs=1, random_state=3, n_jobs=threads).fit(load_dataset("planted"))
assert numba.config.NUMBA_NUM_THREADS == threads
print(hashlib.sha256(model.embeddings_.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_one_cache_serves_any_number_of_threads(tmp_path):
    def run(threads):
        """What is computed, and the files of the cache with the times at which they were written."""
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": str(threads)}
        command = [sys.executable, "-c", PROGRAM, str(threads)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout, {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}

    first = run(1)
    assert len(first[1]) > 10
    assert run(2) == run(3) == first  # nothing was compiled again
