"""The NumPy engine needs no Numba: where that is hidden, what compares engines says that it was left out, and the rest runs."""

import os
import subprocess
import sys

import pytest

HIDDEN = 'import sys\nsys.modules["numba"] = sys.modules["llvmlite"] = None\n'


@pytest.fixture
def without_numba(tmp_path):
    """Runs ``python -m c2f_np`` with these arguments where Numba cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)

    def run(*arguments, code=0):
        path = os.pathsep.join([str(tmp_path), os.getcwd()])
        done = subprocess.run(
            [sys.executable, "-m", "c2f_np", *arguments], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done

    return run


def test_training_recommending_and_evaluating(without_numba, tmp_path):
    run = str(tmp_path / "run")
    sizes = ["--n-coarse=6", "--n-fine=4", "--dim=8", "--max-epochs=2", "--table-epochs=2", "--partition-epochs=2"]
    without_numba("train", "southern-women", "--out", run, "--quiet", *sizes)
    assert "Evelyn" in without_numba("recommend", run, "--user", "Evelyn Jefferson").stdout
    assert "ndcg" in without_numba("evaluate", run).stdout.lower()


def test_parity_and_gradients_say_what_was_left_out(without_numba):
    for command in (["parity", "tests/parity/case_a.npz"], ["gradcheck", "--op", "bridge"]):
        done = without_numba(*command)
        assert "numba is not installed" in done.stderr and "numpy" in done.stdout and "numba" not in done.stdout
    assert "needs the package numba" in without_numba("gradcheck", "--engine", "numba", code=2).stderr


@pytest.mark.slow
def test_all_gradients_of_the_numpy_engine(without_numba):
    assert " 0 failed" in without_numba("gradcheck").stdout
