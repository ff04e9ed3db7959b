"""Who interacted with what, and when: the form every reader hands over and every split starts from.

Shapes: U users, I items, n unique pairs.

Users and items have two names. The *external id* is the string in the file; the *code* is a number from 0. Codes
follow a fixed order of the ids, never the order of the rows: if all ids of a kind are whole numbers written plainly,
numeric order; otherwise the order of their Unicode code points. The same interactions in another row order thus give
the same codes.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from ..errors import DataError
from .pairs import matrix_of_keys

_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
# Python refuses to turn very long digit strings into numbers; such ids are just names.
_MOST_DIGITS = 4000


@dataclass(frozen=True, eq=False)
class Interactions:
    """Unique (user, item) pairs with their external ids.

    Parameters
    ----------
    user, item : ndarray of int64, shape (n,)
        Codes of each pair, sorted by user, then item.
    timestamp : ndarray of float64, shape (n,), or None
        When it happened, in the source's unit (usually seconds since 1970); the latest one where rows were merged.
    user_ids : ndarray of str, shape (U,)
    item_ids : ndarray of str, shape (I,)
        External ids; ``user_ids[user[j]]`` is the user of pair j.
    source : str
        Where the rows came from.
    report : dict of str to int
        ``rows_read``, ``rows_below_threshold``, ``duplicates_merged``, ``users_below_threshold``,
        ``items_below_threshold`` (the last two: users and items all of whose rows were below the threshold).

    Raises
    ------
    DataError
        If the arrays do not fit together.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray | None
    user_ids: np.ndarray
    item_ids: np.ndarray
    source: str = ""
    report: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.user.shape != self.item.shape or self.user.ndim != 1:
            raise DataError(f"user and item codes need the same length, not {self.user.shape} and {self.item.shape}")
        if self.timestamp is not None and self.timestamp.shape != self.user.shape:
            raise DataError(f"{len(self.user)} pairs need as many timestamps, not {self.timestamp.shape}")
        for kind, codes, ids in (("user", self.user, self.user_ids), ("item", self.item, self.item_ids)):
            if len(codes) and (codes.min() < 0 or codes.max() >= len(ids)):
                raise DataError(f"{kind} codes must lie between 0 and {len(ids) - 1}")

    @property
    def n_users(self) -> int:
        """Number of users, U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items, I."""
        return len(self.item_ids)

    def __len__(self) -> int:
        return len(self.user)

    def matrix(self) -> csr_array:
        """Return the pairs as a binary csr_array of int8, shape (U, I)."""
        return matrix_of_keys(self.user * self.n_items + self.item, (self.n_users, self.n_items))

    @classmethod
    def from_rows(
        cls,
        users: Iterable,
        items: Iterable,
        *,
        ratings: Sequence[float] | None = None,
        timestamps: Sequence[float] | None = None,
        rating_threshold: float | None = None,
        source: str = "rows in memory",
    ) -> Interactions:
        """Build interactions from parallel columns of external ids.

        Rows below the rating threshold go first; what is left of a pair is then merged into one, with the latest
        timestamp. A pair that was rated twice therefore stays if either rating reaches the threshold.

        Parameters
        ----------
        users, items : iterable of str or int, n_rows of each
            External ids; numbers become their decimal strings.
        ratings : sequence of float, length n_rows, optional
            Only needed with a threshold.
        timestamps : sequence of float, length n_rows, optional
        rating_threshold : float, optional
            Keep rows whose rating is at least this.
        source : str
            For messages and descriptions.

        Returns
        -------
        Interactions

        Raises
        ------
        DataError
            If lengths differ, an id is empty, a rating or timestamp is not finite, a threshold comes without ratings,
            or nothing is left.
        """
        user_table, item_table = IdTable(), IdTable()
        user_codes = [user_table.code(_as_id(value, "user")) for value in users]
        item_codes = [item_table.code(_as_id(value, "item")) for value in items]
        return assemble(
            user_codes, item_codes, user_table.ids, item_table.ids, ratings, timestamps, rating_threshold, source
        )


class IdTable:
    """Numbers ids by first appearance while rows stream past; :func:`assemble` brings them into their final order."""

    def __init__(self):
        self._codes: dict[str, int] = {}

    def code(self, external_id: str) -> int:
        """Return the id's number, a new one if it has not been seen."""
        return self._codes.setdefault(external_id, len(self._codes))

    @property
    def ids(self) -> list[str]:
        """Ids in order of first appearance."""
        return list(self._codes)


