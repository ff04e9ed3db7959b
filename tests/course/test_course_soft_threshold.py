"""The exercises on soft thresholding accept what is right, however it is written, and say what is wrong with the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from c2f_np.course.soft_threshold import EXERCISES

TASKS = {task.name: task for task in EXERCISES}


def _product_with_a_mask(grad_F, E, tau):
    return grad_F * ((E > tau) | (E < -tau))


def _entry_by_entry(grad_F, E, tau):
    total = 0.0
    for g, e in zip(grad_F.ravel(), E.ravel(), strict=True):
        total += -g if e > tau else g if e < -tau else 0.0
    return total


def _column_by_column(grad_F, E, tau):
    columns = range(E.shape[1])
    masked = np.stack([_product_with_a_mask(grad_F[:, f], E[:, f], tau[f]) for f in columns], axis=1)
    return masked, np.array([_entry_by_entry(grad_F[:, f], E[:, f], tau[f]) for f in columns])


def _elastic_by_cases(e, tau, rho):
    return np.where(e > tau, (e - tau) / (1 + rho), np.where(e < -tau, (e + tau) / (1 + rho), 0.0))


NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_soft_thresholding.py"
WRITTEN_DIFFERENTLY = {
    "soft_threshold_backward": _product_with_a_mask,
    "soft_threshold_backward_tau": _entry_by_entry,
    "soft_threshold_columns_backward": _column_by_column,
    "elastic_net_prox": _elastic_by_cases,
}
MISTAKES = [(task, mistake) for task in EXERCISES for mistake in task.mistakes]


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_the_solution_is_accepted(task):
    assert task.mark(task.solution), task.mark(task.solution).message


@pytest.mark.parametrize("name", TASKS)
def test_a_right_answer_written_differently_is_accepted(name):
    marked = TASKS[name].mark(WRITTEN_DIFFERENTLY[name])
    assert marked, marked.message


@pytest.mark.parametrize(("task", "mistake"), MISTAKES, ids=lambda part: getattr(part, "name", ""))
def test_every_listed_mistake_is_told(task, mistake):
    marked = task.mark(mistake.function)
    assert not marked
    # A form that is not the one asked for is told before.
    assert mistake.message in marked.message


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_what_is_not_written_is_told_so(task):
    def unwritten(*arguments):
        raise NotImplementedError

    assert "not written yet" in task.mark(unwritten).message


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
@pytest.mark.parametrize("factor", [0.0, -1.0, 1.01])
def test_multiples_of_the_answer_are_rejected(task, factor):
    def multiple(*arguments):
        found = task.solution(*arguments)
        return tuple(factor * part for part in found) if isinstance(found, tuple) else factor * found

    assert not task.mark(multiple)


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_every_exercise_has_a_task_and_hints(task):
    assert "def my_" in task.task
    assert 2 <= len(task.hints) <= 4
    assert task.answer().startswith("def ")


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_the_notebook_asks_for_it_and_its_folded_answer_is_the_solution(task):
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert f'exercise("{task.name}")' in text
    commented = "\n".join(f"# {line}".rstrip() for line in task.answer().splitlines())
    assert commented in text
