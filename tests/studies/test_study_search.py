"""Settings that a study looks for on the validation part: what is tried, what is chosen, and what is not trained twice."""

import csv
import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from test_study_runner import ONE, Watch, again

from c2f_np.cli import main
from c2f_np.data import Dataset
from c2f_np.errors import SettingsError
from c2f_np.evaluation import DEFAULT_METRICS
from c2f_np.studies import Options, jobs_of, read_study, run_study, with_choices
from c2f_np.studies.search import point_in_words
from c2f_np.studies.store import Measurement, Store

RATES = [1e-3, 3e-3, 1e-2]
STUDY = """
title = "Search"
question = "Which?"
data = ["southern-women"]
seeds = [3, 1]
metric = "recall@10"
figure = "none"
trials = 4

[[run]]
name = "full"
method = "lightgcn"
settings = { dim = 24 }

[[run]]
name = "model"
method = "c2f"
settings = { dim = 8, n_fine = 4, coarse_lr = 0.5, table_epochs = 0, partition_epochs = 0 }
search = { coarse_lr = [1e-3, 3e-3, 1e-2], n_coarse = [6, 8, 10] }
"""
KNN = '[[run]]\nname = "knn"\nmethod = "item-knn"\nsearch = { k = [1, 2, 3] }\n'
SHARE = 'bytes_of = "full"\nbytes_share = 0.5\n'


@pytest.fixture
def study(tmp_path):
    """Writes the study with something behind it, some of it replaced, and reads it."""

    def write(behind="", *replaced):
        text = STUDY + behind
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "search.toml"
        path.write_text(text, encoding="utf-8")
        return read_study(path)

    return write


class Judge:
    """Stands for training: a job has the score on validation, and that on test, that functions of it say. None: it fails."""

    def __init__(self):
        self.validation, self.test, self.done = (lambda job: 0.5), (lambda job: 0.5), []

    def __call__(self, job, data, threads):
        self.done.append(job)
        row = {"status": "done", "error": None, "settings": job.settings, "versions": {}, "seconds": 2.0, "peak_memory": None}
        scores = {"validation": self.validation(job), "test": self.test(job)}
        if None in scores.values():
            return row | {"status": "failed", "error": {"type": "Bad", "message": "luck", "traceback": ""}}, []
        metrics = {part: dict.fromkeys(DEFAULT_METRICS, 0.0) | {"recall@10": score} for part, score in scores.items()}
        of_users = {"per_user": {"recall@10": np.full(5, scores["test"], np.float32)}, "users": np.arange(5)}
        label, seconds = job.run.name, 1.0
        # A phase that is better on validation than every result, and must not count.
        phase = {part: dict.fromkeys(DEFAULT_METRICS, 0.99) for part in scores}
        return row, [
            Measurement(f"{label} / coarse", "coarse", "coarse", phase, {"model": 1}, seconds, **of_users),
            Measurement(label, "", "fine", metrics, {"model": 4000 + job.seed}, seconds, **of_users),
        ]


@pytest.fixture
def judge(monkeypatch):
    judge = Judge()
    monkeypatch.setattr("c2f_np.studies.runner.carry_out", judge)
    return judge


def of_runs(jobs, name):
    return [job for job in jobs if job.run.name == name]


def trials_in(jobs, name="model"):
    return [job for job in jobs if job.run.name.startswith(f"{name} / trial ")]


def values(job):
    return job.settings["coarse_lr"], job.settings["n_coarse"]


def row_of(out, key):
    return json.loads((out / "rows" / f"southern-women_{key}.json").read_text(encoding="utf-8"))


# ---- what is tried -----------------------------------------------------------------------------------------------------
def test_trials_are_drawn_and_every_seed_waits_for_them(study):
    jobs = jobs_of(study())
    trials, finals = trials_in(jobs), of_runs(jobs, "model")
    assert [(job.run.name, job.seed) for job in trials] == [(f"model / trial {n}", 3) for n in (1, 2, 3, 4)]
    points = [values(job) for job in trials]
    # No value is left out, nor drawn three times.
    assert all(sorted(map(list(column).count, set(column))) == [1, 1, 2] for column in zip(*points, strict=True))
    assert len(set(points)) == 4 and all(rate in RATES and rows in (6, 8, 10) for rate, rows in points)
    assert all(job.searched == dict(zip(("coarse_lr", "n_coarse"), values(job), strict=True)) for job in trials)
    assert [job.seed for job in finals] == [3, 1] and all(job.trials == tuple(trials) for job in finals)
    assert not any(job.trials or job.is_trial for job in of_runs(jobs, "full")) and len(jobs) == 2 + 4 + 2


