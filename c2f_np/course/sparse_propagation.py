"""Exercises on the sparse product and on propagation: transposes, stored weights, rows of a batch, weighted layers."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .exercise import Exercise, Mistake

#: Matrices of points are neither square (where they need not be) nor symmetric, so that a forgotten transpose shows.
_FLOAT64 = {"dtypes": ("float64",)}


def _matrix(rng: np.random.Generator, n: int, m: int) -> sparse.csr_array:
    """About a third of the entries stored, at least one in every row and column."""
    stored = rng.random((n, m)) < 0.3
    stored[np.arange(n), rng.integers(0, m, n)] = True
    stored[rng.integers(0, n, m), np.arange(m)] = True
    return sparse.csr_array(np.where(stored, rng.choice([-1.0, 1.0], (n, m)) * rng.uniform(0.3, 1.2, (n, m)), 0.0))


# ---- the sparse product ----------------------------------------------------------------------------------------------
def _product_points(seed: int) -> dict:
    """In every third the last column of M is empty: the shape is not to be guessed from the stored entries."""
    rng = np.random.default_rng([seed, 201])
    M = _matrix(rng, 7, 4 if seed % 3 == 1 else 5)
    M.resize((7, 5))
    return {"M": M, "X": rng.standard_normal((5, 3))}


def sparse_product(M, X):
    return M @ X


def sparse_product_backward(grad_Y, M, X):
    return M.T @ grad_Y


def sparse_product_backward_weights(grad_Y, M, X):
    rows = np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))  # the row number of every stored entry
    values = np.sum(grad_Y[rows] * X[M.indices], axis=1)
    return sparse.csr_array((values, M.indices, M.indptr), shape=M.shape)


# ---- stored entries, for the lists of mistakes here and in the other subjects --------------------------------------------
def like(M, values):
    """A matrix with the pattern of M and these stored entries."""
    return sparse.csr_array((values, M.indices, M.indptr), shape=M.shape)


def rows_of(M):
    """The row number of every stored entry."""
    return np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))


def in_the_pattern(result, M):
    """A vector of the stored entries, or any matrix that is 0 elsewhere, as a matrix with M's pattern; else as it is."""
    values = result.toarray() if hasattr(result, "toarray") else np.asarray(result)
    if values.shape == (M.nnz,):
        return like(M, values)
    stored = np.zeros(M.shape, bool)
    stored[rows_of(M), M.indices] = True
    if values.shape != M.shape or values[~stored].any():
        return result
    return like(M, values[stored])  # row by row, as the pattern is stored


# ---- propagation -----------------------------------------------------------------------------------------------------
def _propagation_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 202])
    X_hat = _matrix(rng, 9, 9) * 0.5
    return {"X0": rng.standard_normal((9, 2)), "X_hat": sparse.csr_array(X_hat), "n_layers": 2 + seed % 3}


def propagate(X0, X_hat, n_layers):
    layer, total = X0, X0
    for _ in range(n_layers):
        layer = X_hat @ layer
        total = total + layer
    return total / (n_layers + 1)


def propagate_backward(grad_H, X0, X_hat, n_layers):
    share = grad_H / (n_layers + 1)
    grad_layer = share  # G_L
    for _ in range(n_layers):
        grad_layer = share + X_hat.T @ grad_layer  # G_k = share + X_hat^T G_{k+1}
    return grad_layer


def _symmetric_is_assumed(grad_H, X0, X_hat, n_layers):
    return propagate(grad_H, X_hat, n_layers)


def _share_only_at_the_end(grad_H, X0, X_hat, n_layers):
    grad_layer = grad_H / (n_layers + 1)
    for _ in range(n_layers):
        grad_layer = X_hat.T @ grad_layer
    return grad_layer


def _mean_forgotten(grad_H, X0, X_hat, n_layers):
    return (n_layers + 1) * propagate_backward(grad_H, X0, X_hat, n_layers)


def _divided_by_layers(grad_H, X0, X_hat, n_layers):
    return (n_layers + 1) / n_layers * propagate_backward(grad_H, X0, X_hat, n_layers)


def _only_the_mean(grad_H, X0, X_hat, n_layers):
    return grad_H / (n_layers + 1)


def _start_forgotten(grad_H, X0, X_hat, n_layers):
    return propagate_backward(grad_H, X0, X_hat, n_layers) - grad_H / (n_layers + 1)


BEGINS_WITH_ALL = "your recurrence begins with all of grad_H. X_L, too, is only one member of the mean."


