"""Models on disk, and their size.

A model file holds everything that recommending needs: codebooks, assignments, biases, the training interactions (for
propagation), those that were held out (to leave out all that a user has, as the former), the external ids, and the settings.

Shapes: see `c2f_np.model.step`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse

from .archive import pack_csr, read_archive, take, unpack_csr, write_archive
from .data import Dataset
from .errors import ModelFileError, SettingsError
from .files import FilePath
from .machine import versions
from .model.step import ModelState
from .settings import Settings

KIND, VERSION = "model", 1
_FIELDS = ("E_coarse", "bias", "bias_global", "S_coarse", "E_fine", "S_fine", "S_direct")
_MATRICES = ("S_coarse", "S_fine", "S_direct")
_OPTIONAL = ("E_fine", "S_fine", "S_direct")


@dataclass(frozen=True)
class StoredModel:
    """What a model file holds.

    Attributes
    ----------
    state : ModelState
    settings : Settings
    R : csr_array, shape (U, I)
        Training interactions.
    user_ids, item_ids : ndarray of str
    about : dict
        Where the model comes from: name and fingerprint of the data, protocol, preset, versions; of a refitted model, the
        epochs of its phases as ``refit``.
    known : csr_array, shape (U, I), optional
        All interactions that the data hold, which are not recommended; by default those of training.
    """

    state: ModelState
    settings: Settings
    R: sparse.csr_array
    user_ids: np.ndarray
    item_ids: np.ndarray
    about: dict[str, Any]
    known: sparse.csr_array | None = None


def save_model(path: FilePath, model: StoredModel) -> None:
    """Write a model file, aside and then renamed."""
    header = {"settings": model.settings.to_dict(), "about": model.about}
    arrays = pack_state("state", model.state) | pack_entities(model.R, model.known, model.user_ids, model.item_ids)
    write_archive(path, KIND, VERSION, header, arrays)


def load_model(path: FilePath) -> StoredModel:
    """Read a model file.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, foreign, or its parts do not fit together.
    """
    header, arrays = read_archive(path, KIND, VERSION)
    try:
        settings = Settings.from_dict(header["settings"])
    except (KeyError, TypeError, SettingsError) as error:
        raise ModelFileError(f"{path}: its settings cannot be used ({error})") from error
    state = unpack_state("state", arrays, path)
    R, known, user_ids, item_ids = unpack_entities(arrays, path)
    about = header.get("about", {})
    if len(state.bias) != sum(R.shape):
        raise ModelFileError(f"{path}: {len(state.bias)} biases for {R.shape[0]} users and {R.shape[1]} items")
    _check_assignments(state, settings.training, path)
    if not isinstance(about, dict):
        raise ModelFileError(f"{path}: its about is not a JSON object")
    return StoredModel(state, settings, R, user_ids, item_ids, about, known)


def pack_entities(R, known, user_ids: np.ndarray, item_ids: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of what every model file holds: training interactions, others that are known, and ids."""
    arrays = pack_csr("interactions", R.astype(np.int8))
    if (held_out := others_known(R, known)).nnz:
        arrays |= pack_csr("held_out", held_out.astype(np.int8))
    return arrays | {"user_ids": np.asarray(user_ids, dtype=str), "item_ids": np.asarray(item_ids, dtype=str)}


def unpack_entities(arrays: dict[str, np.ndarray], path: FilePath) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """What :func:`pack_entities` took apart, or ModelFileError. Files older than ``held_out`` know training interactions only."""
    R = unpack_csr("interactions", arrays, path)
    user_ids, item_ids = take(arrays, "user_ids", path), take(arrays, "item_ids", path)
    if (user_ids.shape, item_ids.shape) != (R.shape[:1], R.shape[1:]):
        raise ModelFileError(f"{path}: the lists of ids do not have one id for each user and item")
    if user_ids.dtype.kind != "U" or item_ids.dtype.kind != "U":
        raise ModelFileError(f"{path}: the ids are not text")
    if not any(name.startswith("held_out") for name in arrays):
        return R, R, user_ids, item_ids
    held_out = unpack_csr("held_out", arrays, path)
    if held_out.shape != R.shape:
        raise ModelFileError(f"{path}: held_out has shape {held_out.shape} instead of {R.shape}")
    return R, sparse.csr_array((R != 0) + (held_out != 0)), user_ids, item_ids


