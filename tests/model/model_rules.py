"""What every operation with two engines has to keep."""

import numpy as np
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.engine import engine_named
from c2f_np.model import codebook, links
from c2f_np.model.propagation import bridged_layer as prepared_layer
from c2f_np.threads import kernel_threads
from c2f_np.verification.threads import possible_threads

WIDTHS = (1, 7, 16, 48)


# ---- every operation as a function of plain arrays and matrices, with the engine by name ---------------------------------
def sparse_product(M, X, *, engine="numpy"):
    return engine_named(engine).operator(M).forward(X)


def sparse_product_backward(grad_Y, M, *, engine="numpy"):
    return engine_named(engine).operator(M).adjoint(grad_Y)


def sparse_product_backward_weights(grad_Y, M, X, *, engine="numpy"):
    M = engine_named(engine).operator(M)
    return M.with_weights(M.weights_gradient(grad_Y, X))


def propagate(X0, X_hat, n_layers, *, engine="numpy"):
    return engine_named(engine).propagate(X0, engine_named(engine).operator(X_hat), n_layers)


def propagate_backward(grad_H, X_hat, n_layers, *, engine="numpy"):
    return engine_named(engine).propagate_backward(grad_H, engine_named(engine).operator(X_hat), n_layers)


def compose(S, E, *, engine="numpy"):
    return engine_named(engine).compose(engine_named(engine).operator(S), E)


def compose_backward(grad_Z, S, Z, *, engine="numpy"):
    return engine_named(engine).compose_backward(grad_Z, engine_named(engine).operator(S), Z)


def tanh_backward(grad_Z, Z, *, engine="numpy"):
    return engine_named(engine).tanh_backward(grad_Z, Z)


def bridge(E_coarse, S_fine, F, gate, *, engine="numpy"):
    return codebook.bridge(E_coarse, engine_named(engine).operator(S_fine), F, gate)


def bridge_backward(grad_E_hat, S_fine, gate, *, engine="numpy"):
    return codebook.bridge_backward(grad_E_hat, engine_named(engine).operator(S_fine), gate)


def bpr_loss(H, bias, bias_global, triples, *, engine="numpy"):
    return engine_named(engine).bpr_loss(H, bias, bias_global, triples)


def bpr_backward(H, triples, slope, *, engine="numpy"):
    return engine_named(engine).bpr_backward(H, triples, slope)


def squared_norm_penalty(Z, triples, l2, *, engine="numpy"):
    return engine_named(engine).squared_norm_penalty(Z, triples, l2)


def squared_norm_penalty_backward(grad_penalty, Z, triples, l2, *, engine="numpy"):
    return engine_named(engine).squared_norm_penalty_backward(grad_penalty, Z, triples, l2, np.zeros_like(Z))


def expanded_graph(A, S_coarse, S_fine=None, *, degree="signed", engine="numpy"):
    return engine_named(engine).expanded_graph(A, S_coarse, S_fine, degree=degree)


def keep_largest(W, t, *, engine="numpy"):
    return links.keep_largest(W, t, largest=engine_named(engine).largest_columns)


def update_coarse_assignment(H_entities, H_coarse, t, *, engine="numpy", **options):
    return links.update_coarse_assignment(H_entities, H_coarse, t, largest=engine_named(engine).largest_columns, **options)


def update_fine_assignment(H_entities, H_coarse, H_fine, t, *, engine="numpy", **options):
    largest = engine_named(engine).largest_columns
    return links.update_fine_assignment(H_entities, H_coarse, H_fine, t, largest=largest, **options)


def bridged(layer, engine="numpy"):
    """A bridged layer, given by its matrices, gate and kind of bridge, prepared for an engine."""
    matrices, gate, layer_bridge = layer
    return prepared_layer(*matrices, gate, layer_bridge=layer_bridge, engine=engine_named(engine))


def plain(value):
    """Arrays of a result, dense."""
    if sparse.issparse(value):
        return [value.toarray()]
    return [part for each in value for part in plain(each)] if isinstance(value, tuple) else [np.asarray(value)]


def arrays_in(arguments):
    for value in arguments:
        if sparse.issparse(value):
            yield from (value.data, value.indices, value.indptr)
        elif isinstance(value, np.ndarray):
            yield value


def cast(value, dtype):
    """A copy in another precision; integers and everything that is not an array stay."""
    if sparse.issparse(value) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return value.astype(dtype)
    return value


def strided(value):
    """The same numbers, not contiguous."""
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        return value
    wide = np.full((2 * value.shape[0], 2 * value.shape[1]), np.nan, value.dtype)
    wide[::2, ::2] = value
    return wide[::2, ::2]


def check_engines(operation, *arguments, single=2e-4, **settings):
    """numpy and numba agree, in both precisions and any layout; same bits on any number of threads; inputs untouched."""
    before = [array.copy() for array in arrays_in(arguments)]
    expected = plain(operation(*arguments, engine="numpy", **settings))
    results = []
    for n in possible_threads():
        with kernel_threads(n):
            results.append(plain(operation(*arguments, engine="numba", **settings)))
    for one, *others in zip(*results, strict=True):
        for other in others:
            assert_array_equal(one, other)
    for ours, theirs in zip(results[0], expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert_close(ours, theirs, 1e-13)
    for ours, theirs in zip(
        plain(operation(*map(strided, arguments), engine="numba", **settings)), expected, strict=True
    ):
        assert_close(ours, theirs, 1e-13)
    fortran = [np.asfortranarray(value) if isinstance(value, np.ndarray) else value for value in arguments]
    for ours, theirs in zip(plain(operation(*fortran, engine="numpy", **settings)), expected, strict=True):
        assert_close(ours, theirs, 1e-13)
    for engine in ("numpy", "numba"):
        low = plain(operation(*(cast(value, np.float32) for value in arguments), engine=engine, **settings))
        for ours, theirs in zip(low, expected, strict=True):
            assert ours.dtype == (np.float32 if theirs.dtype == np.float64 else theirs.dtype), engine
            if single is not None:
                assert_close(ours, theirs, single)
    for array, old in zip(arrays_in(arguments), before, strict=True):
        assert_array_equal(array, old)
    return expected


def assert_close(ours, theirs, tolerance):
    scale = np.max(np.abs(theirs), initial=0)
    assert_allclose(ours, theirs, rtol=0, atol=tolerance * (scale if scale > 0 else 1))


def random_sparse(rng, n, m, density=0.3):
    """Rectangular, signed, with an empty row and an empty column where there is room."""
    dense = rng.normal(size=(n, m)) * (rng.random((n, m)) < density)
    if n > 2 and m > 2:
        dense[1] = 0
        dense[:, 2] = 0
    return sparse.csr_array(dense)


def adjoint(forward, backward, x, y):
    """<forward(x), y> = <x, backward(y)>."""
    left, right = np.sum(forward(x) * y), np.sum(x * backward(y))
    assert abs(left - right) <= 1e-12 * (np.abs(x).sum() + np.abs(y).sum() + 1)
