"""Export: a trained model reduced to what inference needs, checked against the package, and written; and what smaller types cost.

Left out: the fine codebook's entries inside the threshold, the users' biases and the global one (the same for all items of a
user, so no ranking depends on them), and everything that only training uses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from ..data import Dataset
from ..errors import DataError, SettingsError, require_one_of
from ..files import write_text_atomically
from ..folders import folder_named, locked, refuse_strangers
from ..model.codebook import soft_threshold
from ..model.graph import normalised_adjacency
from ..model_file import StoredModel, others_known
from ..shown import for_markdown
from ..training.problem import entity_embeddings, evaluate_entities
from .compact import NUMBER_TYPES, Compact, compact_codebook, compact_matrix, quantise
from .exported_file import SETTINGS, Exported, require_replaceable, write
from .inference import Parts
from .new_users import Splitter
from .served import Served, load_exported

TABLE = "table.md"
_METRICS = ("ndcg@20", "recall@20")
# float64 is for checking, not for files that are meant to be small.
_TYPES = ("float64", *NUMBER_TYPES)


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
        Those of training and those held out. Without them the file is smaller, but :func:`c2f_np.serving.load_exported` must be
        given them, to propagate and to leave out what is known.
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
    reduced = reduce_model(model, codebook=codebook, weights=weights, with_interactions=with_interactions, with_ids=with_ids)
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
        require_one_of(_TYPES, kind, name)
    state, settings = model.state, model.settings
    n_users = model.R.shape[0]
    bias_type = "float16" if weights == "int8" else weights
    item_bias, _ = quantise(state.bias[n_users:], bias_type, np.zeros(0, int), 0, "the item biases")
    F = soft_threshold(state.E_fine, state.tau(settings)) if state.is_fine else None
    dtype = "float64" if codebook == "float64" else "float32"
    parts = Parts(
        compact_codebook(state.E_coarse, codebook, "the coarse codebook"),
        None if F is None else compact_codebook(F, codebook, "the fine codebook"),
        _compact(state.S_coarse, weights, "the coarse assignment"),
        _compact(state.S_fine, weights, "the fine assignment"),
        _compact(state.S_direct, weights, "the direct links") if settings.training == "joint" else None,
        item_bias,
        n_users,
        **{name: dtype if name == "dtype" else getattr(settings, name) for name in SETTINGS},
    )
    R = held_out = None
    if with_interactions:
        R = places(sparse.csr_array(model.R, copy=True))
        others = places(others_known(model.R, model.known))
        held_out = others if len(others.indices) else None
    ids = (np.asarray(model.user_ids, str), np.asarray(model.item_ids, str)) if with_ids else (None, None)
    return Exported(parts, R, *ids, {"model": model.about, "codebook": codebook, "weights": weights}, held_out)


def splitter_of(model: StoredModel) -> Splitter:
    """What splits the users of a model, in its own precision."""
    exact = reduce_model(model, codebook=model.settings.dtype, weights=model.settings.dtype, with_ids=False)
    return Served(exact).splitter()


def require_same_embeddings(model: StoredModel) -> None:
    """Raise SettingsError if the package and the code of this folder, in float64, differ by more than rounding."""
    settings = dataclasses.replace(model.settings, dtype="float64", engine="numpy")
    state = model.state.astype(np.float64)
    expected = entity_embeddings(state, normalised_adjacency(model.R), settings)
    wide = dataclasses.replace(model, state=state, settings=settings)
    found = Served(reduce_model(wide, codebook="float64", weights="float64", with_ids=False)).embeddings()
    difference = np.abs(found - expected).max(initial=0)
    if not difference <= 1e-8 * max(1.0, np.abs(expected).max(initial=0)):
        raise SettingsError(f"this form of the model cannot be exported: its embeddings would be off by {difference:.2g}")


def places(pattern: sparse.csr_array) -> Compact:
    """Where interactions are. The pattern is tidied in place."""
    pattern.sum_duplicates()
    pattern.eliminate_zeros()
    return _compact(pattern, None, "the interactions")


def _compact(matrix: sparse.csr_array | None, kind: str | None, what: str) -> Compact | None:
    if matrix is None:
        return None
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return compact_matrix(rows, matrix.indices, None if kind is None else matrix.data, matrix.shape, kind, what)


@dataclass(frozen=True)
class Row:
    """One way to export a model, what it weighs and what it costs."""

    codebook: str
    weights: str
    file: int  # bytes on disk, with interactions, without ids
    file_alone: int  # bytes on disk with neither
    sizes: dict[str, int]  # bytes in memory, as from Served.size_in_bytes
    metrics: dict[str, float]


def measure(model: StoredModel, data: Dataset, part: str, folder) -> list[Row]:
    """Export a model in every combination of types, float32 first, as ``CODEBOOK-WEIGHTS.npz``, and evaluate the files."""
    if model.about.get("data", {}).get("fingerprint") != data.fingerprint():
        raise DataError(f"{data.name}: the data (or their split) are not what the model was trained on")
    if data.held_out(part) is None:
        raise DataError(f"{data.name} has no {part} interactions")
    require_same_embeddings(model)
    # What the types cost: the held-out interactions, in which they do not differ, are no part of that.
    model = dataclasses.replace(model, known=None)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for codebook, weights in product(NUMBER_TYPES, NUMBER_TYPES):
        path = folder / f"{codebook}-{weights}.npz"
        write(path, reduce_model(model, codebook=codebook, weights=weights, with_interactions=False, with_ids=False))
        alone = path.stat().st_size
        write(path, reduce_model(model, codebook=codebook, weights=weights, with_ids=False))
        served = load_exported(path)
        metrics = evaluate_entities(served.embeddings(), served.item_bias, data, part, (20,)).metrics
        rows.append(Row(codebook, weights, path.stat().st_size, alone, served.size_in_bytes(), metrics))
    return rows


def _markdown(rows: list[Row], model: StoredModel, data: Dataset, part: str) -> str:
    """The table of :func:`measure`, and what every row needs besides."""
    (n_users, n_items), dim = model.R.shape, model.state.E_coarse.shape[1]
    base, table = rows[0], (n_users + n_items) * dim * 4
    lines = []
    for row in rows:
        cells = [row.codebook, row.weights]
        cells += [f"{size:,}" for size in (row.file_alone, row.file, row.sizes["codebooks"], row.sizes["model"])]
        cells.append(f"{row.sizes['model'] / table:.1%}")
        for name in _METRICS:
            lost = round(base.metrics[name] - row.metrics[name], 4)
            cells += [f"{row.metrics[name]:.4f}", f"{lost:+.4f}" if lost else "0"]
        lines.append("| " + " | ".join(cells) + " |\n")
    return f"""\
{for_markdown(data.name)}, {part}, protocol {data.protocol}: {n_users:,} users, {n_items:,} items, \
{model.R.nnz:,} training interactions, width {dim}.

