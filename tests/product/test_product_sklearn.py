"""scikit-learn's manners: its own checks, its names of parameters, its searches and pipelines, its silence."""

import inspect
import logging
import pickle
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from c2f_np import C2FRecommender, load_dataset
from c2f_np.archive import write_archive
from c2f_np.baselines import BASELINES, EASE, Coarse, ItemKNN, LightGCN, Popularity, load_baseline, make_baseline
from c2f_np.data import Dataset, Interactions, read_frame
from c2f_np.errors import DataError, SettingsError
from c2f_np.model_selection import LeaveLastOut, UserShuffleSplit, make_ranking_scorer
from c2f_np.threads import available_cores
from tests.stored import stored

FEW = {"max_epochs": 2, "eval_every": 1, "partition": "random"}
TINY = C2FRecommender(
    n_coarse=2, n_fine=2, dim=4, settings=FEW | {"t_fine": 1, "table_epochs": 2, "partition_epochs": 1}
)
ALL = {"c2f": TINY, **{name: make_baseline(name) for name in BASELINES}}
for _name, _model in ALL.items():
    _model.set_params(**{name: 2 for name in ("max_epochs", "n_coarse", "t_coarse") if name in _model.get_params()})

# Each check of scikit-learn's that is not passed, and why.
EXPECTED = {"check_dtype_object": "what cannot be used is a DataError, which is a ValueError; wanted is a TypeError"}


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


@pytest.fixture(scope="module")
def rows(data):
    return data.interactions()


QUICK = ("ease", "lightgcn")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in ALL if name not in QUICK)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks(name):
    if "expected_failed_checks" not in inspect.signature(check_estimator).parameters:
        pytest.skip("scikit-learn before 1.6 cannot be told what to expect")
    results = check_estimator(ALL[name], expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] in ("failed", "xfail")} == set(EXPECTED)
    assert sum(result["status"] == "passed" for result in results) >= 40


@pytest.mark.parametrize("name", ALL)
def test_a_fitted_model_survives_pickling_and_knows_its_features(name, data):
    model = clone(ALL[name]).fit(data)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_items(data.user_ids), model.score_items(data.user_ids))
    assert again.n_features_in_ == 14 and again.get_params() == model.get_params()


