"""What every recommender offers, the model and the baselines alike: fit, refit, score, recommend, evaluate, size.

A model says how it learns and scores; looking up ids, leaving out what is known, ranking in blocks and the evaluation protocol
are written here once, so that no model is judged by other rules than its competitors.

Shapes
------
R : (U, I) interactions     scores : (n, I)     embeddings of entities, users first : (N, d), N = U + I
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from .answers import Answers, EmbeddingAnswers, Ids, Items, library_of
from .archive import Array, open_archive, write_archive
from .data import Dataset, Interactions, Split, apply_protocol, read_frame, split_none
from .data.frames import has_columns
from .data.interactions import keys_of_codes, matrix_of_keys
from .engine import DEFAULT_ENGINE, ENGINES, engine_here
from .errors import DataError, ModelFileError, SettingsError
from .evaluation import DEFAULT_KS, EvaluationResult, evaluate_embeddings, evaluate_ranking, rank_embeddings, rank_items
from .evaluation.metrics import DEFAULT_METRIC, length_of
from .files import FilePath
from .lookup import known_positions, positions, require_k
from .model_file import ABOUT, entities_layout, pack_entities, unpack_entities, where_from
from .schema import LIMITS, TEXT, Parameter, described, refuse_unknown
from .serving.new_users import NOTHING_LEARNT, Splitter
from .shown import html_table
from .threads import one_blas_thread, threads_of
from .training.loop import Progress, epoch_in_words

__all__ = ["Baseline", "EmbeddingRecommender", "Ids", "RandomState", "Recommender", "Trainable", "as_dataset", "validation_share"]

#: What ``fit`` takes: a data set, interactions, a matrix of users x items, or a data frame with a row for each interaction.
Trainable: TypeAlias = Dataset | Interactions | sparse.sparray | Any

#: What ``random_state`` may be. Of a generator a copy draws the seed, so that a second fit does the same as the first.
RandomState: TypeAlias = int | np.random.RandomState | np.random.Generator | None

#: Parameters of the estimators that go by scikit-learn's names, and the settings that they are.
SETTING_OF = {"random_state": "seed", "n_jobs": "threads"}
_PARAMETER_OF = {setting: parameter for parameter, setting in SETTING_OF.items()}

#: What the files of all models but C2FRecommender's say that they are.
BASELINE = "baseline"
_VERSION, _OLDEST = 2, 1
_FORM = {"model": TEXT, "parameters": {}, "about?": ABOUT}

if TYPE_CHECKING:

    class BaseEstimator:
        """scikit-learn's, which has no types: to type checkers it would be anything, and so would every name of a model."""

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def __sklearn_tags__(self) -> Any: ...
else:
    from sklearn.base import BaseEstimator

# Users whose scores of all items are held at a time.
_BLOCK = 512
_log = logging.getLogger(__name__)