def test_the_draws_depend_on_name_and_search_alone(study):
    first = [values(job) for job in trials_in(jobs_of(study()))]
    other = study(KNN, ("seeds = [3, 1]", "seeds = [7]"), ("dim = 24", "dim = 12"), ("trials = 4", "trials = 6"))
    more = [values(job) for job in trials_in(jobs_of(other))]
    # More trials: these and further ones. Without a limit, every point.
    assert more[:4] == first and len(set(more)) == 6
    every = [values(job) for job in trials_in(jobs_of(study("", ("trials = 4", "trials = 1000"))))]
    assert every[:6] == more and len(set(every)) == len(every) == 9
    renamed = jobs_of(study("", ('name = "model"', 'name = "other"')))
    assert [values(job) for job in trials_in(renamed, "other")] != first


def test_every_run_of_a_grid_has_its_own_trials(study):
    text = ('name = "model"\n', 'name = "model {gate}"\ngrid = { gate = [0.0, 0.1] }\ncases = [{ t_direct = 2 }]\n')
    jobs = jobs_of(study("", text))
    found = {gate: trials_in(jobs, f"model {gate}") for gate in (0.0, 0.1)}
    assert all(len(trials) == 4 and {job.settings["gate"] for job in trials} == {gate} for gate, trials in found.items())
    assert {job.settings["t_direct"] for trials in found.values() for job in trials} == {2}
    assert len({job.key for job in jobs}) == len(jobs) == 2 + 2 * (4 + 2)


def test_other_data_and_seeds(study):
    jobs = jobs_of(with_choices(study(), data=["a", "b"], seeds=[8, 5]))
    assert [job.source.name for job in trials_in(jobs)] == ["a"] * 4 + ["b"] * 4 and {job.seed for job in trials_in(jobs)} == {8}


X = '[[run]]\nname = "x"\nmethod = "{}"\n'
C2F, LIGHT = X.format("c2f"), X.format("narrow-lightgcn")
REFUSED = [
    (X.format("popularity") + f"search = {{ {'k' * 1000} = [4] }}", "run 'x': search: unknown key 'kkk", "characters"),
    (C2F + "search = { width = [4] }", "run 'x': search: unknown key 'width'", "[4]"),
    (C2F + "search = { seed = [4, 5] }", "run 'x': search: seed", "[4, 5]"),
    (C2F + 'search = { preset = ["paper"] }', "run 'x': search: unknown key 'preset'", "paper"),
    (C2F + "search = { dim = 4 }", "run 'x': search: dim must be a list of values", "4"),
    (C2F + "search = { dim = [] }", "run 'x': search: dim must be a list of values", "[]"),
    (C2F + "search = { dim = [4, 5, 4.0] }", "run 'x': search: dim has 4 twice", "4"),
    (C2F + "search = [4]", "search must be a table", "[4]"),
    (C2F + "search = { gate = [0.5, 4.0] }", "run 'x': with the settings for 'southern-women': gate", "(search: gate = 4.0)"),
    # Forty points, of which four are drawn and one is refused.
    (C2F + f"search = {{ n_coarse = {list(range(3, 13))}, t_coarse = [{', '.join(map(str, range(1, 5)))}] }}",
     "t_coarse = 4 is more than n_coarse = 3", "(search: n_coarse = 3, t_coarse = 4)"),
    (LIGHT + "search = { lr = [0.1, -0.1] }", "run 'x': lr must be at least 0.0", "(search: lr = -0.1)"),
    (LIGHT + "search = { width = [4] }", "run 'x': search: unknown key 'width'", "[4]"),
    (LIGHT + "search = { random_state = [4] }", "run 'x': search: random_state = [4] cannot be set", "[4]"),
    (X.format("coarse") + "search = { n_coarse = [0] }", "run 'x': n_coarse must be at least 1", "(search: n_coarse = 0)"),
    (LIGHT + "search = { bytes_used = [0.5] }", "run 'x': search: bytes_used, but no bytes_of", "bytes_used"),
    (LIGHT + 'search = { bytes_used = [1.5] }\nbytes_of = "full"', "bytes_used must be at most 1.0", "1.5"),
    (LIGHT + 'search = { bytes_used = [0.0] }\nbytes_of = "full"', "bytes_used must be more than 0", "0.0"),
    (C2F + "search = { dim = [4] }\ngrid = { dim = [4] }", "run 'x': 'dim' cannot be a key of both search and grid", "dim"),
    (C2F + f"search = {{ dim = {list(range(1, 51))}, n_fine = {list(range(4, 54))} }}", "search: 2,500 combinations", "2,000"),
    (C2F.replace('"x"', '"{gate} {l2} x"') + f"grid = {{ gate = {[n / 100 for n in range(60)]}, l2 = {list(range(10))} }}\n"
     "search = { dim = [4, 5, 6, 7] }", "3,006 combinations", "2,000"),
    ("trials = 0\n", "trials must be at least 1", "0"),
]  # fmt: skip


