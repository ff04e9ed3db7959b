"""Sparse PCA: rows as weighted sums of components that are mostly zeros.

    minimise over V and W   1/2 |X - V W|^2 + alpha sum |W|,   with |V_k| <= 1 for every column of V

Both factors of one component are minimised exactly while the others stay: W_k by soft thresholding, V_k as the unit vector along
what W_k explains. A sweep goes over all components; the objective falls in every step. It is the objective of scikit-learn's
``SparsePCA`` (Jenatton, Obozinski and Bach, "Structured sparse principal component analysis", 2010), which follows a path of
lasso solutions for every column in every round and takes ten times as long.

Shapes
------
X : (n, d), centred     V : (n, K)     W : (K, d)
"""

from __future__ import annotations

import numpy as np

from .codebook import soft_threshold

#: Ridge of the least squares that gives the scores, as in scikit-learn.
RIDGE = 0.01
# Of the norm of X. A component leaves a rest of length alpha of a column: rounding must not decide whether the next begins there.
_ROUNDING = 1e-9


def sparse_pca(
    X: np.ndarray, n_components: int, *, alpha: float = 1.0, tol: float = 1e-8, max_sweeps: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and components of the rows of X.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Rows; their mean is taken off.
    n_components : int
        K. Components that explain less than they cost stay zero.
    alpha : float
        Weight of the absolute sum of the components; more makes them sparser.
    tol : float
        Sweeps end when one lowers the objective by less than this part of it.
    max_sweeps : int
        Most sweeps.

    Returns
    -------
    scores : ndarray, shape (n, K)
        Least-squares coordinates of the centred rows, with a little ridge.
    components : ndarray, shape (K, d)
        Each of norm 1, or zero.
    """
    X = X - X.mean(axis=0)
    V, W = sparse_factors(X, n_components, alpha=alpha, tol=tol, max_sweeps=max_sweeps)
    lengths = np.linalg.norm(W, axis=1, keepdims=True)
    components = W / np.where(lengths > 0, lengths, 1)
    gram = components @ components.T + RIDGE * np.eye(n_components)
    return np.linalg.solve(gram, components @ X.T).T, components


def sparse_factors(
    X: np.ndarray, n_components: int, *, alpha: float, tol: float, max_sweeps: int
) -> tuple[np.ndarray, np.ndarray]:
    """V and W, from zeros."""
    V, W = np.zeros((len(X), n_components)), np.zeros((n_components, X.shape[1]))
    rest, before, price = X, np.inf, alpha + _ROUNDING * np.linalg.norm(X)
    for _ in range(max_sweeps):
        for k in range(n_components):
            target = rest + np.outer(V[:, k], W[k])
            W[k] = soft_threshold(V[:, k] @ target, alpha)
            if not W[k].any():
                # Unused: it begins again at the column that the others explain least, if that is worth its price.
                lengths = np.linalg.norm(target, axis=0)
                column = np.argmax(lengths)
                if lengths[column] > price:
                    W[k] = soft_threshold(target[:, column] @ target / lengths[column], alpha)
            if W[k].any():
                along = target @ W[k]
                V[:, k] = along / np.linalg.norm(along)
            rest = target - np.outer(V[:, k], W[k])
        objective = 0.5 * np.sum(rest**2) + alpha * np.sum(np.abs(W))
        if before - objective <= tol * objective:
            break
        before = objective
    return V, W
