"""What smaller types save and what they cost: every combination exported, weighed and evaluated, as a Markdown table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..data import Dataset
from ..errors import DataError
from ..evaluation import evaluate_embeddings
from ..files import write_text_atomically
from ..model_file import StoredModel
from .compact import NUMBER_TYPES
from .export import reduce_model, require_same_embeddings
from .served import Served, load_exported
from .stored import write

TABLE = "table.md"
_METRICS = ("ndcg@20", "recall@20")


@dataclass(frozen=True)
class Row:
    """One way to export a model.

    Attributes
    ----------
    codebook, weights : str
        Types.
    file : int
        Bytes on disk, with interactions, without ids.
    file_alone : int
        Bytes on disk with neither.
    sizes : dict of str to int
        Bytes in memory, as :meth:`c2f_np.serving.Served.size_in_bytes` gives them.
    metrics : dict of str to float
    """

    codebook: str
    weights: str
    file: int
    file_alone: int
    sizes: dict[str, int]
    metrics: dict[str, float]


def measure(model: StoredModel, data: Dataset, part: str, folder) -> list[Row]:
    """Export a model in every combination of types, and evaluate what was written.

    Parameters
    ----------
    model : StoredModel
    data : Dataset
        The one that the model was trained on.
    part : {"test", "validation"}
    folder : path-like
        Where the files go, made if it is not there: ``CODEBOOK-WEIGHTS.npz``, with interactions and without ids.

    Returns
    -------
    list of Row
        The first is float32 throughout.

    Raises
    ------
    DataError
        If the data are not what the model was trained on, or the part is empty.
    SettingsError
        If the model cannot be exported.
    OSError
        If a file cannot be written.
    """
    if model.about.get("data", {}).get("fingerprint") != data.fingerprint():
        raise DataError(f"{data.name}: the data (or their split) are not what the model was trained on")
    relevant = getattr(data, part)
    if relevant is None or relevant.nnz == 0:
        raise DataError(f"{data.name} has no {part} interactions")
    require_same_embeddings(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for codebook, weights in product(NUMBER_TYPES, NUMBER_TYPES):
        path = folder / f"{codebook}-{weights}.npz"
        write(path, reduce_model(model, codebook=codebook, weights=weights, with_interactions=False, with_ids=False))
        alone = path.stat().st_size
        write(path, reduce_model(model, codebook=codebook, weights=weights, with_ids=False))
        served = load_exported(path)
        metrics = _evaluate(served, data, part)
        rows.append(Row(codebook, weights, path.stat().st_size, alone, served.size_in_bytes(), metrics))
    return rows


def _evaluate(served: Served, data: Dataset, part: str) -> dict[str, float]:
    H, n = served.embeddings(), served.n_users
    result = evaluate_embeddings(
        H[:n],
        H[n:],
        served.item_bias,
        getattr(data, part),
        data.masked_when_ranking(part),
        (20,),
        protocol=data.protocol,
    )
    return result.metrics


def markdown(rows: list[Row], model: StoredModel, data: Dataset, part: str) -> str:
    """The table of :func:`measure`, with what every row needs besides."""
    n, dim = sum(model.R.shape), model.state.E_coarse.shape[1]
    base = rows[0]
    lines = [
        f"{data.name}, {part}, protocol {data.protocol}: {model.R.shape[0]:,} users, {model.R.shape[1]:,} items, "
        f"{model.R.nnz:,} training interactions, width {dim}.",
        "",
        "| codebooks | weights | file, model alone | file | codebooks, bytes | parameters in memory | of LightGCN's "
        "| NDCG@20 | lost | Recall@20 | lost |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row.codebook, row.weights]
        cells += [f"{size:,}" for size in (row.file_alone, row.file, row.sizes["codebooks"], row.sizes["model"])]
        cells.append(f"{row.sizes['model'] / (n * dim * 4):.1%}")
        for name in _METRICS:
            lost = round(base.metrics[name] - row.metrics[name], 4)
            cells += [f"{row.metrics[name]:.4f}", f"{lost:+.4f}" if lost else "0"]
        lines.append("| " + " | ".join(cells) + " |")
    held = base.sizes
    return "\n".join(
        [
            *lines,
            "",
            "Needed besides, whatever the types:",
            "",
            "| | bytes |",
            "|---|---:|",
            f"| training interactions, to propagate and to leave out what was seen | {held['interactions']:,} |",
            f"| factors of the graph, made from them | {held['graph factors']:,} |",
            f"| propagated table, float32 (only where it is kept) | {n * dim * 4:,} |",
            f"| propagated table, float16 | {n * dim * 2:,} |",
            "",
            f"For comparison, the embeddings that LightGCN of this width trains, float32: {n * dim * 4:,} bytes. To "
            "propagate them it needs the interactions too; its propagated table is as large again.",
            "",
        ]
    )


def write_table(model: StoredModel, data: Dataset, folder) -> str:
    """Measure on test, or on validation where there is no test, and write ``table.md`` beside the exported models.

    Returns
    -------
    str
        The table. Errors as for :func:`measure`.
    """
    part = "validation" if data.test is None or data.test.nnz == 0 else "test"
    text = markdown(measure(model, data, part, folder), model, data, part)
    write_text_atomically(Path(folder) / TABLE, text)
    return text
