"""Models that keep a byte for each of their numbers: what is rounded, what it weighs, and what a file of it holds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import load_dataset
from c2f_np.baselines import EASE, ItemKNN, load_baseline, make_baseline
from c2f_np.baselines.cut import cut_to_bytes, pack_cut
from c2f_np.baselines.stored import in_bytes, in_numbers
from c2f_np.errors import ModelFileError, SettingsError
from tests.stored import stored, write

SHORT = {"dim": 8, "max_epochs": 4, "eval_every": 2, "lr": 2e-2, "item_bias": True}
#: Of 32 entities and 14 items: the bytes of a table of width 8 and of its scales; two bytes for each bias.
SIZES = {
    "lightgcn": 32 * 8 + 32,
    "narrow-lightgcn": 32 * 8 + 32,
    "bpr-mf": 32 * 8 + 32,
    "hashed": 200 * 8 + 32,
    "quotient-remainder": 12 * 8 + 2 * 32,
    "product-quantisation": 32 * 8 + 32 * 8 + 32,
}
WOMEN = load_dataset("southern-women")


def test_numbers_in_bytes_by_hand():
    table = np.array([[1.27, 0, -3], [-0.63, 0, 2], [0.004, 0, 1.5]], np.float32)
    kept = in_bytes({"table": table, "item_bias": np.array([0.1, 2], np.float32), "codes": np.array([[7]], np.uint8)})
    assert kept["table"].dtype == np.int8 and kept["table"].tolist() == [[127, 0, -127], [-63, 0, 85], [0, 0, 64]]
    assert_allclose(kept["table.scale"], [0.01, 0, 3 / 127], rtol=1e-6)
    assert kept["item_bias"].dtype == np.float16 and kept["codes"].tolist() == [[7]]
    for dtype in (np.float32, np.float64):
        numbers = in_numbers(kept, dtype)
        assert list(numbers) == ["table", "item_bias", "codes"] and numbers["table"].dtype == numbers["item_bias"].dtype == dtype
        assert_allclose(numbers["table"], kept["table"] * kept["table.scale"].astype(float), rtol=1e-6)
        assert_allclose(numbers["item_bias"], [0.1, 2], rtol=1e-3)
    # What is kept as it was is what one computes with.
    assert in_numbers({"table": table}, np.float32)["table"] is table
    with pytest.raises(SettingsError, match="item biases holds numbers too large for float16"):
        in_bytes({"item_bias": np.array([1e6])})


@pytest.mark.parametrize("name", SIZES)
def test_a_table_in_bytes_is_the_trained_one_rounded(name, tmp_path):
    trained, model = (make_baseline(name, **SHORT, stored_as=kind).fit(WOMEN) for kind in ("dtype", "int8"))
    assert [row["loss"] for row in model.history_] == [row["loss"] for row in trained.history_]
    for part, values in in_numbers(model.parameters_, np.float32).items():
        exact = trained.parameters_[part]
        step = np.abs(exact).max(axis=0) / 127 if exact.ndim == 2 else np.abs(exact) / 1000
        assert (np.abs(values - exact) <= 0.51 * step).all()
    assert 0 < np.abs(model.embeddings_ - trained.embeddings_).max() < 0.02
    size = model.size_in_bytes()
    assert size["model"] == SIZES[name] + 2 * 14 and sum(size.values()) == 2 * size["model"]
    model.save(tmp_path / "model.npz")
    _, arrays = stored(tmp_path / "model.npz")
    own = {part: arrays[part] for part in model.parameters_}
    assert sum(array.nbytes for array in own.values()) == size["model"]
    loaded = load_baseline(tmp_path / "model.npz")
    assert_array_equal(loaded.score_items(WOMEN.user_ids), model.score_items(WOMEN.user_ids))
    assert loaded.size_in_bytes() == size and loaded.stored_as == "int8"
    for found, expected in zip(loaded.recommend_from(["E1", "E8"], k=3), model.recommend_from(["E1", "E8"], k=3), strict=True):
        assert_array_equal(found, expected)


@pytest.mark.parametrize("name, each, least", [
    ("narrow-lightgcn", 32 + 4, 32 + 4 + 28), ("bpr-mf", 32 + 4, 32 + 4 + 28), ("hashed", 8, 8 + 32 + 28),
    ("quotient-remainder", 8, 12 * 8 + 2 * 32 + 28), ("product-quantisation", 8, 32 + 2 * 8 + 32 + 28),
])  # fmt: skip
def test_a_budget_in_bytes_is_kept_and_nearly_used(name, each, least):
    """28 bytes of biases, 32 of scales; another column, row or centroid takes `each` bytes, if it can be used."""
    for budget in (least, least + 60, least + 150):
        model = make_baseline(name, **(SHORT | {"max_epochs": 1}), bytes=budget, stored_as="int8").fit(WOMEN)
        size = model.size_in_bytes()["model"]
        assert size <= budget and (budget - size < each or name in ("quotient-remainder", "product-quantisation"))
    with pytest.raises(SettingsError, match=f"bytes = {least - 1} is too little .* at least {least}$"):
        make_baseline(name, **SHORT, bytes=least - 1, stored_as="int8").fit(WOMEN)


def test_a_number_that_nothing_is_stored_as_is_found(tmp_path):
    path = tmp_path / "model.npz"
    make_baseline("lightgcn", **SHORT, stored_as="int8").fit(WOMEN).save(path)
    header, arrays = stored(path)
    wrong = arrays["embeddings"].copy()
    wrong[3, 2] = -128
    write(path, "baseline", 2, header, arrays | {"embeddings": wrong})
    with pytest.raises(ModelFileError, match="embeddings holds -128"):
        load_baseline(path)
    with pytest.raises(SettingsError, match="stored_as must be one of dtype, int8, not 'int4'"):
        make_baseline("lightgcn", stored_as="int4").fit(WOMEN)


@pytest.mark.parametrize("name, attribute", [("ease", "weights_"), ("item-knn", "neighbours_")])
@pytest.mark.parametrize("n", [1, 9, 40, None])
def test_cut_weights_in_bytes(name, attribute, n, tmp_path):
    """A weight is a byte and one for its column of 14; 15 row starts are a byte each, and the scale is four."""
    budget = None if n is None else 15 + 4 + 2 * n + 1
    exact = make_baseline(name).fit(WOMEN)
    model = make_baseline(name, bytes=budget, stored_as="int8").fit(WOMEN)
    W, whole = getattr(model, attribute).toarray(), getattr(exact, attribute)
    whole = whole if isinstance(whole, np.ndarray) else whole.toarray()
    kept = W != 0
    step = np.abs(whole).max() / 127
    # All weights are those that are not rounded to nothing.
    assert kept.sum() == (n or np.sum(np.abs(whole) > 0.5001 * step)) and np.abs(whole[~kept]).max() <= np.abs(whole[kept]).min()
    assert np.abs((W - whole)[kept]).max() <= 0.51 * step
    size = model.size_in_bytes()
    stored_n = int(kept.sum())
    assert size["weights"] == size["indices"] == stored_n and size["scale"] == 4 and size["model"] == 2 * stored_n + 4 + 15
    model.save(tmp_path / "one.npz")
    loaded = load_baseline(tmp_path / "one.npz")
    assert_array_equal(loaded.score_items(WOMEN.user_ids), model.score_items(WOMEN.user_ids))
    # What was rounded is rounded to itself: the same arrays again.
    loaded.save(tmp_path / "two.npz")
    (_, first), (_, second) = (stored(tmp_path / f"{which}.npz") for which in ("one", "two"))
    assert all(np.array_equal(array, second[part]) for part, array in first.items())


def test_the_scale_of_weights_is_found_again():
    """Whatever the weights: 127 times the scale is exact, so that it is the largest weight's share once more."""
    rng = np.random.default_rng(0)
    for size in (1e-30, 1e-4, 1.0, 1e20):
        W = cut_to_bytes((size * rng.standard_normal((30, 30))).astype(np.float32), None, "int8")
        stored_W = pack_cut("W", W, "int8")
        assert np.abs(stored_W["W.data"]).max() in (126, 127)
        assert_array_equal(stored_W["W.data"] * stored_W["W.scale"], W.data)
    nothing = cut_to_bytes(np.zeros((4, 4), np.float32), None, "int8")
    assert nothing.nnz == 0 and pack_cut("W", nothing, "int8")["W.scale"] == 1


@pytest.mark.parametrize("kind", [EASE, ItemKNN])
def test_less_than_one_weight_in_bytes(kind):
    with pytest.raises(SettingsError, match="bytes = 20 is too little for one weight of 14 items: at least 21"):
        kind(bytes=20, stored_as="int8").fit(WOMEN)
