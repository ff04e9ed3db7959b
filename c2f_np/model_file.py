"""Models on disk, and their size.

A model file holds everything that recommending needs: codebooks, assignments, biases, the training interactions (for
propagation), those that were held out (to leave out all that a user has, as the former), the external ids, and the settings.

What the file holds of the model is what :func:`size_in_bytes` counts. Of a fine codebook only the entries outside the soft
threshold matter. They are stored as their values, row by row, and a *bitmap*: one bit for each of the M d entries, set where a
value stands (NumPy's ``packbits``), ``ceil(M d / 8)`` bytes in all; or the whole codebook where that is smaller, as it is from
97 % of float32 values on. An assignment has as many links in every row: it is stored as its weights and column numbers, these in
the smallest unsigned type that can number the columns.

Shapes: see `c2f_np.model.step`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse

from .archive import (
    Array,
    Members,
    csr_layout,
    index_type,
    open_archive,
    pack_csr,
    pack_table,
    table_layout,
    unpack_csr,
    unpack_table,
    with_zeros,
    without_zeros,
    write_archive,
)
from .data import PROTOCOLS, Dataset
from .errors import ModelFileError, SettingsError
from .files import FilePath
from .machine import versions
from .model.step import ModelState
from .schema import COUNT, TEXT, Parameter
from .serving.compact import INT8
from .settings import PRESETS, Settings

#: Version 1 had row starts for assignments, column numbers of 32 bits, and always the whole fine codebook.
KIND, VERSION, OLDEST = "model", 2, 1
_MATRICES = ("S_coarse", "S_fine", "S_direct")
# Where a model comes from.
ABOUT = {
    "preset?": Parameter("", str, choices=tuple(PRESETS)),
    "protocol?": Parameter("", str, choices=PROTOCOLS),
    "data?": {"name?": TEXT, "fingerprint?": TEXT, "split?": TEXT},
    "versions?": {"*": TEXT},
    "epochs?": {"*": COUNT},
    "refit?": {"*": COUNT},
}
_FORM = {"settings": {}, "about?": ABOUT}
_IDS = {"user_ids": Array("text", ("U",)), "item_ids": Array("text", ("I",))}


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
        Where the model comes from: name and fingerprint of the data, protocol, preset, versions; and the epochs of its phases, as
        ``epochs``, or ``refit`` of a refitted model.
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
    arrays = pack_state("state", model.state, model.settings.threshold)
    arrays |= pack_entities(model.R, model.known, model.user_ids, model.item_ids)
    write_archive(path, KIND, VERSION, header, arrays)


def load_model(path: FilePath) -> StoredModel:
    """Read a model file.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, foreign, or its parts do not fit together.
    """
    with open_archive(path, KIND, VERSION, _FORM, oldest=OLDEST) as (header, members):
        settings = settings_of_file(header["settings"], path)
        has_fine = any(name.startswith("state.E_fine") for name in members)
        phase = "joint" if settings.training == "joint" else "fine" if has_fine else "coarse"
        layout, entities = entities_layout(members)
        own, sizes = state_layout("state", settings, phase, n="U+I"), state_sizes(settings, **entities)
        arrays = members.read_all(layout | own, sizes)
        if "state.E_fine.bitmap" in arrays:
            members.allow("the fine codebook", 8 * settings.n_fine * settings.dim)
        members.allow_table(sum(entities.values()), settings.dim)
    R, known, user_ids, item_ids = unpack_entities(arrays, path)
    state = unpack_state("state", arrays, settings, phase, sum(R.shape), path)
    return StoredModel(state, settings, R, user_ids, item_ids, header.get("about", {}), known)


def settings_of_file(values: dict[str, Any], path: FilePath) -> Settings:
    """The settings that a file holds, or ModelFileError."""
    try:
        return Settings.from_dict(values)
    except SettingsError as error:
        raise ModelFileError(f"{path}: its settings cannot be used: {error}") from None


def pack_entities(R: Any, known: Any, user_ids: np.ndarray, item_ids: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of what every model file holds: training interactions, others that are known, and ids."""
    arrays = pack_csr("interactions", R.astype(np.int8))
    if (held_out := others_known(R, known)).nnz:
        arrays |= pack_csr("held_out", held_out.astype(np.int8))
    return arrays | {"user_ids": np.asarray(user_ids, dtype=str), "item_ids": np.asarray(item_ids, dtype=str)}


def entities_layout(members: Members) -> tuple[dict[str, Array], dict[str, int]]:
    """The layout of :func:`pack_entities`, and its sizes; files older than ``held_out`` know the training interactions only."""
    shape = members.read_all({"interactions.shape": Array("int64", (2,), low=1)})["interactions.shape"]
    others = csr_layout("held_out", "U", "I", "others", "int8") if any(name.startswith("held_out") for name in members) else {}
    layout = _IDS | csr_layout("interactions", "U", "I", "entries", "int8") | others
    return layout, {"U": int(shape[0]), "I": int(shape[1])}


