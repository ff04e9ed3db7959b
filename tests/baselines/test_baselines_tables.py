"""The table models: compositions, sizes, training and its determinism. Their gradients: `c2f_np.verification.stages`."""

import numba
import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from c2f_np import load_dataset
from c2f_np.baselines import BASELINES, HashedLightGCN, LightGCN, make_baseline
from c2f_np.baselines.table_stage import (
    FullTable,
    HashedTable,
    QuotientRemainderTable,
    compose_products,
    compose_products_backward,
    hash_assignment,
    hashed_rows,
)
from c2f_np.errors import DataError, SettingsError
from c2f_np.evaluation import evaluate_ranking
from c2f_np.model.starts import with_singular_vectors
from c2f_np.settings import Settings
from c2f_np.training import train

TABLES = ("bpr-mf", "lightgcn", "narrow-lightgcn", "hashed", "quotient-remainder", "product-quantisation")
SHORT = {"dim": 8, "max_epochs": 4, "eval_every": 2, "lr": 2e-2}
COARSE = {"n_coarse": 6, "dim": 8, "max_epochs": 3, "eval_every": 2, "lr": 1e-2, "partition": "random"}


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


# ---- compositions ------------------------------------------------------------------------------------------------------
def test_hashing_is_a_function_of_its_seed_and_spreads():
    rows = hashed_rows(20_000, 100, 2, seed=3)
    assert_array_equal(rows, hashed_rows(20_000, 100, 2, seed=3))
    # An entity's rows do not depend on how many others there are: nothing is stored.
    assert_array_equal(rows[:7], hashed_rows(7, 100, 2, seed=3))
    assert (rows != hashed_rows(20_000, 100, 2, seed=4)).mean() > 0.9
    for column in rows.T:
        assert_allclose(np.bincount(column, minlength=100), 200, atol=100)
    # The two functions are not the same one: 20,000 entities fall on most of the 100 x 100 pairs.
    assert len(np.unique(rows @ [100, 1])) > 5_000
    for wrong in ((5, 0, 2), (5, 3, 0)):
        with pytest.raises(SettingsError, match="hashing"):
            hashed_rows(*wrong, seed=0)


def test_a_hashed_entity_is_the_sum_of_its_rows():
    rows, S = hashed_rows(12, 3, 2, seed=0), hash_assignment(12, 3, 2, seed=0)
    assert (rows[:, 0] == rows[:, 1]).any()  # with three rows some entity has the same one twice
    E = np.array([[1.0], [10.0], [100.0]])
    assert_array_equal((S @ E).ravel(), E[rows].sum(axis=1).ravel())


def test_quotient_and_remainder_by_hand():
    Q, R = np.array([[1.0], [2.0]]), np.array([[3.0], [5.0], [7.0]])
    assert compose_products(Q, R, 5).ravel().tolist() == [3, 5, 7, 6, 10]
    grad_Q, grad_R = compose_products_backward(np.array([[1.0], [10.0], [100.0], [1000.0], [10000.0]]), Q, R)
    assert grad_Q.ravel().tolist() == [3 + 50 + 700, 3000 + 50000]
    assert grad_R.ravel().tolist() == [1 + 2000, 10 + 20000, 100]
    with pytest.raises(SettingsError, match="need 3 quotient rows"):
        compose_products(Q, R, 7)


@pytest.mark.parametrize("table", [FullTable(300), HashedTable(300, 80, 2, 0, "float64"), QuotientRemainderTable(300, 17)])
def test_all_tables_start_at_one_scale(table):
    parameters = table.start(64, 0.1, np.random.default_rng(0))
    assert np.std(table.ego(parameters)) == pytest.approx(0.1, rel=0.1)


# ---- sizes -------------------------------------------------------------------------------------------------------------
def sizes(name, data, **parameters):
    return make_baseline(name, max_epochs=1, **parameters).fit(data).size_in_bytes()


