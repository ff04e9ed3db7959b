"""Studies that are more than a table of runs. A study file with ``kind = "..."`` is carried out by one of these functions."""

from __future__ import annotations

import importlib
from collections.abc import Callable

#: Kind to "module:function". The function takes (study, data sets by name, folder, options) and returns the text of the report.
KINDS: dict[str, str] = {
    "planted-structure": "c2f_np.studies.planted_structure:run",
    "protocol": "c2f_np.studies.protocol:run",
}


def function_of(kind: str) -> Callable:
    """The function that carries out a kind of study; its module is only imported here."""
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name)