def unpack_entities(arrays: dict[str, np.ndarray], path: FilePath) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """What :func:`pack_entities` took apart: R, all that is known, ids of users and of items; or ModelFileError."""
    ids = {name: arrays[name] for name in _IDS}
    for name, each in ids.items():
        if len(np.unique(each)) < len(each):
            raise ModelFileError(f"{path}: {name} holds an id twice")
    parts = []
    for name in ("interactions", "held_out"):
        if f"{name}.data" in arrays:
            parts.append(unpack_csr(name, arrays, (len(ids["user_ids"]), len(ids["item_ids"])), path))
            if (parts[-1].data != 1).any():
                raise ModelFileError(f"{path}: {name}.data holds {parts[-1].data[parts[-1].data != 1][0]}, not only ones")
    R, *others = parts
    return R, sparse.csr_array((R != 0) + (others[0] != 0)) if others else R, *ids.values()


def others_known(R: sparse.csr_array, known: sparse.csr_array | None) -> sparse.csr_array:
    """The known interactions beside those of training, as a pattern."""
    return sparse.csr_array(R.shape, dtype=bool) if known is None else sparse.csr_array((known != 0) > (R != 0))


def where_from(data: Dataset) -> dict[str, Any]:
    """What a model file says of the data that the model has learnt from, and of the versions that it was made with."""
    about = {"name": data.name, "fingerprint": data.fingerprint(), "split": data.split}
    return {"data": about, "protocol": data.protocol, "versions": versions()}


def pack_state(name: str, state: ModelState, threshold: float | None = None) -> dict[str, np.ndarray]:
    """The arrays of a state, under names that begin with `name`; with the settings' threshold, of E_f only what is outside."""
    arrays: dict[str, np.ndarray] = {}
    for field, value in _present(state).items():
        where = f"{name}.{field}"
        if field in _MATRICES:
            arrays |= {f"{where}.data": value.data, f"{where}.indices": value.indices.astype(index_type(value.shape[1]))}
        elif field == "E_fine" and threshold is not None:
            tau = threshold if state.threshold is None else float(state.threshold[0])
            arrays |= pack_table(where, *without_zeros(np.where(np.abs(value) > tau, value, 0)))
        else:
            arrays[where] = value
    return arrays


def _links(settings: Settings, phase: str) -> dict[str, tuple[str, str, int]]:
    """Of each assignment that a state of a phase has: the symbols of its rows and columns, and the links in a row."""
    s, rows = settings, "N" if phase == "table" else "C"
    links = {"S_coarse": ("N", rows, 1 if phase == "table" else s.t_coarse)}
    if _has_fine(settings, phase):
        links |= {"S_fine": ("C", "M", s.t_fine)} if s.has_bridge else {}
        links |= {"S_direct": ("N", "M", s.t_direct)} if s.t_direct else {}
    return links


def _has_fine(settings: Settings, phase: str) -> bool:
    """Whether a state of a phase has a fine codebook."""
    return phase.startswith("fine") if settings.training == "stages" else phase != "table" and settings.has_fine_codebook


def state_sizes(settings: Settings, **more: int) -> dict[str, int]:
    """The sizes of a state that settings determine, by symbol."""
    return {"C": settings.n_coarse, "M": settings.n_fine, "d": settings.dim} | more


def state_layout(name: str, settings: Settings, phase: str, *, n: str = "N") -> dict[str, Array]:
    """The layout of a state of a phase as :func:`pack_state` stores it; `n` is the symbol of the number of entities."""
    symbol, dtype = {"N": n, "C": "C", "M": "M"}, settings.dtype
    # Older files of a model without a residual had one that nothing used: any number of rows.
    rows = n if phase == "table" else "C" if settings.has_coarse_codebook else f"{name}_rows".replace(".", "_")
    layout = {"E_coarse": Array(dtype, (rows, "d"))}
    layout |= {"bias": Array(dtype, (n,)), "bias_global": Array(dtype, (1,))}
    for field, (rows, columns, each) in _links(settings, phase).items():
        entries = "+".join(f"{part}*{each}" for part in symbol[rows].split("+"))
        layout |= csr_layout(field, symbol[rows], symbol[columns], entries, dtype)
        layout[f"{field}.indices"] = dataclasses.replace(layout[f"{field}.indices"], types="uint8 uint16 uint32 int32")
        for part in ("shape", "indptr"):  # only in older files
            layout[f"{field}.{part}"] = dataclasses.replace(layout[f"{field}.{part}"], optional=True)
    layout = {f"{name}.{field}": array for field, array in layout.items()}
    if _has_fine(settings, phase):
        layout |= table_layout(f"{name}.E_fine", dtype, "M", "d", settings.n_fine * settings.dim)
        layout |= {f"{name}.threshold": Array(dtype, (1,), low=0)} if settings.fine_density < 1 else {}
    return layout


