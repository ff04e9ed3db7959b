"""Propagation without a stored graph: all products from the interactions, the assignments and two vectors of factors.

    A = diag(a) [[0, R], [R^T, 0]] diag(a),      X_hat = D^-1/2 [[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]] D^-1/2

A model of the two stages is propagated over X_hat; its nodes are the entities and the rows of the codebooks. One that was
trained jointly is propagated over A alone, and its nodes are the entities.

All weights of R are 1, so neither A nor X_hat need be stored: R's pattern, a, and the factors D^-1/2 are enough. The results
equal those of `c2f_np.model.graph` and `c2f_np.model.propagation`, up to rounding.

Each column is propagated separately, H[:, j] = P X0[:, j], so memory depends on how many are propagated at a time. One row of P
is a single vector propagated backwards, P^T e_u; so one user's embedding needs no other's.

Shapes
------
n nodes: entities h (N) and, of the two stages, coarse p (C) and fine q (M)     X, X0, Y, G : (w, n), one vector a row
E_coarse : (C, d)     F : (M, d)     S_c : (N, C)     S_f : (C, M)     S_d : (N, M)     R : (U, I)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..model.degrees import inverse_roots, roots_of_counts
from .compact import Codebook, Compact


@dataclass(frozen=True)
class Parts:
    """All that inference needs of a model; the names of the settings are those of `c2f_np.settings.Settings`."""

    E_coarse: Codebook  # without rows where the coarse rows consist of fine rows alone
    F: Codebook | None  # after soft thresholding; None without a fine codebook
    S_coarse: Compact
    S_fine: Compact | None  # None without a bridge
    S_direct: Compact | None  # None without direct links
    item_bias: np.ndarray  # shape (I,)
    n_users: int
    n_layers: int
    gate: float
    training: str
    composition: str  # this and the next two apply to the two stages only
    layer_bridge: str
    degree: str
    dtype: str  # precision to compute in

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, C, M."""
        return *self.S_coarse.shape, 0 if self.F is None else self.F.shape[0]

    @property
    def n_nodes(self) -> int:
        """How many nodes are propagated: N + C + M, or N after joint training."""
        return self.sizes[0] if self.training == "joint" else sum(self.sizes)

    @property
    def dim(self) -> int:
        return self.E_coarse.shape[1]


def in_blocks(n: int, size: int) -> list[slice]:
    """0..n cut into pieces of `size`, the last one shorter."""
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def start(parts: Parts, columns: slice) -> np.ndarray:
    """Some columns of what is propagated, shape (w, n).

    After joint training X0 = tanh(Y), Y = S_c E_hat + S_d F. In the fine stage it is [tanh(Y); E_hat; tanh(F)], Y = S_c E, where
    E is E_c or E_hat, and in the coarse stage [tanh(S_c E_c); E_c].
    """
    _, E_hat, F = books = bridged(parts, columns)
    Z = np.tanh(composed(parts, linked(parts, *books)))
    if parts.training == "joint":
        return Z
    return np.concatenate([Z, E_hat] if F is None else [Z, E_hat, np.tanh(F)], axis=1)


def composed(parts: Parts, books: list[np.ndarray]) -> np.ndarray:
    """Some columns of Y, from the same columns of what :func:`linked` gives, shape (w, N)."""
    Y = parts.S_coarse.times(books[0])
    if len(books) > 1:
        Y += parts.S_direct.times(books[1])
    return Y


def linked(parts: Parts, E_coarse: np.ndarray, E_hat: np.ndarray, F: np.ndarray | None) -> list[np.ndarray]:
    """The codebooks that entities are linked to: the coarse one, and with direct links the fine one."""
    coarse = E_hat if parts.training == "joint" or parts.composition == "bridged" else E_coarse
    return [coarse] if parts.S_direct is None else [coarse, F]


