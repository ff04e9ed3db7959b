"""Popularity, item neighbours and EASE by hand on a matrix that can be drawn, and the errors they give."""

import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import load_dataset
from c2f_np.baselines import EASE, ItemKNN, Popularity, item_knn, make_baseline
from c2f_np.baselines.cut import cut_to_bytes, size_of_cut
from c2f_np.baselines.ease import ease_weights
from c2f_np.baselines.item_knn import item_neighbours
from c2f_np.errors import DataError, ModelFileError, SettingsError
from c2f_np.evaluation import evaluate_ranking
from tests.stored import stored, write

# Users of the items: 3, 2, 2, 0, 1.
DENSE = np.array(
    [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 0, 1],
        [0, 0, 1, 0, 0],
    ]
)
R = sparse.csr_array(DENSE)
EVERYONE = np.arange(4)


def test_popularity_by_hand():
    model = Popularity().fit(R)
    assert_array_equal(model.score_items(EVERYONE), [[3, 2, 2, 0, 1]] * 4)
    items, scores = model.recommend([0, 3], k=3)
    assert items.tolist() == [["2", "4", "3"], ["0", "1", "4"]]
    assert_array_equal(scores, [[2, 1, 0], [3, 2, 1]])
    assert model.size_in_bytes() == {"counts": 20, "model": 20}
    assert model.history_ == [] and model.best_epoch_ is None and model.seconds_ >= 0


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_neighbours_by_hand(engine):
    a, b, c = 2 / np.sqrt(6), 1 / np.sqrt(6), 1 / np.sqrt(3)
    whole = np.array([[0, a, b, 0, c], [a, 0, 0.5, 0, 0], [b, 0.5, 0, 0, 0], [0] * 5, [c, 0, 0, 0, 0]])
    assert_allclose(item_neighbours(R, 5, 0.0, engine=engine).toarray(), whole, rtol=1e-6)
    # The two best neighbours of item 0 are 1 and 4; nobody else has more than two.
    two = whole.copy()
    two[0, 2] = 0
    assert_allclose(item_neighbours(R, 2, 0.0, engine=engine).toarray(), two, rtol=1e-6)
    # Of items 0 and 1 together there are two users: 2 / (sqrt(6) + 10).
    assert item_neighbours(R, 5, 10.0, engine=engine)[0, 1] == pytest.approx(2 / (np.sqrt(6) + 10))


def test_an_item_is_worth_its_own_neighbours():
    """The list of neighbours is not symmetric: item 2 counts item 0 among its own, but not the other way round."""
    model = ItemKNN(k=2, shrinkage=0.0).fit(R)
    a, b, c = 2 / np.sqrt(6), 1 / np.sqrt(6), 1 / np.sqrt(3)
    # User 1 has items 0, 1 and 2; user 3 has item 2 alone.
    assert_allclose(model.score_items(np.array([1])), [[a, a + 0.5, b + 0.5, 0, c]], rtol=1e-6)
    assert_allclose(model.score_items(np.array([3])), [[0, 0.5, 0, 0, 0]], rtol=1e-6)
    # 7 similarities, their places, and 6 row starts.
    assert model.size_in_bytes() == {"similarities": 28, "indices": 28, "row starts": 24, "model": 80}


def test_ease_solves_its_problem():
    """Each column of W is the ridge regression of an item on all the others."""
    W = ease_weights(R, 0.5)
    assert W.dtype == np.float32 and not np.diag(W).any()
    for item in range(5):
        others = np.delete(np.arange(5), item)
        X = DENSE[:, others].astype(float)
        expected = np.linalg.solve(X.T @ X + 0.5 * np.eye(4), X.T @ DENSE[:, item])
        assert_allclose(W[others, item], expected, atol=1e-6)
    model = EASE(regularisation=0.5).fit(R)
    assert_allclose(model.score_items(EVERYONE), DENSE @ W, atol=1e-6)
    assert model.size_in_bytes() == {"weights": 100, "model": 100}


