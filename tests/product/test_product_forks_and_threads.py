"""Python threads and forked processes that train: the same bits, or an error that says what to do; never a dead process."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")]

PREPARED = """
import multiprocessing, sys
from concurrent.futures import ThreadPoolExecutor
from scipy import sparse
from c2f_np import C2FRecommender, SettingsError

R = sparse.random(60, 40, density=.2, random_state=0, format="csr")
R.data[:] = 1
SMALL = dict(table_epochs=2, partition_epochs=2, partition="random")

def fit(seed, engine="numba"):
    own = {"n_coarse": 6, "n_fine": 4, "dim": 8, "max_epochs": 2}
    model = C2FRecommender(**own, n_jobs=2, random_state=seed, engine=engine, settings=SMALL).fit(R)
    model.save(f"{sys.argv[1]}/{seed}.npz")
    return load(seed)

def load(seed):
    return C2FRecommender.load(f"{sys.argv[1]}/{seed}.npz").recommend([0], k=3)[1].tolist()

def said(function, *arguments):
    try:
        return function(*arguments)
    except SettingsError as error:
        return str(error)
"""

THREADS = """
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(fit, range(6))) + list(pool.map(load, range(6)))
assert found == 2 * [fit(seed) for seed in range(6)]
"""

FORKS = """
expected, model = fit(0), C2FRecommender.load(f"{sys.argv[1]}/0.npz")
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = [pool.apply_async(said, (function, 0)).get(60) for function in (fit, load)]
    assert pool.apply_async(model.recommend, ([0], 3)).get(60)[1].tolist() == expected
    assert pool.apply_async(fit, (1, "numpy")).get(60)
print(results == [expected, expected], all("spawn" in str(each) for each in results))
"""

FORKED_FIRST = """
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = [pool.apply_async(said, (function, 0)).get(60) for function in (fit, load)]
assert results == [fit(0), load(0)]
"""


def carry_out(script, layer, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + script, str(tmp_path)],
        capture_output=True, text=True, timeout=300, env=os.environ | {"NUMBA_THREADING_LAYER": layer},
    )  # fmt: skip
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"Numba has no layer {layer} here")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_threads(layer, tmp_path):
    carry_out(THREADS, layer, tmp_path)


@pytest.mark.parametrize(("layer", "found"), [("omp", "False True"), ("workqueue", "True False")])
def test_a_fork_after_a_fit(layer, found, tmp_path):
    assert carry_out(FORKS, layer, tmp_path) == found


def test_a_fork_before_the_first_fit(tmp_path):
    carry_out(FORKED_FIRST, "omp", tmp_path)


def test_threads_that_decorate_at_the_same_time(monkeypatch):
    """Each finds the folder of the compiled code while Numba looks for it; else it would be kept in the working directory."""
    pytest.importorskip("numba")
    from c2f_np.kernels import compiled

    seen: list[tuple[str, str]] = []

    def slow(**options):
        def decorate(function):
            before = compiled.config.CACHE_DIR
            time.sleep(0.01)
            seen.append((before, compiled.config.CACHE_DIR))
            return function

        return decorate

    monkeypatch.setattr(compiled.numba, "njit", slow)
    monkeypatch.setattr(compiled, "_given_folder", "")
    monkeypatch.setattr(compiled.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(compiled, "cache_folder", lambda: "somewhere")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compiled.njit(), [slow] * 6))
    assert seen == [("somewhere", "somewhere")] * 6