def bridged(parts: Parts, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Some columns of E_c, E_hat and F; without a bridge E_hat = E_c, without a fine codebook there is no F."""
    E_coarse = _columns_of(parts.E_coarse, columns, parts.dtype)
    F = None if parts.F is None else _columns_of(parts.F, columns, parts.dtype)
    E_hat = E_coarse
    if parts.S_fine is not None:
        E_hat = parts.gate * parts.S_fine.times(F)
        E_hat = E_hat + (1 - parts.gate) * E_coarse if E_coarse.size else E_hat
    return E_coarse, E_hat, F


def _columns_of(book: Codebook, columns: slice, dtype) -> np.ndarray:
    """Some columns of a codebook, one a row."""
    return np.ascontiguousarray(book.dense(dtype)[:, columns].T)


@dataclass(frozen=True)
class Layer:
    """One layer of propagation, T, over the graph in factors."""

    parts: Parts
    R: Compact  # training interactions
    bipartite: np.ndarray  # a, shape (N,): 1 / sqrt(number of interactions), 0 where there are none
    factor: np.ndarray | None  # D^-1/2 of the expanded graph, shape (N + C + M,); None after joint training

    def forward(self, X: np.ndarray) -> np.ndarray:
        """T X: A X after joint training, X_hat X in the coarse stage, else that and c2f_np.model.propagation."""
        parts, (n, c, _) = self.parts, self.parts.sizes
        Y = self.without_bridge(X)
        if parts.training == "joint" or parts.F is None:
            return Y
        coarse, change = slice(n, n + c), self.change(X, Y)
        if parts.layer_bridge == "exchange":
            Y[:, :n] += self.factor[:n] * parts.S_coarse.times(self.factor[coarse] * change)
            return Y
        Y[:, :n] += parts.S_coarse.times(change)
        Y[:, coarse] += change
        return Y

    def change(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """What the bridge adds to the coarse rows, shape (w, C): of the messages X that are exchanged, or else of Y = X_hat X."""
        (n, c, _), g, is_exchange = self.parts.sizes, self.parts.gate, self.parts.layer_bridge == "exchange"
        values = X if is_exchange else Y
        return (g if is_exchange else 2 * g - 1) * self.parts.S_fine.times(values[:, n + c :]) - g * values[:, n : n + c]

    def adjoint(self, G: np.ndarray) -> np.ndarray:
        """T^T G, shape (w, n): the steps of `forward` in reverse."""
        parts, (n, c, _) = self.parts, self.parts.sizes
        if parts.training == "joint" or parts.F is None:
            return self.without_bridge(G)
        g, coarse = parts.gate, slice(n, n + c)
        if parts.layer_bridge == "exchange":
            X = self.without_bridge(G)
            at_change = g * self.factor[coarse] * parts.S_coarse.transposed_times(self.factor[:n] * G[:, :n])
            X[:, coarse] -= at_change
            X[:, n + c :] += parts.S_fine.transposed_times(at_change)
            return X
        at_change = parts.S_coarse.transposed_times(G[:, :n]) + G[:, coarse]
        at_Y = G.copy()
        at_Y[:, coarse] -= g * at_change
        at_Y[:, n + c :] += (2 * g - 1) * parts.S_fine.transposed_times(at_change)
        return self.without_bridge(at_Y)

    def over_interactions(self, X: np.ndarray) -> np.ndarray:
        """A X, shape (w, N); A is symmetric."""
        return self.bipartite * _bipartite_product(self.R, self.parts.n_users, self.bipartite * X)

    def without_bridge(self, X: np.ndarray) -> np.ndarray:
        """A X after joint training, else X_hat X; both are symmetric."""
        if self.factor is None:
            return self.over_interactions(X)
        n = self.parts.sizes[0]
        scaled = self.factor * X
        Y = np.zeros_like(X)
        Y[:, :n] = self.over_interactions(scaled[:, :n])
        for S, rows, columns in _links(self.parts):
            Y[:, rows] += S.times(scaled[:, columns])
            Y[:, columns] += S.transposed_times(scaled[:, rows])
        Y *= self.factor
        return Y


def layer_of(parts: Parts, R: Compact) -> Layer:
    """The layer of a model over its training interactions."""
    entries = np.concatenate([R.lengths(), R.transposed_times(np.ones((1, parts.n_users)))[0]])
    bipartite = roots_of_counts(entries)
    factor = None if parts.training == "joint" else _expanded_factor(parts, R, bipartite).astype(parts.dtype)
    return Layer(parts, R, bipartite.astype(parts.dtype), factor)


def _expanded_factor(parts: Parts, R: Compact, bipartite: np.ndarray) -> np.ndarray:
    """D^-1/2 of the expanded graph, shape (N + C + M,), float64."""
    A_sums = bipartite * _bipartite_product(R, parts.n_users, bipartite[None])[0]
    signed, absolute = np.zeros(parts.n_nodes), np.zeros(parts.n_nodes)
    for sums, magnitudes in ((signed, False), (absolute, True)):
        sums[: len(A_sums)] = A_sums
        for S, rows, columns in _links(parts):
            S = S.magnitudes() if magnitudes else S
            sums[rows] += S.times(np.ones((1, S.shape[1])))[0]
            sums[columns] += S.transposed_times(np.ones((1, S.shape[0])))[0]
    return inverse_roots(signed, absolute, parts.degree, parts.dtype)


def _bipartite_product(R: Compact, n_users: int, X: np.ndarray) -> np.ndarray:
    """[[0, R], [R^T, 0]] X, shape (w, N)."""
    return np.concatenate([R.times(X[:, n_users:]), R.transposed_times(X[:, :n_users])], axis=1)


def _links(parts: Parts) -> list[tuple[Compact, slice, slice]]:
    """The assignments in the expanded graph, and which nodes each of them links."""
    n, c, m = parts.sizes
    entities, coarse, fine = slice(0, n), slice(n, n + c), slice(n + c, n + c + m)
    links = [(parts.S_coarse, entities, coarse)]
    return links if parts.S_fine is None else [*links, (parts.S_fine, coarse, fine)]
