"""The exercise on the fine stage: right answers in any form are accepted, each listed mistake is named."""

import numpy as np
import pytest

from c2f_np.course import exercise
from c2f_np.course.fine_stage import EXERCISES

TASK = EXERCISES[0].name


def way_by_way(G, Ef, Ec, Sc, Sf, layer, at_H, factors, threshold, g, depth):
    """One dense matrix for all layers; the four ways apart; the threshold as a product of two signs."""
    Sc, Sf, layer = Sc.toarray(), Sf.toarray(), layer.toarray()
    n, c = Sc.shape
    P = sum(np.linalg.matrix_power(layer, k) for k in range(depth + 1))[:n] / (depth + 1)
    F = np.sign(Ef) * np.maximum(np.abs(Ef) - threshold, 0)
    Y = Sc @ (g * Sf @ F + (1 - g) * Ec)
    sech2 = np.cosh(Y) ** -2.0
    ways = [
        g * Sf.T @ P[:, n : n + c].T @ at_H,
        np.cosh(F) ** -2.0 * (P[:, n + c :].T @ at_H),
        g * (Sc @ Sf).T @ (sech2 * (P[:, :n].T @ at_H)),
        g * (Sc @ Sf).T @ (sech2 * 2 * factors[:, None] * np.tanh(Y)),
    ]
    return {"E_fine": G * sum(ways) * (F != 0)}


def test_solution_is_right():
    marked = exercise(TASK).mark(exercise(TASK).solution)
    assert marked, marked.message
    assert "def " in exercise(TASK).answer()


def test_written_differently_is_right():
    marked = exercise(TASK).mark(lambda *arguments: way_by_way(*arguments)["E_fine"])
    assert marked, marked.message


@pytest.mark.parametrize("number", range(len(EXERCISES[0].mistakes)))
def test_mistake_is_named(number):
    mistake = exercise(TASK).mistakes[number]
    marked = exercise(TASK).mark(mistake.function)
    assert not marked
    assert mistake.message in marked.message


def test_an_unlisted_mistake_is_found_by_the_check():
    def halved(*arguments):
        return 0.5 * exercise(TASK).solution(*arguments)

    assert "numerical check" in exercise(TASK).mark(halved).message


def test_not_written():
    def empty(*arguments):
        raise NotImplementedError

    assert "not written yet" in exercise(TASK).mark(empty).message


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_zeros_and_the_negative_are_wrong(factor):
    assert not exercise(TASK).mark(lambda *arguments: factor * exercise(TASK).solution(*arguments))
