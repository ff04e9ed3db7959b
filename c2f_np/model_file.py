"""Models on disk, and what they weigh.

A model file holds everything that recommending needs: codebooks, assignments, biases, the training interactions (for
propagation, and to leave out what a user has already seen), the external ids, and the settings.

Shapes: see `c2f_np.stages.state`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from .archive import pack_csr, read_archive, take, unpack_csr, write_archive
from .errors import ModelFileError, SettingsError
from .model.state import ModelState
from .settings import Settings

KIND, VERSION = "model", 1


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
        Where the model comes from: name and fingerprint of the data, protocol, preset, versions.
    """

    state: ModelState
    settings: Settings
    R: sparse.csr_array
    user_ids: np.ndarray
    item_ids: np.ndarray
    about: dict


def save_model(path, model: StoredModel) -> None:
    """Write a model file, aside and then renamed.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    header = {"settings": model.settings.to_dict(), "about": model.about}
    arrays = pack_state("state", model.state) | pack_csr("interactions", model.R.astype(np.int8))
    arrays |= {"user_ids": np.asarray(model.user_ids, dtype=str), "item_ids": np.asarray(model.item_ids, dtype=str)}
    write_archive(path, KIND, VERSION, header, arrays)


def load_model(path) -> StoredModel:
    """Read a model file.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, foreign, or its parts do not fit together.
    """
    header, arrays = read_archive(path, KIND, VERSION)
    try:
        settings = Settings(**header["settings"])
    except (KeyError, TypeError, SettingsError) as error:
        raise ModelFileError(f"{path}: its settings cannot be used ({error})") from error
    state = unpack_state("state", arrays, path)
    R = unpack_csr("interactions", arrays, path)
    model = StoredModel(
        state, settings, R, take(arrays, "user_ids", path), take(arrays, "item_ids", path), header.get("about", {})
    )
    _check_fit(model, path)
    return model


def pack_state(name: str, state: ModelState) -> dict[str, np.ndarray]:
    """The arrays of a state, under names that begin with `name`."""
    arrays = {f"{name}.{field}": getattr(state, field) for field in ("E_coarse", "bias", "bias_global")}
    arrays |= pack_csr(f"{name}.S_coarse", state.S_coarse)
    if state.is_fine:
        arrays[f"{name}.E_fine"] = state.E_fine
    for field in ("S_fine", "S_direct"):
        if getattr(state, field) is not None:
            arrays |= pack_csr(f"{name}.{field}", getattr(state, field))
    return arrays


def unpack_state(name: str, arrays: dict[str, np.ndarray], path) -> ModelState:
    """The state that :func:`pack_state` took apart.

    Raises
    ------
    ModelFileError
        If a part is missing, of a wrong kind, or does not fit the others.
    """

    def matrix(field: str):
        return unpack_csr(f"{name}.{field}", arrays, path) if f"{name}.{field}.data" in arrays else None

    is_fine = f"{name}.E_fine" in arrays
    state = ModelState(
        take(arrays, f"{name}.E_coarse", path),
        unpack_csr(f"{name}.S_coarse", arrays, path),
        take(arrays, f"{name}.bias", path),
        take(arrays, f"{name}.bias_global", path),
        take(arrays, f"{name}.E_fine", path) if is_fine else None,
        matrix("S_fine"),
        matrix("S_direct"),
    )
    to_fine = [S for S in (state.S_fine, state.S_direct) if S is not None]
    numbers = [state.E_coarse, state.bias, state.bias_global, state.S_coarse.data]
    numbers += [state.E_fine] if is_fine else []
    numbers += [S.data for S in to_fine]
    if any(part.dtype.kind != "f" or not np.isfinite(part).all() for part in numbers):
        raise ModelFileError(f"{path}: a codebook, an assignment or a bias does not hold finite numbers")
    n, c = state.S_coarse.shape
    fits = state.E_coarse.ndim == 2 and len(state.E_coarse) == c and state.bias.shape == (n,)
    fits = fits and state.bias_global.shape == (1,) and is_fine == bool(to_fine)
    if is_fine:
        fits = fits and state.E_fine.ndim == 2 and state.E_fine.shape[1] == state.E_coarse.shape[1]
        fits = fits and all(S.shape[1] == len(state.E_fine) for S in to_fine)
    fits = fits and (state.S_fine is None or len(state.S_fine.indptr) == c + 1)
    fits = fits and (state.S_direct is None or len(state.S_direct.indptr) == n + 1)
    if not fits:
        raise ModelFileError(f"{path}: codebooks, assignments and biases have shapes that do not fit together")
    return state


def _check_fit(model: StoredModel, path) -> None:
    n_users, n_items = model.R.shape
    if len(model.state.bias) != n_users + n_items:
        raise ModelFileError(f"{path}: {len(model.state.bias)} biases for {n_users} users and {n_items} items")
    if model.user_ids.shape != (n_users,) or model.item_ids.shape != (n_items,):
        raise ModelFileError(f"{path}: the lists of ids do not have one id for each user and item")
    if model.user_ids.dtype.kind != "U" or model.item_ids.dtype.kind != "U":
        raise ModelFileError(f"{path}: the ids are not text")
    _check_assignments(model, path)
    if not isinstance(model.about, dict):
        raise ModelFileError(f"{path}: what it says about itself is not a JSON object")


def _check_assignments(model: StoredModel, path) -> None:
    """Two stages have no direct links and always a bridge; a joint model has the same number of links in every row."""
    state = model.state
    if model.settings.training == "stages":
        if state.S_direct is not None or state.is_fine != (state.S_fine is not None):
            raise ModelFileError(f"{path}: its codebooks and assignments are not those of two stages")
        return
    for name in ("S_coarse", "S_direct"):
        S = getattr(state, name)
        if S is not None and len(np.unique(np.diff(S.indptr))) > 1:
            raise ModelFileError(f"{path}: the rows of {name} have different numbers of links")


def size_in_bytes(state: ModelState) -> dict[str, int]:
    """What inference must hold, part by part.

    Parameters
    ----------
    state : ModelState

    Returns
    -------
    dict of str to int
        "codebooks", "assignment weights", "assignment indices" (each in the smallest unsigned type that holds the numbers of its
        codebook's rows; every row has the same number of entries, so no row pointers are needed), "biases", and their sum,
        "model".
    """
    matrices = [S for S in (state.S_coarse, state.S_fine, state.S_direct) if S is not None]
    parts = {
        "codebooks": state.E_coarse.nbytes + (state.E_fine.nbytes if state.is_fine else 0),
        "assignment weights": sum(S.data.nbytes for S in matrices),
        "assignment indices": sum(S.nnz * np.min_scalar_type(S.shape[1] - 1).itemsize for S in matrices),
        "biases": state.bias.nbytes + state.bias_global.nbytes,
    }
    return parts | {"model": sum(parts.values())}
