"""A step computes only the rows of its batch: the same numbers as the whole forward and backward pass."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import at_each_number_of_threads
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import kernels
from c2f_np.errors import SettingsError
from c2f_np.model import text
from c2f_np.model.coarse import coarse_forward, coarse_gradients, coarse_graph
from c2f_np.model.fine import collapsed_graph, fine_forward, fine_gradients, fine_graph
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.loss import Triples, batch_loss
from c2f_np.model.propagation import MOST_BYTES, collapse_pays

N_USERS, N_ITEMS, C, M = 40, 60, 8, 5
WEIGHTS = dict(l2=5.0, decay=1e-2)
ENGINES = [text, kernels]


def problem(width, seed=0):
    rng = np.random.default_rng(seed)
    R = sparse.csr_array((rng.random((N_USERS, N_ITEMS)) < 0.1).astype(float))
    n = N_USERS + N_ITEMS
    S_coarse = sparse.csr_array(rng.random((n, C)) * (rng.random((n, C)) < 0.3))
    S_fine = sparse.csr_array(rng.random((C, M)) * (rng.random((C, M)) < 0.6))
    triples = Triples.from_items(*(rng.integers(0, k, 25) for k in (N_USERS, N_ITEMS, N_ITEMS)), N_USERS, N_ITEMS)
    assert len(triples.entities) < n
    arrays = {"E_coarse": (C, width), "E_fine": (M, width), "bias": (n,), "bias_global": (1,)}
    return normalised_adjacency(R), S_coarse, S_fine, triples, {k: rng.normal(size=v) for k, v in arrays.items()}


def test_local_numbers_of_a_batch():
    triples = Triples.from_items([3, 0, 3], [1, 1, 4], [5, 4, 1], 4, 6)
    assert_array_equal(triples.entities, [0, 3, 5, 8, 9])
    local = triples.local
    assert_array_equal([local.user, local.positive, local.negative], [[1, 0, 1], [2, 2, 3], [4, 3, 2]])
    assert local.n_entities == 5
    fresh = Triples(local.user, local.positive, local.negative, 5).occurrences
    for name in ("entities", "start", "slots"):
        assert_array_equal(getattr(local.occurrences, name), getattr(fresh, name))


@pytest.mark.parametrize("engine", ENGINES, ids=["numpy", "numba"])
@pytest.mark.parametrize("width", [7, 48])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_coarse_stage(n_layers, width, engine):
    A, S_coarse, _, triples, p = problem(width)
    graph = coarse_graph(A, S_coarse, engine=engine)
    found = {}
    for batch in (None, triples):
        forward = coarse_forward(p["E_coarse"], graph, n_layers, batch=batch)
        loss, slope = batch_loss(forward, p["bias"], p["bias_global"], triples, **WEIGHTS, engine=engine)
        gradients = coarse_gradients(forward, slope, graph, triples, n_layers=n_layers, **WEIGHTS)
        found[batch is None] = forward, loss, gradients
    whole, rows = found[True], found[False]
    assert rows[0].H_entities.shape == (len(triples.entities), width) and rows[0].H_coarse is None
    assert_allclose(rows[0].H_entities, whole[0].H_entities[triples.entities], rtol=0, atol=1e-14)
    assert_allclose(rows[1].total, whole[1].total, rtol=1e-13)
    for name, gradient in whole[2].items():
        assert_allclose(rows[2][name], gradient, rtol=0, atol=1e-13)


@pytest.mark.parametrize("engine", ENGINES, ids=["numpy", "numba"])
@pytest.mark.parametrize("layer_bridge", ["raw", "exchange"])
@pytest.mark.parametrize("width", [7, 48])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_fine_stage_collapsed_and_layered(n_layers, width, layer_bridge, engine):
    """To 1e-12 of the largest entry: values and gradients."""
    A, S_coarse, S_fine, triples, p = problem(width)
    graph = fine_graph(A, S_coarse, S_fine, 0.3, layer_bridge=layer_bridge, engine=engine)
    collapsed = collapsed_graph(graph, p["E_coarse"], n_layers)
    settings = dict(threshold=0.4, n_layers=n_layers)
    found = []
    for layers, batch in ((graph, None), (graph, triples), (collapsed, triples)):
        forward = fine_forward(p["E_fine"], p["E_coarse"], layers, batch=batch, **settings)
        loss, slope = batch_loss(forward, p["bias"], p["bias_global"], triples, **WEIGHTS, engine=engine)
        found.append((forward, loss, fine_gradients(forward, slope, p["E_fine"], layers, triples, **settings, **WEIGHTS)))
    whole = found[0]
    entities = triples.entities
    for forward, loss, gradients in found[1:]:
        assert_allclose(forward.H_entities, whole[0].H_entities[entities], rtol=0, atol=1e-12)
        assert_allclose([loss.bpr, loss.regulariser], [whole[1].bpr, whole[1].regulariser], rtol=1e-12)
        for name in ("E_fine", "bias", "bias_global"):
            scale = max(np.abs(whole[2][name]).max(), 1e-300)
            assert_allclose(gradients[name] / scale, whole[2][name] / scale, rtol=0, atol=1e-12)
    if n_layers:
        assert np.abs(whole[2]["E_fine"]).max() > 1e-6
    assert "E_coarse" in found[1][2] and "E_coarse" not in found[2][2]  # a constant of the collapse


def test_collapse_is_refused_where_it_is_not_exact():
    A, S_coarse, S_fine, triples, p = problem(7)
    bridged = fine_graph(A, S_coarse, S_fine, 0.3, composition="bridged", engine=text)
    with pytest.raises(SettingsError, match='only composition="coarse"'):
        collapsed_graph(bridged, p["E_coarse"], 2)
    collapsed = collapsed_graph(fine_graph(A, S_coarse, S_fine, 0.3, engine=text), p["E_coarse"], 2)
    with pytest.raises(SettingsError, match="another coarse codebook"):
        fine_forward(p["E_fine"], p["E_coarse"] + 1, collapsed, threshold=0.4, n_layers=2, batch=triples)


def test_rows_of_another_batch_are_refused():
    A, S_coarse, _, triples, p = problem(7)
    forward = coarse_forward(p["E_coarse"], coarse_graph(A, S_coarse, engine=text), 2, batch=triples)
    other = dataclasses.replace(triples, user=triples.user[::-1].copy())
    with pytest.raises(ValueError, match="another batch"):
        batch_loss(forward, p["bias"], p["bias_global"], other, **WEIGHTS, engine=text)


def test_cost_rule():
    gowalla = dict(n_entities=70_839, n_entries=1_903_612, n_fine=100, dim=128, n_layers=3, n_rows=50_000, itemsize=4)
    assert collapse_pays(**gowalla, n_steps=124)
    assert not collapse_pays(**gowalla, n_steps=0)
    # A dense W against a sparse graph.
    assert not collapse_pays(**gowalla | {"n_entries": 100_000, "n_fine": 2000}, n_steps=10_000)
    n = MOST_BYTES // (4 * 456) + 1
    assert not collapse_pays(**gowalla | {"n_entities": n}, n_steps=124)  # would not fit


@pytest.mark.parametrize("width", [1, 16, 48, 600])
def test_rows_at_width_of_every_kernel_and_thread_count(width):
    from c2f_np.kernels.propagation import mean_of_powers

    rng = np.random.default_rng(1)
    M = kernels.operator(sparse.random_array((300, 300), density=0.05, rng=rng, dtype=np.float32).tocsr())
    rows = np.sort(rng.choice(300, 90, replace=False))
    X, G = (rng.standard_normal((k, width)).astype(np.float32) for k in (300, 90))
    whole = np.zeros_like(X)
    whole[rows] = G

    def forward_and_backward():
        forward = mean_of_powers(M.matrix, M.row_bounds, X, 3, wanted=rows)
        assert_array_equal(forward, mean_of_powers(M.matrix, M.row_bounds, X, 3)[rows])
        backward = mean_of_powers(M.matrix, M.row_bounds, G, 3, given=rows)
        assert_allclose(backward, mean_of_powers(M.matrix, M.row_bounds, whole, 3), rtol=0, atol=1e-5)
        return forward, backward

    (forward, backward), *others = at_each_number_of_threads(forward_and_backward)
    for other in others:
        assert_array_equal(other[0], forward)
        assert_array_equal(other[1], backward)


@pytest.mark.parametrize("engine", ENGINES, ids=["numpy", "numba"])
def test_a_batch_by_user(engine):
    columns = tuple(np.array(column, np.int32) for column in ([2, 0, 2, 1, 0], [5, 1, 3, 0, 2], [0, 4, 1, 5, 3]))
    triples = Triples.by_user(columns, np.array([4, 0, 3, 2]), 3, 6, engine=engine)
    assert_array_equal(triples.user, [0, 1, 2, 2])
    assert_array_equal(triples.positive, [5, 3, 8, 6])
    assert_array_equal(triples.negative, [6, 8, 3, 4])
    assert triples.n_entities == 9 and triples.user.dtype == np.int64