class Recommender(Answers, BaseEstimator):
    """The interface of all models. A subclass has ``score`` and ``size_in_bytes`` and says how it learns and compares items.

    Attributes
    ----------
    data_ : Dataset
        What ``fit`` was given.
    n_features_in_ : int
        The number of items.
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

    n_jobs: int | None
    verbose: int
    data_: Dataset
    n_features_in_: int
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
        X: Trainable,
        y: object = None,
        *,
        validation: sparse.sparray | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
    ) -> Self:
        """Learn from a data set, a matrix of which every nonzero is an interaction, or a data frame of which every row is one.

        Parameters
        ----------
        X : Dataset, Interactions, sparse matrix of shape (U, I), or data frame
        y : ignored
            There for scikit-learn, which passes labels.
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
        return self._fit(self._as_dataset(X, y, validation, user_column, item_column))

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
            data = self._as_dataset(interactions, None, None, user_column, item_column)
        elif hasattr(self, "data_"):
            data = self.data_
        else:
            raise DataError("a loaded model has no data to refit on: give refit() all interactions, old and new")
        if interactions is None and self.known_.nnz == self.interactions_.nnz:
            return self
        return self._fit(data, self.epochs_, after_epoch=after_epoch)

    def _fit(self, data: Dataset, epochs: dict[str, int] | None = None, **options: Any) -> Self:
        """Learn from the training part, or with the epochs of an earlier fit from everything."""
        threads_of(self.n_jobs)  # refused before anything is computed
        started, learnt_from = time.perf_counter(), data if epochs is None else data.whole()
        R = learnt_from.train
        self._tell(f"begins to learn from {R.nnz:,} interactions of {R.shape[0]:,} users and {R.shape[1]:,} items")
        self.history_, self.best_epoch_ = [], None  # unless it is trained
        if epochs is None:
            self._fitted = self.get_params()
            if self._fitted.get("random_state") is not None:
                self._fitted["random_state"] = self.seed  # of a generator, which goes on, too
        epochs = self._learn(learnt_from, epochs, **options)
        self.data_, self.epochs_ = data, epochs
        self._set_known(R, data.known(), data.user_ids, data.item_ids)
        self.seconds_ = time.perf_counter() - started
        self._tell(f"has learnt in {self.seconds_:.2f} s")
        return self

    def _tell(self, what: str) -> None:
        """Log what the model does; print it too if it is verbose."""
        text = f"{type(self).__name__} {what}"
        _log.info(text)
        if self.verbose:
            print(text, flush=True)

    def _watched(self, after_epoch: Callable[[Any], None] | None) -> Callable[[Progress], None] | None:
        """What is called after an epoch, which the loop logs: it prints what the model's `verbose` asks for."""
        if not self.verbose:
            return after_epoch

        def watch(progress: Progress) -> None:
            text, is_milestone = epoch_in_words(progress)
            if is_milestone or self.verbose > 1:
                print(text, flush=True)
            if after_epoch is not None:
                after_epoch(progress)

        return watch

    def _learn(
        self, data: Dataset, epochs: dict[str, int] | None, after_epoch: Callable[[Any], None] | None = None
    ) -> dict[str, int]:
        """Learn from the training part of data; with epochs, so many of each phase. Returns the epochs that led to the result."""
        raise NotImplementedError

    def _as_dataset(
        self, X: Any, y: Any, validation: Any, user_column: str | None = None, item_column: str | None = None
    ) -> Dataset:
        if getattr(y, "ndim", 1) == 2 and 1 not in y.shape:
            raise DataError("the second argument of fit is scikit-learn's y; interactions to stop by are given as validation=...")
        fraction, self._library = getattr(self, "validation_fraction", 0.0), library_of(X)
        self._column_names = {"user_column": user_column, "item_column": item_column}
        return as_dataset(X, validation, validation_fraction=fraction, seed=self.seed, **self._column_names)

    @property
    def seed(self) -> int:
        """The setting ``seed``, which ``random_state`` gives."""
        return seed_of(getattr(self, "random_state", None))

    @property
    def threads(self) -> int:
        """The setting ``threads``, which ``n_jobs`` gives."""
        return threads_of(self.n_jobs)

    def _set_known(
        self, R: Any, known: Any, user_ids: np.ndarray, item_ids: np.ndarray, about: dict[str, Any] | None = None
    ) -> None:
        """What is known of users and items; `about` is that of a file."""
        self.interactions_, self.known_ = sparse.csr_array(R), sparse.csr_array(R if known is None else known)
        self.user_ids_, self.item_ids_ = np.asarray(user_ids), np.asarray(item_ids)
        self.n_features_in_ = len(self.item_ids_)
        if about is not None:
            self.about_, self.history_, self.best_epoch_ = about, [], None
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
        given = {name: value.item() if isinstance(value, np.generic) else value for name, value in self._fitted.items()}
        header = {"model": type(self).__name__, "parameters": given, "about": self._about()}
        known = pack_entities(self.interactions_, self.known_, self.user_ids_, self.item_ids_)
        write_archive(path, BASELINE, _VERSION, header, known | self._as_fitted()._packed())

    def _as_fitted(self) -> Self:
        """The model with the parameters of its fit: what they were set to later counts at the next one."""
        model = copy.copy(self)
        vars(model).update(getattr(self, "_fitted", {}))
        return model

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
        with open_archive(path, BASELINE, _VERSION, _FORM, oldest=_OLDEST) as (header, members):
            if header["model"] != cls.__name__:
                raise ModelFileError(f"{path}: it holds a model of the kind {header['model']!r:.40}, not {cls.__name__}")
            try:
                given = _in_parameters(header["parameters"])
                refuse_unknown(given, cls().get_params(), "parameter")
                if "engine" in given:
                    given["engine"] = engine_here(given["engine"])
                model = cls(**given)
                model._fitted = given
                known = members.read_all(*entities_layout(members))
                model._set_known(*unpack_entities(known, path), header.get("about", {}))
                n_users, n_items = model.interactions_.shape
                layout, sizes = model._layout(n_users, n_items)
                members.allow_table(n_users + n_items, sizes.get("d", 0))
                model._restore(members.read_all(layout, sizes), path)
            except (SettingsError, DataError) as error:
                raise ModelFileError(f"{path}: {error}") from None
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

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """Scores of all items for users given by row number, shape (n, I)."""
        raise NotImplementedError

    def score_items(self, users: Ids) -> np.ndarray:
        """Scores of all items for each user, whatever the user has.

        Parameters
        ----------
        users : one id or a sequence of ids

        Returns
        -------
        ndarray, shape (n, I)
            In the order of ``item_ids_``.

        Raises
        ------
        DataError
            If a user is unknown.
        """
        check_is_fitted(self, "interactions_")
        return self._scores(positions(users, self.user_ids_, "user"))

    def score(self, X: Trainable, y: object = None, *, metric: str = DEFAULT_METRIC) -> float:
        """How well the model ranks interactions that it has not learnt from, as one number: what scikit-learn compares models by.

        All items compete but those that are known of the user and not in X. Interactions of users or items of which the model
        has learnt nothing are left out. Of X that is all in what ``fit`` was given to learn from and to stop by, the score is
        that of training.

        Parameters
        ----------
        X : Dataset, Interactions, sparse matrix of shape (U, I), or data frame
            The interactions to be found; of a data set its test part, by its protocol (:meth:`evaluate`).
        y : ignored
        metric : str
            ``"ndcg@k"`` or ``"recall@k"``, with any k.

        Returns
        -------
        float

        Raises
        ------
        DataError
            If most of X is of unknown users or items, or some of X, but not all, was given to ``fit``.
        SettingsError
            If there is no such metric.
        """
        check_is_fitted(self, "interactions_")
        k = length_of(metric)
        if isinstance(X, Dataset):
            return self.evaluate(X, ks=(k,)).metrics[metric]
        validation = getattr(getattr(self, "data_", None), "validation", None)
        given = self.interactions_ != 0 if validation is None else (self.interactions_ + validation) != 0
        relevant = self._in_own_numbering(X, given)
        n_given = relevant.multiply(given).nnz
        if 0 < n_given < relevant.nnz:
            raise DataError(
                f"{n_given:,} of the {relevant.nnz:,} interactions to score by were given to fit, and cannot judge it; split "
                "with c2f_np.model_selection, which keeps all rows of a user and an item together, or leave out the duplicates"
            )
        masked = sparse.csr_array((self.known_ != 0) > relevant)
        return self._evaluated(relevant, masked, (k,), **self._workers()).metrics[metric]

    def _in_own_numbering(self, X: Any, given: sparse.csr_array) -> sparse.csr_array:
        """Interactions of any form as a matrix of the model's users and items: those of whom anything was given."""
        shape = self.interactions_.shape
        if has_columns(X):
            columns: dict[str, Any] = {**getattr(self, "_column_names", {}), "rating_column": "", "timestamp_column": ""}
            X = read_frame(X, **columns)
        if not isinstance(X, Interactions):
            if np.shape(X) != shape:
                raise DataError(
                    f"X has {(0, *np.shape(X))[-1]} features, but {type(self).__name__} is expecting {shape[1]} features as "
                    f"input: a matrix must hold the model's {shape[0]} users and {shape[1]} items, not the shape {np.shape(X)}. "
                    "Rows of a matrix are users: to hold out interactions of every user, split Interactions or a data frame with "
                    "c2f_np.model_selection"
                )
            X = Interactions.from_matrix(X, user_ids=self.user_ids_, item_ids=self.item_ids_)
        users, items = known_positions(self.user_ids_, X.user_ids)[X.user], known_positions(self.item_ids_, X.item_ids)[X.item]
        learnt_users, learnt_items = given.count_nonzero(axis=1) > 0, given.count_nonzero(axis=0) > 0
        kept = (users >= 0) & (items >= 0) & learnt_users[users] & learnt_items[items]
        n_kept = int(np.count_nonzero(kept))
        if 2 * n_kept < len(X):
            raise DataError(
                f"{len(X) - n_kept:,} of the {len(X):,} interactions to score by are of users or items of which the model has "
                "learnt nothing; split with c2f_np.model_selection, which holds out some items of every user (folds of rows in "
                "their order hold out whole users), or leave them out"
            )
        if n_kept < len(X):
            _log.info("%d of %d interactions are of users or items of which nothing was learnt", len(X) - n_kept, len(X))
        return matrix_of_keys(keys_of_codes(users[kept], items[kept], shape[1]), shape)

    def _repr_html_(self) -> str:
        """For notebooks: parameters that are not at their defaults, and what was learnt."""
        defaults = type(self)().get_params()
        rows = [(name, f"{value!r:.80}") for name, value in self.get_params().items() if repr(value) != repr(defaults[name])]
        if not hasattr(self, "interactions_"):
            return html_table(type(self).__name__, rows, note="not fitted")
        n_users, n_items = self.interactions_.shape
        rows.append(("learnt from", f"{self.n_interactions:,} interactions of {n_users:,} users and {n_items:,} items"))
        if epochs := getattr(self, "epochs_", None):
            rows.append(("epochs", ", ".join(f"{phase} {n}" for phase, n in epochs.items())))
        if hasattr(self, "seconds_"):
            rows.append(("time", f"{self.seconds_:.2f} s"))
        return html_table(type(self).__name__, [*rows, ("bytes", f"{self.size_in_bytes()['model']:,}")])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """scikit-learn would show its own diagram, which knows nothing of users and items; in pipelines it does."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse, tags.input_tags.positive_only = True, True
        return tags

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
        if not isinstance(data, Dataset):
            raise DataError(
                f"evaluate() needs a Dataset, not {type(data).__name__}: Dataset.from_frames(train, test=test) makes one of "
                "a split; score(X) judges by held-out rows alone"
            )
        if not (np.array_equal(data.user_ids, self.user_ids_) and np.array_equal(data.item_ids, self.item_ids_)):
            raise DataError(f"{data.name}: its users or items are not those of the model")
        if (relevant := data.held_out(part)) is None:
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
        return {"engine": getattr(self, "engine", DEFAULT_ENGINE), "n_threads": self.threads or None}

    def _best(
        self, rows: np.ndarray, masked: sparse.csr_array | None, k: int, items: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places among `items` (by default all) and scores of the k best for users by number; -1 where none is left."""
        top, scores = [], []
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            values = _columns(self._scores(block), items)
            top.append(rank_items(values, None if masked is None else masked[block], k, **self._workers()))
            scores.append(np.take_along_axis(values, np.maximum(top[-1], 0), axis=1))
        if not top:
            return np.empty((0, k), np.int64), np.empty((0, k))
        return np.concatenate(top), np.concatenate(scores)

    def _evaluated(
        self, relevant: sparse.csr_array, masked: sparse.csr_array | None, ks: Sequence[int], **options: Any
    ) -> EvaluationResult:
        return evaluate_ranking(self._scores, relevant, masked, ks, **options)

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
        if not self.interactions_[:, items].nnz:
            raise DataError(NOTHING_LEARNT)
        scores: np.ndarray = self._weights_of(items).sum(axis=0)
        return scores

    def _shares(self, items: np.ndarray, u: int | None, item: int) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        score = self._scores_of_new(items)[item] if u is None else self._scores(np.array([u]))[0, item]
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
        X: Trainable,
        y: object = None,
        *,
        validation: sparse.sparray | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
        after_epoch: Callable[[Any], None] | None = None,
    ) -> Self:
        """Train. Arguments, result and errors are those of :meth:`Recommender.fit`; SettingsError also if training diverges.

        Parameters
        ----------
        X, y, validation, user_column, item_column
            See :meth:`Recommender.fit`; validation is for early stopping.
        after_epoch : callable, optional
            Called with a :class:`c2f_np.training.loop.Progress` after every epoch.

        Returns
        -------
        self
        """
        return self._fit(self._as_dataset(X, y, validation, user_column, item_column), after_epoch=after_epoch)

    def _biases(self) -> tuple[np.ndarray | None, np.ndarray | None, float]:
        """Biases of the users (U,) and of the items (I,), or None, and the global one."""
        return None, None, 0.0

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        H, n_users = self.embeddings_, self.interactions_.shape[0]
        user_bias, item_bias, global_bias = self._biases()
        with one_blas_thread():
            scores: np.ndarray = H[rows] @ H[n_users:].T
        if item_bias is not None:
            scores += item_bias
        if user_bias is not None:
            scores += user_bias[rows][:, None]
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
        scores = _scores_of_listed(H[rows], H_items, top)
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
        return top, _scores_of_listed(directions[rows], others, top)

    # What `EmbeddingAnswers` asks.
    def _splitter(self) -> Splitter:
        if getattr(self, "_split", (None,))[0] is not self.embeddings_:  # none yet, or of an earlier fit
            self._split = self.embeddings_, self._as_fitted()._made_splitter()
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


