"""The fine stage, in both readings of the paper: literal numbers, both engines, gradients against the complex step."""

import numba
import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import kernels
from c2f_np.errors import SettingsError
from c2f_np.model import text
from c2f_np.model.fine import fine_forward, fine_gradients, fine_graph
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.loss import Loss, Triples, batch_loss
from c2f_np.model.step import ModelState

WEIGHTS = dict(l2=5, decay=1e-2)
ENGINES = pytest.mark.parametrize("engine", [text, kernels], ids=["numpy", "numba"])
READINGS = [(composition, bridge) for composition in ("coarse", "bridged") for bridge in ("raw", "exchange")]


def problem(seed=0, n_users=5, n_items=7, c=4, m=3, d=3, dtype=np.float64, batch=20):
    rng = np.random.default_rng(seed)
    R = sparse.csr_array((rng.random((n_users, n_items)) < 0.5).astype(dtype))
    n = n_users + n_items
    S_c, S_f = rng.random((n, c)) * (rng.random((n, c)) < 0.6), rng.random((c, m)) * (rng.random((c, m)) < 0.6)
    S_c[1], S_f[1] = 0, 0
    matrices = normalised_adjacency(R, dtype), sparse.csr_array(S_c.astype(dtype)), sparse.csr_array(S_f.astype(dtype))
    triples = Triples.from_items(*(rng.integers(0, k, batch) for k in (n_users, n_items, n_items)), n_users, n_items)
    shapes = {"E_fine": (m, d), "E_coarse": (c, d), "bias": (n,), "bias_global": (1,)}
    return matrices, {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}, triples


def loss_and_gradients(matrices, p, triples, n_layers, engine, reading=READINGS[0], gate=0.3):
    graph = fine_graph(*matrices, gate, composition=reading[0], layer_bridge=reading[1], engine=engine)
    settings = dict(threshold=0.4, n_layers=n_layers)
    forward = fine_forward(p["E_fine"], p["E_coarse"], graph, **settings)
    loss, slope = batch_loss(forward, p["bias"], p["bias_global"], triples, **WEIGHTS, engine=engine)
    return forward, loss, fine_gradients(forward, slope, p["E_fine"], graph, triples, **settings, **WEIGHTS)


@ENGINES
@pytest.mark.parametrize("composition", ["coarse", "bridged"])
def test_start_by_hand(composition, engine):
    """Without layers H is the start: [tanh(S_c E_c or S_c E_hat); E_hat; tanh(F)]."""
    one = sparse.csr_array([[1.0]])
    assignments = (sparse.csr_array([[1.0], [0.5]]), one * 0.5)
    graph = fine_graph(normalised_adjacency(one), *assignments, 0.25, composition=composition, engine=engine)
    forward = fine_forward(np.array([[3.0]]), np.array([[4.0]]), graph, threshold=1.0, n_layers=0)
    assert_array_equal(forward.F, [[2]])
    assert_allclose(forward.E_hat, [[0.25 * 0.5 * 2 + 0.75 * 4]])
    codebook = 4 if composition == "coarse" else 3.25
    assert_allclose(forward.H_entities, np.tanh([[codebook], [codebook / 2]]))
    assert_allclose(forward.H_coarse, [[3.25]])
    assert_allclose(forward.H_fine, [[np.tanh(2)]])
    assert graph.gate == 0.25


@pytest.mark.parametrize("reading", READINGS, ids="-".join)
@pytest.mark.parametrize("width", [1, 7, 16, 48])
def test_engines(width, reading):
    arguments = problem(d=width)
    before = {name: value.copy() for name, value in arguments[1].items()}
    for n_layers in range(5) if width == 7 else (3,):
        forward, loss, gradients = loss_and_gradients(*arguments, n_layers, text, reading)
        threads, results = numba.get_num_threads(), []
        try:
            for n in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
                numba.set_num_threads(n)
                results.append(loss_and_gradients(*arguments, n_layers, kernels, reading))
        finally:
            numba.set_num_threads(threads)
        assert results[0][1] == results[1][1]
        assert_allclose(results[0][1].total, loss.total, rtol=1e-13)
        assert_allclose(results[0][0].H_entities, forward.H_entities, rtol=0, atol=1e-13)
        for name, gradient in gradients.items():
            assert_array_equal(results[0][2][name], results[1][2][name])
            assert_allclose(results[0][2][name], gradient, rtol=0, atol=1e-13)
    for name, value in before.items():
        assert_array_equal(arguments[1][name], value)


@pytest.mark.parametrize("reading", READINGS, ids="-".join)
@ENGINES
def test_single_precision_stays_single(engine, reading):
    forward, loss, gradients = loss_and_gradients(*problem(dtype=np.float32), 3, engine, reading)
    parts = (forward.F, forward.E_hat, forward.Z, forward.H_entities, forward.H_coarse, forward.H_fine)
    assert {each.dtype for each in (*parts, *gradients.values())} == {np.dtype(np.float32)}
    _, exact, exact_gradients = loss_and_gradients(*problem(), 3, text, reading)
    assert loss.total == pytest.approx(exact.total, rel=1e-4)
    for name in ("E_fine", "E_coarse"):
        assert_allclose(gradients[name], exact_gradients[name], atol=1e-4)


@pytest.mark.parametrize("reading", READINGS, ids="-".join)
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_every_gradient_is_the_complex_step(n_layers, reading):
    matrices, p, triples = problem(seed=1)
    _, _, gradients = loss_and_gradients(matrices, p, triples, n_layers, text, reading)
    graph = fine_graph(*matrices, 0.3, composition=reading[0], layer_bridge=reading[1], engine=text)
    for name, value in p.items():
        for index in np.ndindex(*value.shape):
            q = {**p, name: value.astype(complex)}
            q[name][index] += 1e-30j
            forward = fine_forward(q["E_fine"], q["E_coarse"], graph, threshold=0.4, n_layers=n_layers)
            loss, _ = batch_loss(forward, q["bias"], q["bias_global"], triples, **WEIGHTS, engine=text)
            assert abs(loss.total.imag / 1e-30 - gradients[name][index]) < 1e-14


@ENGINES
def test_the_fine_codebook_reaches_entities_directly_only_in_the_papers_reading(engine):
    for composition, reached in (("coarse", False), ("bridged", True)):
        _, _, gradients = loss_and_gradients(*problem(), 0, engine, (composition, "raw"))
        assert bool(np.any(gradients["E_fine"])) == reached


def test_entries_inside_the_threshold_have_no_gradient():
    matrices, p, triples = problem()
    _, _, gradients = loss_and_gradients(matrices, p, triples, 2, text)
    inside = np.abs(p["E_fine"]) <= 0.4
    assert inside.any() and not gradients["E_fine"][inside].any() and gradients["E_fine"][~inside].all()


def test_names_and_shapes_that_do_not_fit():
    (A, S_c, S_f), _, _ = problem()
    for settings in (dict(composition="fine"), dict(layer_bridge="fine"), dict(degree="fine")):
        with pytest.raises(SettingsError, match="must be one of"):
            fine_graph(A, S_c, S_f, 0.2, **settings, engine=text)


def test_state_and_loss():
    state = ModelState(np.ones((2, 1)), sparse.csr_array((3, 2)), np.zeros(3), np.zeros(1))
    assert not state.is_fine
    assert Loss(0.5, 20.0, 1e-2).total == pytest.approx(0.7)
