"""The cases of both stages: the whole loss, its data term and its regulariser apart, by everything that reaches it.

Each point is a small problem at initialisation, in the middle of training, or after a switch: of the coarse stage to updated
assignments (with negative weights), or to the fine stage.

The forward returns (data loss, regulariser, total), and the gradient through each of the three is checked by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sparse

from ..operations import adam, assignment_update, graph
from ..operations.bridged_propagation import LAYER_BRIDGES, bridged_graph
from ..operations.sparse_operator import as_operator
from ..operations.triples import Triples
from ..stages import coarse, fine, structure_gradients
from ..stages.batch_loss import batch_loss
from . import problems
from .case import SETTINGS, Case, InDtype, gradient_case, promoted, twin
from .problems import generator, normal

L2, DECAY = 5.0, 0.02  # a decay at which the regulariser is a visible part of the total
THRESHOLD, GATE = 0.8, 0.3
#: How far the fine codebook keeps from the threshold: no step of a difference crosses it. (Kinks are for soft_threshold's cases.)
MARGIN = 0.3
N_USERS, N_ITEMS, N_COARSE, N_FINE = 14, 18, 7, 4

#: The stage gradients cost a forward of the whole model each; a few entries and directions see everything.
STAGE_SETTINGS = replace(SETTINGS, entry_limit=12, directions=3, samples=8)
#: Here every forward builds the graph anew.
STRUCTURE_SETTINGS = replace(SETTINGS, entry_limit=4, directions=3, samples=4)

COARSE_POINTS = ("start", "middle", "updated assignment")
FINE_POINTS = ("start", "middle", "updated assignment")


@dataclass(frozen=True)
class Point:
    """Everything that a stage is differentiated at."""

    A: sparse.csr_array
    triples: Triples
    S_coarse: sparse.csr_array
    E_coarse: np.ndarray
    bias: np.ndarray
    bias_global: np.ndarray
    S_fine: sparse.csr_array | None = None
    E_fine: np.ndarray | None = None


def coarse_point(seed: int, where: str, width: int, t: int, n_layers: int) -> Point:
    """A point of the coarse stage; `where` is one of COARSE_POINTS."""
    rng = generator(seed, "coarse", where, width, t, n_layers)
    A = graph.normalised_adjacency(problems.interactions(rng, N_USERS, N_ITEMS))
    n = N_USERS + N_ITEMS
    start = Point(
        A,
        problems.batch(rng, N_USERS, N_ITEMS, 30),
        problems.assignment(rng, n, N_COARSE, t),
        normal(rng, N_COARSE, width),
        0.5 * normal(rng, n),
        np.zeros(1) if where == "start" else normal(rng, 1),
    )
    if where == "start":
        return start
    trained = _train_coarse(start, n_layers)
    if where == "middle":
        return trained
    forward = coarse.coarse_forward(trained.E_coarse, coarse.coarse_graph(A, trained.S_coarse), n_layers)
    S = assignment_update.update_coarse_assignment(forward.H_entities, forward.H_coarse, max(t, 2))
    return replace(trained, S_coarse=_off_zero(S))


def fine_point(seed: int, where: str, width: int, t: int, n_layers: int, composition: str, layer_bridge: str) -> Point:
    """A point of the fine stage, which starts where the coarse stage has trained to."""
    point = coarse_point(seed, "middle", width, t, 2)
    rng = generator(seed, "fine", where, width, t, n_layers)
    S_fine = assignment_update.largest_softmax(normal(rng, N_COARSE, N_FINE), min(t, 2))
    E_fine = problems.codebook_off_threshold(rng, (N_FINE, width), THRESHOLD, MARGIN)
    point = replace(point, S_fine=S_fine, E_fine=E_fine)
    if where == "start":
        return point
    point = _train_fine(point, n_layers, composition, layer_bridge)
    if where == "middle":
        return point
    layers = fine.fine_graph(
        point.A, point.S_coarse, point.S_fine, GATE, composition=composition, layer_bridge=layer_bridge
    )
    forward = fine.fine_forward(point.E_fine, point.E_coarse, layers, threshold=THRESHOLD, n_layers=n_layers)
    S_fine = assignment_update.update_fine_assignment(forward.H_entities, forward.H_coarse, forward.H_fine, 2)
    return replace(point, S_fine=_off_zero(S_fine))


def _off_zero(S: sparse.csr_array, least: float = 0.15) -> sparse.csr_array:
    """The same assignment without weights near 0, where absolute degrees have a kink."""
    values = np.where(S.data < 0, -1, 1) * np.maximum(np.abs(S.data), least)
    return sparse.csr_array((values, S.indices, S.indptr), shape=S.shape)


def _some_negative(S: sparse.csr_array) -> sparse.csr_array:
    """The same assignment with every third weight negative, as closed-form updates may leave them."""
    values = np.where(np.arange(S.nnz) % 3 == 1, -S.data, S.data)
    return sparse.csr_array((values, S.indices, S.indptr), shape=S.shape)


def _train_coarse(point: Point, n_layers: int, steps: int = 6) -> Point:
    layers = coarse.coarse_graph(point.A, point.S_coarse)
    parameters = {"E_coarse": point.E_coarse, "bias": point.bias, "bias_global": point.bias_global}
    moments = adam.fresh_moments(parameters)
    for _ in range(steps):
        forward = coarse.coarse_forward(parameters["E_coarse"], layers, n_layers)
        loss, slope = batch_loss(
            forward, parameters["bias"], parameters["bias_global"], point.triples, l2=L2, decay=DECAY
        )
        gradients = coarse.coarse_gradients(forward, slope, layers, point.triples, n_layers=n_layers, l2=L2, decay=DECAY)
        gradients = {key: adam.clip_by_value(value, 3.0) for key, value in gradients.items()}
        parameters, moments = adam.adam_step(parameters, gradients, moments, 0.03)
    return replace(point, **parameters)


def _train_fine(point: Point, n_layers: int, composition: str, layer_bridge: str, steps: int = 6) -> Point:
    layers = fine.fine_graph(
        point.A, point.S_coarse, point.S_fine, GATE, composition=composition, layer_bridge=layer_bridge
    )
    parameters = {"E_fine": point.E_fine, "bias": point.bias, "bias_global": point.bias_global}
    moments = adam.fresh_moments(parameters)
    for _ in range(steps):
        forward = fine.fine_forward(
            parameters["E_fine"], point.E_coarse, layers, threshold=THRESHOLD, n_layers=n_layers
        )
        loss, slope = batch_loss(
            forward, parameters["bias"], parameters["bias_global"], point.triples, l2=L2, decay=DECAY
        )
        gradients = fine.fine_gradients(
            forward, slope, parameters["E_fine"], layers, point.triples,
            threshold=THRESHOLD, n_layers=n_layers, l2=L2, decay=DECAY,
        )  # fmt: skip
        trained = {key: adam.clip_by_value(gradients[key], 3.0) for key in parameters}
        parameters, moments = adam.adam_step(parameters, trained, moments, 0.03)
    parameters["E_fine"] = problems.away_from_threshold(parameters["E_fine"], THRESHOLD, MARGIN)
    return replace(point, **parameters)


def _split(cotangents):
    """Cotangents of the data loss and of the regulariser: the total passes on to both."""
    data, regulariser, total = cotangents
    return data + total, regulariser + total * DECAY


# ---- the coarse stage --------------------------------------------------------------------------------------------------
def coarse_cases(engine: str, seed: int) -> Iterator[Case]:
    """L = 0 to 4 at every point, widths 5 and 16, t = 1 and 2; a graph that is not symmetric; the assignment."""
    for n_layers in range(5):
        for k, where in enumerate(COARSE_POINTS):
            width, t = (16 if (n_layers + k) % 3 == 2 else 5), 1 + (n_layers + k) % 2
            point = coarse_point(seed, where, width, t, n_layers)

            def make(dtype, point=point):
                return coarse.coarse_graph(point.A.astype(dtype), point.S_coarse.astype(dtype))

            batched = k % 2 == 0
            variation = f"L = {n_layers}, {where}{', batch only' if batched else ''}"
            yield _coarse_case(engine, variation, point, InDtype(make), n_layers, batched)
    point = coarse_point(seed, "middle", 5, 2, 2)
    size = N_USERS + N_ITEMS + N_COARSE
    X_hat = problems.random_matrix(generator(seed, "not symmetric"), size, size, size=0.5)

    def make_askew(dtype):
        return coarse.CoarseGraph(as_operator(X_hat.astype(dtype)), as_operator(point.S_coarse.astype(dtype)))

    for batched in (False, True):
        variation = f"L = 2, a graph that is not symmetric{', batch only' if batched else ''}"
        yield _coarse_case(engine, variation, point, InDtype(make_askew), 2, batched)
    for n_layers, where, degree in (
        (0, "start", "signed"), (1, "start", "signed"), (3, "middle", "signed"), (2, "updated assignment", "absolute"),
    ):  # fmt: skip
        point = coarse_point(seed, where, 5, 2, n_layers)
        if degree == "absolute":
            point = replace(point, S_coarse=_some_negative(point.S_coarse))
        yield _coarse_structure_case(engine, f"L = {n_layers}, {where}, {degree} degrees", point, n_layers, degree)


def _coarse_case(engine, variation, point: Point, graphs, n_layers, batched) -> Case:
    batch = point.triples if batched else None

    def forward(E_coarse, bias_user, bias_item, bias_global):
        which = twin(engine, E_coarse, bias_user, bias_item, bias_global)
        found = coarse.coarse_forward(E_coarse, graphs(E_coarse), n_layers, batch=batch, engine=which)
        bias = np.concatenate([bias_user, bias_item])
        loss, _ = batch_loss(found, bias, bias_global, point.triples, l2=L2, decay=DECAY, engine=which)
        return loss.bpr, loss.regulariser, loss.total

    def backward(cotangents, E_coarse, bias_user, bias_item, bias_global):
        layers, bias = graphs(E_coarse), np.concatenate([bias_user, bias_item])
        found = coarse.coarse_forward(E_coarse, layers, n_layers, batch=batch, engine=engine)
        _, slope = batch_loss(found, bias, bias_global, point.triples, l2=L2, decay=DECAY, engine=engine)
        data, regulariser = _split(cotangents)
        gradients = coarse.coarse_gradients(
            found, slope * data, layers, point.triples, n_layers=n_layers, l2=L2, decay=regulariser, engine=engine
        )
        return _named(gradients, "E_coarse")

    arguments = _arguments(point) | {"E_coarse": point.E_coarse}
    return gradient_case(
        "coarse_stage", variation, engine, forward, backward, arguments,
        exactly_zero=("bias_user", "bias_global"), active_set=_one_branch, settings=STAGE_SETTINGS,
    )  # fmt: skip


def _one_branch(E_coarse):
    """The stage is smooth. Saying so keeps central differences from growing their step where an entry's gradient is tiny."""
    return np.zeros(1, dtype=bool)


