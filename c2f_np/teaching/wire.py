"""Messages between the marking process and a student's: numbers, text and arrays as bytes, nothing that is executed on arrival.

A message is its length, the length of a header, the header (JSON) and the bytes of the arrays. What arrives is checked before
any memory is taken for it: the sender may be hostile. Functions stay where they are; what is sent of them is a number.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import scipy.sparse as sparse

#: The longest message, in bytes.
LONGEST = 64 * 2**20
_KINDS = "biufc"


class WireError(Exception):
    """What arrived is no message."""


class Unknown:
    """Stands for a value that cannot be sent; its class has the name of the value's."""


def unknown(name: str) -> object:
    """A value of an unknown type of that name."""
    return type(name if name.isidentifier() else "object", (Unknown,), {})()


class Here:
    """What this side has sent of what stays here, and what it makes of what stays on the other side.

    Attributes
    ----------
    things : list
        What was sent as a number: functions and, if `sends_objects`, objects of any other type.
    records : dict
        The dataclasses and named tuples that were sent, by their names. They are sent as they are.
    """

    def __init__(self, sends_objects: bool = False):
        self.things: list = []
        self.records: dict[str, type] = {}
        self.sends_objects = sends_objects

    def function(self, number: int) -> object:
        """A function of the other side."""
        return unknown("function")

    def thing(self, number: int) -> object:
        """An object of the other side."""
        return unknown("object")

    def record(self, name: str, values: dict) -> object:
        """A dataclass or a named tuple."""
        return self.records[name](**values)

    def number(self, thing) -> int:
        self.things.append(thing)
        return len(self.things) - 1


def send(stream: BinaryIO, message: dict, here: Here | None = None) -> None:
    """Write a message; what it holds that stays here is noted in `here`."""
    arrays: list[np.ndarray] = []
    header = json.dumps(_encoded(message, arrays, here)).encode()
    body = b"".join(array.tobytes() for array in arrays)
    if len(header) + len(body) > LONGEST:
        raise WireError(f"a result of more than {LONGEST // 2**20} MB")
    stream.write(len(header).to_bytes(8, "big") + len(body).to_bytes(8, "big") + header + body)
    stream.flush()


def bytes_of(value) -> bytes:
    """What would be sent for a value, to see whether it changes."""
    stream = io.BytesIO()
    with suppress(WireError):
        send(stream, {"value": value}, Here())
    return stream.getvalue()


def performed(function: Callable, arguments: list, named: dict | None = None) -> dict:
    """What a function returns, and the arguments that it changes."""
    before = [bytes_of(value) for value in arguments]
    result = function(*arguments, **(named or {}))
    changed = {number: value for number, value in enumerate(arguments) if bytes_of(value) != before[number]}
    return {"result": result, "changed": changed}


def keep_changes(arguments: list | tuple, changed) -> None:
    """Change our arguments as the other side's function changed its own."""
    for number, value in changed.items() if isinstance(changed, dict) else ():
        if not (type(number) is int and 0 <= number < len(arguments)):
            continue
        mine = arguments[number]
        if isinstance(mine, np.random.Generator) and isinstance(value, np.random.Generator):
            mine.bit_generator.state = value.bit_generator.state
            continue
        pairs = [(mine, value)]
        if sparse.issparse(mine) and sparse.issparse(value):
            pairs = [(getattr(mine, part), getattr(value, part)) for part in ("data", "indices", "indptr")]
        for a, b in pairs:
            if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.flags.writeable:
                a[...] = b.astype(a.dtype)


def receive(stream: BinaryIO, here: Here | None = None) -> dict:
    """Read a message; `here` makes something of what stays on the other side. EOFError at the end of the stream."""
    start = stream.read(16)
    if len(start) < 16:
        raise EOFError
    sizes = int.from_bytes(start[:8], "big"), int.from_bytes(start[8:], "big")
    if sum(sizes) > LONGEST:
        raise WireError(f"a message of more than {LONGEST // 2**20} MB")
    header, body = stream.read(sizes[0]), stream.read(sizes[1])
    if (len(header), len(body)) != sizes:
        raise EOFError
    try:
        message = _decoded(json.loads(header), memoryview(body), here or Here())
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise WireError("no message") from error
    if not isinstance(message, dict):
        raise WireError("no message")
    return message


def _encoded(value, arrays: list, here: Here | None):
    def each(parts):
        return [_encoded(part, arrays, here) for part in parts]

    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        # Neither the order of bytes nor that of the entries is part of a value.
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        arrays.append(value)
        return {"array": [value.dtype.str, list(value.shape), sum(a.nbytes for a in arrays[:-1]), bool(value.flags.writeable)]}
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        return {"scalar": _encoded(np.asarray(value), arrays, here)}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, complex):
        return {"complex": each([value.real, value.imag])}
    if sparse.issparse(value):
        rows = sparse.csr_array(value)
        return {"csr": each([rows.data, rows.indices, rows.indptr, list(rows.shape)])}
    if isinstance(value, np.random.Generator) and isinstance(value.bit_generator, np.random.PCG64):
        return {"generator": value.bit_generator.state}
    if here is not None and (names := _fields(value)) is not None:
        here.records[type(value).__name__] = type(value)
        return {"record": [type(value).__name__, names, each(getattr(value, name) for name in names)]}
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": each(value)}
    if isinstance(value, dict):
        return {"dict": [each(pair) for pair in value.items()]}
    if here is not None and callable(value):
        return {"function": here.number(value)}
    if here is not None and here.sends_objects:
        return {"object": here.number(value)}
    return {"unknown": type(value).__name__[:80]}


def _fields(value) -> list[str] | None:
    """The names of what a dataclass or a named tuple holds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [each.name for each in dataclasses.fields(value)]
    return list(value._fields) if isinstance(value, tuple) and hasattr(value, "_fields") else None


def _decoded(value, body: memoryview, here: Here):
    def each(parts):
        return [_decoded(part, body, here) for part in parts]

    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError
        return value
    ((kind, content),) = value.items()
    match kind:
        case "array":
            name, shape, offset, writeable = content
            dtype = np.dtype(name)
            if dtype.kind not in _KINDS or dtype.names or not all(type(n) is int and n >= 0 for n in (*shape, offset)):
                raise ValueError
            size = math.prod(shape)
            if dtype.itemsize == 0 or len(shape) > 32 or offset + size * dtype.itemsize > len(body):
                raise ValueError
            array = np.frombuffer(body, dtype, size, offset).reshape(shape).copy() if size else np.zeros(shape, dtype)
            array.flags.writeable = bool(writeable)
            return array
        case "scalar":
            return _decoded(content, body, here)[()]
        case "float":
            return float.fromhex(content)
        case "complex":
            return complex(*each(content))
        case "csr":
            data, indices, indptr, shape = each(content)
            if math.prod(shape := tuple(shape)) > LONGEST // 8:
                raise ValueError
            # The constructor alone would let indices through that point outside of the arrays.
            matrix = sparse.csr_array((data, indices, indptr), shape=shape)
            matrix.check_format(full_check=True)
            return matrix
        case "tuple":
            return tuple(each(content))
        case "list":
            return each(content)
        case "dict":
            return {key: part for key, part in map(each, content)}
        case "generator":
            rng = np.random.Generator(np.random.PCG64(0))
            rng.bit_generator.state = content
            return rng
        case "record":
            name, names, values = content
            return here.record(name, dict(zip(names, each(values), strict=True)))
        case "function":
            return here.function(content)
        case "object":
            return here.thing(content)
        case "unknown":
            return unknown(str(content))
    raise ValueError
