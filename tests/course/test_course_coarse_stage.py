"""Exercises on the coarse stage: right answers in any form are accepted, each listed mistake is named."""

import numpy as np
import pytest
import scipy.linalg

from c2f_np.course import exercise
from c2f_np.course.coarse_stage import EXERCISES

MISTAKES = [(task.name, number) for task in EXERCISES for number in range(len(task.mistakes))]
NAMES = [task.name for task in EXERCISES]


def backward_with_dense_powers(G, E, S, graph, at_H, factors, depth):
    """The propagation as one dense matrix, the three ways apart."""
    S, graph = S.toarray(), graph.toarray()
    n = len(S)
    P = sum(np.linalg.matrix_power(graph, k) for k in range(depth + 1)) / (depth + 1)
    sech2 = 1 / np.cosh(S @ E) ** 2
    through_graph = S.T @ (sech2 * (P[:n, :n].T @ at_H))
    through_penalty = 2 * S.T @ (sech2 * (np.diag(factors) @ np.tanh(S @ E)))
    return G * (through_graph + through_penalty + P[:n, n:].T @ at_H)


def assignment_by_lstsq(targets, rows, kept):
    """Least squares by SciPy, entries chosen one after the other; a sparse result is as good."""
    W = scipy.linalg.lstsq(rows.T, targets.T)[0].T
    found = np.zeros_like(W)
    for i, weights in enumerate(W):
        for j in np.argpartition(-weights, kept - 1)[:kept]:
            found[i, j] = weights[j]
    return found


DIFFERENTLY = {"coarse_stage_backward": backward_with_dense_powers, "least_squares_assignment": assignment_by_lstsq}


@pytest.mark.parametrize("name", NAMES)
def test_solution_is_right(name):
    task = exercise(name)
    marked = task.mark(task.solution)
    assert marked, marked.message
    assert "def " in task.answer()


@pytest.mark.parametrize("name", NAMES)
def test_written_differently_is_right(name):
    marked = exercise(name).mark(DIFFERENTLY[name])
    assert marked, marked.message


@pytest.mark.parametrize(("name", "number"), MISTAKES)
def test_mistake_is_named(name, number):
    task = exercise(name)
    mistake = task.mistakes[number]
    marked = task.mark(mistake.function)
    assert not marked
    assert mistake.message in marked.message


def test_solving_the_normal_equations_fails_on_dependent_rows():
    def attempt(H_entities, H_coarse, t):
        W = np.linalg.solve(H_coarse @ H_coarse.T, H_coarse @ H_entities.T).T
        return np.where(W >= np.sort(W, axis=1)[:, -t][:, None], W, 0.0)

    assert exercise("least_squares_assignment").mark(attempt, seeds=(0,))
    assert not exercise("least_squares_assignment").mark(attempt)


@pytest.mark.parametrize("name", NAMES)
def test_not_written(name):
    def empty(*arguments):
        raise NotImplementedError

    assert "not written yet" in exercise(name).mark(empty).message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_zeros_and_the_negative_are_wrong(name, factor):
    task = exercise(name)
    assert not task.mark(lambda *arguments: factor * task.solution(*arguments))
