"""Values that can be differentiated, seen as plain vectors.

A differentiable value is a float array, a float scalar (Python, NumPy or 0-d) or a sparse matrix of floats; of the
latter only the stored entries count. Everything else (integers, index arrays, graphs, strings) passes through the
checker untouched.

Shapes: n is the number of entries of a value, for a sparse matrix the number of its stored entries.
"""

from __future__ import annotations

import copy
import sys

import numpy as np


def is_sparse(value) -> bool:
    """Whether ``value`` is a SciPy sparse matrix or array. SciPy is never imported for this."""
    module = sys.modules.get("scipy.sparse")
    return module is not None and module.issparse(value)


def is_scalar(value) -> bool:
    """Whether ``value`` is a real floating-point number (not an array, not an integer)."""
    return isinstance(value, float | np.floating)


def is_differentiable(value) -> bool:
    """Whether ``value`` holds floating-point numbers that a gradient can be taken with respect to."""
    if is_scalar(value):
        return True
    return (isinstance(value, np.ndarray) or is_sparse(value)) and np.issubdtype(value.dtype, np.floating)


def to_vector(value) -> np.ndarray:
    """The entries of a differentiable value as a new 1-D array (n,); row-major, or in stored order."""
    if is_sparse(value):
        return np.array(value.data).ravel()
    return np.array(value).ravel()


def with_vector(value, vector: np.ndarray):
    """A value like ``value`` that holds the entries ``vector`` (n,) in their dtype, which may be complex."""
    if is_sparse(value):
        changed = value.copy()
        changed.data = np.array(vector).reshape(value.data.shape)
        return changed
    if isinstance(value, np.ndarray):
        return np.array(vector).reshape(value.shape)
    if isinstance(value, float) and not isinstance(value, np.floating):
        return vector[0].item()
    return vector[0]


def cast(value, dtype):
    """``value`` with floats in ``dtype``; other values unchanged. Python floats have no dtype and stay."""
    if is_sparse(value) or isinstance(value, np.ndarray | np.floating):
        return value.astype(dtype) if is_differentiable(value) else value
    return value


def private_copy(value):
    """A copy of arrays and sparse matrices, also inside tuples, lists and dictionaries; other objects are shared."""
    if isinstance(value, np.ndarray) or is_sparse(value):
        return copy.copy(value) if value is np.ma.masked else value.copy()
    if type(value) in (tuple, list):
        return type(value)(private_copy(part) for part in value)
    if type(value) is dict:
        return {key: private_copy(part) for key, part in value.items()}
    return value


def snapshot(value, depth: int = 4):
    """Everything in ``value`` that can change without notice, as nested bytes to be compared later with ``==``."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes() if not value.dtype.hasobject else repr(value))
    if is_sparse(value):
        parts = [getattr(value, part, None) for part in ("data", "indices", "indptr", "row", "col", "offsets")]
        return (value.shape, *(snapshot(part, depth - 1) for part in parts if isinstance(part, np.ndarray)))
    if isinstance(value, bool | int | float | complex | str | bytes | np.generic | None):
        return repr(value)
    if depth > 0:
        if isinstance(value, list | tuple):
            return tuple(snapshot(part, depth - 1) for part in value)
        if isinstance(value, dict):
            return tuple((repr(key), snapshot(part, depth - 1)) for key, part in value.items())
        if hasattr(value, "__dict__") and not callable(value):
            return tuple((key, snapshot(part, depth - 1)) for key, part in vars(value).items())
    return None


def describe(value) -> str:
    """A value in words, for messages: ``'float64 array of shape (3, 2)'``."""
    if value is None:
        return "None"
    if is_sparse(value):
        return f"{value.dtype} sparse {value.format} of shape {value.shape} with {value.nnz} stored entries"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"dict with {', '.join(map(repr, value)) or 'nothing'}"
    if isinstance(value, bool | int | float | complex | np.generic):
        return f"{type(value).__name__} {value}"
    return f"a {type(value).__name__}"


def entry_name(argument: str, value, position: int) -> str:
    """The name of one entry as a person would index it: ``'x[2, 1]'``, ``'tau'``, ``'P[4, 0]'`` for a stored entry."""
    if is_sparse(value):
        coo = value.tocoo()
        if coo.nnz == value.data.size and value.format in ("csr", "csc", "coo"):
            return f"{argument}[{int(coo.row[position])}, {int(coo.col[position])}]"
        return f"{argument}.data[{position}]"
    if np.ndim(value) == 0:
        return argument
    return f"{argument}[{', '.join(str(int(i)) for i in np.unravel_index(position, np.shape(value)))}]"
