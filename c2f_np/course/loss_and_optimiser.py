"""Exercises on the loss and the optimiser: softplus and its slope, gathered rows and BPR backwards, the penalty, the draw of
triples, one step of Adam, and a first training loop.

Shapes
------
H, Z : (N, d)     b : (N,)     user, positive, negative : (B,) entity numbers, the same one possibly several times
R : (U, I) csr
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from .exercise import Exercise, Mistake

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


# ---- the curve of one triple -------------------------------------------------------------------------------------------
@dataclass(repr=False)
class QuietExercise(Exercise):
    """An exercise whose attempt must not overflow or divide by zero on the way: what NumPy would warn of is an error here.

    With `relative`, small results have to be as accurate as large ones.
    """

    relative: float | None = None

    def _wrong(self, attempt: Callable, seed: int, seeds) -> str | None:
        if not callable(attempt):
            return super()._wrong(attempt, seed, seeds)

        @functools.wraps(attempt)
        def without_warnings(*given):
            try:
                with np.errstate(over="raise", divide="raise", invalid="raise"):
                    return attempt(*given)
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"{error}. Which exponent can be large and positive? (np.where computes both of its branches.)"
                ) from error

        message = super()._wrong(without_warnings, seed, seeds)
        if message is not None or self.relative is None:
            return message
        x = self.points(seed)["x"]
        found, right = np.asarray(attempt(x)), self.solution(x)
        worst = np.unravel_index(np.argmax(np.abs(found - right) / np.maximum(right, 1e-300)), x.shape)
        if abs(found[worst] - right[worst]) <= self.relative * right[worst]:
            return None
        return f"right where the result is large; but at x = {x[worst]:.3g} yours is {found[worst]:.3g}, not {right[worst]:.3g}."


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(np.minimum(x, -x)))


def sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def _curve_points(seed: int) -> dict:
    """Ordinary numbers; some whose exponential overflows; some whose exponential disappears beside 1."""
    rng = np.random.default_rng([51, seed])
    wide = np.array([[1.0], [-1.0]]) * np.array([0.3, 2.0, 60.0, 1000.0])
    return {"x": (rng.normal(0, 2, 9), wide, np.append(rng.uniform(-60, -40, 7), [-1.0, 0.5, 2.0]))[seed % 3]}


def _careful(x):
    return np.exp(-np.abs(x))


SOFTPLUS = QuietExercise(
    name="softplus",
    task=(
        "Write `softplus(x)`. It returns $\\log(1+e^x)$ of every entry of the array `x`, of its shape. It must be accurate (to a "
        "relative error of 1e-9) and silent, without a warning of NumPy, for $x$ between -1000 and 1000."
    ),
    solution=softplus,
    points=_curve_points,
    relative=1e-9,
    hints=(
        "Only an exponential of something negative is safe. Take $e^x$ out of the sum where x > 0.",
        "log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).",
        "`np.log1p(y)` is log(1 + y) without forming 1 + y.",
    ),
    mistakes=(
        Mistake(lambda x: np.maximum(x, 0), "this is max(x, 0), the same curve with a corner: what is added near 0 is missing."),
        Mistake(
            lambda x: np.maximum(x, 0) + np.log1p(_careful(x)) - np.log(2),
            "the curve is shifted: softplus(0) is log 2.",
        ),
        Mistake(
            lambda x: np.maximum(-x, 0) + np.log1p(_careful(x)),
            "this is log(1 + e^-x), which falls with x. softplus grows.",
        ),
        Mistake(sigmoid, "this is the derivative of softplus, which comes next."),
    ),
)

SIGMOID = QuietExercise(
    name="sigmoid",
    task=(
        "Write `sigmoid(x)`. It returns $1/(1+e^{-x})$, the derivative of softplus, of every entry of the array `x`, of its "
        "shape, and as silently as `softplus`."
    ),
    solution=sigmoid,
    points=_curve_points,
    hints=(
        "With small = e^-|x|, which is never above 1, write the formula once for x >= 0 and once for x < 0.",
        "For x < 0 multiply numerator and denominator of 1 / (1 + e^-x) by e^x.",
        "`np.where(x >= 0, 1, small) / (1 + small)`. Another way: `np.tanh` never overflows.",
    ),
    mistakes=(
        Mistake(
            lambda x: np.where(x >= 0, _careful(x), 1) / (1 + _careful(x)),
            "this is the sigmoid of -x: it should be near 1 for large x.",
        ),
        Mistake(lambda x: 1 / (1 + _careful(x)), "right for x >= 0 only: -|x| is not -x for negative x."),
        Mistake(softplus, "this is softplus. Asked for is its derivative."),
        Mistake(
            lambda x: _careful(x) / (1 + _careful(x)) ** 2,
            "this is the second derivative of softplus, a bump. The first one rises from 0 to 1.",
        ),
        Mistake(np.tanh, "tanh rises from -1 to 1, and twice as steeply. How are the two related?"),
    ),
)


# ---- rows that are fetched -----------------------------------------------------------------------------------------------
def gather_backward(grad_rows, rows, n_rows):
    grad_X = np.zeros((n_rows, *grad_rows.shape[1:]))
    np.add.at(grad_X, rows, grad_rows)
    return grad_X


def _gather_points(seed: int) -> dict:
    """Rows that occur two and three times, and rows that do not occur; numbers instead of rows at the second seed."""
    rng = np.random.default_rng([52, seed])
    rows = np.array([4, 1, 4, 0, 1, 4, 6])[rng.permutation(7)]
    shape = (7,) if seed % 3 == 1 else (7, 2 + seed % 3)
    return {"grad_rows": rng.standard_normal(shape), "rows": rows, "n_rows": 8 + seed % 2}


def _gathered(combine: Callable) -> Callable:
    """What `combine` makes of an empty gradient, the rows and what arrives at them."""

    def variant(grad_rows, rows, n_rows):
        grad_X = np.zeros((n_rows, *grad_rows.shape[1:]))
        combine(grad_X, rows, grad_rows)
        return grad_X

    return variant


def _add_last_only(target, rows, values):
    """``target[rows] += values``, which keeps one contribution of each row."""
    target[rows] += values


def _set_last(target, rows, values):
    target[rows] = values


def _add_mean(target, rows, values):
    np.add.at(target, rows, values)
    target /= np.maximum(np.bincount(rows, minlength=len(target)), 1).reshape(-1, *[1] * (target.ndim - 1))


def _keep_first(target, rows, values):
    _add_last_only(target, rows[::-1], values[::-1])


GATHER = Exercise(
    name="gather_backward",
    task=(
        "The forward fetches rows, `Y = X[rows]`, and a row may be fetched several times. Write "
        "`gather_backward(grad_rows, rows, n_rows)`. It returns the gradient with respect to `X`, which has `n_rows` rows, from "
        "`grad_rows`, the gradient at `Y`. `rows` holds $B$ numbers; `grad_rows` is $(B, d)$, or $(B,)$ if `X` is a vector."
    ),
    solution=gather_backward,
    points=_gather_points,
    hints=(
        "Used twice, gradients add. What does a row receive that was fetched three times, and what one that was not fetched?",
        "Begin with zeros of shape (n_rows, *grad_rows.shape[1:]) and add every row of grad_rows at its place.",
        "`grad[rows] += ...` is not a loop. `np.add.at(grad, rows, values)` is.",
    ),
    mistakes=(
        Mistake(
            _gathered(_add_last_only),
            "a row that was fetched several times keeps only one of its contributions. `array[rows] += values` writes every "
            "row once, whatever is repeated in `rows`.",
        ),
        Mistake(
            _gathered(_keep_first), "a row that was fetched several times keeps only the first of its contributions. They add up."
        ),
        Mistake(_gathered(_add_mean), "you take the mean of a row's contributions. What is used twice receives the sum."),
        Mistake(
            lambda grad_rows, rows, n_rows: np.zeros((n_rows, *grad_rows.shape[1:])) + grad_rows.sum(axis=0),
            "every row receives everything. A row receives only what arrives where it was fetched to.",
        ),
    ),
)


# ---- BPR -------------------------------------------------------------------------------------------------------------
def bpr_loss(H, b, user, positive, negative):
    x = np.sum(H[user] * (H[positive] - H[negative]), axis=1) + b[positive] - b[negative]
    return np.mean(softplus(-x))


def bpr_backward(grad_loss, H, b, user, positive, negative):
    x = np.sum(H[user] * (H[positive] - H[negative]), axis=1) + b[positive] - b[negative]
    grad_x = -grad_loss * sigmoid(-x) / len(user)
    to_user, to_item = grad_x[:, None] * (H[positive] - H[negative]), grad_x[:, None] * H[user]
    grad_H = gather_backward(to_user, user, len(H))
    grad_H += gather_backward(to_item, positive, len(H)) - gather_backward(to_item, negative, len(H))
    grad_b = gather_backward(grad_x, positive, len(b)) - gather_backward(grad_x, negative, len(b))
    return grad_H, grad_b


def _minus_x(H, b, user, positive, negative):
    return np.sum(H[user] * (H[negative] - H[positive]), axis=1) + b[negative] - b[positive]


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
        "b": rng.standard_normal(n_users + n_items),
        "user": user,
        "positive": positive + n_users,
        "negative": negative + n_users,
    }


def _bpr_variant(*, slope=None, add=np.add.at, user=1.0, positive=1.0, negative=1.0, user_bias=0.0, item_bias=1.0, mean=True):
    """The solution with parts of it changed, for the list of mistakes."""

    def variant(grad_loss, H, b, u, i, j):
        minus_x = _minus_x(H, b, u, i, j)
        s = grad_loss * (sigmoid(minus_x) if slope is None else slope(minus_x, H, u, i, j))
        s = s / len(u) if mean else s
        grad_H, grad_b = np.zeros_like(H), np.zeros_like(b)
        add(grad_H, u, user * s[:, None] * (H[j] - H[i]))
        add(grad_H, i, -positive * s[:, None] * H[u])
        add(grad_H, j, negative * s[:, None] * H[u])
        add(grad_b, u, user_bias * s)
        add(grad_b, i, -item_bias * s)
        add(grad_b, j, item_bias * s)
        return grad_H, grad_b

    return variant


def _without_cotangent(solution):
    def variant(grad_loss, *arguments):
        return solution(1.0, *arguments)

    return variant


BPR = Exercise(
    name="bpr_backward",
    task=(
        "Write `bpr_backward(grad_loss, H, b, user, positive, negative)`. It returns `grad_H` of shape $(N, d)$ and `grad_b` of "
        "shape $(N,)$, the gradients of `grad_loss * loss`, where loss is the mean over the batch of softplus(-x), x = s_ui "
        "- s_uj, and s_ui = <H[u], H[i]> + b[u] + b[i]. `user`, `positive` and `negative` hold $B$ entity numbers, "
        "and the same entity may occur in several triples."
    ),
    solution=bpr_backward,
    points=_bpr_points,
    forward=bpr_loss,
    hints=(
        "The loss is a function of x = s_ui - s_uj, one number per triple. What is its derivative with respect to x, with the "
        "mean and the cotangent in it? Call that grad_x, of shape (B,).",
        "x = <H[u], H[i] - H[j]> + b[i] - b[j]. Each of the three rows H[u], H[i], H[j] receives grad_x times what stands "
        "beside it.",
        "An entity that occurs in two triples receives both contributions: `my.gather_backward`.",
        "grad_x = -sigmoid(-x) / B. grad_H gets grad_x (H[i] - H[j]) at u, grad_x H[u] at i, -grad_x H[u] at j.",
    ),
    mistakes=(
        Mistake(
            _bpr_variant(add=_add_last_only),
            "an entity that occurs in several triples keeps only one of its contributions. `array[rows] += values` writes every "
            "row once, whatever is repeated in `rows`.",
        ),
        Mistake(
            _bpr_variant(add=_set_last),
            "contributions are stored over one another. Every row should receive the sum of all that arrives at it.",
        ),
        Mistake(_bpr_variant(negative=-1), "both items of a triple move the same way. They stand in x with opposite signs."),
        Mistake(
            _bpr_variant(slope=lambda minus_x, *_: sigmoid(minus_x) * sigmoid(-minus_x)),
            "this is the derivative of the sigmoid. The sigmoid is the derivative already, that of softplus.",
        ),
        Mistake(_bpr_variant(mean=False), "the loss is a mean over the batch; your gradient is that of the sum."),
        Mistake(
            _bpr_variant(user=-1, positive=-1, negative=-1, item_bias=-1),
            "every gradient has the wrong sign: the loss falls when x = s_ui - s_uj grows.",
        ),
        Mistake(
            _bpr_variant(slope=lambda minus_x, *_: sigmoid(-minus_x)),
            "the slope is large where the order is already right, small where it is wrong. Look at the argument of the sigmoid.",
        ),
        Mistake(
            _bpr_variant(slope=lambda minus_x, H, u, i, j: sigmoid(np.sum(H[u] * (H[j] - H[i]), axis=1))),
            "the slope is taken at a difference of scores from which the item biases are missing.",
        ),
        Mistake(
            _bpr_variant(slope=lambda minus_x, *_: np.ones_like(minus_x)),
            "the derivative of softplus is missing: every triple pulls equally.",
        ),
        Mistake(_bpr_variant(user=0), "the user's row of H occurs in both scores and receives nothing in your version."),
        Mistake(_bpr_variant(negative=0), "the negative item's row of H receives nothing in your version."),
        Mistake(_bpr_variant(positive=0), "the positive item's row of H receives nothing in your version."),
        Mistake(_bpr_variant(item_bias=0), "grad_H is right, but the item biases receive nothing."),
        *(
            Mistake(
                _bpr_variant(user_bias=factor), "the user's bias stands in both scores. What is left of it in their difference?"
            )
            for factor in (1, -1, 2, -2)
        ),
        Mistake(
            _without_cotangent(bpr_backward),
            "right for grad_loss = 1. A backward is given the gradient of whatever comes after it; yours does not use it.",
        ),
    ),
    options={"wrt": ("H", "b"), "active_set": lambda H: np.zeros(1, dtype=bool)},
)


# ---- the penalty ---------------------------------------------------------------------------------------------------
def penalty(Z, user, positive, negative, l2):
    return l2 * sum(np.sum(Z[rows] * Z[rows]) for rows in (user, positive, negative)) / len(user)


def penalty_backward(grad_penalty, Z, user, positive, negative, l2):
    count = np.bincount(np.concatenate([user, positive, negative]), minlength=len(Z))
    return grad_penalty * 2 * l2 / len(user) * count[:, None] * Z


def _penalty_points(seed: int) -> dict:
    point = _bpr_points(seed)
    return {"Z": np.tanh(point["H"]), **{k: point[k] for k in ("user", "positive", "negative")}, "l2": 5.0 - seed % 3}


ONCE_IN_EACH_ROLE = (
    "an entity that occurs several times in one role keeps one of its contributions. `array[rows] += values` writes "
    "every row once."
)


def once_in_each_role(grad_penalty, Z, user, positive, negative, l2):
    grad_Z = np.zeros_like(Z)
    for rows in (user, positive, negative):
        grad_Z[rows] += grad_penalty * 2 * l2 / len(user) * Z[rows]
    return grad_Z


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
        "gradient of `grad_penalty * penalty`, where penalty = l2 / B times the sum of the squared norms of "
        "`Z[user]`, `Z[positive]` and `Z[negative]`, every occurrence counted."
    ),
    solution=penalty_backward,
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
        Mistake(once_in_each_role, ONCE_IN_EACH_ROLE),
        Mistake(_penalty_variant(everyone=True), "every entity is penalised, also those that the batch does not touch."),
        Mistake(_penalty_variant(mean=False), "the division by the batch's size is missing."),
        Mistake(_penalty_variant(roles=(0,)), "only users are penalised; both items of a triple are too."),
        Mistake(_penalty_variant(roles=(1, 2)), "only items are penalised; the user of a triple is too."),
        Mistake(_penalty_variant(roles=(0, 1)), "the negative items are missing."),
        Mistake(_penalty_variant(power=0), "the gradient does not depend on Z in your version; a square's does."),
        Mistake(
            _without_cotangent(penalty_backward),
            "right for grad_penalty = 1. grad_penalty is the cotangent of the penalty, which need not be 1.",
        ),
    ),
    options={"wrt": "Z"},
)


# ---- the draw of triples -----------------------------------------------------------------------------------------------
def sample_triples(R, rng):
    has = R.toarray() != 0
    n_users, n_items = has.shape
    degree = has.sum(axis=1)
    items = np.argsort(has, axis=1, kind="stable")  # in each row first the items that the user lacks, then those that she has
    user = rng.choice(np.flatnonzero((degree > 0) & (degree < n_items)), R.nnz)
    n_free = n_items - degree[user]
    negative = items[user, rng.integers(0, n_free)]
    positive = items[user, n_free + rng.integers(0, degree[user])]
    return user, n_users + positive, n_users + negative


def draw_batches(R, n_draws, size, rng):
    draws = [sample_triples(R, rng) for _ in range(n_draws)]
    user, positive, negative = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    cuts = range(0, len(user), size)
    return [(user[k : k + size], positive[k : k + size], negative[k : k + size]) for k in cuts]


_NOT_HERS = "some positives are items that their user does not have."
_ARE_HERS = "some negatives are items that their user has."
_EXCHANGED = "positives and negatives are exchanged: the second result holds an item that the user has."
_ITEM_NUMBERS = "items are asked for as entity numbers: item i of U users is entity U + i."
_BY_CLICKS = "a user with many items is drawn more often than one with few. Draw users, not interactions."
_USERS = "users who have an item and lack one should all be drawn equally often. Some are drawn more often, or never."
_POSITIVES = "some of a user's items are drawn more often than others as positives."
_NEGATIVES = "some of the items that a user lacks are drawn more often than others as negatives."
_SAME_AGAIN = "a second call gives the same triples again. Draw from the `rng` that is given, and do not make another one."
_OTHER_SOURCE = "the same `rng` gives other triples at another time. Draw everything from the `rng` that is given."


class _Counted:
    """A generator that gives up after so many draws in one call: nobody has to wait for a loop without an end."""

    def __init__(self, seed):
        self._rng, self._left = np.random.default_rng(seed), 0

    def for_one_call(self) -> _Counted:
        self._left = 10_000
        return self

    def __getattr__(self, name):
        self._left -= 1
        if self._left < 0:
            raise RuntimeError(
                "you drew and drew, and found nothing. One user here has every item: what does your loop do with her?"
            )
        return getattr(self._rng, name)


@dataclass(repr=False)
class SamplerExercise(Exercise):
    """A draw is asked for: it is marked by what is drawn, and by how often."""

    def _wrong(self, attempt: Callable, seed: int, seeds) -> str | None:
        if not callable(attempt):
            return super()._wrong(attempt, seed, seeds)
        R = self.points(seed)["R"]
        before = R.toarray()
        rng, drawn = _Counted([54, seed]), []
        try:
            for _ in range(200):
                drawn.append(attempt(R, rng.for_one_call()))
                message = _wrong_triples(drawn[-1], before)
                if message is not None:
                    return message
            once_more = attempt(R, _Counted([54, seed]).for_one_call())
        except NotImplementedError:
            return "not written yet. Write the function, then run the check again."
        except Exception as error:  # whatever a reader's function raises is an answer to the reader
            return f"your function ends in {type(error).__name__}: {error}"
        if (R.toarray() != before).any():
            return "your function changes its input R. Work on a copy."
        if _equal(drawn[0], drawn[1]):
            return _SAME_AGAIN
        if not _equal(drawn[0], once_more):
            return _OTHER_SOURCE
        return _uneven(*(np.concatenate([np.asarray(triples[k]) for triples in drawn]) for k in range(3)), before)


def _equal(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _wrong_triples(result, R) -> str | None:
    """What is wrong with one draw, in words."""
    n_users, n_items = R.shape
    if result is None:
        return "your function returns nothing (None). Did you forget the return?"
    if not isinstance(result, (tuple, list, np.ndarray)) or len(result) != 3:
        return "asked for are 3 results: user, positive, negative."
    user, positive, negative = (np.asarray(part) for part in result)
    if not user.ndim == positive.ndim == negative.ndim == 1 or not len(user) == len(positive) == len(negative):
        shapes = f"{user.shape}, {positive.shape} and {negative.shape}"
        return f"asked for are three vectors of one length, not arrays of the shapes {shapes}."
    if any(part.dtype.kind not in "iu" for part in (user, positive, negative)):
        return "entity numbers are integers; yours are not. They could not be used as rows of an array."
    n_triples = np.count_nonzero(R)
    if not n_triples / 4 <= len(user) <= n_triples:
        return f"R has {n_triples} entries, and so many triples are asked for; your function returns {len(user)}."
    if (user < 0).any() or (user >= n_users).any():
        return f"the users' numbers should lie between 0 and {n_users - 1}."
    if min(positive.min(), negative.min()) < n_users and max(positive.max(), negative.max()) < n_items:
        return _ITEM_NUMBERS
    if min(positive.min(), negative.min()) < n_users or max(positive.max(), negative.max()) >= n_users + n_items:
        return f"the items' numbers should lie between {n_users} and {n_users + n_items - 1}."
    hers, lacked = R[user, positive - n_users] != 0, R[user, negative - n_users] == 0
    if not hers.any() and not lacked.any():
        return _EXCHANGED
    return _NOT_HERS if not hers.all() else _ARE_HERS if not lacked.all() else None


def _uneven(user, positive, negative, R) -> str | None:
    """Whether anything is drawn too often or too rarely for chance: by more than 7 standard deviations."""
    degree = np.count_nonzero(R, axis=1)
    usable = (degree > 0) & (degree < R.shape[1])
    found = np.bincount(user, minlength=len(R))[usable]
    if _is_uneven(found, len(user) / usable.sum()):
        by_clicks = degree[usable] / degree[usable].sum() * len(user)
        return _USERS if _is_uneven(found, by_clicks) else _BY_CLICKS
    for u in np.flatnonzero(usable):
        for items, has, message in ((positive, True, _POSITIVES), (negative, False, _NEGATIVES)):
            wanted = np.flatnonzero((R[u] != 0) == has)
            found = np.bincount(items[user == u] - len(R), minlength=R.shape[1])[wanted]
            if _is_uneven(found, found.sum() / len(wanted)):
                return message
    return None


def _is_uneven(found, expected) -> bool:
    return bool((np.abs(found - expected) > 7 * np.sqrt(expected)).any())


def _draw_points(seed: int) -> dict:
    """Among eight users one with every item, one with none, one who lacks a single item, one who has a single one."""
    rng = np.random.default_rng([53, seed])
    n_items = 7 + seed % 2
    R = (rng.random((8, n_items)) < 0.5).astype(float)
    R[:, 0], R[:, 1] = 1, 0
    R[0], R[3], R[5], R[6] = 1, 0, 1, 0
    R[5, 2 + seed % 3] = 0
    R[6, 4] = 1
    return {"R": sparse.csr_array(R)}


def _drawn(*, by_clicks=False, first_positive=False, popular=False, items_from_zero=False, swap=False, free=False, any_item=False,
           fixed=False, elsewhere=False):  # fmt: skip
    """The right draw with something changed."""

    def variant(R, rng):
        rng = np.random.default_rng(0) if fixed else np.random.default_rng() if elsewhere else rng
        has = R.toarray() != 0
        n_users, n_items = has.shape
        degree = has.sum(axis=1)
        usable = np.flatnonzero((degree > 0) & (degree < n_items))
        share = degree[usable] if by_clicks else np.ones(len(usable))
        user = rng.choice(usable, R.nnz, p=share / share.sum())
        weight = has.sum(axis=0) + 0.1 if popular else np.ones(n_items)
        positive, negative = np.empty_like(user), np.empty_like(user)
        for k, u in enumerate(user):
            hers, lacked = np.flatnonzero(has[u]), np.flatnonzero(~has[u])
            positive[k] = hers[0] if first_positive else rng.integers(n_items) if any_item else hers[rng.integers(len(hers))]
            share = np.cumsum(weight[lacked])
            negative[k] = rng.integers(n_items) if free else lacked[np.searchsorted(share, share[-1] * rng.random())]
        if swap:
            positive, negative = negative, positive
        start = 0 if items_from_zero else n_users
        return user, start + positive, start + negative

    return variant


SAMPLE = SamplerExercise(
    name="sample_triples",
    task=(
        "Write `sample_triples(R, rng)`. `R` is a sparse csr array of $U\\times I$ interactions, `rng` a NumPy generator. It "
        "returns three arrays of entity numbers, `user`, `positive` and `negative`, of one length: as many triples as `R` has "
        "entries. Each user is drawn uniformly among those who have an item and lack one; the positive uniformly among the items "
        "that she has, the negative uniformly among those that she lacks. Item $i$ is entity $U+i$."
    ),
    solution=sample_triples,
    points=_draw_points,
    hints=(
        "Who can be drawn at all? A user without an item has no positive, a user with all of them has no negative.",
        "With `has = R.toarray() != 0`, `has[user, item]` says of many pairs at once whether the user has the item. So negatives "
        "can be drawn anew where they are wrong, until none is.",
        "Without a second try: `np.argsort(has, axis=1, kind='stable')` puts first the items that each user lacks, then those "
        "that she has. A random column of the first part is a negative, one of the second part a positive.",
    ),
    mistakes=(
        Mistake(_drawn(by_clicks=True), _BY_CLICKS),
        Mistake(_drawn(first_positive=True), _POSITIVES),
        Mistake(_drawn(popular=True), _NEGATIVES),
        Mistake(_drawn(items_from_zero=True), _ITEM_NUMBERS),
        Mistake(_drawn(swap=True), _EXCHANGED),
        Mistake(_drawn(free=True), _ARE_HERS),
        Mistake(_drawn(any_item=True), _NOT_HERS),
        Mistake(_drawn(fixed=True), _SAME_AGAIN),
        Mistake(_drawn(elsewhere=True), _OTHER_SOURCE),
    ),
)


# ---- Adam ------------------------------------------------------------------------------------------------------------
def adam_step(theta, grad, m, v, step, rate):
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    mean, square = m / (1 - 0.9**step), v / (1 - 0.999**step)
    return theta - rate * mean / (np.sqrt(square) + 1e-8), m, v


def _adam_points(seed: int) -> dict:
    """Large gradients, ordinary ones, and some so small that epsilon decides."""
    rng = np.random.default_rng([7, seed])
    scale = np.array([10.0, 1.0, 1e-3, 3e-9, 1e-9])[:, None]
    grad = scale * rng.choice([-1.0, 1.0], (5, 4)) * rng.uniform(0.5, 1.5, (5, 4))
    step = (2, 3, 40)[seed % 3]
    m = scale * rng.standard_normal((5, 4)) * (1 - BETA1 ** (step - 1))
    v = (scale * rng.uniform(0.5, 1.5, (5, 4))) ** 2 * (1 - BETA2 ** (step - 1))
    return {"theta": rng.standard_normal((5, 4)), "grad": grad, "m": m, "v": v, "step": step, "rate": 0.1}


def _adam_variant(*, mean_correction=True, square_correction=True, sign=1.0, epsilon="outside", betas=(BETA1, BETA2),
                  square=True, corrected_moments=False, late=0, old_moments=False):  # fmt: skip
    def variant(theta, grad, m, v, step, rate):
        b1, b2 = betas
        before = m, v
        m = b1 * m + (1 - b1) * grad
        v = b2 * v + (1 - b2) * grad ** (2 if square else 1)
        mean = m / (1 - b1 ** (step + late)) if mean_correction else m
        square_mean = v / (1 - b2 ** (step + late)) if square_correction else v
        root = np.sqrt(np.abs(square_mean))
        if epsilon == "outside":
            below = root + EPSILON
        elif epsilon == "inside":
            below = np.sqrt(np.abs(square_mean) + EPSILON)
        elif epsilon == "early":
            below = (np.sqrt(np.abs(v)) + EPSILON) / np.sqrt(1 - b2**step)
        else:
            below = np.where(root > 0, root, 1)
        new = theta - sign * rate * mean / below
        return (new, mean, square_mean) if corrected_moments else (new, *before) if old_moments else (new, m, v)

    return variant


ADAM = Exercise(
    name="adam_step",
    task=(
        "Write `adam_step(theta, grad, m, v, step, rate)`. It takes one Adam step with beta1 = 0.9, beta2 = 0.999, epsilon = "
        "1e-8. `m` and `v` are the running moments before the step (not corrected), `step` is the number of this step, from 1. "
        "Return the new `theta`, `m` and `v`, in this order; all have the shape of `theta`."
    ),
    solution=adam_step,
    points=_adam_points,
    hints=(
        "Three lines: update m and v; divide each by the total weight it holds; move theta.",
        "After k steps the weights in m add up to 1 - 0.9**k, those in v to 1 - 0.999**k.",
        "theta - rate * mean / (sqrt(square) + epsilon), and the m and v to be returned are those before the correction.",
    ),
    mistakes=(
        Mistake(
            _adam_variant(mean_correction=False, square_correction=False),
            "neither moment is corrected. They start at 0, so in the first steps both are too small, and not by the same factor.",
        ),
        Mistake(_adam_variant(mean_correction=False), "the mean m is not corrected for having started at 0."),
        Mistake(_adam_variant(square_correction=False), "the square v is not corrected for having started at 0."),
        Mistake(_adam_variant(late=1), "the correction is that of the next step: `step` is the number of this one, from 1."),
        Mistake(_adam_variant(late=-1), "the correction is that of the step before: `step` is the number of this one, from 1."),
        Mistake(_adam_variant(sign=-1.0), "theta moves uphill."),
        Mistake(
            lambda theta, grad, m, v, step, rate: (theta - rate * grad, *adam_step(theta, grad, m, v, step, rate)[1:]),
            "m and v are right, but theta moves along the gradient itself. Adam moves along their ratio.",
        ),
        Mistake(_adam_variant(epsilon="inside"), "epsilon stands under the root; it belongs beside it."),
        Mistake(
            _adam_variant(epsilon="early"),
            "epsilon is added to the root before v is corrected. That shows only where gradients are as small as epsilon.",
        ),
        Mistake(_adam_variant(epsilon="none"), "epsilon is missing."),
        Mistake(_adam_variant(betas=(BETA2, BETA1)), "beta1 and beta2 are exchanged."),
        Mistake(_adam_variant(square=False), "v is to be the running mean of the squared gradient."),
        Mistake(_adam_variant(old_moments=True), "theta is right, but m and v are returned as they came in."),
        Mistake(
            _adam_variant(corrected_moments=True),
            "theta is right, but m and v are to be returned as they stand before the correction: the next step corrects them "
            "anew.",
        ),
    ),
)


# ---- a training loop -----------------------------------------------------------------------------------------------------
def train_table(H, b, batches, rate):
    m_H = v_H = np.zeros_like(H)
    m_b = v_b = np.zeros_like(b)
    losses = []
    for step, batch in enumerate(batches, 1):
        losses.append(bpr_loss(H, b, *batch))
        grad_H, grad_b = bpr_backward(1.0, H, b, *batch)
        H, m_H, v_H = adam_step(H, grad_H, m_H, v_H, step, rate)
        b, m_b, v_b = adam_step(b, grad_b, m_b, v_b, step, rate)
    return H, b, losses


def preferred(b, item: int):
    """Biases with which everybody prefers the item by so much that its gradient is as small as Adam's epsilon."""
    return np.where(np.arange(len(b)) == item, 18.0, b)


