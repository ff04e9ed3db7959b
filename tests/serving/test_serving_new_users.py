"""Users whom a model was not trained on: their embedding by hand, near that of a trained user with the same items."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from serving_models import hand_made

from c2f_np import C2FRecommender, load_dataset
from c2f_np.errors import DataError
from c2f_np.model.graph import normalised_adjacency
from c2f_np.serving import Served
from c2f_np.serving.exporting import reduce_model, splitter_of


def served(model) -> Served:
    return Served(reduce_model(model, codebook="float64", weights="float64"))


@pytest.mark.parametrize("gate", [0.0, 0.4])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_joint_by_a_dense_reference(gate, n_layers):
    """Layer by layer, with a row of the adjacency for the new user that no entity hears."""
    model = hand_made(dtype="float64", gate=gate, n_layers=n_layers, threshold=0)
    A, s, n = normalised_adjacency(model.R).toarray(), model.state, 9
    E_hat = s.E_coarse if s.S_fine is None else gate * s.S_fine.toarray() @ s.E_fine + (1 - gate) * s.E_coarse
    Y = s.S_coarse.toarray() @ E_hat + s.S_direct.toarray() @ s.E_fine
    layers = [np.tanh(Y)]
    for _ in range(n_layers - 1):
        layers.append(A @ layers[-1])
    M, users_of = sum(layers), model.R.toarray().sum(axis=0)
    items = np.array([0, 2, 7])
    row = 1 / np.sqrt(len(items) * users_of[items])
    # The linear map from what the trained users hear to what they are composed of, and the code of its image.
    heard = A[:n] @ M
    gram = heard.T @ heard
    B = np.linalg.solve(gram + 0.01 * np.trace(gram) / len(gram) * np.eye(len(gram)), heard.T @ Y[:n])
    wanted = row @ M[n + items] @ B
    left = wanted
    for E in (E_hat, s.E_fine):
        rows = []
        target = left
        for _ in range(2):
            share = np.abs(E @ left) / np.linalg.norm(E, axis=1)
            share[rows] = -1
            rows.append(int(share.argmax()))
            weights = np.linalg.lstsq(E[rows].T, target, rcond=None)[0]
            left = target - weights @ E[rows]
    expected = (np.tanh(wanted - left) + row @ M[n + items]) / (n_layers + 1)
    parts = splitter_of(model).of_new_user(items)
    assert_allclose(parts.carried.sum(axis=0), row @ M[n + items] / (n_layers + 1), rtol=0, atol=1e-14)
    assert_allclose(parts.whole, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("preset", ["default", "staged", "authors", "paper"])
def test_what_reaches_a_new_user_is_what_reaches_a_trained_one(preset):
    splitter, model = splitter_of(hand_made(preset, dtype="float64")), hand_made(preset, dtype="float64")
    for u in (0, 4, 8):
        items = model.R[[u]].indices
        trained, new = splitter.of_user(u, items), splitter.of_new_user(items)
        # In two stages up to one factor, which depends on the user's links.
        factor = 1.0 if preset == "default" else np.sum(new.carried * trained.carried) / np.sum(trained.carried**2)
        assert_allclose(new.carried, factor * trained.carried, rtol=0, atol=1e-14)
        assert 0.5 < factor < 2


def test_an_export_answers_as_the_estimator(tmp_path):
    for preset in ("default", "staged"):
        model = hand_made(preset, dtype="float64")
        full = C2FRecommender(settings=model.settings)
        full._set_known(model.R, None, model.user_ids, model.item_ids, {})
        full._set_state(model.state, model.settings, normalised_adjacency(model.R))
        ours, bare = served(model), Served(reduce_model(model, codebook="float64", weights="float64", with_ids=False))
        given = [["film 0", "film 2"], ["film 7"]]
        options = {"k": 4, "without": ["film 1"]}
        items, scores = full.recommend_from(given, **options)
        found, values = ours.recommend_from(given, **options)
        assert_array_equal(found, items)
        assert_allclose(values, scores - model.state.bias_global, atol=1e-9)
        numbers = bare.recommend_from([[0, 2], [7]], k=4, without=[1])[0]
        assert_array_equal(model.item_ids[numbers], items)
        for ask in (lambda of: of.explain("u0", "film 3"), lambda of: of.explain_from(["film 0", "film 7"], "film 3")):
            one, other = ask(full), ask(ours)
            assert_array_equal(one.items, other.items)
            assert_allclose(one.contributions, other.contributions, atol=1e-12)
        for kind, ids in (("users", ["u0", "u3"]), ("items", ["film 2"])):
            names, cosines = getattr(full, f"similar_{kind}")(ids, 3)
            again, same = getattr(ours, f"similar_{kind}")(ids, 3)
            assert_array_equal(names, again)
            assert_allclose(cosines, same, atol=1e-12)
        assert bare.explain(0, 3).items.dtype.kind == "i" and bare.size_in_bytes()["new users"] > 0
        bare.forget_embeddings()
        assert bare.size_in_bytes()["new users"] == 0


def test_what_a_new_user_needs():
    model = hand_made(dtype="float64")
    ours = served(model)
    cases = (([], "at least one item"), (["film 5"], "learnt from no interaction"), (["film 0", "film 99"], "unknown item"))
    for ids, why in cases:
        with pytest.raises(DataError, match=why):
            ours.recommend_from(ids)
    # An item without interactions tells nothing, and changes nothing.
    one, two = (ours.recommend_from(ids, 12, exclude_seen=False) for ids in (["film 0"], ["film 0", "film 5", "film 0"]))
    assert_array_equal(one[0], two[0])
    assert_array_equal(one[1], two[1])
    assert "film 5" not in ours.recommend_from(["film 0", "film 5"], 12)[0]
    with pytest.raises(DataError, match="without its training interactions"):
        Served(reduce_model(model, with_interactions=False)).recommend_from(["film 0"])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "staged"])
def test_lists_are_near_those_of_trained_users(preset):
    """Of the ten items that a trained user is given, a new one with the same items is given most."""
    data = load_dataset("planted")
    model = C2FRecommender(preset, n_coarse=40, n_fine=16, dim=32, settings={"partition": "random"}, max_epochs=30).fit(data)
    shared = []
    for u in range(0, data.n_users, 20):
        learnt, known = (data.item_ids[part[[u]].indices] for part in (data.train, data.known()))
        new, trained = model.recommend_from(learnt, without=known)[0], model.recommend(data.user_ids[u])[0]
        shared.append(len(set(new[0]) & set(trained[0])))
    assert np.mean(shared) > 8
