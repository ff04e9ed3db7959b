"""Exercises on soft thresholding: its gradients, the convention at the kink, and a cousin from another penalty."""

from __future__ import annotations

import numpy as np

from .exercise import Exercise, Mistake

_FLOAT64 = {"dtypes": ("float64",)}
_TAU = 0.75  # exact in binary, so that entries can lie exactly at it


def _codebook(rng: np.random.Generator, tau, shape=(8, 5)) -> np.ndarray:
    """Entries of both signs inside and outside of the threshold, and two so near to it that a wide difference crosses it."""
    inside = rng.random(shape) < 0.4
    size = np.where(inside, rng.uniform(0.1, 0.85, shape) * tau, tau * (1.1 + rng.uniform(0, 2, shape)))
    size[-1, :2] = np.resize(tau, 2) * [1 + 1e-4, 1 - 1e-4]
    return rng.choice([-1.0, 1.0], shape) * size


def soft_threshold(E, tau):
    outside = np.abs(np.real(E)) > np.real(tau)  # the real part decides, so that a complex step can be taken
    return np.where(outside, E - np.sign(np.real(E)) * tau, 0.0)


def _branches(E, tau):
    return (E > tau).astype(int) - (E < -tau)


# ---- with respect to the codebook ------------------------------------------------------------------------------------
def _points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 301])
    E = _codebook(rng, _TAU)
    E[1, 2], E[4, 0], E[6, 3] = _TAU, -_TAU, 0.0
    return {"E": E, "tau": _TAU}


def soft_threshold_backward(grad_F, E, tau):
    return np.where(np.abs(E) > tau, grad_F, 0.0)


def _half_at_the_kinks(grad_F, E, tau):
    """What central differences measure."""
    return np.where(np.abs(E) > tau, grad_F, np.where(np.abs(E) == tau, 0.5 * grad_F, 0.0))


def _from_the_right(grad_F, E, tau):
    return np.where((E >= tau) | (E < -tau), grad_F, 0.0)


def _from_the_left(grad_F, E, tau):
    return np.where((E > tau) | (E <= -tau), grad_F, 0.0)


# ---- with respect to the threshold -----------------------------------------------------------------------------------
def _points_tau(seed: int) -> dict:
    rng = np.random.default_rng([seed, 302])
    return {"E": _codebook(rng, 0.6), "tau": 0.6}


def soft_threshold_backward_tau(grad_F, E, tau):
    outside = np.abs(E) > tau
    return -np.sum(grad_F[outside] * np.sign(E[outside]))


# ---- one threshold a column ------------------------------------------------------------------------------------------
def _points_columns(seed: int) -> dict:
    rng = np.random.default_rng([seed, 303])
    tau = rng.uniform(0.3, 0.9, 5)
    return {"E": _codebook(rng, tau), "tau": tau}


def soft_threshold_columns_backward(grad_F, E, tau):
    outside = np.abs(E) > tau  # tau of shape (d,) meets every row
    grad_E = np.where(outside, grad_F, 0.0)
    grad_tau = -np.sum(grad_E * np.sign(E), axis=0)  # repeated over rows in the forward, so summed over rows here
    return grad_E, grad_tau


# ---- another penalty -------------------------------------------------------------------------------------------------
def _points_elastic(seed: int) -> dict:
    rng = np.random.default_rng([seed, 304])
    return {"e": np.concatenate([_codebook(rng, 0.8, (6, 5)).ravel(), [0.0]]), "tau": 0.8, "rho": float(rng.uniform(0.5, 2))}


def elastic_net_prox(e, tau, rho):
    return np.sign(e) * np.maximum(np.abs(e) - tau, 0) / (1 + rho)


GIVEN = (soft_threshold,)

