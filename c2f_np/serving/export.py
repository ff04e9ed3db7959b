"""Export: a trained model reduced to what inference needs, checked against the package, and written.

Left out: the fine codebook's entries inside the threshold, the users' biases and the global one (the same for all items of
a user, so no ranking depends on them), and all that only training uses.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..model.codebook import soft_threshold
from ..model.graph import normalised_adjacency
from ..model_file import StoredModel
from ..training.problem import entity_embeddings
from .codebook import compact_codebook
from .compact import NUMBER_TYPES, Compact, compact_matrix, quantise
from .propagation import Parts
from .served import Served
from .stored import Exported, write

# float64 is for checking, not for files that are meant to be small.
_TYPES = ("float64", *NUMBER_TYPES)
_SETTINGS = ("n_layers", "gate", "training", "composition", "layer_bridge", "degree")


def export_model(
    model: StoredModel,
    path,
    *,
    codebook: str = "float32",
    weights: str = "float32",
    with_interactions: bool = True,
    with_ids: bool = True,
) -> None:
    """Write a model for inference only, which :func:`c2f_np.serving.load_exported` reads.

    Parameters
    ----------
    model : StoredModel
    path : path-like
    codebook : {"float32", "float16", "int8"}
        Of both codebooks; int8 with one scale a row.
    weights : {"float32", "float16", "int8"}
        Of the assignments; int8 with one scale a column. Item biases are float32 with float32, else float16.
    with_interactions : bool
        Without them the file is smaller, but :func:`c2f_np.serving.load_exported` must be given them, to propagate.
    with_ids : bool
        Without them users and items are numbers, counted from 0.

    Raises
    ------
    SettingsError
        If a type is unknown or cannot hold the model's numbers, or the model is of a form that inference does not reproduce.
    OSError
        If the file cannot be written.
    """
    require_same_embeddings(model)
    reduced = reduce_model(
        model, codebook=codebook, weights=weights, with_interactions=with_interactions, with_ids=with_ids
    )
    write(path, reduced)


def reduce_model(
    model: StoredModel,
    *,
    codebook: str = "float32",
    weights: str = "float32",
    with_interactions: bool = True,
    with_ids: bool = True,
) -> Exported:
    """What :func:`export_model` writes. Parameters and errors are the same, but nothing is compared."""
    for name, kind in (("codebook", codebook), ("weights", weights)):
        if kind not in _TYPES:
            raise SettingsError(f"{name} must be one of {', '.join(NUMBER_TYPES)}, not {kind!r}")
    state, settings = model.state, model.settings
    n_users = model.R.shape[0]
    bias_type = "float16" if weights == "int8" else weights
    item_bias, _ = quantise(state.bias[n_users:], bias_type, np.zeros(0, int), 0, "the item biases")
    F = soft_threshold(state.E_fine, settings.threshold) if state.is_fine else None
    S_direct = state.S_direct if settings.training == "joint" else None
    parts = Parts(
        compact_codebook(state.E_coarse, codebook, "the coarse codebook"),
        None if F is None else compact_codebook(F, codebook, "the fine codebook"),
        _compact(state.S_coarse, weights, "the coarse assignment"),
        None if state.S_fine is None else _compact(state.S_fine, weights, "the fine assignment"),
        None if S_direct is None else _compact(S_direct, weights, "the direct links"),
        item_bias,
        n_users,
        dtype="float64" if codebook == "float64" else "float32",
        **{name: getattr(settings, name) for name in _SETTINGS},
    )
    R = _compact(_pattern(model.R), None, "the interactions") if with_interactions else None
    ids = (np.asarray(model.user_ids, str), np.asarray(model.item_ids, str)) if with_ids else (None, None)
    return Exported(parts, R, *ids, {"model": model.about, "codebook": codebook, "weights": weights})


def require_same_embeddings(model: StoredModel) -> None:
    """Propagate a model by the package and by the code of this folder, in float64.

    Raises
    ------
    SettingsError
        If the embeddings differ by more than rounding.
    """
    settings = dataclasses.replace(model.settings, dtype="float64", engine="numpy")
    widened = {field.name: _as_float64(getattr(model.state, field.name)) for field in dataclasses.fields(model.state)}
    state = type(model.state)(**widened)
    expected = entity_embeddings(state, normalised_adjacency(model.R), settings)
    wide = dataclasses.replace(model, state=state, settings=settings)
    found = Served(reduce_model(wide, codebook="float64", weights="float64", with_ids=False)).embeddings()
    difference = np.abs(found - expected).max(initial=0)
    if not difference <= 1e-8 * max(1.0, np.abs(expected).max(initial=0)):
        raise SettingsError(f"this form of the model cannot be exported: its embeddings would be off by {difference:.2g}")


def _as_float64(value):
    return value.astype(np.float64) if hasattr(value, "astype") else value


def _pattern(R) -> sparse.csr_array:
    R = sparse.csr_array(R, copy=True)
    R.sum_duplicates()
    R.eliminate_zeros()
    return R


def _compact(matrix: sparse.csr_array, kind: str | None, what: str) -> Compact:
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return compact_matrix(rows, matrix.indices, None if kind is None else matrix.data, matrix.shape, kind, what)
