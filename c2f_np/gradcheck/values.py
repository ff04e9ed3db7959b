"""Values that can be differentiated, seen as plain vectors.

A differentiable value is a float array, a float scalar (Python, NumPy or 0-d), a list of floats or a sparse matrix of
floats; of the latter only the stored entries count. Dictionaries, lists and tuples are trees of such values: their
leaves are differentiated one by one, under names such as ``params.w`` and ``params[0]``. Everything else (integers,
complex numbers, graphs, strings) passes through the checker untouched.

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


#: Formats of sparse matrices whose ``data`` are their entries; others are constants.
ENTRY_BY_ENTRY = ("csr", "csc", "coo", "bsr")


def is_scalar(value) -> bool:
    """Whether ``value`` is a real floating-point number (not an array, not an integer)."""
    return isinstance(value, float | np.floating)


def is_numbers(value) -> bool:
    """Whether ``value`` is a list or tuple (of lists) that holds nothing but floats, in rows of one length."""
    if type(value) not in (tuple, list) or not value:
        return False
    if all(is_scalar(part) for part in value):
        return True
    return all(is_numbers(part) for part in value) and len({np.shape(part) for part in value}) == 1


def is_differentiable(value) -> bool:
    """Whether ``value`` holds floating-point numbers that a gradient can be taken with respect to."""
    if is_scalar(value) or is_numbers(value):
        return True
    if isinstance(value, np.ma.MaskedArray):  # what lies under the mask is nobody's business
        return False
    held = isinstance(value, np.ndarray) or is_sparse(value) and value.format in ENTRY_BY_ENTRY
    return held and np.issubdtype(value.dtype, np.floating)


def children(value, numbers: bool = False) -> dict | None:
    """The parts of a container by the suffix of their names, or None for a leaf; with ``numbers`` also of a list of floats."""
    if isinstance(value, np.ndarray | float):  # the ordinary case first: this is called for every call of a function
        return None
    if is_sparse(value):  # one kind of them is a dict
        return None
    if isinstance(value, dict):
        return {f".{k}" if isinstance(k, str) and k.isidentifier() else f"[{k!r}]": part for k, part in value.items()}
    if not (type(value) in (tuple, list) or hasattr(value, "_make")) or (is_numbers(value) and not numbers):
        return None
    fields = getattr(value, "_fields", None)
    return {f".{fields[k]}" if fields else f"[{k}]": part for k, part in enumerate(value)}


def map_leaves(function, value, name: str = "", numbers: bool = False):
    """A tree like ``value`` with ``function(name, leaf)`` in place of each leaf."""
    parts = children(value, numbers)
    if parts is None:
        return function(name, value)
    new = [map_leaves(function, part, name + suffix, numbers) for suffix, part in parts.items()]
    if isinstance(value, dict):
        changed = copy.copy(value)
        for key, part in zip(value, new, strict=True):
            changed[key] = part
        return changed
    return value._make(new) if hasattr(value, "_make") else type(value)(new)


def leaves(value, name: str = "", numbers: bool = False) -> dict[str, object]:
    """All leaves of a tree by name."""
    found: dict[str, object] = {}
    map_leaves(found.__setitem__, value, name, numbers)
    return found


def norm(x) -> float:
    """The Euclidean norm, also of numbers whose squares overflow or vanish."""
    x = np.ravel(x)
    size = float(np.linalg.norm(x))
    if 1e-140 < size < 1e140:
        return size
    top = float(np.max(np.abs(x), initial=0.0))
    return top * float(np.linalg.norm(x / top)) if 0 < top < np.inf else top


def to_vector(value) -> np.ndarray:
    """The entries of a differentiable value as a new 1-D array (n,); row-major, or in stored order."""
    return np.array(value.data if is_sparse(value) else value).ravel()


def with_vector(value, vector: np.ndarray):
    """A value like ``value`` that holds the entries ``vector`` (n,) in their dtype, which may be complex."""
    if isinstance(value, np.ndarray):
        array = np.array(vector).reshape(value.shape)
        return array.view(np.matrix) if isinstance(value, np.matrix) else array
    if is_sparse(value):
        changed = _copy_sparse(value)
        changed.data = np.array(vector).reshape(value.data.shape)
        return changed
    if isinstance(value, tuple | list):
        parts = np.array(vector).reshape(len(value), -1)
        return type(value)(with_vector(old, part) for old, part in zip(value, parts, strict=True))
    if isinstance(value, float) and not isinstance(value, np.floating):
        return vector[0].item()
    return vector[0]


def cast(value, dtype):
    """``value`` with the floats of all its leaves in ``dtype``; the rest, and Python floats, unchanged."""

    def one(_, leaf):
        has_dtype = is_sparse(leaf) or isinstance(leaf, np.ndarray | np.floating)
        return leaf.astype(dtype) if has_dtype and is_differentiable(leaf) else leaf

    return map_leaves(one, value)


def copy_leaf(leaf):
    """A copy of an array, a sparse matrix or a list of floats; other objects are shared."""
    if isinstance(leaf, np.ndarray):
        return leaf if leaf is np.ma.masked else leaf.copy()
    if is_sparse(leaf):
        return _copy_sparse(leaf)
    return copy.deepcopy(leaf) if is_numbers(leaf) else leaf


def private_copy(value):
    """:func:`copy_leaf` of all leaves."""
    return map_leaves(lambda _, leaf: copy_leaf(leaf), value)


def _copy_sparse(matrix):
    """A copy of a sparse matrix; of a compressed one without SciPy's checks, which take longer than a small forward."""
    if matrix.format not in ("csr", "csc"):
        return matrix.copy()
    changed = copy.copy(matrix)
    changed.data, changed.indices, changed.indptr = matrix.data.copy(), matrix.indices.copy(), matrix.indptr.copy()
    return changed


def snapshot(value, depth: int = 6):
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
        masked = "masked " if isinstance(value, np.ma.MaskedArray) else ""
        return f"{masked}{value.dtype} array of shape {value.shape}"
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
