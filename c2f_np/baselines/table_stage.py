"""Models that differ only in how a table of parameters makes the ego embeddings; the rest is LightGCN.

    Z = table(parameters),   H = mean(Z, A Z, ..., A^L Z),   score(u, i) = <H_u, H_i> [+ b_i]
    loss = BPR(H, b) + decay * l2-penalty(Z)

With L = 0 this is matrix factorisation. The loss is that of the model's own stages, term by term, but without tanh and without
meta-embeddings in the graph; they are trained by the model's own loop, in one phase, as there is no assignment to update.

*Hashing* chooses which rows of a shared codebook an entity is the sum of, computed and never stored (multiply-shift hashing,
Dietzfelbinger et al.). Two entities share all of their rows with a probability of about n_rows^-n_hashes.

    row_k(e) = floor(n_rows * h_k(e) / 2^32),   h_k(e) = upper 32 bits of (a_k e + b_k mod 2^64),   a_k odd

*Quotient and remainder* (Shi et al., Compositional Embeddings Using Complementary Partitions, 2020): no two entities have both
rows in common, so that all embeddings may differ, with ceil(N / m) + m rows instead of N.

    Z[e] = Q[e // m] * R[e % m]        entry by entry, e = 0 .. N - 1

Shapes
------
Z, H : (N, d), users first     A : (N, N) normalised adjacency     item_bias : (I,)     S : (N, n_rows)
Q : (ceil(N / m), d)     R : (m, d)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sparse

from ..engine import engine_named
from ..errors import SettingsError
from ..model.loss import Triples, batch_loss_backward
from ..model.sparse import SparseOperator
from ..model.starts import with_singular_vectors
from ..model.step import Forward, Stage
from ..threads import training_threads
from ..training.loop import Phase, Start
from ..training.problem import Problem

Parameters = dict[str, np.ndarray]


# ---- tables ------------------------------------------------------------------------------------------------------------
class Table(Protocol):
    """How parameters make ego embeddings. Frozen; the parameters are handed in."""

    def shapes(self, dim: int) -> dict[str, tuple[int, int]]:
        """The shapes of the parameters, by name."""

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        """Random parameters with which the ego embeddings have the standard deviation `scale`."""

    def ego(self, parameters: Parameters) -> np.ndarray:
        """Z, shape (N, d)."""

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters) -> Parameters:
        """Gradients of ``sum(grad_Z * Z)`` by the parameters' names."""


@dataclass(frozen=True)
class FullTable:
    """A row of its own for every entity, Z = E."""

    n_entities: int

    def shapes(self, dim: int) -> dict[str, tuple[int, int]]:
        return {"embeddings": (self.n_entities, dim)}

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        return _normal(self.shapes(dim), scale, rng)

    def ego(self, parameters: Parameters) -> np.ndarray:
        return parameters["embeddings"]

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters) -> Parameters:
        return {"embeddings": grad_Z}


@dataclass(frozen=True)
class HashedTable:
    """Every entity is the sum of a few shared rows, chosen by hashing: Z = S E, with ones in S (a 2 where two hashes meet)."""

    n_entities: int
    n_rows: int
    n_hashes: int
    seed: int
    dtype: str = "float32"
    engine: str = "numpy"

    @cached_property
    def assignment(self) -> SparseOperator:
        """S with its transpose, computed at first use."""
        S = hash_assignment(self.n_entities, self.n_rows, self.n_hashes, self.seed, self.dtype)
        return engine_named(self.engine).operator(S)

    def shapes(self, dim: int) -> dict[str, tuple[int, int]]:
        return {"codebook": (self.n_rows, dim)}

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        return _normal(self.shapes(dim), scale / self.n_hashes**0.5, rng)

    def ego(self, parameters: Parameters) -> np.ndarray:
        return self.assignment.forward(parameters["codebook"])

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters) -> Parameters:
        return {"codebook": self.assignment.adjoint(grad_Z)}


