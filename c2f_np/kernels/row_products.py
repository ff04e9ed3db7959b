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

_BLOCK = 4096


def add_product_of_rows(K: np.ndarray, W: np.ndarray, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``K[rows] + W[rows] @ X``."""
    out = empty((len(rows), X.shape[1]), np.result_type(K.dtype, W.dtype, X.dtype))

    def work(first: int) -> None:
        block = rows[first : first + _BLOCK]
        product = out[first : first + _BLOCK]
        np.matmul(W[block], X, out=product)
        product += K[block]

    _in_blocks(work, len(rows))
    return out


def transposed_product_of_rows(W: np.ndarray, G: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``W[rows].T @ G``."""
    starts = range(0, len(rows), _BLOCK)
    parts = np.zeros((len(starts), W.shape[1], G.shape[1]), np.result_type(W.dtype, G.dtype))

    def work(first: int) -> None:
        np.matmul(W[rows[first : first + _BLOCK]].T, G[first : first + _BLOCK], out=parts[first // _BLOCK])

    _in_blocks(work, len(rows))
    return parts.sum(axis=0)


def _in_blocks(work, n_rows: int) -> None:
    with one_blas_thread():
        in_threads(work, range(0, n_rows, _BLOCK), numba.get_num_threads())
