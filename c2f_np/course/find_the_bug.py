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

from ..data import load_dataset
from ..model.graph import normalised_adjacency
from ..model.starts import partition_entities, start_coarse_assignment
from .blind_spots import Candidate, TestExercise
from .exercise import Mistake
from .gradient_checks import adjoint_gap, central_difference, gradient_gap, relative_error
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
        return grad_F * (E_f > tau)


class FixedThreshold(Step):
    part = "threshold"

    def _threshold_backward(self, grad_F, E_f, tau):
        return grad_F * (np.abs(E_f) > 0.1)


class ClippedBeforeTheMean(Step):
    part = "clipping"
    limit = 0.15

    def _row_gradients(self, H, batch, s):
        n = len(s)
        return tuple(np.clip(n * rows, -self.limit, self.limit) / n for rows in Step._row_gradients(self, H, batch, s))


class ClippedLater(ClippedBeforeTheMean):
    limit = 0.25


class ClippedByNorm(Step):
    part = "clipping"

    def _row_gradients(self, H, batch, s):
        n, found = len(s), []
        for rows in Step._row_gradients(self, H, batch, s):
            length = n * np.linalg.norm(rows, axis=1, keepdims=True)
            found.append(rows * np.minimum(1, 0.25 / np.maximum(length, 1e-300)))
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


class RightInLoops(Step):
    """Right, and written otherwise: Horner's rule, loops, one-hot matrices, sums updated in place of moments corrected."""

    def propagate(self, X0, X_hat, n_layers):
        total = X0
        for _ in range(n_layers):
            total = X0 + X_hat @ total
        return total / (n_layers + 1)

    def propagate_backward(self, grad_H, X_hat, n_layers):
        total = grad_H
        for _ in range(n_layers):
            total = grad_H + X_hat.T @ total
        return total / (n_layers + 1)

    def _add(self, grad, rows, values):
        grad += np.eye(len(grad))[:, rows] @ values

    def _penalty_backward(self, Z, H, case, batch):
        grad = np.zeros_like(Z)
        for rows in batch:
            for e in rows:
                grad[e] += 2 * case.decay / len(rows) * Z[e]
        return grad

    def _negatives(self, R, user, rng):
        others = [np.setdiff1d(np.arange(R.shape[1]), R.indices[R.indptr[u] : R.indptr[u + 1]]) for u in user]
        return np.array([rng.choice(each) for each in others])


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
    wrong = next(kind for kind in type(step).__mro__ if any(name in vars(Step) for name in _methods(kind)))
    own = next(name for name in _methods(wrong) if name in vars(Step))
    texts = [textwrap.dedent(inspect.getsource(vars(each)[own])) for each in (wrong, Step)]
    return f"# {step.part}: wrong\n{texts[0]}\n# right\n{texts[1]}"


def _methods(kind: type) -> list[str]:
    return [name for name, value in vars(kind).items() if inspect.isfunction(value) and name != "__init__"]


# ---- points to look at -----------------------------------------------------------------------------------------------
def example(seed: int = 0) -> tuple[Case, Theta, Batch]:
    """A small problem as a hurried person chooses it: no penalty, nobody twice in the batch, small numbers, E_f above tau."""
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
        "E_c": 0.1 * rng.standard_normal((n_coarse, width)),
        "E_f": rng.uniform(0.15, 0.3, (n_fine, width)),
        "b": 0.1 * rng.standard_normal(n),
    }
    items = n_users + rng.permutation(n_items)
    return case, theta, Batch(rng.permutation(n_users)[:3], items[:3], items[3:6])


def planted_case(n_coarse: int = 40, n_fine: int = 16, width: int = 16, seed: int = 0) -> tuple[Case, Theta]:
    """The planted data and a start: two coarse links an entity, by a partition of the graph, and a fine one at random."""
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


# ---- does a part do what it should? ----------------------------------------------------------------------------------
def gaps(step, theta, case, batch):
    found = {}
    for name in theta:

        def loss(x, name=name):
            return step.loss(theta | {name: x}, case, batch)

        def gradient(x, name=name):
            return step.gradients(theta | {name: x}, case, batch)[name]

        found[name] = gradient_gap(loss, gradient, theta[name])
    return found


