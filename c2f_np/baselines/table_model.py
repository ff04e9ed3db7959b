"""Models that differ only in how a table of parameters makes the ego embeddings; the rest is LightGCN.

    Z = table(parameters),   H = mean(Z, A Z, ..., A^L Z),   score(u, i) = <H_u, H_i> [+ b_i]
    loss = BPR(H, b) + decay * regulariser(Z)

With L = 0 this is matrix factorisation. The loss is that of the model's own stages, term by term, but without tanh and without
codebook nodes in the graph. All gradients are written by hand.

Shapes
------
Z, H : (N, d), users first     A : (N, N) normalised adjacency     item_bias : (I,)     rows : (K,) entities of a batch
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ..operations.hashing import hash_assignment
from ..operations.propagation import propagate, propagate_backward
from ..operations.regulariser import squared_norm_penalty_backward
from ..operations.sparse_operator import SparseOperator, as_operator
from ..operations.sparse_product import sparse_product, sparse_product_backward
from ..operations.table_composition import compose_products, compose_products_backward
from ..operations.triples import Triples
from ..stages.batch_loss import batch_loss, batch_loss_backward
from ..stages.state import Loss

Parameters = dict[str, np.ndarray]


class Table(Protocol):
    """How parameters make ego embeddings. Frozen; the parameters are handed in."""

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        """Random parameters with which the ego embeddings have the standard deviation `scale`."""

    def ego(self, parameters: Parameters, *, engine: str) -> np.ndarray:
        """Z, shape (N, d)."""

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters, *, engine: str) -> Parameters:
        """Gradients of ``sum(grad_Z * Z)`` by the parameters' names."""


@dataclass(frozen=True)
class FullTable:
    """A row of its own for every entity, Z = E."""

    n_entities: int

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        return {"embeddings": scale * rng.standard_normal((self.n_entities, dim))}

    def ego(self, parameters: Parameters, *, engine: str) -> np.ndarray:
        return parameters["embeddings"]

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters, *, engine: str) -> Parameters:
        return {"embeddings": grad_Z}


@dataclass(frozen=True)
class HashedTable:
    """Every entity is the sum of a few shared rows, chosen by hashing: Z = S E (:mod:`c2f_np.operations.hashing`)."""

    n_entities: int
    n_rows: int
    n_hashes: int
    seed: int
    dtype: str = "float32"

    @cached_property
    def assignment(self) -> SparseOperator:
        """S with its transpose, computed at first use."""
        return as_operator(hash_assignment(self.n_entities, self.n_rows, self.n_hashes, self.seed, self.dtype))

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        return {"codebook": scale / self.n_hashes**0.5 * rng.standard_normal((self.n_rows, dim))}

    def ego(self, parameters: Parameters, *, engine: str) -> np.ndarray:
        return sparse_product(self.assignment, parameters["codebook"], engine=engine)

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters, *, engine: str) -> Parameters:
        return {"codebook": sparse_product_backward(grad_Z, self.assignment, engine=engine)}


@dataclass(frozen=True)
class QuotientRemainderTable:
    """Z[e] = E_q[e // m] * E_r[e % m], users and items numbered jointly (:mod:`c2f_np.operations.table_composition`)."""

    n_entities: int
    n_remainders: int

    @property
    def n_quotients(self) -> int:
        return -(-self.n_entities // self.n_remainders)

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        shapes = {"quotients": (self.n_quotients, dim), "remainders": (self.n_remainders, dim)}
        return {name: scale**0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}

    def ego(self, parameters: Parameters, *, engine: str) -> np.ndarray:
        return compose_products(parameters["quotients"], parameters["remainders"], self.n_entities)

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters, *, engine: str) -> Parameters:
        grad_Q, grad_R = compose_products_backward(grad_Z, parameters["quotients"], parameters["remainders"])
        return {"quotients": grad_Q, "remainders": grad_R}


@dataclass(frozen=True)
class TableForward:
    """What the forward pass computed; see :class:`c2f_np.stages.coarse.CoarseForward`.

    Attributes
    ----------
    Z : ndarray, shape (N, d)
    H_entities : ndarray, shape (N, d), or (K, d) for a batch
    rows : ndarray of int, shape (K,), or None
    """

    Z: np.ndarray
    H_entities: np.ndarray
    rows: np.ndarray | None = None


def table_forward(
    parameters: Parameters, table: Table, A: SparseOperator, n_layers: int, *, batch: Triples | None = None, engine: str = "numpy"
) -> TableForward:
    """Embeddings of all entities, or of a batch's.

    Parameters
    ----------
    parameters : dict of str to ndarray
    table : Table
    A : SparseOperator, shape (N, N)
    n_layers : int
    batch : Triples, optional
        Compute H only for the entities that occur here.
    engine : {"numpy", "numba"}

    Returns
    -------
    TableForward
    """
    Z = table.ego(parameters, engine=engine)
    rows = None if batch is None else batch.occurrences.entities
    return TableForward(Z, propagate(Z, A, n_layers, rows=rows, engine=engine), rows)


def table_loss(
    forward: TableForward, parameters: Parameters, triples: Triples, *, l2: float, decay: float, engine: str = "numpy"
) -> tuple[Loss, np.ndarray]:
    """Loss of a batch and the slopes for its gradients; see :func:`c2f_np.stages.batch_loss.batch_loss`."""
    dtype = forward.Z.dtype
    bias = np.zeros(triples.n_entities, dtype)
    if "item_bias" in parameters:
        item_bias = parameters["item_bias"]
        bias = np.concatenate([bias[: triples.n_entities - len(item_bias)], item_bias])
    return batch_loss(forward, bias, np.zeros(1, dtype), triples, l2=l2, decay=decay, engine=engine)


def table_gradients(
    forward: TableForward,
    slope: np.ndarray,
    parameters: Parameters,
    table: Table,
    A: SparseOperator,
    triples: Triples,
    *,
    n_layers: int,
    l2: float,
    decay: float,
    engine: str = "numpy",
) -> Parameters:
    """Gradients of the total loss with respect to all parameters.

    Z affects the loss along two paths, through the graph and through the regulariser; the table gets the sum.

    Parameters
    ----------
    forward : TableForward
    slope : ndarray, shape (B,)
        From :func:`table_loss`.
    parameters : dict of str to ndarray
    table : Table
    A : SparseOperator, shape (N, N)
    triples : Triples
    n_layers : int
    l2, decay : float
    engine : {"numpy", "numba"}

    Returns
    -------
    dict of str to ndarray
        Of the names and shapes of `parameters`.
    """
    rows = triples.occurrences.entities
    grad_H, grad_bias, _ = batch_loss_backward(forward, slope, triples, engine=engine)
    grad_Z = propagate_backward(grad_H, A, n_layers, rows=rows, engine=engine)
    grad_Z = squared_norm_penalty_backward(decay, forward.Z, triples, l2, onto=grad_Z, engine=engine)
    gradients = table.ego_backward(grad_Z, parameters, engine=engine)
    if "item_bias" in parameters:
        gradients["item_bias"] = grad_bias[triples.n_entities - len(parameters["item_bias"]) :]
    return gradients
