"""Run folders: what is nobody's business is left alone, one process at a time writes, and a resume that cannot says so."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

import c2f_np.run as run_module
from c2f_np import SettingsError
from c2f_np.cli import main
from c2f_np.files import write_atomically, write_text_atomically
from c2f_np.folders import LOCK, locked
from c2f_np.run import FILES

SMALL = [
    "--n-coarse", "6", "--n-fine", "4", "--dim", "8", "--n-components", "4", "--t-fine", "2", "--max-epochs", "2",
    "--partition", "random", "--preset", "staged", "--engine", "numpy", "--quiet",
]  # fmt: skip
STRANGERS = [*FILES, "model.npz/"]


def train(out, *more):
    return main(["train", "southern-women", "--out", str(out), *SMALL, *more])


def contents(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def refused(capsys, *parts):
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return all(part in said for part in parts) or pytest.fail(said)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "women"
    assert train(out) == 0
    return out


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("how", [[], ["--resume"], ["--overwrite"]])
@pytest.mark.parametrize("name", STRANGERS)
def test_files_of_somebody_s_own(tmp_path, capsys, name, how):
    mine = tmp_path / name
    if name.endswith("/"):
        mine.mkdir()
    else:
        mine.write_text('{"years": "of work"}')
    (tmp_path / ".model.npz.01234567.part").write_text("mine too")
    before = contents(tmp_path)
    assert train(tmp_path, *how) == 2
    refused(capsys, name.rstrip("/"), str(tmp_path))
    assert contents(tmp_path) == before
    if not how:
        assert main(["demo", "--out", str(tmp_path), "--quiet"]) == 2
        assert contents(tmp_path) == before


def test_the_demo_s_figure_is_not_put_in_another_s_place(tmp_path, capsys):
    (tmp_path / "demo.png").write_text("mine")
    assert main(["demo", "--out", str(tmp_path), "--quiet"]) == 2
    refused(capsys, "demo.png", "not replaced")
    assert contents(tmp_path) == {"demo.png": b"mine"}


def test_files_of_other_names_stay(copy):
    for name in ("notes.txt", "old.part", ".secret.part", ".model.npz.part"):
        (copy / name).write_text("mine")
    leftover = copy / ".model.npz.0123abcd.part"
    leftover.write_text("what a killed run left")
    assert train(copy, "--overwrite") == 0
    assert not leftover.exists()
    assert all((copy / name).read_text() == "mine" for name in ("notes.txt", "old.part", ".secret.part", ".model.npz.part"))


@pytest.mark.parametrize("missing", [["checkpoint.npz"], ["checkpoint.npz", "model.npz", "metrics.json", "curves.png"]])
def test_a_run_without_its_checkpoint_cannot_be_resumed(copy, capsys, missing):
    for name in missing:
        (copy / name).unlink()
    before = contents(copy)
    assert train(copy, "--resume") == 2
    refused(capsys, "checkpoint.npz is missing", "--overwrite")
    assert contents(copy) == before
    assert train(copy, "--overwrite") == 0


def test_a_run_without_a_finished_epoch_is_resumed_at_the_start(copy, finished, tmp_path, capsys):
    for path in copy.iterdir():
        if path.name != "run.json":
            path.unlink()
    for out in (copy, tmp_path / "new"):
        assert main(["train", "southern-women", "--out", str(out), *SMALL[:-1], "--resume"]) == 0
        assert "training begins at the start" in capsys.readouterr().out
    assert (copy / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


def test_another_version_is_named(copy, finished, capsys):
    for stored, named in (("0.0.1", "0.0.1"), (None, "an earlier one")):
        run = json.loads((finished / "run.json").read_text())
        assert run.pop("version") and (stored is None or run.setdefault("version", stored))
        (copy / "run.json").write_text(json.dumps(run))
        assert train(copy, "--resume") == 0
        said = capsys.readouterr().err
        assert said.startswith("warning: ") and named in said and run_module.__version__ in said
        assert train(copy, "--resume") == 0 and not capsys.readouterr().err


def test_what_fails_before_its_first_epoch_leaves_nothing(copy, tmp_path, monkeypatch, capsys):
    def diverges(*_, **__):
        raise SettingsError("training diverged")

    monkeypatch.setattr(run_module, "train", diverges)
    before, new = contents(copy), tmp_path / "new"
    assert train(new) == 2 and not new.exists()
    assert train(copy, "--overwrite") == 2 and contents(copy) == before
    capsys.readouterr()


def test_an_earlier_run_is_there_until_the_new_one_has_an_epoch(copy, monkeypatch):
    before = contents(copy)

    def killed(*_, **__):
        assert contents(copy) == before
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "train", killed)
    assert train(copy, "--overwrite", "--seed", "5") == 130
    assert contents(copy) == before


def test_folders_that_cannot_be(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for out, part in (("", "empty"), ("file", "file is not a folder"), ("file/run", "file is not a folder")):
        for command in (["train", "southern-women", *SMALL], ["demo"], ["study", "presets"]):
            if command[0] != "study" or out:  # a study's folder has a default
                assert main([*command, "--out", out]) == 2
                refused(capsys, part)
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_folder_that_is_not_writable(tmp_path, capsys):
    tmp_path.chmod(0o555)
    assert train(tmp_path) == 2
    refused(capsys, str(tmp_path), "ermission")


def test_a_folder_that_is_being_written(copy, tmp_path, capsys):
    before = contents(copy)
    with locked(copy):
        for command in (
            ["train", "southern-women", "--out", str(copy), *SMALL, "--resume"],
            ["train", "southern-women", "--out", str(copy), *SMALL, "--overwrite"],
            ["control", str(copy), "--quiet"],
        ):
            assert main(command) == 2
            refused(capsys, "another process is writing", str(copy))
    assert contents(copy) == before
    assert main(["control", str(copy), "--quiet"]) == 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_the_lock_of_a_killed_process(tmp_path):
    script = "import sys, time, pathlib; from c2f_np.folders import locked\nwith locked(pathlib.Path(sys.argv[1])):\n" \
        "    print('held', flush=True); time.sleep(60)"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(SettingsError, match="another process is writing"), locked(tmp_path):
        pass
    process.kill()
    process.communicate()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass


def test_files_get_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_text_atomically(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert os.name == "nt" or (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    for path in (tmp_path / "model.npz", tmp_path / "missing" / "model.npz"):
        with pytest.raises(OSError) as caught:
            write_atomically(path, full)
        assert caught.value.filename == str(path)
    assert contents(tmp_path) == {}
