"""What all readers share: opening a file, numbering its lines, turning a field into an id or a number.

Every function names the file, the line and the value when it refuses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..errors import DataError

LARGEST_ID = 2**31 - 1
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
# float() would also take 1_000 and digits of other scripts.
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)


@contextmanager
def open_text(path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a UTF-8 file for reading, with or without a byte-order mark.

    Parameters
    ----------
    path : path-like
    newline : str or None
        As in :func:`open`; None makes every kind of line ending a ``\\n``.

    Yields
    ------
    text file

    Raises
    ------
    DataError
        If the file is missing, is a folder, cannot be read, or holds bytes that are not UTF-8.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except FileNotFoundError:
        raise DataError("there is no such file", path=path) from None
    except IsADirectoryError:
        raise DataError("this is a folder; a file is needed", path=path) from None
    except UnicodeDecodeError:
        line, bad_bytes = _first_undecodable(path)
        raise DataError(
            "the bytes are not UTF-8 text; save the file as UTF-8", path=path, line=line, value=bad_bytes
        ) from None
    except OSError as error:
        if path.is_dir():  # Windows says "permission denied"
            raise DataError("this is a folder; a file is needed", path=path) from None
        raise DataError(f"it cannot be read: {error.strerror or error}", path=path) from None


def _first_undecodable(path: Path) -> tuple[int, str]:
    """Return the line and the hexadecimal value of the first bytes that are not UTF-8."""
    raw = path.read_bytes()
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return raw.count(b"\n", 0, error.start) + 1, "0x" + raw[error.start : error.end].hex()
    return 1, ""


def numbered_lines(path) -> Iterator[tuple[int, str]]:
    """Iterate over ``(line number from 1, line)`` of a file; raises as :func:`open_text`."""
    with open_text(path) as file:
        yield from enumerate(file, 1)


def parse_whole_id(field: str, what: str, path, line: int) -> int:
    """Return a whole-number id of 0 to 2**31 - 1.

    Parameters
    ----------
    field : str
        The field as read.
    what : str
        What it should be, for the message: ``"user id"``.
    path : path-like
    line : int

    Returns
    -------
    int

    Raises
    ------
    DataError
        If it is not a whole number, is negative, or is too large.
    """
    if not _WHOLE_NUMBER.fullmatch(field):
        raise DataError(f"the {what} is not a whole number", path=path, line=line, value=field)
    if field.startswith("-"):
        raise DataError(f"the {what} is negative", path=path, line=line, value=field)
    digits = field.lstrip("0")
    if len(digits) > 10 or int(digits or "0") > LARGEST_ID:
        raise DataError(f"the {what} is larger than {LARGEST_ID}", path=path, line=line, value=field)
    return int(digits or "0")


def parse_number(field: str, what: str, path, line: int) -> float:
    """Return a finite number; arguments and errors as :func:`parse_whole_id`."""
    text = field.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        raise DataError(f"the {what} is too large", path=path, line=line, value=field)
    if _NOT_FINITE.fullmatch(text):
        raise DataError(f"the {what} must be finite", path=path, line=line, value=field)
    # An empty value would not be shown by the error itself.
    raise DataError(f"the {what} is {'not a number' if text else 'empty'}", path=path, line=line, value=field or None)
