"""The cases of the baselines: the composition of quotient and remainder rows, and the whole loss of every table model.

As for the stages, the forward of a model returns (data loss, regulariser, total), at the start and in the middle of training, and
over a graph that is not symmetric.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

from ..baselines import table_stage
from ..baselines.table_stage import TableState
from ..engine import engine_named
from . import points, problems
from .case import Case, InDtype, gradient_case, promoted
from .points import N, draw_batch
from .problems import generator, normal
from .rounding import Bounded, bounded
from .stages import STAGE_SETTINGS, loss_gradients, losses, trained

Cases = Iterator[Case]


# ---- the operation -----------------------------------------------------------------------------------------------------
def products_cases(engine: str, seed: int) -> Cases:
    """An incomplete last block, a complete one, one block, blocks of one. There is one version for both engines."""
    if engine != "numpy":
        return
    for n, m, width in ((90, 7, 5), (48, 12, 16), (5, 9, 3), (6, 1, 4), (1, 1, 2)):
        rng = generator(seed, "products", n, m)

        def forward(Q, R, n=n):
            return table_stage.compose_products(*promoted(Q, R), n)

        def backward(grad_Z, Q, R):
            grad_Q, grad_R = table_stage.compose_products_backward(grad_Z, Q, R)
            return {"grad_Q": grad_Q, "grad_R": grad_R}

        def bound(grad_Z, Q, R, n=n):
            return _products_bound(grad_Z, Q, R, n)

        arguments = {"Q": normal(rng, -(-n // m), width), "R": normal(rng, m, width)}
        yield gradient_case(
            "products", f"{n} entities, {m} remainders, width {width}", engine, forward, backward, arguments,
            linear_in=("Q", "R"), rounding=bound,
        )  # fmt: skip


def _products_bound(grad_Z, Q, R, n: int) -> tuple[list[Bounded], dict[str, Bounded]]:
    """One product for each entity; sums over the entities of a row, in any order."""
    quotient, remainder = np.divmod(np.arange(n), len(R))
    whole = np.zeros((len(Q) * len(R), Q.shape[1]))
    whole[:n] = grad_Z
    table = whole.reshape(len(Q), len(R), -1)
    grad_Q = (bounded(table) * bounded(np.broadcast_to(R, table.shape))).sum(axis=1)
    grad_R = (bounded(table) * bounded(np.broadcast_to(Q[:, None], table.shape))).sum(axis=0)
    return [bounded(Q[quotient]) * bounded(R[remainder])], {"Q": grad_Q, "R": grad_R}


# ---- the models --------------------------------------------------------------------------------------------------------
TABLES = points.TABLES | {
    "dtype": ("float64",),
    "n_layers": (0, 1, 2, 5), "where": ("start", "trained", "not symmetric"),
}  # fmt: skip


def table_model_cases(engine: str, seed: int) -> Cases:
    """Each table with and without item biases, at the start and after some steps; a graph that is not symmetric."""
    for c, variation, rng in points.configurations("table_model", TABLES, engine, seed):
        yield _model_case(engine, c, variation, rng())


def _model_case(engine: str, c: dict, variation: str, rng) -> Case:
    point = trained(points.table_point(engine, c, rng), c["where"], rng)
    s, A, triples = point.settings, sparse.csr_array(point.A), draw_batch(rng, c["batch"])
    if c["where"] == "not symmetric":
        A = problems.random_matrix(rng, N, N, size=0.5)

    def make(dtype, module):
        own = {"dtype": dtype.name, "engine": "numpy" if module is engine_named("numpy") else engine}
        table = dataclasses.replace(point.table, **own) if c["table"] == "hashed" else point.table
        return dataclasses.replace(point, table=table).stage(module), module.operator(A.astype(dtype))

    stages = InDtype(make, engine)

    def at(parameters: dict):
        """The stage, the state and its graph."""
        stage, graph = stages(*parameters.values())
        return stage, TableState(dict(zip(parameters, promoted(*parameters.values()), strict=True)), N), graph

    def forward(**parameters):
        return losses(*at(parameters), triples, triples, s)

    def backward(cotangents, **parameters):
        return loss_gradients(cotangents, *at(parameters), triples, triples, s)

    # The loss is smooth; saying so keeps central differences from growing their step where an entry's gradient is tiny.
    return gradient_case(
        "table_model", variation, engine, forward, backward, point.state.arrays,
        active_set=lambda **_: np.zeros(1, dtype=bool), settings=STAGE_SETTINGS,
    )  # fmt: skip


#: The cases of the baselines, by the name that the command line takes.
BASELINES = {"products": products_cases, "table_model": table_model_cases}
