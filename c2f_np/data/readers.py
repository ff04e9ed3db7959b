"""Reading files, and writing LightGCN text. Every refusal names the file, and the line and the value where there is one.

LightGCN text, one line per user: the user's id, then the ids of the items. A user without items is legal. A file in which every
line has 3 or in which every line has 4 numbers, and users have several lines, is a table of user, item, rating (and time) and is
refused::

    0 3 17 42
    2

MovieLens, ``u.data`` (tabs) and ``ratings.dat`` (double colons): user, item, rating, seconds since 1970::

    196	242	3	881250949
    1::1193::5::978300760

CSV and TSV, whose first line names the columns; ids may be any strings::

    user,item,rating,timestamp
    anna,"The Sting, 1973",4,881250949

RecBole's ``.inter``: tabs, no quoting, and a type after each name of the header, such as ``user_id:token timestamp:float``.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import DataError
from ..files import FilePath, write_text_atomically
from ..ids import Numbering
from .columns import date_in_seconds, find_columns
from .dataset import Dataset, disjoint_parts
from .interactions import Interactions, assemble, keys_of_codes
from .splits import Split

LARGEST_ID = 2**31 - 1
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
# float() would also take 1_000 and digits of other scripts.
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)

_LIGHTGCN_FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
_DIGITS_AND_SPACES = re.compile(r"[0-9 \t\n]*")

_OTHER_TABLES = "; a table whose first line names its columns (user,item,rating) is read from a .csv file or with --format csv"


def read_lightgcn_file(path: FilePath) -> Interactions:
    """Read one file in LightGCN text form, without any split. Users without items are left out.

    Raises
    ------
    DataError
        If the file is missing, empty or malformed, or an id is negative or larger than 2**31 - 1; with path, line, value.
    """
    user, item, _ = _read_lightgcn_pairs(path)
    users, user = np.unique(user, return_inverse=True)
    items, item = np.unique(item, return_inverse=True)
    numberings = Numbering("user"), Numbering("item")
    for numbering, ids in zip(numberings, (users, items), strict=True):
        for number in ids.tolist():
            numbering.number(number)
    return assemble(user, item, *numberings, None, None, None, str(path), path)


def read_lightgcn(folder: FilePath) -> Split:
    """Read a folder in LightGCN text form, with the split it comes with.

    Users and items are those that any of the files mentions. Pairs of the test or validation file that are in the training file
    too are dropped there, and counted; so are validation pairs that are in the test file.

    Parameters
    ----------
    folder : path-like
        Holds ``train.txt`` and at least one of ``test.txt`` and ``valid.txt``.

    Raises
    ------
    DataError
        As :func:`read_lightgcn_file`, or if files are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder", path=folder)
    present = {part: folder / name for part, name in _LIGHTGCN_FILES.items() if part == "train" or (folder / name).exists()}
    if len(present) == 1:
        raise DataError("there is no test.txt beside train.txt, so no split is given", path=folder)
    read = {part: _read_lightgcn_pairs(path) for part, path in present.items()}
    users = np.unique(np.concatenate([users for _, _, users in read.values()]))
    items = np.unique(np.concatenate([item for _, item, _ in read.values()]))
    keys = dict.fromkeys(_LIGHTGCN_FILES)
    for part, (user, item, _) in read.items():
        keys[part] = keys_of_codes(np.searchsorted(users, user), np.searchsorted(items, item), len(items))
    parts, dropped = disjoint_parts(**keys, shape=(len(users), len(items)))
    n_rows = sum(len(user) for user, _, _ in read.values())
    report = {"rows_read": n_rows, "duplicates_merged": n_rows - sum(len(keys[part]) for part in read), **dropped}
    how = "as given by " + ", ".join(path.name for path in present.values())
    return Split(*parts, users.astype(np.str_), items.astype(np.str_), how, folder.name, report)


