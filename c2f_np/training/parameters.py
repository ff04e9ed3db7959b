"""What an optimiser moves, as plain arrays by name, and the way back into the state.

    coarse stage   E_coarse, bias, bias_global
    fine stage     E_fine, bias, bias_global
    table          E_coarse (the table), bias, bias_global
    joint          E_coarse, E_fine, S_coarse, S_direct, bias, bias_global, as far as the state has them

Of an assignment the optimiser sees the stored weights, row by row.

Shapes: see `c2f_np.stages.state`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sparse

from ..operations.adam import AdamMoments, fresh_moments
from ..settings import Settings
from ..stages.state import ModelState

JOINT = ("E_coarse", "E_fine", "S_coarse", "S_direct", "bias", "bias_global")


def trained_parameters(state: ModelState, settings: Settings) -> dict[str, np.ndarray]:
    """The arrays that training moves in this state, by the names of the state's fields."""
    if settings.training == "joint" and not holds_table(state, settings):
        parts = {name: getattr(state, name) for name in JOINT}
        return {name: part.data if sparse.issparse(part) else part for name, part in parts.items() if part is not None}
    codebook = "E_fine" if state.is_fine else "E_coarse"
    return {name: getattr(state, name) for name in (codebook, "bias", "bias_global")}


def holds_table(state: ModelState, settings: Settings) -> bool:
    """Whether the codebook of a state is still a table, with a row for every entity."""
    return settings.table_epochs > 0 and state.S_coarse.shape[1] != settings.n_coarse


def with_parameters(state: ModelState, parameters: dict[str, np.ndarray]) -> ModelState:
    """The state with other values of what training moves; the patterns of the assignments stay."""
    changed = {}
    for name, values in parameters.items():
        old = getattr(state, name)
        changed[name] = sparse.csr_array((values, old.indices, old.indptr), shape=old.shape) if sparse.issparse(old) else values
    return dataclasses.replace(state, **changed)


def fresh_optimiser(state: ModelState, settings: Settings) -> AdamMoments:
    """Adam's moments before the first step on what training moves in this state."""
    return fresh_moments(trained_parameters(state, settings))
