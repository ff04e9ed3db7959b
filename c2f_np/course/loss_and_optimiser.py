"""Exercises on the loss and the optimiser: BPR backwards, the regulariser backwards, one step of Adam.

Shapes
------
H, Z : (N, d)     bias : (N,)     user, positive, negative : (B,) entity numbers, the same one possibly several times
"""

from __future__ import annotations

import numpy as np

from ..model.loss import sigmoid, softplus
from ..model.step import BETA1, BETA2, EPSILON
from .exercise import Exercise, Mistake


# ---- BPR -------------------------------------------------------------------------------------------------------------
def bpr(H, bias, user, positive, negative):
    """The forward: mean softplus(score(negative) - score(positive))."""
    return np.mean(softplus(_difference(H, bias, user, positive, negative)))


def bpr_solution(grad_loss, H, bias, user, positive, negative):
    """Gradients with respect to the embeddings and the biases."""
    x = np.sum(H[user] * (H[negative] - H[positive]), axis=1) + bias[negative] - bias[positive]
    s = grad_loss * sigmoid(x) / len(user)
    grad_H, grad_bias = np.zeros_like(H), np.zeros_like(bias)
    np.add.at(grad_H, user, s[:, None] * (H[negative] - H[positive]))
    np.add.at(grad_H, positive, -s[:, None] * H[user])
    np.add.at(grad_H, negative, s[:, None] * H[user])
    np.add.at(grad_bias, positive, -s)
    np.add.at(grad_bias, negative, s)
    return grad_H, grad_bias


def _difference(H, bias, user, positive, negative):
    return np.sum(H[user] * (H[negative] - H[positive]), axis=1) + bias[negative] - bias[positive]


def _bpr_points(seed: int) -> dict:
    """Repeated users, an item on both sides, a triple that occurs twice, entities that do not occur."""
    rng = np.random.default_rng([5, seed])
    n_users, n_items, size, width = 4, 5, 9, 3 + seed % 3
    user = rng.integers(0, n_users - 1, size)
    positive = rng.integers(0, n_items - 1, size)
    negative = (positive + 1 + rng.integers(0, n_items - 2, size)) % (n_items - 1)
    user[1], positive[1], negative[1] = user[0], positive[0], negative[0]
    user[2], positive[2], negative[2] = user[0], negative[0], positive[0]
    return {
        "H": rng.standard_normal((n_users + n_items, width)),
        "bias": rng.standard_normal(n_users + n_items),
        "user": user,
        "positive": positive + n_users,
        "negative": negative + n_users,
    }


def _bpr_variant(*, slope=None, add=np.add.at, user=1.0, positive=1.0, negative=1.0, user_bias=0.0, item_bias=1.0, mean=True):
    """The solution with parts of it changed, for the list of mistakes."""

    def variant(grad_loss, H, bias, u, i, j):
        x = _difference(H, bias, u, i, j)
        s = grad_loss * (sigmoid(x) if slope is None else slope(x, H, u, i, j))
        s = s / len(u) if mean else s
        grad_H, grad_bias = np.zeros_like(H), np.zeros_like(bias)
        add(grad_H, u, user * s[:, None] * (H[j] - H[i]))
        add(grad_H, i, -positive * s[:, None] * H[u])
        add(grad_H, j, negative * s[:, None] * H[u])
        add(grad_bias, u, user_bias * s)
        add(grad_bias, i, -item_bias * s)
        add(grad_bias, j, item_bias * s)
        return grad_H, grad_bias

    return variant


def _add_last_only(target, rows, values):
    """``target[rows] += values``, which keeps one contribution of each row."""
    target[rows] += values


def _without_cotangent(solution):
    def variant(grad_loss, *arguments):
        return solution(1.0, *arguments)

    return variant


