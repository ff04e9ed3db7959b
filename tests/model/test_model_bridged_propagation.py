import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import WIDTHS, adjoint, bridged, check_engines, random_sparse
from numpy.testing import assert_allclose

from c2f_np.errors import SettingsError
from c2f_np.model.propagation import propagate, propagate_backward

N, C, M = 7, 4, 3


def random_graph(seed, gate=0.3, layer_bridge="raw"):
    """Not symmetric on purpose."""
    rng = np.random.default_rng(seed)
    X_hat = random_sparse(rng, N + C + M, N + C + M, 0.4)
    return (X_hat, random_sparse(rng, N, C, 0.6), random_sparse(rng, C, M, 0.6)), gate, layer_bridge


def one_of_each(gate, layer_bridge):
    """An entity, a coarse node, a fine node; Y = 2 X; S_c = 3, S_f = 5; the entity hears the coarse node with 7."""
    X_hat = sparse.csr_array(np.array([[2.0, 7, 0], [0, 2, 0], [0, 0, 2]]))
    return (X_hat, sparse.csr_array([[3.0]]), sparse.csr_array([[5.0]])), gate, layer_bridge


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_layer_by_hand(engine):
    X = np.array([[1.0], [10], [100]])
    # h = 2 + 70 = 72, p = 20, q = 200, S_f q = 1000.
    # h <- 72 - 3 * 20 = 12;  p <- 20 - 1000 = -980;  p <- 0.25 * 1000 - 0.75 * 980 = -485;  h <- 12 - 3 * 485 = -1443
    assert_allclose(bridged(one_of_each(0.25, "raw"), engine).forward(X), [[-1443], [-485], [200]])
    # The message p = 10 is exchanged for 0.25 * 5 * 100 + 0.75 * 10 = 132.5:  h = 2 + 7 * 132.5
    assert_allclose(bridged(one_of_each(0.25, "exchange"), engine).forward(X), [[929.5], [20], [200]])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_the_transpose_by_hand(engine):
    Y = np.array([[1.0], [10], [100]])
    layer = bridged(one_of_each(0.25, "raw"), engine)
    columns = [layer.forward(x[:, None])[:, 0] for x in np.eye(3)]
    assert_allclose(layer.adjoint(Y)[:, 0], columns @ Y[:, 0])


@pytest.mark.parametrize("layer_bridge", ["raw", "exchange"])
@pytest.mark.parametrize("width", WIDTHS)
def test_engines(width, layer_bridge):
    rng = np.random.default_rng(width)
    graph = random_graph(width, layer_bridge=layer_bridge)
    X, Y = rng.normal(size=(2, N + C + M, width))

    def build(engine, *matrices):
        return bridged((matrices, 0.3, layer_bridge), engine)

    parts = graph[0]
    for n_layers in range(5) if width == 7 else (3,):
        check_engines(lambda x, *G, engine, L=n_layers: propagate(x, build(engine, *G), L), X, *parts)
        check_engines(lambda y, *G, engine, L=n_layers: propagate_backward(y, build(engine, *G), L), Y, *parts)
        for engine in ("numpy", "numba"):
            adjoint(
                lambda x, e=engine, L=n_layers: propagate(x, bridged(graph, e), L),
                lambda y, e=engine, L=n_layers: propagate_backward(y, bridged(graph, e), L),
                X,
                Y,
            )


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("layer_bridge", ["raw", "exchange"])
def test_gate_zero_of_the_exchange_is_plain_propagation(layer_bridge, engine):
    X = np.random.default_rng(0).normal(size=(N + C + M, 5))
    layer = bridged(random_graph(1, gate=0.0, layer_bridge=layer_bridge), engine)
    same = np.allclose(propagate(X, layer, 3), propagate(X, layer.X_hat, 3), atol=1e-13)
    assert same == (layer_bridge == "exchange")  # the released layer subtracts S_f q even when the gate is shut


def test_shapes_and_names_that_do_not_fit():
    parts = random_graph(0)[0]
    with pytest.raises(SettingsError, match="do not fit"):
        bridged(((parts[0], parts[1], parts[2].T), 0.2, "raw"))
    with pytest.raises(SettingsError, match="raw, exchange"):
        bridged((parts, 0.2, "none"))
    with pytest.raises(SettingsError, match="layers"):
        propagate(np.ones((N + C + M, 1)), bridged((parts, 0.2, "raw")), -1)
