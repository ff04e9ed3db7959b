"""Choosing settings as in scikit-learn: a scorer that ranks, and splits that hold out interactions of every user.

>>> from sklearn.model_selection import GridSearchCV
>>> from c2f_np import load_dataset
>>> from c2f_np.baselines import ItemKNN
>>> from c2f_np.model_selection import UserShuffleSplit, make_ranking_scorer
>>> X = load_dataset("southern-women").interactions()
>>> cv, scoring = UserShuffleSplit(3, test_size=0.3), make_ranking_scorer("ndcg@5")
>>> GridSearchCV(ItemKNN(), {"k": [1, 20]}, scoring=scoring, cv=cv).fit(X).best_params_
{'k': 20}

X is a data frame, or ``Interactions``: a row for each interaction. Rows of a matrix are users; split, it would leave users out of
training, of whom the model then knows nothing (``Interactions.from_matrix(R)`` has a row for each entry).
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .data import Interactions
from .data.frames import codes_of_rows, has_columns
from .data.splits import drawn_per_user, share_per_user
from .errors import DataError, SettingsError, in_short
from .estimator import BaseEstimator, RandomState, Recommender, seed_of
from .evaluation.metrics import DEFAULT_METRIC, length_of
from .schema import Parameter

__all__ = ["LeaveLastOut", "RankingScorer", "UserShuffleSplit", "make_ranking_scorer"]


@dataclass(frozen=True)
class RankingScorer:
    """What ``scoring=`` takes: called with an estimator and held-out interactions, it gives the metric; more is better.

    The estimator may be a recommender, a pipeline that ends in one, or a search over either.
    """

    metric: str = DEFAULT_METRIC

    def __post_init__(self) -> None:
        length_of(self.metric)

    def __call__(self, estimator: Any, X: Any, y: object = None) -> float:
        while not isinstance(estimator, Recommender):
            if hasattr(estimator, "best_estimator_"):
                estimator = estimator.best_estimator_
            elif hasattr(estimator, "steps"):
                for _, step in estimator.steps[:-1]:
                    X = X if step in (None, "passthrough") else step.transform(X)
                estimator = estimator.steps[-1][1]
            else:
                known = "recommenders, pipelines and fitted searches"
                raise SettingsError(f"a ranking scorer is for {known}, not {in_short(estimator)}")
        return estimator.score(X, metric=self.metric)


def make_ranking_scorer(metric: str = DEFAULT_METRIC) -> RankingScorer:
    """A scorer for ``GridSearchCV`` and its like; see :meth:`c2f_np.C2FRecommender.score`.

    Parameters
    ----------
    metric : str
        ``"ndcg@k"`` or ``"recall@k"``, with any k.

    Returns
    -------
    RankingScorer

    Raises
    ------
    SettingsError
        If there is no such metric.
    """
    return RankingScorer(metric)


class _UserSplit(BaseEstimator):
    """A splitter that holds out interactions of every user. A subclass says how many, and which."""

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """How many splits there are."""
        raise NotImplementedError

    def split(self, X: Any, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Row numbers of training and test, split after split.

        All rows of a user and an item are in one part. Every user keeps something in training. Rows that would be test, but whose
        item is not in training, are in neither part.

        Parameters
        ----------
        X : Interactions or data frame
        y, groups : ignored

        Yields
        ------
        train, test : ndarray of int

        Raises
        ------
        DataError
            If X has no rows of users and items, or nothing can be held out.
        """
        if isinstance(X, Interactions):
            users, items, times = X.user, X.item, X.timestamp
        elif has_columns(X):
            users, items, times = codes_of_rows(X)
        else:
            raise DataError(
                f"a split of every user's interactions needs a row for each of them, not a {type(X).__name__}: a data frame, "
                "Interactions.from_matrix(R), or data.interactions() of a data set"
            )
        n_items = int(items.max(initial=0)) + 1
        pairs, pair_of_row = np.unique(users * n_items + items, return_inverse=True)
        user, item, time = pairs // n_items, pairs % n_items, None
        if times is not None:  # of rows of one pair the latest counts
            time = np.full(len(pairs), -np.inf)
            np.maximum.at(time, pair_of_row, times)
        for held_out in self._held_out(user, time):
            in_training = np.zeros(n_items, bool)
            in_training[item[~held_out]] = True
            test = held_out & in_training[item]
            if not test.any():
                raise DataError("nothing can be held out: every user, or every item that could be, has a single interaction")
            yield np.flatnonzero(~held_out[pair_of_row]), np.flatnonzero(test[pair_of_row])

    def _held_out(self, user: np.ndarray, time: np.ndarray | None) -> Iterator[np.ndarray]:
        """For each split which of the pairs, which are sorted by user, are held out."""
        raise NotImplementedError


class UserShuffleSplit(_UserSplit):
    """Hold out some of each user's items at random, several times over.

    Parameters
    ----------
    n_splits : int
    test_size : float or int
        A share of each user's items, at least one; or how many (1: leave one out).
    random_state : int, RandomState or Generator, optional
        None is 0.
    """

    def __init__(self, n_splits: int = 5, *, test_size: float = 0.2, random_state: RandomState = None) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.random_state = random_state

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """How many splits there are."""
        n_splits: int = Parameter("n_splits", int, low=1).checked(self.n_splits)
        return n_splits

    def _held_out(self, user: np.ndarray, time: np.ndarray | None) -> Iterator[np.ndarray]:
        is_count = isinstance(self.test_size, numbers.Integral)
        limits: dict[str, Any] = {"low": 1} if is_count else {"above": 0.0, "high": 0.99}
        size = Parameter("test_size", int if is_count else float, **limits).checked(self.test_size)
        rng, per_user = np.random.default_rng(seed_of(self.random_state)), np.bincount(user)
        wanted = np.minimum(size, per_user - 1) if is_count else share_per_user(per_user, size)
        for _ in range(self.get_n_splits()):
            yield drawn_per_user(user, np.maximum(wanted, 0), rng)


class LeaveLastOut(_UserSplit):
    """Hold out each user's last items by time, once.

    Parameters
    ----------
    n_last : int
        How many; a user keeps at least one.
    random_state : int, RandomState or Generator, optional
        Of the draw among items of the same time. None is 0.
    """

    def __init__(self, n_last: int = 1, *, random_state: RandomState = None) -> None:
        self.n_last = n_last
        self.random_state = random_state

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """One."""
        return 1

    def _held_out(self, user: np.ndarray, time: np.ndarray | None) -> Iterator[np.ndarray]:
        n_last = Parameter("n_last", int, low=1).checked(self.n_last)
        if time is None:
            raise DataError("LeaveLastOut needs times: a column such as timestamp, or Interactions that have them")
        wanted = np.clip(np.bincount(user) - 1, 0, n_last)
        yield drawn_per_user(user, wanted, np.random.default_rng(seed_of(self.random_state)), first_by=-time)
