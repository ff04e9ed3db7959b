"""Orthogonal matching pursuit: rows of a codebook that explain a vector, and their weights. NumPy alone.

Shapes
------
Y : (n, d)     E : (K, d)     rows, weights : (n, t)
"""

from __future__ import annotations

import numpy as np

# Of the mean squared length of a codebook row: keeps the weights of rows that are (nearly) multiples of each other finite.
_RIDGE = 1e-8


def pursue_rows(Y: np.ndarray, E: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """The t rows of E that explain each row of Y, in the order of choice, and their weights (model.md, joint training, 6)."""
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
