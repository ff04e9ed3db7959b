"""What students are given: no answers, every exercise, cells that say what they are."""

import re
from pathlib import Path

import pytest

from c2f_np.cli import main
from c2f_np.course import all_exercises, exercise
from c2f_np.teaching.notebook import exercises_in, read_notebook
from c2f_np.teaching.release import find_notebooks, released
from c2f_np.teaching.slides import slides_of

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_the_release_asks_for_every_exercise_and_answers_none():
    asked = {}
    for path in find_notebooks(NOTEBOOKS):
        content = released(read_notebook(path), path.stem)
        asked |= {each.exercise: each for each in exercises_in(content)}
        texts = ["".join(cell["source"]) for cell in content["cells"]]
        ids = [cell["id"] for cell in content["cells"]]
        assert len(set(ids)) == len(ids)
        for text in texts:
            assert not re.search(r"```python\ndef ", text) and not re.search(r"\bexercise\(\"\w+\"\)", text)
        roles = [cell["metadata"]["c2f_np"]["role"] for cell in content["cells"] if "c2f_np" in cell["metadata"]]
        assert roles == ["answer", "check"] * (len(roles) // 2)
    assert set(asked) == set(all_exercises())


def test_predictions_keep_their_answers():
    content = released(read_notebook(NOTEBOOKS / "03_soft_thresholding.ipynb"), "03_soft_thresholding")
    text = "\n".join("".join(cell["source"]) for cell in content["cells"])
    kept = re.findall(r"<summary>(.*?)</summary>", text)
    assert "Answer" not in kept and "= 0.505" in text, "of the exercises none, of the prediction its answer"


def test_an_exercise_without_its_answer():
    task = exercise("soft_threshold_backward", with_answer=False)
    assert task.hint().startswith("Hint 1") and "lecturer" in task.answer() and not hasattr(task, "solution")
    assert task.mark(lambda g, E, tau: g * (abs(E) > tau)).points == 1 and task.mark(lambda *_: None).points == 0


def test_metadata_are_those_of_nbgrader():
    content = released(read_notebook(NOTEBOOKS / "03_soft_thresholding.ipynb"), "x", for_nbgrader=True)
    cells = {c["metadata"]["nbgrader"]["grade_id"]: c for c in content["cells"] if "nbgrader" in c["metadata"]}
    assert len(cells) == 8
    for name, cell in cells.items():
        found = cell["metadata"]["nbgrader"]
        assert found["schema_version"] == 3 and re.fullmatch(r"[\w-]+", name)
        is_answer = name.startswith("answer-")
        assert (found["solution"], found["grade"], found["locked"], found.get("points")) == (
            (True, False, False, None) if is_answer else (False, True, True, 1)
        )
        assert ("### BEGIN SOLUTION" in cell["source"]) == is_answer == (".points" not in cell["source"])


def test_a_release_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x")
    words = ["course", "release", "03", "--from", str(NOTEBOOKS), "--out"]
    assert main([*words, str(tmp_path)]) == 2 and "new folder" in capsys.readouterr().err
    assert main([*words[:2], "77", *words[3:], str(tmp_path / "new")]) == 2 and "77" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["03_soft_thresholding", "09_does_it_work"])
def test_slides_hold_one_idea(name):
    pytest.importorskip("nbconvert")
    slides = slides_of(read_notebook(NOTEBOOKS / f"{name}.ipynb"))
    assert len(slides) > 20 and slides[0].level == 1
    for slide in slides:
        assert slide.title and (slide.lines <= 11 or len(slide.shown) == 1)
        assert "def soft_threshold_backward(" not in "".join(slide.shown)
    assert any(slide.notes for slide in slides)
    outputs = [each for cell in read_notebook(NOTEBOOKS / f"{name}.ipynb")["cells"] for each in cell.get("outputs", [])]
    pictures = sum("image/png" in each.get("data", {}) for each in outputs)
    assert sum("<img" in "".join(slide.shown) for slide in slides) == pictures > 0


def test_slides_say_what_they_need(tmp_path, capsys):
    words = ["course", "slides", "03", "--from", str(NOTEBOOKS), "--out", str(tmp_path / "s"), "--assets", str(tmp_path)]
    assert main(words) == 2 and "npm install" in capsys.readouterr().err and not (tmp_path / "s").exists()