def _arguments(point: Point) -> dict:
    return {"bias_user": point.bias[:N_USERS], "bias_item": point.bias[N_USERS:], "bias_global": point.bias_global}


def _named(gradients: dict, *names: str) -> dict:
    """Gradients by argument, those of the biases apart."""
    bias = gradients["bias"]
    found = {"bias_user": bias[:N_USERS], "bias_item": bias[N_USERS:], "bias_global": gradients["bias_global"]}
    return found | {name: gradients[name] for name in names}


def _coarse_structure_case(engine, variation, point: Point, n_layers, degree) -> Case:
    def run(S_coarse, E_coarse, which):
        layers = coarse.coarse_graph(point.A.astype(S_coarse.dtype), S_coarse, degree=degree)
        found = coarse.coarse_forward(E_coarse, layers, n_layers, engine=which)
        bias, bias_global = point.bias.astype(E_coarse.dtype), point.bias_global.astype(E_coarse.dtype)
        loss, slope = batch_loss(found, bias, bias_global, point.triples, l2=L2, decay=DECAY, engine=which)
        return layers, found, loss, slope

    def forward(S_coarse, E_coarse):
        S_coarse, E_coarse = promoted(S_coarse, E_coarse)
        loss = run(S_coarse, E_coarse, twin(engine, S_coarse))[2]
        return loss.bpr, loss.regulariser, loss.total

    def backward(cotangents, S_coarse, E_coarse):
        layers, found, _, slope = run(S_coarse, E_coarse, engine)
        data, regulariser = _split(cotangents)
        return structure_gradients.coarse_structure_gradients(
            found, slope * data, E_coarse, point.A.astype(S_coarse.dtype), layers, point.triples,
            n_layers=n_layers, l2=L2, decay=regulariser, degree=degree, engine=engine,
        )  # fmt: skip

    arguments = {"S_coarse": point.S_coarse, "E_coarse": point.E_coarse}
    return gradient_case(
        "coarse_stage", f"assignment, {variation}", engine, forward, backward, arguments, wrt="S_coarse",
        settings=STRUCTURE_SETTINGS,
    )  # fmt: skip


