"""Exercises on the fine stage: its forward, its backward in steps, the training loop, and the update of the fine links.

Shapes
------
E_f, F : (M, d)     E_c, E_hat : (C, d)     S_c : (N, C) csr     S_f : (C, M) csr     X_hat : (N + C + M,) * 2 csr
H : (N + C + M, d)     Z : (N, d)     b : (N,)     user, positive, negative : (B,) entity numbers     tau, g : numbers
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .coarse_stage import ALONG_COLUMNS, ONE_TOO_FEW, ONE_TOO_MANY, loss_to_H, to_E_c, to_Z
from .composition_and_bridging import bridge, bridged_layer_exchange, bridged_layer_exchange_backward, compose
from .exercise import DERIVATIVE, Exercise, Mistake
from .gradient_checks import UNSQUARED, VALUE_OF_TANH
from .loss_and_optimiser import LOOP_MISTAKES, adam_step, bpr_loss, penalty, preferred, trained
from .soft_threshold import soft_threshold, soft_threshold_backward
from .sparse_propagation import BEGINS_WITH_ALL

_N_USERS, _N_ITEMS = 4, 5


# ---- points to try attempts at -------------------------------------------------------------------------------------------
def _assignment(rng, n: int, m: int, t: int) -> sparse.csr_array:
    """t positive weights in each row."""
    columns = np.sort(np.stack([rng.permutation(m)[:t] for _ in range(n)]), axis=1)
    return sparse.csr_array((rng.uniform(0.2, 0.8, n * t), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, m))


def _batch(rng, size: int) -> tuple:
    """Triples in which entities occur several times; the first item does not occur, the last one does."""
    positive = rng.integers(1, _N_ITEMS, size)
    positive[2] = _N_ITEMS - 1
    negative = 1 + (positive - 1 + rng.integers(1, _N_ITEMS - 1, size)) % (_N_ITEMS - 1)
    return rng.integers(0, _N_USERS, size), _N_USERS + positive, _N_USERS + negative


def stage_points(seed: int) -> dict:
    """In every fine row entries of both signs outside the threshold, and one inside; none near it. X_hat is not symmetric."""
    rng = np.random.default_rng([71, seed])
    n, c, m, d = _N_USERS + _N_ITEMS, 5, 4, 4 + seed % 2
    place = (np.arange(m)[:, None] + np.arange(d)) % 4
    size = np.where(place == 0, rng.uniform(0.1, 0.6, (m, d)), rng.uniform(1.2, 2.5, (m, d)))
    X_hat = rng.standard_normal((n + c + m,) * 2) * (rng.random((n + c + m,) * 2) < 0.4) / np.sqrt(0.4 * (n + c + m))
    user, positive, negative = _batch(rng, 8)
    return {
        "E_f": np.where(place == 1, -1, 1) * size,
        "b": rng.standard_normal(n),
        "E_c": rng.standard_normal((c, d)),
        "S_c": _assignment(rng, n, c, 2),
        "S_f": _assignment(rng, c, m, 2),
        "X_hat": sparse.csr_array(X_hat),
        "tau": 0.9,
        "g": 0.3,
        "n_layers": 2 + seed % 2,
        "user": user,
        "positive": positive,
        "negative": negative,
        "l2": 0.3,
    }


def _some_of(names: str):
    """Points with these arguments of the stage's alone."""

    def points(seed: int) -> dict:
        whole = stage_points(seed)
        return {name: whole[name] for name in names.split()}

    return points


# ---- what the notebook gives -------------------------------------------------------------------------------------------
def fine_graph(A, S_c, S_f):
    X = sparse.csr_array(sparse.block_array([[A, S_c, None], [S_c.T, None, S_f], [None, S_f.T, None]]))
    degree = abs(X).sum(axis=1)
    half = sparse.diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1)))
    return sparse.csr_array(half @ X @ half)


def bridged_propagate(X0, X_hat, S_c, S_f, g, n_layers):
    layer, total = X0, X0
    for _ in range(n_layers):
        layer = bridged_layer_exchange(layer, X_hat, S_c, S_f, g)
        total = total + layer
    return total / (n_layers + 1)


