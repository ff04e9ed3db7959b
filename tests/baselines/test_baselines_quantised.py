"""Product quantisation of a trained table, against plain loops."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import load_dataset
from c2f_np.baselines import LightGCN, ProductQuantisedLightGCN, product_quantisation
from c2f_np.baselines.product_quantisation import parts_for_numbers, put_together, quantise_rows
from c2f_np.errors import ModelFileError, SettingsError
from tests.stored import stored, write

SHORT = {"dim": 8, "max_epochs": 4, "eval_every": 2, "lr": 2e-2, "item_bias": True}
FEW = {"n_parts": 3, "n_centroids": 5}
# Three parts of eight columns.
PARTS = [range(0, 3), range(3, 6), range(6, 8)]


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


@pytest.fixture(scope="module")
def models(data):
    """A table, and the same one quantised."""
    return LightGCN(**SHORT).fit(data), ProductQuantisedLightGCN(**SHORT, **FEW).fit(data)


def lloyd(Y, V, rounds=50):
    """k-means from given centres, by loops."""
    for _ in range(rounds):
        codes = [min(range(len(V)), key=lambda c: np.sum((y - V[c]) ** 2)) for y in Y]
        V = np.array([np.mean([y for y, code in zip(Y, codes, strict=True) if code == c], axis=0) for c in range(len(V))])
    return codes, V


def test_a_row_is_put_together_from_its_centroids():
    centroids = np.arange(10.0).reshape(2, 5)  # parts of two, two and one column
    codes = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    assert put_together(codes, centroids).tolist() == [[0, 1, 7, 8, 9], [5, 6, 2, 3, 4]]


def test_codes_and_centroids_are_those_of_k_means_in_every_part():
    """Clusters that are far from each other, which k-means finds wherever it begins: then they are known."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, size=(60, 3))
    E = np.concatenate([10.0 * true[:, [j]] + 0.1 * rng.standard_normal((60, len(part))) for j, part in enumerate(PARTS)], axis=1)
    codes, centroids = quantise_rows(E, 3, 4, seed=0)
    assert codes.dtype == np.uint8 and centroids.shape == (4, 8)
    for j, part in enumerate(PARTS):
        # The clusters in the order in which they were numbered.
        start = np.array([E[true[:, j] == round(c / 10)][:, part].mean(axis=0) for c in centroids[:, part[0]]])
        expected_codes, expected = lloyd(E[:, part], start, rounds=3)
        assert_array_equal(codes[:, j], expected_codes)
        assert_allclose(centroids[:, part], expected, rtol=1e-12)


def test_the_table_of_the_same_training_is_quantised(models):
    full, model = models
    E, codes, V = full.parameters_["embeddings"], model.parameters_["codes"], model.parameters_["centroids"]
    assert [row["loss"] for row in model.history_] == [row["loss"] for row in full.history_]
    assert model.best_epoch_ == full.best_epoch_
    assert_array_equal(model.parameters_["item_bias"], full.parameters_["item_bias"])
    assert (codes.shape, codes.dtype, V.shape, V.dtype) == ((32, 3), np.uint8, (5, 8), np.float32)
    for j, part in enumerate(PARTS):
        for e, row in enumerate(E[:, part]):
            assert codes[e, j] == np.argmin([np.sum((row - v) ** 2) for v in V[:, part].astype(np.float64)])
        # k-means has come to its end: every centroid is the mean of the rows that it stands for.
        for c in range(5):
            assert_allclose(V[c, part], E[codes[:, j] == c][:, part].mean(axis=0), atol=1e-6)
    # What is propagated is the table of the codes.
    Z = np.array([[V[codes[e, j], column] for j, part in enumerate(PARTS) for column in part] for e in range(32)])
    R = full.interactions_.toarray().astype(float)
    A = np.block([[np.zeros((18, 18)), R], [R.T, np.zeros((14, 14))]])
    scale = 1 / np.sqrt(np.maximum(A.sum(axis=1), 1))
    A = scale[:, None] * A * scale
    H = sum(np.linalg.matrix_power(A, layer) @ Z for layer in range(4)) / 4
    assert_allclose(model.embeddings_, H, atol=1e-6)


def test_as_many_centroids_as_rows_lose_nothing(data):
    full, model = (kind(**SHORT, **more).fit(data) for kind, more in ((LightGCN, {}), (ProductQuantisedLightGCN, {"n_parts": 2})))
    assert len(model.parameters_["centroids"]) == 32  # of 256: there are no more entities
    assert_allclose(model.embeddings_, full.embeddings_, atol=1e-6)


def test_size_is_that_of_the_arrays_in_the_file(models, tmp_path):
    model, path = models[1], tmp_path / "model.npz"
    assert model.size_in_bytes() == {"codes": 32 * 3, "centroids": 5 * 8 * 4, "item_bias": 14 * 4, "model": 96 + 160 + 56}
    model.save(path)
    header, arrays = stored(path)
    own = {name: arrays[name] for name in ("codes", "centroids", "item_bias")}
    others = {"user_ids", "item_ids", *(name for name in arrays if name.startswith(("interactions.", "held_out.")))}
    assert set(arrays) == others | set(own) and sum(array.nbytes for array in own.values()) == 312
    # A code without a centroid is found.
    write(path, "baseline", 2, header, arrays | {"codes": np.full((32, 3), 5, np.uint8)})
    with pytest.raises(ModelFileError, match="codes holds 5, beyond the last one, 4"):
        ProductQuantisedLightGCN.load(path)


@pytest.mark.parametrize("budget", [100, 500, 3_000, 10_000, 100_000])
def test_of_what_fits_the_codes_are_most_different(budget):
    """Tried one by one: 300 entities, 8 columns."""
    sizes = [(m, k) for m in range(1, 9) for k in range(2, 257) if 300 * m + 4 * 8 * k <= budget]
    found = parts_for_numbers(budget, 300, 8, 4)
    if not sizes:
        assert found is None
        return
    assert found in sizes and found[1] ** found[0] == max(k**m for m, k in sizes)


def test_a_budget_is_kept_and_nearly_used(data):
    for budget in (160, 300, 600):
        model = ProductQuantisedLightGCN(**SHORT, bytes=budget).fit(data)
        # Another centroid, 32 bytes, would not fit.
        assert budget - 32 < model.size_in_bytes()["model"] <= budget or len(model.parameters_["centroids"]) == 32
    with pytest.raises(SettingsError, match="n_parts = 9 is more than dim = 8"):
        ProductQuantisedLightGCN(**SHORT, n_parts=9).fit(data)
    with pytest.raises(SettingsError, match="n_centroids must be at most 256"):
        ProductQuantisedLightGCN(n_centroids=257).fit(data)


def test_rows_beyond_a_block_get_their_own_codes(monkeypatch):
    rng = np.random.default_rng(0)
    E = rng.standard_normal((300, 8))
    whole = quantise_rows(E, 3, 5, seed=0)
    monkeypatch.setattr(product_quantisation, "_BLOCK", 70)
    for one, other in zip(whole, quantise_rows(E, 3, 5, seed=0), strict=True):
        assert_array_equal(one, other)