def test_sizes_are_hand_counts(data):
    """18 users and 14 items."""
    assert sizes("lightgcn", data, dim=5) == {"embeddings": 32 * 5 * 4, "model": 640}
    assert sizes("lightgcn", data, dim=5, dtype="float64")["model"] == 1280
    assert sizes("bpr-mf", data, dim=5) == {"embeddings": 640, "item_bias": 14 * 4, "model": 696}
    assert sizes("hashed", data, dim=5, n_rows=7) == {"codebook": 7 * 5 * 4, "model": 140}
    # 5 remainders and 7 quotients: 32 = 6 * 5 + 2.
    assert sizes("quotient-remainder", data, dim=5, n_remainders=5) == {"quotients": 140, "remainders": 100, "model": 240}
    assert sizes("quotient-remainder", data, dim=5)["model"] == 12 * 5 * 4  # 6 * 6 is the first square from 32 on


def test_a_budget_is_used_and_kept(data):
    assert sizes("narrow-lightgcn", data, bytes=128) == {"embeddings": 128, "model": 128}
    assert sizes("narrow-lightgcn", data, bytes=5 * 128 + 127)["model"] == 5 * 128
    assert sizes("narrow-lightgcn", data, bytes=3 * 128 + 56, item_bias=True) == {
        "embeddings": 3 * 128, "item_bias": 56, "model": 3 * 128 + 56,
    }  # fmt: skip
    assert sizes("bpr-mf", data, bytes=3 * 128 + 56 + 127) == {"embeddings": 3 * 128, "item_bias": 56, "model": 3 * 128 + 56}
    assert sizes("hashed", data, dim=5, bytes=159)["model"] == 140
    # 20 rows: with 18 remainders there are 2 quotients.
    fitted = make_baseline("quotient-remainder", dim=5, bytes=400, max_epochs=1).fit(data)
    assert fitted.size_in_bytes() == {"quotients": 40, "remainders": 360, "model": 400}


@pytest.mark.parametrize(
    "name, least",
    [("narrow-lightgcn", 32 * 4), ("hashed", 8 * 4), ("quotient-remainder", 12 * 8 * 4), ("product-quantisation", 32 + 64)],
)
def test_too_small_a_budget_names_the_smallest(data, name, least):
    with pytest.raises(SettingsError, match=f"bytes = {least - 1} .* at least {least}$"):
        make_baseline(name, dim=8, bytes=least - 1).fit(data)
    assert sizes(name, data, dim=8, bytes=least)["model"] <= least
    with pytest.raises(SettingsError, match=f"at least {least + 56}"):
        make_baseline(name, dim=8, bytes=least, item_bias=True).fit(data)


# ---- training ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*TABLES, "coarse"])
def test_fitted_on_a_data_set_and_judged_like_everyone(name, data):
    model = make_baseline(name, **(COARSE if name == "coarse" else SHORT)).fit(data)
    assert model.embeddings_.shape == (32, 8) and model.embeddings_.dtype == np.float32
    assert 1 <= model.best_epoch_ and len(model.history_) >= 3 and model.seconds_ > 0
    scores = model.score_items(data.user_ids)
    assert scores.shape == (18, 14) and np.isfinite(scores).all()
    expected = evaluate_ranking(model._scores, data.test, data.masked_when_ranking("test"), protocol="clean")
    assert model.evaluate().metrics == pytest.approx(expected.metrics)
    assert model.evaluate(per_user=True).per_user["ndcg@5"].shape == (18,)
    items, best = model.recommend(data.user_ids[:2], k=3, exclude_seen=False)
    assert_array_equal(data.item_index(items.ravel()).reshape(2, 3), np.argsort(-scores[:2], axis=1)[:, :3])
    assert_allclose(best, -np.sort(-scores[:2], axis=1)[:, :3], rtol=1e-5)
    assert sum(v for k, v in model.size_in_bytes().items() if k != "model") == model.size_in_bytes()["model"]


