"""A sample of both fuzz runs, and that the watcher sees what it is there for."""

import shutil
import sys

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.material import samples
from tests.fuzz.worker import Worker

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and pipes")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Files of every format; each use is of a copy."""
    return samples(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("what, count", [("files", 80), ("options", 60)])
def test_no_input_ends_in_a_traceback_a_crash_a_hang_or_too_much_memory(what, count, made, worker, tmp_path):
    codes, failures = run(what, 7, range(count), made=made, worker=worker, place=tmp_path)
    assert not failures, "\n".join(failures)
    # Most inputs are refused, and some still mean something: were all one or the other, the inputs would be no good.
    assert codes[2] > count / 4 and codes[0] > count / 20


def test_what_is_not_spoilt_can_be_used(made, worker, tmp_path):
    tried, refused = [], []
    for sample in made:
        for function, arguments in sample.calls:
            folder = shutil.copytree(sample.folder, tmp_path / f"used {len(tried)}")
            tried.append(sample.name)
            outcome = worker.do(folder, function, arguments)
            if outcome.code or outcome.wrong:
                refused.append((sample.name, arguments, outcome))
    assert not refused


@pytest.mark.parametrize(
    "code, wrong",
    [
        ("1 / 0", "traceback"), ("import os; os.abort()", "crashes"), ("import time; time.sleep(9)", "hangs"),
        ("bytearray(6 * 10**8)", "bytes of memory"), ("bytearray(10**11)", "traceback"),
        ("raise SystemExit(3)", "exit code 3"), ("raise SystemExit(2)", "without a line"), ("pass", ""),
    ],
)  # fmt: skip
def test_the_watcher_sees(worker, tmp_path, monkeypatch, code, wrong):
    monkeypatch.setattr("tests.fuzz.worker.TIME_LIMIT", 3)
    found = worker.do(tmp_path, "run", [code]).wrong
    assert wrong in found if wrong else not found
