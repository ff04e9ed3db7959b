"""What runs in a student's process: the cells of the notebook, then the student's functions at the arguments that are sent.

Nothing here decides anything. The other side sends arguments, gets back what the student's function returned, and judges that.
In place of `c2f_np` there are stand-ins that raise when they are used, except for `c2f_np.gradcheck`: the work is to be the
student's own, and cells that only demonstrate the package take no time. `fence.py` says what this process may not do.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib.abc
import importlib.machinery
import io
import os
import re
import signal
import sys
import threading
import time
import types

from . import wire
from .fence import may_be_imported, put_up

#: What stands for the students' package.
_PACKAGE = "c2f_np"


class PackageUsed(Exception):
    """A function of the package was called, which is not there."""


class _StandIn:
    """For anything of the package: it may be imported, named and handed on, but not used."""

    def __init__(self, name: str):
        self.__dict__["_name"] = name

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(f"{self._name}.{name}")

    def __repr__(self) -> str:
        return f"<{self._name}, which is not there while marking>"

    def __call__(self, *arguments, **_):
        if self._name == "c2f_np.model.loss.sigmoid":  # a notebook hands it to its readers for an answer
            from scipy.special import expit

            return expit(*arguments)
        raise PackageUsed(self._name)

    def __iter__(self):
        raise PackageUsed(self._name)

    __getitem__ = __len__ = __array__ = __bool__ = __float__ = __call__


class _StandInModule(types.ModuleType):
    __path__: list = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(f"{self.__name__}.{name}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives stand-ins for the modules of the package; `attempts` receives what is given to checks."""

    def __init__(self, attempts: dict):
        self._attempts = attempts

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != _PACKAGE or may_be_imported(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return _StandInModule(spec.name)

    def exec_module(self, module) -> None:
        if module.__name__ == f"{_PACKAGE}.course":
            module.exercise = lambda name, **_: _Exercise(name, self._attempts)
            module.all_exercises = lambda: _Exercises(self._attempts)


class _Exercise(_StandIn):
    """Takes note of what is given to its check, which says nothing here."""

    def __init__(self, name: str, attempts: dict):
        super().__init__(f"the answer to {name}")
        self.__dict__.update(name=name, _attempts=attempts)

    def check(self, attempt, *_, **__):
        self._attempts[self.name] = attempt
        return _Checked()

    mark = check

    def hint(self) -> str:
        return ""


class _Checked:
    """So that ``assert task.check(f)`` goes on."""

    passed, points, message = True, 1, ""


class _Exercises(dict):
    def __init__(self, attempts: dict):
        super().__init__()
        self._attempts = attempts

    def __missing__(self, name: str):
        return _Exercise(name, self._attempts)


def main() -> None:
    """Serve on the standard streams, which the student's code does not see."""
    source, sink = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side decides what Ctrl-C means
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    attempts: dict = {}
    start = wire.receive(source)
    for name in [name for name in sys.modules if name.startswith(f"{_PACKAGE}.") and not may_be_imported(name)]:
        sys.modules.pop(name)
    sys.meta_path.insert(0, _Finder(attempts))
    put_up(start["fence"])
    notebook = types.ModuleType("__main__")
    sys.modules["__main__"] = notebook
    notebook.__dict__.update(get_ipython=lambda: _Shell(), display=lambda *_, **__: None)
    troubles = _run(start["cells"], start["left_out"], notebook.__dict__, sink)
    for name, function in start["wanted"].items():
        attempts.setdefault(name, notebook.__dict__.get(function, _MISSING))
    wire.send(sink, {"kinds": {name: _kind(attempts[name]) for name in start["wanted"]}, "troubles": troubles})
    while True:
        request = wire.receive(source, lambda number: _theirs(number, source, sink))
        try:
            wire.send(sink, _answer(attempts[request["exercise"]], request["arguments"]))
        except wire.WireError as error:
            wire.send(sink, {"raised": "MemoryError", "message": str(error)})


_MISSING = object()


def _end_with_parent(parent: int) -> None:
    """A loop without end stops at the latest when nobody waits for it any more."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _kind(attempt) -> str:
    """ "function", "missing", "package NAME", or the name of another type."""
    if attempt is _MISSING:
        return "missing"
    if isinstance(attempt, _StandIn):
        return f"package {attempt._name}"
    return "function" if callable(attempt) else type(attempt).__name__


class _Shell:
    """For magics and ``get_ipython()``, which do nothing here."""

    def __getattr__(self, name: str):
        return lambda *_, **__: None


def _run(cells: list, left_out: list, names: dict, sink) -> list:
    """Run the cells, statement by statement, each even if an earlier one fails; returns [cell, error] of those that fail."""
    troubles, place = [], 0
    for number, source in cells:
        try:
            statements = ast.parse(_python(source), f"cell {number}").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            troubles.append([number, _told(error)])
            continue
        for statement in statements:
            place += 1
            if place in left_out:
                continue
            wire.send(sink, {"begins": place, "cell": number})
            try:
                exec(compile(ast.Module([statement], []), f"cell {number}", "exec"), names)
            except PackageUsed:
                pass  # a demonstration
            except BaseException as error:  # also SystemExit, and what a student's class derives from BaseException
                troubles.append([number, _told(error)])
    return troubles


def _python(source: str) -> str:
    """A cell without IPython's own commands; ``%%writefile`` writes."""
    first, _, rest = source.lstrip().partition("\n")
    if found := re.match(r"%%writefile\s+(-a\s+)?(\S+)\s*$", first):
        return f"with open({found[2]!r}, {'a' if found[1] else 'w'!r}, encoding='utf-8') as _file: _file.write({rest!r})"
    if first.startswith("%%"):
        return rest if first.split()[0] in ("%%time", "%%timeit", "%%capture") else ""
    if not _is_ipython(source):
        return source
    return "\n".join("" if re.match(r"\s*[%!?]|[\w.]+\?{1,2}\s*$", line) else line for line in source.split("\n"))


def _is_ipython(source: str) -> bool:
    try:
        compile(source, "cell", "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    except (SyntaxError, ValueError):
        return True
    return False


def _answer(attempt, arguments: list) -> dict:
    """What the student's function returned or raised, and the arguments that it changed."""
    before = [_bytes(value) for value in arguments]
    try:
        result = attempt(*arguments)
    except BaseException as error:
        return {"raised": type(error).__name__, "message": _told(error, with_type=False)}
    after = {number: value for number, value in enumerate(arguments) if _bytes(value) != before[number]}
    return {"result": result, "changed": after}


def _bytes(value):
    """What would be sent for a value, to see whether it changes."""
    stream = io.BytesIO()
    with contextlib.suppress(wire.WireError):
        wire.send(stream, {"value": value}, [])
    return stream.getvalue()


def _theirs(number: int, source, sink):
    """A function of the other side."""

    def function(*arguments, **named):
        wire.send(sink, {"call": number, "arguments": arguments, "named": named})
        answer = wire.receive(source)
        if "raised" in answer:
            kind = getattr(builtins, answer["raised"], None)
            is_error = isinstance(kind, type) and issubclass(kind, Exception)
            raise (kind if is_error else RuntimeError)(answer["message"])
        return answer["result"]

    return function


def _told(error: BaseException, with_type: bool = True) -> str:
    try:
        text = str(error)[:500]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if with_type else text
