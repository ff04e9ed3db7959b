"""The benchmark command runs, and the pages show what its result files hold."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality, scale
from benchmarks.gowalla import ARCHITECTURE, SCHEDULE, SEEDS, page, read_runs
from benchmarks.report import markdown
from benchmarks.summary import with_summary
from c2f_np import load_dataset
from c2f_np.baselines import make_baseline

ROOT = Path(__file__).parents[2]


def test_summary_on_the_page_is_that_of_the_result_file():
    result = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    assert not result["options"]["quick"] and not result["failed"]
    shown = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert with_summary(shown, result) == shown
    assert (ROOT / "benchmarks/results.md").read_text(encoding="utf-8") == markdown(result)
    with pytest.raises(ValueError, match="needs one line"):
        with_summary("no marks here", result)


def test_page_shows_the_committed_runs_on_gowalla():
    runs, control = read_runs()
    assert (ROOT / "docs/results/gowalla.md").read_text(encoding="utf-8") == page(runs, control)
    # The command on the page is that of the runs.
    given = {name[2:].replace("-", "_"): value for name, value in (ARCHITECTURE | SCHEDULE).items() if name != "--preset"}
    for seed, metrics in zip(SEEDS, runs, strict=True):
        assert metrics["preset"] == "authors" and metrics["protocol"] == "authors" and metrics["settings"]["seed"] == seed
        assert {name: metrics["settings"][name] for name in given} == given


@pytest.mark.slow
def test_the_command_runs(tmp_path):
    out, table = tmp_path / "results.json", tmp_path / "results.md"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--sizes", "tiny", "--threads", "1", "--without-torch"]
    command += ["--only", "product", "steps", "graph", "assignment", "sampling", "evaluation", "epoch", "timeline", "outside"]
    subprocess.run([*command, "--out", str(out), "--table", str(table)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["failed"] == []
    assert {record["part"] for record in result["results"]} == set(command[-9:])
    assert "A quick run" in table.read_text(encoding="utf-8")
    coarse = next(record for record in result["results"] if record["part"] == "steps")
    assert coarse["seconds"]["torch_csr"] == {"error": "not installed"}


@pytest.mark.slow
def test_scale_measures_every_size_and_fits_powers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "SIZES", (12_000, 24_000))
    assert scale.main(["--threads", "1", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"]
    assert [row["n"] for row in rows] == [12_000, 24_000]
    for row in rows:
        assert 0.7 * row["n"] < row["n_train"] < 0.75 * row["n"] and row["batch"] == 16_384
        assert all(row[name] > 0 for name in (*scale.SECONDS, "memory", "memory_reading"))
        assert sum(row[name] for name in scale.SECONDS) < row["process"]
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert page.count("\n| ") == 3 and "8 GiB end at about" in page and "- memory: " in page
    with pytest.raises(SystemExit):
        scale.main(["--most", "100"])


@pytest.mark.slow
def test_time_to_quality(tmp_path, monkeypatch, capsys):
    """Every process trains and is timed; seconds are of that process, quality is what the package's own evaluation says."""
    monkeypatch.setattr(quality, "find_spec", lambda name: None)  # neither implicit nor torch
    monkeypatch.setattr(quality, "OURS", {"default": [], "staged": ["--preset", "staged", "--n-components", "2"]})
    small = ["--n-coarse", "3", "--n-fine", "2", "--t-fine", "1", "--dim", "4", "--max-epochs", "1", "--eval-every", "1"]
    assert quality.main(["southern-women", "--repeats", "2", "--out", str(tmp_path), "--", *small]) == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == 2 * ["default", "staged", "ease", "item-knn", "narrow-lightgcn"]
    assert all(0.1 < float(row["seconds"]) < 300 and int(row["bytes"]) > 100 for row in rows)
    data = load_dataset("southern-women")
    known = make_baseline("item-knn").fit(data).evaluate().metrics["ndcg@20"]
    assert [float(row["test"]) for row in rows if row["method"] == "item-knn"] == [known, known]
    shown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert shown.count("\n| ") == 6 and shown.splitlines()[0] in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    with pytest.raises(SystemExit):
        quality.main([])


def test_lightgcn_of_the_benchmark_learns(tmp_path):
    pytest.importorskip("torch")
    R, found = load_dataset("southern-women").train.tocsr(), {}
    quality._lightgcn(R, lambda name, write: found.setdefault(name, write(tmp_path / f"{name}.npz")), 1, dim=4)
    with np.load(tmp_path / "40 epochs.npz") as stored:
        scores = stored["users"] @ stored["items"].T
    seen = R.toarray() > 0
    assert scores[seen].mean() > scores[~seen].mean()
