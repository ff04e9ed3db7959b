"""What can be asked of every model: filters, new users, similar users, explanations, data frames, and a refit a month later."""

import importlib

import numpy as np
import pytest

from c2f_np import C2FRecommender, load_dataset
from c2f_np.baselines import BASELINES, make_baseline
from c2f_np.cli import main
from c2f_np.data import Dataset, read_frame
from c2f_np.errors import DataError, SettingsError

WOMAN, HER_EVENTS = "Nora Fayette", ["E6", "E9", "E10", "E11", "E12", "E13", "E14"]
PRESETS = ("default", "staged")
SIZES = {"n_coarse": 6, "n_fine": 4, "dim": 8, "partition": "random"}
#: What has no answer, and why.
NO_SHARES = {"popularity": "gives everyone the same scores", "bpr-mf": "nothing is propagated"}
NO_USERS = ("popularity", "item-knn", "ease")


def made(name):
    if name in PRESETS:
        more = {"n_components": 4, "t_fine": 2} if name == "staged" else {"table_epochs": 2, "partition_epochs": 0}
        return C2FRecommender(name, max_epochs=2, settings=SIZES | more)
    trained = {} if name in NO_USERS else {"max_epochs": 2}
    return make_baseline(name, **trained, **({"n_coarse": 6, "dim": 8, "partition": "random"} if name == "coarse" else {}))


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women")


@pytest.fixture(scope="module", params=[*PRESETS, *BASELINES])
def named(request, data):
    return request.param, made(request.param).fit(data)


def test_filters(named, data):
    name, model = named
    everything = model.recommend(data.user_ids, 14, exclude_seen=False)
    stock = ["E1", "E2", "E3", "E8"]
    mask = np.isin(data.item_ids, stock)
    others = ({"without": ~mask}, {"without": data.item_ids[~mask]})
    for options in ({"only": stock}, {"only": mask}, {"only": mask.tolist()}, *others):
        items, scores = model.recommend(data.user_ids, 6, exclude_seen=False, **options)
        # The same order and scores as without the filter, but for what it leaves out.
        for row, of_all, value, of_value in zip(items, everything[0], scores, everything[1], strict=True):
            left = np.isin(of_all, stock)
            assert row.tolist() == [*of_all[left], "", ""] and np.isnan(value[4:]).all()
            np.testing.assert_allclose(value[:4], of_value[left], rtol=1e-5)
    both = model.recommend(WOMAN, 6, only=stock, without="E8")[0][0]
    assert set(both) == {"E1", "E2", "E3", ""} - set(data.item_ids[data.known()[[13]].indices])
    assert set(model.recommend_from(["E1"], 3, only=stock)[0][0]) == {"E2", "E3", "E8"}
    if name != "popularity":
        assert set(model.similar_items("E1", 4, only=stock)[0][0]) <= {"E2", "E3", "E8", ""}
    with pytest.warns(UserWarning, match="`only` has 1 of 2 ids that the model does not know, such as 'E99'"):
        assert model.recommend_from("E1", 2, only=["E99", "E2"])[0].tolist() == [["E2", ""]]
    with pytest.raises(DataError, match="no item is left"):
        model.recommend(WOMAN, 3, without=data.item_ids)
    with pytest.raises(DataError, match="a boolean for each of the 14 items"):
        model.recommend(WOMAN, 3, only=[True, False])


def test_explanations_sum_to_the_score(named, data):
    name, model = named
    if name in NO_SHARES:
        for ask in (lambda: model.explain(WOMAN, "E1"), lambda: model.explain_from(["E1"], "E2")):
            with pytest.raises(SettingsError, match=NO_SHARES[name]):
                ask()
        return
    items, scores = model.recommend(WOMAN, 14, exclude_seen=False)
    learnt = set(data.item_ids[data.train[[data.user_index(WOMAN)[0]]].indices])
    for item, score in zip(items[0], scores[0], strict=True):
        why = model.explain(WOMAN, item)
        assert why.item == item and set(why.items) == learnt and (np.diff(why.contributions) <= 0).all()
        assert why.score == pytest.approx(score, rel=1e-5, abs=1e-6)
        assert why.contributions.sum() + why.own + why.bias == pytest.approx(score, rel=1e-5, abs=1e-6)
    items, scores = model.recommend_from(HER_EVENTS, 3)
    why = model.explain_from(HER_EVENTS, items[0, 2])
    assert why.contributions.sum() + why.own + why.bias == pytest.approx(scores[0, 2], rel=1e-5, abs=1e-6)
    with pytest.raises(DataError, match="unknown item.*E99"):
        model.explain(WOMAN, "E99")
    with pytest.raises(DataError, match="one user"):
        model.explain([WOMAN, WOMAN], "E1")


