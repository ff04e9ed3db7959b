"""The regulariser: squared norms of the ego embeddings that a batch touches, each occurrence counted.

    r = l2 (|Z_user|^2 + |Z_positive|^2 + |Z_negative|^2) / B = l2 / B  sum_e count_e |Z_e|^2

It sees the composed Z, not the propagated H. The loss adds decay * r.

Shapes
------
Z : (N, d)     B triples     count_e : how often entity e occurs in the batch, in any role
"""

from __future__ import annotations

import numpy as np

from ..engine import is_compiled
from .triples import Triples


def squared_norm_penalty(Z: np.ndarray, triples: Triples, l2: float, *, engine: str = "numpy"):
    """The regulariser of a batch, with the factor l2 and without decay (model.md, coarse stage, 5).

    Parameters
    ----------
    Z : ndarray, shape (N, d)
    triples : Triples
    l2 : float
    engine : {"numpy", "numba"}

    Returns
    -------
    scalar
    """
    if is_compiled(engine):
        from ..kernels.bpr import squared_norms

        where = triples.occurrences
        norms = squared_norms(Z, where.entities)
        return Z.dtype.type(l2) * np.sum(norms * where.counts.astype(Z.dtype)) / len(triples)
    rows = [Z[triples.user], Z[triples.positive], Z[triples.negative]]
    return l2 * sum(np.sum(row * row) for row in rows) / len(triples)


def squared_norm_penalty_backward(
    grad_penalty: float,
    Z: np.ndarray,
    triples: Triples,
    l2: float,
    *,
    onto: np.ndarray | None = None,
    engine: str = "numpy",
) -> np.ndarray:
    """Gradient with respect to Z: ``grad_penalty * 2 l2 count_e Z_e / B``.

    Parameters
    ----------
    grad_penalty : float
        Cotangent; the decay of the loss.
    Z : ndarray, shape (N, d)
    triples : Triples
    l2 : float
    onto : ndarray, shape (N, d), optional
        Gradient that reaches Z on another way; the result is the sum. The array is given away: the compiled engine adds in place.
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_Z : ndarray, shape (N, d)
    """
    factor = 2 * l2 * grad_penalty / len(triples)
    if is_compiled(engine):
        from ..kernels.bpr import add_scaled_rows

        where = triples.occurrences
        total = np.zeros_like(Z) if onto is None else onto
        add_scaled_rows(total, Z, where.entities, factor * where.counts)
        return total
    count = np.zeros(len(Z), dtype=Z.dtype)
    for entities in (triples.user, triples.positive, triples.negative):
        np.add.at(count, entities, 1)
    grad_Z = (factor * count[:, None]).astype(Z.dtype) * Z
    return grad_Z if onto is None else onto + grad_Z
