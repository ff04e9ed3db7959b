"""Exercises on checking a gradient (notebook 01)."""

from __future__ import annotations

import numpy as np

from .exercise import Exercise, Mistake


# ---- central_difference ----------------------------------------------------------------------------------------------
def central_difference(f, x, h):
    gradient = np.zeros_like(x)
    for k in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[k] += h
        down[k] -= h
        gradient[k] = (f(up) - f(down)) / (2 * h)
    return gradient


def _smooth(x):
    """A function of a (3, 2) array in which every entry counts differently."""
    weights = np.arange(1.0, x.size + 1).reshape(x.shape)
    return float(np.sum(weights * np.exp(x)) + x[0, 0] * x[-1, -1])


def _step_points(seed: int) -> dict:
    return {"f": _smooth, "x": np.random.default_rng([seed, 11]).uniform(-1, 1, (3, 2)), "h": 1e-3}


def _one_sided(f, x, h):
    gradient = np.zeros_like(x)
    for k in np.ndindex(*x.shape):
        up = x.copy()
        up[k] += h
        gradient[k] = (f(up) - f(x)) / h
    return gradient


def _backward_difference(f, x, h):
    return _one_sided(f, x, -h)


def _divided_by_h(f, x, h):
    return 2 * central_difference(f, x, h)


def _all_at_once(f, x, h):
    return np.full_like(x, (f(x + h) - f(x - h)) / (2 * h))


def _never_undone(f, x, h):
    gradient, up, down = np.zeros_like(x), x.copy(), x.copy()
    for k in np.ndindex(*x.shape):
        up[k] += h
        down[k] -= h
        gradient[k] = (f(up) - f(down)) / (2 * h)
    return gradient


CENTRAL = Exercise(
    "central_difference",
    "Write `central_difference(f, x, h)`: the gradient of the scalar function `f` at the array `x` (any shape), entry by entry "
    "with "
    "central differences of step `h`. The result has the shape of `x`, and `x` is unchanged afterwards.",
    central_difference,
    _step_points,
    hints=(
        "`for k in np.ndindex(*x.shape)` visits every entry of an array of any shape.",
        "For each entry make two copies of `x`, one moved up and one moved down in that entry only.",
        "How far are the two points apart?",
    ),
    mistakes=(
        Mistake(_one_sided, "this is the one-sided difference: you go up by h, but not down."),
        Mistake(_backward_difference, "this is the one-sided difference: you go down by h, but not up."),
        Mistake(_divided_by_h, "exactly twice the right value. How far apart are the two points?"),
        Mistake(
            _all_at_once,
            "you move all entries at once: that measures the sum of the gradient's entries, and puts it everywhere.",
        ),
        Mistake(
            _never_undone,
            "entries that were moved earlier are still moved when the next one is measured. Start from `x` each time.",
        ),
    ),
)


# ---- relative_error --------------------------------------------------------------------------------------------------
def relative_error(found, right):
    return np.linalg.norm(found - right) / np.linalg.norm(right)


def _gradient_pairs(seed: int) -> dict:
    """Gradients of very different sizes, with zeros among the entries of the right one."""
    rng = np.random.default_rng([seed, 12])
    right = rng.standard_normal((4, 3)) * 10.0 ** [0, -6, 5][seed % 3]
    right[1] = 0
    return {"found": right + 1e-3 * np.linalg.norm(right) * rng.standard_normal((4, 3)), "right": right}


def _entry_by_entry(found, right):
    return np.max(np.abs(found - right) / np.maximum(np.abs(right), 1e-300))


def _of_norms(found, right):
    return abs(np.linalg.norm(found) - np.linalg.norm(right)) / np.linalg.norm(right)


RELATIVE = Exercise(
    "relative_error",
    "Write `relative_error(found, right)`: how far one gradient is from another, as a single number, relative to the norm of the "
    "right one: $\\|\\text{found}-\\text{right}\\|\\,/\\,\\|\\text{right}\\|$, with the root of the sum of all squares as the "
    "norm. "
    "Both arrays have the same shape (here 4 x 3), and `right` is not zero everywhere, but some of its entries are.",
    relative_error,
    _gradient_pairs,
    hints=(
        "`np.linalg.norm(a)` of a matrix is the root of the sum of all squares.",
        "Take the norm of the difference, not the difference of the norms.",
    ),
    mistakes=(
        Mistake(
            lambda found, right: np.linalg.norm(found - right),
            "this is an absolute error. It has the unit of the gradient, so nobody can say whether it is large.",
        ),
        Mistake(
            lambda found, right: np.max(np.abs(found - right)),
            "this is an absolute error. It has the unit of the gradient, so nobody can say whether it is large.",
        ),
        Mistake(
            _entry_by_entry,
            "you divide entry by entry; where an entry of the right gradient is zero the result means nothing. Compare norms of "
            "whole arrays.",
        ),
        Mistake(
            _of_norms,
            "this is the difference of two lengths. A gradient of the right length in the wrong direction would get the error 0: "
            "-g, for instance.",
        ),
        Mistake(lambda found, right: np.sum((found - right) ** 2) / np.sum(right**2), "this is the square of what is asked for."),
        Mistake(
            lambda found, right: np.linalg.norm(found - right) / np.linalg.norm(found),
            "relative to the wrong one of the two: the right gradient is the yardstick, not the one under test.",
        ),
    ),
)


