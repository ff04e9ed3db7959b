"""Carrying out a study: what is done, what is not done again, what a failure and a kill leave behind."""

import csv
import json
import re

import numpy as np
import pytest
from rows import whole_row

from c2f_np import load_dataset
from c2f_np.errors import SettingsError
from c2f_np.folders import locked
from c2f_np.studies import Options, run_study
from c2f_np.studies.jobs import jobs_of
from c2f_np.studies.store import Store

ONE = Options(jobs=1)
BROKEN = '\n[[run]]\nname = "broken"\nmethod = "bpr-mf"\nsettings = { lr = -1.0 }\n'
ONE_MORE = '\n[[run]]\nname = "ease"\nmethod = "ease"\n'
N_JOBS = 7


class Watch:
    """Notes the jobs that end; stops after some, as Ctrl-C does."""

    def __init__(self, stop_after=None):
        self.done, self.seen, self.stop_after = [], [], stop_after

    def __call__(self, n_done, n_all, key, running):
        assert len(running) <= 1 and key not in running and not set(running) & set(self.done)
        self.seen += [running]
        if key:
            self.done.append(key)
        if len(self.done) == self.stop_after:
            raise KeyboardInterrupt


def again(study, out, options=ONE):
    """Carry out; which jobs were done."""
    watch = Watch()
    return run_study(study, out, options, watch=watch), watch.done