def gradients_pass(step):
    case, theta, batch = example(0)
    case = dataclasses.replace(case, tau=2.0, decay=0.1)
    theta = {name: 10 * value for name, value in theta.items()}
    theta["E_f"] *= [1, -1]  # of both signs, and on both sides of tau
    batch = Batch(batch.user[[0, 0, 1, 2, 0]], batch.positive[[0, 0, 1, 2, 1]], batch.negative[[0, 2, 0, 1, 0]])
    return max(gaps(step, theta, case, batch).values()) < 1e-6


def propagation_passes(step):
    rng = np.random.default_rng(0)
    X_hat, X, Y = rng.standard_normal((5, 5)), rng.standard_normal((5, 2)), rng.standard_normal((5, 2))

    def forward(X):
        return step.propagate(X, X_hat, 3)

    def backward(G):
        return step.propagate_backward(G, X_hat, 3)

    return adjoint_gap(forward, backward, X, Y) < 1e-12


def has_no_memory(step):
    case, theta, batch = example(0)
    used, new = step.fresh(), step.fresh()
    used.gradients(theta, case, batch)
    later = dataclasses.replace(case, S_c=case.S_c**2)  # the same links, other weights
    if used.loss(theta, later, batch) != new.loss(theta, later, batch):
        return False
    ours, right = (each.gradients(theta, later, batch) for each in (used, new))
    return all(np.array_equal(ours[name], right[name]) for name in right)


def sampling_passes(step):
    rng = np.random.default_rng(0)
    R = sparse.csr_array((rng.random((40, 30)) < 0.2) * 1.0)
    first, second = step.sample(R, rng), step.sample(R, rng)
    has = R.toarray() > 0
    if has[first.user, first.negative - 40].any() or not has[first.user, first.positive - 40].all():
        return False
    same = [np.mean(a == b) for a, b in zip(first, second, strict=True)]  # by chance a few per cent
    return max(same) < 0.3


def update_passes(step):
    theta, gradients = {"x": np.zeros(4)}, {"x": np.array([1.0, -0.5, 1e-3, -2.0])}
    memory = None
    for k in range(1, 6):  # a gradient that stays the same moves everything by the rate, in every step
        theta, memory = step.update(theta, gradients, memory, 0.1)
        if not np.allclose(theta["x"], -0.1 * k * np.sign(gradients["x"]), rtol=1e-4):
            return False
    return True


def diagnose(step):
    if not sampling_passes(step):
        return "sampling"
    if not update_passes(step):
        return "Adam"
    if not has_no_memory(step):
        return "graph"
    if not propagation_passes(step):
        return "propagation"

    def wrong(theta, case, batch):
        return {name for name, gap in gaps(step, theta, case, batch).items() if not gap < 1e-6}

    case, theta, batch = example(0)
    if plain := wrong(theta, case, batch):
        return "biases" if "b" in plain else "fork"
    if wrong(theta, dataclasses.replace(case, decay=0.1), batch):
        return "penalty"
    if wrong(theta | {"E_f": theta["E_f"] * [1, -1]}, dataclasses.replace(case, tau=0.2), batch):
        return "threshold"
    if wrong(theta, case, Batch(batch.user[[0, 0, 1]], batch.positive[[0, 0, 1]], batch.negative[[0, 1, 0]])):
        return "repeated rows"
    if wrong({name: 10 * value for name, value in theta.items()}, case, batch):
        return "clipping"
    return "nothing"


# ---- what marks these checks -----------------------------------------------------------------------------------------
_RIGHT = "your check rejects a part that is right. Is the tolerance below what differences or chance allow?"
_PASSES = {
    "fork": "your check accepts a gradient of E_c with one of its ways to the loss lost. Is each of E_c, E_f and b checked?",
    "biases": "your check accepts a wrong gradient of b. Is each of E_c, E_f and b checked?",
    "repeated rows": "your check accepts a step that loses contributions of an entity. Does one occur twice in your batch?",
    "penalty": "your check accepts a wrong gradient of the penalty. How large is the penalty at your point?",
    "threshold": "your check accepts a wrong gradient of the threshold. Which entries of E_f lie on which side of tau?",
    "clipping": "your check accepts gradients that are clipped, triple by triple, before the mean. How large are yours?",
    "propagation": "your check accepts a propagation whose backward is right on symmetric graphs only.",
    "graph": "your check accepts a step that goes on with the graph it saw first. Compare one that was used with a fresh one.",
    "sampling": "your check accepts a sampler that gives (nearly) the same in every epoch, or known items as negatives.",
    "Adam": "your check accepts an Adam whose moments are corrected wrongly. Does it look at more than the first step?",
}


