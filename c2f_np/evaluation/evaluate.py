"""Evaluation of a recommender by full ranking: every item that is not masked competes.

Shapes: `relevant`, `masked` (n_users, n_items) sparse; a block of scores (block_rows, n_items).
Users without relevant items are neither scored nor counted. Protocols (which items are masked): docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from ..engine import DEFAULT_ENGINE, is_compiled
from ..errors import DataError, SettingsError
from ..shown import html_table
from .inputs import Pattern, dense_scores, list_lengths, pattern_of, positive_integer, thread_count
from .metrics import DEFAULT_KS, mean_metrics, metrics_per_user
from .ranking import BLOCK_BYTES, rank_embeddings_with_ties, rank_in_threads
from .ties import ties_after


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found. Two results are equal if all but their arrays are.

    Attributes
    ----------
    metrics : dict of str to float
        Means over the counted users: ``"ndcg@5"``, ..., ``"recall@5"``, ...
    n_users : int
        Users counted.
    n_users_left_out : int
        Users without relevant items.
    protocol : str
        What was masked, by name (such as ``"authors"`` or ``"clean"``). Never compare numbers across protocols.
    users : ndarray of int64, shape (n_users,), or None
        The counted users, if numbers per user were asked for.
    per_user : dict of str to ndarray of float64, shape (n_users,), or None
        Their metrics, in the order of `users`.
    ties : dict of int to int
        For each k the number of counted users whose k-th and next item have equal scores: the lower index, not the model, put
        the one on the list and left the other out.
    """

    metrics: dict[str, float]
    n_users: int
    n_users_left_out: int
    protocol: str = ""
    users: np.ndarray | None = field(default=None, repr=False, compare=False)
    per_user: dict[str, np.ndarray] | None = field(default=None, repr=False, compare=False)
    ties: dict[int, int] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """For notebooks: a row for each metric, a column for each k."""
        names, ks = (list(dict.fromkeys(key.split("@")[place] for key in self.metrics)) for place in (0, 1))
        shown = {"ndcg": "NDCG", "recall": "Recall"}
        rows = [(shown.get(name, name), *(f"{self.metrics[f'{name}@{k}']:.4f}" for k in ks)) for name in names]
        left_out = f", {self.n_users_left_out:,} without relevant items left out" if self.n_users_left_out else ""
        note = f"means over {self.n_users:,} users{left_out}"
        return html_table("evaluation", rows, header=[f"@{k}" for k in ks], note=f"{note}; protocol {self.protocol or 'none'}")


