"""Splits of interactions into training and test, and the form they share with splits that come with the data.

Shapes: U users, I items. A split is made with a seed of its own, which has nothing to do with the model's.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from ..errors import DataError
from .interactions import Interactions
from .pairs import (
    STREAM_TEST,
    STREAM_TIES,
    draw_per_user,
    keys_of_matrix,
    matrix_of_keys,
    seed_in_words,
    split_generator,
)


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test interactions before a protocol is applied.

    Parameters
    ----------
    train : csr_array of int8, shape (U, I)
    validation, test : csr_array of int8, shape (U, I), or None
        No pair is in two parts. A split made here has no validation; :mod:`c2f_np.data.protocols` draws it.
    user_ids : ndarray of str, shape (U,)
    item_ids : ndarray of str, shape (I,)
        External ids.
    how : str
        How the split was made, in plain words.
    source : str
        Where the interactions came from.
    report : dict of str to int
        What was merged or dropped.
    """

    train: csr_array
    validation: csr_array | None
    test: csr_array | None
    user_ids: np.ndarray
    item_ids: np.ndarray
    how: str
    source: str = ""
    report: dict[str, int] = field(default_factory=dict)

    def pooled(self) -> Interactions:
        """Return all parts as one set of :class:`Interactions`, without timestamps, to be split anew."""
        matrices = [matrix for matrix in (self.train, self.validation, self.test) if matrix is not None]
        keys = np.sort(np.concatenate([keys_of_matrix(matrix) for matrix in matrices]))
        n_items = len(self.item_ids)
        return Interactions(
            keys // n_items, keys % n_items, None, self.user_ids, self.item_ids, self.source, dict(self.report)
        )


def split_none(interactions: Interactions) -> Split:
    """Put everything into training: for a model that is put to use rather than judged.

    Parameters
    ----------
    interactions : Interactions

    Returns
    -------
    Split
        Without test.
    """
    return _split(interactions, np.zeros(len(interactions), dtype=bool), "everything is training")


def split_random(interactions: Interactions, test_fraction: float = 0.2, seed=0) -> Split:
    """Hold out a share of each user's items, drawn at random.

    A user with n items gives ``test_fraction * n`` of them, rounded to the nearest whole number (halves up), but at
    least one and at most n - 1. A user with a single item keeps it in training.

    Parameters
    ----------
    interactions : Interactions
    test_fraction : float
        Between 0 and 1, both excluded.
    seed : int or numpy.random.Generator

    Returns
    -------
    Split

    Raises
    ------
    DataError
        If the fraction or the seed is impossible.
    """
    check_fraction(test_fraction, "test_fraction")
    rng = split_generator(seed, STREAM_TEST)
    per_user = np.bincount(interactions.user, minlength=interactions.n_users)
    n_test = np.floor(test_fraction * per_user + 0.5).astype(np.int64)
    n_test = np.minimum(np.maximum(n_test, 1), np.maximum(per_user - 1, 0))
    how = f"test: {test_fraction:.0%} of each user's items at random ({seed_in_words(seed)})"
    return _split(interactions, draw_per_user(interactions.user, n_test, rng), how)


def split_temporal(interactions: Interactions, n_last: int = 1, seed=0) -> Split:
    """Hold out each user's last items.

    Where several items share the deciding timestamp, those held out are drawn from them at random: any fixed order,
    such as by item number, would favour some items over others. A user always keeps at least one item in training.

    Parameters
    ----------
    interactions : Interactions
        With timestamps.
    n_last : int
        How many items each user gives; at least 1.
    seed : int or numpy.random.Generator
        Only for ties.

    Returns
    -------
    Split
        Its report counts ``users_with_ties``: those for whom the draw decided.

    Raises
    ------
    DataError
        If there are no timestamps, or `n_last` or the seed is impossible.
    """
    if isinstance(n_last, bool) or not isinstance(n_last, int | np.integer) or n_last < 1:
        raise DataError("n_last must be a whole number of at least 1", value=n_last)
    if interactions.timestamp is None:
        raise DataError(f"a temporal split needs timestamps, and {interactions.source or 'the source'} has none")
    rng = split_generator(seed, STREAM_TIES)
    per_user = np.bincount(interactions.user, minlength=interactions.n_users)
    n_test = np.minimum(n_last, np.maximum(per_user - 1, 0))
    held_out = draw_per_user(interactions.user, n_test, rng, first_by=-interactions.timestamp)
    n_tied = _count_users_with_ties(interactions, held_out)
    how = f"test: the last {n_last} of each user's items by time, ties drawn at random ({seed_in_words(seed)})"
    return _split(interactions, held_out, how, {"users_with_ties": n_tied})


def check_fraction(value, name: str, zero_is_fine: bool = False) -> None:
    """Raise DataError unless `value` is a number between 0 and 1, both excluded (0 included if `zero_is_fine`)."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 < value < 1 or (zero_is_fine and value == 0)):
        raise DataError(f"{name} must lie between 0 and 1{', or be 0' if zero_is_fine else ''}", value=value)


def _split(interactions: Interactions, held_out: np.ndarray, how: str, counts: dict[str, int] | None = None) -> Split:
    keys = interactions.user * interactions.n_items + interactions.item
    shape = (interactions.n_users, interactions.n_items)
    return Split(
        matrix_of_keys(keys[~held_out], shape),
        None,
        matrix_of_keys(keys[held_out], shape) if held_out.any() else None,
        interactions.user_ids,
        interactions.item_ids,
        how,
        interactions.source,
        {**interactions.report, **(counts or {})},
    )


def _count_users_with_ties(interactions: Interactions, held_out: np.ndarray) -> int:
    """Count users with an item left in training as late as the earliest one held out."""
    first_out = np.full(interactions.n_users, np.inf)
    np.minimum.at(first_out, interactions.user[held_out], interactions.timestamp[held_out])
    last_kept = np.full(interactions.n_users, -np.inf)
    np.maximum.at(last_kept, interactions.user[~held_out], interactions.timestamp[~held_out])
    return int(np.count_nonzero(last_kept == first_out))