def _wrong_steps(*parts: str) -> tuple[Candidate, ...]:
    return tuple(Candidate((kind(),), _PASSES[kind.part]) for kinds in _KINDS for kind in kinds if kind.part in parts)


def _right_steps(*others: type[Step]) -> tuple[Candidate, ...]:
    return tuple(Candidate((kind(),), _RIGHT) for kind in (Step, RightInLoops, *others))


def _gradients_at(*, tau=2.0, decay=0.1, scale=10.0, signs=-1, repeated=True, names=("E_c", "E_f", "b"), tolerance=1e-6):
    """A check of gradients at another point, as readers might choose it."""

    def check(step):
        case, theta, batch = example(0)
        case = dataclasses.replace(case, tau=tau, decay=decay)
        theta = {name: scale * value for name, value in theta.items()}
        theta["E_f"] *= [1, signs]
        if repeated:
            batch = Batch(batch.user[[0, 0, 1, 2, 0]], batch.positive[[0, 0, 1, 2, 1]], batch.negative[[0, 2, 0, 1, 0]])
        for name in names:
            right = central_difference(lambda x, n=name: step.loss(theta | {n: x}, case, batch), theta[name], 1e-5)
            if not relative_error(step.gradients(theta, case, batch)[name], right) < tolerance:
                return False
        return True

    return check


def _adjoint_on(graph: Callable, tolerance: float = 1e-12):
    def check(step):
        rng = np.random.default_rng(0)
        X_hat, X, Y = graph(rng.standard_normal((5, 5))), rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
        left, right = np.sum(step.propagate(X, X_hat, 3) * Y), np.sum(X * step.propagate_backward(Y, X_hat, 3))
        return bool(abs(left - right) < tolerance * abs(left))

    return check


def _always(step):
    return True


def _losses_after_use(change: Callable, *, of_gradients: bool):
    def check(step):
        case, theta, batch = example(0)
        used, new, later = step.fresh(), step.fresh(), dataclasses.replace(case, S_c=change(case.S_c))
        used.loss(theta, case, batch), used.gradients(theta, case, batch)
        same = used.loss(theta, later, batch) == new.loss(theta, later, batch)
        ours, right = (each.gradients(theta, later, batch)["E_c"] for each in (used, new))
        return bool(np.array_equal(ours, right) if of_gradients else same)

    return check


def _not_all_the_same(step):
    rng, R = np.random.default_rng(0), sparse.csr_array((np.random.default_rng(1).random((40, 30)) < 0.2) * 1.0)
    first, second = step.sample(R, rng), step.sample(R, rng)
    return not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _never_the_same(step):
    rng, R = np.random.default_rng(0), sparse.csr_array((np.random.default_rng(1).random((40, 30)) < 0.2) * 1.0)
    first, second = step.sample(R, rng), step.sample(R, rng)
    return not np.any(first.negative == second.negative)


def _first_update_only(step):
    theta, _ = step.update({"x": np.zeros(2)}, {"x": np.array([1.0, -0.5])}, None, 0.1)
    return bool(np.allclose(theta["x"], [-0.1, 0.1], rtol=1e-4))


def _update_to_the_last_bit(step):
    theta, _ = step.update({"x": np.zeros(2)}, {"x": np.array([1.0, -0.5])}, None, 0.1)
    return bool(np.array_equal(theta["x"], [-0.1, 0.1]))


