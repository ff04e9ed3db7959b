"""The cases of the stages: the whole loss, its data term and its regulariser apart, by everything that reaches it.

Differences are taken of the package's own loss, at the start, after some steps of training, and where a closed-form update or an
exchange left negative weights; over the graph of the model or one that is not symmetric; for all entities or a batch's. The
forward returns (data loss, regulariser, total), and the gradient through each of the three is checked by itself.

Gradients by what no stage trains (assignments, soft threshold, bridge weight) are held to the dense reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

from ..baselines.table_stage import TableState
from ..engine import engine_named
from ..model import coarse, fine, joint
from ..model.graph import normalised_adjacency
from ..model.joint import exchange
from ..model.loss import batch_loss
from ..model.propagation import bridged_layer
from ..model.step import fresh_moments, train_step
from ..training.loop import training_graph
from . import points, problems, reference
from .case import MOST_DRAWS, SETTINGS, Case, InDtype, depends_on_all, gradient_case, promoted
from .cover import in_turns
from .points import N_USERS, N, Point, Worst, dense, draw_batch, parts_of

#: Every value costs a forward of the whole model; a few entries and directions see everything.
STAGE_SETTINGS = dataclasses.replace(SETTINGS, entry_limit=4, directions=2, samples=5)

COMMON = {
    "n_layers": (0, 1, 2, 5), "where": ("start", "trained", "updated"), "graph": ("own", "own for a batch", "not symmetric"),
    "dtype": ("float64",),
}  # fmt: skip
CROSSED = ("n_layers", "where", "graph")
COARSE = points.COARSE | COMMON
FINE = points.FINE | COMMON | {"gate": ("none", "low", "high")}
# With an open dead zone what the optimiser is given is no gradient by E_f; steps hold it to the one at F.
JOINT = points.JOINT | COMMON | {"gate": ("none", "low", "high", "whole"), "n_layers": (0, 1, 3), "dead_zone": ("closed",)}


def coarse_cases(engine: str, seed: int) -> Iterator[Case]:
    """The coarse stage by its codebook and the biases."""
    yield from _cases("coarse", COARSE, CROSSED, engine, seed)


def fine_cases(engine: str, seed: int) -> Iterator[Case]:
    """The fine stage by both codebooks and the biases; collapsed, against differences of the layers."""
    yield from _cases("fine", FINE, (*CROSSED, "reading", "layer_bridge"), engine, seed)


def joint_cases(engine: str, seed: int) -> Iterator[Case]:
    """Joint training by codebooks, weights and biases; a table by itself and the biases."""
    yield from _cases("joint", JOINT, (*CROSSED, "parts"), engine, seed)


def _cases(model: str, options: dict, crossed, engine: str, seed: int) -> Iterator[Case]:
    for c, variation, generator in in_turns(points.configurations(f"{model}_stage", options, None, seed, crossed), engine):
        rng = generator()
        point = trained(points.point(model, engine, c, rng), c["where"], rng)
        yield _stage_case(point, c, variation, engine, rng)


def trained(point: Point, where: str, rng) -> Point:
    """After a few steps of training, the last of which updates an assignment or is followed by an exchange of links."""
    s, state = dataclasses.replace(point.settings, engine="numpy"), point.state
    posed = dataclasses.replace(point, settings=s).problem
    stage = point.stage(posed.engine)
    graph, moments = None, fresh_moments(state.parameters(stage.trained))
    for count in range({"trained": 2, "updated": 3}.get(where, 0)):
        graph = training_graph(stage, state, posed) if graph is None else graph
        step = train_step(
            stage, state, moments, graph, draw_batch(rng, "all"), l2=s.l2, decay=s.decay, clip=s.max_grad_value,
            learning_rate=0.03, update_assignment=count == 2 and point.model in ("coarse", "fine"),
        )  # fmt: skip
        state, moments, graph = step.state, step.moments, step.graph
    if point.model == "joint" and where == "updated":
        state, _ = exchange(state, moments, graph, step.gradients["Y"], int(rng.integers(3)), threshold=state.tau(s), reach=0.1)
    moved = {name: problems.on_float32_grid(value) for name, value in parts_of(state).items()}
    if point.model == "table":
        return dataclasses.replace(point, state=dataclasses.replace(state, arrays=moved))
    if s.threshold and "E_fine" in moved:
        moved["E_fine"] = problems.away_from_threshold(moved["E_fine"], state.tau(s), 0.3 * state.tau(s))
    return dataclasses.replace(point, state=dataclasses.replace(state, **moved))


def _loss(stage, state, graph, batch, triples, s):
    found = stage.forward(state, graph, batch=batch)
    return found, *batch_loss(found, state.bias, state.bias_global, triples, l2=s.l2, decay=s.decay, engine=stage.engine)


def losses(stage, state, graph, batch, triples, s):
    """Data loss, regulariser and total; `batch` is None for a forward pass of all entities."""
    loss = _loss(stage, state, graph, batch, triples, s)[1]
    return loss.bpr, loss.regulariser, loss.total


def loss_gradients(cotangents, stage, state, graph, batch, triples, s) -> dict[str, np.ndarray]:
    """The gradients through any of these three."""
    data, regulariser, total = cotangents
    found, _, slope = _loss(stage, state, graph, batch, triples, s)
    weights = {"l2": s.l2, "decay": regulariser + total * s.decay}
    return stage.gradients(found, slope * (data + total), state, graph, triples, **weights)


def _stages(point: Point, kind: str, engine: str, rng) -> InDtype:
    """The stage and the graph of a state, in each precision: that of the model, or one that is not symmetric."""
    settings, A = point.settings, normalised_adjacency(point.data.train)
    size = N + {"coarse": points.N_COARSE, "fine": points.N_COARSE + points.N_FINE, "joint": 0}[point.model]
    X = problems.random_matrix(rng, size, size, size=0.5)

    def make(dtype, engine):
        stage, state, operator = point.stage(engine), point.state.astype(dtype), engine.operator(X.astype(dtype))
        graph = stage.graph(state, A.astype(dtype))
        if kind != "not symmetric":
            return stage, graph
        if point.model == "coarse":
            return stage, dataclasses.replace(graph, X_hat=operator)
        if point.model == "fine":
            both = (state.S_coarse, state.S_fine)
            layer = bridged_layer(operator, *both, settings.gate, layer_bridge=settings.layer_bridge, engine=engine)
            return stage, dataclasses.replace(graph, layer=layer)
        return stage, dataclasses.replace(graph, A=operator)

    return InDtype(make, engine)


def _stage_case(point: Point, c: dict, variation: str, engine: str, rng) -> Case:
    model, settings, state = point.model, point.settings, point.state
    triples = draw_batch(rng, c["batch"])
    batch = triples if c["graph"] == "own for a batch" else None
    collapses, is_table = settings.propagation == "collapsed", c.get("parts") == "table"
    wrt = {name for name in parts_of(state) if name.startswith(("E_", "S_"))}
    wrt -= {"E_coarse"} if collapses or not len(state.E_coarse) else set()
    wrt -= set() if model == "joint" and not is_table else {"S_coarse", "S_fine", "S_direct"}
    given = {name: value for name, value in parts_of(state).items() if name in wrt}
    given |= {"bias_user": state.bias[:N_USERS], "bias_item": state.bias[N_USERS:], "bias_global": state.bias_global}
    constants = InDtype(lambda dtype: {name: value.astype(dtype) for name, value in parts_of(state).items() if name not in given})

    def at(arguments: dict):
        """The stage, the state and its graph."""
        named = dict(zip(arguments, promoted(*arguments.values()), strict=True))
        like = [value.data if sparse.issparse(value) else value for value in arguments.values()]
        bias = np.concatenate([named.pop("bias_user"), named.pop("bias_item")])
        moved = dataclasses.replace(state, **constants(*like) | named | {"bias": bias})
        stage, graph = stages(*like)
        return stage, moved, joint.relinked(graph, moved) if model == "joint" else graph

    def forward(**arguments):
        return losses(*at(arguments), batch, triples, settings)

    def backward(cotangents, **arguments):
        stage, moved, graph = at(arguments)
        if collapses:
            graph = fine.collapsed_graph(graph, moved.E_coarse, settings.n_layers)
        gradients = loss_gradients(cotangents, stage, moved, graph, triples if collapses else batch, triples, settings)
        for name in ("Y", *([] if len(state.E_coarse) else ["E_coarse"])):
            gradients.pop(name, None)
        bias = gradients.pop("bias")
        gradients |= {"bias_user": bias[:N_USERS], "bias_item": bias[N_USERS:]}
        for name in {"S_coarse", "S_fine", "S_direct"} & set(gradients):
            S = arguments[name]
            gradients[name] = sparse.csr_array((gradients[name], S.indices, S.indptr), shape=S.shape)
        return gradients

    def branches(**arguments):
        # Smooth but for the threshold. Saying so keeps central differences from growing their steps.
        return np.abs(arguments["E_fine"]) > state.tau(settings) if "E_fine" in arguments else np.zeros(1, dtype=bool)

    # Without a layer the fine stage's entities are composed from E_c alone, and no score sees the fine codebook; without a bridge
    # weight it takes two layers of the model's own graph.
    without = 0 if settings.gate == 0 or settings.composition == "coarse" else -1
    without = 1 if settings.gate == 0 and c["graph"] != "not symmetric" else without
    unseen = ("E_fine",) if model == "fine" and settings.n_layers <= without else ()
    for _ in range(MOST_DRAWS):
        stages = _stages(point, c["graph"], engine, rng)
        # In a random graph a small batch may have no way to a codebook.
        if c["graph"] != "not symmetric" or depends_on_all(forward, given, wrt - set(unseen)):
            break
    return gradient_case(
        f"{model}_stage", variation, engine, forward, backward, given, exactly_zero=("bias_user", "bias_global"),
        zero_gradient=unseen, active_set=branches, settings=STAGE_SETTINGS,
    )  # fmt: skip


# ---- the models with a table ---------------------------------------------------------------------------------------------
TABLES = points.TABLES | {
    "dtype": ("float64",),
    "n_layers": (0, 1, 2, 5), "where": ("start", "trained", "not symmetric"),
}  # fmt: skip


def table_model_cases(engine: str, seed: int) -> Iterator[Case]:
    """Each table with and without item biases, at the start and after some steps; a graph that is not symmetric."""
    for c, variation, rng in in_turns(points.configurations("table_model", TABLES, None, seed), engine):
        yield _model_case(engine, c, variation, rng())


def _model_case(engine: str, c: dict, variation: str, rng) -> Case:
    point = trained(points.table_point(engine, c, rng), c["where"], rng)
    s, A, triples = point.settings, sparse.csr_array(point.A), draw_batch(rng, c["batch"])
    if c["where"] == "not symmetric":
        A = problems.random_matrix(rng, N, N, size=0.5)

    def make(dtype, module):
        own = {"dtype": dtype.name, "engine": "numpy" if module is engine_named("numpy") else engine}
        table = dataclasses.replace(point.table, **own) if c["table"] == "hashed" else point.table
        return dataclasses.replace(point, table=table).stage(module), module.operator(A.astype(dtype))

    stages = InDtype(make, engine)

    def at(parameters: dict):
        """The stage, the state and its graph."""
        stage, graph = stages(*parameters.values())
        return stage, TableState(dict(zip(parameters, promoted(*parameters.values()), strict=True)), N), graph

    def forward(**parameters):
        return losses(*at(parameters), triples, triples, s)

    def backward(cotangents, **parameters):
        return loss_gradients(cotangents, *at(parameters), triples, triples, s)

    # The loss is smooth; saying so keeps central differences from growing their step where an entry's gradient is tiny.
    return gradient_case(
        "table_model", variation, engine, forward, backward, point.state.arrays,
        active_set=lambda **_: np.zeros(1, dtype=bool), settings=STAGE_SETTINGS,
    )  # fmt: skip


# ---- what no stage trains ------------------------------------------------------------------------------------------------
def coarse_structure_cases(engine: str, seed: int) -> Iterator[Case]:
    """The gradient by the assignment of the coarse stage."""
    yield from points.drawn_cases("coarse_structure", points.COARSE, _structure, engine, seed)


def fine_structure_cases(engine: str, seed: int) -> Iterator[Case]:
    """The gradients by both assignments, the soft threshold and the bridge weight."""
    yield from points.drawn_cases("fine_structure", points.FINE, _structure, engine, seed)


def _structure(engine: str, c: dict, rng) -> Worst:
    worst, model = Worst(), "fine" if "gate" in c else "coarse"
    if c.get("reading") == "collapsed":
        c = c | {"reading": "layers"}  # a batch only; these gradients need all nodes
    point = points.stage_point(model, engine, c, rng)
    state, s = point.state, point.settings
    triples, stage = draw_batch(rng, c["batch"]), point.stage(engine_named(engine))
    A = normalised_adjacency(point.data.train).astype(s.dtype)
    graph = stage.graph(state, A)
    found = stage.forward(state, graph)
    common = {"l2": s.l2, "decay": s.decay}
    _, slope = batch_loss(found, state.bias, state.bias_global, triples, **common, engine=stage.engine)
    common |= {"n_layers": s.n_layers, "degree": s.degree}
    if model == "coarse":
        names, make, codebooks = ("S_coarse",), coarse.coarse_structure_gradients, (state.E_coarse,)
    else:
        names, make = ("S_coarse", "S_fine", "threshold", "gate"), fine.fine_structure_gradients
        codebooks, common = (state.E_fine, state.E_coarse), common | {"threshold": s.threshold}
    gradients = make(found, slope, *codebooks, A, graph, triples, **common)
    p, roles = {name: dense(value) for name, value in parts_of(state).items()}, (triples.user, triples.positive, triples.negative)
    expected, sizes = reference.gradients(model, p, point.A, roles, s, names)
    H = reference.MODELS[model][1](p, reference.MODELS[model][0](point.A, p, s), s)[1]
    share = points.rounding_share(point.A, s, H, roles, points.cancellation(model, p, s))
    links = {name: dense(getattr(state, name)) != 0 if name.startswith("S_") else np.array(True) for name in names}
    scales = {name: np.linalg.norm(sizes[name] * links[name]) for name in names}
    for name in names:
        # Soft threshold and bridge weight are numbers: their gradients are sums over all that the assignments weigh.
        scale = scales[name] if name.startswith("S_") else sum(scales.values())
        worst.add(name, dense(gradients[name]), np.where(links[name], expected[name], 0), share * scale)
    return worst


#: The cases of each stage, by the name that the command line takes.
STAGES = {
    "coarse_stage": coarse_cases, "fine_stage": fine_cases, "joint_stage": joint_cases, "table_model": table_model_cases,
    "coarse_structure": coarse_structure_cases, "fine_structure": fine_structure_cases,
}  # fmt: skip
