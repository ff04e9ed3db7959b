"""The marking side of a student's process: starts it, calls the student's functions in it, ends it when time is up.

A student's function is called as any function is, with arguments and a result; only numbers come back. So an exercise marks it
with what it marks everything with, in this process, which the student's code never enters.
"""

from __future__ import annotations

import json
import os
import pkgutil
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..course import all_exercises, answers
from ..course.watched import is_allowed
from ..threads import ONE_THREAD
from . import wire

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from c2f_np.teaching.child import main; main()"
#: Results of a function of ours that the student's code calls are this large at most, squared.
_MOST_ENTRIES = 20_000
#: A notebook is run again without the statement that ended its process, or did not end, so many times.
_TRIES = 5
_CHANNEL = "It writes into the channel through which the marking asks its questions."


class Ended(BaseException):
    """The student's process is gone. Not an Exception, which an exercise would take for one of the answer's."""


@dataclass(frozen=True)
class Limits:
    """What a student's process may take.

    Attributes
    ----------
    seconds : float
        For running the cells, and again for each exercise.
    memory : int
        In bytes.
    closed : tuple of str
        Folders that it may not read.
    """

    seconds: float = 30.0
    memory: int = 2 * 2**30
    closed: tuple[str, ...] = ()


class PackageUsed(Exception):
    """A function of the package was called that must not be; the student's process has one of this name, too."""


class _Here(wire.Here):
    """The marking side, for one call of a student's function."""

    def __init__(self, session: Session):
        super().__init__(sends_objects=True)
        self._session = session

    def function(self, number: int) -> Callable:
        return lambda *arguments: self._session.call_theirs(number, arguments)


