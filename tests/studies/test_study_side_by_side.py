"""Jobs in other processes: the same rows as in this one, on this machine or through Dask; and signals that end them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_study_runner import ONE, contents, report_without_seconds, rows_without_clocks

from c2f_np.errors import SettingsError
from c2f_np.studies import Options, run_study

pytestmark = pytest.mark.slow


SEARCHED = """
[[run]]
name = "searched"
method = "narrow-lightgcn"
settings = { max_epochs = 2, engine = "numpy" }
search = { lr = [0.01, 0.1], bytes_used = [0.7, 1.0] }
bytes_of = "model"
"""


@pytest.fixture
def alone(tiny, tmp_path):
    """The study, and a run with trials, with one job at a time: (study, folder of its results)."""
    study, out = tiny(behind=SEARCHED), tmp_path / "alone"
    run_study(study, out, ONE)
    return study, out


def assert_same(out, other):
    assert rows_without_clocks(out) == rows_without_clocks(other) and report_without_seconds(out) == report_without_seconds(other)
    users = [{name: each for name, each in contents(folder).items() if name.endswith("npz")} for folder in (out, other)]
    assert users[0] == users[1]


@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_two_processes_of_this_machine(alone, tmp_path, backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    study, out = alone
    assert run_study(study, tmp_path / backend, Options(jobs=2, backend=backend)).n_missing == 0
    assert_same(out, tmp_path / backend)


def test_a_dask_scheduler_by_its_address(alone, tmp_path):
    distributed = pytest.importorskip("distributed")
    study, out = alone
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        options = Options(backend="dask", scheduler=cluster.scheduler_address)
        assert run_study(study, tmp_path / "dask", options).n_failed == 0
    assert_same(out, tmp_path / "dask")


def test_a_dask_scheduler_that_is_not_there(tiny, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(SettingsError, match="the Dask scheduler nonsense does not answer"):
        run_study(tiny(), tmp_path / "out", Options(backend="dask", scheduler="nonsense"))


LONGER = ("seeds = [0, 1]\n", f"seeds = {list(range(12))}\n")


@pytest.fixture(scope="module")
def whole(tiny_in, tmp_path_factory):
    """The rows of the longer study, which nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    run_study(tiny_in(folder, *LONGER), folder / "out", ONE)
    return rows_without_clocks(folder / "out")


def start(study, out, *more):
    command = [sys.executable, "-m", "c2f_np", "study", str(study.path), "--out", str(out), *more]
    # A group of its own, so that a signal reaches all of its processes and not this one. Tests that run in a shell's background
    # inherit that Ctrl-C is ignored, and would pass it on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)


def end_after_rows(process, out, n_rows, how):
    """Send a signal to all processes of a study once it has some rows; what it said, and its exit code."""
    deadline = time.monotonic() + 120
    while len(list(out.glob("rows/*.json"))) < n_rows and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, how)
    said = process.communicate(timeout=60)[1]
    return said, process.returncode


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_study_goes_on(tiny, tmp_path, whole, jobs):
    study, out = tiny(*LONGER), tmp_path / "out"
    _, code = end_after_rows(start(study, out, "--jobs", jobs), out, 5, signal.SIGKILL)
    n_rows = len(list(out.glob("rows/*.json")))
    assert code == -signal.SIGKILL and 5 <= n_rows < 37
    process = start(study, out, "--jobs", jobs)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    # The bar begins where the killed one was.
    assert int(re.search(r"(\d+)/37", said).group(1)) >= 5
    assert rows_without_clocks(out) == whole


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c(tiny, tmp_path):
    """Of all processes of a study; of one job at a time: test_study_cli.py."""
    study, out = tiny(*LONGER), tmp_path / "out"
    said, code = end_after_rows(start(study, out, "--jobs", "2"), out, 5, signal.SIGINT)
    assert code == 130 and "stopped; the same command continues it" in said and "Traceback" not in said
    assert len(rows_without_clocks(out)) == len(list(out.glob("rows/*.json"))) < 37
    assert "Not finished" in (out / "report.md").read_text(encoding="utf-8")


def children_of(pid):
    """The workers that any thread of a process has started."""
    pids = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="looks for processes as on Linux")
def test_a_worker_that_is_killed(tiny, tmp_path, whole):
    """Its job has failed, as the report says; the others go on, and the job can be done again."""
    study, out = tiny(*LONGER), tmp_path / "out"
    process = start(study, out, "--jobs", "2")
    deadline = time.monotonic() + 120
    while len(list(out.glob("rows/*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1 and "1 of 37 jobs failed" in said and "Traceback" not in said
    assert "WorkerDied: its process was killed" in (out / "report.md").read_text(encoding="utf-8")
    assert run_study(study, out, Options(jobs=1, retry_failed=True)).n_failed == 0
    assert rows_without_clocks(out) == whole


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="looks for processes as on Linux")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_study(tiny, tmp_path, how):
    study, out = tiny(*LONGER), tmp_path / "out"
    process = start(study, out, "--jobs", "2")
    while len(list(out.glob("rows/*.json"))) < 5 and process.poll() is None:
        time.sleep(0.02)
    workers = children_of(process.pid)
    process.send_signal(how)  # to this one alone
    process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in workers)
