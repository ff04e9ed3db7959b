"""Studies that are more than a table of runs. A study file with ``kind = "..."`` is carried out by one of these functions."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ..settings import PRESETS, settings_from_preset

#: Kind to "module:function". The function takes (study, data sets by name, folder, options) and returns the text of the report.
KINDS: dict[str, str] = {
    "planted-structure": "c2f_np.studies.planted_structure:run",
    "protocol": "c2f_np.studies.protocol:run",
}


#: What [options] of a study file may hold, by kind: key to the type of its value, [type] for lists. Numbers are at least 1, text
#: names a preset. Both kinds look at the two stages, so it must be one of :data:`STAGED`.
OPTIONS: dict[str, dict[str, type | list[type]]] = {
    "planted-structure": {"presets": [str]},
    "protocol": {"preset": str, "k": int, "other_ks": [int], "n_negatives": int, "n_draws": int},
}


#: Presets that train the coarse and the fine stage one after the other.
STAGED = tuple(name for name in PRESETS if settings_from_preset(name).training == "stages")

#: What is taken where [options] says nothing.
DEFAULTS: dict[str, dict] = {"planted-structure": {"presets": STAGED}, "protocol": {"preset": "staged"}}


def function_of(kind: str) -> Callable:
    """The function that carries out a kind of study; its module is only imported here."""
    module, _, name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), name)
