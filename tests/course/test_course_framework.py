"""What marks the exercises: each kind of wrong answer gets its message, each right one passes however it is written."""

import dataclasses
import re

import numpy as np
import pytest
import scipy.sparse as sparse
from written_differently import typed

from c2f_np.course import all_exercises, exercise
from c2f_np.course.exercise import Exercise, Marked, Mistake


def gated(x, a):
    return np.tanh(a * x)


def gated_backward(grad_y, x, a):
    slope = grad_y * (1 - np.tanh(a * x) ** 2)
    return {"x": a * slope, "a": float(np.sum(x * slope))}


def at(seed):
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(4, 3)), "a": 0.7}


def without_slope(grad_y, x, a):
    return {"x": a * grad_y, "a": float(np.sum(x * grad_y))}


BACKWARD = Exercise(
    name="gated_backward",
    task="Write it.",
    solution=gated_backward,
    points=at,
    forward=gated,
    hints=("first", "second"),
    mistakes=(Mistake(without_slope, "the derivative of tanh is missing."),),
)


def outer(x, w):
    return x[:, None] * w[None, :]


OUTER = Exercise(
    name="outer",
    task="Write it.",
    solution=outer,
    points=lambda seed: {"x": np.arange(1.0, 4) + seed, "w": np.arange(5.0) - 1.5},
    mistakes=(Mistake(lambda x, w: x[:, None] + w, "a product is asked for, not a sum."),),
)
PAIR = Exercise("pair", "", lambda x: (x.sum(axis=0), x @ x.T), lambda seed: {"x": at(seed)["x"]})
NAMED = Exercise("named", "", lambda x: {"b": x.sum(axis=0), "a": x.sum(axis=1)}, lambda seed: {"x": at(seed)["x"][:3]})


def message(task, attempt):
    marked = task.mark(attempt)
    assert isinstance(marked, Marked)
    return "" if marked else marked.message


def right_with_other_names(cotangent, first, second):
    t = np.tanh(second * first)
    s = cotangent - cotangent * t * t
    return s * second, (s * first).sum()


def right_with_one_known_name(G, x, factor):
    return right_with_other_names(G, x, factor)


def right_with_any_arguments(*given):
    return right_with_other_names(*given)


def right_as_grad_dict(grad_y, x, a=None):
    return dict(reversed(typed(gated_backward)(grad_y, x, a).items()))


def right_with_a_slow_loop(g, x, a):
    grad_x, grad_a = np.zeros(x.shape), 0.0
    for place in np.ndindex(*x.shape):
        slope = g[place] / np.cosh(a * x[place]) ** 2
        grad_x[place] = a * slope
        grad_a += x[place] * slope
    return [grad_x, grad_a]


@pytest.mark.parametrize(
    "attempt",
    [
        typed(gated_backward),
        right_with_other_names,
        right_with_one_known_name,
        right_with_any_arguments,
        right_as_grad_dict,
        right_with_a_slow_loop,
    ],
)
def test_a_right_backward_however_it_is_written(attempt):
    assert message(BACKWARD, attempt) == ""
    assert BACKWARD.mark(attempt).message == "gated_backward: right."


@pytest.mark.parametrize(
    "attempt",
    [
        lambda a, b: np.outer(a, b),
        lambda a, b: np.outer(a, b).tolist(),
        lambda a, b: sparse.csr_array(np.outer(a, b)),
        lambda *both: np.einsum("i,j->ij", *both),
    ],
)
def test_a_right_result_however_it_is_written(attempt):
    assert message(OUTER, attempt) == ""


def unwritten(*given):
    raise NotImplementedError


def raising(x, w):
    return x @ w


def zeros(x, w):
    return np.zeros((len(x), len(w)))


