"""Tables with a header: CSV and TSV files, and RecBole's ``.inter`` files.

A CSV file says in its first line what its columns are::

    user,item,rating,timestamp
    anna,"The Sting, 1973",4,881250949

RecBole's form is the same with tabs, no quoting, and a type after each name: ``user_id:token``, ``item_id:token``,
``rating:float``, ``timestamp:float``. Ids may be any strings.
"""

from __future__ import annotations

import csv
import re
from array import array
from pathlib import Path

from ..errors import DataError
from .interactions import IdTable, Interactions, assemble
from .reading import open_text, parse_number

# Compared in lower case, without spaces, hyphens, underscores and dots: userId, user_id and User ID are one name.
COMMON_NAMES = {
    "user": ("user", "userid", "uid", "username", "customer", "customerid", "reviewerid"),
    "item": (
        "item", "itemid", "iid", "movie", "movieid", "product", "productid", "book", "bookid", "isbn", "asin",
        "artist", "artistid", "track", "trackid", "song", "songid", "business", "businessid", "location", "locationid",
    ),
    "rating": ("rating", "ratings", "score", "stars"),
    "timestamp": ("timestamp", "time", "ts", "unixtime", "unixreviewtime"),
}  # fmt: skip
_REQUIRED = ("user", "item")


def read_csv(
    path,
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
        One character; by default a tab for ``.tsv``, else whichever of ``, ; tab |`` the header has most of.
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
    separator = _guess_separator(path) if separator is None else _one_character(separator)
    return _read_table(path, separator, csv.QUOTE_MINIMAL, columns, rating_threshold, _plain_header)


def read_recbole(
    path,
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

    Returns
    -------
    Interactions

    Raises
    ------
    DataError
        As :func:`read_csv`, or if the header has no types.
    """
    columns = {"user": user_column, "item": item_column, "rating": rating_column, "timestamp": timestamp_column}
    return _read_table(path, "\t", csv.QUOTE_NONE, columns, rating_threshold, _recbole_header)


def _read_table(path, separator: str, quoting: int, columns, rating_threshold, read_header) -> Interactions:
    users, items = IdTable(), IdTable()
    user, item, ratings, timestamps = array("q"), array("q"), array("d"), array("d")
    with open_text(path, newline="") as file:
        # strict: a quote that is never closed is an error, not a field that swallows the rest of the file.
        rows = csv.reader(file, delimiter=separator, quoting=quoting, skipinitialspace=True, strict=True)
        try:
            header = next((row for row in rows if any(row)), None)
            if header is None:
                raise DataError("the file is empty", path=path)
            names = read_header([name.strip() for name in header], path, rows.line_num)
            place = _find_columns(names, columns, path, rows.line_num)
            for row in rows:
                if len(row) != len(names):
                    if not any(row):
                        continue
                    raise DataError(
                        f"{len(row)} fields where the header has {len(names)}",
                        path=path,
                        line=rows.line_num,
                        value=separator.join(row),
                    )
                user.append(users.code(_id(row[place["user"]], "user", path, rows.line_num)))
                item.append(items.code(_id(row[place["item"]], "item", path, rows.line_num)))
                if "rating" in place:
                    ratings.append(parse_number(row[place["rating"]], "rating", path, rows.line_num))
                if "timestamp" in place:
                    timestamps.append(_timestamp(row[place["timestamp"]], path, rows.line_num))
        except csv.Error as error:
            raise DataError(f"not a well-formed table: {error}", path=path, line=rows.line_num) from None
    return assemble(
        user,
        item,
        users.ids,
        items.ids,
        ratings if "rating" in place else None,
        timestamps if "timestamp" in place else None,
        rating_threshold,
        str(Path(path)),
        path,
    )


def _id(text: str, kind: str, path, line: int) -> str:
    if not text:
        raise DataError(f"the {kind} id is empty", path=path, line=line)
    return text


def _timestamp(text: str, path, line: int) -> float:
    try:
        return parse_number(text, "timestamp", path, line)
    except DataError as error:
        if "not a number" in str(error):
            raise DataError(
                'the timestamp is not a number; give seconds, or set timestamp_column to "" to do without',
                path=path,
                line=line,
                value=text,
            ) from None
        raise


def _plain_header(names: list[str], path, line: int) -> list[str]:
    return names


def _recbole_header(names: list[str], path, line: int) -> list[str]:
    bad = [name for name in names if not re.fullmatch(r"[^:]+:(token|float|token_seq|float_seq)", name)]
    if bad:
        raise DataError(
            "a RecBole header gives each column as name:type, such as user_id:token", path=path, line=line, value=bad[0]
        )
    return [name.rpartition(":")[0] for name in names]


def _find_columns(names: list[str], columns: dict[str, str | None], path, line: int) -> dict[str, int]:
    """Return the place of each column there is: ``{"user": 0, "item": 1, ...}``."""
    place = {}
    for kind, wanted in columns.items():
        if wanted == "" and kind not in _REQUIRED:
            continue
        if wanted is not None:
            found = [position for position, name in enumerate(names) if name == wanted]
            missing = f"there is no column {wanted!r}"
        else:
            found = [position for position, name in enumerate(names) if _simplified(name) in COMMON_NAMES[kind]]
            missing = f"it is unclear which column holds the {kind} ids; set {kind}_column"
        header = f"the header's columns are {', '.join(map(repr, names))}"
        if len(found) > 1:
            several = f"several columns could be the {kind} column; set {kind}_column"
            raise DataError(f"{several}; {header}", path=path, line=line)
        if found:
            place[kind] = found[0]
        elif wanted is not None or kind in _REQUIRED:
            raise DataError(f"{missing}; {header}", path=path, line=line)
    taken = list(place.values())
    if len(set(taken)) < len(taken):
        raise DataError("one column cannot serve two purposes", path=path, line=line, value=place)
    return place


def _simplified(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name).lower()


def _guess_separator(path) -> str:
    if Path(path).suffix.lower() == ".tsv":
        return "\t"
    with open_text(path) as file:
        header = next((line for line in file if line.strip()), "")
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    # max() takes the first of equals, so a comma wins when nothing is found.
    return max(",;\t|", key=outside_quotes.count)


def _one_character(separator: str) -> str:
    if separator in (r"\t", "tab"):  # what people type in a shell
        return "\t"
    if len(separator) != 1 or separator in '\r\n" ':
        raise DataError("the separator must be one character, not a quote, space or line end", value=separator)
    return separator
