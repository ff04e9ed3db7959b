"""What a user's embedding is made of; and the embedding of a user whom the model was not trained on, from a list of items.

Propagation is linear, so what reaches a user in L layers is a sum over the edges by which it arrives. With T the layer and
M = X_0 + ... + X_{L-1} the sum of what every node sends, the layers of user u add up to X_0[u] + T[u] M, and

    H_u = own + sum over the items j of u of carried_j
    carried_j = a_j M_j / (sqrt(m) (L + 1)),   a_j = 1 / sqrt(n_j)      m items of the user, n_j users of the item
    own       = Z_u / (L + 1)

The score of an item is <H_u, H_i> and biases, so it splits in the same way, exactly. In the two stages the weights of the graph
are normalised once more, by f = D^-1/2: carried_j has the further factor f_u f_j, and what the user's links to codebook rows
bring belongs to its own part, own = (Z_u + sum_c s_c (f_u f_c M_c + b_c)) / (L + 1), with b_c what the bridge adds.

*A new user* hears the items, and nothing hears it: embeddings and the degrees n_j stay as they were trained. So after joint
training `carried` is that of a trained user with the same items. (In the two stages f_u depends on the user's links.) Links and Z
come from the items in closed form. With q_u = sum_j a_j M_j / sqrt(m), and Y_u the row that the codebooks compose for u
(Z_u = tanh(Y_u)), over the trained users

    B = argmin sum_u |Y_u - q_u B|^2 + rho |B|^2,   rho = 0.01 times the mean of the diagonal of sum_u q_u^T q_u

and q B of the new user is coded as in training: t rows of the coarse codebook and their weights by matching pursuit, then
t_direct rows of F for what is left. Models with a table instead of codebooks take q B itself for Z.

Shapes
------
X_k, M : (n, d)     H, Z, Y : (N, d)     B : (d, d)     s : (C,)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..model.degrees import inverse_roots, roots_of_counts
from ..model.propagation import propagate
from ..model.pursuit import pursue_rows
from .compact import Compact
from .inference import Layer, Parts, bridged, composed, in_blocks, linked, start

#: Said of items without a training interaction, whichever model is asked.
NOTHING_LEARNT = "the model has learnt from no interaction of these items, so they tell nothing of the user"
_RIDGE = 0.01


@dataclass(frozen=True)
class UserParts:
    """H_u as a sum: the user's own part, shape (d,), and what came through each of its items, shape (m, d)."""

    items: np.ndarray
    own: np.ndarray
    carried: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        return self.own + self.carried.sum(axis=0)


@dataclass(frozen=True)
class CodebookNodes:
    """What the rows of the coarse codebook send to users, where they are nodes of the graph."""

    item_factor: np.ndarray  # f of the items, shape (I, 1)
    sent: np.ndarray  # f_c M_c, with the bridge in it if that is part of the message, shape (C, d)
    added: np.ndarray  # b_c, shape (C, d)
    degree: str
    dtype: str

    def user_factor(self, to_items: np.ndarray, s: np.ndarray) -> np.ndarray:
        """f of a user with these weights of edges, shape ()."""
        heard = to_items.sum()
        return inverse_roots(heard + s.sum(), heard + np.abs(s).sum(), self.degree, self.dtype)


