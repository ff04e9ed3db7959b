"""Splits of interactions into training and test, and the two evaluation protocols.

A protocol says where validation items come from and what the test ranking leaves out:

=========== ======================================= ====================================================
protocol    validation items, unless they are given left out of the test ranking
=========== ======================================= ====================================================
``authors`` a third of each user's test items       training items; validation items compete
``clean``   a share of each user's training items   training and validation items
=========== ======================================= ====================================================

Figures of one protocol must not be compared with figures of the other: test sets, training sets and rankings all differ.

Shapes: U users, I items, n pairs. The seed of a split has nothing to do with the model's.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from ..errors import DataError
from .dataset import Dataset, check_protocol
from .interactions import Interactions, keys_of_matrix, matrix_of_keys

Seed = int | np.random.Generator

# Each purpose draws from its own stream, so that one draw never shifts another.
_STREAM_TEST, _STREAM_VALIDATION, _STREAM_TIES = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test interactions before a protocol is applied.

    Parameters
    ----------
    train : csr_array of int8, shape (U, I)
    validation, test : csr_array of int8, shape (U, I), or None
        No pair is in two parts. A split made here has no validation; :func:`apply_protocol` draws it.
    user_ids, item_ids : ndarray of str, shape (U,) and (I,)
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
        """All parts as one set of :class:`Interactions`, without timestamps, to be split anew."""
        matrices = [matrix for matrix in (self.train, self.validation, self.test) if matrix is not None]
        codes = np.divmod(np.sort(np.concatenate([keys_of_matrix(matrix) for matrix in matrices])), len(self.item_ids))
        return Interactions(*codes, None, self.user_ids, self.item_ids, self.source, dict(self.report))


def split_none(interactions: Interactions) -> Split:
    """Put everything into training, for a model that will be used rather than judged."""
    return _split(interactions, np.zeros(len(interactions), dtype=bool), "everything is training")


def split_random(interactions: Interactions, test_fraction: float = 0.2, seed: Seed = 0) -> Split:
    """Hold out a share of each user's items, drawn at random.

    A user with n items gives ``test_fraction * n`` of them, rounded to the nearest whole number (halves up), but at least one and
    at most n - 1. A user with a single item keeps it in training.

    Parameters
    ----------
    interactions : Interactions
    test_fraction : float
        Between 0 and 1, both excluded.
    seed : int or numpy.random.Generator

    Raises
    ------
    DataError
        If the fraction or the seed is impossible.
    """
    _check_fraction(test_fraction, "test_fraction")
    rng = _generator(seed, _STREAM_TEST)
    per_user = np.bincount(interactions.user, minlength=interactions.n_users)
    n_test = share_per_user(per_user, test_fraction)
    how = f"test: {100 * float(test_fraction):g}% of each user's items at random ({_in_words(seed)})"
    return _split(interactions, drawn_per_user(interactions.user, n_test, rng), how)


def split_temporal(interactions: Interactions, n_last: int = 1, seed: Seed = 0) -> Split:
    """Hold out each user's last items.

    Where several items share the deciding timestamp, those held out are drawn from them at random: any fixed order, such as by
    item number, would favour some items over others. A user always keeps at least one item in training.

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
    user, time = interactions.user, interactions.timestamp
    if time is None:
        raise DataError(f"a temporal split needs timestamps, and {interactions.source or 'the source'} has none")
    rng = _generator(seed, _STREAM_TIES)
    n_last = min(n_last, len(interactions))
    n_test = np.minimum(n_last, np.maximum(np.bincount(user, minlength=interactions.n_users) - 1, 0))
    held_out = drawn_per_user(user, n_test, rng, first_by=-time)
    # The draw decided for users who keep an item as late as the earliest one held out.
    first_out, last_kept = np.full(interactions.n_users, np.inf), np.full(interactions.n_users, -np.inf)
    np.minimum.at(first_out, user[held_out], time[held_out])
    np.maximum.at(last_kept, user[~held_out], time[~held_out])
    how = f"test: the last {n_last} of each user's items by time, ties drawn at random ({_in_words(seed)})"
    return _split(interactions, held_out, how, users_with_ties=int(np.count_nonzero(last_kept == first_out)))


