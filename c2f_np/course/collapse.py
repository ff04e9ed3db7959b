"""Exercises of the notebook on the collapsed fine stage.

Shapes: P (N, N + C + M), the rows of the entities in the propagation; S_coarse (N, C), S_fine (C, M) dense; E_coarse (C, d);
F (M, d); K (N, d); W1, W2 (N, M).
"""

from __future__ import annotations

import numpy as np

from .exercise import Exercise, Mistake


def _problem(seed: int) -> dict:
    rng = np.random.default_rng([seed, 8])
    n, c, m, d = 6, 4, 3, 2
    return {
        "P": rng.normal(size=(n, n + c + m)),
        "S_coarse": rng.random((n, c)),
        "E_coarse": rng.normal(size=(c, d)),
        "S_fine": rng.random((c, m)),
        "gate": 0.3 + 0.05 * (seed % 3),
    }


def collapse_without_tanh(P, S_coarse, E_coarse, S_fine, gate):
    n, c = S_coarse.shape
    to_codebook = P[:, :n] @ S_coarse + P[:, n : n + c]  # E_hat reaches H through the entities and through the coarse nodes
    K = (1 - gate) * to_codebook @ E_coarse
    W1 = gate * to_codebook @ S_fine
    W2 = P[:, n + c :]
    return K, W1, W2


def _only_coarse_nodes(P, S_coarse, E_coarse, S_fine, gate):
    n, c = S_coarse.shape
    return (1 - gate) * P[:, n : n + c] @ E_coarse, gate * P[:, n : n + c] @ S_fine, P[:, n + c :]


def _entities_from_frozen_codebook(P, S_coarse, E_coarse, S_fine, gate):
    n, c = S_coarse.shape
    K = P[:, :n] @ S_coarse @ E_coarse + (1 - gate) * P[:, n : n + c] @ E_coarse
    return K, gate * P[:, n : n + c] @ S_fine, P[:, n + c :]


def _gate_forgotten(P, S_coarse, E_coarse, S_fine, gate):
    K, W1, W2 = collapse_without_tanh(P, S_coarse, E_coarse, S_fine, gate)
    return K, W1 / gate, W2


def _whole_coarse_codebook(P, S_coarse, E_coarse, S_fine, gate):
    K, W1, W2 = collapse_without_tanh(P, S_coarse, E_coarse, S_fine, gate)
    return K / (1 - gate), W1, W2


def _codebook(seed: int) -> dict:
    rng = np.random.default_rng([seed, 9])
    n, m, d = 7, 3, 2
    return {
        "F": rng.normal(size=(m, d)),
        "K": rng.normal(size=(n, d)),
        "W1": rng.normal(size=(n, m)),
        "W2": rng.normal(size=(n, m)),
    }


def collapsed_forward(F, K, W1, W2):
    """H = K + W1 F + W2 tanh(F)."""
    return K + W1 @ F + W2 @ np.tanh(F)


def collapsed_backward(grad_H, F, K, W1, W2):
    return W1.T @ grad_H + (W2.T @ grad_H) * (1 - np.tanh(F) ** 2)


def _only_first_way(grad_H, F, K, W1, W2):
    return W1.T @ grad_H


def _only_second_way(grad_H, F, K, W1, W2):
    return (W2.T @ grad_H) * (1 - np.tanh(F) ** 2)


def _slope_forgotten(grad_H, F, K, W1, W2):
    return W1.T @ grad_H + W2.T @ grad_H


def _slope_on_both(grad_H, F, K, W1, W2):
    return (W1.T @ grad_H + W2.T @ grad_H) * (1 - np.tanh(F) ** 2)


def _slope_of_input(grad_H, F, K, W1, W2):
    return W1.T @ grad_H + (W2.T @ grad_H) * (1 - F**2)


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