class Session:
    """A student's notebook in a process of its own; a context manager.

    Parameters
    ----------
    folder : path-like
        A copy of what was handed in: the process runs there and may write there.
    cells : list of (int, str)
        Numbers and sources of the code cells.
    wanted : dict
        The name of the function that each exercise asks for.
    limits : Limits

    Attributes
    ----------
    kinds : dict
        What there is for each exercise: "function", "missing", "package NAME", or the type of something else.
    troubles : list of (int, str)
        Cells that ended in an error.
    """

    def __init__(self, folder: Path, cells: list, wanted: dict[str, str], limits: Limits):
        self._folder, self._cells, self._wanted, self._limits = folder, cells, wanted, limits
        self._process: subprocess.Popen | None = None
        self._left_out: list[int] = []
        self.kinds: dict[str, str] = {}
        self.troubles: list[tuple[int, str]] = []
        self._lost: list[tuple[int, str]] = []
        self._broken = ""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_) -> None:
        self._kill()

    def function(self, exercise: str, failed: Iterable[str] = ()) -> Callable:
        """The student's function, which raises what the student's raises, and Ended if the process is gone.

        In its place for other exercises stand the student's own answers, except those to exercises that `failed`.
        """

        def call(*arguments):
            self._exercise, self._here = exercise, _Here(self)
            request = {"exercise": exercise, "arguments": list(arguments), "failed": list(failed)}
            return self._result(request, arguments)

        return call

    def _result(self, request: dict, arguments):
        """What comes of a call, while functions of ours that it calls are served."""
        answer = self._exchange(request, self._here)
        while "call" in answer:
            answer = self._exchange(self._called(answer), self._here)
        if "raised" in answer:
            raise _error(answer)
        wire.keep_changes(arguments, answer.get("changed"))
        return answer.get("result")

    def call_theirs(self, number: int, arguments: tuple):
        """Call a function of the student's that was handed to one of ours."""
        return self._result({"call": number, "arguments": list(arguments)}, arguments)

    def _called(self, answer: dict) -> dict:
        """What a function of ours, which the student's code calls, has to say."""
        try:
            target, arguments, named = answer["call"], answer["arguments"], answer["named"]
            if sum(np.size(part) for part in (*arguments, *named.values())) > _MOST_ENTRIES:
                raise ValueError(f"called with more than {_MOST_ENTRIES:,} numbers")
            if isinstance(target, list):
                number, name = target
                if name.startswith("_"):
                    raise AttributeError(name)
                return {"result": getattr(self._here.things[number], name)}
            function = self._here.things[target] if isinstance(target, int) else self._named(target)
            return wire.performed(function, arguments, named)
        except Exception as error:
            return {"raised": type(error).__name__, "message": str(error)}

    def _named(self, name: str) -> Callable:
        """The course's answer to another exercise, or a function of the package that the exercise allows."""
        kind, _, rest = name.partition(".")
        if kind == "my" and rest != self._exercise and rest in answers():
            return answers()[rest]
        if kind != "my" and is_allowed(name, all_exercises()[self._exercise].allowed):
            return pkgutil.resolve_name(name)
        raise PackageUsed(f"the course's answer to {rest}" if kind == "my" else name)

    def begin(self) -> None:
        """Give the next exercise its time, in a process that has run the notebook."""
        if self._broken:
            raise Ended(self._broken)
        if self._process is None or self._process.poll() is not None:
            self._run_notebook()
        self._deadline = time.monotonic() + self._limits.seconds

    def _run_notebook(self) -> None:
        fence = {"folder": str(self._folder), "closed": list(self._limits.closed), "memory": self._limits.memory}
        start = {"fence": fence, "cells": self._cells, "wanted": self._wanted, "answers": list(answers())}
        while True:
            self._start()
            self._deadline = time.monotonic() + self._limits.seconds
            place = cell = None
            try:
                told = self._exchange(start | {"left_out": self._left_out})
                while "begins" in told:
                    place, cell = told["begins"], told["cell"]
                    told = self._exchange(None)
                self.kinds = {name: str(told["kinds"][name]) for name in self._wanted}
                self.troubles = self._lost + [(int(number), _text(error)) for number, error in told["troubles"]]
                return
            except (KeyError, TypeError, ValueError):
                self._kill()
                self._broken = _CHANNEL
                raise Ended(self._broken) from None
            except Ended as ended:
                if type(place) is not int or type(cell) is not int or len(self._lost) == _TRIES:
                    self._broken = f"The notebook could not be run: {ended}"
                    raise Ended(self._broken) from None
                self._left_out.append(place)
                self._lost.append((cell, f"{ended} The statement was left out."))

    def _start(self) -> None:
        self._kill()
        own = str(self._folder)
        root = str(Path(__file__).parents[2])
        # -I: neither the variables of the lecturer's environment nor their current folder.
        words = [sys.executable, "-I", "-B", "-c", _START, json.dumps([root, *filter(None, sys.path)])]
        kept = {name: os.environ[name] for name in ("SYSTEMROOT", "PATH") if name in os.environ}
        homes = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"), own)
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=own,
            env=kept | ONE_THREAD | homes | {"MPLBACKEND": "Agg"},
            start_new_session=True,
        )
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self._process, self._requests, self._answers), daemon=True).start()

    def _exchange(self, message: dict | None, here: wire.Here | None = None) -> dict:
        """Send a message (None: nothing) and wait for the next one that comes."""
        self._requests.put((message, here))
        try:
            answer = self._answers.get(timeout=max(self._deadline - time.monotonic(), 0.0))
        except queue.Empty:
            self._kill()
            raise Ended(f"It did not end within {self._limits.seconds:g} seconds.") from None
        if isinstance(answer, dict):
            return answer
        code = self._kill()
        raise Ended(answer if isinstance(answer, str) else _cause(code))

    def _kill(self) -> int | None:
        """End the process, if there is one, with all that it started; its exit code, if it had ended by itself."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            # The end of the stream comes before that of the process.
            process.wait(0.0 if time.monotonic() >= self._deadline else 1.0)
        code = process.poll()
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()
        self._requests.put(None)
        return code


def _serve(process: subprocess.Popen, requests: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    """In a thread, which may wait for ever where the other side does not read or write: messages out, messages in."""
    with suppress(OSError, ValueError):
        while (request := requests.get()) is not None:
            message, here = request
            try:
                if message is not None:
                    wire.send(process.stdin, message, here)
                answers.put(wire.receive(process.stdout, here))
            except wire.WireError:
                answers.put(_CHANNEL)
            except (EOFError, OSError, MemoryError):
                answers.put(None)
    with suppress(OSError):
        process.stdin.close()
    process.stdout.close()


def _cause(code: int | None) -> str:
    if code is None or code == -getattr(signal, "SIGKILL", 9):
        return "Its process was killed, as happens when memory ends."
    return f"It ended its process ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})."


def _text(value) -> str:
    return str(value)[:2000]


def _error(answer: dict) -> BaseException:
    """The student's exception, as far as it matters to whoever marks."""
    kind, message = str(answer["raised"])[:80], _text(answer.get("message", ""))
    if kind == "PackageUsed":
        return Ended(package_reason(message))
    if kind in ("NotImplementedError", "AssertionError"):
        return (NotImplementedError if kind == "NotImplementedError" else AssertionError)(message)
    return type(kind if kind.isidentifier() else "Exception", (Exception,), {})(message)


def package_reason(name: str) -> str:
    """What to tell whose answer is a function of the package."""
    return f"It uses {name}. An answer is what you write yourself, with NumPy and SciPy; the package is not there while marking."


def temporary_folder() -> tempfile.TemporaryDirectory:
    """Where a student's process works; whatever it leaves there goes."""
    return tempfile.TemporaryDirectory(prefix="c2f-marking-", ignore_cleanup_errors=True)
