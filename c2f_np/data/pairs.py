"""Sets of (user, item) pairs: as sorted keys for set arithmetic, as sparse matrices for everybody else.

Shapes: U users, I items, n pairs. The key of a pair is ``user * I + item``, so sorted keys are pairs sorted by user,
then item, and both the matrix and the keys of a set are unique: two equal sets have equal bytes.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from ..errors import DataError

# Each purpose draws from a stream of its own, so that asking for one draw never shifts another.
STREAM_TEST, STREAM_VALIDATION, STREAM_TIES = 1, 2, 3


def split_generator(seed, stream: int) -> np.random.Generator:
    """Return the generator of one purpose of a split.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        A whole number of at least 0, or a generator, which is used as it is.
    stream : int
        Which purpose.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    DataError
        If `seed` is neither.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError("the split seed must be a whole number of at least 0", value=seed)
    return np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=(stream,)))


def seed_in_words(seed) -> str:
    """Say which seed it was, for the description of a split."""
    return "a generator passed in" if isinstance(seed, np.random.Generator) else f"split seed {seed}"


def keys_of_codes(user, item, n_items: int) -> np.ndarray:
    """Return the sorted unique int64 keys of the pairs ``(user[j], item[j])``."""
    return np.unique(np.asarray(user, dtype=np.int64) * n_items + np.asarray(item, dtype=np.int64))


def keys_of_matrix(matrix: csr_array) -> np.ndarray:
    """Return the sorted int64 keys, shape (n,), of a matrix with sorted indices."""
    users = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return users * matrix.shape[1] + matrix.indices


def matrix_of_keys(keys: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """Return the binary int8 matrix, shape (U, I), of sorted unique `keys`."""
    n_users, n_items = shape
    # SciPy asks for 32-bit indices wherever they suffice.
    index_type = np.int32 if max(len(keys), n_users, n_items) < 2**31 else np.int64
    indptr = np.zeros(n_users + 1, dtype=index_type)
    np.cumsum(np.bincount(keys // n_items, minlength=n_users), out=indptr[1:])
    matrix = csr_array((np.ones(len(keys), dtype=np.int8), (keys % n_items).astype(index_type), indptr), shape=shape)
    matrix.has_canonical_format = True
    return matrix


def minus(keys: np.ndarray, others: np.ndarray | None) -> np.ndarray:
    """Return the sorted unique `keys` that are not among the sorted unique `others`."""
    return keys if others is None else np.setdiff1d(keys, others, assume_unique=True)


def draw_per_user(user: np.ndarray, how_many: np.ndarray, rng: np.random.Generator, first_by=None) -> np.ndarray:
    """Choose `how_many` pairs of each user.

    Parameters
    ----------
    user : ndarray of int64, shape (n,)
        The user of each pair.
    how_many : ndarray of int64, shape (U,)
        How many to take of each user; a user with fewer gives all.
    rng : numpy.random.Generator
        One uniform number is drawn for each pair, in the order given.
    first_by : ndarray of float64, shape (n,), optional
        Take the pairs with the smallest values; the random numbers then only break ties.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the pairs taken.
    """
    # Sorting uniform numbers, not Generator.choice: NumPy promises the stream of random() for longer.
    chance = rng.random(len(user))
    order = np.lexsort((chance, user) if first_by is None else (chance, first_by, user))
    sorted_user = user[order]
    place = np.arange(len(user)) - np.searchsorted(sorted_user, sorted_user, side="left")
    taken = np.zeros(len(user), dtype=bool)
    taken[order] = place < how_many[sorted_user]
    return taken
