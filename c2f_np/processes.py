"""Other processes that work for this one: one piece of work after another, and when one dies, only its piece is lost.

They need pipes and nothing else. The pools of the standard library need semaphores, hence a writable ``/dev/shm``; and when one
of their processes dies, as happens when memory ends, all work is lost and nobody knows which piece it died over.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker

from .errors import C2FError


class WorkerDied(C2FError):
    """The process that did a piece of work ended before it was done."""


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block, for processes that are started there."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class Workers:
    """Up to `count` processes, each started when it is first needed, with `changes` in its environment; a context manager.

    At the end of the block they are killed, and what is not done then is dropped. None outlives this process.
    """

    _starting = threading.Lock()  # the environment is that of the whole process

    def __init__(self, count: int, changes: Mapping[str, str]):
        self._changes, self._own = dict(changes), threading.local()
        # Each thread waits for a process of its own.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="c2f-worker")
        self._processes: list = []
        self._is_over = False

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._starting:
            self._is_over = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown()

    def submit(self, function: Callable, *arguments) -> Future:
        """Have ``function(*arguments)`` called in one of the processes; the future raises WorkerDied if that one dies."""
        return self._threads.submit(self._call, function, arguments)

    def _call(self, function: Callable, arguments: tuple):
        process, connection = getattr(self._own, "worker", (None, None))
        if process is None or not process.is_alive():
            process, connection = self._start()
        try:
            connection.send((function, arguments))
            result, error = connection.recv()
        except (EOFError, OSError):
            process.join()
            raise WorkerDied(_cause(process.exitcode)) from None
        if error is not None:
            raise error
        return result

    def _start(self) -> tuple:
        context = get_context("spawn")
        connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with self._starting, environment(self._changes), _without_interrupts():
            if self._is_over:
                raise WorkerDied("it was not begun")
            process.start()
            self._processes.append(process)
        theirs.close()
        self._own.worker = process, connection
        return self._own.worker


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that this thread starts inside the block never see Ctrl-C: the one that they work for decides what it means."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first process starts a tracker of the standard library, which ends by letting Ctrl-C through (CPython, 3.11 at least).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection) -> None:
    """In a worker: do what is asked for until nobody asks any more."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            function, arguments = connection.recv()
            try:
                answer = function(*arguments), None
            except Exception as error:
                answer = None, error
            connection.send(answer)


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def _cause(code: int) -> str:
    if code == -getattr(signal, "SIGKILL", 0):
        return "its process was killed, as the system does when memory ends; fewer jobs at a time need less"
    return f"its process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
