"""The estimator: scikit-learn's conventions, recommending, evaluating, and its file."""

import dataclasses
import inspect
import io
import json
import pickle

import numpy as np
import pytest
import scipy.sparse as sparse
from sklearn.base import clone

from c2f_np import C2FRecommender, load_dataset
from c2f_np.archive import pack_csr, write_archive
from c2f_np.data import Dataset
from c2f_np.errors import DataError, ModelFileError, SettingsError
from c2f_np.estimator import SETTING_OF
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.step import ModelState
from c2f_np.model_file import load_model, save_model, size_in_bytes
from c2f_np.serving import load_exported
from c2f_np.settings import Settings
from c2f_np.training.problem import entity_embeddings
from tests.serving.serving_models import hand_made
from tests.stored import stored, write

SMALL = {
    "n_coarse": 6, "n_fine": 4, "dim": 8, "n_components": 4, "t_fine": 2, "eval_every": 2, "max_epochs": 3,
    "coarse_lr": 1e-2, "fine_lr": 1e-2, "partition": "random",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


@pytest.fixture(scope="module", params=["staged", "default"])
def model(data, request):
    return C2FRecommender(request.param, settings=SMALL).fit(data)


def test_parameters_are_settings_that_people_set():
    names = set(inspect.signature(C2FRecommender).parameters)
    fields = {field.name for field in dataclasses.fields(Settings)} - set(SETTING_OF.values()) | set(SETTING_OF)
    assert names - fields == {"preset", "settings", "validation_fraction", "verbose"} and len(names) <= 15


def test_settings_in_their_order():
    """The preset's, then `settings`, then what is given by itself; an object stands for all of its fields."""
    model = C2FRecommender("staged", dim=8, settings={"dim": 16, "gate": 0.3})
    assert model.resolved_settings() == Settings.preset("staged", dim=8, gate=0.3)
    whole = Settings.preset("authors", dim=32)
    assert C2FRecommender("staged", random_state=5, settings=whole).resolved_settings() == dataclasses.replace(whole, seed=5)


def test_clone_get_and_set(model):
    again = clone(model)
    assert again.get_params() == model.get_params() and not hasattr(again, "state_")
    again.set_params(dim=16, preset="authors")
    assert again.resolved_settings() == Settings.preset("authors", **(SMALL | {"dim": 16}))
    with pytest.raises(ValueError):
        again.set_params(depth=3)
    for wrong in ({"preset": "mine"}, {"dim": 0}, {"dim": 2.5}, {"engine": "cuda"},
                  {"settings": {"gate": 2}}, {"settings": SMALL | {"t_coarse": 7}}, {"settings": {"depth": 3}}):  # fmt: skip
        with pytest.raises(SettingsError):
            clone(again).set_params(**wrong).resolved_settings()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array, np.asarray])
def test_fit_on_a_matrix(data, kind, dtype):
    R = data.train.toarray() + data.test.toarray()
    fitted = C2FRecommender(settings=SMALL, dtype=dtype).fit(kind(R))
    assert fitted.embeddings_.shape == (32, 8) and fitted.embeddings_.dtype == dtype
    assert 0 < fitted.data_.validation.nnz and fitted.data_.train.nnz + fitted.data_.validation.nnz == R.sum()
    items, scores = fitted.recommend(3, k=2)
    assert items.shape == scores.shape == (1, 2) and np.isfinite(scores).all()


def test_fit_on_a_matrix_with_validation(data):
    fitted = C2FRecommender(settings=SMALL).fit(data.train, validation=data.test)
    assert (fitted.data_.validation != data.test).nnz == 0
    assert (fitted.interactions_ != data.train).nnz == 0
    alone = C2FRecommender(settings=SMALL, validation_fraction=0).fit(data.train)
    assert alone.data_.validation is None and np.isnan(alone.history_[-1]["validation_ndcg@5"])
    with pytest.raises(DataError):
        C2FRecommender(settings=SMALL).fit(data, validation=data.test)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_matrix_with_impossible_values(value):
    R = np.ones((5, 6))
    R[2, 3] = value
    for matrix in (R, sparse.csr_matrix(R)):
        with pytest.raises(DataError):
            C2FRecommender(settings=SMALL).fit(matrix)