@pytest.mark.parametrize("text, what, value", REFUSED)
def test_a_bad_search_is_refused_when_it_is_read(study, tmp_path, text, what, value):
    with pytest.raises(SettingsError) as error:
        study("", ("trials = 4\n", text)) if text.startswith("trials") else study(text)
    assert str(tmp_path / "search.toml") in str(error.value) and what in str(error.value) and value in str(error.value)


def test_a_search_must_fit_all_data_of_its_run(study):
    data = '[[data]]\nsource = "southern-women"\n[[data]]\nsource = "planted"\nsettings = { t_coarse = 9 }\n'
    texts = ('data = ["southern-women"]\n', ""), ('[[run]]\nname = "full"', data + '[[run]]\nname = "full"')
    texts += (("dim = 8,", "dim = 8, n_coarse = 20,"),)
    with pytest.raises(SettingsError, match="settings for 'planted': t_coarse = 9 is more than n_coarse = 6 .search: coarse_lr"):
        study("", *texts)
    elsewhere = study("", *texts, ('method = "c2f"\n', 'method = "c2f"\nonly_data = ["southern-women"]\n'))
    assert {job.source.name for job in trials_in(jobs_of(elsewhere))} == {"southern-women"}


def test_the_number_of_jobs_counts_trials(study, monkeypatch):
    monkeypatch.setattr("c2f_np.studies.jobs._MOST_JOBS", 7)
    with pytest.raises(SettingsError, match="make 8 jobs, more than the 7"):
        jobs_of(study())


def test_data_without_validation_are_refused_before_anything_is_done(study, judge, tmp_path, monkeypatch):
    R = np.eye(6)
    monkeypatch.setattr("c2f_np.studies.runner.load_dataset", lambda *_, **__: Dataset.from_matrices(R, None, np.roll(R, 1)))
    with pytest.raises(SettingsError, match="search.toml: run 'model / trial 1': 'southern-women' has no validation part"):
        run_study(study(), tmp_path / "out", ONE)
    assert judge.done == [] and not (tmp_path / "out").exists()


def test_the_search_of_the_documentation(study):
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    example = page.partition("### Choosing settings")[2].partition("```toml\n")[2].partition("```")[0]
    jobs = jobs_of(study("", (STUDY, example)))
    assert len(jobs) == 2 * (6 + 3) and "2 x (6 + 3) jobs" in page and "bytes_used" in trials_in(jobs, "hashed")[0].searched


# ---- what is chosen ----------------------------------------------------------------------------------------------------
def test_validation_decides_and_not_test(study, judge, tmp_path):
    judge.validation = lambda job: job.settings.get("coarse_lr", 0.0)
    judge.test = lambda job: 1 - job.settings.get("coarse_lr", 0.0)
    (done, _), out = again(study("", ("trials = 4", "trials = 9")), tmp_path / "out"), tmp_path / "out"
    assert (done.n_jobs, done.n_failed, done.n_missing) == (2 + 9 + 2, 0, 0)
    chosen = [row_of(out, f"model_seed{seed}") for seed in (3, 1)]
    # Three have the best rate: the first that was drawn.
    first = next(job for job in judge.done if job.settings.get("coarse_lr") == 1e-2)
    assert [(row["settings"]["coarse_lr"], row["settings"]["n_coarse"]) for row in chosen] == [values(first)] * 2
    assert [row["settings"]["seed"] for row in chosen] == [3, 1]
    assert chosen[0]["searched"] == f"coarse_lr = 0.01, n_coarse = {first.settings['n_coarse']}" == chosen[1]["searched"]


