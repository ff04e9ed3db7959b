"""The parts of an exported model as the arrays of a file, and back again, checked.

    E_coarse, F                 dense, or .lengths, .indices and .values if sparse; .scale if int8
    S_coarse, S_fine, S_direct  .lengths (one number if all rows are as long), .indices, .values; .scale if int8
    item_bias
    interactions                .lengths, .indices; may be left out
    user_ids, item_ids          UTF-8 text, all ids one after the other, and .lengths in bytes; may be left out

The header names the assignments that the model has, so that one that got lost is not taken for one that never was.

Shapes: see `c2f_np.serving.propagation`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..archive import read_archive, write_archive
from ..errors import ModelFileError
from .codebook import Codebook
from .compact import Compact, smallest_unsigned
from .propagation import Parts

KIND, VERSION = "exported model", 2

_SETTINGS = {
    "training": ("stages", "joint"),
    "composition": ("coarse", "bridged"),
    "layer_bridge": ("raw", "exchange"),
    "degree": ("signed", "absolute"),
    "dtype": ("float32", "float64"),
}


@dataclass(frozen=True)
class Exported:
    """What a file of an exported model holds.

    Attributes
    ----------
    parts : Parts
    R : Compact, shape (U, I), or None
        Training interactions.
    user_ids, item_ids : ndarray of str, or None
    about : dict
        Where the model comes from, and in what types it is kept.
    """

    parts: Parts
    R: Compact | None
    user_ids: np.ndarray | None
    item_ids: np.ndarray | None
    about: dict


def write(path, exported: Exported) -> None:
    """Write a file, aside and then renamed.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    parts = exported.parts
    n, c, m = parts.sizes
    sizes = {"users": parts.n_users, "items": n - parts.n_users, "n_coarse": c, "n_fine": m, "dim": parts.dim}
    settings = {name: getattr(parts, name) for name in ("n_layers", "gate", *_SETTINGS)}
    assignments = [name for name in ("S_coarse", "S_fine", "S_direct") if getattr(parts, name) is not None]
    arrays = _packed_codebook("E_coarse", parts.E_coarse) | {"item_bias": parts.item_bias}
    if parts.F is not None:
        arrays |= _packed_codebook("F", parts.F)
    for name in assignments:
        arrays |= _packed(name, getattr(parts, name))
    if exported.R is not None:
        arrays |= _packed("interactions", exported.R)
    for name in ("user_ids", "item_ids"):
        if getattr(exported, name) is not None:
            arrays |= _packed_ids(name, getattr(exported, name))
    header = {"sizes": sizes, "settings": settings, "assignments": assignments, "about": exported.about}
    write_archive(path, KIND, VERSION, header, arrays, compressed=True)


def read(path) -> Exported:
    """Read a file.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, foreign, of another version, or its parts do not fit together.
    """
    header, arrays = read_archive(path, KIND, VERSION)
    try:
        return _exported(header, arrays)
    except KeyError as error:
        raise ModelFileError(f"{path}: damaged, {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{path}: damaged, {error}") from error


def _exported(header: dict, arrays: dict[str, np.ndarray]) -> Exported:
    settings, about = header["settings"], header["about"]
    for name, known in _SETTINGS.items():
        _require(settings[name] in known, f"its {name} is {settings[name]!r}")
    _require(_is_count(settings["n_layers"]), f"its n_layers is {settings['n_layers']!r}")
    gate = settings["gate"]
    _require(isinstance(gate, float) and math.isfinite(gate), f"its gate is {gate!r}")
    users, items, c, m, dim = (header["sizes"][name] for name in ("users", "items", "n_coarse", "n_fine", "dim"))
    _require(all(map(_is_count, (users, items, c, m, dim))), "its sizes are not whole numbers")
    _require(isinstance(about, dict), "what it says about itself is not a JSON object")
    assignments = header["assignments"]
    known = _possible_assignments(settings["training"], has_fine=m > 0)
    _require(assignments in known, f"its assignments are {assignments!r}")
    shapes = {"S_coarse": (users + items, c), "S_fine": (c, m), "S_direct": (users + items, m)}
    read = {name: _matrix(name, arrays, shapes[name], numbers=True) for name in assignments}
    bias = _floats("item_bias", arrays["item_bias"], (items,))
    parts = Parts(
        _codebook("E_coarse", arrays, (c, dim)),
        _codebook("F", arrays, (m, dim)) if m else None,
        *(read.get(name) for name in shapes),
        bias,
        users,
        **{name: settings[name] for name in ("n_layers", "gate", *_SETTINGS)},
    )
    R = _matrix("interactions", arrays, (users, items), numbers=False) if "interactions.lengths" in arrays else None
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
    whole = isinstance(matrix.starts, int)
    lengths = np.array(matrix.starts) if whole else matrix.lengths()
    packed = {f"{name}.lengths": smallest_unsigned(lengths), f"{name}.indices": matrix.indices}
    extra = {f"{name}.values": matrix.values, f"{name}.scale": matrix.scale}
    return packed | {key: value for key, value in extra.items() if value is not None}


