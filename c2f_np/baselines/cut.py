"""Item-item weights cut to a budget of bytes: the largest by absolute value, with the column of each and where each row begins.

Column numbers are stored in the smallest unsigned type that can number the items, row starts in the smallest that holds n. A
weight takes four bytes; or one, if it is rounded to a multiple of the largest weight / 127.

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
from ..serving.compact import INT8, smallest_unsigned

_PARTS = {"data": "weights", "indices": "indices", "indptr": "row starts", "scale": "scale"}


def cut_to_bytes(weights: np.ndarray | sparse.csr_array, budget: int | None, stored_as: str = "dtype") -> sparse.csr_array:
    """The weights that a budget leaves; among equals those of the first rows, in these of the first columns.

    Parameters
    ----------
    weights : ndarray or csr_array of float32, shape (I, I)
    budget : int, optional
        In bytes. None leaves all that are not zero.
    stored_as : {"dtype", "int8"}
        With int8 the weights that are returned are rounded.

    Returns
    -------
    csr_array of float32, shape (I, I)

    Raises
    ------
    SettingsError
        If the budget is too small for one weight.
    """
    n_items = weights.shape[0]
    # A budget is a whole number, which a grid search may hand over as a float.
    n = n_items**2 if budget is None else _n_weights(int(budget), n_items, stored_as)
    if isinstance(weights, np.ndarray):
        values = weights.ravel()
        kept = _largest(values, n)
        rows, columns = np.divmod(kept, n_items)
    else:
        values = weights.data
        kept = _largest(values, n)
        rows, columns = np.repeat(np.arange(n_items), np.diff(weights.indptr))[kept], weights.indices[kept]
    values = values[kept]
    if stored_as == INT8:
        scale = _scale_of(values)
        values = np.rint(values / scale) * scale
    W = sparse.csr_array((values, (rows, columns)), shape=(n_items, n_items))
    W.eliminate_zeros()  # what was rounded to nothing
    return W


def _n_weights(budget: int, n_items: int, stored_as: str) -> int:
    """How many weights the budget leaves. The type of the row starts depends on that number, so each is tried."""
    weight, scale = (1, 4) if stored_as == INT8 else (4, 0)
    each = weight + index_type(n_items).itemsize
    n: int = max(min(256**size - 1, (budget - scale - (n_items + 1) * size) // each) for size in (1, 2, 4, 8))
    if n < 1:
        least = n_items + 1 + scale + each
        raise SettingsError(f"bytes = {budget} is too little for one weight of {n_items} items: at least {least}")
    return n


def _scale_of(values: np.ndarray) -> np.float32:
    """The largest value / 127, rounded up to 17 binary digits: its products with -127..127 are exact, and give it back."""
    mantissa, exponent = np.frexp(np.abs(values).max(initial=0) / 127)
    return np.float32(np.ldexp(np.ceil(mantissa * 2**17), exponent - 17)) or np.float32(1)


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


def pack_cut(name: str, W: sparse.csr_array, stored_as: str = "dtype") -> dict[str, np.ndarray]:
    """The arrays of cut weights, under names that begin with `name`."""
    arrays = {
        f"{name}.data": W.data,
        f"{name}.indices": W.indices.astype(index_type(W.shape[1])),
        f"{name}.indptr": smallest_unsigned(W.indptr),
    }
    if stored_as == INT8:
        scale = _scale_of(W.data)
        arrays |= {f"{name}.data": (W.data / scale).astype(np.int8), f"{name}.scale": np.array([scale])}
    return arrays


def cut_layout(name: str, stored_as: str = "dtype") -> dict[str, Array]:
    """The layout of :func:`pack_cut`; ``I`` must be known."""
    layout = {
        f"{name}.data": Array("float32", ("n",)),
        f"{name}.indices": Array(UNSIGNED, ("n",), below="I"),
        f"{name}.indptr": Array(UNSIGNED, ("I+1",)),
    }
    if stored_as == INT8:
        layout |= {f"{name}.data": Array("int8", ("n",), low=-127), f"{name}.scale": Array("float32", (1,))}
    return layout


def unpack_cut(name: str, arrays: dict[str, np.ndarray], n_items: int, path: FilePath) -> sparse.csr_array:
    """The weights of arrays that fit :func:`cut_layout`; ModelFileError unless their rows are in order."""
    shape = n_items, n_items
    signed = {
        f"{name}.data": arrays[f"{name}.data"] * arrays.get(f"{name}.scale", np.float32(1)),
        f"{name}.indices": arrays[f"{name}.indices"].astype(np.int32),
        f"{name}.indptr": arrays[f"{name}.indptr"].astype(np.int64),
        f"{name}.shape": np.array(shape),
    }
    return unpack_csr(name, signed, shape, path)


def size_of_cut(W: sparse.csr_array, stored_as: str = "dtype") -> dict[str, int]:
    """The bytes of :func:`pack_cut`, part by part, and their sum as ``"model"``."""
    parts = {_PARTS[name.removeprefix("W.")]: array.nbytes for name, array in pack_cut("W", W, stored_as).items()}
    return parts | {"model": sum(parts.values())}
