"""What holds for every exercise of the course: right answers pass however they are written, wrong ones hear what is missing."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse
from posed import posed
from written_differently import WRITTEN_DIFFERENTLY, typed

from c2f_np.course import all_exercises, find_the_bug, my_model
from c2f_np.course.data_and_graph import adjacency
from c2f_np.course.exercise import Exercise
from c2f_np.model import loss

TASKS = all_exercises()
ATTEMPTS = [
    pytest.param(TASKS[name], attempt, id=f"{name}-{k}")
    for name, attempts in WRITTEN_DIFFERENTLY.items()
    for k, attempt in enumerate(attempts)
]
#: What the folded answers use of their notebooks.
NAMES = {
    "np": np, "sparse": sparse, "bpr": loss, "dataclasses": dataclasses, "my": my_model("none.py", or_answers=True),
    "Batch": find_the_bug.Batch, "example": find_the_bug.example,
}  # fmt: skip


def folded_answers():
    """The functions under "Answer" in the notebooks and their sources, by name."""
    functions, sources = {}, {}
    for notebook in sorted((Path(__file__).parents[2] / "notebooks").glob("*.py")):
        text = re.sub(r"^# ?", "", notebook.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for block in re.findall(r"```python\n(def .*?)```", text, flags=re.DOTALL):
            exec(block, dict(NAMES), functions)
            sources[list(functions)[-1]] = block
    return functions, sources


FOLDED, FOLDED_SOURCES = folded_answers()
each_exercise = pytest.mark.parametrize("name", TASKS)


@each_exercise
def test_the_solution_is_accepted(name):
    """Also that it stands alone: what else it calls is another exercise's, or allowed."""
    marked = TASKS[name].mark(typed(TASKS[name].solution))
    assert marked, marked.message


@pytest.mark.parametrize(("task", "attempt"), ATTEMPTS)
def test_a_right_answer_written_differently_is_accepted(task, attempt):
    marked = task.mark(attempt)
    assert marked, marked.message


def test_no_exercise_is_without_another_answer_and_one_folded_in_a_notebook():
    assert set(WRITTEN_DIFFERENTLY) == set(FOLDED) == set(TASKS)


@each_exercise
def test_the_folded_answer_of_the_notebook_is_accepted(name):
    if FOLDED_SOURCES[name] != TASKS[name].answer():  # else it is the solution, marked above
        marked = TASKS[name].mark(FOLDED[name])
        assert marked, marked.message


@each_exercise
def test_every_listed_mistake_is_told(name):
    task = posed(TASKS[name])
    for mistake in task.mistakes:
        marked = task.mark(mistake.function)
        assert not marked and marked.message.startswith(f"{name}: ") and mistake.message in marked.message


@each_exercise
def test_there_are_a_task_and_hints(name):
    task = TASKS[name]
    assert ("Write" in task.task or "def my_" in task.task) and 2 <= len(task.hints) <= 4 and task.mistakes
    assert task.answer().startswith("def ")


@each_exercise
def test_what_is_not_written_is_told_so(name):
    def unwritten(*arguments):
        raise NotImplementedError

    assert "not written yet" in TASKS[name].mark(unwritten).message
    assert "nothing (None)" in TASKS[name].mark(lambda *given: None).message


@pytest.mark.parametrize("task", [task for task in TASKS.values() if type(task) is Exercise], ids=lambda task: task.name)
def test_multiples_of_the_answer_are_rejected(task):
    task = posed(task)

    def multiple(factor, result):
        if isinstance(result, dict):
            return {key: multiple(factor, part) for key, part in result.items()}
        return tuple(multiple(factor, part) for part in result) if isinstance(result, tuple) else factor * result

    for factor in (0.0, -1.0, 1.001):
        assert not task.mark(lambda *arguments, factor=factor: multiple(factor, task.solution(*arguments)), seeds=(0,)), factor


# ---- particular mistakes -----------------------------------------------------------------------------------------------


def test_solving_the_normal_equations_fails_on_dependent_rows():
    def attempt(H_entities, H_coarse, t):
        W = np.linalg.solve(H_coarse @ H_coarse.T, H_coarse @ H_entities.T).T
        return np.where(W >= np.sort(W, axis=1)[:, -t][:, None], W, 0.0)

    task = TASKS["least_squares_assignment"]
    assert task.mark(attempt, seeds=(0,)) and not task.mark(attempt)


def test_division_by_an_empty_degree_is_noticed():
    def careless(R):
        A_0 = adjacency(R).toarray()
        with np.errstate(all="ignore"):
            root = np.sqrt(A_0.sum(1))
            return A_0 / root / root[:, None]

    assert "NaN" in TASKS["normalised_adjacency"].mark(careless).message


def test_a_central_difference_that_leaves_its_input_moved_is_noticed():
    def leaves_it(f, x, h):
        gradient = np.empty(x.shape)
        for k in np.ndindex(*x.shape):
            x[k] += h
            above = f(x)
            x[k] -= 2 * h
            gradient[k] = (above - f(x)) / (2 * h)
        return gradient

    assert "changes its input x" in TASKS["central_difference"].mark(leaves_it).message


def test_what_no_mistake_lists_is_found_by_the_numerical_check():
    task = TASKS["bridged_propagate_backward"]
    assert "numerical check" in task.mark(lambda *arguments: 0.5 * task.solution(*arguments)).message


def test_every_reader_begins_without_a_hint():
    from c2f_np.course import exercise

    first = exercise("soft_threshold_backward")
    assert first.hint().startswith("Hint 1")
    assert exercise("soft_threshold_backward").hint().startswith("Hint 1")
    assert first.hint().startswith("Hint 2")
