"""Dense products with some rows of a tall matrix, by BLAS, with the same bits on any number of threads.

The rows are cut into blocks of a fixed size. Each block is one product on one BLAS thread; sums over blocks are made in their
order.

Shapes
------
K : (N, d)     W : (N, m)     X : (m, d)     rows : (R,)     G : (R, d)
"""

from __future__ import annotations

import numba
import numpy as np

from ..threads import in_threads, one_blas_thread
from .buffers import empty

# Rows of a block.
_BLOCK = 4096


def add_product_of_rows(
    K: np.ndarray, W: np.ndarray, X: np.ndarray, rows: np.ndarray, *, block: int = _BLOCK
) -> np.ndarray:
    """``K[rows] + W[rows] @ X``."""
    out = empty((len(rows), X.shape[1]), np.result_type(K.dtype, W.dtype, X.dtype))

    def work(first: int) -> None:
        mine, product = rows[first : first + block], out[first : first + block]
        np.matmul(W[mine], X, out=product)
        product += K[mine]

    _in_blocks(work, len(rows), block)
    return out


def transposed_product_of_rows(W: np.ndarray, G: np.ndarray, rows: np.ndarray, *, block: int = _BLOCK) -> np.ndarray:
    """``W[rows].T @ G``."""
    starts = range(0, len(rows), block)
    parts = np.zeros((len(starts), W.shape[1], G.shape[1]), np.result_type(W.dtype, G.dtype))

    def work(first: int) -> None:
        np.matmul(W[rows[first : first + block]].T, G[first : first + block], out=parts[first // block])

    _in_blocks(work, len(rows), block)
    return parts.sum(axis=0)


def propagate_collapsed(F, tanh_F, collapsed, *, rows: np.ndarray) -> np.ndarray:
    """Some rows of H_entities: ``K + W1 F + W2 tanh(F)``."""
    return add_product_of_rows(collapsed.constant, collapsed.weights, np.concatenate([F, tanh_F]), rows)


def propagate_collapsed_backward(grad_H, collapsed, *, rows: np.ndarray):
    """grad_F and grad_tanh_F, as of two arguments."""
    both = transposed_product_of_rows(collapsed.weights, grad_H, rows)
    return both[: len(both) // 2], both[len(both) // 2 :]


def _in_blocks(work, n_rows: int, block: int) -> None:
    with one_blas_thread():
        in_threads(work, range(0, n_rows, block), numba.get_num_threads())