@pytest.mark.parametrize("name", BASELINES)
def test_fitted_on_a_matrix_cloned_and_not_fitted(name, data):
    parameters = {"coarse": COARSE, **dict.fromkeys(TABLES, SHORT)}.get(name, {})
    model = make_baseline(name, **parameters)
    again = clone(model)
    assert again.get_params() == model.get_params() and not hasattr(again, "interactions_")
    with pytest.raises(ValueError, match="not fitted"):
        again.score_items(np.arange(2))
    again.fit(data.train.toarray(), validation=data.test)
    assert (again.interactions_ != data.train).nnz == 0 and again.user_ids_[3] == "3"
    assert again.evaluate(part="validation").n_users == 18
    alone = model.fit(sparse.coo_array(data.train))
    set_aside = 0 if alone.data_.validation is None else alone.data_.validation.nnz
    assert (set_aside > 0) == (name in (*TABLES, "coarse"))  # what is not trained needs no early stopping
    with pytest.raises(DataError, match="belongs to the data set"):
        model.fit(data, validation=data.test)


@pytest.mark.parametrize("name", TABLES)
def test_same_bits_at_any_number_of_threads_and_engines_agree(name, data):
    results = []
    threads = numba.get_num_threads()
    # Normal numbers: singular vectors of so few entities are coded by centroids that are equally near.
    given = SHORT | {"item_bias": True, "dtype": "float64", "table_start": "normal"}
    for engine, n in (("numba", 1), ("numba", 2), ("numpy", 1)):
        model = make_baseline(name, **given, engine=engine, n_jobs=n).fit(data)
        results.append([*model.parameters_.values(), model.embeddings_])
    assert numba.get_num_threads() == threads
    for one, two, readable in zip(*results, strict=True):
        assert_array_equal(one, two)
        assert_allclose(readable, one, atol=1e-7)
    other = make_baseline(name, **given, random_state=1).fit(data)
    assert not np.allclose(other.embeddings_, results[0][-1])


def test_training_learns_and_stops():
    data = load_dataset("planted")
    rows = []
    model = make_baseline("lightgcn", dim=16, lr=0.02, eval_every=2, patience=1, max_epochs=40)
    model.fit(data, after_epoch=lambda progress: rows.append(progress.history[-1]))
    assert [{name: row[name] for name in model.history_[0]} for row in rows] == model.history_
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1
    scores = [row["validation_ndcg@5"] for row in rows if row["epoch"] % 2 == 0]
    # It ends at the first evaluation that is no improvement, and keeps the one before.
    assert len(rows) < 40 and scores[-1] <= scores[-2] == max(scores) and model.best_epoch_ == len(rows) - 2
    assert model.evaluate(part="validation").metrics["ndcg@5"] == pytest.approx(max(scores))
    popular = make_baseline("popularity").fit(data).evaluate().metrics["ndcg@20"]
    assert model.evaluate().metrics["ndcg@20"] > 1.5 * popular


def test_patience_counts_from_the_last_improvement(data):
    model = make_baseline("lightgcn", dim=4, lr=0.01, eval_every=1, patience=3, max_epochs=60)
    model.fit(data.train, validation=data.test)
    scores = [row["validation_ndcg@5"] for row in model.history_]
    best = [epoch for epoch, score in enumerate(scores, 1) if score > max(scores[: epoch - 1], default=-1)]
    # On the way there were evaluations without improvement, more than 3 of them, but no 3 in a row before the end.
    assert max(np.diff(best)) in (2, 3) and best[-1] - len(best) > 3
    assert len(scores) == best[-1] + 3 < 60 and model.best_epoch_ == best[-1]


def test_without_validation_the_last_state_is_kept(data):
    model = make_baseline("lightgcn", **SHORT, patience=1, validation_fraction=0).fit(data.train)
    assert model.best_epoch_ == 4 and np.isnan(model.history_[-1]["validation_ndcg@5"])


def test_impossible_parameters_and_divergence(data):
    for wrong in ({"dim": 0}, {"lr": -1}, {"patience": 1.5}, {"dtype": "float16"}, {"item_bias": 1},
                  {"random_state": -1}, {"lr": None}):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            make_baseline("lightgcn", **(SHORT | wrong)).fit(data)
    with pytest.raises(SettingsError, match="n_layers must be at most 0"):
        make_baseline("bpr-mf", n_layers=1).fit(data)
    with np.errstate(all="ignore"), pytest.raises(SettingsError, match="diverged.*lower the learning rate"):
        make_baseline("lightgcn", **(SHORT | {"lr": 1e30})).fit(data)
    with pytest.raises(DataError, match="nothing to rank"):
        make_baseline("lightgcn", validation_fraction=0).fit(np.ones((3, 4)))


