"""Exercises on checking a gradient (notebook 01)."""

from __future__ import annotations

import numpy as np

from .exercise import Exercise, Mistake

UNSQUARED = "look at the derivative of tanh again: something is squared in it."
VALUE_OF_TANH = "the cotangent is multiplied by the value of tanh instead of its derivative."


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
    return {"f": _smooth, "x": np.random.default_rng([seed, 11]).uniform(-1, 1, (3, 2)), "h": 0.05}


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


def _multiplied_by_h(f, x, h):
    return h**2 * central_difference(f, x, h)


def _half_a_step(f, x, h):
    return central_difference(f, x, h / 2)


def _whole_rows(f, x, h):
    gradient = np.zeros_like(x)
    for k in range(len(x)):
        up, down = x.copy(), x.copy()
        up[k] += h
        down[k] -= h
        gradient[k] = (f(up) - f(down)) / (2 * h)
    return gradient


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
    "Write `central_difference(f, x, h)`: the gradient of `f`, a function of an array that returns one number, at the array `x` "
    "(of any shape), entry by entry with central differences of step `h`. The result has the shape of `x`, and `x` is unchanged "
    "afterwards.",
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
        Mistake(
            lambda f, x, h: np.zeros_like(x),
            "the result is zero everywhere. If you do move entries: are the array moved up and the one moved down one and the "
            "same?",
        ),
        Mistake(lambda f, x, h: -central_difference(f, x, h), "all signs are reversed: from which value is the other taken?"),
        Mistake(_divided_by_h, "exactly twice the right value. How far apart are the two points?"),
        Mistake(_multiplied_by_h, "you divide by 2 and multiply by h: `a / 2 * h` is `(a / 2) * h`. Parentheses are missing."),
        Mistake(_half_a_step, "you go half a step to each side. With step `h` both points are `h` away from `x`."),
        Mistake(_whole_rows, "you move whole rows. Every entry has a slope of its own, whatever the shape of `x`."),
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
    "norm. Both arrays have the same shape (here 4 x 3), and `right` is not zero everywhere, but some of its entries are.",
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
            lambda found, right: np.sum(np.abs(found - right)) / np.sum(np.abs(right)),
            "these are sums of sizes. The norm is the root of the sum of squares.",
        ),
        Mistake(
            lambda found, right: np.max(np.abs(found - right)) / np.max(np.abs(right)),
            "this compares the largest entries. The norm counts all of them.",
        ),
        Mistake(
            lambda found, right: np.linalg.norm(found - right, 2) / np.linalg.norm(right, 2),
            "with the order 2, the norm of a matrix is its largest singular value. Leave the order out.",
        ),
        Mistake(
            lambda found, right: np.linalg.norm(found - right) / (np.linalg.norm(found) + np.linalg.norm(right)),
            "you divide by the sum of both norms. The right gradient alone is the yardstick.",
        ),
        Mistake(
            lambda found, right: np.linalg.norm(found - right) / max(np.linalg.norm(found), np.linalg.norm(right)),
            "you divide by the larger of both norms. The right gradient alone is the yardstick.",
        ),
        *(
            Mistake(
                lambda found, right, constant=constant: np.linalg.norm(found - right) / (np.linalg.norm(right) + constant),
                "a constant is added to the denominator. Where the gradient itself is small, it hides errors.",
            )
            for constant in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
        ),
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


def _value_of_tanh(grad_Y, X, W):
    grad_product = grad_Y * np.tanh(X @ W)
    return grad_product @ W.T, X.T @ grad_product


def _cotangent_forgotten(grad_Y, X, W):
    return tanh_layer_backward(np.ones_like(grad_Y), X, W)