# ---- the forward -------------------------------------------------------------------------------------------------------
def fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers):
    F = soft_threshold(E_f, tau)
    E_hat = bridge(S_f, F, E_c, g)
    Z = compose(S_c, E_hat)
    X0 = np.concatenate([Z, E_hat, np.tanh(F)])
    return Z, bridged_propagate(X0, X_hat, S_c, S_f, g, n_layers)


def _forward_variant(*, fine=np.tanh, composed="E_hat", coarse="E_hat", shrunk=True, gate=lambda g: g, layers="bridged", more=0):
    def variant(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers):
        F = soft_threshold(E_f, tau) if shrunk else E_f
        rows = {"E_hat": bridge(S_f, F, E_c, gate(g)), "E_c": E_c}
        Z = compose(S_c, rows[composed])
        X0 = np.concatenate([Z, rows[coarse], fine(F)])
        share = g if layers == "bridged" else 0.0
        return Z, bridged_propagate(X0, X_hat, S_c, S_f, share, n_layers + more)

    return variant


FORWARD = Exercise(
    name="fine_forward",
    task=(
        "Write `fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers)`. With $F=\\text{soft}(E_f,\\tau)$, "
        "$\\hat E=g\\,S_fF+(1-g)E_c$, $Z=\\tanh(S_c\\hat E)$ and $X_0=[Z;\\hat E;\\tanh F]$ it returns `Z` $(N, d)$ and `H` "
        "$(N+C+M, d)$, the mean of $X_0,\\dots,X_L$, where every layer is a bridged one."
    ),
    solution=fine_forward,
    points=_some_of("E_f E_c S_c S_f X_hat tau g n_layers"),
    hints=(
        "Five lines, one for each symbol: F, E_hat, Z, X0, H.",
        "`my.soft_threshold`, `my.bridge(S_f, F, E_c, g)`, `my.compose(S_c, E_hat)`, `np.concatenate`, `my.bridged_propagate`.",
        "The fine nodes start at tanh(F), the coarse ones at E_hat itself.",
    ),
    mistakes=(
        Mistake(_forward_variant(shrunk=False), "the soft threshold is missing."),
        Mistake(_forward_variant(fine=lambda F: F), "the fine nodes start at tanh(F), not at F."),
        Mistake(_forward_variant(composed="E_c"), "entities are composed from E_hat here; yours from the frozen E_c."),
        Mistake(_forward_variant(coarse="E_c"), "the coarse nodes start at E_hat; yours at E_c."),
        Mistake(_forward_variant(composed="E_c", coarse="E_c"), "E_hat is not used: yours has E_c in its place."),
        Mistake(_forward_variant(gate=lambda g: 1 - g), "g and 1 - g are exchanged in E_hat."),
        Mistake(_forward_variant(layers="plain"), "the layers are plain ones. Every layer of this stage is bridged."),
        Mistake(_forward_variant(more=1), "one layer too many."),
        Mistake(_forward_variant(more=-1), "one layer too few."),
    ),
)


# ---- step: the layers ----------------------------------------------------------------------------------------------------
def bridged_propagate_backward(grad_H, X0, X_hat, S_c, S_f, g, n_layers):
    share = grad_H / (n_layers + 1)
    grad_layer = share
    for _ in range(n_layers):
        grad_layer = share + bridged_layer_exchange_backward(grad_layer, X0, X_hat, S_c, S_f, g)
    return grad_layer


def _layers_points(seed: int) -> dict:
    whole = stage_points(seed)
    X0 = np.random.default_rng([72, seed]).standard_normal((whole["X_hat"].shape[0], whole["E_c"].shape[1]))
    return {"X0": X0, **{name: whole[name] for name in ("X_hat", "S_c", "S_f", "g", "n_layers")}}


