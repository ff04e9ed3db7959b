"""Archives: named arrays and one JSON header in an ``.npz`` file, written aside and renamed, read without pickle.

The header is stored as the bytes of a JSON text, under the name ``header``. `c2f_np.serving` reads archives with NumPy alone, so
SciPy is imported only in :func:`unpack_csr`, which needs it.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ModelFileError
from .files import write_atomically

if TYPE_CHECKING:
    import scipy.sparse as sparse

_HEADER = "header"

# What the zip, npy and JSON readers raise over damaged or foreign bytes: a lone array is no context manager (TypeError), a
# damaged zip header asks for an unknown compression or a password (RuntimeError), a damaged length for more memory than there is.
_NOT_READABLE = (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, MemoryError)
_DAMAGE = (*_NOT_READABLE, zipfile.BadZipFile, zlib.error)


def write_archive(path, kind: str, version: int, header: dict, arrays: dict, *, compressed: bool = False) -> None:
    """Write arrays and a header (plain JSON) to one file; `kind` and `version` are checked on reading."""
    text = json.dumps({"kind": kind, "version": version} | header, allow_nan=True)
    members = {_HEADER: np.frombuffer(text.encode("utf-8"), dtype=np.uint8)} | arrays
    save = np.savez_compressed if compressed else np.savez
    write_atomically(path, lambda file: save(file, **members))


def read_archive(path, kind: str, version: int) -> tuple[dict, dict[str, np.ndarray]]:
    """The header and the arrays of a file, or ModelFileError if it is missing, damaged, or of another kind or version."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop(_HEADER).tobytes().decode("utf-8"))
    except _DAMAGE as error:
        raise ModelFileError(f"{path}: damaged, or not a c2f_np file ({error})") from error
    if not isinstance(header, dict) or header.get("kind") != kind:
        raise ModelFileError(f"{path}: not a c2f_np {kind}")
    if header.get("version") != version:
        raise ModelFileError(f"{path}: {kind} of version {header.get('version')}; this program reads version {version}")
    return header, arrays


def pack_csr(name: str, matrix: sparse.csr_array) -> dict[str, np.ndarray]:
    """The arrays of a csr matrix, under names that begin with `name`."""
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
        f"{name}.shape": np.array(matrix.shape, dtype=np.int64),
    }


def unpack_csr(name: str, arrays: dict[str, np.ndarray], path) -> sparse.csr_array:
    """The csr matrix that :func:`pack_csr` took apart, or ModelFileError if the parts do not make a matrix."""
    import scipy.sparse as sparse

    data, indices, indptr, shape = (take(arrays, f"{name}.{part}", path) for part in ("data", "indices", "indptr", "shape"))
    try:
        matrix = sparse.csr_array((data, indices, indptr), shape=tuple(int(size) for size in shape))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ModelFileError(f"{path}: {name} is not a sparse matrix ({error})") from error
    matrix.sort_indices()
    return matrix


def take(arrays: dict[str, np.ndarray], name: str, path) -> np.ndarray:
    """A member of an archive, or a ModelFileError that names it."""
    if name not in arrays:
        raise ModelFileError(f"{path}: damaged, {name} is missing")
    return arrays[name]
