"""What holds for every exercise of the course. Right answers written differently stand in the file of each subject."""

from pathlib import Path

import pytest

from c2f_np.course import all_exercises, composition_and_bridging, soft_threshold, sparse_propagation

TASKS = list(all_exercises().values())
MISTAKES = [(task, mistake) for task in TASKS for mistake in task.mistakes]

#: Subjects whose folded answers are the solutions word for word, and whose results can be multiplied by a number.
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WITH_FOLDED_ANSWERS = [
    (task, notebook)
    for subject, notebook in (
        (sparse_propagation, "02_sparse_propagation.py"),
        (soft_threshold, "03_soft_thresholding.py"),
        (composition_and_bridging, "04_composition_and_bridging.py"),
    )
    for task in subject.EXERCISES
]


def name_of(part):
    return getattr(part, "name", "")


@pytest.mark.parametrize("task", TASKS, ids=name_of)
def test_the_solution_is_accepted(task):
    assert task.mark(task.solution), task.mark(task.solution).message


@pytest.mark.parametrize(("task", "mistake"), MISTAKES, ids=name_of)
def test_every_listed_mistake_is_told(task, mistake):
    marked = task.mark(mistake.function)
    assert not marked
    assert mistake.message in marked.message


@pytest.mark.parametrize("task", TASKS, ids=name_of)
def test_what_is_not_written_is_told_so(task):
    def unwritten(*arguments):
        raise NotImplementedError

    assert "not written yet" in task.mark(unwritten).message


@pytest.mark.parametrize("task", TASKS, ids=name_of)
def test_there_are_a_task_and_hints(task):
    assert "Write" in task.task or "def my_" in task.task
    assert 2 <= len(task.hints) <= 4
    assert task.answer().startswith("def ")


@pytest.mark.parametrize(("task", "notebook"), WITH_FOLDED_ANSWERS, ids=name_of)
@pytest.mark.parametrize("factor", [0.0, -1.0, 1.01])
def test_multiples_of_the_answer_are_rejected(task, notebook, factor):
    def multiple(*arguments):
        found = task.solution(*arguments)
        return tuple(factor * part for part in found) if isinstance(found, tuple) else factor * found

    assert not task.mark(multiple)


@pytest.mark.parametrize(("task", "notebook"), WITH_FOLDED_ANSWERS, ids=name_of)
def test_the_notebook_asks_for_it_and_its_folded_answer_is_the_solution(task, notebook):
    text = (NOTEBOOKS / notebook).read_text(encoding="utf-8")
    assert f'exercise("{task.name}")' in text
    commented = "\n".join(f"# {line}".rstrip() for line in task.answer().splitlines())
    assert commented in text