def _table_points(seed: int) -> dict:
    """Batches of unequal sizes; the first item, which is preferred by far, is never a negative."""
    rng = np.random.default_rng([55, seed])
    n_users, n_items = 4, 6
    batches = []
    for size in (7, 5, 9, 6):
        positive = rng.integers(0, n_items, size)
        positive[0] = 0
        negative = 1 + (np.maximum(positive, 1) + rng.integers(0, n_items - 2, size)) % (n_items - 1)
        batches.append((rng.integers(0, n_users, size), n_users + positive, n_users + negative))
    return {
        "H": rng.standard_normal((n_users + n_items, 3 + seed % 2)),
        "b": preferred(rng.standard_normal(n_users + n_items), n_users),
        "batches": batches,
        "rate": 0.1,
    }


def trained(
    loss, gradients, *, parts=2, step=lambda k: k, fresh=False, after=False, sign=1.0, plain=False, no_step=(), first_batch=False,
    each_counts=False, in_turn=False,
):  # fmt: skip
    """A training loop with something changed, for the lists of mistakes here and of the stages.

    `loss(parameters, batch)`, `gradients(parameters, batch)`; `parts` parameters are trained.
    """

    def variant(parameters, batches, rate):
        parameters = list(parameters)
        moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters[:parts]]
        losses = []
        for k, given in enumerate(batches, 1):
            batch = batches[0] if first_batch else given
            losses.append(loss(parameters, batch))
            found = gradients(parameters, batch)
            for part in range(parts):
                if part in no_step:
                    continue
                grad = gradients(parameters, batch)[part] if in_turn else found[part]
                m, v = (np.zeros_like(grad), np.zeros_like(grad)) if fresh else moments[part]
                number = parts * (k - 1) + part + 1 if each_counts else step(k)
                moved, m, v = adam_step(parameters[part], sign * grad, m, v, number, rate)
                parameters[part] = parameters[part] - rate * grad if plain else moved
                moments[part] = m, v
            if after:
                losses[-1] = loss(parameters, batch)
        return (*parameters, losses)

    return variant


