"""The popularity scorer: everybody gets the items with most training interactions. What any model has to beat.

Shapes: `train` (n_users, n_items) sparse; counts (n_items,); scores (n_rows, n_items).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .inputs import pattern_of


def fit_popularity(train: sparse.sparray) -> np.ndarray:
    """Count each item's training interactions.

    Parameters
    ----------
    train : csr_array, shape (n_users, n_items)
        Nonzero entries are interactions; their values do not matter.

    Returns
    -------
    ndarray of int32, shape (n_items,)
        The whole model.

    Raises
    ------
    DataError
        If `train` is not a sparse matrix.
    """
    pattern = pattern_of(train, "train")
    return np.bincount(pattern.indices, minlength=pattern.shape[1]).astype(np.int32)


def popularity_scores(counts: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Score all items for users: the same row for each. Ranking puts the lower index first among equal counts.

    Parameters
    ----------
    counts : ndarray of int32, shape (n_items,)
        As :func:`fit_popularity` gives it.
    users : ndarray of int, shape (n_rows,)

    Returns
    -------
    ndarray of float64, shape (n_rows, n_items)
        A read-only view on one row.
    """
    return np.broadcast_to(np.asarray(counts, np.float64), (len(users), len(counts)))


def popularity_size_bytes(counts: np.ndarray) -> int:
    """Size of the fitted scorer: 4 bytes an item."""
    return counts.nbytes
