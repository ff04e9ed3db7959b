"""Worker processes: results and errors come back, a death costs one piece of work, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from c2f_np.processes import WorkerDied, Workers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]


def test_work_errors_and_deaths():
    with Workers(1, {"C2F_NP_TEST": "seen"}) as workers:
        assert workers.submit(os.getenv, "C2F_NP_TEST").result(60) == "seen"
        assert "C2F_NP_TEST" not in os.environ
        first = workers.submit(os.getpid).result(60)
        with pytest.raises(ZeroDivisionError):
            workers.submit(divmod, 1, 0).result(60)
        assert workers.submit(os.getpid).result(60) == first
        with pytest.raises(WorkerDied, match="exit code 7"):
            workers.submit(os._exit, 7).result(60)
        with pytest.raises(WorkerDied, match="killed, as the system does when memory ends"):
            workers.submit(signal.raise_signal, signal.SIGKILL).result(60)
        # One that dies while it has nothing to do costs nothing.
        idle = workers.submit(os.getpid).result(60)
        os.kill(idle, signal.SIGKILL)
        time.sleep(0.5)
        assert workers.submit(os.getpid).result(60) not in (first, idle)


def test_no_worker_sees_ctrl_c():
    """Not even the first one of a program, with which the standard library starts a process of its own."""
    program = (
        "import signal\n"
        "from c2f_np.processes import Workers\n"
        "if __name__ == '__main__':\n"
        "    with Workers(2, {}) as workers:\n"
        "        asked = [workers.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()) for _ in range(4)]\n"
        "        print([signal.SIGINT in each.result(60) for each in asked])\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[True, True, True, True]\nFalse\n", done.stderr


def test_the_end_does_not_wait():
    started = time.monotonic()
    with Workers(2, {}) as workers:
        sleeping = [workers.submit(time.sleep, 300) for _ in range(4)]
    assert time.monotonic() - started < 60
    assert all(each.cancelled() or isinstance(each.exception(60), WorkerDied) for each in sleeping)
