"""Unfinished answers and odd forms are told in words; no answer, whatever it does, ends in an error of the grader's."""

import re
import warnings

import numpy as np
import pytest
import scipy.sparse as sparse
from posed import posed
from test_course_framework import BACKWARD, OUTER
from written_differently import typed

from c2f_np.course import all_exercises, exercise, my_model

TASKS = all_exercises()


# ---- not finished ----------------------------------------------------------------------------------------------------
def raising(x, w):
    raise NotImplementedError


def raising_with_a_reason(x, w):
    """To be written."""
    raise NotImplementedError("later")


def passing(x, w):
    pass


def documented(x, w):
    """The outer product."""


def dots(x, w): ...


def returning_dots(x, w):
    return ...


def returning_not_implemented(x, w):
    return NotImplemented


def half(x, w):
    x[:, None] * w[None, :]


def with_a_gap(x, w):
    column = ...
    return column * w


def with_a_name_to_come(x, w):
    return column * w  # noqa: F821


def calling_a_stub(x, w):
    return raising(x, w)


def giving_back(x, w):
    return w


def giving_both_back(grad_y, x, a):
    return grad_y, a


def leaving(x, w):
    raise SystemExit


def calling_itself(x, w):
    return calling_itself(w, x)


def taking_one(x):
    return x


def raised_by_scipy(x, w):
    return sparse.csr_array(np.eye(3)) ** np.eye(3)


def turned(x, w):
    row = x[None, :]
    return row @ w


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (raising, "outer: not written yet. Write the function, then run the check again.$"),
        (raising_with_a_reason, "not written yet"),
        *((each, r"not written yet: your function returns nothing \(None\)") for each in (passing, documented, dots)),
        (returning_dots, r"not written yet: your function returns nothing \(Ellipsis\)"),
        (returning_not_implemented, "not written yet"),
        (half, r"outer: your function returns nothing \(None\). Did you forget the return\?"),
        (with_a_gap, "there is a `...` left to be written\nin the line `return column . w`"),
        (with_a_name_to_come, "ends in NameError: name 'column' is not defined\nin the line `return column"),
        (calling_a_stub, "your function calls raising, which is not written yet"),
        (giving_back, "the shape"),
        (leaving, r"ends in RuntimeError: it leaves Python \(exit\)"),
        (calling_itself, "ends in RecursionError"),
        (taking_one, "your function takes 1 argument; it is called with 2: x, w"),
        (raised_by_scipy, "your function ends in"),
        (turned, r"ends in ValueError.*in the line `return row @ w`.*The shapes are: x \(3,\), w \(5,\)"),
        (calling_a_stub.__code__, "a function is asked for, not a code"),
    ],
)
def test_what_is_not_finished(attempt, words):
    assert re.search(words, OUTER.mark(attempt).message, flags=re.DOTALL), OUTER.mark(attempt).message


def test_what_gives_its_arguments_back():
    assert BACKWARD.mark(giving_both_back).message.endswith("returns what it is given, the cotangent and a, as it is.")
    task = exercise("elastic_net_prox")
    assert "returns what it is given, e, as it is" in task.mark(lambda e, tau, rho: e).message or task.mistakes


def test_a_function_of_ones_own_that_is_not_there_yet(tmp_path):
    my = my_model(tmp_path / "my_model.py")
    message = OUTER.mark(lambda x, w: my.column(x) * w).message
    assert "AttributeError: my_model.py has no column yet. Write it in its notebook" in message