@dataclass(eq=False, repr=False, kw_only=True)
class Baseline(Recommender):
    """The parameters that all baselines have.

    Parameters
    ----------
    engine : {"numba", "numpy"}
        Compiled loops, or the readable ones.
    n_jobs : int, optional
        Threads, as scikit-learn counts them: -1 for all cores. None: all cores, or one for a small problem. Results are the same.
    verbose : int
        1 prints what is done and every evaluation, 2 every epoch. All of it is logged in any case (``c2f_np``).
    """

    engine: str = described(DEFAULT_ENGINE, "compiled loops, or the readable ones", choices=ENGINES)
    n_jobs: int | None = described(None, "threads; -1: all cores, None: what suits the problem (results are the same bits)")
    verbose: int = 0


def seed_of(random_state: RandomState) -> int:
    """The seed that a `random_state` stands for; a generator is not moved on by this."""
    if random_state is None:
        return 0
    if isinstance(random_state, np.random.RandomState):
        return int(copy.deepcopy(random_state).randint(LIMITS["seed"], dtype=np.int64))
    if isinstance(random_state, np.random.Generator):
        return int(copy.deepcopy(random_state).integers(LIMITS["seed"]))
    seed: int = Parameter("random_state", int, low=0, high=LIMITS["seed"]).checked(random_state)
    return seed


