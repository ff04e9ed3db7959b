"""The errors a user can cause, each with what is needed to correct the input.

The command line prints such an error as one line and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from .files import FilePath


class C2FError(ValueError):
    """Base class: the input, not the program, is at fault."""


class DataError(C2FError):
    """Interactions that cannot be read or used.

    Parameters
    ----------
    message : str
        What is wrong; it follows the place.
    path : path-like, optional
        The file at fault.
    line : int, optional
        Its line, counted from 1.
    value : object, optional
        The offending value as it was read.
    """

    def __init__(
        self, message: str, *, path: FilePath | None = None, line: int | None = None, value: object = None
    ) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        self.value = value
        place = "" if path is None else f"{path}" + (f", line {line}" if line is not None else "") + ": "
        shown = "" if value is None else f" (found {as_text(value)[:80]!r})"
        super().__init__(f"{place}{message}{shown}")


class SettingsError(C2FError):
    """A hyper-parameter, or a combination of them, that the model cannot have."""


class ModelFileError(C2FError):
    """A model or checkpoint file that is damaged, foreign, or of another version."""


def as_text(value: Any, form: Callable[[Any], str] = str) -> str:
    """A value as text; a whole number of more digits than Python writes, in words."""
    try:
        return form(value)
    except ValueError:
        return f"a huge {type(value).__name__}"


def in_short(value: Any) -> str:
    """A value as messages show it."""
    text = as_text(value, repr)
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text)} characters)"


def require_one_of(choices: Collection[str], value: Any, name: str) -> None:
    """Raise SettingsError unless the value of a setting is one of its choices."""
    if value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {in_short(value)}")
