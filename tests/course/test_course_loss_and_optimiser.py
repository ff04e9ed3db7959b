"""Exercises on the loss: right answers in any form are accepted, each listed mistake is named."""

import numpy as np
import pytest

from c2f_np.course import exercise
from c2f_np.course.loss_and_optimiser import EXERCISES

MISTAKES = [(task.name, number) for task in EXERCISES for number in range(len(task.mistakes))]
NAMES = [task.name for task in EXERCISES]


def bpr_with_matrices(G, emb, b, u, i, j):
    """Other names; one-hot matrices instead of np.add.at; the slope by tanh."""
    n = len(emb)
    one_hot_u, one_hot_i, one_hot_j = (np.eye(n)[rows] for rows in (u, i, j))
    difference = one_hot_j - one_hot_i
    x = np.sum((one_hot_u @ emb) * (difference @ emb), axis=1) + difference @ b
    s = G * (1 + np.tanh(x / 2)) / 2 / len(u)
    rows = s[:, None] * np.concatenate([difference @ emb, one_hot_u @ emb], axis=1)
    width = emb.shape[1]
    return one_hot_u.T @ rows[:, :width] + difference.T @ rows[:, width:], difference.T @ s


def penalty_in_a_loop(G, Z, first, second, third, strength):
    grad = np.zeros_like(Z)
    for triple in zip(first, second, third, strict=True):
        for e in triple:
            grad[e] = grad[e] + G * 2 * strength * Z[e] / len(first)
    return grad


def adam_rearranged(w, grad, mean, square, k, lr, c):
    grad = np.minimum(np.maximum(grad, -c), c)
    mean = mean + 0.1 * (grad - mean)
    square = square + 0.001 * (grad**2 - square)
    step = lr / (1 - 0.9**k) * mean / (np.sqrt(square) / np.sqrt(1 - 0.999**k) + 1e-8)
    return [w - step, mean, square]


DIFFERENTLY = {"bpr_backward": bpr_with_matrices, "penalty_backward": penalty_in_a_loop, "one_adam_step": adam_rearranged}


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


@pytest.mark.parametrize("name", NAMES)
def test_not_written(name):
    def empty(*arguments):
        raise NotImplementedError

    assert "not written yet" in exercise(name).mark(empty).message


@pytest.mark.parametrize("name", NAMES)
def test_zeros_and_the_negative_are_wrong(name):
    task = exercise(name)

    def times(factor):
        def attempt(*arguments):
            found = task.solution(*arguments)
            return tuple(factor * part for part in found) if isinstance(found, tuple) else factor * found

        return attempt

    assert not task.mark(times(0.0))
    assert not task.mark(times(-1.0))


@pytest.mark.parametrize("name", NAMES)
def test_hints_go_on_and_stay(name):
    task = exercise(name)
    task._hints_given = 0
    hints = [task.hint() for _ in range(len(task.hints) + 1)]
    assert len(set(hints)) == len(task.hints) and hints[-1] == hints[-2]
    task._hints_given = 0
