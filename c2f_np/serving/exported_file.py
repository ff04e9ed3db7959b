"""The parts of an exported model as the arrays of a file, and back again, checked.

    E_coarse, F                 dense, or .lengths, .indices and .values if sparse; .scale if int8
    S_coarse, S_fine, S_direct  .lengths (one number if all rows are equally long), .indices, .values; .scale if int8
    item_bias
    interactions                .lengths, .indices; may be left out
    user_ids, item_ids          UTF-8 text, all ids one after the other, and .lengths in bytes; may be left out

The header names the assignments that the model has, so that one that got lost is not taken for one that never existed.

Shapes: see `c2f_np.serving.inference`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import numpy as np

from ..archive import read_archive, write_archive
from ..errors import ModelFileError, SettingsError
from .compact import Codebook, Compact, smallest_unsigned
from .inference import Parts

KIND, VERSION = "exported model", 2

_CHOICES = {
    "training": ("stages", "joint"),
    "composition": ("coarse", "bridged"),
    "layer_bridge": ("raw", "exchange"),
    "degree": ("signed", "absolute"),
    "dtype": ("float32", "float64"),
}
SETTINGS = ("n_layers", "gate", *_CHOICES)
_ASSIGNMENTS = ("S_coarse", "S_fine", "S_direct")


@dataclass(frozen=True)
class Exported:
    """What a file of an exported model holds."""

    parts: Parts
    R: Compact | None  # training interactions, shape (U, I)
    user_ids: np.ndarray | None
    item_ids: np.ndarray | None
    about: dict  # where the model comes from, and in what types it is stored


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
    if exported.R is not None:
        arrays |= _packed("interactions", exported.R)
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
    header, arrays = read_archive(path, KIND, VERSION)
    try:
        return _exported(header, arrays)
    except KeyError as error:
        raise ModelFileError(f"{path}: damaged, {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{path}: damaged, {error}") from error


def _exported(header: dict, arrays: dict[str, np.ndarray]) -> Exported:
    settings, about = {name: header["settings"][name] for name in SETTINGS}, header["about"]
    for name, known in _CHOICES.items():
        _require(settings[name] in known, f"its {name} is {settings[name]!r}")
    _require(_is_count(settings["n_layers"]), f"its n_layers is {settings['n_layers']!r}")
    gate = settings["gate"]
    _require(isinstance(gate, float) and math.isfinite(gate), f"its gate is {gate!r}")
    users, items, c, m, dim = (header["sizes"][name] for name in ("users", "items", "n_coarse", "n_fine", "dim"))
    _require(all(map(_is_count, (users, items, c, m, dim))), "its sizes are not whole numbers")
    _require(isinstance(about, dict), "its about is not a JSON object")
    assignments = header["assignments"]
    _require(assignments in _possible_assignments(settings["training"], has_fine=m > 0), f"its assignments are {assignments!r}")
    shapes = dict(zip(_ASSIGNMENTS, ((users + items, c), (c, m), (users + items, m)), strict=True))
    read = {name: _matrix(name, arrays, shapes[name]) for name in assignments}
    parts = Parts(
        _codebook("E_coarse", arrays, (c, dim)),
        _codebook("F", arrays, (m, dim)) if m else None,
        *map(read.get, _ASSIGNMENTS),
        _floats("item_bias", arrays["item_bias"], (items,)),
        users,
        **settings,
    )
    R = _places("interactions", arrays, (users, items)) if "interactions.lengths" in arrays else None
    ids = [_ids(name, arrays, n) if name in arrays else None for name, n in (("user_ids", users), ("item_ids", items))]
    return Exported(parts, R, *ids, about)


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
    packed = _packed(name, book.stored) if isinstance(book.stored, Compact) else {name: book.stored}
    return packed if book.scale is None else packed | {f"{name}.scale": book.scale}


def _places(name: str, arrays: dict, shape: tuple[int, int]) -> Compact:
    """A matrix without its numbers."""
    lengths, indices = arrays[f"{name}.lengths"], arrays[f"{name}.indices"]
    _require(lengths.dtype.kind == "u" and indices.dtype.kind == "u", f"{name} has lengths or indices that are not whole numbers")
    _require(lengths.shape in ((), (shape[0],)) and indices.ndim == 1, f"{name} does not have {shape[0]} rows")
    if lengths.ndim == 0:
        starts = int(lengths)
        size = starts * shape[0]
    else:
        ends = np.cumsum(lengths, dtype=np.int64)
        starts, size = smallest_unsigned(np.concatenate([[0], ends])), int(ends[-1]) if len(ends) else 0
    _require(len(indices) == size, f"{name} has {len(indices)} entries instead of {size}")
    _require(not size or indices.max() < shape[1], f"{name} has an entry beyond its {shape[1]} columns")
    return Compact(starts, indices, None, None, shape)


def _matrix(name: str, arrays: dict, shape: tuple[int, int]) -> Compact:
    places = _places(name, arrays, shape)
    values, scale = _numbers(name, ".values", arrays, places.indices.shape, shape[1])
    return replace(places, values=values, scale=scale)


def _codebook(name: str, arrays: dict, shape: tuple[int, int]) -> Codebook:
    if f"{name}.lengths" not in arrays:
        return Codebook(*_numbers(name, "", arrays, shape, shape[0]))
    places = _places(name, arrays, shape)
    values, scale = _numbers(name, ".values", arrays, places.indices.shape, shape[0])
    return Codebook(replace(places, values=values), scale)


def _numbers(name: str, suffix: str, arrays: dict, shape: tuple, n_scales: int):
    """Numbers and, if they are int8, their scale."""
    values = arrays[name + suffix]
    if values.dtype != np.int8:
        return _floats(name, values, shape), None
    _require(values.shape == shape, f"{name} has shape {values.shape} instead of {shape}")
    return values, _floats(f"{name}.scale", arrays[f"{name}.scale"], (n_scales,))


def _floats(name: str, values: np.ndarray, shape: tuple) -> np.ndarray:
    _require(values.shape == shape, f"{name} has shape {values.shape} instead of {shape}")
    _require(values.dtype.kind == "f" and np.isfinite(values).all(), f"{name} does not hold finite numbers")
    return values


def _ids(name: str, arrays: dict, n: int) -> np.ndarray:
    text, lengths = arrays[name], arrays[f"{name}.lengths"]
    _require(text.dtype == np.uint8 and text.ndim == 1 and lengths.dtype.kind == "u", f"{name} are not text")
    ends = np.cumsum(lengths, dtype=np.int64)
    _require(lengths.shape == (n,) and len(text) == (ends[-1] if n else 0), f"{name} are not {n} texts")
    pieces = np.split(text, ends[:-1])[:n]
    return np.array([piece.tobytes().decode("utf-8") for piece in pieces], dtype=str)


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _require(fits, otherwise: str) -> None:
    if not fits:
        raise ValueError(otherwise)
