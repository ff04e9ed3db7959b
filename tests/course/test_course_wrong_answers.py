"""Wrong answers that people write, and forms in which a right one comes: what is told of each."""

import functools
import re

import numpy as np
import pytest
import scipy.sparse as sparse
import scipy.special
from written_differently import typed

from c2f_np.course import all_exercises, answers

TASKS = all_exercises()


class Answers:
    """Functions that a reader has written before."""

    def __getattr__(self, name):
        return answers()[name]


my = Answers()


def said(name, attempt):
    marked = TASKS[name].mark(attempt)
    assert not marked
    return marked.message


# ---- what is measured is no derivative -----------------------------------------------------------------------------------
def measured(f, x, h, imaginary=False):
    """Central differences, or the complex step, of a function of an array or a number."""
    x = np.asarray(x, float)
    gradient = np.zeros(x.shape)
    for k in np.ndindex(*x.shape):
        e = np.zeros(x.shape)
        e[k] = h
        gradient[k] = f(x + 1j * e).imag / h if imaginary else (f(x + e) - f(x - e)) / (2 * h)
    return gradient


def own_soft(E, tau):
    return np.sign(E) * np.maximum(np.abs(E) - tau, 0)


MEASURED = {
    "soft_threshold_backward_tau": lambda h: lambda G, E, tau: float(measured(lambda t: np.sum(G * own_soft(E, t)), tau, h)),
    "soft_threshold_columns_backward": lambda h: lambda G, E, tau: (
        my.soft_threshold_backward(G, E, tau), measured(lambda t: np.sum(G * own_soft(E, t)), tau, h)),
    "compose_backward": lambda h: lambda G, S, E: measured(lambda E: np.sum(G * np.tanh(S @ E)), E, h),
    "collapsed_backward": lambda h: lambda G, F, K, V, W: measured(lambda F: np.sum(G * (V @ F + W @ np.tanh(F))), F, h),
    "to_E_c": lambda h: lambda G, direct, S, E: direct + measured(lambda E: np.sum(G * np.tanh(S @ E)), E, h),
    "loss_to_H": lambda h: lambda H, b, *batch: (
        measured(lambda H: my.bpr_loss(H, b, *batch), H, h), measured(lambda b: my.bpr_loss(H, b, *batch), b, h)),
}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_differences_are_refused_whatever_their_step(name):
    for h in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        said(name, MEASURED[name](h))
    assert "measured by differences" in said(name, MEASURED[name](1e-6))


@pytest.mark.parametrize(("h", "imaginary"), [(1e-2, False), (1e-20, True)])
def test_a_difference_that_is_exact_is_seen_by_its_calls_of_the_forward(h, imaginary):
    """Of a square a central difference is exact, of anything smooth a complex step."""
    penalty = TASKS["penalty_backward"].forward
    found = said("penalty_backward", lambda g, Z, *rest: measured(lambda Z: g * penalty(Z, *rest), Z, h, imaginary))
    assert "they are measured" in found
    if imaginary:
        compose = TASKS["compose_backward"].forward
        found = said("compose_backward", lambda G, S, E: measured(lambda E: np.sum(G * compose(S, E)), E, h, True))
        assert "they are measured" in found


def test_the_forward_may_be_called_at_the_point_and_elsewhere():
    soft, compose = TASKS["soft_threshold_backward"].forward, TASKS["compose_backward"].forward
    assert TASKS["soft_threshold_backward"].mark(lambda G, E, tau: G * (soft(np.abs(E), tau) > 0))
    assert TASKS["compose_backward"].mark(lambda G, S, E: S.T @ (G * (1 - compose(S, E) ** 2)))
    bridge = TASKS["bridge_backward_gate"].forward  # linear in g: the difference is the derivative
    assert TASKS["bridge_backward_gate"].mark(lambda G, S, F, E, g: np.sum(G * (bridge(S, F, E, 1.0) - bridge(S, F, E, 0.0))))


# ---- the checker of one's own --------------------------------------------------------------------------------------------
def gap(step, difference=None):
    def function(loss, gradient, x):
        return my.relative_error(gradient(x), (difference or my.central_difference)(loss, x, step))

    return function


def forward_difference(f, x, h):
    return np.array([(f(x + h * e) - f(x)) / h for e in np.eye(x.size).reshape(-1, *x.shape)]).reshape(x.shape)


def in_shares_of_the_entry(f, x, h):
    step = [h * abs(x[k]) * e for k, e in zip(np.ndindex(*x.shape), np.eye(x.size).reshape(-1, *x.shape), strict=True)]
    return np.array([(f(x + e) - f(x - e)) / (2 * np.sum(e)) for e in step]).reshape(x.shape)