def report_without_seconds(out):
    return re.sub(r"\| [\d.]+ ((\| \d+ )?\|)$", r"\1", (out / "report.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


def rows_without_clocks(out):
    """rows.csv without what differs from one time to the next."""
    with open(out / "rows.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in ("seconds", "peak_memory")} for row in rows]


def contents(out):
    return {path.name: path.read_bytes() for path in (out / "rows").iterdir()}


@pytest.fixture
def finished(tiny, tmp_path):
    """A study that is done, and its folder."""
    study, out = tiny(), tmp_path / "out"
    run_study(study, out, ONE)
    return study, out


def test_a_study_from_end_to_end(tiny, tmp_path):
    study, out = tiny('figure = "none"', 'figure = "means"'), tmp_path / "out"
    done = run_study(study, out, ONE, command="the command")
    assert (done.n_jobs, done.n_failed, done.n_missing) == (N_JOBS, 0, 0)
    report = (out / "report.md").read_text(encoding="utf-8")
    parts = ("# Tiny", "Does it run?", "the command", "18 users", "| popularity | ", "difference to popularity", "numpy ", ".png")
    assert all(part in report for part in parts)
    assert "Failed" not in report and "Not finished" not in report
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "study.toml").read_text(encoding="utf-8") == study.text
    rows = rows_without_clocks(out)
    assert [(row["run"], row["seed"]) for row in rows][:3] == [("popularity", "0"), ("bpr-mf", "0"), ("bpr-mf", "1")]
    # The table was given as many bytes as the model has, and keeps within them.
    size = {row["run"]: int(row["bytes"]) for row in rows}
    assert 0.5 * size["model"] < size["narrow"] <= size["model"]
    # The report's numbers are those of the rows.
    mean = sum(float(row["test_ndcg@20"]) for row in rows if row["outcome"] == "model") / 2
    assert f"| model | {mean:.4f} ± " in report
    # The users kept beside a row are those with something to find, and the row's number is their mean.
    key, store = "southern-women_model_seed1", Store(out)
    row, test = store.read(key), load_dataset("southern-women").test
    (users, of_users), outcome = store.users_of(key, row)[-1], row["outcomes"][-1]
    assert users.tolist() == np.flatnonzero(np.diff(test.indptr)).tolist()
    assert of_users["ndcg@20"].mean() == pytest.approx(outcome["metrics"]["test"]["ndcg@20"], rel=1e-6)


def test_every_job_is_announced_before_it_is_done(tiny, tmp_path):
    study, watch = tiny(), Watch()
    run_study(study, tmp_path / "out", ONE, watch=watch)
    announced = [running[0] for running in watch.seen if running]
    assert sorted(set(announced)) == sorted(watch.done) and len(watch.done) == N_JOBS


def test_a_stopped_study_goes_on_to_the_same_report(finished, tmp_path):
    (study, whole), out = finished, tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, ONE, watch=Watch(stop_after=3))
    # What is there can be read.
    assert len(rows_without_clocks(out)) == 3
    assert "**Not finished: 4 of 7 jobs have not been done.**" in (out / "report.md").read_text(encoding="utf-8")
    kept = contents(out)
    _, done = again(study, out)
    assert len(done) == N_JOBS - 3
    assert report_without_seconds(out) == report_without_seconds(whole) and rows_without_clocks(out) == rows_without_clocks(whole)
    assert kept.items() <= contents(out).items()
    before = (out / "report.md").read_bytes()
    assert again(study, out)[1] == [] and (out / "report.md").read_bytes() == before


def test_what_a_kill_leaves_behind_does_no_harm(finished):
    study, out = finished
    rows, before = out / "rows", contents(out)
    (rows / ".southern-women_model_seed0.json.0123abcd.part").write_text('{"status": "do')  # half written
    (rows / "southern-women_model_seed0.json").unlink()  # its users are there, the row is not yet
    (rows / "southern-women_bpr-mf_seed1.json").write_text('{"status": "done"')
    (rows / "southern-women_bpr-mf_seed0.npz").write_bytes(b"PK nonsense")
    (rows / "southern-women_popularity_seed0.npz").unlink()
    _, done = again(study, out)
    again_done = ("model_seed0", "bpr-mf_seed0", "bpr-mf_seed1", "popularity_seed0")
    # The table waits for the model's bytes, which are the same: then its row stands.
    assert {key.partition("_")[2] for key in done} == {*again_done, "narrow_seed0"}
    assert contents(out).keys() == before.keys() and len(rows_without_clocks(out)) == N_JOBS
    rewritten = {name for name, content in contents(out).items() if name.endswith("json") and content != before[name]}
    assert rewritten == {f"southern-women_{name}.json" for name in again_done}


def test_a_row_with_the_users_of_another_is_done_again(finished):
    study, out = finished
    files = [out / "rows" / f"southern-women_bpr-mf_seed{seed}.npz" for seed in (0, 1)]
    files[0].write_bytes(files[1].read_bytes())
    assert again(study, out)[1] == ["southern-women_bpr-mf_seed0"]


def test_a_changed_study_does_only_what_changed(tiny, finished):
    _, out = finished
    before = contents(out)
    _, done = again(tiny("dim = 4", "dim = 5"), out)
    assert done == ["southern-women_bpr-mf_seed0", "southern-women_bpr-mf_seed1"]
    changed = {name for name, content in contents(out).items() if before[name] != content}
    assert changed and all("bpr-mf" in name for name in changed)
    # Another seed and another run are added; the old rows stay.
    _, done = again(tiny("seeds = [0, 1]", "seeds = [1, 2]", ONE_MORE), out)
    assert {key.partition("_")[2] for key in done} == {"popularity_seed1", "bpr-mf_seed1", "bpr-mf_seed2", "model_seed2",
                                                       "narrow_seed2", "ease_seed1"}  # fmt: skip


def test_what_takes_the_bytes_of_a_changed_model_stands_if_they_are_the_same(tiny, finished):
    _, out = finished
    model, narrow = out / "rows" / "southern-women_model_seed0.json", out / "rows" / "southern-women_narrow_seed0.json"
    before = model.read_bytes(), narrow.read_bytes()
    again(tiny("settings = { table_epochs = 0,", "settings = { max_epochs = 1, table_epochs = 0,"), out)
    assert model.read_bytes() != before[0] and narrow.read_bytes() == before[1]
    again(tiny("settings = { table_epochs = 0,", "settings = { dim = 16, table_epochs = 0,"), out)
    assert narrow.read_bytes() != before[1]


def test_a_run_may_stand_before_the_one_whose_bytes_it_takes(tiny, tmp_path):
    last = tiny().text.partition('[[run]]\nname = "narrow"')[2]
    first = f'[[run]]\nname = "before"{last}\n[[run]]\nname = "popularity"'
    out = tmp_path / "out"
    assert run_study(tiny('[[run]]\nname = "popularity"', first), out, ONE).n_missing == 0
    size = {row["run"]: row["bytes"] for row in rows_without_clocks(out)}
    assert size["before"] == size["narrow"]


def test_another_version_or_other_data_are_done_again(tiny, finished, monkeypatch):
    study, out = finished
    monkeypatch.setattr("c2f_np.studies.jobs.__version__", "99")
    assert len(again(study, out)[1]) == N_JOBS
    assert len(again(tiny('data = ["southern-women"]', 'data = ["southern-women"]\nprotocol = "authors"'), out)[1]) == N_JOBS


def test_a_failure_does_not_stop_the_others_and_is_told(tiny, tmp_path):
    study, out = tiny(behind=BROKEN), tmp_path / "out"
    done = run_study(study, out, ONE)
    assert (done.n_jobs, done.n_failed, done.n_missing) == (N_JOBS + 2, 2, 0)
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "## Failed" in report and "| broken | 1 | SettingsError: lr must be at least 0.0, not -1.0 |" in report
    row = json.loads((out / "rows" / "southern-women_broken_seed0.json").read_text(encoding="utf-8"))
    assert row["status"] == "failed" and row["error"]["type"] == "SettingsError" and "Traceback" in row["error"]["traceback"]
    assert len([row for row in rows_without_clocks(out) if row["status"] == "failed"]) == 2
    assert again(study, out)[1] == []
    retried, done = again(study, out, Options(jobs=1, retry_failed=True))
    assert sorted(done) == ["southern-women_broken_seed0", "southern-women_broken_seed1"] and retried.n_failed == 2


def test_a_failure_is_retried_and_so_is_what_waits_for_its_bytes(tiny, tmp_path, monkeypatch):
    from c2f_np.studies import methods

    study, out = tiny(), tmp_path / "out"

    def out_of_memory(*_):
        raise MemoryError("too much")

    with monkeypatch.context() as patch:
        patch.setattr(methods, "measure_c2f", out_of_memory)
        assert run_study(study, out, ONE).n_failed == 4
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "MemoryError: too much" in report and "southern-women_model_seed0 failed, whose bytes this run takes" in report
    assert again(study, out)[1] == []
    finished, done = again(study, out, Options(jobs=1, retry_failed=True))
    assert finished.n_failed == 0 and {key.split("_")[1] for key in done} == {"model", "narrow"}
    assert "Failed" not in (out / "report.md").read_text(encoding="utf-8")


def test_only_the_report(tiny, tmp_path):
    study, out, only = tiny(), tmp_path / "out", Options(report_only=True)
    with pytest.raises(SettingsError, match="holds no results"):
        run_study(study, out, only)
    assert not out.exists()
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, ONE, watch=Watch(stop_after=2))
    report, rows = (out / "report.md").read_bytes(), contents(out)
    (out / "report.md").unlink()
    assert run_study(study, out, only).n_missing == N_JOBS - 2
    assert (out / "report.md").read_bytes() == report and contents(out) == rows