TANH_LAYER = Exercise(
    "tanh_layer_backward",
    "Write `tanh_layer_backward(grad_Y, X, W)`, the backward of $Y=\\tanh(XW)$ with `X` of shape (3, 2), `W` of shape (2, 4) "
    "and the cotangent `grad_Y` of the shape of $Y$, (3, 4). It returns the pair (grad_X, grad_W), the gradients of "
    "`sum(grad_Y * Y)`.",
    tanh_layer_backward,
    _layer_points,
    forward=tanh_layer,
    hints=(
        "Two steps: the product Q = XW, then Y = tanh(Q). Go through them backwards.",
        "Entry by entry: grad_Q is grad_Y times the derivative of tanh at Q, which is 1 minus tanh(Q) squared.",
        "Then the product: grad_X = grad_Q W^T and grad_W = X^T grad_Q. The shapes leave no other order.",
    ),
    mistakes=(
        Mistake(_linear_only, "this is the backward of XW alone. On its way back the cotangent has to pass through tanh first."),
        Mistake(_tanh_of_the_wrong_thing, "1 - tanh² is right, but you square the product itself, before tanh."),
        Mistake(
            lambda grad_Y, X, W: (tanh_layer_backward(grad_Y, X, W)[0], X.T @ grad_Y),
            "grad_X is right. In grad_W the cotangent has not passed through tanh.",
        ),
        Mistake(
            lambda grad_Y, X, W: (grad_Y @ W.T, tanh_layer_backward(grad_Y, X, W)[1]),
            "grad_W is right. In grad_X the cotangent has not passed through tanh.",
        ),
        Mistake(
            lambda grad_Y, X, W: ((grad_Y * (1 + tanh_layer(X, W) ** 2)) @ W.T, X.T @ (grad_Y * (1 + tanh_layer(X, W) ** 2))),
            "look at the derivative of tanh again: is it steeper or flatter away from 0?",
        ),
        Mistake(_no_square, UNSQUARED),
        Mistake(_value_of_tanh, VALUE_OF_TANH),
        Mistake(
            _cotangent_forgotten,
            "the cotangent does not enter: you compute the gradient of the plain sum of Y. That is right only for a cotangent "
            "of ones.",
        ),
    ),
)


# ---- gradient_gap ----------------------------------------------------------------------------------------------------
def gradient_gap(loss, gradient, x):
    return relative_error(gradient(x), central_difference(loss, x, 1e-5))


def _gap_points(seed: int) -> dict:
    """A gradient that is some ten per cent off, or one, of a curved function whose size differs from seed to seed.

    It is too long, and at every third seed too short: neither norm is always the larger one. A small gap tells a bad step from a
    good one. The constant makes the loss large beside its gradient, so that rounding shows; an entry of x is 0, where a step that
    is a share of the entry would be 0, too.
    """
    rng = np.random.default_rng([seed, 15])
    weights, x = rng.uniform(0.5, 1.5, (3, 2)), rng.uniform(-1, 1, (3, 2))
    x[seed % 3, 1] = 0
    error, scale, share = rng.standard_normal((3, 2)), 10.0 ** [0, -6, 5][seed % 3], [0.1, -0.01, 0.01][seed % 3]

    def loss(x):
        return float(scale * (100 + np.sum(weights * np.exp(2 * x)) + x[0, 0] * x[-1, -1]))

    def gradient(x):
        found = 2 * weights * np.exp(2 * x)
        found[0, 0] += x[-1, -1]
        found[-1, -1] += x[0, 0]
        return scale * ((1 + share / 2) * found + share * np.abs(error) * np.linalg.norm(found) / 3)

    return {"loss": loss, "gradient": gradient, "x": x}


def _measured_otherwise(measure, h):
    return lambda loss, gradient, x: relative_error(gradient(x), measure(loss, x, h))


