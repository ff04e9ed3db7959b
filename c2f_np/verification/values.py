"""Values of every operation and kernel against the mathematics written down plainly, and float32 against its bound.

A wrong constant has no wrong gradient, and a kernel may be wrong at one width, beyond one block or on two threads only. So each
operation stands here beside a text that computes the same from dense matrices and loops, with a bound of its rounding (see
:mod:`c2f_np.verification.rounding`). float64 and float32 are both held to that bound, each at its own precision.

The widths with kernels of their own, lanes and what follows the last whole lane are visited by running the kernels interpreted:
compiling each would take seconds. There the parallel loops also run in random orders, which must not change a bit: a loop that
scatters shows. A few widths are really compiled, and run on one, two and three threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.sparse as sparse

from ..baselines import table_stage
from ..engine import engine_named
from ..gradcheck import Report, Verdict
from ..gradcheck.values import cast, is_sparse, snapshot
from ..model import codebook, graph, loss, propagation
from ..model.step import BETA1, BETA2, adam_step, fresh_moments
from ..settings import DEGREES, LAYER_BRIDGES
from ..threads import kernel_threads
from . import problems, rounding
from .case import FAILED, PASSED, Case, verdict_case
from .cover import pairwise_cover
from .problems import generator, normal, random_matrix
from .rounding import Bounded, bounded, concatenate
from .threads import loops_in_random_order, possible_threads, watched_kernels

#: Whole lanes of 16 columns, and one, few or 15 columns more.
WIDTHS = (1, 16, 47, 48, 49, 64, 79, 100, 128, 303, 512, 513)
#: Widths that are compiled: one that shares its kernels, one with kernels of its own and something after the last whole lane.
COMPILED = (5, 49)
#: The greatest width at which there are more rows than row groups (64).
MANY_UP_TO = 49
#: Operations of which there is one version only.
WITHOUT_KERNELS = ("soft_threshold", "table_composition")
#: What the compiled engine runs besides kernels.
PREPARATIONS = {"propagation.even_row_groups", "propagation.even_groups_of", "propagation.operator", "buffers.empty"}
#: Configurations that one case holds.
_AT_A_TIME = 2
GATES = (0.0, 0.3, 0.5, 0.8, 1.0)


@dataclass(frozen=True)
class Text:
    """An operation beside what it computes.

    Attributes
    ----------
    options : mapping of str to sequence
        Every pair of values occurs in some configuration.
    make : callable
        ``make(rng, **configuration)``: the arguments, on the float32 grid.
    call : callable
        ``call(engine, **arguments)``: the values, arrays or csr arrays.
    expected : callable
        ``expected(**arguments)``: the same in float64, each with a bound of what float32 may be off.
    allowed : callable
        ``allowed(configuration)``: whether the values of the options go together.
    kernels : str
        The kernels that the compiled engine must use, "module.function", separated by spaces.
    """

    options: Mapping
    make: Callable
    call: Callable
    expected: Callable
    allowed: Callable = lambda configuration: True
    kernels: str = ""

    def configurations(self, rng, widths) -> list[dict]:
        options = dict(self.options) | ({"width": widths} if self.options.get("width") == WIDTHS else {})
        return pairwise_cover(options, rng, allowed=self.allowed)


def value_cases(operation: str, engine: str, seed: int) -> Iterator[Case]:
    """The cases of one operation: NumPy at every width; Numba interpreted at every width and compiled at some."""
    kinds = [(WIDTHS, False)] if engine == "numpy" else [(WIDTHS, True), (COMPILED, False)]
    if engine == "numba" and operation in WITHOUT_KERNELS:
        return
    for number, text in enumerate(TEXTS.get(operation, ())):
        for widths, interpreted in kinds:
            rng = generator(seed, "values", operation, number, engine, interpreted)
            drawn = text.configurations(rng, widths)
            for first in range(0, len(drawn), _AT_A_TIME):
                yield _case(operation, text, engine, drawn[first : first + _AT_A_TIME], interpreted, f"{number}, {first}")
        narrow = text.configurations(rng, (3,))
        yield _engine_case(operation, text, engine, narrow, f"{number}")


def _engine_case(operation, text: Text, engine: str, configurations: list[dict], variation: str) -> Case:
    """Whether the engine that was asked for is the one that runs: both compute the same, so the values cannot tell."""

    def check(seed: int):
        with watched_kernels() as called:
            for configuration in configurations:
                text.call(engine, **text.make(generator(seed, operation, variation), **configuration))
        yield "kernels that should have run", float(engine == "numba" and not set(text.kernels.split()) <= called), 0
        yield "kernels run by numpy", float(engine == "numpy" and len(called) > 0), 0

    return replace(verdict_case(operation, f"engine {variation}", engine, check), interpreted=engine == "numba")


def _case(operation, text: Text, engine: str, configurations, interpreted: bool, variation: str) -> Case:
    kind = "" if engine == "numpy" else "interpreted " if interpreted else "compiled "

    def run(seed: int) -> Report:
        report = Report(case.name, seed=seed)
        for k, configuration in enumerate(configurations):
            rng = generator(seed, case.name, k)
            report.verdicts += _held(text, engine, configuration, rng, interpreted)
        return report

    case = Case(operation, f"values {kind}{variation}", engine, run, interpreted)
    return case


def _held(text: Text, engine: str, configuration: dict, rng, interpreted: bool) -> Iterator[Verdict]:
    arguments, bounds = _drawn(text, configuration, rng)
    where = ", ".join(f"{key} {value}" for key, value in configuration.items())

    def call(dtype, change=lambda value: value):
        given = {key: change(cast(value, dtype)) for key, value in arguments.items()}
        before = snapshot(given)
        found = flat(text.call(engine, **given))
        touched = [] if snapshot(given) == before else ["an argument was changed"]
        wrong = [f"result {k} is {part.dtype}" for k, part in enumerate(found) if part.dtype != dtype]
        return found, touched + wrong

    for dtype, check in ((np.float64, "reference"), (np.float32, "float32")):
        with kernel_threads(1):
            found, wrong = call(dtype)
            strided_result = call(dtype, strided)[0] if engine == "numpy" or interpreted else found
        for what in wrong:
            yield Verdict(check, None, FAILED, reason=f"{where}: {what}")
        if len(found) != len(bounds):
            yield Verdict(check, None, FAILED, reason=f"{where}: {len(found)} results instead of {len(bounds)}")
        for k, bound in enumerate(bounds):
            both = [rounding.held(check, f"result {k}", result[k], bound, dtype, where) for result in (found, strided_result)]
            yield max(both, key=lambda verdict: verdict.failed)
        if engine == "numba":
            n = rng.choice(possible_threads()[0 if interpreted else 1 :] or [1])
            with kernel_threads(n), loops_in_random_order(rng):
                again = call(dtype)[0]
            same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, again, strict=True))
            reason = f"{where}: other bits on {n} threads or in another order"
            yield Verdict("threads", None, PASSED if same else FAILED, reason="" if same else reason)


def _drawn(text: Text, configuration: dict, rng) -> tuple[dict, list[Bounded]]:
    """Arguments at which no result cancels to something that rounding could hide."""
    for _ in range(50):
        arguments = text.make(rng, **configuration)
        bounds = [bounded(part) for part in text.expected(**arguments)]
        if all(rounding.says_something(bound) for bound in bounds):
            return arguments, bounds
    raise AssertionError(f"every result cancels: {configuration}")


def flat(result) -> list[np.ndarray]:
    """The values of a result: the stored entries of sparse matrices, everything as arrays."""
    if isinstance(result, tuple | list):
        return [part for each in result for part in flat(each)]
    return [result.data if is_sparse(result) else np.asarray(result)]


def on(pattern, gradient) -> np.ndarray:
    """The values of a gradient with respect to the stored entries of `pattern`; NaN if it is stored otherwise."""
    same = gradient.shape == pattern.shape and all(
        np.array_equal(getattr(gradient, part), getattr(pattern, part)) for part in ("indices", "indptr")
    )
    return gradient.data if same else np.full_like(gradient.data, np.nan)


def strided(value):
    """The same numbers, not contiguous."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return value
    wide = np.full([2 * size for size in value.shape], np.nan if value.dtype.kind == "f" else -1, value.dtype)
    every_other = tuple(slice(None, None, 2) for _ in value.shape)
    wide[every_other] = value
    return wide[every_other]


