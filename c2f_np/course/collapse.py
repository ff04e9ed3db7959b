"""Exercises on the collapsed fine stage.

Shapes
------
P : (N, N + C + M), the rows of the entities in the propagation     S_c : (N, C)     S_f : (C, M)     E_c : (C, d)
F : (M, d)     Z, K : (N, d)     W_1, W_2 : (N, M)     X_hat : (N + C + M,) * 2 csr
"""

from __future__ import annotations

import numpy as np

from .exercise import Exercise, Mistake
from .fine_stage import bridged_propagate, stage_points
from .gradient_checks import UNSQUARED, VALUE_OF_TANH


# ---- collapsing --------------------------------------------------------------------------------------------------------
def collapse(Z, E_c, X_hat, S_c, S_f, g, n_layers):
    (n, c), m = S_c.shape, S_f.shape[1]

    def to_entities(entities, coarse, fine):
        return bridged_propagate(np.concatenate([entities, coarse, fine]), X_hat, S_c, S_f, g, n_layers)[:n]

    K = to_entities(Z, (1 - g) * E_c, np.zeros((m, E_c.shape[1])))
    W_1 = to_entities(np.zeros((n, m)), g * S_f.toarray(), np.zeros((m, m)))
    W_2 = to_entities(np.zeros((n, m)), np.zeros((c, m)), np.eye(m))
    return K, W_1, W_2


def _collapse_points(seed: int) -> dict:
    whole = stage_points(seed)
    Z = np.tanh(whole["S_c"] @ whole["E_c"])
    return {"Z": Z, **{name: whole[name] for name in ("E_c", "X_hat", "S_c", "S_f", "g", "n_layers")}}


def _swapped(*arguments):
    K, W_1, W_2 = collapse(*arguments)
    return K, W_2, W_1


def _collapse_variant(*, Z_factor=1.0, own=lambda g: 1 - g, share=lambda g: g, gate=lambda g: g, constant=0.0, more=0, keep=1.0):
    """The solution with other starts; with `constant`, F and tanh F move together."""

    def variant(Z, E_c, X_hat, S_c, S_f, g, n_layers):
        (n, _), m = S_c.shape, S_f.shape[1]

        def to_entities(entities, coarse, fine):
            start = np.concatenate([entities, coarse, fine])
            return bridged_propagate(start, X_hat, S_c, S_f, gate(g), n_layers + more)[:n]

        K = to_entities(Z_factor * Z, keep * own(g) * E_c, np.zeros((m, E_c.shape[1])))
        W_1 = to_entities(np.zeros((n, m)), share(g) * S_f.toarray(), constant * np.eye(m))
        W_2 = to_entities(np.zeros((n, m)), constant * g * S_f.toarray(), np.eye(m))
        return K, W_1, W_2

    return variant


