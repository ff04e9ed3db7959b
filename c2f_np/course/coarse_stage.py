"""Exercises on the coarse stage: its forward, its backward in steps, the training loop, and the assignment in closed form.

Shapes
------
E_c, H_coarse : (C, d)     S_c : (N, C) csr     X_hat : (N + C, N + C) csr     H : (N + C, d)     Z, H_entities : (N, d)
b : (N,)     user, positive, negative : (B,) entity numbers
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .composition_and_bridging import compose, compose_backward
from .exercise import DERIVATIVE, Exercise, Mistake
from .gradient_checks import UNSQUARED, VALUE_OF_TANH
from .loss_and_optimiser import (
    LOOP_MISTAKES,
    ONCE_IN_EACH_ROLE,
    adam_step,
    bpr_backward,
    bpr_loss,
    once_in_each_role,
    penalty,
    penalty_backward,
    preferred,
    trained,
)
from .sparse_propagation import BEGINS_WITH_ALL, propagate, propagate_backward


# ---- points to try attempts at -------------------------------------------------------------------------------------------
def _random_assignment(rng, n: int, m: int, t: int) -> sparse.csr_array:
    """t positive weights in each row."""
    columns = np.stack([rng.permutation(m)[:t] for _ in range(n)])
    rows = np.repeat(np.arange(n), t)
    return sparse.csr_array((rng.uniform(0.2, 0.8, n * t), (rows, columns.ravel())), shape=(n, m))


def _random_graph(rng, size: int, density: float = 0.4) -> sparse.csr_array:
    """Not symmetric, so that a forgotten transpose shows."""
    values = rng.standard_normal((size, size)) * (rng.random((size, size)) < density)
    return sparse.csr_array(values / np.sqrt(size * density))


def _batch(rng, n_users: int, n_items: int, size: int) -> dict:
    """Triples in which entities occur several times; the first item does not occur, the last one does."""
    positive = rng.integers(1, n_items, size)
    positive[2] = n_items - 1
    negative = 1 + (positive - 1 + rng.integers(1, n_items - 1, size)) % (n_items - 1)
    user = rng.integers(0, n_users, size)
    user[1], positive[1] = user[0], positive[0]
    return {"user": user, "positive": n_users + positive, "negative": n_users + negative}


def stage_points(seed: int) -> dict:
    rng = np.random.default_rng([61, seed])
    n_users, n_items, c, d = 4, 5, 3, 2 + seed % 3
    n = n_users + n_items
    return {
        "E_c": rng.standard_normal((c, d)),
        "b": rng.standard_normal(n),
        "S_c": _random_assignment(rng, n, c, 2),
        "X_hat": _random_graph(rng, n + c),
        "n_layers": 2 + seed % 2,
        **_batch(rng, n_users, n_items, 8),
        "l2": 0.3,
    }


def _some_of(names: str):
    """Points with these arguments of the stage's alone."""

    def points(seed: int) -> dict:
        whole = stage_points(seed)
        return {name: whole[name] for name in names.split()}

    return points


# ---- forward -------------------------------------------------------------------------------------------------------------
def expanded_graph(A, S_c):
    X = sparse.csr_array(sparse.block_array([[A, S_c], [S_c.T, None]]))
    degree = abs(X).sum(axis=1)
    half = sparse.diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1)))
    return sparse.csr_array(half @ X @ half)


def coarse_forward(E_c, S_c, X_hat, n_layers):
    Z = compose(S_c, E_c)
    H = propagate(np.concatenate([Z, E_c]), X_hat, n_layers)
    return Z, H


def coarse_loss(E_c, b, S_c, X_hat, n_layers, user, positive, negative, l2):
    Z, H = coarse_forward(E_c, S_c, X_hat, n_layers)
    return bpr_loss(H, b, user, positive, negative) + penalty(Z, user, positive, negative, l2)


def _forward_variant(*, tanh=True, below=lambda E_c: E_c, entities_only=False, order=False, swap=False, layers=0, last=False):
    def variant(E_c, S_c, X_hat, n_layers):
        Z = np.tanh(S_c @ E_c) if tanh else S_c @ E_c
        start = np.concatenate([below(E_c), Z] if order else [Z, below(E_c)])
        H = propagate(start, X_hat, n_layers + layers)
        if last:
            H = start
            for _ in range(n_layers):
                H = X_hat @ H
        H = H[: len(Z)] if entities_only else H
        return (H, Z) if swap else (Z, H)

    return variant


