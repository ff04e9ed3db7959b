"""Item-item weights cut to a budget of bytes: the largest by absolute value, with the column of each and where each row begins.

Column numbers are stored in the smallest unsigned type that can number the items, row starts in the smallest that holds n.

Shapes
------
W : (I, I) weights, of which n are kept
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..archive import UNSIGNED, Array, index_type, unpack_csr
from ..errors import SettingsError
from ..files import FilePath
from ..serving.compact import smallest_unsigned

_PARTS = {"data": "weights", "indices": "indices", "indptr": "row starts"}


def cut_to_bytes(weights: np.ndarray | sparse.csr_array, budget: int) -> sparse.csr_array:
    """The weights that a budget leaves; among equals those of the first rows, in these of the first columns.

    Parameters
    ----------
    weights : ndarray or csr_array of float32, shape (I, I)
    budget : int
        In bytes.

    Returns
    -------
    csr_array of float32, shape (I, I)

    Raises
    ------
    SettingsError
        If the budget is too small for one weight.
    """
    n_items = weights.shape[0]
    n = _n_weights(int(budget), n_items)  # a whole number, which a grid search may hand over as a float
    if isinstance(weights, np.ndarray):
        values = weights.ravel()
        kept = _largest(values, n)
        rows, columns = np.divmod(kept, n_items)
    else:
        values = weights.data
        kept = _largest(values, n)
        rows, columns = np.repeat(np.arange(n_items), np.diff(weights.indptr))[kept], weights.indices[kept]
    return sparse.csr_array((values[kept], (rows, columns)), shape=(n_items, n_items))


def _n_weights(budget: int, n_items: int) -> int:
    """How many weights the budget leaves. The type of the row starts depends on that number, so each is tried."""
    each = 4 + index_type(n_items).itemsize
    n: int = max(min(256**size - 1, (budget - (n_items + 1) * size) // each) for size in (1, 2, 4, 8))
    if n < 1:
        raise SettingsError(f"bytes = {budget} is too little for one weight of {n_items} items: at least {n_items + 1 + each}")
    return n


def _largest(values: np.ndarray, n: int) -> np.ndarray:
    """The places, ascending, of the n largest values by absolute value, without zeros."""
    sizes = np.abs(values)
    n = min(n, int(np.count_nonzero(sizes)))
    if n == 0:
        return np.zeros(0, np.int64)
    least = np.partition(sizes, len(sizes) - n)[len(sizes) - n]
    kept = sizes > least
    kept[np.flatnonzero(sizes == least)[: n - np.count_nonzero(kept)]] = True
    return np.flatnonzero(kept)


def pack_cut(name: str, W: sparse.csr_array) -> dict[str, np.ndarray]:
    """The arrays of cut weights, under names that begin with `name`."""
    return {
        f"{name}.data": W.data,
        f"{name}.indices": W.indices.astype(index_type(W.shape[1])),
        f"{name}.indptr": smallest_unsigned(W.indptr),
    }


def cut_layout(name: str) -> dict[str, Array]:
    """The layout of :func:`pack_cut`; ``I`` must be known."""
    return {
        f"{name}.data": Array("float32", ("n",)),
        f"{name}.indices": Array(UNSIGNED, ("n",), below="I"),
        f"{name}.indptr": Array(UNSIGNED, ("I+1",)),
    }


def unpack_cut(name: str, arrays: dict[str, np.ndarray], n_items: int, path: FilePath) -> sparse.csr_array:
    """The weights of arrays that fit :func:`cut_layout`; ModelFileError unless their rows are in order."""
    shape = n_items, n_items
    signed = {
        f"{name}.data": arrays[f"{name}.data"],
        f"{name}.indices": arrays[f"{name}.indices"].astype(np.int32),
        f"{name}.indptr": arrays[f"{name}.indptr"].astype(np.int64),
        f"{name}.shape": np.array(shape),
    }
    return unpack_csr(name, signed, shape, path)


def size_of_cut(W: sparse.csr_array) -> dict[str, int]:
    """The bytes of :func:`pack_cut`, part by part, and their sum as ``"model"``."""
    stored = pack_cut("W", W)
    parts = {words: stored[f"W.{part}"].nbytes for part, words in _PARTS.items()}
    return parts | {"model": sum(parts.values())}
