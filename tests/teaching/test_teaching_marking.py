"""Marking: right grades with reasons, whatever a submission does."""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.cli import main
from c2f_np.course import all_exercises
from c2f_np.teaching import wire
from c2f_np.teaching.notebook import read_notebook
from c2f_np.teaching.release import released
from c2f_np.teaching.submissions import Submission, bring, find_submissions

NAME = "03_soft_thresholding"
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / f"{NAME}.ipynb"
RIGHT = {
    "soft_threshold_backward": "def my_soft_threshold_backward(g, E, t):\n    return g * (abs(E) > t)",
    "soft_threshold_backward_tau": (
        "def my_soft_threshold_backward_tau(g, E, t):\n    return -(g * np.sign(E))[abs(E) > t].sum()"
    ),
    "soft_threshold_columns_backward": (
        "def my_soft_threshold_columns_backward(g, E, t):\n    o = abs(E) > t\n    return g * o, -(g * np.sign(E) * o).sum(0)"
    ),
    "elastic_net_prox": "def my_prox(e, t, r):\n    return np.sign(e) * np.maximum(abs(e) - t, 0) / (1 + r)",
}
CHEAT = {
    "soft_threshold_backward": (
        "import c2f_np.course.exercise as grader\ngrader.Exercise.mark = np.allclose = lambda *_, **__: True\n"
        "def my_soft_threshold_backward(g, E, t):\n    print('right.')\n    return 0 * g"
    ),
    "soft_threshold_backward_tau": (
        "from c2f_np.model.codebook import soft_threshold_backward_tau as my_soft_threshold_backward_tau"
    ),
    "soft_threshold_columns_backward": (
        "def my_soft_threshold_columns_backward(g, E, t):\n    import os\n    for number in range(3, 20):\n"
        "        try:\n            os.write(number, b'passed ' * 20)\n        except OSError:\n            pass\n    return g, t"
    ),
    "elastic_net_prox": "def my_prox(e, t, r):\n    return exercise('elastic_net_prox').solution(e, t, r)",
}
ENDLESS = RIGHT | {
    "soft_threshold_backward": (
        "def my_soft_threshold_backward(g, E, t):\n    while True:\n        try:\n            while True:\n"
        "                pass\n        except BaseException:\n            pass"
    ),
}
LEAVES = RIGHT | {
    "soft_threshold_backward": "import os\nos._exit(0)",
    "elastic_net_prox": "def my_prox(e, t, r):\n    raise SystemExit",
}


def handed_in(answers):
    content = released(read_notebook(NOTEBOOK), NAME)
    content["cells"] = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for cell in content["cells"]:
        ours = cell["metadata"].get("c2f_np", {})
        if ours.get("role") == "answer" and ours["exercise"] in answers:
            cell["source"] = answers[ours["exercise"]]
    return json.dumps(content)


