"""Ids: the one door. Whatever an id is given as, in a file, a data frame or a call, it becomes one text or is refused.

    text            without the white space around it
    bytes           their UTF-8 text
    whole numbers   in decimal; 1, 1.0, "1" and "1.0" are one id
    refused         what is missing (None, NaN, NaT, NA, empty), other numbers, bool, dates, text with control characters
                    other than tabs and line ends, and everything else: whoever means its text gives its text

Case, leading zeros and Unicode's normal forms are left alone: "é" as one code point and as two are two ids. NumPy alone.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .errors import DataError, as_text, in_short
from .files import FilePath

_WHOLE_WITH_POINT = re.compile(r"(0|-?[1-9][0-9]*)\.0+")
# NumPy drops NULs at the end of a text, other control characters steer terminals, and lone surrogates are no text.
_NOT_IN_AN_ID = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MISSING_TYPES = ("NAType", "NaTType")  # those of pandas, which need not be installed


def as_id(value: object, kind: str, *, row: int | None = None, path: FilePath | None = None, line: int | None = None) -> str:
    """The one form of a user's or an item's id; a DataError that names the place and the value if it is none."""
    try:
        return _in_one_form(_text_of(value).strip())
    except ValueError as error:
        place = "" if row is None else f"row {row} (counted from 0): "
        shown = None if value is None else as_text(value).strip() or None
        raise DataError(f"{place}the {kind} id {error}", path=path, line=line, value=shown) from None


class Numbering:
    """Ids of one kind, numbered in the order in which they come."""

    def __init__(self, kind: str) -> None:
        self.kind, self.ids = kind, dict[str, int]()
        self.report = {"ids_with_white_space_trimmed": 0, "ids_with_a_decimal_point": 0}  # of different spellings
        self._seen: dict[object, int] = {}

    def number(self, value: object, **place: Any) -> int:
        """The number of an id; `place` as for :func:`as_id`."""
        # The type belongs to the key: 1, 1.0 and True are equal, and only some of them are ids.
        key = value if type(value) is str else (type(value), value)
        try:
            return self._seen[key]
        except (KeyError, TypeError):  # new, or nothing that a dictionary could hold
            text = as_id(value, self.kind, **place)
        if isinstance(value, str | bytes):
            written = _text_of(value)
            self.report["ids_with_white_space_trimmed"] += written != written.strip()
            self.report["ids_with_a_decimal_point"] += written.strip() != text
        return self._seen.setdefault(key, self.ids.setdefault(text, len(self.ids)))


def is_one_id(ids: object) -> bool:
    """Whether this is an id and not a sequence of ids."""
    return ids is None or isinstance(ids, str | bytes | numbers.Number | np.generic) or getattr(ids, "shape", None) == ()


def one_by_one(ids: Iterable[Any], kind: str) -> list[Any]:
    """The ids of a list, an array or a column of a data frame, each as it was given."""
    if is_one_id(ids):
        raise DataError(f"{kind} ids must be a sequence of ids, not one", value=ids)
    if isinstance(ids, Mapping) or hasattr(ids, "columns") or hasattr(ids, "column_names"):
        raise DataError(f"{kind} ids must be a list or a column, not a whole data frame or dictionary")
    values: Any = ids
    name = str(getattr(values, "dtype", getattr(values, "type", ""))).lower().removeprefix("half")
    if hasattr(values, "to_numpy") and name.startswith("float"):
        values = values.to_numpy()  # in its own precision, which limits the whole numbers that it can tell apart
    elif not isinstance(values, np.ndarray):
        for method in ("to_pylist", "to_list"):
            if hasattr(values, method):
                values = getattr(values, method)()
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind in "Mm":
            raise DataError(f"{kind} ids must be one-dimensional, text or whole numbers, not {values.dtype} of {values.shape}")
        return list(values) if values.dtype in (np.float16, np.float32) else values.tolist()
    try:
        return list(values)
    except TypeError:
        raise DataError(f"{kind} ids must be a sequence of ids, not {type(ids).__name__}") from None


def as_ids(ids: Iterable[Any], kind: str) -> np.ndarray:
    """The one form of each of a sequence of ids, as an array of str."""
    return np.array([as_id(value, kind, row=row) for row, value in enumerate(one_by_one(ids, kind))], dtype=np.str_)


def require_ids(ids: Any, kind: str) -> None:
    """Raise DataError unless `ids` is a one-dimensional array of different ids in their one form."""
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind != "U":
        raise DataError(f"{kind} ids must be a one-dimensional array of strings")
    for row, text in enumerate(ids.tolist()):
        if as_id(text, kind, row=row) != text:
            raise DataError(f"row {row} (counted from 0): the {kind} id should be {in_short(as_id(text, kind))}", value=text)
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        repeated = values[counts.argmax()]
        raise DataError(f"{kind} ids must be unique; this one occurs {counts.max()} times", value=repeated)


def _text_of(value: Any) -> str:
    """An id as text, the white space around it included; ValueError if it is no id."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("is of bytes that are not UTF-8 text") from None
    if value is None or type(value).__name__ in _MISSING_TYPES or as_text(value) in ("NaT", "nan", "NaN", "sNaN"):
        raise ValueError("is missing")
    if isinstance(value, numbers.Number) and not isinstance(value, bool | np.bool_ | np.timedelta64):
        return _whole(value)
    raise ValueError(f"must be text or a whole number, not {type(value).__name__}; give its text if that is meant")


def _whole(value: Any) -> str:
    """A whole number in decimal; ValueError if it is another number, or may have been one before it was rounded."""
    try:
        whole = int(value)
        text = str(whole)
    except (ValueError, OverflowError, TypeError):  # infinite, complex, or of thousands of digits
        raise ValueError("is not a whole number that can be written") from None
    if whole != value:
        raise ValueError("is not a whole number; give text if it is a name")
    if isinstance(value, float | np.floating) and abs(whole) > 2 ** (np.finfo(type(value)).nmant + 1):
        raise ValueError(f"may have been rounded to {type(value).__name__}; give whole numbers or text")
    return text


def _in_one_form(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    if _NOT_IN_AN_ID.search(text):
        raise ValueError("holds NUL, a control character, or half a surrogate pair")
    whole = _WHOLE_WITH_POINT.fullmatch(text)
    return whole[1] if whole else text