def apply_protocol(
    split: Split, protocol: str = "clean", *, validation_fraction: float = 0.1, seed: Seed = 0, name: str | None = None
) -> Dataset:
    """Turn a split into a data set.

    Validation that came with the data is used as it is under either protocol; only the masking then differs.

    Parameters
    ----------
    split : Split
    protocol : {"authors", "clean"}
    validation_fraction : float
        The share of each user's training items that ``clean`` takes; 0 for no validation. ``authors`` ignores it.
    seed : int or numpy.random.Generator
        The split's seed; validation has a stream of its own, so it does not shift with the draw of the test items.
    name : str, optional
        By default the split's source.

    Raises
    ------
    DataError
        If the protocol is unknown, the fraction or the seed is impossible, or ``authors`` meets a split without test.
    """
    check_protocol(protocol)
    train, validation, test, how = split.train, split.validation, split.test, split.how
    if validation is None and protocol == "authors":
        if test is None:
            raise DataError('the protocol "authors" takes validation from the test items, and there are none; use "clean"')
        a_third_rounded_up = -(-np.diff(test.indptr).astype(np.int64) // 3)
        validation, test = _drawn_and_left(test, a_third_rounded_up, _generator(seed, _STREAM_VALIDATION))
        how += f"; validation: a third of each user's test items at random ({_in_words(seed)})"
    elif validation is None:
        _check_fraction(validation_fraction, "validation_fraction", zero_is_fine=True)
        if validation_fraction:
            validation, train = _share_of_training(train, validation_fraction, _generator(seed, _STREAM_VALIDATION))
            share = f"{100 * float(validation_fraction):g}% of each user's training items at random"
            how += f"; validation: {share} ({_in_words(seed)})"
    name = name or split.source
    return Dataset(name, train, validation, test, split.user_ids, split.item_ids, how, protocol, dict(split.report))


def _split(interactions: Interactions, held_out: np.ndarray, how: str, **counts: int) -> Split:
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
        interactions.report | counts,
    )


def _share_of_training(train, fraction: float, rng):
    """Draw a share of each user's training items, but never the last one; return (validation or None, training).

    The share is rounded up or down at random, in proportion. Plain rounding would take nothing from users with few items, so that
    early stopping would depend on the busiest users only.
    """
    per_user = np.diff(train.indptr).astype(np.int64)
    wanted = np.floor(fraction * per_user + rng.random(len(per_user))).astype(np.int64)
    validation, train = _drawn_and_left(train, np.minimum(wanted, np.maximum(per_user - 1, 0)), rng)
    return validation if validation.nnz else None, train


def _drawn_and_left(matrix, how_many: np.ndarray, rng):
    keys = keys_of_matrix(matrix)
    taken = drawn_per_user(keys // matrix.shape[1], how_many, rng)
    return matrix_of_keys(keys[taken], matrix.shape), matrix_of_keys(keys[~taken], matrix.shape)


def share_per_user(per_user: np.ndarray, share: float) -> np.ndarray:
    """So many of each user's items, rounded half up; at least one, and one fewer than there are at most."""
    wanted = np.floor(share * per_user + 0.5).astype(np.int64)
    return np.minimum(np.maximum(wanted, 1), np.maximum(per_user - 1, 0))


def drawn_per_user(user: np.ndarray, how_many: np.ndarray, rng: np.random.Generator, first_by=None) -> np.ndarray:
    """Choose `how_many` pairs of each user, smallest `first_by` first, else at random; bool, shape (n,). Chance breaks ties."""
    # Sorting uniform numbers, not Generator.choice: NumPy guarantees the stream of random() for longer.
    chance = rng.random(len(user))
    order = np.lexsort((chance, user) if first_by is None else (chance, first_by, user))
    sorted_user = user[order]
    place = np.arange(len(user)) - np.searchsorted(sorted_user, sorted_user, side="left")
    taken = np.zeros(len(user), dtype=bool)
    taken[order] = place < how_many[sorted_user]
    return taken


def _generator(seed, stream: int) -> np.random.Generator:
    """The generator of one purpose of a split; a generator given as `seed` is used as it is."""
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError("the split seed must be a whole number of at least 0", value=seed)
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=(stream,)))


def _in_words(seed) -> str:
    return "a generator passed in" if isinstance(seed, np.random.Generator) else f"split seed {seed}"


def _check_fraction(value, name: str, zero_is_fine: bool = False) -> None:
    """Raise DataError unless `value` is a number between 0 and 1, both excluded (0 included if `zero_is_fine`)."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 < value < 1 or (zero_is_fine and value == 0)):
        raise DataError(f"{name} must lie between 0 and 1{', or be 0' if zero_is_fine else ''}", value=value)
