"""Notebook 13: training steps with one wrong part each, and what marks a reader who looks for it.

The model of these steps is the coarse stage of notebook 06 with a fine codebook beside it:

    F = soft_threshold(E_f, tau),  Z = tanh(S_c E_c + S_d F),  X_0 = [Z; E_c],  H = mean of X_0, ..., X_L over X_hat(R, S_c)
    loss = mean softplus(x) + (decay / B) (sum of |Z_u|^2 + |Z_i|^2 + |Z_j|^2),   x = <H_u, H_j - H_i> + b_j - b_i

`Step` is right. Each wrong step replaces one small method of it, and is told by the name of its part.

Shapes
------
R : (U, I) csr     A : (N, N)     S_c : (N, C)     S_d : (N, M), dense or csr     E_c : (C, d)     E_f : (M, d)     b : (N,)
user, positive, negative : (B,) numbers of entities, users first     X_hat : (N + C, N + C)
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse

from ..model.graph import normalised_adjacency
from .blind_spots import Candidate, TestExercise
from .exercise import Mistake
from .gradient_checks import central_difference, relative_error
from .loss_and_optimiser import sigmoid

Theta = dict[str, np.ndarray]


class Batch(NamedTuple):
    """Triples: numbers of entities, users first."""

    user: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


@dataclass(frozen=True)
class Case:
    """What a step is given besides what it trains."""

    R: sparse.csr_array
    A: np.ndarray | sparse.csr_array
    S_c: np.ndarray | sparse.csr_array
    S_d: np.ndarray | sparse.csr_array
    tau: float
    decay: float
    n_layers: int


# ---- the right step --------------------------------------------------------------------------------------------------
class Step:
    """A training step in its parts. `fresh()` gives one that has not been used."""

    part = "nothing"

    def fresh(self) -> Step:
        return type(self)()

    def __repr__(self) -> str:
        return "a training step"

    # What a check may call.

    def sample(self, R, rng) -> Batch:
        """As many triples as there are interactions: a user, one of the user's items, one of the others."""
        n_users, n_items = R.shape
        with_items = np.flatnonzero(np.diff(R.indptr))
        user = rng.choice(with_items, R.nnz)
        positive = R.indices[R.indptr[user] + rng.integers(0, np.diff(R.indptr)[user])]
        return Batch(user, positive + n_users, self._negatives(R, user, rng) + n_users)

    def propagate(self, X0, X_hat, n_layers):
        """The mean of X_0, X_hat X_0, ..., X_hat^L X_0."""
        layer = total = X0
        for _ in range(n_layers):
            layer = X_hat @ layer
            total = total + layer
        return total / (n_layers + 1)

    def propagate_backward(self, grad_H, X_hat, n_layers):
        """Its transpose."""
        layer = total = grad_H
        for _ in range(n_layers):
            layer = X_hat.T @ layer
            total = total + layer
        return total / (n_layers + 1)

    def embeddings(self, theta: Theta, case: Case):
        """H of the entities."""
        return self._forward(theta, case)[2][: case.S_c.shape[0]]

    def loss(self, theta: Theta, case: Case, batch: Batch) -> float:
        _, Z, H = self._forward(theta, case)
        penalty = sum(np.sum(Z[rows] ** 2) for rows in batch)
        return float(np.mean(np.logaddexp(0, _differences(H, theta["b"], batch))) + case.decay / len(batch.user) * penalty)

    def gradients(self, theta: Theta, case: Case, batch: Batch) -> Theta:
        X_hat, Z, H = self._forward(theta, case)
        s = sigmoid(_differences(H, theta["b"], batch)) / len(batch.user)
        grad_H = np.zeros_like(H)
        for rows, values in zip(batch, self._row_gradients(H, batch, s), strict=True):
            self._add(grad_H, rows, values)
        grad_X0 = self.propagate_backward(grad_H, X_hat, case.n_layers)
        grad_Z = grad_X0[: len(Z)] + self._penalty_backward(Z, H, case, batch)
        grad_Y = grad_Z * (1 - Z**2)
        return {
            "E_c": self._coarse_gradient(grad_Y, grad_X0[len(Z) :], case),
            "E_f": self._threshold_backward(case.S_d.T @ grad_Y, theta["E_f"], case.tau),
            "b": self._bias_gradient(s, batch, theta["b"]),
        }

    def update(self, theta: Theta, gradients: Theta, memory: dict | None, rate: float) -> tuple[Theta, dict]:
        """Clip by value to [-3, 3], then Adam (0.9, 0.999, 1e-8). `memory` is None before the first step."""
        memory = memory or {"step": 0, "m": dict.fromkeys(theta, 0.0), "v": dict.fromkeys(theta, 0.0)}
        new, after = {}, {"step": memory["step"] + 1, "m": {}, "v": {}}
        for name, value in theta.items():
            g = np.clip(gradients[name], -3, 3)
            after["m"][name] = 0.9 * memory["m"][name] + 0.1 * g
            after["v"][name] = 0.999 * memory["v"][name] + 0.001 * g**2
            m_hat, v_hat = self._corrected(after["m"][name], after["v"][name], after["step"])
            new[name] = value - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        return new, after

    # One of these is replaced in a wrong step.

    def _graph(self, case: Case):
        return expanded_graph(case.A, case.S_c)

    def _negatives(self, R, user, rng):
        negative = rng.integers(0, R.shape[1], len(user))
        while (known := _has(R, user, negative)).any():
            negative[known] = rng.integers(0, R.shape[1], known.sum())
        return negative

    def _row_gradients(self, H, batch, s):
        u, i, j = (H[rows] for rows in batch)
        return s[:, None] * (j - i), -s[:, None] * u, s[:, None] * u

    def _add(self, grad, rows, values):
        np.add.at(grad, rows, values)

    def _penalty_backward(self, Z, H, case, batch):
        counts = np.bincount(np.concatenate(batch), minlength=len(Z))
        return 2 * case.decay / len(batch.user) * counts[:, None] * Z

    def _coarse_gradient(self, grad_Y, grad_coarse_rows, case):
        return case.S_c.T @ grad_Y + grad_coarse_rows

    def _threshold_backward(self, grad_F, E_f, tau):
        return grad_F * (np.abs(E_f) > tau)

    def _bias_gradient(self, s, batch, b):
        grad = np.zeros_like(b)
        np.add.at(grad, batch.positive, -s)
        np.add.at(grad, batch.negative, s)
        return grad

    def _corrected(self, m, v, step):
        return m / (1 - 0.9**step), v / (1 - 0.999**step)

    def _forward(self, theta: Theta, case: Case):
        F = np.sign(theta["E_f"]) * np.maximum(np.abs(theta["E_f"]) - case.tau, 0)
        Z = np.tanh(case.S_c @ theta["E_c"] + case.S_d @ F)
        X_hat = self._graph(case)
        return X_hat, Z, self.propagate(np.concatenate([Z, theta["E_c"]]), X_hat, case.n_layers)


