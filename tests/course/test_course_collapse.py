"""The exercises on the collapsed fine stage: right answers pass however they are written, wrong ones hear what is missing."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from c2f_np.course import collapse, exercise

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "08_the_collapse.py"


def backward_by_loops(g, codebook, constant, first, second):
    result = np.zeros(codebook.shape)
    for entity in range(len(g)):
        for row in range(len(codebook)):
            result[row] += first[entity, row] * g[entity] + second[entity, row] * g[entity] / np.cosh(codebook[row]) ** 2
    return result


def backward_of_the_package(g, F, K, W1, W2):
    from c2f_np.model.propagation import CollapsedPropagation, propagate_collapsed_backward

    collapsed = CollapsedPropagation(K, np.concatenate([W1, W2], axis=1), None, None)
    grad_F, grad_tanh_F = propagate_collapsed_backward(g, collapsed, rows=np.arange(len(g)))
    return grad_F + grad_tanh_F - grad_tanh_F * np.tanh(F) ** 2


def count_as_one_expression(nnz, R, M, d, L):
    return [L * nnz * d + L * nnz * d, 4 * M * d * R, L * (nnz * M + nnz * M + nnz * d)]


def collapse_by_columns(P, S_c, E_c, S_f, g):
    """Whatever is linear can be read off by putting units in."""

    def start(F, E):
        E_hat = g * S_f @ F + (1 - g) * E
        return np.concatenate([S_c @ E_hat, E_hat, np.zeros((S_f.shape[1], F.shape[1]))])

    m = S_f.shape[1]
    W1 = P @ start(np.eye(m), np.zeros((len(E_c), m)))
    W2 = P @ np.concatenate([np.zeros((P.shape[1] - m, m)), np.eye(m)])
    return P @ start(np.zeros((m, E_c.shape[1])), E_c), W1, W2


DIFFERENT = {
    "collapsed_backward": (backward_by_loops, backward_of_the_package),
    "multiplications": (count_as_one_expression,),
    "collapse_without_tanh": (collapse_by_columns,),
}


def test_every_exercise_is_here():
    assert {task.name for task in collapse.EXERCISES} == set(DIFFERENT)


@pytest.mark.parametrize("name", DIFFERENT)
def test_right_answers(name):
    task = exercise(name)
    for attempt in (task.solution, *DIFFERENT[name]):
        assert task.mark(attempt), task.mark(attempt).message


@pytest.mark.parametrize("name", DIFFERENT)
def test_wrong_answers(name):
    task = exercise(name)
    for mistake in task.mistakes:
        assert task.mark(mistake.function).message == f"{name}: {mistake.message}"

    def unwritten(*given):
        raise NotImplementedError

    def times(factor):
        def attempt(*given):
            result = task.solution(*given)
            return tuple(factor * part for part in result) if isinstance(result, tuple) else factor * result

        return attempt

    assert "not written yet" in task.mark(unwritten).message
    for factor in (0, -1, 1.01):
        assert not task.mark(times(factor))


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_folded_answer_is_the_solution(name):
    """The notebook's text shows the body of the solution that the tests accept."""
    text = NOTEBOOK.read_text(encoding="utf-8").replace("# ", "", 1)
    lines = [line.removeprefix("# ").rstrip() for line in text.splitlines()]
    body = inspect.getsource(exercise(name).solution).rstrip().splitlines()[1:]
    first = lines.index(body[0])
    assert lines[first : first + len(body)] == body
