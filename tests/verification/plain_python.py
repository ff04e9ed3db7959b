"""Commands of `gradcheck`, one after the other in one process in which kernels are plain Python: each would start its own.

From standard input, a line each: what `command.run` is called with, as JSON. To standard output: the exit code and what it
printed.
"""

import contextlib
import io
import json
import subprocess
import sys

from c2f_np.processes import environment
from c2f_np.verification import command
from c2f_np.verification.interpreted import environment_of_workers


@contextlib.contextmanager
def one_process():
    """``run(**options)`` calls `command.run` in that process and returns its exit code and what it printed."""
    with environment(environment_of_workers(compiled=False)):
        process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(**options):
        print(json.dumps(options), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    with process:
        yield run
        process.stdin.close()


if __name__ == "__main__":
    for line in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = command.run(**json.loads(line))
        print(json.dumps([code, printed.getvalue()]), flush=True)
