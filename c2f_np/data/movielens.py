"""The MovieLens rating files: ``u.data`` (tabs) and ``ratings.dat`` (double colons).

Both have four fields a line: user id, item id, rating, seconds since 1970::

    196	242	3	881250949
    1::1193::5::978300760
"""

from __future__ import annotations

from array import array
from pathlib import Path

from ..errors import DataError
from .interactions import IdTable, Interactions, assemble
from .reading import numbered_lines, parse_number, parse_whole_id


def read_u_data(path, *, rating_threshold: float | None = None) -> Interactions:
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
    return _read_four_fields(path, "\t", rating_threshold)


def read_ratings_dat(path, *, rating_threshold: float | None = None) -> Interactions:
    """Read MovieLens 1M's or 10M's ``ratings.dat``; as :func:`read_u_data`, but separated by ``::``."""
    return _read_four_fields(path, "::", rating_threshold)


def _read_four_fields(path, separator: str, rating_threshold: float | None) -> Interactions:
    users, items = IdTable(), IdTable()
    user, item, ratings, timestamps = array("q"), array("q"), array("d"), array("d")
    for number, line in numbered_lines(path):
        fields = line.rstrip("\n").split(separator)
        if len(fields) != 4:
            if not line.strip():
                continue
            shown = "tab" if separator == "\t" else separator
            raise DataError(
                f"{len(fields)} fields where 4 are needed: user, item, rating, timestamp, separated by {shown}",
                path=path,
                line=number,
                value=line.rstrip("\n"),
            )
        user.append(users.code(str(parse_whole_id(fields[0], "user id", path, number))))
        item.append(items.code(str(parse_whole_id(fields[1], "item id", path, number))))
        ratings.append(parse_number(fields[2], "rating", path, number))
        timestamps.append(parse_number(fields[3], "timestamp", path, number))
    return assemble(
        user, item, users.ids, items.ids, ratings, timestamps, rating_threshold, str(Path(path)), path
    )