def _differences(H, b, batch):
    u, i, j = batch
    return np.sum(H[u] * (H[j] - H[i]), axis=1) + b[j] - b[i]


def _has(R, user, item):
    """Whether each user has the item, for R with sorted columns."""
    n_items = R.shape[1]
    keys = np.repeat(np.arange(R.shape[0]), np.diff(R.indptr)) * n_items + R.indices
    return np.isin(user * n_items + item, keys)


def expanded_graph(A, S_c):
    """norm([[A, S_c], [S_c^T, 0]]), dense or sparse as A is."""
    if sparse.issparse(A):
        X = sparse.csr_array(sparse.block_array([[A, S_c], [S_c.T, None]]))
        half = sparse.diags_array(_inverse_root(X.sum(axis=1)))
        return sparse.csr_array(half @ X @ half)
    X = np.block([[A, S_c], [S_c.T, np.zeros((S_c.shape[1], S_c.shape[1]))]])
    half = _inverse_root(X.sum(axis=1))
    return half[:, None] * X * half


def _inverse_root(sums):
    return np.where(sums > 0, 1 / np.sqrt(np.where(sums > 0, sums, 1)), 0.0)


# ---- wrong steps, three kinds of each --------------------------------------------------------------------------------
class Untransposed(Step):
    part = "propagation"

    def propagate_backward(self, grad_H, X_hat, n_layers):
        layer = total = grad_H
        for _ in range(n_layers):
            layer = X_hat @ layer
            total = total + layer
        return total / (n_layers + 1)


class TransposedOnce(Step):
    part = "propagation"

    def propagate_backward(self, grad_H, X_hat, n_layers):
        layer = total = grad_H
        for k in range(n_layers):
            layer = (X_hat if k else X_hat.T) @ layer
            total = total + layer
        return total / (n_layers + 1)


class Symmetrised(Step):
    part = "propagation"

    def propagate_backward(self, grad_H, X_hat, n_layers):
        return Step.propagate_backward(self, grad_H, (X_hat + X_hat.T) / 2, n_layers)


class WithoutDirectWay(Step):
    part = "fork"

    def _coarse_gradient(self, grad_Y, grad_coarse_rows, case):
        return case.S_c.T @ grad_Y


class WithoutComposition(Step):
    part = "fork"

    def _coarse_gradient(self, grad_Y, grad_coarse_rows, case):
        return grad_coarse_rows


