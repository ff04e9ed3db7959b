"""How the time of a propagation (forward and backward) grows with nodes, edges, width, layers and threads.

    time = a x^p:  p is the slope of a straight line through (log x, log time), by least squares

All curves pass through one base problem; one number varies at a time, in powers of two. With more nodes the edges a node
has stay the same in number; with more edges the nodes do.
"""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from c2f_np.engine import ENGINES, engine_named
from c2f_np.model.graph import normalised_adjacency
from c2f_np.threads import working_threads

from ..sizes import SEED, interactions, matrix_of
from ..timing import Competitor, interleave
from .product import torch_propagation

# Which competitor is drawn beside ours; of torch the faster of its csr products.
NAMES = ("ours", "ours_numpy", "torch_csr_transpose")


@dataclass(frozen=True)
class Point:
    """A problem on the curves; `n_edges` counts interactions, each of which is two entries of the graph."""

    n_nodes: int
    n_edges: int
    width: int = 64
    n_layers: int = 3
    threads: int = 1


def run(plan, workloads):
    """A record for every curve; the sizes of `workloads` play no part in it."""
    for variable, points in curves(plan).items():
        yield _curve(plan, variable, points)


def curves(plan) -> dict[str, list[Point]]:
    """The points of each curve."""
    small = plan.quick
    n, per_node = (2**10, 8) if small else (2**15, 16)
    base = Point(n, n * per_node, threads=plan.threads)
    nodes = [2**k for k in (range(9, 12) if small else range(12, 18))]
    return {
        "nodes": [dataclasses.replace(base, n_nodes=k, n_edges=k * per_node) for k in nodes],
        "edges": [dataclasses.replace(base, n_edges=n * k) for k in ((4, 8, 16) if small else (2, 4, 8, 16, 32, 64))],
        "d": [dataclasses.replace(base, width=k) for k in ((16, 32, 64) if small else (4, 8, 16, 32, 64, 128, 256))],
        "L": [dataclasses.replace(base, n_layers=k) for k in ((1, 2, 4) if small else (1, 2, 4, 8))],
        "threads": [dataclasses.replace(base, threads=2**k) for k in range(plan.threads.bit_length())],
    }


def _curve(plan, variable: str, points: list[Point]) -> dict:
    field = {"nodes": "n_nodes", "edges": "n_edges", "d": "width", "L": "n_layers", "threads": "threads"}[variable]
    competitors = [competitor for point in points for competitor in _competitors(plan, point, variable)]
    times = interleave(competitors, rounds=plan.rounds, seconds=plan.seconds)
    found = {}
    for name in NAMES:
        along = {getattr(p, field): times[_label(name, p)] for p in points if _label(name, p) in times}
        if along and all("median" in value for value in along.values()):
            medians = [value["median"] for value in along.values()]
            found[name] = {"points": {str(x): value for x, value in along.items()}, "fit": fit(list(along), medians)}
    return {
        "kind": "curve",
        "part": "scaling",
        "variable": variable,
        "base": dataclasses.asdict(points[0]) | {field: None},
        "curves": found,
    }


def _label(name: str, point: Point) -> str:
    return f"{name} {dataclasses.astuple(point)}"


def _competitors(plan, point: Point, variable: str) -> list[Competitor]:
    A = graph(point)
    X = np.random.default_rng(0).standard_normal((A.shape[0], point.width), dtype=np.float32)
    operators = {name: engine_named(name).operator(A) for name in ENGINES}

    def both(engine):
        engine_named(engine).propagate(X, operators[engine], point.n_layers)
        engine_named(engine).propagate_backward(X, operators[engine], point.n_layers)

    found = [Competitor(_label("ours", point), lambda: both("numba"), lambda: working_threads(point.threads, "numba"))]
    if variable != "threads":
        # SciPy's product knows one thread only.
        found.append(Competitor(_label("ours_numpy", point), lambda: both("numpy"), lambda: plan.ours("numpy")))
    if plan.torch:
        call = torch_propagation(plan.torch, A, "csr_transpose", X, X, point.n_layers)
        found.append(
            Competitor(_label("torch_csr_transpose", point), call, lambda: _torch_threads(plan.torch, point.threads))
        )
    return found


@contextmanager
def _torch_threads(torch, threads: int):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def graph(point: Point):
    """The normalised graph of a point: two users for three items, power-law degrees."""
    n_users = point.n_nodes * 2 // 5
    n_items = point.n_nodes - n_users
    parts = interactions(n_users, n_items, point.n_edges, np.random.default_rng(SEED))
    return normalised_adjacency(matrix_of(np.concatenate(parts), n_users, n_items)).astype(np.float32)


def fit(x: list[float], seconds: list[float]) -> dict:
    """The exponent p of a power law through the points.

    Parameters
    ----------
    x, seconds : list of float

    Returns
    -------
    dict
        "exponent"; "standard_error" and "r_squared" from three points on, otherwise None; "slopes" between neighbours, which
        show whether there is one power law at all; None for a single point.
    """
    if len(x) < 2:
        return {"exponent": None, "standard_error": None, "r_squared": None, "slopes": [], "n_points": len(x)}
    a, b = np.log(np.asarray(x, dtype=float)), np.log(seconds)
    slope, intercept = np.polyfit(a, b, 1)
    residual = b - (slope * a + intercept)
    error = r_squared = None
    if len(x) > 2:
        error = float(np.sqrt(residual @ residual / (len(x) - 2) / np.sum((a - a.mean()) ** 2)))
        r_squared = float(1 - residual @ residual / np.sum((b - b.mean()) ** 2))
    return {
        "exponent": float(slope),
        "standard_error": error,
        "r_squared": r_squared,
        "slopes": (np.diff(b) / np.diff(a)).tolist(),
        "n_points": len(x),
    }