| codebooks | weights | file, model alone | file | codebooks, bytes | parameters in memory | of LightGCN's \
| NDCG@20 | lost | Recall@20 | lost |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{"".join(lines)}
Needed besides, whatever the types:

| | bytes |
|---|---:|
| training interactions, to propagate and to leave out what was seen | {base.sizes["interactions"]:,} |
| factors of the graph, made from them | {base.sizes["graph factors"]:,} |
| propagated table, float32 (only where it is kept) | {table:,} |
| propagated table, float16 | {table // 2:,} |

For comparison, the embeddings that LightGCN of this width trains, float32: {table:,} bytes. To \
propagate them it needs the interactions too; its propagated table is as large again.
"""


def write_table(model: StoredModel, data: Dataset, folder) -> str:
    """Measure on test, or on validation where there is no test; write ``table.md`` beside the exported models, and return it."""
    folder, part = folder_named(folder), data.judged_by() or "test"
    paths = [folder / f"{codebook}-{weights}.npz" for codebook, weights in product(NUMBER_TYPES, NUMBER_TYPES)]
    for path in paths:
        require_replaceable(path)
    if not paths[0].exists():
        refuse_strangers(folder, [TABLE], "no exported models")
    with locked(folder):
        text = _markdown(measure(model, data, part, folder), model, data, part)
        write_text_atomically(folder / TABLE, text)
    return text
