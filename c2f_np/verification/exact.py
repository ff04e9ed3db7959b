"""What chooses, counts, sorts and stores, against plain loops; and indices beyond what small integer types hold.

These have no gradient, or one that cannot show the mistake. Choices are compared exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import scipy.sparse as sparse

from ..baselines import table_stage
from ..engine import AVAILABLE_ENGINES, ENGINES, engine_named
from ..errors import DataError, SettingsError
from ..model import codebook, graph, links, loss, propagation, step
from ..model import sparse as model_sparse
from ..model.coarse import coarse_graph
from ..model.fine import FineStage, collapsed_graph, fine_forward, fine_graph
from ..model.loss import Triples
from ..model.step import adam_step, adam_update, clip_by_value, fresh_moments
from ..settings import DEGREES, Settings
from ..threads import kernel_threads
from . import problems, reference
from .beyond import BEYOND, BEYOND_BOTH
from .case import Case, Checks, differs, off, verdict_case
from .cover import pairwise_cover
from .problems import generator
from .starts import STARTS
from .threads import loops_in_random_order, possible_threads, watched_kernels
from .values import PREPARATIONS

DTYPES = (np.float64, np.float32)


def numbers(rng, dtype, *shape) -> tuple[np.ndarray, np.ndarray]:
    """Random numbers that use every digit of a precision, and the same in float64."""
    given = rng.standard_normal(shape).astype(dtype)
    return given, given.astype(np.float64)


# ---- assignments -----------------------------------------------------------------------------------------------------
def largest(row, t: int) -> list[int]:
    """The columns of the t largest entries, the lower one among equals."""
    return sorted(sorted(range(len(row)), key=lambda j: (-row[j], j))[:t])


def assignment_update_check(engine: str, rng) -> Checks:
    """Ties, negative entries, rows in blocks; least squares of full and deficient rank; the softmax of the fine update."""
    columns_of = engine_named(engine).largest_columns
    shapes = pairwise_cover({"n": (1, 6, 70), "m": (1, 4, 9), "t": (1, 2, 3, 4, 6)}, rng)
    # Of many rows with ties each number of links, whatever the cover has chosen.
    shapes += [{"n": 70, "m": 9, "t": t} for t in (2, 3, 4, 6)]
    for at in [shape | {"values": values} for shape in shapes for values in ("ties", "distinct")]:
        n, m, t = at["n"], at["m"], min(at["t"], at["m"])
        W = rng.integers(-2, 3, (n, m)).astype(float) if at["values"] == "ties" else rng.standard_normal((n, m))
        expected = [largest(row, t) for row in W]
        for dtype in DTYPES:
            S = links.keep_largest(W.astype(dtype), t, largest=columns_of)
            yield f"columns of {at}", differs(S.indices.reshape(n, t), expected), 0
            values = np.take_along_axis(W.astype(dtype), np.array(expected), axis=1)
            yield f"values of {at}", differs(S.data.reshape(n, t), values) + (S.data.dtype != dtype), 0

    options = {"c": (3, 7), "d": (2, 5), "t": (1, 2, 3), "rows": (1, 4, 11, 100), "dtype": DTYPES, "lone": (False, True)}
    for at in pairwise_cover(options, rng):
        given, exact = zip(*(numbers(rng, at["dtype"], n, at["d"]) for n in (11, at["c"], 4)), strict=True)
        H, C, F = exact
        if at["lone"]:
            C[-1] = given[1][-1] = 0  # a deficient direction
        W = np.linalg.lstsq(C.T, H.T, rcond=1e-10)[0].T
        S = links.update_coarse_assignment(*given[:2], at["t"], largest=columns_of, rows_at_a_time=at["rows"])
        kept = np.zeros(W.shape)
        for i, row in enumerate(W):
            kept[i, largest(row, at["t"])] = row[largest(row, at["t"])]
        tolerance = 1e-10 if at["dtype"] == np.float64 else 1e-6
        yield f"coarse {at}", off(S.toarray(), kept) + (S.dtype != at["dtype"]), tolerance
        T = W.T @ np.linalg.lstsq(F.T, H.T, rcond=1e-10)[0].T
        yield f"affinity {at}", off(links.fine_affinity(H, C, F), T), 1e-10
        powers = np.array([[math.exp(x - max(row)) for x in row] for row in T])
        soft = powers / powers.sum(axis=1)[:, None]
        for renormalise in (False, True):
            S = links.update_fine_assignment(*given, at["t"], renormalise=renormalise, largest=columns_of)
            expected = np.zeros(soft.shape)
            for i, row in enumerate(soft):
                columns = largest(row, at["t"])
                expected[i, columns] = row[columns] / (row[columns].sum() if renormalise else 1)
            yield f"fine {at}", off(S.toarray(), expected) + (S.dtype != at["dtype"]), max(tolerance, 1e-9)

    large = links.softmax_rows(np.array([[1e4, 0.0, 1e4], [-1e4, -1e4, -2e4]]))
    yield "softmax of large numbers", off(large, [[0.5, 0, 0.5], [0.5, 0.5, 0]]), 1e-15
    for dtype in DTYPES:
        for share, kept in ((0.3, False), (3.0, True)):
            small = share * 5 * float(np.finfo(dtype).eps)
            H = np.zeros((5, 2), dtype)
            H[1, 0], H[3, 1] = 1, small
            expected = np.zeros((2, 5))
            expected[0, 1], expected[1, 3] = 1, 1 / float(H[3, 1]) if kept else 0
            yield f"cut-off of the inverse, {share} of it", off(links.pseudoinverse(H), expected), 1e-12


def link_exchange_check(engine: str, rng) -> Checks:
    """The weakest link goes and the one with the largest pull comes, row by row; ties, blocks, rows without a gradient."""
    options = {"t": (1, 2, 3, 5, 6), "k": (6, 8), "rows": (1, 4, 12, 13, 100), "dtype": DTYPES}
    for at in [drawn | {"values": values} for drawn in pairwise_cover(options, rng) for values in ("ties", "distinct")]:
        n, k, t, d = 13, at["k"], at["t"], 3

        def numbers(*shape, ties=at["values"] == "ties"):
            return rng.integers(-2, 3, shape).astype(float) if ties else problems.normal(rng, *shape)

        columns = np.sort(rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)[:, :t], axis=1)
        S = sparse.csr_array((numbers(n * t), columns.ravel(), np.arange(n + 1) * t), shape=(n, k))
        E, G = numbers(k, d), numbers(n, d)
        E[0] = [2.0, -1, 2]  # of length 3 exactly
        G[2] = 0
        given = [X.astype(at["dtype"]) for X in (S, E, G)]
        found = links.exchange_links(*given, rows_at_a_time=at["rows"])
        expected = []
        for i in range(n):
            linked = [[int(j), float(S.data[i * t + p]), i * t + p] for p, j in enumerate(columns[i])]
            free = [j for j in range(k) if j not in columns[i]]
            pulls = {j: abs(sum(G[i, f] * E[j, f] for f in range(d))) for j in free}
            if free and max(pulls.values()) > 0:
                # In the square, and in integers where there are ties: a root of equal numbers is equal too.
                strengths = [(w * w) * sum(E[j, f] ** 2 for f in range(d)) for j, w, _ in linked]
                goes = strengths.index(min(strengths))
                linked[goes] = [min(free, key=lambda j: (-pulls[j], j)), 0.0, -1]  # noqa: B023
            expected += sorted(linked)
        place, weight, kept = (np.array(part) for part in zip(*expected, strict=True))
        yield f"columns {at}", differs(found.S.indices, place) + differs(found.S.indptr, S.indptr), 0
        yield f"weights {at}", differs(found.S.data, weight) + (found.S.dtype != at["dtype"]), 0
        yield f"kept {at}", differs(found.kept, kept), 0
        old = np.arange(1.0, n * t + 1).astype(at["dtype"])
        yield f"carried {at}", differs(found.carry(old), [old[p] if p >= 0 else 0 for p in kept]), 0
    for n in (0, 3):
        found = links.exchange_links(sparse.csr_array((n, 4)), np.ones((4, 2)), np.ones((n, 2)))
        yield "no links", float(found.S.shape != (n, 4) or found.S.nnz != 0 or len(found.kept) != 0), 0


def matching_pursuit_check(engine: str, rng) -> Checks:
    """Greedy choice and weights fitted anew, row by row; the codebook that fits best."""
    for at in pairwise_cover({"t": (1, 2, 3, 4, 5, 6), "rows": (1, 4, 10, 11, 100), "d": (2, 8), "dtype": DTYPES}, rng):
        n, k, t, d = 11, 7, at["t"], at["d"]
        (given_Y, Y), (given_E, E) = (numbers(rng, at["dtype"], size, d) for size in (n, k))
        E[3] = given_E[3] = 0
        S = links.pursue(given_Y, given_E, t, rows_at_a_time=at["rows"])
        expected = reference.pursue(Y, E, t)[0]
        # With more links than dimensions nothing is left after d of them, and rounding chooses the others.
        if t <= d:
            yield f"weights {at}", off(S.toarray(), expected), 1e-8
        yield f"links {at}", differs(np.diff(S.indptr), np.full(n, t)) + (S.dtype != np.float64), 0
        yield f"distinct {at}", float(np.any(np.diff(S.indices.reshape(n, t), axis=1) <= 0)), 0
        yield f"residual {at}", off(S @ E, expected @ E), 1e-6

        S = problems.assignment(rng, 12, 5, min(t, 4))
        S.data[S.indices == 2] = 0
        (given_Y, Y), (_, E) = (numbers(rng, at["dtype"], size, d) for size in (12, 5))
        S.data *= 1 + 1e-9 * rng.random(S.nnz)
        S = S.astype(at["dtype"])
        dense = S.toarray().astype(np.float64)
        fitted = np.linalg.lstsq(dense, Y, rcond=1e-10)[0]
        fitted[~dense.any(axis=0)] = E[~dense.any(axis=0)]
        yield f"codebook {at}", off(links.fit_codebook(given_Y, S, E), fitted), 1e-9
        yield f"codebook of links that weigh nothing {at}", off(links.fit_codebook(given_Y, 0 * S, E, by_singular_values=4), E), 0
        scaled, weight = 1e-4 * dense, rng.integers(1, 4, 12)
        for counts in (None, weight):
            rows = np.repeat(np.arange(12), 1 if counts is None else counts)
            known, counted = Y[rows], scaled[rows]
            gram = counted.T @ counted
            ridge = 1e-10 * np.trace(gram) / 5 * np.eye(5)
            by_ridge = np.linalg.solve(gram + ridge, counted.T @ known)
            for most, fitted in ((5, np.linalg.lstsq(counted, known, rcond=1e-10)[0]), (4, by_ridge)):
                fitted[~dense.any(axis=0)] = E[~dense.any(axis=0)]
                found = links.fit_codebook(given_Y, sparse.csr_array(scaled), E, counts, by_singular_values=most)
                yield f"codebook, weighted or by a ridge, {at}", off(found, fitted), 1e-11

        parts = np.repeat([0, 1, 3], (3, 1, 8))  # one of a single row, two without any
        for weight in (None, rng.integers(1, 4, 12)):
            members = [np.flatnonzero(parts == part) for part in range(5)]
            counted = [np.repeat(rows, 1 if weight is None else weight[rows]) for rows in members]
            expected = [Y[rows].mean(axis=0) if len(rows) else Y[part] for part, rows in enumerate(counted)]
            yield f"means {at}, weights {weight is not None}", off(links.means(Y, parts, 5, weight), np.array(expected)), 1e-12


def hashing_check(engine: str, rng) -> Checks:
    """The formula in whole numbers of any size; among many entities, so that the lowest bit of a factor shows."""
    n, n_rows = 300_000, 2**31 + 11
    for seed in range(20):
        factors, shifts = np.random.default_rng([seed, 0x68617368]).integers(0, 2**64, size=(2, 3), dtype=np.uint64)
        if (factors % 2 == 0).any():
            break
    low, half, e = np.uint64(2**32 - 1), np.uint64(32), np.arange(n, dtype=np.uint64)[:, None]
    factors |= np.uint64(1)
    carried = ((factors & low) * e + (shifts & low)) >> half
    hashes = ((factors >> half) * e + carried + (shifts >> half)) & low
    yield "many", differs(table_stage.hashed_rows(n, n_rows, 3, seed), (hashes * np.uint64(n_rows)) >> half), 0
    for at in pairwise_cover({"n": (1, 9, 70_000), "rows": (1, 7, 300, 2**31 + 11), "hashes": (1, 2, 3, 7)}, rng):
        n, n_rows, n_hashes, seed = at["n"], at["rows"], at["hashes"], int(rng.integers(1000))
        rows = table_stage.hashed_rows(n, n_rows, n_hashes, seed)
        drawn = np.random.default_rng([seed, 0x68617368]).integers(0, 2**64, size=(2, n_hashes), dtype=np.uint64)
        some = sorted({0, n - 1, *rng.integers(0, n, 5).tolist()})
        expected = [
            [n_rows * (((int(a) | 1) * e + int(b)) % 2**64 // 2**32) // 2**32 for a, b in zip(*drawn, strict=True)] for e in some
        ]
        yield f"rows {at}", differs(rows[some], expected) + (rows.shape != (n, n_hashes)) + (rows.dtype != np.int64), 0
        if n_rows < 1000 and n < 1000:
            dense = np.zeros((n, n_rows))
            for e in range(n):
                for row in rows[e]:
                    dense[e, row] += 1
            for dtype in DTYPES:
                S = table_stage.hash_assignment(n, n_rows, n_hashes, seed, dtype)
                yield f"matrix {at}", differs(S.toarray(), dense) + (S.dtype != dtype) + (not S.has_canonical_format), 0


# ---- batches ---------------------------------------------------------------------------------------------------------
def triples_check(engine: str, rng) -> Checks:
    """Which entity stands where, and how often; the numbers of a batch's own entities; a batch in the order of its users."""
    sort = engine_named(engine).sort_slots
    for kind in problems.BATCHES:
        n_users, n_items, batch = problems.batch_of(rng, kind)
        batch = replace(batch, sort=sort)
        columns, where = [batch.user, batch.positive, batch.negative], batch.occurrences
        slots: dict[int, list[int]] = {}
        for role, column in enumerate(columns):
            for b, e in enumerate(column):
                slots.setdefault(int(e), []).append(role * len(batch) + b)
        yield f"entities, {kind}", differs(where.entities, sorted(slots)), 0
        yield f"slots, {kind}", differs(where.slots, sum((sorted(slots[e]) for e in sorted(slots)), [])), 0
        yield f"counts, {kind}", differs(where.counts, [len(slots[e]) for e in sorted(slots)]) + (where.start[0] != 0), 0
        local = batch.local
        mine = [local.user, local.positive, local.negative]
        wrong = [differs(where.entities[part], column) for part, column in zip(mine, columns, strict=True)]
        yield f"local, {kind}", sum(wrong) + (local.n_entities != len(slots)), 0
        fresh = Triples(*mine, len(slots), sort).occurrences
        again = local.occurrences
        parts = ("entities", "start", "slots")
        yield f"local occurrences, {kind}", sum(differs(getattr(fresh, p), getattr(again, p)) for p in parts), 0
    for n_drawn in (1, 9, 60):
        n_users, n_items = 5, 7
        drawn = [rng.integers(0, size, n_drawn).astype(np.int32) for size in (n_users, n_items, n_items)]
        chosen = rng.permutation(n_drawn)[: max(n_drawn // 2, 1)]
        batch = Triples.by_user(drawn, chosen, n_users, n_items, engine=engine_named(engine))
        order = sorted(range(len(chosen)), key=lambda k: (drawn[0][chosen[k]], k))
        for name, shift, column in (("user", 0, 0), ("positive", n_users, 1), ("negative", n_users, 2)):
            expected = [int(drawn[column][chosen[k]]) + shift for k in order]
            found = getattr(batch, name)
            yield f"by user, {name}", differs(found, expected) + (found.dtype != np.int64), 0
        yield "number of entities", float(batch.n_entities != n_users + n_items or len(batch) != len(chosen)), 0
    found = Triples.from_items([1, 0], [2, 0], [0, 1], 2, 3)
    expected = [[1, 0], [4, 2], [2, 3]]
    yield "from items", differs([found.user, found.positive, found.negative], expected) + (found.n_entities != 5), 0


# ---- ranking, memory, groups -----------------------------------------------------------------------------------------
def ranking_check(engine: str, rng) -> Checks:
    """Order, ties, masks of many items, lists longer than what is left, items part by part, and where a NaN is."""
    options = {"items": (1, 8, 90), "k": (1, 3, 60), "masked": (0.0, 0.4, 0.8, 1.0), "ties": (False, True)}
    shapes = pairwise_cover(options | {"block": (1, 4, 7, 64), "at_a_time": (1, 5, 33, 90)}, rng)
    more = {"items": 90, "ties": True, "block": 4}
    shapes += [more | {"k": k, "masked": m, "at_a_time": each} for k in (3, 60) for m in (0.0, 0.4) for each in (33, 90)]
    for at in shapes:
        n, m, k = 7, at["items"], min(at["k"], at["items"])
        scores = rng.integers(-2, 3, (n, m)).astype(float) if at["ties"] else rng.standard_normal((n, m))
        scores[2, 0], scores[3, 0] = -np.inf, np.inf
        dense = rng.random((n, m)) < at["masked"]
        pattern, rows = sparse.csr_array(dense), rng.permutation(n)
        expected = np.full((n, k), -1)
        for r in range(n):
            items = sorted((j for j in range(m) if not dense[rows[r], j]), key=lambda j: (-scores[r, j], j))[:k]  # noqa: B023
            expected[r, : len(items)] = items
        for dtype in DTYPES:
            given = scores.astype(dtype)
            ranking, best, filled, nan_at = _ranked(given, rows, pattern, k, at["at_a_time"], at["block"])
            yield f"{at}", differs(ranking, expected) + (nan_at != (-1, -1)), 0
            listed = expected >= 0
            yield f"how many, {at}", differs(filled, listed.sum(axis=1)), 0
            yield f"their scores, {at}", differs(best[listed], np.take_along_axis(given, expected, axis=1)[listed]), 0
            given[4, m - 1] = np.nan
            nan_at = _ranked(given, rows, pattern, k, at["at_a_time"], at["block"])[-1]
            yield f"NaN of {at}", float(nan_at != (4, m - 1)), 0
    # A list that is not full yet is held against nothing, least of all against the row before.
    scores, masked = np.array([[9.0, 9, 9, 9, 9], [0, 0, -1, -2, -3]]), sparse.csr_array([[0, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    yield "a row after better ones", differs(_ranked(scores, np.arange(2), masked, 2, 5, 1)[0], [[0, 1], [2, 3]]), 0


def _ranked(scores, rows, pattern, k: int, at_a_time: int, block: int) -> tuple:
    """Lists, their scores and lengths, and the place of the first NaN, items being entered so many at a time."""
    from ..kernels.ranking import rank_rows

    n, m = scores.shape
    ranking, best, filled = np.full((n, k), -1), np.empty((n, k), scores.dtype), np.zeros(n, np.int64)
    for first in range(0, m, at_a_time):
        some = np.ascontiguousarray(scores[:, first : first + at_a_time])
        nan_at = rank_rows(some, rows, pattern.indptr, pattern.indices, ranking, best, filled, first, block)
        if nan_at != (-1, -1):
            break
    return ranking, best, filled, tuple(nan_at)


def buffers_check(engine: str, rng) -> Checks:
    """Arrays of random sizes come and go: all aligned, none over another that is in use, and memory really is used again."""
    from ..kernels import buffers

    for smallest in (1, 1000, 1 << 20):
        with buffers.reused_buffers(smallest):
            held, seen, again = [], set(), 0
            for _ in range(60):
                shape, dtype = tuple(rng.integers(0, 12, 2).tolist()), rng.choice([np.float32, np.float64, np.int32])
                array = buffers.empty(tuple(rng.choice([int, np.int64])(n) for n in shape), dtype)
                again += array.nbytes >= smallest and array.ctypes.data in seen
                seen.add(array.ctypes.data)
                good = array.shape == shape and array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
                yield "shape, type and alignment", float(not good or array.size > 0 and array.ctypes.data % 64 != 0), 0
                array[...] = len(held) + 1
                held.append((array[::2].T if rng.random() < 0.5 else array, len(held) + 1))
                while held and rng.random() < 0.4:
                    array, value = held.pop(int(rng.integers(len(held))))
                    yield "still what it was", float(np.any(array != value)), 0
                    held = [(a, v) for a, v in held]
                    del array
            yield f"used again, from {smallest} bytes", float((again > 0) != (smallest == 1) and smallest != 1000), 0
            given_back, from_bytes = buffers._reused.get()
            yield f"given back, from {smallest} bytes", float(any(given_back.values()) != (smallest == 1) and smallest != 1000), 0
            yield "as large as was asked for", float(from_bytes != smallest), 0
        yield "afterwards as before", float(buffers._reused.get()[1] != math.inf), 0
    sizes = np.array([*range(1, 300), 1 << 20, (1 << 20) + 1, 36_000_000])
    rounded = np.array([buffers._rounded_up(int(size)) for size in sizes])
    yield "rounded up", float(np.any(rounded < sizes) or np.any(rounded > sizes * 9 / 8 + 1)), 0
    yield "few sizes", float(len(set(rounded[:256])) > 48), 0


def row_groups_check(engine: str, rng) -> Checks:
    """Every row in exactly one group, loads even; transposes; which widths have kernels of their own."""
    from ..kernels.compiled import LANE
    from ..kernels.propagation import _widened, constant_width, even_groups_of, even_row_groups

    for at in pairwise_cover({"n": (1, 2, 63, 64, 65, 3000), "groups": (1, 2, 3, 64), "most": (0, 1, 9, 200)}, rng):
        lengths = rng.integers(0, at["most"] + 1, at["n"])
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        bounds = even_row_groups(indptr, at["groups"])
        wrong = bounds[0] != 0 or bounds[-1] != at["n"] or len(bounds) != at["groups"] + 1 or np.any(np.diff(bounds) < 0)
        load = np.diff(indptr[bounds] + bounds)
        wrong |= load.max() > (lengths.sum() + at["n"]) / at["groups"] + at["most"] + 1
        yield f"groups {at}", float(wrong) + differs(even_groups_of(lengths, at["groups"]), bounds), 0
    yield "number of groups", float(len(even_row_groups(np.arange(9))) != 65), 0
    own = [width for width in range(600) if constant_width(width) == width > 0]
    yield "widths with kernels of their own", differs(own, [*range(4, 48, 4), *range(48, 513)]) + (LANE != 16), 0
    for width in range(60):
        X = rng.standard_normal((2, width))
        zeros = np.zeros((2, 4 * -(-width // 4) - width if width < 48 else 0))
        yield "widened to one of them", differs(_widened(X), np.hstack([X, zeros])), 0
    M = problems.random_matrix(rng, 70, 9)
    twice = sparse.csr_array((np.repeat(M.data / 2, 2), np.repeat(M.indices, 2), 2 * M.indptr), shape=M.shape)
    for matrix, name in ((M, "numpy"), (twice, "numpy"), (M, "numba"), (twice, "numba")):
        operator = engine_named(name).operator(matrix)
        yield "matrix", differs(operator.matrix.toarray(), M.toarray()) + (not operator.matrix.has_canonical_format), 0
        wrong = differs(operator.transpose.toarray(), M.toarray().T) + (not operator.transpose.has_sorted_indices)
        yield "transpose", wrong + (model_sparse.operator(operator) is not operator), 0
    yield "their groups", differs(operator.row_bounds, even_row_groups(operator.matrix.indptr)), 0
    yield "the transpose's", differs(operator.transpose_row_bounds, even_row_groups(operator.transpose.indptr)), 0
    for name in ENGINES:
        symmetric = engine_named(name).symmetric_operator(sparse.csr_array(M @ M.T))
        yield "a symmetric operator", float(symmetric.transpose is not symmetric.matrix), 0
    wrong = differs(symmetric.row_bounds, even_row_groups(symmetric.matrix.indptr))
    yield "its groups", wrong + differs(symmetric.row_bounds, symmetric.transpose_row_bounds), 0


def chunks_check(engine: str, rng) -> Checks:
    """tanh in chunks of rows on threads: the last chunk whole, short or of one row."""
    from ..kernels.propagation import tanh_in_place

    for at in pairwise_cover({"n": (0, 1, 15, 16, 17, 33, 70), "chunks": (1, 3, 16), "threads": possible_threads()}, rng):
        X = rng.standard_normal((at["n"], 2))
        with kernel_threads(at["threads"]):
            yield f"{at}", differs(tanh_in_place(X.copy(), worth_a_thread=1, n_chunks=at["chunks"]), np.tanh(X)), 0


def clipping_check(engine: str, rng) -> Checks:
    """By value, entry by entry."""
    gradient = 4 * rng.standard_normal((6, 3))
    for limit in (3.0, 0.5, 100.0, np.inf):
        literal = [[limit if g > limit else -limit if g < -limit else g for g in row] for row in gradient]
        for dtype in DTYPES:
            clipped = clip_by_value(gradient.astype(dtype), limit)
            small = {"x": gradient.astype(dtype)}
            with watched_kernels() as called:
                update = engine_named("numba").adam_update
                _, moments = adam_step(
                    small, small, fresh_moments(small), learning_rate=0.1, clip=limit, update=update
                )
            yield "a small array is left to NumPy", float(called != {"step.adam_update"}), 0
            of_clipped = adam_update(small["x"], clipped, 0 * clipped, 0 * clipped, 1.0, 1.0)
            yield "before the step", sum(map(differs, (moments.mean["x"], moments.square["x"]), of_clipped[1:])), 0
            yield f"at {limit}", differs(clipped, np.array(literal).astype(dtype)) + (clipped.dtype != dtype), 0


def collapse_pays_check(engine: str, rng) -> Checks:
    """The count of multiplications, by hand; more memory than allowed never pays."""
    wrong = 0
    for _ in range(1000):
        n, entries, m, d, n_layers, n_steps, n_rows = (int(rng.integers(1, most)) for most in (900, 5000, 30, 70, 5, 40, 900))
        layered = n_steps * 2 * n_layers * entries * d * 4
        collapsed = n_steps * 2 * n_rows * 2 * m * d + n_layers * entries * (2 * m + d) * 4
        found = propagation.collapse_pays(n, entries, m, d, n_layers, n_steps=n_steps, n_rows=n_rows, itemsize=4)
        wrong += found != (collapsed < layered)
    yield "operations", float(wrong), 0
    yield "of two ways of equal cost, by layers", float(propagation.collapse_pays(9, 10, 1, 2, 1, n_steps=2, n_rows=10)), 0
    for itemsize in (4, 8):
        most = 2**30 // (itemsize * 2 * (8 + 24))
        options = {"n_steps": 100, "n_rows": 1, "itemsize": itemsize}
        for given in (options, {k: v for k, v in options.items() if (k, v) != ("itemsize", 4)}):  # 4 is the default
            pays = [propagation.collapse_pays(n, 10**9, 8, 24, 3, **given) for n in (most, most + 1)]
            yield "memory", differs(pays, [True, False]), 0
    chosen = set()
    for _ in range(200):
        n_users, n_items, links, entries, m, d, n_layers, neg_size, batch = rng.integers(
            1, (500, 500, 5000, 9000, 30, 70, 5, 6, 900)
        ).tolist()  # fmt: skip
        n, n_steps = n_users + n_items, math.ceil(links * neg_size / batch)
        if rng.random() < 0.5:  # where both cost about as much
            even = n_steps * min(n, 3 * batch) * m * d / max(n_layers * (2 * d * n_steps - 2 * m - d), 1)
            entries = max(int(even * rng.choice([0.9, 1.1])), 1)
        if rng.random() < 0.2:  # where the precision decides: float64 takes more memory than allowed
            n_users, entries, m, d, n_layers = 1_000_000, 10**12, 30, 70, 3
        how, dtype = str(rng.choice(["auto", "auto", "layers", "collapsed"])), str(rng.choice(["float32", "float64"]))
        composition = "coarse" if how == "collapsed" else str(rng.choice(["coarse", "coarse", "bridged"]))
        s = Settings(n_coarse=5, n_fine=m, dim=d, n_layers=n_layers, t_fine=1, neg_size=neg_size, fine_batch=batch,
                     propagation=how, composition=composition, dtype=dtype)  # fmt: skip
        layer = SimpleNamespace(X_hat=SimpleNamespace(matrix=SimpleNamespace(nnz=entries)),
                                S_coarse=SimpleNamespace(shape=(n_users + n_items, 5)))  # fmt: skip
        graph = SimpleNamespace(composition=composition, layer=layer)
        n = n_users + n_items
        layered = n_steps * 2 * n_layers * entries * d * 4
        collapsed = n_steps * 2 * min(n, 3 * batch) * 2 * m * d + n_layers * entries * (2 * m + d) * 4
        fits = n * (2 * m + 2 * d) * (4 if dtype == "float32" else 8) <= 2**30
        expected = how == "collapsed" or how == "auto" and composition == "coarse" and collapsed < layered and fits
        chosen.add((how, expected))
        yield "the decision", float(FineStage(s, None)._collapses(graph, links * neg_size) != expected), 0
    yield "both decisions", float(not {("auto", True), ("auto", False)} <= chosen), 0


def matrices_check(engine: str, rng) -> Checks:
    """A matrix is as good as a prepared operator, in the bridge, the composition and the propagation."""
    S, E, F, G = problems.assignment(rng, 6, 4, 2), *(problems.normal(rng, n, 3) for n in (6, 4, 6))
    module = engine_named(engine)
    calls = {
        "bridge": lambda S: codebook.bridge(E, S, F, 0.3),
        "bridge, backward": lambda S: codebook.bridge_backward(G, S, 0.3)[1],
        "bridge, assignment": lambda S: codebook.bridge_backward_assignment(G, S, F, 0.3).toarray(),
        "bridge, gate": lambda S: codebook.bridge_backward_gate(G, E, S, F),
        "composition": lambda S: module.compose(S, F),
        "composition, above": lambda S: module.compose_above(S, F),
        "composition, backward": lambda S: module.compose_backward(G, S, np.tanh(E)),
        "composition, assignment": lambda S: codebook.compose_backward_assignment(G, S, F, np.tanh(E)).toarray(),
    }
    for what, call in calls.items():
        yield what, differs(call(S), call(module.operator(S))), 0
    M, rows = problems.random_matrix(rng, 6, 6), np.array([4, 1])
    for what, pass_on in (("propagation", module.propagate), ("propagation, backward", module.propagate_backward)):
        for which in (None, rows):
            given = E if which is None or pass_on is module.propagate else E[which]
            yield what, differs(pass_on(given, M, 2, rows=which), pass_on(given, module.operator(M), 2, rows=which)), 0


def scalars_check(engine: str, rng) -> Checks:
    """A number of NumPy's is as good as one of Python's: arrays of float32 stay that, and no bit changes."""
    module, single = engine_named(engine), {"dtype": np.float32}
    X, E, F, Z = (problems.normal(rng, n, 3).astype(np.float32) for n in (13, 4, 3, 9))
    S_fine = module.operator(problems.assignment(rng, 4, 3, 2).astype(np.float32))
    matrices = (problems.random_matrix(rng, 13, 13, size=0.4), problems.assignment(rng, 6, 4, 2), S_fine.matrix)
    matrices = [sparse.csr_array(matrix, **single) for matrix in matrices]
    batch = problems.batch(rng, 4, 5, 7)

    def layer(how, x):
        made = propagation.bridged_layer(*matrices, x, layer_bridge=how, engine=module)
        of_structure = made.structure_gradients(X, X)
        return [made.forward(X), made.adjoint(X), *(of_structure[name] for name in sorted(of_structure) if name != "gate")]

    def stepped(x):
        moments = step.fresh_moments({"Z": Z})
        new, after = step.adam_step({"Z": Z}, {"Z": Z}, moments, learning_rate=x, clip=x, update=module.adam_update)
        return [new["Z"], after.mean["Z"], after.square["Z"]]

    calls = {
        "soft threshold": lambda x: [codebook.soft_threshold(E, x), codebook.soft_threshold_backward(E, E, x)],
        "bridge": lambda x: [codebook.bridge(E, S_fine, F, x), *codebook.bridge_backward(E, S_fine, x)],
        "bridge, assignment": lambda x: [codebook.bridge_backward_assignment(E, S_fine, F, x).data],
        "raw": lambda x: layer("raw", x),
        "exchange": lambda x: layer("exchange", x),
        "penalty": lambda x: [np.asarray(module.squared_norm_penalty(Z, batch, x))],
        "penalty, backward": lambda x: [module.squared_norm_penalty_backward(x, Z, batch, x, np.zeros_like(Z))],
        "step": stepped,
    }
    for what, call in calls.items():
        for ours, theirs in zip(call(np.float64(0.3)), call(0.3), strict=True):
            yield what, differs(ours, theirs) + (ours.dtype != theirs.dtype), 0


def layers_check(engine: str, rng) -> Checks:
    """A matrix is as good as a prepared layer, and a result is an array of its own."""
    M, X = problems.random_matrix(rng, 6, 6, size=0.5), problems.normal(rng, 6, 2)
    dense = M.toarray()
    for n_layers in (0, 1, 3):
        mean = sum(np.linalg.matrix_power(dense, k) for k in range(n_layers + 1)) / (n_layers + 1)
        yield f"L = {n_layers}, forward", off(propagation.propagate(X, M, n_layers), mean @ X), 1e-14
        yield f"L = {n_layers}, backward", off(propagation.propagate_backward(X, M, n_layers), mean.T @ X), 1e-14
        ours, theirs = (propagation.propagate_backward_structure(X, X, layer, n_layers)["X_hat"]
                        for layer in (M, engine_named(engine).operator(M)))  # fmt: skip
        yield f"L = {n_layers}, weights", differs(ours, theirs), 0
    for name in AVAILABLE_ENGINES:
        module = engine_named(name)
        for pass_on in (module.propagate, module.propagate_backward):
            shared = np.shares_memory(pass_on(X, module.operator(M), 0), X)
            yield f"{name}, {pass_on.__name__}", float(shared), 0


def softplus_check(engine: str, rng) -> Checks:
    """Softplus and its derivative, far out and near 0."""
    for x in (-800.0, -30.0, -1e-9, 0.0, 1e-9, 0.7, 30.0, 800.0):
        small = math.exp(-abs(x))
        yield f"softplus({x})", off(loss.softplus(np.array([x])), [max(x, 0) + math.log1p(small)]), 1e-15
        yield f"sigmoid({x})", off(loss.sigmoid(np.array([x])), [(1 if x >= 0 else small) / (1 + small)]), 1e-15


def mixed_check(engine: str, rng) -> Checks:
    """Matrices of one precision, rows of the other: the result has the wider one."""
    rows, n, module = np.array([4, 1]), 5, engine_named(engine)
    for first, second in (DTYPES, DTYPES[::-1]):
        M, X = problems.random_matrix(rng, n, n).astype(first), problems.normal(rng, n, 2).astype(second)
        M = module.operator(M)
        parts = (problems.normal(rng, n, width).astype(first) for width in (2, 4))
        collapsed = propagation.CollapsedPropagation(*parts, X[:0], X[:0])
        results = [
            M.forward(X),
            M.adjoint(X),
            M.weights_gradient(X.astype(first), X),
            module.compose(M, X),
            module.compose_above(M, X),
            module.compose_backward(X, M, X),
            module.tanh_backward(X.astype(first), X),
            module.propagate_collapsed(X[:2], X[1:3], collapsed, rows=rows),
            *module.propagate_collapsed_backward(X[rows], collapsed, rows=rows),
        ]
        for n_layers in (1, 2) if engine == "numba" else ():
            for which in (None, rows):
                results.append(module.propagate(X, M, n_layers, rows=which))
                given = X if which is None else X[which]
                results.append(module.propagate_backward(given, M, n_layers, rows=which))
        right = [part.dtype == np.float64 for part in results]
        yield f"{np.dtype(first)} and {np.dtype(second)}", float(not all(right)), 0
        A, S = graph.normalised_adjacency(M.matrix, first), problems.assignment(rng, 2 * n, 3, 2).astype(second)
        S_fine = problems.assignment(rng, 3, 2, 1).astype(second)
        built = coarse_graph(A, S, engine=module).X_hat, fine_graph(A, S, S_fine, 0.3, engine=module).layer.X_hat
        yield "a graph in the precision of its links", float(any(X_hat.matrix.dtype != second for X_hat in built)), 0


def refusals_check(engine: str, rng) -> Checks:
    """What makes no sense is refused; the last value that makes sense is not."""
    E, S = np.ones((3, 2)), sparse.csr_array(np.array([[1.0, 0, 1], [0, 1, 1]]))
    X_hat, R, module = sparse.csr_array(np.eye(7)), table_stage.hashed_rows, engine_named(engine)
    broken, batch, E7 = np.array([[1.0, np.nan]]), Triples.from_items, np.ones((7, 1))
    ring, square = propagation.bridged_layer, module.operator(X_hat)
    layers = fine_graph(sparse.csr_array(np.eye(2)), S, sparse.csr_array(E), 0.5, engine=module)
    E_fine, short = np.ones((2, 4)), collapsed_graph(layers, E7[:3] @ np.ones((1, 4)), 1)
    fines = [sparse.csr_array(dense) for dense in (E, E[:2], np.ones((3, 3)))]
    tries = [
        *((codebook.soft_threshold, (E, tau), {}, tau >= 0) for tau in (0.0, -1e-9, np.nan)),
        *((codebook.soft_threshold_backward, (E, E, tau), {}, tau >= 0) for tau in (0.0, -1e-9)),
        *((codebook.soft_threshold_backward_tau, (E, E, tau), {}, tau >= 0) for tau in (0.0, -1e-9)),
        *((clip_by_value, (E, limit), {}, limit > 0) for limit in (1e-9, 0.0, -1.0, np.nan, np.inf)),
        *((links.keep_largest, (E, t), {"largest": module.largest_columns}, 1 <= t <= 2) for t in (0, 1, 2, 3)),
        *((links.pursue, (E, E, t), {}, 1 <= t <= 3) for t in (0, 1, 3, 4)),
        *((links.pseudoinverse, (H,), {}, np.isfinite(H).all()) for H in (E, broken, broken * np.inf)),
        *((pass_on, (E7, square, n), {}, n >= 0) for pass_on in (module.propagate, module.propagate_backward) for n in (-1, 0)),
        *((R, (2, n, k, 0), {}, 0 < n < 2**32 and k > 0) for n in (0, 1, 2**32 - 1, 2**32) for k in (0, 1)),
        *((links.exchange_links, (S, C, G), {}, C.shape == (3, 2) and G.shape == (2, 2))
          for C in (E, E[:2]) for G in (E[:2], E, np.ones((2, 3)))),
        (links.exchange_links, (sparse.csr_array(np.array([[1.0, 1, 0], [0, 0, 0]])), E, E[:2]), {}, False),
        *((table_stage.compose_products, (E[:q], E, n), {}, q == -(-n // 3)) for q in (1, 2, 3) for n in (3, 4, 6, 7)),
        *((graph.normalise, (X_hat,), {"degree": degree}, degree != "other") for degree in (*DEGREES, "other")),
        *((ring, (X_hat, S, F), {"layer_bridge": b, "gate": 0.5, "engine": module}, F.shape == (3, 2) and b != "other")
          for F in fines for b in ("raw", "exchange", "other")),
        *((batch, ([u], [i], [j], 2, 3), {}, u in (0, 1) and {i, j} <= {0, 1, 2})
          for u in (-1, 0, 1, 2) for i in (-1, 0, 2, 3) for j in (-1, 0, 2, 3)),
        *((batch, (*columns, 2, 3), {}, False) for columns in (([], [], []), ([0], [0, 1], [0]), ([[0]], [[0]], [[0]]))),
        *((engine_named, (name,), {}, name == engine) for name in (engine, "other")),
        # Collapsed, a batch's forward pass must know the coarse codebook that it was collapsed with.
        *((fine_forward, (E_fine, made.collapsed.E_coarse.copy() if other else made.collapsed.E_coarse, made),
           {"threshold": 0.1, "n_layers": 1, "batch": batch([0], [0], [0], 1, 1)}, not other)
          for made in (short,) for other in (False, True)),
    ]  # fmt: skip
    for function, given, options, sensible in tries:
        try:
            function(*given, **options)
            refused = False
        except (SettingsError, DataError):
            refused = True
        yield f"{function.__name__}{tuple(x for x in given if np.ndim(x) == 0)}", float(refused == bool(sensible)), 0


# ---- the graph -------------------------------------------------------------------------------------------------------
def adjacency_check(engine: str, rng) -> Checks:
    """The user-item graph, its degrees and its normalisation, from dense matrices; stored zeros and counts."""
    for n_users, n_items in ((1, 1), (3, 5), (6, 2)):
        counts = rng.integers(0, 3, (n_users, n_items))
        counts[-1, -1] = 2
        R = sparse.csr_array(counts + 9)
        R.data -= 9  # with stored zeros
        B = np.zeros((n_users + n_items,) * 2)
        B[:n_users, n_users:] = counts > 0
        B += B.T
        degree = B.sum(axis=1)
        factor = [1 / math.sqrt(x) if x else 0 for x in degree]
        for dtype in DTYPES:
            found = graph.bipartite_adjacency(R, dtype)
            yield "adjacency", differs(found.toarray(), B) + (found.dtype != dtype) + (found.nnz != B.sum()), 0
            A = graph.normalised_adjacency(R, dtype)
            yield "normalised", off(A.toarray(), np.outer(factor, factor) * B) + (A.dtype != dtype), 4 * np.finfo(dtype).eps
    # Duplicates are summed, in a copy.
    X = sparse.csr_array((np.array([1.0, 3, 2, 2]), np.array([1, 1, 0, 0]), np.array([0, 2, 4])), shape=(2, 2))
    for found in (graph.normalise(X), *(engine_named(e).expanded_graph(X, sparse.csr_array((2, 1))) for e in AVAILABLE_ENGINES)):
        yield "duplicates", off(found.toarray()[:2, :2], [[0, 1], [1, 0]]) + (X.nnz != 4) + (found.nnz != 2), 1e-15
    X = sparse.csr_array(np.array([[1.0, -3, 0], [2, -1, 3], [0, 0, 0]]))
    for how in ("coo", "csc"):
        yield f"{how} instead of csr", differs(graph.normalise(X.asformat(how)).toarray(), graph.normalise(X).toarray()), 0
    through = graph.expand_backward(graph.expand(X, X), X)[0]
    for found in (graph.normalise(X), graph.normalise_backward(X, X), through):
        shared = any(np.shares_memory(a, b) for a in (found.indices, found.indptr) for b in (X.indices, X.indptr))
        yield "a pattern of its own", float(shared), 0
    yield "signed degrees", off(graph.degree_factors(X), [0, 0.5, 0]), 1e-15
    yield "absolute degrees", off(graph.degree_factors(X, degree="absolute"), [0.5, 6**-0.5, 0]), 1e-15


def cut_off_check(engine: str, rng) -> Checks:
    """A row sum counts if it is above 16 roundings of its terms; nodes without a degree are cut off."""
    for dtype in DTYPES:
        eps = float(np.finfo(dtype).eps)
        for share, kept in ((31, False), (33, True)):
            # The terms are 1, share eps and -1: their absolute sum is 2, the cut-off 32 eps.
            A = sparse.csr_array(np.array([[0, 1 + share * eps], [1 + share * eps, 0]], dtype))
            X_hat = engine_named(engine).expanded_graph(A, sparse.csr_array(np.array([[-1.0], [1.0]], dtype)))
            root = 1 / math.sqrt(share * eps) if kept else 0
            yield f"cut-off, {share} eps", off(X_hat.toarray()[0, 1], root / math.sqrt(2)), 1e-3
        A, nobody = sparse.csr_array(np.array([[0, 4], [4, 0]], dtype)), sparse.csr_array((2, 1), dtype=dtype)
        X_hat = engine_named(engine).expanded_graph(A, nobody)
        yield "a node without links", differs(X_hat.toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]]), 0


# ---- beyond small integers, and blocks of their real size --------------------------------------------------------------
MANY = 70_000  # more than 16 bits count


def many_nodes_check(engine: str, rng) -> Checks:
    """Propagation around a ring with one link a node, to all rows and to some, forward and back; composition along it."""
    X, scale = problems.normal(rng, MANY, 1), 0.5
    ring = sparse.csr_array((np.full(MANY, scale), (np.arange(MANY) + 1) % MANY, np.arange(MANY + 1)), shape=(MANY, MANY))
    module = engine_named(engine)
    ring = module.operator(ring)
    rows = rng.permutation(MANY)[: MANY // 2]
    some = np.zeros((MANY, 1))
    some[rows] = X[rows]
    for n_layers in (1, 2):
        for which in (None, rows):
            H = module.propagate(X, ring, n_layers, rows=which)
            expected = sum(scale**k * np.roll(X, -k, axis=0) for k in range(n_layers + 1)) / (n_layers + 1)
            yield f"L = {n_layers}, forward", off(H, expected if which is None else expected[rows]), 1e-14
            given, whole = (X, X) if which is None else (X[rows], some)
            back = module.propagate_backward(given, ring, n_layers, rows=which)
            expected = sum(scale**k * np.roll(whole, k, axis=0) for k in range(n_layers + 1)) / (n_layers + 1)
            yield f"L = {n_layers}, backward", off(back, expected), 1e-14
    Z = module.compose(ring, X)
    yield "composition", off(Z, np.tanh(scale * np.roll(X, -1, axis=0))), 1e-14
    expected = scale * np.roll(X * (1 - Z**2), 1, axis=0)
    yield "composition, backward", off(module.compose_backward(X, ring, Z), expected), 1e-14


def many_columns_in_lanes_check(engine: str, rng) -> Checks:
    """The same at a width with kernels of its own: a few rows with entries far to the right, and rows far down."""
    width, last = 49, MANY - 1 - np.arange(6)
    X = problems.normal(rng, MANY, width)
    M = sparse.csr_array((rng.uniform(0.2, 1, 6), last[::-1].copy(), np.array([0, 2, 5, 6])), shape=(3, MANY))
    dense, module = M[:, last].toarray(), engine_named(engine)
    prepared = module.operator(M)
    yield "product", off(prepared.forward(X), dense @ X[last]), 1e-14
    G = problems.normal(rng, 3, width)
    weights = prepared.with_weights(prepared.weights_gradient(G, X))
    yield "weights", off(weights[:, last].toarray(), np.where(dense != 0, G @ X[last].T, 0)), 1e-13
    S, Z = module.operator(M.T), np.tanh(X)
    expected = dense @ (X * (1 - Z * Z))[last]
    yield "composition, backward", off(module.compose_backward(X, S, Z), expected), 1e-13
    A = sparse.csr_array((rng.uniform(0.2, 1, 6), (last, last[::-1])), shape=(MANY, MANY))
    H = module.propagate(X, module.operator(A), 1, rows=last)
    yield "some rows", off(H, (X[last] + A[last][:, last] @ X[last]) / 2), 1e-14
    if engine == "numba":
        from ..kernels.propagation import even_row_groups, mean_of_powers

        order = rng.permutation(MANY)
        found = mean_of_powers(M, even_row_groups(M.indptr), X[order], 1, given=order)
        yield "from some rows", off(found, (X[:3] + dense @ X[last]) / 2), 1e-14


def many_entities_check(engine: str, rng) -> Checks:
    """A batch of entities with high numbers: the loss, its gradients, the penalty, the order by user."""
    for width in (2, 49):
        yield from _many_entities(engine, rng, width)


def _many_entities(engine: str, rng, width: int) -> Checks:
    n_users, n_items, size = MANY, MANY + 9, 50
    high = [rng.integers(n - 60, n, size).astype(np.int32) for n in (n_users, n_items, n_items)]
    module = engine_named(engine)
    batch = Triples.by_user(high, np.arange(size), n_users, n_items, engine=module)
    order = np.argsort(high[0], kind="stable")
    u, i, j = (column[order] + shift for column, shift in zip(high, (0, n_users, n_users), strict=True))
    yield "by user", differs([batch.user, batch.positive, batch.negative], [u, i, j]), 0
    plain = Triples.from_items(*high, n_users, n_items)
    expected = [high[0], high[1] + n_users, high[2] + n_users]
    yield "from items", differs([plain.user, plain.positive, plain.negative], expected), 0
    long = Triples(*rng.integers(0, 900, (3, 22_000)), 900, module.sort_slots)
    everywhere = np.concatenate([long.user, long.positive, long.negative])
    yield "slots", differs(long.occurrences.slots, np.argsort(everywhere, kind="stable")), 0
    yield "starts", differs(long.occurrences.start[1:], np.cumsum(np.bincount(everywhere))), 0
    most = np.arange(3 * 15_000).reshape(3, -1)
    wide = loss.Triples(*(most + 9), 3 * 15_000 + 20, module.sort_slots).local
    yield "a wide batch", differs([wide.user, wide.positive, wide.negative], most), 0
    H, bias = problems.normal(rng, n_users + n_items, width), problems.normal(rng, n_users + n_items)
    difference = np.sum(H[u] * (H[j] - H[i]), axis=1) + bias[j] - bias[i]
    value, slope = module.bpr_loss(H, bias, np.zeros(1), batch)
    yield "loss", off(value, np.mean(np.logaddexp(0, difference))), 1e-13
    grad_H, grad_bias, _ = module.bpr_backward(H, batch, slope)
    expected, of_bias, penalty = np.zeros(H.shape), np.zeros(len(H)), np.zeros(H.shape)
    for b, s in enumerate(1 / (1 + np.exp(-difference)) / size):
        expected[u[b]] += s * (H[j[b]] - H[i[b]])
        expected[i[b]] -= s * H[u[b]]
        expected[j[b]] += s * H[u[b]]
        of_bias[i[b]] -= s
        of_bias[j[b]] += s
        for e in (u[b], i[b], j[b]):
            penalty[e] += 2 * 3.0 / size * H[e]
    yield "gradient of the loss", off(grad_H, expected), 1e-13
    yield "gradient of the biases", off(grad_bias, of_bias), 1e-13
    yield "penalty", off(module.squared_norm_penalty_backward(1.0, H, batch, 3.0, np.zeros_like(H)), penalty), 1e-13


def many_columns_check(engine: str, rng) -> Checks:
    """Choices among many columns: the largest entries, links that come, rows of a codebook, items of a ranking; a large graph."""
    W, t, module = rng.standard_normal((2, MANY)), 3, engine_named(engine)
    W[:, -3:] += 9
    S = links.keep_largest(W, t, largest=module.largest_columns)
    yield "largest", differs(S.indices.reshape(2, t), [[MANY - 3, MANY - 2, MANY - 1]] * 2), 0
    S = sparse.csr_array((np.array([2.0, 1, 1, 2]), np.array([0, 5, 1, MANY - 1]), np.array([0, 2, 4])), shape=(2, MANY))
    E = problems.normal(rng, MANY, 1)
    E[[0, 1, 5, MANY - 1]], E[MANY - 2] = 1, 50
    found = links.exchange_links(S, E, np.ones((2, 1)))
    yield "links", differs(found.S.indices, [0, MANY - 2, MANY - 2, MANY - 1]) + differs(found.kept, [0, -1, -1, 3]), 0
    pursued = links.pursue(np.array([[0.0, 3.0]]), np.column_stack([np.ones(MANY), np.arange(MANY)]), 1)
    yield "pursuit", differs(pursued.indices, [MANY - 1]), 0
    ring = sparse.csr_array((np.ones(MANY), (np.arange(MANY) + 1) % MANY, np.arange(MANY + 1)), shape=(MANY, MANY))
    A = sparse.csr_array(ring + ring.T)
    S = sparse.csr_array((np.ones(MANY), np.arange(MANY)[::-1].copy(), np.arange(MANY + 1)), shape=(MANY, MANY))
    X_hat = module.expanded_graph(A, S)
    e = np.arange(MANY)
    expected = [np.full(MANY, 1 / 3), np.full(MANY, 1 / math.sqrt(3)), np.full(MANY, 1 / math.sqrt(3))]
    found = [X_hat[e, (e + 1) % MANY], X_hat[e, 2 * MANY - 1 - e], X_hat[2 * MANY - 1 - e, e]]
    yield "graph", off(found, expected) + (X_hat.nnz != 4 * MANY), 1e-14
    if engine == "numba":
        masked = sparse.csr_array(([1], ([1], [MANY - 1])), shape=W.shape)
        ranking = _ranked(W, np.arange(2), masked, t, MANY, 64)[0]
        allowed = W.copy()
        allowed[1, -1] = -np.inf
        yield "ranking", differs(ranking, np.argsort(-allowed, axis=1)[:, :t]), 0


def many_rows_check(engine: str, rng) -> Checks:
    """More rows than the blocks of their real size hold, on one, two and three threads."""
    n, n_rows, module = 9_001, 8_777, engine_named(engine)
    H, C = problems.normal(rng, n, 2), problems.normal(rng, 3, 2)
    W = np.linalg.lstsq(C.T, H.T, rcond=1e-10)[0].T
    S = links.update_coarse_assignment(H, C, 2, largest=module.largest_columns)
    kept = np.where(W == W.min(axis=1)[:, None], 0, W)
    yield "coarse update", off(S.toarray(), kept), 1e-10
    coded = links.pursue(H, C, 1).toarray()
    squares = np.sum(C * C, axis=1)
    gains = (H @ C.T) ** 2 / squares
    expected = np.where(gains == gains.max(axis=1)[:, None], H @ C.T / (squares + 1e-8 * np.mean(squares)), 0)
    yield "pursuit", off(coded, expected), 1e-10
    S = sparse.csr_array((np.ones(n), rng.integers(0, 3, n), np.arange(n + 1)), shape=(n, 3))
    pulls = np.abs(H @ C.T)
    pulls[np.arange(n), S.indices] = -1
    found = links.exchange_links(S, C, H)
    yield "links", differs(found.S.indices, np.argmax(pulls, axis=1)) + (found.kept != -1).sum(), 0

    rows = rng.permutation(n)[:n_rows]
    parts = propagation.CollapsedPropagation(H, W[:, :2].copy(), H[:0], C[:0])
    F, T = problems.normal(rng, 1, 2), problems.normal(rng, 1, 2)
    x = problems.normal(rng, 1 << 16)
    gradient, moments = {"x": problems.normal(rng, 1 << 16)}, fresh_moments({"x": x})
    m, v = 0.1 * gradient["x"], 0.001 * gradient["x"] ** 2
    stepped = x - 0.3 * (m / 0.1) / (np.sqrt(v / 0.001) + 1e-8)
    Y = problems.normal(rng, 1 << 13, 130) if engine == "numba" else problems.normal(rng, 3, 2)
    one = np.ones((len(Y), 1))
    identity = sparse.csr_array((one.ravel(), np.arange(len(Y)), np.arange(len(Y) + 1)), shape=(len(Y), len(Y)))
    for n_threads in possible_threads() if engine == "numba" else (1,):
        with kernel_threads(n_threads):
            ours = module.propagate_collapsed(F, T, parts, rows=rows)
            yield "collapsed", off(ours, H[rows] + W[rows][:, :1] @ F + W[rows][:, 1:2] @ T), 1e-13
            G = H[:n_rows]
            ours = module.propagate_collapsed_backward(G, parts, rows=rows)
            yield "collapsed, backward", off(np.concatenate(ours), W[rows, :2].T @ G), 1e-11
            options = {"learning_rate": 0.3, "clip": np.inf, "update": module.adam_update}
            new, after = adam_step({"x": x}, gradient, moments, **options)
            yield "Adam", off([new["x"], after.mean["x"], after.square["x"]], [stepped, m, v]), 1e-12
            yield "tanh", off(module.compose(module.operator(identity), Y), np.tanh(Y)), 1e-14
            yield "tanh, backward", off(module.tanh_backward(Y, np.tanh(Y)), Y / np.cosh(Y) ** 2), 1e-13


EXACT = {
    "assignment_update": (assignment_update_check,),
    "link_exchange": (link_exchange_check,),
    "matching_pursuit": (matching_pursuit_check,),
    "hashing": (hashing_check,),
    "triples": (triples_check,),
    "ranking": (ranking_check,),
    "buffers": (buffers_check,),
    "row_groups": (row_groups_check,),
    "sparse_product": (mixed_check,),
    "refusals": (refusals_check,),
    "graph": (adjacency_check, cut_off_check),
    "bpr": (softplus_check,),
    "compose": (chunks_check, matrices_check),
    "propagate": (layers_check,),
    "propagate_collapsed": (collapse_pays_check,),
    "optimiser": (clipping_check, scalars_check),
    **STARTS,
    **BEYOND,
    "many": (many_nodes_check, many_columns_in_lanes_check, many_entities_check, many_columns_check, many_rows_check),
}
#: What is too large to be run without compiling.
LARGE = ("many", "beyond")
#: Checks of which the two engines run different code; the others have one version, and are run once.
TWO_ENGINES = (
    mixed_check, matrices_check, scalars_check, refusals_check, assignment_update_check, triples_check,
    cut_off_check, *EXACT["many"], *BEYOND_BOTH,
)  # fmt: skip
KERNELS_ONLY = (ranking_check, chunks_check, buffers_check, row_groups_check, clipping_check)


def exact_cases(operation: str, engine: str, seed: int) -> Iterator[Case]:
    """The cases of one operation: NumPy; Numba compiled, and interpreted with parallel loops in random order."""
    for check in EXACT.get(operation, ()):
        if check not in TWO_ENGINES and engine != ("numba" if check in KERNELS_ONLY else "numpy"):
            continue

        def run(run_seed: int, check=check) -> Checks:
            rng = generator(run_seed, check.__name__, engine)
            with loops_in_random_order(rng):
                yield from check(engine, rng)
            if check in TWO_ENGINES and operation not in LARGE:
                with watched_kernels() as called:
                    list(check(engine, rng))
                wrong = not called - PREPARATIONS if engine == "numba" else bool(called)
                yield "kernels are used by numba only", float(wrong), 0

        title = check.__doc__.split(".\n")[0].rstrip(".")
        case = verdict_case(operation, title[0].lower() + title[1:], engine, run)
        if check is not mixed_check or engine == "numpy":  # to compile mixed precisions takes long, and nobody uses them
            yield case
        if engine == "numba" and operation not in LARGE:
            yield replace(case, variation=f"interpreted, {case.variation}", interpreted=True)
