"""From rows to lines of a report, on four users whose numbers can be worked out by hand."""

import dataclasses

import numpy as np
import pytest
from rows import whole_row

from c2f_np.data import Dataset
from c2f_np.errors import ModelFileError
from c2f_np.evaluation import DEFAULT_METRICS
from c2f_np.studies import jobs_of, run_study
from c2f_np.studies.parallel import Options
from c2f_np.studies.store import Measurement, Store
from c2f_np.studies.study_report import report_lines, write_report

USERS = np.arange(4)
DATA = Dataset.from_matrices(np.eye(4, 6), None, np.eye(4, 6, 1))


@pytest.fixture
def case(tiny, tmp_path):
    """A study of two runs, its jobs, and a store that a test fills: put(run, seed, {part: values of the users})."""
    other = '\n[[run]]\nname = "other"\nmethod = "c2f"\nreference = "model / control"\nafter = ["control"]\n'
    study = tiny('name = "model"\n', 'name = "model"\nafter = ["control"]\n', other)
    runs = tuple(run for run in study.runs if run.name in ("model", "other"))
    study = dataclasses.replace(study, reference="model", runs=runs)
    jobs, store, rows = jobs_of(study), Store(tmp_path / "out"), {}
    store.prepare("")

    def put(run, seed, parts, note="", users=USERS):
        measured = []
        for part, values in parts.items():
            values = np.array(values, np.float32)
            metrics = {"test": dict.fromkeys(DEFAULT_METRICS, 0.5) | {"ndcg@20": float(values.mean())}} if len(values) else {}
            known = {"per_user": {"ndcg@20": values}, "users": users} if len(values) else {}
            label = f"{run} / {part}" if part else run
            size = {"model": 100 + len(part) + 6 * seed, "floats": 25}
            measured.append(Measurement(label, part, "fine", metrics, size, seconds=seed + 1.0, note=note, **known))
        job = next(job for job in jobs if (job.run.name, job.seed) == (run, seed))
        row = whole_row(job.key, fingerprint=job.key)
        store.write(job.key, row, measured)
        rows[job.key] = store.read(job.key)

    def lines(phases="all"):
        found = report_lines(dataclasses.replace(study, phases=phases), "southern-women", DATA, jobs, rows, store)
        return {line.label: line for line in found}

    def report():
        write_report(study, {"southern-women": DATA}, jobs, rows, store)
        return (tmp_path / "out" / "report.md").read_text(encoding="utf-8")

    return put, lines, report


def test_seeds_users_and_differences(case):
    put, lines, report = case
    put("model", 0, {"coarse": [0.0, 0.0, 0.0, 0.0], "": [0.1, 0.2, 0.3, 0.4], "control": [0.5, 0.5, 0.5, 0.5]})
    put("model", 1, {"coarse": [0.0, 0.0, 0.0, 0.0], "": [0.3, 0.4, 0.5, 0.6], "control": [0.3, 0.3, 0.3, 0.3]})
    put("other", 0, {"": [0.5, 0.3, 0.6, 0.4]})
    found = lines()
    assert list(found) == ["model / coarse", "model", "model / control", "other"]
    model, other = found["model"], found["other"]
    # Over seeds: 0.25 and 0.45. Over users: each one's mean over the seeds.
    assert (model.mean, len(model.seeds)) == (pytest.approx(0.35), 2)
    assert model.sd == pytest.approx(0.2 / np.sqrt(2))
    np.testing.assert_allclose(model.per_user, [0.2, 0.3, 0.4, 0.5])
    assert 0.2 <= model.interval[0] < 0.35 < model.interval[1] <= 0.5 and model.difference is None
    assert (model.seconds, model.bytes, model.seeds) == (1.5, 103, [0, 1])
    # The run's own reference goes before the study's: its control, 0.4 for everybody.
    assert other.reference == "model / control" and other.difference.mean == pytest.approx(0.05)
    assert (other.difference.won, other.difference.lost, other.difference.tied) == (2, 1, 1)
    assert found["model / coarse"].difference.mean == pytest.approx(-0.35)
    # All have one seed or two; the table says so, and leaves out what one seed does not tell.
    text = report()
    assert "| model | 0.3500 ± 0.1414 | " in text and "| other | 0.4500 | " in text
    assert "| model / control | +0.0500 (" in text and "| 2 / 1 / 1 |" in text
    assert "**Not finished: 1 of 4 jobs have not been done.**" in text


def test_phases_are_left_out_and_analyses_never(case):
    put, lines, _ = case
    put("model", 0, {"coarse": [0.1] * 4, "": [0.2] * 4, "control": [0.3] * 4})
    assert list(lines()) == ["model / coarse", "model", "model / control"]
    assert list(lines("last")) == ["model", "model / control"]


def test_what_does_not_apply_is_said(case):
    put, lines, report = case
    put("model", 0, {"": [0.2] * 4})
    put("other", 0, {"control": []}, note="does not apply")
    assert lines()["other / control"].mean is None
    assert "| other / control | does not apply |" in report()


def test_rows_of_different_users_are_not_compared(case):
    put, lines, _ = case
    put("model", 0, {"": [0.2] * 4})
    put("model", 1, {"": [0.2] * 4}, users=USERS + 1)
    with pytest.raises(ModelFileError, match="southern-women_model_seed1 was measured on other users"):
        lines()


def test_every_phase_and_analysis_of_a_training_has_a_line(tiny, tmp_path):
    behind = '\n[[run]]\nname = "staged"\nmethod = "c2f"\npreset = "authors"\nsettings = { n_components = 4 }\nseeds = [0]\n'
    behind += 'after = ["zero-fine", "control"]\nreference = "staged / control"\n'
    run_study(tiny("seeds = [0, 1]", "seeds = [0]", behind), tmp_path / "out", Options(jobs=1))
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for part in ("coarse_phase1", "coarse", "fine_phase1", "zero-fine", "control"):
        assert f"| staged / {part} | 0." in text
    assert "| staged | 0." in text and "| reference |" in text and "| staged / control | " in text