def others_known(R: sparse.csr_array, known: sparse.csr_array | None) -> sparse.csr_array:
    """The known interactions beside those of training, as a pattern."""
    return sparse.csr_array(R.shape, dtype=bool) if known is None else sparse.csr_array((known != 0) > (R != 0))


def where_from(data: Dataset) -> dict[str, Any]:
    """What a model file says of the data that the model has learnt from, and of the versions that it was made with."""
    about = {"name": data.name, "fingerprint": data.fingerprint(), "split": data.split}
    return {"data": about, "protocol": data.protocol, "versions": versions()}


def pack_state(name: str, state: ModelState) -> dict[str, np.ndarray]:
    """The arrays of a state, under names that begin with `name`."""
    arrays: dict[str, np.ndarray] = {}
    for field, value in _present(state).items():
        arrays |= pack_csr(f"{name}.{field}", value) if field in _MATRICES else {f"{name}.{field}": value}
    return arrays


def unpack_state(name: str, arrays: dict[str, np.ndarray], path: FilePath) -> ModelState:
    """The state that :func:`pack_state` took apart, or ModelFileError if a part is missing, wrong, or does not fit the others."""

    def unpacked(field: str) -> Any:
        stored = f"{name}.{field}"
        if field in _OPTIONAL and stored not in arrays and f"{stored}.data" not in arrays:
            return None
        return unpack_csr(stored, arrays, path) if field in _MATRICES else take(arrays, stored, path)

    state = ModelState(**{field: unpacked(field) for field in _FIELDS})
    for field, value in _present(state).items():
        numbers = value.data if field in _MATRICES else value
        if numbers.dtype.kind != "f" or not np.isfinite(numbers).all():
            raise ModelFileError(f"{path}: a codebook, an assignment or a bias does not hold finite numbers")
    if not _fits_together(state):
        raise ModelFileError(f"{path}: codebooks, assignments and biases have shapes that do not fit together")
    return state


def _present(state: ModelState) -> dict[str, Any]:
    return {field: getattr(state, field) for field in _FIELDS if getattr(state, field) is not None}


def _fits_together(state: ModelState) -> bool:
    present = _present(state)
    if any(present[book].ndim != 2 for book in ("E_coarse", "E_fine") if book in present):
        return False
    if ("E_fine" in present) != ("S_fine" in present or "S_direct" in present):
        return False
    (n, c), dim = state.S_coarse.shape, state.E_coarse.shape[1]
    m = 0 if state.E_fine is None else len(state.E_fine)
    books, links = {"E_coarse": (c, dim), "E_fine": (m, dim)}, {"S_coarse": (n, c), "S_fine": (c, m), "S_direct": (n, m)}
    wanted = books | links | {"bias": (n,), "bias_global": (1,)}
    return all(value.shape == wanted[field] for field, value in present.items())


def _check_assignments(state: ModelState, training: str, path: FilePath) -> None:
    """Two stages have no direct links and always a bridge; a joint model has the same number of links in every row."""
    if training == "stages":
        if state.S_direct is not None or state.is_fine != (state.S_fine is not None):
            raise ModelFileError(f"{path}: its codebooks and assignments are not those of two stages")
        return
    for name in ("S_coarse", "S_direct"):
        S = getattr(state, name)
        if S is not None and len(np.unique(np.diff(S.indptr))) > 1:
            raise ModelFileError(f"{path}: the rows of {name} have different numbers of links")


def size_in_bytes(state: ModelState) -> dict[str, int]:
    """The memory that inference needs, part by part.

    Parameters
    ----------
    state : ModelState

    Returns
    -------
    dict of str to int
        "codebooks", "assignment weights", "assignment indices" (each in the smallest unsigned type that can number its codebook's
        rows; every row has the same number of entries, so no row pointers are needed), "biases", and their sum, "model".
    """
    present = _present(state)
    matrices = [present[name] for name in _MATRICES if name in present]
    parts = {
        "codebooks": sum(present[name].nbytes for name in ("E_coarse", "E_fine") if name in present),
        "assignment weights": sum(S.data.nbytes for S in matrices),
        "assignment indices": sum(S.nnz * np.min_scalar_type(S.shape[1] - 1).itemsize for S in matrices),
        "biases": state.bias.nbytes + state.bias_global.nbytes,
    }
    return parts | {"model": sum(parts.values())}