def evaluate_ranking(
    score_block: Callable[[np.ndarray], np.ndarray],
    relevant: sparse.sparray | None,
    masked: sparse.sparray | None,
    ks: Iterable[int] = DEFAULT_KS,
    *,
    block_rows: int | None = None,
    engine: str = DEFAULT_ENGINE,
    n_threads: int | None = None,
    per_user: bool = False,
    protocol: str = "",
) -> EvaluationResult:
    """Evaluate any scorer.

    Parameters
    ----------
    score_block : callable
        Receives user indices (int64, shape (n,)) and returns their scores of all items, float32 or float64, shape
        (n, n_items). It is called for one block at a time, from this thread; what it returns is not modified.
    relevant : csr_array, shape (n_users, n_items)
        The items to be found.
    masked : csr_array, shape (n_users, n_items), or None
        The items left out of the ranking. A relevant item among them can never be a hit, yet counts as relevant.
    ks : sequence of int
        List lengths. Lists longer than the catalogue end with it.
    block_rows : int, optional
        Users scored at a time; by default as many as 64 MiB of float64 hold, at least 1.
    engine : {"numpy", "numba"}
        Of the ranking.
    n_threads : int, optional
        Threads of the ranking; by default all processors. The result does not depend on it.
    per_user : bool
        Whether the result keeps the numbers of every user.
    protocol : str
        Name written into the result.

    Returns
    -------
    EvaluationResult

    Raises
    ------
    DataError
        If shapes do not match, a score is NaN, or no user has a relevant item.
    SettingsError
        If another argument is not valid.

    Notes
    -----
    Beyond what `score_block` needs: 8 bytes for every entry of `masked` and `relevant`, and some 40 for every counted
    user and place of the longest list.
    """
    if not callable(score_block):
        raise SettingsError(
            f"score_block must be a function of user indices, not {type(score_block).__name__}; "
            "of a matrix: lambda rows: scores[rows]"
        )
    ks = list_lengths(ks)
    compiled = is_compiled(engine)
    n_threads = thread_count(n_threads)
    held_out, users = _counted_users(relevant)
    n_items = held_out.shape[1]
    mask = pattern_of(masked, "masked", held_out.shape)
    if block_rows is None:
        block_rows = max(1, BLOCK_BYTES // (8 * n_items))
    else:
        block_rows = positive_integer(block_rows, "block_rows")
    # One place more than the longest list: what comes next tells whether the end of the list is a tie.
    topk = np.empty((users.size, min(max(ks) + 1, n_items)), np.int64)
    tied = np.empty((users.size, len(ks)), bool)

    for start in range(0, users.size, block_rows):
        block = users[start : start + block_rows]
        scores = dense_scores(score_block(block))
        if scores.shape != (block.size, n_items):
            raise DataError(f"score_block gave scores of shape {scores.shape}, expected {(block.size, n_items)}")
        here = slice(start, start + block.size)
        rank_in_threads(scores, block, mask, topk[here], compiled, n_threads, "user")
        tied[here] = ties_after(np.take_along_axis(scores, topk[here], axis=1), topk[here], ks)
    return _result(topk, tied, held_out, users, ks, per_user, protocol)


def evaluate_embeddings(
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    item_bias: np.ndarray | None,
    relevant: sparse.sparray | None,
    masked: sparse.sparray | None,
    ks: Iterable[int] = DEFAULT_KS,
    *,
    block_rows: int | None = None,
    engine: str = DEFAULT_ENGINE,
    n_threads: int | None = None,
    per_user: bool = False,
    protocol: str = "",
) -> EvaluationResult:
    """Evaluate a dot-product model.

    The arguments are explained in :func:`~c2f_np.evaluation.rank_embeddings`, which makes the lists (and states the
    memory needed), and in :func:`evaluate_ranking`.

    Parameters
    ----------
    user_embeddings : array_like, shape (n_users, d)
    item_embeddings : array_like, shape (n_items, d)
    item_bias : array_like, shape (n_items,), or None
    relevant : csr_array, shape (n_users, n_items)
    masked : csr_array, shape (n_users, n_items), or None
    ks : sequence of int
    block_rows : int, optional
    engine : {"numpy", "numba"}
    n_threads : int, optional
    per_user : bool
    protocol : str

    Returns
    -------
    EvaluationResult

    Raises
    ------
    DataError
        If shapes do not match, a score is NaN, or no user has a relevant item.
    SettingsError
        If another argument is not valid.
    """
    ks = list_lengths(ks)
    held_out, users = _counted_users(relevant)
    shape = np.shape(user_embeddings)[:1] + np.shape(item_embeddings)[:1]
    if held_out.shape != shape:
        raise DataError(f"relevant has the shape {held_out.shape}, expected {shape}")
    topk, tied = rank_embeddings_with_ties(
        user_embeddings,
        item_embeddings,
        item_bias,
        masked,
        max(ks) + 1,
        ks,
        users=users,
        block_rows=block_rows,
        engine=engine,
        n_threads=n_threads,
    )
    return _result(topk, tied, held_out, users, ks, per_user, protocol)


def _counted_users(relevant: sparse.sparray | None) -> tuple[Pattern, np.ndarray]:
    if relevant is None:  # of a data set without that part
        raise DataError("there are no relevant items (None), so there is nothing to evaluate")
    held_out = pattern_of(relevant, "relevant")
    users = np.flatnonzero(np.diff(held_out.indptr))
    if users.size == 0:
        raise DataError("no user has a relevant item, so there is nothing to evaluate")
    return held_out, users


def _result(
    topk: np.ndarray,
    tied: np.ndarray,
    held_out: Pattern,
    users: np.ndarray,
    ks: tuple[int, ...],
    per_user: bool,
    protocol: str,
) -> EvaluationResult:
    # Users without relevant items have no entries, so leaving out their rows leaves the indices as they are.
    rows = np.concatenate([held_out.indptr[users], held_out.indptr[-1:]])
    entries = np.ones(held_out.indices.size, np.int8)
    relevant = sparse.csr_array((entries, held_out.indices, rows), shape=(users.size, held_out.shape[1]))
    each = metrics_per_user(topk[:, : max(ks)], relevant, ks)
    means, n_users, _ = mean_metrics(each)
    return EvaluationResult(
        metrics=means,
        n_users=n_users,
        n_users_left_out=held_out.shape[0] - n_users,
        protocol=protocol,
        users=users if per_user else None,
        per_user=each if per_user else None,
        ties=dict(zip(ks, tied.sum(axis=0).tolist(), strict=True)),
    )
