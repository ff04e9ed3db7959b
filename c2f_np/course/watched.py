"""What an attempt calls of the package: an answer is what its reader writes."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

_FOLDER = Path(__file__).parents[1]
#: Through these a reader's file, an exercise or a student's process is reached. They compute nothing.
_WAYS = tuple(f"c2f_np.{name}" for name in ("course", "course.exercise", "course.my_model", "course.watched",
                                            "teaching.session", "teaching.wire"))  # fmt: skip
_SOLUTION = "the course's answer"


class Watched:
    """A function, called as it is; ``used`` names the first thing of the package that it called and that it may not call.

    ``measured`` is whether it called the forward, of which it should compute the derivative, close to the point it was given.

    Parameters
    ----------
    function : callable
    solution : callable
        Is never allowed.
    others : iterable of callable
        Functions of the package that it may call, whatever they call in turn.
    allowed : iterable of str
        Full names of more such functions, or of modules all of whose functions are.
    forward : callable, optional
        Its arguments are those of the function, but for the first one.

    What is handed in as an argument may be called, too.
    """

    def __init__(self, function: Callable, solution: Callable | None, others: Iterable[Callable], allowed: Iterable[str] = (),
                 forward: Callable | None = None):  # fmt: skip
        self.function, self.used, self.measured = function, "", False
        self._forward = _code(forward)
        self._solution = _code(solution)
        self._others = {id(_code(each)) for each in others if _code(each) is not self._solution}
        self._allowed = tuple(allowed)

    def __call__(self, *arguments, **named):
        given = {id(code) for value in (*arguments, *named.values()) for code in _codes_in(value)}
        before = sys.getprofile()
        sys.setprofile(self._look(given, arguments[1:]))
        try:
            return self.function(*arguments, **named)
        except SystemExit:
            raise RuntimeError("it leaves Python (exit)") from None
        finally:
            sys.setprofile(before)

    def _look(self, given: set[int], point: tuple) -> Callable:
        inside, is_given = None, False  # the frame of a function that may be called, while it runs

        def look(frame: types.FrameType, event: str, argument) -> None:
            nonlocal inside, is_given
            if event == "call" and frame.f_code is self._forward and not self.measured:
                names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
                self.measured = any(_is_beside(frame.f_locals[name], value) for name, value in zip(names, point, strict=False))
            if inside is not None:
                if event == "call" and frame.f_code is self._solution and not is_given:
                    self.used = self.used or _SOLUTION
                elif event == "return" and frame is inside:
                    inside = None
                return
            if event != "call":
                return
            code = frame.f_code
            if code is self._solution:
                self.used = self.used or _SOLUTION
            elif id(code) in given:
                inside, is_given = frame, True
            elif id(code) in self._others or code.co_name == "<module>":
                inside, is_given = frame, False
            elif (module := module_of(code)) and module not in _WAYS:
                name = f"{module}.{code.co_qualname}"
                if _is_within(name, self._allowed):
                    inside, is_given = frame, False
                else:
                    self.used = self.used or name

        return look


def module_of(code: types.CodeType) -> str:
    """The module of the package in which a function stands, or "". The file tells: a compiled function has no other mark."""
    if not code.co_filename.startswith(str(_FOLDER)):
        return ""
    return ".".join(Path(code.co_filename).relative_to(_FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")


def is_allowed(name: str, allowed: Iterable[str]) -> bool:
    """Whether the function that can be imported by this name is among those that are allowed."""
    try:
        return _is_within(_full_name(name), allowed)
    except (ImportError, AttributeError, ValueError):
        return False


def _is_within(name: str, allowed: Iterable[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in map(_full_name, allowed))


def _full_name(name: str) -> str:
    """Where a thing stands, given by any name under which it can be imported."""
    found = pkgutil.resolve_name(name)
    return found.__name__ if isinstance(found, types.ModuleType) else f"{found.__module__}.{found.__qualname__}"


def _is_beside(value, given) -> bool:
    """Whether an array or a number is not the given one, but close to it, as for a difference; or off the real line."""
    value, given = (getattr(part, "data", part) if hasattr(part, "toarray") else part for part in (value, given))
    kinds = (np.ndarray, np.number, float, int, complex)
    if not (isinstance(value, kinds) and isinstance(given, kinds)) or np.shape(value) != np.shape(given):
        return False
    distance = np.abs(np.asarray(value) - given)
    return bool(np.any(distance > 0) and np.all(distance <= 0.1 * np.max(np.abs(given), initial=0.0)))


def _code(function) -> types.CodeType | None:
    if type(function) is types.FunctionType and not hasattr(function, "__wrapped__"):
        return function.__code__
    function = inspect.unwrap(getattr(function, "py_func", function)) if callable(function) else None
    return getattr(getattr(function, "__func__", function), "__code__", None)


def _codes_in(value) -> Iterator[types.CodeType]:
    """The functions in an argument, and the methods of its class if that is one of the package."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _codes_in(part)
    elif isinstance(value, dict):
        yield from _codes_in(list(value.values()))
    elif (code := _code(value)) is not None:
        yield code
    elif type(value).__module__.startswith(_FOLDER.name):
        methods = [part for kind in type(value).__mro__ for part in vars(kind).values()]
        yield from filter(None, (_code(getattr(each, "fget", None) or getattr(each, "func", each)) for each in methods))
        if dataclasses.is_dataclass(value):
            yield from _codes_in([getattr(value, each.name) for each in dataclasses.fields(value)])
    elif callable(getattr(value, "func", None)):
        yield from _codes_in(value.func)
