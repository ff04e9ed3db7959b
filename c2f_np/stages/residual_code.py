"""Two codebooks and the links to them from a table: the coarse rows say where an entity lies, the fine rows what is left.

    Y ~ S_c E_hat + S_d F

E_hat begins as the centres of k-means on the rows of Y, F as those of the residuals Y - S_c E_hat. Then links and codebooks are
fitted in turn (`c2f_np.operations.matching_pursuit`), each given the others; no such step makes |Y - S_c E_hat - S_d F|
larger. This is residual vector quantisation with a weight on every link.

Shapes
------
Y : (N, d)     E_hat : (C, d)     F : (M, d)     S_coarse : (N, C) csr     S_direct : (N, M) csr
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..operations.matching_pursuit import fit_codebook, pursue

#: Rounds of fitting codebooks and links in turn. The error falls by less than 1 % after the fifth.
ROUNDS = 10
_MOST_ITERATIONS = 50  # of k-means, which is only where the rounds begin


@dataclass(frozen=True)
class ResidualCode:
    """What :func:`residual_code` makes of a table.

    Attributes
    ----------
    E_hat : ndarray of float64, shape (C, d)
    S_coarse : csr_array of float64, shape (N, C)
        t_coarse entries in every row; the mean square of all weights is 1.
    F : ndarray of float64, shape (M, d), or None
    S_direct : csr_array of float64, shape (N, M), or None
        Likewise.
    errors : tuple of float
        |Y - S_c E_hat - S_d F|^2 / |Y|^2 at the start and after each round.
    """

    E_hat: np.ndarray
    S_coarse: sparse.csr_array
    F: np.ndarray | None
    S_direct: sparse.csr_array | None
    errors: tuple[float, ...]


def residual_code(
    Y: np.ndarray, n_coarse: int, n_fine: int, t_coarse: int, t_direct: int, *, seed: int, rounds: int = ROUNDS
) -> ResidualCode:
    """Code a table by a coarse and a fine codebook.

    Parameters
    ----------
    Y : ndarray, shape (N, d)
    n_coarse, n_fine : int
        C and M, at most N.
    t_coarse, t_direct : int
        Links of every row to coarse and to fine rows; without direct links there is no fine codebook.
    seed : int
        Of k-means.
    rounds : int

    Returns
    -------
    ResidualCode
    """
    Y = np.asarray(Y, np.float64)
    E_hat, F, S_direct = _centres(Y, n_coarse, seed), None, None
    S_coarse = pursue(Y, E_hat, t_coarse)
    if t_direct:
        residual = Y - S_coarse @ E_hat
        F = _centres(residual, n_fine, seed + 1)
        S_direct = pursue(residual, F, t_direct)
    errors = [_error(Y, S_coarse, E_hat, S_direct, F)]
    for _ in range(rounds):
        E_hat, F = _fitted_codebooks(Y, S_coarse, E_hat, S_direct, F)
        S_coarse = _better_links(Y if F is None else Y - S_direct @ F, E_hat, S_coarse)
        if F is not None:
            S_direct = _better_links(Y - S_coarse @ E_hat, F, S_direct)
        errors.append(_error(Y, S_coarse, E_hat, S_direct, F))
    S_coarse, E_hat = _unit_weights(S_coarse, E_hat)
    if F is not None:
        S_direct, F = _unit_weights(S_direct, F)
    return ResidualCode(E_hat, S_coarse, F, S_direct, tuple(errors))


def _centres(Y: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings():
        # Fewer different rows than clusters is no fault: some centres are then the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Several threads add up a cluster's rows in the order in which they happen to finish.
        with threadpool_limits(1):
            means = KMeans(k, n_init=1, max_iter=_MOST_ITERATIONS, random_state=seed % 2**32).fit(Y)
    return means.cluster_centers_.astype(np.float64)


def _fitted_codebooks(Y, S_coarse, E_hat, S_direct, F):
    if F is None:
        return fit_codebook(Y, S_coarse, E_hat), None
    both = fit_codebook(Y, sparse.hstack([S_coarse, S_direct], format="csr"), np.concatenate([E_hat, F]))
    return both[: len(E_hat)], both[len(E_hat) :]


def _better_links(Y: np.ndarray, E: np.ndarray, S: sparse.csr_array) -> sparse.csr_array:
    """Links found anew, in the rows where these come closer to Y than those of S. (With several a greedy choice may not.)"""
    found = pursue(Y, E, S.nnz // len(Y))
    better = _squares(Y - found @ E) < _squares(Y - S @ E)
    keep = np.repeat(~better, S.nnz // len(Y))
    data, columns = found.data, found.indices.astype(np.int64)
    data[keep], columns[keep] = S.data[keep], S.indices[keep]
    return sparse.csr_array((data, columns, found.indptr), shape=S.shape)


def _unit_weights(S: sparse.csr_array, E: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """The same product with weights of mean square 1: the steps of an optimiser fit weights of that size."""
    scale = np.sqrt(np.mean(S.data**2))
    return (S, E) if scale == 0 else (sparse.csr_array(S / scale), E * scale)


def _error(Y, S_coarse, E_hat, S_direct, F) -> float:
    left = Y - S_coarse @ E_hat
    if F is not None:
        left = left - S_direct @ F
    return float(np.sum(left**2) / max(np.sum(Y**2), np.finfo(float).tiny))


def _squares(Y: np.ndarray) -> np.ndarray:
    return np.sum(Y**2, axis=1)
