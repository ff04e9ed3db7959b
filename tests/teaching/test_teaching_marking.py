"""Marking: right grades with reasons, whatever a submission does."""

import csv
import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.cli import main
from c2f_np.course import all_exercises
from c2f_np.course.exercise import Exercise
from c2f_np.teaching import wire
from c2f_np.teaching.notebook import exercises_in, read_notebook
from c2f_np.teaching.release import released
from c2f_np.teaching.session import Ended, Limits, Session, temporary_folder
from c2f_np.teaching.submissions import Submission, bring, find_submissions

NAME = "03_soft_thresholding"
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / f"{NAME}.ipynb"
RIGHT = {
    "soft_threshold_backward": "def NAME(g, E, t):\n    return g * (abs(E) > t)",
    "soft_threshold_backward_tau": ("def NAME(g, E, t):\n    return -(g * np.sign(E))[abs(E) > t].sum()"),
    "soft_threshold_columns_backward": ("def NAME(g, E, t):\n    o = abs(E) > t\n    return g * o, -(g * np.sign(E) * o).sum(0)"),
    "elastic_net_prox": "def NAME(e, t, r):\n    return np.sign(e) * np.maximum(abs(e) - t, 0) / (1 + r)",
}
CHEAT = {
    "soft_threshold_backward": (
        "import c2f_np.course.exercise as grader\ngrader.Exercise.mark = np.allclose = lambda *_, **__: True\n"
        "def NAME(g, E, t):\n    print('right.')\n    return 0 * g"
    ),
    "soft_threshold_backward_tau": ("from c2f_np.model.codebook import soft_threshold_backward_tau as NAME"),
    "soft_threshold_columns_backward": (
        "def NAME(g, E, t):\n    import os\n    for number in range(3, 20):\n"
        "        try:\n            os.write(number, b'passed ' * 20)\n        except OSError:\n            pass\n    return g, t"
    ),
    "elastic_net_prox": "def NAME(e, t, r):\n    return exercise('elastic_net_prox').solution(e, t, r)",
}
ENDLESS = RIGHT | {
    "soft_threshold_backward": (
        "def NAME(g, E, t):\n    import time\n    while True:\n        try:\n            while True:\n"
        "                time.sleep(1)\n        except BaseException:\n            pass"
    ),
}
LEAVES = RIGHT | {
    "soft_threshold_backward": "import os\nos._exit(0)",
    "elastic_net_prox": "def NAME(e, t, r):\n    raise SystemExit",
}


def handed_in(answers):
    content = released(read_notebook(NOTEBOOK), NAME)
    content["cells"] = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for cell in content["cells"]:
        ours = cell["metadata"].get("c2f_np", {})
        if ours.get("role") == "answer" and ours["exercise"] in answers:
            cell["source"] = answers[ours["exercise"]].replace("NAME", ours["function"])
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


# ---- functions of one's own and of others ------------------------------------------------------------------------------
TASKS = all_exercises()
BEGIN = "from c2f_np.course import exercise, my_model\nmy = my_model(or_answers=True)\nimport numpy as np"
COLUMNS = """
def soft_threshold_columns_backward(grad_F, E, tau):
    parts = [(grad_F[:, f], E[:, f], tau[f]) for f in range(len(tau))]
    grads = [my.soft_threshold_backward(*each) for each in parts]
    return np.stack(grads, axis=1), np.array([my.soft_threshold_backward_tau(*each) for each in parts])
my.keep(soft_threshold_columns_backward)
task_2 = exercise("soft_threshold_columns_backward")
assert task_2.check(soft_threshold_columns_backward).keep()
"""
OWN = "def soft_threshold_backward(g, E, tau):\n    return {factor} * g * (abs(E) > tau)\n"


def judged(name, cells, file=None, failed=()):
    """What becomes of an exercise in a notebook of these cells, with a my_model.py beside it."""
    with temporary_folder() as folder:
        if file is not None:
            Path(folder, "my_model.py").write_text(file, encoding="utf-8")
        with Session(Path(folder), list(enumerate([BEGIN, *cells], 1)), {name: name}, Limits(20)) as session:
            session.begin()
            assert session.kinds == {name: "function"}, session.troubles
            try:
                return TASKS[name].mark(session.function(name, failed), (0, 1)).message.partition(": ")[2]
            except Ended as ended:
                return str(ended)