# ---- the fine stage ----------------------------------------------------------------------------------------------------
def fine_cases(engine: str, seed: int) -> Iterator[Case]:
    """Both compositions, both bridges, L = 0 to 4, every point; a graph that is not symmetric; assignments, tau and g."""
    count = 0
    for composition in fine.COMPOSITIONS:
        for layer_bridge in LAYER_BRIDGES:
            for n_layers in range(5):
                count += 1
                where = FINE_POINTS[count % 3]
                width, t = (16 if count % 4 == 3 else 5), 1 + count % 2
                point = fine_point(seed, where, width, t, n_layers, composition, layer_bridge)
                graphs = _fine_graphs(point, composition, layer_bridge)
                batched = n_layers % 2 == 0
                variation = f"{composition}, {layer_bridge}, L = {n_layers}, {where}{', batch only' if batched else ''}"
                yield _fine_case(engine, variation, point, graphs, n_layers, composition, batched)
                if composition == "coarse" and n_layers in (0, 3):
                    variation = f"collapsed, {layer_bridge}, L = {n_layers}, {where}"
                    yield _collapsed_case(engine, variation, point, graphs, n_layers)
            point = fine_point(seed, "start", 5, 2, 2, composition, layer_bridge)
            graphs = _askew_graphs(generator(seed, "askew"), point, composition, layer_bridge)
            yield _fine_case(
                engine, f"{composition}, {layer_bridge}, L = 2, not symmetric", point, graphs, 2, composition, True
            )
            if composition == "coarse":
                yield _collapsed_case(engine, f"collapsed, {layer_bridge}, L = 2, not symmetric", point, graphs, 2)
            where, degree, n_layers = (("start", "signed", 2), ("updated assignment", "absolute", 3))[count // 5 % 2]
            point = fine_point(seed, where, 5, 2, n_layers, composition, layer_bridge)
            if degree == "absolute":
                negative = {"S_coarse": _some_negative(point.S_coarse), "S_fine": _some_negative(point.S_fine)}
                point = replace(point, **negative)
            yield _fine_structure_case(engine, where, point, n_layers, composition, layer_bridge, degree)


def _fine_graphs(point: Point, composition: str, layer_bridge: str) -> InDtype:
    def make(dtype):
        matrices = (point.A.astype(dtype), point.S_coarse.astype(dtype), point.S_fine.astype(dtype))
        return fine.fine_graph(*matrices, GATE, composition=composition, layer_bridge=layer_bridge)

    return InDtype(make)


def _askew_graphs(rng, point: Point, composition: str, layer_bridge: str) -> InDtype:
    size = N_USERS + N_ITEMS + N_COARSE + N_FINE
    X_hat = problems.random_matrix(rng, size, size, size=0.5)

    def make(dtype):
        matrices = (X_hat.astype(dtype), point.S_coarse.astype(dtype), point.S_fine.astype(dtype))
        return fine.FineGraph(bridged_graph(*matrices, GATE, layer_bridge=layer_bridge), composition)

    return InDtype(make)


def _fine_case(engine, variation, point: Point, graphs, n_layers, composition, batched) -> Case:
    batch = point.triples if batched else None

    def forward(E_fine, E_coarse, bias_user, bias_item, bias_global):
        E_fine, E_coarse = promoted(E_fine, E_coarse)
        which = twin(engine, E_fine, bias_user, bias_item, bias_global)
        found = _fine_forward(E_fine, E_coarse, graphs(E_fine), n_layers, batch, which)
        return _fine_losses(found, bias_user, bias_item, bias_global, point, which)

    def backward(cotangents, E_fine, E_coarse, bias_user, bias_item, bias_global):
        layers, bias = graphs(E_fine), np.concatenate([bias_user, bias_item])
        found = _fine_forward(E_fine, E_coarse, layers, n_layers, batch, engine)
        gradients = _fine_gradients(cotangents, found, E_fine, layers, bias, bias_global, point, n_layers, engine)
        return _named(gradients, "E_fine", "E_coarse")

    arguments = _arguments(point) | {"E_fine": point.E_fine, "E_coarse": point.E_coarse}
    # Without a layer the entities are composed from E_c alone, and no score sees the fine codebook.
    zero = ("E_fine",) if composition == "coarse" and n_layers == 0 else ()
    return gradient_case(
        "fine_stage", variation, engine, forward, backward, arguments,
        exactly_zero=("bias_user", "bias_global"), zero_gradient=zero, settings=STAGE_SETTINGS,
    )  # fmt: skip


def _collapsed_case(engine, variation, point: Point, graphs, n_layers) -> Case:
    """The gradient of the collapsed stage against differences of the layered one: value and backward pass at once."""

    def forward(E_fine, bias_user, bias_item, bias_global):
        (E_fine,) = promoted(E_fine)
        which = twin(engine, E_fine, bias_user, bias_item, bias_global)
        found = _fine_forward(E_fine, point.E_coarse.astype(E_fine.dtype), graphs(E_fine), n_layers, None, which)
        return _fine_losses(found, bias_user, bias_item, bias_global, point, which)

    def backward(cotangents, E_fine, bias_user, bias_item, bias_global):
        E_coarse, bias = point.E_coarse.astype(E_fine.dtype), np.concatenate([bias_user, bias_item])
        layers = fine.collapsed_graph(graphs(E_fine), E_coarse, n_layers, engine=engine)
        found = _fine_forward(E_fine, E_coarse, layers, n_layers, point.triples, engine)
        gradients = _fine_gradients(cotangents, found, E_fine, layers, bias, bias_global, point, n_layers, engine)
        return _named(gradients, "E_fine")

    return gradient_case(
        "fine_stage", variation, engine, forward, backward, _arguments(point) | {"E_fine": point.E_fine},
        exactly_zero=("bias_user", "bias_global"), zero_gradient=("E_fine",) if n_layers == 0 else (),
        settings=STAGE_SETTINGS,
    )  # fmt: skip


def _fine_forward(E_fine, E_coarse, layers, n_layers, batch, engine):
    return fine.fine_forward(
        E_fine, E_coarse, layers, threshold=THRESHOLD, n_layers=n_layers, batch=batch, engine=engine
    )


def _fine_losses(found, bias_user, bias_item, bias_global, point: Point, engine):
    bias = np.concatenate([bias_user, bias_item])
    loss, _ = batch_loss(found, bias, bias_global, point.triples, l2=L2, decay=DECAY, engine=engine)
    return loss.bpr, loss.regulariser, loss.total


def _fine_gradients(cotangents, found, E_fine, layers, bias, bias_global, point: Point, n_layers, engine) -> dict:
    _, slope = batch_loss(found, bias, bias_global, point.triples, l2=L2, decay=DECAY, engine=engine)
    data, regulariser = _split(cotangents)
    return fine.fine_gradients(
        found, slope * data, E_fine, layers, point.triples,
        threshold=THRESHOLD, n_layers=n_layers, l2=L2, decay=regulariser, engine=engine,
    )  # fmt: skip


def _fine_structure_case(engine, where, point: Point, n_layers, composition, layer_bridge, degree) -> Case:
    def run(S_coarse, S_fine, threshold, gate, which):
        like = S_coarse.dtype
        layers = fine.fine_graph(
            point.A.astype(like), S_coarse, S_fine, gate,
            composition=composition, layer_bridge=layer_bridge, degree=degree,
        )  # fmt: skip
        E_fine, E_coarse = point.E_fine.astype(like), point.E_coarse.astype(like)
        found = fine.fine_forward(E_fine, E_coarse, layers, threshold=threshold, n_layers=n_layers, engine=which)
        bias, bias_global = point.bias.astype(like), point.bias_global.astype(like)
        loss, slope = batch_loss(found, bias, bias_global, point.triples, l2=L2, decay=DECAY, engine=which)
        return (E_fine, E_coarse), layers, found, loss, slope

    def forward(S_coarse, S_fine, threshold, gate):
        S_coarse, S_fine, threshold, gate = promoted(S_coarse, S_fine, threshold, gate)
        loss = run(S_coarse, S_fine, threshold, gate, twin(engine, S_coarse))[3]
        return loss.bpr, loss.regulariser, loss.total

    def backward(cotangents, S_coarse, S_fine, threshold, gate):
        codebooks, layers, found, _, slope = run(S_coarse, S_fine, threshold, gate, engine)
        data, regulariser = _split(cotangents)
        return structure_gradients.fine_structure_gradients(
            found, slope * data, *codebooks, point.A.astype(S_coarse.dtype), layers, point.triples,
            threshold=threshold, n_layers=n_layers, l2=L2, decay=regulariser, degree=degree, engine=engine,
        )  # fmt: skip

    arguments = {"S_coarse": point.S_coarse, "S_fine": point.S_fine, "threshold": THRESHOLD, "gate": GATE}
    variation = f"assignments, tau and g, {composition}, {layer_bridge}, L = {n_layers}, {where}, {degree} degrees"
    return gradient_case(
        "fine_stage", variation, engine, forward, backward, arguments, settings=STRUCTURE_SETTINGS
    )


#: The cases of each stage, by the name that the command line takes.
STAGES = {"coarse_stage": coarse_cases, "fine_stage": fine_cases}
