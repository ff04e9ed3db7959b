"""The closed-form assignment updates, against the formulas written down plainly.

Shapes
------
H : (N, d)     H_c : (C, d)     H_f : (M, d)     W : (N, C)     T : (C, M)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..records import relative_difference, timing_record
from ..timing import Competitor, interleave


def run(plan, workloads):
    """Records of both updates, for every size."""
    for workload in workloads:
        for stage, plain, in_torch in (("coarse", plain_coarse, torch_coarse), ("fine", plain_fine, torch_fine)):
            yield _update(plan, workload, stage, plain, in_torch)


def _update(plan, workload, stage: str, plain, in_torch) -> dict:
    state, settings = workload.state(stage), workload.settings()
    with plan.ours():
        result = workload.phase(stage).stage.forward(state, workload.graph(stage))
    t = settings.t_fine if stage == "fine" else settings.t_coarse
    parts = [np.asarray(part, dtype=np.float64) for part in _parts(result, stage)]
    competitors = [
        Competitor("ours", lambda: workload.phase(stage).stage.updated(result, state), plan.ours),
        Competitor(
            "ours_numpy",
            lambda: workload.phase(stage, "numpy").stage.updated(result, state),
            lambda: plan.ours("numpy"),
        ),
        Competitor("scipy", lambda: plain(*parts, t), plan.plain, note="the formula as it stands, W formed as a whole"),
    ]
    if plan.torch:
        tensors = [plan.torch.from_numpy(part) for part in parts]
        competitors.append(Competitor("torch_dense", lambda: in_torch(plan.torch, *tensors, t)))
    with plan.ours():
        (ours,) = workload.phase(stage).stage.updated(result, state).values()
    difference = relative_difference(ours.toarray(), plain(*parts, t).toarray())
    times = interleave(competitors, **plan.measuring)
    return timing_record(
        "assignment", f"{stage} assignment updated", workload.size.name, times, ("torch_dense",),
        relative_difference_from_plain=difference,
    )  # fmt: skip


def _parts(result, stage: str):
    found = (result.H_entities, result.H_coarse)
    return (*found, result.H_fine) if stage == "fine" else found


def plain_coarse(H, H_c, t: int) -> sparse.csr_array:
    """The t largest entries of each row of H pinv(H_c)."""
    return _largest(H @ np.linalg.pinv(H_c), t)


def plain_fine(H, H_c, H_f, t: int) -> sparse.csr_array:
    """The t largest entries of each row of softmax(W_c^T W_f)."""
    T = (H @ np.linalg.pinv(H_c)).T @ (H @ np.linalg.pinv(H_f))
    powers = np.exp(T - T.max(axis=1, keepdims=True))
    return _largest(powers / powers.sum(axis=1, keepdims=True), t)


def _largest(W: np.ndarray, t: int) -> sparse.csr_array:
    columns = np.argpartition(-W, t - 1, axis=1)[:, :t]
    rows = np.repeat(np.arange(len(W)), t)
    return sparse.csr_array((np.take_along_axis(W, columns, axis=1).ravel(), (rows, columns.ravel())), shape=W.shape)


def torch_coarse(torch, H, H_c, t: int):
    """As :func:`plain_coarse`; values and columns."""
    return torch.topk(H @ torch.linalg.pinv(H_c), t, dim=1)


def torch_fine(torch, H, H_c, H_f, t: int):
    """As :func:`plain_fine`; values and columns."""
    T = (H @ torch.linalg.pinv(H_c)).T @ (H @ torch.linalg.pinv(H_f))
    return torch.topk(torch.softmax(T, dim=1), t, dim=1)
