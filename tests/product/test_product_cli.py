"""The command line and the run folder: what is written, what is said, and what is left alone when something is wrong."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import c2f_np.run as run_module
from c2f_np import C2FRecommender, load_dataset
from c2f_np.cli import main
from c2f_np.cli.bars import JobBar
from c2f_np.folders import LOCK
from c2f_np.training import train as train_both
from tests.stored import stored

SMALL = [
    "--n-coarse", "6", "--n-fine", "4", "--dim", "8", "--n-components", "4", "--t-fine", "2", "--eval-every", "2",
    "--max-epochs", "3", "--partition", "random", "--preset", "staged",
]  # fmt: skip
PHASES = ["coarse_phase1", "coarse", "fine_phase1", "fine"]
FILES = {"run.json", "checkpoint.npz", "history.csv", "metrics.json", "model.npz", "curves.png"}


def train(data, out, *more):
    return main(["train", str(data), "--out", str(out), *SMALL, *more])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def assert_one_line_error(capsys, *parts):
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "Traceback" not in said
    for part in parts:
        assert part in said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run; tests must not change it."""
    out = tmp_path_factory.mktemp("runs") / "women"
    assert train("southern-women", out, "--quiet") == 0
    return out


@pytest.fixture
def csv_file(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"użytkownik {u},item-{i},{1 + (u * i) % 5}" for u in range(12) for i in range(9) if rng.random() < 0.6]
    path = tmp_path / "clicks.csv"
    path.write_text("visitor,product,stars\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


COLUMNS = ["--user-column", "visitor", "--item-column", "product"]
COMMANDS = "demo data train refit control evaluate recommend explain export info study gradcheck parity".split()


@pytest.mark.parametrize("command", [*COMMANDS, None])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"] if command else ["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert "examples:" in said and f"python -m c2f_np {command or ''}".strip() in said.split("examples:")[1]


def test_from_a_csv_to_recommendations(csv_file, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(csv_file, out, *COLUMNS) == 0
    assert set(contents(out)) == FILES
    assert "fine" in capsys.readouterr().out
    assert main(["recommend", str(out), "--user", "użytkownik 3", "--user", "użytkownik 0", "-k", "2"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert {line[0] for line in lines} <= {"użytkownik 3", "użytkownik 0"}
    assert all(line[2].startswith("item-") and np.isfinite(float(line[3])) for line in lines) and lines
    assert main(["recommend", str(out / "model.npz"), "--similar-to", "item-1", "-k", "8"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    for more in ([], ["--json"], ["--part", "validation"]):
        assert main(["evaluate", str(out), *more]) == 0
    assert main(["info", str(out)]) == 0 and main(["info", str(out), "--json"]) == 0
    assert "nan" not in capsys.readouterr().out.lower()


def test_what_takes_time_is_said_before(tmp_path, capsys):
    assert train("southern-women", tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert said.index("first a partition of users and items") < said.index("100%") < said.index("first a sparse PCA")
    bar = JobBar()
    bar(0, 3, "", ["one_seed0", "two_seed0"])
    bar(1, 3, "one_seed0", ["two_seed0"])
    bar.close()
    said = capsys.readouterr().err
    assert "0/3" in said and "2 at work: one_seed0, two_seed0" in said and "1/3" in said and "1 at work: two_seed0" in said


def test_metrics_and_history(folder):
    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    data = load_dataset("southern-women", protocol="clean")
    assert metrics["protocol"] == "clean" and metrics["data"]["fingerprint"] == data.fingerprint()
    for part in ("validation", "test"):
        assert set(metrics[part]) == {"popularity", *PHASES}
        for values in metrics[part].values():
            assert set(values) == {f"{name}@{k}" for name in ("ndcg", "recall") for k in (5, 10, 20, 50)}
    assert metrics["settings"]["n_coarse"] == 6 and metrics["settings"]["degree"] == "absolute"
    assert metrics["seeds"] == {"model": 0, "split": 0}
    assert set(metrics["versions"]) >= {"c2f_np", "python", "numpy", "scipy", "numba", "scikit-learn"}
    assert metrics["epochs"] == dict.fromkeys(PHASES, 3)
    assert set(metrics["seconds"]) == {*PHASES, "training"} and metrics["seconds"]["training"] > 0
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == [phase for phase in PHASES for _ in range(3)]
    # The best epoch's validation score is the one that the final evaluation finds again.
    for phase in PHASES:
        of_phase = {row["epoch"]: row["validation_ndcg@5"] for row in rows if row["phase"] == phase}
        assert float(of_phase[str(metrics["best_epoch"][phase])]) == metrics["validation"][phase]["ndcg@5"]
    # 18 + 14 entities, two coarse places each; 6 coarse rows, two fine places each; a weight is four bytes, its place one; widths
    # of 8, in four bytes.
    coarse = 6 * 32 + 64 * 5 + 33 * 4
    # A fine codebook of 4 x 8, or what the threshold leaves and a bit for each entry.
    share = {row["phase"]: row["nonzero_fine"] for row in rows if row["epoch"] == str(metrics["best_epoch"][row["phase"]])}
    fine = {phase: coarse + 12 * 5 + 4 * min(32, round(32 * float(share[phase])) + 1) for phase in ("fine_phase1", "fine")}
    sizes = {phase: metrics["size_in_bytes"][phase]["model"] for phase in PHASES}
    assert sizes == {"coarse_phase1": coarse, "coarse": coarse} | fine


def test_control_of_a_run(folder, tmp_path, capsys):
    """As many epochs as the fine stage made; the run's own files stay as they are."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    before = contents(copy)
    assert main(["control", str(copy)]) == 0
    said = capsys.readouterr().out
    rows = [line.split("|")[0].strip() for line in said.splitlines()[-3:]]
    assert rows == ["coarse, phase 2", "coarse continued, phase 2", "fine, phase 2"]
    after = contents(copy)
    control = json.loads(after.pop("control.json"))
    assert after == before
    run = json.loads(before["metrics.json"])
    assert len(control["history"]) == run["epochs"]["fine_phase1"] + run["epochs"]["fine"]
    assert set(control["test"]) == {"control_phase1", "control"} and 0 <= control["test"]["control"]["ndcg@20"] <= 1
    assert main(["control", str(copy), "--quiet"]) == 0
    assert capsys.readouterr().out == "" and json.loads((copy / "control.json").read_text())["test"] == control["test"]


def test_control_of_a_run_that_is_not_finished(folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "metrics.json").unlink()
    before = contents(copy)
    assert main(["control", str(copy)]) == 2
    assert f"{copy}: the run has not come to its end: go on with train --resume first" in capsys.readouterr().err
    assert contents(copy) == before


def test_evaluating_again_gives_the_number_in_the_metrics(folder, capsys):
    metrics = json.loads((folder / "metrics.json").read_text())
    model = C2FRecommender.load(folder / "model.npz")
    for part in ("test", "validation"):
        assert model.evaluate(load_dataset("southern-women"), part).metrics == metrics[part]["fine"]
        assert main(["evaluate", str(folder), "--part", part, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert {name: said[name] for name in metrics[part]["fine"]} == metrics[part]["fine"]


def test_authors_preset_brings_its_protocol(tmp_path, capsys):
    assert train("southern-women", tmp_path / "a", "--preset", "authors", "--quiet") == 0
    assert capsys.readouterr().out == ""
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics["protocol"] == "authors" and metrics["preset"] == "authors"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["no"]), ("", ["clicks.csv"]), ("visitor,product\n", ["clicks.csv"]),
        ("visitor,product\na,b\nc\nd,e\n", ["clicks.csv", "line 3"]), ("who,what\na,b\n", ["visitor"]),
        ("visitor,product\na,b\nc,b\n", []),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(tmp_path, capsys, content, parts):
    path, out = tmp_path / "clicks.csv", tmp_path / "run"
    if content is not None:
        path.write_text(content)
    assert train(path, out, *COLUMNS, "--quiet") == 2
    assert_one_line_error(capsys, *parts)
    assert not out.exists()


@pytest.mark.parametrize(
    "more",
    [["--t-coarse", "7"], ["--n-coarse", "33"], ["--n-fine", "33"], ["--dim", "0"], ["--gate", "1.5"], ["--gate", "nan"]],
)
def test_settings_that_do_not_fit_leave_no_folder(tmp_path, capsys, folder, more):
    assert train("southern-women", tmp_path / "run", *more, "--quiet") == 2
    assert_one_line_error(capsys)
    assert not (tmp_path / "run").exists()
    # Nor do they empty one that is there.
    before = contents(folder)
    assert train("southern-women", folder, *more, "--overwrite", "--quiet") == 2
    assert_one_line_error(capsys)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "southern-women", "--out", "x", "--preset", "mine"], ["train", "southern-women"], ["fly"], [],
        ["train", "southern-women", "--out", "x", "--dim", "wide"], ["recommend", "x"],
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_used(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert_one_line_error(capsys, "--help")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_run_is_left_alone(folder, capsys):
    before = contents(folder)
    # It can neither be written over by accident nor go on with other settings or data.
    for more, *parts in (
        ([], "--resume", "--overwrite"),
        (["--resume", "--seed", "3"], "seed"),
        (["--resume", "--split-seed", "3"], "other data"),
    ):
        assert train("southern-women", folder, *more, "--quiet") == 2
        assert_one_line_error(capsys, *parts)
    assert contents(folder) == before


def test_questions_that_cannot_be_answered(folder, tmp_path, capsys):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(folder, unfinished, ignore=shutil.ignore_patterns("checkpoint.npz"))
    for arguments, *parts in (
        (["control", tmp_path / "nowhere"], "nowhere", "not a run folder"),
        (["control", unfinished, "--quiet"], "checkpoint.npz"),
        (["recommend", folder, "--user", "Nobody"], "Nobody"),
        (["recommend", folder, "--user", "Nora Fayette", "-k", "15"], "from 1 to 14"),
        (["recommend", folder, "--similar-to", "E99"], "E99"),
        (["recommend", tmp_path / "none", "--user", "a"], "no such file"),
        (["evaluate", tmp_path], "not a run folder"),
        (["evaluate", folder, "--data", "planted"], "not what the model was trained on"),
        (["info", tmp_path], "no such file"),
        (["data", "info", tmp_path / "none"], "none"),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert_one_line_error(capsys, *parts)


def test_a_damaged_model_and_checkpoint(folder, tmp_path, capsys):
    for name, content in contents(folder).items():
        (tmp_path / name).write_bytes(content[: len(content) // 2] if name.endswith((".npz", ".json")) else content)
    for command in (["recommend", str(tmp_path), "--user", "Nora Fayette"], ["info", str(tmp_path)], ["evaluate", str(tmp_path)]):
        assert main(command) == 2
        assert_one_line_error(capsys, "damaged")
    before = contents(tmp_path)
    assert train("southern-women", tmp_path, "--resume", "--quiet") == 2
    assert_one_line_error(capsys, "damaged")
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_the_earlier_run_whole(folder, monkeypatch, capsys):
    before = contents(folder)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for how in ("--overwrite", "--resume"):
        assert train("southern-women", folder, how, "--quiet") == 2
        assert_one_line_error(capsys, "No space left")
        assert contents(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_disk_that_fills_up_during_training(tmp_path):
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from c2f_np.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["train", "southern-women", "--out", str(tmp_path / "run"), *SMALL, "--quiet", "--engine", "numpy"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert set(contents(tmp_path / "run")) == {"run.json"}


def same_model(first, second):
    (head, arrays), (other_head, others) = (stored(path / "model.npz") for path in (first, second))
    assert head == other_head and list(arrays) == list(others)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], others[name], err_msg=name)


@pytest.mark.parametrize("epoch", [1, 5, 8, 11])
def test_stopped_by_hand_and_resumed(folder, tmp_path, monkeypatch, capsys, epoch):
    def impatient(data, settings, *, progress, after_epoch, before_start):
        def stop(after):
            after_epoch(after)
            if len(after.history) == epoch:
                raise KeyboardInterrupt

        return train_both(data, settings, progress=progress, after_epoch=stop, before_start=before_start)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "train", impatient)
        assert train("southern-women", tmp_path / "run", "--quiet") == 130
    assert "--resume" in capsys.readouterr().out
    assert set(contents(tmp_path / "run")) == {"run.json", "checkpoint.npz", "history.csv"}
    assert main(["train", "southern-women", "--out", str(tmp_path / "run"), "--resume"]) == 0
    same_model(folder, tmp_path / "run")
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 13


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_killed_and_resumed(tmp_path):
    arguments = ["train", "southern-women", *SMALL, "--quiet", "--max-epochs", "60", "--patience", "999", "--engine", "numpy"]
    process = subprocess.Popen([sys.executable, "-m", "c2f_np", *arguments, "--out", str(tmp_path / "killed")])
    deadline, history = time.monotonic() + 60, tmp_path / "killed" / "history.csv"
    while time.monotonic() < deadline and not (history.exists() and history.read_text().count("\n") > 100):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was over before it was killed"
    assert not (tmp_path / "killed" / "model.npz").exists()
    assert main([*arguments, "--out", str(tmp_path / "killed"), "--resume"]) == 0
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    same_model(tmp_path / "killed", tmp_path / "whole")


def test_users_and_items_only_in_test(tmp_path, capsys):
    folder = tmp_path / "lightgcn"
    folder.mkdir()
    lines = [f"{u} " + " ".join(str(i) for i in range(8) if (u + i) % 3) for u in range(9)]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    (folder / "test.txt").write_text("0 0 9\n10 1 2\n4 8\n")
    assert train(folder, tmp_path / "run", "--quiet") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert metrics["data"]["users"] >= 10 and metrics["data"]["report"]["users_without_training"] >= 1
    assert metrics["data"]["report"]["items_without_training"] >= 2
    assert main(["recommend", str(tmp_path / "run"), "--user", "10", "-k", "3"]) == 0
    assert "nan" not in capsys.readouterr().out
