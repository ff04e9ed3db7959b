"""Archives taken apart for tests that put them together again with something wrong."""

import json

import numpy as np


def stored(path):
    """The header (without kind and version) and the arrays of an archive, unchecked."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").tobytes())
    return {name: value for name, value in header.items() if name not in ("kind", "version")}, arrays
