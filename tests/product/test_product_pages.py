"""The tables in the README and in docs/fine_codebook.md are those of the committed studies."""

from pathlib import Path

import pytest

from benchmarks.pages import beside, blocks, means

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
        "outcome,test_ndcg@20,bytes\nmine,0.2,100\nmine,0.4,100\nother,0.6,50\nfailed,,\n", encoding="utf-8"
    )
    monkeypatch.setattr("benchmarks.pages.RESULTS", tmp_path)
    found = means("s", "planted")
    assert found["mine"] == {"ndcg": pytest.approx(0.3), "bytes": 100, "seeds": 2} and set(found) == {"mine", "other"}
    assert "| other | 0.6000 | +100.0 % | 50 |" in beside("s", ["mine", "other"], lambda name: "mine")
    assert means("s", "ml-100k") == {} and beside("t", ["mine"]) == ""