def _layers_variant(*, every=True, mean=True, begin_with_all=False, gate=lambda g: g, forward=False, more=0):
    def variant(grad_H, X0, X_hat, S_c, S_f, g, n_layers):
        back = bridged_layer_exchange_backward
        share = grad_H / (n_layers + 1) if mean else grad_H
        grad_layer = grad_H if begin_with_all else share
        for _ in range(n_layers + more):
            moved = (
                bridged_layer_exchange(grad_layer, X_hat, S_c, S_f, g)
                if forward
                else back(grad_layer, X0, X_hat, S_c, S_f, gate(g))
            )
            grad_layer = share * every + moved
        return grad_layer

    return variant


LAYERS = Exercise(
    name="bridged_propagate_backward",
    task=(
        "Write `bridged_propagate_backward(grad_H, X0, X_hat, S_c, S_f, g, n_layers)`, the backward of `my.bridged_propagate`: "
        "from `grad_H` $(N+C+M, d)$ the gradient with respect to `X0`, of the same shape. You have the backward of one layer, "
        "`my.bridged_layer_exchange_backward(grad_next, X, X_hat, S_c, S_f, g)`; being linear, it need not read its `X`."
    ),
    solution=bridged_propagate_backward,
    points=_layers_points,
    forward=bridged_propagate,
    hints=(
        "It is propagate_backward of notebook 02 with another layer: T^T in place of X_hat^T.",
        "Every X_k receives grad_H / (L + 1), and from the layer after it T^T times what that one received.",
    ),
    mistakes=(
        Mistake(_layers_variant(every=False), "only the last layer's share is passed back. X_0, ..., X_L all stand in the mean."),
        Mistake(_layers_variant(mean=False), "H is a mean over L + 1 layers; your gradient is that of their sum."),
        Mistake(_layers_variant(begin_with_all=True), BEGINS_WITH_ALL),
        Mistake(_layers_variant(gate=lambda g: 0.0), "the backward of a plain layer, X_hat^T; these layers are bridged."),
        Mistake(_layers_variant(forward=True), "this runs the layers forward. One layer is not symmetric: backwards it is T^T."),
        Mistake(_layers_variant(more=1), "the gradient passes back through one layer too many."),
        Mistake(_layers_variant(more=-1), "the gradient passes back through one layer too few."),
    ),
    options={"wrt": "X0", "linear_in": "X0"},
)


# ---- step: from E_hat and the fine nodes to E_f ------------------------------------------------------------------------------
def to_E_f(grad_E_hat, grad_fine, E_f, S_f, tau, g):
    F = soft_threshold(E_f, tau)
    grad_F = g * (S_f.T @ grad_E_hat) + grad_fine * (1 - np.tanh(F) ** 2)
    return soft_threshold_backward(grad_F, E_f, tau)


def _to_E_f_points(seed: int) -> dict:
    whole, rng = stage_points(seed), np.random.default_rng([73, seed])
    grads = {"grad_E_hat": rng.standard_normal(whole["E_c"].shape), "grad_fine": rng.standard_normal(whole["E_f"].shape)}
    return grads | {name: whole[name] for name in ("E_f", "S_f", "tau", "g")}


def _to_E_f_variant(*, bridged="g", fine=1.0, slope="F", mask="outside", sign=1.0):
    def variant(grad_E_hat, grad_fine, E_f, S_f, tau, g):
        F = soft_threshold(E_f, tau)
        factor = {"g": g, "1 - g": 1 - g, "1": 1.0, "0": 0.0}[bridged]
        through_tanh = {"F": 1 - np.tanh(F) ** 2, "E_f": 1 - np.tanh(E_f) ** 2, "no": np.ones_like(F), "square": 1 - F**2,
                        "unsquared": 1 - np.tanh(F), "value": np.tanh(F)}[slope]  # fmt: skip
        grad_F = factor * (S_f.T @ grad_E_hat) + sign * fine * grad_fine * through_tanh
        let_through = {"outside": np.abs(E_f) > tau, "all": True, "inside": np.abs(E_f) <= tau, "above": E_f > tau,
                       "bridge only": np.abs(E_f) > tau}[mask]  # fmt: skip
        if mask == "bridge only":
            return np.where(let_through, grad_F, grad_fine * through_tanh)
        return np.where(let_through, grad_F, 0.0)

    return variant