def test_new_users(named, data):
    name, model = named
    items, scores = model.recommend_from([HER_EVENTS, ["E1"]], 5)
    assert items.shape == scores.shape == (2, 5) and not set(items[0]) & set(HER_EVENTS)
    assert model.recommend_from(np.array([["E1", "E2"], ["E5", "E6"]]), 3)[0].shape == (2, 3)
    with pytest.raises(DataError, match="a list or a column, not a whole data frame"):
        model.recommend_from({"item": ["E1"]})
    alone = model.recommend_from(HER_EVENTS, 5)
    assert alone[0].tolist() == [items[0].tolist()] and alone[1].tolist() == [scores[0].tolist()]
    assert set(model.recommend_from("E1", 14, exclude_seen=False)[0][0]) == set(data.item_ids)
    if name in NO_USERS:  # no rows of users: the same items have the same scores
        learnt = data.item_ids[data.train[[3]].indices]
        ours, theirs = (ask(of, 14, exclude_seen=False) for ask, of in
                        ((model.recommend_from, learnt), (model.recommend, data.user_ids[3])))  # fmt: skip
        assert ours[0].tolist() == theirs[0].tolist()
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)
    with pytest.raises(DataError, match="unknown item.*E99"):
        model.recommend_from(["E1", "E99"])


def test_similar_users(named, data):
    name, model = named
    if name in NO_USERS:
        with pytest.raises(SettingsError, match="does not compare users"):
            model.similar_users(WOMAN)
        return
    found, cosines = model.similar_users([WOMAN, "Evelyn Jefferson"], 17)
    H = model.embeddings_[:18] / np.linalg.norm(model.embeddings_[:18], axis=1, keepdims=True)
    assert set(found[1]) == set(data.user_ids) - {"Evelyn Jefferson"}
    np.testing.assert_allclose(cosines[1], (H @ H[0])[data.user_index(found[1])], atol=1e-6)
    with pytest.raises(SettingsError, match="from 1 to 17 .there are no more users"):
        model.similar_users(WOMAN, 18)


def test_a_refit_a_month_later(named, data, tmp_path):
    """Everything that there is by then, with a new woman and a new event, also from the file."""
    name, model = named
    later = {"user": ["Ada", "Ada", "Nora Fayette"], "item": ["E1", "E15", "E15"]}
    u, i = data.known().nonzero()
    rows = {"user": [*data.user_ids[u], *later["user"]], "item": [*data.item_ids[i], *later["item"]]}
    model.save(tmp_path / "model.npz")
    again = type(model).load(tmp_path / "model.npz").refit(rows)
    fresh = made(name).fit(data).refit(read_frame(rows))
    assert again.interactions_.shape == (19, 15) and again.n_interactions == 92 and again.epochs_ == model.epochs_
    for ours, theirs in zip(again.recommend(["Ada", WOMAN], 5), fresh.recommend(["Ada", WOMAN], 5), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not {"E1", "E15"} & set(again.recommend("Ada", 13)[0][0])
    with pytest.raises(DataError, match="give refit.. all interactions, old and new"):
        type(model).load(tmp_path / "model.npz").refit()


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_in_and_out(library, data, tmp_path):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    rng = np.random.default_rng(0)
    table = make({"user_id": rng.integers(10, 30, 300), "item_id": [f"i{n}" for n in rng.integers(0, 40, 300)]})
    model = make_baseline("item-knn").fit(table)
    frame = model.recommend_frame(k=3)
    assert type(frame) is type(table)
    columns = {name: np.asarray(frame[name]).tolist() for name in ("user", "item", "score", "rank")}
    assert columns["user"] == [user for user in range(10, 30) for _ in range(3)] and columns["rank"] == [1, 2, 3] * 20
    items, scores = model.recommend(range(10, 30), 3)
    assert columns["item"] == items.ravel().tolist() and columns["score"] == scores.ravel().tolist()
    some = make_baseline("popularity").fit(data).recommend_frame(make({"who": ["Ruth DeSand"]})["who"], k=14)
    assert type(some) is type(table) and len(some["user"]) == 14 - data.known()[[data.user_index("Ruth DeSand")[0]]].nnz
    assert type(model.recommend_frame(10, 1, library="pandas")).__module__.startswith("pandas")


def test_libraries_that_are_not_there(data, monkeypatch):
    model = make_baseline("popularity").fit(data)
    with pytest.raises(SettingsError, match="pandas, polars, pyarrow, not 'excel'"):
        model.recommend_frame(library="excel")

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SettingsError, match="pandas is not installed"):
        model.recommend_frame()