def _matrix(name: str, arrays: dict, shape: tuple[int, int], *, numbers: bool) -> Compact:
    lengths, indices = arrays[f"{name}.lengths"], arrays[f"{name}.indices"]
    _require(lengths.dtype.kind == "u" and indices.dtype.kind == "u", f"{name} has places that are not whole numbers")
    _require(lengths.shape in ((), (shape[0],)) and indices.ndim == 1, f"{name} does not have {shape[0]} rows")
    starts = int(lengths) if lengths.ndim == 0 else np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    size = starts * shape[0] if lengths.ndim == 0 else int(starts[-1])
    _require(len(indices) == size, f"{name} has {len(indices)} entries instead of {size}")
    _require(not size or indices.max() < shape[1], f"{name} has an entry beyond its {shape[1]} columns")
    starts = starts if lengths.ndim == 0 else smallest_unsigned(starts)
    if not numbers:
        return Compact(starts, indices, None, None, shape)
    values, scale = _numbers(name, arrays[f"{name}.values"], (size,), arrays, shape[1])
    return Compact(starts, indices, values, scale, shape)


def _packed_codebook(name: str, book: Codebook) -> dict[str, np.ndarray]:
    packed = _packed(name, book.stored) if isinstance(book.stored, Compact) else {name: book.stored}
    return packed if book.scale is None else packed | {f"{name}.scale": book.scale}


def _codebook(name: str, arrays: dict, shape: tuple[int, int]) -> Codebook:
    if f"{name}.lengths" not in arrays:
        return Codebook(*_numbers(name, arrays[name], shape, arrays, shape[0]))
    places = _matrix(name, arrays, shape, numbers=False)
    values, scale = _numbers(name, arrays[f"{name}.values"], places.indices.shape, arrays, shape[0])
    return Codebook(Compact(places.starts, places.indices, values, None, shape), scale)


def _numbers(name: str, values: np.ndarray, shape: tuple, arrays: dict, n_scales: int):
    """Numbers and, if they are int8, their scale."""
    if values.dtype != np.int8:
        return _floats(name, values, shape), None
    _require(values.shape == shape, f"{name} has shape {values.shape} instead of {shape}")
    return values, _floats(f"{name}.scale", arrays[f"{name}.scale"], (n_scales,))


def _floats(name: str, values: np.ndarray, shape: tuple) -> np.ndarray:
    _require(values.shape == shape, f"{name} has shape {values.shape} instead of {shape}")
    _require(values.dtype.kind == "f" and np.isfinite(values).all(), f"{name} does not hold finite numbers")
    return values


def _packed_ids(name: str, ids: np.ndarray) -> dict[str, np.ndarray]:
    coded = [text.encode("utf-8") for text in ids.tolist()]
    lengths = np.array([len(text) for text in coded], dtype=np.int64)
    return {name: np.frombuffer(b"".join(coded), dtype=np.uint8), f"{name}.lengths": smallest_unsigned(lengths)}


def _ids(name: str, arrays: dict, n: int) -> np.ndarray:
    text, lengths = arrays[name], arrays[f"{name}.lengths"]
    _require(text.dtype == np.uint8 and text.ndim == 1 and lengths.dtype.kind == "u", f"{name} are not text")
    ends = np.cumsum(lengths, dtype=np.int64)
    fits = lengths.shape == (n,) and len(text) == (ends[-1] if n else 0)
    _require(fits, f"{name} are not {n} texts")
    whole = text.tobytes()
    texts = [whole[end - length : end].decode("utf-8") for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    return np.array(texts, dtype=str)


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _require(fits, otherwise: str) -> None:
    if not fits:
        raise ValueError(otherwise)
