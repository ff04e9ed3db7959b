"""An exercise on the fine stage: the gradient at the fine codebook, from its parts.

Shapes
------
E_fine : (M, d)     E_coarse : (C, d)     S_coarse : (N, C) csr     S_fine : (C, M) csr     T : (N + C + M,) * 2 csr
G_H : (N, d)     c : (N,)     tau, gate : scalars
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .exercise import Exercise, Mistake


def fine_stage(E_fine, E_coarse, S_coarse, S_fine, T, G_H, c, tau, gate, n_layers):
    """The forward, entities composed from the bridged codebook: sum(G_H * H_entities) + sum over entities of c_e |Z_e|^2."""
    # sign(real part) instead of sign, so that the complex step can be taken.
    F = np.where(np.abs(E_fine.real) > tau, E_fine - tau * np.sign(E_fine.real), 0)
    E_hat = gate * (S_fine @ F) + (1 - gate) * E_coarse
    Z = np.tanh(S_coarse @ E_hat)
    layer = total = np.concatenate([Z, E_hat, np.tanh(F)])
    for _ in range(n_layers):
        layer = T @ layer
        total = total + layer
    return np.sum(G_H * total[: len(Z)]) / (n_layers + 1) + np.sum(c[:, None] * Z * Z)


def fine_stage_solution(grad_loss, E_fine, E_coarse, S_coarse, S_fine, T, G_H, c, tau, gate, n_layers):
    """Gradient with respect to the fine codebook."""
    n, n_coarse = S_coarse.shape
    outside = np.abs(E_fine) > tau
    F = np.where(outside, E_fine - tau * np.sign(E_fine), 0.0)
    Z = np.tanh(S_coarse @ (gate * (S_fine @ F) + (1 - gate) * E_coarse))

    share = np.zeros((T.shape[0], G_H.shape[1]))
    share[:n] = grad_loss * G_H / (n_layers + 1)
    grad_X0 = share
    for _ in range(n_layers):
        grad_X0 = share + T.T @ grad_X0

    grad_Z = grad_X0[:n] + grad_loss * 2 * c[:, None] * Z
    grad_E_hat = grad_X0[n : n + n_coarse] + S_coarse.T @ (grad_Z * (1 - Z**2))
    grad_F = gate * (S_fine.T @ grad_E_hat) + grad_X0[n + n_coarse :] * (1 - np.tanh(F) ** 2)
    return np.where(outside, grad_F, 0.0)


def _points(seed: int) -> dict:
    """Entries inside and outside the threshold, none near it; a layer that is not symmetric."""
    rng = np.random.default_rng([9, seed])
    n, c, m, d = 6, 4, 3, 2 + seed % 3
    size = n + c + m
    outside = rng.random((m, d)) < 0.6
    outside[0, 0], outside[1, 1] = True, False
    E_fine = rng.choice([-1.0, 1.0], (m, d)) * np.where(outside, rng.uniform(1.2, 2.5, (m, d)), rng.uniform(0.1, 0.6, (m, d)))
    layer = rng.standard_normal((size, size)) * (rng.random((size, size)) < 0.4)
    return {
        "E_fine": E_fine,
        "E_coarse": rng.standard_normal((c, d)),
        "S_coarse": _random_assignment(rng, n, c, 2),
        "S_fine": _random_assignment(rng, c, m, 2),
        "T": sparse.csr_array(layer / np.sqrt(0.4 * size)),
        "G_H": rng.standard_normal((n, d)),
        "c": rng.uniform(0.1, 0.6, n),
        "tau": 0.9,
        "gate": 0.3,
        "n_layers": 2 + seed % 2,
    }


def _random_assignment(rng, n: int, m: int, t: int) -> sparse.csr_array:
    columns = np.stack([rng.permutation(m)[:t] for _ in range(n)])
    rows = np.repeat(np.arange(n), t)
    return sparse.csr_array((rng.uniform(0.2, 0.8, n * t), (rows, columns.ravel())), shape=(n, m))


def _variant(*, mask="yes", bridge=1.0, fine=1.0, graph=1.0, regulariser=1.0, coarse=1.0, tanh_Z=True, tanh_F="yes",
             gate="g", transpose=True, share=True, cotangent=True):  # fmt: skip
    """The solution with parts of it changed, for the list of mistakes."""

    def variant(grad_loss, E_fine, E_coarse, S_coarse, S_fine, T, G_H, c, tau, g, n_layers):
        n, n_coarse = S_coarse.shape
        grad_loss = grad_loss if cotangent else 1.0
        outside = np.abs(E_fine) > tau
        F = np.where(outside, E_fine - tau * np.sign(E_fine), 0.0)
        Z = np.tanh(S_coarse @ (g * (S_fine @ F) + (1 - g) * E_coarse))
        own = np.zeros((T.shape[0], G_H.shape[1]))
        own[:n] = grad_loss * G_H / ((n_layers + 1) if share else 1)
        grad_X0 = own
        for _ in range(n_layers):
            grad_X0 = own + (T.T if transpose else T) @ grad_X0
        grad_Z = graph * grad_X0[:n] + regulariser * grad_loss * 2 * c[:, None] * Z
        grad_Y = grad_Z * (1 - Z**2) if tanh_Z else grad_Z
        grad_E_hat = coarse * grad_X0[n : n + n_coarse] + S_coarse.T @ grad_Y
        slope = {"yes": 1 - np.tanh(F) ** 2, "no": np.ones_like(F), "at E": 1 - np.tanh(E_fine) ** 2}[tanh_F]
        factor = {"g": g, "1 - g": 1 - g, "none": 1.0}[gate]
        grad_F = bridge * factor * (S_fine.T @ grad_E_hat) + fine * grad_X0[n + n_coarse :] * slope
        return {"yes": np.where(outside, grad_F, 0.0), "no": grad_F, "inside": np.where(outside, 0.0, grad_F),
                "above": np.where(E_fine > tau, grad_F, 0.0)}[mask]  # fmt: skip

    return variant


FINE = Exercise(
    name="fine_stage_backward",
    task=(
        "Write `fine_stage_backward(grad_loss, E_fine, E_coarse, S_coarse, S_fine, T, G_H, c, tau, gate, n_layers)`. It returns "
        "the gradient of `grad_loss * loss` with respect to `E_fine`, of shape $(M, d)$. The forward: $F$ = soft threshold of "
        "$E_f$; $\\hat E=g\\,S_fF+(1-g)E_c$; $Z=\\tanh(S_c\\hat E)$; $X_0=[Z;\\hat E;\\tanh F]$; $X_{k+1}=TX_k$; $H$ = mean of "
        "$X_0,\\dots,X_L$; loss = sum of `G_H * H_entities` + sum over e of $c_e|Z_e|^2$. $T$ is the whole bridged layer as one "
        "sparse matrix; it is not symmetric. `G_H` is $(N, d)$, `c` is $(N,)$, `gate` is $g$. No entry of $E_f$ is near the "
        "threshold `tau`."
    ),
    solution=fine_stage_solution,
    points=_points,
    forward=fine_stage,
    hints=(
        "F goes two ways: into the bridge, and by tanh into the fine rows of X_0. E_hat goes two ways as well.",
        "Back through the layers: 1/(L+1) of the cotangent at each, and T^T. Then cut the result at N and N + C.",
        "At Z: the entity rows, and 2 c_e Z_e. Through tanh and S_c^T that is a part of the gradient at E_hat; the coarse rows "
        "are the other part.",
        "G_F = g S_f^T G_Ehat + (fine rows) * (1 - tanh(F)^2), and the threshold lets through what lies outside it.",
    ),
    mistakes=(
        Mistake(_variant(mask="no"), "the threshold is missing: an entry that it sets to 0 has no influence, so no gradient."),
        Mistake(_variant(mask="inside"), "the threshold lets the wrong entries through."),
        Mistake(_variant(mask="above"), "entries below -tau lie outside the threshold, too."),
        Mistake(_variant(bridge=0.0), "what comes through the bridge is missing."),
        Mistake(_variant(fine=0.0), "the fine nodes start at tanh(F); that way is missing."),
        Mistake(_variant(coarse=0.0), "E_hat also stands in X_0 by itself, as the start of the coarse nodes."),
        Mistake(
            _variant(graph=0.0, regulariser=0.0),
            "entities are composed from E_hat; what comes back through Z is missing. (It would be right if they were composed "
            "from the frozen E_c.)",
        ),
        Mistake(_variant(graph=0.0), "the entity rows of X_0 are missing at Z."),
        Mistake(_variant(regulariser=0.0), "the regulariser acts on Z, and Z depends on E_f here; that part is missing."),
        Mistake(_variant(regulariser=0.5), "the regulariser's part is half of what it should be: the derivative of a square."),
        Mistake(_variant(tanh_Z=False), "the derivative of the tanh in Z is missing."),
        Mistake(_variant(tanh_F="no"), "the derivative of the tanh at the fine nodes is missing."),
        Mistake(_variant(tanh_F="at E"), "tanh at the fine nodes is taken of F, not of E_f; so is its derivative."),
        Mistake(_variant(gate="none"), "the bridge weight is missing."),
        Mistake(_variant(gate="1 - g"), "1 - g is the share of the coarse codebook."),
        Mistake(_variant(transpose=False), "T is not symmetric: a backward pass needs its transpose."),
        Mistake(_variant(share=False), "H is a mean over L + 1 layers, not their sum."),
        Mistake(
            _variant(cotangent=False),
            "right for grad_loss = 1. A backward is given the gradient of whatever comes after it; yours does not use it.",
        ),
    ),
    options={"wrt": "E_fine", "active_set": lambda E_fine, tau: np.abs(E_fine) > tau},
)

EXERCISES = (FINE,)