@dataclass(repr=False)
class DiagnosisExercise(TestExercise):
    """Asked for is the name of a step's wrong part; `wrong` and `right` hold the steps."""

    __test__ = False

    def mark(self, attempt: Callable, seeds=(0,)):
        return super().mark(attempt, seeds)

    def _message(self, number: int, candidate: Candidate, verdict) -> str | None:
        (step,) = candidate.given
        if isinstance(verdict, Exception):
            return f"with one of the steps your function ends in {type(verdict).__name__}: {verdict}"
        if verdict is None:
            return "your function returns nothing (None). It should return one of the names."
        if not isinstance(verdict, str) or verdict not in PARTS:
            return f"your function should return one of {', '.join(map(repr, PARTS))}, not {verdict!r}."
        if verdict == step.part:
            return None
        if step.part == "nothing":
            return f"a step without a fault is said to have one in {verdict!r}."
        if verdict == "nothing":
            return f"a step with a fault passes everything: {_PASSES[step.part]}"
        return f"a step whose fault is in {step.part!r} is said to have it in {verdict!r}. Which point tells these two apart?"


def _instead(part: str, other: str):
    """A diagnosis that takes one fault for another."""

    def function(step):
        return other if step.part == part else step.part

    return function


_STEP = (
    "It is given a step with the methods `loss(theta, case, batch)`, `gradients(theta, case, batch)`, `propagate(X0, X_hat, "
    "n_layers)`, `propagate_backward(grad_H, X_hat, n_layers)`, `sample(R, rng)`, `update(theta, gradients, memory, rate)` and "
    "`fresh()`. "
)

GIVEN = (gaps,)

#: What the checks of this notebook may call.
_ALLOWED = ("c2f_np.gradcheck", "c2f_np.course.find_the_bug")