def write_lightgcn(data: Dataset | Split, folder: FilePath) -> None:
    """Write ``train.txt`` and, where there are such parts, ``valid.txt`` and ``test.txt``.

    Parameters
    ----------
    data : Dataset or Split
        Its external ids must be whole numbers from 0 to 2**31 - 1.
    folder : path-like
        Created if it is missing.

    Raises
    ------
    DataError
        If an id is anything else.
    OSError
        If the folder cannot be written.
    """
    folder = Path(folder)
    users, items = data.user_ids.tolist(), data.item_ids.tolist()
    for kind, ids in (("user", users), ("item", items)):
        for external_id in ids:
            if not re.fullmatch(r"0|[1-9][0-9]{0,9}", external_id) or int(external_id) > LARGEST_ID:
                raise DataError(f"this {kind} id does not fit the LightGCN text format", value=external_id)
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in _LIGHTGCN_FILES.items():
        matrix = getattr(data, part)
        if matrix is None or (part != "train" and not matrix.nnz):
            (folder / name).unlink(missing_ok=True)  # of an earlier data set
        else:
            rows = np.split(matrix.indices, matrix.indptr[1:-1])
            lines = (" ".join([user, *(items[i] for i in row.tolist())]) + "\n" for user, row in zip(users, rows, strict=True))
            write_text_atomically(folder / name, "".join(lines))


def read_u_data(path: FilePath, *, rating_threshold: float | None = None) -> Interactions:
    """Read MovieLens 100K's ``u.data``: user, item, rating, timestamp, separated by tabs.

    Parameters
    ----------
    path : path-like
    rating_threshold : float, optional
        Keep rows whose rating is at least this; by default every rating counts as an interaction.

    Returns
    -------
    Interactions
        With timestamps in seconds since 1970.

    Raises
    ------
    DataError
        If the file is missing, empty or malformed; with path, line and value.
    """
    return _read_movielens(path, "\t", rating_threshold)


def read_ratings_dat(path: FilePath, *, rating_threshold: float | None = None) -> Interactions:
    """Read MovieLens 1M's or 10M's ``ratings.dat``; as :func:`read_u_data`, but separated by ``::``."""
    return _read_movielens(path, "::", rating_threshold)


def read_csv(
    path: FilePath,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    separator: str | None = None,
    rating_threshold: float | None = None,
) -> Interactions:
    """Read a CSV or TSV file whose first line names the columns.

    Parameters
    ----------
    path : path-like
        UTF-8. Fields may be quoted; spaces after a separator are skipped.
    user_column, item_column, rating_column, timestamp_column : str, optional
        Names in the header. By default found among the usual ones, such as ``user``, ``user_id``, ``userId``, ``item``,
        ``movieId``, ``rating``, ``timestamp``, ``time``. For the last two, ``""`` means: do not read one.
    separator : str, optional
        One character; by default a tab for ``.tsv``, else whichever of ``, ; tab |`` occurs most often in the header.
    rating_threshold : float, optional
        Keep rows whose rating is at least this; by default every row counts.

    Returns
    -------
    Interactions
        With timestamps if there is such a column.

    Raises
    ------
    DataError
        If the file is missing, empty or malformed, or it is unclear which column is which; with path, line and value.
    """
    columns = {"user": user_column, "item": item_column, "rating": rating_column, "timestamp": timestamp_column}
    if separator is None:
        separator = _guess_separator(path)
    elif separator in (r"\t", "tab"):  # what people type in a shell
        separator = "\t"
    elif len(separator) != 1 or separator in '\r\n" ':
        raise DataError("the separator must be one character, not a quote, space or line end", value=separator)
    return _read_table(path, separator, columns, rating_threshold)


def read_recbole(
    path: FilePath,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    rating_threshold: float | None = None,
) -> Interactions:
    """Read a RecBole ``.inter`` file: tabs, and a header such as ``user_id:token  item_id:token  timestamp:float``.

    Parameters
    ----------
    path : path-like
    user_column, item_column, rating_column, timestamp_column : str, optional
        Names in the header, without the type; as in :func:`read_csv`.
    rating_threshold : float, optional
        As in :func:`read_csv`.

    Raises
    ------
    DataError
        As :func:`read_csv`, or if the header has no types.
    """
    columns = {"user": user_column, "item": item_column, "rating": rating_column, "timestamp": timestamp_column}
    return _read_table(path, "\t", columns, rating_threshold, is_recbole=True)


