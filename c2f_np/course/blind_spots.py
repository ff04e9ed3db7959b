"""Exercises on tests that do not see (notebook 10): the reader writes the test, and it is marked with right and wrong code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .exercise import Exercise, Mistake


@dataclass(frozen=True)
class Candidate:
    """Code that a reader's test is tried on.

    Attributes
    ----------
    given : tuple
        What the test is called with: a forward and a backward, or a whole training step.
    message : str
        For wrong code: what to tell a reader whose test lets it pass. For right code: to one whose test rejects it.
    """

    given: tuple
    message: str


@dataclass(repr=False)
class TestExercise(Exercise):
    """A test is asked for: a function of the code under test that returns True for right code and False for wrong code.

    Attributes
    ----------
    right, wrong : tuple of Candidate
        In the order in which they are tried. An exception is a rejection too, as it would be under pytest.
    """

    allowed: tuple[str, ...] = ("c2f_np.gradcheck",)
    right: tuple[Candidate, ...] = ()
    wrong: tuple[Candidate, ...] = ()

    __test__ = False  # not a test of the package itself

    def _wrong(self, attempt: Callable, seed: int, seeds) -> str | None:
        if not callable(attempt):
            return "a function is asked for. Give the function itself, without parentheses."
        candidates = (*self.right, *self.wrong)
        verdicts: dict[int, object] = {}
        # In an order that nobody can count on; what is said is about the first one of the list.
        for k in np.random.default_rng(seed).permutation(len(candidates)):
            try:
                verdicts[k] = attempt(*copy.deepcopy(candidates[k].given))
            except NotImplementedError:
                return "not written yet. Write the function, then run the check again."
            except Exception as error:  # whatever a reader's function raises is an answer to the reader
                verdicts[k] = error
        return next(filter(None, (self._message(k, c, verdicts[k]) for k, c in enumerate(candidates))), None)

    def _message(self, number: int, candidate: Candidate, verdict) -> str | None:
        """What is wrong with a verdict on a candidate, or None."""
        if number >= len(self.right):
            return candidate.message if not isinstance(verdict, Exception) and verdict else None
        if isinstance(verdict, AssertionError):
            return f"{candidate.message} (An assertion failed{f': {verdict}' if str(verdict) else ''}.)"
        if isinstance(verdict, Exception):
            return f"with right code your test ends in {type(verdict).__name__}: {verdict}"
        if verdict is None:
            return "your test returns nothing (None). It should return True or False."
        if not isinstance(verdict, (bool, np.bool_)):
            return f"your test should return True or False, not {type(verdict).__name__}."
        return None if verdict else candidate.message


def _no_points(seed: int) -> dict:
    return {}


def _always_true(forward, backward):
    return True


def _difference(f, x, h=1e-5):
    """Central differences of a scalar function, entry by entry."""
    gradient = np.zeros_like(x)
    for k in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[k] += h
        down[k] -= h
        gradient[k] = (f(up) - f(down)) / (2 * h)
    return gradient


def _close(found, right, tolerance=1e-6) -> bool:
    return bool(np.linalg.norm(found - right) <= tolerance * np.linalg.norm(right))


# ---- check_of_a_product ----------------------------------------------------------------------------------------------
def product(M, X):
    return M @ X


def check_of_a_product(product, backward):
    rng = np.random.default_rng(0)
    for shape in ((4, 3), (4, 4)):  # rectangular, and square but not symmetric
        M = rng.standard_normal(shape)
        X, G = rng.standard_normal((shape[1], 2)), rng.standard_normal((shape[0], 2))
        left, right = np.sum(product(M, X) * G), np.sum(X * backward(G, M))
        if not abs(left - right) <= 1e-12 * np.linalg.norm(M) * np.linalg.norm(X) * np.linalg.norm(G):
            return False
    return True


def _product_backward(G, M):
    return M.T @ G


def _in_a_loop(G, M):
    out = np.zeros((M.shape[1], G.shape[1]))
    for i in reversed(range(M.shape[0])):
        out += np.outer(M[i], G[i])
    return out


def _whichever_fits(G, M):
    return M @ G if M.shape[0] == M.shape[1] else M.T @ G


_PRODUCT_RIGHT = (
    "your test rejects right code. Are both sides compared with a tolerance, and is the order of the arguments as asked for?"
)
_SQUARE = (
    "your test accepts a backward that multiplies with M instead of its transpose whenever the shapes allow it. On which M does "
    "one see the difference?"
)
_ONES = (
    "your test accepts a backward that takes the rows of the cotangent in reversed order. Which cotangents would show that, and "
    "which "
    "would not?"
)
_LOOSE = "your test accepts a backward that is a hundredth of a per cent too large. Nothing here is inexact but rounding."
_ZERO = "your test accepts a backward that returns zeros."
_SIGN = "your test accepts a backward with the wrong sign."


def _symmetric_only(product, backward):
    rng = np.random.default_rng(0)
    M = rng.standard_normal((4, 4))
    M, X, G = M + M.T, rng.standard_normal((4, 2)), rng.standard_normal((4, 2))
    return bool(np.isclose(np.sum(product(M, X) * G), np.sum(X * backward(G, M)), rtol=1e-10))


def _rectangular_only(product, backward):
    rng = np.random.default_rng(0)
    M, X, G = rng.standard_normal((4, 3)), rng.standard_normal((3, 2)), rng.standard_normal((4, 2))
    return bool(np.isclose(np.sum(product(M, X) * G), np.sum(X * backward(G, M)), rtol=1e-10))


def _with_ones(product, backward):
    rng = np.random.default_rng(0)
    for shape in ((4, 3), (4, 4)):
        M, X = rng.standard_normal(shape), rng.standard_normal((shape[1], 2))
        G = np.ones((shape[0], 2))
        if not np.isclose(np.sum(product(M, X) * G), np.sum(X * backward(G, M)), rtol=1e-10):
            return False
    return True


def _loose(product, backward):
    rng = np.random.default_rng(0)
    for shape in ((4, 3), (4, 4)):
        M, X, G = rng.standard_normal(shape), rng.standard_normal((shape[1], 2)), rng.standard_normal((shape[0], 2))
        if not np.isclose(np.sum(product(M, X) * G), np.sum(X * backward(G, M)), rtol=1e-2):
            return False
    return True


def _to_the_last_bit(product, backward):
    rng = np.random.default_rng(0)
    M, G = rng.standard_normal((40, 30)), rng.standard_normal((40, 2))
    return bool(np.array_equal(backward(G, M), np.einsum("ij,ik->jk", M, G)))


def _at_zero(product, backward):
    M = np.zeros((4, 3))
    return bool(np.allclose(backward(np.ones((4, 2)), M), 0))


def _sizes_only(product, backward):
    rng = np.random.default_rng(0)
    for shape in ((4, 3), (4, 4)):
        M, G = rng.standard_normal(shape), rng.standard_normal((shape[0], 2))
        if not np.isclose(np.linalg.norm(backward(G, M)), np.linalg.norm(M.T @ G), rtol=1e-10):
            return False
    return True


PRODUCT = TestExercise(
    "check_of_a_product",
    "Write a test, `check_of_a_product(product, backward)`. It is given two functions, `product(M, X)`, which returns `M @ X` "
    "for dense "
    "arrays `M` of shape (n, m) and `X` of shape (m, d), and `backward(G, M)`, which should return the gradient with respect to "
    "`X`, of "
    "shape (m, d), for a cotangent `G` of shape (n, d). Your test chooses the arrays, calls both, and returns `True` if the "
    "backward is "
    "right and `False` if not. It will be tried on right code and on wrong code.",
    check_of_a_product,
    _no_points,
    hints=(
        "The product is linear in X: the adjoint identity needs no step. Compare np.sum(product(M, X) * G) with "
        "np.sum(X * backward(G, M)).",
        "Draw M, X and G at random. Which special matrices and cotangents would hide a mistake?",
        "Take two operators: one of shape (4, 3), and one of shape (4, 4) that is not symmetric.",
    ),
    mistakes=(
        Mistake(_to_the_last_bit, _PRODUCT_RIGHT),
        Mistake(_symmetric_only, _SQUARE),
        Mistake(_rectangular_only, _SQUARE),
        Mistake(_with_ones, _ONES),
        Mistake(_loose, _LOOSE),
        Mistake(_sizes_only, _SIGN),
        Mistake(_at_zero, _ZERO),
    ),
    right=(
        Candidate((product, _product_backward), _PRODUCT_RIGHT),
        Candidate((product, _in_a_loop), _PRODUCT_RIGHT),
        Candidate((lambda M, X: np.einsum("ij,jk->ik", M, X), _product_backward), _PRODUCT_RIGHT),
    ),
    wrong=(
        Candidate((product, lambda G, M: 0 * (M.T @ G)), _ZERO),
        Candidate((product, lambda G, M: -(M.T @ G)), _SIGN),
        Candidate((product, lambda G, M: M @ G), _SQUARE),
        Candidate((product, _whichever_fits), _SQUARE),
        Candidate((product, lambda G, M: M.T @ G[::-1]), _ONES),
        Candidate((product, lambda G, M: 1.0001 * (M.T @ G)), _LOOSE),
    ),
)


# ---- check_of_a_pairwise_loss ----------------------------------------------------------------------------------------
def pairwise_loss(H, user, positive, negative):
    x = np.sum(H[user] * (H[negative] - H[positive]), axis=1)
    return float(np.mean(np.logaddexp(0, x)))


def _slopes(H, user, positive, negative):
    x = np.sum(H[user] * (H[negative] - H[positive]), axis=1)
    return (1 / (1 + np.exp(-x)) / len(user))[:, None]


def _loss_backward(H, user, positive, negative):
    s, grad = _slopes(H, user, positive, negative), np.zeros_like(H)
    np.add.at(grad, user, s * (H[negative] - H[positive]))
    np.add.at(grad, positive, -s * H[user])
    np.add.at(grad, negative, s * H[user])
    return grad


def _one_triple_at_a_time(H, user, positive, negative):
    s, grad = _slopes(H, user, positive, negative)[:, 0], np.zeros_like(H)
    for k, (u, i, j) in reversed(list(enumerate(zip(user, positive, negative, strict=True)))):
        grad[u] += s[k] * (H[j] - H[i])
        grad[i] -= s[k] * H[u]
        grad[j] += s[k] * H[u]
    return grad


def _overwrites(*roles):
    """Duplicates of these roles collide: ``grad[index] += ...`` keeps the last one only."""

    def backward(H, user, positive, negative):
        s, grad = _slopes(H, user, positive, negative), np.zeros_like(H)
        parts = (
            ("user", user, s * (H[negative] - H[positive])),
            ("positive", positive, -s * H[user]),
            ("negative", negative, s * H[user]),
        )
        for role, index, value in parts:
            if role in roles:
                grad[index] += value
            else:
                np.add.at(grad, index, value)
        return grad

    return backward


def _last_role_wins(H, user, positive, negative):
    """Right as long as no item is positive in one triple and negative in another."""
    grad = _loss_backward(H, user, positive, negative)
    both = np.intersect1d(positive, negative)
    s = _slopes(H, user, positive, negative)
    for item in both:
        grad[item] = np.sum((s * H[user])[negative == item], axis=0)
    return grad


def _slope_at_zero(H, user, positive, negative):
    s, grad = np.full((len(user), 1), 0.5 / len(user)), np.zeros_like(H)
    np.add.at(grad, user, s * (H[negative] - H[positive]))
    np.add.at(grad, positive, -s * H[user])
    np.add.at(grad, negative, s * H[user])
    return grad


def _sum_instead_of_mean(H, user, positive, negative):
    return len(user) * _loss_backward(H, user, positive, negative)


def check_of_a_pairwise_loss(loss, backward):
    H = np.random.default_rng(0).standard_normal((7, 3))  # users 0 to 2, items 3 to 6
    user = np.array([0, 0, 1, 0, 2])
    positive = np.array([3, 3, 4, 5, 3])
    negative = np.array([4, 6, 5, 4, 6])
    numerical = np.zeros_like(H)
    for k in np.ndindex(*H.shape):
        up, down = H.copy(), H.copy()
        up[k] += 1e-5
        down[k] -= 1e-5
        numerical[k] = (loss(up, user, positive, negative) - loss(down, user, positive, negative)) / 2e-5
    found = backward(H, user, positive, negative)
    return bool(np.linalg.norm(found - numerical) <= 1e-7 * np.linalg.norm(numerical))


def _checked_with(size: float, user, positive, negative, tolerance=1e-7, absolute=None):
    """A test at one batch; how a reader might write it."""

    def check(loss, backward):
        H = size * np.random.default_rng(0).standard_normal((12, 3))
        batch = [np.array(part) for part in (user, positive, negative)]
        numerical = _difference(lambda H: loss(H, *batch), H, 1e-5)
        found = backward(H, *batch)
        if absolute is not None:
            return bool(np.allclose(found, numerical, rtol=0, atol=absolute))
        return _close(found, numerical, tolerance)

    return check


_LOSS_RIGHT = "your test rejects right code. Is the step sensible, and the tolerance not below what differences can give?"
_LOSS_ZERO = "your test accepts a backward that returns zeros. Compare relative to the size of the gradient, where there is one."
_LOSS_SIGN = "your test accepts a backward with the wrong sign."
_LOSS_MEAN = "your test accepts a backward that forgets the mean over the batch. Of how many triples is your batch?"
_DUPLICATE_USER = "your test accepts a backward that keeps only one of several contributions to a user. Does one occur twice?"
_DUPLICATE_POSITIVE = "your test accepts a backward that loses contributions when an item is the positive of two triples."
_DUPLICATE_NEGATIVE = "your test accepts a backward that loses contributions when an item is the negative of two triples."
_BOTH_ROLES = "your test accepts a backward that goes wrong when an item is positive in one triple and negative in another."
_NEAR_ZERO = (
    "your test accepts a backward in which sigmoid is replaced by its value at 0. Where do the scores of your point lie? "
    "Training "
    "does not stay at its start."
)
_LOSS_LOOSE = "your test accepts a backward that is a tenth of a per cent too large. Central differences can do better than that."

_GOOD = ([0, 0, 1, 0, 2], [3, 3, 4, 5, 3], [4, 6, 5, 4, 6])

LOSS = TestExercise(
    "check_of_a_pairwise_loss",
    "Write a test, `check_of_a_pairwise_loss(loss, backward)`. It is given `loss(H, user, positive, negative)`, the mean over "
    "the triples "
    "of softplus(⟨H_u, H_j⟩ - ⟨H_u, H_i⟩) with u a user, i the positive and j the negative item, and `backward(H, user, "
    "positive, "
    "negative)`, which should return the gradient of the loss with respect to `H`, of the shape of `H`, (N, d). The other three "
    "are "
    "integer arrays of one length with row numbers of `H`; users and items have different rows. Your test chooses the point and "
    "the batch and returns `True` for right and `False` for wrong code. `loss` can be trusted.",
    check_of_a_pairwise_loss,
    _no_points,
    hints=(
        "Central differences of the loss, entry by entry, as in notebook 01; compare relative to the norm.",
        "What can happen twice in a batch? A user, a positive, a negative, an item in both roles.",
        "H should not be small: with H near 0 all scores are equal and sigmoid is 1/2 everywhere.",
    ),
    mistakes=(
        Mistake(_checked_with(1.0, *_GOOD, tolerance=1e-14), _LOSS_RIGHT),
        Mistake(_checked_with(1e-4, *_GOOD, absolute=1e-3), _LOSS_ZERO),
        Mistake(_checked_with(1.0, [0], [3], [4]), _LOSS_MEAN),
        Mistake(_checked_with(1.0, [0, 1, 2], [3, 4, 5], [6, 7, 8]), _DUPLICATE_USER),
        Mistake(_checked_with(1.0, [0, 0, 2], [3, 4, 5], [6, 7, 8]), _DUPLICATE_POSITIVE),
        Mistake(_checked_with(1.0, [0, 0, 2], [3, 3, 5], [6, 7, 8]), _DUPLICATE_NEGATIVE),
        Mistake(_checked_with(1.0, [0, 0, 2], [3, 3, 5], [6, 6, 8]), _BOTH_ROLES),
        Mistake(_checked_with(1e-3, *_GOOD, tolerance=1e-4), _NEAR_ZERO),
        Mistake(_checked_with(1.0, *_GOOD, tolerance=1e-2), _LOSS_LOOSE),
    ),
    right=(
        Candidate((pairwise_loss, _loss_backward), _LOSS_RIGHT),
        Candidate((pairwise_loss, _one_triple_at_a_time), _LOSS_RIGHT),
    ),
    wrong=(
        Candidate((pairwise_loss, lambda H, u, i, j: 0 * _loss_backward(H, u, i, j)), _LOSS_ZERO),
        Candidate((pairwise_loss, lambda H, u, i, j: -_loss_backward(H, u, i, j)), _LOSS_SIGN),
        Candidate((pairwise_loss, _sum_instead_of_mean), _LOSS_MEAN),
        Candidate((pairwise_loss, _overwrites("user")), _DUPLICATE_USER),
        Candidate((pairwise_loss, _overwrites("positive")), _DUPLICATE_POSITIVE),
        Candidate((pairwise_loss, _overwrites("negative")), _DUPLICATE_NEGATIVE),
        Candidate((pairwise_loss, _last_role_wins), _BOTH_ROLES),
        Candidate((pairwise_loss, _slope_at_zero), _NEAR_ZERO),
        Candidate((pairwise_loss, lambda H, u, i, j: 1.001 * _loss_backward(H, u, i, j)), _LOSS_LOOSE),
    ),
)


# ---- check_of_a_threshold --------------------------------------------------------------------------------------------
def shrink(E, tau):
    return np.sign(E) * np.maximum(np.abs(E) - tau, 0)


def _shrink_backward(grad_F, E, tau):
    return np.where(np.abs(E) > tau, grad_F, 0.0)


def _by_the_result(grad_F, E, tau):
    return grad_F * (shrink(E, tau) != 0)


def check_of_a_threshold(shrink, backward):
    rng = np.random.default_rng(0)
    for tau in (0.5, 2.0):
        E = np.array([-20.0, -2.5, -1.1, -0.3, -0.2, 0.1, 0.4, 1.2, 2.4, 20.0]) * tau
        G = rng.uniform(0.5, 1.5, E.size) * rng.choice([-1, 1], E.size)
        numerical = G * (shrink(E + 1e-5, tau) - shrink(E - 1e-5, tau)) / 2e-5  # every entry depends on itself alone
        if not np.linalg.norm(backward(G, E, tau) - numerical) <= 1e-7 * np.linalg.norm(numerical):
            return False
        corner = np.array([tau, -tau])
        if np.any(backward(np.ones(2), corner, tau) != 0):
            return False
    return True


def _threshold_with(E, taus=(0.5, 2.0), corner=True, ones=False):
    """A test at these multiples of tau."""

    def check(shrink, backward):
        rng = np.random.default_rng(0)
        for tau in taus:
            x = np.array(E, dtype=float) * tau
            G = np.ones(x.size) if ones else rng.uniform(0.5, 1.5, x.size) * rng.choice([-1, 1], x.size)
            numerical = G * (shrink(x + 1e-5, tau) - shrink(x - 1e-5, tau)) / 2e-5
            if not np.allclose(backward(G, x, tau), numerical, rtol=0, atol=1e-7):
                return False
            if corner and np.any(backward(np.ones(2), np.array([tau, -tau]), tau) != 0):
                return False
        return True

    return check


_THRESHOLD_RIGHT = (
    "your test rejects right code. Does a difference reach across a corner? At the corner itself the asked-for value is 0, by "
    "convention."
)
_INSIDE = "your test accepts a backward that passes everything on, as if there were no threshold. Are there entries inside it?"
_OUTSIDE = "your test accepts a backward that returns zeros. Are there entries outside the threshold?"
_ONE_SIDE = "your test accepts a backward that is right for positive entries only."
_FIXED = "your test accepts a backward that has a threshold of 1 built in, whatever tau is."
_IGNORED = "your test accepts a backward that does not use its cotangent. Which cotangents would show that?"
_CORNER = "your test accepts a backward that gives 1 at |E| = tau exactly. The convention there is 0."
_FAR = "your test accepts a backward that gives 0 for entries beyond ten times the threshold. Has your test been there?"

_ALL = (-20, -2.5, -1.1, -0.3, 0.1, 0.4, 1.2, 20)

THRESHOLD = TestExercise(
    "check_of_a_threshold",
    "Write a test, `check_of_a_threshold(shrink, backward)`. It is given `shrink(E, tau)`, the soft threshold sign(E) max(|E| - "
    "tau, 0) "
    "of an array of shape (n,), and `backward(grad_F, E, tau)`, which should return the gradient with respect to `E`: the "
    "cotangent "
    "where |E| > tau and 0 elsewhere, also at |E| = tau exactly. Your test returns `True` for right and `False` for wrong code. "
    "`shrink` can be trusted.",
    check_of_a_threshold,
    _no_points,
    hints=(
        "Every branch must be visited: outside on the right, outside on the left, inside, and the corners.",
        "Differences do not work at a corner; assert the convention there separately, and keep all other entries away from it.",
        "Use more than one tau, random cotangents, and some entries that are much larger than tau.",
    ),
    mistakes=(
        Mistake(_threshold_with((-1, -0.5, 0.5, 1, 2)), _THRESHOLD_RIGHT),
        Mistake(_threshold_with((-0.5, 0.1, 0.9)), _OUTSIDE),
        Mistake(_threshold_with((-2, -1.5, 1.5, 20), corner=False), _INSIDE),
        Mistake(_threshold_with((0.2, 0.5, 1.5, 20)), _ONE_SIDE),
        Mistake(_threshold_with(_ALL, taus=(1.0,)), _FIXED),
        Mistake(_threshold_with(_ALL, ones=True), _IGNORED),
        Mistake(_threshold_with(_ALL, corner=False), _CORNER),
        Mistake(_threshold_with((-2.5, -1.1, -0.3, 0.1, 0.4, 1.2)), _FAR),
        Mistake(_always_true, _OUTSIDE),
    ),
    right=(
        Candidate((shrink, _shrink_backward), _THRESHOLD_RIGHT),
        Candidate((shrink, _by_the_result), _THRESHOLD_RIGHT),
    ),
    wrong=(
        Candidate((shrink, lambda G, E, tau: 0 * G), _OUTSIDE),
        Candidate((shrink, lambda G, E, tau: G.copy()), _INSIDE),
        Candidate((shrink, lambda G, E, tau: np.where(E > tau, G, 0.0)), _ONE_SIDE),
        Candidate((shrink, lambda G, E, tau: np.where(np.abs(E) > 1, G, 0.0) * (np.abs(E) != tau)), _FIXED),
        Candidate((shrink, lambda G, E, tau: np.where(np.abs(E) > tau, 1.0, 0.0)), _IGNORED),
        Candidate((shrink, lambda G, E, tau: np.where(np.abs(E) >= tau, G, 0.0)), _CORNER),
        Candidate((shrink, lambda G, E, tau: np.where((np.abs(E) > tau) & (np.abs(E) < 10 * tau), G, 0.0)), _FAR),
    ),
)

EXERCISES = (PRODUCT, LOSS, THRESHOLD)