FORWARD = Exercise(
    name="coarse_forward",
    task=(
        "Write `coarse_forward(E_c, S_c, X_hat, n_layers)`. It returns `Z` = tanh(S_c E_c), of shape $(N, d)$, and `H`, of shape "
        "$(N+C, d)$: what propagation over `X_hat` makes of $X_0=[Z;E_c]$, the mean of all $L+1$ layers. Use what you have: "
        "`my.compose(S, E)`, `my.propagate(X0, X_hat, n_layers)`."
    ),
    solution=coarse_forward,
    points=_some_of("E_c S_c X_hat n_layers"),
    hints=(
        "Two lines. The second needs Z and E_c on top of each other: `np.concatenate([Z, E_c])`.",
        "E_c enters X_0 as it is, without tanh. H has a row for every node, the coarse ones too.",
    ),
    mistakes=(
        Mistake(_forward_variant(tanh=False), "Z is the tanh of S_c E_c."),
        Mistake(_forward_variant(below=np.tanh), "the codebook enters X_0 as it is, without tanh. Z is right."),
        Mistake(_forward_variant(below=np.zeros_like), "Z is right, but propagation starts from zeros at the coarse nodes."),
        Mistake(_forward_variant(order=True), "X_0 has the entities first, then the coarse rows, in the order of X_hat's rows."),
        Mistake(_forward_variant(layers=-1), "one layer too few: X_0 is layer 0, and there are L more."),
        Mistake(_forward_variant(layers=1), "one layer too many: X_0 is layer 0, and there are L more."),
        Mistake(_forward_variant(last=True), "H is the mean of all layers, not the last one."),
    ),
)


# ---- backward, step by step ------------------------------------------------------------------------------------------------
def loss_to_H(H, b, user, positive, negative):
    n = len(b)
    grad_H = np.zeros_like(H)
    grad_H[:n], grad_b = bpr_backward(1.0, H[:n], b, user, positive, negative)
    return grad_H, grad_b


def _loss_to_H_points(seed: int) -> dict:
    whole = stage_points(seed)
    rng = np.random.default_rng([62, seed])
    H = rng.standard_normal((len(whole["b"]) + len(whole["E_c"]), whole["E_c"].shape[1]))
    return {"H": H, **{name: whole[name] for name in ("b", "user", "positive", "negative")}}


def _loss_to_H_variant(*, keep=lambda x: x, factor=1.0, bias=1.0):
    def variant(H, b, user, positive, negative):
        grad_H, grad_b = loss_to_H(H, b, user, positive, negative)
        return factor * keep(grad_H), factor * bias * grad_b

    return variant


def _sum_over_triples(H, b, user, positive, negative):
    return tuple(len(user) * part for part in loss_to_H(H, b, user, positive, negative))


def _coarse_rows_scored(H, b, user, positive, negative):
    """Item numbers taken for rows from the end."""
    grad_H, grad_b = loss_to_H(H, b, user, positive, negative)
    return np.roll(grad_H, len(H) - len(b), axis=0), grad_b


LOSS_TO_H = Exercise(
    name="loss_to_H",
    task=(
        "Step 1, from the loss to $H$. Write `loss_to_H(H, b, user, positive, negative)`. It returns `grad_H` of the shape "
        "$(N+C, d)$ of `H` and `grad_b` $(N,)$, the gradients of the BPR loss. Only the first $N$ rows of `H`, the entities, are "
        "ever scored; $N$ is `len(b)`. You have `my.bpr_backward(grad_loss, H, b, user, positive, negative)`. (The loss is the "
        "end of the computation: its cotangent is 1.)"
    ),
    solution=loss_to_H,
    tolerance=DERIVATIVE,
    points=_loss_to_H_points,
    hints=(
        "What does the loss do when the row of a coarse node in H moves, and nothing else?",
        "`my.bpr_backward(1.0, H[:n], b, ...)` gives the first N rows. Put C rows below them.",
    ),
    mistakes=(
        Mistake(_loss_to_H_variant(factor=-1.0), "both have the wrong sign. A gradient points uphill."),
        Mistake(_loss_to_H_variant(bias=0.0), "grad_H is right; the biases receive nothing."),
        Mistake(_loss_to_H_variant(bias=-1.0), "grad_H is right; grad_b has the wrong sign."),
        Mistake(_sum_over_triples, "the loss is a mean over the batch; this is the gradient of the sum."),
        Mistake(_coarse_rows_scored, "the right rows at the wrong places: entities come first in H, coarse rows last."),
    ),
)


