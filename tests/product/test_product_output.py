"""What is said and drawn: names that are instructions somewhere, other encodings, readers who leave, figures that fail."""

import csv
import json
import os
import subprocess
import sys

import pytest

from c2f_np.cli import main
from c2f_np.cli.bars import PhaseBars
from c2f_np.plotting.style import Picture
from c2f_np.run import FILES
from c2f_np.shown import for_csv, for_figure, for_markdown, for_terminal

SMALL = [
    "--n-coarse", "4", "--n-fine", "3", "--dim", "8", "--t-fine", "2", "--max-epochs", "2", "--table-epochs", "1",
    "--partition-epochs", "1", "--partition", "random", "--engine", "numpy",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "c2f_np"]
POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX names, pipes and shells")


def test_what_a_terminal_must_not_see():
    assert for_terminal("a\x1b[31m\n\r\tb\x07\x9b\u202e\u2028\udcff") == r"a\x1b[31m\n\r\tb\x07\x9b\u202e\u2028\udcff"
    for harmless in ("użytkownik 日本太郎", "نمی\u200cخواهم", "👩\u200d🔬", "C:\\films", "a\u00a0b", 7):
        assert for_terminal(harmless) == str(harmless)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)\>"), ("a|b", r"a\|b"), ("`x`", r"\`x\`"),
        ("[a](b)", r"\[a\](b)"), ("*a* _b_ c_d", r"\*a\* \_b\_ c_d"), ("# a", r"\# a"), ("- a", r"\- a"), ("1. a", r"1\. a"),
        ("a\nb", r"a\\nb"), ("$x$ &lt;", r"\$x\$ \&lt;"), ("ndcg@20, 3 + 2 rows (x)", "ndcg@20, 3 + 2 rows (x)"),
    ],
)  # fmt: skip
def test_markdown(name, shown):
    assert for_markdown(name) == shown


def test_csv_and_figures():
    for formula in ("=1+1", "+1", "-1", "@SUM(A1)", "  =1", "-tiUDjn7-as"):
        assert for_csv(formula) == "'" + formula
    assert [for_csv(cell) for cell in ("a=1", -1, 0.5, None, "a\rb")] == ["a=1", -1, 0.5, None, r"a\rb"]
    assert for_figure("sales_$us_$") == r"sales_\$us_\$"


@pytest.fixture
def rows(tmp_path):
    """Writes a CSV file of a name, with ids of a kind."""

    def write(name, user="u{}", item="i{}"):
        path = tmp_path / name
        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["user", "item"])
            table.writerows([user.format(u), item.format(i)] for u in range(12) for i in range(9) if (u + i) % 3)
        return path

    return write


@POSIX
@pytest.mark.parametrize("name", ["sales_$us_$.csv", "<img onerror=x>.csv", "=1+1.csv", "\x1b[31mred\n.csv", "顧客|\u202e.csv"])
def test_a_data_set_of_any_name(rows, tmp_path, capsys, name):
    path, out = rows(name), tmp_path / "out"
    assert main(["train", str(path), "--out", str(out), *SMALL]) == 0
    said = capsys.readouterr()
    assert "warning" not in said.err and "\x1b[31m" not in said.out + said.err and "\u202e" not in said.out
    assert set(FILES) - {"control.json", "refit.npz"} <= {path.name for path in out.iterdir()}
    assert json.loads((out / "metrics.json").read_text())["data"]["name"] == name.removesuffix(".csv")
    for command in (["info", str(out)], ["data", "info", str(path)], ["evaluate", str(out)]):
        assert main(command) == 0
        said = capsys.readouterr().out
        assert "\x1b" not in said and "\u202e" not in said


def test_ids_of_any_kind(rows, tmp_path, capsys):
    path, out = rows("a.csv", user="\u202e{}", item="{}\u2066"), tmp_path / "out"
    assert main(["train", str(path), "--out", str(out), *SMALL, "--quiet"]) == 0
    assert main(["recommend", str(out), "--user", "\u202e3", "-k", "2"]) == 0
    said = capsys.readouterr().out
    assert said.replace("\n", "").replace("\t", "").isprintable() and r"\u202e3" in said and r"\u2066" in said
    for refused in (["recommend", str(out), "--user", "\u202enobody"], ["train", "\x1b[2J.csv", "--out", str(out)]):
        assert main(refused) == 2
        assert capsys.readouterr().err[:-1].isprintable()
    with pytest.raises(SystemExit):
        main(["train", "a.csv", "--dim", "\x1b[2J"])
    assert capsys.readouterr().err[:-1].isprintable()


def test_a_figure_that_fails_is_a_warning(tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no fonts here")

    monkeypatch.setattr(Picture, "savefig", broken)
    assert main(["train", "southern-women", "--out", str(tmp_path / "out"), *SMALL, "--quiet"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: ") and "curves.png" in said and "no fonts here" in said and said.count("\n") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"metrics.json", "model.npz", "history.csv"}
    assert not (tmp_path / "out" / "curves.png").exists()


def test_results_come_before_figures(tmp_path, monkeypatch):
    out = tmp_path / "out"

    def late(self, path):
        assert json.loads((out / "metrics.json").read_text()) and (out / "model.npz").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(Picture, "write", late)
    assert main(["train", "southern-women", "--out", str(out), *SMALL, "--quiet"]) == 130
    assert (out / "metrics.json").exists()


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_output_of_another_encoding(rows, tmp_path, encoding):
    path, out, environment = rows("顧客.csv", user="日本太郎{}"), tmp_path / "out", os.environ | {"PYTHONIOENCODING": encoding}
    for arguments in (["train", str(path), "--out", str(out), *SMALL], ["recommend", str(out), "--user", "日本太郎3", "-k", "1"]):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).startswith(r"\u65e5\u672c\u592a\u90ce3")


@POSIX
@pytest.mark.slow
def test_a_reader_who_leaves(rows, tmp_path):
    path, out = rows("a.csv"), tmp_path / "out"
    train = [*COMMAND, "train", str(path), "--out", str(out), *SMALL]
    for command in (train, [*COMMAND, "info", str(out)], [*COMMAND, "--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        # Output and errors both go where nobody reads; training goes on nevertheless.
        assert subprocess.run(command, stdout=writing, stderr=writing, timeout=120).returncode == 0
        done = subprocess.run([*command, *(["--overwrite"] if command is train else [])], stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert done.returncode == 0 and b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr
    assert (out / "metrics.json").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_the_output(rows):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "data", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr == "error: standard output: No space left on device\n"


def test_a_bar_that_is_stopped_stays_where_it_is(tmp_path, capsys, monkeypatch):
    def stop_after(self, progress):
        shown(self, progress)
        if len(progress.history) == 2:
            raise KeyboardInterrupt

    shown = PhaseBars.__call__
    monkeypatch.setattr(PhaseBars, "__call__", stop_after)
    command = ["train", "southern-women", "--out", str(tmp_path / "out"), *SMALL, "--partition-epochs", "8"]
    assert main(command) == 130
    said = capsys.readouterr()
    assert "2/8" in said.err and "100%" not in said.err and "--resume" in said.out