def _begins_with_all(grad_H, X0, X_hat, n_layers):
    grad_layer = grad_H
    for _ in range(n_layers):
        grad_layer = grad_H / (n_layers + 1) + X_hat.T @ grad_layer
    return grad_layer


def _one_layer_too_few(grad_H, X0, X_hat, n_layers):
    return n_layers / (n_layers + 1) * propagate_backward(grad_H, X0, X_hat, n_layers - 1)


def _one_layer_too_many(grad_H, X0, X_hat, n_layers):
    return (n_layers + 2) / (n_layers + 1) * propagate_backward(grad_H, X0, X_hat, n_layers + 1)


# ---- rows of a batch -------------------------------------------------------------------------------------------------
def _rows_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 203])
    return _propagation_points(seed) | {"rows": rng.permutation(9)[:4]}


def _propagate_rows(X0, X_hat, n_layers, rows):
    return propagate(X0, X_hat, n_layers)[rows]


def propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows):
    grad_H = np.zeros_like(X0)
    grad_H[rows] = grad_H_rows  # the transpose of taking rows; they are distinct
    return propagate_backward(grad_H, X0, X_hat, n_layers)


def _rows_symmetric(grad_H_rows, X0, X_hat, n_layers, rows):
    grad_H = np.zeros_like(X0)
    grad_H[rows] = grad_H_rows
    return propagate(grad_H, X_hat, n_layers)


def _first_rows(grad_H_rows, X0, X_hat, n_layers, rows):
    return propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, np.arange(len(rows)))


def _sorted_rows(grad_H_rows, X0, X_hat, n_layers, rows):
    return propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, np.sort(rows))


def _only_these_rows(grad_H_rows, X0, X_hat, n_layers, rows):
    whole = propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows)
    kept = np.zeros_like(whole)
    kept[rows] = whole[rows]
    return kept


# ---- weighted layers -------------------------------------------------------------------------------------------------
def _weighted_points(seed: int) -> dict:
    rng = np.random.default_rng([seed, 204])
    points = _propagation_points(seed)
    return {"X0": points["X0"], "X_hat": points["X_hat"], "alpha": rng.uniform(0.2, 1.0, points["n_layers"] + 1)}


def _weighted_layers(X0, X_hat, alpha):
    layer, H = X0, alpha[0] * X0
    for k in range(1, len(alpha)):
        layer = X_hat @ layer
        H = H + alpha[k] * layer
    return H


def weighted_layers_backward(grad_H, X0, X_hat, alpha):
    layer = X0
    grad_alpha = np.zeros_like(alpha)
    for k in range(len(alpha)):
        grad_alpha[k] = np.sum(grad_H * layer)  # alpha_k multiplies X_k
        layer = X_hat @ layer
    grad_X0 = alpha[-1] * grad_H
    for k in reversed(range(len(alpha) - 1)):
        grad_X0 = alpha[k] * grad_H + X_hat.T @ grad_X0
    return grad_X0, grad_alpha


def _alpha_symmetric(grad_H, X0, X_hat, alpha):
    return _weighted_layers(grad_H, X_hat, alpha), weighted_layers_backward(grad_H, X0, X_hat, alpha)[1]


def _alpha_reversed(grad_H, X0, X_hat, alpha):
    right = weighted_layers_backward(grad_H, X0, X_hat, alpha)
    return weighted_layers_backward(grad_H, X0, X_hat, alpha[::-1].copy())[0], right[1]


def _alpha_begins_with_all(grad_H, X0, X_hat, alpha):
    begun = np.append(alpha[:-1], 1.0)
    return weighted_layers_backward(grad_H, X0, X_hat, begun)[0], weighted_layers_backward(grad_H, X0, X_hat, alpha)[1]


def _alpha_of_the_last(grad_H, X0, X_hat, alpha):
    grad_X0, grad_alpha = weighted_layers_backward(grad_H, X0, X_hat, alpha)
    return grad_X0, np.full_like(grad_alpha, np.sum(grad_H * X0))


def _alpha_times_alpha(grad_H, X0, X_hat, alpha):
    grad_X0, grad_alpha = weighted_layers_backward(grad_H, X0, X_hat, alpha)
    return grad_X0, alpha * grad_alpha


GIVEN = (sparse_product, propagate)