EXERCISES = (
    Exercise(
        name="soft_threshold_backward",
        task=(
            "Write `soft_threshold_backward(grad_F, E, tau)`, the backward of `F = soft_threshold(E, tau)` with respect to E, of "
            "its shape. Where |E| = tau exactly there is no derivative; follow the convention that it is 0 there."
        ),
        solution=soft_threshold_backward,
        points=_points,
        forward=soft_threshold,
        hints=(
            "Draw the function for tau = 1, from e = -3 to 3: three straight pieces. Which two slopes do they have, and where?",
            "The derivative of an entry does not depend on how large the entry is, only on which side of the threshold it lies.",
            "`np.where(condition, grad_F, 0.0)`: the cotangent passes where |E| is larger than tau, strictly.",
        ),
        mistakes=(
            Mistake(
                lambda grad_F, E, tau: np.where(np.abs(E) >= tau, grad_F, 0.0),
                "right, but for the entries that lie exactly at the threshold: there the convention is 0.",
            ),
            *(
                Mistake(
                    at_the_threshold,
                    "right, but for the entries that lie exactly at the threshold. A difference across a kink measures neither "
                    "of its slopes; the convention there is 0.",
                )
                for at_the_threshold in (_half_at_the_kinks, _from_the_right, _from_the_left)
            ),
            Mistake(lambda grad_F, E, tau: 1.0 * grad_F, "the cotangent passes everywhere. What happens inside the threshold?"),
            Mistake(
                lambda grad_F, E, tau: np.where(np.abs(E) > tau, 1.0, 0.0),
                "this is the slope of each entry. The cotangent does not enter yet: the chain rule multiplies by it.",
            ),
            Mistake(
                lambda grad_F, E, tau: np.where(np.abs(E) > tau, grad_F - np.sign(E) * tau, 0.0),
                "you subtracted the threshold from the cotangent. For e > tau the function is e - tau: a constant has no slope.",
            ),
            Mistake(
                lambda grad_F, E, tau: np.where(E > tau, grad_F, 0.0),
                "the gradient of negative entries is missing. Their size counts, not their sign.",
            ),
            Mistake(
                lambda grad_F, E, tau: np.where(np.abs(E) > tau, grad_F * np.sign(E), 0.0),
                "the gradient of negative entries has the wrong sign. For e < -tau the function is e + tau: what is its slope?",
            ),
            Mistake(
                lambda grad_F, E, tau: np.where(np.abs(E) <= tau, grad_F, 0.0),
                "the mask is the wrong way round: the cotangent passes inside the threshold and not outside.",
            ),
            Mistake(
                lambda grad_F, E, tau: grad_F * soft_threshold(E, tau),
                "the cotangent is multiplied by the value of the function. It should be multiplied by its slope.",
            ),
            *(
                Mistake(of_the_cotangent, "the threshold is asked of the cotangent. Whether an entry passes depends on E alone.")
                for of_the_cotangent in (
                    lambda grad_F, E, tau: soft_threshold(grad_F, tau),
                    lambda grad_F, E, tau: np.where(np.abs(grad_F) > tau, grad_F, 0.0),
                )
            ),
            *(
                Mistake(
                    times_the_entry,
                    "the cotangent is multiplied by the entry. The slope outside is 1, however large the entry is.",
                )
                for times_the_entry in (
                    lambda grad_F, E, tau: np.where(np.abs(E) > tau, grad_F * E, 0.0),
                    lambda grad_F, E, tau: np.where(np.abs(E) > tau, grad_F * np.abs(E), 0.0),
                )
            ),
            Mistake(
                lambda grad_F, E, tau: np.where(np.abs(E) > 0, grad_F, 0.0),
                "only entries that are 0 are held back. The dead zone reaches up to tau.",
            ),
        ),
        options={"wrt": "E", "active_set": _branches} | _FLOAT64,
    ),
    Exercise(
        name="soft_threshold_backward_tau",
        task=(
            "The same function. Write `soft_threshold_backward_tau(grad_F, E, tau)`, the gradient with respect to the threshold "
            "tau: one number."
        ),
        solution=soft_threshold_backward_tau,
        points=_points_tau,
        forward=soft_threshold,
        hints=(
            "What happens to a large positive entry of F when tau grows a little? To a large negative one? To one inside?",
            "dF/dtau is -1, +1 or 0. One tau serves all entries: what happens to the contributions?",
            "Minus the sum of grad_F * sign(E) over the entries with |E| > tau.",
        ),
        mistakes=(
            Mistake(
                lambda grad_F, E, tau: np.sum(np.where(np.abs(E) > tau, grad_F * np.sign(E), 0.0)),
                "the sign is reversed: a larger threshold makes entries smaller in size.",
            ),
            Mistake(
                lambda grad_F, E, tau: -np.sum(grad_F * np.sign(E)),
                "entries inside the threshold contribute. They are 0 before and after a small change of tau.",
            ),
            Mistake(
                lambda grad_F, E, tau: -np.sum(np.where(np.abs(E) > tau, grad_F, 0.0)),
                "negative entries have the wrong sign: for e < -tau the function is e + tau.",
            ),
            Mistake(
                lambda grad_F, E, tau: -np.sum(np.where(E > tau, grad_F, 0.0)),
                "negative entries are missing: those with e < -tau move with tau, too.",
            ),
            Mistake(
                lambda grad_F, E, tau: -np.sum(np.where(np.abs(E) > tau, np.sign(E), 0.0)),
                "the cotangent does not enter: this is the gradient of the plain sum of F.",
            ),
            Mistake(
                lambda grad_F, E, tau: -np.mean(np.where(np.abs(E) > tau, grad_F * np.sign(E), 0.0)),
                "you took a mean. What one number sends to many entries comes back as a sum.",
            ),
            Mistake(
                lambda grad_F, E, tau: -np.sum(np.where(np.abs(E) > tau, grad_F * E, 0.0)),
                "the entries themselves are in the sum. Only their signs belong there.",
            ),
        ),
        options={"wrt": "tau", "active_set": _branches} | _FLOAT64,
    ),
    Exercise(
        name="soft_threshold_columns_backward",
        task=(
            "Now every column has a threshold of its own: E has shape (M, d), tau has shape (d,), and "
            "`F[m, f] = sign(E[m, f]) max(|E[m, f]| - tau[f], 0)`. Write `soft_threshold_columns_backward(grad_F, E, tau)`: the "
            "pair (grad_E, grad_tau), of the shapes of E and tau."
        ),
        solution=soft_threshold_columns_backward,
        points=_points_columns,
        forward=soft_threshold,
        hints=(
            "NumPy broadcasts tau over the rows, so nothing changes in the masks.",
            "In the forward tau[f] is repeated for every row. What is repeated forwards is summed backwards.",
            "grad_tau = -sum over rows (axis=0) of the masked grad_F * sign(E).",
        ),
        mistakes=(
            Mistake(
                lambda grad_F, E, tau: (
                    soft_threshold_columns_backward(grad_F, E, tau)[0],
                    -soft_threshold_columns_backward(grad_F, E, tau)[1],
                ),
                "grad_E is right; grad_tau has the wrong sign.",
            ),
            Mistake(
                lambda grad_F, E, tau: (
                    soft_threshold_columns_backward(grad_F, E, tau)[0],
                    np.full_like(tau, np.sum(soft_threshold_columns_backward(grad_F, E, tau)[1])),
                ),
                "grad_E is right; in grad_tau you summed over the columns as well. Each column has its own threshold.",
            ),
            Mistake(
                lambda grad_F, E, tau: (
                    soft_threshold_columns_backward(grad_F, E, tau)[0],
                    soft_threshold_columns_backward(grad_F, E, tau)[1] / len(E),
                ),
                "grad_E is right; in grad_tau you took the mean over the rows instead of the sum.",
            ),
            Mistake(
                lambda grad_F, E, tau: (
                    np.where(np.abs(E) > tau, grad_F, 0.0),
                    -np.sum(np.where(np.abs(E) > tau, grad_F, 0.0), axis=0),
                ),
                "grad_E is right; in grad_tau negative entries have the wrong sign.",
            ),
            Mistake(
                lambda grad_F, E, tau: (np.where(np.abs(E) > tau, grad_F, 0.0), -np.sum(grad_F * np.sign(E), axis=0)),
                "grad_E is right; in grad_tau entries inside the threshold contribute.",
            ),
        ),
        options={"wrt": ("E", "tau"), "active_set": _branches} | _FLOAT64,
    ),
    Exercise(
        name="elastic_net_prox",
        task=(
            "Write `elastic_net_prox(e, tau, rho)`: the x that minimises `1/2 (x - e)^2 + tau |x| + rho/2 x^2`, for each entry "
            "of an array e and numbers tau >= 0, rho >= 0; an array of e's shape. Derive it on paper, case by case: x > 0, x < "
            "0, x = 0."
        ),
        solution=elastic_net_prox,
        points=_points_elastic,
        hints=(
            "Take the case x > 0. What is the derivative of the objective, and where is it 0?",
            "(x - e) + tau + rho x = 0 gives x = (e - tau) / (1 + rho). When is that positive?",
            "It is the soft threshold of e, divided by 1 + rho.",
        ),
        mistakes=(
            Mistake(
                lambda e, tau, rho: np.sign(e) * np.maximum(np.abs(e) - tau, 0),
                "this ignores the term rho/2 x^2.",
            ),
            Mistake(
                lambda e, tau, rho: np.sign(e) * np.maximum(np.abs(e) / (1 + rho) - tau, 0),
                "the division comes too early: e was divided before the threshold was taken. Is an entry just above tau 0?",
            ),
            Mistake(
                lambda e, tau, rho: np.where(np.abs(e) > tau, e, 0.0) / (1 + rho),
                "the right entries become 0, but the others are not moved by tau.",
            ),
            Mistake(
                lambda e, tau, rho: np.where(np.abs(e) > tau, e - tau, 0.0) / (1 + rho),
                "for e < -tau you move away from zero: take the case x < 0 again.",
            ),
            Mistake(
                lambda e, tau, rho: (e - tau * np.sign(e)) / (1 + rho),
                "the case x = 0 is missing: what is within tau of zero crosses it here.",
            ),
            Mistake(lambda e, tau, rho: e / (1 + rho), "this ignores the term tau |x|: nothing becomes 0."),
            Mistake(
                lambda e, tau, rho: np.maximum(np.abs(e) - tau, 0) / (1 + rho),
                "the sign of e is lost: negative entries should stay negative.",
            ),
            Mistake(
                lambda e, tau, rho: (e - tau) / (1 + rho),
                "this is the case x > 0 for all entries. The other two cases are missing.",
            ),
        ),
    ),
)