def _stack(Z, E_c):
    return np.concatenate([Z, E_c])


def fork(grad_X0, Z, E_c):
    n = len(Z)
    return grad_X0[:n], grad_X0[n:]


FORK = Exercise(
    name="fork",
    task=(
        "Step 3, the fork. The forward stacked two arrays, `X0 = np.concatenate([Z, E_c])`. Write `fork(grad_X0, Z, E_c)`, which "
        "returns `grad_Z` $(N, d)$ and `grad_E_c` $(C, d)$, the gradients that arrive at the two from `grad_X0` $(N+C, d)$."
    ),
    solution=fork,
    points=lambda seed: {
        # As many rows in both at first: parts that are exchanged have the right shapes then.
        "Z": np.random.default_rng([63, seed]).standard_normal((4 + seed, 3)),
        "E_c": np.random.default_rng([64, seed]).standard_normal((4 + seed % 2, 3)),
    },
    forward=_stack,
    hints=("A stack copies numbers. Where has each of them gone?", "Cut the cotangent where the stack was glued."),
    mistakes=(
        *(
            Mistake(wrong_ends, "the two parts are taken from the wrong ends: Z stands above E_c.")
            for wrong_ends in (
                lambda grad_X0, Z, E_c: (grad_X0[-len(Z) :], grad_X0[: len(E_c)]),
                lambda grad_X0, Z, E_c: (grad_X0[len(E_c) :], grad_X0[: len(E_c)]),
            )
        ),
        *(
            Mistake(exchanged, "the right parts in the wrong order: asked for is grad_Z first, then grad_E_c.")
            for exchanged in (
                lambda grad_X0, Z, E_c: (grad_X0[len(Z) :], grad_X0[: len(Z)]),
                lambda grad_X0, Z, E_c: fork(grad_X0, Z, E_c)[::-1],
            )
        ),
        Mistake(
            lambda grad_X0, Z, E_c: (grad_X0[: len(Z)], 0 * grad_X0[len(Z) :]),
            "E_c receives nothing. Its rows of X_0 are the start of the coarse nodes.",
        ),
        Mistake(
            lambda grad_X0, Z, E_c: (grad_X0[: len(Z)] * (1 - Z**2), grad_X0[len(Z) :]),
            "tanh does not belong into this step: asked for is the gradient at Z, not at S_c E_c.",
        ),
    ),
    options={"wrt": ("Z", "E_c"), "linear_in": ("Z", "E_c")},
)


def to_Z(grad_Z, Z, user, positive, negative, l2):
    return grad_Z + penalty_backward(1.0, Z, user, positive, negative, l2)


def _to_Z_points(seed: int) -> dict:
    whole = stage_points(seed)
    Z = np.tanh(whole["S_c"] @ whole["E_c"])
    grad_Z = np.random.default_rng([65, seed]).standard_normal(Z.shape)
    return {"grad_Z": grad_Z, "Z": Z, **{name: whole[name] for name in ("user", "positive", "negative", "l2")}}


def _to_Z_variant(*, graph=1.0, penalised=1.0, mean=True, once=False, everyone=False, cotangent=lambda grad_Z, l2: 1.0):
    def variant(grad_Z, Z, user, positive, negative, l2):
        count = np.bincount(np.concatenate([user, positive, negative]), minlength=len(Z))
        count = np.minimum(count, 1) if once else np.ones(len(Z)) if everyone else count
        return graph * grad_Z + penalised * cotangent(grad_Z, l2) * 2 * l2 / (len(user) if mean else 1) * count[:, None] * Z

    return variant


