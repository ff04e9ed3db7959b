"""The cases of every operation.

A function here yields the cases of one operation for one engine and seed. Operators are rectangular or at least not symmetric
wherever the mathematics allows it, so that a forgotten transpose cannot hide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

from ..gradcheck import check_convention
from ..operations import (
    adam,
    bpr,
    bridged_propagation,
    bridging,
    collapsed_propagation,
    composition,
    graph,
    graph_backward,
    propagation,
    propagation_structure,
    regulariser,
    soft_threshold,
    sparse_product,
)
from . import problems, rounding
from .case import Case, InDtype, gradient_case, operator_in_dtype, promoted, twin, verdict_case
from .problems import WIDTHS, generator, normal, random_matrix

Cases = Iterator[Case]
GATE = 0.3


# ---- sparse product --------------------------------------------------------------------------------------------------
def sparse_product_cases(engine: str, seed: int) -> Cases:
    """Tall, wide, more rows than row groups, one row; the operator and its stored weights."""
    for n, m, width in ((90, 37, 5), (37, 90, 48), (70, 4, 1), (1, 6, 3)):
        rng = generator(seed, "sparse_product", n, m)
        M, X = random_matrix(rng, n, m), normal(rng, m, width)

        def forward(M, X):
            return sparse_product.sparse_product(M, X, engine=twin(engine, M, X))

        def backward(grad_Y, M, X):
            return {
                "grad_M": sparse_product.sparse_product_backward_weights(grad_Y, M, X, engine=engine),
                "grad_X": sparse_product.sparse_product_backward(grad_Y, M, engine=engine),
            }

        def bound(grad_Y, M, X):
            weights, back = rounding.weights_product(grad_Y, M, X), rounding.product(M.T, grad_Y)
            return [rounding.product(M, X)], {"M": weights, "X": back}

        yield gradient_case(
            "sparse_product", f"{n} x {m}, width {width}", engine, forward, backward, {"M": M, "X": X},
            linear_in=("M", "X"), rounding=bound,
        )  # fmt: skip


# ---- composition -----------------------------------------------------------------------------------------------------
def compose_cases(engine: str, seed: int) -> Cases:
    """t = 1, 2 and 3 entries a row, an entity without any, a codebook row that nobody uses; tanh without an assignment."""
    for n, c, t, width in ((90, 20, 2, 5), (75, 9, 1, 48), (12, 80, 3, 3)):
        rng = generator(seed, "compose", n, c)
        S, E = problems.assignment(rng, n, c, t, empty=True), normal(rng, c, width)

        def forward(S, E):
            return composition.compose(S, E, engine=twin(engine, S, E))

        def backward(grad_Z, S, E):
            Z = composition.compose(S, E, engine=engine)
            return {
                "grad_S": composition.compose_backward_assignment(grad_Z, S, E, Z),
                "grad_E": composition.compose_backward(grad_Z, S, Z, engine=engine),
            }

        def bound(grad_Z, S, E):
            Z, grad_E, grad_S = rounding.composition(grad_Z, S, E)
            return [Z], {"E": grad_E, "S": grad_S}

        yield gradient_case(
            "compose", f"t = {t}, {n} x {c}, width {width}", engine, forward, backward, {"S": S, "E": E}, rounding=bound
        )
    # One row, and more entries than one block of the compiled pass.
    for n, width in ((1, 3), (401, 41)):
        yield _tanh_case(engine, normal(generator(seed, "tanh", n), n, width))


def _tanh_case(engine: str, Y: np.ndarray) -> Case:
    def backward(grad_Z, Y):
        return composition.tanh_backward(grad_Z, np.tanh(Y), engine=engine)

    def bound(grad_Z, Y):
        Z, grad_Y = rounding.squashing(grad_Z, Y)
        return [Z], {"Y": grad_Y}

    variation = f"tanh alone, {len(Y)} x {Y.shape[1]}"
    return gradient_case("compose", variation, engine, np.tanh, backward, {"Y": Y}, rounding=bound)


# ---- soft threshold --------------------------------------------------------------------------------------------------
def soft_threshold_cases(engine: str, seed: int) -> Cases:
    """Rows with and without a survivor, no threshold, and the convention exactly at the threshold."""
    rng = generator(seed, "soft_threshold")

    def forward(E, tau):
        return soft_threshold.soft_threshold(E, tau, engine=twin(engine, E, tau))

    def backward(grad_F, E, tau):
        return {
            "grad_E": soft_threshold.soft_threshold_backward(grad_F, E, tau, engine=engine),
            "grad_tau": soft_threshold.soft_threshold_backward_tau(grad_F, E, tau),
        }

    def branches(E, tau):
        return (E > tau).astype(int) - (E < -tau)

    def bound(grad_F, E, tau):
        F, grad_E, grad_tau = rounding.shrinkage(grad_F, E, tau)
        return [F], {"E": grad_E, "tau": grad_tau}

    E = problems.codebook_off_threshold(rng, (12, 6), 0.7)
    yield gradient_case(
        "soft_threshold", "a row inside the threshold", engine, forward, backward, {"E": E, "tau": 0.7},
        active_set=branches, rounding=bound,
    )  # fmt: skip
    E = problems.codebook_off_threshold(rng, (3, 4), 0.5)
    yield gradient_case(
        "soft_threshold", "tau = 0", engine, forward, backward, {"E": E, "tau": 0.0}, active_set=branches, wrt="E",
        rounding=lambda grad_F, E, tau: bound(grad_F, E, tau),
    )  # fmt: skip

    inside = np.array([[0.2, -0.4, 0.1]])
    yield gradient_case(
        "soft_threshold", "everything inside", engine, forward, backward, {"E": inside, "tau": 0.7},
        active_set=branches, zero_gradient=("E", "tau"), dtypes=("float64",),
    )  # fmt: skip

    at = {"E": np.array([[0.5, -0.5, 0.0, 0.75, -2.0, 0.25]]), "tau": 0.5}
    slope = {"E": np.array([[0.0, 0.0, 0.0, 1.0, 1.0, 0.0]])}

    def convention(run_seed):
        def gradient(grad_F, E, tau):
            return {"grad_E": soft_threshold.soft_threshold_backward(grad_F, E, tau, engine=engine)}

        def gradient_tau(grad_F, E, tau):
            return {"grad_tau": soft_threshold.soft_threshold_backward_tau(grad_F, E, tau)}

        report = check_convention(gradient, at=at, expected=slope, seed=run_seed, name=name)
        cotangent = np.array([[3.0, 5.0, 7.0, 1.5, -2.25, 9.0]])
        second = check_convention(gradient_tau, at=at, expected={"tau": -1.5 - 2.25}, cotangent=cotangent)
        report.verdicts += second.verdicts
        return report

    name = f"soft_threshold [{engine}] exactly at the threshold"
    yield Case("soft_threshold", "exactly at the threshold", engine, convention)


# ---- bridge ----------------------------------------------------------------------------------------------------------
def bridge_cases(engine: str, seed: int) -> Cases:
    """Both codebooks, the gate and the stored weights; t = 1 and more."""
    for c, m, t, width in ((80, 9, 4, 5), (20, 30, 1, 48)):
        rng = generator(seed, "bridge", c, m)
        arguments = {
            "E_coarse": normal(rng, c, width),
            "S_fine": problems.assignment(rng, c, m, t),
            "F": normal(rng, m, width),
            "gate": GATE,
        }

        def forward(E_coarse, S_fine, F, gate):
            return bridging.bridge(E_coarse, S_fine, F, gate, engine=twin(engine, E_coarse, S_fine, F, gate))

        def backward(grad_E_hat, E_coarse, S_fine, F, gate):
            grad_E_coarse, grad_F = bridging.bridge_backward(grad_E_hat, S_fine, gate, engine=engine)
            return {
                "grad_E_coarse": grad_E_coarse,
                "grad_S_fine": bridging.bridge_backward_assignment(grad_E_hat, S_fine, F, gate),
                "grad_F": grad_F,
                "grad_gate": bridging.bridge_backward_gate(grad_E_hat, E_coarse, S_fine, F),
            }

        def bound(grad_E_hat, E_coarse, S_fine, F, gate):
            E_hat, *grads = rounding.bridging(grad_E_hat, E_coarse, S_fine, F, gate)
            return [E_hat], dict(zip(("E_coarse", "F", "gate", "S_fine"), grads, strict=True))

        yield gradient_case(
            "bridge", f"t = {t}, {c} x {m}, width {width}", engine, forward, backward, arguments,
            linear_in=tuple(arguments), rounding=bound,
        )  # fmt: skip


# ---- propagation -----------------------------------------------------------------------------------------------------
def symmetric_graph(rng, n: int) -> sparse.csr_array:
    """A normalised graph with an isolated node."""
    M = abs(random_matrix(rng, n, n))
    return sparse.csr_array(graph.normalise(sparse.csr_array(M + M.T)))


def propagate_cases(engine: str, seed: int) -> Cases:
    """0 to 4 layers over a graph that is not symmetric; over one that is; the weights of the graph."""
    for n_layers in range(5):
        rng = generator(seed, "propagate", n_layers)
        n, width = 75, WIDTHS[n_layers % 2]
        yield _propagate_case(engine, "not symmetric", random_matrix(rng, n, n, size=0.4), normal(rng, n, width), n_layers)
    rng = generator(seed, "propagate", "other")
    yield _propagate_case(engine, "not symmetric", random_matrix(rng, 20, 20, size=0.4), normal(rng, 20, 7), 3)
    yield _propagate_case(engine, "symmetric", symmetric_graph(rng, 70), normal(rng, 70, 48), 3)
    for n_layers in range(4):
        width = WIDTHS[n_layers % 2]
        rows = np.sort(rng.choice(75, 30, replace=False))
        M = random_matrix(rng, 75, 75, size=0.4)
        yield _propagate_case(engine, "30 of 75 rows", M, normal(rng, 75, width), n_layers, rows)
    for n_layers in (1, 2, 3):
        yield _propagate_weights_case(engine, random_matrix(rng, 12, 12, size=0.5), normal(rng, 12, 3), n_layers)


def _propagate_case(engine, kind, M, X0, n_layers, rows=None) -> Case:
    operator = operator_in_dtype(M)

    def forward(X0):
        return propagation.propagate(X0, operator(X0), n_layers, rows=rows, engine=twin(engine, X0))

    def backward(grad_H):
        return propagation.propagate_backward(grad_H, operator(grad_H), n_layers, rows=rows, engine=engine)

    def bound(grad_H, X0):
        H = rounding.propagation(X0, M, n_layers)
        if rows is not None:
            H, grad_H = H[rows], propagation.in_rows(grad_H, rows, len(X0))
        return [H], {"X0": rounding.propagation(grad_H, M.T, n_layers)}

    variation = f"L = {n_layers}, {kind}, width {X0.shape[1]}"
    return gradient_case(
        "propagate", variation, engine, forward, backward, {"X0": X0}, linear_in="X0", rounding=bound
    )


def _propagate_weights_case(engine, X_hat, X0, n_layers) -> Case:
    def forward(X_hat, X0):
        X_hat, X0 = promoted(X_hat, X0)
        return propagation.propagate(X0, X_hat, n_layers, engine=twin(engine, X_hat, X0))

    def backward(grad_H, X_hat, X0):
        weights = propagation_structure.propagate_backward_weights(grad_H, X0, X_hat, n_layers, engine=engine)
        return {"grad_X_hat": weights, "grad_X0": propagation.propagate_backward(grad_H, X_hat, n_layers, engine=engine)}

    return gradient_case(
        "propagate", f"L = {n_layers}, weights of the graph", engine, forward, backward, {"X_hat": X_hat, "X0": X0}
    )


# ---- bridged propagation ---------------------------------------------------------------------------------------------
def fine_matrices(rng, n: int, c: int, m: int, t: int):
    """X_hat that is not symmetric, S_c and S_f."""
    size = n + c + m
    X_hat = random_matrix(rng, size, size, size=0.35)
    return X_hat, problems.assignment(rng, n, c, t, empty=True), problems.assignment(rng, c, m, min(t, m))


def bridged_layer_cases(engine: str, seed: int) -> Cases:
    """One layer, either bridge; its matrices and its gate."""
    for layer_bridge in bridged_propagation.LAYER_BRIDGES:
        rng = generator(seed, "bridged_layer", layer_bridge)
        for (n, c, m), width in (((60, 11, 6), 5), ((50, 6, 11), 48)):
            matrices = fine_matrices(rng, n, c, m, 2)
            X = normal(rng, n + c + m, width)
            yield _bridged_case(engine, "bridged_layer", layer_bridge, matrices, X, None)
        yield _bridged_structure_case(engine, layer_bridge, fine_matrices(rng, 8, 4, 3, 2), normal(rng, 15, 2), None)


def propagate_bridged_cases(engine: str, seed: int) -> Cases:
    """0 to 4 bridged layers, either bridge; matrices and gate."""
    for layer_bridge in bridged_propagation.LAYER_BRIDGES:
        for n_layers in range(5):
            rng = generator(seed, "propagate_bridged", layer_bridge, n_layers)
            matrices = fine_matrices(rng, 55, 10, 7, 1 + n_layers % 2)
            X = normal(rng, 72, WIDTHS[n_layers % 2])
            yield _bridged_case(engine, "propagate_bridged", layer_bridge, matrices, X, n_layers)
        for n_layers in (1, 3):
            rng = generator(seed, "structure", layer_bridge, n_layers)
            matrices, X0 = fine_matrices(rng, 8, 4, 3, 2), normal(rng, 15, 2)
            yield _bridged_structure_case(engine, layer_bridge, matrices, X0, n_layers)


def _bridged_case(engine, operation, layer_bridge, matrices, X, n_layers) -> Case:
    def make(dtype):
        return bridged_propagation.bridged_graph(
            *(sparse.csr_array(matrix, dtype=dtype) for matrix in matrices), GATE, layer_bridge=layer_bridge
        )

    graphs = InDtype(make)
    n, c = matrices[1].shape
    message = sparse.csr_array(matrices[0][:n, n : n + c])

    def forward(X):
        if n_layers is None:
            return bridged_propagation.bridged_layer(X, graphs(X), engine=twin(engine, X))
        return bridged_propagation.propagate_bridged(X, graphs(X), n_layers, engine=twin(engine, X))

    def backward(grad):
        if n_layers is None:
            return bridged_propagation.bridged_layer_backward(grad, graphs(grad), engine=engine)
        return bridged_propagation.propagate_bridged_backward(grad, graphs(grad), n_layers, engine=engine)

    def bound(grad, X):
        parts = ((*matrices, message), GATE, layer_bridge)
        if n_layers is None:
            return [rounding.bridged_layer(X, *parts)], {"X": rounding.bridged_layer_backward(grad, *parts)}
        out = rounding.bridged_propagation(X, *parts, n_layers)
        return [out], {"X": rounding.bridged_propagation_backward(grad, *parts, n_layers)}

    layers = "" if n_layers is None else f", L = {n_layers}"
    variation = f"{layer_bridge}{layers}, {len(X)} nodes, width {X.shape[1]}"
    return gradient_case(operation, variation, engine, forward, backward, {"X": X}, linear_in="X", rounding=bound)


def propagate_collapsed_cases(engine: str, seed: int) -> Cases:
    """All entities, some, and more than one block of rows; linear in F and tanh(F) as two arguments."""
    for n, m, width, n_rows in ((40, 7, 5, None), (60, 6, 48, 25), (5000, 2, 3, 4500)):
        rng = generator(seed, "propagate_collapsed", n)
        K, W = normal(rng, n, width), normal(rng, n, 2 * m)
        rows = None if n_rows is None else np.sort(rng.choice(n, n_rows, replace=False))

        def make(dtype, K=K, W=W):
            nothing = np.zeros(0, dtype)
            return collapsed_propagation.CollapsedPropagation(K.astype(dtype), W.astype(dtype), nothing, nothing)

        constants = InDtype(make)

        def forward(F, tanh_F, constants=constants, rows=rows):
            return collapsed_propagation.propagate_collapsed(
                F, tanh_F, constants(F), rows=rows, engine=twin(engine, F, tanh_F)
            )

        def backward(grad_H, F, tanh_F, constants=constants, rows=rows):
            both = collapsed_propagation.propagate_collapsed_backward(grad_H, constants(grad_H), rows=rows, engine=engine)
            return dict(zip(("grad_F", "grad_tanh_F"), both, strict=True))

        arguments = {"F": normal(rng, m, width), "tanh_F": normal(rng, m, width)}
        kind = "all rows" if rows is None else f"{n_rows} of {n} rows"
        yield gradient_case(
            "propagate_collapsed", f"{kind}, width {width}", engine, forward, backward, arguments
        )


def _bridged_structure_case(engine, layer_bridge, matrices, X, n_layers) -> Case:
    arguments = dict(zip(("X_hat", "S_coarse", "S_fine"), matrices, strict=True)) | {"gate": 0.35}

    def layer_graph(X_hat, S_coarse, S_fine, gate):
        return bridged_propagation.bridged_graph(X_hat, S_coarse, S_fine, gate, layer_bridge=layer_bridge)

    def forward(X_hat, S_coarse, S_fine, gate):
        which = twin(engine, X_hat, S_coarse, S_fine, gate)
        given, *parts = promoted(X.astype(X_hat.dtype), X_hat, S_coarse, S_fine, gate)
        layers = layer_graph(*parts)
        if n_layers is None:
            return bridged_propagation.bridged_layer(given, layers, engine=which)
        return bridged_propagation.propagate_bridged(given, layers, n_layers, engine=which)

    def backward(grad, X_hat, S_coarse, S_fine, gate):
        given, layers = X.astype(X_hat.dtype), layer_graph(X_hat, S_coarse, S_fine, gate)
        if n_layers is None:
            found = propagation_structure.bridged_layer_backward_structure(grad, given, layers, engine=engine)
        else:
            found = propagation_structure.propagate_bridged_backward_structure(
                grad, given, layers, n_layers, engine=engine
            )
        return {key: getattr(found, key) for key in arguments}

    layers = "" if n_layers is None else f", L = {n_layers}"
    operation = "bridged_layer" if n_layers is None else "propagate_bridged"
    # "exchange" uses S_c only in the graph, which is an argument of its own here.
    zero = "S_coarse" if layer_bridge == "exchange" else ()
    return gradient_case(
        operation, f"{layer_bridge}{layers}, matrices and gate", engine, forward, backward, arguments, zero_gradient=zero
    )


# ---- the graph -------------------------------------------------------------------------------------------------------
def graph_cases(engine: str, seed: int) -> Cases:
    """Normalisation (an empty row; negative weights; a node cut off) and expansion, on stored entries."""
    if engine != "numpy":
        return
    rng = generator(seed, "graph")
    positive = abs(random_matrix(rng, 12, 12))
    mixed = random_matrix(rng, 12, 12)
    mixed.data[np.abs(mixed.data) < 0.6] *= -0.1
    mixed.data[mixed.data < 0] *= 0.3
    mixed.data[: mixed.indptr[1]] *= np.where(mixed.data[: mixed.indptr[1]] > 0, -1, 1)  # the first node is cut off
    mixed = problems.on_float32_grid(mixed)
    for kind, X in (("positive", positive), ("mixed signs", mixed)):
        for degree in graph.DEGREES:
            yield _normalise_case(engine, kind, X, degree)
    for fine in (False, True):
        A = symmetric_graph(rng, 9)
        S_coarse, S_fine = problems.assignment(rng, 9, 4, 2), problems.assignment(rng, 4, 3, 2) if fine else None
        yield _expand_case(engine, A, S_coarse, S_fine)


def _normalise_case(engine, kind, X, degree) -> Case:
    def forward(X):
        return graph.normalise(X, degree=degree)

    def backward(grad_X_hat, X):
        return graph_backward.normalise_backward(grad_X_hat, X, degree=degree)

    def bound(grad_X_hat, X):
        X_hat, grad = rounding.normalisation(grad_X_hat.data, X)
        return [X_hat], {"X": grad}

    held = bound if degree == "signed" and kind == "positive" else None
    return gradient_case("graph", f"{degree} degrees, {kind}", engine, forward, backward, {"X": X}, rounding=held)


def _expand_case(engine, A, S_coarse, S_fine) -> Case:
    arguments = {"S_coarse": S_coarse} | ({} if S_fine is None else {"S_fine": S_fine})

    def forward(S_coarse, S_fine=None):
        return graph.expanded_graph(A.astype(np.float32) if S_coarse.dtype == np.float32 else A, S_coarse, S_fine)

    def backward(grad_X_hat, S_coarse, S_fine=None):
        like = A.astype(S_coarse.dtype)
        coarse, fine = graph_backward.expanded_graph_backward(grad_X_hat, like, S_coarse, S_fine)
        return {"grad_S_coarse": coarse} | ({} if fine is None else {"grad_S_fine": fine})

    variation = "expanded, coarse stage" if S_fine is None else "expanded, fine stage"
    return gradient_case("graph", variation, engine, forward, backward, arguments)


# ---- loss ------------------------------------------------------------------------------------------------------------
def bpr_cases(engine: str, seed: int) -> Cases:
    """Duplicate users, items on both sides, a batch of one, scores far apart; user and global biases have no gradient."""
    sizes = ((12, 18, 40, 5, 1.0), (40, 50, 70, 48, 0.5), (3, 4, 1, 4, 1.0), (6, 7, 15, 3, 2.5))
    for n_users, n_items, size, width, scale in sizes:
        rng = generator(seed, "bpr", size)
        triples = problems.batch(rng, n_users, n_items, size)
        arguments = {
            "H": problems.on_float32_grid(scale * normal(rng, n_users + n_items, width)),
            "bias_user": normal(rng, n_users),
            "bias_item": normal(rng, n_items),
            "bias_global": normal(rng, 1),
        }
        yield _bpr_case(engine, f"{size} triples, width {width}", arguments, triples)


def _bpr_case(engine, variation, arguments, triples) -> Case:
    n_users = len(arguments["bias_user"])

    def forward(H, bias_user, bias_item, bias_global):
        which = twin(engine, H, bias_user, bias_item, bias_global)
        bias = np.concatenate([bias_user, bias_item])
        return bpr.bpr_loss(H, bias, bias_global, triples, engine=which)[0]

    def backward(grad_loss, H, bias_user, bias_item, bias_global):
        bias = np.concatenate([bias_user, bias_item])
        _, slope = bpr.bpr_loss(H, bias, bias_global, triples, engine=engine)
        grad_H, grad_bias, grad_global = bpr.bpr_backward(H, triples, grad_loss * slope, engine=engine)
        return {
            "grad_H": grad_H,
            "grad_bias_user": grad_bias[:n_users],
            "grad_bias_item": grad_bias[n_users:],
            "grad_bias_global": grad_global,
        }

    def bound(grad_loss, H, bias_user, bias_item, bias_global):
        bias = np.concatenate([bias_user, bias_item])
        loss, grad_H, grad_bias = rounding.pairwise_loss(float(grad_loss), H, bias, float(bias_global[0]), triples)
        return [loss], {"H": grad_H, "bias_item": grad_bias[n_users:]}

    return gradient_case(
        "bpr", variation, engine, forward, backward, arguments, exactly_zero=("bias_user", "bias_global"), rounding=bound
    )


def regulariser_cases(engine: str, seed: int) -> Cases:
    """Every occurrence counts; entities that no triple holds have no gradient."""
    for n_users, n_items, size, width in ((12, 18, 40, 5), (40, 50, 70, 48), (3, 4, 1, 2)):
        rng = generator(seed, "regulariser", size)
        triples, Z = problems.batch(rng, n_users, n_items, size), np.tanh(normal(rng, n_users + n_items, width))
        yield _regulariser_case(engine, f"{size} triples, width {width}", problems.on_float32_grid(Z), triples)


def _regulariser_case(engine, variation, Z, triples) -> Case:
    def forward(Z):
        return regulariser.squared_norm_penalty(Z, triples, 5.0, engine=twin(engine, Z))

    def backward(grad_penalty, Z):
        return regulariser.squared_norm_penalty_backward(grad_penalty, Z, triples, 5.0, engine=engine)

    def bound(grad_penalty, Z):
        value, grad = rounding.penalty(float(grad_penalty), Z, triples, 5.0)
        return [value], {"Z": grad}

    return gradient_case("regulariser", variation, engine, forward, backward, {"Z": Z}, rounding=bound)


# ---- optimiser: no gradient of its own, but what every gradient passes through -----------------------------------------
def optimiser_cases(engine: str, seed: int) -> Cases:
    """Clipping and Adam against the formulas, entry by entry, in Python floats."""
    if engine == "numpy":
        yield verdict_case("optimiser", "clipping and Adam, literally", engine, _optimiser_check)


def _optimiser_check(seed: int):
    rng = generator(seed, "optimiser")
    gradient = 4 * rng.standard_normal((6, 3))
    literal = np.array([[3.0 if g > 3 else -3.0 if g < -3 else g for g in row] for row in gradient])
    yield "clip_by_value", np.max(np.abs(adam.clip_by_value(gradient, 3.0) - literal)), 0.0

    parameters = {"a": rng.standard_normal((3, 2)), "b": rng.standard_normal(4)}
    expected = {key: [float(x) for x in value.ravel()] for key, value in parameters.items()}
    first = {key: [0.0] * value.size for key, value in parameters.items()}
    second = {key: [0.0] * value.size for key, value in parameters.items()}
    moments = adam.fresh_moments(parameters)
    for step in range(1, 6):
        gradients = {key: 10.0 ** rng.integers(-9, 2) * rng.standard_normal(v.shape) for key, v in parameters.items()}
        parameters, moments = adam.adam_step(parameters, gradients, moments, 0.01)
        for key, values in expected.items():
            for i, g in enumerate(gradients[key].ravel()):
                first[key][i] = 0.9 * first[key][i] + 0.1 * g
                second[key][i] = 0.999 * second[key][i] + 0.001 * g**2
                m, v = first[key][i] / (1 - 0.9**step), second[key][i] / (1 - 0.999**step)
                values[i] -= 0.01 * m / (v**0.5 + 1e-8)
        for key, values in expected.items():
            yield f"adam_step {step}, {key}", np.max(np.abs(parameters[key].ravel() - values)), 1e-14


#: The cases of each operation, by the name that the command line takes.
OPERATIONS = {
    "sparse_product": sparse_product_cases,
    "compose": compose_cases,
    "soft_threshold": soft_threshold_cases,
    "bridge": bridge_cases,
    "propagate": propagate_cases,
    "bridged_layer": bridged_layer_cases,
    "propagate_bridged": propagate_bridged_cases,
    "propagate_collapsed": propagate_collapsed_cases,
    "graph": graph_cases,
    "bpr": bpr_cases,
    "regulariser": regulariser_cases,
    "optimiser": optimiser_cases,
}