# ---- right numbers in odd forms --------------------------------------------------------------------------------------
outer = typed(OUTER.solution)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (np.asmatrix, r"the result is an np.matrix, in which \* means another product. Return an array"),
        (np.ma.masked_array, "is a masked array. Return an ordinary one"),
        (lambda y: y.astype(object), "is an array of objects"),
        (lambda y: y.astype(complex), "is complex; real numbers are asked for"),
        (lambda y: (y,), "a tuple of one result is returned.* Does the line with return end in a comma"),
        (lambda y: {"y": y}, "a dict is returned; asked for is one result"),
        (lambda y: y[None], r"has the shape \(1, 3, 5\), but should have \(3, 5\)"),
        (lambda y: y.ravel(), r"has the shape \(15,\), but should have \(3, 5\)"),
        (lambda y: (row for row in y), "is a generator. Is there a yield"),
        (lambda y: y.copy, "is a function, copy, .* parentheses missing"),
        (lambda y: str(y), "is a str, not an array of numbers"),
        (lambda y: set(y.ravel()), "is a set, not an array of numbers"),
        (lambda y: y.astype(str), "is an ndarray, not an array of numbers"),
        (lambda y: (y * (1 + 3e-7)).astype(np.float32), "right to a few digits only, since it is of the type float32"),
        (lambda y: (y * (1 + 1e-3)).astype(np.float16), "of the type float16"),
        (lambda y: y.astype(np.int64), "but should be|is zero"),
    ],
)
def test_odd_forms(form, words):
    message = OUTER.mark(lambda x, w: form(outer(x, w))).message
    assert re.search(words, message, flags=re.DOTALL), message


@pytest.mark.parametrize("form", [np.asarray, list, sparse.csr_array, sparse.coo_matrix, lambda y: y.tolist(), np.asfortranarray])
def test_forms_in_which_a_right_result_is_right(form):
    assert OUTER.mark(lambda x, w: form(outer(x, w)))


def test_single_precision_in_a_backward():
    def in_single(grad_y, x, a):
        found = typed(BACKWARD.solution)(grad_y, x, a)
        return {"x": found["x"].astype(np.float32), "a": found["a"]}

    message = BACKWARD.mark(in_single).message
    assert "does not agree: result 1 is right to a few digits only, since it is of the type float32" in message
    without = BACKWARD.mark(lambda *given: typed(BACKWARD.solution)(*given) | {"a": 0.0}).message
    assert "does not agree: result 2 is 0, but should be" in without


# ---- anything --------------------------------------------------------------------------------------------------------
class LooksLikeAnArray:
    shape, dtype, ndim = (3,), np.dtype(float), 1

    def toarray(self):
        return self


def odd_results():
    yield from (0, 1.5, True, -1j, np.nan, np.inf, 10**400, "", b"x", "right", (), [], {}, set(), range(3), slice(2))
    yield from (((),), [[]], [None], (None, None), [1, [2]], [[1], [2, 3]], {"x": 1}, {1: 2}, ({},), [{}, {}], ("a", "b"))
    yield from (np.zeros(0), np.zeros((0, 3)), np.array(None), np.array("x"), np.ma.masked, np.asmatrix([[1.0]]))
    yield from (sparse.csr_array((3, 3)), sparse.csr_matrix((2, 5)), np.array([{}, []], dtype=object), np.datetime64("2020"))
    yield from (np.rec.array([(1, 2.0)]), (n for n in range(3)), print, np.sum, int, Ellipsis, NotImplemented, object())
    yield from (Exception("x"), LooksLikeAnArray(), np.random.default_rng(0), memoryview(b"abc"), np.float32(1), np.int8(3))


def odd_attempts():
    for result in odd_results():
        yield lambda *given, result=result: result
        yield lambda *given, result=result: (result, result)
    yield from (print, int, "no function", None, 3, np.add, lambda: 0, lambda a, b, c, d, e, f, g, h, i, j, k: 0, dict, object)

    def generator(*given):
        yield given

    def exits(*given):
        raise SystemExit(3)

    def warns(*given):
        warnings.warn("x", stacklevel=1)
        raise UserWarning

    def spoils(*given):
        for value in given:
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value[...] = 0
        return given[0]

    yield from (generator, exits, warns, spoils, lambda *given: given, lambda *given: given[0], lambda *given: given[-1])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.filterwarnings("ignore")
def test_no_answer_ends_in_an_error_of_the_graders(name):
    task = posed(TASKS[name])
    with np.errstate(all="ignore"):
        for attempt in odd_attempts():
            marked = task.mark(attempt, seeds=(0,))
            assert not marked and len(marked.message) > len(name) + 10
            assert "not right" not in marked.message and "Traceback" not in marked.message