TO_Z = Exercise(
    name="to_Z",
    task=(
        "Step 4, two paths meet at $Z$. Write `to_Z(grad_Z, Z, user, positive, negative, l2)`. `grad_Z` is what arrives through "
        "the graph; the penalty of the batch acts on `Z` as well. Return the whole gradient at `Z`, of shape $(N, d)$. You have "
        "`my.penalty_backward(grad_penalty, Z, user, positive, negative, l2)`."
    ),
    solution=to_Z,
    tolerance=DERIVATIVE,
    points=_to_Z_points,
    hints=("Used twice, gradients add.", "The cotangent of the penalty is 1: it stands in the loss without a factor."),
    mistakes=(
        Mistake(_to_Z_variant(penalised=0.0), "the penalty's part is missing."),
        Mistake(_to_Z_variant(graph=0.0), "what arrives through the graph is missing."),
        Mistake(_to_Z_variant(penalised=-1.0), "the penalty's part has the wrong sign: it is added to the loss."),
        Mistake(_to_Z_variant(penalised=0.5), "the penalty's part is half of what it should be: the derivative of a square."),
        Mistake(_to_Z_variant(mean=False), "the penalty is divided by the size of the batch; your gradient of it is not."),
        Mistake(_to_Z_variant(once=True), "an entity that occurs three times in the batch is penalised three times."),
        Mistake(lambda grad_Z, *point: grad_Z + once_in_each_role(1.0, *point), ONCE_IN_EACH_ROLE),
        Mistake(
            _to_Z_variant(cotangent=lambda grad_Z, l2: grad_Z),
            "the penalty's part is multiplied by what arrives through the graph. The penalty does not go through the graph: what "
            "is the cotangent of a term of the loss?",
        ),
        Mistake(
            lambda grad_Z, Z, user, positive, negative, l2: grad_Z + penalty(Z, user, positive, negative, l2),
            "the penalty itself is added. It is a number of the loss; asked for is its gradient.",
        ),
        Mistake(_to_Z_variant(cotangent=lambda grad_Z, l2: l2), "l2 enters twice: it is in the penalty, not in its cotangent."),
        Mistake(_to_Z_variant(everyone=True), "only entities of the batch are penalised, each as often as it occurs."),
    ),
)


def to_E_c(grad_Z, grad_direct, S_c, E_c):
    return grad_direct + compose_backward(grad_Z, S_c, E_c)


def _to_E_c_points(seed: int) -> dict:
    whole = stage_points(seed)
    rng = np.random.default_rng([66, seed])
    S_c, E_c = whole["S_c"], whole["E_c"]
    grad_Z = rng.standard_normal((S_c.shape[0], E_c.shape[1]))
    return {"grad_Z": grad_Z, "grad_direct": rng.standard_normal(E_c.shape), "S_c": S_c, "E_c": E_c}


def _to_E_c_variant(*, direct=1.0, composed=1.0, slope="output"):
    def variant(grad_Z, grad_direct, S_c, E_c):
        Y = S_c @ E_c
        slopes = {"output": 1 - np.tanh(Y) ** 2, "none": 1.0, "twice": 1 - np.tanh(np.tanh(Y)) ** 2, "of Y": 1 - Y**2,
                  "unsquared": 1 - np.tanh(Y), "value": np.tanh(Y)}  # fmt: skip
        return direct * grad_direct + composed * (S_c.T @ (grad_Z * slopes[slope]))

    return variant


TO_E_C = Exercise(
    name="to_E_c",
    task=(
        "Step 5, to the codebook. Write `to_E_c(grad_Z, grad_direct, S_c, E_c)`. `grad_Z` $(N, d)$ is the whole gradient at "
        "$Z=\\tanh(S_cE_c)$, `grad_direct` $(C, d)$ what the fork sent to `E_c` itself. Return the whole gradient at `E_c`, "
        "$(C, d)$. You have `my.compose_backward(grad_Z, S, E)`."
    ),
    solution=to_E_c,
    tolerance=DERIVATIVE,
    points=_to_E_c_points,
    hints=("E_c was used twice.", "`my.compose_backward` brings the gradient at Z to E_c. What else arrives there?"),
    mistakes=(
        Mistake(_to_E_c_variant(direct=0.0), "what the fork sent to E_c itself is missing."),
        Mistake(_to_E_c_variant(composed=0.0), "what comes through Z is missing."),
        Mistake(_to_E_c_variant(slope="none"), "the derivative of tanh is missing."),
        Mistake(_to_E_c_variant(slope="twice"), "the derivative of tanh is taken at Z. It belongs at S_c E_c."),
        Mistake(_to_E_c_variant(slope="unsquared"), UNSQUARED),
        Mistake(_to_E_c_variant(slope="value"), VALUE_OF_TANH),
        Mistake(_to_E_c_variant(slope="of Y"), "1 - y^2 is not the derivative of tanh at y. Which quantity has to be squared?"),
        Mistake(
            lambda grad_Z, grad_direct, S_c, E_c: to_E_c(grad_Z, grad_direct * (1 - np.tanh(E_c) ** 2), S_c, E_c),
            "what the fork sent to E_c itself passes through a tanh in your version. E_c stands in X_0 as it is.",
        ),
        Mistake(_to_E_c_variant(direct=-1.0), "what the fork sent to E_c itself has the wrong sign."),
        Mistake(lambda *given: to_E_c(*given) / 2, "you took the mean of the two paths. What is used twice receives the sum."),
    ),
)


