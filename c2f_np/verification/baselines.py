"""The cases of the baselines: the composition of quotient and remainder rows, and the whole loss of every table model.

As for the stages, the forward of a model returns (data loss, regulariser, total), at the start and in the middle of training, and
over a graph that is not symmetric.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..baselines import table_model
from ..operations import adam, graph, table_composition
from ..operations.sparse_operator import as_operator
from . import problems
from .case import Case, InDtype, gradient_case, promoted, twin
from .problems import generator, normal
from .rounding import Bounded, bounded
from .stages import DECAY, L2, N_ITEMS, N_USERS, STAGE_SETTINGS

Cases = Iterator[Case]
N = N_USERS + N_ITEMS


# ---- the operation -----------------------------------------------------------------------------------------------------
def products_cases(engine: str, seed: int) -> Cases:
    """An incomplete last block, a complete one, one block, blocks of one. There is one version for both engines."""
    if engine != "numpy":
        return
    for n, m, width in ((90, 7, 5), (48, 12, 16), (5, 9, 3), (6, 1, 4), (1, 1, 2)):
        rng = generator(seed, "products", n, m)

        def forward(Q, R, n=n):
            return table_composition.compose_products(*promoted(Q, R), n)

        def backward(grad_Z, Q, R):
            grad_Q, grad_R = table_composition.compose_products_backward(grad_Z, Q, R)
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
TABLES = {
    "full": lambda dtype: table_model.FullTable(N),
    "hashed": lambda dtype: table_model.HashedTable(N, 6, 2, 1, dtype),
    "products": lambda dtype: table_model.QuotientRemainderTable(N, 5),
}


def table_model_cases(engine: str, seed: int) -> Cases:
    """Each table with and without item biases, L = 0, 2, 3, at the start and after some steps; a graph that is not symmetric."""
    points = ((0, 5, True, "start"), (3, 4, False, "middle"), (2, 5, True, "not symmetric"))
    for name in TABLES:
        for n_layers, width, item_bias, where in points:
            yield _model_case(engine, seed, name, n_layers, width, item_bias, where)


def _model_case(engine, seed, name: str, n_layers: int, width: int, item_bias: bool, where: str) -> Case:
    rng = generator(seed, "table", name, n_layers, where)
    A = graph.normalised_adjacency(problems.interactions(rng, N_USERS, N_ITEMS))
    if where == "not symmetric":
        A = problems.random_matrix(rng, N, N, size=0.5)
    triples = problems.batch(rng, N_USERS, N_ITEMS, 30)
    graphs = InDtype(lambda dtype: as_operator(A.astype(dtype)))
    tables = InDtype(lambda dtype: TABLES[name](dtype.name))
    arguments = TABLES[name]("float64").start(width, 0.7, rng)
    arguments |= {"item_bias": 0.5 * rng.standard_normal(N_ITEMS)} if item_bias else {}
    if where == "middle":
        arguments = _trained(arguments, tables(*arguments.values()), graphs(*arguments.values()), triples, n_layers)
    arguments = {key: problems.on_float32_grid(value) for key, value in arguments.items()}

    def run(which, parameters):
        table, A = tables(*parameters.values()), graphs(*parameters.values())
        found = table_model.table_forward(parameters, table, A, n_layers, batch=triples, engine=which)
        return table, A, found, *table_model.table_loss(found, parameters, triples, l2=L2, decay=DECAY, engine=which)

    def forward(**parameters):
        parameters = dict(zip(parameters, promoted(*parameters.values()), strict=True))
        loss = run(twin(engine, *parameters.values()), parameters)[3]
        return loss.bpr, loss.regulariser, loss.total

    def backward(cotangents, **parameters):
        table, A, found, _, slope = run(engine, parameters)
        data, regulariser, total = cotangents
        return table_model.table_gradients(
            found, slope * (data + total), parameters, table, A, triples,
            n_layers=n_layers, l2=L2, decay=regulariser + total * DECAY, engine=engine,
        )  # fmt: skip

    # The loss is smooth; saying so keeps central differences from growing their step where an entry's gradient is tiny.
    return gradient_case(
        "table_model", f"{name}, L = {n_layers}, width {width}, {where}{', item biases' if item_bias else ''}", engine,
        forward, backward, arguments, active_set=lambda **_: np.zeros(1, dtype=bool), settings=STAGE_SETTINGS,
    )  # fmt: skip


def _trained(parameters, table, A, triples, n_layers: int, steps: int = 6):
    moments = adam.fresh_moments(parameters)
    for _ in range(steps):
        found = table_model.table_forward(parameters, table, A, n_layers)
        _, slope = table_model.table_loss(found, parameters, triples, l2=L2, decay=DECAY)
        gradients = table_model.table_gradients(
            found, slope, parameters, table, A, triples, n_layers=n_layers, l2=L2, decay=DECAY
        )
        parameters, moments = adam.adam_step(parameters, gradients, moments, 0.03)
    return parameters


#: The cases of the baselines, by the name that the command line takes.
BASELINES = {"products": products_cases, "table_model": table_model_cases}