def test_a_gap_needs_a_sensible_step():
    for h in (1e-4, 1e-5, 1e-6):
        assert TASKS["gradient_gap"].mark(gap(h)), h
    assert "your step is so small" in said("gradient_gap", gap(1e-8))
    assert "your step is so large" in said("gradient_gap", gap(1e-3))
    for h in (1e-5, 1e-7, 1e-8):
        assert "one-sided" in said("gradient_gap", gap(h, TASKS["central_difference"].mistakes[0].function)), h
    said("gradient_gap", gap(1e-8, forward_difference))
    with np.errstate(invalid="ignore"):
        assert "NaN" in said("gradient_gap", gap(1e-5, in_shares_of_the_entry))
    assert TASKS["gradient_gap"].mark(
        lambda loss, gradient, x: my.relative_error(gradient(x), my.central_difference(loss, x, 1e-5 * max(1, abs(x).max())))
    )


# ---- what is left out, named ---------------------------------------------------------------------------------------------
def gather_rows_only(grad_rows, rows, n_rows):
    grad = np.zeros((n_rows, grad_rows.shape[1]))
    np.add.at(grad, rows, grad_rows)
    return grad


def user_biases(factor):
    def function(g, H, b, u, i, j):
        grad_H, grad_b = my.bpr_backward(g, H, b, u, i, j)
        x = np.sum(H[u] * (H[i] - H[j]), axis=1) + b[i] - b[j]
        return grad_H, grad_b + factor * np.bincount(u, -g * my.sigmoid(-x) / len(u), len(b))

    return function


def loop_from(first):
    def function(H, b, batches, rate):
        moments, losses = [0.0] * 4, []
        for k, batch in enumerate(batches, first):
            losses.append(my.bpr_loss(H, b, *batch))
            grad_H, grad_b = my.bpr_backward(1.0, H, b, *batch)
            H, *moments[:2] = my.adam_step(H, grad_H, *moments[:2], k, rate)
            b, *moments[2:] = my.adam_step(b, grad_b, *moments[2:], k, rate)
        return H, b, losses

    return function


def with_epsilon(theta, grad, m, v, step, rate):
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    return theta - rate * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1.01e-8), m, v


def assignment(softmax):
    def function(H, H_c, H_f, t):
        S = softmax((H @ np.linalg.pinv(H_c)).T @ (H @ np.linalg.pinv(H_f)))
        return np.where(S >= np.sort(S, axis=1)[:, -t][:, None], S, 0.0)

    return function


def strictly_above(H, H_c, t):
    W = H @ np.linalg.pinv(H_c)
    return np.where(W > np.sort(W, axis=1)[:, -t][:, None], W, 0.0)


def without_parentheses(T, back, x, y):
    return abs(np.sum(T(x) * y) - np.sum(x * back(y))) / np.linalg.norm(T(x)) * np.linalg.norm(y)


def role_by_role(G, Z, *roles_and_l2):
    *roles, l2 = roles_and_l2
    G = G.copy()
    for rows in roles:
        G[rows] += 2 * l2 / len(rows) * Z[rows]
    return G


def bytes_of(index):
    def function(N, C, M, d, t, f):
        return 4 * ((C + M) * d + N * t + C * f + N + 1) + index(C) * N * t + index(M) * C * f

    return function


