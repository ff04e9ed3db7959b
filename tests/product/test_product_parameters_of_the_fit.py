"""A fitted model answers by the parameters of its fit, whatever becomes of them later; and other questions of fitted models."""

import threading

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np import C2FRecommender, load_dataset
from c2f_np.baselines import EASE, HashedLightGCN, ItemKNN, LightGCN, Popularity, load_baseline
from c2f_np.errors import DataError, ModelFileError
from c2f_np.model import links
from c2f_np.model.graph import normalised_adjacency
from c2f_np.serving import load_exported
from c2f_np.threads import one_blas_thread

SMALL = {"n_coarse": 6, "n_fine": 4, "dim": 8, "eval_every": 2, "max_epochs": 3, "partition": "random", "engine": "numpy"}
TABLE = {"dim": 4, "max_epochs": 3, "engine": "numpy"}


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


def explained(model, data):
    user, item = data.user_ids[0], data.item_ids[5]
    explanation = model.explain(user, item)
    return explanation.score, model.score_items([user])[0, 5]


@pytest.mark.parametrize("make, later", [
    (lambda: LightGCN(**TABLE), {"n_layers": 1, "dim": 6}),
    (lambda: HashedLightGCN(n_rows=6, random_state=np.random.default_rng(0), **TABLE), {"n_hashes": 3}),
    (lambda: EASE(), {"stored_as": "int8"}),
    (lambda: ItemKNN(stored_as="int8", engine="numpy"), {"stored_as": "dtype"}),
])  # fmt: skip
def test_what_is_set_after_a_fit_counts_at_the_next(data, tmp_path, make, later):
    model = make().fit(data)
    scores = model.score_items(data.user_ids)
    model.set_params(**later)
    if isinstance(getattr(model, "random_state", None), np.random.Generator):
        model.random_state.random(5)  # goes on
    np.testing.assert_allclose(*explained(model, data), rtol=1e-5)
    model.save(tmp_path / "model.npz")
    np.testing.assert_array_equal(load_baseline(tmp_path / "model.npz").score_items(data.user_ids), scores)


def test_a_refit_has_the_seed_of_the_fit_though_a_generator_has_gone_on(data):
    rng = np.random.default_rng(0)
    model = C2FRecommender(settings=SMALL, random_state=rng).fit(data)
    once = model.refit(data).score_items(data.user_ids)
    rng.random(9)
    np.testing.assert_array_equal(model.refit(data).score_items(data.user_ids), once)


@pytest.mark.parametrize("model", [ItemKNN(k=5.0, engine="numpy"), LightGCN(n_layers=2.0, **TABLE)])
def test_whole_numbers_may_be_given_as_floats(data, tmp_path, model):
    model.fit(data).save(tmp_path / "model.npz")
    np.testing.assert_allclose(*explained(model, data), rtol=1e-5)
    again = load_baseline(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.score_items(data.user_ids), model.score_items(data.user_ids))


@pytest.mark.parametrize("stored_as", ["float32", "int8"])
def test_a_coarse_codebook_with_zeros_can_be_exported(data, tmp_path, stored_as):
    model = C2FRecommender(settings=SMALL).fit(data)
    model.state_.E_coarse[:, ::2] = 0
    model._set_state(model.state_, model.settings_, normalised_adjacency(model.interactions_).astype(np.float32))
    model.export(tmp_path / "model.npz", codebook=stored_as)
    found = load_exported(tmp_path / "model.npz")
    assert found.score_user(data.user_ids[0]).shape == (data.n_items,)
    model.export(tmp_path / "model.npz", codebook=stored_as)  # once more, over a file that must be read first


def test_a_threshold_that_rises_with_the_epochs_forbids_another_number_of_them(data, tmp_path):
    from c2f_np.settings import Settings
    from c2f_np.training import train
    from c2f_np.training.checkpoint import load_checkpoint, save_checkpoint

    def settings(max_epochs, fine_density=0.3):
        given = SMALL | {"max_epochs": max_epochs, "table_epochs": 0, "lr_schedule": "constant", "fine_density": fine_density}
        return Settings.preset("default", **given)

    for density in (0.3, 1.0):
        save_checkpoint(tmp_path / "at.npz", train(data, settings(3, density)), settings(3, density), data.fingerprint())
        if density < 1:
            with pytest.raises(ModelFileError, match="max_epochs = 3"):
                load_checkpoint(tmp_path / "at.npz", settings(6, density), data)
        else:
            load_checkpoint(tmp_path / "at.npz", settings(6, density), data)


def test_k_means_in_one_thread_leaves_blas_of_another_alone():
    from threadpoolctl import threadpool_info

    def blas():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    before, inside = blas(), threading.Thread(target=lambda: links.centres(np.eye(6), 2, 0))
    with one_blas_thread():
        inside.start()
        inside.join()
        assert blas() == {1}
    assert blas() == before


@pytest.mark.parametrize("make", [EASE, lambda: ItemKNN(engine="numpy")])
def test_items_that_nothing_was_learnt_from_tell_nothing(make):
    R = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1]])
    model = make().fit(R)
    with pytest.raises(DataError, match="no interaction of these items"):
        model.recommend_from(["2"], k=2)
    assert Popularity().fit(R).recommend_from(["2"], k=2)[0].shape == (1, 2)


def test_interactions_of_an_export_as_data_frames_give_them(data, tmp_path):
    model = C2FRecommender(settings=SMALL).fit(data)
    model.export(tmp_path / "model.npz", with_interactions=False)
    users, items = model.interactions_.nonzero()
    pairs = np.array([[model.user_ids_[u], model.item_ids_[i]] for u, i in zip(users, items, strict=True)], dtype=object)
    plain = load_exported(tmp_path / "model.npz", interactions=np.stack([users, items], axis=1))
    for nothing in ([], np.zeros((0, 2))):
        found = load_exported(tmp_path / "model.npz", interactions=pairs, held_out=nothing)
        np.testing.assert_array_equal(found.score_user(data.user_ids[3]), plain.score_user(data.user_ids[3]))


def test_many_users_and_long_lists_take_little_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    model = LightGCN(dim=64, max_epochs=1, engine="numpy", n_jobs=1).fit(sparse.random_array((3000, 900), density=0.01, rng=rng))
    model.recommend(model.user_ids_[:3], 2)
    tracemalloc.start()
    model.recommend(model.user_ids_, 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 300 * 64 * 4 / 2  # half of what all embeddings of all lists take