#: What a training loop gets wrong: options of :func:`trained`, and what to tell. `b` is the second parameter.
LOOP_MISTAKES = (
    ({"step": lambda k: 1}, "every step is taken as if it were the first: `step` has to count."),
    ({"step": lambda k: k + 1}, "the steps are counted from 2. The first one is number 1."),
    ({"fresh": True, "step": lambda k: 1}, "every step begins with new moments. They have to be handed on from step to step."),
    ({"fresh": True}, "m and v are zero again at every step. They have to be handed on from step to step."),
    ({"after": True}, "the losses are those after each step. Asked for is the loss of each batch before its step."),
    ({"sign": -1.0}, "the loop climbs: the losses rise."),
    ({"plain": True}, "this is plain gradient descent. Asked for are steps of Adam."),
    ({"no_step": (1,)}, "the biases b are not trained."),
    ({"no_step": (0, 1)}, "nothing is trained: the parameters are returned as they came."),
    ({"first_batch": True}, "every step uses the first batch."),
    ({"each_counts": True}, "`step` goes on with every parameter. All parameters of a batch take their step with one number."),
    ({"in_turn": True}, "one parameter moves before the gradient of the next is computed. Compute all gradients first."),
)


def _table_variant(options: dict) -> Callable:
    loop = trained(lambda p, batch: bpr_loss(*p, *batch), lambda p, batch: bpr_backward(1.0, *p, *batch), **options)
    return lambda H, b, batches, rate: loop((H, b), batches, rate)


TABLE = Exercise(
    name="train_table",
    task=(
        "Write `train_table(H, b, batches, rate)`. `batches` is a list of triples of arrays (user, positive, negative). For each "
        "batch in turn: note its BPR loss, compute the gradients, and move `H` and `b` by one Adam step with the learning rate "
        "`rate`. Moments begin at 0, steps count from 1. Return the new `H`, the new `b` and the list of losses, each before its "
        "step. Leave the arrays that were given as they are."
    ),
    solution=train_table,
    points=_table_points,
    hints=(
        "Each of the two parameters has its own m and its own v, zeros of its shape.",
        "`for step, batch in enumerate(batches, 1):` counts from 1. Loss, gradients, one adam_step for H and one for b.",
        "`H, m_H, v_H = my.adam_step(H, grad_H, m_H, v_H, step, rate)`, and the same for b.",
    ),
    mistakes=tuple(Mistake(_table_variant(options), message) for options, message in LOOP_MISTAKES),
)

GIVEN = (bpr_loss, penalty, draw_batches)
EXERCISES = (SOFTPLUS, SIGMOID, GATHER, BPR, PENALTY, SAMPLE, ADAM, TABLE)
