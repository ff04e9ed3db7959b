"""The cases of joint training: the whole loss by both codebooks, by the weights of the links, and by the biases.

With and without a bridge, direct links and a soft threshold; without a fine codebook at all; with a row for every entity; at the
start and after some steps; over all rows and over a batch's; over a graph that is not symmetric. As for the stages, the forward
returns (data loss, regulariser, total).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sparse

from ..operations import adam, assignment_update, graph
from ..operations.sparse_operator import as_operator
from ..operations.triples import Triples
from ..stages import joint
from ..stages.batch_loss import batch_loss
from ..stages.state import ModelState
from . import problems
from .case import Case, gradient_case, promoted, twin
from .problems import generator, normal
from .stages import DECAY, GATE, L2, MARGIN, N_COARSE, N_FINE, N_ITEMS, N_USERS, STAGE_SETTINGS, THRESHOLD

N = N_USERS + N_ITEMS

#: Five arguments in every case: fewer entries and directions of each.
SETTINGS = replace(STAGE_SETTINGS, entry_limit=4, directions=2, samples=5)

#: Name, t, t_direct, bridge weight, soft threshold, layers, width, where, whether H is computed for the batch's rows only.
#: Where t = t_direct, exchanging the links' gradients is not found by their shapes.
VARIATIONS = (
    ("coarse codebook alone", 1, 0, 0.0, 0.0, 3, 16, "middle", False),
    ("direct links", 2, 2, 0.0, 0.0, 2, 5, "start", True),
    ("direct links", 2, 2, 0.0, THRESHOLD, 0, 5, "middle", False),
    ("bridge", 2, 0, GATE, THRESHOLD, 1, 5, "start", True),
    ("bridge and direct links", 2, 2, GATE, 0.0, 2, 16, "start", False),
    ("bridge and direct links", 1, 2, GATE, THRESHOLD, 2, 5, "not symmetric", True),
)


@dataclass(frozen=True)
class Point:
    """Everything that the loss is differentiated at."""

    A: sparse.csr_array
    triples: Triples
    state: ModelState
    gate: float
    threshold: float


def joint_cases(engine: str, seed: int) -> Iterator[Case]:
    """Every row of VARIATIONS, and a table, whose assignment is not trained."""
    for name, t, t_direct, gate, threshold, n_layers, width, where, batched in VARIATIONS:
        rng = generator(seed, "joint", name, t, t_direct, n_layers, where, batched)
        point = _point(rng, t, t_direct, gate, threshold, width)
        if where == "middle":
            point = replace(point, state=_trained(point, n_layers))
        if where == "not symmetric":
            point = replace(point, A=problems.random_matrix(rng, N, N, size=0.5))
        variation = f"{name}, tau = {threshold:g}, L = {n_layers}, {where}{', batch only' if batched else ''}"
        yield _joint_case(engine, variation, point, n_layers, batched)
    rng = generator(seed, "joint", "table")
    point = _point(rng, 1, 0, 0.0, 0.0, 5)
    itself = sparse.csr_array((np.ones(N), np.arange(N), np.arange(N + 1)), shape=(N, N))
    point = replace(point, state=replace(point.state, E_coarse=normal(rng, N, 5), S_coarse=itself))
    yield _joint_case(engine, "a row for every entity, tau = 0, L = 2, start, batch only", point, 2, True, of_weights=False)


def _point(rng, t: int, t_direct: int, gate: float, threshold: float, width: int) -> Point:
    state = ModelState(normal(rng, N_COARSE, width), problems.assignment(rng, N, N_COARSE, t), 0.5 * normal(rng, N), np.zeros(1))
    if gate or t_direct:
        off = problems.codebook_off_threshold(rng, (N_FINE, width), threshold, MARGIN) if threshold else None
        state = replace(state, E_fine=normal(rng, N_FINE, width) if off is None else off)
    if gate:
        state = replace(state, S_fine=assignment_update.largest_softmax(normal(rng, N_COARSE, N_FINE), 2))
    if t_direct:
        state = replace(state, S_direct=problems.assignment(rng, N, N_FINE, t_direct))
    A = graph.normalised_adjacency(problems.interactions(rng, N_USERS, N_ITEMS))
    return Point(A, problems.batch(rng, N_USERS, N_ITEMS, 30), state, gate, threshold)


def _arguments(state: ModelState) -> dict:
    """What joint training moves, as far as the state has it; of the biases those of users apart, which cancel."""
    parts = {name: getattr(state, name) for name in ("E_coarse", "E_fine", "S_coarse", "S_direct")}
    parts |= {"bias_user": state.bias[:N_USERS], "bias_item": state.bias[N_USERS:], "bias_global": state.bias_global}
    return {name: part for name, part in parts.items() if part is not None}


def _graph(point: Point, state: ModelState) -> joint.JointGraph:
    """In the precision of the state; A is not assumed to be symmetric."""
    dtype = np.float32 if state.E_coarse.dtype == np.float32 else np.float64
    # What a case does not differentiate by comes in float64.
    fixed = {"S_fine": state.S_fine} | ({} if np.iscomplexobj(state.S_coarse) else {"S_coarse": state.S_coarse})
    fixed = {name: S if S is None else S.astype(dtype) for name, S in fixed.items()}
    layers = joint.joint_graph(point.A.astype(dtype), replace(state, **fixed), point.gate)
    return replace(layers, A=as_operator(point.A.astype(dtype)))


def _run(point: Point, state: ModelState, n_layers: int, batch, engine: str):
    layers = _graph(point, state)
    settings = {"threshold": point.threshold, "n_layers": n_layers, "engine": engine}
    found = joint.joint_forward(state.E_coarse, state.E_fine, layers, batch=batch, **settings)
    loss, slope = batch_loss(found, state.bias, state.bias_global, point.triples, l2=L2, decay=DECAY, engine=engine)
    return layers, settings, found, loss, slope


def _joint_case(engine: str, variation: str, point: Point, n_layers: int, batched: bool, of_weights: bool = True) -> Case:
    given = _arguments(point.state)
    if not of_weights:
        given = {name: part for name, part in given.items() if not sparse.issparse(part)}
    batch = point.triples if batched else None

    def state_of(arguments: dict) -> ModelState:
        parts = dict(zip(arguments, promoted(*arguments.values()), strict=True))
        bias = np.concatenate([parts.pop("bias_user"), parts.pop("bias_item")])
        return replace(point.state, **parts, bias=bias)

    def forward(**arguments):
        which = twin(engine, *(part.data if sparse.issparse(part) else part for part in arguments.values()))
        loss = _run(point, state_of(arguments), n_layers, batch, which)[3]
        return loss.bpr, loss.regulariser, loss.total

    def backward(cotangents, **arguments):
        state = state_of(arguments)
        layers, settings, found, _, slope = _run(point, state, n_layers, batch, engine)
        data, regulariser, total = cotangents
        gradients, _ = joint.joint_gradients(
            found, slope * (data + total), state.E_fine, layers, point.triples,
            l2=L2, decay=regulariser + total * DECAY, of_weights=of_weights, **settings,
        )  # fmt: skip
        bias = gradients.pop("bias")
        gradients |= {"bias_user": bias[:N_USERS], "bias_item": bias[N_USERS:]}
        for name in {"S_coarse", "S_direct"} & set(gradients):
            S = arguments[name]
            gradients[name] = sparse.csr_array((gradients[name], S.indices, S.indptr), shape=S.shape)
        return gradients

    def branches(**arguments):
        # Smooth but for the threshold. Saying so keeps central differences from growing their steps.
        return np.abs(arguments["E_fine"]) > point.threshold if point.threshold else np.zeros(1, dtype=bool)

    return gradient_case(
        "joint_stage", variation, engine, forward, backward, given,
        exactly_zero=("bias_user", "bias_global"), active_set=branches, settings=SETTINGS,
    )  # fmt: skip


def _trained(point: Point, n_layers: int, steps: int = 6) -> ModelState:
    """The state after some Adam steps on everything that joint training moves."""
    state, moments = point.state, None
    for _ in range(steps):
        layers, settings, found, _, slope = _run(point, state, n_layers, None, "numpy")
        gradients, _ = joint.joint_gradients(found, slope, state.E_fine, layers, point.triples, l2=L2, decay=DECAY, **settings)
        values = {name: getattr(state, name) for name in gradients}
        values = {name: part.data if sparse.issparse(part) else part for name, part in values.items()}
        moments = adam.fresh_moments(values) if moments is None else moments
        clipped = {name: adam.clip_by_value(gradient, 3.0) for name, gradient in gradients.items()}
        values, moments = adam.adam_step(values, clipped, moments, 0.03)
        for name in {"S_coarse", "S_direct"} & set(values):
            S = getattr(state, name)
            values[name] = sparse.csr_array((values[name], S.indices, S.indptr), shape=S.shape)
        state = replace(state, **values)
    if point.threshold:
        state = replace(state, E_fine=problems.away_from_threshold(state.E_fine, point.threshold, MARGIN))
    moved = ("E_coarse", "E_fine", "S_coarse", "S_direct", "bias", "bias_global")
    parts = {name: getattr(state, name) for name in moved}
    return replace(state, **{name: problems.on_float32_grid(part) for name, part in parts.items() if part is not None})


#: The name that the command line takes.
JOINT = {"joint_stage": joint_cases}