# ---- all of it ---------------------------------------------------------------------------------------------------------------
def coarse_gradients(E_c, b, S_c, X_hat, n_layers, user, positive, negative, l2):
    Z, H = coarse_forward(E_c, S_c, X_hat, n_layers)
    loss = bpr_loss(H, b, user, positive, negative) + penalty(Z, user, positive, negative, l2)
    grad_H, grad_b = loss_to_H(H, b, user, positive, negative)
    grad_X0 = propagate_backward(grad_H, np.concatenate([Z, E_c]), X_hat, n_layers)
    grad_Z, grad_direct = fork(grad_X0, Z, E_c)
    grad_Z = to_Z(grad_Z, Z, user, positive, negative, l2)
    return loss, to_E_c(grad_Z, grad_direct, S_c, E_c), grad_b


def _coarse_variant(*, direct=1.0, graph=1.0, regulariser=1.0, tanh="yes", transpose=True, share=True, layers="all", sign=1.0,
                    mean=True, penalty_mean=True, bias=1.0, with_penalty=True, loss_sum=False):  # fmt: skip
    """The solution with parts of it changed, for the list of mistakes."""

    def variant(E_c, b, S_c, X_hat, n_layers, user, positive, negative, l2):
        n, size = len(b), len(user)
        Y = S_c @ E_c
        Z, H = coarse_forward(E_c, S_c, X_hat, n_layers)
        loss = bpr_loss(H, b, user, positive, negative) * (size if loss_sum else 1)
        loss = loss + (penalty(Z, user, positive, negative, l2) if with_penalty else 0.0)
        grad_H, grad_b = loss_to_H(H, b, user, positive, negative)
        scale = 1 if mean else size
        back = X_hat.T if transpose else X_hat
        own = scale * grad_H / ((n_layers + 1) if share else 1)
        grad_X0 = grad_H if layers in ("none", "begins with all") else own
        for _ in range(0 if layers == "none" else n_layers - (layers == "too few")):
            grad_X0 = (0 if layers == "last" else own) + back @ grad_X0
        slope = {"yes": 1 - Z**2, "no": 1.0, "of Z": 1 - np.tanh(Z) ** 2, "of Y": 1 - Y**2, "late": 1 - Z**2,
                 "unsquared": 1 - Z, "value": Z}[tanh]  # fmt: skip
        pull = regulariser * penalty_backward(1.0, Z, user, positive, negative, l2) * (1 if penalty_mean else size)
        at_Y = graph * grad_X0[:n] * slope + pull if tanh == "late" else (graph * grad_X0[:n] + pull) * slope
        return loss, sign * (direct * grad_X0[n:] + S_c.T @ at_Y), sign * bias * scale * grad_b

    return variant


def _penalty_elsewhere(at: str):
    """The penalty's gradient taken of H, or put at E_c as plain weight decay."""

    def variant(E_c, b, S_c, X_hat, n_layers, user, positive, negative, l2):
        loss, grad_E_c, grad_b = coarse_gradients(E_c, b, S_c, X_hat, n_layers, user, positive, negative, l2)
        Z, H = coarse_forward(E_c, S_c, X_hat, n_layers)
        right = compose_backward(penalty_backward(1.0, Z, user, positive, negative, l2), S_c, E_c)
        if at == "H":
            other = compose_backward(penalty_backward(1.0, H[: len(b)], user, positive, negative, l2), S_c, E_c)
        else:
            other = 2 * l2 * E_c
        return loss, grad_E_c - right + other, grad_b

    return variant


