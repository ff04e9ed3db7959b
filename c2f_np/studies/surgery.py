"""What a trained model owes to its fine codebook: evaluate it again with a part taken out or put in disorder.

Each analysis is a pure function of the trained state; nothing is trained. (The control, which trains, is
:func:`c2f_np.training.phases.control_phases`.)

zero-fine            E_f = 0; graph and gate as they are
random-fine          the entries of every row of E_f in a random order: same values, norms and zeros
shuffled-fine-rows   the rows of E_f in a random order: every coarse row is refined by fine rows that are not its own
no-fine-edges        the fine stage over the graph of the coarse stage, normalised as there; fine nodes are isolated. The bridge
                     at the start stays as it is; inside the layers it finds nothing at the fine nodes
no-fine              E_c, S_c and biases, evaluated as a model that has no fine codebook

Shapes: E_fine (M, d); S_coarse (N, C); S_fine (C, M); X_hat (N + C + M, N + C + M).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse

from ..model.fine import FineGraph, FineStage
from ..model.step import ModelState
from ..serving.compact import INT8
from ..training.problem import Problem


def zero_fine(state: ModelState) -> ModelState:
    """E_f = 0; direct links to fine rows, where a model has them, then contribute nothing either."""
    return dataclasses.replace(state, E_fine=np.zeros_like(state.E_fine))


def random_fine(state: ModelState, rng: np.random.Generator) -> ModelState:
    """The entries of every row of E_f permuted, each row by its own permutation."""
    return dataclasses.replace(state, E_fine=rng.permuted(state.E_fine, axis=1))


def shuffled_fine_rows(state: ModelState, rng: np.random.Generator) -> ModelState:
    """The rows of E_f permuted; no row stays where it was, if there are two."""
    order = rng.permutation(len(state.E_fine))
    # A step along a random circle through all rows: a derangement.
    target = np.empty_like(order)
    target[order] = np.roll(order, 1)
    return dataclasses.replace(state, E_fine=state.E_fine[target])


def no_fine(state: ModelState) -> ModelState:
    """The state without everything fine: every field that the coarse stage does not have is None."""
    optional = {item.name: None for item in dataclasses.fields(state) if item.default is None}
    # Without a coarse codebook of their own, the coarse rows are then 0.
    E = state.E_coarse if len(state.E_coarse) else np.zeros((state.S_coarse.shape[1], state.E_coarse.shape[1]), state.bias.dtype)
    return dataclasses.replace(state, E_coarse=E, **optional)


def without_fine_edges(state: ModelState, problem: Problem) -> FineGraph:
    """The graph of the fine stage with all edges of fine nodes cut: the graph of the coarse stage, and M isolated nodes."""
    settings, engine = problem.settings, problem.engine
    graph = FineStage(settings, engine).graph(state, problem.A)
    n, c = state.S_coarse.shape
    coarse = engine.expanded_graph(problem.A, state.S_coarse, degree=settings.degree)
    size = n + c + len(state.E_fine)
    indptr = np.concatenate([coarse.indptr, np.full(size - n - c, coarse.indptr[-1], dtype=coarse.indptr.dtype)])
    X_hat = sparse.csr_array((coarse.data.astype(state.S_coarse.dtype), coarse.indices, indptr), shape=(size, size))
    layer = dataclasses.replace(graph.layer, X_hat=engine.symmetric_operator(X_hat))
    if layer.coarse_message is not None:
        layer = dataclasses.replace(layer, coarse_message=engine.operator(sparse.csr_array(X_hat[:n, n : n + c])))
    return dataclasses.replace(graph, layer=layer, collapsed=None)


#: Name to a function of (state, problem, rng) that returns the state to evaluate and its graph (None: the state's own).
ANALYSES: dict[str, Callable] = {
    "zero-fine": lambda state, problem, rng: (zero_fine(state), None),
    "random-fine": lambda state, problem, rng: (random_fine(state, rng), None),
    "shuffled-fine-rows": lambda state, problem, rng: (shuffled_fine_rows(state, rng), None),
    "no-fine-edges": lambda state, problem, rng: (state, without_fine_edges(state, problem)),
    "no-fine": lambda state, problem, rng: (no_fine(state), None),
}

#: What `after` in a study file may name; "int8" is the model as it is exported with a byte a number (:mod:`c2f_np.serving`).
AFTER = (*ANALYSES, "control", INT8)