def test_coarse_is_the_coarse_stage_of_the_model(data):
    own = {"n_coarse": 6, "dim": 8, "max_epochs": 3, "eval_every": 2, "coarse_lr": 1e-2, "partition": "random"}
    whole = train(data, Settings(**own, n_fine=4, n_components=4)).finished
    model = make_baseline("coarse", preset="authors", **COARSE).fit(data)
    for phase in ("coarse_phase1", "coarse"):
        assert model.phases_[phase].score == whole[phase].score and model.phases_[phase].epoch == whole[phase].epoch
    assert_array_equal(model.state_.E_coarse, whole["coarse"].state.E_coarse)
    assert_array_equal(model.state_.S_coarse.toarray(), whole["coarse"].state.S_coarse.toarray())
    assert {row["stage"] for row in model.history_} == {"coarse"}
    # 6 rows of 8; 32 rows of 2 weights with their places; 33 biases.
    assert model.size_in_bytes()["model"] == 6 * 8 * 4 + 32 * 2 * 5 + 33 * 4
    with pytest.raises(SettingsError, match="t_coarse"):
        make_baseline("coarse", n_coarse=1, t_coarse=2).fit(data)
    with pytest.raises(SettingsError, match="preset must be one of authors, paper, staged, not 'default'"):
        make_baseline("coarse", preset="default").fit(data)


@pytest.mark.parametrize("kind", [LightGCN, HashedLightGCN])
def test_numbers_of_numpy_are_as_good_as_pythons(kind):
    """As a grid search hands them over: float64 numbers must not raise the precision of training."""
    data = load_dataset("southern-women")
    given = {"lr": 0.02, "l2": 3.0, "decay": 0.01, "start_scale": 0.2, "dim": 4, "max_epochs": 2}
    plain = kind(**given).fit(data)
    scalars = kind(**{name: np.asarray(value)[()] for name, value in given.items()}).fit(data)
    for name, value in plain.parameters_.items():
        assert scalars.parameters_[name].dtype == value.dtype == np.float32
        assert scalars.parameters_[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("kind", ["lightgcn", "narrow-lightgcn", "bpr-mf"])
def test_a_table_of_all_entities_may_start_from_singular_vectors(data, kind):
    """With a learning rate of 0 what is kept is the start."""
    given = {"dim": 3, "max_epochs": 1, "lr": 0.0, "random_state": 4}
    normal, started = (make_baseline(kind, table_start=start, **given).fit(data).parameters_ for start in ("normal", "svd"))
    expected = with_singular_vectors(normal["embeddings"], data.train, 4)
    assert_allclose(started["embeddings"], expected, rtol=1e-6)
    assert np.abs(started["embeddings"] - normal["embeddings"]).max() > 0.1


@pytest.mark.parametrize("kind", ["hashed", "quotient-remainder"])
def test_shared_rows_have_no_singular_vectors_to_start_from(data, kind):
    with pytest.raises(SettingsError, match="table_start must be"):
        make_baseline(kind, table_start="svd").fit(data)


@pytest.mark.parametrize("kind", ["lightgcn", "hashed"])
def test_the_rate_of_a_table_may_fall(data, kind):
    """After two thirds of the epochs: the same losses until then, others afterwards."""
    given = {"dim": 3, "max_epochs": 6, "eval_every": 1, "patience": 9, "lr": 0.1}
    constant, falling = (make_baseline(kind, lr_schedule=schedule, **given).fit(data) for schedule in ("constant", "steps"))
    losses = [[row["loss"] for row in model.history_] for model in (constant, falling)]
    assert losses[0][:4] == losses[1][:4]
    assert losses[0][5] != losses[1][5]
