"""Exercises on composing entities from a codebook, on the bridge between the codebooks, and on the bridged layer.

Shapes
------
S, S_c : (N, C) csr     E, E_c : (C, d)     S_f : (C, M) csr     F : (M, d)     g a number     X_hat : (N + C + M,) * 2 csr
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .exercise import Exercise, Mistake
from .gradient_checks import UNSQUARED, VALUE_OF_TANH
from .sparse_propagation import in_the_pattern, like, rows_of, sparse_product_backward_weights

_FLOAT64 = {"dtypes": ("float64",)}

#: What is told of a wrong slope of tanh, here and in the stages.


def _assignment(rng: np.random.Generator, n: int, m: int, t: int) -> sparse.csr_array:
    """t entries of both signs in every row; rows do not sum to 1, so that nobody can rely on it."""
    columns = np.sort(np.argsort(rng.random((n, m)), axis=1)[:, :t], axis=1)
    values = rng.choice([-1.0, 1.0, 1.0], (n, t)) * rng.uniform(0.3, 1.0, (n, t))
    return sparse.csr_array((values.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, m))


def _at_entries(G, S, E):
    return np.sum(G[rows_of(S)] * E[S.indices], axis=1)


# ---- composition -----------------------------------------------------------------------------------------------------
def _compose_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 401])
    return {"S": _assignment(rng, 9, 4, 2), "E": rng.standard_normal((4, 3))}


def compose(S, E):
    return np.tanh(S @ E)


def compose_backward(grad_Z, S, E):
    Z = compose(S, E)
    return S.T @ (grad_Z * (1 - Z**2))


def compose_backward_assignment(grad_Z, S, E):
    Z = compose(S, E)
    return sparse_product_backward_weights(grad_Z * (1 - Z**2), S, E)


def compose_above(S, E):
    return np.concatenate([compose(S, E), E])


def compose_above_backward(grad_X0, S, E):
    n = S.shape[0]
    return compose_backward(grad_X0[:n], S, E) + grad_X0[n:]  # two paths out, one sum back


# ---- bridge ----------------------------------------------------------------------------------------------------------
def _bridge_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 402])
    return {
        "S_f": _assignment(rng, 7, 5, 2),
        "F": rng.standard_normal((5, 3)),
        "E_c": rng.standard_normal((7, 3)),
        "g": float(rng.uniform(0.15, 0.4)),
    }


def bridge(S_f, F, E_c, g):
    return g * (S_f @ F) + (1 - g) * E_c


def bridge_backward(grad_E_hat, S_f, F, E_c, g):
    grad_E_c = (1 - g) * grad_E_hat
    grad_F = g * (S_f.T @ grad_E_hat)
    return grad_E_c, grad_F


def bridge_backward_gate(grad_E_hat, S_f, F, E_c, g):
    return np.sum(grad_E_hat * (S_f @ F - E_c))


def bridge_backward_assignment(grad_E_hat, S_f, F, E_c, g):
    return sparse_product_backward_weights(g * grad_E_hat, S_f, F)


# ---- the bridged layer -----------------------------------------------------------------------------------------------
def _layer_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 403])
    n, c, m = 6, 4, 3
    stored = rng.random((n + c + m, n + c + m)) < 0.4
    X_hat = sparse.csr_array(np.where(stored, rng.normal(0, 0.6, stored.shape), 0.0))
    return {
        "X": rng.standard_normal((n + c + m, 2)),
        "X_hat": X_hat,
        "S_c": _assignment(rng, n, c, 2),
        "S_f": _assignment(rng, c, m, 2),
        "g": float(rng.uniform(0.15, 0.4)),
    }


def _parts(X, S_c):
    n, c = S_c.shape
    return X[:n], X[n : n + c], X[n + c :]


def bridged_layer(X, X_hat, S_c, S_f, g):
    n, c = S_c.shape
    h, p, q = np.split(X_hat @ X, [n, n + c])
    h = h - S_c @ p
    p = p - S_f @ q
    p = g * (S_f @ q) + (1 - g) * p
    h = h + S_c @ p
    return np.concatenate([h, p, q])


def bridged_layer_backward(grad_next, X, X_hat, S_c, S_f, g):
    n, c = S_c.shape
    h, p, q = np.split(grad_next, [n, n + c])
    p = p + S_c.T @ h  # h <- h + S_c p
    q = q + g * (S_f.T @ p)  # p <- g S_f q + (1 - g) p, with the p from before the next line
    p = (1 - g) * p
    q = q - S_f.T @ p  # p <- p - S_f q
    p = p - S_c.T @ h  # h <- h - S_c p
    return X_hat.T @ np.concatenate([h, p, q])


def _lines_in_forward_order(grad_next, X, X_hat, S_c, S_f, g):
    h, p, q = _parts(grad_next, S_c)
    p = p - S_c.T @ h
    q = q - S_f.T @ p
    q, p = q + g * (S_f.T @ p), (1 - g) * p
    p = p + S_c.T @ h
    return X_hat.T @ np.concatenate([h, p, q])


def _scaled_too_early(grad_next, X, X_hat, S_c, S_f, g):
    h, p, q = _parts(grad_next, S_c)
    p = (1 - g) * (p + S_c.T @ h)
    q = q + g * (S_f.T @ p) - S_f.T @ p
    p = p - S_c.T @ h
    return X_hat.T @ np.concatenate([h, p, q])


def _q_subtraction_forgotten(grad_next, X, X_hat, S_c, S_f, g):
    h, p, q = _parts(grad_next, S_c)
    p = p + S_c.T @ h
    q, p = q + g * (S_f.T @ p), (1 - g) * p
    p = p - S_c.T @ h
    return X_hat.T @ np.concatenate([h, p, q])


def _first_line_forgotten(grad_next, X, X_hat, S_c, S_f, g):
    h, p, q = _parts(grad_next, S_c)
    p = p + S_c.T @ h
    q, p = q + g * (S_f.T @ p), (1 - g) * p
    q = q - S_f.T @ p
    return X_hat.T @ np.concatenate([h, p, q])


def _last_line_forgotten(grad_next, X, X_hat, S_c, S_f, g):
    h, p, q = _parts(grad_next, S_c)
    q, p = q + g * (S_f.T @ p), (1 - g) * p
    q = q - S_f.T @ p
    p = p - S_c.T @ h
    return X_hat.T @ np.concatenate([h, p, q])


def _graph_not_transposed(grad_next, X, X_hat, S_c, S_f, g):
    return bridged_layer_backward(grad_next, X, sparse.csr_array(X_hat.T), S_c, S_f, g)


def _graph_first(grad_next, X, X_hat, S_c, S_f, g):
    eye = sparse.eye_array(X_hat.shape[0], format="csr")
    return bridged_layer_backward(X_hat.T @ grad_next, X, eye, S_c, S_f, g)


def bridged_layer_exchange(X, X_hat, S_c, S_f, g):
    n, c = S_c.shape
    Y = X_hat @ X
    message = X_hat[:n, n : n + c]
    p, q = X[n : n + c], X[n + c :]
    return np.concatenate([Y[:n] + g * (message @ (S_f @ q - p)), Y[n:]])


def bridged_layer_exchange_backward(grad_next, X, X_hat, S_c, S_f, g):
    n, c = S_c.shape
    message = X_hat[:n, n : n + c]
    grad_X = X_hat.T @ grad_next  # Y = X_hat X
    grad_difference = g * (message.T @ grad_next[:n])  # h <- Y_h + g Q (S_f q - p)
    grad_X[n : n + c] -= grad_difference
    grad_X[n + c :] += S_f.T @ grad_difference
    return grad_X


def _exchange_variant(sign_p: float, sign_q: float, *, gated: bool = True, assignment_for_message: bool = False):
    """The right answer with other factors before what comes back to p and q."""

    def backward(grad_next, X, X_hat, S_c, S_f, g):
        n, c = S_c.shape
        message = S_c if assignment_for_message else X_hat[:n, n : n + c]
        grad_X = X_hat.T @ grad_next
        difference = (g if gated else 1.0) * (message.T @ grad_next[:n])
        grad_X[n : n + c] += sign_p * difference
        grad_X[n + c :] += sign_q * (S_f.T @ difference)
        return grad_X

    return backward


_LAYER = (
    "(grad_next, X, X_hat, S_c, S_f, g)`, which returns the gradient with respect to X. X and grad_next have the shape "
    "(N + C + M, d). X_hat is square and **not** symmetric; S_c is (N, C), S_f (C, M), g a number. X is given, but the backward "
    "of a linear map need not read it."
)

GIVEN = (compose, compose_above, bridge, bridged_layer, bridged_layer_exchange)
EXERCISES = (
    Exercise(
        name="compose_backward",
        task=(
            "`Z = tanh(S @ E)` with a sparse assignment S of shape (N, C) and a codebook E of shape (C, d). Write "
            "`compose_backward(grad_Z, S, E)`, which returns the gradient with respect to E, shape (C, d)."
        ),
        solution=compose_backward,
        points=_compose_points,
        forward=compose,
        hints=(
            "Two steps forwards, Y = S E and Z = tanh(Y), so two steps backwards, in the other order.",
            "At tanh: grad_Y = grad_Z times the derivative of tanh, which you get from Z itself.",
            "At the product: S.T @ grad_Y.",
        ),
        mistakes=(
            Mistake(lambda grad_Z, S, E: S.T @ grad_Z, "the derivative of tanh is missing."),
            Mistake(
                lambda grad_Z, S, E: (1 - np.tanh(E) ** 2) * (S.T @ grad_Z),
                "tanh was differentiated at E. It is taken of S E: its derivative belongs to the entities, before S.T.",
            ),
            Mistake(
                lambda grad_Z, S, E: S.T @ (grad_Z * (1 - (S @ E) ** 2)),
                "1 - Y^2 instead of 1 - Z^2: the derivative of tanh is one minus the square of its *output*.",
            ),
            Mistake(lambda grad_Z, S, E: S.T @ (grad_Z * (1 - np.tanh(S @ E))), UNSQUARED),
            Mistake(lambda grad_Z, S, E: S.T @ (grad_Z * np.tanh(S @ E)), VALUE_OF_TANH),
            Mistake(
                lambda grad_Z, S, E: abs(S).T @ (grad_Z * (1 - np.tanh(S @ E) ** 2)),
                "the weights' signs have gone. A weight may be negative.",
            ),
        ),
        options={"wrt": "E"} | _FLOAT64,
    ),
    Exercise(
        name="compose_backward_assignment",
        task=(
            "The same composition. Write `compose_backward_assignment(grad_Z, S, E)`, which returns the gradient with respect "
            "to the *stored* weights of S: a `scipy.sparse.csr_array` with S's pattern, or the vector of its stored entries."
        ),
        solution=compose_backward_assignment,
        points=_compose_points,
        forward=compose,
        hints=(
            "After the step through tanh it is the gradient of a sparse product with respect to its matrix.",
            "Entry (i, j) meets row i of grad_Y and row j of E.",
            "`my.sparse_product_backward_weights` from notebook 02 does it, once it is given the right cotangent.",
        ),
        mistakes=(
            Mistake(lambda grad_Z, S, E: like(S, _at_entries(grad_Z, S, E)), "the derivative of tanh is missing."),
            Mistake(
                lambda grad_Z, S, E: (grad_Z * (1 - np.tanh(S @ E) ** 2)) @ E.T,
                "these are the numbers of all pairs (i, j). Entries that are not stored are no parameters: keep S's pattern.",
            ),
            Mistake(
                lambda grad_Z, S, E: like(S, S.data * _at_entries(grad_Z * (1 - np.tanh(S @ E) ** 2), S, E)),
                "every number is multiplied by the weight itself. S E is linear in S.",
            ),
        ),
        read=lambda result, arguments: in_the_pattern(result, arguments["S"]),
        options={"wrt": "S"} | _FLOAT64,
    ),
    Exercise(
        name="compose_above_backward",
        task=(
            "The start of the coarse stage's propagation holds the codebook twice: `X0 = [tanh(S @ E); E]`, (N + C, d). Write "
            "`compose_above_backward(grad_X0, S, E)`, which returns the gradient with respect to E, shape (C, d)."
        ),
        solution=compose_above_backward,
        points=_compose_points,
        forward=compose_above,
        hints=(
            "Cut the cotangent where X0 was put together: N rows and C rows.",
            "E goes along two paths. What comes back on each?",
            "compose_backward of the first N rows, plus the last C rows as they are.",
        ),
        mistakes=(
            Mistake(
                lambda grad_X0, S, E: compose_backward(grad_X0[: S.shape[0]], S, E),
                "the second path is missing: E stands in X0 itself, too.",
            ),
            Mistake(lambda grad_X0, S, E: grad_X0[S.shape[0] :].copy(), "the path through the composition is missing."),
            Mistake(
                lambda grad_X0, S, E: (compose_backward(grad_X0[: S.shape[0]], S, E) + grad_X0[S.shape[0] :]) / 2,
                "you took the mean of the two paths. What is sent along two paths comes back as a sum.",
            ),
            Mistake(
                lambda grad_X0, S, E: compose_above_backward(grad_X0, S, E) - grad_X0[S.shape[0] :] * np.tanh(E) ** 2,
                "the codebook enters its own rows of X0 without tanh.",
            ),
        ),
        options={"wrt": "E"} | _FLOAT64,
    ),
    Exercise(
        name="bridge_backward",
        task=(
            "`E_hat = g * S_f @ F + (1 - g) * E_c`. Write `bridge_backward(grad_E_hat, S_f, F, E_c, g)`, which returns the pair "
            "(grad_E_c, grad_F), of shapes (C, d) and (M, d)."
        ),
        solution=bridge_backward,
        points=_bridge_points,
        forward=bridge,
        hints=(
            "The map is linear in E_c and linear in F. What is each multiplied by?",
            "E_c is multiplied by a number, F by the matrix g * S_f.",
        ),
        mistakes=(
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: (g * grad_E_hat, (1 - g) * (S_f.T @ grad_E_hat)),
                "the two shares are exchanged: the gate is the share of the fine codebook.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: ((1 - g) * grad_E_hat, S_f.T @ grad_E_hat),
                "grad_E_c is right; in grad_F the gate is missing.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: (1.0 * grad_E_hat, g * (S_f.T @ grad_E_hat)),
                "grad_F is right; in grad_E_c the factor 1 - gate is missing.",
            ),
        ),
        options={"wrt": ("E_c", "F"), "linear_in": ("E_c", "F")} | _FLOAT64,
    ),
    Exercise(
        name="bridge_backward_gate",
        task=(
            "The same bridge. Write "
            "`bridge_backward_gate(grad_E_hat, S_f, F, E_c, g)`, which returns the gradient with respect to g: one number."
        ),
        solution=bridge_backward_gate,
        points=_bridge_points,
        forward=bridge,
        hints=(
            "The gate stands in the formula twice.",
            "Sort by powers of g: E_hat = E_c + g * (...).",
            "One gate serves all entries of E_hat, so the contributions are summed.",
        ),
        mistakes=(
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: np.sum(grad_E_hat * (E_c - S_f @ F)),
                "the sign is wrong: a larger gate brings more of S_f F and less of E_c.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: np.sum(grad_E_hat * (S_f @ F)),
                "the gate also stands in 1 - g: what it takes from E_c is missing.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: np.sum(grad_E_hat * (S_f @ F + E_c)),
                "the part of E_c has the wrong sign: a larger gate leaves less of it.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: np.mean(grad_E_hat * (S_f @ F - E_c)),
                "you took a mean. What one number sends to many entries comes back as a sum.",
            ),
        ),
        options={"wrt": "g", "linear_in": "g"} | _FLOAT64,
    ),
    Exercise(
        name="bridge_backward_assignment",
        task=(
            "The same bridge. Write "
            "`bridge_backward_assignment(grad_E_hat, S_f, F, E_c, g)`, which returns the gradient with respect to the *stored* "
            "weights of S_f: a csr_array with S_f's pattern, or the vector of its stored entries."
        ),
        solution=bridge_backward_assignment,
        points=_bridge_points,
        forward=bridge,
        hints=(
            "The gradient of a sparse product with respect to its matrix, once more. What is the cotangent at S_f @ F?",
            "The cotangent at S_f @ F is g * grad_E_hat.",
        ),
        mistakes=(
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: like(S_f, _at_entries(grad_E_hat, S_f, F)),
                "the gate is missing.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: like(S_f, (1 - g) * _at_entries(grad_E_hat, S_f, F)),
                "1 - g is the share of the coarse codebook.",
            ),
            Mistake(
                lambda grad_E_hat, S_f, F, E_c, g: g * (grad_E_hat @ F.T),
                "these are the numbers of all pairs. Entries that are not stored are no parameters: keep S_f's pattern.",
            ),
        ),
        read=lambda result, arguments: in_the_pattern(result, arguments["S_f"]),
        options={"wrt": "S_f", "linear_in": "S_f"} | _FLOAT64,
    ),
    Exercise(
        name="bridged_layer_backward",
        task=(
            "One layer of the fine stage. With Y = X_hat @ X cut into h (N rows), p (C rows) and q (M rows):\n\n"
            "    h = h - S_c @ p\n"
            "    p = p - S_f @ q\n"
            "    p = g * S_f @ q + (1 - g) * p\n"
            "    h = h + S_c @ p\n\n"
            "The output is [h; p; q]. Write `bridged_layer_backward" + _LAYER
        ),
        solution=bridged_layer_backward,
        points=_layer_points,
        forward=bridged_layer,
        hints=(
            "Transpose each line by itself, and go through them from the last to the first. The product with X_hat comes last.",
            "A line `h = h + S p` gives back `grad_p = grad_p + S.T @ grad_h`, and leaves grad_h as it is.",
            "The line `p = g * S_f @ q + (1 - g) * p` uses the old p: grad_q receives g * S_f.T @ grad_p *before* "
            "grad_p is multiplied by 1 - g.",
        ),
        mistakes=(
            Mistake(_lines_in_forward_order, "each line is transposed rightly, but they are done from the first to the last."),
            Mistake(
                _scaled_too_early,
                "in the third line grad_p was multiplied by 1 - g before grad_q had received its part of it.",
            ),
            Mistake(_q_subtraction_forgotten, "the line p = p - S_f @ q has not sent anything back to q."),
            Mistake(_first_line_forgotten, "the first line, h = h - S_c @ p, has not sent anything back to p."),
            Mistake(_last_line_forgotten, "the last line, h = h + S_c @ p, has not sent anything back to p."),
            Mistake(_graph_not_transposed, "the four lines are right; X_hat should be transposed. It is not symmetric here."),
            Mistake(_graph_first, "the product with the graph came first in the forward, so it comes last in the backward."),
            Mistake(
                lambda grad_next, X, X_hat, S_c, S_f, g: X_hat.T @ grad_next,
                "only the graph is there. The four lines of the bridge send something back, too.",
            ),
            Mistake(
                lambda grad_next, X, X_hat, S_c, S_f, g: bridged_layer(grad_next, X_hat, S_c, S_f, g),
                "this is the layer itself, applied to the cotangent. Wanted is its transpose.",
            ),
        ),
        options={"wrt": "X", "linear_in": "X"} | _FLOAT64,
    ),
    Exercise(
        name="bridged_layer_exchange_backward",
        task=(
            "The other reading of the layer. With Y = X_hat @ X, the block Q = X_hat[:N, N:N+C], and p and q the coarse and fine "
            "rows of **X** (not of Y):\n\n"
            "    h = Y_h + g * Q @ (S_f @ q - p)\n\n"
            "The output is [h; Y_p; Y_q]. Write `bridged_layer_exchange_backward" + _LAYER
        ),
        solution=bridged_layer_exchange_backward,
        points=_layer_points,
        forward=bridged_layer_exchange,
        hints=(
            "The output is a sum of two linear maps of X, so the gradient is the sum of two transposes.",
            "The first is X_hat.T @ grad_next. For the second, let a = g * Q.T @ grad_h: where does a go?",
            "p receives -a, q receives S_f.T @ a.",
        ),
        mistakes=(
            Mistake(_exchange_variant(1, 1), "the sign of what p receives is wrong: its message is taken away."),
            Mistake(_exchange_variant(-1, -1), "the sign of what q receives is wrong: its message is put in."),
            Mistake(_exchange_variant(1, -1), "both signs are wrong: p's message is taken away, and q's is put in."),
            Mistake(_exchange_variant(0, 1), "p receives nothing on the second path, though its message is taken away there."),
            Mistake(_exchange_variant(-1, 0), "q receives nothing on the second path, though its message is put in there."),
            Mistake(_exchange_variant(-1, 1, gated=False), "the gate is missing on the second path."),
            Mistake(
                _exchange_variant(-1, 1, assignment_for_message=True),
                "you used S_c. The message travels by the weights of the graph, Q = X_hat[:N, N:N+C].",
            ),
            Mistake(
                lambda grad_next, X, X_hat, S_c, S_f, g: X_hat.T @ grad_next,
                "only the graph is there. The exchange sends something back, too.",
            ),
        ),
        options={"wrt": "X", "linear_in": "X"} | _FLOAT64,
    ),
)