def unpack_state(
    name: str, arrays: dict[str, np.ndarray], settings: Settings, phase: str, n_entities: int, path: FilePath
) -> ModelState:
    """The state that :func:`pack_state` took apart, from arrays that fit :func:`state_layout`."""
    sizes = state_sizes(settings, N=n_entities)
    parts: dict[str, Any] = {field: arrays.get(f"{name}.{field}") for field in ("E_coarse", "bias", "bias_global", "threshold")}
    if phase != "table" and not settings.has_coarse_codebook:
        parts["E_coarse"] = parts["E_coarse"][:0]
    if _has_fine(settings, phase):
        shape = settings.n_fine, settings.dim
        values, bitmap = unpack_table(f"{name}.E_fine", arrays, math.prod(shape), path)
        parts["E_fine"] = with_zeros(values, bitmap, shape)
    for field, (rows, columns, each) in _links(settings, phase).items():
        where, shape = f"{name}.{field}", (sizes[rows], sizes[columns])
        starts = {f"{where}.shape": np.array(shape), f"{where}.indptr": np.arange(0, shape[0] * each + 1, each)}
        columns_of = {f"{where}.indices": arrays[f"{where}.indices"].astype(np.int32)}
        parts[field] = unpack_csr(where, starts | arrays | columns_of, shape, path, each=each)
    return ModelState(**parts)


def _present(state: ModelState) -> dict[str, Any]:
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: part for name, part in parts.items() if part is not None}


def _is_table(state: ModelState) -> bool:
    """Whether entity e has row e and nothing else: such links are never stored as a model."""
    S = state.S_coarse
    return S.nnz == S.shape[0] == S.shape[1] and np.array_equal(S.indices, np.arange(S.nnz)) and bool(np.all(S.data == 1))


def size_in_bytes(state: ModelState, threshold: float = 0.0) -> dict[str, int]:
    """The memory that inference needs, part by part: exactly the bytes of the arrays in the model file.

    Parameters
    ----------
    state : ModelState
    threshold : float
        That of the settings, for a state that has none of its own.

    Returns
    -------
    dict of str to int
        "codebooks" (the fine one without what the threshold takes away, where that is smaller, and a threshold of its own),
        "assignment weights", "assignment indices" (a table, every entity a row of its own, has none), "biases", and their sum,
        "model".
    """
    stored = pack_state("state", state, threshold)
    if _is_table(state):
        stored = {name: array for name, array in stored.items() if not name.startswith("state.S_coarse")}

    def total(*ends: str) -> int:
        return sum(array.nbytes for name, array in stored.items() if name.endswith(ends))

    parts = {
        "codebooks": sum(array.nbytes for name, array in stored.items() if ".E_" in name) + total(".threshold"),
        "assignment weights": total(".data"),
        "assignment indices": total(".indices"),
        "biases": total(".bias", ".bias_global"),
    }
    return parts | {"model": sum(parts.values())}


def most_bytes(settings: Settings, phase: str, n_users: int, n_items: int, stored_as: str = "dtype") -> int:
    """The most that a state will take that is not made yet: in a model file, or exported with int8 throughout.

    A fine codebook counts as whole, or with the share of it that ``fine_density`` leaves; no more than that share ever has
    values, so that the other parts are exact.
    """
    s, n_entities, in_bytes = settings, n_users + n_items, stored_as == INT8
    rows = {"N": n_entities, "C": n_entities if phase == "table" else s.n_coarse, "M": s.n_fine}
    # An exported model has a scale for every row of a codebook and column of an assignment, and of the biases only the items'.
    number, scale = (1, 4) if in_bytes else (np.dtype(settings.dtype).itemsize, 0)
    total = 2 * n_items if in_bytes else number * (n_entities + 1)
    if phase == "table" or s.has_coarse_codebook:
        total += rows["C"] * (number * s.dim + scale)
    if phase != "table":
        for of, to, each in _links(s, phase).values():
            total += rows[of] * each * (number + index_type(rows[to]).itemsize) + rows[to] * scale
    if _has_fine(s, phase):
        n_places = s.n_fine * s.dim
        total += min(number * n_places, number * int(s.fine_density * n_places) + -(-n_places // 8)) + s.n_fine * scale
        total += 0 if in_bytes else number * (s.fine_density < 1)
    return total