def _few_if_wide(configuration: dict) -> bool:
    """Many rows not at the greatest widths."""
    return configuration["width"] <= MANY_UP_TO or max(configuration["shape"]) < 20


# ---- the operations --------------------------------------------------------------------------------------------------
SHAPES = ((4, 3), (3, 5), (1, 2), (2, 70), (70, 3))


def _sparse_product(rng, width, shape, onto):
    n, m = shape
    M = random_matrix(rng, n, m) if n > 1 else problems.assignment(rng, n, m, 1)
    return {"M": M, "X": normal(rng, m, width), "G": normal(rng, n, width), "onto": normal(rng, n, width) if onto else None}


def _call_sparse_product(engine, M, X, G, onto):
    prepared = engine_named(engine).operator(M)
    if onto is None:
        Y = prepared.forward(X)
    else:
        Y = np.array(onto, order="C")
        prepared.add_forward(X, Y)
    return Y, prepared.adjoint(G), on(M, prepared.with_weights(prepared.weights_gradient(G, X)))


def _expected_sparse_product(M, X, G, onto):
    Y = rounding.product(M, X)
    # onto may come first or last in the sum.
    if onto is not None:
        Y = Y + onto
        Y = Bounded(Y.value, Y.error + rounding.gamma(np.diff(M.indptr)[:, None] + 1) * np.abs(onto))
    return Y, rounding.product(M.T, G), rounding.weights_product(G, M, X)


