"""Who interacted with what, and when: what every reader returns and every split starts from.

Shapes: U users, I items, n unique pairs.

Users and items have two names. The *external id* is the string in the file; the *code* is a number from 0. If all ids of a kind
are plainly written whole numbers, codes follow their numeric order; otherwise the order of their Unicode code points. The order
of the rows never matters.

A set of pairs has two forms: a binary sparse matrix, and sorted keys ``user * I + item``, on which set arithmetic is easy. Both
are unique, so equal sets have equal bytes.
"""

from __future__ import annotations

import numbers
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ..errors import DataError
from ..ids import Numbering, one_by_one, require_ids

_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
# Arrays of texts are as wide as the longest of them: a single long one among many would take memory out of proportion.
_ALWAYS_ALLOWED, _MOST_TIMES = 2**26, 100
# Python refuses to convert very long digit strings to numbers; such ids are treated as names.
_MOST_DIGITS = 4000
# Seconds since 1970, of 1973.
_LIKE_A_TIME = 1e8


@dataclass(frozen=True, eq=False)
class Interactions:
    """Unique (user, item) pairs with their external ids.

    Parameters
    ----------
    user, item : ndarray of int64, shape (n,)
        Codes of each pair, sorted by user, then item.
    timestamp : ndarray of float64, shape (n,), or None
        When it happened, in the source's unit (usually seconds since 1970); the latest one where rows were merged.
    user_ids, item_ids : ndarray of str, shape (U,) and (I,)
        External ids; ``user_ids[user[j]]`` is the user of pair j.
    source : str
        Where the rows came from.
    report : dict of str to int
        ``rows_read``, ``rows_below_threshold``, ``duplicates_merged``; ``users_below_threshold`` and
        ``items_below_threshold``: how many had all their rows below the threshold; ``ids_with_white_space_trimmed`` and
        ``ids_with_a_decimal_point``: how many spellings of ids were changed.

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
            raise DataError(f"one timestamp is needed per pair: pairs {len(self.user)}, timestamps {self.timestamp.shape}")
        for kind, codes, ids in (("user", self.user, self.user_ids), ("item", self.item, self.item_ids)):
            require_ids(ids, kind)
            if codes.dtype.kind not in "iu":
                raise DataError(f"{kind} codes must be whole numbers, not {codes.dtype}")
            if len(codes) and (codes.min() < 0 or codes.max() >= len(ids)):
                raise DataError(f"{kind} codes must lie between 0 and {len(ids) - 1}")
        for kind in ("user", "item"):
            object.__setattr__(self, kind, getattr(self, kind).astype(np.int64, copy=False))
        if not (np.diff(self.user * self.n_items + self.item) > 0).all():
            raise DataError("pairs must be sorted by user, then item, each once; Interactions.from_rows takes rows of any order")

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

    @property
    def shape(self) -> tuple[int, int]:
        """Pairs, and 2: scikit-learn takes the pairs for the rows of a table, which it may split."""
        return len(self), 2

    def __getitem__(self, which: Any) -> Interactions:
        """Some of the pairs, by their numbers or a mask, each once and in order; the users and items stay what they are."""
        which = which[0] if isinstance(which, tuple) else which
        if not isinstance(which, slice):
            which = np.asarray(which)
            which = which if which.size else which.astype(np.int64)
        kept = np.unique(np.arange(len(self))[which])
        times = None if self.timestamp is None else self.timestamp[kept]
        return replace(self, user=self.user[kept], item=self.item[kept], timestamp=times)

    @classmethod
    def from_matrix(cls, R: Any, *, user_ids: Any = None, item_ids: Any = None, source: str = "matrix") -> Interactions:
        """The interactions of a matrix of users x items, each as a row: for splits that scikit-learn makes.

        Parameters
        ----------
        R : sparse matrix or array, or dense array, shape (U, I)
        user_ids, item_ids : sequence of str or int, length U and I, optional
            By default the numbers of rows and columns.
        source : str

        Raises
        ------
        DataError
            If it is no matrix of interactions: see :meth:`c2f_np.Dataset.from_matrices`.
        """
        from .dataset import Dataset

        return Dataset.from_matrices(R, user_ids=user_ids, item_ids=item_ids, name=source).interactions()

    def matrix(self) -> csr_array:
        """The pairs as a binary csr_array of int8, shape (U, I)."""
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

        Rows below the rating threshold are dropped first; the remaining rows of a pair are then merged into one, with the latest
        timestamp. So a pair that was rated twice stays if either rating reaches the threshold.

        Parameters
        ----------
        users, items : iterable of str or int, n_rows of each
            External ids in any form that `c2f_np.ids` takes.
        ratings : sequence of float, length n_rows, optional
            Only needed with a threshold.
        timestamps : sequence of float, length n_rows, optional
        rating_threshold : float, optional
            Keep rows whose rating is at least this.
        source : str
            For messages and descriptions.

        Raises
        ------
        DataError
            If lengths differ, an id is missing or none, a rating or timestamp is not finite, a threshold comes without
            ratings, or nothing is left.
        """
        numberings, columns = (Numbering("user"), Numbering("item")), []
        for numbering, ids in zip(numberings, (users, items), strict=True):
            values = enumerate(one_by_one(ids, numbering.kind))
            columns.append([numbering.number(value, row=row) for row, value in values])
        return assemble(*columns, *numberings, ratings, timestamps, rating_threshold, source)