@dataclass(frozen=True)
class QuotientRemainderTable:
    """Z[e] = Q[e // m] * R[e % m], users and items numbered jointly."""

    n_entities: int
    n_remainders: int

    @property
    def n_quotients(self) -> int:
        return -(-self.n_entities // self.n_remainders)

    def shapes(self, dim: int) -> dict[str, tuple[int, int]]:
        return {"quotients": (self.n_quotients, dim), "remainders": (self.n_remainders, dim)}

    def start(self, dim: int, scale: float, rng: np.random.Generator) -> Parameters:
        return _normal(self.shapes(dim), scale**0.5, rng)

    def ego(self, parameters: Parameters) -> np.ndarray:
        return compose_products(parameters["quotients"], parameters["remainders"], self.n_entities)

    def ego_backward(self, grad_Z: np.ndarray, parameters: Parameters) -> Parameters:
        grad_Q, grad_R = compose_products_backward(grad_Z, parameters["quotients"], parameters["remainders"])
        return {"quotients": grad_Q, "remainders": grad_R}


def _normal(shapes: dict[str, tuple[int, int]], deviation: float, rng: np.random.Generator) -> Parameters:
    return {name: deviation * rng.standard_normal(shape) for name, shape in shapes.items()}


def hashed_rows(n_entities: int, n_rows: int, n_hashes: int, seed: int) -> np.ndarray:
    """The codebook rows of entities 0 .. N - 1, int64 of shape (N, n_hashes).

    Raises
    ------
    SettingsError
        If there is no row or no hash function.
    """
    if not 1 <= n_rows < 2**32 or n_hashes < 1:
        raise SettingsError(f"hashing needs rows and hash functions, not {n_rows} rows and {n_hashes} functions")
    factors = np.random.default_rng([seed, 0x68617368]).integers(0, 2**64, size=(2, n_hashes), dtype=np.uint64)
    odd, shift = factors[0] | np.uint64(1), factors[1]
    # uint64 arithmetic on arrays wraps around, which is the "mod 2^64".
    hashes = (np.arange(n_entities, dtype=np.uint64)[:, None] * odd + shift) >> np.uint64(32)
    return ((hashes * np.uint64(n_rows)) >> np.uint64(32)).astype(np.int64)


def hash_assignment(n_entities: int, n_rows: int, n_hashes: int, seed: int, dtype: Any = np.float64) -> sparse.csr_array:
    """The same as a matrix S, shape (N, n_rows)."""
    rows = hashed_rows(n_entities, n_rows, n_hashes, seed)
    ends = np.arange(0, rows.size + 1, n_hashes)
    S = sparse.csr_array((np.ones(rows.size, dtype), rows.ravel(), ends), shape=(n_entities, n_rows))
    S.sum_duplicates()
    return S


def compose_products(Q: np.ndarray, R: np.ndarray, n_entities: int) -> np.ndarray:
    """Z: as the entities are numbered one after the other, the table of all products, cut off after N rows.

    Raises
    ------
    SettingsError
        If there are not just enough quotient rows.
    """
    if len(Q) != -(-n_entities // len(R)):
        raise SettingsError(f"{n_entities} entities and {len(R)} remainder rows need {-(-n_entities // len(R))} quotient rows")
    return (Q[:, None, :] * R[None, :, :]).reshape(-1, Q.shape[1])[:n_entities]


def compose_products_backward(grad_Z: np.ndarray, Q: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """grad_Q and grad_R: a row collects from every entity that uses it, times the entity's other row.

    The last block may be incomplete: its missing entities have the cotangent 0.
    """
    table = np.zeros((len(Q) * len(R), Q.shape[1]), dtype=grad_Z.dtype)
    table[: len(grad_Z)] = grad_Z
    table = table.reshape(len(Q), len(R), -1)
    return np.sum(table * R[None, :, :], axis=1), np.sum(table * Q[:, None, :], axis=0)


# ---- training ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class TableState:
    """The parameters of a table model, as the training loop sees them."""

    arrays: Parameters
    n_entities: int
    is_fine = False

    @property
    def bias(self) -> np.ndarray:
        """Of all entities: users have none."""
        item_bias = self.arrays.get("item_bias", np.zeros(0, self.dtype))
        return np.concatenate([np.zeros(self.n_entities - len(item_bias), self.dtype), item_bias])

    @property
    def bias_global(self) -> np.ndarray:
        return np.zeros(1, self.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        return next(iter(self.arrays.values())).dtype

    def item_bias(self, n_users: int) -> np.ndarray | None:
        return self.arrays.get("item_bias")

    def parameters(self, names: tuple[str, ...]) -> Parameters:
        return {name: self.arrays[name] for name in names}

    def moved(self, parameters: Parameters) -> TableState:
        return dataclasses.replace(self, arrays=parameters)


@dataclass(frozen=True)
class TableStage(Stage):
    """A table model as training sees it (`c2f_np.model.step`)."""

    table: Table
    n_layers: int
    trained: tuple[str, ...]
    engine: ModuleType

    def random(self, seed: int, name: str, epoch: int) -> np.random.Generator:
        return np.random.default_rng([seed, epoch + 1])

    def graph(self, state: TableState, A: sparse.csr_array) -> SparseOperator:
        return self.engine.symmetric_operator(A)

    def forward(self, state: TableState, graph: SparseOperator, *, batch: Triples | None = None) -> Forward:
        Z = self.table.ego(state.arrays)
        rows = None if batch is None else batch.entities
        return Forward(Z, self.engine.propagate(Z, graph, self.n_layers, rows=rows), None, rows)

    def gradients(
        self, forward: Forward, slope: np.ndarray, state: TableState, graph: SparseOperator, triples: Triples,
        *, l2: float, decay: float,
    ) -> Parameters:  # fmt: skip
        """Z affects the loss along two paths, through the graph and through the regulariser; the table passes on the sum."""
        grad_H, grad_bias, _ = batch_loss_backward(forward, slope, triples, engine=self.engine)
        grad_Z = self.engine.propagate_backward(grad_H, graph, self.n_layers, rows=triples.entities)
        grad_Z = self.engine.squared_norm_penalty_backward(decay, forward.Z, triples, l2, grad_Z)
        gradients = self.table.ego_backward(grad_Z, state.arrays)
        if "item_bias" in self.trained:
            gradients["item_bias"] = grad_bias[triples.n_entities - len(state.arrays["item_bias"]) :]
        return gradients


@dataclass(frozen=True)
class TableProblem(Problem):
    """Data and settings of a table model; the settings are the estimator's parameters."""

    settings: Any

    @property
    def threads(self) -> int:
        return training_threads(self.settings.threads, self.A.nnz, self.settings.dim)


def table_phase(table: Table, problem: TableProblem) -> Phase:
    """The one phase of a table model."""
    s = problem.settings
    arrays = table.start(s.dim, s.start_scale, np.random.default_rng([s.seed, 0]))
    if s.table_start == "svd":  # only what has a row for every entity may be told so
        arrays["embeddings"] = with_singular_vectors(arrays["embeddings"], problem.R, s.seed)
    if s.item_bias:
        arrays["item_bias"] = np.zeros(problem.n_items)
    state = TableState({name: value.astype(s.dtype) for name, value in arrays.items()}, problem.n_users + problem.n_items)
    stage = TableStage(table, s.n_layers, tuple(arrays), problem.engine)
    return Phase(
        "table", stage, lambda finished, problem: Start(state), s.max_epochs, s.patience, s.lr, s.batch, s.lr_schedule
    )
