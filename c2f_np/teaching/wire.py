"""Messages between the marking process and a student's: numbers, text and arrays as bytes, nothing that is executed on arrival.

A message is its length, the length of a header, the header (JSON) and the bytes of the arrays. What arrives is checked before
any memory is taken for it: the sender may be hostile.
"""

from __future__ import annotations

import json
import math
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


def send(stream: BinaryIO, message: dict, functions: list | None = None) -> None:
    """Write a message; functions in it are appended to `functions` and sent as numbers."""
    arrays: list[np.ndarray] = []
    header = json.dumps(_encoded(message, arrays, functions)).encode()
    body = b"".join(array.tobytes() for array in arrays)
    if len(header) + len(body) > LONGEST:
        raise WireError(f"a result of more than {LONGEST // 2**20} MB")
    stream.write(len(header).to_bytes(8, "big") + len(body).to_bytes(8, "big") + header + body)
    stream.flush()


def receive(stream: BinaryIO, function=None) -> dict:
    """Read a message; ``function(number)`` stands for a function in it. EOFError at the end of the stream."""
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
        message = _decoded(json.loads(header), memoryview(body), function)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise WireError("no message") from error
    if not isinstance(message, dict):
        raise WireError("no message")
    return message


def _encoded(value, arrays: list, functions: list | None):
    def each(parts):
        return [_encoded(part, arrays, functions) for part in parts]

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
        return {"scalar": _encoded(np.asarray(value), arrays, functions)}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, complex):
        return {"complex": each([value.real, value.imag])}
    if sparse.issparse(value):
        rows = sparse.csr_array(value)
        return {"csr": each([rows.data, rows.indices, rows.indptr, list(rows.shape)])}
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": each(value)}
    if isinstance(value, dict):
        return {"dict": [each(pair) for pair in value.items()]}
    if callable(value) and functions is not None:
        functions.append(value)
        return {"function": len(functions) - 1}
    return {"unknown": type(value).__name__[:80]}


def _decoded(value, body: memoryview, function):
    def each(parts):
        return [_decoded(part, body, function) for part in parts]

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
            return _decoded(content, body, function)[()]
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
        case "function":
            return function(content)
        case "unknown":
            return unknown(str(content))
    raise ValueError
