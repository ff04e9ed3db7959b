"""Closed-form assignment updates: the least-squares weights of the entities over the codebook rows, kept sparse.

    coarse:  W = H_entities pinv(H_coarse);  S_c = the t largest entries of each row of W, with their values
    fine:    T = W_c^T W_f with W_c = H_entities pinv(H_coarse), W_f = H_entities pinv(H_fine);
             S_f = the t_f largest entries of each row of softmax(T)

W minimises |H_entities - W H_coarse|; among the minimisers it is the one of least norm. Ties in a row go to the lower column.

Shapes
------
H_entities : (N, d)     H_coarse : (C, d)     H_fine : (M, d)     W, W_c : (N, C)     W_f : (N, M)     T : (C, M)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..engine import is_compiled
from ..errors import SettingsError


def pseudoinverse(H: np.ndarray) -> np.ndarray:
    """Moore-Penrose inverse, in float64, through the singular values.

    Singular values below ``max(shape) * eps`` times the largest count as 0, with the eps of the precision in which H came: what
    float32 arithmetic left behind in a deficient direction is noise and must not be inverted.

    Parameters
    ----------
    H : ndarray, shape (K, d)

    Returns
    -------
    ndarray of float64, shape (d, K)

    Raises
    ------
    SettingsError
        If H holds NaN or infinity.
    """
    if not np.isfinite(H).all():
        raise SettingsError("embeddings are not finite: training has diverged; lower the learning rate")
    cutoff = max(H.shape) * np.finfo(H.dtype).eps
    return np.linalg.pinv(H.astype(np.float64), rcond=cutoff)


def keep_largest(W: np.ndarray, t: int, *, engine: str = "numpy") -> sparse.csr_array:
    """Keep the t largest entries of each row, with their values.

    Parameters
    ----------
    W : ndarray, shape (n, m)
    t : int
        From 1 to m.
    engine : {"numpy", "numba"}

    Returns
    -------
    csr_array, shape (n, m), with t stored entries in every row

    Raises
    ------
    SettingsError
        If t is not between 1 and m.
    """
    n, m = W.shape
    require_row_entries(t, m)
    if is_compiled(engine):
        from ..kernels.assignment import largest_columns

        columns = largest_columns(W, t)
    else:
        columns = np.sort(np.argsort(-W, axis=1, kind="stable")[:, :t], axis=1)
    values = np.take_along_axis(W, columns, axis=1)
    return sparse.csr_array((values.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, m))


def update_coarse_assignment(
    H_entities: np.ndarray, H_coarse: np.ndarray, t: int, *, engine: str = "numpy", rows_at_a_time: int = 8192
) -> sparse.csr_array:
    """The closed-form update of S_c (model.md, coarse stage, two phases).

    Parameters
    ----------
    H_entities : ndarray, shape (N, d)
        Propagated, layer-averaged embeddings.
    H_coarse : ndarray, shape (C, d)
    t : int
        Entries kept in a row.
    engine : {"numpy", "numba"}
    rows_at_a_time : int
        Rows of W that are formed at a time, so that N x C is never held at once.

    Returns
    -------
    S_coarse : csr_array, shape (N, C), in the dtype of `H_entities`

    Raises
    ------
    SettingsError
        If t is out of range or the embeddings are not finite.
    """
    inverse = pseudoinverse(H_coarse)
    blocks = [
        keep_largest(H_entities[first : first + rows_at_a_time].astype(np.float64) @ inverse, t, engine=engine)
        for first in range(0, len(H_entities), rows_at_a_time)
    ]
    return sparse.csr_array(sparse.vstack(blocks, format="csr"), dtype=H_entities.dtype)


def fine_affinity(H_entities: np.ndarray, H_coarse: np.ndarray, H_fine: np.ndarray) -> np.ndarray:
    """T = W_c^T W_f, how much the entities of a coarse row lean on each fine row.

    W_c and W_f are never formed: T = pinv(H_coarse)^T (H_entities^T H_entities) pinv(H_fine), a product of small matrices.

    Parameters
    ----------
    H_entities : ndarray, shape (N, d)
    H_coarse : ndarray, shape (C, d)
    H_fine : ndarray, shape (M, d)

    Returns
    -------
    T : ndarray of float64, shape (C, M)
    """
    entities = H_entities.astype(np.float64)
    return pseudoinverse(H_coarse).T @ (entities.T @ entities) @ pseudoinverse(H_fine)


def softmax_rows(T: np.ndarray) -> np.ndarray:
    """Softmax of each row, without overflow."""
    powers = np.exp(T - T.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def update_fine_assignment(
    H_entities: np.ndarray,
    H_coarse: np.ndarray,
    H_fine: np.ndarray,
    t_fine: int,
    *,
    renormalise: bool = False,
    engine: str = "numpy",
) -> sparse.csr_array:
    """The update of S_f (model.md, fine stage, 6).

    Parameters
    ----------
    H_entities : ndarray, shape (N, d)
    H_coarse : ndarray, shape (C, d)
    H_fine : ndarray, shape (M, d)
    t_fine : int
        Entries kept in a row.
    renormalise : bool
        Divide each row by its sum, so that it is a weighted mean again. The published code does not.
    engine : {"numpy", "numba"}

    Returns
    -------
    S_fine : csr_array, shape (C, M), in the dtype of `H_entities`

    Raises
    ------
    SettingsError
        If t_fine is out of range or the embeddings are not finite.
    """
    T = fine_affinity(H_entities, H_coarse, H_fine)
    return largest_softmax(T, t_fine, renormalise=renormalise, engine=engine).astype(H_entities.dtype)


def largest_softmax(T: np.ndarray, t: int, *, renormalise: bool = False, engine: str = "numpy") -> sparse.csr_array:
    """The t largest entries of each row of softmax(T), optionally divided by their sum.

    Parameters
    ----------
    T : ndarray, shape (C, M)
    t : int
    renormalise : bool
    engine : {"numpy", "numba"}

    Returns
    -------
    csr_array, shape (C, M)
    """
    S = keep_largest(softmax_rows(T), t, engine=engine)
    if renormalise:
        rows = S.data.reshape(-1, t)
        S.data = (rows / rows.sum(axis=1, keepdims=True)).ravel()
    return S


def require_row_entries(t: int, n_columns: int) -> None:
    """Raise SettingsError unless 1 <= t <= n_columns."""
    if not 1 <= t <= n_columns:
        raise SettingsError(f"cannot keep {t} entries in a row of {n_columns}: choose between 1 and {n_columns}")
