"""The graders of notebook 01: right answers however written, wrong ones with a word on what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest

from c2f_np.course import exercise
from c2f_np.course.gradient_checks import EXERCISES

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_checking_a_gradient.py"


def flattened(f, x, h):
    """Steps along the rows of an identity matrix."""
    units = np.eye(x.size).reshape(x.size, *x.shape)
    return np.array([(f(x + h * e) - f(x - h * e)) / h / 2 for e in units]).reshape(x.shape)


def moved_and_put_back(f, x, h):
    x, gradient = np.array(x), np.empty(x.shape)
    for k, old in np.ndenumerate(x):
        x[k] = old + h
        above = f(x)
        x[k] = old - h
        gradient[k] = (above - f(x)) / (2 * h)
        x[k] = old
    return gradient


def squares_by_hand(found, right):
    return (((found - right) ** 2).sum() / (right**2).sum()) ** 0.5


def in_terms_of_cosh(G, A, B):
    inner = G / np.cosh(A @ B) ** 2
    return np.einsum("ik,jk->ij", inner, B), np.einsum("ij,ik->jk", A, inner)


def padded(g, x):
    return np.concatenate([[0.0], g]) - np.concatenate([g, [0.0]])


def by_the_matrix(g, x):
    return np.diff(np.eye(len(x)), axis=0).T @ g


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("central_difference", flattened),
        ("central_difference", moved_and_put_back),
        ("relative_error", squares_by_hand),
        ("tanh_layer_backward", in_terms_of_cosh),
        ("differences_backward", padded),
        ("differences_backward", by_the_matrix),
    ],
)
def test_right_answers_written_differently_are_right(name, answer):
    assert exercise(name).mark(answer)


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_the_solution_is_right_and_shown(task):
    assert exercise(task.name).mark(task.solution)
    assert "def " in task.answer() and task.task and 2 <= len(task.hints) <= 4


LISTED = [(task, mistake) for task in EXERCISES for mistake in task.mistakes]


@pytest.mark.parametrize(("task", "mistake"), LISTED, ids=lambda x: getattr(x, "name", ""))
def test_listed_mistakes_are_named(task, mistake):
    marked = exercise(task.name).mark(mistake.function)
    assert not marked and mistake.message in marked.message


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_the_unwritten_zeros_and_the_negative_are_wrong(task):
    def unwritten(*arguments):
        raise NotImplementedError

    def scaled(factor):
        def answer(*arguments):
            result = task.solution(*arguments)
            return tuple(factor * part for part in result) if isinstance(result, tuple) else factor * result

        return answer

    assert "not written yet" in exercise(task.name).mark(unwritten).message
    assert not exercise(task.name).mark(scaled(0.0))
    assert not exercise(task.name).mark(scaled(-1.0))
    assert not exercise(task.name).mark(scaled(1.001))


def test_a_central_difference_that_leaves_its_input_moved_is_noticed():
    def leaves_it(f, x, h):
        gradient = np.empty(x.shape)
        for k in np.ndindex(*x.shape):
            x[k] += h
            above = f(x)
            x[k] -= 2 * h
            gradient[k] = (above - f(x)) / (2 * h)
        return gradient

    assert "changes its input x" in exercise("central_difference").mark(leaves_it).message


def test_the_folded_answers_of_the_notebook_are_right():
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in NOTEBOOK.read_text(encoding="utf-8").splitlines())
    answers = {}
    for block in re.findall(r"```python\n(def .*?)```", text, flags=re.DOTALL):
        exec(block, {"np": np}, answers)
    assert set(answers) == {task.name for task in EXERCISES}
    for name, answer in answers.items():
        assert exercise(name).mark(answer), name