def test_of_equal_ones_the_first_is_taken_whatever_order_they_end_in(study, judge, tmp_path, monkeypatch):
    judge.validation = lambda job: 0.7 if job.run.name in ("model / trial 2", "model / trial 4") else 0.1

    def backwards(function, tasks, lost):
        return (function(*task) for task in reversed(tasks))

    monkeypatch.setattr("c2f_np.studies.runner.workers", lambda options: nullcontext(backwards))
    run_study(study(), tmp_path / "out", ONE)
    second = of_runs(judge.done, "model / trial 2")[0]
    assert values(of_runs(judge.done, "model")[0]) == values(second)


def test_the_chosen_trial_is_not_trained_again(study, judge, tmp_path):
    out = tmp_path / "out"
    judge.validation = lambda job: 0.7 if job.run.name == "model / trial 3" else 0.1
    _, ended = again(study(), out)
    # Its seed is the first one's: of two seeds, one is trained.
    assert len(ended) == 8 and len(judge.done) == 7 and [job.seed for job in of_runs(judge.done, "model")] == [1]
    trial, store = next(job for job in jobs_of(study()) if job.run.name == "model / trial 3"), Store(out)
    rows = [store.read(key) for key in (trial.key, "southern-women_model_seed3")]
    assert [outcome["label"] for outcome in rows[1]["outcomes"]] == ["model / coarse", "model"]
    names = [{name: row.pop(name) for name in ("job", "run", "outcomes")} for row in rows]
    assert rows[0] == rows[1] and names[1]["run"] == "model"
    users = [store.users_of(name["job"], name | row) for name, row in zip(names, rows, strict=True)]
    np.testing.assert_array_equal(users[0][1][1]["recall@10"], users[1][1][1]["recall@10"])


def test_analyses_belong_to_the_run_and_not_to_its_trials(study, judge, tmp_path):
    run_study(study("", ('method = "c2f"\n', 'method = "c2f"\nafter = ["zero-fine"]\n')), tmp_path / "out", ONE)
    assert {job.run.after for job in trials_in(judge.done)} == {()}
    # With analyses a job is more than its trial was.
    assert [(job.seed, job.run.after) for job in of_runs(judge.done, "model")] == [(3, ("zero-fine",)), (1, ("zero-fine",))]


def test_a_baseline_without_seeds_is_its_best_trial(study, judge, tmp_path):
    judge.validation = lambda job: {2: 0.9}.get(job.settings.get("k"), 0.1)
    run_study(study(KNN), tmp_path / "out", ONE)
    assert sorted(job.settings["k"] for job in trials_in(judge.done, "knn")) == [1, 2, 3] and not of_runs(judge.done, "knn")
    row = row_of(tmp_path / "out", "knn_seed3")
    assert row["settings"] == {"k": 2} and row["searched"] == "k = 2"


def test_trials_take_bytes_and_may_leave_some_of_them(study, judge, tmp_path):
    judge.validation = lambda job: 0.9 if job.run.bytes_share == 0.25 else 0.1
    search = ("search = { coarse_lr = [1e-3, 3e-3, 1e-2], n_coarse = [6, 8, 10] }", "search = { bytes_used = [0.5, 1.0] }")
    run_study(study(SHARE, search), tmp_path / "out", ONE)
    # 4003 and 4001 bytes of the two seeds, half of which the run may weigh; it does better with half of that.
    assert sorted(job.settings["bytes"] for job in trials_in(judge.done)) == [1001, 2002]
    rows = [row_of(tmp_path / "out", f"model_seed{seed}") for seed in (3, 1)]
    assert [row["settings"]["bytes"] for row in rows] == [1001, 1000] and rows[0]["searched"] == "bytes_used = 0.5"
    assert [job.seed for job in of_runs(judge.done, "model")] == [1]


def test_bytes_of_a_run_that_is_itself_searched(study, judge, tmp_path):
    search = ("settings = { dim = 24 }", "settings = { dim = 24 }\nsearch = { lr = [0.1, 0.2] }")
    last = ("seeds = [3, 1]", "seeds = [3]")
    assert again(study(SHARE, search, last), tmp_path / "out")[0].n_missing == 0
    order = [job.run.name.partition(" / ")[0] for job in judge.done]
    assert order == ["full"] * 2 + ["model"] * 4


