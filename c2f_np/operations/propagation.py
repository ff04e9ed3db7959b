"""Propagation: L rounds of neighbour averaging, and the mean over all rounds.

    X_{k+1} = X_hat X_k,   H = mean(X_0, ..., X_L)

This is a linear map of X_0, H = P X_0 with P = (I + X_hat + ... + X_hat^L) / (L + 1). Its backward pass is therefore P^T, the
same recurrence with the transposed graph, and no layer has to be remembered. (On the symmetric graph of the model P^T = P; the
functions here do not assume it.)

A batch sees few rows of H. With `rows` only these are computed, and the cotangent is given for these alone:
H[rows] = P[rows] X_0, grad_X0 = P[rows]^T grad_H[rows]. The other rows of the cotangent are zero.

Shapes
------
X_hat : (n, n) sparse     X0, X_k, H : (n, d)     L : number of layers, 0 or more     rows : (K,) distinct row numbers
"""

from __future__ import annotations

import numpy as np

from ..engine import is_compiled
from ..errors import SettingsError
from .sparse_operator import as_operator
from .sparse_product import sparse_product, sparse_product_backward


def propagate(
    X0: np.ndarray, X_hat, n_layers: int, *, rows: np.ndarray | None = None, engine: str = "numpy"
) -> np.ndarray:
    """Propagate and average over layers (model.md, coarse stage, 3).

    Parameters
    ----------
    X0 : ndarray, shape (n, d)
    X_hat : csr_array or SparseOperator, shape (n, n)
    n_layers : int
        L. With 0 layers the output is X0.
    rows : ndarray of int, shape (K,), optional
        Distinct rows of H that are wanted; by default all.
    engine : {"numpy", "numba"}

    Returns
    -------
    H : ndarray, shape (n, d) or (K, d)
    """
    require_layers(n_layers)
    X_hat = as_operator(X_hat)
    if is_compiled(engine):
        from ..kernels.sparse_product import mean_of_powers

        return mean_of_powers(X_hat.matrix, X_hat.row_bounds, X0, n_layers, rows)
    layer = X0
    total = X0.copy()
    for _ in range(n_layers):
        layer = sparse_product(X_hat, layer)
        total += layer
    H = total / (n_layers + 1)
    return H if rows is None else H[rows]


def propagate_backward(
    grad_H: np.ndarray, X_hat, n_layers: int, *, rows: np.ndarray | None = None, engine: str = "numpy"
) -> np.ndarray:
    """Gradient with respect to X0: the adjoint P^T applied to the cotangent.

    Every layer passes back what it received as a member of the mean, grad_H / (L + 1), plus what the next layer passes
    through the transposed product:  G_L = grad_H / (L + 1),  G_k = grad_H / (L + 1) + X_hat^T G_{k+1},  grad_X0 = G_0.

    Parameters
    ----------
    grad_H : ndarray, shape (n, d) or (K, d)
    X_hat : csr_array or SparseOperator, shape (n, n)
    n_layers : int
    rows : ndarray of int, shape (K,), optional
        Distinct rows of H that `grad_H` belongs to; by default all.
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_X0 : ndarray, shape (n, d)
    """
    require_layers(n_layers)
    X_hat = as_operator(X_hat)
    if is_compiled(engine):
        from ..kernels.sparse_product import mean_of_powers, mean_of_powers_from_rows

        if rows is not None:
            return mean_of_powers_from_rows(X_hat.transpose, X_hat.transpose_row_bounds, grad_H, n_layers, rows)
        return mean_of_powers(X_hat.transpose, X_hat.transpose_row_bounds, grad_H, n_layers)
    if rows is not None:
        grad_H = in_rows(grad_H, rows, X_hat.shape[0])
    share = grad_H / (n_layers + 1)
    grad_layer = share
    for _ in range(n_layers):
        grad_layer = share + sparse_product_backward(grad_layer, X_hat)
    return grad_layer


def in_rows(values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """A matrix of n rows with `values` in the rows `rows` and zeros elsewhere: the adjoint of taking these rows."""
    whole = np.zeros((n, values.shape[1]), dtype=values.dtype)
    whole[rows] = values
    return whole


def require_layers(n_layers: int) -> None:
    """Raise SettingsError unless the number of layers is 0 or more."""
    if n_layers < 0:
        raise SettingsError(f"the number of layers must be 0 or more, not {n_layers}")