BPR = Exercise(
    name="bpr_backward",
    task=(
        "Write `bpr_backward(grad_loss, H, bias, user, positive, negative)`. It returns `grad_H` of shape $(N, d)$ and "
        "`grad_bias` of shape $(N,)$, the gradients of `grad_loss * loss`, where loss is the mean over the batch of "
        "softplus(score(u, j) - score(u, i)) and score(u, i) = <H[u], H[i]> + bias[u] + bias[i]. `user`, `positive` and "
        "`negative` hold $B$ entity numbers, and the same entity may occur in several triples. You may import `sigmoid` "
        "from `c2f_np.model.loss`."
    ),
    solution=bpr_solution,
    points=_bpr_points,
    forward=bpr,
    hints=(
        "The loss is a function of x, one number per triple. What is its derivative with respect to x, with the mean and the "
        "cotangent in it? Call that s, of shape (B,).",
        "x = <H[u], H[j] - H[i]> + bias[j] - bias[i]. Each of the three rows H[u], H[i], H[j] receives s times the other factor.",
        "An entity that occurs in two triples receives both contributions. `grad_H[user] += ...` does not do that.",
        "grad_H gets s (H[j] - H[i]) at u, -s H[u] at i, +s H[u] at j, each by np.add.at; grad_bias gets -s at i and +s at j.",
    ),
    mistakes=(
        Mistake(
            _bpr_variant(add=_add_last_only),
            "an entity that occurs in several triples keeps only one of its contributions. `array[rows] += values` writes every "
            "row once, whatever is repeated in `rows`.",
        ),
        Mistake(_bpr_variant(mean=False), "the loss is a mean over the batch; your gradient is that of the sum."),
        Mistake(
            _bpr_variant(user=-1, positive=-1, negative=-1, item_bias=-1),
            "every gradient has the wrong sign. Which of the two scores is subtracted in x?",
        ),
        Mistake(
            _bpr_variant(slope=lambda x, *_: sigmoid(-x)),
            "the slope is large where the order is already right, small where it is wrong. Look at the argument of the sigmoid.",
        ),
        Mistake(
            _bpr_variant(slope=lambda x, H, u, i, j: sigmoid(np.sum(H[u] * (H[j] - H[i]), axis=1))),
            "the slope is taken at a difference of scores from which the item biases are missing.",
        ),
        Mistake(
            _bpr_variant(slope=lambda x, *_: np.ones_like(x)),
            "the derivative of softplus is missing: every triple pulls equally.",
        ),
        Mistake(_bpr_variant(user=0), "the user's row of H occurs in both scores and receives nothing in your version."),
        Mistake(_bpr_variant(negative=0), "the negative item's row of H receives nothing in your version."),
        Mistake(_bpr_variant(positive=0), "the positive item's row of H receives nothing in your version."),
        Mistake(_bpr_variant(item_bias=0), "grad_H is right, but the item biases receive nothing."),
        Mistake(
            _bpr_variant(user_bias=1),
            "the user's bias stands in both scores. What is left of it in their difference?",
        ),
        Mistake(
            _without_cotangent(bpr_solution),
            "right for grad_loss = 1. A backward is given the gradient of whatever comes after it; yours does not use it.",
        ),
    ),
    options={"wrt": ("H", "bias"), "active_set": lambda H: np.zeros(1, dtype=bool)},
)


# ---- the regulariser -------------------------------------------------------------------------------------------------
def penalty(Z, user, positive, negative, l2):
    """The forward: l2 / B times the squared norms of all rows that the batch touches, each time it touches them."""
    return l2 * sum(np.sum(Z[rows] * Z[rows]) for rows in (user, positive, negative)) / len(user)


def penalty_solution(grad_penalty, Z, user, positive, negative, l2):
    """Gradient with respect to Z."""
    count = np.bincount(np.concatenate([user, positive, negative]), minlength=len(Z))
    return grad_penalty * 2 * l2 / len(user) * count[:, None] * Z


