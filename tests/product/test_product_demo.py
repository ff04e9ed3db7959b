"""The demo shows what it says, flattering or not, and the table is that of the README."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from c2f_np.cli import main
from c2f_np.demo import (
    ALONE,
    CONTINUED,
    DEFAULT,
    DEFAULT_ZEROED,
    FINE,
    HONEST,
    KINDS,
    LEGEND,
    PHASE_1,
    PHASE_2,
    POPULARITY,
    TABLE,
    ZEROED,
)
from c2f_np.run import comparison_table, read_json

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^(\S.*?) +(\d\.\d{4}) +(\d\.\d{4}) +([\d,]+)  (.+)$", re.MULTILINE)


@pytest.mark.slow
def test_the_demo_shows_what_it_says(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    printed = capsys.readouterr().out
    rows = {name: (float(ndcg), int(size.replace(",", "")), parts) for name, _, ndcg, size, parts in ROW.findall(printed)}
    assert list(rows) == list(KINDS) and len(rows) <= 10
    shown = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [(name, size, parts) for name, _, _, size, parts in shown] == [(n, f"{s:,}", p) for n, (_, s, p) in rows.items()]
    quality = {name: ndcg for name, (ndcg, _, _) in rows.items()}
    for name, _, ndcg, *_ in shown:
        assert quality[name] == pytest.approx(float(ndcg), abs=0.02)  # other processors and versions, other bits
    assert quality[POPULARITY] < quality[PHASE_1] < quality[PHASE_2] < quality[FINE] < quality[DEFAULT]
    assert quality[ZEROED] < 0.9 * quality[FINE]
    # The controls: what the fine stage gains is not owed to its codebook; on these data the default's is of no use, and one
    # codebook does as well as its two.
    assert max(abs(quality[other] - quality[DEFAULT]) for other in (DEFAULT_ZEROED, ALONE)) < 0.03
    assert rows[ALONE][1] < rows[DEFAULT][1]
    assert quality[CONTINUED] > 1.1 * quality[FINE] and rows[CONTINUED][1] < rows[FINE][1]
    gains = [quality[name] - quality[PHASE_2] for name in (FINE, CONTINUED)]
    said = re.search(r"gains ([+-]0\.\d{3}) over phase 2.+?,\s+([+-]0\.\d{3})\.", printed, re.DOTALL)
    assert [float(number) for number in said.groups()] == pytest.approx(gains, abs=1e-3)
    assert quality[TABLE] < quality[DEFAULT] and rows[TABLE][1] > 5 * rows[DEFAULT][1]
    for _, size, parts in rows.values():
        assert sum(int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", parts)) in (0, size)
    # One user: what they were trained on, and ten other items, most of the user's group.
    known, best = (re.findall(r"\d+", re.search(rf"{title} +(.+)", printed)[1]) for title in ("trained on", "ranked first"))
    group = re.search(r"of planted group (\d)", printed)[1]
    groups = re.findall(r"(\d)\.\d\d", re.search(r"ranked first.+\n +subgroup(.+)", printed)[1])
    assert len(best) == 10 and not {*known} & {*best} and groups.count(group) >= 8
    # Short, and the last word is the README's.
    text = printed[printed.index("\nmeasures") : printed.index("\n\nwritten to")]
    assert len([line for line in text.splitlines() if line]) <= 26 and text.endswith(HONEST)
    # The default's last phase: did it improve on its start?
    metrics = read_json(tmp_path / "runs" / "demo" / "metrics.json")
    improved = metrics["best_epoch"]["joint"] > 0
    assert ("here this improved nothing" in " ".join(text.split())) == (not improved)
    assert (tmp_path / "runs" / "demo" / "demo.png").stat().st_size > 20_000
    # What it leaves are ordinary run folders.
    last_rows = {"paper": "fine, phase 2", ".": "codebooks and links, jointly", "alone": "codebooks and links, jointly"}
    for folder, last in last_rows.items():
        assert last in comparison_table(read_json(tmp_path / "runs" / "demo" / folder / "metrics.json"))


def test_numbers_that_are_not_the_demo_s_own():
    """They are those of committed studies."""

    def means(study: str, model: str) -> tuple[str, str]:
        with (ROOT / "docs" / "results" / study / "rows.csv").open(newline="", encoding="utf-8") as file:
            found = [row for row in csv.DictReader(file) if row["outcome"] == model]
        ndcg, size = (np.mean([float(row[name]) for row in found]) for name in ("test_ndcg@20", "bytes"))
        return f"{ndcg:.3f}".removeprefix("0"), f"{size:,.0f}"

    said = " ".join(LEGEND.split())
    (fine, _), (continued, _) = (means("fine-codebook-planted", model) for model in ("paper", "paper / control"))
    assert f"NDCG@20 is {fine} after the fine stage and {continued} after the continued coarse stage (3 seeds" in said
    table, default = means("rivals-ml-100k", "lightgcn"), means("presets-ml-100k", "default")
    assert "NDCG@20 {} in {} bytes, against {} in {}".format(*table, *default) in said


def test_the_last_word_is_the_readme_s():
    readme = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert " ".join(HONEST.split()) in " ".join(readme.split())