TO_E_F = Exercise(
    name="to_E_f",
    task=(
        "Write `to_E_f(grad_E_hat, grad_fine, E_f, S_f, tau, g)`. `grad_E_hat` $(C, d)$ is the gradient at the bridged codebook, "
        "`grad_fine` $(M, d)$ the one that arrives at the start of the fine nodes, $\\tanh F$. It returns the gradient with "
        "respect to the fine codebook `E_f` $(M, d)$. No entry of `E_f` is near the threshold."
    ),
    solution=to_E_f,
    tolerance=DERIVATIVE,
    points=_to_E_f_points,
    hints=(
        "F goes two ways: through the bridge, and through tanh to the fine nodes. Then the threshold, for both.",
        "G_F = g S_f^T G_Ehat + grad_fine * (1 - tanh(F)^2).",
        "`my.soft_threshold_backward(grad_F, E_f, tau)` is the last step.",
    ),
    mistakes=(
        Mistake(_to_E_f_variant(mask="all"), "this is the gradient at F. What the threshold sets to 0 has no influence."),
        Mistake(_to_E_f_variant(mask="bridge only"), "the fine nodes start at tanh(F): their part passes the threshold, too."),
        Mistake(_to_E_f_variant(mask="inside"), "the threshold lets the wrong entries through."),
        Mistake(_to_E_f_variant(mask="above"), "entries below -tau lie outside the threshold, too."),
        Mistake(_to_E_f_variant(bridged="0"), "what comes through the bridge is missing."),
        Mistake(_to_E_f_variant(fine=0.0), "what comes from the fine nodes, which start at tanh(F), is missing."),
        Mistake(_to_E_f_variant(bridged="1"), "the bridge's weight g is missing."),
        Mistake(_to_E_f_variant(bridged="1 - g"), "1 - g is the share of the coarse codebook."),
        Mistake(_to_E_f_variant(slope="no"), "the derivative of the tanh at the fine nodes is missing."),
        Mistake(_to_E_f_variant(slope="E_f"), "tanh at the fine nodes is taken of F, not of E_f; so is its derivative."),
        Mistake(_to_E_f_variant(slope="unsquared"), UNSQUARED),
        Mistake(_to_E_f_variant(slope="value"), VALUE_OF_TANH),
        Mistake(_to_E_f_variant(slope="square"), "the derivative of tanh is 1 minus the square of its output, not of its input."),
        Mistake(_to_E_f_variant(sign=-1.0), "the part of the fine nodes has the wrong sign: what is used twice receives a sum."),
    ),
)


# ---- all steps ---------------------------------------------------------------------------------------------------------
def fine_loss(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, user, positive, negative, l2):
    Z, H = fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers)
    return bpr_loss(H, b, user, positive, negative) + penalty(Z, user, positive, negative, l2)


def fine_gradients(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, user, positive, negative, l2):
    Z, H = fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers)
    loss = bpr_loss(H, b, user, positive, negative) + penalty(Z, user, positive, negative, l2)
    grad_H, grad_b = loss_to_H(H, b, user, positive, negative)
    grad_X0 = bridged_propagate_backward(grad_H, H, X_hat, S_c, S_f, g, n_layers)
    n, c = S_c.shape
    grad_Z, grad_coarse, grad_fine = np.split(grad_X0, [n, n + c])
    grad_Z = to_Z(grad_Z, Z, user, positive, negative, l2)
    grad_E_hat = to_E_c(grad_Z, grad_coarse, S_c, bridge(S_f, soft_threshold(E_f, tau), E_c, g))
    return loss, to_E_f(grad_E_hat, grad_fine, E_f, S_f, tau, g), grad_b


