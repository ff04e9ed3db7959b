"""What small problems do not reach: long epochs, batches, schedules and histories, many links, many ranked rows.

Each check is a small problem just beyond a size at which a mistake could hide: 8 or 64 of something, 512, 4,096, 2^15, 2^31.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile

import numpy as np
import scipy.sparse as sparse

from ..data import Dataset
from ..engine import engine_named
from ..evaluation import evaluate_embeddings, evaluate_ranking, hit_matrix, mean_metrics, rank_items
from ..model import graph, joint, links, loss, sampling, starts, step
from ..settings import Settings
from ..threads import in_threads
from ..training import checkpoint, loop
from ..training.loop import Phase
from ..training.phases import phases_of
from ..training.problem import pose
from .case import Checks, differs, off
from .points import dense
from .sampling import plain_triples
from .threads import possible_threads

DTYPES = (np.float64, np.float32)


def _sizes(**given) -> Settings:
    return Settings(**{"n_coarse": 7, "n_fine": 4, "t_fine": 2, "dim": 5, "n_components": 2, "partition": "random"} | given)


# ---- draws and batches -------------------------------------------------------------------------------------------------
def draws_check(engine: str, rng) -> Checks:
    """Epochs of more than 2^16 interactions, batches of more than 4,096 triples, more negatives than eight."""
    module = engine_named(engine)
    R = sparse.csr_array(rng.random((300, 500)) < 0.5)
    batches = list(sampling.drawn_batches(rng, R, 1, 50_000, engine=module))
    yield "an epoch", float(sum(map(len, batches)) != R.nnz or R.nnz < 2**16), 0
    columns = [rng.integers(0, 90, 10_000).astype(np.int32) for _ in range(3)]
    chosen = rng.permutation(10_000)[:8192]
    batch = loss.Triples.by_user(columns, chosen, 90, 90, engine=module)
    order = chosen[np.argsort(columns[0][chosen], kind="stable")]
    expected = [column[order] + shift for column, shift in zip(columns, (0, 90, 90), strict=True)]
    yield "a batch, triple by triple", differs([batch.user, batch.positive, batch.negative], expected), 0
    R = sparse.csr_array(rng.random((9, 14)) < 0.2)
    for n, neg_size in ((60, 12), (9000, 1)):
        found = np.stack(sampling.sample_triples(R, n, neg_size, 5, engine=module), axis=1)
        yield f"{n} draws, {neg_size} negatives", differs(found, list(plain_triples(R, n, neg_size, 5))), 0
    n = 12_000  # entities of a batch: more than 64 groups of 512
    k, H, slope = np.arange(n), rng.standard_normal((3 * n, 2)), rng.random(n)
    grad_H, grad_bias, _ = module.bpr_backward(H, loss.Triples.from_items(k, k, k + n, n, 2 * n), slope)
    user, positive, negative = H[:n], H[n : 2 * n], H[2 * n :]
    s = slope[:, None]
    yield "a batch of many", off(grad_H, np.concatenate([s * (negative - positive), -s * user, s * user])), 1e-13
    yield "biases of many", off(grad_bias, np.concatenate([0 * slope, -slope, slope])), 1e-13


def loss_check(engine: str, rng) -> Checks:
    """Triples that are ranked right by far: the loss keeps its digits, relative to itself."""
    triples = loss.Triples.from_items([0, 1], [0, 1], [2, 2], 2, 3)
    for dtype, x in zip(DTYPES, (34.0, 15.0), strict=True):
        bias = np.array([0, 0, x, x, 0], dtype)
        value, _ = engine_named(engine).bpr_loss(np.zeros((5, 3), dtype), bias, np.zeros(1, dtype), triples)
        yield f"by {x}", abs(float(value) / math.log1p(math.exp(-x)) - 1), 1e-6


# ---- training ----------------------------------------------------------------------------------------------------------
def training_check(engine: str, rng) -> Checks:
    """Twelve negatives reach a step; long schedules and histories; clips and thresholds above 1."""
    R = (rng.random((8, 40)) < 0.2).astype(np.int8)
    R[:, 0] = 1  # for every user
    settings = _sizes(neg_size=12, coarse_batch=10**6, engine=engine)
    posed = pose(Dataset.from_matrices(sparse.csr_array(R)), settings)
    phases, seen, real = phases_of(settings, posed.engine), [], loop.train_step

    def watched(stage, state, moments, graph, triples, **options):
        seen.append(len(triples))
        return real(stage, state, moments, graph, triples, **options)

    begun = loop.begin(phases, posed)
    loop.train_step = watched
    try:
        after, _ = loop.train_epoch(phases[0], begun, posed)
    finally:
        loop.train_step = real
    yield "triples of a batch", differs(seen, [12 * posed.R.nnz]), 0
    long = Phase("long", None, None, 1000, 1, 0.5, 10, "cosine")
    expected = [0.25 * (1 + math.cos(math.pi * epoch / 1000)) for epoch in range(1000)]
    yield "learning rates", off([long.rate_of(epoch) for epoch in range(1000)], expected), 1e-14
    x = {"x": np.zeros(2)}
    _, moments = step.adam_step(x, {"x": np.array([5e3, -1.0])}, step.fresh_moments(x), learning_rate=0.1, clip=2e3)
    yield "a high clip", off(moments.mean["x"], [200, -0.1]), 1e-15
    E_fine, high = np.array([[0.5, 1.5, 2.5, -3]]), dataclasses.replace(settings, threshold=2.0)
    alive = loop._share_above_threshold(dataclasses.replace(begun.state, E_fine=E_fine), high)
    yield "a high threshold", abs(alive - 0.5), 0
    history = tuple(after.history[0] | {"epoch": k} for k in range(1000))
    long_run = dataclasses.replace(begun, history=history, stage_epoch=1000, phase_epoch=1000)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.npz")
        checkpoint.save_checkpoint(path, long_run, settings, posed.data.fingerprint())
        loaded = checkpoint.load_checkpoint(path, settings, posed.data)
        yield "a long history", differs([row["epoch"] for row in loaded.history], range(1000)), 0


def starts_check(engine: str, rng) -> Checks:
    """Eight links and nine, wide codebooks, the partition that was asked for, gates above a half."""
    S = starts.start_coarse_assignment(np.arange(50) % 9, 9, 8, 0.5, rng)
    yield "eight links", float(any(len(set(S.indices[8 * i : 8 * i + 8])) != 8 for i in range(50))), 0
    wide = starts.start_fine_codebook(rng.standard_normal((9, 200)), 40, 2, kind="scores", threshold=1.0, seed=1)
    places = np.flatnonzero(wide.any(axis=0))
    yield "scores stand everywhere", float(places.min() > 20 or places.max() < 180), 0
    R = sparse.csr_array((rng.random((9, 12)) < 0.3).astype(np.int8))
    s = _sizes(training="joint", fine_start="normal", gate=0.0, t_coarse=9, n_coarse=12, t_direct=2)
    state, G = starts.start_joint(R, s), np.ones((21, 5))
    of_state = joint.joint_graph(sparse.csr_array(np.eye(21)), state, 0.0, engine=engine_named("numpy"))
    moments = step.fresh_moments(state.parameters(("S_coarse", "S_direct")))
    after, _ = joint.exchange(state, moments, of_state, G, 1, threshold=s.threshold, reach=0.1)
    moved = [(getattr(after, name) != getattr(state, name)).nnz > 0 for name in ("S_coarse", "S_direct")]
    yield "nine links are exchanged", differs(moved, [True, False]), 0
    blocks = sparse.csr_array(np.kron(np.eye(4), np.ones((10, 10))).astype(np.int8))
    s = _sizes(training="joint", fine_start="normal", gate=0.0, t_direct=1, t_coarse=1, partition="auto")
    own = starts.partition_entities(blocks, 4, method="auto", seed=s.seed + 1)
    yield "direct links", differs(starts.start_joint(blocks, s).S_direct.indices, own), 0
    for gate in (0.35, 0.8):
        s = _sizes(training="joint", fine_start="normal", gate=gate, t_direct=2, threshold=0.2)
        table = starts.start_table(R, s)
        parts = starts.partition_entities(R, 7, method=s.partition, seed=s.seed)
        how = {"parts": parts, "weight": 1.0 + np.concatenate([R.sum(axis=1), R.sum(axis=0)])}
        state, code = starts.code_table(table, R, s), links.residual_code(table.E_coarse, 7, 4, s.t_coarse, 2, seed=s.seed, **how)
        F = np.sign(state.E_fine) * np.maximum(np.abs(state.E_fine) - 0.2, 0)
        yield f"a code with gate {gate}", off(gate * (dense(state.S_fine) @ F) + (1 - gate) * state.E_coarse, code.E_hat), 1e-9
    few = rng.standard_normal((2, table.E_coarse.shape[1]))
    for gate, t_direct in ((1.0, 2), (1.0, 0), (0.35, 0)):
        s = _sizes(training="joint", fine_start="normal", gate=gate, t_direct=t_direct)
        state = starts.code_table(dataclasses.replace(table, E_coarse=few[np.arange(21) % 2]), R, s)
        used = np.bincount(state.S_coarse.indices, np.abs(state.S_coarse.data), minlength=7)
        parts = (state.E_coarse, state.E_fine, state.S_fine.data)
        yield f"rows that nobody uses, gate {gate}", float(used.all() or not all(np.isfinite(part).all() for part in parts)), 0
    s = _sizes(training="joint", fine_start="normal", gate=0.35, t_direct=2, threshold=0.2)
    state = starts.code_table(dataclasses.replace(table, E_coarse=np.zeros_like(table.E_coarse)), R, s)
    yield "a table of zeros, with a threshold", float(np.any(state.E_fine != 0)), 0


def links_check(engine: str, rng) -> Checks:
    """Entries equal to float32, more than 1,000 coded rows and more than 5,000, the gradient of a graph of 140,000 nodes."""
    W = 1 + 1e-12 * rng.permuted(np.tile(np.arange(9.0), (5, 1)), axis=1)
    S = links.keep_largest(W, 3, largest=engine_named(engine).largest_columns)
    yield "nearly equal", differs(S.indices.reshape(5, 3), np.sort(np.argsort(-W, axis=1)[:, :3], axis=1)), 0
    code = links.residual_code(rng.standard_normal((1200, 4)), 5, 3, 1, 1, seed=0)
    yield "rounds", float(len(code.errors) != links.ROUNDS + 1), 0
    # The best of all pairs, which a greedy choice need not find.
    Y, E, pairs = rng.standard_normal((6000, 3)), rng.standard_normal((6, 3)), [(i, j) for j in range(6) for i in range(j)]
    fits = [np.linalg.lstsq(E[[i, j]].T, Y.T, rcond=None)[0].T for i, j in pairs]
    best = np.argmin([np.sum((Y - fit @ E[list(pair)]) ** 2, axis=1) for fit, pair in zip(fits, pairs, strict=True)], axis=0)
    weights = np.stack([fits[k][row] for row, k in enumerate(best)])
    S = sparse.csr_array((weights.ravel(), np.array(pairs)[best].ravel(), np.arange(0, 12_001, 2)), shape=(6000, 6))
    left, before = (np.sum((Y - part @ E) ** 2, axis=1) for part in (links._better_links(Y, E, S), S))
    yield "links of many rows", float(np.max(left - before)), 1e-9
    n = 70_000  # around a ring every link has the same gradient
    ring = sparse.csr_array((np.ones(n), (np.arange(n) + 1) % n, np.arange(n + 1)), shape=(n, n))
    A = sparse.csr_array(ring + ring.T)
    S = sparse.csr_array((np.ones(n), np.arange(n)[::-1].copy(), np.arange(n + 1)), shape=(n, n))
    G = graph.expanded_graph(A, S)
    G.data = 1.0 + (np.repeat(np.arange(2 * n), np.diff(G.indptr)) >= n)
    found, _ = graph.expanded_graph_backward(G, A, S)

    def value(s: float) -> float:
        """What the link of one row adds if its weight is s: two edges of the ring, and itself in both blocks."""
        return 4 / math.sqrt(3) / math.sqrt(2 + s) + 3 * math.sqrt(s) / math.sqrt(2 + s)

    slope = (value(1 + 1e-5) - value(1 - 1e-5)) / 2e-5
    yield "a large graph", off(found.data, np.full(n, slope)), 1e-6


# ---- evaluation and threads ----------------------------------------------------------------------------------------------
def evaluation_check(engine: str, rng) -> Checks:
    """More than 2^15 held-out items, 2^31 pairs and 500 users and rows; a last block of one row."""
    small = {"block_rows": 48}
    for n_users, n_items, density, options in ((200, 400, 0.6, {}), (49, 30, 0.1, small), (97, 30, 0.1, small)):
        U, V = (rng.integers(-3, 4, (n, 3)).astype(np.float32) for n in (n_users, n_items))
        relevant = rng.random((n_users, n_items)) < density
        relevant[:, 0] = True
        relevant = sparse.csr_array(relevant)
        options = options | {"per_user": True, "engine": engine, "n_threads": 1}
        found = evaluate_embeddings(U, V, None, relevant, None, (5, 20), **options)
        other = evaluate_ranking(lambda rows, U=U, V=V: U[rows] @ V.T, relevant, None, (5, 20), per_user=True)
        order = np.argsort(-(U @ V.T), axis=1, kind="stable")[:, :20]
        recall = np.take_along_axis(relevant.toarray(), order, axis=1).sum(axis=1) / np.diff(relevant.indptr)
        for result in (found, other):
            yield f"{relevant.nnz} held-out items of {n_users} users", off(result.per_user["recall@20"], recall), 1e-14
    n = 70_000
    relevant = sparse.csr_array((np.ones(n, np.int8), np.full(n, 39_999), np.arange(n + 1)), shape=(n, 40_000))
    yield "pairs", float(not hit_matrix(np.full((n, 1), 39_999), relevant).all()), 0
    x = rng.random(700)
    yield "a mean", abs(mean_metrics({"x": x})[0]["x"] / (math.fsum(x) / 700) - 1), 1e-14
    scores = rng.random((3000, 7))
    for n_threads in possible_threads():
        found = rank_items(scores, None, 3, engine=engine, n_threads=n_threads)
        yield f"rows on {n_threads} threads", differs(found, np.argsort(-scores, axis=1)[:, :3]), 0
        for n in (0, 1, 5, 100):
            seen: list[int] = []
            in_threads(seen.append, range(n), n_threads)
            yield f"{n} pieces on {n_threads} threads", differs(sorted(seen), range(n)), 0


#: Checks of which the two engines run different code, and those of one version.
BEYOND_BOTH = (draws_check, loss_check, training_check, links_check, evaluation_check)
BEYOND = {"beyond": (*BEYOND_BOTH, starts_check)}