def _compose(rng, width, shape, t):
    n, c = shape
    S = problems.assignment(rng, n, c, min(t, c), empty=n > 3)
    return {"S": S, "E": normal(rng, c, width), "G": normal(rng, n, width)}


def _call_compose(engine, S, E, G):
    module = engine_named(engine)
    prepared = module.operator(S)
    Z, above = module.compose(prepared, E), module.compose_above(prepared, E)
    weights = codebook.compose_backward_assignment(G, prepared, E, Z)
    return Z, above, module.compose_backward(G, prepared, Z), module.tanh_backward(G, Z), on(S, weights)


def _expected_compose(S, E, G):
    Z, grad_E, grad_S = rounding.composition(G, S, E)
    return Z, concatenate([Z, E]), grad_E, rounding.squashing(G, rounding.product(S, E))[1], grad_S


def _shrink(rng, width, rows, tau):
    E = problems.codebook_off_threshold(rng, (rows, width), tau or 0.5)
    return {"E": E, "G": _leaning(rng, E), "tau": tau}


def _leaning(rng, like: np.ndarray) -> np.ndarray:
    """Random numbers of which three of four have the signs of `like`, so that a sum over many entries does not cancel."""
    return np.abs(normal(rng, *like.shape)) * np.sign(like) * rng.choice([1, 1, 1, -1], like.shape)


def _call_shrink(engine, E, G, tau):
    slope = codebook.soft_threshold_backward_tau(G, E, tau)
    return codebook.soft_threshold(E, tau), codebook.soft_threshold_backward(G, E, tau), E.dtype.type(slope)


def _bridge(rng, width, shape, t, gate):
    c, m = shape
    S = problems.assignment(rng, c, m, min(t, m))
    E, F = normal(rng, c, width), normal(rng, m, width)
    return {"E": E, "S": S, "F": F, "gate": gate, "G": _leaning(rng, S @ F - E)}


