"""An exported model at work: recommendations, embeddings, and single users without a table of embeddings.

H = P X0 is linear in X0 however the model was trained, and the scores of one user u over all items are H h_u = P (X0 h_u). So two
propagations of a *single* vector suffice: P^T e_u for h_u = (P^T e_u)^T X0, and then P (X0 h_u). That takes a few vectors of N
numbers; the table is N x d.

Scores leave out the user's bias and the global one: they are the same for all items, so they cannot change a ranking.

Shapes
------
H : (N, d), users first     h_u : (d,)     scores : (I,)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..answers import EmbeddingAnswers, Items, best_of
from ..errors import DataError
from ..files import FilePath
from ..ids import as_ids
from ..lookup import positions, require_k, wanted_ids
from ..model.propagation import propagate, propagate_backward
from .compact import Compact, compact_matrix
from .exported_file import Exported, read
from .inference import Layer, in_blocks, layer_of, start
from .new_users import Splitter, splitter_of_parts

# Columns propagated at a time when the whole table is made: enough to spread the cost of looking at the entries, few enough to
# keep the working memory small.
_COLUMNS = 8


def load_exported(
    path: FilePath, *, interactions: ArrayLike | None = None, held_out: ArrayLike | None = None
) -> Served:
    """Read a file that ``python -m c2f_np export`` wrote. Needs NumPy and the standard library only.

    Parameters
    ----------
    path : path-like
    interactions : array_like of int or str, shape (n, 2), optional
        User and item of the training interactions, for a file that was exported without them: whole numbers are positions,
        text is ids.
    held_out : array_like of int or str, shape (n, 2), optional
        Likewise of what else is known: it is not propagated, but left out of recommendations.

    Returns
    -------
    Served

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, foreign or of another version.
    DataError
        If the interactions do not fit the model.
    """
    return Served(read(path), interactions=interactions, held_out=held_out)


class Served(EmbeddingAnswers):
    """An exported model, ready to recommend.

    All methods that take a user raise DataError if the user is unknown or the training interactions are missing.

    Parameters
    ----------
    exported : Exported
    interactions, held_out : array_like of int or str, shape (n, 2), optional
        See :func:`load_exported`.

    Attributes
    ----------
    n_users, n_items : int
    user_ids, item_ids : ndarray of str, or None
        None in a model exported without ids; users and items are then their positions, counted from 0.
    about : dict
    """

    def __init__(
        self, exported: Exported, *, interactions: ArrayLike | None = None, held_out: ArrayLike | None = None
    ) -> None:
        self._parts = exported.parts
        self.n_users, self.n_items = exported.parts.n_users, len(exported.parts.item_bias)
        self.user_ids, self.item_ids, self.about = exported.user_ids, exported.item_ids, exported.about
        self._order = None if self.user_ids is None else np.argsort(self.user_ids)
        self._R, self._held_out = (
            self._interactions(given, stored, what)
            for given, stored, what in (
                (interactions, exported.R, "training interactions"),
                (held_out, exported.held_out, "held-out interactions"),
            )
        )
        self._layer: Layer | None = None
        self._table: np.ndarray | None = None
        self._split: Splitter | None = None

    @property
    def n_interactions(self) -> int:
        """How many interactions are propagated; 0 where they are missing."""
        return 0 if self._R is None else len(self._R.indices)

    @property
    def n_known(self) -> int:
        """How many interactions are known, those that were held out included."""
        return self.n_interactions + (0 if self._held_out is None else len(self._held_out.indices))

    @property
    def item_bias(self) -> np.ndarray:
        """Biases of the items, in the precision of the scores, shape (I,)."""
        return self._parts.item_bias.astype(self._parts.dtype)

    def recommend(
        self,
        users: ArrayLike,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Items | None = None,
        without: Items | None = None,
        from_table: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each user.

        Parameters
        ----------
        users : one id or a sequence of ids
            As in the data; positions, if the model has no ids.
        k : int
            At most the number of items.
        exclude_seen : bool
            Leave out all items that the user is known to have. Without the training interactions only False is possible.
        only, without : ids of items or booleans, optional
            The items that may be recommended, such as those in stock, and those that may not: ids, or a boolean for each item in
            the order of the data. Ids that the model does not know are a warning.
        from_table : bool
            Score with :meth:`embeddings`, which are propagated at the first call and kept. Otherwise with
            :meth:`score_user`, which keeps nothing.

        Returns
        -------
        items : ndarray of str, or of int if the model has no ids, shape (n, k)
            Best first; items with equal scores are in the order of the data. "" or -1 where fewer than k are left.
        scores : ndarray, shape (n, k)
            NaN there. Without the user's and the global bias.

        Raises
        ------
        SettingsError
            If k is not between 1 and the number of items.
        """
        require_k(k, self.n_items)
        allowed, rows = self._allowed(only, without), self._positions(users, "user")
        top = np.full((len(rows), k), -1)
        values = np.full((len(rows), k), np.nan, self._parts.dtype)
        for row, u in enumerate(rows):
            if from_table:
                H = self.embeddings()
                scores = H[self.n_users :] @ H[u] + self.item_bias
            else:
                scores = self._score(u)
            candidates = np.ones(self.n_items, bool) if allowed is None else allowed.copy()
            if exclude_seen:
                candidates[self._require_interactions().row(u)] = False
                if self._held_out is not None:
                    candidates[self._held_out.row(u)] = False
            top[row], values[row] = best_of(scores, candidates, k)
        return self._ids("item", top), values

    def similar_items(
        self, items: ArrayLike, k: int = 10, *, only: Items | None = None, without: Items | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k items whose propagated embeddings have the largest cosine with each item's, without the item itself.

        Parameters
        ----------
        items : one id or a sequence of ids
            As in the data; positions, if the model has no ids.
        k : int
            At most the number of items less one.
        only, without : ids of items or booleans, optional
            As for :meth:`recommend`.

        Returns
        -------
        items : ndarray of str, or of int if the model has no ids, shape (n, k)
            "" or -1 where fewer than k are left.
        cosines : ndarray, shape (n, k)
            NaN there.

        Raises
        ------
        SettingsError
            If k is out of range.
        """
        return self._alike("item", items, k, self._allowed(only, without))

    def similar_users(self, users: ArrayLike, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k users whose propagated embeddings have the largest cosine with each user's; as :meth:`similar_items`."""
        return self._alike("user", users, k, None)

    def _alike(self, kind: str, ids: ArrayLike, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        n = self._sizes()[kind]
        require_k(k, n - 1, f"{kind}s")
        rows, H = self._positions(ids, kind), np.split(self.embeddings(), [self.n_users])[kind == "item"]
        norms = np.linalg.norm(H, axis=1, keepdims=True)
        directions = H / np.where(norms > 0, norms, 1)
        top, cosines = np.full((len(rows), k), -1), np.full((len(rows), k), np.nan, H.dtype)
        for row, here in enumerate(rows):
            candidates = np.ones(n, bool) if allowed is None else allowed.copy()
            candidates[here] = False
            top[row], cosines[row] = best_of(directions @ directions[here], candidates, k)
        return self._ids(kind, top), cosines

    def embeddings(self) -> np.ndarray:
        """Propagated embeddings of all entities, users first, shape (N, d). Made at the first call, then kept.

        Raises
        ------
        DataError
            If the interactions are missing.
        """
        if self._table is None:
            n, d = self.n_users + self.n_items, self._parts.dim
            table = np.empty((n, d), self._parts.dtype)
            for columns in in_blocks(d, _COLUMNS):
                table[:, columns] = self._propagate(start(self._parts, columns))[:, :n].T
            self._table = table
        return self._table

    def forget_embeddings(self) -> None:
        """Free the table of :meth:`embeddings` and the one for new users; they are made again when they are needed."""
        self._table = self._split = None

    def embedding_of_user(self, user: str | int) -> np.ndarray:
        """One user's propagated embedding, shape (d,), exact, from the nodes within L hops and no table: (P^T e_u)^T X0."""
        return self._embedding(self._user_position(user))

    def score_user(self, user: str | int) -> np.ndarray:
        """One user's scores of all items, exact, without the table: two vectors are propagated, P^T e_u and P (X0 h_u).

        Parameters
        ----------
        user : id

        Returns
        -------
        ndarray, shape (I,)
            With the items' biases, without the user's and the global one.
        """
        return self._score(self._user_position(user))

    def neighbourhood_of_user(self, user: str | int, *, meta_nodes: bool = True) -> list[int]:
        """How many entities a user's embedding is made from, after 0, 1, ..., L layers.

        Parameters
        ----------
        user : id
        meta_nodes : bool
            Without them: over interactions only, as in a graph of users and items alone. After joint training there are none.

        Returns
        -------
        list of int, L + 1 long
        """
        layer, n = self._the_layer(), self.n_users + self.n_items
        # Not a layer with its codebook rows left out: some layers mix entities through these within a single hop.
        hop, n_nodes = (layer.adjoint, self._parts.n_nodes) if meta_nodes else (layer.over_interactions, n)
        reached = self._unit(self._user_position(user), n_nodes)
        counts = [1]
        for _ in range(self._parts.n_layers):
            # Only where something arrives counts; its size would soon be too small for the precision.
            reached = ((reached != 0) | (hop(reached) != 0)).astype(reached.dtype)
            counts.append(int(np.count_nonzero(reached[0, :n])))
        return counts

    def size_in_bytes(self) -> dict[str, int]:
        """What is held in memory, part by part.

        Returns
        -------
        dict of str to int
            "codebooks", "assignment weights", "assignment indices", "item biases", and their sum, "model"; and besides,
            0 where absent: "interactions", "held-out interactions", "graph factors" (made at the first propagation),
            "propagated table" (made by :meth:`embeddings`), "new users" (made by :meth:`splitter`), "ids"
            (with the order to look them up in).
        """
        parts = self._parts
        books = [book for book in (parts.E_coarse, parts.F) if book is not None]
        matrices = [S for S in (parts.S_coarse, parts.S_fine, parts.S_direct) if S is not None]
        sizes = {
            "codebooks": sum(book.nbytes for book in books),
            "assignment weights": sum(S.value_bytes for S in matrices),
            "assignment indices": sum(S.index_bytes for S in matrices),
            "item biases": parts.item_bias.nbytes,
        }
        factors = () if self._layer is None else (self._layer.bipartite, self._layer.factor)
        return sizes | {
            "model": sum(sizes.values()),
            "interactions": 0 if self._R is None else self._R.index_bytes,
            "held-out interactions": 0 if self._held_out is None else self._held_out.index_bytes,
            "graph factors": _n_bytes(*factors),
            "propagated table": _n_bytes(self._table),
            "new users": 0 if self._split is None else self._split.nbytes,
            "ids": _n_bytes(self.user_ids, self.item_ids, self._order),
        }

    def splitter(self) -> Splitter:
        """What splits embeddings over interactions, and makes those of new users. Made at the first call, then kept.

        Raises
        ------
        DataError
            If the interactions are missing.
        """
        if self._split is None:
            R = self._require_interactions()
            self._split = splitter_of_parts(self._parts, self._the_layer(), R)
        return self._split

    # What `EmbeddingAnswers` asks.
    _splitter = splitter

    def _sizes(self) -> dict[str, int]:
        return {"user": self.n_users, "item": self.n_items}

    def _ids(self, kind: str, positions: np.ndarray) -> np.ndarray:
        known = self.user_ids if kind == "user" else self.item_ids
        return positions if known is None else np.where(positions < 0, "", known[positions])

    def _learnt_items(self, u: int) -> np.ndarray:
        return self._require_interactions().row(u)

    def _item_side(self) -> tuple[np.ndarray, np.ndarray | float]:
        return self.embeddings()[self._items], self.item_bias

    def _user_side(self, u: int | None) -> tuple[np.ndarray | None, float]:
        return None if u is None else self.embeddings()[u], 0.0

    @property
    def _items(self) -> slice:
        return slice(self.n_users, self.n_users + self.n_items)

    def _unit(self, u: int, n_nodes: int) -> np.ndarray:
        unit = np.zeros((1, n_nodes), self._parts.dtype)
        unit[0, u] = 1
        return unit

    def _embedding(self, u: int) -> np.ndarray:
        unit = self._unit(u, self._parts.n_nodes)
        of_user = propagate_backward(unit, self._the_layer(), self._parts.n_layers)[0]
        return np.concatenate([start(self._parts, columns) @ of_user for columns in self._few_columns()])

    def _score(self, u: int) -> np.ndarray:
        h = self._embedding(u)
        mixed = np.zeros((1, self._parts.n_nodes), self._parts.dtype)
        for columns in self._few_columns():
            mixed += h[columns] @ start(self._parts, columns)
        return self._propagate(mixed)[0, self._items] + self.item_bias

    def _propagate(self, X0: np.ndarray) -> np.ndarray:
        return propagate(X0, self._the_layer(), self._parts.n_layers)

    def _few_columns(self) -> list[slice]:
        """Columns of X0 made at a time for one user: a small part of the table, not one by one, which takes longer."""
        return in_blocks(self._parts.dim, max(1, self._parts.dim // 16))

    def _the_layer(self) -> Layer:
        if self._layer is None:
            # With no layers nothing is propagated, so no interaction is ever looked at.
            R = self._require_interactions() if self._parts.n_layers else self._compact(np.zeros((0, 2), int))
            self._layer = layer_of(self._parts, R)
        return self._layer

    def _require_interactions(self) -> Compact:
        if self._R is None:
            raise DataError(
                "the model was exported without its training interactions: give them to load_exported() (they are needed to "
                "propagate, and to leave out what is known)"
            )
        return self._R

    def _interactions(self, given: ArrayLike | None, stored: Compact | None, what: str) -> Compact | None:
        """Those of the file, or those that are given in their place."""
        if given is None:
            return stored
        if stored is not None:
            raise DataError(f"the file has the {what} already")
        pairs = np.asarray(given)
        if pairs.size == 0:
            pairs = np.zeros((0, 2), np.int64)
        elif pairs.dtype == object and pairs.ndim == 2 and pairs.shape[1] == 2:  # as data frames give text
            pairs = np.stack([as_ids(column, kind) for column, kind in zip(pairs.T, ("user", "item"), strict=True)], axis=1)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iuU":
            raise DataError(f"{what} must be positions or ids of shape (n, 2), not {pairs.dtype} of shape {pairs.shape}")
        if pairs.dtype.kind == "U":
            if self.user_ids is None or self.item_ids is None:
                raise DataError(f"the model was exported without ids: its {what} must be positions")
            columns = [self._positions(column, kind) for column, kind in zip(pairs.T, ("user", "item"), strict=True)]
            pairs = np.stack(columns, axis=1)
        if len(pairs) and (pairs.min() < 0 or (pairs.max(axis=0) >= (self.n_users, self.n_items)).any()):
            raise DataError(f"{what} beyond the model's {self.n_users} users and {self.n_items} items")
        return self._compact(np.unique(pairs, axis=0))

    def _compact(self, pairs: np.ndarray) -> Compact:
        return compact_matrix(pairs[:, 0], pairs[:, 1], None, (self.n_users, self.n_items), "float32", "interactions")

    def _user_position(self, user) -> int:
        if np.ndim(user):
            raise DataError("give one user, not several", value=user)
        return int(self._positions(user, "user")[0])

    def _positions(self, ids: ArrayLike, kind: str) -> np.ndarray:
        """Positions of users or items by their ids, or by the positions that stand for ids in a model without."""
        known, order = (self.user_ids, self._order) if kind == "user" else (self.item_ids, None)
        if known is not None:
            return positions(ids, known, kind, order)
        wanted, n = wanted_ids(ids, kind).tolist(), self.n_users if kind == "user" else self.n_items
        for text in wanted:
            if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < n):
                raise DataError(f"unknown {kind}; the model was exported without ids, and has {n} of them", value=text)
        return np.array([int(text) for text in wanted], dtype=np.int64)


def _n_bytes(*arrays: np.ndarray | None) -> int:
    return sum(array.nbytes for array in arrays if array is not None)