EXERCISES = (
    Exercise(
        name="collapsed_backward",
        task=(
            "The forward is `H = K + W1 @ F + W2 @ np.tanh(F)` with F (M, d), K (N, d), W1 and W2 (N, M). Write\n\n"
            "    def my_backward(grad_H, F, K, W1, W2): ...\n\n"
            "that returns the gradient of `sum(grad_H * H)` with respect to F, shape (M, d)."
        ),
        solution=collapsed_backward,
        points=_codebook,
        forward=collapsed_forward,
        hints=(
            "F reaches H on two ways. What comes back on them?",
            "Each way ends in a product with a matrix, so each begins, backwards, with that matrix's transpose.",
            "On the second way the transpose gives the gradient at tanh(F). One more factor, entry by entry, leads to F.",
        ),
        mistakes=(
            Mistake(_only_first_way, "this is what comes back through W1. F stands in the forward a second time."),
            Mistake(_only_second_way, "this is what comes back through tanh(F). F stands in the forward a second time, bare."),
            Mistake(_slope_forgotten, "both transposes are there, but one of the two ways goes through tanh, which has a slope."),
            Mistake(_slope_on_both, "the slope of tanh belongs to one of the two ways only. Which of them passes through it?"),
            Mistake(_slope_of_input, "the slope of tanh is 1 minus a square: that of its output, not of its input."),
        ),
        options={"wrt": "F"},
    ),
    Exercise(
        name="multiplications",
        task=(
            "Count multiplications. A sparse product with a graph of `n_entries` stored entries and a block of w columns takes "
            "n_entries * w of them; a dense product of (a, b) with (b, c) takes a * b * c. Write\n\n"
            "    def my_count(n_entries, n_rows, n_fine, dim, n_layers): ...\n\n"
            "that returns three numbers: those of a **layered step** (forward and backward, L = n_layers products each, of width "
            "dim; count the products with the whole of X_hat and nothing else), of a **collapsed step** (forward and backward, "
            "on n_rows rows of K, W1 and W2, with n_fine fine rows), and of **collapsing**, once, which propagates a block of "
            "units and the constant start."
        ),
        solution=multiplications,
        points=_sizes,
        hints=(
            "Backward, every product of the forward comes once more, transposed. It costs the same.",
            "[W1, W2] has 2 M columns.",
            "Collapsing goes through the L layers once, forward. The width of what it propagates: a unit for each column of W1 "
            "and of W2, and d columns for K.",
        ),
        mistakes=(
            Mistake(_forward_only, "a step is forward and backward; the transposed products have been left out."),
            Mistake(_one_weight_matrix, "there are two weight matrices in a collapsed step, W1 and W2."),
            Mistake(_collapsing_backwards_too, "collapsing is not differentiated: nothing goes backwards there."),
            Mistake(_constant_not_propagated, "in collapsing, the units have been counted, but K has to be propagated as well."),
        ),
    ),
    Exercise(
        name="collapse_without_tanh",
        task=(
            'Take the reading `composition="bridged"` and leave out the tanh of the composition: entities start at Z = S_c E_hat '
            "with E_hat = g S_f F + (1 - g) E_c, coarse nodes at E_hat, fine nodes at tanh(F) as before. Now everything before "
            "tanh(F) is linear, and the stage collapses again. Write\n\n"
            "    def my_collapse(P, S_coarse, E_coarse, S_fine, gate): ...\n\n"
            "that returns K (N, d), W1 (N, M) and W2 (N, M) with H_entities = K + W1 F + W2 tanh(F). All matrices are dense "
            "here; P (N, N + C + M) holds the entities' rows of the propagation, its columns in the order entities, coarse, fine."
        ),
        solution=collapse_without_tanh,
        points=_problem,
        hints=(
            "Write H_entities = P_e Z + P_c E_hat + P_f tanh(F), with three blocks of columns of P. Where does E_hat stand?",
            "Put Z = S_c E_hat in: H_entities = (P_e S_c + P_c) E_hat + P_f tanh(F).",
            "Put E_hat in, and collect what has F, what has tanh(F), and what has neither.",
        ),
        mistakes=(
            Mistake(_only_coarse_nodes, "E_hat reaches H on two ways: as the coarse nodes' start, and through the entities."),
            Mistake(
                _entities_from_frozen_codebook,
                "the entities are composed from the frozen E_c here. In this exercise they are composed from E_hat.",
            ),
            Mistake(_gate_forgotten, "F enters E_hat with a weight, which W1 must carry."),
            Mistake(_whole_coarse_codebook, "E_c enters E_hat with a weight, which K must carry."),
        ),
    ),
)
