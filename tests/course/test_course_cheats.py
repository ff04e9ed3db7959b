"""Answers that the package computes are told apart, kindly, from those that their reader wrote."""

from __future__ import annotations

import copy
import functools
import time

import numpy as np
import pytest
import scipy.sparse as sparse
from test_course_my_model import written
from written_differently import typed

from c2f_np.course import all_exercises, answers, exercise, my_model
from c2f_np.course.exercise import Exercise
from c2f_np.evaluation import hit_matrix, ndcg_at_k, rank_items
from c2f_np.kernels import step
from c2f_np.model.codebook import soft_threshold_backward
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.propagation import CollapsedPropagation, propagate_collapsed_backward
from c2f_np.model.sparse import operator
from c2f_np.model.step import ModelState
from c2f_np.model_file import size_in_bytes

TASKS = all_exercises()
SOFT = TASKS["soft_threshold_backward"]
KIND = "the numbers are right, but they are the package's: "


def told(task, attempt, seeds=(0,)):
    """By what an attempt's numbers are computed, according to the message."""
    message = task.mark(attempt, seeds).message
    assert message.startswith(f"{task.name}: {KIND}"), message
    return message.partition(KIND)[2].partition(" computes them. ")[0]


# ---- the solution ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TASKS)
def test_the_solution_is_not_the_readers(name):
    """However it is reached; with the same text typed it is, as test_course_every_exercise.py tries."""
    task = TASKS[name]
    assert told(task, functools.partial(task.solution)) == "the course's answer"


def wrapped(*given):
    return SOFT.solution(*given)


@functools.wraps(SOFT.solution)
def in_disguise(*given, **named):
    return np.array(SOFT.solution(*given, **named))


class Solver:
    def __call__(self, *given):
        return self.solve(given)

    def solve(self, given):
        return answers()["soft_threshold_backward"](*given)


def by_its_name(*given):
    return getattr(my_model("nowhere.py", or_answers=True), "soft_" + "threshold_backward")(*given)


def asked_for(*given):
    return exercise("soft_threshold_backward").solution(*given)


def only_once(*given):
    result = SOFT.solution(*given) if not only_once.results else None
    only_once.results.append(result)
    return typed(SOFT.solution)(*given) if result is None else result


only_once.results = []


