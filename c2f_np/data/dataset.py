"""A data set ready for training: what to learn from, when to stop, and what to judge by.

Shapes: U users, I items. All parts are U x I, binary, and disjoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse, sparray

from ..errors import DataError, in_short
from ..ids import as_ids, require_ids
from ..lookup import known_positions, wanted_ids
from ..shown import for_terminal, html_table
from .frames import has_columns, read_frame
from .interactions import Interactions, keys_of_codes, keys_of_matrix, matrix_of_keys

PROTOCOLS = ("authors", "clean")
PARTS = ("train", "validation", "test")
_PROTOCOL_IN_WORDS = {
    "authors": "validation items compete with test items in the test ranking",
    "clean": "training and validation items are left out of the test ranking",
}


def check_protocol(protocol: str) -> None:
    """Raise DataError unless `protocol` is one of :data:`PROTOCOLS`."""
    if protocol not in PROTOCOLS:
        raise DataError(f"the protocol must be one of {', '.join(PROTOCOLS)}, not {in_short(protocol)}")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test interactions of the same users and items.

    Parameters
    ----------
    name : str
    train : csr_array of int8, shape (U, I)
        Ones where a user interacted with an item; sorted indices, no duplicates.
    validation, test : csr_array of int8, shape (U, I), or None
        Likewise; no pair is in two parts.
    user_ids, item_ids : ndarray of str, shape (U,) and (I,)
        External ids, unique.
    split : str
        How the parts were made, in plain words, with the seed.
    protocol : {"authors", "clean"}
        Which known items are left out of the ranking; see :meth:`masked_when_ranking`.
    report : dict of str to int
        What was merged, dropped or left out; counts of users and items without interactions are added.

    Raises
    ------
    DataError
        If the parts do not fit together. :meth:`from_matrices` accepts matrices in other forms.
    """

    name: str
    train: csr_array
    validation: csr_array | None
    test: csr_array | None
    user_ids: np.ndarray
    item_ids: np.ndarray
    split: str = "as given"
    protocol: str = "clean"
    report: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_protocol(self.protocol)
        for name in PARTS:
            if name == "train" or getattr(self, name) is not None:
                _check_part(name, getattr(self, name), getattr(self.train, "shape", ()))
        if self.train.nnz == 0:
            raise DataError(f"{self.name}: there are no training interactions")
        for kind, ids, count in (("user", self.user_ids, self.n_users), ("item", self.item_ids, self.n_items)):
            require_ids(ids, kind)
            if len(ids) != count:
                raise DataError(f"{count} {kind}s need as many ids, not {len(ids)}")
        keys = {name: keys_of_matrix(matrix) for name, matrix in self.parts()}
        for name, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if name in keys and other in keys:
                n_shared = len(np.intersect1d(keys[name], keys[other], assume_unique=True))
                if n_shared:
                    raise DataError(f"{n_shared} pairs are in both {name} and {other}")
        object.__setattr__(self, "report", {**self.report, **self._gaps()})

    @classmethod
    def from_matrices(
        cls,
        train: sparray | ArrayLike,
        validation: sparray | ArrayLike | None = None,
        test: sparray | ArrayLike | None = None,
        *,
        user_ids: Iterable[object] | None = None,
        item_ids: Iterable[object] | None = None,
        name: str = "matrices in memory",
        split: str = "as given",
        protocol: str = "clean",
    ) -> Dataset:
        """Build a data set from matrices.

        Every entry greater than zero is an interaction, whatever its size; explicit zeros and masked entries are not; duplicate
        entries are merged. A pair in several parts stays in training before test before validation. The report counts explicit
        zeros, duplicates and such pairs.

        Parameters
        ----------
        train : sparse matrix or array, or dense array, shape (U, I)
            Booleans, integers or real floats, none negative, none NaN or infinite.
        validation, test : likewise, optional
        user_ids, item_ids : sequence of str or int, length U and I, optional
            External ids in any form that `c2f_np.ids` takes; by default "0", "1", ...
        name, split : str
        protocol : {"authors", "clean"}

        Raises
        ------
        DataError
            If a matrix has the wrong shape or type, or holds NaN, infinite or negative values; if ids do not fit.
        """
        report = {"duplicates_merged": 0, "explicit_zeros": 0, "values_made_one": 0}
        keys: dict[str, np.ndarray | None] = {}
        shape: tuple[int, int] | None = None
        for part, matrix in zip(PARTS, (train, validation, test), strict=True):
            if matrix is None and part != "train":
                keys[part] = None
                continue
            keys[part], part_shape, counts = _keys_of_any(part, matrix)
            shape = shape or part_shape
            if part_shape != shape:
                raise DataError(f"{part} has shape {part_shape}, but train has {shape}")
            report = {what: report[what] + counts[what] for what in report}
        assert shape is not None  # there is always train
        parts, dropped = disjoint_parts(**keys, shape=shape)
        users, items = (
            as_ids(range(count) if given is None else given, kind)
            for kind, given, count in zip(("user", "item"), (user_ids, item_ids), shape, strict=True)
        )
        return cls(name, *parts, users, items, split, protocol, {**report, **dropped})

    @classmethod
    def from_frames(
        cls,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        user_column: str | None = None,
        item_column: str | None = None,
        name: str = "data frames",
    ) -> Dataset:
        """Build a data set from one's own split, each part a data frame with a row for each interaction.

        Users and items are those of all parts. A pair in several parts stays in training before test before validation, which is
        counted in the report.

        Parameters
        ----------
        train : data frame or Interactions
            See :func:`c2f_np.data.read_frame`. Without validation, nothing stops training early.
        validation, test : likewise, optional
        user_column, item_column : str, optional
            Of the data frames.
        name : str

        Raises
        ------
        DataError
            If a part cannot be used.
        """
        columns: dict[str, Any] = {"user_column": user_column, "item_column": item_column}
        columns |= {"rating_column": "", "timestamp_column": ""}
        given = {part: frame for part, frame in zip(PARTS, (train, validation, test), strict=True) if frame is not None}
        read = {part: f if isinstance(f, Interactions) else read_frame(f, **columns) for part, f in given.items()}
        users, items = (
            np.concatenate([getattr(part, f"{kind}_ids")[getattr(part, kind)] for part in read.values()])
            for kind in ("user", "item")
        )
        whole = Interactions.from_rows(users, items)
        keys = dict.fromkeys(PARTS) | {
            part: keys_of_codes(
                known_positions(whole.user_ids, pairs.user_ids)[pairs.user],
                known_positions(whole.item_ids, pairs.item_ids)[pairs.item],
                whole.n_items,
            )
            for part, pairs in read.items()
        }
        parts, dropped = disjoint_parts(**keys, shape=(whole.n_users, whole.n_items))
        counts = ("rows_read", "rows_below_threshold", "duplicates_merged")
        report = {what: sum(part.report.get(what, 0) for part in read.values()) for what in counts}
        return cls(name, *parts, whole.user_ids, whole.item_ids, "as given", "clean", report | dropped)

    @property
    def n_users(self) -> int:
        """Number of users, U."""
        return int(self.train.shape[0])

    @property
    def n_items(self) -> int:
        """Number of items, I."""
        return int(self.train.shape[1])

    def parts(self) -> Iterator[tuple[str, csr_array]]:
        """Iterate over the ``(name, matrix)`` of the parts that exist."""
        for name in PARTS:
            if getattr(self, name) is not None:
                yield name, getattr(self, name)

    def held_out(self, part: str) -> csr_array | None:
        """Return what a ranking is judged by.

        Parameters
        ----------
        part : {"validation", "test"}

        Returns
        -------
        csr_array of int8, shape (U, I), or None
            None if the part is empty or not there.

        Raises
        ------
        DataError
            If `part` is another word.
        """
        if part not in ("validation", "test"):
            raise DataError(f"a ranking is judged by validation or test, not {in_short(part)}")
        held_out = getattr(self, part)
        return held_out if held_out is not None and held_out.nnz else None

    def judged_by(self) -> str:
        """Return the part that results are about: "test", "validation" where there is no test, or "" where there is neither."""
        return next((part for part in ("test", "validation") if self.held_out(part) is not None), "")

    def masked_when_ranking(self, part: str) -> csr_array:
        """Return the items each user is known to have, which are left out of the ranking.

        ============ ================== ==========================
        protocol     ranked: validation ranked: test
        ============ ================== ==========================
        ``authors``  training items     training items
        ``clean``    training items     training, validation items
        ============ ================== ==========================

        Under ``authors`` the validation items compete with the test items and push them down, so figures of the two protocols
        must not be compared.

        Parameters
        ----------
        part : {"validation", "test"}
            What the ranking is judged by.

        Returns
        -------
        csr_array of int8, shape (U, I)
            Ones at the pairs to leave out.

        Raises
        ------
        DataError
            If there is no such part.
        """
        if self.held_out(part) is None and getattr(self, part) is None:
            raise DataError(f"{self.name} has no {part} part")
        if part == "validation" or self.protocol == "authors" or self.validation is None:
            return self.train
        known = np.union1d(keys_of_matrix(self.train), keys_of_matrix(self.validation))
        return matrix_of_keys(known, self.train.shape)

    def known(self) -> csr_array:
        """Return all pairs, whichever part they are in: what a recommendation must leave out.

        Returns
        -------
        csr_array of int8, shape (U, I)
        """
        return matrix_of_keys(np.unique(np.concatenate([keys_of_matrix(part) for _, part in self.parts()])), self.train.shape)

    def interactions(self) -> Interactions:
        """Return all but the test part as rows, for splits that scikit-learn makes: settings are not chosen by test.

        Returns
        -------
        Interactions
            Without times, of all users and items.
        """
        parts = [keys_of_matrix(part) for name, part in self.parts() if name != "test"]
        user, item = np.divmod(np.sort(np.concatenate(parts)), self.n_items)
        return Interactions(user, item, None, self.user_ids, self.item_ids, self.name, self._report_of_rows())

    def whole(self) -> Dataset:
        """Return the same interactions with all of them in training: for a model that will be used rather than judged."""
        split = f"everything is training ({', '.join(name for name, part in self.parts() if part.nnz)})"
        return replace(self, train=self.known(), validation=None, test=None, split=split, report=self._report_of_rows())

    def _report_of_rows(self) -> dict[str, int]:
        """What reading counted, without what each part leaves out."""
        return {what: count for what, count in self.report.items() if "_without_" not in what}

    def fingerprint(self) -> str:
        """Return the SHA-256, in hexadecimal, of the shape, the pairs of each part and the ids.

        It is the same on every platform and in every run. Name, split, protocol and report do not affect it.
        """
        digest = hashlib.sha256(b"c2f_np data set 1\n")
        digest.update(f"{self.n_users} {self.n_items}\n".encode())
        for name in PARTS:
            matrix = getattr(self, name)
            digest.update(f"{name} {-1 if matrix is None else matrix.nnz}\n".encode())
            if matrix is not None:
                digest.update(keys_of_matrix(matrix).astype("<i8").tobytes())
        for external_id in (*self.user_ids.tolist(), *self.item_ids.tolist()):
            encoded = external_id.encode("utf-8", "surrogatepass")
            # The length comes first, so that different lists of ids never give the same bytes.
            digest.update(b"%d:" % len(encoded) + encoded)
        return digest.hexdigest()

    def describe(self) -> str:
        """Return a few readable lines: sizes, how it was split, what was merged or left out."""
        lines = [for_terminal(self.name), f"  {self.n_users:,} users, {self.n_items:,} items"]
        for name, matrix in self.parts():
            lines.append(f"  {name:<10} {matrix.nnz:>11,} interactions of {self.n_users - _n_empty_rows(matrix):,} users")
        lines.append(f"  training density {self.train.nnz / (self.n_users * self.n_items):.3%}")
        lines.append(f"  split: {self.split}")
        if self.validation is None:
            lines.append("  no validation: nothing stops training early, so that every phase makes all its epochs")
        lines.append(f"  protocol: {self.protocol} ({_PROTOCOL_IN_WORDS[self.protocol]})")
        lines.extend(f"  {what.replace('_', ' ')}: {count:,}" for what, count in self.report.items() if count)
        lines.append(f"  fingerprint: {self.fingerprint()[:16]}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: what :meth:`describe` says, but for the fingerprint."""
        rows = [("users, items", f"{self.n_users:,}, {self.n_items:,}")]
        rows += [(part, f"{matrix.nnz:,} interactions of {self.n_users - _n_empty_rows(matrix):,} users")
                 for part, matrix in self.parts()]  # fmt: skip
        rows += [("split", self.split), ("protocol", f"{self.protocol} ({_PROTOCOL_IN_WORDS[self.protocol]})")]
        rows += [(what.replace("_", " "), f"{count:,}") for what, count in self.report.items() if count]
        return html_table(self.name, rows)

    def user_index(self, ids: ArrayLike) -> np.ndarray:
        """Return the indices of external user ids.

        Parameters
        ----------
        ids : str, int, or sequence of them, n ids

        Returns
        -------
        ndarray of int64, shape (n,)

        Raises
        ------
        DataError
            If an id is unknown; the message names the unknown ones.
        """
        return self._look_up(ids, "user")

    def item_index(self, ids: ArrayLike) -> np.ndarray:
        """Return the indices of external item ids; see :meth:`user_index`."""
        return self._look_up(ids, "item")

    @cached_property
    def _known(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {kind: (ids, np.argsort(ids)) for kind, ids in (("user", self.user_ids), ("item", self.item_ids))}

    def _look_up(self, ids: Any, kind: str) -> np.ndarray:
        wanted = wanted_ids(ids, kind)
        known, order = self._known[kind]
        found = known_positions(known, wanted, order)
        unknown = wanted[found < 0].tolist()
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise DataError(f"{len(unknown)} of {len(wanted)} {kind} ids are unknown to {self.name}: {shown}")
        return found

    def _gaps(self) -> dict[str, int]:
        """Count users and items that a part leaves out."""
        gaps = {f"users_without_{name}": _n_empty_rows(matrix) for name, matrix in self.parts()}
        n_without = self.n_items - len(np.unique(self.train.indices))
        return {"users_without_training": gaps.pop("users_without_train"), "items_without_training": n_without, **gaps}


def disjoint_parts(
    train: np.ndarray | None, validation: np.ndarray | None, test: np.ndarray | None, shape: tuple[int, int]
) -> tuple[tuple[csr_array, csr_array | None, csr_array | None], dict[str, int]]:
    """Matrices of sorted unique keys that share no pair (train before test before validation), and counts of what was dropped.

    DataError if of a part nothing is left.
    """
    parts, report = {"train": train, "validation": validation, "test": test}, dict[str, int]()
    for part, earlier in (("test", "train"), ("validation", "train"), ("validation", "test")):
        if (keys := parts[part]) is not None:
            before = parts[earlier]
            left = keys if before is None else np.setdiff1d(keys, before, assume_unique=True)
            if len(keys) and not len(left):
                advice = f"so nothing is held out; leave out of {earlier} what {part} has"
                raise DataError(f"every pair of {part} is in {earlier} too, {advice}")
            parts[part] = left
            report[f"{part}_pairs_also_in_{'training' if earlier == 'train' else earlier}"] = len(keys) - len(left)
    first, second, third = (None if keys is None else matrix_of_keys(keys, shape) for keys in parts.values())
    return (first, second, third), report


def _n_empty_rows(matrix: csr_array) -> int:
    return int(np.count_nonzero(np.diff(matrix.indptr) == 0))


def _check_part(name: str, matrix: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(matrix, csr_array) or matrix.dtype != np.int8:
        raise DataError(f"{name} must be a csr_array of int8; Dataset.from_matrices takes other matrices")
    if len(shape) != 2 or matrix.shape != shape:
        raise DataError(f"{name} has shape {matrix.shape}, but train has {shape}; both must be users x items")
    if matrix.nnz and (matrix.indices.min() < 0 or matrix.indices.max() >= shape[1]):
        raise DataError(f"{name} has a column index outside 0..{shape[1] - 1}")
    if not (matrix.data == 1).all():
        raise DataError(f"{name} must hold ones only", value=matrix.data[matrix.data != 1][0])
    # SciPy caches its own flag, which can be stale.
    if not (np.diff(keys_of_matrix(matrix)) > 0).all():
        raise DataError(f"the column indices of {name} must be sorted, without duplicates")


_NEGATIVE = "negative. Negative values in data are no interactions: leave them out"
_FEW, _RATINGS_END = 4, 10
_ROWS = "a table of users and items is read by Interactions.from_rows(users, items) or as a data frame"


def _is_like_rows(matrix: Any) -> bool:
    """Whether a matrix may be a table of user, item, rating and time, or one lying on its side.

    It has two to four columns, the first two of whole numbers, and more rows with some number above 1, or any rows (or as few
    rows and more columns) with some number above 10, where scales of ratings end.
    """
    if matrix.dtype == bool or not 2 <= min(matrix.shape) <= _FEW:
        return False
    is_tall = matrix.shape[1] <= _FEW
    table, largest = matrix if is_tall else matrix.T, matrix.max()
    whole = (table[:, :2] == np.rint(table[:, :2])).all()
    return bool(whole and (largest > _RATINGS_END or (largest > 1 and is_tall and len(table) > table.shape[1])))


def _keys_of_any(part: str, matrix: Any) -> tuple[np.ndarray, tuple[int, int], dict[str, int]]:
    """The keys, the shape and the counts of any matrix of interactions."""
    if has_columns(matrix):
        raise DataError(f"{part}: a data frame is no matrix of users x items; fit() and c2f_np.data.read_frame take its rows")
    if not issparse(matrix):
        matrix = matrix.filled(0) if isinstance(matrix, np.ma.MaskedArray) else np.asarray(matrix)
        if matrix.dtype == object:
            with suppress(TypeError, ValueError, OverflowError):  # numbers of Python's
                matrix = matrix.astype(np.float64)
    if matrix.ndim != 2:
        raise DataError(f"{part} must be a matrix of users x items, not an array of {matrix.ndim} dimensions")
    if matrix.dtype.kind == "c":
        raise DataError(f"{part}: Complex data not supported", value=matrix.dtype)
    if matrix.dtype.kind not in "buif":
        raise DataError(f"{part} must hold booleans, integers or real numbers, not {matrix.dtype}; {_ROWS}")
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    if 0 in shape:
        raise DataError(
            f"{part} has {shape[0]} sample(s) and {shape[1]} feature(s) (shape={shape}) while a minimum of 1 is required: "
            "there must be at least one user and one item"
        )
    if issparse(matrix):  # in this form duplicates and explicit zeros are still there
        entries = matrix.tocoo()
        users, items, values = entries.row, entries.col, entries.data
    else:
        users, items = np.nonzero(matrix)
        values = matrix[users, items]
    for what, bad in (("not a finite number (NaN or inf)", ~np.isfinite(values)), (_NEGATIVE, values < 0)):
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(f"{part}: the value of user {users[at]}, item {items[at]} is {what}", value=values[at])
    if _is_like_rows(matrix.toarray() if issparse(matrix) and min(shape) <= _FEW else matrix):
        raise DataError(
            f"{part} of shape {shape} looks like a table with a row for each interaction (whole numbers, at most {_FEW} "
            f"columns), not like a matrix of users x items; {_ROWS}, and matrix != 0 is taken for a matrix",
            value=values.max(),
        )
    present = values != 0
    n_present = int(np.count_nonzero(present))
    keys = keys_of_codes(users[present], items[present], shape[1])
    counts = {
        "duplicates_merged": n_present - len(keys),
        "explicit_zeros": len(values) - n_present,
        "values_made_one": int(np.count_nonzero(values[present] != 1)),
    }
    return keys, shape, counts