def _variant(*, graph=1.0, penalised=1.0, coarse=1.0, fine=1.0, tanh="E_hat", back=bridged_propagate_backward, bias=1.0, sign=1.0,
             with_penalty=True):  # fmt: skip
    """The solution with parts of it changed, for the list of mistakes."""

    def variant(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, *rest):
        batch, l2 = rest[:3], rest[3]
        Z, H = fine_forward(E_f, E_c, S_c, S_f, X_hat, tau, g, n_layers)
        loss = bpr_loss(H, b, *batch) + (penalty(Z, *batch, l2) if with_penalty else 0.0)
        grad_H, grad_b = loss_to_H(H, b, *batch)
        grad_X0 = back(grad_H, H, X_hat, S_c, S_f, g, n_layers)
        n, c = S_c.shape
        grad_Z, grad_coarse, grad_fine = np.split(grad_X0, [n, n + c])
        grad_Z = to_Z(graph * grad_Z, Z, *batch, penalised * l2)
        rows = {"E_hat": bridge(S_f, soft_threshold(E_f, tau), E_c, g), "E_c": E_c}
        slope = {"no": 1.0, "unsquared": 1 - Z, "value": Z}
        grad_Y = S_c.T @ (grad_Z * slope[tanh]) if tanh in slope else to_E_c(grad_Z, 0.0, S_c, rows[tanh])
        grad_E_f = to_E_f(coarse * grad_coarse + grad_Y, fine * grad_fine, E_f, S_f, tau, g)
        return loss, sign * grad_E_f, sign * bias * grad_b

    return variant


def _two_paths(*arguments):
    return _variant(graph=0.0, penalised=0.0)(*arguments)


GRADIENTS = Exercise(
    name="fine_gradients",
    task=(
        "Put the steps together. Write `fine_gradients(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, user, positive, negative, "
        "l2)`. It returns three results: the loss of the batch (BPR plus penalty), its gradient with respect to `E_f` $(M, d)$, "
        "and the one with respect to `b` $(N,)$. `E_c` and the links are frozen. Besides this notebook's functions you have "
        "`my.loss_to_H`, `my.to_Z` and `my.to_E_c` of notebook 06: the last one, at `E_hat` in place of `E_c`, is what you need. "
        "`X_hat` is **not** symmetric here."
    ),
    solution=fine_gradients,
    tolerance=DERIVATIVE,
    points=stage_points,
    hints=(
        "Forward, loss, then the steps from the end: to H, through the layers, the fork in three, to Z, to E_hat, to E_f.",
        "`np.split(grad_X0, [N, N + C])` cuts X_0's gradient into entity rows, coarse rows and fine rows.",
        "`my.to_E_c(grad_Z, grad_coarse, S_c, E_hat)` adds what comes through Z to the coarse rows; `my.to_E_f` does the rest.",
    ),
    mistakes=(
        Mistake(
            _two_paths,
            "two of four paths are missing: entities are composed from E_hat, and what comes back through Z is lost.",
        ),
        Mistake(_variant(graph=0.0), "one of four paths is missing: the entity rows of X_0, through Z."),
        Mistake(_variant(penalised=0.0), "one of four paths is missing: the penalty acts on Z, and Z depends on E_f here."),
        Mistake(_variant(penalised=0.5), "the penalty's part is half of what it should be: the derivative of a square."),
        Mistake(_variant(penalised=-1.0), "the penalty's part has the wrong sign: the penalty is added to the loss."),
        Mistake(_variant(coarse=0.0), "one of four paths is missing: E_hat also stands in X_0 by itself."),
        Mistake(_variant(fine=0.0), "one of four paths is missing: the fine nodes start at tanh(F)."),
        Mistake(_variant(tanh="no"), "the derivative of the tanh in Z is missing."),
        Mistake(_variant(tanh="unsquared"), UNSQUARED),
        Mistake(_variant(tanh="value"), VALUE_OF_TANH),
        Mistake(_variant(tanh="E_c"), "the derivative of the tanh in Z is taken at E_c. Z is composed from E_hat."),
        Mistake(_variant(back=_layers_variant(gate=lambda g: 0.0)), "the backward of plain layers; these layers are bridged."),
        Mistake(_variant(back=_layers_variant(forward=True)), "the layers run forward instead of backward: T is not symmetric."),
        Mistake(_variant(back=_layers_variant(mean=False)), "H is a mean over L + 1 layers; your gradient is that of their sum."),
        Mistake(
            _variant(back=_layers_variant(every=False)),
            "only the last layer's share is passed back. X_0, ..., X_L all stand in the mean.",
        ),
        Mistake(_variant(sign=-1.0), "the loss is right, and both gradients have the wrong sign."),
        Mistake(_variant(bias=0.0), "all is right but grad_b: the biases receive nothing."),
        Mistake(_variant(bias=-1.0), "all is right but the sign of grad_b."),
        Mistake(_variant(with_penalty=False), "both gradients are right; the loss that you return lacks the penalty."),
    ),
)


