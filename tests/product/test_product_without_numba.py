"""The NumPy engine needs no Numba: where that is hidden, what compares engines says that it was left out, and the rest runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from c2f_np import load_dataset
from c2f_np.baselines import make_baseline
from c2f_np.cli import main

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
HIDDEN = 'import sys\nsys.modules["numba"] = sys.modules["llvmlite"] = None\n'
#: Does what the command line would be told, and says of each: exit code, output, errors. Then a few cases of every operation.
PROGRAM = """
import contextlib, io, json, sys
from c2f_np.cli import main
from c2f_np.verification.catalogue import CHECKED, cases

found = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    found.append((code, out.getvalue(), err.getvalue()))
reports = [case.run(1) for op in CHECKED for listed in [list(cases(op, "numpy", 1))] for case in listed[:: len(listed) // 2 + 1]]
print(json.dumps({"commands": found, "n_reports": len(reports), "failed": [str(each) for each in reports if not each.passed]}))
"""
SIZES = ["--n-coarse=6", "--n-fine=4", "--dim=8", "--max-epochs=2", "--table-epochs=2", "--partition-epochs=2"]


@pytest.fixture(scope="module")
def without_numba(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text(HIDDEN)  # for child processes too
    run, compiled, table = (str(folder / name) for name in ("run", "compiled", "table.npz"))
    assert main(["train", "southern-women", "--out", compiled, "--quiet", *SIZES]) == 0
    make_baseline("narrow-lightgcn", dim=3, max_epochs=2).fit(load_dataset("southern-women")).save(table)
    commands = [
        ["train", "southern-women", "--out", run, "--quiet", *SIZES],
        ["recommend", run, "--user", "Evelyn Jefferson"],
        ["evaluate", run],
        ["parity", "tests/parity/case_a.npz"],
        ["gradcheck", "--op", "bridge", "--jobs", "1"],
        ["gradcheck", "--engine", "numba"],
        ["evaluate", compiled],
        *(["recommend", each, "--user", "Evelyn Jefferson"] for each in (compiled, table)),
        ["refit", compiled, "--quiet"],
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_runs_or_says_what_was_left_out(without_numba):
    trained, recommended, evaluated, parity, bridge, compiled, *others = without_numba["commands"]
    assert trained[0] == recommended[0] == evaluated[0] == 0
    assert "Evelyn" in recommended[1] and "ndcg" in evaluated[1].lower()
    for code, out, err in (parity, bridge):
        assert code == 0 and "numba is not installed" in err and "numpy" in out and "numba" not in out
    assert compiled[0] == 2 and "needs the package numba" in compiled[2]
    *read, refit = others
    assert [code for code, _, _ in read] == [0, 0, 0], "models of the compiled engine can be read and used"
    assert refit[0] == 2 and "needs the package numba" in refit[2]


def test_gradients_of_every_operation_and_stage(without_numba):
    """A few of each; all are tested where Numba is there."""
    assert without_numba["n_reports"] > 40 and without_numba["failed"] == []