COLLAPSE = Exercise(
    name="collapse",
    task=(
        "Write `collapse(Z, E_c, X_hat, S_c, S_f, g, n_layers)`. The entities' rows of `my.bridged_propagate(X0, X_hat, S_c, "
        "S_f, g, n_layers)`, for $X_0=[Z;\\,g\\,S_fF+(1-g)E_c;\\,\\tanh F]$ with any $F$, are $K+W_1F+W_2\\tanh F$. Return `K` "
        "$(N, d)$, `W_1` and `W_2` $(N, M)$. `Z` $(N, d)$ does not depend on $F$. `S_c`, `S_f` and `X_hat` are sparse."
    ),
    solution=collapse,
    points=_collapse_points,
    hints=(
        "The propagation is linear: it can be run on any start. Which start gives K, what is left of X_0 if F is 0?",
        "For W_1 put the unit matrix (M columns) in place of F in E_hat, all else 0; for W_2 put it in place of tanh F.",
        "The starts: [Z; (1 - g) E_c; 0], [0; g S_f; 0], [0; 0; I]. Of each result the first N rows.",
    ),
    mistakes=(
        Mistake(_collapse_variant(own=lambda g: 1.0), "E_c enters the coarse nodes' start with a weight, which K must carry."),
        Mistake(_collapse_variant(share=lambda g: 1.0), "F enters E_hat with a weight, which W_1 must carry."),
        Mistake(
            _collapse_variant(own=lambda g: 1.0, share=lambda g: 1.0),
            "neither share of the bridge has its weight: g for F, 1 - g for E_c.",
        ),
        Mistake(_collapse_variant(own=lambda g: g, share=lambda g: 1 - g), "g and 1 - g are exchanged."),
        Mistake(_collapse_variant(Z_factor=0.0), "in K the entities' own start Z is missing."),
        Mistake(_collapse_variant(keep=0.0), "in K the share of E_c in the coarse nodes' start is missing."),
        Mistake(_collapse_variant(gate=lambda g: 0.0), "the layers are plain ones. They are bridged, with the gate g."),
        Mistake(
            _collapse_variant(constant=1.0),
            "F and tanh F move together in your W_1 and W_2. Each is a start of its own, with the other at 0.",
        ),
        Mistake(_swapped, "W_1 belongs to F and comes first; W_2 to tanh(F)."),
        Mistake(_collapse_variant(more=1), "one layer too many."),
        Mistake(_collapse_variant(more=-1), "one layer too few."),
    ),
)


# ---- a collapse that the model does not have -----------------------------------------------------------------------------


def _problem(seed: int) -> dict:
    rng = np.random.default_rng([seed, 8])
    n, c, m, d = 6, 4, 3, 2
    return {
        "P": rng.normal(size=(n, n + c + m)),
        "S_c": rng.random((n, c)),
        "E_c": rng.normal(size=(c, d)),
        "S_f": rng.random((c, m)),
        "g": 0.3 + 0.05 * (seed % 3),
    }


def collapse_without_tanh(P, S_c, E_c, S_f, g):
    n, c = S_c.shape
    to_codebook = P[:, :n] @ S_c + P[:, n : n + c]  # E_hat reaches H through the entities and through the coarse nodes
    K = (1 - g) * to_codebook @ E_c
    W_1 = g * to_codebook @ S_f
    W_2 = P[:, n + c :]
    return K, W_1, W_2


def _only_coarse_nodes(P, S_c, E_c, S_f, g):
    n, c = S_c.shape
    return (1 - g) * P[:, n : n + c] @ E_c, g * P[:, n : n + c] @ S_f, P[:, n + c :]


def _only_entities(P, S_c, E_c, S_f, g):
    n, c = S_c.shape
    return (1 - g) * P[:, :n] @ S_c @ E_c, g * P[:, :n] @ S_c @ S_f, P[:, n + c :]


def _shares_exchanged(P, S_c, E_c, S_f, g):
    K, W_1, W_2 = collapse_without_tanh(P, S_c, E_c, S_f, g)
    return g / (1 - g) * K, (1 - g) / g * W_1, W_2


def _entities_from_frozen_codebook(P, S_c, E_c, S_f, g):
    n, c = S_c.shape
    K = P[:, :n] @ S_c @ E_c + (1 - g) * P[:, n : n + c] @ E_c
    return K, g * P[:, n : n + c] @ S_f, P[:, n + c :]


def _gate_forgotten(P, S_c, E_c, S_f, g):
    K, W_1, W_2 = collapse_without_tanh(P, S_c, E_c, S_f, g)
    return K, W_1 / g, W_2


def _whole_coarse_codebook(P, S_c, E_c, S_f, g):
    K, W_1, W_2 = collapse_without_tanh(P, S_c, E_c, S_f, g)
    return K / (1 - g), W_1, W_2


def _codebook(seed: int) -> dict:
    rng = np.random.default_rng([seed, 9])
    n, m, d = 7, 3, 2
    return {
        "F": rng.normal(size=(m, d)),
        "K": rng.normal(size=(n, d)),
        "W_1": rng.normal(size=(n, m)),
        "W_2": rng.normal(size=(n, m)),
    }