def test_names_of_scikit_learn_stand_for_settings():
    model = C2FRecommender(random_state=3, n_jobs=2, settings={"seed": 3, "dim": 8})
    assert (model.resolved_settings().seed, model.resolved_settings().threads) == (model.seed, model.threads) == (3, 2)
    assert C2FRecommender(settings={"seed": 4, "threads": 5}).resolved_settings().seed == 4
    assert C2FRecommender().resolved_settings().threads == LightGCN().threads == LightGCN().seed == 0
    assert EASE(n_jobs=-1).threads == available_cores() and EASE(n_jobs=-10_000).threads == 1
    assert Coarse(random_state=7, n_jobs=3).resolved_settings().seed == 7
    for settings in ({"seed": 1}, {"threads": 1}):
        with pytest.raises(SettingsError, match=r"= 2 and settings\['(seed|threads)'\] = 1 say different things"):
            C2FRecommender(random_state=2, n_jobs=2, settings=settings).resolved_settings()
    for wrong in ({"random_state": -1}, {"random_state": "x"}, {"n_jobs": 0}, {"n_jobs": 1.5}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            LightGCN(**wrong).fit(np.eye(3))
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            C2FRecommender(**wrong).resolved_settings()


def test_a_generator_gives_a_seed_and_is_not_moved_on(data):
    for generator in (np.random.RandomState(0), np.random.default_rng(0)):
        model = LightGCN(dim=4, max_epochs=1, random_state=generator)
        first, again = model.fit(data).embeddings_, model.fit(data).embeddings_
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(first, LightGCN(dim=4, max_epochs=1, random_state=model.seed).fit(data).embeddings_)
        assert (first != LightGCN(dim=4, max_epochs=1).fit(data).embeddings_).any()


def test_files_with_the_earlier_names_of_parameters(data, tmp_path):
    model = LightGCN(dim=4, max_epochs=1, random_state=3, n_jobs=2).fit(data)
    model.save(tmp_path / "new.npz")
    header, arrays = stored(tmp_path / "new.npz")
    own = header["parameters"]
    assert own.pop("random_state") == 3 and own.pop("n_jobs") == 2 and own.pop("verbose") == 0
    write_archive(tmp_path / "old.npz", "baseline", 1, header | {"parameters": own | {"seed": 3, "threads": 0}}, arrays)
    loaded = LightGCN.load(tmp_path / "old.npz")
    assert loaded.seed == 3 and loaded.n_jobs is None
    np.testing.assert_array_equal(loaded.embeddings_, model.embeddings_)


def test_silent_unless_verbose_and_logged_always(data, capsys, caplog):
    model = clone(TINY).set_params(settings=FEW | {"t_fine": 1, "table_epochs": 2, "partition_epochs": 0, "eval_every": 2})
    with caplog.at_level(logging.DEBUG, logger="c2f_np"):
        model.fit(data)
    assert capsys.readouterr() == ("", "")
    said = [(record.levelname, record.name, record.getMessage()) for record in caplog.records]
    assert ("INFO", "c2f_np.estimator") == said[0][:2] and "57 interactions of 18 users and 14 items" in said[0][2]
    of_epochs = [(level, text.partition(":")[0]) for level, name, text in said if name == "c2f_np.training.loop"]
    named = [f"{phase}, epoch {epoch}" for phase in ("table", "joint") for epoch in (1, 2)]
    assert of_epochs == list(zip(["DEBUG", "INFO"] * 2, named, strict=True))
    for verbose, lines in ((1, 4), (True, 4), (2, 6)):
        clone(model).set_params(verbose=verbose).fit(data)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == lines and "has learnt in" in printed[-1] and "validation NDCG@5" in printed[-2]
    EASE(verbose=1).fit(data)
    assert capsys.readouterr().out.startswith("EASE begins to learn from 57 interactions")


@pytest.mark.parametrize("name", ["c2f", "ease", "narrow-lightgcn"])
def test_a_model_that_was_read_scores_as_before(name, data, tmp_path):
    model = clone(ALL[name]).fit(data)
    model.save(tmp_path / "model.npz")
    again = C2FRecommender.load(tmp_path / "model.npz") if name == "c2f" else load_baseline(tmp_path / "model.npz")
    for X in (data.test, data.validation, data.train):
        assert again.score(X) == model.score(X)


def test_score_is_the_evaluation_as_one_number(data, rows):
    model = EASE(regularisation=10).fit(data.train, validation=data.validation)
    assert model.user_ids_[0] == "0" and model.score(data.test) == pytest.approx(EASE(regularisation=10).fit(data).score(data))
    named = EASE(regularisation=10).fit(data)
    expected = named.evaluate().metrics
    held_out = Interactions.from_matrix(data.test, user_ids=data.user_ids, item_ids=data.item_ids)
    frame = {"user": data.user_ids[held_out.user].tolist(), "item": data.item_ids[held_out.item].tolist()}
    for X in (data, data.test, data.test.toarray(), held_out, frame):
        assert named.score(X) == pytest.approx(expected["ndcg@20"])
        assert named.score(X, metric="recall@5") == pytest.approx(expected["recall@5"])
    for name in BASELINES:  # trained on a frame, judged by a frame, whatever its columns are called
        other = clone(ALL[name]).fit({"who": frame["user"], "what": frame["item"]}, user_column="who", item_column="what")
        assert 0 <= other.score({"who": frame["user"], "what": frame["item"]}) <= 1
    assert named.score(rows) > named.score(held_out)  # what was learnt, found again
    with pytest.raises(DataError, match="were given to fit"):
        named.score(data.train + data.test)
    with pytest.raises(DataError, match="Rows of a matrix are users"):
        named.score(data.test[:9])
    with pytest.raises(DataError, match="learnt nothing"):
        named.score({"user": ["Nobody", "Nora Fayette"], "item": ["E1", "E99"]})
    for metric in ("ndcg", "ndcg@0", "map@5", "recall@x", "ndcg@05", 5):
        with pytest.raises(SettingsError, match="a metric is"):
            make_ranking_scorer(metric)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_grid_search_finds_the_better_setting(rows, n_jobs):
    cv, scoring = UserShuffleSplit(3, test_size=0.3), make_ranking_scorer("ndcg@5")
    given = {"dim": 4, "max_epochs": 40, "table_start": "normal"}  # from where there is something to learn
    search = GridSearchCV(
        LightGCN(**given), {"lr": [0.0, 0.1]}, scoring=scoring, cv=cv, n_jobs=n_jobs, return_train_score=True
    ).fit(rows)
    found = search.cv_results_
    assert search.best_params_ == {"lr": 0.1} and found["mean_test_score"][1] > found["mean_test_score"][0]
    best = LightGCN(**given, lr=0.1)
    by_hand = [best.fit(rows[train]).score(rows[test], metric="ndcg@5") for train, test in cv.split(rows)]
    assert found["mean_test_score"][1] == pytest.approx(np.mean(by_hand))
    assert search.best_estimator_.recommend("Nora Fayette", k=2)[0].shape == (1, 2)


def test_pipelines_and_searches_within_searches(rows):
    pipeline = make_pipeline(FunctionTransformer(_first_half), "passthrough", ItemKNN())
    assert pipeline.fit(rows)[-1].n_interactions == len(rows) // 2
    grid, cv, scoring = {"itemknn__k": [1, 20]}, UserShuffleSplit(2, test_size=1), make_ranking_scorer("recall@5")
    pipeline.set_params(functiontransformer=FunctionTransformer())
    assert GridSearchCV(pipeline, grid, scoring=scoring, cv=UserShuffleSplit(3)).fit(rows).best_params_ == {"itemknn__k": 20}
    nested = cross_val_score(GridSearchCV(ItemKNN(), {"k": [1, 20]}, scoring=scoring, cv=cv), rows, scoring=scoring, cv=cv)
    assert nested.shape == (2,) and (nested > 0).all()
    with pytest.raises(SettingsError, match="for recommenders"):
        scoring(FunctionTransformer(), rows)


def _first_half(X):
    return X[np.arange(len(X) // 2)]


def test_splits_hold_out_something_of_every_user_and_keep_pairs_together():
    users = np.repeat(np.arange(6), 8)
    items = (np.tile(np.arange(8), 6) + users) % 8
    frame = {"user": np.append(users, users[:8]), "item": np.append(items, items[:8]), "time": np.arange(56)}
    for X, size, expected in ((frame, 0.25, 2), (frame, 1, 1), (read_frame(frame, timestamp_column="time"), 3, 3)):
        columns = (X["user"], X["item"]) if isinstance(X, dict) else (X.user, X.item)
        splits = list(UserShuffleSplit(4, test_size=size, random_state=1).split(X))
        for train, test in splits:
            of_train, of_test = (set(zip(*(column[part].tolist() for column in columns), strict=True)) for part in (train, test))
            assert not of_train & of_test and len(train) + len(test) == len(columns[0])
            assert [sum(user == u for user, _ in of_test) for u in range(6)] == [expected] * 6
        assert len({tuple(test) for _, test in splits}) == 4
        again = UserShuffleSplit(4, test_size=size, random_state=1).split(X)
        assert all((a == b).all() for one, other in zip(splits, again, strict=True) for a, b in zip(one, other, strict=True))
    ((train, test),) = LeaveLastOut().split(frame)
    # The last rows of user 0 are of pairs that occur twice: both rows of the last pair are held out.
    assert test.tolist() == [7, 15, 23, 31, 39, 47, 55]
    # An item that nobody else has is in neither part.
    lonely = {"user": [0, 0, 1, 1], "item": ["a", "b", "a", "c"], "time": [1, 2, 4, 3]}
    ((train, test),) = LeaveLastOut().split(lonely)
    assert (train.tolist(), test.tolist()) == ([0, 3], [2])
    with pytest.raises(DataError, match="needs times"):
        next(LeaveLastOut().split({"user": [0, 0], "item": [1, 2]}))
    for wrong in (0, 1.0, 0.0, "half", True):
        with pytest.raises(SettingsError, match="test_size"):
            next(UserShuffleSplit(test_size=wrong).split(frame))


def test_what_a_search_must_not_split(data, rows):
    """Rows of a matrix, or rows in their order, are whole users."""
    with pytest.raises(DataError, match="Interactions.from_matrix"):
        GridSearchCV(Popularity(), {}, cv=UserShuffleSplit()).fit(data.train)
    with pytest.raises(DataError, match="Rows of a matrix are users"):
        GridSearchCV(Popularity(), {}, cv=3, error_score="raise").fit(data.train)
    with pytest.raises(DataError, match="folds of rows in their order"):
        GridSearchCV(Popularity(), {}, cv=5, error_score="raise").fit(rows)
    assert GridSearchCV(Popularity(), {}, cv=KFold(3, shuffle=True, random_state=0)).fit(rows).best_score_ > 0


def test_labels_are_ignored_and_a_matrix_in_their_place_is_not(data):
    labels = np.arange(18) % 2
    np.testing.assert_array_equal(EASE().fit(data.train, labels).weights_, EASE().fit(data.train).weights_)
    with pytest.raises(DataError, match="validation="):
        EASE().fit(data.train, data.test)


def test_interactions_are_rows_that_can_be_chosen(rows, data):
    assert rows.shape == (64, 2) and len(rows) == data.train.nnz + data.validation.nnz
    some = rows[[5, 3, 3]]
    assert some.user.tolist() == rows.user[[3, 5]].tolist() and some.n_users == 18 and some.n_items == 14
    assert len(rows[np.arange(64) < 10]) == 10
    with pytest.raises(IndexError):
        rows[[64]]


class Reading(HTMLParser):
    """The text of HTML, and how many elements of each kind are open."""

    def __init__(self, text):
        super().__init__()
        self.words, self.open, self.seen = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_what_notebooks_show(data):
    model = EASE(regularisation=3.0).fit(data)
    hostile = Dataset.from_matrices(data.train, name="<script>alert(1)</script>\x1b[31m", split='"><img src=x onerror=1>')
    text = LightGCN(dtype="<b>float32</b>")._repr_html_()
    shown = [Reading(each._repr_html_()) for each in (data, model, model.evaluate(), hostile)] + [Reading(text)]
    for page in shown:
        assert page.open == [] and page.seen == {"div", "table", "tr", "th", "td"}
    of_data, of_model, of_result, of_hostile, of_new = (page.words for page in shown)
    assert "57 interactions of 18 users" in of_data and of_data[0] == "southern-women"
    assert ["regularisation", "3.0", "learnt from", "57 interactions of 18 users and 14 items"] == of_model[1:5]
    assert f"{model.evaluate().metrics['recall@20']:.4f}" == of_result[of_result.index("Recall") + 3] and "@20" in of_result
    assert of_hostile[0] == "<script>alert(1)</script>\\x1b[31m" and '"><img src=x onerror=1>' in of_hostile
    assert of_new == ["LightGCN", "dtype", "'<b>float32</b>'", "not fitted"]
    assert model._repr_mimebundle_()["text/html"] == model._repr_html_()
