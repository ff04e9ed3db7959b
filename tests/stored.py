"""Archives taken apart for tests that put them together again with something wrong."""

import json

import numpy as np


def stored(path):
    """The header (without kind and version) and the arrays of an archive, unchecked."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").tobytes())
    return {name: value for name, value in header.items() if name not in ("kind", "version")}, arrays


def write(path, kind, version, header, arrays):
    """The other way round, whatever they hold; arrays that are None are left out."""
    text = json.dumps({"kind": kind, "version": version} | header)
    np.savez(path, header=np.frombuffer(text.encode(), np.uint8), **{name: a for name, a in arrays.items() if a is not None})
