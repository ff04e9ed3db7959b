"""What NumPy alone computes is what the package computes."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose
from serving_models import hand_made

from c2f_np.errors import SettingsError
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.propagation import propagate, propagate_backward
from c2f_np.serving import Served, inference
from c2f_np.serving import served as served_module
from c2f_np.serving.exporting import reduce_model, require_same_embeddings
from c2f_np.serving.inference import Layer, layer_of, start
from c2f_np.training.problem import entity_embeddings

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
PRESETS = ["default", "staged", "authors", "paper"]


def served(model) -> Served:
    kind = model.settings.dtype
    return Served(reduce_model(model, codebook=kind, weights=kind))


def by_the_package(model) -> np.ndarray:
    A = normalised_adjacency(model.R).astype(model.settings.dtype)
    return entity_embeddings(model.state, A, dataclasses.replace(model.settings, engine="numpy"))


FORMS = [
    *(
        dict(preset=preset, dtype=dtype, n_layers=n_layers, is_fine=is_fine)
        for preset, dtype in itertools.product(PRESETS, TOLERANCE)
        for n_layers, is_fine in ((0, True), (1, True), (3, True), (3, False))
    ),
    *(
        dict(preset="staged", seed=seed, gate=gate, composition=composition, layer_bridge=bridge, degree=degree)
        for composition, bridge, degree in itertools.product(("coarse", "bridged"), ("raw", "exchange"), ("signed", "absolute"))
        for seed, gate in ((0, 0.3), (1, 0.0), (2, 1.0))
    ),
    # Joint training with and without a bridge, with and without direct links; what was not trained is not there.
    *(dict(gate=gate, t_direct=t_direct) for gate, t_direct in ((0.0, 2), (0.0, 3), (0.4, 1), (0.4, 0), (1.0, 2), (1.0, 0))),
    *(dict(gate=gate, training="stages", t_direct=0, fine_start="scores") for gate in (0.0, 0.4, 1.0)),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
def test_every_form(form):
    model = hand_made(**({"dtype": "float64"} | form))
    ours, dtype = served(model), model.settings.dtype
    H = ours.embeddings()
    assert H.dtype == dtype and np.abs(H).max() > 0.1
    assert_allclose(H, by_the_package(model), rtol=0, atol=TOLERANCE[dtype])
    # And users are the sum of what came through their items, and their own part.
    for u in range(9):
        parts = ours.splitter().of_user(u, model.R[[u]].indices)
        assert_allclose(parts.whole, H[u], rtol=0, atol=TOLERANCE[dtype])
        assert len(parts.carried) == model.R[[u]].nnz
        assert parts.carried.any() == (len(parts.carried) > 0 and model.settings.n_layers > 0)


def test_the_two_trainings_differ():
    staged = dict(training="stages", t_direct=0, fine_start="scores")
    H = [served(hand_made(dtype="float64", gate=0.4, **changed)).embeddings() for changed in ({"t_direct": 0}, staged)]
    assert np.abs(H[0] - H[1]).max() > 0.01


def test_joint_by_hand():
    """One layer, tau = 0: an entity is tanh of its rows, and half of it what its neighbours are."""
    model = hand_made(dtype="float64", n_layers=1, threshold=0)
    state, R = model.state, model.R.toarray().astype(float)
    Z = np.tanh(state.S_coarse.toarray() @ state.E_coarse + state.S_direct.toarray() @ state.E_fine)
    ours = served(model)
    for u, user in enumerate(model.user_ids):
        seen = R[u].nonzero()[0]
        neighbours = sum(Z[9 + i] / np.sqrt(len(seen) * R[:, i].sum()) for i in seen)
        assert_allclose(ours.embedding_of_user(user), (Z[u] + neighbours) / 2, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "preset, bridge, is_fine, n_nodes",
    [
        ("default", "raw", True, 21),
        ("staged", "raw", True, 30),
        ("staged", "exchange", True, 30),
        ("staged", "exchange", False, 26),
    ],
)
def test_backwards_is_the_transpose(preset, bridge, is_fine, n_nodes):
    model = hand_made(preset, dtype="float64", layer_bridge=bridge, is_fine=is_fine)
    exported = reduce_model(model, codebook="float64", weights="float64")
    layer, n_layers = layer_of(exported.parts, exported.R), exported.parts.n_layers
    unit = np.eye(n_nodes)
    P = propagate(unit, layer, n_layers).T
    assert_allclose(propagate_backward(unit, layer, n_layers), P, atol=1e-15)
    # Only with a bridge in its layers does the propagation differ from its transpose.
    assert (np.abs(P - P.T).max() > 1e-3) == (n_nodes == 30)
    assert_allclose(start(exported.parts, slice(2, 5)), start(exported.parts, slice(None))[2:5], rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_one_user_alone(preset):
    model = hand_made(preset, dtype="float64")
    ours, H = served(model), by_the_package(model)
    n_users = model.R.shape[0]
    for u, user in enumerate(model.user_ids):
        assert_allclose(ours.embedding_of_user(user), H[u], rtol=0, atol=1e-13)
        expected = H[n_users:] @ H[u] + model.state.bias[n_users:]
        assert_allclose(ours.score_user(user), expected, rtol=0, atol=1e-12)
    assert ours.size_in_bytes()["propagated table"] == 0


@pytest.mark.parametrize("preset", ["default", "staged"])
def test_memory_of_one_user_is_far_below_the_table(preset):
    model = hand_made(preset, n_users=1000, n_items=600, c=20, m=8, d=64, density=0.02)
    ours = served(model)
    ours.score_user("u0")  # makes the graph's factors, which are kept

    def peak(work):
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    table = 1600 * 64 * 4
    assert peak(lambda: ours.embedding_of_user("u0")) < table / 2
    assert peak(lambda: ours.score_user("u0")) < table / 2
    assert peak(ours.embeddings) > table


@pytest.mark.parametrize("preset", ["default", "staged", "authors"])
def test_neighbourhood_by_hand(preset):
    """u0 and u1 share film 0, u1 and u2 film 1; in the two stages the meta nodes link everybody else, and in the authors'
    reading already within a layer.
    """
    model = hand_made(preset, n_layers=3)
    R = np.zeros(model.R.shape)
    R[0, 0] = R[1, 0] = R[1, 1] = R[2, 1] = 1
    ours = served(dataclasses.replace(model, R=type(model.R)(R)))
    assert ours.neighbourhood_of_user("u0", meta_nodes=False) == [1, 2, 3, 4]
    assert ours.neighbourhood_of_user("u3", meta_nodes=False) == [1, 1, 1, 1]
    counts = ours.neighbourhood_of_user("u0")
    if preset == "default":
        assert counts == [1, 2, 3, 4]
    elif preset == "staged":
        assert counts[:2] == [1, 2] and counts[2] > 3 and counts[3] > 10
    else:
        assert counts[1] > 3 and counts[2] > 10


@pytest.mark.parametrize(
    "preset, where, name, wrong",
    [
        ("staged", Layer, "forward", lambda layer, X: layer.without_bridge(X)),
        ("staged", inference, "_links", lambda parts: [(parts.S_coarse, slice(0, 21), slice(21, 26))]),
        ("default", Layer, "forward", lambda layer, X: inference._bipartite_product(layer.R, 9, X)),
        (
            "default",
            served_module,
            "start",
            lambda parts, columns: np.tanh(parts.S_coarse.times(parts.E_coarse.dense("f8")[:, columns].T)),
        ),
    ],
)
def test_a_model_that_would_come_out_differently_is_not_exported(monkeypatch, preset, where, name, wrong):
    model = hand_made(preset)
    require_same_embeddings(model)
    monkeypatch.setattr(where, name, wrong)
    with pytest.raises(SettingsError, match="cannot be exported"):
        require_same_embeddings(model)