def assemble(
    user, item, users: Numbering, items: Numbering, ratings, timestamps, rating_threshold, source: str, path=None
) -> Interactions:
    """Interactions from rows of numbers that ids were given; see :meth:`Interactions.from_rows`. Errors name `path`."""
    user, item = np.asarray(user, dtype=np.int64), np.asarray(item, dtype=np.int64)
    n_rows = len(user)
    if len(item) != n_rows:
        raise DataError(f"users and items differ in number: {n_rows} and {len(item)}", path=path)
    if n_rows == 0:
        raise DataError("there are no interactions in it", path=path)
    ratings = _finite_column(ratings, n_rows, "rating", path)
    timestamps = _finite_column(timestamps, n_rows, "timestamp", path)
    if ratings is not None and ratings.min() >= _LIKE_A_TIME:
        raise DataError("the ratings look like times in seconds; is another column meant?", path=path, value=ratings[0])
    keep = _rows_to_keep(ratings, rating_threshold, n_rows, path)
    user, n_users_lost, user_ids = _final_codes(user[keep], users, path)
    item, n_items_lost, item_ids = _final_codes(item[keep], items, path)
    keys, place = np.unique(user * len(item_ids) + item, return_inverse=True)
    latest = None
    if timestamps is not None:
        latest = np.full(len(keys), -np.inf)
        np.maximum.at(latest, place, timestamps[keep])
    report = {
        "rows_read": n_rows,
        "rows_below_threshold": n_rows - len(user),
        "duplicates_merged": len(user) - len(keys),
        "users_below_threshold": n_users_lost,
        "items_below_threshold": n_items_lost,
        **{what: users.report[what] + items.report[what] for what in users.report},
    }
    return Interactions(*np.divmod(keys, len(item_ids)), latest, user_ids, item_ids, source, report)


def keys_of_codes(user, item, n_items: int) -> np.ndarray:
    """Sorted unique int64 keys of the pairs ``(user[j], item[j])``."""
    return np.unique(np.asarray(user, dtype=np.int64) * n_items + np.asarray(item, dtype=np.int64))


def keys_of_matrix(matrix: csr_array) -> np.ndarray:
    """Sorted int64 keys, shape (n,), of a matrix with sorted indices."""
    users = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return users * matrix.shape[1] + matrix.indices


def matrix_of_keys(keys: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """Binary int8 matrix, shape (U, I), of sorted unique `keys`."""
    n_users, n_items = shape
    # SciPy asks for 32-bit indices wherever they suffice.
    index_type = np.int32 if max(len(keys), n_users, n_items) < 2**31 else np.int64
    indptr = np.zeros(n_users + 1, dtype=index_type)
    np.cumsum(np.bincount(keys // n_items, minlength=n_users), out=indptr[1:])
    matrix = csr_array((np.ones(len(keys), dtype=np.int8), (keys % n_items).astype(index_type), indptr), shape=shape)
    matrix.has_canonical_format = True
    return matrix


def _finite_column(values, n_rows: int, what: str, path):
    if values is None:
        return None
    # What is masked is missing, whatever number stands below.
    values = np.ma.masked_array(values, dtype=np.float64).filled(np.nan)
    if values.shape != (n_rows,):
        raise DataError(f"one {what} is needed per row: rows {n_rows}, {what}s {values.shape}", path=path)
    if not np.isfinite(values).all():
        raise DataError(f"{what}s must be finite numbers", path=path, value=values[~np.isfinite(values)][0])
    return values


def _rows_to_keep(ratings, threshold, n_rows: int, path) -> np.ndarray:
    if threshold is None:
        return np.ones(n_rows, dtype=bool)
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real) or not abs(threshold) <= sys.float_info.max:
        raise DataError("the rating threshold must be a finite number", value=threshold)
    if ratings is None:
        raise DataError(f"a rating threshold of {threshold} was asked for, but there is no rating column", path=path)
    keep = ratings >= threshold
    if not keep.any():
        raise DataError(f"no rating reaches the threshold {threshold}; the highest is {ratings.max():g}", path=path)
    return keep


def _final_codes(codes: np.ndarray, numbering: Numbering, path) -> tuple[np.ndarray, int, np.ndarray]:
    """Final codes, how many ids no row uses, and the ids that are used, in their final order."""
    ids, used = list(numbering.ids), np.flatnonzero(np.bincount(codes))
    left = [(ids[number], number) for number in used.tolist()]
    longest, in_all = max(len(text) for text, _ in left), sum(len(text) for text, _ in left)
    if 4 * longest * len(left) > max(_ALWAYS_ALLOWED, 4 * _MOST_TIMES * in_all):
        bad = next(text for text, _ in left if len(text) == longest)
        wrong = f"a {numbering.kind} id has {longest:,} characters, far more than the others; shorten it"
        raise DataError(wrong, path=path, value=bad)
    if all(len(text) <= _MOST_DIGITS and _PLAIN_INTEGER.fullmatch(text) for text, _ in left):
        left.sort(key=lambda entry: int(entry[0]))
    else:
        left.sort()
    final = np.empty(len(ids), dtype=np.int64)
    final[[number for _, number in left]] = np.arange(len(left))
    return final[codes], len(ids) - len(left), np.array([text for text, _ in left], dtype=np.str_)
