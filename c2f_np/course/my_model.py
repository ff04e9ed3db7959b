"""The reader's own model: one file of functions, ``my_model.py``, which grows from notebook to notebook.

my = my_model(or_answers=True)
my.keep(propagate)              # writes the function's source into the file
my.propagate(X0, X_hat, 3)      # the function in the file; where it is missing, the course's
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import DataError
from ..files import write_text_atomically

#: How a new file begins. Functions call one another as ``my.name``, in the notebooks and here.
_HEADER = '''"""What I wrote in the course."""

import sys

import numpy as np
import scipy.sparse as sparse

my = sys.modules[__name__]  # my.name is a function of this file
'''
#: Values that can be written down as they are.
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class MyModel:
    """The functions of a file ``my_model.py``.

    An attribute is the function of that name in the file, as it stands there now. A name that the file lacks is an error, or,
    with `or_answers`, the course's answer, which is said once.
    """

    def __init__(self, path: Path, answers: dict[str, Callable] | None):
        self._path, self._answers = path, answers
        self._said: set[str] = set()
        self._loaded: tuple[str, types.ModuleType] | None = None

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        own = self._module().__dict__
        if name in own:
            return own[name]
        if self._answers is None or name not in self._answers:
            more = "" if self._answers is not None else "; my_model(or_answers=True) lets the course's answer stand in"
            raise AttributeError(f"{self._path.name} has no {name} yet. Write it in its notebook and keep it there{more}")
        if name not in self._said:
            self._said.add(name)
            print(f"my.{name}: the course's answer; yours is not in {self._path.name} yet.")
        return self._answers[name]

    def __dir__(self) -> list[str]:
        return ["keep", *self._functions(), *(self._answers or ())]

    def __repr__(self) -> str:
        return f"{self._path.name}: {', '.join(self._functions()) or 'nothing yet'}"

    def keep(self, function: Callable, name: str | None = None) -> None:
        """Write a function into the file, in place of an earlier one of that name, with what it needs of the notebook.

        Parameters
        ----------
        function : function
            Written with ``def``. Functions, imports and plain values of the notebook that it names are written down with it.
        name : str, optional
            By which it is to be found, if not its own.

        Raises
        ------
        DataError
            If its source cannot be had, if it names something that cannot be written down (an array, say), or if the file is not
            Python. The file then stays as it is.
        """
        text = self._text()
        for each, source in _with_needs(function, set(self._defined(text)), self._path):
            text = _put(text, each, source)
        if name and name != function.__name__:
            text = _put(text, name, f"{name} = {function.__name__}")
        write_text_atomically(self._path, text)

    def _text(self) -> str:
        return self._path.read_text(encoding="utf-8") if self._path.exists() else _HEADER

    def _defined(self, text: str) -> list[str]:
        try:
            return list(_names(ast.parse(text)))
        except SyntaxError as error:
            message = f"not Python: {error.msg}. Mend the line, or take it out"
            raise DataError(message, path=self._path, line=error.lineno) from None

    def _functions(self) -> list[str]:
        return [name for name, value in self._module().__dict__.items() if isinstance(value, types.FunctionType)]

    def _module(self) -> types.ModuleType:
        """The file as a module, read again when it has changed."""
        text = self._text()
        if self._loaded is None or self._loaded[0] != text:
            self._defined(text)
            module = types.ModuleType(self._path.stem)
            module.__file__ = str(self._path)
            sys.modules[module.__name__] = module  # where the file looks for itself
            try:
                exec(compile(text, str(self._path), "exec"), module.__dict__)
            except Exception as error:
                raise self._not_run(error) from None
            module.__dict__["my"] = self  # with its answers, where something is missing
            self._loaded = text, module
        return self._loaded[1]

    def _not_run(self, error: Exception) -> DataError:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(self._path)), None)
        return DataError(f"{type(error).__name__}: {error}. Mend the line, or take it out", path=self._path, line=line)


def _names(tree: ast.Module) -> Iterator[str]:
    """What a file defines."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (each.asname or each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.Assign):
            yield from (each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name))


def _put(text: str, name: str, source: str) -> str:
    """The text with a statement in place of the one that defined the name, or at the end; imports go below those at the top."""
    lines, tree = text.splitlines(), ast.parse(text)
    for node in tree.body:
        if name in _names(ast.Module([node], [])) and not isinstance(node, (ast.Import, ast.ImportFrom)):
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
            return "\n".join([*lines[: first - 1], source, *lines[node.end_lineno :]]) + "\n"
    if source.startswith(("import ", "from ")):
        last = max((node.end_lineno for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))), default=0)
        return "\n".join([*lines[:last], source, *lines[last:]]) + "\n"
    return text.rstrip("\n") + f"\n\n\n{source}\n"


def _with_needs(function: Callable, there: set[str], path: Path) -> Iterator[tuple[str, str]]:
    """Names and sources: what a function needs of the place where it was written, and itself, which comes last."""
    if not isinstance(function, types.FunctionType) or function.__name__ == "<lambda>" or function.__closure__:
        raise DataError("only a function written with def, at the left margin of a cell, can be kept", path=path)
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        raise DataError(f"the source of {function.__name__} is not to be had; copy it into the file", path=path) from None
    there.add(function.__name__)
    for name in sorted(_globals_of(function.__code__)):
        if name in there or name not in function.__globals__ or (name == "my" or hasattr(builtins, name)):
            continue
        there.add(name)
        value = function.__globals__[name]
        if isinstance(value, types.ModuleType):
            yield name, f"import {value.__name__} as {name}"
        elif isinstance(value, types.FunctionType) and value.__module__ == function.__module__:
            yield from _with_needs(value, there, path)
        elif (home := _home(value)) not in (None, function.__module__):
            yield name, f"from {home} import {value.__name__} as {name}".replace(f" {name} as {name}", f" {name}")
        elif isinstance(value, _PLAIN):
            yield name, f"{name} = {value!r}"
        else:
            kind = type(value).__name__
            raise DataError(f"{function.__name__} uses {name}, a {kind} of the notebook; make it a parameter", path=path)
    yield function.__name__, source


def _home(value) -> str | None:
    """The module from which a function or class can be imported; NumPy's compiled functions do not say it."""
    homes = (getattr(value, "__module__", None), "numpy", "scipy.special")
    name = getattr(value, "__name__", "")
    return next((home for home in homes if home and getattr(sys.modules.get(home), name, None) is value), None)


def _globals_of(code: types.CodeType) -> set[str]:
    """The global names that a function and those within it read."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(_globals_of(each) for each in code.co_consts if isinstance(each, types.CodeType)))