class MeanOfBothWays(Step):
    part = "fork"

    def _coarse_gradient(self, grad_Y, grad_coarse_rows, case):
        return (case.S_c.T @ grad_Y + grad_coarse_rows) / 2


class Overwrites(Step):
    part = "repeated rows"

    def _add(self, grad, rows, values):
        grad[rows] += values


class EachRowOnce(Step):
    part = "repeated rows"

    def _add(self, grad, rows, values):
        once, first = np.unique(rows, return_index=True)
        grad[once] += values[first]


class MeanOfRepeated(Step):
    part = "repeated rows"

    def _add(self, grad, rows, values):
        sums = np.zeros_like(grad)
        np.add.at(sums, rows, values)
        grad += sums / np.maximum(np.bincount(rows, minlength=len(grad)), 1)[:, None]


class PullsEveryRow(Step):
    part = "penalty"

    def _penalty_backward(self, Z, H, case, batch):
        return 2 * case.decay * 3 / len(Z) * Z


class PullsUsersOnly(Step):
    part = "penalty"

    def _penalty_backward(self, Z, H, case, batch):
        counts = np.bincount(batch.user, minlength=len(Z))
        return 2 * case.decay / len(batch.user) * counts[:, None] * Z


class PullsPropagated(Step):
    part = "penalty"

    def _penalty_backward(self, Z, H, case, batch):
        counts = np.bincount(np.concatenate(batch), minlength=len(Z))
        return 2 * case.decay / len(batch.user) * counts[:, None] * H[: len(Z)]


class NegativeWithoutBias(Step):
    part = "biases"

    def _bias_gradient(self, s, batch, b):
        grad = np.zeros_like(b)
        np.add.at(grad, batch.positive, -s)
        return grad


class UserWithBias(Step):
    part = "biases"

    def _bias_gradient(self, s, batch, b):
        grad = np.zeros_like(b)
        np.add.at(grad, batch.positive, -s)
        np.add.at(grad, batch.negative, s)
        np.add.at(grad, batch.user, -s)
        return grad


class BiasOfTheSum(Step):
    part = "biases"

    def _bias_gradient(self, s, batch, b):
        return len(s) * Step._bias_gradient(self, s, batch, b)


class WithoutThreshold(Step):
    part = "threshold"

    def _threshold_backward(self, grad_F, E_f, tau):
        return grad_F


class OneSide(Step):
    part = "threshold"

    def _threshold_backward(self, grad_F, E_f, tau):
        return grad_F * (E_f > -tau)


class FixedThreshold(Step):
    part = "threshold"

    def _threshold_backward(self, grad_F, E_f, tau):
        return grad_F * (np.abs(E_f) > 0.1)


class ClippedBeforeTheMean(Step):
    part = "clipping"
    limit = 0.2

    def _row_gradients(self, H, batch, s):
        n = len(s)
        return tuple(np.clip(n * rows, -self.limit, self.limit) / n for rows in Step._row_gradients(self, H, batch, s))


class ClippedLater(ClippedBeforeTheMean):
    limit = 0.5


class ClippedByNorm(Step):
    part = "clipping"

    def _row_gradients(self, H, batch, s):
        n, found = len(s), []
        for rows in Step._row_gradients(self, H, batch, s):
            length = n * np.linalg.norm(rows, axis=1, keepdims=True)
            found.append(rows * np.minimum(1, 0.5 / np.maximum(length, 1e-300)))
        return tuple(found)


class Uncorrected(Step):
    part = "Adam"

    def _corrected(self, m, v, step):
        return m, v


class CorrectedAsTheFirst(Step):
    part = "Adam"

    def _corrected(self, m, v, step):
        return m / (1 - 0.9), v / (1 - 0.999)


class MeanUncorrected(Step):
    part = "Adam"

    def _corrected(self, m, v, step):
        return m, v / (1 - 0.999**step)


class FirstGraph(Step):
    part = "graph"

    def __init__(self):
        self._known = None

    def _graph(self, case):
        if self._known is None:
            self._known = expanded_graph(case.A, case.S_c)
        return self._known


class SameLinksSameGraph(Step):
    part = "graph"

    def __init__(self):
        self._known = {}

    def _graph(self, case):
        pattern = sparse.csr_array(case.S_c).indices.tobytes()
        return self._known.setdefault(pattern, expanded_graph(case.A, case.S_c))


class FirstGraphBackward(Step):
    part = "graph"

    def __init__(self):
        self._known = None

    def propagate_backward(self, grad_H, X_hat, n_layers):
        if self._known is None or self._known.shape != X_hat.shape:
            self._known = X_hat.T
        return Step.propagate_backward(self, grad_H, self._known.T, n_layers)


