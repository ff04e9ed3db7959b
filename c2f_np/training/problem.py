"""What is being trained: the data in the form that the stages want it, and the settings.

Shapes
------
R : (U, I) csr     A : (N, N) csr
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from ..data import Dataset
from ..errors import DataError
from ..operations.collapsed_propagation import collapse_pays
from ..operations.graph import normalised_adjacency
from ..operations.triples import Triples
from ..settings import Settings
from ..stages.coarse import CoarseGraph, coarse_forward, coarse_graph
from ..stages.fine import FineGraph, collapsed_graph, fine_forward, fine_graph
from ..stages.joint import JointGraph, joint_forward, joint_graph
from ..stages.partition import require_partition
from ..stages.state import ModelState
from .sampling import require_something_to_rank
from .threads import training_threads


@dataclass(frozen=True)
class Problem:
    """Data and settings of a run.

    Attributes
    ----------
    data : Dataset
    settings : Settings
    R : csr_array, shape (U, I)
        Training interactions.
    A : csr_array, shape (N, N)
        Normalised adjacency, in the precision of training.
    """

    data: Dataset
    settings: Settings
    R: sparse.csr_array
    A: sparse.csr_array

    @property
    def n_users(self) -> int:
        return self.R.shape[0]

    @property
    def n_items(self) -> int:
        return self.R.shape[1]


def pose(data: Dataset, settings: Settings) -> Problem:
    """Prepare a data set for training; what training could not use is found here, before anything is computed or written.

    Raises
    ------
    DataError
        If there is not a single training interaction, or no user with an item left over.
    SettingsError
        If a codebook has more rows than there are entities, or the partition cannot be made.
    """
    R = sparse.csr_array(data.train)
    R.sort_indices()
    if R.nnz == 0:
        raise DataError(f"{data.name} has no training interactions")
    require_something_to_rank(R)
    for n_rows in (settings.n_coarse, *([settings.n_fine] if settings.has_fine_codebook else [])):
        require_partition(R.shape, n_rows, settings.partition)
    return Problem(data, settings, R, normalised_adjacency(R).astype(settings.dtype))


def threads_of(problem: Problem) -> int:
    """How many threads the compiled kernels use for this problem."""
    settings = problem.settings
    n_entries = problem.A.nnz + 2 * settings.t_coarse * (problem.n_users + problem.n_items)
    return training_threads(settings.threads, n_entries, settings.dim)


def graph_of(state: ModelState, problem: Problem) -> CoarseGraph | FineGraph | JointGraph:
    """The expanded graph of a state, of the fine stage once there is a fine codebook; ready for training steps."""
    settings = problem.settings
    graph = build_graph(state, problem.A, settings)
    if isinstance(graph, FineGraph) and _should_collapse(graph, problem):
        return collapsed_graph(graph, state.E_coarse, settings.n_layers, engine=settings.engine)
    return graph


def _should_collapse(graph: FineGraph, problem: Problem) -> bool:
    """Whether training steps over this graph are cheaper collapsed. A function of sizes, so that every run decides alike."""
    settings = problem.settings
    if graph.composition != "coarse" or settings.propagation == "layers":
        return False
    if settings.propagation == "collapsed":
        return True
    n = problem.n_users + problem.n_items
    return collapse_pays(
        n,
        graph.bridged.X_hat.matrix.nnz,
        settings.n_fine,
        settings.dim,
        settings.n_layers,
        n_steps=-(-problem.R.nnz * settings.neg_size // settings.fine_batch),
        n_rows=min(n, 3 * settings.fine_batch),
        itemsize=np.dtype(settings.dtype).itemsize,
    )


def build_graph(state: ModelState, A: sparse.csr_array, settings: Settings) -> CoarseGraph | FineGraph | JointGraph:
    """The graph of a state over the normalised adjacency `A`; of the two stages it is the expanded one."""
    if settings.training == "joint":
        return joint_graph(A, state, settings.gate)
    if not state.is_fine:
        return coarse_graph(A, state.S_coarse, degree=settings.degree, engine=settings.engine)
    return fine_graph(
        A,
        state.S_coarse,
        state.S_fine,
        settings.gate,
        composition=settings.composition,
        layer_bridge=settings.layer_bridge,
        degree=settings.degree,
        engine=settings.engine,
    )


def forward(state: ModelState, graph: CoarseGraph | FineGraph | JointGraph, settings: Settings, *, batch: Triples | None = None):
    """The forward pass of whichever stage the state is in, for all nodes or for a batch's entities.

    Returns
    -------
    CoarseForward, FineForward or JointForward
    """
    if isinstance(graph, CoarseGraph):
        return coarse_forward(state.E_coarse, graph, settings.n_layers, batch=batch, engine=settings.engine)
    if isinstance(graph, JointGraph):
        codebooks, of_both = (state.E_coarse, state.E_fine), joint_forward
    else:
        codebooks, of_both = (state.E_fine, state.E_coarse), fine_forward
    return of_both(
        *codebooks,
        graph,
        threshold=settings.threshold,
        n_layers=settings.n_layers,
        batch=batch,
        engine=settings.engine,
    )


def entity_embeddings(state: ModelState, A: sparse.csr_array, settings: Settings) -> np.ndarray:
    """Propagated embeddings of all entities, users first, shape (N, d)."""
    return forward(state, build_graph(state, A, settings), settings).H_entities