NAMED = [
    ("central_difference", lambda f, x, h: measured(lambda x: f(x) * h**2, x, h), "Parentheses are missing"),
    ("adjoint_gap", without_parentheses, "Parentheses are missing"),
    ("tanh_layer_backward", lambda G, X, W: (G * np.tanh(X @ W) @ W.T, X.T @ (G * np.tanh(X @ W))), "the value of tanh"),
    ("least_squares_assignment", strictly_above, "one entry too few"),
    ("to_Z", role_by_role, "keeps one of its contributions"),
    ("gather_backward", gather_rows_only, r"IndexError: tuple index.*grad_rows \(7,\), rows \(7,\)\. Does one of them have"),
    *(("bpr_backward", user_biases(factor), "the user's bias stands in both scores") for factor in (1, -1, 2)),
    ("train_table", loop_from(0), "a count from 0"),
    ("train_table", loop_from(2), "counted from 2"),
    ("adam_step", with_epsilon, "result 1 is"),
    ("fork", lambda G, Z, E: (G[len(Z) :], G[: len(Z)]), "wrong order"),
    ("fork", lambda G, Z, E: (G[len(E) :], G[: len(E)]), "wrong ends"),
    ("loss_to_H", lambda H, b, *batch: my.loss_to_H(H, b[: len(batch[0])], *batch), "IndexError"),
    ("to_Z", lambda G, Z, u, i, j, l2: G + my.penalty_backward(G, Z, u, i, j, l2), "what is the cotangent of a term of the loss"),
    ("to_Z", lambda G, Z, u, i, j, l2: G + my.penalty_backward(l2, Z, u, i, j, l2), "l2 enters twice"),
    ("to_Z", lambda G, Z, u, i, j, l2: G + my.penalty(Z, u, i, j, l2), "the penalty itself is added"),
    ("to_Z", lambda G, Z, u, i, j, l2: G + my.penalty_backward(Z, u, i, j, l2), "TypeError"),
    ("to_E_c", lambda G, D, S, E: D + S.T @ (G * (1 - np.tanh(S @ E))), "something is squared in it"),
    ("to_E_c", lambda G, D, S, E: D * (1 - np.tanh(E) ** 2) + my.compose_backward(G, S, E), "through a tanh in your version"),
    ("to_E_f", lambda A, G, E, S, tau, g: my.soft_threshold_backward(g * (S.T @ A), E, tau)
     + G * (1 - np.tanh(own_soft(E, tau)) ** 2), "their part passes the threshold"),
    ("collapsed_backward", lambda G, F, K, V, W: V.T @ G + W.T @ G * (1 - np.tanh(F)), "something is squared in it"),
    ("fine_assignment", assignment(lambda A: np.exp(A) / np.exp(A).sum(axis=1, keepdims=True)), "overflows"),
    ("fine_assignment", assignment(lambda A: np.exp(A - A.max()) / np.exp(A - A.max()).sum(axis=1)[:, None]), "so is their sum"),
    ("fine_assignment", assignment(scipy.special.softmax), "of all entries together"),
    ("fine_assignment", assignment(functools.partial(scipy.special.softmax, axis=0)), "down the columns"),
    ("bridge_backward_assignment", lambda G, S, F, E, g: (1 - g) * my.sparse_product_backward_weights(G, S, F), "share of"),
    ("size_of_model", bytes_of(lambda rows: 1 + (rows > 257)), "257 rows have the numbers 0 to 256"),
    ("size_of_model", bytes_of(lambda rows: 1 + (rows > 255)), "256 rows have the numbers 0 to 255"),
    ("size_of_model", bytes_of(lambda rows: 2), "fewer than 257"),
    ("top_items", lambda scores, known, n: 1.0 * typed(my.top_items)(scores, known, n), "integers"),
    ("joint_gradients", lambda model, *rest: my.joint_gradients(model, *rest) | {"S_c": model["S_c"]}, "they are its .data"),
    ("links_backward", lambda G, S, E: sparse.csr_array(G @ E.T), r"has the shape \(7, 5\)"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "attempt", "words"), NAMED, ids=[f"{name}-{k}" for k, (name, *_) in enumerate(NAMED)])
def test_what_is_left_out_is_told(name, attempt, words):
    found = said(name, attempt)
    assert re.search(words, found, flags=re.DOTALL), found


# ---- right, in another form ----------------------------------------------------------------------------------------------
OTHER_FORMS = [
    ("links_backward", lambda G, S, E: my.sparse_product_backward_weights(G, S, E)),
    ("links_backward", lambda G, S, E: sparse.coo_array(my.sparse_product_backward_weights(G, S, E))),
    ("links_backward", lambda G, S, E: (G @ E.T)[S.toarray() != 0].tolist()),
    ("popularity", lambda R: sparse.csr_array(np.tile(R.sum(axis=0), (R.shape[0], 1)))),
    ("adam_step", lambda *given: np.stack(typed(my.adam_step)(*given))),
    ("fork", lambda G, Z, E: np.split(G, [len(Z)])),
    ("on_the_frontier", lambda sizes, qualities: (1 * typed(my.on_the_frontier)(sizes, qualities)).tolist()),
    ("bridge_backward_gate", lambda G, S, F, E, g: np.array(np.sum(G * (S @ F - E)))),
    ("fine_assignment", lambda *given: sparse.csr_array(assignment(functools.partial(scipy.special.softmax, axis=1))(*given))),
    ("size_of_model", bytes_of(lambda rows: 1 + (rows > 256))),
]


@pytest.mark.parametrize(("name", "attempt"), OTHER_FORMS, ids=[f"{name}-{k}" for k, (name, _) in enumerate(OTHER_FORMS)])
def test_right_numbers_in_another_form_are_right(name, attempt):
    marked = TASKS[name].mark(attempt)
    assert marked, marked.message


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.forward is not None])
def test_lists_of_numbers_are_as_good_as_arrays(name):
    def lists(result):
        if isinstance(result, dict):
            return {key: lists(part) for key, part in result.items()}
        return tuple(map(lists, result)) if isinstance(result, tuple) else getattr(result, "tolist", lambda: result)()

    marked = TASKS[name].mark(lambda *given: lists(typed(TASKS[name].solution)(*given)))
    assert marked, marked.message
