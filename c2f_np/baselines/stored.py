"""Trained arrays as a model keeps them: as they were trained, or with a byte for each of their numbers.

    int8:   number = stored * scale,   stored in -127..127,   one scale for each column, in float32;   item biases in float16

What is rounded is not trained further. The width of a table costs four bytes, the scale, and an entity's row as many as it has
columns; with a scale for each row, narrow tables would spend a good part of their bytes on scales.

Shapes
------
a table of parameters : (n, d), whose scale is (d,)     item_bias : (I,)     codes : (N, m), which are bytes in any case
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..archive import Array
from ..schema import described
from ..serving.compact import INT8, STORED_AS, quantise

#: Bytes of a column's scale, and of an item's bias, with int8.
SCALE_BYTES, BIAS_BYTES = 4, 2

Parameters = dict[str, np.ndarray]


def storage() -> Any:
    """The parameter of a model that says how it keeps its numbers."""
    return described("dtype", "numbers as they were trained, or a byte for each", choices=STORED_AS)


def in_bytes(parameters: Parameters) -> Parameters:
    """What is kept with int8 of trained arrays; SettingsError if an item's bias is too large for float16."""
    stored = {}
    for name, values in parameters.items():
        if name == "item_bias":
            stored[name], _ = quantise(values, "float16", np.zeros(0, int), 0, "the item biases")
        elif values.dtype.kind == "f":
            n, d = values.shape
            numbers, stored[_scale_of(name)] = quantise(values.ravel(), INT8, np.tile(np.arange(d), n), d, name)
            stored[name] = numbers.reshape(n, d)
        else:
            stored[name] = values
    return stored


def in_numbers(stored: Parameters, dtype: Any) -> Parameters:
    """The arrays that a model computes with, of those that it keeps in either way; floats are of the type `dtype`."""
    numbers = {}
    for name, values in stored.items():
        if (scale := stored.get(_scale_of(name))) is not None:
            numbers[name] = values.astype(dtype) * scale.astype(dtype)
        elif not name.endswith(_scale_of("")):
            numbers[name] = values.astype(dtype, copy=False) if values.dtype.kind == "f" else values
    return numbers


def layout_in_bytes(layout: dict[str, Array]) -> dict[str, Array]:
    """The layout of :func:`in_bytes`, from that of the trained arrays."""
    stored = {}
    for name, array in layout.items():
        if name == "item_bias":
            stored[name] = Array("float16", array.shape)
        elif array.types.startswith("float"):
            stored |= {name: Array(INT8, array.shape, low=-127), _scale_of(name): Array("float32", array.shape[1:])}
        else:
            stored[name] = array
    return stored


def _scale_of(name: str) -> str:
    return f"{name}.scale"
