"""An exported model at work: ids, masking, order, and what it holds."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from serving_models import hand_made

from c2f_np import C2FRecommender
from c2f_np.errors import DataError, SettingsError
from c2f_np.model_file import save_model, size_in_bytes
from c2f_np.serving import Served, load_exported
from c2f_np.serving.exporting import export_model, reduce_model


@pytest.fixture(scope="module", params=["default", "staged"])
def model(request):
    return hand_made(request.param)


@pytest.fixture(scope="module")
def served(model):
    return Served(reduce_model(model))


def test_recommends_what_the_estimator_recommends(model, served, tmp_path):
    save_model(tmp_path / "model.npz", model)
    full = C2FRecommender.load(tmp_path / "model.npz")
    for options in ({"k": 3}, {"k": 12}, {"k": 12, "exclude_seen": False}):
        items, scores = served.recommend(model.user_ids, **options)
        expected_items, expected = full.recommend(model.user_ids, **options)
        assert_array_equal(items, expected_items)
        biases = model.state.bias[:9, None] + model.state.bias_global
        assert_allclose(scores, expected - biases, atol=1e-5)
        again, same = served.recommend(model.user_ids, **options, from_table=False)
        assert_array_equal(again, items)
        assert_allclose(same, scores, atol=1e-5)


def test_what_was_seen_is_left_out(model, served):
    seen = {f"film {i}" for i in model.R.toarray()[0].nonzero()[0]}
    items, scores = served.recommend("u0", 12)
    assert items.shape == (1, 12) and seen and seen.isdisjoint(items[0])
    assert (items[0] == "").sum() == len(seen) and np.isnan(scores[0]).sum() == len(seen)
    assert set(served.recommend("u0", 12, exclude_seen=False)[0][0]) == set(model.item_ids)


def test_equal_scores_stay_in_the_order_of_the_data(model):
    E_coarse, E_fine = np.zeros_like(model.state.E_coarse), np.zeros_like(model.state.E_fine)
    state = dataclasses.replace(model.state, E_coarse=E_coarse, E_fine=E_fine, bias=np.float32(np.arange(21) % 2))
    plain = Served(reduce_model(dataclasses.replace(model, state=state), with_ids=False))
    # Item i has the bias of entity 9 + i: 1 for even items.
    assert plain.recommend(0, 12, exclude_seen=False)[0].tolist() == [[0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]]


def test_errors_name_what_is_wrong(served):
    with pytest.raises(DataError, match="unknown user.*nobody"):
        served.recommend(["u0", "nobody"])
    for ask in (served.score_user, served.embedding_of_user, served.neighbourhood_of_user):
        with pytest.raises(DataError, match="unknown user.*nobody"):
            ask("nobody")
        with pytest.raises(DataError, match="one user"):
            ask(["u0", "u1"])
    for k in (0, 13, 2.0, True):
        with pytest.raises(SettingsError, match="from 1 to 12"):
            served.recommend("u0", k)


def test_without_ids_users_and_items_are_numbers(model, served):
    plain = Served(reduce_model(model, with_ids=False))
    items, _ = plain.recommend([2, 0], 12)
    named, _ = served.recommend(["u2", "u0"], 12)
    assert_array_equal(np.where(items < 0, "", model.item_ids[items]), named)
    for unknown in (9, -1, "u0"):
        with pytest.raises(DataError, match=f"unknown user.*{unknown}"):
            plain.recommend(unknown, 1)


def test_without_interactions_who_serves_brings_them(model, served, tmp_path):
    path = tmp_path / "small.npz"
    export_model(model, path, with_interactions=False)
    with pytest.raises(DataError, match="without its training interactions"):
        load_exported(path).recommend("u0", 1)
    pairs = np.argwhere(model.R.toarray())[::-1]
    given = load_exported(path, interactions=np.concatenate([pairs, pairs[:3]]))
    assert_array_equal(given.embeddings(), served.embeddings())
    assert given.size_in_bytes()["interactions"] == served.size_in_bytes()["interactions"]
    by_id = load_exported(path, interactions=[(model.user_ids[u], model.item_ids[i]) for u, i in pairs])
    assert_array_equal(by_id.embeddings(), served.embeddings())
    for wrong in ([[0, 12]], [[9, 0]], [[-1, 0]], [[0.5, 1]], [0, 1], ["u0", "film 1"]):
        with pytest.raises(DataError, match="interactions"):
            load_exported(path, interactions=wrong)
    for wrong, match in ((("nobody", "film 1"), "unknown user.*nobody"), (("u0", "film 99"), "unknown item.*film 99")):
        with pytest.raises(DataError, match=match):
            load_exported(path, interactions=[("u0", "film 1"), wrong])
    export_model(model, tmp_path / "plain.npz", with_interactions=False, with_ids=False)
    with pytest.raises(DataError, match="must be positions"):
        load_exported(tmp_path / "plain.npz", interactions=[("u0", "film 1")])
    export_model(model, path)
    with pytest.raises(DataError, match="already"):
        load_exported(path, interactions=pairs)


@pytest.mark.parametrize("preset", ["default", "staged"])
def test_without_layers_nothing_needs_the_interactions(preset):
    model = hand_made(preset, n_layers=0)
    bare, whole = Served(reduce_model(model, with_interactions=False)), Served(reduce_model(model))
    assert_array_equal(bare.embeddings(), whole.embeddings())
    assert_array_equal(bare.score_user("u0"), whole.score_user("u0"))
    assert bare.neighbourhood_of_user("u0") == [1]
    for ours, theirs in zip(*(one.recommend("u0", 5, exclude_seen=False) for one in (bare, whole)), strict=True):
        assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="without its training interactions"):
        bare.recommend("u0", 5)


@pytest.mark.parametrize("preset", ["staged", "default"])
@pytest.mark.parametrize("kind, item, bias", [("float32", 4, 4), ("float16", 2, 2), ("int8", 1, 2)])
def test_size_is_the_hand_count(preset, kind, item, bias):
    joint = preset == "default"
    model = hand_made(preset, threshold=0) if joint else hand_made(preset)
    ours = Served(reduce_model(model, codebook=kind, weights=kind))
    before, scales = ours.size_in_bytes(), 9 * 4 if kind == "int8" else 0
    n_nonzero = (np.abs(model.state.E_fine) > (0 if joint else 0.7)).sum()
    # 4 x 6 numbers, or those that are not zero, and a bit for each place.
    fine = min(4 * 6 * item, n_nonzero * item + 3)
    assert before["codebooks"] == 5 * 6 * item + fine + scales
    # Two links of each of 21 entities to either codebook; or to coarse rows, and of 5 coarse rows. Their places: a byte each.
    n_weights = 21 * (2 + 2) if joint else (21 + 5) * 2
    assert before["assignment weights"] == n_weights * item + scales
    assert before["assignment indices"] == n_weights
    assert before["item biases"] == 12 * bias
    assert before["model"] == sum(list(before.values())[:4])
    if joint and kind == "float32":
        # What the package says of the whole model, less the biases of 9 users and the global one.
        assert before["model"] == size_in_bytes(model.state)["model"] - (9 + 1) * 4
    assert before["interactions"] == model.R.nnz + 10
    assert before["graph factors"] == before["propagated table"] == 0
    ours.embeddings()
    after = ours.size_in_bytes()
    assert after["propagated table"] == 21 * 6 * 4 and after["graph factors"] == (21 + (0 if joint else 21 + 5 + 4)) * 4
    ours.forget_embeddings()
    assert ours.size_in_bytes()["propagated table"] == 0
