"""Which column of a table holds what, by the name that is asked for or else by its usual names; and dates as numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..errors import DataError, in_short
from ..files import FilePath

# Compared in lower case, without spaces, hyphens, underscores and dots: userId, user_id and User ID are one name.
_COMMON_NAMES = {
    "user": ("user", "userid", "uid", "username", "customer", "customerid", "reviewerid"),
    "item": (
        "item", "itemid", "iid", "movie", "movieid", "product", "productid", "book", "bookid", "isbn", "asin",
        "artist", "artistid", "track", "trackid", "song", "songid", "business", "businessid", "location", "locationid",
    ),
    "rating": ("rating", "ratings", "score", "stars"),
    "timestamp": ("timestamp", "time", "ts", "unixtime", "unixreviewtime"),
}  # fmt: skip
_REQUIRED = ("user", "item")
# Names that are all numbers are the first row of a file without a header, or the numbers that a frame gave columns without names.
_NUMBER = re.compile(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?")


def find_columns(
    names: list[str],
    columns: dict[str, str | None],
    what: str,
    *,
    path: FilePath | None = None,
    line: int | None = None,
    advice: str = "",
) -> dict[str, int]:
    """The place of each column there is: ``{"user": 0, "item": 1, ...}``; `what` the names are, and `advice`, go into errors."""
    place: dict[str, int] = {}
    header = f"{what} are {', '.join(map(repr, names[:20]))}{', ...' if len(names) > 20 else ''}"
    named = path is None and all(columns[kind] for kind in _REQUIRED)
    if all(_NUMBER.fullmatch(name) for name in names) and not named:
        raise DataError(f"names of columns are missing, such as user,item,rating: {header}{advice}", path=path, line=line)
    simplified = [re.sub(r"[\s_.\-]", "", name).lower() for name in names]
    for kind, wanted in columns.items():
        if wanted == "" and kind not in _REQUIRED:
            continue
        usual = _COMMON_NAMES[kind]
        matches = [name in usual for name in simplified] if wanted is None else [name == wanted for name in names]
        if sum(matches) > 1:
            several = f"several columns could be the {kind} column; set {kind}_column"
            raise DataError(f"{several}; {header}{advice}", path=path, line=line)
        if any(matches):
            place[kind] = matches.index(True)
        elif wanted is not None:
            raise DataError(f"there is no column {in_short(wanted)}; {header}", path=path, line=line)
        elif kind in _REQUIRED:
            unclear = f"it is unclear which column holds the {kind} ids; set {kind}_column"
            raise DataError(f"{unclear}; {header}{advice}", path=path, line=line)
    if len(set(place.values())) < len(place):
        raise DataError("one column cannot serve two purposes", path=path, line=line, value=place)
    return place


def date_in_seconds(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date, with or without a time; in UTC, if no zone is given. ValueError if it is none."""
    if not re.match(r"\d{4}-\d", text.strip()):  # 20240311 is a number, of seconds
        raise ValueError(text)
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
