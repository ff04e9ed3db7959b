"""A process that carries out inputs one after the other, and whoever watches it."""

import contextlib
import io
import multiprocessing
import os
import re
import resource
import traceback
from dataclasses import dataclass

#: Seconds that an input may take, and memory beyond what the process held before.
TIME_LIMIT, MEMORY_LIMIT = 60, 2**29
#: Address space beyond that of an idle process: what is far too large fails at once, and no machine runs out of memory.
_ADDRESS_SPACE = 3 * 2**30


@dataclass(frozen=True)
class Outcome:
    """What became of an input: its exit code, or None; what it printed; and what is wrong with that, or ""."""

    code: int | None
    printed: str
    wrong: str


class Worker:
    """Carries out inputs in a process of its own, which is started anew after it died, hung, or had many of them."""

    def __init__(self, most=300):
        self._most, self._done, self._process, self._pipe = most, 0, None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def do(self, folder, call, arguments) -> Outcome:
        """In a folder, ``"main"`` calls the command line, ``"serve"`` uses an exported model, ``"run"`` runs Python text."""
        if self._process is None or self._done >= self._most:
            self._stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process, self._done = context.Process(target=_serve, args=(theirs,), daemon=False), 0
            self._process.start()
            theirs.close()
            assert self._pipe.poll(120) and self._pipe.recv() == "ready"
        self._done += 1
        try:
            self._pipe.send((str(folder), call, list(map(str, arguments))))
            if self._pipe.poll(TIME_LIMIT):
                code, printed, error = self._pipe.recv()
                return Outcome(code, printed, error or _what_is_wrong(code, printed))
            wrong = f"hangs: not done after {TIME_LIMIT} seconds"
        except (EOFError, ConnectionError):
            self._process.join()
            wrong = f"crashes: exit code {self._process.exitcode}"
        self._stop()
        return Outcome(None, "", wrong)

    def _stop(self):
        if self._process is not None:
            self._pipe.close()  # which ends it, unless it hangs
            self._process.join(3)
            self._process.kill()
            self._process.join()
            self._process = None


def _what_is_wrong(code, printed: str) -> str:
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if "out of memory" in printed:
        return "runs out of memory"
    if code == 2 and not re.search(r"^(error|parity): .+$", printed, re.MULTILINE):
        return "exit code 2 without a line that says why"
    return "a traceback was printed" if "Traceback (most recent" in printed else ""


def _serve(pipe):
    from c2f_np.cli import main
    from c2f_np.errors import C2FError
    from c2f_np.machine import forget_peak_memory, peak_memory
    from c2f_np.serving import load_exported

    def serve(path):
        try:
            model = load_exported(path)
            users = [0] if model.user_ids is None else model.user_ids[:2]
            if model._R is not None:
                model.recommend(users, 2)
                model.recommend(users, 2, from_table=False)
                model.neighbourhood_of_user(users[0])
            model.size_in_bytes()
        except C2FError as error:
            print(f"error: {error}")
            return 2
        return 0

    calls = {"main": lambda *arguments: main(list(arguments)), "serve": serve, "run": lambda text: exec(text) or 0}
    in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + _ADDRESS_SPACE,) * 2)
    pipe.send("ready")
    while True:
        try:
            folder, call, arguments = pipe.recv()
        except EOFError:
            return
        os.chdir(folder)
        printed, error, code = io.StringIO(), "", None
        forget_peak_memory()
        before = peak_memory()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                code = calls[call](*arguments)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 2
            except BaseException:
                error = traceback.format_exc()
        error = error and f"traceback:\n{error}"
        if peak_memory() - before > MEMORY_LIMIT:
            error = f"takes {peak_memory() - before:,} bytes of memory"
        pipe.send((code, printed.getvalue()[-20_000:], error))
