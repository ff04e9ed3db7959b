"""What goes wrong with a forward or a backward, in words that help."""

from __future__ import annotations

import linecache
import os
import traceback

import numpy as np

from ..errors import C2FError
from .values import is_numbers, is_scalar


class UsageError(C2FError):
    """The checker was asked for something that makes no sense, e.g. the gradient of an argument that does not exist."""


class Trouble(Exception):
    """A forward or backward that did not do what it must; the message is help in words.

    ``item`` is the item of the contract that is broken (``'returns'``, ``'shape'``, ``'raises'``, ...), where the message
    does not come from checking that very item.
    """

    def __init__(self, message: str, item: str = "", argument: str | None = None):
        self.item, self.argument = item, argument
        super().__init__(message)


def in_words(error: BaseException, arguments: dict) -> str:
    """An exception from the code under check: what, in which of *its* lines, with which shapes."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frame = _their_frame(error)
    if frame is not None:
        text += f"\n      in {frame.filename}, line {frame.lineno}, in {frame.name}"
        line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
        text += f"\n        {line}" if line else ""
    if isinstance(error, NotImplementedError):
        inner = traceback.extract_tb(error.__traceback__)[-1].filename.replace(os.sep, "/")
        if "/numba/" in inner:
            jit = "1" if os.environ.get("NUMBA_DISABLE_JIT") == "1" else "0"
            return text + f"\n      (raised by Numba: this needs to be compiled; NUMBA_DISABLE_JIT is {jit})"
        return text + "\n      (not written yet)"
    lists = [key for key, value in arguments.items() if is_numbers(value)]
    if lists and isinstance(error, AttributeError | TypeError):
        text += f"\n      ({', '.join(lists)}: a list of numbers is handed over as a list; give an array)"
    shapes = ", ".join(f"{key} {np.shape(v)}" for key, v in arguments.items() if hasattr(v, "shape") or is_scalar(v))
    if isinstance(error, ValueError | IndexError | TypeError) and shapes:
        text += f"\n      (shapes: {shapes})"
    return text


def _their_frame(error: BaseException):
    """The deepest frame that belongs neither to the checker nor to an installed library."""
    ours, libraries = os.path.dirname(os.path.abspath(__file__)), [os.path.dirname(os.path.abspath(m.__file__)) for m in (np, os)]
    theirs = None
    for frame in traceback.extract_tb(error.__traceback__):
        path = os.path.abspath(frame.filename)
        installed = "site-packages" in frame.filename or any(path.startswith(library + os.sep) for library in libraries)
        if os.path.dirname(path) != ours and not installed:
            theirs = frame
    return theirs
