"""Quotient-remainder composition: an entity is the product of the row of its block and the row of its place in the block.

    Z[e] = Q[e // m] * R[e % m]        entry by entry, e = 0 .. N - 1

(Shi et al., Compositional Embeddings Using Complementary Partitions, 2020.) No two entities have both rows in common, so that all
embeddings may differ, with ceil(N / m) + m rows instead of N.

As the entities are numbered one after the other, Z is the table of all products, cut off after N rows: nothing is looked up,
and the backward sums along the rows and the columns of that table.

Shapes
------
Q : (ceil(N / m), d) quotient rows     R : (m, d) remainder rows     Z : (N, d)
"""

from __future__ import annotations

import numpy as np

from ..errors import SettingsError


def compose_products(Q: np.ndarray, R: np.ndarray, n_entities: int) -> np.ndarray:
    """Compose the embeddings of all entities.

    Parameters
    ----------
    Q : ndarray, shape (ceil(N / m), d)
    R : ndarray, shape (m, d)
    n_entities : int
        N.

    Returns
    -------
    Z : ndarray, shape (N, d)

    Raises
    ------
    SettingsError
        If there are not just enough quotient rows.
    """
    if len(Q) != -(-n_entities // len(R)):
        raise SettingsError(f"{n_entities} entities and {len(R)} remainder rows need {-(-n_entities // len(R))} quotient rows")
    return (Q[:, None, :] * R[None, :, :]).reshape(-1, Q.shape[1])[:n_entities]


def compose_products_backward(grad_Z: np.ndarray, Q: np.ndarray, R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to both tables.

    A row collects from every entity that uses it, times the entity's other row:

        grad_Q[q] = sum_r grad_Z[q m + r] * R[r],   grad_R[r] = sum_q grad_Z[q m + r] * Q[q].

    The last block may be incomplete: its missing entities have the cotangent 0.

    Parameters
    ----------
    grad_Z : ndarray, shape (N, d)
    Q : ndarray, shape (ceil(N / m), d)
    R : ndarray, shape (m, d)

    Returns
    -------
    grad_Q : ndarray, shape of Q
    grad_R : ndarray, shape of R
    """
    table = np.zeros((len(Q) * len(R), Q.shape[1]), dtype=grad_Z.dtype)
    table[: len(grad_Z)] = grad_Z
    table = table.reshape(len(Q), len(R), -1)
    return np.sum(table * R[None, :, :], axis=1), np.sum(table * Q[:, None, :], axis=0)
