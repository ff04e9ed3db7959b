"""What every recommender offers, the model and the baselines alike: fit, score, recommend, evaluate, size.

A model says how it scores; looking up ids, leaving out what was seen, ranking in blocks and the evaluation protocol are written
here once, so that no model is judged by other rules than its competitors.

Shapes
------
R : (U, I) interactions     scores : (n, I)     embeddings of entities, users first : (N, d), N = U + I
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .data import Dataset, Split, apply_protocol
from .engine import DEFAULT_ENGINE
from .errors import DataError, SettingsError
from .evaluation import DEFAULT_KS, EvaluationResult, evaluate_embeddings, evaluate_ranking, rank_embeddings, rank_items
from .lookup import positions, require_k
from .schema import described
from .threads import one_blas_thread

__all__ = ["EmbeddingRecommender", "Ids", "Recommender", "as_dataset", "validation_share"]

#: One id or several, as in the data.
Ids = str | int | Sequence[str] | Sequence[int] | np.ndarray

# Users whose scores of all items are held at a time.
_BLOCK = 512


class Recommender(BaseEstimator):
    """The interface of all models. A subclass has ``fit``, ``score`` and ``size_in_bytes``.

    Attributes
    ----------
    data_ : Dataset
        What was fitted on.
    interactions_ : csr_array, shape (U, I)
        Its training interactions.
    user_ids_, item_ids_ : ndarray of str
    seconds_ : float
        Wall time of ``fit``.
    history_ : list of dict
        One row per epoch; empty if nothing was trained.
    best_epoch_ : int or None
        The epoch whose state was kept, from 1.
    """

    data_: Dataset
    interactions_: sparse.csr_array
    user_ids_: np.ndarray
    item_ids_: np.ndarray
    seconds_: float
    history_: list[dict[str, Any]]
    best_epoch_: int | None

    def fit(self, interactions: Dataset | sparse.sparray, validation: sparse.sparray | None = None) -> Self:
        """Learn from a :class:`~c2f_np.Dataset` or a sparse matrix (U, I) of which every nonzero is an interaction."""
        raise NotImplementedError

    def score(self, users: np.ndarray) -> np.ndarray:
        """Scores of all items for users given by row number, shape (n, I)."""
        raise NotImplementedError

    def size_in_bytes(self) -> dict[str, int]:
        """What must be stored beside the training interactions, part by part, and their sum as ``"model"``."""
        raise NotImplementedError

    def recommend(self, users: Ids, k: int = 10, *, exclude_seen: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each user.

        Parameters
        ----------
        users : one id or a sequence of ids
            As in the data; for a matrix the row numbers.
        k : int
            At most the number of items.
        exclude_seen : bool
            Leave out the items of the user's training interactions.

        Returns
        -------
        items : ndarray of str, shape (n, k)
            Ids, best first; "" where a user has fewer than k items left.
        scores : ndarray, shape (n, k)
            NaN there.

        Raises
        ------
        DataError
            If a user is unknown.
        SettingsError
            If k is not between 1 and the number of items.
        """
        check_is_fitted(self, "interactions_")
        require_k(k, self.interactions_.shape[1])
        rows = positions(users, self.user_ids_, "user")
        return self._named(*self._best(rows, self.interactions_ if exclude_seen else None, k))

    def evaluate(
        self, data: Dataset | None = None, part: str = "test", *, ks: Sequence[int] = DEFAULT_KS, per_user: bool = False
    ) -> EvaluationResult:
        """Recall and NDCG of the full ranking, under the data set's protocol.

        Parameters
        ----------
        data : Dataset, optional
            By default the one that was trained on. Its users and items must be the model's.
        part : {"test", "validation"}
        ks : sequence of int
        per_user : bool
            Whether the result keeps the numbers of every user.

        Returns
        -------
        EvaluationResult

        Raises
        ------
        DataError
            If the part is empty or the data do not belong to the model.
        """
        check_is_fitted(self, "interactions_")
        data = getattr(self, "data_", None) if data is None else data
        if data is None:
            raise DataError("a loaded model has no held-out data: give evaluate() the data set")
        if part not in ("test", "validation"):
            raise SettingsError(f"part must be test or validation, not {part!r}")
        if not (np.array_equal(data.user_ids, self.user_ids_) and np.array_equal(data.item_ids, self.item_ids_)):
            raise DataError(f"{data.name}: its users or items are not those of the model")
        relevant = getattr(data, part)
        if relevant is None or relevant.nnz == 0:
            raise DataError(f"{data.name} has no {part} interactions")
        return self._evaluated(
            relevant, data.masked_when_ranking(part), ks, per_user=per_user, protocol=data.protocol, **self._workers()
        )

    def _fitted_on(self, data: Dataset) -> None:
        """Note what was fitted on."""
        self.data_, self.interactions_ = data, sparse.csr_array(data.train)
        self.user_ids_, self.item_ids_ = np.asarray(data.user_ids), np.asarray(data.item_ids)

    def _workers(self) -> dict[str, Any]:
        """Engine and threads of ranking."""
        return {"engine": getattr(self, "engine", DEFAULT_ENGINE), "n_threads": getattr(self, "threads", 0) or None}

    def _best(self, rows: np.ndarray, masked: sparse.csr_array | None, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and scores of the k best items for users given by row number; -1 where none is left."""
        top, scores = [], []
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            values = self.score(block)
            top.append(rank_items(values, None if masked is None else masked[block], k, **self._workers()))
            scores.append(np.take_along_axis(values, np.maximum(top[-1], 0), axis=1))
        if not top:
            return np.empty((0, k), np.int64), np.empty((0, k))
        return np.concatenate(top), np.concatenate(scores)

    def _evaluated(
        self, relevant: sparse.csr_array, masked: sparse.csr_array | None, ks: Sequence[int], **options: Any
    ) -> EvaluationResult:
        return evaluate_ranking(self.score, relevant, masked, ks, **options)

    def _named(self, top: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        missing = top < 0
        ids = np.where(missing, "", self.item_ids_[top])
        return ids, np.where(missing, np.nan, scores)


class EmbeddingRecommender(Recommender):
    """A model whose score is a product of embeddings: ranked in blocks without ever holding all scores.

    Attributes
    ----------
    embeddings_ : ndarray, shape (N, d)
        Of all entities as they are multiplied, users first.
    """

    embeddings_: np.ndarray

    def _biases(self) -> tuple[np.ndarray | None, np.ndarray | None, float]:
        """Biases of the users (U,) and of the items (I,), or None, and the global one."""
        return None, None, 0.0

    def score(self, users: np.ndarray) -> np.ndarray:
        """Scores of all items for users given by row number, shape (n, I)."""
        check_is_fitted(self, "interactions_")
        H, n_users = self.embeddings_, self.interactions_.shape[0]
        user_bias, item_bias, global_bias = self._biases()
        with one_blas_thread():
            scores: np.ndarray = H[users] @ H[n_users:].T
        if item_bias is not None:
            scores += item_bias
        if user_bias is not None:
            scores += user_bias[users][:, None]
        scores += H.dtype.type(global_bias)
        return scores

    def _best(self, rows: np.ndarray, masked: sparse.csr_array | None, k: int) -> tuple[np.ndarray, np.ndarray]:
        H, n_users = self.embeddings_, self.interactions_.shape[0]
        user_bias, item_bias, global_bias = self._biases()
        top = rank_embeddings(H[:n_users], H[n_users:], item_bias, masked, k, users=rows, **self._workers())
        scores = np.einsum("nd,nkd->nk", H[rows], H[n_users + top])
        if item_bias is not None:
            scores = scores + item_bias[top]
        # Constant for a user: no matter for the ranking.
        if user_bias is not None:
            scores += user_bias[rows][:, None] + global_bias
        return top, scores

    def _evaluated(
        self, relevant: sparse.csr_array, masked: sparse.csr_array | None, ks: Sequence[int], **options: Any
    ) -> EvaluationResult:
        H, n_users = self.embeddings_, self.interactions_.shape[0]
        return evaluate_embeddings(H[:n_users], H[n_users:], self._biases()[1], relevant, masked, ks, **options)


def validation_share() -> Any:
    """The dataclass field ``validation_fraction`` of the baselines that stop early."""
    return described(0.1, "share set aside for early stopping, if a matrix is given", low=0.0, high=1.0)


def as_dataset(
    interactions: Dataset | sparse.sparray,
    validation: sparse.sparray | None,
    *,
    validation_fraction: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """What ``fit`` was given, as a data set.

    Parameters
    ----------
    interactions : Dataset or matrix, shape (U, I)
    validation : matrix, shape (U, I), or None
        Only with a matrix.
    validation_fraction : float
        Share of each user's interactions that is set aside if a matrix comes without validation.
    seed : int
        Of that choice.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the interactions cannot be used.
    """
    if isinstance(interactions, Dataset):
        if validation is not None:
            raise DataError("validation belongs to the data set itself; give it only with a matrix")
        return interactions
    if validation is not None or not validation_fraction:
        return Dataset.from_matrices(interactions, validation, name="matrix", split="as given")
    whole = Dataset.from_matrices(interactions, name="matrix")
    split = Split(whole.train, None, None, whole.user_ids, whole.item_ids, "as given", "matrix", dict(whole.report))
    return apply_protocol(split, "clean", validation_fraction=validation_fraction, seed=seed)