class _Rows:
    """Rows while they stream past; ids are numbered by first appearance."""

    def __init__(self):
        self.users, self.items = Numbering("user"), Numbering("item")
        self.user, self.item, self.ratings, self.timestamps = array("q"), array("q"), array("d"), array("d")

    def add(self, user_id: object, item_id: object, path, line: int) -> None:
        self.user.append(self.users.number(user_id, path=path, line=line))
        self.item.append(self.items.number(item_id, path=path, line=line))

    def interactions(self, rating_threshold: float | None, path) -> Interactions:
        columns = self.user, self.item, self.users, self.items, self.ratings or None, self.timestamps or None
        return assemble(*columns, rating_threshold, str(Path(path)), path)


def _read_movielens(path, separator: str, rating_threshold: float | None) -> Interactions:
    rows = _Rows()
    for number, line in numbered_lines(path):
        line = line.rstrip("\n")
        fields = line.split(separator)
        if len(fields) != 4:
            if not line.strip():
                continue
            needed = "needed: 4 (user, item, rating, timestamp, separated by " + separator.replace("\t", "tab") + ")"
            raise DataError(f"number of fields: {len(fields)}, {needed}", path=path, line=number, value=line)
        user, item = (_whole_id(field, what, path, number) for field, what in zip(fields, ("user id", "item id"), strict=False))
        rows.add(user, item, path, number)
        rows.ratings.append(_number(fields[2], "rating", path, number))
        rows.timestamps.append(_number(fields[3], "timestamp", path, number))
    return rows.interactions(rating_threshold, path)