COARSE = Exercise(
    name="coarse_gradients",
    task=(
        "Put the steps together. Write `coarse_gradients(E_c, b, S_c, X_hat, n_layers, user, positive, negative, l2)`. It "
        "returns three results: the loss of the batch (BPR plus penalty), its gradient with respect to `E_c` $(C, d)$, and the "
        "one with respect to `b` $(N,)$. You have `my.coarse_forward`, `my.bpr_loss`, `my.penalty`, `my.loss_to_H`, "
        "`my.propagate_backward`, `my.fork`, `my.to_Z` and `my.to_E_c`. `X_hat` is **not** symmetric here."
    ),
    solution=coarse_gradients,
    tolerance=DERIVATIVE,
    points=stage_points,
    hints=(
        "Forward, loss, and then the steps from the end to the beginning: each takes what the one before it returned.",
        "loss_to_H, propagate_backward, fork, to_Z, to_E_c. `propagate_backward` is given X0 although it need not read it.",
    ),
    mistakes=(
        Mistake(
            _coarse_variant(direct=0.0),
            "one of three paths is missing: E_c also stands in X_0 by itself, as the start of the coarse nodes.",
        ),
        Mistake(_coarse_variant(regulariser=0.0), "one of three paths is missing: Z reaches the loss beside the graph, too."),
        Mistake(_coarse_variant(graph=0.0), "one of three paths is missing: through Z and the graph."),
        Mistake(
            _coarse_variant(graph=0.0, regulariser=0.0),
            "only the coarse rows of X_0 are there; what comes through Z is missing.",
        ),
        Mistake(_coarse_variant(tanh="no"), "the derivative of tanh is missing."),
        Mistake(
            _coarse_variant(tanh="of Z"),
            "the derivative of tanh is taken at Z. It belongs at S_c E_c; expressed in Z it needs no further tanh.",
        ),
        Mistake(_coarse_variant(tanh="unsquared"), UNSQUARED),
        Mistake(_coarse_variant(tanh="value"), VALUE_OF_TANH),
        Mistake(_coarse_variant(tanh="of Y"), "1 - y^2 is not the derivative of tanh at y. Which quantity has to be squared?"),
        Mistake(
            _coarse_variant(tanh="late"),
            "the penalty's part does not pass through tanh in your version. It acts on Z, and Z is a tanh.",
        ),
        Mistake(_coarse_variant(regulariser=0.5), "the penalty's part is half of what it should be: the derivative of a square."),
        Mistake(_coarse_variant(regulariser=-1.0), "the penalty's part has the wrong sign: the penalty is added to the loss."),
        Mistake(_penalty_elsewhere("H"), "the penalty acts on Z, what an entity is before the graph; yours is that of H."),
        Mistake(_penalty_elsewhere("E_c"), "the penalty acts on the rows of Z that the batch touches, not on the codebook."),
        Mistake(
            _coarse_variant(penalty_mean=False), "the penalty is divided by the size of the batch; your gradient of it is not."
        ),
        Mistake(_coarse_variant(mean=False), "BPR is a mean over the batch; your gradient is that of the sum."),
        Mistake(
            _coarse_variant(transpose=False),
            "right on a symmetric graph. X_hat is not symmetric here: what takes the place of X_hat in a backward pass?",
        ),
        Mistake(_coarse_variant(share=False), "H is a mean over L + 1 layers; your gradient is that of their sum."),
        Mistake(
            _coarse_variant(layers="last"),
            "only the last layer's share is passed back. X_0, ..., X_L are all members of the mean.",
        ),
        Mistake(_coarse_variant(layers="none"), "step 2 is missing: between H and X_0 lie the layers."),
        Mistake(_coarse_variant(layers="begins with all"), BEGINS_WITH_ALL),
        Mistake(_coarse_variant(layers="too few"), "the gradient passes back through one layer too few."),
        Mistake(_coarse_variant(sign=-1.0), "the loss is right, and both gradients have the wrong sign."),
        Mistake(_coarse_variant(bias=0.0), "all is right but grad_b: the biases receive nothing."),
        Mistake(_coarse_variant(bias=-1.0), "all is right but the sign of grad_b."),
        Mistake(_coarse_variant(with_penalty=False), "both gradients are right; the loss that you return lacks the penalty."),
        Mistake(_coarse_variant(loss_sum=True), "both gradients are right; in the loss that you return, BPR is not a mean."),
    ),
)


