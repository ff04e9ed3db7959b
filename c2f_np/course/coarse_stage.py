"""Exercises on the coarse stage: the gradient at the codebook from its parts, and the closed-form assignment.

Shapes
------
E_coarse, H_coarse : (C, d)     S_coarse : (N, C) csr     X_hat : (N + C, N + C) csr
G_H, H_entities : (N, d)     c : (N,)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .exercise import Exercise, Mistake


# ---- the codebook's gradient -----------------------------------------------------------------------------------------
def coarse_stage(E_coarse, S_coarse, X_hat, G_H, c, n_layers):
    """The forward: sum(G_H * H_entities) + sum over entities of c_e |Z_e|^2."""
    Z = np.tanh(S_coarse @ E_coarse)
    layer = total = np.concatenate([Z, E_coarse])
    for _ in range(n_layers):
        layer = X_hat @ layer
        total = total + layer
    H_entities = total[: len(Z)] / (n_layers + 1)
    return np.sum(G_H * H_entities) + np.sum(c[:, None] * Z * Z)


def coarse_stage_solution(grad_loss, E_coarse, S_coarse, X_hat, G_H, c, n_layers):
    """Gradient with respect to the codebook."""
    n = S_coarse.shape[0]
    Z = np.tanh(S_coarse @ E_coarse)
    share = np.concatenate([G_H, np.zeros_like(E_coarse)]) / (n_layers + 1)
    grad_X0 = share
    for _ in range(n_layers):
        grad_X0 = share + X_hat.T @ grad_X0
    grad_Z = grad_X0[:n] + 2 * c[:, None] * Z
    return grad_loss * (grad_X0[n:] + S_coarse.T @ (grad_Z * (1 - Z**2)))


def _random_assignment(rng, n: int, m: int, t: int) -> sparse.csr_array:
    """t positive weights in each row."""
    columns = np.stack([rng.permutation(m)[:t] for _ in range(n)])
    rows = np.repeat(np.arange(n), t)
    return sparse.csr_array((rng.uniform(0.2, 0.8, n * t), (rows, columns.ravel())), shape=(n, m))


def _random_graph(rng, size: int, density: float = 0.4) -> sparse.csr_array:
    """Not symmetric, so that a forgotten transpose shows."""
    values = rng.standard_normal((size, size)) * (rng.random((size, size)) < density)
    return sparse.csr_array(values / np.sqrt(size * density))


def _coarse_points(seed: int) -> dict:
    rng = np.random.default_rng([6, seed])
    n, c, d = 7, 3, 2 + seed % 3
    return {
        "E_coarse": rng.standard_normal((c, d)),
        "S_coarse": _random_assignment(rng, n, c, 2),
        "X_hat": _random_graph(rng, n + c),
        "G_H": rng.standard_normal((n, d)),
        "c": rng.uniform(0.1, 0.6, n) * (rng.random(n) < 0.8),
        "n_layers": 2 + seed % 2,
    }


def _coarse_variant(*, direct=1.0, graph=1.0, regulariser=1.0, tanh="yes", transpose=True, share=True, layers=None, sign=1.0):
    """The solution with parts of it changed, for the list of mistakes."""

    def variant(grad_loss, E_coarse, S_coarse, X_hat, G_H, c, n_layers):
        n = S_coarse.shape[0]
        Y = S_coarse @ E_coarse
        Z = np.tanh(Y)
        back = X_hat.T if transpose else X_hat
        own = np.concatenate([G_H, np.zeros_like(E_coarse)]) / ((n_layers + 1) if share else 1)
        grad_X0 = own
        for _ in range(n_layers):
            grad_X0 = (own if layers is None else 0) + back @ grad_X0
        slope = {"yes": 1 - Z**2, "no": np.ones_like(Z), "of Z": 1 - np.tanh(Z) ** 2, "of Y": 1 - Y**2, "late": 1 - Z**2}[tanh]
        pull = regulariser * 2 * c[:, None] * Z
        if tanh == "late":
            at_Y = graph * grad_X0[:n] * slope + pull
        else:
            at_Y = (graph * grad_X0[:n] + pull) * slope
        return sign * grad_loss * (direct * grad_X0[n:] + S_coarse.T @ at_Y)

    return variant


def _without_cotangent(solution):
    def variant(grad_loss, *arguments):
        return solution(1.0, *arguments)

    return variant


COARSE = Exercise(
    name="coarse_stage_backward",
    task=(
        "Write `coarse_stage_backward(grad_loss, E_coarse, S_coarse, X_hat, G_H, c, n_layers)`. It returns the gradient of "
        "`grad_loss * loss` with respect to `E_coarse`, of shape $(C, d)$. The forward: $Z=\\tanh(S_cE_c)$, $X_0=[Z;E_c]$, "
        "$X_{k+1}=\\hat X X_k$, $H$ = mean of $X_0,\\dots,X_L$, and loss = sum of `G_H * H_entities` + sum over e of "
        "$c_e|Z_e|^2$. `G_H` $(N, d)$ is what BPR sends back to the entity rows of $H$; `c` $(N,)$ holds the regulariser's "
        "factors decay l2 count / B. `S_coarse` and `X_hat` are scipy sparse arrays; here $\\hat X$ is **not** symmetric."
    ),
    solution=coarse_stage_solution,
    points=_coarse_points,
    forward=coarse_stage,
    hints=(
        "E_c stands in three places of the forward: in Z as the graph sees it, in Z as the regulariser sees it, in X_0 itself.",
        "Back through the layers first: the cotangent of H is G_H for entities and 0 for coarse rows; every layer receives "
        "1/(L+1) of it, and X_hat^T times what the next layer has.",
        "The result has N entity rows and C coarse rows. The coarse rows are done. The entity rows are a gradient at Z.",
        "Add 2 c_e Z_e to the entity rows, multiply by 1 - Z^2, then by S_c^T, and add the coarse rows.",
    ),
    mistakes=(
        Mistake(
            _coarse_variant(direct=0.0),
            "one of three ways is missing: E_c also stands in X_0 by itself, as the start of the coarse nodes.",
        ),
        Mistake(_coarse_variant(regulariser=0.0), "one of three ways is missing: Z reaches the loss beside the graph, too."),
        Mistake(_coarse_variant(graph=0.0), "one of three ways is missing: through Z and the graph."),
        Mistake(
            _coarse_variant(graph=0.0, regulariser=0.0),
            "only the coarse rows of X_0 are there; what comes through Z is missing.",
        ),
        Mistake(_coarse_variant(tanh="no"), "the derivative of tanh is missing."),
        Mistake(
            _coarse_variant(tanh="of Z"),
            "the derivative of tanh is taken at Z. It belongs at S_c E_c; expressed in Z it needs no further tanh.",
        ),
        Mistake(
            _coarse_variant(tanh="of Y"),
            "1 - y^2 is not the derivative of tanh at y. Which quantity has to be squared?",
        ),
        Mistake(
            _coarse_variant(tanh="late"),
            "the regulariser's part does not pass through tanh in your version. It acts on Z, and Z is a tanh.",
        ),
        Mistake(
            _coarse_variant(regulariser=0.5),
            "the regulariser's part is half of what it should be: the derivative of a square.",
        ),
        Mistake(
            _coarse_variant(transpose=False),
            "right on a symmetric graph. X_hat is not symmetric here: what takes the place of X_hat in a backward pass?",
        ),
        Mistake(_coarse_variant(share=False), "H is a mean over L + 1 layers, not their sum."),
        Mistake(
            _coarse_variant(layers="last"),
            "only the last layer's share is passed back. X_0, ..., X_L are all members of the mean.",
        ),
        Mistake(
            _without_cotangent(coarse_stage_solution),
            "right for grad_loss = 1. A backward is given the gradient of whatever comes after it; yours does not use it.",
        ),
    ),
    options={"wrt": "E_coarse"},
)


# ---- the closed-form assignment --------------------------------------------------------------------------------------
def least_squares_solution(H_entities, H_coarse, t):
    """W = H_entities pinv(H_coarse), of each row the t largest entries."""
    W = H_entities @ np.linalg.pinv(H_coarse)
    smallest = np.sort(W, axis=1)[:, -t]
    return np.where(W >= smallest[:, None], W, 0.0)


def _assignment_points(seed: int) -> dict:
    """Few coarse rows of full rank, dependent ones, and more of them than columns."""
    rng = np.random.default_rng([8, seed])
    c, d = ((3, 5), (4, 5), (6, 4))[seed % 3]
    H_coarse = rng.standard_normal((c, d))
    if seed % 3 == 1:
        H_coarse[3] = H_coarse[0] - 2 * H_coarse[1]
    return {"H_entities": rng.standard_normal((8, d)), "H_coarse": H_coarse, "t": 2}


def _assignment_variant(*, weights=None, key=lambda W: W, keep=True, after=lambda W: W):
    def variant(H_entities, H_coarse, t):
        W = H_entities @ np.linalg.pinv(H_coarse) if weights is None else weights(H_entities, H_coarse)
        if keep:
            order = key(W)
            W = np.where(order >= np.sort(order, axis=1)[:, -t][:, None], W, 0.0)
        return after(W)

    return variant


def _sum_to_one(W):
    return W / W.sum(axis=1, keepdims=True)


def _softmax(W):
    powers = np.exp(W - W.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _refitted(H_entities, H_coarse, t):
    W = least_squares_solution(H_entities, H_coarse, t)
    for row, h in zip(W, H_entities, strict=True):
        kept = np.flatnonzero(row)
        row[kept] = h @ np.linalg.pinv(H_coarse[kept])
    return W


ASSIGNMENT = Exercise(
    name="least_squares_assignment",
    task=(
        "Write `least_squares_assignment(H_entities, H_coarse, t)`. It returns an array of shape $(N, C)$: of the weights $W$ "
        "that make $|H_{entities}-W H_{coarse}|$ least (and, where several do, of those with the least norm) each row keeps its "
        "`t` largest entries with their values; all others are 0. `H_coarse` $(C, d)$ may have dependent rows, and may have "
        "more rows than columns."
    ),
    solution=least_squares_solution,
    points=_assignment_points,
    hints=(
        "Each row of W is a problem of its own: write a row of H_entities as a combination of the rows of H_coarse.",
        "The normal equations W H_c H_c^T = H_e H_c^T have one solution only if H_c H_c^T can be inverted. What takes the place "
        "of the inverse when it cannot?",
        "`np.linalg.pinv`. Then sort each row; largest means largest value, sign included.",
    ),
    mistakes=(
        Mistake(_assignment_variant(keep=False), "all entries are kept. Every row should have t of them."),
        Mistake(
            _assignment_variant(key=np.abs),
            "you keep the entries of largest absolute value. Asked for are the largest: a strongly negative weight goes.",
        ),
        Mistake(_assignment_variant(key=np.negative), "you keep the smallest entries."),
        Mistake(
            _assignment_variant(weights=lambda H, H_c: H @ H_c.T),
            "these are dot products, the right-hand side of the normal equations. They still have to be solved.",
        ),
        Mistake(_assignment_variant(after=_sum_to_one), "the rows are divided by their sums. The kept values stay as they are."),
        Mistake(
            _assignment_variant(weights=lambda H, H_c: _softmax(H @ np.linalg.pinv(H_c))),
            "there is no softmax in this update.",
        ),
        Mistake(
            _refitted,
            "you fit the kept entries anew. That is a better fit, but the values asked for are those of the full problem.",
        ),
        Mistake(
            _assignment_variant(weights=lambda H, H_c: H @ np.linalg.pinv(H_c) * (H @ np.linalg.pinv(H_c) > 0)),
            "negative weights are set to 0 before the largest are chosen.",
        ),
    ),
)

EXERCISES = (COARSE, ASSIGNMENT)