def _penalty_points(seed: int) -> dict:
    point = _bpr_points(seed)
    return {"Z": np.tanh(point["H"]), **{k: point[k] for k in ("user", "positive", "negative")}, "l2": 5.0 - seed % 3}


def _penalty_variant(*, factor=2.0, once=False, everyone=False, roles=(0, 1, 2), mean=True, power=1):
    def variant(grad_penalty, Z, user, positive, negative, l2):
        rows = np.concatenate([(user, positive, negative)[role] for role in roles])
        count = np.bincount(rows, minlength=len(Z))
        count = np.minimum(count, 1) if once else np.ones(len(Z)) if everyone else count
        share = grad_penalty * factor * l2 / (len(user) if mean else 1)
        return share * count[:, None] * Z**power

    return variant


PENALTY = Exercise(
    name="penalty_backward",
    task=(
        "Write `penalty_backward(grad_penalty, Z, user, positive, negative, l2)`. It returns `grad_Z` of shape $(N, d)$, the "
        "gradient of `grad_penalty * penalty`, where penalty = l2 / B times the sum of the squared norms of `Z[user]`, "
        "`Z[positive]` and `Z[negative]`, every occurrence counted."
    ),
    solution=penalty_solution,
    points=_penalty_points,
    forward=penalty,
    hints=(
        "Sort the sum by entity instead of by triple: how often does |Z[e]|^2 occur in it?",
        "With count[e] occurrences of entity e in any role, penalty = l2 / B * sum over e of count[e] |Z[e]|^2.",
        "`np.bincount(numbers, minlength=N)` counts. The derivative of |z|^2 is 2 z.",
    ),
    mistakes=(
        Mistake(_penalty_variant(factor=1.0), "half of what it should be. What is the derivative of a square?"),
        Mistake(
            _penalty_variant(once=True),
            "every entity of the batch is counted once. One that occurs in three triples is penalised three times.",
        ),
        Mistake(_penalty_variant(everyone=True), "every entity is penalised, also those that the batch does not touch."),
        Mistake(_penalty_variant(mean=False), "the division by the batch's size is missing."),
        Mistake(_penalty_variant(roles=(0,)), "only users are penalised; both items of a triple are too."),
        Mistake(_penalty_variant(roles=(1, 2)), "only items are penalised; the user of a triple is too."),
        Mistake(_penalty_variant(roles=(0, 1)), "the negative items are missing."),
        Mistake(_penalty_variant(power=0), "the gradient does not depend on Z in your version; a square's does."),
        Mistake(
            _without_cotangent(penalty_solution),
            "right for grad_penalty = 1. In the loss the penalty is multiplied by the decay, and that arrives as grad_penalty.",
        ),
    ),
    options={"wrt": "Z"},
)


# ---- Adam ------------------------------------------------------------------------------------------------------------
def adam_solution(x, g, m, v, step, rate, limit):
    """Clip, then one Adam step; `step` counts from 1 and is the number of the step being taken."""
    g = np.clip(g, -limit, limit)
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g * g
    mean = m / (1 - BETA1**step)
    square = v / (1 - BETA2**step)
    return x - rate * mean / (np.sqrt(square) + EPSILON), m, v


def _adam_points(seed: int) -> dict:
    """Gradients beyond the limit, ordinary ones, and some so small that epsilon decides."""
    rng = np.random.default_rng([7, seed])
    scale = np.array([10.0, 1.0, 1e-3, 3e-9, 1e-9])[:, None]
    g = scale * rng.choice([-1.0, 1.0], (5, 4)) * rng.uniform(0.5, 1.5, (5, 4))
    step = (1, 2, 40)[seed % 3]
    seen = 0.0 if step == 1 else 1.0
    m = seen * scale * rng.standard_normal((5, 4)) * (1 - BETA1 ** (step - 1))
    v = seen * (scale * rng.uniform(0.5, 1.5, (5, 4))) ** 2 * (1 - BETA2 ** (step - 1))
    return {"x": np.zeros((5, 4)), "g": g, "m": m, "v": v, "step": step, "rate": 0.1, "limit": 3.0}


