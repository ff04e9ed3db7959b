"""Ties that matter: equal scores on both sides of the end of a list.

There the order of the item indices, not the model, decided who is on the list. A tie within a list also moves NDCG, by
less; it is not counted.

Shapes: `ranking` (n_rows, length) item indices, best first, -1 where a list is shorter; `scores` those of the items listed.
"""

from __future__ import annotations

import numpy as np


def ties_after(scores: np.ndarray, ranking: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    """Tell in which rows the k-th and the next item have equal scores.

    Parameters
    ----------
    scores : ndarray, shape (n_rows, length)
        Of the items listed.
    ranking : ndarray of int, shape (n_rows, length)
        For a k to be judged, length must be above k, or all the items there are: then no item comes next.
    ks : tuple of int

    Returns
    -------
    ndarray of bool, shape (n_rows, len(ks))
        False where fewer than k + 1 items are left to be listed.

    Examples
    --------
    >>> ties_after(np.array([[3.0, 2.0, 2.0, 1.0]]), np.array([[5, 1, 2, 4]]), (1, 2, 3, 4))
    array([[False,  True, False, False]])
    """
    tied = np.zeros((ranking.shape[0], len(ks)), bool)
    for column, k in enumerate(ks):
        if k < ranking.shape[1]:
            rows = np.flatnonzero(ranking[:, k] >= 0)
            tied[rows, column] = scores[rows, k - 1] == scores[rows, k]
    return tied
