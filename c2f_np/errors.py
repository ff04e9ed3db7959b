"""The errors a user can cause, each with what is needed to correct the input.

The command line prints such an error as one line and exits with code 2.
"""

from __future__ import annotations

from pathlib import Path

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
        shown = "" if value is None else f" (found {str(value)[:80]!r})"
        super().__init__(f"{place}{message}{shown}")


class SettingsError(C2FError):
    """A hyper-parameter, or a combination of them, that the model cannot have."""


class ModelFileError(C2FError):
    """A model or checkpoint file that is damaged, foreign, or of another version."""
