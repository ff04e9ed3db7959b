"""Which codebook rows an entity is linked to, chosen by the gradient: the weakest link goes, the most wanted comes.

    strength(i, j) = |s_ij| |E_j|                of a stored link: the length of what it adds to the entity
    pull(i, j)     = |<grad_Y_i, E_j>|           of any link: the gradient of the loss with respect to its weight

A link that is not stored has the weight 0, and `pull` is the slope of the loss there: to first order, the free row with the
largest pull is where a new weight lowers the loss fastest. It starts at 0, so that an exchange changes the composed row by no
more than the weakest link. (The rule by which sparse networks are grown in Evci et al., *Rigging the Lottery*, ICML 2020.)

Shapes
------
S : (N, K) csr, t entries in every row     E : (K, d)     grad_Y : (N, d), the cotangent at Y = S E
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError


@dataclass(frozen=True)
class ExchangedLinks:
    """An assignment after an exchange.

    Attributes
    ----------
    S : csr_array, shape (N, K)
    kept : ndarray of int64, shape (nnz,)
        For each stored weight the position it had before; -1 for a new link.
    """

    S: sparse.csr_array
    kept: np.ndarray

    def carry(self, values: np.ndarray) -> np.ndarray:
        """What belonged to the old weights, one number each, for the new ones: 0 for new links."""
        return np.where(self.kept >= 0, values[self.kept], values.dtype.type(0))


def exchange_links(
    S: sparse.csr_array, E: np.ndarray, grad_Y: np.ndarray, *, rows_at_a_time: int = 8192
) -> ExchangedLinks:
    """Exchange the weakest link of every row for the free one with the largest pull.

    Parameters
    ----------
    S : csr_array, shape (N, K)
        The same number of entries in every row.
    E : ndarray, shape (K, d)
    grad_Y : ndarray, shape (N, d)
        Gradient of the loss at ``S @ E``, summed over as many batches as one likes. A row of zeros is left alone.
    rows_at_a_time : int
        Rows whose pulls are formed at a time, so that N x K is never held at once.

    Returns
    -------
    ExchangedLinks
        Ties go to the lower column. If every column is taken there is nothing to exchange.

    Raises
    ------
    SettingsError
        If rows differ in their number of entries, or shapes do not fit.
    """
    n, k = S.shape
    t = S.nnz // max(n, 1)
    if E.shape[0] != k or grad_Y.shape != (n, E.shape[1]):
        raise SettingsError(f"an assignment of {n} x {k} does not fit a codebook {E.shape} and a gradient {grad_Y.shape}")
    if not np.array_equal(S.indptr, np.arange(n + 1) * t):
        raise SettingsError("links can be exchanged only where every row has the same number of them")
    if t == 0:
        return ExchangedLinks(S, np.arange(S.nnz))
    columns, weights = S.indices.reshape(n, t).copy(), S.data.reshape(n, t).copy()
    kept = np.arange(n * t).reshape(n, t)
    weakest = np.argmin(np.abs(weights) * np.linalg.norm(E, axis=1)[columns], axis=1)
    for first in range(0, n, rows_at_a_time):
        rows = np.arange(first, min(first + rows_at_a_time, n))
        pull = np.abs(grad_Y[rows] @ E.T)
        pull[np.arange(len(rows))[:, None], columns[rows]] = -1
        wanted = np.argmax(pull, axis=1)
        moved = pull[np.arange(len(rows)), wanted] > 0
        rows, wanted = rows[moved], wanted[moved]
        columns[rows, weakest[rows]] = wanted
        weights[rows, weakest[rows]] = 0
        kept[rows, weakest[rows]] = -1
    order = np.argsort(columns, axis=1, kind="stable")
    columns, weights, kept = (np.take_along_axis(part, order, axis=1).ravel() for part in (columns, weights, kept))
    return ExchangedLinks(sparse.csr_array((weights, columns, S.indptr), shape=S.shape), kept)