def _call_bridge(engine, E, S, F, gate, G):
    prepared = engine_named(engine).operator(S)
    grad_gate = E.dtype.type(codebook.bridge_backward_gate(G, E, prepared, F))
    grad_S = codebook.bridge_backward_assignment(G, prepared, F, gate)
    E_hat = codebook.bridge(E, prepared, F, gate)
    return E_hat, *codebook.bridge_backward(G, prepared, gate), grad_gate, on(S, grad_S)


def _chosen(rng, n: int, rows: str) -> np.ndarray | None:
    """Distinct rows of n, in no order; None for all."""
    return None if rows == "all" else rng.permutation(n)[: {"every": n, "some": 2 * n // 3, "one": 1}[rows]]


def _propagate(rng, width, n, n_layers, rows, kind):
    M = random_matrix(rng, n, n, size=0.4)
    if kind == "symmetric":
        M = abs(M)
        M = problems.on_float32_grid(graph.normalise(sparse.csr_array(M + M.T)))
    chosen = _chosen(rng, n, rows)
    G = normal(rng, n if chosen is None else len(chosen), width)
    return {"M": M, "X0": normal(rng, n, width), "n_layers": n_layers, "rows": chosen, "G": G}


def _call_propagate(engine, M, X0, n_layers, rows, G):
    module = engine_named(engine)
    layer = module.operator(M)
    H = module.propagate(X0, layer, n_layers, rows=rows)
    back = module.propagate_backward(G, layer, n_layers, rows=rows)
    if rows is not None:
        G = propagation.in_rows(G, rows, len(X0))
    inside = propagation.propagate_backward_structure(G, X0, layer, n_layers)
    return H, back, on(M, layer.with_weights(inside["X_hat"]))


def _expected_propagate(M, X0, n_layers, rows, G):
    H = rounding.propagation(X0, M, n_layers)
    if rows is not None:
        whole = np.zeros(X0.shape)
        whole[rows] = G
        H, G = H[rows], whole
    return H, rounding.propagation(G, M.T, n_layers), rounding.propagation_weights(G, X0, M, n_layers)


def _bridged(rng, width, n_layers, rows, gate, layer_bridge, sizes, t):
    n, c, m = sizes
    size = n + c + m
    matrices = (
        random_matrix(rng, size, size, most=4, size=0.3),
        problems.assignment(rng, n, c, min(t, c), empty=n > 3),
        problems.assignment(rng, c, m, min(t, m)),
    )
    for S in matrices[1:]:  # weights of about 1 in a row, as several layers would make larger ones blow up
        S.data = problems.on_float32_grid(S.data * 2 / (1 + min(t, S.shape[1])))
    chosen = _chosen(rng, size, rows)
    X0, parts = normal(rng, size, width), (*matrices, _message(*matrices[:2]))
    low, high = (rounding.bridged_propagation(X0, parts, g, layer_bridge, n_layers).value for g in (gate - 0.1, gate + 0.1))
    G = _leaning(rng, np.where(high == low, 1, high - low)[slice(None) if chosen is None else chosen])
    names = dict(zip(("X_hat", "S_coarse", "S_fine"), matrices, strict=True))
    return names | {"X0": X0, "G": G, "gate": gate, "bridge": layer_bridge, "L": n_layers, "rows": chosen}


def _message(X_hat, S_coarse) -> sparse.csr_array:
    """What the entities receive from the coarse nodes."""
    n, c = S_coarse.shape
    return sparse.csr_array(X_hat[:n, n : n + c])


def _call_bridged(engine, X_hat, S_coarse, S_fine, X0, G, gate, bridge, L, rows):
    module = engine_named(engine)
    layer = propagation.bridged_layer(X_hat, S_coarse, S_fine, gate, layer_bridge=bridge, engine=module)
    H = module.propagate(X0, layer, L, rows=rows)
    back = module.propagate_backward(G, layer, L, rows=rows)
    if rows is not None:
        G = propagation.in_rows(G, rows, len(X0))
    found = propagation.propagate_backward_structure(G, X0, layer, L)
    given = (("X_hat", X_hat), ("S_coarse", S_coarse), ("S_fine", S_fine))
    parts = [on(part, getattr(layer, key).with_weights(found[key])) for key, part in given]
    return H, back, *parts, X0.dtype.type(found["gate"])


def _expected_bridged(X_hat, S_coarse, S_fine, X0, G, gate, bridge, L, rows):
    parts = ((X_hat, S_coarse, S_fine, _message(X_hat, S_coarse)), gate, bridge, L)
    H = rounding.bridged_propagation(X0, *parts)
    if rows is not None:
        whole = np.zeros(X0.shape)
        whole[rows] = G
        H, G = H[rows], whole
    return H, rounding.bridged_propagation_backward(G, *parts), *rounding.bridged_structure(G, X0, *parts)


def _collapsed(rng, width, n, m, rows, block):
    chosen = np.arange(n) if rows == "all" else _chosen(rng, n, rows)
    G = normal(rng, len(chosen), width)
    K, W = normal(rng, n, width), normal(rng, n, 2 * m)
    return {"K": K, "W": W, "F": normal(rng, m, width), "T": normal(rng, m, width), "G": G, "rows": chosen, "block": block}


def _call_collapsed(engine, K, W, F, T, G, rows, block):
    parts, module = propagation.CollapsedPropagation(K, W, K[:0], F[:0]), engine_named(engine)
    H = module.propagate_collapsed(F, T, parts, rows=rows)
    found = H, *module.propagate_collapsed_backward(G, parts, rows=rows)
    if engine == "numpy":
        return *found, H, np.concatenate(found[1:])
    both = np.concatenate(module.propagate_collapsed_backward(G, parts, rows=rows, block=block))
    return *found, module.propagate_collapsed(F, T, parts, rows=rows, block=block), both


def _expected_collapsed(K, W, F, T, G, rows, block):
    H = rounding.dense_product(W[rows], np.concatenate([F, T])) + K[rows]
    both = rounding.dense_product(W[rows].T, G)
    return H, both[: len(F)], both[len(F) :], H, both


def _collapse(rng, **at):
    given = _bridged(rng, rows="all", **at)
    n, c = given["S_coarse"].shape
    given["E_coarse"] = given["X0"][n : n + c]
    wanted = ("E_coarse", "X_hat", "S_coarse", "S_fine", "gate", "bridge", "L")
    return {"Z": given["X0"][:n]} | {key: given[key] for key in wanted}


def _call_collapse(engine, Z, E_coarse, X_hat, S_coarse, S_fine, gate, bridge, L):
    layer = propagation.bridged_layer(X_hat, S_coarse, S_fine, gate, layer_bridge=bridge, engine=engine_named(engine))
    found = propagation.collapse(Z, E_coarse, layer, L)
    return found.constant, found.weights, found.Z, found.E_coarse


def _expected_collapse(Z, E_coarse, X_hat, S_coarse, S_fine, gate, bridge, L):
    """P applied to everything but F, and to a unit of each fine row as the bridge and as the fine node see it."""
    (n, c), m = S_coarse.shape, S_fine.shape[1]
    parts = ((X_hat, S_coarse, S_fine, _message(X_hat, S_coarse)), gate, bridge, L)
    start = concatenate([Z, bounded(E_coarse) * (1 - gate), np.zeros((m, Z.shape[1]))])
    bridged = concatenate([np.zeros((n, m)), bounded(S_fine.toarray()) * gate, np.zeros((m, m))])
    units = concatenate([bridged, np.eye(n + c + m)[:, n + c :]], axis=1)
    return rounding.bridged_propagation(start, *parts)[:n], rounding.bridged_propagation(units, *parts)[:n], Z, E_coarse


def _batch(rng, kind: str):
    """The number of entities, and triples whose occurrences are there already, as arguments may not change."""
    n_users, n_items, triples = problems.batch_of(rng, kind)
    assert triples.occurrences is not None
    return n_users + n_items, triples


def _bpr(rng, width, batch, scale):
    n, triples = _batch(rng, batch)
    H = problems.on_float32_grid(scale / width**0.5 * normal(rng, n, width))
    bias, bias_global = problems.on_float32_grid(0.3 * rng.standard_normal(n)), normal(rng, 1)
    return {"H": H, "bias": bias, "bias_global": bias_global, "triples": triples, "grad": rng.uniform(0.5, 2)}


def _call_bpr(engine, H, bias, bias_global, triples, grad):
    value, slope = engine_named(engine).bpr_loss(H, bias, bias_global, triples)
    gradients = engine_named(engine).bpr_backward(H, triples, H.dtype.type(grad) * slope)
    return value, *gradients, loss.score_pairs(H, bias, bias_global, triples.user, triples.positive)


def _expected_bpr(H, bias, bias_global, triples, grad):
    u, i = triples.user, triples.positive
    pairs = rounding.scores(H, bias, bias_global, u, i)
    return *rounding.pairwise_loss(grad, H, bias, float(bias_global[0]), triples), np.zeros(1), pairs


def _penalty(rng, width, batch, onto):
    n, triples = _batch(rng, batch)
    Z = problems.on_float32_grid(np.tanh(normal(rng, n, width)))
    onto = normal(rng, n, width) if onto else None
    return {"Z": Z, "triples": triples, "l2": rng.uniform(1, 5), "grad": rng.uniform(0.1, 2), "onto": onto}


def _call_penalty(engine, Z, triples, l2, grad, onto):
    module = engine_named(engine)
    onto = np.zeros(Z.shape, Z.dtype) if onto is None else np.array(onto)
    back = module.squared_norm_penalty_backward(np.float64(grad), Z, triples, l2, onto)
    return module.squared_norm_penalty(Z, triples, l2), back


def _expected_penalty(Z, triples, l2, grad, onto):
    value, back = rounding.penalty(grad, Z, triples, l2)
    return value, back if onto is None else back + onto


def _adam(rng, size, n_steps, block):
    sizes = 10.0 ** rng.integers(-5, 3, n_steps)
    gradients = tuple(problems.on_float32_grid(s * rng.standard_normal(size)) for s in sizes)
    if size[0] > 1:
        gradients[0][0] = 0
    return {"x": normal(rng, *size), "gradients": np.stack(gradients), "rate": rng.uniform(0.01, 0.5), "block": block}


def _call_adam(engine, x, gradients, rate, block):
    parameters, update = {"y": x, "x": x}, engine_named(engine).adam_update
    if engine == "numba":
        update = partial(update, worth_compiled=x.size)
    moments = fresh_moments(parameters)
    for g in gradients:
        step = {"x": g, "y": g}, moments
        parameters, moments = adam_step(parameters, *step, learning_rate=rate, clip=np.inf, update=update)
    found = parameters["x"], moments.mean["x"], moments.square["x"]
    if engine == "numpy":
        return *found, *found, codebook.tanh_backward(gradients[-1], parameters["x"])
    m, v = np.zeros_like(x), np.zeros_like(x)
    for k, g in enumerate(gradients, 1):
        rates = rate / (1 - BETA1**k), float((1 - BETA2**k) ** 0.5)
        x, m, v = update(x, g, m, v, *rates, block=block)
    return *found, x, m, v, engine_named(engine).tanh_backward(g, x, block=block)


def _expected_adam(x, gradients, rate, block):
    found = rounding.adam(x, gradients, rate)
    new = found[0]
    return *found, *found, bounded(gradients[-1]) * (bounded(np.ones(x.shape)) - new * new)


def _products(rng, width, shape):
    n, m = shape
    return {"Q": normal(rng, -(-n // m), width), "R": normal(rng, m, width), "G": normal(rng, n, width)}


def _call_products(engine, Q, R, G):
    return table_stage.compose_products(Q, R, len(G)), *table_stage.compose_products_backward(G, Q, R)


def _graph(rng, degree, weights, fine, sizes):
    n, c, m = sizes
    A = abs(random_matrix(rng, n, n, most=3))
    A = problems.on_float32_grid(graph.normalise(sparse.csr_array(A + A.T)))
    S_coarse, S_fine = problems.assignment(rng, n, c, 2, empty=n > 3), problems.assignment(rng, c, m, 1) if fine else None
    if weights == "signed":
        for S in (S_coarse, S_fine):
            if S is not None:
                S.data *= rng.choice([-1, 1, 1], S.nnz)
    size = n + c + (m if fine else 0)
    return {"A": A, "S_coarse": S_coarse, "S_fine": S_fine, "degree": degree, "G": normal(rng, size, size)}


def _expanded(A, S_coarse, S_fine):
    """The expanded graph, block by block."""
    n, c = S_coarse.shape
    m = 0 if S_fine is None else S_fine.shape[1]
    X = np.zeros((n + c + m, n + c + m))
    X[:n, :n], X[:n, n : n + c], X[n : n + c, :n] = A.toarray(), S_coarse.toarray(), S_coarse.toarray().T
    if S_fine is not None:
        X[n : n + c, n + c :], X[n + c :, n : n + c] = S_fine.toarray(), S_fine.toarray().T
    return sparse.csr_array(X)


def _call_graph(engine, A, S_coarse, S_fine, degree, G):
    X_hat = engine_named(engine).expanded_graph(A, S_coarse, S_fine, degree=degree)
    rows = np.repeat(np.arange(X_hat.shape[0]), np.diff(X_hat.indptr))
    cotangent = sparse.csr_array((G[rows, X_hat.indices], X_hat.indices, X_hat.indptr), shape=X_hat.shape)
    grads = graph.expanded_graph_backward(cotangent, A, S_coarse, S_fine, degree=degree)
    places = X_hat.indices.astype(G.dtype), X_hat.indptr.astype(G.dtype)
    return X_hat, *places, *(on(S, grad) for S, grad in zip((S_coarse, S_fine), grads, strict=True) if grad is not None)


def _expected_graph(A, S_coarse, S_fine, degree, G):
    X = _expanded(A, S_coarse, S_fine)
    n, c = S_coarse.shape
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    X_hat, grad = rounding.normalisation(G[rows, X.indices], X, degree)
    whole = Bounded(np.zeros(X.shape), np.zeros(X.shape))
    whole.value[rows, X.indices], whole.error[rows, X.indices] = grad.value, grad.error
    found = [X_hat, X.indices, X.indptr]
    for S, i, j in ((S_coarse, 0, n), (S_fine, n, n + c)):
        if S is not None:
            block = whole[i : i + S.shape[0], j : j + S.shape[1]] + whole[j : j + S.shape[1], i : i + S.shape[0]].T
            found.append(block[np.repeat(np.arange(S.shape[0]), np.diff(S.indptr)), S.indices])
    return found


LAYERS = range(6)
#: What is held to a text, by operation.
TEXTS: dict[str, tuple[Text, ...]] = {
    "sparse_product": (
        Text({"width": WIDTHS, "shape": SHAPES, "onto": (False, True)}, _sparse_product, _call_sparse_product,
             _expected_sparse_product, _few_if_wide,
             "propagation.multiply propagation._weights_gradient"),
    ),
    "compose": (
        Text({"width": WIDTHS, "shape": SHAPES, "t": (1, 2, 3, 6)}, _compose, _call_compose, _expected_compose, _few_if_wide,
             "propagation.compose propagation.compose_above propagation.compose_backward propagation._gather_links "
             "propagation.tanh_backward propagation._scale_by_tanh_slope"),
    ),
    "soft_threshold": (
        Text({"width": WIDTHS, "rows": (1, 2, 70), "tau": (0.0, 0.06, 0.5, 2.0)}, _shrink, _call_shrink,
             lambda E, G, tau: rounding.shrinkage(G, E, tau), lambda c: c["rows"] < 20 or c["width"] < 20),
    ),
    "bridge": (
        Text({"width": WIDTHS, "shape": SHAPES, "t": (1, 2, 6), "gate": GATES}, _bridge, _call_bridge,
             lambda E, S, F, gate, G: rounding.bridging(G, E, S, F, gate), _few_if_wide,
             "propagation.multiply propagation._weights_gradient"),
    ),
    "propagate": (
        Text({"width": WIDTHS, "n": (4, 5, 70), "n_layers": LAYERS, "rows": ("all", "every", "some", "one"),
              "kind": ("symmetric", "not symmetric")}, _propagate, _call_propagate, _expected_propagate,
             lambda c: (c["n"] < 20 or c["width"] <= MANY_UP_TO) and c["n_layers"] * c["width"] <= 1030,
             "propagation.mean_of_powers propagation._weights_gradient"),
    ),
    "propagate_bridged": (
        Text({"width": WIDTHS, "n_layers": LAYERS, "rows": ("all", "some"), "gate": GATES, "t": (1, 2, 6),
              "layer_bridge": LAYER_BRIDGES, "sizes": ((3, 2, 2), (4, 2, 3), (60, 8, 7))},
             _bridged, _call_bridged, _expected_bridged,
             lambda c: (c["sizes"][0] < 20 or c["width"] <= MANY_UP_TO) and c["n_layers"] * c["width"] <= 600,
             "propagation.multiply propagation._weights_gradient"),
    ),
    "propagate_collapsed": (
        Text({"width": WIDTHS, "n": (4, 70), "m": (1, 3), "rows": ("all", "some", "one"), "block": (1, 3, 100)}, _collapsed,
             _call_collapsed, _expected_collapsed, lambda c: c["n"] < 20 or c["width"] <= MANY_UP_TO,
             "propagation.propagate_collapsed propagation.propagate_collapsed_backward"),
        Text({"width": (1, 3), "n_layers": LAYERS, "gate": GATES, "t": (1, 2), "sizes": ((3, 2, 2), (6, 2, 3)),
              "layer_bridge": LAYER_BRIDGES}, _collapse, _call_collapse, _expected_collapse,
             kernels="propagation.multiply"),
    ),
    "optimiser": (
        Text({"size": ((1,), (7,), (3, 5), (13, 4)), "n_steps": (1, 2, 6, 8), "block": (1, 4, 51, 52, 99)}, _adam, _call_adam,
             _expected_adam, kernels="step.adam_update step._adam propagation.tanh_backward"),
    ),
    "bpr": (
        Text({"width": WIDTHS, "batch": tuple(problems.BATCHES), "scale": (0.3, 1.0, 2.0)}, _bpr, _call_bpr,
             _expected_bpr,
             lambda c: (c["batch"] != "many" or c["width"] <= MANY_UP_TO) and (c["scale"] <= 1 or c["width"] <= 64),
             "step.bpr_loss step._differences step._softplus_and_slopes step.bpr_backward step._gather"),
    ),
    "regulariser": (
        Text({"width": WIDTHS, "batch": tuple(problems.BATCHES), "onto": (False, True)}, _penalty, _call_penalty,
             _expected_penalty, lambda c: c["batch"] != "many" or c["width"] <= MANY_UP_TO,
             "step.squared_norm_penalty step.squared_norms step.squared_norm_penalty_backward step.add_scaled_rows"),
    ),
    "table_composition": (
        Text({"width": WIDTHS, "shape": ((1, 1), (7, 3), (6, 3), (5, 8))}, _products, _call_products,
             lambda Q, R, G: rounding.block_products(G, Q, R)),
    ),
    "graph": (
        Text({"degree": DEGREES, "weights": ("positive", "signed"), "fine": (False, True),
              "sizes": ((3, 2, 2), (6, 4, 3), (70, 5, 3))}, _graph, _call_graph, _expected_graph,
             kernels="graph.expanded_graph"),
    ),
}  # fmt: skip