def test_two_items_by_pencil():
    """Three users: both, both, the first alone. P = [[3+1, 2], [2, 2+1]]^-1, so W = [[0, 2/4], [2/3, 0]]."""
    assert_allclose(ease_weights(sparse.csr_array([[1, 1], [1, 1], [1, 0]]), 1.0), [[0, 1 / 2], [2 / 3, 0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["popularity", "item-knn", "ease"])
@pytest.mark.parametrize("protocol", ["clean", "authors"])
def test_evaluate_is_the_ranking_of_score(name, protocol):
    data = load_dataset("southern-women", protocol=protocol)
    model = make_baseline(name).fit(data)
    found = model.evaluate(per_user=True)
    expected = evaluate_ranking(model._scores, data.test, data.masked_when_ranking("test"), per_user=True, protocol=protocol)
    assert found == expected and found.protocol == protocol
    assert_array_equal(found.per_user["ndcg@5"], expected.per_user["ndcg@5"])
    assert model.evaluate().per_user is None
    items, scores = model.recommend(data.user_ids, k=14)
    known = np.diff(data.known().indptr)
    assert ((items == "").sum(axis=1) == known).all() and (np.isnan(scores) == (items == "")).all()


def test_many_users_come_in_blocks(monkeypatch):
    monkeypatch.setattr("c2f_np.estimator._BLOCK", 3)
    model = ItemKNN().fit(R)
    items, scores = model.recommend(EVERYONE, k=5)
    for user in EVERYONE:
        alone, its_scores = model.recommend(user, k=5)
        assert_array_equal(items[user], alone[0])
        assert_array_equal(scores[user], its_scores[0])


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("item-knn", {"k": 0}), ("item-knn", {"k": 2.5}), ("item-knn", {"shrinkage": -1}), ("ease", {"regularisation": 0}),
        ("ease", {"regularisation": np.nan}), ("popularity", {"engine": "cuda"}), ("ease", {"max_items": True}),
    ],
)  # fmt: skip
def test_impossible_parameters(name, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        make_baseline(name, **wrong).fit(R)


def test_errors():
    with pytest.raises(SettingsError, match="5 items.*max_items = 4"):
        EASE(max_items=4).fit(R)
    with pytest.raises(SettingsError, match="unknown baseline 'svd'.*popularity.*quotient-remainder"):
        make_baseline("svd")
    with pytest.raises(SettingsError, match="unknown parameter of item-knn 'dim'; choose one of .*shrinkage"):
        make_baseline("item-knn", dim=3)
    with pytest.raises(ValueError, match="not fitted"):
        Popularity().recommend("0")
    with pytest.raises(ValueError, match="not fitted"):
        ItemKNN().score_items(EVERYONE)
    model = Popularity().fit(R)
    with pytest.raises(DataError, match="no test interactions"):
        model.evaluate()
    with pytest.raises(DataError, match="unknown user"):
        model.recommend("9", k=2)
    with pytest.raises(SettingsError, match="from 1 to 5"):
        model.recommend("0", k=6)


# ---- cut to a budget ---------------------------------------------------------------------------------------------------
WOMEN = load_dataset("southern-women")


def whole_weights(name):
    model = make_baseline(name).fit(WOMEN)
    return model.weights_ if name == "ease" else model.neighbours_.toarray()


@pytest.mark.parametrize("name, stored_as", [("ease", "weights"), ("item-knn", "neighbours")])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_the_largest_weights_that_fit_are_kept(name, stored_as, n, tmp_path):
    """A weight is 4 bytes and 1 for its column of 14; 15 row starts are a byte each."""
    whole = whole_weights(name)
    model = make_baseline(name, bytes=15 + 5 * n + 4).fit(WOMEN)
    by_size = sorted(((-abs(value), i, j) for (i, j), value in np.ndenumerate(whole) if value != 0))[:n]
    expected = np.zeros_like(whole)
    for _, i, j in by_size:
        expected[i, j] = whole[i, j]
    W = model.weights_ if name == "ease" else model.neighbours_
    assert_array_equal(W.toarray(), expected)
    size = model.size_in_bytes()
    assert list(size.values()) == [4 * n, n, 15, 5 * n + 15] and list(size)[1:] == ["indices", "row starts", "model"]
    # Scores are made of what is left, each weight with its own item.
    scores = WOMEN.train.toarray() @ (expected if name == "ease" else expected.T)
    assert_allclose(model.score_items(WOMEN.user_ids), scores, atol=1e-6)
    items, shares = model.similar_items("E8", 13)
    assert (items[0] != "").sum() == np.count_nonzero(expected[7]) and set(shares[0][items[0] != ""]) <= set(expected[7])
    # The file holds those arrays, and the model again.
    model.save(tmp_path / "model.npz")
    _, arrays = stored(tmp_path / "model.npz")
    own = [array for part, array in arrays.items() if part.startswith(f"{stored_as}.")]
    assert len(own) == 3 and sum(array.nbytes for array in own) == size["model"]
    loaded = type(model).load(tmp_path / "model.npz")
    assert loaded.size_in_bytes() == size
    assert_array_equal(loaded.score_items(WOMEN.user_ids), model.score_items(WOMEN.user_ids))


def test_a_budget_for_everything_cuts_nothing():
    ease, cut = EASE().fit(WOMEN), EASE(bytes=4 * 14**2).fit(WOMEN)
    assert_array_equal(cut.weights_, ease.weights_)
    assert cut.size_in_bytes() == {"weights": 784, "model": 784}
    knn = ItemKNN(bytes=np.float64(10_000)).fit(WOMEN)
    assert_array_equal(knn.neighbours_.toarray(), whole_weights("item-knn"))
    assert knn.size_in_bytes()["indices"] == knn.neighbours_.nnz < 256
    # Row starts are one byte up to 255 weights, which may be more than fit with two; columns of 300 are two bytes.
    for n_items, budget, size in ((300, 301 + 6 * 255, 301), (300, 301 + 6 * 256, 301), (300, 2 * 301 + 6 * 256, 602)):
        W = cut_to_bytes(np.ones((n_items, n_items), np.float32), budget)
        found = size_of_cut(W)
        assert found["row starts"] == size and found["indices"] == 2 * W.nnz and budget - 6 <= found["model"] <= budget


@pytest.mark.parametrize("name", ["ease", "item-knn"])
def test_a_budget_for_less_than_one_weight(name):
    with pytest.raises(SettingsError, match="bytes = 19 is too little for one weight of 14 items: at least 20"):
        make_baseline(name, bytes=19).fit(WOMEN)


def test_row_starts_that_lead_nowhere_are_found(tmp_path):
    path = tmp_path / "model.npz"
    EASE(bytes=100).fit(WOMEN).save(path)
    header, arrays = stored(path)
    starts = arrays["weights.indptr"][::-1].copy()
    write(path, "baseline", 2, header, arrays | {"weights.indptr": starts})
    with pytest.raises(ModelFileError, match="weights.indptr does not lead through its 17 entries"):
        EASE.load(path)


def test_neighbours_beyond_a_block_of_items(monkeypatch):
    whole = whole_weights("item-knn")
    monkeypatch.setattr(item_knn, "_BLOCK", 5)
    assert_array_equal(ItemKNN().fit(WOMEN).neighbours_.toarray(), whole)