def _adam_variant(*, clip=True, mean_correction=True, square_correction=True, sign=1.0, epsilon="outside", betas=(BETA1, BETA2),
                  square=True, late=False, corrected_moments=False):  # fmt: skip
    def variant(x, g, m, v, step, rate, limit):
        whole = g
        g = np.clip(g, -limit, limit) if clip else g
        b1, b2 = betas
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (whole if late else g) ** (2 if square else 1)
        mean = m / (1 - b1**step) if mean_correction else m
        square_mean = v / (1 - b2**step) if square_correction else v
        root = np.sqrt(np.abs(square_mean))
        if epsilon == "outside":
            below = root + EPSILON
        elif epsilon == "inside":
            below = np.sqrt(np.abs(square_mean) + EPSILON)
        elif epsilon == "early":
            below = (np.sqrt(v) + EPSILON) / np.sqrt(1 - b2**step)
        else:
            below = np.where(root > 0, root, 1)
        new = x - sign * rate * mean / below
        return (new, mean, square_mean) if corrected_moments else (new, m, v)

    return variant


def _clip_by_norm(x, g, m, v, step, rate, limit):
    norm = np.sqrt(np.sum(g * g))
    return _adam_variant(clip=False)(x, g * min(1.0, limit / norm), m, v, step, rate, limit)


ADAM = Exercise(
    name="one_adam_step",
    task=(
        "Write `one_adam_step(x, g, m, v, step, rate, limit)`. Clip every entry of the gradient `g` to `[-limit, limit]`, then "
        "take one Adam step with beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8. `m` and `v` are the running moments before the "
        "step (not corrected), `step` is the number of this step, from 1. Return the new `x`, `m` and `v`, in this "
        "order; all have the shape of `x`."
    ),
    solution=adam_solution,
    points=_adam_points,
    hints=(
        "Four lines: clip; update m and v; divide each by the total weight it holds; move x.",
        "After k steps the weights in m add up to 1 - 0.9**k, those in v to 1 - 0.999**k.",
        "x - rate * m_hat / (sqrt(v_hat) + epsilon), and the m and v to be returned are those before the correction.",
    ),
    mistakes=(
        Mistake(
            _adam_variant(mean_correction=False, square_correction=False),
            "neither moment is corrected. They start at 0, so in the first steps both are too small, and not by the same factor.",
        ),
        Mistake(_adam_variant(mean_correction=False), "the mean m is not corrected for having started at 0."),
        Mistake(_adam_variant(square_correction=False), "the square v is not corrected for having started at 0."),
        Mistake(_adam_variant(clip=False), "the gradient is not clipped before it enters the moments."),
        Mistake(_adam_variant(late=True), "m sees the clipped gradient, v the whole one. Clip first, then forget the whole one."),
        Mistake(_clip_by_norm, "you shorten the gradient as a whole. Clipping by value treats every entry by itself."),
        Mistake(_adam_variant(sign=-1.0), "x moves uphill."),
        Mistake(_adam_variant(epsilon="inside"), "epsilon stands under the root; it belongs beside it."),
        Mistake(
            _adam_variant(epsilon="early"),
            "epsilon is added to the root before v is corrected. That shows only where gradients are as small as epsilon.",
        ),
        Mistake(_adam_variant(epsilon="none"), "epsilon is missing."),
        Mistake(_adam_variant(betas=(BETA2, BETA1)), "beta1 and beta2 are exchanged."),
        Mistake(_adam_variant(square=False), "v is to be the running mean of the squared gradient."),
        Mistake(
            _adam_variant(corrected_moments=True),
            "x is right, but m and v are to be returned as they stand before the correction: the next step corrects them anew.",
        ),
    ),
)

EXERCISES = (BPR, PENALTY, ADAM)
