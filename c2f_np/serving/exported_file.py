"""The parts of an exported model as the arrays of a file, and back again, checked.

    E_coarse, F                 dense, or .values and .bitmap if sparse (in version 2 .lengths, .indices and .values), as in model
                                files; .scale if int8
    S_coarse, S_fine, S_direct  .lengths (one number if all rows are equally long), .indices, .values; .scale if int8
    item_bias
    interactions                .lengths, .indices; may be left out
    held_out                    likewise, of what else is known; left out where there is nothing
    user_ids, item_ids          UTF-8 text, all ids one after the other, and .lengths in bytes; may be left out

The header names the assignments that the model has, so that one that got lost is not taken for one that never existed.

Shapes: see `c2f_np.serving.inference`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import numpy as np

from ..archive import (
    UNSIGNED,
    Array,
    open_archive,
    pack_table,
    rows_increase,
    table_layout,
    unpack_table,
    without_zeros,
    write_archive,
)
from ..errors import ModelFileError, SettingsError
from ..schema import TEXT, Parameter, parameters_of
from ..settings import Settings
from .compact import Codebook, Compact, smallest_unsigned
from .inference import Parts

KIND, VERSION, OLDEST = "exported model", 3, 2

SETTINGS = ("n_layers", "gate", "training", "composition", "layer_bridge", "degree", "dtype")
_SETTINGS = {name: parameters_of(Settings)[name] for name in SETTINGS}
_SIZES = {name: Parameter("", int, low=0 if name == "n_fine" else 1) for name in ("users", "items", "n_coarse", "n_fine", "dim")}
_KNOWN = ("interactions", "held_out")
_ASSIGNMENTS = ("S_coarse", "S_fine", "S_direct")
_FORM = {"sizes": _SIZES, "settings": _SETTINGS, "assignments": [TEXT], "about": {}}
_FLOATS = "float16 float32 float64"
_NUMBERS = f"int8 {_FLOATS}"


@dataclass(frozen=True)
class Exported:
    """What a file of an exported model holds."""

    parts: Parts
    R: Compact | None  # training interactions, shape (U, I)
    user_ids: np.ndarray | None
    item_ids: np.ndarray | None
    about: dict  # where the model comes from, and in what types it is stored
    held_out: Compact | None = None  # other known interactions, which are not propagated


def write(path, exported: Exported) -> None:
    """Write a file, aside and then renamed."""
    parts = exported.parts
    n, c, m = parts.sizes
    sizes = {"users": parts.n_users, "items": n - parts.n_users, "n_coarse": c, "n_fine": m, "dim": parts.dim}
    settings = {name: getattr(parts, name) for name in SETTINGS}
    assignments = [name for name in _ASSIGNMENTS if getattr(parts, name) is not None]
    arrays = _packed_codebook("E_coarse", parts.E_coarse) | {"item_bias": parts.item_bias}
    if parts.F is not None:
        arrays |= _packed_codebook("F", parts.F)
    for name in assignments:
        arrays |= _packed(name, getattr(parts, name))
    for name, places in zip(_KNOWN, (exported.R, exported.held_out), strict=True):
        if places is not None:
            arrays |= _packed(name, places)
    for name in ("user_ids", "item_ids"):
        if getattr(exported, name) is not None:
            texts = [text.encode("utf-8") for text in getattr(exported, name).tolist()]
            lengths = np.array([len(text) for text in texts], dtype=np.int64)
            arrays |= {name: np.frombuffer(b"".join(texts), dtype=np.uint8), f"{name}.lengths": smallest_unsigned(lengths)}
    header = {"sizes": sizes, "settings": settings, "assignments": assignments, "about": exported.about}
    write_archive(path, KIND, VERSION, header, arrays, compressed=True)


def require_replaceable(path) -> None:
    """Raise SettingsError if something is at this path that is no exported model."""
    if os.path.lexists(path):
        try:
            read(path)
        except ModelFileError as error:
            raise SettingsError(f"{path} is there and no exported model, so it is not replaced; choose another name") from error


def read(path) -> Exported:
    """Read a file, or raise ModelFileError if it is missing, damaged, foreign, of another version, or its parts do not fit."""
    with open_archive(path, KIND, VERSION, _FORM, oldest=OLDEST) as (header, members):
        users, items, c, m, dim = (int(header["sizes"][name]) for name in _SIZES)
        settings, assignments = header["settings"], header["assignments"]
        if assignments not in _possible_assignments(settings["training"], has_fine=m > 0):
            raise ModelFileError(f"{path}: header: assignments are {assignments}, which fits no model of this kind")
        shapes = dict(zip(_ASSIGNMENTS, ((users + items, c), (c, m), (users + items, m)), strict=True))
        shapes = {name: shapes[name] for name in assignments}
        sizes = {"U": users, "I": items, "N": users + items, "C": c, "M": m, "d": dim}
        # Joint training with g = 1: the coarse rows consist of fine rows alone.
        rows = 0 if settings["training"] == "joint" and settings["gate"] == 1 and m else c
        layout = _codebook_layout("E_coarse", rows, rows * dim) | {"item_bias": Array(_FLOATS, ("I",))}
        layout |= _codebook_layout("F", "M", m * dim) if m else {}
        for name, from_, to in (("S_coarse", "N", "C"), ("S_fine", "C", "M"), ("S_direct", "N", "M")):
            layout |= _matrix_layout(name, from_, to, to) if name in assignments else {}
        for name in _KNOWN:
            layout |= _places_layout(name, "U", "I") if f"{name}.lengths" in members else {}
        for name, n in (("user_ids", "U"), ("item_ids", "I")):
            layout |= _ids_layout(name, n) if name in members else {}
        arrays = members.read_all(layout, sizes)
        # A sparse codebook without entries is as good as none in the file, but not in memory.
        members.allow("the codebooks", 8 * (c + m) * dim)
        members.allow_table(users + items, dim)
    try:
        parts = Parts(
            _codebook("E_coarse", arrays, (rows, dim), path),
            _codebook("F", arrays, (m, dim), path) if m else None,
            *(_assignment(name, arrays, shapes[name]) if name in shapes else None for name in _ASSIGNMENTS),
            arrays["item_bias"],
            users,
            **{name: form.checked(settings[name]) for name, form in _SETTINGS.items()},
        )
        R, held_out = (
            _places(name, arrays, (users, items)) if f"{name}.lengths" in arrays else None for name in _KNOWN
        )
        ids = [_ids(name, arrays, n) if name in arrays else None for name, n in (("user_ids", users), ("item_ids", items))]
    except KeyError as error:
        raise ModelFileError(f"{path}: {error.args[0]} is missing") from None
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return Exported(parts, R, *ids, header["about"], held_out)


def _places_layout(name: str, rows: int | str, columns: str, *, optional: bool = False) -> dict[str, Array]:
    lengths = Array(UNSIGNED, (rows,), or_number=True, optional=optional)
    return {f"{name}.lengths": lengths, f"{name}.indices": Array(UNSIGNED, (f"{name}_size",), below=columns, optional=optional)}


def _matrix_layout(name: str, rows: int | str, columns: str, scales: int | str, *, optional: bool = False) -> dict[str, Array]:
    """Of a sparse matrix; `scales` is the symbol of the number of scales."""
    layout = _places_layout(name, rows, columns, optional=optional)
    layout[f"{name}.values"] = Array(_NUMBERS, (f"{name}_size",), optional=optional)
    return layout | {f"{name}.scale": Array("float32", (scales,), optional=True)}


def _codebook_layout(name: str, rows: int | str, n_places: int) -> dict[str, Array]:
    older = _matrix_layout(name, rows, "d", rows, optional=True)
    return older | table_layout(name, _NUMBERS, rows, "d", n_places)


def _ids_layout(name: str, n: str) -> dict[str, Array]:
    return {name: Array("uint8", (f"{name}_size",)), f"{name}.lengths": Array(UNSIGNED, (n,))}


def _possible_assignments(training: str, *, has_fine: bool) -> list[list[str]]:
    """Which assignments a model can have."""
    if not has_fine:
        return [["S_coarse"]]
    if training == "stages":
        return [["S_coarse", "S_fine"]]
    return [["S_coarse", "S_fine"], ["S_coarse", "S_direct"], ["S_coarse", "S_fine", "S_direct"]]


def _packed(name: str, matrix: Compact) -> dict[str, np.ndarray]:
    lengths = np.array(matrix.starts) if isinstance(matrix.starts, int) else matrix.lengths()
    packed = {f"{name}.lengths": smallest_unsigned(lengths), f"{name}.indices": matrix.indices}
    extra = {f"{name}.values": matrix.values, f"{name}.scale": matrix.scale}
    return packed | {key: value for key, value in extra.items() if value is not None}


def _packed_codebook(name: str, book: Codebook) -> dict[str, np.ndarray]:
    packed = pack_table(name, book.values, book.bitmap)
    return packed if book.scale is None else packed | {f"{name}.scale": book.scale}


def _places(name: str, arrays: dict, shape: tuple[int, int]) -> Compact:
    """A matrix without its numbers."""
    lengths, indices = arrays[f"{name}.lengths"], arrays[f"{name}.indices"]
    bounds = _bounds(f"{name}.lengths", lengths, len(indices), shape[0])
    _require(rows_increase(indices, bounds), f"{name}.indices has a row that is not in order, or holds a column twice")
    return Compact(smallest_unsigned(bounds) if lengths.ndim else int(lengths), indices, None, None, shape)


def _assignment(name: str, arrays: dict, shape: tuple[int, int]) -> Compact:
    """An assignment: as many links in every row, at least one."""
    lengths = arrays[f"{name}.lengths"]
    _require(lengths.ndim == 0 and lengths > 0, f"{name}.lengths is not one number of links, the same for every row")
    values = arrays[f"{name}.values"]
    return replace(_places(name, arrays, shape), values=values, scale=_scale(name, values, arrays))


def _codebook(name: str, arrays: dict, shape: tuple[int, int], path) -> Codebook:
    if f"{name}.lengths" in arrays:
        whole = replace(_places(name, arrays, shape), values=arrays[f"{name}.values"])
        values, bitmap = without_zeros(whole.dense(whole.values.dtype))
    else:
        values, bitmap = unpack_table(name, arrays, math.prod(shape), path)
    return Codebook(values, bitmap, _scale(name, values, arrays), shape)


def _scale(name: str, values: np.ndarray, arrays: dict) -> np.ndarray | None:
    """The scale of numbers that are int8."""
    return arrays[f"{name}.scale"] if values.dtype == np.int8 else None


def _ids(name: str, arrays: dict, n: int) -> np.ndarray:
    text, bounds = arrays[name], _bounds(f"{name}.lengths", arrays[f"{name}.lengths"], len(arrays[name]), n)
    ids = np.array([piece.tobytes().decode("utf-8") for piece in np.split(text, bounds[1:-1])], dtype=str)
    _require(len(np.unique(ids)) == len(ids), f"{name} holds an id twice")
    return ids


def _bounds(name: str, lengths: np.ndarray, size: int, n: int) -> np.ndarray:
    """Where n pieces of these lengths (or of this one) begin and end, of which there must be `size` in all."""
    # One by one first: a sum of large numbers may wrap around to the right one.
    _require(lengths.max(initial=0) <= size, f"{name} holds {lengths.max(initial=0)}, with {size} entries in all")
    total = int(lengths.sum(dtype=np.int64)) if lengths.ndim else n * int(lengths)
    _require(total == size, f"{name} makes {total} entries, there are {size}")
    return np.concatenate([[0], np.cumsum(np.broadcast_to(lengths, n), dtype=np.int64)])


def _require(fits, otherwise: str) -> None:
    if not fits:
        raise ValueError(otherwise)