# ---- failures, and going on --------------------------------------------------------------------------------------------
def test_failed_trials_are_left_out(study, judge, tmp_path):
    judge.validation = lambda job: None if job.run.name == "model / trial 1" else 0.5
    done, out = again(study(), tmp_path / "out")[0], tmp_path / "out"
    assert (done.n_failed, done.n_missing) == (1, 0)
    assert values(of_runs(judge.done, "model")[0]) == values(of_runs(judge.done, "model / trial 2")[0])
    assert again(study(), out)[1] == []
    # Done again it is the best, so that the run is done again, too.
    judge.validation = lambda job: 0.9 if job.run.name == "model / trial 1" else 0.5
    judge.done.clear()
    done, ended = again(study(), out, Options(jobs=1, retry_failed=True))
    assert done.n_failed == 0 and len(ended) == 3 and [job.run.name for job in judge.done] == ["model / trial 1", "model"]
    assert row_of(out, "model_seed1")["searched"] == point_in_words(trials_in(jobs_of(study()))[0].searched)


def test_a_retried_trial_that_is_not_better_changes_nothing(study, judge, tmp_path):
    judge.validation = lambda job: None if job.run.name == "model / trial 1" else 0.5
    run_study(study(), tmp_path / "out", ONE)
    before = row_of(tmp_path / "out", "model_seed1")
    judge.validation = lambda job: 0.2
    judge.done.clear()
    run_study(study(), tmp_path / "out", Options(jobs=1, retry_failed=True))
    assert [job.run.name for job in judge.done] == ["model / trial 1"] and row_of(tmp_path / "out", "model_seed1") == before


def test_if_all_trials_fail_so_does_the_run(study, judge, tmp_path):
    judge.validation = lambda job: None if job.run.method == "c2f" else 0.5
    done, out = again(study(), tmp_path / "out")[0], tmp_path / "out"
    assert (done.n_failed, done.n_missing) == (6, 0) and not of_runs(judge.done, "model")
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| model | 1 | Needs: all trials of model failed, of which the best would give its settings |" in report
    assert "| model / trial 4 | 3 | Bad: luck |" in report and "| model | 4, 4 failed | none: all trials failed |" in report
    assert again(study(), out)[1] == []
    judge.validation = lambda job: 0.5
    # Without a search the run is another one, which has not failed.
    searched = "search = { coarse_lr = [1e-3, 3e-3, 1e-2], n_coarse = [6, 8, 10] }\n"
    assert again(study("", (searched, "")), out)[0].n_failed == 0
    assert again(study(), out, Options(jobs=1, retry_failed=True))[0].n_failed == 0


def test_a_job_that_failed_after_its_trials_is_retried(study, judge, tmp_path):
    judge.validation = lambda job: None if job.seed == 1 else 0.5
    assert again(study(), tmp_path / "out")[0].n_failed == 2
    judge.validation = lambda job: 0.5
    done, ended = again(study(), tmp_path / "out", Options(jobs=1, retry_failed=True))
    assert done.n_failed == 0 and ended == ["southern-women_full_seed1", "southern-women_model_seed1"]


def test_a_stopped_search_goes_on(study, judge, tmp_path):
    judge.validation = lambda job: job.settings.get("coarse_lr", 0.0) * job.settings.get("n_coarse", 0)
    for name, stops in (("whole", ()), ("stopped", (3, 2, 1))):
        for stop_after in stops:
            with pytest.raises(KeyboardInterrupt):
                run_study(study(), tmp_path / name, ONE, watch=Watch(stop_after))
        run_study(study(), tmp_path / name, ONE)
    whole, stopped = ((tmp_path / name / "report.md").read_text(encoding="utf-8") for name in ("whole", "stopped"))
    assert whole == stopped and "Not finished" not in whole
    # Nothing was done twice: 7 trainings for each folder.
    assert len(judge.done) == 14