def _as_id(value, kind: str) -> str:
    if isinstance(value, float | np.floating | bool | np.bool_) or value is None:
        raise DataError(f"{kind} ids must be strings or whole numbers", value=value)
    text = str(value)
    if not text:
        raise DataError(f"a {kind} id is empty")
    return text


def order_of_ids(ids: Sequence[str]) -> list[int]:
    """Return the positions of `ids` in their final order: numeric if all are whole numbers, else by code point."""
    if all(len(text) <= _MOST_DIGITS and _PLAIN_INTEGER.fullmatch(text) for text in ids):
        return sorted(range(len(ids)), key=lambda position: int(ids[position]))
    return sorted(range(len(ids)), key=ids.__getitem__)


def assemble(user, item, user_ids, item_ids, ratings, timestamps, rating_threshold, source: str, path=None):
    """Turn streamed rows into :class:`Interactions`; see :meth:`Interactions.from_rows` for what happens to them.

    Parameters
    ----------
    user, item : sequence of int, length n_rows
        Numbers into `user_ids` and `item_ids`.
    user_ids, item_ids : list of str
        Ids in any order.
    ratings, timestamps : sequence of float, length n_rows, or None
    rating_threshold : float or None
    source : str
    path : path-like, optional
        The file to name in errors.

    Returns
    -------
    Interactions

    Raises
    ------
    DataError
        As :meth:`Interactions.from_rows`.
    """
    user, item = np.asarray(user, dtype=np.int64), np.asarray(item, dtype=np.int64)
    n_rows = len(user)
    if len(item) != n_rows:
        raise DataError(f"{n_rows} users but {len(item)} items", path=path)
    if n_rows == 0:
        raise DataError("there are no interactions in it", path=path)
    ratings = _finite_column(ratings, n_rows, "rating", path)
    timestamps = _finite_column(timestamps, n_rows, "timestamp", path)

    keep = _rows_to_keep(ratings, rating_threshold, n_rows, path)
    user, n_users_lost, user_ids = _final_codes(user, keep, user_ids, "user", path)
    item, n_items_lost, item_ids = _final_codes(item, keep, item_ids, "item", path)
    keys = user * len(item_ids) + item
    unique_keys, place = np.unique(keys, return_inverse=True)
    latest = None
    if timestamps is not None:
        latest = np.full(len(unique_keys), -np.inf)
        np.maximum.at(latest, place, timestamps[keep])
    report = {
        "rows_read": n_rows,
        "rows_below_threshold": n_rows - len(keys),
        "duplicates_merged": len(keys) - len(unique_keys),
        "users_below_threshold": n_users_lost,
        "items_below_threshold": n_items_lost,
    }
    return Interactions(
        unique_keys // len(item_ids), unique_keys % len(item_ids), latest, user_ids, item_ids, source, report
    )


def _finite_column(values, n_rows: int, what: str, path):
    if values is None:
        return None
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (n_rows,):
        raise DataError(f"{n_rows} rows need as many {what}s, not {values.shape}", path=path)
    if not np.isfinite(values).all():
        raise DataError(f"{what}s must be finite numbers", path=path, value=values[~np.isfinite(values)][0])
    return values


def _rows_to_keep(ratings, threshold, n_rows: int, path) -> np.ndarray:
    if threshold is None:
        return np.ones(n_rows, dtype=bool)
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real) or not np.isfinite(threshold):
        raise DataError("the rating threshold must be a finite number", value=threshold)
    if ratings is None:
        raise DataError(f"a rating threshold of {threshold} was asked for, but there is no rating column", path=path)
    keep = ratings >= threshold
    if not keep.any():
        raise DataError(f"no rating reaches the threshold {threshold}; the highest is {ratings.max():g}", path=path)
    return keep


def _final_codes(codes: np.ndarray, keep: np.ndarray, ids: list[str], kind: str, path):
    """Drop ids that no kept row uses and renumber the rest in their final order."""
    codes = codes[keep]
    used = np.zeros(len(ids), dtype=bool)
    used[codes] = True
    left = [ids[position] for position in np.flatnonzero(used)]
    # NumPy cuts trailing NUL characters off its strings, which would make two ids one.
    bad = next((text for text in left if "\0" in text), None)
    if bad is not None:
        raise DataError(f"a {kind} id holds a NUL character", path=path, value=bad)
    order = order_of_ids(left)
    final = np.empty(len(ids), dtype=np.int64)
    final[np.flatnonzero(used)[order]] = np.arange(len(left))
    return final[codes], len(ids) - len(left), np.array([left[position] for position in order], dtype=np.str_)