def test_a_row_is_there_whole_or_not_at_all(tiny, tmp_path, monkeypatch):
    """The users' file is written first; if the row cannot be written, none is there, and nothing half written either."""
    import c2f_np.studies.store as store_module

    key, store = jobs_of(tiny())[0].key, Store(tmp_path / "out")
    store.prepare("")
    row = whole_row(fingerprint="f")

    def disk_full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_json", disk_full)
        with pytest.raises(OSError, match="disk full"):
            store.write(key, row, [])
    assert store.read(key) is None and [path.suffix for path in (tmp_path / "out" / "rows").iterdir()] == [".npz"]
    store.write(key, row, [])
    assert store.read(key)["fingerprint"] == "f"


@pytest.mark.parametrize("name", ["report.md", "rows.csv", "study.toml", "rows/", "figure.png"])
def test_files_of_somebody_s_own_are_left_alone(tiny, tmp_path, name):
    study, out = tiny(), tmp_path / "out"
    out.mkdir()
    (out / name).mkdir() if name.endswith("/") else (out / name).write_text("mine")
    (out / ".report.md.part").write_text("mine too")
    with pytest.raises(SettingsError, match=f"holds {name.rstrip('/')}, but no study"):
        run_study(study, out, ONE)
    assert sorted(path.name for path in out.iterdir()) == sorted([".report.md.part", name.rstrip("/")])


def test_one_study_at_a_time_in_a_folder(finished):
    study, out = finished
    with locked(out), pytest.raises(SettingsError, match="another process is writing"):
        run_study(study, out, ONE)


def test_a_figure_that_fails_is_left_out_of_the_report(tiny, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no fonts here")

    monkeypatch.setattr("c2f_np.plotting.style.Picture.savefig", broken)
    with pytest.warns(UserWarning, match="figure.png: the figure could not be drawn .no fonts here."):
        run_study(tiny('figure = "none"', 'figure = "means"'), tmp_path / "out", ONE)
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "## southern-women" in report and "![" not in report


def test_names_that_mean_something_elsewhere(tiny, tmp_path):
    name = "=1+1|<img onerror=x>$y$"
    out = tmp_path / "out"
    run_study(tiny('name = "bpr-mf"', f'name = "{name}"'), out, ONE)
    assert r"| \=1+1\|\<img onerror=x\>\$y\$ |" in (out / "report.md").read_text(encoding="utf-8")
    with open(out / "rows.csv", encoding="utf-8") as table:
        assert {row["run"] for row in csv.DictReader(table)} >= {"'" + name, "popularity"}