# ---- the training loop -------------------------------------------------------------------------------------------------------
def train_fine(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, batches, l2, rate):
    m_E = v_E = np.zeros_like(E_f)
    m_b = v_b = np.zeros_like(b)
    losses = []
    for step, batch in enumerate(batches, 1):
        loss, grad_E_f, grad_b = fine_gradients(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, *batch, l2)
        losses.append(loss)
        E_f, m_E, v_E = adam_step(E_f, grad_E_f, m_E, v_E, step, rate)
        b, m_b, v_b = adam_step(b, grad_b, m_b, v_b, step, rate)
    return E_f, b, losses


def _training_points(seed: int) -> dict:
    """The first item is a positive only, and preferred by far."""
    point, rng = stage_points(seed), np.random.default_rng([74, seed])
    taken = {name: point[name] for name in ("E_f", "b", "E_c", "S_c", "S_f", "X_hat", "tau", "g", "n_layers")}
    batches = [_batch(rng, size) for size in (6, 9, 5)]
    for _, positive, _ in batches:
        positive[0] = _N_USERS
    return {**taken, "b": preferred(point["b"], _N_USERS), "batches": batches, "l2": 0.3, "rate": 0.1}


def _training_variant(options: dict):
    def variant(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, batches, l2, rate):
        def losses_and_gradients(parameters, batch):
            return fine_gradients(*parameters, E_c, S_c, S_f, X_hat, tau, g, n_layers, *batch, l2)

        loop = trained(
            lambda parameters, batch: losses_and_gradients(parameters, batch)[0],
            lambda parameters, batch: losses_and_gradients(parameters, batch)[1:],
            **options,
        )
        return loop((E_f, b), batches, rate)

    return variant


TRAIN = Exercise(
    name="train_fine",
    task=(
        "Write `train_fine(E_f, b, E_c, S_c, S_f, X_hat, tau, g, n_layers, batches, l2, rate)`, the training loop of the stage. "
        "For each batch (user, positive, negative) in turn: loss and gradients, then one Adam step for `E_f` and one for `b` "
        "with the learning rate `rate`. Moments begin at 0, steps count from 1. Return the new `E_f`, the new `b` and the list "
        "of losses, each before its step. Leave the arrays that were given as they are."
    ),
    solution=train_fine,
    points=_training_points,
    hints=(
        "It is train_coarse of notebook 06: E_f in place of E_c, and my.fine_gradients.",
        "`E_f, m_E, v_E = my.adam_step(E_f, grad_E_f, m_E, v_E, step, rate)`, and the same for b with moments of its own.",
    ),
    mistakes=tuple(Mistake(_training_variant(options), message) for options, message in LOOP_MISTAKES),
)


# ---- the links of the coarse rows ----------------------------------------------------------------------------------------
def fine_assignment(H_entities, H_coarse, H_fine, t_f):
    affinity = (H_entities @ np.linalg.pinv(H_coarse)).T @ (H_entities @ np.linalg.pinv(H_fine))
    powers = np.exp(affinity - affinity.max(axis=1, keepdims=True))
    S_f = powers / powers.sum(axis=1, keepdims=True)
    return np.where(S_f >= np.sort(S_f, axis=1)[:, -t_f][:, None], S_f, 0.0)


