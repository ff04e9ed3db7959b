"""The graders of notebook 10: tests however written that tell right code from wrong, and tests that do not."""

import re
from pathlib import Path

import numpy as np
import pytest

from c2f_np.course import exercise
from c2f_np.course.blind_spots import EXERCISES
from c2f_np.gradcheck import check_convention, check_gradients

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "10_blind_spots.py"


def product_by_the_checker(product, backward):
    rng = np.random.default_rng()
    return all(
        check_gradients(
            lambda X, M=M: product(M, X), lambda G, X, M=M: backward(G, M), {"X": rng.standard_normal((5, 2))}, linear_in="X"
        ).passed
        for M in (rng.standard_normal((3, 5)), rng.standard_normal((5, 5)))
    )


def product_by_units(product, backward):
    """One unit cotangent at a time, with assertions."""
    for n, m in ((3, 2), (3, 3)):
        M = np.arange(1.0, n * m + 1).reshape(n, m) ** 2
        for k in range(n):
            G = np.zeros((n, 1))
            G[k] = 1
            np.testing.assert_allclose(backward(G, M)[:, 0], M[k], rtol=1e-12)
    return True


def loss_by_the_checker(loss, backward):
    user, positive, negative = np.array([0, 0, 1, 0, 1]), np.array([2, 2, 3, 4, 2]), np.array([3, 4, 2, 3, 4])
    return check_gradients(
        lambda H: loss(H, user, positive, negative),
        lambda g, H: g * backward(H, user, positive, negative),
        {"H": np.random.default_rng(3).standard_normal((5, 2))},
    ).passed


def loss_along_directions(loss, backward):
    rng = np.random.default_rng(4)
    for _ in range(4):
        H = rng.standard_normal((8, 3))
        batch = rng.integers(0, 3, 20), rng.integers(3, 8, 20), rng.integers(3, 8, 20)
        v, h = rng.standard_normal(H.shape), 1e-5
        slope = (loss(H + h * v, *batch) - loss(H - h * v, *batch)) / (2 * h)
        if abs(slope - np.vdot(backward(H, *batch), v)) > 1e-8 * np.linalg.norm(v):
            return False
    return True


def threshold_by_the_checker(shrink, backward):
    for tau in (0.3, 1.7):
        E = tau * np.array([-30.0, -3, -0.5, 0.2, 0.8, 1.5, 40])
        pair = (lambda E, t=tau: shrink(E, t)), (lambda G, E, t=tau: backward(G, E, t))
        numbers = check_gradients(*pair, {"E": E}, dtypes=("float64",))
        corner = check_convention(backward, at={"E": np.array([tau, -tau]), "tau": tau}, expected={"E": np.zeros(2)})
        if not (numbers.passed and corner.passed):
            return False
    return True


def threshold_against_a_table(shrink, backward):
    E = np.array([-50.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 50.0])
    G = np.arange(1.0, 10.0)
    for tau, passes in ((2.0, [1, 0, 0, 0, 0, 0, 0, 0, 1]), (0.5, [1, 1, 1, 0, 0, 0, 1, 1, 1])):
        if (backward(G, E, tau) != G * passes).any():
            return False
    return True


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("check_of_a_product", product_by_the_checker),
        ("check_of_a_product", product_by_units),
        ("check_of_a_pairwise_loss", loss_by_the_checker),
        ("check_of_a_pairwise_loss", loss_along_directions),
        ("check_of_a_threshold", threshold_by_the_checker),
        ("check_of_a_threshold", threshold_against_a_table),
    ],
)
def test_right_answers_written_differently_are_right(name, answer):
    marked = exercise(name).mark(answer)
    assert marked, marked.message


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
def test_every_wrong_code_is_there_for_a_reason(task):
    """For each there is a listed test that lets it pass, and the solution rejects it."""
    messages = {mistake.message for mistake in task.mistakes}
    for candidate in task.wrong:
        assert candidate.message in messages | {m.message for m in task.wrong if "wrong sign" in m.message}
        try:
            accepted = task.solution(candidate.forward, candidate.backward)
        except ValueError:  # shapes do not fit
            accepted = False
        assert not accepted, candidate.message


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_tests_that_decide_nothing_are_wrong(task):
    def unwritten(forward, backward):
        raise NotImplementedError

    def nothing(forward, backward):
        task.solution(forward, backward)

    assert "not written yet" in exercise(task.name).mark(unwritten).message
    assert "None" in exercise(task.name).mark(nothing).message
    assert "accepts" in exercise(task.name).mark(lambda forward, backward: True).message
    assert "rejects right code" in exercise(task.name).mark(lambda forward, backward: False).message
    assert "rejects right code" in exercise(task.name).mark(lambda *both: not task.solution(*both)).message
    assert "True or False" in exercise(task.name).mark(lambda forward, backward: 1.0).message
    assert "ends in KeyError" in exercise(task.name).mark(lambda forward, backward: {}["missing"]).message
    assert not exercise(task.name).mark(3)


def test_the_folded_answers_of_the_notebook_are_right():
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in NOTEBOOK.read_text(encoding="utf-8").splitlines())
    answers = {}
    for block in re.findall(r"```python\n(def .*?)```", text, flags=re.DOTALL):
        exec(block, {"np": np}, answers)
    assert set(answers) == {task.name for task in EXERCISES}
    for name, answer in answers.items():
        assert exercise(name).mark(answer), name