def collapsed_forward(F, K, W_1, W_2):
    return K + W_1 @ F + W_2 @ np.tanh(F)


def collapsed_backward(grad_H, F, K, W_1, W_2):
    return W_1.T @ grad_H + (W_2.T @ grad_H) * (1 - np.tanh(F) ** 2)


def _only_first_way(grad_H, F, K, W_1, W_2):
    return W_1.T @ grad_H


def _only_second_way(grad_H, F, K, W_1, W_2):
    return (W_2.T @ grad_H) * (1 - np.tanh(F) ** 2)


def _slope_forgotten(grad_H, F, K, W_1, W_2):
    return W_1.T @ grad_H + W_2.T @ grad_H


def _slope_on_both(grad_H, F, K, W_1, W_2):
    return (W_1.T @ grad_H + W_2.T @ grad_H) * (1 - np.tanh(F) ** 2)


def _slope_of_input(grad_H, F, K, W_1, W_2):
    return W_1.T @ grad_H + (W_2.T @ grad_H) * (1 - F**2)


def _slope_unsquared(grad_H, F, K, W_1, W_2):
    return W_1.T @ grad_H + (W_2.T @ grad_H) * (1 - np.tanh(F))


def _value_for_slope(grad_H, F, K, W_1, W_2):
    return W_1.T @ grad_H + (W_2.T @ grad_H) * np.tanh(F)


def _sizes(seed: int) -> dict:
    rng = np.random.default_rng([seed, 10])
    return {
        "n_entries": int(rng.integers(20_000, 90_000)),
        "n_rows": int(rng.integers(500, 2_000)),
        "n_fine": int(rng.integers(5, 40)),
        "dim": int(rng.integers(8, 64)),
        "n_layers": int(rng.integers(1, 5)),
    }


def multiplications(n_entries, n_rows, n_fine, dim, n_layers):
    layered = 2 * n_layers * n_entries * dim  # forward and backward
    collapsed = 2 * n_rows * (2 * n_fine) * dim  # W [F; tanh F], and its transpose
    collapsing = n_layers * n_entries * (2 * n_fine + dim)  # units and constants, forward only
    return float(layered), float(collapsed), float(collapsing)


def _forward_only(n_entries, n_rows, n_fine, dim, n_layers):
    a, b, c = multiplications(n_entries, n_rows, n_fine, dim, n_layers)
    return a / 2, b / 2, c


def _one_weight_matrix(n_entries, n_rows, n_fine, dim, n_layers):
    a, b, c = multiplications(n_entries, n_rows, n_fine, dim, n_layers)
    return a, b / 2, c


def _collapsing_backwards_too(n_entries, n_rows, n_fine, dim, n_layers):
    a, b, c = multiplications(n_entries, n_rows, n_fine, dim, n_layers)
    return a, b, 2 * c


def _constant_not_propagated(n_entries, n_rows, n_fine, dim, n_layers):
    a, b, _ = multiplications(n_entries, n_rows, n_fine, dim, n_layers)
    return a, b, float(n_layers * n_entries * 2 * n_fine)


