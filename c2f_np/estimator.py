"""What every recommender offers, the model and the baselines alike: fit, refit, score, recommend, evaluate, size.

A model says how it learns and scores; looking up ids, leaving out what is known, ranking in blocks and the evaluation protocol
are written here once, so that no model is judged by other rules than its competitors.

Shapes
------
R : (U, I) interactions     scores : (n, I)     embeddings of entities, users first : (N, d), N = U + I
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import scipy.sparse as sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .answers import Answers, EmbeddingAnswers, Ids, Items, library_of
from .archive import Array, open_archive, write_archive
from .data import Dataset, Interactions, Split, apply_protocol, read_frame, split_none
from .data.frames import has_columns
from .engine import DEFAULT_ENGINE
from .errors import DataError, ModelFileError, SettingsError
from .evaluation import DEFAULT_KS, EvaluationResult, evaluate_embeddings, evaluate_ranking, rank_embeddings, rank_items
from .files import FilePath
from .lookup import positions, require_k
from .model_file import ABOUT, entities_layout, pack_entities, unpack_entities, where_from
from .schema import TEXT, described, refuse_unknown
from .serving.new_users import Splitter
from .threads import one_blas_thread

__all__ = ["EmbeddingRecommender", "Ids", "Recommender", "Trainable", "as_dataset", "validation_share"]

#: What ``fit`` takes: a data set, interactions, a matrix of users x items, or a data frame with a row for each interaction.
Trainable: TypeAlias = Dataset | Interactions | sparse.sparray | Any

#: What the files of all models but C2FRecommender's say that they are.
BASELINE = "baseline"
_VERSION = 1
_FORM = {"model": TEXT, "parameters": {}, "about?": ABOUT}

# Users whose scores of all items are held at a time.
_BLOCK = 512


class Recommender(Answers, BaseEstimator):
    """The interface of all models. A subclass has ``score`` and ``size_in_bytes`` and says how it learns and compares items.

    Attributes
    ----------
    data_ : Dataset
        What ``fit`` was given.
    interactions_ : csr_array, shape (U, I)
        The interactions that it learnt from: those of training, or after ``refit`` all.
    known_ : csr_array, shape (U, I)
        All that the data hold, in whichever part: what is not recommended.
    user_ids_, item_ids_ : ndarray of str
    epochs_ : dict of str to int
        The epochs of each phase that led to the model, which ``refit`` makes again; empty if nothing was trained.
    seconds_ : float
        Wall time of ``fit`` or ``refit``.
    history_ : list of dict
        One row per epoch; empty if nothing was trained.
    best_epoch_ : int or None
        The epoch whose state was kept, from 1.
    about_ : dict
        Of a loaded model: where it comes from.
    """

    data_: Dataset
    interactions_: sparse.csr_array
    known_: sparse.csr_array
    user_ids_: np.ndarray
    item_ids_: np.ndarray
    epochs_: dict[str, int]
    seconds_: float
    history_: list[dict[str, Any]]
    best_epoch_: int | None
    about_: dict[str, Any]

    def fit(
        self,
        interactions: Trainable,
        validation: sparse.sparray | None = None,
        *,
        user_column: str | None = None,
        item_column: str | None = None,
    ) -> Self:
        """Learn from a data set, a matrix of which every nonzero is an interaction, or a data frame of which every row is one.

        Parameters
        ----------
        interactions : Dataset, Interactions, sparse matrix of shape (U, I), or data frame
        validation : sparse matrix, shape (U, I), optional
            Held-out interactions; only with a matrix.
        user_column, item_column : str, optional
            Of a data frame; by default found among the usual names, as :func:`c2f_np.data.read_csv` does.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the interactions cannot be used.
        SettingsError
            If a parameter does not fit.
        """
        return self._fit(self._as_dataset(interactions, validation, user_column, item_column))

    def refit(
        self,
        interactions: Trainable | None = None,
        *,
        user_column: str | None = None,
        item_column: str | None = None,
        after_epoch: Callable[[Any], None] | None = None,
    ) -> Self:
        """Learn again from all that the data hold, validation and test included: to recommend, not to be judged.

        The settings are the same; every phase of a training makes the epochs that validation chose. If nothing was held out, the
        model stays as it is.

        Parameters
        ----------
        interactions : Dataset, Interactions, sparse matrix, or data frame, optional
            To be learnt from in place of the data of ``fit``: all that there are by now, old and new. Users and items may have
            come, and those that have gone are forgotten.
        user_column, item_column : str, optional
            Of a data frame.
        after_epoch : callable, optional
            As ``fit`` of a trained model takes it.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the interactions cannot be used; if there are none and the model was loaded from a file, which does not hold them.
        """
        check_is_fitted(self, "interactions_")
        if not hasattr(self, "epochs_"):
            raise DataError("the file of this model is older than refit() of loaded models: fit it once more")
        if interactions is not None:
            data = self._as_dataset(interactions, None, user_column, item_column)
        elif hasattr(self, "data_"):
            data = self.data_
        else:
            raise DataError("a loaded model has no data to refit on: give refit() all interactions, old and new")
        if interactions is None and self.known_.nnz == self.interactions_.nnz:
            return self
        return self._fit(data, self.epochs_, after_epoch=after_epoch)

    def _fit(self, data: Dataset, epochs: dict[str, int] | None = None, **options: Any) -> Self:
        """Learn from the training part, or with the epochs of an earlier fit from everything."""
        started, learnt_from = time.perf_counter(), data if epochs is None else data.whole()
        epochs = self._learn(learnt_from, epochs, **options)
        self.data_, self.epochs_ = data, epochs
        self._set_known(learnt_from.train, data.known(), data.user_ids, data.item_ids)
        self.seconds_ = time.perf_counter() - started
        return self

    def _learn(
        self, data: Dataset, epochs: dict[str, int] | None, after_epoch: Callable[[Any], None] | None = None
    ) -> dict[str, int]:
        """Learn from the training part of data; with epochs, so many of each phase. Returns the epochs that led to the result."""
        raise NotImplementedError

    def _as_dataset(
        self, interactions: Any, validation: Any, user_column: str | None = None, item_column: str | None = None
    ) -> Dataset:
        fraction, self._library = getattr(self, "validation_fraction", 0.0), library_of(interactions)
        columns = {"user_column": user_column, "item_column": item_column}
        return as_dataset(interactions, validation, validation_fraction=fraction, seed=self._split_seed(), **columns)

    def _split_seed(self) -> int:
        return getattr(self, "seed", 0)

    def _set_known(
        self, R: Any, known: Any, user_ids: np.ndarray, item_ids: np.ndarray, about: dict[str, Any] | None = None
    ) -> None:
        """What is known of users and items; `about` is that of a file."""
        self.interactions_, self.known_ = sparse.csr_array(R), sparse.csr_array(R if known is None else known)
        self.user_ids_, self.item_ids_ = np.asarray(user_ids), np.asarray(item_ids)
        if about is not None:
            self.about_ = about
            if (epochs := about.get("refit", about.get("epochs"))) is not None:
                self.epochs_ = epochs

    def _about(self) -> dict[str, Any]:
        """Where the model comes from, for its file."""
        if not hasattr(self, "data_"):
            return self.about_
        refitted = self.interactions_.nnz > self.data_.train.nnz
        about = where_from(self.data_.whole() if refitted else self.data_)
        return about | {"refit" if refitted else "epochs": self.epochs_}

    def save(self, path: FilePath) -> None:
        """Write a model file (``.npz``, no pickle), aside and then renamed.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        check_is_fitted(self, "interactions_")
        given = {name: value.item() if isinstance(value, np.generic) else value for name, value in self.get_params().items()}
        header = {"model": type(self).__name__, "parameters": given, "about": self._about()}
        known = pack_entities(self.interactions_, self.known_, self.user_ids_, self.item_ids_)
        write_archive(path, BASELINE, _VERSION, header, known | self._packed())

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Read a model file.

        Returns
        -------
        Self
            Fitted; it recommends, and evaluates on data it is given.

        Raises
        ------
        ModelFileError
            If the file is missing, damaged or foreign, or holds another model.
        """
        with open_archive(path, BASELINE, _VERSION, _FORM) as (header, members):
            if header["model"] != cls.__name__:
                raise ModelFileError(f"{path}: it holds a model of the kind {header['model']!r:.40}, not {cls.__name__}")
            try:
                refuse_unknown(header["parameters"], cls().get_params(), "parameter")
                model = cls(**header["parameters"])
                known = members.read_all(*entities_layout(members))
                model._set_known(*unpack_entities(known, path), header.get("about", {}))
                n_users, n_items = model.interactions_.shape
                layout, sizes = model._layout(n_users, n_items)
                members.allow_table(n_users + n_items, sizes.get("d", 0))
                model._restore(members.read_all(layout, sizes), path)
            except (SettingsError, DataError) as error:
                raise ModelFileError(f"{path}: {error}") from None
        model.history_, model.best_epoch_ = [], None
        return model

    def _packed(self) -> dict[str, np.ndarray]:
        """The arrays that the model consists of, for its file."""
        raise NotImplementedError

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        """The layout of :meth:`_packed` and the sizes in it, by the parameters; SettingsError if these cannot be."""
        raise NotImplementedError

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        """Become the model of these arrays."""
        raise NotImplementedError

    def score(self, users: np.ndarray) -> np.ndarray:
        """Scores of all items for users given by row number, shape (n, I)."""
        raise NotImplementedError

    def size_in_bytes(self) -> dict[str, int]:
        """What must be stored beside the training interactions, part by part, and their sum as ``"model"``."""
        raise NotImplementedError

    @property
    def n_interactions(self) -> int:
        """How many interactions the model has learnt from."""
        return int(self.interactions_.nnz)

    @property
    def n_known(self) -> int:
        """How many interactions the data hold, in whichever part."""
        return int(self.known_.nnz)

    def recommend(
        self, users: Ids, k: int = 10, *, exclude_seen: bool = True, only: Items | None = None, without: Items | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each user.

        Parameters
        ----------
        users : one id or a sequence of ids
            As in the data; for a matrix the row numbers.
        k : int
            At most the number of items.
        exclude_seen : bool
            Leave out all items that the data hold for the user, in whichever part.
        only, without : ids of items or booleans, optional
            The items that may be recommended, such as those in stock, and those that may not: ids, or a boolean for each item in
            the order of ``item_ids_``. Ids that the model does not know are a warning.

        Returns
        -------
        items : ndarray of str, shape (n, k)
            Ids, best first; "" where a user has fewer than k items left.
        scores : ndarray, shape (n, k)
            NaN there.

        Raises
        ------
        DataError
            If a user is unknown, or no item may be recommended.
        SettingsError
            If k is not between 1 and the number of items.
        """
        require_k(k, self._sizes()["item"])
        allowed = self._allowed(only, without)
        rows, items = self._positions(users, "user"), None if allowed is None else np.flatnonzero(allowed)
        top, scores = self._best(rows, _within(self.known_ if exclude_seen else None, items), k, items)
        return self._named("item", *_widened(top, scores, items, k))

    def similar_items(
        self, items: Ids, k: int = 10, *, only: Items | None = None, without: Items | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k items most similar to each item, without the item itself, by the model's own measure.

        Parameters
        ----------
        items : one id or a sequence of ids
        k : int
            At most the number of items less one.
        only, without : ids of items or booleans, optional
            As for :meth:`recommend`.

        Returns
        -------
        items : ndarray of str, shape (n, k)
            Ids, the most similar first; "" where a model knows fewer than k similar items.
        similarities : ndarray, shape (n, k)
            Cosines of the propagated embeddings; of EASE and ItemKNN their weights. NaN where there is no item.

        Raises
        ------
        DataError
            If an item is unknown.
        SettingsError
            If k is out of range, or the model does not compare items.
        """
        require_k(k, self._sizes()["item"] - 1)
        return self._alike("item", items, k, self._allowed(only, without))

    def similar_users(self, users: Ids, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k users whose propagated embeddings have the largest cosine with each user's, without the user itself.

        Parameters
        ----------
        users : one id or a sequence of ids
        k : int
            At most the number of users less one.

        Returns
        -------
        users : ndarray of str, shape (n, k)
            Ids, the most similar first.
        cosines : ndarray, shape (n, k)

        Raises
        ------
        DataError
            If a user is unknown.
        SettingsError
            If k is out of range, or the model does not compare users: EASE, ItemKNN and Popularity know items alone.
        """
        require_k(k, self._sizes()["user"] - 1, "users")
        return self._alike("user", users, k, None)

    def _alike(self, kind: str, ids: Ids, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        n = self._sizes()[kind]
        rows, those = self._positions(ids, kind), None if allowed is None else np.flatnonzero(allowed)
        itself = sparse.csr_array((np.ones(len(rows), np.int8), (np.arange(len(rows)), rows)), shape=(len(rows), n))
        top, values = self._most_similar(kind, rows, _within(itself, those), k, those)
        return self._named(kind, *_widened(top, values, those, k))

    def _most_similar(
        self, kind: str, rows: np.ndarray, itself: sparse.csr_array, k: int, those: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places among `those` (by default all) and similarities of the k most similar; -1 where there is none."""
        if kind == "user":
            raise SettingsError(f"{type(self).__name__} does not compare users with each other: it has no embeddings of them")
        similarities = _columns(self._similarities(rows), those)
        top = rank_items(similarities, itself, k, **self._workers())
        found = np.take_along_axis(similarities, np.maximum(top, 0), axis=1)
        return np.where(np.isneginf(found), -1, top), found

    def _similarities(self, rows: np.ndarray) -> np.ndarray:
        """Of all items to those given by number, shape (n, I); -inf for items that are not alike at all."""
        raise SettingsError(f"{type(self).__name__} does not compare items with each other")

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
            If the part is empty, the data do not belong to the model, or the model has learnt from what it would be judged by.
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
        if n_learnt := (relevant != 0).multiply(self.interactions_ != 0).nnz:
            raise DataError(
                f"the model has learnt from {n_learnt} of the {part} interactions, so they cannot judge it: evaluate before refit"
            )
        return self._evaluated(
            relevant, data.masked_when_ranking(part), ks, per_user=per_user, protocol=data.protocol, **self._workers()
        )

    def _workers(self) -> dict[str, Any]:
        """Engine and threads of ranking."""
        return {"engine": getattr(self, "engine", DEFAULT_ENGINE), "n_threads": getattr(self, "threads", 0) or None}

    def _best(
        self, rows: np.ndarray, masked: sparse.csr_array | None, k: int, items: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places among `items` (by default all) and scores of the k best for users by number; -1 where none is left."""
        top, scores = [], []
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            values = _columns(self.score(block), items)
            top.append(rank_items(values, None if masked is None else masked[block], k, **self._workers()))
            scores.append(np.take_along_axis(values, np.maximum(top[-1], 0), axis=1))
        if not top:
            return np.empty((0, k), np.int64), np.empty((0, k))
        return np.concatenate(top), np.concatenate(scores)

    def _evaluated(
        self, relevant: sparse.csr_array, masked: sparse.csr_array | None, ks: Sequence[int], **options: Any
    ) -> EvaluationResult:
        return evaluate_ranking(self.score, relevant, masked, ks, **options)

    def _named(self, kind: str, top: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._ids(kind, top), np.where(top < 0, np.nan, scores)

    # What `Answers` asks.
    def _sizes(self) -> dict[str, int]:
        check_is_fitted(self, "interactions_")
        return dict(zip(("user", "item"), self.interactions_.shape, strict=True))

    def _positions(self, ids: Any, kind: str) -> np.ndarray:
        check_is_fitted(self, "interactions_")
        return positions(ids, self.user_ids_ if kind == "user" else self.item_ids_, kind)

    def _ids(self, kind: str, positions: np.ndarray) -> np.ndarray:
        known = self.user_ids_ if kind == "user" else self.item_ids_
        return np.where(positions < 0, "", known[positions])

    def _learnt_items(self, u: int) -> np.ndarray:
        learnt: np.ndarray = self.interactions_[[u]].indices
        return learnt

    def _scores_of_new(self, items: np.ndarray) -> np.ndarray:
        scores: np.ndarray = self._weights_of(items).sum(axis=0)
        return scores

    def _shares(self, items: np.ndarray, u: int | None, item: int) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        score = self._scores_of_new(items)[item] if u is None else self.score(np.array([u]))[0, item]
        return items, self._weights_of(items)[:, item], 0.0, 0.0, float(score)

    def _weights_of(self, items: np.ndarray) -> np.ndarray:
        """What each of a user's items, given by number, adds to the scores, shape (m, I)."""
        raise SettingsError(f"{type(self).__name__} gives everyone the same scores: no interaction carries a part of them")


class EmbeddingRecommender(EmbeddingAnswers, Recommender):
    """A model whose score is a product of embeddings: ranked in blocks without ever holding all scores.

    Attributes
    ----------
    embeddings_ : ndarray, shape (N, d)
        Of all entities as they are multiplied, users first.
    """

    embeddings_: np.ndarray
    _split: tuple[np.ndarray, Splitter]

    def fit(
        self,
        interactions: Trainable,
        validation: sparse.sparray | None = None,
        *,
        user_column: str | None = None,
        item_column: str | None = None,
        after_epoch: Callable[[Any], None] | None = None,
    ) -> Self:
        """Train; see :meth:`Recommender.fit`.

        Parameters
        ----------
        interactions : Dataset, Interactions, sparse matrix of shape (U, I), or data frame
        validation : sparse matrix, shape (U, I), optional
            Held-out interactions for early stopping; only with a matrix.
        user_column, item_column : str, optional
            Of a data frame.
        after_epoch : callable, optional
            Called after every epoch: of a table model with the row of ``history_``, else with a
            :class:`c2f_np.training.loop.Progress`.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the interactions cannot be used.
        SettingsError
            If a parameter does not fit, or training diverges.
        """
        return self._fit(self._as_dataset(interactions, validation, user_column, item_column), after_epoch=after_epoch)

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

    def _best(
        self, rows: np.ndarray, masked: sparse.csr_array | None, k: int, items: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        n_users = self.interactions_.shape[0]
        H, H_items = self.embeddings_, _rows(self.embeddings_[n_users:], items)
        user_bias, item_bias, global_bias = self._biases()
        item_bias = None if item_bias is None else _rows(item_bias, items)
        top = rank_embeddings(H[:n_users], H_items, item_bias, masked, k, users=rows, **self._workers())
        scores = np.einsum("nd,nkd->nk", H[rows], H_items[top])
        if item_bias is not None:
            scores = scores + item_bias[top]
        # Constant for a user: no matter for the ranking.
        if user_bias is not None:
            scores += user_bias[rows][:, None] + global_bias
        return top, scores

    def _most_similar(
        self, kind: str, rows: np.ndarray, itself: sparse.csr_array, k: int, those: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        H = np.split(self.embeddings_, [self.interactions_.shape[0]])[kind == "item"]
        norms = np.linalg.norm(H, axis=1, keepdims=True)
        directions = H / np.where(norms > 0, norms, 1)
        others = _rows(directions, those)
        top = rank_embeddings(directions[rows], others, None, itself, k, **self._workers() | {"n_threads": 1})
        return top, np.einsum("nd,nkd->nk", directions[rows], others[top])

    # What `EmbeddingAnswers` asks.
    def _splitter(self) -> Splitter:
        if getattr(self, "_split", (None,))[0] is not self.embeddings_:  # none yet, or of an earlier fit
            self._split = self.embeddings_, self._made_splitter()
        return self._split[1]

    def _made_splitter(self) -> Splitter:
        """Made from the trained arrays."""
        raise NotImplementedError

    def _item_side(self) -> tuple[np.ndarray, np.ndarray | float]:
        bias = self._biases()[1]
        return self.embeddings_[self.interactions_.shape[0] :], 0.0 if bias is None else bias

    def _user_side(self, u: int | None) -> tuple[np.ndarray | None, float]:
        user_bias, _, global_bias = self._biases()
        own = 0.0 if u is None or user_bias is None else float(user_bias[u])
        return None if u is None else self.embeddings_[u], own + float(global_bias)

    def _evaluated(
        self, relevant: sparse.csr_array, masked: sparse.csr_array | None, ks: Sequence[int], **options: Any
    ) -> EvaluationResult:
        H, n_users = self.embeddings_, self.interactions_.shape[0]
        return evaluate_embeddings(H[:n_users], H[n_users:], self._biases()[1], relevant, masked, ks, **options)


def validation_share() -> Any:
    """The dataclass field ``validation_fraction`` of the baselines that stop early."""
    return described(0.1, "share set aside for early stopping, if a matrix is given", low=0.0, high=1.0)


def as_dataset(
    interactions: Trainable,
    validation: sparse.sparray | None,
    *,
    validation_fraction: float = 0.0,
    seed: int = 0,
    user_column: str | None = None,
    item_column: str | None = None,
) -> Dataset:
    """What ``fit`` was given, as a data set.

    Parameters
    ----------
    interactions : Dataset, Interactions, matrix of shape (U, I), or data frame
    validation : matrix, shape (U, I), or None
        Only with a matrix.
    validation_fraction : float
        Share of each user's interactions that is set aside if they come without validation.
    seed : int
        Of that choice.
    user_column, item_column : str, optional
        Of a data frame.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the interactions cannot be used.
    """
    is_frame, is_rows = has_columns(interactions), isinstance(interactions, Interactions)
    if validation is not None and (is_frame or is_rows or isinstance(interactions, Dataset)):
        raise DataError("validation belongs to the data set itself; give it only with a matrix")
    if not is_frame and (user_column, item_column) != (None, None):
        raise DataError("user_column and item_column are for data frames", value=user_column or item_column)
    if isinstance(interactions, Dataset):
        return interactions
    if is_frame:
        columns: dict[str, Any] = {"user_column": user_column, "item_column": item_column}
        interactions, is_rows = read_frame(interactions, **columns, rating_column="", timestamp_column=""), True
    if is_rows:
        split = split_none(interactions)
    else:
        whole = Dataset.from_matrices(interactions, validation, name="matrix", split="as given")
        if validation is not None or not validation_fraction:
            return whole
        split = Split(whole.train, None, None, whole.user_ids, whole.item_ids, "as given", "matrix", dict(whole.report))
    return apply_protocol(split, "clean", validation_fraction=validation_fraction, seed=seed)


def _columns(values: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    return values if places is None else values[:, places]


def _rows(values: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    return values if places is None else values[places]


def _within(pattern: sparse.csr_array | None, places: np.ndarray | None) -> sparse.csr_array | None:
    """A pattern's columns at these places."""
    return pattern if pattern is None or places is None else sparse.csr_array(pattern[:, places])


def _widened(top: np.ndarray, values: np.ndarray, places: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of lists of places among some, lists of k among all."""
    if places is None:
        return top, values
    missing = ((0, 0), (0, k - top.shape[1]))
    top = np.where(top < 0, -1, places[top])
    return np.pad(top, missing, constant_values=-1), np.pad(values, missing, constant_values=np.nan)