def test_more_trials_do_only_the_new_ones_and_another_choice_other_rows(study, judge, tmp_path):
    out, best = tmp_path / "out", {}
    judge.validation = lambda job: best.get(job.run.name, 0.5)
    run_study(study(), out, ONE)
    judge.done.clear()
    run_study(study("", ("trials = 4", "trials = 5")), out, ONE)
    assert [job.run.name for job in judge.done] == ["model / trial 5"]
    best["model / trial 6"] = 0.8
    # Until all trials are done, the choice is open.
    assert run_study(study("", ("trials = 4", "trials = 6")), out, Options(report_only=True)).n_missing == 1 + 2
    judge.done.clear()
    run_study(study("", ("trials = 4", "trials = 6")), out, ONE)
    assert [(job.run.name, job.seed) for job in judge.done] == [("model / trial 6", 3), ("model", 1)]
    # Fewer again: the first choice, whose row was replaced.
    judge.done.clear()
    run_study(study(), out, ONE)
    assert [(job.run.name, job.seed) for job in judge.done] == [("model", 1)]


# ---- what is said ------------------------------------------------------------------------------------------------------
def test_the_report_has_a_table_of_its_own(study, judge, tmp_path):
    scores = {f"model / trial {n}": score for n, score in enumerate((0.25, None, 0.75, 0.5), 1)}
    judge.validation, judge.test = (lambda job: scores.get(job.run.name, 0.125)), lambda job: 0.375
    run_study(study(), tmp_path / "out", ONE)
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    words = point_in_words(trials_in(jobs_of(study()))[2].searched)
    table = report.partition("### Chosen on validation")[2]
    assert "| run | trials | chosen | validation Recall@10 | over all trials | seconds |" in table
    assert f"| model | 4, 1 failed | {words} | 0.7500 | 0.2500 to 0.7500 | 8.0 |" in table.replace("\\", "")
    main_table = report.partition("### Chosen on validation")[0]
    assert "| model | 0.3750" in main_table and "trial" not in main_table
    # The lines of trials and of the run are told apart, and say what was tried.
    with open(tmp_path / "out" / "rows.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    outcomes = [(row["outcome"], row["seed"]) for row in rows]
    assert len(set(outcomes)) == len(outcomes) and ("model / trial 3 / coarse", "3") in outcomes
    assert {row["searched"] for row in rows if row["run"] in ("model", "model / trial 3")} == {words}
    assert {row["searched"] for row in rows if row["run"] == "full"} == {""}


def test_the_table_waits_for_all_trials_and_is_not_there_without_a_search(study, judge, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_study(study(), tmp_path / "out", ONE, watch=Watch(5))
    assert "Chosen on validation" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    plain = dataclasses.replace(study(), runs=study().runs[:1])
    run_study(plain, tmp_path / "plain", ONE)
    assert "Chosen on validation" not in (tmp_path / "plain" / "report.md").read_text(encoding="utf-8")
    assert "searched" not in (tmp_path / "plain" / "rows.csv").read_text(encoding="utf-8")


def test_the_dry_run_lists_trials_and_what_they_try(study, capsys):
    path = study('after = ["zero-fine"]\n').path
    assert main(["study", str(path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "8 jobs, of which 4 are trials"
    words = point_in_words(trials_in(jobs_of(read_study(path)))[1].searched)
    assert words.startswith("coarse_lr = ") and " ".join(lines[3].split()) == f"southern-women model / trial 2 seed 3 ({words})"
    assert " ".join(lines[7].split()) == "southern-women model seed 1 (the best of 4 trials; after: zero-fine)"


def test_a_search_that_trains(study, tmp_path):
    small = 'settings = { dim = 8, n_fine = 4, t_fine = 2, max_epochs = 1, engine = "numpy", partition = "random",'
    texts = ("settings = { dim = 8, n_fine = 4,", small), ("dim = 24 }", 'dim = 24, max_epochs = 1, engine = "numpy" }')
    done, out = run_study(study(SHARE + KNN, *texts, ("trials = 4", "trials = 2")), tmp_path / "out", ONE), tmp_path / "out"
    assert (done.n_jobs, done.n_failed, done.n_missing) == (2 + 2 + 2 + 2 + 1, 0, 0)
    tried = [row_of(out, path.stem.partition("_")[2]) for path in (out / "rows").glob("*_model-trial-*.json")]
    of_run = row_of(out, "model_seed3")
    best = max(row["outcomes"][-1]["metrics"]["validation"]["recall@10"] for row in tried)
    assert len(tried) == 2 and of_run["outcomes"][-1]["metrics"]["validation"]["recall@10"] == best
    assert of_run["settings"]["bytes"] == 0.5 * 4 * 32 * 24