class SameNegatives(Step):
    part = "sampling"

    def _negatives(self, R, user, rng):
        return Step._negatives(self, R, user, np.random.default_rng(0))


class SameTriples(Step):
    part = "sampling"

    def sample(self, R, rng):
        return Step.sample(self, R, np.random.default_rng(0))


class KnownNegatives(Step):
    part = "sampling"

    def _negatives(self, R, user, rng):
        return rng.integers(0, R.shape[1], len(user))


#: One of each kind in the notebook's order; the second and the third kind are for marking.
_KINDS = (
    (Overwrites, EachRowOnce, MeanOfRepeated),
    (Uncorrected, CorrectedAsTheFirst, MeanUncorrected),
    (WithoutDirectWay, WithoutComposition, MeanOfBothWays),
    (FirstGraph, SameLinksSameGraph, FirstGraphBackward),
    (WithoutThreshold, OneSide, FixedThreshold),
    (SameNegatives, SameTriples, KnownNegatives),
    (PullsEveryRow, PullsUsersOnly, PullsPropagated),
    (Untransposed, TransposedOnce, Symmetrised),
    (NegativeWithoutBias, UserWithBias, BiasOfTheSum),
    (ClippedBeforeTheMean, ClippedLater, ClippedByNorm),
)
#: What `diagnose` may answer.
PARTS = (*sorted(kinds[0].part for kinds in _KINDS), Step.part)


def ten_steps() -> list[Step]:
    """Ten training steps. One part of each is wrong."""
    return [kinds[0]() for kinds in _KINDS]


def wrong_lines(step: Step) -> str:
    """What is wrong in a step: its method, and below it the right one."""
    own = next(name for name in vars(type(step)) if inspect.isfunction(vars(type(step))[name]) and name != "__init__")
    texts = [textwrap.dedent(inspect.getsource(vars(each)[own])) for each in (type(step), Step)]
    return f"# {step.part}: wrong\n{texts[0]}\n# right\n{texts[1]}"


# ---- points to look at -----------------------------------------------------------------------------------------------
def example(seed: int = 0) -> tuple[Case, Theta, Batch]:
    """A small problem as a hurried person chooses it: no penalty, nobody twice in the batch, small numbers, no row near tau."""
    rng = np.random.default_rng([seed, 13])
    n_users, n_items, n_coarse, n_fine, width = 5, 7, 3, 3, 2
    dense = (rng.random((n_users, n_items)) < 0.4) * 1.0
    dense[np.arange(n_users), rng.permutation(n_items)[:n_users]] = 1
    R = sparse.csr_array(dense)
    n = n_users + n_items
    S_c, S_d = np.zeros((n, n_coarse)), np.zeros((n, n_fine))
    for row, first in enumerate(rng.integers(0, n_coarse, n)):
        S_c[row, first], S_c[row, (first + 1) % n_coarse] = rng.uniform(0.3, 0.7, 2)
    S_d[np.arange(n), rng.integers(0, n_fine, n)] = rng.uniform(0.5, 1, n)
    case = Case(R, normalised_adjacency(R).toarray(), S_c, S_d, tau=0.1, decay=0.0, n_layers=2)
    theta = {
        "E_c": 0.2 * rng.standard_normal((n_coarse, width)),
        "E_f": rng.uniform(0.2, 0.6, (n_fine, width)) * np.where(np.arange(n_fine * width).reshape(n_fine, width) % 2, 1, -1),
        "b": 0.1 * rng.standard_normal(n),
    }
    items = n_users + rng.permutation(n_items)
    return case, theta, Batch(rng.permutation(n_users)[:3], items[:3], items[3:6])


def planted_case(n_coarse: int = 40, n_fine: int = 16, width: int = 16, seed: int = 0) -> tuple[Case, Theta]:
    """The planted data and a start: two coarse links an entity, by a partition of the graph, and a fine one at random."""
    from ..data import load_dataset
    from ..model.starts import partition_entities, start_coarse_assignment

    rng, R = np.random.default_rng([seed, 14]), sparse.csr_array(load_dataset("planted").train, dtype=np.float64)
    n = sum(R.shape)
    parts = partition_entities(R, n_coarse, seed=seed)
    S_c = start_coarse_assignment(parts, n_coarse, 2, 0.5, np.random.default_rng(seed))
    S_d = sparse.csr_array((np.ones(n), (np.arange(n), rng.integers(0, n_fine, n))), shape=(n, n_fine))
    theta = {
        "E_c": rng.standard_normal((n_coarse, width)),
        "E_f": 0.5 * rng.standard_normal((n_fine, width)),
        "b": np.zeros(n),
    }
    return Case(R, normalised_adjacency(R), sparse.csr_array(S_c, dtype=np.float64), S_d, 0.5, 5e-4, 2), theta
