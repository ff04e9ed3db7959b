"""A sample of each kind of fault; docs/faults.md has what more of them gave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")]


@pytest.mark.parametrize(
    "fault", [["kill", "--count", "5", "--seed", "2"], ["crash", "--every", "29"], ["full-disk", "--count", "5", "--seed", "2"]]
)
def test_a_sample(fault):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *fault], cwd=root, capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.endswith("\n0 failed\n"), done.stdout + done.stderr
