"""What runs in a student's process: the cells of the notebook, then the student's functions at the arguments that are sent.

Nothing here decides anything. The other side sends arguments, gets back what the student's function returned, and judges that.
In place of `c2f_np` there are stand-ins, except for `c2f_np.gradcheck`: the work is to be the student's own, and cells that only
demonstrate the package take no time. While an exercise is marked, stand-ins ask the other side, which computes what the exercise
allows, and answers to other exercises that the student has not written. `fence.py` says what this process may not do.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import importlib.abc
import importlib.machinery
import os
import re
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

from . import wire
from .fence import may_be_imported, put_up

#: What stands for the students' package.
_PACKAGE = "c2f_np"


class PackageUsed(Exception):
    """A function of the package was called, which is not there."""


class _Link(wire.Here):
    """The way to the other side, and what is known about the exercise that is being marked."""

    def __init__(self, source, sink):
        super().__init__()
        self._source, self._sink = source, sink
        self.exercise: str | None = None
        self.failed: list[str] = []

    def send(self, message: dict) -> None:
        wire.send(self._sink, message, self)

    def receive(self) -> dict:
        return wire.receive(self._source, self)

    def call(self, target, arguments=(), named=None):
        """Call a function of the other side: by its number, its name, or as an object's number and what is wanted of it."""
        if self.exercise is None:
            raise PackageUsed(target)
        self.send({"call": target, "arguments": list(arguments), "named": named or {}})
        while "call" in (answer := self.receive()):  # a function of ours that was handed over
            self.send(_answer(self.things[answer["call"]], answer["arguments"]))
        if "raised" in answer:
            kind = PackageUsed if answer["raised"] == "PackageUsed" else getattr(builtins, answer["raised"], None)
            is_error = isinstance(kind, type) and issubclass(kind, Exception)
            raise (kind if is_error else RuntimeError)(answer["message"])
        wire.keep_changes(arguments, answer.get("changed"))
        return answer["result"]

    def function(self, number: int) -> Callable:
        return lambda *arguments, **named: self.call(number, arguments, named)

    def thing(self, number: int) -> object:
        return _Remote(self, number)

    def record(self, name: str, values: dict) -> object:
        if name not in self.records:
            self.records[name] = dataclasses.make_dataclass(name, values, frozen=True)
            setattr(self.records[name], "__iter__", lambda record: iter(vars(record).values()))  # noqa: B010
        return self.records[name](**values)


class _Remote:
    """An object of the other side."""

    def __init__(self, link: _Link, number: int):
        self.__dict__.update(_link=link, _number=number)

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return self._link.call([self._number, name])


class _StandIn:
    """For anything of the package: it may be imported, named and handed on, but used only as far as the other side allows."""

    def __init__(self, name: str, link: _Link):
        self.__dict__.update(_name=name, _link=link)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(f"{self._name}.{name}", self._link)

    def __repr__(self) -> str:
        return f"<{self._name}, which is not there while marking>"

    def __call__(self, *arguments, **named):
        return self._link.call(self._name, arguments, named)

    def __iter__(self):
        raise PackageUsed(self._name)

    __getitem__ = __len__ = __array__ = __bool__ = __float__ = __iter__


