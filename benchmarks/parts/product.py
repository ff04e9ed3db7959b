"""The sparse product X_hat X and the whole propagation forwards and backwards, with a roofline for the product.

Shapes
------
X_hat : (N + C, N + C) csr     X : (N + C, d)
"""

from __future__ import annotations

import numba
import numpy as np

from c2f_np.engine import ENGINES, engine_named
from c2f_np.kernels import propagation
from c2f_np.kernels.buffers import empty
from c2f_np.model.graph import expanded_graph

from ..records import TORCH_KINDS, relative_difference, timing_record
from ..roofline import roofline, stream_copy
from ..timing import Competitor, interleave
from ..torch_model import linear_map


def run(plan, workloads):
    """Records of the product and of the propagation, for every size."""
    copy, copy_bytes = stream_copy(plan.quick)
    for workload in workloads:
        problem, state = workload.problem(), workload.state("coarse")
        matrix = expanded_graph(problem.A, state.S_coarse).astype(np.float32)
        X = np.random.default_rng(0).standard_normal((matrix.shape[1], workload.size.dim), dtype=np.float32)
        yield _product(plan, workload.size.name, matrix, X, copy, copy_bytes)
        yield _propagation(plan, workload.size, matrix, X)


def _product(plan, size: str, matrix, X, copy, copy_bytes: int) -> dict:
    operator = engine_named("numba").operator(matrix)
    exact = matrix.astype(np.float64) @ X.astype(np.float64)
    competitors = [
        Competitor("stream_copy", copy, plan.ours),
        Competitor("ours", lambda: operator.forward(X), plan.ours),
        Competitor("ours_contracted", contracted(operator, X), plan.ours),
        Competitor("scipy", lambda: matrix @ X, plan.plain),
    ]
    with plan.ours():
        found = {competitor.name: competitor.call() for competitor in competitors[1:]}
    for name, kind in TORCH_KINDS.items() if plan.torch else ():
        if kind == "csr_transpose":
            continue  # differs in the backward pass only
        product = linear_map(plan.torch, matrix, kind, plan.torch.float32)
        tensor = plan.torch.from_numpy(X)
        competitors.append(Competitor(name, lambda product=product, tensor=tensor: product(tensor)))
        found[name] = competitors[-1].call().numpy()
    differences = {name: relative_difference(value, exact) for name, value in found.items()}
    times = interleave(competitors, **plan.measuring)
    shown = roofline(matrix, X.shape[1], X.itemsize, times, copy_bytes)
    stream = times.pop("stream_copy")
    return timing_record(
        "product", "one sparse product, forward", size, times, ("torch_csr", "torch_coo"),
        stream_copy_seconds=stream, roofline=shown, relative_difference_from_float64=differences,
        shape=list(matrix.shape), entries=int(matrix.nnz), width=X.shape[1],
    )  # fmt: skip


def contracted(operator, X: np.ndarray):
    """Our product compiled so that a multiplication and an addition may become one instruction, which rounds once."""
    width = propagation.constant_width(X.shape[1])
    kernel = numba.njit(parallel=True, fastmath={"contract"})(propagation._product(width).py_func)
    csr = operator.matrix.indptr, operator.matrix.indices, operator.matrix.data
    out, nothing = empty((operator.shape[0], X.shape[1]), X.dtype), np.empty(0, np.int32)

    def call():
        kernel(operator.row_bounds, *csr, X, X[:0], X.dtype.type(1), out, nothing, nothing, nothing)
        return out

    return call


def _propagation(plan, size, matrix, X) -> dict:
    n_layers = size.n_layers
    operators = {name: engine_named(name).operator(matrix) for name in ENGINES}
    gradient = np.random.default_rng(1).standard_normal(X.shape, dtype=np.float32)

    def ours(engine):
        module, operator = engine_named(engine), operators[engine]
        return module.propagate(X, operator, n_layers), module.propagate_backward(gradient, operator, n_layers)

    competitors = [
        Competitor("ours", lambda: ours("numba"), plan.ours),
        Competitor("ours_numpy", lambda: ours("numpy"), lambda: plan.ours("numpy")),
    ]
    exact = [part.astype(np.float64) for part in ours("numpy")]
    with plan.ours():
        differences = {"ours": [relative_difference(a, b) for a, b in zip(ours("numba"), exact, strict=True)]}
    for name, kind in TORCH_KINDS.items() if plan.torch else ():
        call = torch_propagation(plan.torch, matrix, kind, X, gradient, n_layers)
        competitors.append(Competitor(name, call))
        differences[name] = [relative_difference(a.detach(), b) for a, b in zip(call(), exact, strict=True)]
    times = interleave(competitors, **plan.measuring)
    return timing_record(
        "product", f"propagation, {n_layers} layers, forward and backward", size.name, times, TORCH_KINDS,
        relative_difference_from_numpy_engine=differences,
    )  # fmt: skip


def torch_propagation(torch, matrix, kind: str, X: np.ndarray, gradient: np.ndarray, n_layers: int):
    """The mean over all layers in torch, and the gradient at X by autograd.

    Returns
    -------
    callable
        Gives H and the gradient.
    """
    product = linear_map(torch, matrix, kind, torch.from_numpy(X).dtype)
    leaf, cotangent = torch.from_numpy(X).clone().requires_grad_(True), torch.from_numpy(gradient)

    def call():
        leaf.grad = None
        layer = total = leaf
        for _ in range(n_layers):
            layer = product(layer)
            total = total + layer
        H = total / (n_layers + 1)
        H.backward(cotangent)
        return H, leaf.grad

    return call