EXERCISES = (
    Exercise(
        name="sparse_product_backward",
        task=(
            "Write `sparse_product_backward(grad_Y, M, X)`, the backward of `Y = M @ X` with respect to X: the gradient of "
            "`sum(grad_Y * Y)`. M is a sparse matrix of shape (p, q), X has the shape (q, d), the cotangent `grad_Y` (p, d), the "
            "result (q, d)."
        ),
        solution=sparse_product_backward,
        points=_product_points,
        forward=sparse_product,
        hints=(
            "Which shapes fit? There is a matrix of shape (p, q) and a cotangent of shape (p, d); (q, d) is wanted.",
            "Write the sum out: sum over i, j, f of grad_Y[i, f] M[i, j] X[j, f]. What stands beside X[j, f]?",
            "Beside X[j, f] stands the sum over i of M[i, j] grad_Y[i, f]. The index that is summed is the *first* one of M.",
        ),
        mistakes=(
            Mistake(lambda grad_Y, M, X: -(M.T @ grad_Y), "all signs are reversed. Nothing in Y = M X brings a minus."),
            Mistake(
                lambda grad_Y, M, X: abs(M).T @ grad_Y,
                "the signs of the weights are lost. A negative weight passes a negative gradient back.",
            ),
            Mistake(
                lambda grad_Y, M, X: (M != 0).astype(float).T @ grad_Y,
                "the pattern of M is there, its weights are not: every stored entry counts as 1.",
            ),
            Mistake(
                lambda grad_Y, M, X: M.T @ np.ones_like(grad_Y),
                "the cotangent does not enter: this is the gradient of the plain sum of Y.",
            ),
            Mistake(
                lambda grad_Y, M, X: M.T @ (M @ X),
                "Y itself is sent back. It is the cotangent that goes back; Y is not needed at all.",
            ),
        ),
        options={"wrt": "X", "linear_in": "X"} | _FLOAT64,
    ),
    Exercise(
        name="sparse_product_backward_weights",
        task=(
            "The same product, `Y = M @ X`. Write `sparse_product_backward_weights(grad_Y, M, X)`: the gradient with respect to "
            "the *stored* entries of M. The natural result is a `scipy.sparse.csr_array` with the `indices` and `indptr` of M; a "
            "vector of the stored entries in their order, or a dense matrix that is 0 elsewhere, is accepted as well."
        ),
        solution=sparse_product_backward_weights,
        points=_product_points,
        forward=sparse_product,
        read=lambda result, arguments: in_the_pattern(result, arguments["M"]),
        hints=(
            "In the sum over i, j, f of grad_Y[i, f] M[i, j] X[j, f]: what stands beside M[i, j]?",
            "One number for each stored (i, j): the dot product of a row of the cotangent and a row of X. Which rows?",
            "`M.indices` holds the j of every stored entry; `np.repeat(np.arange(p), np.diff(M.indptr))` holds the i.",
        ),
        mistakes=(
            Mistake(
                lambda grad_Y, M, X: grad_Y @ X.T,
                "these are the numbers of *all* pairs (i, j). An entry that is not stored is not a parameter: keep M's pattern.",
            ),
            Mistake(
                lambda grad_Y, M, X: like(M, np.sum(grad_Y[rows_of(M)] * X[M.indices], axis=1) * M.data),
                "every number is multiplied by the weight itself. Y is linear in M, so the derivative does not contain the "
                "weight.",
            ),
            Mistake(
                lambda grad_Y, M, X: like(M, grad_Y[rows_of(M), 0] * X[M.indices, 0]),
                "only the first of the d columns is there. A weight is used once for every column.",
            ),
            Mistake(
                lambda grad_Y, M, X: like(M, grad_Y.sum(axis=1)[rows_of(M)] * X.sum(axis=1)[M.indices]),
                "this is a product of two sums over the columns. A sum of products is wanted.",
            ),
            Mistake(
                lambda grad_Y, M, X: like(M, X.sum(axis=1)[M.indices]),
                "the cotangent does not enter: this is the gradient of the plain sum of Y.",
            ),
        ),
        options={"wrt": "M", "linear_in": "M"} | _FLOAT64,
    ),
    Exercise(
        name="propagate_backward",
        task=(
            "`H = propagate(X0, X_hat, n_layers)` is the mean of X_0, ..., X_L with `X_{k+1} = X_hat @ X_k`. Write "
            "`propagate_backward(grad_H, X0, X_hat, n_layers)`: the gradient with respect to X0, of its shape. X_hat is square, "
            "but **not** symmetric here. X0 is an argument because every backward is called with all arguments of its forward; "
            "you need not read it."
        ),
        solution=propagate_backward,
        points=_propagation_points,
        forward=propagate,
        hints=(
            "Every X_k reaches H along two paths: as a member of the mean, and through X_{k+1}. What comes back along each?",
            "Begin with G_L = grad_H / (L + 1) and walk from layer L to layer 0.",
            "G_k = grad_H / (L + 1) + (transpose of X_hat) @ G_{k+1}; the answer is G_0.",
        ),
        mistakes=(
            Mistake(
                _symmetric_is_assumed,
                "this is the forward, applied to the cotangent. That is right on symmetric graphs only, and this one is not.",
            ),
            Mistake(
                _share_only_at_the_end,
                "only the path through the last layer is there. Every layer is a member of the mean and receives a share of "
                "grad_H itself.",
            ),
            Mistake(_only_the_mean, "only X_0's own share of the mean is there. The other layers are made from X_0, too."),
            Mistake(_mean_forgotten, "it is L + 1 times too large: H is a mean, not a sum."),
            Mistake(_divided_by_layers, "it is divided by L. The mean has L + 1 members, X_0 among them."),
            Mistake(_start_forgotten, "the share that X_0 receives as a member of the mean is missing."),
            Mistake(_begins_with_all, BEGINS_WITH_ALL),
            Mistake(_one_layer_too_few, "there is one product too few: between X_0 and X_L there are L products."),
            Mistake(_one_layer_too_many, "there is one product too many: between X_0 and X_L there are L products."),
        ),
        options={"wrt": "X0", "linear_in": "X0"} | _FLOAT64,
    ),
    Exercise(
        name="propagate_rows_backward",
        task=(
            "A batch looks at some rows only: `H_rows = propagate(X0, X_hat, n_layers)[rows]`, `rows` distinct and in any order. "
            "Write `propagate_rows_backward(grad_H_rows, X0, X_hat, n_layers, rows)`: the gradient with respect to X0, of its "
            "shape. `grad_H_rows` has one row for each of `rows`. You may call what you wrote before, as `my.propagate_backward`."
        ),
        solution=propagate_rows_backward,
        points=_rows_points,
        forward=_propagate_rows,
        hints=(
            "Taking rows is a linear map too. What is its transpose?",
            "A row of H that nobody looked at has the cotangent 0. So there is a cotangent for all rows.",
            "Put `grad_H_rows` into an array of zeros at `rows`, then do what you did for all rows.",
        ),
        mistakes=(
            Mistake(_rows_symmetric, "the transpose of X_hat is missing; this would be right on symmetric graphs only."),
            Mistake(_first_rows, "the cotangent went to the first rows. Its row k belongs to row `rows[k]` of H."),
            Mistake(_sorted_rows, "the rows were taken in ascending order. `rows` may come in any order; keep it."),
            Mistake(
                _only_these_rows,
                "all other rows of the result are 0. The rows of the batch were mixed from their neighbours' rows, which "
                "therefore have a gradient as well.",
            ),
        ),
        options={"wrt": "X0", "linear_in": "X0"} | _FLOAT64,
    ),
    Exercise(
        name="weighted_layers_backward",
        task=(
            "A weighted sum with trainable weights in place of the mean: `H = alpha[0] X_0 + ... + alpha[L] X_L`, "
            "`X_{k+1} = X_hat @ X_k`. Write `weighted_layers_backward(grad_H, X0, X_hat, alpha)`: the pair (grad_X0, "
            "grad_alpha), of the shapes of X0 and alpha. There are `len(alpha) - 1` layers."
        ),
        solution=weighted_layers_backward,
        points=_weighted_points,
        forward=_weighted_layers,
        hints=(
            "The recurrence for grad_X0 is the one you know, with alpha[k] in place of 1 / (L + 1).",
            "It begins with alpha[L] grad_H and walks down to alpha[0]: which weight is added in which round?",
            "grad_alpha[k] is a number: the sum over all entries of grad_H * X_k. Here X_k is needed: compute the layers again.",
        ),
        mistakes=(
            Mistake(_alpha_symmetric, "grad_alpha is right. In grad_X0 the transpose of X_hat is missing."),
            Mistake(_alpha_begins_with_all, "grad_alpha is right. In grad_X0 alpha[L] is missing: X_L, too, has a weight."),
            Mistake(_alpha_reversed, "grad_alpha is right. In grad_X0 the weights come in the wrong order: begin with alpha[L]."),
            Mistake(_alpha_of_the_last, "grad_X0 is right. In grad_alpha every entry meets X_0; alpha[k] multiplies X_k."),
            Mistake(_alpha_times_alpha, "grad_X0 is right. grad_alpha holds alpha itself once too often: H is linear in alpha."),
        ),
        options={"wrt": ("X0", "alpha"), "linear_in": ("X0", "alpha")} | _FLOAT64,
    ),
)
