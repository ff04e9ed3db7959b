"""The cases of every operation.

A function here yields the cases of one operation for one engine and seed. The seed draws the configurations as well as the
numbers: every pair of values of two options occurs (see :mod:`c2f_np.verification.cover`), and over many seeds all combinations
do. Operators are rectangular or at least not symmetric wherever the mathematics allows it, so that a forgotten transpose cannot
hide. Values, float32, widths and threads are held to plain texts in :mod:`c2f_np.verification.values`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

from ..baselines import table_stage
from ..engine import engine_named
from ..gradcheck import check_convention
from ..model import codebook, graph, propagation
from ..settings import DEGREES, LAYER_BRIDGES
from . import problems
from .case import MOST_DRAWS, Case, InDtype, depends_on_all, gradient_case, operator_in_dtype, promoted, twin
from .cover import in_turns, pairwise_cover
from .exact import EXACT, exact_cases
from .problems import generator, normal, random_matrix
from .values import TEXTS, value_cases

Cases = Iterator[Case]
WIDTHS = (1, 3, 49)  # the last has compiled kernels of its own
LAYERS = range(6)


def gates(seed: int) -> tuple[float, ...]:
    """One below and one above a half, and one at which something cancels."""
    rng = generator(seed, "gates")
    return round(rng.uniform(0.1, 0.45), 2), round(rng.uniform(0.55, 0.95), 2), float(rng.choice([0.0, 0.5, 1.0]))


def links(seed: int) -> tuple[int, ...]:
    """One link, some and many."""
    rng = generator(seed, "links")
    return 1, int(rng.integers(2, 4)), int(rng.integers(4, 7))


def drawn(seed: int, name: str, engine: str | None, allowed=lambda configuration: True, **options):
    """The configurations of an operation that are this engine's, each with a generator of its own and with itself in words.

    With engine None, of an operation that has one version, all of them.
    """
    configurations = enumerate(pairwise_cover(options, generator(seed, name), allowed=allowed))
    for k, at in configurations if engine is None else in_turns(configurations, engine):
        words = {"n_layers": "L", "layer_bridge": "bridge"}
        named = ", ".join(f"{words.get(key, key)} = {value}" for key, value in at.items())
        yield generator(seed, name, k), named, at


# ---- sparse product --------------------------------------------------------------------------------------------------
def sparse_product_cases(engine: str, seed: int) -> Cases:
    """Tall, wide, more rows than row groups, one row; the operator and its stored weights."""
    compiled = engine_named(engine)
    shapes = ((9, 5), (5, 9), (70, 3), (1, 6))
    for rng, named, at in drawn(seed, "sparse_product", engine, shape=shapes, width=WIDTHS):
        M, X = random_matrix(rng, *at["shape"]), normal(rng, at["shape"][1], at["width"])

        def forward(M, X):
            return twin(engine, M, X).operator(M).forward(X)

        def backward(grad_Y, M, X):
            M = compiled.operator(M)
            return {"grad_M": M.with_weights(M.weights_gradient(grad_Y, X)), "grad_X": M.adjoint(grad_Y)}

        yield gradient_case("sparse_product", named, engine, forward, backward, {"M": M, "X": X}, linear_in=("M", "X"))


# ---- composition -----------------------------------------------------------------------------------------------------
def compose_cases(engine: str, seed: int) -> Cases:
    """An entity without any link, a codebook row that nobody uses; tanh without an assignment."""
    compiled = engine_named(engine)
    shapes = ((9, 4), (5, 12), (70, 3))
    options = {"shape": shapes, "t": links(seed), "width": WIDTHS, "above": (False, True)}
    for rng, named, at in drawn(seed, "compose", engine, **options):
        n, c = at["shape"]
        S, E = problems.assignment(rng, n, c, min(at["t"], c), empty=True), normal(rng, c, at["width"])

        def forward(S, E, name="compose_above" if at["above"] else "compose"):
            which = twin(engine, S, E)
            return getattr(which, name)(which.operator(S), E)

        def backward(grad, S, E, n=n):
            S = compiled.operator(S)
            Z, grad_Z = compiled.compose(S, E), grad[:n]
            grad_E = compiled.compose_backward(grad_Z, S, Z)
            return {
                "grad_S": codebook.compose_backward_assignment(grad_Z, S, E, Z),
                "grad_E": grad_E + grad[n:] if len(grad) > n else grad_E,
            }

        yield gradient_case("compose", named, engine, forward, backward, {"S": S, "E": E})

    def tanh_backward(grad_Z, Y):
        return compiled.tanh_backward(grad_Z, np.tanh(Y))

    Y = normal(generator(seed, "tanh"), 7, 3)
    yield gradient_case("compose", "tanh alone", engine, np.tanh, tanh_backward, {"Y": Y})


# ---- soft threshold --------------------------------------------------------------------------------------------------
def soft_threshold_cases(engine: str, seed: int) -> Cases:
    """Rows with and without a survivor, no threshold, and the convention exactly at the threshold."""
    if engine != "numpy":
        return

    def forward(E, tau):
        return codebook.soft_threshold(E, tau)

    def backward(grad_F, E, tau):
        return {
            "grad_E": codebook.soft_threshold_backward(grad_F, E, tau),
            "grad_tau": codebook.soft_threshold_backward_tau(grad_F, E, tau),
        }

    def branches(E, tau):
        return (E > tau).astype(int) - (E < -tau)

    taus = (0.0, 0.2, 0.7, 2.5)
    for rng, named, at in drawn(seed, "soft_threshold", None, shape=((2, 6), (12, 2)), tau=taus):
        E = problems.codebook_off_threshold(rng, at["shape"], at["tau"] or 0.5)
        wrt = "E" if at["tau"] == 0 else None  # a threshold below 0 is refused
        yield gradient_case(
            "soft_threshold", named, engine, forward, backward, {"E": E, "tau": at["tau"]}, active_set=branches, wrt=wrt
        )

    inside = np.array([[0.2, -0.4, 0.1]])
    yield gradient_case(
        "soft_threshold", "everything inside", engine, forward, backward, {"E": inside, "tau": 0.7},
        active_set=branches, zero_gradient=("E", "tau"), dtypes=("float64",),
    )  # fmt: skip

    at = {"E": np.array([[0.5, -0.5, 0.0, 0.75, -2.0, 0.25]]), "tau": 0.5}
    slope = {"E": np.array([[0.0, 0.0, 0.0, 1.0, 1.0, 0.0]])}

    def convention(run_seed):
        def gradient(grad_F, E, tau):
            return {"grad_E": codebook.soft_threshold_backward(grad_F, E, tau)}

        def gradient_tau(grad_F, E, tau):
            return {"grad_tau": codebook.soft_threshold_backward_tau(grad_F, E, tau)}

        report = check_convention(gradient, at=at, expected=slope, seed=run_seed, name=name)
        cotangent = np.array([[3.0, 5.0, 7.0, 1.5, -2.25, 9.0]])
        second = check_convention(gradient_tau, at=at, expected={"tau": -1.5 - 2.25}, cotangent=cotangent)
        report.verdicts += second.verdicts
        return report

    name = f"soft_threshold [{engine}] exactly at the threshold"
    yield Case("soft_threshold", "exactly at the threshold", engine, convention)


# ---- bridge ----------------------------------------------------------------------------------------------------------
def bridge_cases(engine: str, seed: int) -> Cases:
    """Both codebooks, the gate and the stored weights."""
    options = {"shape": ((9, 4), (4, 9), (70, 3)), "t": links(seed), "gate": gates(seed), "width": WIDTHS}
    for rng, named, at in drawn(seed, "bridge", engine, **options):
        c, m = at["shape"]
        arguments = {
            "E_coarse": normal(rng, c, at["width"]),
            "S_fine": problems.assignment(rng, c, m, min(at["t"], m)),
            "F": normal(rng, m, at["width"]),
            "gate": at["gate"],
        }

        def forward(E_coarse, S_fine, F, gate):
            return codebook.bridge(E_coarse, twin(engine, E_coarse, S_fine, F, gate).operator(S_fine), F, gate)

        def backward(grad_E_hat, E_coarse, S_fine, F, gate):
            S_fine = engine_named(engine).operator(S_fine)
            grad_E_coarse, grad_F = codebook.bridge_backward(grad_E_hat, S_fine, gate)
            return {
                "grad_E_coarse": grad_E_coarse,
                "grad_S_fine": codebook.bridge_backward_assignment(grad_E_hat, S_fine, F, gate),
                "grad_F": grad_F,
                "grad_gate": codebook.bridge_backward_gate(grad_E_hat, E_coarse, S_fine, F),
            }

        zero = {0.0: ("S_fine", "F"), 1.0: ("E_coarse",)}.get(at["gate"], ())
        yield gradient_case(
            "bridge", named, engine, forward, backward, arguments, linear_in=tuple(arguments), zero_gradient=zero
        )


# ---- propagation -----------------------------------------------------------------------------------------------------
def symmetric_graph(rng, n: int) -> sparse.csr_array:
    """A normalised graph with an isolated node."""
    M = abs(random_matrix(rng, n, n))
    return sparse.csr_array(graph.normalise(sparse.csr_array(M + M.T)))


def propagate_cases(engine: str, seed: int) -> Cases:
    """Over a graph that is not symmetric and one that is, to all rows and to some; the weights of the graph."""
    graphs = ("not symmetric", "symmetric")
    options = {"n_layers": LAYERS, "graph": graphs, "rows": ("all", "some"), "n": (7, 70), "width": WIDTHS}
    for rng, _, at in drawn(seed, "propagate", engine, lambda at: at["n"] < 20 or at["width"] < 49, **options):
        n = at["n"]
        M = random_matrix(rng, n, n, size=0.4) if at["graph"] == "not symmetric" else symmetric_graph(rng, n)
        rows = None if at["rows"] == "all" else rng.permutation(n)[: n // 2]
        named = f"L = {at['n_layers']}, {at['graph']}, {at['rows']} of {n} rows, width {at['width']}"
        yield _propagate_case(engine, named, M, normal(rng, n, at["width"]), at["n_layers"], rows)
    for n_layers in (1, 2, 3, 5):
        rng = generator(seed, "weights", n_layers)
        yield _propagate_weights_case(engine, random_matrix(rng, 9, 9, size=0.5), normal(rng, 9, 3), n_layers)


def _propagate_case(engine, variation, M, X0, n_layers, rows) -> Case:
    operator = operator_in_dtype(M, engine)

    def forward(X0):
        return twin(engine, X0).propagate(X0, operator(X0), n_layers, rows=rows)

    def backward(grad_H):
        return engine_named(engine).propagate_backward(grad_H, operator(grad_H), n_layers, rows=rows)

    return gradient_case("propagate", variation, engine, forward, backward, {"X0": X0}, linear_in="X0")


def _propagate_weights_case(engine, X_hat, X0, n_layers) -> Case:
    def forward(X_hat, X0):
        X_hat, X0 = promoted(X_hat, X0)
        which = twin(engine, X_hat, X0)
        return which.propagate(X0, which.operator(X_hat), n_layers)

    def backward(grad_H, X_hat, X0):
        X_hat = engine_named(engine).operator(X_hat)
        inside = propagation.propagate_backward_structure(grad_H, X0, X_hat, n_layers)
        grad_X0 = engine_named(engine).propagate_backward(grad_H, X_hat, n_layers)
        return {"grad_X_hat": X_hat.with_weights(inside["X_hat"]), "grad_X0": grad_X0}

    return gradient_case(
        "propagate", f"L = {n_layers}, weights of the graph", engine, forward, backward, {"X_hat": X_hat, "X0": X0}
    )


# ---- bridged propagation ---------------------------------------------------------------------------------------------
def fine_matrices(rng, n: int, c: int, m: int, t: int):
    """X_hat that is not symmetric, S_c and S_f."""
    size = n + c + m
    X_hat = random_matrix(rng, size, size, size=0.35)
    return X_hat, problems.assignment(rng, n, c, min(t, c), empty=True), problems.assignment(rng, c, m, min(t, m))


def bridged_options(seed: int, t: tuple[int, ...]) -> dict:
    return {"layer_bridge": LAYER_BRIDGES, "gate": gates(seed)} | ({"t": t} if t else {})


def _takes_part(at: dict) -> bool:
    """Whether S_f is more than rounding: with this gate the raw bridge adds it and takes it away again."""
    return (at["layer_bridge"], at["gate"]) != ("raw", 0.5)


def bridged_layer_cases(engine: str, seed: int) -> Cases:
    """One layer, either bridge; its matrices and its gate."""
    sizes = ((6, 4, 3), (4, 3, 6), (60, 6, 7))
    for rng, named, at in drawn(seed, "bridged_layer", engine, sizes=sizes, width=WIDTHS, **bridged_options(seed, links(seed))):
        X = normal(rng, sum(at["sizes"]), at["width"])
        matrices = fine_matrices(rng, *at["sizes"], at["t"])
        yield _bridged_case(engine, "bridged_layer", named, at["layer_bridge"], matrices, X, at["gate"])
    for rng, named, at in drawn(seed, "layer's structure", engine, _takes_part, **bridged_options(seed, ())):
        yield _bridged_structure_case(engine, f"matrices and gate, {named}", at["layer_bridge"], rng, at["gate"])


def propagate_bridged_cases(engine: str, seed: int) -> Cases:
    """Several layers and their mean, either bridge; all rows or some; matrices and gate."""
    options = {"layer_bridge": LAYER_BRIDGES, "n_layers": LAYERS, "rows": ("all", "some"), "width": (2, 49)}
    for rng, named, at in drawn(seed, "propagate_bridged", engine, **options):
        at |= {"gate": float(rng.choice(gates(seed))), "t": int(rng.choice(links(seed)))}
        named += f", gate = {at['gate']}, t = {at['t']}"
        matrices, X = fine_matrices(rng, 8, 5, 4, at["t"]), normal(rng, 17, at["width"])
        rows = None if at["rows"] == "all" else rng.permutation(17)[:9]
        layers = at["n_layers"], rows
        yield _bridged_case(engine, "propagate_bridged", named, at["layer_bridge"], matrices, X, at["gate"], *layers)
    options = bridged_options(seed, ()) | {"n_layers": (1, 2, int(rng.integers(3, 6)))}
    for rng, named, at in drawn(seed, "structure", engine, _takes_part, **options):
        layers = at["layer_bridge"], rng, at["gate"], at["n_layers"]
        yield _bridged_structure_case(engine, f"matrices and gate, {named}", *layers)


def _bridged_case(engine, operation, variation, layer_bridge, matrices, X, gate, n_layers=None, rows=None) -> Case:
    def make(dtype, which):
        given = (sparse.csr_array(matrix, dtype=dtype) for matrix in matrices)
        return propagation.bridged_layer(*given, gate, layer_bridge=layer_bridge, engine=which)

    layer = InDtype(make, engine)

    def forward(X):
        if n_layers is None:
            return layer(X).forward(X)
        return twin(engine, X).propagate(X, layer(X), n_layers, rows=rows)

    def backward(grad):
        if n_layers is None:
            return layer(grad).adjoint(grad)
        return engine_named(engine).propagate_backward(grad, layer(grad), n_layers, rows=rows)

    return gradient_case(operation, variation, engine, forward, backward, {"X": X}, linear_in="X")


def propagate_collapsed_cases(engine: str, seed: int) -> Cases:
    """All entities, and some; linear in F and tanh(F) as two arguments."""
    # The gradient is not a single number, in which 70 terms may cancel.
    allowed, sizes = lambda at: at["m"] > 1 or at["width"] > 1, {"n": (1, 9, 70), "m": (1, 4), "width": WIDTHS}
    for rng, named, at in drawn(seed, "propagate_collapsed", engine, allowed, **sizes, rows=("all", "some")):
        n, m, width = at["n"], at["m"], at["width"]
        K, W = normal(rng, n, width), normal(rng, n, 2 * m)
        rows = np.arange(n) if at["rows"] == "all" else rng.permutation(n)[: max(n // 2, 1)]

        def make(dtype, K=K, W=W):
            nothing = np.zeros(0, dtype)
            return propagation.CollapsedPropagation(K.astype(dtype), W.astype(dtype), nothing, nothing)

        constants = InDtype(make)

        def forward(F, tanh_F, constants=constants, rows=rows):
            return twin(engine, F, tanh_F).propagate_collapsed(F, tanh_F, constants(F), rows=rows)

        def backward(grad_H, F, tanh_F, constants=constants, rows=rows):
            both = engine_named(engine).propagate_collapsed_backward(grad_H, constants(grad_H), rows=rows)
            return dict(zip(("grad_F", "grad_tanh_F"), both, strict=True))

        arguments = {"F": normal(rng, m, width), "tanh_F": normal(rng, m, width)}
        yield gradient_case("propagate_collapsed", named, engine, forward, backward, arguments)


def _bridged_structure_case(engine, variation, layer_bridge, rng, gate, n_layers=None) -> Case:
    def forward(X_hat, S_coarse, S_fine, gate):
        which = twin(engine, X_hat, S_coarse, S_fine, gate)
        given, *parts = promoted(X.astype(X_hat.dtype), X_hat, S_coarse, S_fine, gate)
        layer = propagation.bridged_layer(*parts, layer_bridge=layer_bridge, engine=which)
        return layer.forward(given) if n_layers is None else which.propagate(given, layer, n_layers)

    def backward(grad, X_hat, S_coarse, S_fine, gate):
        given, which = X.astype(X_hat.dtype), engine_named(engine)
        layer = propagation.bridged_layer(X_hat, S_coarse, S_fine, gate, layer_bridge=layer_bridge, engine=which)
        if n_layers is None:
            found = layer.structure_gradients(grad, given)
        else:
            found = propagation.propagate_backward_structure(grad, given, layer, n_layers)
        return {key: getattr(layer, key).with_weights(part) if key != "gate" else part for key, part in found.items()}

    operation = "bridged_layer" if n_layers is None else "propagate_bridged"
    # "exchange" uses S_c only in the graph, which is an argument of its own here; with some gates a matrix takes no part.
    zero = ("S_coarse",) if layer_bridge == "exchange" else ()
    zero += ("S_fine",) if (layer_bridge, gate) == ("exchange", 0.0) else ()
    for _ in range(MOST_DRAWS):
        matrices, X = fine_matrices(rng, 6, 3, 3, int(rng.integers(1, 4))), normal(rng, 12, 2)
        arguments = dict(zip(("X_hat", "S_coarse", "S_fine"), matrices, strict=True)) | {"gate": gate}
        # A random graph may have no link from the entities to the coarse rows, or from these to the fine ones.
        if depends_on_all(forward, arguments, arguments.keys() - set(zero)):
            break
    return gradient_case(operation, variation, engine, forward, backward, arguments, zero_gradient=zero)


# ---- the graph -------------------------------------------------------------------------------------------------------
def graph_cases(engine: str, seed: int) -> Cases:
    """Normalisation (an empty row; negative weights; a node cut off) and expansion, on stored entries."""
    if engine == "numpy":
        for rng, named, at in drawn(seed, "normalise", None, weights=("positive", "mixed signs"), degree=DEGREES):
            X = abs(random_matrix(rng, 12, 12)) if at["weights"] == "positive" else _mixed_signs(rng)
            yield _normalise_case(engine, named, X, at["degree"])
    options = {"fine": (False, True), "degree": DEGREES, "t": links(seed)}
    for rng, named, at in drawn(seed, "expanded", engine, **options):
        S_fine = problems.assignment(rng, 4, 3, min(at["t"], 3)) if at["fine"] else None
        S_coarse = problems.assignment(rng, 9, 4, min(at["t"], 4), empty=True)
        yield _expand_case(engine, named, symmetric_graph(rng, 9), S_coarse, S_fine, at["degree"])


def _mixed_signs(rng) -> sparse.csr_array:
    mixed = random_matrix(rng, 12, 12)
    mixed.data[np.abs(mixed.data) < 0.6] *= -0.1
    mixed.data[mixed.data < 0] *= 0.3
    mixed.data[: mixed.indptr[1]] *= np.where(mixed.data[: mixed.indptr[1]] > 0, -1, 1)  # the first node is cut off
    return problems.on_float32_grid(mixed)


def _normalise_case(engine, variation, X, degree) -> Case:
    def forward(X):
        return graph.normalise(X, degree=degree)

    def backward(grad_X_hat, X):
        return graph.normalise_backward(grad_X_hat, X, degree=degree)

    return gradient_case("graph", variation, engine, forward, backward, {"X": X})


def _expand_case(engine, variation, A, S_coarse, S_fine, degree) -> Case:
    arguments = {"S_coarse": S_coarse} | ({} if S_fine is None else {"S_fine": S_fine})

    def forward(S_coarse, S_fine=None):
        which = twin(engine, *(S for S in (S_coarse, S_fine) if S is not None))
        like = A.astype(np.float32) if S_coarse.dtype == np.float32 else A
        return which.expanded_graph(like, S_coarse, S_fine, degree=degree)

    def backward(grad_X_hat, S_coarse, S_fine=None):
        like = A.astype(S_coarse.dtype)
        coarse, fine = graph.expanded_graph_backward(grad_X_hat, like, S_coarse, S_fine, degree=degree)
        return {"grad_S_coarse": coarse} | ({} if fine is None else {"grad_S_fine": fine})

    return gradient_case("graph", f"expanded, {variation}", engine, forward, backward, arguments)


# ---- loss ------------------------------------------------------------------------------------------------------------
def _few_if_many(at: dict) -> bool:
    """Narrow embeddings where there are many."""
    return at["batch"] != "many" or at["width"] < 49


def bpr_cases(engine: str, seed: int) -> Cases:
    """Duplicate users, items on both sides, scores far apart; user and global biases have no gradient."""
    options = {"batch": tuple(problems.BATCHES), "width": WIDTHS, "scale": (0.3, 1.0, 2.0)}
    for rng, named, at in drawn(seed, "bpr", engine, _few_if_many, **options):
        n_users, n_items, triples = problems.batch_of(rng, at["batch"])
        arguments = {
            "H": problems.on_float32_grid(at["scale"] / at["width"] ** 0.5 * normal(rng, n_users + n_items, at["width"])),
            "bias_user": normal(rng, n_users),
            "bias_item": normal(rng, n_items),
            "bias_global": normal(rng, 1),
        }
        yield _bpr_case(engine, named, arguments, triples)


def _bpr_case(engine, variation, arguments, triples) -> Case:
    n_users = len(arguments["bias_user"])

    def forward(H, bias_user, bias_item, bias_global):
        which = twin(engine, H, bias_user, bias_item, bias_global)
        bias = np.concatenate([bias_user, bias_item])
        return which.bpr_loss(H, bias, bias_global, triples)[0]

    def backward(grad_loss, H, bias_user, bias_item, bias_global):
        bias = np.concatenate([bias_user, bias_item])
        _, slope = engine_named(engine).bpr_loss(H, bias, bias_global, triples)
        grad_H, grad_bias, grad_global = engine_named(engine).bpr_backward(H, triples, grad_loss * slope)
        return {
            "grad_H": grad_H,
            "grad_bias_user": grad_bias[:n_users],
            "grad_bias_item": grad_bias[n_users:],
            "grad_bias_global": grad_global,
        }

    return gradient_case("bpr", variation, engine, forward, backward, arguments, exactly_zero=("bias_user", "bias_global"))


def regulariser_cases(engine: str, seed: int) -> Cases:
    """Every occurrence counts; entities that no triple holds have no gradient."""
    for rng, named, at in drawn(seed, "regulariser", engine, _few_if_many, batch=tuple(problems.BATCHES), width=WIDTHS):
        n_users, n_items, triples = problems.batch_of(rng, at["batch"])
        Z = problems.on_float32_grid(np.tanh(normal(rng, n_users + n_items, at["width"])))
        yield _regulariser_case(engine, named, Z, triples, rng.uniform(0.5, 5))


def _regulariser_case(engine, variation, Z, triples, l2) -> Case:
    def forward(Z):
        return twin(engine, Z).squared_norm_penalty(Z, triples, l2)

    def backward(grad_penalty, Z):
        return engine_named(engine).squared_norm_penalty_backward(grad_penalty, Z, triples, l2, np.zeros_like(Z))

    return gradient_case("regulariser", variation, engine, forward, backward, {"Z": Z})


# ---- a baseline's composition ----------------------------------------------------------------------------------------
def table_composition_cases(engine: str, seed: int) -> Cases:
    """Whole and incomplete last blocks, one row of either table."""
    if engine != "numpy":
        return
    for rng, named, at in drawn(seed, "table_composition", None, shape=((1, 1), (7, 3), (6, 3), (5, 8)), width=(1, 3)):
        n, m = at["shape"]
        arguments = {"Q": normal(rng, -(-n // m), at["width"]), "R": normal(rng, min(m, n), at["width"])}

        def forward(Q, R, n=n):
            return table_stage.compose_products(Q, R, n)

        yield gradient_case("table_composition", named, engine, forward, table_stage.compose_products_backward, arguments)


_GRADIENTS = {
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
    "table_composition": table_composition_cases,
}


def _of(name: str):
    def cases(engine: str, seed: int) -> Cases:
        yield from _GRADIENTS[name](engine, seed) if name in _GRADIENTS else ()
        yield from value_cases(name, engine, seed)
        yield from exact_cases(name, engine, seed)

    return cases


#: The cases of each operation, gradients and values, by the name that the command line takes.
OPERATIONS = {name: _of(name) for name in _GRADIENTS | TEXTS | EXACT}
