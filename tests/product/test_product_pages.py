"""Tables in the README and in docs/fine_codebook.md are those of the committed studies; examples in docs run."""

import importlib.util
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pages import beside, blocks, means
from c2f_np import C2FRecommender, model

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = [(page, name) for page, texts in blocks().items() for name in texts]


@pytest.mark.parametrize(("page", "name"), BLOCKS)
def test_block_is_that_of_the_results(page, name):
    text = (ROOT / page).read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    assert text.split(begin)[1].split(end)[0].strip() == blocks()[page][name].strip()


def test_means_are_over_seeds(tmp_path, monkeypatch):
    (tmp_path / "s-planted").mkdir()
    (tmp_path / "s-planted/rows.csv").write_text(
        "outcome,test_ndcg@20,bytes\nmine,0.2,100\nmine,0.4,104\nother,0.6,50\nfailed,,\n", encoding="utf-8"
    )
    monkeypatch.setattr("benchmarks.pages.RESULTS", tmp_path)
    found = means("s", "planted")
    costs = {"epochs": 0, "seconds": 0}
    assert found["mine"] == {"ndcg": pytest.approx(0.3), "bytes": 102, "seeds": 2} | costs and set(found) == {"mine", "other"}
    assert "| other | 0.6000 | +100.0 % | 50 |" in beside("s", ["mine", "other"], lambda name: "mine")
    assert means("s", "ml-100k") == {} and beside("t", ["mine"]) == ""


@pytest.mark.parametrize(("page", "count"), [("reading_the_model.md", 2), ("recommender.md", 11), ("serving.md", 1)])
def test_examples_run(page, count, capsys, tmp_path, monkeypatch):
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == count
    monkeypatch.chdir(tmp_path)
    if page == "serving.md":
        pytest.importorskip("polars")
        R = np.random.default_rng(0).random((50, 50)) < 0.3
        settings = {"n_coarse": 4, "n_fine": 3, "dim": 4, "table_epochs": 1, "partition_epochs": 0}
        C2FRecommender(settings=settings, max_epochs=1).fit(R).export("small.npz")
    names: dict = {}
    for example in examples:
        # As a reader would type them: the second goes on from the first. None goes on from one that needs what is not installed.
        if "import pandas" not in example or importlib.util.find_spec("pandas"):
            exec(example, names)
    assert (capsys.readouterr().out != "") == (page == "recommender.md")


def test_the_page_of_the_model_has_its_modules_in_reading_order():
    text = (ROOT / "docs" / "reading_the_model.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `model/(\w+)\.py`", text, re.MULTILINE) == model.__all__
    assert sorted(model.__all__) == sorted(module.name for module in pkgutil.iter_modules(model.__path__))
