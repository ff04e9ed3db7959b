"""Type checkers see the public interface: mypy on a small script, and an annotation for every parameter and result."""

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import c2f_np

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = (
    "c2f_np", "c2f_np.data", "c2f_np.evaluation", "c2f_np.gradcheck", "c2f_np.baselines", "c2f_np.serving",
    "c2f_np.model_selection",
)  # fmt: skip

SCRIPT = '''
import numpy as np
import c2f_np
from c2f_np import C2FRecommender, Dataset, Settings, load_dataset
from c2f_np.baselines import make_baseline
from c2f_np.data import Interactions, read_csv
from c2f_np.evaluation import evaluate_embeddings, ndcg_at_k, rank_items
from c2f_np.gradcheck import check_gradients
from c2f_np.model_selection import UserShuffleSplit, make_ranking_scorer
from c2f_np.serving import load_exported

data = load_dataset("planted")
model = C2FRecommender(n_coarse=40).fit(data)
array = np.zeros((2, 2))
reveal_type(data)  # c2f_np.data.dataset.Dataset
reveal_type(c2f_np.load_dataset("planted").fingerprint())  # str
reveal_type(read_csv("a.csv"))  # c2f_np.data.interactions.Interactions
reveal_type(model)  # c2f_np.recommender.C2FRecommender
reveal_type(model.recommend("alice", k=5)[1].ndim)  # int
reveal_type(model.recommend_from(["a", "b"], only=["c"])[0].ndim)  # int
reveal_type(model.explain("alice", "a"))  # c2f_np.answers.Explanation
reveal_type(model.evaluate().metrics)  # dict[str, float]
reveal_type(model.size_in_bytes())  # dict[str, int]
reveal_type(model.history_)  # list[dict[str, Any]]
reveal_type(model.state_.E_coarse.ndim)  # int
reveal_type(C2FRecommender.load("model.npz").settings_)  # c2f_np.settings.Settings
reveal_type(Settings.preset("paper").dim)  # int
reveal_type(model.score_items("alice").ndim)  # int
reveal_type(model.score(data, metric="ndcg@5"))  # float
reveal_type(model.get_params())  # dict[str, Any]
reveal_type(model.set_params(dim=8, random_state=0, n_jobs=2, verbose=1))  # c2f_np.recommender.C2FRecommender
reveal_type(model.refit().n_features_in_)  # int
reveal_type(data.interactions()[[1, 2]])  # c2f_np.data.interactions.Interactions
reveal_type(Interactions.from_matrix(array))  # c2f_np.data.interactions.Interactions
reveal_type(make_ranking_scorer("ndcg@20")(model, data))  # float
reveal_type(next(UserShuffleSplit(3).split(data.interactions()))[0].ndim)  # int
reveal_type(make_baseline("ease").fit(data))  # c2f_np.estimator.Recommender
reveal_type(check_gradients(np.sin, np.cos, {"x": array}))  # c2f_np.gradcheck.report.Report
reveal_type(evaluate_embeddings(array, array, None, data.test, None).metrics)  # dict[str, float]
reveal_type(rank_items(array, None, 1).ndim)  # int
reveal_type(load_exported("small.npz"))  # c2f_np.serving.served.Served
'''

MISTAKES = '''
import c2f_np

c2f_np.load_data_set("planted")
c2f_np.C2FRecommender(n_coarse="many")
c2f_np.C2FRecommender(coarse_rows=3)
c2f_np.load_dataset("planted").fingerprints()
c2f_np.C2FRecommender().recomend("alice")
'''


@pytest.mark.slow
def test_scripts_see_the_types_and_their_mistakes(tmp_path):
    """What mypy says of two scripts in a folder of their own, where the package is only imported."""
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "mistakes.py").write_text(MISTAKES, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nfollow_imports = silent\nignore_missing_imports = True\n")
    command, environment = [sys.executable, "-m", "mypy", "script.py", "mistakes.py"], os.environ | {"MYPYPATH": str(ROOT)}
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=environment).stdout
    found = [(file, int(line), text) for file, line, text in re.findall(r"^(script|mistakes)\.py:(\d+): (.*)", said, flags=re.M)]
    revealed = {n: text for n, text in enumerate(SCRIPT.splitlines(), 1) if text.startswith("reveal_type")}
    shown = {n: text.split('"')[1].replace("builtins.", "") for file, n, text in found if "Revealed type" in text}
    assert shown == {n: text.split("# ")[1] for n, text in revealed.items()} and len(shown) >= 15
    assert [(file, n) for file, n, text in found if text.startswith("error:")] == [("mistakes", n) for n in (4, 5, 6, 7, 8)], said


@pytest.mark.slow
def test_pyright_sees_them_too(tmp_path):
    pytest.importorskip("pyright")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "mistakes.py").write_text(MISTAKES, encoding="utf-8")
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "reportMissingModuleSource": False}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout
    found = json.loads(said)["generalDiagnostics"]
    errors = [(Path(one["file"]).stem, one["range"]["start"]["line"] + 1) for one in found if one["severity"] == "error"]
    assert errors == [("mistakes", n) for n in (4, 5, 6, 7, 8)], said
    shown = [one["message"] for one in found if one["severity"] == "information"]
    assert len(shown) == SCRIPT.count("reveal_type") and not any("Unknown" in text for text in shown), shown


def test_the_package_says_that_it_is_typed_and_offers_what_it_lists():
    assert (ROOT / "c2f_np/py.typed").exists()
    assert set(c2f_np.__all__) - {"__version__"} == set(c2f_np._WHERE)
    for name in c2f_np.__all__:
        assert getattr(c2f_np, name) is not None


def functions_of(module):
    """The public functions of a module, and the methods of its public classes, by their names."""
    for name in importlib.import_module(module).__all__:
        thing = getattr(importlib.import_module(module), name)
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and (not method.startswith("_") or method == "__init__"):
                    yield f"{name}.{method}", function
        elif inspect.isfunction(thing):
            yield name, thing


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_function_has_its_types(module):
    missing = []
    for name, function in functions_of(module):
        given = inspect.signature(function)
        lacking = [p.name for p in given.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
        if given.return_annotation is given.empty:
            lacking.append("return")
        if lacking:
            missing.append(f"{name}: {', '.join(lacking)}")
    assert missing == []


def test_no_two_public_things_have_one_name():
    """The engines hold the same functions, which is what they are for; so only one of them is looked at."""
    places = {}
    others = ("recommender", "estimator", "studies", "plotting", "course", "model.text")
    for module in (*PUBLIC, *(f"c2f_np.{name}" for name in others)):
        for name in importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            places.setdefault(name, {}).setdefault(id(thing), module)
    assert {name: list(found.values()) for name, found in places.items() if len(found) > 1} == {}
    assert len(places) > 80