EXERCISES = (
    TestExercise(
        "gradients_pass",
        "Write `gradients_pass(step)`. " + _STEP + "Return `True` if its three gradients are those of its loss, and `False` if "
        "one is not. The loss can be trusted. `example(seed)` gives a case, a theta and a batch; choose a point at which no "
        "fault of a gradient can hide.",
        gradients_pass,
        lambda seed: {},
        allowed=_ALLOWED,
        hints=(
            "my.gaps tells how far each gradient is off, at the point that you give it.",
            "The example has no penalty (decay), nobody twice in the batch, and all entries of E_f above tau. Change that.",
            "dataclasses.replace(case, decay=..., tau=...); batch.user[[0, 0, 1]] repeats; {name: 10 * value ...} makes numbers "
            "large.",
        ),
        mistakes=(
            Mistake(_gradients_at(tolerance=1e-14), _RIGHT),
            Mistake(_gradients_at(names=("E_f", "b")), _PASSES["fork"]),
            Mistake(_gradients_at(names=("E_c", "E_f")), _PASSES["biases"]),
            Mistake(_gradients_at(repeated=False), _PASSES["repeated rows"]),
            Mistake(_gradients_at(decay=0.0), _PASSES["penalty"]),
            Mistake(_gradients_at(tau=0.1, signs=1), _PASSES["threshold"]),
            Mistake(_gradients_at(signs=1), _PASSES["threshold"]),
            Mistake(_gradients_at(scale=1.0, tau=0.2), _PASSES["clipping"]),
            Mistake(_always, _PASSES["repeated rows"]),
        ),
        right=_right_steps(SameNegatives, Uncorrected),
        wrong=_wrong_steps("fork", "biases", "repeated rows", "penalty", "threshold", "clipping"),
    ),
    TestExercise(
        "propagation_passes",
        "Write `propagation_passes(step)`: whether `step.propagate_backward(grad_H, X_hat, n_layers)` is the transpose of "
        "`step.propagate(X0, X_hat, n_layers)` for every graph `X_hat`, a square matrix. Return `True` or `False`.",
        propagation_passes,
        lambda seed: {},
        allowed=_ALLOWED,
        hints=(
            "Both are linear maps: my.adjoint_gap needs no step.",
            "The graphs of the model are symmetric. Yours need not be: any random square matrix will do.",
        ),
        mistakes=(
            Mistake(_adjoint_on(lambda M: M + M.T), _PASSES["propagation"]),
            Mistake(_adjoint_on(lambda M: M, 1e-18), _RIGHT),
            Mistake(_always, _PASSES["propagation"]),
        ),
        right=_right_steps(Overwrites),
        wrong=_wrong_steps("propagation"),
    ),
    TestExercise(
        "has_no_memory",
        "Write `has_no_memory(step)`: whether loss and gradients depend on their arguments alone, and not on what the step was "
        "called with before. `step.fresh()` is a step that has not been called. Return `True` or `False`.",
        has_no_memory,
        lambda seed: {},
        allowed=_ALLOWED,
        hints=(
            "Use one of two fresh steps at a first case; then ask both for their loss and gradients at a second case.",
            "The second case should have another S_c, as after an update of the assignment: dataclasses.replace(case, S_c=...).",
            "A graph can be remembered by the pattern of its links. What if only the weights change? And look at gradients too.",
        ),
        mistakes=(
            Mistake(_losses_after_use(lambda S: S[:, ::-1], of_gradients=True), _PASSES["graph"]),
            Mistake(_losses_after_use(lambda S: S**2, of_gradients=False), _PASSES["graph"]),
            Mistake(_losses_after_use(lambda S: S, of_gradients=True), _PASSES["graph"]),
            Mistake(lambda step: False, _RIGHT),
        ),
        right=_right_steps(Untransposed, PullsEveryRow),
        wrong=_wrong_steps("graph"),
    ),
    TestExercise(
        "sampling_passes",
        "Write `sampling_passes(step)`. `step.sample(R, rng)` draws an epoch's triples for the interactions `R` (U, I), a sparse "
        "array: `user`, `positive` and `negative`, numbers of entities, users first (item 0 is the number U). Positives must be "
        "items of their user, negatives must not, and two epochs must not be the same triples. Return `True` or `False`.",
        sampling_passes,
        lambda seed: {},
        allowed=_ALLOWED,
        hints=(
            "Call it twice with the same rng, and compare.",
            "Some triples agree by chance. Which share of them may? Take an R that is large enough for the answer to be clear.",
            "Look at users, positives and negatives one by one, and look the pairs up in R.toarray().",
        ),
        mistakes=(
            Mistake(_not_all_the_same, _PASSES["sampling"]),
            Mistake(_never_the_same, _RIGHT),
            Mistake(_always, _PASSES["sampling"]),
        ),
        right=_right_steps(FirstGraph),
        wrong=_wrong_steps("sampling"),
    ),
    TestExercise(
        "update_passes",
        "Write `update_passes(step)`. `step.update(theta, gradients, memory, rate)` takes one step of Adam (0.9, 0.999, 1e-8) "
        "for every array of the dict `theta`; `memory` is `None` before the first one. It returns the new theta and memory. "
        "Return `True` or `False`.",
        update_passes,
        lambda seed: {},
        allowed=_ALLOWED,
        hints=(
            "Your own my.adam_step is a reference; or think of a gradient for which you know what Adam does.",
            "With a gradient that never changes, the corrected moments are g and g squared: every entry moves by the rate.",
            "The first step alone does not tell everything. Take a few, and hand the memory on.",
        ),
        mistakes=(
            Mistake(_first_update_only, _PASSES["Adam"]),
            Mistake(_update_to_the_last_bit, _RIGHT),
            Mistake(_always, _PASSES["Adam"]),
        ),
        right=_right_steps(ClippedByNorm),
        wrong=_wrong_steps("Adam"),
    ),
    DiagnosisExercise(
        "diagnose",
        "Write `diagnose(step)`, which returns the name of the wrong part: `'sampling'`, `'Adam'`, `'graph'`, `'propagation'`, "
        "`'fork'`, `'biases'`, `'penalty'`, `'threshold'`, `'repeated rows'`, `'clipping'`, or `'nothing'` if all is right. "
        "It will be tried on the ten, on twenty others with faults in the same parts, and on right steps, in another order.",
        diagnose,
        lambda seed: {},
        allowed=_ALLOWED,
        hints=(
            "Four checks of yours have a name of their own: sampling, Adam, graph, propagation. Ask them first.",
            "For the other six begin at the example and change one thing at a time: decay, tau and signs, repetitions, size.",
            "At the plain example only two of the six show. Which gradient is wrong tells them apart.",
        ),
        mistakes=(
            Mistake(_instead("clipping", "nothing"), f"a step with a fault passes everything: {_PASSES['clipping']}"),
            Mistake(
                _instead("penalty", "repeated rows"),
                "a step whose fault is in 'penalty' is said to have it in 'repeated rows'. Which point tells these two apart?",
            ),
            Mistake(_instead("nothing", "Adam"), "a step without a fault is said to have one in 'Adam'."),
        ),
        right=_right_steps(),
        wrong=_wrong_steps(*_PASSES),
    ),
)
