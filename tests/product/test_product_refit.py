"""Recommending for use: from all that the data hold, and never what they hold for the user; in Python, by command, served."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from c2f_np import C2FRecommender, load_dataset
from c2f_np.baselines import BASELINES, EASE, load_baseline, make_baseline
from c2f_np.cli import main
from c2f_np.errors import DataError, ModelFileError, SettingsError
from c2f_np.model_file import load_model, save_model
from c2f_np.serving import load_exported
from c2f_np.settings import Settings

SMALL = {"n_coarse": 6, "n_fine": 4, "dim": 8, "n_components": 4, "t_fine": 2, "max_epochs": 4, "partition": "random"}
OPTIONS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def make(name):
    if name in ("default", "staged"):
        return C2FRecommender(name, settings=SMALL)
    own = {"max_epochs": 3} if hasattr(BASELINES[name](), "max_epochs") else {}
    return make_baseline(name, **own, **({"n_coarse": 6, "dim": 8} if name == "coarse" else {}))


MODELS = ["default", "staged", *BASELINES]


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women", validation_fraction=0.3)


def assert_nothing_known(recommended, data):
    """Nothing of any part is listed, and everything else is."""
    known = data.known().toarray()
    for row, items in zip(known, recommended, strict=True):
        assert sorted(filter(None, items)) == sorted(data.item_ids[row == 0])


@pytest.mark.parametrize("name", MODELS)
def test_what_the_data_hold_is_never_recommended(data, name, tmp_path):
    model = make(name).fit(data)
    scored = model.score_items(data.user_ids)
    assert_nothing_known(model.recommend(data.user_ids, k=14)[0], data)
    assert (model.recommend(data.user_ids, k=14, exclude_seen=False)[0] != "").all()
    # What is judged is not affected: only training items (here for validation) are left out.
    assert model.evaluate(part="validation").n_users > 0 and (model.interactions_ != data.train).nnz == 0
    assert model.refit() is model
    assert (model.interactions_ != data.known()).nnz == 0 and model.data_ is data
    assert (model.score_items(data.user_ids) != scored).any()
    assert_nothing_known(model.recommend(data.user_ids, k=14)[0], data)
    for part in ("validation", "test"):
        with pytest.raises(DataError, match="has learnt from .* interactions, so they cannot judge it: evaluate before refit"):
            model.evaluate(data, part)
    # It can be done again, to the same model, and survives a file.
    once = model.recommend(data.user_ids, k=5)
    model.refit().save(tmp_path / "model.npz")
    loaded = (C2FRecommender.load if name in ("default", "staged") else load_baseline)(tmp_path / "model.npz")
    for again in (model, loaded):
        for ours, theirs in zip(once, again.recommend(data.user_ids, k=5), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert loaded.about_["refit"] == model.epochs_ and loaded.n_interactions == loaded.n_known == data.known().nnz


def test_the_epochs_are_those_that_validation_chose(data):
    model = C2FRecommender("staged", settings=SMALL | {"patience": 1, "eval_every": 1, "max_epochs": 9}).fit(data)
    chosen, best = dict(model.epochs_), model.best_epoch_
    assert sum(chosen[name] for name in ("fine_phase1", "fine")) == best
    rows = []
    model.refit(after_epoch=lambda progress: rows.append(progress.history[-1]))
    made = {name: sum(row["phase"] == name for row in rows) for name in chosen}
    assert made == chosen and all(np.isnan(row["validation_ndcg@5"]) for row in rows)
    assert model.best_epoch_ == best and len(model.history_) == len(rows)


def test_nothing_held_out_is_nothing_to_do(data):
    whole = data.whole()
    model = EASE().fit(whole)
    weights = model.weights_
    assert model.refit().weights_ is weights
    with pytest.raises(ValueError, match="not fitted"):
        EASE().refit()


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_in_files(data, tmp_path, name):
    model, path = make(name).fit(data), tmp_path / "model.npz"
    model.save(path)
    loaded = load_baseline(path)
    assert type(loaded) is type(model) and loaded.get_params() == model.get_params()
    assert loaded.size_in_bytes() == model.size_in_bytes() and loaded.evaluate(data).metrics == model.evaluate().metrics
    for ours, theirs in zip(model.recommend(data.user_ids, 9), loaded.recommend(data.user_ids, 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="a loaded model has no data to refit on"):
        loaded.refit()
    other = EASE if name != "ease" else BASELINES["popularity"]
    with pytest.raises(ModelFileError, match=f"not {other.__name__}"):
        other.load(path)
    with pytest.raises(ModelFileError, match="not a c2f_np model, but a baseline: .*load_baseline reads it"):
        C2FRecommender.load(path)
    if name == "popularity":
        with pytest.raises(SettingsError, match="Popularity does not compare items"):
            model.similar_items("E1", 3)
        return
    items, values = model.similar_items(["E1", "E9"], 13)
    assert "E1" not in items[0] and "E9" not in items[1]
    assert all(len(set(row) - {""}) == np.isfinite(found).sum() for row, found in zip(items, values, strict=True))
    assert (np.diff(values, axis=1)[np.isfinite(values[:, 1:])] <= 1e-6).all()
    np.testing.assert_array_equal(loaded.similar_items(["E1", "E9"], 13)[0], items)


def test_similar_items_by_the_models_own_measure(data):
    ease, knn = EASE().fit(data), BASELINES["item-knn"](shrinkage=0.0).fit(data)
    for model, measure in ((ease, ease.weights_), (knn, knn.neighbours_.toarray())):
        items, values = model.similar_items("E5", 3)
        best = sorted(range(14), key=lambda i, row=measure[4]: (-row[i] if i != 4 else np.inf, i))[:3]
        assert items[0].tolist() == data.item_ids[best].tolist()
        np.testing.assert_array_equal(values[0], measure[4][best])


def test_a_baselines_file_that_does_not_fit(data, tmp_path):
    path, model = tmp_path / "model.npz", make("lightgcn").fit(data)
    for parameters, why in (
        ({"depth": 3}, "unknown parameter 'depth'"),
        (model.get_params() | {"dim": 7}, "embeddings has the shape"),
        (model.get_params() | {"dim": -1}, "dim must be at least"),
        (model.get_params() | {"dtype": "float64"}, "embeddings holds float32"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "_fitted", parameters)
            model.save(path)
        with pytest.raises(ModelFileError, match=f"model.npz: .*{why}"):
            load_baseline(path)


def test_files_without_the_held_out_interactions_mask_those_of_training(data, tmp_path):
    model = make("default").fit(data)
    model.save(tmp_path / "new.npz")
    stored = load_model(tmp_path / "new.npz")
    assert (stored.known != data.known()).nnz == 0 and (stored.R != data.train).nnz == 0
    save_model(tmp_path / "old.npz", dataclasses.replace(stored, known=None))
    with np.load(tmp_path / "old.npz") as file:
        assert not any(name.startswith("held_out") for name in file.files)
    old = C2FRecommender.load(tmp_path / "old.npz")
    assert (old.known_ != data.train).nnz == 0
    listed = old.recommend(data.user_ids, k=14)[0]
    assert [sorted(filter(None, row)) for row in listed] == [sorted(data.item_ids[row == 0]) for row in data.train.toarray()]


# ---- the command line --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run and its refit; tests must not change it."""
    out = tmp_path_factory.mktemp("runs") / "women"
    assert main(["train", "southern-women", "--validation-fraction", "0.3", "--out", str(out), *OPTIONS, "--quiet"]) == 0
    return out


