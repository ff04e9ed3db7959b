"""Links chosen in closed form: which few rows of a codebook, with which weights, come closest to a given row.

    S = pursue(Y, E, t)         min |Y_i - S_i E|^2 over rows S_i of t entries, greedily
    E = fit_codebook(Y, S)      min |Y - S E|^2 over codebooks

The first is orthogonal matching pursuit: t times the row that explains most of what is left is taken, and the weights of all
that were taken are fitted anew. With t = 1 it is the minimum itself: j with the largest <Y_i, E_j>^2 / |E_j|^2 and the weight
<Y_i, E_j> / |E_j|^2. Alternating the two is the *method of optimal directions* of sparse coding (Engan et al., ICASSP 1999).

Shapes
------
Y : (N, d)     E : (K, d)     S : (N, K) csr, t entries in every row     chosen, weights : (N, t)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..threads import one_blas_thread

# Of the mean squared length of a codebook row: keeps the weights of rows that are (nearly) multiples of each other finite.
_RIDGE = 1e-8


def pursue(Y: np.ndarray, E: np.ndarray, t: int, *, rows_at_a_time: int = 8192) -> sparse.csr_array:
    """Code every row of a matrix by t rows of a codebook.

    Parameters
    ----------
    Y : ndarray, shape (N, d)
    E : ndarray, shape (K, d)
    t : int
        From 1 to K.
    rows_at_a_time : int
        Rows whose products with the codebook are held at a time.

    Returns
    -------
    S : csr_array of float64, shape (N, K)
        Exactly t entries in every row (some may be zeros), sorted. Ties go to the lower row of the codebook.

    Raises
    ------
    SettingsError
        If t is out of range.
    """
    k = len(E)
    if not 1 <= t <= k:
        raise SettingsError(f"a row cannot be coded by {t} rows of a codebook of {k}")
    Y, E = np.asarray(Y, np.float64), np.asarray(E, np.float64)
    chosen, weights = np.empty((len(Y), t), np.int64), np.empty((len(Y), t))
    with one_blas_thread():
        for first in range(0, len(Y), rows_at_a_time):
            rows = slice(first, first + rows_at_a_time)
            chosen[rows], weights[rows] = _pursue_block(Y[rows], E, t)
    order = np.argsort(chosen, axis=1)
    chosen, weights = (np.take_along_axis(part, order, axis=1).ravel() for part in (chosen, weights))
    return sparse.csr_array((weights, chosen, np.arange(0, len(Y) * t + 1, t)), shape=(len(Y), k))


def _pursue_block(Y: np.ndarray, E: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    length = np.linalg.norm(E, axis=1)
    directions = E / np.where(length > 0, length, 1)[:, None]
    ridge = _RIDGE * max(np.mean(length**2), np.finfo(float).tiny)
    chosen = np.empty((len(Y), 0), np.int64)
    left, weights = Y, None
    for _ in range(t):
        explained = np.abs(left @ directions.T)
        np.put_along_axis(explained, chosen, -1, axis=1)
        chosen = np.column_stack([chosen, np.argmax(explained, axis=1)])
        rows = E[chosen]
        gram = np.einsum("nid,njd->nij", rows, rows) + ridge * np.eye(chosen.shape[1])
        weights = np.linalg.solve(gram, np.einsum("nid,nd->ni", rows, Y)[:, :, None])[:, :, 0]
        left = Y - np.einsum("ni,nid->nd", weights, rows)
    return chosen, weights


def fit_codebook(Y: np.ndarray, S: sparse.csr_array, E: np.ndarray) -> np.ndarray:
    """The codebook that the links explain a matrix best with.

    Parameters
    ----------
    Y : ndarray, shape (N, d)
    S : csr_array, shape (N, K)
    E : ndarray, shape (K, d)
        Taken for the rows that no link of a weight other than 0 leads to, which could be anything.

    Returns
    -------
    E : ndarray of float64, shape (K, d)
        Of the solutions the one of least norm, where S does not determine it.
    """
    S = sparse.csr_array(S, dtype=np.float64)
    transpose = S.T.tocsr()
    gram = (transpose @ S).toarray()
    with one_blas_thread():
        fitted = np.linalg.lstsq(gram, transpose @ np.asarray(Y, np.float64), rcond=None)[0]
    return np.where(np.diag(gram)[:, None] > 0, fitted, E)
