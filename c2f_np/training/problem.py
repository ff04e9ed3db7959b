"""What is being trained: the data in the form that the stages want it, the settings, and the engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sparse

from ..data import Dataset
from ..engine import engine_named
from ..evaluation import DEFAULT_KS, EvaluationResult, evaluate_embeddings
from ..model.coarse import CoarseStage
from ..model.fine import FineStage
from ..model.graph import normalised_adjacency
from ..model.joint import JointStage
from ..model.sampling import require_something_to_rank
from ..model.starts import require_partition
from ..model.step import ModelState
from ..settings import Settings
from ..threads import training_threads


@dataclass(frozen=True)
class Problem:
    """Data and settings of a run."""

    data: Dataset
    settings: Settings
    R: sparse.csr_array  # training interactions, shape (U, I)
    A: sparse.csr_array  # normalised adjacency, shape (N, N), in the precision of training
    engine: ModuleType  # see `c2f_np.engine`

    @property
    def n_users(self) -> int:
        return self.R.shape[0]

    @property
    def n_items(self) -> int:
        return self.R.shape[1]

    @property
    def threads(self) -> int:
        """How many threads the compiled kernels use for this problem."""
        n_entries = self.A.nnz + 2 * self.settings.t_coarse * (self.n_users + self.n_items)
        return training_threads(self.settings.threads, n_entries, self.settings.dim)


def pose(data: Dataset, settings: Settings) -> Problem:
    """Prepare a data set for training; what training could not use is found here, before anything is computed or written."""
    R = sparse.csr_array(data.train)
    require_something_to_rank(R)
    for n_rows in (settings.n_coarse, *([settings.n_fine] if settings.has_fine_codebook else [])):
        require_partition(R.shape, n_rows, settings.partition)
    return Problem(data, settings, R, normalised_adjacency(R).astype(settings.dtype), engine_named(settings.engine))


def stage_of(state: ModelState, settings: Settings):
    """The stage that a state without a phase, such as a finished model, is to be evaluated as."""
    kind = JointStage if settings.training == "joint" else FineStage if state.is_fine else CoarseStage
    return kind(settings, engine_named(settings.engine))


def entity_embeddings(state: ModelState, A: sparse.csr_array, settings: Settings) -> np.ndarray:
    """Propagated embeddings of all entities, users first, shape (N, d)."""
    stage = stage_of(state, settings)
    return stage.forward(state, stage.graph(state, A)).H_entities


def evaluate_entities(
    H: np.ndarray, item_bias: np.ndarray | None, data: Dataset, part: str, ks: Iterable[int] = DEFAULT_KS, **options: Any
) -> EvaluationResult | None:
    """Rank all items for the users of "validation" or "test", under the data's protocol; None if the part is empty.

    H are embeddings of all entities, users first, shape (N, d); `options` are those of :func:`evaluate_embeddings`.
    """
    if (relevant := data.held_out(part)) is None:
        return None
    users, items = H[: data.n_users], H[data.n_users :]
    masked = data.masked_when_ranking(part)
    return evaluate_embeddings(users, items, item_bias, relevant, masked, ks, protocol=data.protocol, **options)


def evaluate_state(state: ModelState, problem: Problem, part: str, *, stage=None, graph=None) -> EvaluationResult | None:
    """The same of a state, in a graph of its own if it is not given one."""
    settings = problem.settings
    stage = stage_of(state, settings) if stage is None else stage
    if problem.data.held_out(part) is None:
        return None
    H = stage.forward(state, stage.graph(state, problem.A) if graph is None else graph).H_entities
    workers = {"engine": settings.engine, "n_threads": settings.threads or None}
    return evaluate_entities(H, state.item_bias(problem.n_users), problem.data, part, **workers)