def _links_points(seed: int) -> dict:
    """At the third seed with affinities whose exponential overflows unless care is taken."""
    rng = np.random.default_rng([75, seed])
    scale = 0.5 if seed != 2 else 15.0
    return {
        "H_entities": scale * rng.standard_normal((10, 4)),
        "H_coarse": rng.standard_normal((5, 4)),
        "H_fine": rng.standard_normal((3 + seed % 2, 4)),
        "t_f": 2,
    }


def _links_variant(*, keep=True, again=False, axis=1, softmax=True, order=None, products=False, shift="row", more=0, along=1):
    @np.errstate(over="ignore", invalid="ignore")
    def variant(H_entities, H_coarse, H_fine, t_f):
        inverse = (lambda H: H.T) if products else np.linalg.pinv
        affinity = (H_entities @ inverse(H_coarse)).T @ (H_entities @ inverse(H_fine))
        off = {"row": affinity.max(axis=axis, keepdims=True), "no": 0.0, "one": affinity.max()}[shift]
        powers = np.exp(affinity - off)
        S_f = powers / powers.sum(axis=axis, keepdims=True) if softmax else affinity
        if keep:
            key = -S_f if order == "smallest" else np.abs(S_f)
            S_f = np.where(key >= np.expand_dims(np.take(np.sort(key, axis=along), -t_f - more, axis=along), along), S_f, 0.0)
        return S_f / S_f.sum(axis=1, keepdims=True) if again else S_f

    return variant


ASSIGNMENT = Exercise(
    name="fine_assignment",
    task=(
        "Write `fine_assignment(H_entities, H_coarse, H_fine, t_f)`. With the least-squares weights of the entities over the "
        "coarse rows, $W_c=H_{entities}\\,\\text{pinv}(H_{coarse})$, and over the fine rows, "
        "$W_f=H_{entities}\\,\\text{pinv}(H_{fine})$, take the softmax of every row of $W_c^\\top W_f$ "
        "$(C, M)$ and keep its `t_f` largest entries, with their values; all others are 0. Return the $(C, M)$ array. Some of "
        "the numbers are large."
    ),
    solution=fine_assignment,
    points=_links_points,
    hints=(
        "Three lines: the affinity W_c^T W_f, the softmax of its rows, the largest entries.",
        "A softmax does not change if a number is taken off its whole row: take off the largest before np.exp.",
        "`np.sort(S, axis=1)[:, -t_f]` is the smallest value that each row keeps.",
    ),
    mistakes=(
        Mistake(_links_variant(keep=False), "all entries are kept. Every row should have t_f of them."),
        Mistake(_links_variant(again=True), "the kept entries are scaled up to sum to 1 again. They keep their values."),
        Mistake(_links_variant(axis=0), "the softmax is taken down the columns. It belongs to the rows."),
        Mistake(_links_variant(axis=None), "the softmax is taken of all entries together. Every row has one of its own."),
        Mistake(_links_variant(shift="no"), "right where numbers are small. np.exp of a large one overflows, and NaN is left."),
        Mistake(
            _links_variant(shift="one"),
            "right where numbers are small. Far below the number that you take off, all powers of a row are 0, and so is their "
            "sum.",
        ),
        Mistake(_links_variant(softmax=False), "the softmax is missing."),
        Mistake(_links_variant(order="smallest"), "you keep the smallest entries."),
        Mistake(_links_variant(more=1), ONE_TOO_MANY),
        Mistake(_links_variant(more=-1), ONE_TOO_FEW),
        Mistake(_links_variant(along=0), ALONG_COLUMNS),
        Mistake(_links_variant(products=True), "these are dot products; the weights come from least squares, with pinv."),
    ),
)

GIVEN = (fine_graph, bridged_propagate, fine_loss)
EXERCISES = (FORWARD, LAYERS, TO_E_F, GRADIENTS, TRAIN, ASSIGNMENT)
