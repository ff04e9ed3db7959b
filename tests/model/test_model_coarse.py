"""The coarse stage: literal numbers, both engines, and gradients against the complex step."""

import numba
import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import kernels
from c2f_np.errors import SettingsError
from c2f_np.model import text
from c2f_np.model.coarse import coarse_forward, coarse_gradients, coarse_graph
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.loss import Triples, batch_loss

WEIGHTS = dict(l2=5, decay=1e-2)
ENGINES = pytest.mark.parametrize("engine", [text, kernels], ids=["numpy", "numba"])


def problem(seed=0, n_users=5, n_items=7, c=4, d=3, dtype=np.float64, batch=20):
    rng = np.random.default_rng(seed)
    R = sparse.csr_array((rng.random((n_users, n_items)) < 0.5).astype(dtype))
    n = n_users + n_items
    S = rng.random((n, c)) * (rng.random((n, c)) < 0.6)
    S[1] = 0
    A, S = normalised_adjacency(R, dtype), sparse.csr_array(S.astype(dtype))
    triples = Triples.from_items(*(rng.integers(0, m, batch) for m in (n_users, n_items, n_items)), n_users, n_items)
    return A, S, rng.normal(size=(c, d)).astype(dtype), rng.normal(size=n).astype(dtype), np.ones(1, dtype), triples


def loss_and_gradients(A, S, E, bias, bias_global, triples, n_layers, engine):
    graph = coarse_graph(A, S, engine=engine)
    forward = coarse_forward(E, graph, n_layers)
    loss, slope = batch_loss(forward, bias, bias_global, triples, **WEIGHTS, engine=engine)
    return forward, loss, coarse_gradients(forward, slope, graph, triples, n_layers=n_layers, **WEIGHTS)


@ENGINES
def test_by_hand(engine):
    """One user and one item who met, both made of the one coarse row; A = 1 between them, row sums 2, 2, 2."""
    graph = coarse_graph(normalised_adjacency(sparse.csr_array([[1.0]])), sparse.csr_array([[1.0], [1.0]]), engine=engine)
    assert_allclose(graph.X_hat.matrix.toarray(), [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], rtol=1e-15)
    forward = coarse_forward(np.array([[2.0]]), graph, 1)
    z = np.tanh(2)
    assert_allclose(forward.Z, [[z], [z]])
    # X_1 = [(z + 2) / 2, (z + 2) / 2, z]; E_c enters as a node without tanh
    assert_allclose(forward.H_entities, [[(z + (z + 2) / 2) / 2]] * 2)
    assert_allclose(forward.H_coarse, [[(2 + z) / 2]])
    triples = Triples.from_items([0], [0], [0], 1, 1)
    loss, slope = batch_loss(forward, np.zeros(2), np.zeros(1), triples, **WEIGHTS, engine=engine)
    assert loss.bpr == pytest.approx(np.log(2)) and loss.regulariser == pytest.approx(15 * z**2)
    assert loss.total == pytest.approx(np.log(2) + 0.15 * z**2)
    gradients = coarse_gradients(forward, slope, graph, triples, n_layers=1, **WEIGHTS)
    assert_allclose(
        gradients["E_coarse"], [[0.3 * z * (1 - z**2)]]
    )  # the positive is the negative: only the regulariser


@pytest.mark.parametrize("n_layers", range(5))
@pytest.mark.parametrize("width", [1, 7, 16, 48])
def test_engines(n_layers, width):
    arguments = problem(d=width)
    copies = [np.copy(part) for part in arguments[2:5]]
    forward, loss, gradients = loss_and_gradients(*arguments, n_layers, text)
    threads, results = numba.get_num_threads(), []
    try:
        for n in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(n)
            results.append(loss_and_gradients(*arguments, n_layers, kernels))
    finally:
        numba.set_num_threads(threads)
    assert results[0][1] == results[1][1]
    for name, gradient in gradients.items():
        assert_array_equal(results[0][2][name], results[1][2][name])
        assert_allclose(results[0][2][name], gradient, rtol=0, atol=1e-13)
    assert_allclose(results[0][1].total, loss.total, rtol=1e-13)
    assert_allclose(results[0][0].H_entities, forward.H_entities, rtol=0, atol=1e-13)
    for part, copy in zip(arguments[2:5], copies, strict=True):
        assert_array_equal(part, copy)


@ENGINES
def test_single_precision_stays_single(engine):
    forward, loss, gradients = loss_and_gradients(*problem(dtype=np.float32), 3, engine)
    assert {each.dtype for each in (forward.Z, forward.H_entities, forward.H_coarse, *gradients.values())} == {
        np.dtype(np.float32)
    }
    _, exact, exact_gradients = loss_and_gradients(*problem(), 3, text)
    assert loss.total == pytest.approx(exact.total, rel=1e-4)
    assert_allclose(gradients["E_coarse"], exact_gradients["E_coarse"], atol=1e-4)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_every_gradient_is_the_complex_step(n_layers):
    A, S, E, bias, bias_global, triples = problem(seed=1)
    _, _, gradients = loss_and_gradients(A, S, E, bias, bias_global, triples, n_layers, text)
    graph = coarse_graph(A, S, engine=text)
    for name, value in (("E_coarse", E), ("bias", bias), ("bias_global", bias_global)):
        for index in np.ndindex(*value.shape):
            moved = {"E_coarse": E, "bias": bias, "bias_global": bias_global}
            moved[name] = value.astype(complex)
            moved[name][index] += 1e-30j
            forward = coarse_forward(moved["E_coarse"], graph, n_layers)
            loss, _ = batch_loss(forward, moved["bias"], moved["bias_global"], triples, **WEIGHTS, engine=text)
            assert abs(loss.total.imag / 1e-30 - gradients[name][index]) < 1e-14


def test_assignment_that_does_not_fit():
    with pytest.raises(SettingsError, match="rows"):
        coarse_graph(sparse.csr_array((3, 3)), sparse.csr_array((4, 2)), engine=text)


@pytest.mark.parametrize("degree", ["signed", "absolute"])
def test_negative_weights_poison_nothing(degree):
    A, S, E, bias, bias_global, triples = problem()
    dense = S.toarray()
    dense[::2] *= -3
    graph = coarse_graph(A, sparse.csr_array(dense), degree=degree, engine=text)
    forward = coarse_forward(E, graph, 3)
    assert np.isfinite(forward.H_entities).all() and np.isfinite(forward.H_coarse).all()
    if degree == "absolute":
        assert np.abs(np.linalg.eigvalsh(graph.X_hat.matrix.toarray())).max() <= 1 + 1e-12