GRADIENT_GAP = Exercise(
    "gradient_gap",
    "Write `gradient_gap(loss, gradient, x)`: how far `gradient(x)`, an array of x's shape, is from what central differences of "
    "`loss` measure at `x`, relative to what is measured. `loss(x)` is one number. You have written both parts; choose the step "
    "yourself.",
    gradient_gap,
    _gap_points,
    tolerance=3e-6,
    hints=(
        "Measure with `my.central_difference`, compare with `my.relative_error`.",
        "Which of the two is the yardstick? Not the one under test.",
        "The entries of x are of the order of 1: which step lies at the bottom of the V of central differences?",
    ),
    mistakes=(
        *(
            Mistake(
                _measured_otherwise(central_difference, h),
                "nearly, but your step is so large that the differences themselves are visibly off. Look at the V again.",
            )
            for h in (0.1, 0.01, 0.001)
        ),
        *(
            Mistake(
                _measured_otherwise(_one_sided, h),
                "nearly, but one-sided differences are good to half of the digits only. You have written better ones.",
            )
            for h in 10.0 ** -np.arange(3, 10)
        ),
        *(
            Mistake(
                _measured_otherwise(central_difference, h),
                "nearly, but your step is so small that rounding spoils the differences. Look at the V again.",
            )
            for h in 10.0 ** -np.arange(8, 16)
        ),
        Mistake(
            lambda loss, gradient, x: np.allclose(gradient(x), central_difference(loss, x, 1e-5)),
            "this is a verdict. How far the two are apart is asked for: one number.",
        ),
        Mistake(
            lambda loss, gradient, x: (
                np.linalg.norm(gradient(x) - central_difference(loss, x, 1e-5))
                / (np.linalg.norm(gradient(x)) + np.linalg.norm(central_difference(loss, x, 1e-5)))
            ),
            "you divide by the sum of both norms. What was measured is the yardstick.",
        ),
        Mistake(
            lambda loss, gradient, x: (
                np.linalg.norm(gradient(x) - central_difference(loss, x, 1e-5))
                / max(np.linalg.norm(gradient(x)), np.linalg.norm(central_difference(loss, x, 1e-5)))
            ),
            "you divide by the larger of both norms. What was measured is the yardstick.",
        ),
        Mistake(
            lambda loss, gradient, x: (
                np.max(np.abs(gradient(x) - central_difference(loss, x, 1e-5)))
                / np.max(np.abs(central_difference(loss, x, 1e-5)))
            ),
            "this compares the largest entries. The norm counts all of them; `my.relative_error` has it.",
        ),
        Mistake(
            lambda loss, gradient, x: np.linalg.norm(gradient(x) - central_difference(loss, x, 1e-5)),
            "this is an absolute error. It has the unit of the gradient, so nobody can say whether it is large.",
        ),
        Mistake(
            lambda loss, gradient, x: np.max(np.abs(gradient(x) - central_difference(loss, x, 1e-5))),
            "this is an absolute error. It has the unit of the gradient, so nobody can say whether it is large.",
        ),
        Mistake(
            lambda loss, gradient, x: relative_error(central_difference(loss, x, 1e-5), gradient(x)),
            "the two arguments are the wrong way round: what was measured is the yardstick, not the gradient under test.",
        ),
    ),
)


# ---- adjoint_gap -----------------------------------------------------------------------------------------------------
def adjoint_gap(forward, backward, x, y):
    image = forward(x)
    return abs(np.sum(image * y) - np.sum(x * backward(y))) / (np.linalg.norm(image) * np.linalg.norm(y))


def _pairs_of_maps(seed: int) -> dict:
    """A map and something that is not its transpose; the left side is the smaller one, and negative."""
    rng = np.random.default_rng([seed, 16])
    M, other = rng.standard_normal((4, 3)), rng.standard_normal((3, 4))
    x, y = rng.standard_normal((3, 2)), rng.standard_normal((4, 2))
    if np.sum((M @ x) * y) > 0:
        y = -y
    if np.sum((M @ x) * y) > np.sum(x * (other @ y)):
        other = 2 * M.T - other
    return {"forward": lambda x: M @ x, "backward": lambda y: other @ y, "x": x, "y": y}


def _sides(forward, backward, x, y):
    return np.sum(forward(x) * y), np.sum(x * backward(y))


def _by_the_right_side(forward, backward, x, y):
    return abs(np.subtract(*_sides(forward, backward, x, y))) / (np.linalg.norm(x) * np.linalg.norm(backward(y)))