# ---- the training loop -------------------------------------------------------------------------------------------------------
def train_coarse(E_c, b, S_c, X_hat, n_layers, batches, l2, rate):
    m_E = v_E = np.zeros_like(E_c)
    m_b = v_b = np.zeros_like(b)
    losses = []
    for step, batch in enumerate(batches, 1):
        loss, grad_E_c, grad_b = coarse_gradients(E_c, b, S_c, X_hat, n_layers, *batch, l2)
        losses.append(loss)
        E_c, m_E, v_E = adam_step(E_c, grad_E_c, m_E, v_E, step, rate)
        b, m_b, v_b = adam_step(b, grad_b, m_b, v_b, step, rate)
    return E_c, b, losses


def _training_points(seed: int) -> dict:
    """The first item is a positive only, and preferred by far."""
    point = stage_points(seed)
    rng = np.random.default_rng([67, seed])
    batches = [tuple(_batch(rng, 4, 5, size).values()) for size in (6, 9, 5)]
    for _, positive, _ in batches:
        positive[0] = 4
    taken = {name: point[name] for name in ("E_c", "b", "S_c", "X_hat", "n_layers")}
    return {**taken, "b": preferred(point["b"], 4), "batches": batches, "l2": 0.3, "rate": 0.1}


def _training_variant(options: dict):
    def variant(E_c, b, S_c, X_hat, n_layers, batches, l2, rate):
        def losses_and_gradients(parameters, batch):
            return coarse_gradients(*parameters, S_c, X_hat, n_layers, *batch, l2)

        loop = trained(
            lambda parameters, batch: losses_and_gradients(parameters, batch)[0],
            lambda parameters, batch: losses_and_gradients(parameters, batch)[1:],
            **options,
        )
        return loop((E_c, b), batches, rate)

    return variant


TRAIN = Exercise(
    name="train_coarse",
    task=(
        "Write `train_coarse(E_c, b, S_c, X_hat, n_layers, batches, l2, rate)`, the training loop. `batches` is a list of "
        "triples of arrays (user, positive, negative). For each batch in turn: loss and gradients, then one Adam step for `E_c` "
        "and one for `b`, with the learning rate `rate`. Moments begin at 0, steps count from 1. Return the new `E_c`, the new "
        "`b` and the list of losses, each before its step. Leave the arrays that were given as they are."
    ),
    solution=train_coarse,
    points=_training_points,
    hints=(
        "It is the loop of notebook 05 with another gradient: `my.coarse_gradients` returns the loss as well.",
        "`E_c, m_E, v_E = my.adam_step(E_c, grad_E_c, m_E, v_E, step, rate)`, and the same for b with moments of its own.",
    ),
    mistakes=tuple(Mistake(_training_variant(options), message) for options, message in LOOP_MISTAKES),
)


# ---- the closed-form assignment --------------------------------------------------------------------------------------
ONE_TOO_MANY = "each row keeps one entry too many."
ONE_TOO_FEW = "each row keeps one entry too few. Does the smallest of those to be kept stay?"
ALONG_COLUMNS = "the largest of each column are kept. Every row keeps its own."


def least_squares_assignment(H_entities, H_coarse, t):
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


def _assignment_variant(*, weights=None, key=lambda W: W, keep=True, after=lambda W: W, more=0, axis=1):
    def variant(H_entities, H_coarse, t):
        W = H_entities @ np.linalg.pinv(H_coarse) if weights is None else weights(H_entities, H_coarse)
        if keep:
            order = key(W)
            least = np.expand_dims(np.take(np.sort(order, axis=axis), -t - more, axis=axis), axis)
            W = np.where(order >= least, W, 0.0)
        return after(W)

    return variant


def _sum_to_one(W):
    return W / W.sum(axis=1, keepdims=True)


def _softmax(W):
    powers = np.exp(W - W.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _refitted(H_entities, H_coarse, t):
    W = least_squares_assignment(H_entities, H_coarse, t)
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
    solution=least_squares_assignment,
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
        Mistake(_assignment_variant(more=1), ONE_TOO_MANY),
        Mistake(_assignment_variant(more=-1), ONE_TOO_FEW),
        Mistake(_assignment_variant(axis=0), ALONG_COLUMNS),
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

GIVEN = (expanded_graph, coarse_loss)
EXERCISES = (FORWARD, LOSS_TO_H, FORK, TO_Z, TO_E_C, COARSE, TRAIN, ASSIGNMENT)