def test_recommend_leaves_out_what_was_seen_and_sorts(model, data):
    items, scores = model.recommend(data.user_ids, k=5)
    assert items.shape == scores.shape == (18, 5)
    assert (np.diff(scores, axis=1) <= 0).all()
    positions = data.item_index(items.ravel()).reshape(items.shape)
    assert not data.train.toarray()[np.arange(18)[:, None], positions].any()
    everything, _ = model.recommend(data.user_ids, k=14, exclude_seen=False)
    assert (np.sort(everything, axis=1) == np.sort(data.item_ids)).all()


def test_scores_are_those_of_the_model(model, data):
    items, scores = model.recommend(["Nora Fayette"], k=14, exclude_seen=False)
    u, i = data.user_index(["Nora Fayette"])[0], data.item_index(items[0])
    H, bias = model.embeddings_.astype(float), model.state_.bias.astype(float)
    expected = H[18 + i] @ H[u] + bias[u] + bias[18 + i] + model.state_.bias_global[0]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)


def test_recommend_errors(model):
    for k in (0, 15, -1, 2.0, True, "3"):
        with pytest.raises(SettingsError, match="from 1 to 14"):
            model.recommend("Nora Fayette", k)
    with pytest.raises(DataError, match="unknown user.*Nobody"):
        model.recommend(["Nora Fayette", "Nobody"])
    with pytest.raises(DataError, match="unknown item.*E99"):
        model.similar_items("E99")
    with pytest.raises(SettingsError, match="from 1 to 13"):
        model.similar_items("E1", 14)
    with pytest.raises(ValueError, match="not fitted"):
        C2FRecommender().recommend("a")


def test_ids_of_any_script_and_a_user_with_every_item():
    rng = np.random.default_rng(0)
    R = rng.random((8, 6)) < 0.4
    R[0] = True
    R[1:, 5] = False
    R[:, 0] = True
    R[7, :] = False
    users = ["Żółw", "用户", "мир", "a b", "10", "2", "😀", "née"]
    items = ["é", "e", "日本", "ß", "SS", "-"]
    made = Dataset.from_matrices(R, user_ids=users, item_ids=items)
    fitted = C2FRecommender(settings=SMALL).fit(made)
    found, scores = fitted.recommend(["Żółw", "用户"], k=3)
    assert (found[0] == "").all() and np.isnan(scores[0]).all()
    free = {item for item, has in zip(items, R[1], strict=True) if not has}
    assert set(found[1]) - {""} <= free and "-" in fitted.recommend("用户", k=6)[0]
    # A user without training interactions is answered too.
    assert set(fitted.recommend("née", k=6)[0].ravel()) == set(items)
    assert fitted.recommend(2, k=1)[0].tolist() == fitted.recommend("2", k=1)[0].tolist()
    assert np.isfinite(fitted.embeddings_).all()


def test_similar_items_are_cosines(model, data):
    items, cosines = model.similar_items(["E1", "E9"], k=13)
    H = model.embeddings_[18:].astype(float)
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    for row, (item, at) in enumerate((("E1", 0), ("E9", 8))):
        assert item not in items[row] and len(set(items[row])) == 13
        np.testing.assert_allclose(cosines[row], (unit @ unit[at])[data.item_index(items[row])], atol=1e-6)
        assert (np.diff(cosines[row]) <= 1e-6).all()