def _by_the_larger_side(forward, backward, x, y):
    return min(adjoint_gap(forward, backward, x, y), _by_the_right_side(forward, backward, x, y))


ADJOINT_GAP = Exercise(
    "adjoint_gap",
    "Write `adjoint_gap(forward, backward, x, y)` for two functions of arrays, `forward` from x's shape to y's and `backward` "
    "from y's shape to x's: the two sides of the adjoint identity differ by "
    r"$|\langle \text{forward}(x), y\rangle-\langle x,\text{backward}(y)\rangle|$; divide this by "
    r"$\|\text{forward}(x)\|\,\|y\|$.",
    adjoint_gap,
    _pairs_of_maps,
    hints=(
        "<a, b> multiplies entry by entry and adds up: `np.sum(a * b)`. It is one number, whatever the shape.",
        "Two numbers, their difference without its sign, divided by two norms (`np.linalg.norm`).",
    ),
    mistakes=(
        Mistake(
            lambda forward, backward, x, y: adjoint_gap(forward, backward, x, y) * np.linalg.norm(forward(x)) * np.linalg.norm(y),
            "this is the absolute gap: it still has to be divided by the norms.",
        ),
        Mistake(
            lambda forward, backward, x, y: -adjoint_gap(forward, backward, x, y),
            "right but for its sign: a gap is a size. Take the absolute value.",
        ),
        Mistake(
            lambda forward, backward, x, y: (
                abs(np.subtract(*_sides(forward, backward, x, y))) / abs(_sides(forward, backward, x, y)[0])
            ),
            "you divide by one of the two sides. It can be near 0 by chance; divide by the norms.",
        ),
        Mistake(
            lambda forward, backward, x, y: (
                abs(np.subtract(*_sides(forward, backward, x, y))) / (np.linalg.norm(x) * np.linalg.norm(y))
            ),
            "you divide by the norm of x. The size of the left side goes with the norm of forward(x).",
        ),
        Mistake(
            lambda forward, backward, x, y: adjoint_gap(forward, backward, x, y) * np.linalg.norm(y) ** 2,
            "you divide by one norm and multiply by the other: `a / b * c` is `(a / b) * c`. Parentheses are missing.",
        ),
        *(
            Mistake(
                other_norms,
                "the numerator is right. Asked for are the norms of the left side, those of forward(x) and of y.",
            )
            for other_norms in (_by_the_right_side, _by_the_larger_side)
        ),
        Mistake(
            lambda forward, backward, x, y: (
                abs(np.linalg.norm(forward(x)) - np.linalg.norm(backward(y))) / (np.linalg.norm(forward(x)) * np.linalg.norm(y))
            ),
            "you compare the lengths of forward(x) and backward(y). Compare the two dot products.",
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
    "The linear map $y_k=x_{k+1}-x_k$ takes q numbers to q - 1. Write its backward, `differences_backward(grad_y, x)`: from the "
    "cotangent of shape (q - 1,) to the gradient of shape (q,). It is the transpose, and the adjoint identity will be checked to "
    "rounding.",
    differences_backward,
    _chain,
    forward=differences,
    options={"linear_in": "x"},
    hints=(
        "Write the matrix for q = 4 on paper: three rows, each with a -1 and a 1. Now read its columns.",
        "An entry of x in the middle enters twice: once with a plus, in the difference before it, once with a minus.",
        "Start with zeros of shape (q,), add `grad_y` to all but the first entry, subtract it from all but the last.",
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
            "the second assignment overwrites what the first one put there. What comes back along two paths is added.",
        ),
        Mistake(
            _integrated,
            "you have undone the differences by summing them up. That is the inverse; what is wanted is the transpose, and the "
            "two are different things.",
        ),
    ),
)

GIVEN = (tanh_layer,)

EXERCISES = (CENTRAL, RELATIVE, TANH_LAYER, GRADIENT_GAP, ADJOINT_GAP, DIFFERENCES)