@dataclass(frozen=True)
class Splitter:
    """All that is needed to split users, and to embed new ones."""

    n_layers: int
    item_factor: np.ndarray  # a_j, shape (I,); 0 where an item has no interactions
    sent: np.ndarray  # a_j M_j, shape (I, d)
    own_from_sent: np.ndarray  # B
    Z: np.ndarray  # of the trained users, shape (U, d)
    books: tuple[tuple[np.ndarray, int], ...]  # codebooks, and how many rows of each a user is linked to; none of a table
    S_coarse: Compact | None  # links of the trained users to coarse rows, where these are nodes
    nodes: CodebookNodes | None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        nodes = () if self.nodes is None else (self.nodes.item_factor, self.nodes.sent, self.nodes.added)
        arrays = (self.item_factor, self.sent, self.own_from_sent, self.Z, *(E for E, _ in self.books), *nodes)
        return sum(array.nbytes for array in arrays)

    def of_user(self, u: int, items: np.ndarray) -> UserParts:
        """A trained user, by its position and those of its items."""
        s = None
        if self.nodes is not None:
            s = np.zeros(len(self.nodes.sent), self.sent.dtype)
            s[self.S_coarse.row(u)] = self.S_coarse.row_values(u)
        return self._parts(items, self.Z[u], s)

    def of_new_user(self, items: np.ndarray) -> UserParts:
        """A user who was not trained on. Items without interactions send nothing, and their shares are 0."""
        heard = items[self.item_factor[items] > 0]
        if not len(heard):
            raise DataError(NOTHING_LEARNT)
        Y = left = self.sent[heard].sum(axis=0) / np.sqrt(len(heard)) @ self.own_from_sent
        found = []
        for E, t in self.books:
            rows, weights = (part[0] for part in pursue_rows(left[None], E, t))
            left = left - weights @ E[rows]
            found.append((rows, weights))
        Z, s = (np.tanh(Y - left) if self.books else Y).astype(self.sent.dtype), None
        if self.nodes is not None:
            s = np.zeros(len(self.nodes.sent), self.sent.dtype)
            s[found[0][0]] = found[0][1]
        return self._parts(heard, Z, s)

    def _parts(self, items: np.ndarray, Z: np.ndarray, s: np.ndarray | None) -> UserParts:
        if not self.n_layers:
            return UserParts(items, Z, np.zeros((len(items), len(Z)), Z.dtype))
        root = Z.dtype.type(np.sqrt(max(len(items), 1)))
        carried, own = self.sent[items] / root, Z
        if self.nodes is not None:
            f = self.nodes.user_factor(self.item_factor[items] / root, s)
            carried *= f * self.nodes.item_factor[items]
            own = Z + s @ (f * self.nodes.sent + self.nodes.added)
        return UserParts(items, own / (self.n_layers + 1), carried / (self.n_layers + 1))


def splitter_of_table(Z: np.ndarray, M: np.ndarray, R: Compact, n_layers: int) -> Splitter:
    """Of a model with a table in place of codebooks; `M` of the items alone, without layers their rows of Z, shape (I, d)."""
    Z = Z[: R.shape[0]]
    return _splitter(n_layers, Z, Z, M, R, (), None, None)


def splitter_of_parts(parts: Parts, layer: Layer, R: Compact, columns_at_a_time: int = 8) -> Splitter:
    """Of a model with codebooks, which `layer` propagates."""
    L, (n, c, _) = parts.n_layers, parts.sizes
    coarse = slice(n, n + c)
    Y, M, sent, added = [], [], [], []
    for columns in in_blocks(parts.dim, columns_at_a_time):
        X0 = start(parts, columns)
        whole = L * propagate(X0, layer, L - 1) if L else X0
        Y.append(composed(parts, linked(parts, *bridged(parts, columns)))[:, : parts.n_users])
        M.append(whole[:, parts.n_users : n])
        if layer.factor is not None:
            change = np.zeros_like(whole[:, coarse]) if parts.F is None else layer.change(whole, layer.without_bridge(whole))
            is_message = parts.layer_bridge == "exchange"
            sent.append(layer.factor[coarse] * (whole[:, coarse] + change * is_message))
            added.append(change * (not is_message))
    Y, M = np.concatenate(Y).T, np.concatenate(M).T
    nodes = None
    if layer.factor is not None:
        factor = layer.factor[parts.n_users : n, None]
        nodes = CodebookNodes(factor, np.concatenate(sent).T, np.concatenate(added).T, parts.degree, parts.dtype)
    counts = [S.starts for S in (parts.S_coarse, parts.S_direct) if S is not None]  # as many in every row
    books = zip(linked(parts, *bridged(parts, slice(None))), counts, strict=True)
    return _splitter(L, np.tanh(Y), Y, M, R, tuple((E.T, t) for E, t in books), parts.S_coarse, nodes)


def _splitter(n_layers: int, Z: np.ndarray, Y: np.ndarray, M: np.ndarray, R: Compact, *codebooks) -> Splitter:
    """With B, from Y of the users and M of the items."""
    item_factor = roots_of_counts(R.transposed_times(np.ones((1, R.shape[0])))[0])
    sent = item_factor[:, None] * M
    Q = R.times(np.ascontiguousarray(sent.T)).T / np.sqrt(np.maximum(R.lengths(), 1))[:, None]
    gram = Q.T @ Q
    ridge = _RIDGE * max(np.trace(gram) / len(gram), np.finfo(float).tiny)
    B = np.linalg.solve(gram + ridge * np.eye(len(gram)), Q.T @ Y)
    return Splitter(n_layers, item_factor, sent.astype(M.dtype), B, Z, *codebooks)
