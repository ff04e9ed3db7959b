"""``study`` on the command line: what it prints, what it returns, and one line for whatever is wrong."""

import pytest
from test_study_runner import BROKEN

from c2f_np.cli import main
from c2f_np.studies import ready_studies


def study(*arguments):
    return main(["study", *map(str, arguments)])


def test_the_list_and_the_dry_run(tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study("--list") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ready_studies())
    assert study(tiny().path, "--dry-run", "--seeds", 5) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 jobs" and all("seed 5" in line for line in lines[:-1])
    assert study("protocol", "--dry-run") == 0 and "one piece of work" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_study_its_report_and_its_command(tiny, capsys, tmp_path):
    path, out = tiny().path, tmp_path / "out"
    assert study(path, "--out", out, "--jobs", 1, "--seeds", 4, "--protocol", "authors") == 0
    said = capsys.readouterr()
    assert f"written to {out / 'report.md'}" in said.out and "4/4" in said.err
    report = (out / "report.md").read_text(encoding="utf-8")
    # What results depend on, and not how many jobs ran at a time or where they were kept.
    assert f"python -m c2f_np study {path} --protocol authors --seeds 4\n" in report
    (out / "report.md").unlink()
    assert study(path, "--out", out, "--seeds", 4, "--protocol", "authors", "--report-only", "--quiet") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "") and (out / "report.md").read_text(encoding="utf-8") == report


def test_a_failure_ends_with_1(tiny, capsys, tmp_path):
    arguments = (tiny(behind=BROKEN).path, "--out", tmp_path / "out", "--jobs", 1, "--seeds", 0)
    assert study(*arguments, "--quiet") == 1
    assert capsys.readouterr().err == "1 of 5 jobs failed; the report names them\n"
    assert study(*arguments) == 1  # it still stands
    # Repaired, and only what failed is done.
    tiny(behind=BROKEN.replace("-1.0", "0.1") + "# repaired\n")
    assert study(*arguments) == 0


def test_ctrl_c_ends_with_130_and_the_command_goes_on(tiny, capsys, tmp_path, monkeypatch):
    from c2f_np.studies import runner

    original, arguments = runner.carry_out, (tiny().path, "--out", tmp_path / "out", "--jobs", 1)

    def interrupted(job, *rest):
        if job.run.method == "c2f":
            raise KeyboardInterrupt
        return original(job, *rest)

    monkeypatch.setattr(runner, "carry_out", interrupted)
    assert study(*arguments) == 130
    assert "stopped; the same command continues it" in capsys.readouterr().err
    assert "**Not finished: 4 of 7 jobs" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    monkeypatch.setattr(runner, "carry_out", original)
    assert study(*arguments) == 0 and "4 of 7" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


WRONG = [
    ((), "say which study"),
    (("nowhere",), "no study 'nowhere': neither a file nor one of ablations"),
    (("TINY", "--scheduler", "tcp://here:1"), "needs --backend dask"),
    (("TINY", "--seeds", "1", "1"), "--seeds must be different"),
    (("TINY", "--data", "no-such-data"), "'no-such-data' is neither a file"),
    (("TINY", "--data", "planted", "--data", "x/planted"), "two data sets are called 'planted'"),
    (("TINY", "--settings-of", "mars"), "--settings-of must be one of southern-women, not 'mars'"),
    (("TINY", "--report-only"), "holds no results"),
    (("protocol", "--report-only"), "stores no rows"),
]


@pytest.mark.parametrize("arguments, what", WRONG)
def test_wrong_input_is_one_line_and_nothing_is_written(arguments, what, tiny, tmp_path, monkeypatch, capsys):
    path = tiny().path
    monkeypatch.chdir(tmp_path)
    assert study(*(path if argument == "TINY" else argument for argument in arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and what in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize("arguments", [("--backend", "spark"), ("--seeds", "one"), ("--jobs", "many"), ("--protocol", "strict")])
def test_wrong_options(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        study("presets", *arguments)
    assert error.value.code == 2 and f"{arguments[0]}: invalid" in capsys.readouterr().err


def test_a_bad_study_file_is_named_with_its_key(tiny, tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(tiny().text.replace('data = ["southern-women"]', 'dataa = ["southern-women"]'), encoding="utf-8")
    assert study(path) == 2
    assert capsys.readouterr().err == f"error: {path}: unknown key 'dataa' (its value is ['southern-women'])\n"