# ---- tanh_layer_backward ---------------------------------------------------------------------------------------------
def tanh_layer(X, W):
    return np.tanh(X @ W)


def tanh_layer_backward(grad_Y, X, W):
    grad_product = grad_Y * (1 - np.tanh(X @ W) ** 2)
    return grad_product @ W.T, X.T @ grad_product


def _layer_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 13])
    return {"X": rng.standard_normal((3, 2)), "W": rng.standard_normal((2, 4))}


def _linear_only(grad_Y, X, W):
    return grad_Y @ W.T, X.T @ grad_Y


def _tanh_of_the_wrong_thing(grad_Y, X, W):
    product = X @ W
    return (grad_Y * (1 - product**2)) @ W.T, X.T @ (grad_Y * (1 - product**2))


def _no_square(grad_Y, X, W):
    grad_product = grad_Y * (1 - np.tanh(X @ W))
    return grad_product @ W.T, X.T @ grad_product


def _cotangent_forgotten(grad_Y, X, W):
    return tanh_layer_backward(np.ones_like(grad_Y), X, W)


TANH_LAYER = Exercise(
    "tanh_layer_backward",
    "Write `tanh_layer_backward(grad_Y, X, W)`, the backward of $Y=\\tanh(XW)$ with `X` of shape (3, 2), `W` of shape (2, 4) "
    "and the "
    "cotangent `grad_Y` of the shape of $Y$, (3, 4). It returns the two gradients of $\\sum\\,G_Y\\odot Y$, first `grad_X`, "
    "then `grad_W`.",
    tanh_layer_backward,
    _layer_points,
    forward=tanh_layer,
    hints=(
        "Two steps: the product P = XW, then Y = tanh(P). Go through them backwards.",
        "Entry by entry: grad_P is grad_Y times the derivative of tanh at P, which is 1 minus tanh(P) squared.",
        "Then the product: grad_X = grad_P W^T and grad_W = X^T grad_P. The shapes leave no other order.",
    ),
    mistakes=(
        Mistake(_linear_only, "this is the backward of XW alone. On its way back the cotangent has to pass through tanh first."),
        Mistake(_tanh_of_the_wrong_thing, "1 - tanh² is right, but you square the product itself, before tanh."),
        Mistake(_no_square, "look at the derivative of tanh again: something is squared in it."),
        Mistake(
            _cotangent_forgotten,
            "the cotangent does not enter: you compute the gradient of the plain sum of Y. That is right only for a cotangent "
            "of ones.",
        ),
    ),
)


# ---- differences_backward --------------------------------------------------------------------------------------------
def differences(x):
    return x[1:] - x[:-1]


def differences_backward(grad_y, x):
    grad_x = np.zeros(len(x))
    grad_x[1:] += grad_y
    grad_x[:-1] -= grad_y
    return grad_x


def _chain(seed: int) -> dict:
    return {"x": np.random.default_rng([seed, 14]).standard_normal(6)}


def _one_way_only(grad_y, x):
    return np.concatenate([[0.0], grad_y])


def _other_way_only(grad_y, x):
    return np.concatenate([-grad_y, [0.0]])


def _overwritten(grad_y, x):
    grad_x = np.zeros(len(x))
    grad_x[1:] = grad_y
    grad_x[:-1] = -grad_y
    return grad_x


def _integrated(grad_y, x):
    return np.concatenate([[0.0], np.cumsum(grad_y)])


DIFFERENCES = Exercise(
    "differences_backward",
    "The linear map $y_k=x_{k+1}-x_k$ takes n numbers to n - 1. Write its backward, `differences_backward(grad_y, x)`: from the "
    "cotangent "
    "of shape (n - 1,) to the gradient of shape (n,). It is the transpose, and the adjoint identity will be checked to rounding.",
    differences_backward,
    _chain,
    forward=differences,
    options={"linear_in": "x"},
    hints=(
        "Write the matrix for n = 4 on paper: three rows, each with a -1 and a 1. Now read its columns.",
        "An entry of x in the middle enters twice: once with a plus, in the difference before it, once with a minus.",
        "Start with zeros of shape (n,), add `grad_y` to all but the first entry, subtract it from all but the last.",
    ),
    mistakes=(
        Mistake(
            lambda grad_y, x: -differences_backward(grad_y, x),
            "right but for the sign. Which of the two terms is subtracted in the forward?",
        ),
        Mistake(_one_way_only, "each entry of x is used twice (but for the ends); you take back only what went out with a plus."),
        Mistake(
            _other_way_only,
            "each entry of x is used twice (but for the ends); you take back only what went out with a minus.",
        ),
        Mistake(
            _overwritten,
            "the second assignment overwrites what the first one put there. What comes back on two ways is added.",
        ),
        Mistake(
            _integrated,
            "you have undone the differences by summing them up. That is the inverse; what is wanted is the transpose, and the "
            "two are "
            "different things.",
        ),
    ),
)

EXERCISES = (CENTRAL, RELATIVE, TANH_LAYER, DIFFERENCES)