def test_ones_own_split():
    train = {"visitor": ["b", "a", "b"], "thing": [10, 9, 9]}
    test = {"visitor": ["a", "c", "b"], "thing": [10, 9, 9]}
    made = Dataset.from_frames(train, test=test, user_column="visitor", item_column="thing")
    assert made.user_ids.tolist() == ["a", "b", "c"] and made.item_ids.tolist() == ["9", "10"] and made.validation is None
    assert made.train.toarray().tolist() == [[1, 0], [1, 1], [0, 0]] and made.test.toarray().tolist() == [[0, 1], [0, 0], [1, 0]]
    assert made.report["test_pairs_also_in_training"] == 1
    names = {"user_column": "visitor", "item_column": "thing"}
    again = Dataset.from_frames(read_frame(train, **names), test=read_frame(test, **names))
    assert again.fingerprint() == made.fingerprint()
    model = make_baseline("popularity").fit(made)
    assert model.evaluate().n_users == 2
    with pytest.raises(DataError, match=r"needs a Dataset, not dict: Dataset.from_frames\(train, test=test\)"):
        model.evaluate(test)


# ---- on the command line -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("answers")
    rng = np.random.default_rng(0)
    rows = [f"u{u},i{i}\n" for u in range(12) for i in range(9) if rng.random() < 0.5]
    (place / "clicks.csv").write_text("who,what\n" + "".join(rows) + 'u1,"a,b"\nu2,"a,b"\n')
    (place / "more.csv").write_text("who,what\n" + "".join(rows) + "new,i1\nnew,i2\nu1,i77\n")
    (place / "stock.txt").write_text("i1\n\ni2\r\na,b\n")
    sizes = "--n-coarse 4 --n-fine 3 --dim 4 --max-epochs 2 --table-epochs 2 --partition-epochs 0".split()
    columns = ["--user-column", "who", "--item-column", "what", "--test-fraction", "0.3"]
    assert main(["train", str(place / "clicks.csv"), "--out", str(place / "run"), *sizes, *columns, "--quiet"]) == 0
    assert main(["export", str(place / "run"), "--out", str(place / "served.npz")]) == 0
    return place


def said(capsys, *words):
    capsys.readouterr()
    code = main(list(map(str, words)))
    out, err = capsys.readouterr()
    return code, [line.split("\t") for line in out.splitlines() if not line.startswith("#")], out + err


