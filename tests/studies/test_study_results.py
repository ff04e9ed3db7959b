"""Results kept under docs/results: a study whose file says ``rerun = true`` is run again with its first seed, and must come
to the same numbers.
"""

import csv
import dataclasses
import math
from pathlib import Path

import pytest
from test_study_runner import ONE

from c2f_np.studies import read_study, run_study
from c2f_np.studies.jobs import with_choices

RESULTS = Path(__file__).parents[2] / "docs" / "results"
KEPT = [
    file.parent
    for file in sorted(RESULTS.glob("*/study.toml"))
    if (file.parent / "rows.csv").is_file() and read_study(file).rerun
]
#: Runs that take long and train as "staged" or "default" does, with other settings.
LEFT_OUT = {"authors", "paper", "default, 3 direct links"}
# As docs/studies.md promises: relative where everything is the same, else absolute, of NDCG.
SAME, ELSEWHERE = 1e-6, 2e-2


def rows_of(file):
    """rows.csv by what identifies a row."""
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    found = {(row["data"], row["outcome"], row["seed"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def differences(kept, fresh):
    """What is not as it was, in words."""
    said = [f"{key}: only in the {name}" for one, other, name in ((kept, fresh, "kept rows"), (fresh, kept, "rerun"))
            for key in one if key not in other]  # fmt: skip
    for key in kept.keys() & fresh.keys():
        old, new = kept[key], fresh[key]
        changed = (name for name in ("status", "bytes", "note") if old[name] != new[name])
        said += [f"{key}: {name} was {old[name]!r}, is {new[name]!r}" for name in changed]
        same = all(old.get(name) == new.get(name) for name in ("versions", "processor"))
        for name in (name for name in old if name.startswith(("validation_", "test_")) and old[name]):
            before, now = float(old[name]), float(new.get(name) or math.nan)
            if same and not abs(now - before) <= SAME * abs(before):
                said.append(f"{key}: {name} was {before}, is {now}, on the same versions and processor")
            elif not same and "_ndcg@" in name and not abs(now - before) <= ELSEWHERE:
                said.append(f"{key}: {name} was {before}, is {now}")
    return sorted(said)


def test_there_are_results_to_be_reached_again():
    assert KEPT


@pytest.mark.slow
@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_kept_results_are_reached_again(folder, tmp_path):
    study = read_study(folder / "study.toml")
    runs = tuple(run for run in study.runs if run.name not in LEFT_OUT)
    again = dataclasses.replace(with_choices(study, seeds=study.seeds[:1]), runs=runs, reference="")
    run_study(again, tmp_path, ONE)
    kept = rows_of(folder / "rows.csv")
    first = {key: row for key, row in kept.items() if key[-1] == str(study.seeds[0])}
    assert {outcome for _, outcome, _ in first} == {outcome for _, outcome, _ in kept}
    first = {key: row for key, row in first.items() if key[1].partition(" / ")[0] not in LEFT_OUT}
    assert len(first) >= 8 and differences(first, rows_of(tmp_path / "rows.csv")) == []


def test_the_comparison_itself(tiny, tmp_path):
    study = tiny("seeds = [0, 1]", "seeds = [0]\nrerun = true")
    for name in ("kept", "again"):
        run_study(study, tmp_path / name, ONE)
    kept, again = (rows_of(tmp_path / name / "rows.csv") for name in ("kept", "again"))
    assert study.rerun and len(kept) == 4 and differences(kept, again) == []
    key = ("southern-women", "model", "0")
    value = float(kept[key]["test_ndcg@20"])

    def against(**changed):
        return differences(kept | {key: kept[key] | changed}, again)

    assert len(against(**{"test_ndcg@20": str(value * (1 + 2e-6))})) == 1
    assert against(**{"test_ndcg@20": str(value * (1 + 5e-7))}) == []
    for changed in ({"test_recall@5": "0.987"}, {"bytes": "1"}, {"status": "failed"}):
        assert len(against(**changed)) == 1
    for other in ({"versions": "numpy 1.26.0"}, {"processor": "another"}):
        assert against(**other, **{"test_ndcg@20": str(value + 0.019)}) == []
        assert len(against(**other, **{"test_ndcg@20": str(value + 0.021)})) == 1
    assert len(differences(kept, {})) == len(differences({}, kept)) == 4