def listed(capsys, *arguments):
    """What recommend prints for everybody, and what it says of the model."""
    users = load_dataset("southern-women").user_ids
    capsys.readouterr()
    assert main(["recommend", *map(str, arguments), "-k", "14", *(f"--user={user}" for user in users)]) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines() if not line.startswith("#")]
    return [[item for name, _, item, _ in rows if name == user] for user in users], said.err


def test_refit_of_a_run(folder, data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    items, said = listed(capsys, run)
    assert_nothing_known(items, data)
    assert "model.npz: trained on" in said and "refit" in said
    assert main(["refit", str(run)]) == 0
    assert "written to" in (told := capsys.readouterr().out) and "refit.npz" in told and "89 interactions" in told
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    refitted = after.pop("refit.npz")
    assert {name: text for name, text in after.items() if name in before} == before and refitted != before["model.npz"]
    by_hand = C2FRecommender("default", settings=SMALL).fit(data).refit()
    items, said = listed(capsys, run)
    assert_nothing_known(items, data)
    assert items == [list(filter(None, row)) for row in by_hand.recommend(data.user_ids, 14)[0]]
    assert "refit.npz: trained on 89 of 89 interactions" in said
    assert main(["refit", str(run), "--quiet"]) == 0 and (run / "refit.npz").read_bytes() == refitted
    assert main(["info", str(run)]) == 0
    told = capsys.readouterr().out
    assert "refit.npz" in told and "refitted" in told and "has not learnt from validation and test" in told
    # What is judged is still the run's own model.
    for command in (["evaluate", str(run), "--json"], ["evaluate", str(folder), "--json"]):
        assert main(command) == 0
    first, second = capsys.readouterr().out.split("}\n{")
    assert first.lstrip("{ \n").split() == second.rstrip("} \n").split()
    assert main(["export", str(run), "--out", str(tmp_path / "served.npz")]) == 0
    assert main(["export", str(run), "--table", "--out", str(tmp_path / "types")]) == 0
    items, said = listed(capsys, tmp_path / "served.npz")
    assert_nothing_known(items, data)
    assert "trained on 89 of 89" in said
    # A new run in the folder has no refit yet.
    assert main(["train", "southern-women", "--out", str(run), "--overwrite", "--quiet", *OPTIONS]) == 0
    assert not (run / "refit.npz").exists()


def test_the_export_knows_what_was_held_out(folder, data, tmp_path, capsys):
    path = tmp_path / "served.npz"
    assert main(["export", str(folder), "--out", str(path)]) == 0
    served = load_exported(path)
    assert (served.n_interactions, served.n_known) == (data.train.nnz, data.known().nnz)
    assert_nothing_known(served.recommend(data.user_ids, 14)[0], data)
    assert_nothing_known(served.recommend(data.user_ids, 14, from_table=False)[0], data)
    assert served.size_in_bytes()["held-out interactions"] > 0
    full = C2FRecommender.load(folder / "model.npz")
    np.testing.assert_array_equal(served.similar_items(["E1", "E9"], 5)[0], full.similar_items(["E1", "E9"], 5)[0])
    bare = tmp_path / "bare.npz"
    assert main(["export", str(folder), "--out", str(bare), "--without-interactions"]) == 0
    pairs, others = np.argwhere(data.train.toarray()), np.argwhere((data.known() - data.train).toarray())
    given = load_exported(bare, interactions=pairs, held_out=others)
    assert_nothing_known(given.recommend(data.user_ids, 14)[0], data)
    with pytest.raises(DataError, match="the file has the held-out interactions already"):
        load_exported(path, held_out=others)


@pytest.mark.parametrize("ids", [[], ["--without-ids"]])
def test_commands_on_an_exported_model(folder, tmp_path, capsys, ids):
    path = tmp_path / "served.npz"
    assert main(["export", str(folder), "--out", str(path), *ids]) == 0
    user, item = ("3", "0") if ids else ("Nora Fayette", "E1")
    capsys.readouterr()
    assert main(["recommend", str(path), "--user", user, "-k", "3"]) == 0
    assert main(["recommend", str(path), "--similar-to", item, "-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert main(["info", str(path)]) == 0 and main(["info", str(path), "--json"]) == 0
    told = capsys.readouterr().out
    facts = json.loads(told[told.index("\n{\n") :])
    assert "exported model" in told and facts["kind"] == "exported model" and facts["known_interactions"] == 89
    assert main(["recommend", str(path), "--user", "99"]) == 2
    assert "unknown user" in capsys.readouterr().err


def test_commands_on_a_baseline(data, tmp_path, capsys):
    make("item-knn").fit(data).refit().save(tmp_path / "knn.npz")
    items, said = listed(capsys, tmp_path / "knn.npz")
    assert_nothing_known(items, data)
    assert "trained on 89 of 89" in said
    assert main(["info", str(tmp_path / "knn.npz")]) == 0
    assert "ItemKNN" in (told := capsys.readouterr().out) and "in one step" in told


def test_what_cannot_be_refitted(folder, tmp_path, capsys):
    unfinished, everything = tmp_path / "unfinished", tmp_path / "everything"
    shutil.copytree(folder, unfinished, ignore=shutil.ignore_patterns("checkpoint.npz"))
    cases = (([unfinished], "checkpoint.npz"), ([tmp_path], "not a run folder"), ([folder, "--data", "planted"], "other"))
    for arguments, why in cases:
        assert main(["refit", *map(str, arguments)]) == 2
        assert why in capsys.readouterr().err
    assert not (folder / "refit.npz").exists()
    assert main(["train", "southern-women", "--split", "none", "--out", str(everything), *OPTIONS, "--quiet"]) == 0
    assert main(["refit", str(everything)]) == 0
    assert "nothing was held out" in capsys.readouterr().out and not (everything / "refit.npz").exists()


# ---- values that look like options ---------------------------------------------------------------------------------------
IDS = ["-tiUDjn7-as", "-5", "--help", "-k9", "=", "a=b", "--user=x", "@file"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run with ids that look like options, in a folder and from a file of such names."""
    place = tmp_path_factory.mktemp("odd")
    rows = [f"{user},{item}\n" for u, user in enumerate([*IDS, "u1", "u2"]) for i, item in enumerate([*IDS, "i1"]) if (u + i) % 3]
    (place / "-x.csv").write_text("-u,-i\n" + "".join(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["train", "--user-column", "-u", "--item-column", "-i", "--out", "-r", *OPTIONS, "--quiet", "--", "-x.csv"]
        assert main(words) == 0
    return place


@pytest.mark.parametrize("name", IDS)
def test_ids_that_look_like_options(odd, name, monkeypatch, capsys):
    monkeypatch.chdir(odd)
    is_option = name.partition("=")[0] in ("--help", "--user")
    for option in ("--user", "--similar-to"):
        forms = [[f"{option}={name}"]] + ([] if is_option else [[option, name], [option[:-1], name]])
        for words in forms:
            assert main(["recommend", *words, "-k", "2", "--", "-r"]) == 0
            assert capsys.readouterr().out.splitlines()[0].split("\t")[0] == name
        if is_option:
            with pytest.raises(SystemExit) as stop:
                main(["recommend", "-r", option, name])
            assert stop.value.code == 2 and "with an equals sign" in capsys.readouterr().err


def test_files_that_look_like_options(odd, monkeypatch, capsys):
    monkeypatch.chdir(odd)
    assert main(["export", "--out", "-e.npz", "--", "-r"]) == 0 and (odd / "-e.npz").exists()
    assert main(["info", "--", "-e.npz"]) == 0
    assert main(["data", "info", "--user-column", "-u", "--item-column", "-i", "--", "-x.csv"]) == 0
    assert main(["train", "southern-women", "--gate", "-0.5", "--out", "-z"]) == 2
    assert "gate must be at least 0.0, not -0.5" in capsys.readouterr().err


# ---- help ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("preset", [None, "authors", "paper", "staged", "default"])
def test_help_shows_the_values_of_the_preset(preset, capsys):
    with pytest.raises(SystemExit):
        main(["train", *([f"--preset={preset}"] if preset else []), "--help"])
    options = re.split(r"^  (?=--)", capsys.readouterr().out, flags=re.MULTILINE)
    shown = {text.split()[0].rstrip(","): " ".join(text.split("\n\n")[0].split()) for text in options}
    for name, value in Settings.preset(preset or "default").to_dict().items():
        assert shown[f"--{name.replace('_', '-')}"].endswith(f" [{value}]"), name
    assert shown["--protocol"].endswith("[authors]" if preset == "authors" else "[clean]")
    assert shown["--test-fraction"].endswith("[0.2]")
