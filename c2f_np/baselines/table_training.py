"""One trainer for all table models, by the rules of the model's own loop.

The same triples from the same sampler, mini-batches, clipping by value, Adam, and early stopping on validation NDCG@5; the best
state is kept, and without validation the last one. There is one phase, as there is no assignment to update. Random numbers
come from (seed, epoch), and kernels gather, so that the number of threads does not change a bit.

Shapes: see `c2f_np.baselines.table_model`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse

from ..data import Dataset
from ..errors import SettingsError
from ..evaluation import evaluate_embeddings
from ..operations.adam import AdamMoments, adam_step, clip_by_value, fresh_moments
from ..operations.graph import normalised_adjacency
from ..operations.sparse_operator import SparseOperator, symmetric_operator
from ..operations.triples import Triples
from ..training.batches import drawn_batches
from ..training.loop import STOPPING_METRIC
from ..training.sampling import require_something_to_rank
from ..training.threads import training_threads, working_threads
from .table_model import Parameters, Table, table_forward, table_gradients, table_loss


@dataclass(frozen=True)
class TableSettings:
    """How a table model is trained; the fields are explained by the estimators that have them as parameters."""

    dim: int
    n_layers: int
    item_bias: bool
    lr: float
    l2: float
    decay: float
    batch: int
    neg_size: int
    eval_every: int
    patience: int
    max_epochs: int
    start_scale: float
    max_grad_value: float
    seed: int
    dtype: str
    engine: str
    threads: int


@dataclass(frozen=True)
class TrainedTable:
    """The result.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Of the best epoch.
    embeddings : ndarray, shape (N, d)
        Propagated.
    best_epoch : int
    history : list of dict
        One row per epoch.
    """

    parameters: Parameters
    embeddings: np.ndarray
    best_epoch: int
    history: list[dict[str, Any]]


def train_table(
    data: Dataset, table: Table, settings: TableSettings, *, after_epoch: Callable[[dict[str, Any]], None] | None = None
) -> TrainedTable:
    """Train a table model until early stopping ends it.

    Parameters
    ----------
    data : Dataset
    table : Table
    settings : TableSettings
    after_epoch : callable, optional
        Called with the row of history after every epoch.

    Returns
    -------
    TrainedTable

    Raises
    ------
    DataError
        If there is nothing to train on.
    SettingsError
        If training diverges.
    """
    R = sparse.csr_array(data.train)
    R.sort_indices()
    require_something_to_rank(R)
    A = symmetric_operator(normalised_adjacency(R).astype(settings.dtype))
    parameters = _start(table, settings, data.n_items)
    moments = fresh_moments(parameters)
    best, best_score, best_epoch, bad, history = parameters, float("nan"), 0, 0, []
    with working_threads(training_threads(settings.threads, A.matrix.nnz, settings.dim), settings.engine):
        for epoch in range(1, settings.max_epochs + 1):
            started = time.perf_counter()
            parameters, moments, losses = _train_epoch(parameters, moments, table, R, A, settings, epoch)
            score = float("nan")
            if epoch % settings.eval_every == 0 or epoch == settings.max_epochs:
                score = _validation_score(parameters, table, A, data, settings)
                if best_epoch == 0 or np.isnan(score) or score > best_score:
                    best, best_score, best_epoch, bad = parameters, score, epoch, 0
                else:
                    bad += 1
            history.append(
                {
                    "epoch": epoch,
                    "bpr": losses[0],
                    "regulariser": losses[1],
                    "loss": losses[0] + settings.decay * losses[1],
                    "validation_ndcg@5": score,
                    "seconds": time.perf_counter() - started,
                }
            )
            if after_epoch is not None:
                after_epoch(history[-1])
            if bad >= settings.patience:
                break
        H = table_forward(best, table, A, settings.n_layers, engine=settings.engine).H_entities
    return TrainedTable(best, H, best_epoch, history)


def _start(table: Table, settings: TableSettings, n_items: int) -> Parameters:
    parameters = table.start(settings.dim, settings.start_scale, np.random.default_rng([settings.seed, 0]))
    if settings.item_bias:
        parameters["item_bias"] = np.zeros(n_items)
    return {name: value.astype(settings.dtype) for name, value in parameters.items()}


def _train_epoch(
    parameters: Parameters,
    moments: AdamMoments,
    table: Table,
    R: sparse.csr_array,
    A: SparseOperator,
    settings: TableSettings,
    epoch: int,
) -> tuple[Parameters, AdamMoments, list[float]]:
    """All batches of an epoch: new parameters and moments, and the mean losses (BPR, regulariser)."""
    rng = np.random.default_rng([settings.seed, epoch])
    totals, n_seen = np.zeros(2), 0
    for triples in drawn_batches(rng, R, settings.neg_size, settings.batch, engine=settings.engine):
        parameters, moments, losses = train_step(parameters, moments, table, A, triples, settings)
        totals += losses * len(triples)
        n_seen += len(triples)
    if not np.isfinite(totals).all():
        raise SettingsError(f"training diverged in epoch {epoch}: the loss is not finite; lower the learning rate")
    return parameters, moments, (totals / n_seen).tolist()


def train_step(
    parameters: Parameters,
    moments: AdamMoments,
    table: Table,
    A: SparseOperator,
    triples: Triples,
    settings: TableSettings,
) -> tuple[Parameters, AdamMoments, np.ndarray]:
    """One optimisation step: new parameters and moments, and the losses (BPR, regulariser) before it."""
    common: dict[str, Any] = {"l2": settings.l2, "decay": settings.decay, "engine": settings.engine}
    forward = table_forward(parameters, table, A, settings.n_layers, batch=triples, engine=settings.engine)
    loss, slope = table_loss(forward, parameters, triples, **common)
    gradients = table_gradients(forward, slope, parameters, table, A, triples, n_layers=settings.n_layers, **common)
    gradients = {name: clip_by_value(value, settings.max_grad_value) for name, value in gradients.items()}
    parameters, moments = adam_step(parameters, gradients, moments, settings.lr, engine=settings.engine)
    return parameters, moments, np.array([loss.bpr, loss.regulariser], dtype=np.float64)


def _validation_score(
    parameters: Parameters, table: Table, A: SparseOperator, data: Dataset, settings: TableSettings
) -> float:
    """Validation NDCG@5, or NaN where there is nothing to validate on."""
    if data.validation is None or data.validation.nnz == 0:
        return float("nan")
    H = table_forward(parameters, table, A, settings.n_layers, engine=settings.engine).H_entities
    if not np.isfinite(H).all():
        raise SettingsError("training diverged: the embeddings are not finite; lower the learning rate")
    result = evaluate_embeddings(
        H[: data.n_users],
        H[data.n_users :],
        parameters.get("item_bias"),
        data.validation,
        data.masked_when_ranking("validation"),
        (5,),
        engine=settings.engine,
        n_threads=settings.threads or None,
    )
    return result.metrics[STOPPING_METRIC]