GIVEN = (collapsed_forward,)
EXERCISES = (
    COLLAPSE,
    Exercise(
        name="collapsed_backward",
        task=(
            "The forward is `H = K + W_1 @ F + W_2 @ np.tanh(F)` with F (M, d), K (N, d), W_1 and W_2 (N, M). Write "
            "`collapsed_backward(grad_H, F, K, W_1, W_2)`, which returns the gradient of `sum(grad_H * H)` with respect to F, of "
            "shape (M, d)."
        ),
        solution=collapsed_backward,
        points=_codebook,
        forward=collapsed_forward,
        hints=(
            "F reaches H along two paths. What comes back on them?",
            "Each path ends in a product with a matrix, so each begins, backwards, with that matrix's transpose.",
            "On the second path the transpose gives the gradient at tanh(F). One more factor, entry by entry, leads to F.",
        ),
        mistakes=(
            Mistake(_only_first_way, "this is what comes back through W_1. F stands in the forward a second time."),
            Mistake(_only_second_way, "this is what comes back through tanh(F). F stands in the forward a second time, bare."),
            Mistake(_slope_forgotten, "both transposes are there, but one of the two paths goes through a tanh."),
            Mistake(_slope_on_both, "the slope of tanh belongs to one of the two paths only. Which of them passes through it?"),
            Mistake(_slope_unsquared, UNSQUARED),
            Mistake(_value_for_slope, VALUE_OF_TANH),
            Mistake(_slope_of_input, "the slope of tanh is 1 minus a square: that of its output, not of its input."),
        ),
        options={"wrt": "F"},
    ),
    Exercise(
        name="multiplications",
        task=(
            "Count multiplications. A sparse product with a graph of `n_entries` stored entries and a block of w columns takes "
            "n_entries * w of them; a dense product of (a, b) with (b, c) takes a * b * c. Write "
            "`multiplications(n_entries, n_rows, n_fine, dim, n_layers)`, which returns three numbers: those of a "
            "**layered step** (forward and backward, L = n_layers products each, of width dim; count the products with the whole "
            "of X_hat and nothing else), of a **collapsed step** (forward and backward, "
            "on n_rows rows of K, W_1 and W_2, with n_fine fine rows), and of **collapsing**, once, which propagates a block of "
            "units and the constant start."
        ),
        solution=multiplications,
        points=_sizes,
        hints=(
            "Backward, every product of the forward comes once more, transposed. It costs the same.",
            "[W_1, W_2] has 2 M columns.",
            "Collapsing goes through the L layers once, forward. The width of what it propagates: a unit for each column of W_1 "
            "and of W_2, and d columns for K.",
        ),
        mistakes=(
            Mistake(_forward_only, "a step is forward and backward; the transposed products have been left out."),
            Mistake(_one_weight_matrix, "there are two weight matrices in a collapsed step, W_1 and W_2."),
            Mistake(_collapsing_backwards_too, "collapsing is not differentiated: nothing goes backwards there."),
            Mistake(_constant_not_propagated, "in collapsing, the units have been counted, but K has to be propagated as well."),
        ),
    ),
    Exercise(
        name="collapse_without_tanh",
        task=(
            'Take the reading `composition="bridged"` and leave out the tanh of the composition: entities start at Z = S_c E_hat '
            "with E_hat = g S_f F + (1 - g) E_c, coarse nodes at E_hat, fine nodes at tanh(F) as before. Now everything before "
            "tanh(F) is linear, and the stage collapses again. Write "
            "`collapse_without_tanh(P, S_c, E_c, S_f, g)`, which returns K (N, d), W_1 (N, M) and W_2 (N, M) with "
            "H_entities = K + W_1 F + W_2 tanh(F). All matrices are dense here; P (N, N + C + M) holds the "
            "entities' rows of the propagation, its columns in the order entities, coarse, fine."
        ),
        solution=collapse_without_tanh,
        points=_problem,
        hints=(
            "Write H_entities = P_e Z + P_c E_hat + P_f tanh(F), with three blocks of columns of P. Where does E_hat stand?",
            "Put Z = S_c E_hat in: H_entities = (P_e S_c + P_c) E_hat + P_f tanh(F).",
            "Put E_hat in, and collect what has F, what has tanh(F), and what has neither.",
        ),
        mistakes=(
            *(
                Mistake(one_path, "E_hat reaches H along two paths: as the coarse nodes' start, and through the entities.")
                for one_path in (_only_coarse_nodes, _only_entities)
            ),
            Mistake(_shares_exchanged, "g and 1 - g are exchanged."),
            Mistake(
                _entities_from_frozen_codebook,
                "the entities are composed from the frozen E_c here. In this exercise they are composed from E_hat.",
            ),
            Mistake(_gate_forgotten, "F enters E_hat with a weight, which W_1 must carry."),
            Mistake(_whole_coarse_codebook, "E_c enters E_hat with a weight, which K must carry."),
        ),
    ),
)