def ragged(x, w):
    return [[1.0], [1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (unwritten, "not written yet"),
        (lambda x, w: None, r"nothing \(None\)"),
        (raising, "ends in ValueError: matmul"),
        (lambda x: x, r"takes 1 argument; it is called with 2: x, w\."),
        (outer(np.ones(3), np.ones(5)), "a function is asked for, not an ndarray"),
        (None, "a function is asked for, not a NoneType"),
        (lambda x, w: outer(w, x), r"the shape \(5, 3\), but should have \(3, 5\). Is a transpose missing"),
        (lambda x, w: outer(x, w)[:2], r"the shape \(2, 5\), but should have \(3, 5\)\.$"),
        (lambda x, w: 1.0, r"the shape \(\)"),
        (lambda x, w: (x, w), "asked for is 1 result, your function returns 2"),
        (lambda x, w: {"result": outer(x, w)}, "a dict is returned"),
        (lambda x, w: "outer", "is a str, not an array of numbers"),
        (lambda x, w: "1.5", "is a str, not an array of numbers"),
        (ragged, "is a list, not an array of numbers"),
        (lambda x, w: outer(x, w) * np.nan, "holds NaN or infinity"),
        (lambda x, w: outer(x, 1 / (w + 1.5)), "holds NaN or infinity"),
        (lambda x, w: x[:, None] + w, "a product is asked for, not a sum"),
        (zeros, "zero everywhere"),
        (lambda x, w: -outer(x, w), "wrong sign, and is right otherwise"),
        (lambda x, w: outer(x, w) / 4, "is 0.25 times what it should be"),
        (lambda x, w: outer(x, w).astype(np.float32) * np.float32(1.0000004), "of the type float32"),
        (lambda x, w: np.asarray(outer(x, w), np.float32).astype(float) * 1.0000004, "single precision"),
        (lambda x, w: np.where(np.arange(5) == 4, 0, outer(x, w)), "is 0 at .2, 4., but should be 7.5; 20% of its"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_wrong_results(attempt, words):
    with np.errstate(all="ignore"):
        marked = OUTER.mark(attempt)
    assert not marked
    assert marked.message.startswith("outer: ")
    assert re.search(words, marked.message), marked.message


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (unwritten, "not written yet"),
        (lambda g, x, a: None, "nothing"),
        (without_slope, "the derivative of tanh is missing."),
        (lambda g, x, a: gated_backward(g, x, a)["x"], "asked for are 2 results, your function returns 1"),
        (lambda g, x, a: {"x": g}, "asked for are x, a; your function returns x"),
        (lambda g, x, a: (g.T, 1.0), "result 1 has the shape"),
        (lambda g, x, a: (g, None), "result 2 is None"),
        (lambda g, x, a: (0 * g, 0.0), "the numerical check does not agree"),
        (lambda g, x, a: (-gated_backward(g, x, a)["x"], gated_backward(g, x, a)["a"]), "does not agree"),
        (lambda g, x, a: (gated_backward(g, x, a)["x"], 1.01 * gated_backward(g, x, a)["a"]), "does not agree"),
        (lambda g, x, a: (gated_backward(g, x, a)["x"], 0.0), "does not agree"),
    ],
)
def test_wrong_backwards(attempt, words):
    found = message(BACKWARD, attempt)
    assert words in found


def test_the_report_of_a_wrong_backward_names_the_argument():
    found = message(BACKWARD, lambda g, x, a: (gated_backward(g, x, a)["x"], 0.5))
    assert "gated_backward" in found and "central diff." in found


def spoils(task_solution, which):
    def attempt(*given):
        result = typed(task_solution)(*given)
        given[which][...] = 7
        return result

    return attempt


def test_inputs_must_stay_what_they_are():
    assert "changes its input x. Work on a copy" in message(OUTER, spoils(outer, 0))
    assert "changes its input w" in message(OUTER, spoils(outer, 1))
    assert "changes its input cotangent" in message(BACKWARD, spoils(gated_backward, 0))
    assert "changes its input x" in message(BACKWARD, spoils(gated_backward, 1))
    found = message(OUTER, spoils(lambda x, w: outer(x, w) + 1, 1))
    assert "changes its input w, and its numbers are wrong" in found


def test_inputs_inside_of_other_things_must_stay_too():
    @dataclasses.dataclass(frozen=True)
    class Batch:
        user: np.ndarray

    def points(seed):
        return {"batch": Batch(np.arange(3) + seed), "M": sparse.csr_array(np.eye(3)), "also": [np.ones(2)], "none": None}

    task = Exercise("inside", "", lambda batch, M, also, none: M @ batch.user, points)

    def changes_batch(batch, M, also, none):
        result = M @ batch.user
        batch.user[0] = 9
        return result

    def changes_matrix(batch, M, also, none):
        result = M @ batch.user
        M.data[1] = 5
        return result

    def changes_list(batch, M, also, none):
        also[0] *= 2
        return M @ batch.user

    assert task.mark(typed(task.solution))
    for attempt, name in ((changes_batch, "batch"), (changes_matrix, "M"), (changes_list, "also")):
        assert f"changes its input {name}" in message(task, attempt)


def test_several_results():
    assert PAIR.mark(lambda x: [np.ones(4) @ x, np.inner(x, x)])
    assert "returns 1" in message(PAIR, lambda x: x.sum(axis=0))
    assert "result 2" in message(PAIR, lambda x: (x.sum(axis=0), 2 * x @ x.T))
    assert "result 1 is zero everywhere" in message(PAIR, lambda x: (0 * x[0], x @ x.T))
    # By name in any order; by position in the order that was asked for, not in that of the alphabet.
    assert NAMED.mark(lambda x: {"a": x.sum(axis=1), "b": x.sum(axis=0)})
    assert NAMED.mark(lambda x: (x.sum(axis=0), x.sum(axis=1)))
    assert not NAMED.mark(lambda x: (x.sum(axis=1), x.sum(axis=0)))
    assert "asked for are b, a" in message(NAMED, lambda x: {"c": x})
    assert "returns 1" in message(NAMED, lambda x: x.sum(axis=0))


def test_several_outputs_have_several_cotangents():
    def split(x):
        return x[:2] * 2, x[2:] ** 2

    def split_backward(grads, x):
        return np.concatenate([2 * grads[0], 2 * x[2:] * grads[1]])

    task = Exercise("split", "", split_backward, lambda seed: {"x": at(seed)["x"]}, forward=split)
    assert task.mark(lambda G, values: np.vstack([G[0] + G[0], G[1] * values[2:] * 2]))
    assert not task.mark(lambda G, values: np.vstack([G[0], G[1] * values[2:] * 2]))


def test_a_function_that_is_right_only_once():
    calls = []

    def once(x, w):
        calls.append(0)
        if len(calls) > 1:
            raise RuntimeError("again?")
        return outer(x, w)

    assert "at the second your function ends in RuntimeError: again?" in message(OUTER, once)
    count = iter(range(100))
    assert "right at the first call, but not at the second" in message(OUTER, lambda x, w: outer(x, w) + next(count))
    count = iter(range(1000))
    found = message(BACKWARD, lambda g, x, a: (gated_backward(g, x, a)["x"] + next(count), gated_backward(g, x, a)["a"]))
    assert "right at the first call, but not at the second" in found


def test_a_function_that_is_right_at_the_first_point_only():
    kept = {}

    def remembered(x, w):
        return kept.setdefault("result", outer(x, w))

    assert not OUTER.mark(remembered)


def test_a_gradient_that_holds_on_one_branch_only():
    """Zeros are right where the derivative is zero. Other points tell."""

    def points(seed):
        return {"x": (-1.0 if seed == 0 else 1.0) * (np.arange(3.0) + 1)}

    options = {"zero_gradient": ()}
    task = Exercise("relu", "", lambda g, x: g * (x > 0), points, forward=lambda x: np.maximum(x, 0), options=options)
    assert not task.mark(lambda g, x: 0 * g)
    assert not task.mark(lambda g, x: 0 * g, seeds=(1, 2))
    assert task.mark(typed(task.solution), seeds=(1, 2))
    # A point at which the gradient is zero says nothing; the check does not count it as right.
    assert not task.mark(typed(task.solution), seeds=(0,))


def test_single_precision_is_asked_for_only_where_the_exercise_says_so():
    def in_double(g, x, a):
        found = typed(gated_backward)(g, x, a)
        return {"x": np.asarray(found["x"], dtype=np.float64), "a": found["a"]}

    assert BACKWARD.mark(in_double)
    strict = dataclasses.replace(BACKWARD, options={"dtypes": ("float64", "float32")})
    assert "the check finds more" in message(strict, in_double)


def test_a_diagnosis_needs_the_numbers_of_every_point():
    """At one point a doubled number may look like a squared one."""
    mistakes = (Mistake(lambda x: x * x, "do not square."), Mistake(lambda x: x + x, "do not double."))
    task = Exercise("same", "", lambda x: x * 1.0, lambda seed: {"x": np.array([2.0, 2.0 + seed])}, mistakes=mistakes)
    assert "do not double" in message(task, lambda x: 2 * x)
    assert "do not square" in message(task, lambda x: x**2)
    assert "is 4 at" not in message(task, lambda x: np.where(x == 2, 4.0, 7.0))
    undecided = task.mark(lambda x: 2 * x, seeds=(0,)).message
    assert "do not" not in undecided and "is 2 times what it should be" in undecided


def test_errors_of_shapes_are_told_with_the_shapes():
    def turned(grad_Y, M, X):
        return M @ grad_Y

    found = message(exercise("sparse_product_backward"), turned)
    assert "the cotangent (7, 3), M (7, 5), X (5, 3)" in found and "transpose" in found
    assert message(OUTER, lambda x, w: int("one")).endswith("`")  # the line, and no more


def test_other_forms_of_a_right_answer_are_read():
    task = dataclasses.replace(OUTER, read=lambda result, arguments: np.reshape(result, (3, 5)))
    assert task.mark(lambda x, w: typed(outer)(x, w).ravel()) and not task.mark(lambda x, w: -typed(outer)(x, w).ravel())
    backward = dataclasses.replace(BACKWARD, read=lambda result, arguments: {"x": result[1], "a": result[0]})
    assert backward.mark(lambda g, x, a: tuple(typed(gated_backward)(g, x, a).values())[::-1])
    numbers = Exercise("numbers", "", lambda x: (x.sum(), x.max()), lambda seed: {"x": at(seed)["x"]})
    assert numbers.mark(lambda x: np.array([x.sum(), x.max()])) and not numbers.mark(lambda x: np.array([x.max(), x.sum()]))


def test_small_numbers_are_compared_on_their_own_scale():
    task = Exercise("small", "", lambda x: x * 1e-20, lambda seed: {"x": np.arange(1.0, 4)})
    assert task.mark(lambda x: x / 1e20)
    assert "zero everywhere" in message(task, lambda x: 0 * x)
    assert "wrong sign" in message(task, lambda x: -x * 1e-20)
    assert not task.mark(lambda x: x * 1.001e-20)


def test_check_prints_once(capsys):
    marked = OUTER.check(unwritten)
    assert capsys.readouterr().out == "outer: not written yet. Write the function, then run the check again.\n"
    marked._ipython_display_()
    assert capsys.readouterr().out == ""
    OUTER.mark(unwritten)._ipython_display_()
    assert "not written yet" in capsys.readouterr().out
    assert repr(marked) == marked.message and not marked and marked == OUTER.mark(unwritten)


def test_hints_come_one_by_one_and_the_answer_is_source():
    task = dataclasses.replace(BACKWARD)
    assert [task.hint() for _ in range(3)] == ["Hint 1 of 2: first", "Hint 2 of 2: second", "Hint 2 of 2: second"]
    assert OUTER.hint() == "There is no hint for this one."
    assert task.answer().startswith("def gated_backward(grad_y, x, a):")
    assert repr(task) == "exercise gated_backward"
    assert task._repr_markdown_() == "**Exercise** `gated_backward`. Write it."


def test_exercises_are_found_by_name():
    for name, task in all_exercises().items():
        assert exercise(name).name == task.name == name
    with pytest.raises(KeyError, match="there is no exercise 'nonsense'"):
        exercise("nonsense")