def _read_lightgcn_pairs(path: FilePath) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The users and items of all pairs, duplicates included, and the users of all lines."""
    items, users, counts = array("q"), array("q"), array("q")
    for number, line in numbered_lines(path):
        fields = line.split()
        # A good line costs one match and one map; only a line that fails is taken apart.
        ids = list(map(int, fields)) if _DIGITS_AND_SPACES.fullmatch(line) and max(map(len, fields), default=0) <= 10 else None
        if ids is None or max(ids, default=0) > LARGEST_ID:
            names = ("item id" if place else "user id" for place in range(len(fields)))
            ids = [_whole_id(field, name, path, number, _OTHER_TABLES) for field, name in zip(fields, names, strict=True)]
        if ids:
            users.append(ids[0])
            counts.append(len(ids) - 1)
            items.extend(ids[1:])
    if not items:
        raise DataError("there are no interactions in it", path=path)
    users, lengths = np.array(users, dtype=np.int64), set(counts)
    if lengths in ({2}, {3}) and len(np.unique(users)) < len(users):
        n_fields = lengths.pop() + 1
        known = "user, item, rating" if n_fields == 3 else "user, item, rating, time (if by tabs: file_format u.data)"
        wrong = f"every line has {n_fields} numbers and users have several lines: a table of {known}, not LightGCN text"
        raise DataError(f"{wrong}{_OTHER_TABLES}", path=path)
    return np.repeat(users, np.array(counts)), np.array(items, dtype=np.int64), users


def _read_table(path, separator: str, columns: dict, rating_threshold, is_recbole: bool = False) -> Interactions:
    rows, quoting = _Rows(), csv.QUOTE_NONE if is_recbole else csv.QUOTE_MINIMAL
    with _open_text(path, newline="") as file:
        # strict: a quote that is never closed is an error, not a field that swallows the rest of the file.
        lines = csv.reader(file, delimiter=separator, quoting=quoting, skipinitialspace=True, strict=True)
        try:
            header = next((fields for fields in lines if any(fields)), None)
            if header is None:
                raise DataError("the file is empty", path=path)
            names = [name.strip() for name in header]
            if is_recbole:
                names = _without_types(names, path, lines.line_num)
            place = find_columns(names, columns, "the header's columns", path=path, line=lines.line_num)
            for fields in lines:
                number = lines.line_num
                if len(fields) != len(names):
                    if not any(fields):
                        continue
                    counts = f"number of fields: {len(fields)}, in the header: {len(names)}"
                    raise DataError(counts, path=path, line=number, value=separator.join(fields))
                rows.add(fields[place["user"]], fields[place["item"]], path, number)
                if "rating" in place:
                    advice = '; write decimals with a point, or set rating_column to "" to do without'
                    rows.ratings.append(_number(fields[place["rating"]], "rating", path, number, advice))
                if "timestamp" in place:
                    advice = ' or date; give seconds, or a date as 2024-03-11, or set timestamp_column to "" to do without'
                    field = fields[place["timestamp"]]
                    try:
                        rows.timestamps.append(date_in_seconds(field))
                    except ValueError:
                        rows.timestamps.append(_number(field, "timestamp", path, number, advice))
        except csv.Error as error:
            raise DataError(f"not a well-formed table: {error}", path=path, line=lines.line_num) from None
    return rows.interactions(rating_threshold, path)


def _without_types(names: list[str], path, line: int) -> list[str]:
    """The names of a RecBole header."""
    bad = [name for name in names if not re.fullmatch(r"[^:]+:(token|float|token_seq|float_seq)", name)]
    if bad:
        needed = "a RecBole header gives each column as name:type, such as user_id:token"
        raise DataError(needed, path=path, line=line, value=bad[0])
    return [name.rpartition(":")[0] for name in names]


def _guess_separator(path: FilePath) -> str:
    if Path(path).suffix.lower() == ".tsv":
        return "\t"
    with _open_text(path) as file:
        header = next((line for line in file if line.strip()), "")
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    # max() takes the first of equals, so a comma wins when nothing is found.
    return max(",;\t|", key=outside_quotes.count)


@contextmanager
def _open_text(path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a UTF-8 file, with or without a byte-order mark; what goes wrong, in reading too, becomes a DataError."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe waits until somebody writes
        raise DataError("this is a pipe or a device; a file is needed", path=path)
    try:
        with open(path, encoding="utf-8-sig", newline=newline) as file:
            yield file
    except FileNotFoundError:
        raise DataError("there is no such file", path=path) from None
    except UnicodeDecodeError:
        line, found = _first_undecodable(path)
        raise DataError("the bytes are not UTF-8 text; save the file as UTF-8", path=path, line=line, value=found) from None
    except OSError as error:
        if path.is_dir():  # Windows says "permission denied"
            raise DataError("this is a folder; a file is needed", path=path) from None
        raise DataError(f"it cannot be read: {error.strerror or error}", path=path) from None


def _first_undecodable(path: Path) -> tuple[int, str]:
    """The line and the hexadecimal value of the first bytes that are not UTF-8."""
    raw = path.read_bytes()
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return raw.count(b"\n", 0, error.start) + 1, "0x" + raw[error.start : error.end].hex()
    return 1, ""


def numbered_lines(path: FilePath) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 1."""
    with _open_text(path) as file:
        yield from enumerate(file, 1)


def _whole_id(field: str, what: str, path, line: int, advice: str = "") -> int:
    """A whole-number id of 0 to 2**31 - 1; `advice` follows the message if it is no number at all."""
    if not _WHOLE_NUMBER.fullmatch(field):
        raise DataError(f"the {what} is not a whole number{advice}", path=path, line=line, value=field)
    if field.startswith("-"):
        raise DataError(f"the {what} is negative", path=path, line=line, value=field)
    digits = field.lstrip("0") or "0"
    if len(digits) > 10 or int(digits) > LARGEST_ID:
        raise DataError(f"the {what} is larger than {LARGEST_ID}", path=path, line=line, value=field)
    return int(digits)


def _number(field: str, what: str, path, line: int, advice: str = "") -> float:
    """A finite number; `advice` follows the message if it is none at all."""
    text = field.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        raise DataError(f"the {what} is too large", path=path, line=line, value=field)
    if _NOT_FINITE.fullmatch(text):
        raise DataError(f"the {what} must be finite", path=path, line=line, value=field)
    # An empty value would not be shown by the error itself.
    raise DataError(f"the {what} is {f'not a number{advice}' if text else 'empty'}", path=path, line=line, value=field or None)
