"""Exercises on the joint model: two codebooks and the links of every entity to both, trained together.

A model is a dict: codebooks E_c (C, d) and E_f (M, d), links S_c (N, C), S_f (C, M) and S_d (N, M) as csr, biases b (N,), the
threshold tau and the gate g. A batch is three arrays of entity numbers, (user, positive, negative).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse

from .composition_and_bridging import bridge
from .exercise import DERIVATIVE, Exercise, Mistake
from .gradient_checks import UNSQUARED, VALUE_OF_TANH
from .loss_and_optimiser import LOOP_MISTAKES, adam_step, bpr_backward, bpr_loss, penalty, penalty_backward, trained
from .soft_threshold import soft_threshold, soft_threshold_backward
from .sparse_propagation import in_the_pattern, propagate, propagate_backward, rows_of


# ---- points ------------------------------------------------------------------------------------------------------------
def _links(rng, n: int, m: int, t: int) -> sparse.csr_array:
    """t weights of both signs in each row, none near 0."""
    columns = np.sort(np.stack([rng.permutation(m)[:t] for _ in range(n)]), axis=1)
    weights = rng.choice([-1.0, 1.0], n * t) * rng.uniform(0.3, 1.2, n * t)
    return sparse.csr_array((weights, columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, m))


def _model(seed: int, part: int = 0) -> dict:
    """Six users and five items; in every fine row entries on both sides of the threshold, none near it."""
    rng = np.random.default_rng([12, seed, part])
    n, c, m, d = 11, 4, 3, 4 + seed % 2
    outside = (np.arange(m)[:, None] + np.arange(d)) % 3 != 0
    size = np.where(outside, rng.uniform(1.2, 2.5, (m, d)), rng.uniform(0.1, 0.6, (m, d)))
    return {
        "E_c": rng.standard_normal((c, d)),
        "E_f": rng.choice([-1.0, 1.0], (m, d)) * size,
        "S_c": _links(rng, n, c, 2),
        "S_f": _links(rng, c, m, 2),
        "S_d": _links(rng, n, m, 1 + seed % 2),
        "b": rng.standard_normal(n),
        "tau": 0.9,
        "g": 0.3,
    }


def _graph(seed: int) -> sparse.csr_array:
    """Not symmetric, so that a forgotten transpose shows."""
    rng = np.random.default_rng([12, seed, 7])
    return sparse.csr_array(rng.standard_normal((11, 11)) * (rng.random((11, 11)) < 0.4) / 2)


def _batch(rng, size: int = 8) -> tuple:
    """Users, positives and negatives as entity numbers, with repetitions; the last user and the last item do not occur."""
    user, positive = rng.integers(0, 5, size), rng.integers(6, 10, size)
    return user, positive, 6 + (positive - 5 + rng.integers(0, 3, size)) % 4


def _whole(seed: int) -> dict:
    """What the loss of a batch depends on."""
    rng = np.random.default_rng([12, seed, 8])
    return {
        "model": _model(seed), "A": _graph(seed), "batch": _batch(rng), "n_layers": 2 + seed % 2, "l2": 0.4 - 0.1 * seed,
    }  # fmt: skip


def _changed_model(function: Callable, **changes: Callable) -> Callable:
    """The function at a model with some parts changed, for the lists of mistakes."""

    def variant(model, *others):
        return function(model | {name: change(model) for name, change in changes.items()}, *others)

    return variant


# ---- the forward -------------------------------------------------------------------------------------------------------
def joint_forward(model, A, n_layers):
    F = soft_threshold(model["E_f"], model["tau"])
    E_hat = bridge(model["S_f"], F, model["E_c"], model["g"])
    Z = np.tanh(model["S_c"] @ E_hat + model["S_d"] @ F)
    return Z, propagate(Z, A, n_layers)


def _forward_points(seed: int) -> dict:
    return {"model": _model(seed), "A": _graph(seed), "n_layers": 2 + seed % 2}


def _forward_variant(*, tanh="once", direct=1.0, codebook="F", own=1.0, layers=0, last=False, swapped=False):
    def variant(model, A, n_layers):
        F = soft_threshold(model["E_f"], model["tau"])
        E_hat = model["g"] * (model["S_f"] @ F) + own * (1 - model["g"]) * model["E_c"]
        to_coarse, to_fine = model["S_c"] @ E_hat, model["S_d"] @ {"F": F, "E_f": model["E_f"]}[codebook]
        Y = to_coarse + direct * to_fine
        Z = {"once": np.tanh(Y), "no": Y, "twice": np.tanh(to_coarse) + np.tanh(to_fine), "F too": np.tanh(
            to_coarse + model["S_d"] @ np.tanh(F))}[tanh]  # fmt: skip
        H = propagate(Z, A, n_layers + layers)
        if last:
            H = Z
            for _ in range(n_layers):
                H = A @ H
        return (H, Z) if swapped else (Z, H)

    return variant


FORWARD = Exercise(
    name="joint_forward",
    task=(
        "Write `joint_forward(model, A, n_layers)`. `model` is a dict with the codebooks `E_c` $(C, d)$ and `E_f` $(M, d)$, the "
        "links `S_c` $(N, C)$, `S_f` $(C, M)$ and `S_d` $(N, M)$ (scipy sparse arrays) and the numbers `tau` and `g`. With "
        "$F=\\text{soft}(E_f,\\tau)$, $\\hat E=g\\,S_fF+(1-g)E_c$, $Y=S_c\\hat E+S_dF$ and $Z=\\tanh Y$, return `Z` and `H`, the "
        "mean of $Z, AZ, \\dots, A^LZ$; both $(N, d)$."
    ),
    solution=joint_forward,
    points=_forward_points,
    hints=(
        "Five lines: F, E_hat, Y, Z, H. Two of them call functions of yours.",
        "`my.soft_threshold(model['E_f'], model['tau'])` is F; `my.propagate(Z, A, n_layers)` is H.",
        "There is one tanh, and it acts on the sum Y. No codebook row is a node of the graph here.",
    ),
    mistakes=(
        Mistake(_forward_variant(direct=0.0), "the direct links are missing: entities are linked to fine rows, too."),
        Mistake(_forward_variant(codebook="E_f"), "the direct links lead to the rows of F, not of E_f."),
        Mistake(_changed_model(joint_forward, tau=lambda model: 0.0), "the soft threshold is missing."),
        Mistake(_forward_variant(tanh="no"), "the tanh is missing."),
        Mistake(_forward_variant(tanh="twice"), "tanh acts once, on the sum of both parts."),
        Mistake(
            _forward_variant(tanh="F too"),
            "tanh F belongs to the fine nodes of the fine stage's graph. Here there are none: S_d leads to F itself.",
        ),
        Mistake(_changed_model(joint_forward, g=lambda model: 0.0), "the bridge is missing: E_hat is not E_c."),
        Mistake(_changed_model(joint_forward, g=lambda model: 1 - model["g"]), "g and 1 - g are exchanged in E_hat."),
        Mistake(_forward_variant(own=0.0), "E_hat has a share of E_c as well."),
        Mistake(_forward_variant(swapped=True), "Z is asked for first, then H."),
        Mistake(_forward_variant(last=True), "H is the mean of all layers, from Z to A^L Z; yours is the last one."),
        Mistake(_forward_variant(layers=1), "one layer too many."),
        Mistake(_forward_variant(layers=-1), "one layer too few."),
    ),
)


# ---- the codebooks -----------------------------------------------------------------------------------------------------
def joint_backward_codebooks(grad_Y, model):
    grad_E_hat = model["S_c"].T @ grad_Y
    grad_F = model["S_d"].T @ grad_Y + model["g"] * (model["S_f"].T @ grad_E_hat)
    return (1 - model["g"]) * grad_E_hat, soft_threshold_backward(grad_F, model["E_f"], model["tau"])


def _codebook_points(seed: int) -> dict:
    """Two entries of E_f are so near to the threshold that a wide difference crosses it."""
    rng = np.random.default_rng([12, seed, 1])
    model = _model(seed)
    model["E_f"][:2, 0] = model["tau"] * np.array([1 + 1e-4, 1 - 1e-4])
    return {"grad_Y": rng.standard_normal((11, model["E_c"].shape[1])), "model": model}


def _codebook_variant(*, direct=1.0, bridge="g", own="1 - g", mask=True):
    def variant(grad_Y, model):
        factor = {"g": model["g"], "1 - g": 1 - model["g"], "1": 1.0, "0": 0.0}
        grad_E_hat = model["S_c"].T @ grad_Y
        grad_F = direct * (model["S_d"].T @ grad_Y) + factor[bridge] * (model["S_f"].T @ grad_E_hat)
        grad_E_f = soft_threshold_backward(grad_F, model["E_f"], model["tau"]) if mask else grad_F
        return factor[own] * grad_E_hat, grad_E_f

    return variant


CODEBOOKS = Exercise(
    name="joint_backward_codebooks",
    task=(
        "Write `joint_backward_codebooks(grad_Y, model)`. From `grad_Y` $(N, d)$, the gradient of the loss at "
        "$Y=S_c\\hat E+S_dF$, it returns the gradients with respect to `E_c` $(C, d)$ and to `E_f` $(M, d)$, in this order."
    ),
    solution=joint_backward_codebooks,
    tolerance=DERIVATIVE,
    points=_codebook_points,
    hints=(
        "Y is a sum of two products. Each sends back a transpose: what arrives at E_hat, and what at F?",
        "F stands in two places: in Y by the direct links, and in E_hat by the bridge. What is used twice receives a sum.",
        "G_F = S_d^T G_Y + g S_f^T G_Ehat, then `my.soft_threshold_backward`; E_c receives the rest of the bridge.",
    ),
    mistakes=(
        Mistake(_codebook_variant(direct=0.0), "only what comes through the bridge arrives at F. What do the direct links send?"),
        Mistake(_codebook_variant(bridge="0"), "only what comes by direct links arrives at F. It stands in E_hat as well."),
        Mistake(_codebook_variant(bridge="1"), "F's share in E_hat has a weight."),
        Mistake(_codebook_variant(bridge="1 - g"), "1 - g is the weight of E_c in E_hat; F has the other one."),
        Mistake(_codebook_variant(own="1"), "this is the gradient at E_hat. E_c's share in E_hat has a weight."),
        Mistake(_codebook_variant(own="g"), "g is F's weight in E_hat; E_c has the other one."),
        Mistake(_codebook_variant(mask=False), "this is the gradient at F. The soft threshold stands between E_f and F."),
    ),
)


# ---- the links ---------------------------------------------------------------------------------------------------------
def links_backward(grad_Y, S, E):
    rows = np.repeat(np.arange(S.shape[0]), np.diff(S.indptr))  # the entity of every link
    return np.sum(grad_Y[rows] * E[S.indices], axis=1)


def _link_points(seed: int) -> dict:
    rng = np.random.default_rng([12, seed, 2])
    S = _links(rng, 7, 5, 2 + seed % 2)
    return {"grad_Y": rng.standard_normal((7, 3)), "S": S, "E": rng.standard_normal((5, 3))}


def _stored(result, S):
    """The vector of the stored entries, if they come in a sparse matrix; else as it is."""
    found = in_the_pattern(result, S) if sparse.issparse(result) else result
    return found.data if sparse.issparse(found) and found.nnz == S.nnz and found.shape == S.shape else result


def _in_the_order_of_columns(grad_Y, S, E):
    return (grad_Y @ E.T).T[S.toarray().T != 0]


LINKS = Exercise(
    name="links_backward",
    task=(
        "Write `links_backward(grad_Y, S, E)`. The forward is `Y = S @ E` with a scipy CSR array `S` $(N, C)$ and `E` $(C, d)$. "
        "It returns the gradient of the loss with respect to the *stored* weights of `S`, as a vector in the order of `S.data` "
        "(row by row), from `grad_Y` $(N, d)$."
    ),
    solution=links_backward,
    tolerance=DERIVATIVE,
    read=lambda result, arguments: _stored(result, arguments["S"]),
    points=_link_points,
    hints=(
        "Change one weight s_ij by ds. Which row of Y changes, and by what? So by how much does the loss?",
        "The derivative is the dot product of row i of grad_Y with row j of E.",
        "`S.indices` holds the j of every stored weight; the i of every stored weight is "
        "`np.repeat(np.arange(N), np.diff(S.indptr))`.",
    ),
    mistakes=(
        Mistake(
            lambda grad_Y, S, E: S.data * links_backward(grad_Y, S, E),
            "your gradient is multiplied by the weight itself. Y is linear in the weight: its derivative does not depend on it.",
        ),
        Mistake(
            _in_the_order_of_columns,
            "the right numbers, column by column; S.data holds its weights row by row.",
        ),
        Mistake(
            lambda grad_Y, S, E: np.sum(grad_Y[S.indices] * E[S.indices], axis=1),
            "the rows of grad_Y are those of the entities; S.indices holds the numbers of codebook rows.",
        ),
        Mistake(
            lambda grad_Y, S, E: np.sum(grad_Y[rows_of(S)], axis=1),
            "the codebook is missing: a link's weight counts as much as the row that it leads to.",
        ),
    ),
)


# ---- the bridge --------------------------------------------------------------------------------------------------------
def without_bridge(E_c, F, S_f, g):
    return E_c + g / (1 - g) * (S_f @ F)


def _bridge_points(seed: int) -> dict:
    model = _model(seed, 3)
    return {"E_c": model["E_c"], "F": model["E_f"], "S_f": model["S_f"], "g": 0.2 + 0.1 * seed}


WITHOUT_BRIDGE = Exercise(
    name="without_bridge",
    task=(
        "Write `without_bridge(E_c, F, S_f, g)`. It returns a coarse codebook $E_c'$ $(C, d)$ that needs no fine codebook: with "
        "$F$ set to zero, the bridge of $E_c'$, $(1-g)E_c'$, is what the bridge of $E_c$ and $F$ was, $g\\,S_fF+(1-g)E_c$."
    ),
    solution=without_bridge,
    points=_bridge_points,
    hints=(
        "Write the equation that E_c' has to satisfy, and solve it for E_c'.",
        "(1 - g) E_c' = g S_f F + (1 - g) E_c. Divide.",
    ),
    mistakes=(
        Mistake(
            lambda E_c, F, S_f, g: g * (S_f @ F) + (1 - g) * E_c,
            "this is E_hat itself. The bridge will multiply your result by 1 - g once more.",
        ),
        Mistake(lambda E_c, F, S_f, g: E_c + g * (S_f @ F), "right up to a factor: the bridge scales your result by 1 - g."),
        Mistake(lambda E_c, F, S_f, g: E_c + (1 - g) / g * (S_f @ F), "g and 1 - g are exchanged."),
        Mistake(lambda E_c, F, S_f, g: E_c + S_f @ F, "F's share in E_hat has a weight."),
    ),
)


# ---- the loss and all gradients ----------------------------------------------------------------------------------------
def joint_loss(model, A, batch, n_layers, l2):
    Z, H = joint_forward(model, A, n_layers)
    return bpr_loss(H, model["b"], *batch) + penalty(Z, *batch, l2)


def loss_to_Y(model, A, batch, n_layers, l2):
    Z, H = joint_forward(model, A, n_layers)
    grad_H, grad_b = bpr_backward(1.0, H, model["b"], *batch)
    grad_Z = propagate_backward(grad_H, Z, A, n_layers) + penalty_backward(1.0, Z, *batch, l2)
    return grad_Z * (1 - Z**2), grad_b


def _to_Y_variant(*, transpose=True, layers="all", graph=1.0, penalised=1.0, slope="tanh", late=False, at="Z", bias=True,
                  mean=True):  # fmt: skip
    def variant(model, A, batch, n_layers, l2):
        Z, H = joint_forward(model, A, n_layers)
        grad_H, grad_b = bpr_backward(1.0, Z if layers == "none" else H, model["b"], *batch)
        back = A.T if transpose else A
        grad_Z = graph * (grad_H if layers == "none" else propagate(grad_H, back, n_layers))
        pull = penalised * penalty_backward(1.0, {"Z": Z, "H": H}[at], *batch, l2)
        tanh_slope = {"tanh": 1 - Z**2, "no": np.ones_like(Z), "again": 1 - np.tanh(Z) ** 2, "unsquared": 1 - Z,
                      "value": Z}[slope]  # fmt: skip
        grad_Y = grad_Z * tanh_slope + pull if late else (grad_Z + pull) * tanh_slope
        scale = 1 if mean else len(batch[0])
        return scale * grad_Y, scale * grad_b if bias else np.zeros_like(grad_b)

    return variant


TO_Y = Exercise(
    name="loss_to_Y",
    task=(
        "Write `loss_to_Y(model, A, batch, n_layers, l2)`. The loss is `my.bpr_loss(H, b, *batch) + my.penalty(Z, *batch, "
        "l2)`, with `Z` and `H` of `my.joint_forward` and `b = model['b']`; `batch` is (user, positive, negative). It "
        "returns `grad_Y` $(N, d)$, the gradient before the tanh, and `grad_b` $(N,)$. ($A$ is not symmetric here.)"
    ),
    solution=loss_to_Y,
    tolerance=DERIVATIVE,
    points=_whole,
    hints=(
        "Begin with the forward. You have a backward for each of its steps: BPR, the layers, the penalty.",
        "The penalty acts on Z, not on H: add its gradient where the gradient at Z stands.",
        "`my.bpr_backward(1.0, H, b, *batch)`, `my.propagate_backward(grad_H, Z, A, n_layers)`, `my.penalty_backward(1.0, Z, "
        "*batch, l2)`; and tanh' = 1 - Z^2.",
    ),
    mistakes=(
        Mistake(_to_Y_variant(slope="no"), "this is the gradient at Z. The tanh stands between Y and Z."),
        Mistake(_to_Y_variant(slope="again"), "the slope of tanh at Y is 1 - Z^2: Z is a tanh already."),
        Mistake(_to_Y_variant(penalised=0.0), "the penalty's gradient is missing."),
        Mistake(_to_Y_variant(penalised=0.5), "the penalty's part is half of what it should be: the derivative of a square."),
        Mistake(_to_Y_variant(penalised=-1.0), "the penalty's part has the wrong sign: the penalty is added to the loss."),
        Mistake(_to_Y_variant(mean=False), "the loss is a mean over the batch; your gradients are those of the sum."),
        Mistake(_to_Y_variant(slope="unsquared"), UNSQUARED),
        Mistake(_to_Y_variant(slope="value"), VALUE_OF_TANH),
        Mistake(_to_Y_variant(late=True), "the penalty acts on Z: its gradient passes through the tanh as well."),
        Mistake(_to_Y_variant(at="H"), "the penalty is of Z, not of H."),
        Mistake(_to_Y_variant(graph=0.0), "what comes back through the layers is missing."),
        Mistake(_to_Y_variant(layers="none"), "the loss is computed from H, and H from Z by the layers: these are missing."),
        Mistake(_to_Y_variant(transpose=False), "right for a symmetric A. Backwards its transpose is needed."),
        Mistake(_to_Y_variant(bias=False), "grad_Y is right; the biases have a gradient too."),
    ),
)


def joint_gradients(model, A, batch, n_layers, l2):
    grad_Y, grad_b = loss_to_Y(model, A, batch, n_layers, l2)
    grad_E_c, grad_E_f = joint_backward_codebooks(grad_Y, model)
    F = soft_threshold(model["E_f"], model["tau"])
    E_hat = bridge(model["S_f"], F, model["E_c"], model["g"])
    grad_S_c, grad_S_d = links_backward(grad_Y, model["S_c"], E_hat), links_backward(grad_Y, model["S_d"], F)
    return {"E_c": grad_E_c, "E_f": grad_E_f, "S_c": grad_S_c, "S_d": grad_S_d, "b": grad_b}


def _gradients_variant(**changes):
    """The solution with some gradients computed otherwise: functions of the model and of grad_Y."""

    def variant(model, A, batch, n_layers, l2):
        grad_Y, _ = loss_to_Y(model, A, batch, n_layers, l2)
        right = joint_gradients(model, A, batch, n_layers, l2)
        return right | {name: change(model, grad_Y) for name, change in changes.items()}

    return variant


def _by_names(result, arguments: dict):
    """What goes on being used by names has to come with names."""
    return {f"result {k}": part for k, part in enumerate(result, 1)} if isinstance(result, (tuple, list)) else result


GRADIENTS = Exercise(
    name="joint_gradients",
    task=(
        "Write `joint_gradients(model, A, batch, n_layers, l2)`. It returns a dict with the gradients of the loss of a "
        "batch with respect to `E_c`, `E_f`, the stored weights of `S_c` and of `S_d` (vectors, as `S_c.data`), and `b`, under "
        "these five names."
    ),
    solution=joint_gradients,
    tolerance=DERIVATIVE,
    points=_whole,
    read=_by_names,
    hints=(
        "Three functions of yours do everything: loss_to_Y, joint_backward_codebooks, links_backward.",
        "Y = S_c E_hat + S_d F: which rows does S_c lead to, and which S_d? `links_backward` wants to know.",
        "S_c leads to E_hat = g S_f F + (1 - g) E_c, S_d to F = soft(E_f, tau).",
    ),
    mistakes=(
        Mistake(
            _gradients_variant(S_c=lambda model, G: links_backward(G, model["S_c"], model["E_c"])),
            "S_c leads to the rows of E_hat, not of E_c.",
        ),
        Mistake(
            _gradients_variant(S_d=lambda model, G: links_backward(G, model["S_d"], model["E_f"])),
            "S_d leads to the rows of F, not of E_f.",
        ),
        Mistake(
            _gradients_variant(
                S_c=lambda model, G: links_backward(G, model["S_c"], model["E_c"]),
                S_d=lambda model, G: links_backward(G, model["S_d"], model["E_f"]),
            ),
            "the links lead to the rows of E_hat and F, not to the stored codebooks.",
        ),
    ),
)


# ---- coding a table ----------------------------------------------------------------------------------------------------
def pursue(Y, E, t):
    S = np.zeros((len(Y), len(E)))
    length = np.linalg.norm(E, axis=1)
    for y, s in zip(Y, S, strict=True):
        chosen = []
        for _ in range(t):
            explained = np.abs(E @ (y - s @ E)) / length  # by each row, of what is left
            explained[chosen] = -1
            chosen.append(np.argmax(explained))
            s[chosen] = np.linalg.lstsq(E[chosen].T, y, rcond=None)[0]  # all weights anew
    return sparse.csr_array(S)


def _pursue_points(seed: int) -> dict:
    """Rows of very different lengths, one of them nearly along another."""
    rng = np.random.default_rng([12, seed, 4])
    E = rng.standard_normal((6, 4)) * rng.permutation([0.2, 0.5, 1.0, 1.5, 3.0, 6.0])[:, None]
    E[5] = -0.7 * E[0] + 0.3 * E[5]
    return {"Y": rng.standard_normal((12, 4)), "E": E, "t": (1, 2, 3)[seed % 3]}


def _pursue_variant(*, by="explained", refit=True, left=True, weight="projection"):
    def variant(Y, E, t):
        S = np.zeros((len(Y), len(E)))
        length = np.linalg.norm(E, axis=1)
        for y, s in zip(Y, S, strict=True):
            chosen = []
            for _ in range(t):
                rest = y - s @ E if left else y
                products = E @ rest
                value = {
                    "explained": np.abs(products) / length, "product": np.abs(products), "signed": products / length,
                    "squared length": np.abs(products) / length**2, "nearest": -np.linalg.norm(rest - E, axis=1),
                }[by]  # fmt: skip
                value = np.array(value)
                value[chosen] = -np.inf
                chosen.append(j := int(np.argmax(value)))
                if refit and weight == "projection":
                    s[chosen] = np.linalg.lstsq(E[chosen].T, y, rcond=None)[0]
                else:
                    s[j] = {"projection": products[j] / length[j] ** 2, "one": 1.0, "product": products[j],
                            "length": products[j] / length[j]}[weight]  # fmt: skip
        return S

    return variant


def _largest_of_all(Y, E, t):
    """The t largest weights of a fit by all rows."""
    W = np.linalg.lstsq(E.T, Y.T, rcond=None)[0].T
    return np.where(np.abs(W) >= np.sort(np.abs(W), axis=1)[:, -t][:, None], W, 0.0)


PURSUE = Exercise(
    name="pursue",
    task=(
        "Write `pursue(Y, E, t)`. It codes every row $y$ of `Y` $(N, d)$ by `t` rows of the codebook `E` $(C, d)$ and returns "
        "the weights, $(N, C)$, sparse or dense, with `t` entries other than 0 in every row. Greedily: `t` times take, of the "
        "rows not taken yet, the one that explains most of what is left of $y$ (its best multiple leaves the least), then fit "
        "the weights of all rows taken so far to $y$ anew, by least squares."
    ),
    solution=pursue,
    points=_pursue_points,
    hints=(
        "With one row E_j: the best weight is <y, E_j> / |E_j|^2. How much of |y|^2 does that explain?",
        "It explains <y, E_j>^2 / |E_j|^2. Take the j for which this is largest; the length of E_j must not decide.",
        "`np.linalg.lstsq(E[chosen].T, y, rcond=None)[0]` fits all weights; what is left is y minus the fit.",
    ),
    mistakes=(
        Mistake(
            _pursue_variant(by="product"),
            "the largest dot product prefers long rows. A long row can be scaled down: its length must not decide.",
        ),
        Mistake(
            _largest_of_all,
            "these are the largest weights of a fit by all rows at once. Choose the rows one by one, then fit those alone.",
        ),
        Mistake(lambda Y, E, t: _largest_of_all(Y, E, len(E)), "all rows have weights. Each row of Y may have t of them."),
        Mistake(_pursue_variant(by="signed"), "a row that points the other way explains as much, with a negative weight."),
        Mistake(_pursue_variant(by="squared length"), "this takes the row of the largest weight, which prefers short rows."),
        Mistake(_pursue_variant(by="nearest"), "the nearest row is not the one that explains most: a weight may scale a row."),
        Mistake(_pursue_variant(by="nearest", weight="one"), "this is the nearest row with the weight 1. Weights are free here."),
        Mistake(_pursue_variant(weight="product"), "the right rows, the wrong weights: divide the dot product by what?"),
        Mistake(_pursue_variant(weight="length"), "the right rows, the wrong weights: divided by the length only once."),
        Mistake(_pursue_variant(refit=False), "the earlier weights stay as they were. Fit all of them anew after each choice."),
        Mistake(_pursue_variant(left=False), "from the second row on, look at what is left of y, not at y itself."),
    ),
)  # fmt: skip


def code_table(Y, n_coarse, n_fine, rng):
    E_c, S_c = nearest_means(Y, n_coarse, rng)
    E_f, S_d = nearest_means(Y - S_c @ E_c, n_fine, rng)
    for _ in range(5):
        both = sparse.hstack([S_c, S_d]).toarray()  # links given: both codebooks by least squares
        fitted, used = np.linalg.lstsq(both, Y, rcond=None)[0], np.any(both != 0, axis=0)
        E_c, E_f = np.split(np.where(used[:, None], fitted, np.concatenate([E_c, E_f])), [n_coarse])
        S_c = sparse.csr_array(pursue(Y - S_d @ E_f, E_c, 1))  # codebooks given: the links, one kind after the other
        S_d = sparse.csr_array(pursue(Y - S_c @ E_c, E_f, 1))
    return E_c, E_f, S_c, S_d


def nearest_means(Y, n_rows, rng):
    E = Y[rng.permutation(len(Y))[:n_rows]]
    for _ in range(10):  # k-means: every row goes to its nearest mean, every mean to the mean of its rows
        nearest = np.argmin(np.sum(E**2, axis=1) - 2 * Y @ E.T, axis=1)
        S = one_link(nearest, n_rows)
        size = S.sum(axis=0)[:, None]
        E = np.where(size > 0, (S.T @ Y) / np.maximum(size, 1), E)
    return E, sparse.csr_array(pursue(Y, E, 1))


def one_link(columns, n_columns):
    n = len(columns)
    return sparse.csr_array((np.ones(n), columns, np.arange(n + 1)), shape=(n, n_columns))


# ---- training ----------------------------------------------------------------------------------------------------------
def with_values(model, name, values):
    if sparse.issparse(model[name]):  # links: the same pattern with other weights
        S = model[name]
        values = sparse.csr_array((values, S.indices, S.indptr), shape=S.shape)
    return model | {name: values}


def train_joint(model, A, batches, n_layers, l2, rate, trained):
    m, v, losses = {}, {}, []
    for step, batch in enumerate(batches, 1):
        losses.append(joint_loss(model, A, batch, n_layers, l2))
        gradients = joint_gradients(model, A, batch, n_layers, l2)
        for name in trained:
            old = model[name].data if sparse.issparse(model[name]) else model[name]
            new, m[name], v[name] = adam_step(old, gradients[name], m.get(name, 0.0), v.get(name, 0.0), step, rate)
            model = with_values(model, name, new)
    return model | {"losses": np.array(losses)}


_TRAINED = ("E_c", "E_f", "S_c", "S_d", "b")


def _train_points(seed: int) -> dict:
    """The second seed trains a table, so to say: links stay as they are."""
    rng = np.random.default_rng([12, seed, 9])
    return _whole(seed) | {
        "batch": [_batch(rng) for _ in range(4)], "rate": 0.05, "trained": _TRAINED if seed != 1 else ("E_c", "b"),
    }  # fmt: skip


def _values(model: dict, name: str) -> np.ndarray:
    return model[name].data if sparse.issparse(model[name]) else model[name]


def _train_variant(options: dict, everything=False) -> Callable:
    def variant(model, A, batches, n_layers, l2, rate, names):
        names = _TRAINED if everything else names

        def at(parameters):
            moved = model
            for name, values in zip(names, parameters, strict=True):
                moved = with_values(moved, name, values)
            return moved

        def gradients(parameters, batch):
            found = joint_gradients(at(parameters), A, batch, n_layers, l2)
            return [found[name] for name in names]

        chosen = {**options, "parts": len(names)}
        loop = trained(lambda p, batch: joint_loss(at(p), A, batch, n_layers, l2), gradients, **chosen)
        *parameters, losses = loop([_values(model, name) for name in names], batches, rate)
        return at(parameters) | {"losses": np.array(losses)}

    return variant


def _only_the_last_gradient(model, A, batches, n_layers, l2, rate, names):
    """Gradients at the parameters of the start."""
    start, m, v, losses = model, {}, {}, []
    for step, batch in enumerate(batches, 1):
        losses.append(joint_loss(model, A, batch, n_layers, l2))
        for name in names:
            gradient = joint_gradients(start, A, batch, n_layers, l2)[name]
            new, m[name], v[name] = adam_step(_values(model, name), gradient, m.get(name, 0.0), v.get(name, 0.0), step, rate)
            model = with_values(model, name, new)
    return model | {"losses": np.array(losses)}


TRAIN = Exercise(
    name="train_joint",
    task=(
        "Write `train_joint(model, A, batches, n_layers, l2, rate, trained)`. `trained` holds the names of what is to be "
        "moved, some of `E_c`, `E_f`, `S_c`, `S_d`, `b`; of links the stored weights move. For each batch (user, positive, "
        "negative) in turn: note its loss (`my.joint_loss`), compute all gradients, and move every part in `trained` by one Adam "
        "step with the learning rate `rate`. Moments begin at 0, steps count from 1. Return the trained model: a dict as the one "
        "given, with one more entry `losses`, the loss of each batch before its step, as an array. Leave the model that was "
        "given as it is."
    ),
    solution=train_joint,
    points=_train_points,
    read=_by_names,
    hints=(
        "The loop of notebook 05 with a dict of parts: each name has its own m and v.",
        "`my.with_values(model, name, values)` is the model with other values in one part; of links these are the weights.",
        "All gradients of a batch are computed before anything moves: one call of my.joint_gradients a batch.",
    ),
    mistakes=(
        *(Mistake(_train_variant(options), message) for options, message in LOOP_MISTAKES if "no_step" not in options),
        Mistake(_train_variant({}, everything=True), "everything is moved. `trained` says what is to be."),
        Mistake(_only_the_last_gradient, "all gradients are taken at the model that was given. Take them at the model of now."),
    ),
)

GIVEN = (joint_loss, one_link, nearest_means, code_table, with_values)
EXERCISES = (FORWARD, CODEBOOKS, LINKS, WITHOUT_BRIDGE, TO_Y, GRADIENTS, PURSUE, TRAIN)
