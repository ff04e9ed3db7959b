"""What other code calls NDCG and Recall: each definition a function, with its formula and where it was read.

One name, several numbers: tables of different papers can differ by the definition alone. The functions beside ours in
`metrics` are for the comparison (docs/evaluation.md); nothing else in the package uses them.

Shapes, as in `metrics`: hits (n_rows, length) bool; n_relevant (n_rows,); a metric (n_rows,), NaN for a row without relevant
items. The number of a definition is the mean over the other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ..errors import DataError
from .inputs import dense_scores, pattern_of, positive_integer
from .metrics import ndcg_at_k, recall_at_k


@dataclass(frozen=True)
class Definition:
    """One way to turn hits into a number for each user.

    Attributes
    ----------
    name : str
    metric : {"ndcg", "recall"}
        What its users call it, or what it stands in for.
    formula : str
        With the symbols of docs/evaluation.md.
    used_by : str
        Where it was found.
    function : callable
        ``function(hits, n_relevant, k)`` gives an ndarray of shape (n_rows,).
    """

    name: str
    metric: str
    formula: str
    used_by: str
    function: Callable[[ArrayLike, ArrayLike, int], np.ndarray]

    def mean(self, hits: ArrayLike, n_relevant: ArrayLike, k: int) -> float:
        """The mean over the rows that have relevant items; DataError if there is none."""
        values = self.function(hits, n_relevant, k)
        counted = values[~np.isnan(values)]
        if counted.size == 0:
            raise DataError("no user has a relevant item, so there is nothing to average")
        return float(counted.mean())


def ndcg_ideal_full(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """NDCG against a list of k hits, also where there are fewer relevant items: then 1 is out of reach."""
    gain, n_relevant = _gain(hits, _discount(k)), np.asarray(n_relevant)
    return np.where(n_relevant > 0, gain / _discount(k).sum(), np.nan)


def ndcg_ideal_found(hits: ArrayLike, n_relevant: ArrayLike, k: int, *, longest: int | None = None) -> np.ndarray:
    """NDCG against the same list with its own hits moved to the top; 0 without a hit.

    It tells how well a list is ordered, not what is on it: one hit at the first place gives 1, whatever else was missed.

    Parameters
    ----------
    hits, n_relevant, k
        As for :func:`~c2f_np.evaluation.ndcg_at_k`.
    longest : int, optional
        The hits among the first so many are moved to the top, by default among the first k.
    """
    hits = np.asarray(hits)
    n_found = np.count_nonzero(hits[:, : k if longest is None else positive_integer(longest, "longest")], axis=1)
    ndcg = ndcg_at_k(hits, n_found, k)
    return np.where(np.asarray(n_relevant) > 0, np.nan_to_num(ndcg), np.nan)


def ndcg_ideal_untruncated(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """NDCG with the discount 1 / max(1, log2(j)) at place j, against all relevant items on top, also those beyond k.

    The first two places count alike, and with more than k relevant items 1 is out of reach.
    """
    n_relevant = np.asarray(n_relevant)
    longest = max(positive_integer(k, "k"), int(n_relevant.max(initial=0)))
    discount = 1 / np.maximum(1, np.log2(np.arange(1, longest + 1)))
    ideal = np.concatenate([[np.nan], discount.cumsum()])[n_relevant]
    ndcg: np.ndarray = _gain(hits, discount[:k]) / ideal
    return ndcg


def recall_truncated(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """Hits over min(k, relevant items), so that a full list can always reach 1."""
    return recall_at_k(hits, np.minimum(n_relevant, positive_integer(k, "k")), k)


def recall_pooled(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """All users' hits over the sum of all users' min(k, relevant items): users with many relevant items weigh more.

    Given user by user as the share of that quotient's mean: hits over the mean of min(k, relevant items).
    """
    n_relevant = np.minimum(n_relevant, positive_integer(k, "k"))
    counted = n_relevant > 0
    if not counted.any():
        return np.full(n_relevant.shape, np.nan)
    found = np.count_nonzero(np.asarray(hits)[:, :k], axis=1)
    return np.where(counted, found / n_relevant[counted].mean(), np.nan)


def hit_rate(hits: ArrayLike, n_relevant: ArrayLike, k: int) -> np.ndarray:
    """1 with a hit among the first k, else 0."""
    any_hit = np.asarray(hits)[:, : positive_integer(k, "k")].any(axis=1)
    return np.where(np.asarray(n_relevant) > 0, any_hit.astype(np.float64), np.nan)


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "ours", "ndcg", "DCG@k / IDCG@min(k, |rel|)",
        "LightGCN (TensorFlow and PyTorch code), RecBole, Elliot's code, implicit, Mult-VAE; scikit-learn without ties",
        ndcg_at_k,
    ),
    Definition("ideal of k hits", "ndcg", "DCG@k / IDCG@k", "the formula in Elliot's documentation", ndcg_ideal_full),
    Definition(
        "ideal of the hits found", "ndcg", "DCG@k / IDCG@(hits among the first k)",
        "DaisyRec; NGCF, where the hits are those of its longest list", ndcg_ideal_found,
    ),
    Definition(
        "ideal of all relevant", "ndcg", "the same with 1 / max(1, log2(j)) as discount; IDCG@|rel|", "LensKit 0.x",
        ndcg_ideal_untruncated,
    ),
    Definition(
        "ours", "recall", "hits / |rel|", "LightGCN, NGCF, RecBole, Elliot, DaisyRec, LensKit", recall_at_k,
    ),
    Definition("truncated", "recall", "hits / min(k, |rel|)", "Mult-VAE", recall_truncated),
    Definition("pooled", "recall", "sum of hits / sum of min(k, |rel|)", "implicit, as precision", recall_pooled),
    Definition("hit rate", "recall", "1 if hits > 0", "RecBole, DaisyRec and NGCF, as Hit, HR and hit_ratio", hit_rate),
)  # fmt: skip


def over_all_users(values: ArrayLike, n_users: int) -> np.ndarray:
    """Numbers of the counted users, followed by a 0 for everybody else.

    This is what a mean over all users averages, and what scikit-learn's ``ndcg_score`` does with rows without relevant items.

    Parameters
    ----------
    values : array_like, shape (n_rows,)
        NaN counts as not there.
    n_users : int
        All users, at least as many as are counted.

    Returns
    -------
    ndarray of float64, shape (n_users,)

    Raises
    ------
    DataError
        If more users are counted than there are.
    """
    values = np.asarray(values, np.float64)
    counted = values[~np.isnan(values)]
    if counted.size > n_users:
        raise DataError(f"{counted.size} users are counted, but there are {n_users}")
    return np.concatenate([counted, np.zeros(n_users - counted.size)])


def rank_sampled(
    scores: ArrayLike, relevant: sparse.sparray, masked: sparse.sparray | None, k: int, n_negatives: int, rng: np.random.Generator
) -> np.ndarray:
    """List the k best among each row's relevant items and a few others drawn at random, instead of among all items.

    A warning, not a tool: such metrics need not even order models as the full ranking does, and the fewer are drawn, the more
    every metric resembles the area under the ROC curve (Krichene and Rendle, On sampled metrics for item recommendation, 2020).

    Parameters
    ----------
    scores : array_like, shape (n_rows, n_items)
    relevant : csr_array, shape (n_rows, n_items)
    masked : csr_array, shape (n_rows, n_items), or None
        Never candidates, even if they are relevant.
    k : int
    n_negatives : int
        Candidates drawn for each row, without replacement, from the items that are neither relevant nor masked; all of them
        where there are not more.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int64, shape (n_rows, min(k, n_items))
        As :func:`~c2f_np.evaluation.rank_items` gives it: lower index first among equal scores, -1 in places left over.

    Raises
    ------
    DataError
        If a score is NaN, or the shapes do not match.
    SettingsError
        If `k` or `n_negatives` is not valid.
    """
    scores = dense_scores(scores)
    if np.isnan(scores).any():
        row, item = np.argwhere(np.isnan(scores))[0]
        raise DataError(f"the score of row {row}, item {item} is not a number (NaN)")
    wanted = pattern_of(relevant, "relevant", scores.shape)
    out = pattern_of(masked, "masked", scores.shape)
    n_negatives = positive_integer(n_negatives, "n_negatives")
    topk = np.full((scores.shape[0], min(positive_integer(k, "k"), scores.shape[1])), -1, np.int64)
    for row, row_scores in enumerate(scores):
        kind = np.zeros(scores.shape[1], np.int8)
        kind[wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]]] = 1
        kind[out.indices[out.indptr[row] : out.indptr[row + 1]]] = 2
        others = np.flatnonzero(kind == 0)
        drawn = rng.choice(others, min(n_negatives, others.size), replace=False)
        candidates = np.sort(np.concatenate([np.flatnonzero(kind == 1), drawn]))
        best = candidates[np.argsort(-row_scores[candidates], kind="stable")[: topk.shape[1]]]
        topk[row, : best.size] = best
    return topk


def _discount(k: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, positive_integer(k, "k") + 2))


def _gain(hits: ArrayLike, discount: np.ndarray) -> np.ndarray:
    """Sum of the discounts at the hits among the first places."""
    hits = np.asarray(hits)[:, : discount.size]
    gain: np.ndarray = hits @ discount[: hits.shape[1]]
    return gain