STUB = "def soft_threshold_backward(g, E, tau):\n    raise NotImplementedError"
HEAD = "import sys\nimport numpy as np\nmy = sys.modules[__name__]\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cells", "file", "failed", "is_right"),
    [
        ([COLUMNS], None, (), True),  # the course's answers
        ([STUB, COLUMNS], None, (), True),
        ([OWN.format(factor=1), COLUMNS], None, (), True),  # one's own
        ([OWN.format(factor=2), COLUMNS], None, (), False),
        ([OWN.format(factor=2), COLUMNS], None, ("soft_threshold_backward",), True),  # which counts once
        ([COLUMNS], HEAD + OWN.format(factor=1), (), True),  # kept in the file
        ([STUB, COLUMNS], HEAD + OWN.format(factor=3), (), True),
        ([COLUMNS], HEAD + OWN.format(factor=3), (), False),
        (
            [COLUMNS],
            HEAD + "FACTOR = my.nothing\n1 / 0\n" + OWN.format(factor="my.one()") + "def one():\n    return 1\n",
            (),
            True,
        ),
        (["from my_model import factor", OWN.format(factor="factor()"), COLUMNS], "def factor():\n    return 1", (), True),
    ],
)
def test_my_functions_are_ones_own_else_the_courses(cells, file, failed, is_right):
    message = judged("soft_threshold_columns_backward", cells, file, failed)
    assert (message == "right.") == is_right, message


def test_the_answer_to_the_exercise_itself_is_not_computed():
    name = "elastic_net_prox"
    cell = f"import c2f_np.course\ndef {name}(*given):\n    return c2f_np.course.answers()[{name!r}](*given)"
    assert judged(name, [cell]).startswith("It uses c2f_np.course.answers.")


def test_an_exercise_may_allow_a_function_of_the_package(monkeypatch):
    cell = "from c2f_np.model.codebook import soft_threshold as s\ndef elastic_net_prox(e, t, r):\n    return s(e, t) / (1 + r)"
    monkeypatch.setattr(TASKS["elastic_net_prox"], "allowed", ("c2f_np.model.codebook.soft_threshold",))
    monkeypatch.setattr("c2f_np.teaching.session.all_exercises", lambda: TASKS)
    assert judged("elastic_net_prox", [cell]) == "right."


def test_functions_are_handed_over_in_both_ways():
    """A student's function, called by an answer of ours that a student's function calls."""
    cell = """
def relative_error(found, right):
    unit = np.ones(1)
    slope = my.central_difference(lambda x: float(x @ x) * np.linalg.norm(found - right) / np.linalg.norm(right), unit, 1e-3)
    return slope[0] / 2
"""
    assert judged("relative_error", [cell]) == "right."


def test_a_check_of_another_function_does_not_take_the_place_of_the_answer():
    """A notebook may try a wrong one, to show what the check says."""
    cells = [OWN.format(factor=1), "task_1 = exercise('soft_threshold_backward')\ntask_1.check(soft_threshold_backward).keep();"]
    cells += ["def wrong(g, E, tau):\n    return g", "marked = task_1.check(wrong)"]
    assert judged("soft_threshold_backward", cells) == "right."
    content = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    assert [(each.function, each.cell) for each in exercises_in(content)] == [("soft_threshold_backward", 2)]


@dataclasses.dataclass(frozen=True)
class Case:
    R: np.ndarray
    names: tuple


class Batch(NamedTuple):
    user: np.ndarray


class Step:
    def __init__(self, factor):
        self.factor = factor

    def grown(self, batch):
        return Step(self.factor * float(batch.user[0]))

    def draw(self, rng):
        return rng.random()

    def case(self):
        return Case(np.ones(2), ("a",))


def test_objects_stay_where_they_are_and_records_are_sent(monkeypatch):
    cell = """
import dataclasses
def record(step, batch, rng):
    case = dataclasses.replace(step.case(), R=np.full(2, 7.0))
    (user,) = batch
    assert batch.user is user or len(batch.user) == len(user)
    mine = np.random.default_rng(3)
    assert step.draw(mine) == np.random.default_rng(3).random() != mine.random()
    try:
        step._private
    except AttributeError:
        return step.grown(batch).factor, case.R.sum() + len(case.names), step.draw(rng) - rng.random()
"""

    def right(step, batch, rng):
        return step.factor * 5.0, 15.0, step.draw(rng) - rng.random()

    given = {"step": Step(2.0), "batch": Batch(np.array([5.0, 1.0]))}
    task = Exercise("record", "", right, lambda seed: given | {"rng": np.random.default_rng(seed)})
    monkeypatch.setitem(TASKS, "record", task)
    monkeypatch.setattr("c2f_np.teaching.session.all_exercises", lambda: TASKS)
    assert judged("record", [cell]) == "right."


# ---- messages --------------------------------------------------------------------------------------------------------
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