@pytest.mark.slow
def test_three_false_submissions_and_others(tmp_path):
    submissions, release, out = (tmp_path / name for name in ("in", "release", "out"))
    (submissions / "Ann Ångström" / "my work").mkdir(parents=True)
    (submissions / "Ann Ångström" / "my work" / "copy (1).ipynb").write_text(handed_in(RIGHT))
    (submissions / "=cheat().ipynb").write_text(handed_in(CHEAT))
    (submissions / "endless.ipynb").write_text(handed_in(ENDLESS))
    (submissions / "leaves.ipynb").write_text(handed_in(LEAVES))
    (submissions / "broken.ipynb").write_text('{"cells": [')
    (submissions / "nothing").mkdir()
    with zipfile.ZipFile(submissions / "half.zip", "w") as archive:
        archive.writestr("x/03.ipynb", handed_in({"elastic_net_prox": RIGHT["elastic_net_prox"]}))
    release.mkdir()
    (release / f"{NAME}.ipynb").write_text(json.dumps(released(read_notebook(NOTEBOOK), NAME)))
    words = ["course", "mark", str(submissions), "--release", str(release), "--out", str(out), "--seed", "5", "--time-limit", "8"]
    assert main(words) == 0
    lines = list(csv.DictReader(io.StringIO((out / "grades.csv").read_text(encoding="utf-8-sig"))))
    points = {line["student"]: int(line["points"]) for line in lines}
    assert points == {
        "'=cheat()": 0, "Ann Ångström": 4, "broken": 0, "endless": 3, "half": 1, "leaves": 2, "nothing": 0,
    }  # fmt: skip
    record = json.loads((out / "marking.json").read_text(encoding="utf-8"))
    reasons = {s["student"]: {g["exercise"]: g["reason"] for g in s["grades"]} for s in record["submissions"]}
    assert record["seeds"] == [5, 6, 7, 8, 9, 10]
    assert "does not agree" in reasons["=cheat()"]["soft_threshold_backward"]
    assert "soft_threshold_backward_tau" in reasons["=cheat()"]["soft_threshold_backward_tau"]
    assert "channel" in reasons["=cheat()"]["soft_threshold_columns_backward"]
    assert "solution" in reasons["=cheat()"]["elastic_net_prox"]
    assert "did not end within 8 seconds" in reasons["endless"]["soft_threshold_backward"]
    assert "ended its process" in reasons["leaves"]["soft_threshold_backward"]
    assert "could not be read" in reasons["broken"]["elastic_net_prox"]
    assert "not written yet" in reasons["half"]["soft_threshold_backward"]
    assert len(list((out / "reports").glob("*.html"))) == 7
    assert main(words) == 2, "marks are not overwritten"


class Numbers(wire.Here):
    def function(self, number):
        return number


def there_and_back(value):
    stream = io.BytesIO()
    wire.send(stream, {"value": value}, wire.Here())
    stream.seek(0)
    return wire.receive(stream, Numbers())["value"]


def test_values_arrive_as_they_were():
    for value in (None, True, 3, 0.1, float("inf"), "é\n", (1, [2.5, None]), {"a": (1,)}, 2 + 1j):
        assert there_and_back(value) == value and type(there_and_back(value)) is type(value)
    for array in (np.eye(3)[:, ::2], np.zeros((0, 4)), np.array(7, np.float32), np.arange(4)):
        found = there_and_back(array)
        assert found.dtype == array.dtype and np.array_equal(found, array)
    assert (there_and_back(sparse.csr_array(np.eye(3))) != sparse.eye_array(3)).nnz == 0
    assert type(there_and_back(object())).__name__ == "object"
    assert there_and_back(print) == 0


@pytest.mark.parametrize("name", all_exercises())
def test_what_an_exercise_gives_can_be_sent(name):
    for value in all_exercises()[name].points(123).values():
        assert callable(value) or not isinstance(there_and_back(value), wire.Unknown)


@pytest.mark.parametrize(
    "header",
    [
        b"[]", b"{", b'{"array": ["<f8", [1000000000000], 0, true]}', b'{"array": ["|O", [1], 0, true]}', b"7",
        b'{"csr": [1, 2, 3, 4]}', b'{"dict": [[{"list": []}, 1]]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_hostile_messages_are_refused(header):
    stream = io.BytesIO(len(header).to_bytes(8, "big") + bytes(8) + header)
    with pytest.raises(wire.WireError):
        wire.receive(stream)


def test_zip_files_stay_in_their_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "Eve.zip", "w") as archive:
        archive.writestr("../../evil.txt", "x")
        archive.writestr("/abs/x.txt", "x")
    (tmp_path / "Bo.zip").write_bytes(b"no zip")
    found = find_submissions(tmp_path)
    assert [each.student for each in found] == ["Bo", "Eve"]
    assert "could not be unpacked" in bring(found[0], tmp_path / "b")[0]
    assert bring(found[1], tmp_path / "deep" / "e") == []
    written = {path.relative_to(tmp_path / "deep" / "e").as_posix() for path in (tmp_path / "deep").rglob("*.txt")}
    assert written == {"Eve/evil.txt", "Eve/abs/x.txt"}


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "Ann").mkdir()
    (tmp_path / "Ann" / "link.txt").symlink_to(tmp_path / "secret.txt")
    bring(Submission("Ann", [tmp_path / "Ann"]), tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob("*.txt"))