class _MyModel:
    """The student's model: what stands in the notebook or in a my_model.py beside it, else the course's answer."""

    def __init__(self, found: Callable[[str], object], answers: list[str], link: _Link):
        self.__dict__.update(_found=found, _answers=answers, _link=link)

    def keep(self, *_, **__) -> None:
        """There is nothing to keep: everything is in the notebook."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        own = self._found(name)
        if own is _MISSING and name not in self._answers:
            raise AttributeError(f"there is no {name}, neither in the notebook nor in my_model.py")
        stands_in = _StandIn(f"my.{name}", self._link)
        if not isinstance(own, types.FunctionType):
            return stands_in if own is _MISSING else own

        def function(*arguments, **named):
            if name in self._answers and self._link.exercise is None:
                raise PackageUsed(f"my.{name}")  # a demonstration: it may take long, or never end
            if name not in self._answers or name == self._link.exercise:
                return own(*arguments, **named)
            if name not in self._link.failed:
                with contextlib.suppress(NotImplementedError):
                    return own(*arguments, **named)
            return stands_in(*arguments, **named)

        return function


class _StandInModule(types.ModuleType):
    __path__: list = []
    _link: _Link

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(f"{self.__name__}.{name}", self._link)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives stand-ins for the modules of the package; `attempts` receives what is given to checks."""

    def __init__(self, attempts: dict, my: _MyModel, link: _Link):
        self._attempts, self._my, self._link = attempts, my, link

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != _PACKAGE or may_be_imported(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return _StandInModule(spec.name)

    def exec_module(self, module) -> None:
        module._link = self._link
        if module.__name__ == f"{_PACKAGE}.course":
            module.exercise = lambda name, **_: _Exercise(name, self._attempts, self._link)
            module.all_exercises = lambda: _Exercises(self._attempts, self._link)
            module.my_model = lambda *_, **__: self._my


class _Exercise(_StandIn):
    """Takes note of what is given to its check, which says nothing here."""

    def __init__(self, name: str, attempts: dict, link: _Link):
        super().__init__(f"the answer to {name}", link)
        self.__dict__.update(name=name, _attempts=attempts)

    def check(self, attempt, *_, **__):
        """Of several the last counts; one that has the exercise's name counts before others."""
        named = [getattr(each, "__name__", "") == self.name for each in (attempt, self._attempts.get(self.name))]
        if named[0] or not named[1]:
            self._attempts[self.name] = attempt
        return _Checked()

    mark = check

    def hint(self) -> str:
        return ""


class _Checked:
    """So that ``assert task.check(f)`` and ``task.check(f).keep()`` go on."""

    passed, points, message = True, 1, ""

    def keep(self, *_, **__) -> _Checked:
        return self


class _Exercises(dict):
    def __init__(self, attempts: dict, link: _Link):
        super().__init__()
        self._attempts, self._link = attempts, link

    def __missing__(self, name: str):
        return _Exercise(name, self._attempts, self._link)


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
    link = _Link(source, sink)
    start = link.receive()
    for name in [name for name in sys.modules if name.startswith(f"{_PACKAGE}.") and not may_be_imported(name)]:
        sys.modules.pop(name)
    notebook, file = types.ModuleType("__main__"), types.ModuleType("my_model")

    def found(name: str):
        """What the student has of that name: given to a check, in the notebook, or in the file beside it."""
        places = (attempts, notebook.__dict__, file.__dict__)
        return next((place[name] for place in places if isinstance(place.get(name), types.FunctionType)), _MISSING)

    my = _MyModel(found, start["answers"], link)
    sys.meta_path.insert(0, _Finder(attempts, my, link))
    put_up(start["fence"])
    sys.modules.update(__main__=notebook, my_model=file)
    notebook.__dict__.update(get_ipython=lambda: _Shell(), display=lambda *_, **__: None)
    cells, own = start["cells"], Path("my_model.py")
    if own.is_file():
        cells = [[_FILE, own.read_text(encoding="utf-8", errors="replace") + "\nmy = _my\n"], *cells]
        file.__dict__["_my"] = my
    troubles = _run(cells, start["left_out"], {_FILE: file.__dict__}, notebook.__dict__, link)
    for name, function in start["wanted"].items():
        attempts.setdefault(name, notebook.__dict__.get(function, _MISSING))
    link.send({"kinds": {name: _kind(attempts[name]) for name in start["wanted"]}, "troubles": troubles})
    while True:
        request = link.receive()
        link.exercise, link.failed = request["exercise"], request["failed"]
        try:
            link.send(_answer(attempts[request["exercise"]], request["arguments"]))
        except wire.WireError as error:
            link.send({"raised": "MemoryError", "message": str(error)})


_MISSING = object()
#: The number of the cell that the student's my_model.py counts as.
_FILE = 0


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


def _run(cells: list, left_out: list, names_of: dict, names: dict, link: _Link) -> list:
    """Run the cells, statement by statement, each even if an earlier one fails; returns [cell, error] of those that fail.

    `names_of` holds the names of cells that do not have those of the notebook.
    """
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
            link.send({"begins": place, "cell": number})
            try:
                exec(compile(ast.Module([statement], []), f"cell {number}", "exec"), names_of.get(number, names))
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
    try:
        return wire.performed(attempt, arguments)
    except BaseException as error:
        return {"raised": type(error).__name__, "message": _told(error, with_type=False)}


def _told(error: BaseException, with_type: bool = True) -> str:
    try:
        text = str(error)[:500]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if with_type else text