@pytest.mark.parametrize("file", ["run", "served.npz"])
def test_commands(run, capsys, file):
    path = run / file
    code, rows, _ = said(capsys, "recommend", path, "--items", 'i1,"a,b"', "--items", f"@{run / 'stock.txt'}", "-k", "2")
    assert code == 0 and [row[0] for row in rows] == ["new user 1"] * 2 + ["new user 2"] * 2
    assert not {"i1", "i2", "a,b"} & {row[2] for row in rows[2:]}
    code, rows, text = said(capsys, "recommend", path, "--items", "i1", "--only", f"@{run / 'stock.txt'}", "--without", "i2")
    assert code == 0 and [row[:3] for row in rows] == [["new user", "1", "a,b"]] and "and that may be recommended" in text
    code, rows, _ = said(capsys, "recommend", path, "--similar-users", "u3", "-k", "2")
    assert code == 0 and len(rows) == 2 and rows[0][2].startswith("u")
    assert {row[0] for row in said(capsys, "recommend", path, "--all-users", "-k", "1")[1]} == {f"u{n}" for n in range(12)}
    for words in (["--user", "u3"], ["--items", "i1,i2,i3"]):
        code, rows, _ = said(capsys, "explain", path, *words, "--item", "i4", "-k", "1")
        assert code == 0 and rows[-1][1] == "(score)" and "more items" in rows[1][1]
        assert sum(float(row[0]) for row in rows[:-1]) == pytest.approx(float(rows[-1][0]), abs=3e-4)


def test_commands_that_cannot_be_carried_out(run, capsys):
    path = run / "served.npz"
    for words, why in (
        (["recommend", path, "--items", '"i1'], "no list of ids"), (["recommend", path, "--items", "i1,,i2"], "is empty"),
        (["recommend", path, "--items", ""], "at least one item"),
        (["recommend", path, "--items", "i1", "--only", "@none"], "no such file"),
        (["recommend", path, "--similar-users", "u1", "--only", "i1"], "are for items"),
        (["explain", path, "--items", "", "--item", "i1"], "at least one item"),
        (["explain", path, "--user", "nobody", "--item", "i1"], "unknown user"),
    ):  # fmt: skip
        code, _, text = said(capsys, *words)
        assert code == 2 and why in text and text.count("\n") == 1


def test_refit_on_new_interactions(run, capsys):
    for empty in ("--on", "--data"):
        assert main(["refit", str(run / "run"), empty, ""]) == 2
        capsys.readouterr()
    assert main(["refit", str(run / "run"), "--data", str(run / "more.csv")]) == 2
    assert "refit --on takes new ones" in capsys.readouterr().err
    assert main(["refit", str(run / "run"), "--on", str(run / "more.csv")]) == 0
    code, rows, text = said(capsys, "recommend", run / "run", "--user", "new", "-k", "10")
    assert code == 0 and not {"i1", "i2"} & {row[2] for row in rows} and "i77" in {row[2] for row in rows} and "refit.npz" in text
    (run / "run" / "refit.npz").unlink()


def test_parquet(run, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    csv = importlib.import_module("pyarrow.csv")
    table = csv.read_csv(run / "clicks.csv")
    parquet.write_table(table, run / "clicks.parquet")
    (run / "parts").mkdir()
    for n, part in enumerate((table.slice(0, 20), table.slice(20))):
        parquet.write_table(part, run / "parts" / f"part-{n}.parquet")
    names = {"user_column": "who", "item_column": "what"}
    prints = {load_dataset(run / name, **names).fingerprint() for name in ("clicks.csv", "clicks.parquet", "parts")}
    prints.add(load_dataset(table, **names).fingerprint())
    assert len(prints) == 1
    assert main(["refit", str(run / "run"), "--data", str(run / "clicks.parquet"), "--quiet"]) == 0
    (run / "run" / "refit.npz").unlink()
    whole = (run / "clicks.parquet").read_bytes()
    for content, why in ((b"", "cannot be read as Parquet"), (b"who,what\n", "cannot be read"), (whole[:-9], "cannot be read")):
        (run / "bad.parquet").write_bytes(content)
        assert main(["data", "info", str(run / "bad.parquet")]) == 2
        assert why in (text := capsys.readouterr().err) and "bad.parquet" in text and text.count("\n") == 1
    with pytest.raises(DataError, match="clicks.parquet: it is unclear which column holds the user ids"):
        load_dataset(run / "clicks.parquet")
    parquet.write_table(table.set_column(0, "who", [["u1", None] + ["u2"] * (len(table) - 2)]), run / "bad.parquet")
    with pytest.raises(DataError, match=r"bad.parquet: row 1 \(counted from 0\): the user id is missing"):
        load_dataset(run / "bad.parquet", **names)
