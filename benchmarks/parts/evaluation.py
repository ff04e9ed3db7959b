"""Full ranking: scores of all items for all users with test items, training items masked, best 50, NDCG and recall.

Shapes
------
H_users : (U, d)     H_items : (I, d)     bias : (I,)     relevant, masked : (U, I) csr
"""

from __future__ import annotations

import numpy as np

from c2f_np.evaluation import DEFAULT_KS, evaluate_embeddings

from ..records import timing_record
from ..timing import Competitor, interleave

# Users that the slow competitors rank; their times are scaled to all of them.
FEW_USERS = 1000
ROWS_AT_A_TIME = 256


def run(plan, workloads):
    """A record for every size."""
    for workload in workloads:
        yield _evaluation(plan, workload)


def _evaluation(plan, workload) -> dict:
    state, data = workload.state("coarse"), workload.data
    with plan.ours():
        H = workload.phase("coarse").stage.forward(state, workload.graph("coarse")).H_entities
    n_users = data.n_users
    relevant, masked = data.test, data.masked_when_ranking("test")
    arrays = (np.ascontiguousarray(H[:n_users]), np.ascontiguousarray(H[n_users:]), state.bias[n_users:])
    counted = np.flatnonzero(np.diff(relevant.indptr))
    few = counted[:FEW_USERS]
    scale, note = len(counted) / len(few), ""
    if scale > 1:
        note = f"scaled from {len(few):,} of {len(counted):,} users"

    def ours(users, engine):
        found = (arrays[0][users], *arrays[1:], relevant[users], masked[users])
        return evaluate_embeddings(*found, DEFAULT_KS, engine=engine, n_threads=plan.threads).metrics

    competitors = [
        Competitor("ours", lambda: ours(counted, "numba"), plan.ours),
        Competitor("ours_numpy", lambda: ours(few, "numpy"), lambda: plan.ours("numpy"), scale, note),
        Competitor("scipy", lambda: plain_evaluation(*arrays, relevant, masked, few), plan.plain, scale, note),
    ]
    with plan.ours():
        reference = ours(few, "numba")
    ndcg = {"ours": reference["ndcg@20"], "ours_numpy": ours(few, "numpy")["ndcg@20"]}
    ndcg["scipy"] = plain_evaluation(*arrays, relevant, masked, few)["ndcg@20"]
    if plan.torch:
        tensors = [plan.torch.from_numpy(array) for array in arrays]
        competitors.append(
            Competitor("torch_dense", lambda: torch_evaluation(plan.torch, *tensors, relevant, masked, counted))
        )
        ndcg["torch_dense"] = torch_evaluation(plan.torch, *tensors, relevant, masked, few)["ndcg@20"]
    times = interleave(competitors, **plan.measuring)
    return timing_record(
        "evaluation", f"full ranking, {len(counted):,} users, {data.n_items:,} items", workload.size.name, times,
        ("torch_dense",), ndcg_at_20_of_the_first_users=ndcg,
    )  # fmt: skip


def plain_evaluation(H_users, H_items, bias, relevant, masked, users) -> dict[str, float]:
    """With matrix product, ``argpartition`` and ``argsort``, a block of users at a time."""
    hits = []
    for start in range(0, len(users), ROWS_AT_A_TIME):
        block = users[start : start + ROWS_AT_A_TIME]
        scores = H_users[block] @ H_items.T + bias
        scores[masked[block].nonzero()] = -np.inf
        k = min(max(DEFAULT_KS), scores.shape[1])
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        hits.append(_are_relevant(relevant[block], np.take_along_axis(best, order, axis=1)))
    return _metrics(np.concatenate(hits), np.diff(relevant.indptr)[users])


def torch_evaluation(torch, H_users, H_items, bias, relevant, masked, users) -> dict[str, float]:
    """With a matrix product and ``topk``, a block of users at a time."""
    hits = []
    for start in range(0, len(users), ROWS_AT_A_TIME):
        block = users[start : start + ROWS_AT_A_TIME]
        scores = torch.addmm(bias, H_users[torch.from_numpy(block)], H_items.T)
        rows, columns = masked[block].nonzero()
        scores[torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(columns.astype(np.int64))] = -torch.inf
        best = torch.topk(scores, min(max(DEFAULT_KS), scores.shape[1]), dim=1).indices
        hits.append(_are_relevant(relevant[block], best.numpy()))
    return _metrics(np.concatenate(hits), np.diff(relevant.indptr)[users])


def _are_relevant(relevant, lists: np.ndarray) -> np.ndarray:
    """Which places of the lists hold relevant items, shape of `lists`."""
    n_items = relevant.shape[1]
    rows = np.repeat(np.arange(len(lists)), np.diff(relevant.indptr))
    keys = rows * np.int64(n_items) + relevant.indices
    return np.isin(np.arange(len(lists))[:, None] * np.int64(n_items) + lists, keys)


def _metrics(hits: np.ndarray, n_relevant: np.ndarray) -> dict[str, float]:
    """NDCG and recall at every length, means over users."""
    discount = 1 / np.log2(np.arange(hits.shape[1]) + 2)
    found = {}
    for k in DEFAULT_KS:
        ideal = np.concatenate([[0.0], np.cumsum(discount[:k])])[np.minimum(n_relevant, k)]
        found[f"ndcg@{k}"] = float(np.mean((hits[:, :k] * discount[:k]).sum(axis=1) / ideal))
        found[f"recall@{k}"] = float(np.mean(hits[:, :k].sum(axis=1) / n_relevant))
    return found
