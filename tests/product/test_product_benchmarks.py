"""The benchmark command runs, and the pages show what its result files hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gowalla import ARCHITECTURE, SCHEDULE, page, read_run
from benchmarks.report import markdown
from benchmarks.summary import with_summary

ROOT = Path(__file__).parents[2]


def test_summary_on_the_page_is_that_of_the_result_file():
    result = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    assert not result["options"]["quick"] and not result["failed"]
    shown = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert with_summary(shown, result) == shown
    assert (ROOT / "benchmarks/results.md").read_text(encoding="utf-8") == markdown(result)
    with pytest.raises(ValueError, match="needs one line"):
        with_summary("no marks here", result)


def test_page_shows_the_committed_run_on_gowalla():
    metrics, control = read_run()
    assert (ROOT / "docs/results/gowalla.md").read_text(encoding="utf-8") == page(metrics, control)
    assert metrics["preset"] == "authors" and metrics["protocol"] == "authors"
    # The command on the page is that of the run.
    given = {name[2:].replace("-", "_"): value for name, value in (ARCHITECTURE | SCHEDULE).items() if name != "--preset"}
    assert {name: metrics["settings"][name] for name in given} == given


@pytest.mark.slow
def test_the_command_runs(tmp_path):
    out, table = tmp_path / "results.json", tmp_path / "results.md"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--sizes", "tiny", "--threads", "1", "--without-torch"]
    command += ["--only", "product", "steps", "graph", "assignment", "sampling", "evaluation", "epoch"]
    subprocess.run([*command, "--out", str(out), "--table", str(table)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["failed"] == []
    assert {record["part"] for record in result["results"]} == set(command[-7:])
    assert "A quick run" in table.read_text(encoding="utf-8")
    coarse = next(record for record in result["results"] if record["part"] == "steps")
    assert coarse["seconds"]["torch_csr"] == {"error": "not installed"}