def test_evaluate(model, data):
    result = model.evaluate()
    assert result.n_users == 18 and result.protocol == "clean" and 0 <= result.metrics["ndcg@20"] <= 1
    assert result.metrics == model.evaluate(data, "test").metrics
    with pytest.raises(DataError, match="judged by validation or test, not 'train'"):
        model.evaluate(part="train")
    with pytest.raises(DataError, match="not those of the model"):
        model.evaluate(load_dataset("planted"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_loaded_bit_by_bit(data, tmp_path, dtype):
    fitted = C2FRecommender(settings=SMALL, dtype=dtype).fit(data)
    fitted.save(tmp_path / "model.npz")
    loaded = C2FRecommender.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.embeddings_, fitted.embeddings_)
    assert loaded.embeddings_.dtype == dtype
    for ours, theirs in zip(fitted.recommend(data.user_ids), loaded.recommend(data.user_ids), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (loaded.history_, loaded.best_epoch_) == ([], None) and loaded.epochs_ == fitted.epochs_
    assert loaded.settings_ == fitted.settings_ and loaded.size_in_bytes() == fitted.size_in_bytes()
    assert loaded.evaluate(data).metrics == fitted.evaluate().metrics
    with pytest.raises(DataError, match="no held-out data"):
        loaded.evaluate()
    loaded.save(tmp_path / "again.npz")
    first, again = (stored(tmp_path / name) for name in ("model.npz", "again.npz"))
    assert first[0] == again[0]
    for name in first[1]:
        np.testing.assert_array_equal(first[1][name], again[1][name])


def test_exported_from_python(model, data, tmp_path):
    model.export(tmp_path / "small.npz")
    served = load_exported(tmp_path / "small.npz")
    np.testing.assert_array_equal(served.recommend(data.user_ids, 4)[0], model.recommend(data.user_ids, 4)[0])
    model.export(tmp_path / "small.npz", codebook="int8", with_ids=False)
    assert load_exported(tmp_path / "small.npz").user_ids is None
    model.save(tmp_path / "model.npz")
    with pytest.raises(SettingsError, match="no exported model, so it is not replaced"):
        model.export(tmp_path / "model.npz")


def test_size_is_the_hand_count(model):
    # 6 and 4 rows of 8 float32; 32 biases and one more. In two stages 32 rows of 2 and 6 rows of 2 weights; jointly 32 rows of 1
    # to each codebook. Weights of 4 bytes, their places of 1.
    n_links = 32 * 2 + 6 * 2 if model.preset == "staged" else 32 * 1 + 32 * 1
    # Of the fine codebook all, or what the threshold leaves and a bit for each of 4 x 8 entries.
    fine = min(4 * 8, int(np.count_nonzero(np.abs(model.state_.E_fine) > model.settings_.threshold)) + 1) * 4
    assert model.size_in_bytes() == {
        "codebooks": 6 * 8 * 4 + fine,
        "assignment weights": n_links * 4,
        "assignment indices": n_links,
        "biases": (32 + 1) * 4,
        "model": 6 * 32 + fine + n_links * 5 + 33 * 4,
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preset", ["staged", "default"])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.2, 0.5, 0.96, 0.98, 1.0])
def test_size_is_that_of_the_arrays_in_the_file(tmp_path, density, preset, dtype):
    """And what is left out of the file changes no bit of a score, nor do older files."""
    model = hand_made(preset, threshold=0.7, dtype=dtype, m=7, d=150)
    rng, size = np.random.default_rng(1), np.dtype(dtype).itemsize
    E = np.sign(rng.normal(size=(7, 150))) * rng.uniform(0.71, 2, size=(7, 150))
    dead = rng.permutation(7 * 150)[: round((1 - density) * 7 * 150)]
    E.ravel()[dead] *= 0.3
    E.ravel()[dead[:3]] = [0.7, 0, -0.7][: len(dead)]  # a threshold leaves nothing of what equals it
    state = dataclasses.replace(model.state, E_fine=E.astype(dtype))
    model = dataclasses.replace(model, state=state)
    save_model(tmp_path / "model.npz", model)
    header, arrays = stored(tmp_path / "model.npz")
    sizes, of_state = size_in_bytes(state, 0.7), {k: a.nbytes for k, a in arrays.items() if k.startswith("state.")}
    assert sum(of_state.values()) == sizes["model"] == sum(size for part, size in sizes.items() if part != "model")
    assert sum(n for k, n in of_state.items() if ".E_" in k) == sizes["codebooks"]
    live = np.count_nonzero(np.abs(state.E_fine) > 0.7)
    expected = min(7 * 150 * size, live * size + 132)  # 1,050 bits
    assert sizes["codebooks"] - state.E_coarse.nbytes == expected and ("state.E_fine" in arrays) == (expected == 7 * 150 * size)
    older = {k: a for k, a in arrays.items() if not k.startswith("state.")}
    for name in ("E_coarse", "E_fine", "bias", "bias_global"):
        older[f"state.{name}"] = getattr(state, name)
    for name in ("S_coarse", "S_fine", "S_direct"):
        if getattr(state, name) is not None:
            older |= pack_csr(f"state.{name}", getattr(state, name))
    write(tmp_path / "older.npz", "model", 1, header, older)
    A = normalised_adjacency(model.R).astype(dtype)
    H = entity_embeddings(state, A, model.settings)
    for name in ("model.npz", "older.npz"):
        loaded = load_model(tmp_path / name)
        np.testing.assert_array_equal(entity_embeddings(loaded.state, A, loaded.settings), H)
        assert size_in_bytes(loaded.state, 0.7) == sizes and C2FRecommender.load(tmp_path / name).size_in_bytes() == sizes


@pytest.mark.parametrize(("n_rows", "size"), [(1, 1), (256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_a_place_takes_the_smallest_type_that_holds_it(n_rows, size):
    S = sparse.csr_array((np.ones(3, np.float32), np.zeros(3, np.int32), np.arange(4)), shape=(3, n_rows))
    state = ModelState(np.zeros((n_rows, 1), np.float32), S, np.zeros(3, np.float32), np.zeros(1, np.float32))
    assert size_in_bytes(state)["assignment indices"] == 3 * size


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    model.save(path)
    return path


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"user,item\n", pickle.dumps({"header": 1}), npy(np.arange(3)), npz(a=np.arange(3)), npz(header=np.array(3)),
        npz(header=np.array([{}], dtype=object)),
        npz(header=np.frombuffer(json.dumps({"kind": "model", "version": 1}).encode(), dtype=np.uint8)),
    ],
)  # fmt: skip
def test_foreign_files(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="model.npz"):
        C2FRecommender.load(path)


def test_truncated_or_altered_files(saved, tmp_path):
    whole, path = saved.read_bytes(), tmp_path / "model.npz"
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            C2FRecommender.load(path)
    for bit in rng.integers(0, 8 * len(whole), 300):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(altered)
        try:  # some bits, such as times in the zip directory, carry nothing
            C2FRecommender.load(path)
        except ModelFileError:
            pass
    for mark, offset in ((b"PK\x01\x02", 10), (b"PK\x01\x02", 6), (b"PK\x01\x02", 8)):  # compression, version, password
        altered = bytearray(whole)
        altered[altered.index(mark) + offset] |= 0x61
        path.write_bytes(altered)
        with pytest.raises(ModelFileError):
            C2FRecommender.load(path)


def test_another_kind_or_version_or_parts_that_do_not_fit(saved, tmp_path):
    rest, arrays = stored(saved)
    path = tmp_path / "model.npz"

    def refused(match, kind="model", version=2, new_header=rest, **changed):
        write_archive(path, kind, version, new_header, {k: v for k, v in (arrays | changed).items() if v is not None})
        with pytest.raises(ModelFileError, match=match):
            C2FRecommender.load(path)

    refused("model of version 3; this program reads versions 1 to 2", version=3)
    refused("not a c2f_np model", kind="checkpoint")
    refused("settings", new_header={})
    refused("settings", new_header=rest | {"settings": rest["settings"] | {"colour": 3}})
    refused("settings", new_header=rest | {"settings": rest["settings"] | {"dim": -3}})
    for name in arrays:
        # Without its fine codebook a model of two stages is one of the coarse stage.
        if name != "state.E_fine":
            refused(f"{name} is missing", **{name: None})
        elif rest["settings"]["training"] == "joint":
            refused("state.E_fine is missing", **{name: None})
    refused("state.bias has the shape", **{"state.bias": arrays["state.bias"][1:]})
    refused("shape", user_ids=arrays["user_ids"][1:])
    refused("finite", **{"state.E_coarse": arrays["state.E_coarse"] * np.nan})
    refused("finite", **{"state.S_coarse.data": arrays["state.S_coarse.data"] * np.nan})
    refused("beyond", **{"interactions.indices": arrays["interactions.indices"] + 14})
    refused("not text", item_ids=np.arange(14))
    refused("shape", **{"state.E_coarse": arrays["state.E_coarse"].ravel()})
    refused("about", new_header=rest | {"about": 3})
    starts = arrays["interactions.indptr"]
    one_more = {"interactions.indptr": np.append(starts, starts[-1]), "interactions.shape": np.array([19, 14])}
    refused("user_ids has the shape", **one_more)
    with pytest.raises(ModelFileError, match="no such file"):
        C2FRecommender.load(tmp_path / "none.npz")