@pytest.mark.parametrize(
    "attempt",
    [wrapped, in_disguise, Solver(), by_its_name, asked_for, only_once,
     lambda g, E, tau: functools.reduce(lambda a, f: f(*a), [SOFT.solution], (g, E, tau))],
)  # fmt: skip
def test_neither_is_what_wraps_it(attempt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told(SOFT, attempt) == "the course's answer"


def test_it_is_not_kept(tmp_path, capsys):
    SOFT.check(wrapped).keep(tmp_path / "my_model.py")
    assert not (tmp_path / "my_model.py").exists() and "the package's" in capsys.readouterr().out


def test_nor_is_it_for_students_who_have_no_answers():
    assert not exercise("soft_threshold_backward", with_answer=False).mark(soft_threshold_backward).points


# ---- functions of the package ----------------------------------------------------------------------------------------
def ranked(scores, masked, k):
    return rank_items(scores[None], sparse.csr_array(np.array(masked, ndmin=2)), k, engine="numpy")[0]


def ndcg(ranked, relevant, k):
    of_this_user = sparse.csr_array(np.isin(np.arange(max(*ranked, *relevant) + 1), relevant)[None])
    return ndcg_at_k(hit_matrix(ranked[None], of_this_user), np.array([len(relevant)]), k)[0]


def collapsed(g, F, K, W1, W2):
    collapsed = CollapsedPropagation(K, np.concatenate([W1, W2], axis=1), None, None)
    grad_F, grad_tanh_F = propagate_collapsed_backward(g, collapsed, rows=np.arange(len(g)))
    return grad_F + grad_tanh_F - grad_tanh_F * np.tanh(F) ** 2


def size_of_arrays(N, C, M, d, t, t_f):
    def rows(n, m, k):
        columns = np.arange(k)[None, :].repeat(n, axis=0).ravel()
        return sparse.csr_array((np.ones(n * k, np.float32), columns, np.arange(0, n * k + 1, k)), shape=(n, m))

    ones = (np.ones(shape, np.float32) for shape in ((C, d), N, 1, (M, d)))
    E_coarse, bias, bias_global, E_fine = ones
    state = ModelState(E_coarse, rows(N, C, t), bias, bias_global, E_fine, rows(C, M, t_f))
    return size_in_bytes(state)["model"]


def starred(grad_F, E, tau):
    names = {}
    exec("from c2f_np.model.codebook import *", names)
    return names["soft_threshold_backward"](grad_F, E, tau)


#: By the exercise: attempts, and what they use.
BORROWED = {
    "soft_threshold_backward": [
        (soft_threshold_backward, "c2f_np.model.codebook.soft_threshold_backward"),
        (starred, "c2f_np.model.codebook.soft_threshold_backward"),
        (functools.partial(soft_threshold_backward), "c2f_np.model.codebook.soft_threshold_backward"),
    ],
    "sparse_product_backward": [(lambda g, M, X: operator(M).adjoint(g), "c2f_np.model.sparse.")],
    "normalised_adjacency": [(lambda R: normalised_adjacency(R), "c2f_np.model.graph.normalised_adjacency")],
    "top_items": [(ranked, "c2f_np.evaluation.")],
    "ndcg": [(ndcg, "c2f_np.evaluation.")],
    "collapsed_backward": [(collapsed, "c2f_np.model.propagation.")],
    "size_of_model": [(size_of_arrays, "c2f_np.model_file.size_in_bytes")],
}


@pytest.mark.parametrize(
    ("name", "attempt", "used"), [(name, *each) for name, several in BORROWED.items() for each in several if name in TASKS]
)
def test_what_the_package_computes_is_told_by_its_name(name, attempt, used):
    assert told(TASKS[name], attempt).startswith(used)


def test_compiled_functions_are_seen_when_they_are_called_from_outside():
    task = Exercise("hashes", "", lambda x: [step._hash64(np.uint64(n)) for n in x], lambda seed: {"x": np.arange(4) + seed})
    assert told(task, lambda numbers: [step._hash64(np.uint64(n)) for n in numbers]) == "c2f_np.kernels.step._hash64"


def test_the_report_of_a_wrong_answer_comes_first():
    message = SOFT.mark(lambda *given: -soft_threshold_backward(*given)).message
    assert "package" not in message


# ---- who must not be accused -----------------------------------------------------------------------------------------
def test_what_is_handed_in_may_be_called():
    """A function, also inside of other things, and the methods of an object."""
    given = {
        "f": SOFT.solution,
        "M": operator(sparse.csr_array(np.eye(2))),
        "pair": [functools.partial(SOFT.solution, np.ones(2))],
    }
    task = Exercise("given", "", lambda f, M, pair: np.full(2, 2.0), lambda seed: given)

    def uses(f, M, pair):
        return M.forward(f(np.ones(2), 9 * np.ones(2), 1.0)) + pair[0](9 * np.ones(2), 1.0)

    assert task.mark(uses)


def test_what_an_exercise_allows_may_be_called():
    task = Exercise("allowed", "", lambda x: np.abs(x), lambda seed: {"x": np.array([1.0, -seed])})

    def using(x):
        return operator(sparse.csr_array(np.diag(np.sign(x)))).forward(x)

    assert "c2f_np.model.sparse.operator" in told(task, using)
    for name in ("c2f_np.model", "c2f_np.model.sparse"):
        allowed = copy.copy(task)
        allowed.allowed = (name,)
        assert allowed.mark(using)
    allowed.allowed = ("c2f_np.model.sparse.operator",)
    assert "SparseOperator.forward" in told(allowed, using)


def test_other_functions_of_ones_own_model_may_be_called(tmp_path):
    """The course's answers where they are missing, and the reader's own under whatever name."""
    path = tmp_path / "my_model.py"
    my = my_model(path, or_answers=True)
    tau = TASKS["soft_threshold_columns_backward"]

    def by_columns(grad_F, E, tau):
        columns = [(grad_F[:, f], E[:, f], tau[f]) for f in range(E.shape[1])]
        grads = [my.soft_threshold_backward(*each) for each in columns]
        return np.stack(grads, axis=1), np.array([my.soft_threshold_backward_tau(*each) for each in columns])

    assert tau.mark(by_columns)
    my.keep(written(tmp_path, f"import numpy as np\n\n{SOFT.answer()}").soft_threshold_backward)
    assert SOFT.mark(my.soft_threshold_backward) and SOFT.mark(lambda *given: my.soft_threshold_backward(*given))


def test_watching_takes_hardly_any_time():
    def long(x):
        for _ in range(20_000):
            x = abs(x)
        return x

    task = Exercise("long", "", typed(long), lambda seed: {"x": -2.0})
    started = time.process_time()
    assert task.mark(long, seeds=(0,))
    assert time.process_time() - started < 1
