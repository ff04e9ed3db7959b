"""What can be asked of every fitted model, exported ones included, beside lists for its own users. NumPy alone.

New users, filters of items, explanations, and answers as data frames are written here once; a model says how it scores.

Shapes
------
scores : (I,)     contributions : (m,), m items of the user
"""

from __future__ import annotations

import importlib
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import DataError, SettingsError, as_text, require_one_of
from .ids import is_one_id, one_by_one
from .lookup import require_k, wanted_ids
from .shown import for_terminal

if TYPE_CHECKING:
    from .serving.new_users import Splitter, UserParts

__all__ = ["Answers", "Explanation", "Ids", "Items"]

#: One id or several, as in the data.
Ids: TypeAlias = str | int | Sequence[str] | Sequence[int] | np.ndarray

#: Ids of items, or a boolean for each item in the order of the data.
Items: TypeAlias = Ids | Sequence[bool]

# Libraries of data frames, and what makes one of them from a dictionary of columns.
_FRAMES = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why an item has its score: a sum over the user's items.

    Attributes
    ----------
    item : str or int
    score : float
        As in a recommendation: ``contributions.sum() + own + bias``, up to rounding.
    items : ndarray, shape (m,)
        What the model has learnt from of the user, largest contribution first.
    contributions : ndarray, shape (m,)
    own : float
        What the user's own row, and not an item, brings.
    bias : float
    """

    item: Any
    score: float
    items: np.ndarray
    contributions: np.ndarray
    own: float
    bias: float

    def lines(self, most: int = 10) -> list[str]:
        """The sum, line by line, with so many of the items.

        Parameters
        ----------
        most : int

        Returns
        -------
        list of str
            Each a number, a tab, and what it belongs to.
        """
        values, names = self.contributions.tolist(), [for_terminal(item) for item in self.items.tolist()]
        rows = list(zip(values, names, strict=True))[:most]
        if others := values[most:]:
            rows.append((sum(others), f"({len(others)} more items)"))
        rows += [(self.own, "(the user's own part)"), (self.bias, "(biases)"), (self.score, "(score)")]
        return [f"{value:.4f}\t{name}" for value, name in rows]

    def __str__(self) -> str:
        return "\n".join([f"the score of {for_terminal(self.item)} is the sum of", *self.lines()])


class Answers:
    """The questions; the methods that begin with an underscore are a model's answers."""

    @abstractmethod
    def recommend(
        self, users: Ids, k: int = 10, *, exclude_seen: bool = True, only: Items | None = None, without: Items | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each user."""

    def recommend_from(
        self,
        items: Ids | Sequence[Ids],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Items | None = None,
        without: Items | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for users whom the model was not trained on, from the items that they have.

        The model stays as it is. Of a model of embeddings with L layers the user is

            H = (Z + sum_j a_j M_j / sqrt(m)) / (L + 1),   a_j = 1 / sqrt(n_j),   M = X_0 + ... + X_{L-1}

        for m items j with n_j users each: the item side is as it was trained, and so is the sum if a trained user has the same
        items. Z comes from the sum in closed form: a linear map fitted to the trained users, coded by rows of the codebooks
        (docs/serving.md). EASE and ItemKNN add up the weights of the items, Popularity gives everyone the same.

        Parameters
        ----------
        items : ids, or a sequence of ids for each of several users
            At least one that the model has learnt from.
        k : int
            At most the number of items.
        exclude_seen : bool
            Leave out the items that are given.
        only, without : ids of items or booleans, optional
            As for ``recommend``.

        Returns
        -------
        items : ndarray, shape (n, k)
            Ids, best first; "" (-1 without ids) where fewer are left.
        scores : ndarray, shape (n, k)
            NaN there. Without a user's bias.

        Raises
        ------
        DataError
            If an item is unknown, or the model has learnt nothing from any item that a user has. (Popularity tells everyone the
            same, whatever the items.)
        SettingsError
            If k is out of range.
        """
        n_items = self._sizes()["item"]
        require_k(k, n_items)
        allowed = self._allowed(only, without)
        given = _each(items)
        users = [given] if all(map(is_one_id, given)) else given
        top, scores = np.full((len(users), k), -1), np.full((len(users), k), np.nan)
        for row, of_user in enumerate(users):
            own = self._positions_of_new(of_user)
            all_scores = self._scores_of_new(own)
            candidates = np.ones(n_items, bool) if allowed is None else allowed.copy()
            if exclude_seen:
                candidates[own] = False
            top[row], scores[row] = best_of(all_scores, candidates, k)
        return self._ids("item", top), scores

    def recommend_frame(
        self,
        users: Ids | None = None,
        k: int = 10,
        *,
        library: str | None = None,
        exclude_seen: bool = True,
        only: Items | None = None,
        without: Items | None = None,
    ) -> Any:
        """The k best items for each user as a long data frame, with the columns user, item, score and rank (from 1).

        Parameters
        ----------
        users : ids, optional
            By default all.
        k : int
        library : {"pandas", "polars", "pyarrow"}, optional
            By default that of `users` if they are a column of one, else of the data frame that ``fit`` was given, else pandas.
        exclude_seen, only, without
            As for ``recommend``.

        Returns
        -------
        data frame of the library
            A row for each recommendation, users in the order given. Ids that are all whole numbers come as integers.

        Raises
        ------
        DataError
            If a user is unknown.
        SettingsError
            If k is out of range, or the library is unknown or not installed.
        """
        library = library or library_of(users) or getattr(self, "_library", None) or "pandas"
        frame = _frame_maker(library)
        wanted = self.all_users() if users is None else wanted_ids(users, "user")
        items, scores = self.recommend(wanted, k, exclude_seen=exclude_seen, only=only, without=without)
        there = ~np.isnan(scores)
        rank = np.broadcast_to(np.arange(1, k + 1), scores.shape)[there]
        columns = {"user": np.repeat(wanted, there.sum(axis=1)), "item": items[there]}
        columns = {kind: _as_column(values, self._ids(kind, np.arange(self._sizes()[kind]))) for kind, values in columns.items()}
        return frame(columns | {"score": scores[there], "rank": rank})

    def all_users(self) -> np.ndarray:
        """The ids of all users, in the order of the data.

        Returns
        -------
        ndarray, shape (U,)
        """
        return self._ids("user", np.arange(self._sizes()["user"]))

    def explain(self, user: str | int, item: str | int) -> Explanation:
        """What the score of an item for a user is made of: a share of each item that the model has learnt from of the user.

        Propagation is linear, so the embedding of a user is a sum over the edges by which something reaches it,
        H_u = own + sum_j carried_j, and the score is the sum of <own, H_i>, all <carried_j, H_i>, and the biases. Nothing is
        approximated (docs/serving.md). Of EASE and ItemKNN the shares are weights.

        Parameters
        ----------
        user, item : id

        Returns
        -------
        Explanation

        Raises
        ------
        DataError
            If one is unknown.
        SettingsError
            If no interaction carries a score: the model gives everyone the same, or it has no layers.
        """
        u = self._one(user, "user")
        return self._explained(self._learnt_items(u), u, self._one(item, "item"))

    def explain_from(self, items: Ids, item: str | int) -> Explanation:
        """The same for a user whom the model was not trained on; see :meth:`recommend_from`."""
        return self._explained(self._positions_of_new(items), None, self._one(item, "item"))

    def _explained(self, items: np.ndarray, u: int | None, item: int) -> Explanation:
        items, contributions, own, bias, score = self._shares(items, u, item)
        order = np.argsort(-contributions, kind="stable")
        name = self._ids("item", np.array([item])).tolist()[0]
        return Explanation(name, float(score), self._ids("item", items[order]), contributions[order], float(own), float(bias))

    def _allowed(self, only: Items | None, without: Items | None) -> np.ndarray | None:
        """Which items may be recommended, shape (I,); None for all."""
        masks = [self._mask(only, "only")] if only is not None else []
        masks += [~self._mask(without, "without")] if without is not None else []
        if not masks:
            return None
        allowed: np.ndarray = reduce(np.logical_and, masks)
        if not allowed.any():
            raise DataError("no item is left that may be recommended: `only` and `without` rule out all of them")
        return allowed

    def _mask(self, items: Items, name: str) -> np.ndarray:
        """Items as a boolean array, shape (I,). Ids that the model does not know cannot be recommended anyway: a warning."""
        known = self._ids("item", np.arange(self._sizes()["item"])).astype(str)
        values = _each(items)
        if values and all(isinstance(value, bool | np.bool_) for value in values):
            if len(values) != len(known):
                raise DataError(f"`{name}` needs a boolean for each of the {len(known)} items", value=len(values))
            return np.array(values, bool)
        wanted = wanted_ids(items, "item")
        unknown = np.setdiff1d(wanted, known)
        if len(unknown):
            several = f"`{name}` has {len(unknown)} of {len(wanted)} ids that the model does not know"
            warnings.warn(f"{several}, such as {as_text(unknown[0])!r:.80}", stacklevel=4)
        return np.isin(known, wanted)

    def _positions_of_new(self, items: Any) -> np.ndarray:
        """Positions of the items of a new user, each once."""
        found = np.unique(self._positions(items, "item"))
        if not len(found):
            raise DataError("a new user needs at least one item")
        return found

    def _one(self, name: Any, kind: str) -> int:
        if not is_one_id(name):
            raise DataError(f"give one {kind}, not several", value=name)
        return int(self._positions(name, kind)[0])

    @abstractmethod
    def _sizes(self) -> dict[str, int]:
        """How many there are of each "user" and "item"."""

    @abstractmethod
    def _positions(self, ids: Any, kind: str) -> np.ndarray:
        """Positions of ids; DataError for one that is unknown."""

    @abstractmethod
    def _ids(self, kind: str, positions: np.ndarray) -> np.ndarray:
        """Ids at positions; "" at -1. Of a model without ids the positions."""

    @abstractmethod
    def _learnt_items(self, u: int) -> np.ndarray:
        """Positions of the items that the model has learnt from of a user."""

    @abstractmethod
    def _scores_of_new(self, items: np.ndarray) -> np.ndarray:
        """Scores of all items for a new user who has these."""

    @abstractmethod
    def _shares(self, items: np.ndarray, u: int | None, item: int) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        """Items (some may tell nothing and be left out) and their contributions to a score; own part, bias, score."""


class EmbeddingAnswers(Answers):
    """The answers of models whose score is a product of embeddings, and biases."""

    @abstractmethod
    def _splitter(self) -> Splitter:
        """What splits the embeddings of users."""

    @abstractmethod
    def _item_side(self) -> tuple[np.ndarray, np.ndarray | float]:
        """Embeddings and biases of the items."""

    @abstractmethod
    def _user_side(self, u: int | None) -> tuple[np.ndarray | None, float]:
        """Embedding of a user, and its and the global bias; of a new user the latter alone."""

    def _scores_of_new(self, items: np.ndarray) -> np.ndarray:
        H, bias = self._item_side()
        scores: np.ndarray = H @ self._splitter().of_new_user(items).whole + bias + self._user_side(None)[1]
        return scores

    def _shares(self, items: np.ndarray, u: int | None, item: int) -> tuple[np.ndarray, np.ndarray, float, float, float]:
        splitter = self._splitter()
        if not splitter.n_layers:
            raise SettingsError("without layers nothing is propagated, so no interaction carries a part of the score")
        parts: UserParts = splitter.of_new_user(items) if u is None else splitter.of_user(u, items)
        H, item_bias = self._item_side()
        h, bias = self._user_side(u)
        bias = float(bias + np.broadcast_to(item_bias, len(H))[item])
        score = (parts.whole if h is None else h) @ H[item] + bias
        return parts.items, parts.carried @ H[item], parts.own @ H[item], bias, score


def best_of(scores: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores of the k best candidates (booleans), equal ones in their order; -1 and NaN where there are fewer."""
    left = np.flatnonzero(candidates)
    best = left[np.argsort(-scores[left], kind="stable")[:k]]
    top, values = np.full(k, -1), np.full(k, np.nan, scores.dtype)
    top[: len(best)], values[: len(best)] = best, scores[best]
    return top, values


def _each(items: Any) -> list[Any]:
    """One item, several, or lists of them, as a list."""
    if is_one_id(items):
        return [items]
    return list(items) if isinstance(items, np.ndarray) and items.ndim == 2 else one_by_one(items, "item")


def library_of(table: Any) -> str | None:
    """The library of data frames that something is of."""
    name = type(table).__module__.partition(".")[0]
    return name if name in _FRAMES else None


def _frame_maker(library: str) -> Any:
    require_one_of(_FRAMES, library, "library")
    try:
        return getattr(importlib.import_module(library), _FRAMES[library])
    except ImportError:
        raise SettingsError(f"{library} is not installed; name another library of {', '.join(_FRAMES)}") from None


def _as_column(ids: np.ndarray, known: np.ndarray) -> Any:
    """Ids as integers if all that are known are whole numbers."""
    with_numbers = known.tolist()
    try:
        is_whole = [str(int(text)) for text in with_numbers] == [str(text) for text in with_numbers]
        return ids.astype(np.int64) if is_whole else ids.tolist()
    except (ValueError, OverflowError):
        return ids.tolist()
