"""One training step, the same for everything that is trained: forward, loss, backward, clipping by value, Adam.

    g <- min(max(g, -c), c)
    m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
    x <- x - lr / (1 - beta1^k) * m / (sqrt(v) / sqrt(1 - beta2^k) + eps),   k = number of the step, from 1

This is PyTorch's ``Adam`` without weight decay.

Shapes
------
E_coarse : (C, d)     E_fine : (M, d)     S_coarse : (N, C) csr     S_fine : (C, M) csr     S_direct : (N, M) csr
bias : (N,), users first     bias_global, threshold : (1,)     x, g, m, v : any one shape
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from .loss import Triples, batch_loss
from .sampling import generator

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


# ---- what is trained -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ModelState:
    """What a model consists of: codebooks, assignments and biases."""

    E_coarse: np.ndarray
    S_coarse: sparse.csr_array
    bias: np.ndarray
    bias_global: np.ndarray
    E_fine: np.ndarray | None = None  # before soft thresholding; None before the fine stage
    S_fine: sparse.csr_array | None = None  # None before the fine stage, and where nothing is bridged
    S_direct: sparse.csr_array | None = None  # from entities to fine rows; only joint training has such links
    threshold: np.ndarray | None = None  # tau where training raises it; None: that of the settings

    @property
    def is_fine(self) -> bool:
        """Whether there is a fine codebook."""
        return self.E_fine is not None

    def tau(self, settings) -> float:
        """The soft threshold."""
        return settings.threshold if self.threshold is None else float(self.threshold[0])

    def item_bias(self, n_users: int) -> np.ndarray:
        """The biases of the items, shape (I,)."""
        return self.bias[n_users:]

    def parameters(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The arrays of these names that the state has; of an assignment the stored weights, row by row."""
        parts = {name: getattr(self, name) for name in names}
        return {name: part.data if sparse.issparse(part) else part for name, part in parts.items() if part is not None}

    def moved(self, parameters: dict[str, np.ndarray]) -> ModelState:
        """The state with other values of some parameters; the patterns of the assignments stay."""
        changed = {}
        for name, values in parameters.items():
            old = getattr(self, name)
            pattern = sparse.issparse(old)
            changed[name] = sparse.csr_array((values, old.indices, old.indptr), shape=old.shape) if pattern else values
        return dataclasses.replace(self, **changed)

    def astype(self, dtype) -> ModelState:
        """The state in another precision."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return ModelState(**{name: None if part is None else part.astype(dtype) for name, part in parts.items()})


@dataclass(frozen=True)
class Forward:
    """What a forward pass computed: of all nodes, or H of the entities `rows` alone."""

    Z: np.ndarray
    H_entities: np.ndarray
    H_coarse: np.ndarray | None = None
    rows: np.ndarray | None = None


class Stage:
    """What is trained and how. Each stage has its `engine` and

    trained                 names of what the optimiser moves
    graph(state, A)         what is propagated over
    forward(state, graph, batch=None)                       a :class:`Forward` of all entities, or of a batch's
    gradients(forward, slope, state, graph, triples, l2=, decay=)
    updated(forward, state)                                 the assignment in closed form, where there is such an update
    """

    graph: Callable[..., Any]

    def random(self, seed: int, name: str, epoch: int) -> np.random.Generator:
        """The random numbers of an epoch of the stage of that name, counted from 0."""
        return generator(seed, name, epoch)

    def graph_for_steps(self, state, A, n_triples: int):
        """The graph of a state for the steps of an epoch of at most so many triples; a stage may prepare more for so many."""
        return self.graph(state, A)

    def graph_for_update(self, graph):
        """What is left of it for a step that updates the assignment, after which another graph is built."""
        return graph

    def graph_after(self, graph, moved):
        """The graph after a step: the same, unless the step has moved weights of it."""
        return graph


# ---- clipping and Adam ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class AdamMoments:
    """m and v of each trained array, by its name, and the number of steps taken."""

    mean: dict[str, np.ndarray]
    square: dict[str, np.ndarray]
    step: int = 0


def fresh_moments(parameters: dict[str, np.ndarray]) -> AdamMoments:
    """Moments before the first step: zeros of the parameters' shapes."""
    return AdamMoments(*({name: np.zeros_like(value) for name, value in parameters.items()} for _ in range(2)))


def clip_by_value(gradient: np.ndarray, limit: float) -> np.ndarray:
    """Clip every entry to [-limit, limit]; infinity switches clipping off."""
    if not limit > 0:
        raise SettingsError(f"the gradient clip must be positive, not {limit}")
    return np.clip(gradient, -float(limit), float(limit))


def adam_update(x, g, m, v, rate: float, root_correction: float):
    """New x, m and v; rate = lr / (1 - beta1^k), root_correction = sqrt(1 - beta2^k)."""
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g * g
    return x - rate * m / (np.sqrt(v) / root_correction + EPSILON), m, v


def adam_step(
    parameters: dict[str, np.ndarray], gradients: dict[str, np.ndarray], moments: AdamMoments,
    *, learning_rate: float, clip: float, update=adam_update,
) -> tuple[dict[str, np.ndarray], AdamMoments]:  # fmt: skip
    """Clip all gradients and move the parameters (model.md, coarse stage, 6); new arrays, the inputs are left as they were.

    `gradients` may hold more than what is trained. `update` is the engine's :func:`adam_update`.
    """
    step = moments.step + 1
    # Python floats, so that float32 parameters stay float32.
    rate, root_correction = float(learning_rate) / (1 - BETA1**step), float(np.sqrt(1 - BETA2**step))
    new, mean, square = {}, {}, {}
    for name, x in parameters.items():
        g = clip_by_value(gradients[name], clip)
        new[name], mean[name], square[name] = update(x, g, moments.mean[name], moments.square[name], rate, root_correction)
    return new, AdamMoments(mean, square, step)


# ---- the step ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """What a step leaves behind: the moved state, the losses (BPR, regulariser) before it, and all gradients."""

    state: object
    moments: AdamMoments
    graph: object
    losses: np.ndarray
    gradients: dict[str, np.ndarray]


def train_step(
    stage, state, moments: AdamMoments, graph, triples: Triples,
    *, l2: float, decay: float, clip: float, learning_rate: float, update_assignment: bool = False,
) -> Step:  # fmt: skip
    """Move what the stage trains by one batch.

    With `update_assignment` the assignment is replaced in closed form between the forward pass and the step; the gradient still
    belongs to the graph of the forward pass. The graph is then None: it must be built anew.
    """
    # An assignment update looks at all nodes, a step only at those of its batch.
    forward = stage.forward(state, graph, batch=None if update_assignment else triples)
    loss, slope = batch_loss(forward, state.bias, state.bias_global, triples, l2=l2, decay=decay, engine=stage.engine)
    gradients = stage.gradients(forward, slope, state, graph, triples, l2=l2, decay=decay)
    parameters, moments = adam_step(
        state.parameters(stage.trained), gradients, moments,
        learning_rate=learning_rate, clip=clip, update=stage.engine.adam_update,
    )  # fmt: skip
    moved = state.moved(parameters)
    if update_assignment:
        moved, graph = dataclasses.replace(moved, **stage.updated(forward, state)), None
    else:
        graph = stage.graph_after(graph, moved)
    return Step(moved, moments, graph, np.array([loss.bpr, loss.regulariser], dtype=np.float64), gradients)
