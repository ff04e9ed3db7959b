"""Recall@k and NDCG@k of rankings, user by user and on average (formulas: docs/evaluation.md).

There is one version, in NumPy: for 30,000 users and lists of 50 it takes 0.1 s, little beside the ranking.

Shapes: `topk` (n_rows, length) item indices, best first, -1 where a list is shorter; `relevant` (n_rows, n_items)
sparse; hits (n_rows, length); a metric (n_rows,), NaN for a row without relevant items.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ..errors import DataError, SettingsError, in_short
from .inputs import list_lengths, pattern_of, positive_integer

DEFAULT_KS = (5, 10, 20, 50)
#: The one that models are compared by.
DEFAULT_METRIC = "ndcg@20"
#: The metrics at those lengths, as results name them.
DEFAULT_METRICS = tuple(f"{name}@{k}" for name in ("ndcg", "recall") for k in DEFAULT_KS)


def length_of(metric: str) -> int:
    """The k of a metric such as "ndcg@20"; SettingsError unless it is ndcg or recall at a whole number."""
    name, _, k = metric.partition("@") if isinstance(metric, str) else ("", "", "")
    if name not in ("ndcg", "recall") or not (k.isascii() and k.isdigit() and k == str(int(k)) and int(k)):
        raise SettingsError(
            f'a metric is "ndcg@k" or "recall@k" with a whole number, such as "{DEFAULT_METRIC}", not {in_short(metric)}'
        )
    return int(k)


def hit_matrix(topk: ArrayLike, relevant: sparse.sparray) -> np.ndarray:
    """Tell which listed items are relevant.

    Parameters
    ----------
    topk : array_like of int, shape (n_rows, length)
        -1 is never a hit.
    relevant : csr_array, shape (n_rows, n_items)

    Returns
    -------
    ndarray of bool, shape (n_rows, length)

    Raises
    ------
    DataError
        If shapes do not match, an index is out of range, or a row lists an item twice (which would count a hit twice).
    """
    topk = np.asarray(topk)
    if topk.ndim != 2 or topk.dtype.kind not in "iu":
        raise DataError(f"topk must be an integer matrix, not {topk.dtype} of shape {topk.shape}")
    pattern = pattern_of(relevant, "relevant")
    n_rows, n_items = pattern.shape
    if topk.shape[0] != n_rows:
        raise DataError(f"topk has {topk.shape[0]} rows and relevant {n_rows}")
    topk = topk.astype(np.int64, copy=False)
    if topk.size and (topk.min() < -1 or topk.max() >= n_items):
        raise DataError(f"topk must hold item indices from 0 to {n_items - 1}, or -1")
    ordered = np.sort(topk, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise DataError("a row of topk lists an item twice")
    # One number for a pair (row, item). The relevant ones ascend, as the rows and the items of a row do.
    relevant_pairs = np.repeat(np.arange(n_rows), np.diff(pattern.indptr)) * n_items + pattern.indices
    pairs = np.arange(n_rows)[:, np.newaxis] * n_items + topk
    if relevant_pairs.size == 0:
        return np.zeros(topk.shape, bool)
    at = np.minimum(np.searchsorted(relevant_pairs, pairs), relevant_pairs.size - 1)
    hits: np.ndarray = (relevant_pairs[at] == pairs) & (topk >= 0)
    return hits


def recall_at_k(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """Share of the relevant items that are among the first k: hits / |relevant|.

    Parameters
    ----------
    hits : ndarray of bool, shape (n_rows, length)
        As :func:`hit_matrix` gives it. Lists shorter than k count as they are.
    n_relevant : ndarray of int, shape (n_rows,)
    k : int

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        NaN where there are no relevant items.
    """
    found = np.count_nonzero(np.asarray(hits)[:, : positive_integer(k, "k")], axis=1)
    return _ratio(found, np.asarray(n_relevant, np.float64))


def ndcg_at_k(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """Discounted gain of the first k over that of the best list possible.

    Gains are 0 or 1, the discount at place j (from 1) is 1 / log2(j + 1), and the best list has min(k, |relevant|) hits
    on top.
    Parameters and return value are those of :func:`recall_at_k`.
    """
    hits = np.asarray(hits)[:, : positive_integer(k, "k")]
    n_relevant = np.asarray(n_relevant)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    # Both sums run from the first place to the last, so a perfect list gives exactly 1.
    gain = (hits * discount[: hits.shape[1]]).cumsum(axis=1)[:, -1] if hits.shape[1] else np.zeros(hits.shape[0])
    ideal = np.concatenate([[0.0], discount.cumsum()])[np.minimum(n_relevant, k)]
    return _ratio(gain, ideal)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return ratio


def metrics_per_user(topk: ArrayLike, relevant: sparse.sparray, ks: Iterable[int] = DEFAULT_KS) -> dict[str, np.ndarray]:
    """Recall@k and NDCG@k of every row.

    Parameters
    ----------
    topk : array_like of int, shape (n_rows, length)
        Needs min(max(ks), n_items) columns at least.
    relevant : csr_array, shape (n_rows, n_items)
    ks : sequence of int

    Returns
    -------
    dict of str to ndarray of float64, shape (n_rows,)
        Keys ``"ndcg@5"``, ..., then ``"recall@5"``, ...; NaN for rows without relevant items.

    Raises
    ------
    DataError
        As :func:`hit_matrix` does.
    SettingsError
        If a k is not valid, or the lists are too short for it.
    """
    ks = list_lengths(ks)
    hits = hit_matrix(topk, relevant)
    needed = min(max(ks), relevant.shape[1])
    if hits.shape[1] < needed:
        raise SettingsError(f"k = {max(ks)} needs lists of {needed} items; these have {hits.shape[1]}")
    n_relevant = np.diff(pattern_of(relevant, "relevant").indptr)
    per_user = {f"ndcg@{k}": ndcg_at_k(hits, n_relevant, k) for k in ks}
    return per_user | {f"recall@{k}": recall_at_k(hits, n_relevant, k) for k in ks}


def mean_metrics(per_user: dict[str, np.ndarray]) -> tuple[dict[str, float], int, int]:
    """Average over the users who have relevant items.

    Parameters
    ----------
    per_user : dict of str to ndarray, shape (n_rows,)
        As :func:`metrics_per_user` gives it.

    Returns
    -------
    means : dict of str to float
    n_users : int
        How many users the means are over.
    n_left_out : int
        How many have no relevant items.

    Raises
    ------
    DataError
        If no user has a relevant item: there is nothing to average.
    """
    values = next(iter(per_user.values()))
    counted = ~np.isnan(values)
    n_users = int(np.count_nonzero(counted))
    if n_users == 0:
        raise DataError("no user has a relevant item, so there is nothing to average")
    return {key: float(np.mean(each[counted])) for key, each in per_user.items()}, n_users, values.size - n_users
