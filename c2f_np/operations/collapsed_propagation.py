"""The propagation of the fine stage, collapsed into two small matrices.

Propagation is a linear map P of X_0 = [Z; E_hat; tanh(F)]. With the composition of the released code Z does not depend on F, and
E_hat = g S_f F + (1 - g) E_c. Until the assignments change, everything but F is a constant:

    H_entities = K + W1 F + W2 tanh(F)

    K  = P[entities, .] [Z; (1 - g) E_c; 0]     W1 = P[entities, coarse] g S_f     W2 = P[entities, fine]

One propagation of a block of 2 M + d columns takes the place of 2 L sparse products in every step. It is exact: the same numbers
up to rounding. Backwards, with G the gradient at H:  grad_F = W1^T G,  grad_tanh_F = W2^T G.

Shapes
------
F, tanh_F : (M, d)     E_c : (C, d)     Z, K : (N, d)     W1, W2 : (N, M)     rows : (R,) entities     H : (N, d) or (R, d)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine import is_compiled
from .bridged_propagation import BridgedGraph, propagate_bridged
from .propagation import in_rows
from .sparse_product import sparse_product

# What a multiplication and addition costs in a sparse product, in units of one in a dense product; measured on large float32
# problems with two threads. The choice between the two ways must not depend on a clock (a resumed run has to choose as the first
# one did), so it depends on this number.
SPARSE_COST = 4.0
# K and W are kept; more than this and layers are the better bargain.
MOST_BYTES = 2**30


@dataclass(frozen=True)
class CollapsedPropagation:
    """Everything of a propagation that F does not change.

    Attributes
    ----------
    constant : ndarray, shape (N, d)
        K.
    weights : ndarray, shape (N, 2 M)
        [W1, W2].
    Z : ndarray, shape (N, d)
        Ego embeddings.
    E_coarse : ndarray, shape (C, d)
        The codebook that `constant` was computed from.
    """

    constant: np.ndarray
    weights: np.ndarray
    Z: np.ndarray
    E_coarse: np.ndarray


def collapse(
    Z: np.ndarray, E_coarse: np.ndarray, graph: BridgedGraph, n_layers: int, *, engine: str = "numpy"
) -> CollapsedPropagation:
    """Compute K, W1 and W2 by propagating them (model.md, fine stage, collapsed).

    Parameters
    ----------
    Z : ndarray, shape (N, d)
        Composed from E_coarse; it must not depend on F.
    E_coarse : ndarray, shape (C, d)
    graph : BridgedGraph
    n_layers : int
    engine : {"numpy", "numba"}

    Returns
    -------
    CollapsedPropagation
    """
    n, c, m = graph.sizes
    g = graph.gate
    constant = np.zeros((n + c + m, E_coarse.shape[1]), dtype=E_coarse.dtype)
    constant[:n] = Z
    constant[n : n + c] = (1 - g) * E_coarse
    # A unit of each fine row, as the bridge spreads it over the coarse nodes (W1), and at the fine node itself (W2).
    units = np.zeros((n + c + m, 2 * m), dtype=E_coarse.dtype)
    identity = np.eye(m, dtype=E_coarse.dtype)
    units[n : n + c, :m] = g * sparse_product(graph.S_fine, identity, engine=engine)
    units[n + c :, m:] = identity
    propagated = [propagate_bridged(X0, graph, n_layers, engine=engine)[:n].copy() for X0 in (constant, units)]
    return CollapsedPropagation(*propagated, Z, E_coarse)


def propagate_collapsed(
    F: np.ndarray,
    tanh_F: np.ndarray,
    collapsed: CollapsedPropagation,
    *,
    rows: np.ndarray | None = None,
    engine: str = "numpy",
) -> np.ndarray:
    """Propagated embeddings of the entities, or of some: ``K + W1 F + W2 tanh(F)``.

    Parameters
    ----------
    F, tanh_F : ndarray, shape (M, d)
    collapsed : CollapsedPropagation
    rows : ndarray of int, shape (R,), optional
        The entities that are wanted; by default all.
    engine : {"numpy", "numba"}

    Returns
    -------
    H : ndarray, shape (N, d) or (R, d)
    """
    K, W = collapsed.constant, collapsed.weights
    rows = np.arange(len(K)) if rows is None else rows
    start = np.concatenate([F, tanh_F])
    if is_compiled(engine):
        from ..kernels.row_products import add_product_of_rows

        return add_product_of_rows(K, W, start, rows)
    return K[rows] + W[rows] @ start


def propagate_collapsed_backward(
    grad_H: np.ndarray, collapsed: CollapsedPropagation, *, rows: np.ndarray | None = None, engine: str = "numpy"
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients with respect to F and tanh(F), as two arguments: ``W1^T grad_H`` and ``W2^T grad_H``.

    Parameters
    ----------
    grad_H : ndarray, shape (N, d) or (R, d)
    collapsed : CollapsedPropagation
    rows : ndarray of int, shape (R,), optional
        The entities that `grad_H` belongs to; all others have none.
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_F, grad_tanh_F : ndarray, shape (M, d)
    """
    W = collapsed.weights
    m = W.shape[1] // 2
    if is_compiled(engine):
        from ..kernels.row_products import transposed_product_of_rows

        rows = np.arange(len(W)) if rows is None else rows
        both = transposed_product_of_rows(W, grad_H, rows)
    else:
        both = W.T @ (grad_H if rows is None else in_rows(grad_H, rows, len(W)))
    return both[:m], both[m:]


def collapse_pays(
    n_entities: int, n_entries: int, n_fine: int, dim: int, n_layers: int, n_steps: int, n_rows: int, itemsize: int = 4
) -> bool:
    """Whether collapsing is cheaper than propagating through layers, for so many steps between two assignment updates.

    Counted are multiplications and additions: 2 L nnz d in sparse products for a layered step, 2 R (2 M) d in dense products for
    a collapsed one, and L nnz (2 M + d) in sparse products once for collapsing. One in a sparse product costs as much as
    SPARSE_COST in a dense one.

    Parameters
    ----------
    n_entities : int
        N.
    n_entries : int
        Stored entries of X_hat.
    n_fine, dim, n_layers : int
    n_steps : int
        Steps until the assignments change.
    n_rows : int
        Distinct entities of a batch (an upper bound will do).
    itemsize : int
        Bytes of a number.

    Returns
    -------
    bool
    """
    if n_entities * (2 * n_fine + 2 * dim) * itemsize > MOST_BYTES:
        return False
    layered = n_steps * 2 * n_layers * n_entries * dim * SPARSE_COST
    collapsed = n_steps * 2 * n_rows * 2 * n_fine * dim
    collapsing = n_layers * n_entries * (2 * n_fine + dim) * SPARSE_COST
    return collapsed + collapsing < layered