def as_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters of an estimator under the names of settings: ``random_state`` as ``seed``, ``n_jobs`` as ``threads``."""
    own = {SETTING_OF.get(name, name): value for name, value in parameters.items()}
    if own["seed"] is not None:
        own["seed"] = seed_of(own["seed"])
    if own["threads"] is not None:
        own["threads"] = threads_of(own["threads"])
    return own


def _in_parameters(stored: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a file under their present names: ``seed`` and ``threads`` were parameters once."""
    given = {_PARAMETER_OF.get(name, name): value for name, value in stored.items()}
    return given | ({"n_jobs": stored["threads"] or None} if "threads" in stored else {})


def validation_share() -> Any:
    """The dataclass field ``validation_fraction`` of the baselines that stop early."""
    return described(0.1, "share set aside for early stopping, if a matrix is given", low=0.0, high=1.0)


def as_dataset(
    X: Trainable,
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
    X : Dataset, Interactions, matrix of shape (U, I), or data frame
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
    is_frame, is_rows = has_columns(X), isinstance(X, Interactions)
    if validation is not None and (is_frame or is_rows or isinstance(X, Dataset)):
        raise DataError("validation belongs to the data set itself; give it only with a matrix")
    if not is_frame and (user_column, item_column) != (None, None):
        raise DataError("user_column and item_column are for data frames", value=user_column or item_column)
    if isinstance(X, Dataset):
        return X
    if is_frame:
        columns: dict[str, Any] = {"user_column": user_column, "item_column": item_column}
        X, is_rows = read_frame(X, **columns, rating_column="", timestamp_column=""), True
    if is_rows:
        split = split_none(X)
    else:
        whole = Dataset.from_matrices(X, validation, name="matrix", split="as given")
        if validation is not None or not validation_fraction:
            return whole
        split = Split(whole.train, None, None, whole.user_ids, whole.item_ids, "as given", "matrix", dict(whole.report))
    return apply_protocol(split, "clean", validation_fraction=validation_fraction, seed=seed)


def _columns(values: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    return values if places is None else values[:, places]


def _rows(values: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    return values if places is None else values[places]


def _scores_of_listed(H: np.ndarray, items: np.ndarray, top: np.ndarray) -> np.ndarray:
    """The products of rows (n, d) with those of their lists (n, k), so many rows at a time that memory stays small."""
    scores = np.empty(top.shape, np.result_type(H, items))
    for start in range(0, len(H), _BLOCK):
        block = slice(start, start + _BLOCK)
        np.einsum("nd,nkd->nk", H[block], items[top[block]], out=scores[block])
    return scores


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
