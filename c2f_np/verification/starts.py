"""Where training starts, against plain texts: partitions, codebooks, the code of a table, and tables of a given size.

Nothing here has a gradient. What a library computes (METIS, co-clustering, k-means) is computed by a direct call of it.
"""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

import numpy as np
import scipy.sparse as sparse

from ..baselines import table_stage, tables
from ..errors import SettingsError
from ..model import links, sparse_pca, starts
from ..model.sampling import generator
from ..model.step import ModelState
from ..schema import LIMITS
from ..serving.compact import STORED_AS
from ..settings import Settings
from . import problems, reference
from .case import Checks, differs, off
from .cover import pairwise_cover
from .points import dense


# ---- partitions --------------------------------------------------------------------------------------------------------
def partitions_check(engine: str, rng) -> Checks:
    """Partitions of users and items: dealt out at random, by METIS, by co-clustering; who has no interactions is dealt out."""
    n_users, n_items = rng.permutation([9, 10, 11, 12, 13])[:2].tolist()
    linked = rng.random((n_users, n_items)) < 0.4
    # Some without interactions, on both sides and not at the end.
    linked[[1, 4]] = False
    linked[:, 2] = False
    linked[0] = np.arange(n_items) == 3  # and one with a single one
    R, n, seed = sparse.csr_array(linked.astype(float)), n_users + n_items, int(rng.integers(100))
    users, items = np.flatnonzero(linked.any(axis=1)), np.flatnonzero(linked.any(axis=0))
    most = min(len(users), len(items))
    for n_parts in (1, 2, 5, most - 1, most, most + 1, n):
        dealt = np.arange(n) % n_parts
        found = starts.partition_entities(R, n_parts, method="random", seed=seed)
        yield "random", differs(found, np.random.default_rng(seed).permutation(dealt)), 0
        expected = dealt if n_parts > 1 else np.zeros(n)
        if 1 < n_parts < most:
            labels = _coclustered(linked[np.ix_(users, items)], n_parts, seed)
            expected = expected.copy()
            expected[users], expected[n_users + items] = labels
        found = starts.partition_entities(R, n_parts, method="coclustering", seed=seed)
        yield f"co-clustering in {n_parts}", differs(found, expected) + (found.dtype != np.int64), 0
        same = starts.partition_entities(sparse.coo_array(R), n_parts, method="coclustering", seed=seed)
        yield f"co-clustering of another format in {n_parts}", differs(same, expected), 0
        automatic = starts.partition_entities(R, n_parts, seed=seed)
        if find_spec("pymetis"):
            neighbours = [n_users + np.flatnonzero(row) for row in linked] + [np.flatnonzero(column) for column in linked.T]
            expected = _metis(neighbours, n_parts, seed) if n_parts > 1 else np.zeros(n)
            found = starts.partition_entities(R, n_parts, method="metis", seed=seed)
            yield f"METIS in {n_parts}", differs(found, expected) + (found.dtype != np.int64), 0
        yield f"automatic in {n_parts}", differs(automatic, expected), 0
    there = find_spec("pymetis") is not None
    yield "METIS is there", float(starts.metis_is_installed() != there), 0
    if there:
        many, user = 20_000, np.arange(20_000)  # with more entities and links than 16 bits count
        items, users = (np.sort(np.column_stack([user, (user + step) % many]), axis=1) for step in (1, -1))
        ring = sparse.csr_array((np.ones(2 * many), items.ravel(), 2 * np.arange(many + 1)), shape=(many, many))
        found = starts.partition_entities(ring, 2, method="metis", seed=seed)
        yield "METIS around a ring", differs(found, _metis([*(many + items), *users], 2, seed)), 0
    many = starts.partition_entities(sparse.csr_array((40_000, 30_000)), 50_000, method="random", seed=seed)
    expected = np.random.default_rng(seed).permutation(np.arange(70_000) % 50_000)
    yield "random, of many", differs(many, expected) + (many.dtype != np.int64), 0
    with _without_metis():
        found, expected = (starts.partition_entities(R, 3, method=method, seed=seed) for method in ("auto", "coclustering"))
        yield "without METIS", differs(found, expected), 0
        refused = [(n + 1, "random"), (2, "none"), (2, "metis")]
        for parts, method in refused:
            try:
                starts.partition_entities(R, parts, method=method)
                yield f"{parts} parts by {method}", 1.0, 0
            except SettingsError:
                yield f"{parts} parts by {method}", 0.0, 0


@contextmanager
def _without_metis():
    """As where the package pymetis is not installed."""
    before = sys.modules.get("pymetis")
    sys.modules["pymetis"] = None
    try:
        yield
    finally:
        sys.modules.pop("pymetis")
        if before is not None:
            sys.modules["pymetis"] = before


def _coclustered(R, n_parts: int, seed: int):
    from sklearn.cluster import SpectralCoclustering

    model = SpectralCoclustering(n_clusters=n_parts, random_state=seed).fit(sparse.csr_matrix(R.astype(float)))
    return model.row_labels_, model.column_labels_


def _metis(neighbours, n_parts: int, seed: int) -> np.ndarray:
    import pymetis

    return np.array(pymetis.part_graph(n_parts, adjacency=neighbours, options=pymetis.Options(seed=seed))[1])


# ---- assignments and codebooks -------------------------------------------------------------------------------------------
def assignments_check(engine: str, rng) -> Checks:
    """Own parts and others: every set of others equally often; S_f from a partition into one part and more."""
    n, n_parts = 4000, 4
    parts = rng.integers(0, n_parts, n)
    for t in (1, 2, 3, 4):
        S = dense(starts.start_coarse_assignment(parts, n_parts, t, 0.6, rng))
        own, others = S[np.arange(n), parts], S.copy()
        others[np.arange(n), parts] = 0
        yield f"own weight, t = {t}", off(own, np.full(n, 0.6 if t > 1 else 1.0)), 1e-15
        yield f"other weights, t = {t}", float(np.max(np.abs(others[others > 0] - 0.4 / max(t - 1, 1)), initial=0)), 1e-15
        yield f"number of others, t = {t}", differs((others > 0).sum(axis=1), np.full(n, t - 1)), 0
        chosen = np.packbits(others > 0, axis=1)[:, 0]
        for own_part in range(n_parts):
            counts = np.unique(chosen[parts == own_part], return_counts=True)[1]
            share = 1 / math.comb(n_parts - 1, t - 1)
            deviation = np.sqrt((parts == own_part).sum() * share * (1 - share))
            yield f"sets of others, t = {t}", float(len(counts) != math.comb(n_parts - 1, t - 1)), 0
            yield f"sets of others, t = {t}", np.max(np.abs(counts - (parts == own_part).sum() * share)), 6 * deviation
    for kind, deviation in (("normal", 1), ("zero", 0)):
        bias, overall = starts.start_biases(n, kind, rng)
        yield f"biases, {kind}", abs(bias.std() - deviation) + abs(bias.mean()), 0.2 * deviation
        yield f"biases, {kind}", differs(overall, [0.0]) + (bias.shape != (n,)), 0
    lone = starts.start_fine_assignment(problems.assignment(rng, 12, 4, 2), np.zeros(12, int), 1, 1)
    yield "S_f of one row", differs(dense(lone), np.ones((4, 1))), 0
    # A thousand draws, so that some are sure to need more than two bytes.
    many = starts.start_coarse_assignment(np.arange(500), 70_000, 3, 0.6, rng)
    apart = np.diff(many.indices.reshape(500, 3), axis=1) > 0
    yield "among many parts", float(not apart.all() or many.indices.min() < 0 or many.indices.max() < 2**16), 0
    for n_fine in (2, 5):
        S_coarse, parts = problems.assignment(rng, 12, 4, 2), rng.integers(0, n_fine, 12)
        S_coarse.data *= 1 + 1e-9 * rng.random(S_coarse.nnz)  # off the float32 grid
        for t, renormalise in ((1, False), (n_fine, False), (n_fine, True)):
            S = dense(starts.start_fine_assignment(S_coarse, parts, n_fine, t, renormalise=renormalise))
            expected = reference.start_fine_assignment(dense(S_coarse), parts, n_fine, t, renormalise)
            yield f"S_f of {n_fine}, t_f = {t}", off(np.sort(S, axis=1), np.sort(expected, axis=1)), 1e-14


def sparse_pca_check(engine: str, rng) -> Checks:
    """Sparse PCA: sweep by sweep as loops do it, components that begin again, the end, scores and components."""
    options = {"n": (2, 5, 9), "d": (1, 4, 7), "K": (1, 3, 6), "alpha": (0.3, 1.0, 3.0), "sweeps": (1, 2, 4)}
    for at in pairwise_cover(options, rng):
        X, K, alpha = 2 * rng.standard_normal((at["n"], at["d"])) + 3, at["K"], at["alpha"]
        centred = X - np.mean(X, axis=0)
        V, W = sparse_pca.sparse_factors(centred, K, alpha=alpha, tol=-1.0, max_sweeps=at["sweeps"])
        expected_V, expected_W, _ = reference.sparse_factors(centred, K, alpha, at["sweeps"])
        yield f"V, {at}", off(V, expected_V), 1e-9
        yield f"W, {at}", off(W, expected_W), 1e-9
        scores, components = sparse_pca.sparse_pca(X, K, alpha=alpha, tol=-1.0, max_sweeps=at["sweeps"])
        length = np.array([math.sqrt(sum(x * x for x in row)) or 1 for row in W])
        yield "unit components", off(components, W / length[:, None]), 1e-14
        ridge = np.concatenate([components.T, 0.1 * np.eye(K)])
        target = np.concatenate([centred.T, np.zeros((K, at["n"]))])
        yield "scores", off(scores, np.linalg.lstsq(ridge, target)[0].T), 1e-9
    X = rng.standard_normal((8, 5))
    objectives = reference.sparse_factors(X, 3, 0.7, 6)[2]
    for sweeps in (2, 3, 4):
        share = (objectives[sweeps - 2] - objectives[sweeps - 1]) / objectives[sweeps - 1]
        for tol in (share + 1e-7, share - 1e-7):
            V, W = sparse_pca.sparse_factors(X, 3, alpha=0.7, tol=tol, max_sweeps=sweeps + 2)
            ends = _first_below(objectives[: sweeps + 2], tol)
            yield f"ends after {ends} sweeps", off(V, reference.sparse_factors(X, 3, 0.7, ends)[0]), 1e-9
    for scale in (1, 8, 30, 300):  # few sweeps, many, more than are made
        given = sparse_pca.sparse_pca(scale * X, 4, alpha=1.0, tol=1e-8, max_sweeps=1000)
        yield f"what is not said, times {scale}", differs(sparse_pca.sparse_pca(scale * X, 4)[0], given[0]), 0
    V, W = sparse_pca.sparse_factors(0 * X, 3, alpha=0.7, tol=1e-8, max_sweeps=5)
    yield "of nothing", float(V.any() or W.any()), 0


def _first_below(objectives: list[float], tol: float) -> int:
    """The number of sweeps after which one has lowered the objective by less than this part of it; all, if none has."""
    falls = [(before - after) / after for before, after in zip(objectives, objectives[1:], strict=False)]
    return next((k + 2 for k, fall in enumerate(falls) if fall <= tol), len(objectives))


def fine_codebook_check(engine: str, rng) -> Checks:
    """E_f from a sparse PCA: scores at random positions, or components moved out of the dead zone; more rows than components."""
    options = {"kind": ("scores", "components"), "n_components": (1, 3, 9), "threshold": (0.0, 0.7), "n_fine": (2, 7)}
    for at in pairwise_cover(options, rng):
        E, seed, d = rng.standard_normal((6, 4)), int(rng.integers(1, 100)), 4
        found = starts.start_fine_codebook(E, at["n_fine"], at["n_components"], **_kind(at), seed=seed)
        expected = _fine_codebook(E, seed=seed, **at)
        yield f"{at}", off(found, expected), 1e-14
        s = Settings(
            n_coarse=6, n_fine=at["n_fine"], dim=d, t_coarse=1, t_fine=2, n_components=at["n_components"],
            threshold=at["threshold"], fine_start=at["kind"], partition="random", renormalise_fine=True, seed=seed - 1,
        )  # fmt: skip
        coarse = ModelState(E, problems.assignment(rng, 12, 6, 1), np.arange(12.0), np.ones(1))
        begun, R = starts.start_fine(coarse, sparse.csr_array((5, 7)), s), sparse.csr_array((5, 7))
        yield f"in the state, {at}", off(begun.E_fine, expected), 1e-14
        parts = starts.partition_entities(R, at["n_fine"], method="random", seed=seed)
        expected = reference.start_fine_assignment(dense(coarse.S_coarse), parts, at["n_fine"], 2, True)
        yield "S_f of the state", off(np.sort(dense(begun.S_fine), axis=1), np.sort(expected, axis=1)), 1e-14
        yield "what stays", float(begun.E_coarse is not E or begun.bias is not coarse.bias), 0
    nothing = starts.start_fine_codebook(np.zeros((6, 4)), 3, 2, kind="components", threshold=0.5, seed=1)
    yield "of nothing", differs(nothing, np.zeros((3, 4))), 0


def _kind(at: dict) -> dict:
    return {"kind": at["kind"], "threshold": at["threshold"]}


def _fine_codebook(E, *, kind: str, n_components: int, threshold: float, n_fine: int, seed: int) -> np.ndarray:
    rng, d = np.random.default_rng(seed), E.shape[1]
    rows = np.stack([E[k] for k in rng.integers(0, len(E), n_fine)])
    scores, components = sparse_pca.sparse_pca(rows, min(d, n_components))
    E_fine = np.zeros((n_fine, d))
    used = [k for k, component in enumerate(components) if np.any(component)]
    for i in range(n_fine):
        if kind == "scores":
            for position, value in zip(sorted(rng.permutation(d)[: scores.shape[1]]), scores[i], strict=True):
                E_fine[i, position] = value
        elif used:
            k = used[i % len(used)]
            row = components[k] * math.sqrt(np.mean(scores[:, k] ** 2))
            E_fine[i] = [x + math.copysign(threshold, x) if x else 0 for x in row]
    return E_fine


# ---- the code of a table -------------------------------------------------------------------------------------------------
def code_check(engine: str, rng) -> Checks:
    """The code of a table: links found greedily, codebooks fitted together, round after round; weights of mean square 1."""
    options = {"t_coarse": (1, 2), "t_direct": (0, 1, 2), "rounds": (0, 1, 3), "d": (3, 5)}
    options |= {"parts": (0, 4, 6), "weighted": (False, True)}
    for at in pairwise_cover(options, rng):
        given, found = (6, 4, at["t_coarse"], at["t_direct"]), []
        while not found:
            Y, seed = rng.standard_normal((30, at["d"])), int(rng.integers(100)) + 2**31 * int(rng.integers(2))
            how = {
                "parts": rng.permutation(np.arange(30) % at["parts"]) if at["parts"] else None,  # 4: two are empty
                "weight": rng.integers(1, 20, 30).astype(float) if at["weighted"] else None,
            }
            code = links.residual_code(Y, *given, seed=seed, rounds=at["rounds"], **how)
            most = 1e-7 if at["rounds"] else 1e-12  # no system has been solved yet but for the weights of few links
            plain = partial(_residual_code, given=given, seed=seed, rounds=at["rounds"], **how)
            found = _compared(plain, [Y], vars(code), most)
        yield from ((f"{name} {at}", *each) for name, *each in found)
        yield f"direct links {at}", float((code.F is None, code.S_direct is None) != (not at["t_direct"],) * 2), 0
        Y = Y.astype(np.float32)  # of a trained table: the code is computed in float64 all the same
        found, wide = (links.residual_code(table, *given, seed=seed, **how) for table in (Y, Y.astype(np.float64)))
        yield f"float32 {at}", float(differs(found.E_hat, wide.E_hat) or found.errors != wide.errors), 0
    large, small = (links.centres(Y, 5, seed) for seed in (2**32 + 9, 9))
    yield "seeds above 2^32", differs(large, small) + (large.dtype != np.float64), 0
    nothing = links.residual_code(np.zeros((9, 3)), 2, 2, 1, 1, seed=0)
    F, shared = links.shared_code([np.zeros((9, 3)), np.zeros((4, 3))], 2, [1, 2], seed=0)
    codes = ("coarse", nothing.E_hat, nothing.S_coarse), ("fine", nothing.F, nothing.S_direct), ("shared", F, shared[1])
    for name, E, S in codes:
        wrong = E.shape != (2, 3) or S.shape != (4 if name == "shared" else 9, 2)
        yield f"of nothing, {name}", float(wrong or np.any(E != 0) or not np.isfinite(dense(S)).all()), 0
    yield "errors of nothing", float(any(nothing.errors) or not np.isfinite(nothing.errors).all()), 0


def _compared(plain, tables, found: dict, most: float) -> list[tuple[str, float, float]]:
    """The parts of a code beside those of the plain text; nothing where it has none, or rounding decides it: another table."""
    expected = plain(tables)
    if expected is None:
        return []
    checks = [(name, off(dense(found[name]), theirs), most) for name, theirs in expected.items()]
    wrong = not all(figure <= most for _, figure, _ in checks)
    return [] if wrong and problems.rounding_decides(plain, tables, most) else checks


def _residual_code(tables, given, seed, rounds, parts, weight) -> dict | None:
    """The same, with dense matrices and least squares; None where links determine the codebooks hardly, or rounding a choice."""
    (Y,), (n_coarse, n_fine, t_coarse, t_direct) = tables, given
    undecided, each = [], np.ones((len(Y), 1)) if weight is None else weight[:, None]

    def pursued(Y, E, t):
        S, gaps = reference.pursue(Y, E, t)
        undecided.append(gaps.min() < 1e-13 * np.linalg.norm(Y))
        return S

    def better(Y, E, S, t):
        found = pursued(Y, E, t)
        closer = np.sum((Y - found @ E) ** 2, axis=1) < np.sum((Y - S @ E) ** 2, axis=1)
        return np.where(closer[:, None], found, S)

    def error():
        return np.sum(each * (Y - S @ E - D @ F) ** 2) / np.sum(each * Y**2)

    if parts is None:
        E = _centres(Y, n_coarse, seed, weight)
    else:
        E = np.array([np.average(Y[parts == k], 0, each[parts == k, 0]) if k in parts else Y[k] for k in range(n_coarse)])
    S = pursued(Y, E, t_coarse)
    F, D = np.zeros((0, Y.shape[1])), np.zeros((len(Y), 0))
    if t_direct:
        F = _centres(Y - S @ E, n_fine, seed + 1, weight)
        D = pursued(Y - S @ E, F, t_direct)
    errors = [error()]
    for _ in range(rounds):
        both, links_of = np.concatenate([E, F]), np.concatenate([S, D], axis=1)
        unused = ~np.any(links_of, axis=0)
        if np.linalg.cond(links_of[:, ~unused]) > 1e4:
            return None
        fitted = np.linalg.lstsq(np.sqrt(each) * links_of, np.sqrt(each) * Y, rcond=1e-10)[0]
        fitted[unused] = both[unused]
        E, F = fitted[:n_coarse], fitted[n_coarse:]
        S = better(Y - D @ F, E, S, t_coarse)
        D = better(Y - S @ E, F, D, t_direct) if t_direct else D
        errors.append(error())
    if any(undecided):
        return None
    sizes = [math.sqrt(np.sum(part**2) / (len(Y) * t)) if t else 1 for part, t in ((S, t_coarse), (D, t_direct))]
    code = {"S_coarse": S / sizes[0], "E_hat": E * sizes[0], "errors": np.array(errors)}
    return code | ({"S_direct": D / sizes[1], "F": F * sizes[1]} if t_direct else {})


def shared_code_check(engine: str, rng) -> Checks:
    """One codebook for the rows of one table or two, each with its number of links, found and fitted in turn."""
    for at in pairwise_cover({"links": ((2,), (1, 1), (1, 2), (3, 1)), "rounds": (0, 1, 3), "d": (3, 5)}, rng):
        found, sizes = [], (9, 14)[: len(at["links"])]
        while not found:
            tables, seed = [rng.standard_normal((n, at["d"])) for n in sizes], int(rng.integers(100))
            F, links_of = links.shared_code(tables, 4, list(at["links"]), seed=seed, rounds=at["rounds"])
            plain = partial(_shared_code, n_rows=4, links_a_row=at["links"], seed=seed, rounds=at["rounds"])
            found = _compared(plain, tables, {"F": F} | dict(enumerate(links_of)), 1e-7)
        yield from ((f"{name} {at}", *each) for name, *each in found)
    whole = links.shared_code(tables, 4, list(at["links"]), seed=seed)[0]
    yield "rounds", differs(whole, links.shared_code(tables, 4, list(at["links"]), seed=seed, rounds=links.ROUNDS)[0]), 0


def _shared_code(tables, n_rows: int, links_a_row, seed: int, rounds: int) -> dict | None:
    """The same, with dense matrices and least squares; None where links determine the codebook hardly, or rounding a choice."""
    whole, undecided = np.concatenate(tables), []

    def pursued(Y, t):
        S, gaps = reference.pursue(Y, F, t)
        undecided.append(gaps.min() < 1e-13 * np.linalg.norm(Y))
        return S

    F = _centres(whole, n_rows, seed, None)
    codes = [pursued(Y, t) for Y, t in zip(tables, links_a_row, strict=True)]
    for _ in range(rounds):
        S = np.concatenate(codes)
        used = np.any(S, axis=0)
        if np.linalg.cond(S[:, used]) > 1e4:
            return None
        F = np.where(used[:, None], np.linalg.lstsq(S, whole, rcond=1e-10)[0], F)
        for k, (Y, t) in enumerate(zip(tables, links_a_row, strict=True)):
            found = pursued(Y, t)
            closer = np.sum((Y - found @ F) ** 2, axis=1) < np.sum((Y - codes[k] @ F) ** 2, axis=1)
            codes[k] = np.where(closer[:, None], found, codes[k])
    n_links = sum(len(Y) * t for Y, t in zip(tables, links_a_row, strict=True))
    size = math.sqrt(sum(np.sum(S**2) for S in codes) / n_links)
    return None if any(undecided) else {"F": F * size} | {k: S / size for k, S in enumerate(codes)}


def _centres(Y, k: int, seed: int, weight) -> np.ndarray:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(Y, sample_weight=weight).cluster_centers_


# ---- tables of a given size ----------------------------------------------------------------------------------------------
def sizes_check(engine: str, rng) -> Checks:
    """Tables of at most so many bytes: one row, column or remainder more would not fit; too little is refused."""
    for n in (1, 2, 3, 5, 10, 16, 17, 30):
        rows = {m: m + math.ceil(n / m) for m in range(1, n + 1)}
        fewest = tables._fewest_rows(n)
        yield f"fewest rows of {n}", float(rows[fewest] != min(rows.values()) or fewest > math.isqrt(n) + 1), 0
        equal = [m for m in rows if rows[m] == min(rows.values()) and m <= math.isqrt(n) + 1]
        yield f"the largest of equal numbers for {n}", float(fewest != max(equal)), 0
        for most in range(min(rows.values()), n + 3):
            expected = max(m for m in rows if rows[m] <= most)
            yield f"most remainders of {n} in {most} rows", float(tables._most_remainders(n, most) != expected), 0
    yield from _table_starts(rng)
    options = {"item_bias": (False, True), "dtype": ("float32", "float64"), "dim": (1, 3), "spare": (0, 1, 2, 5)}
    for at in pairwise_cover(options | {"stored_as": STORED_AS}, rng):
        n_users, n_items = (int(x) for x in rng.integers(3, 9, 2))
        n, d, own = n_users + n_items, at["dim"], {name: at[name] for name in ("item_bias", "dtype", "stored_as")}
        size = {"float32": 4, "float64": 8}[at["dtype"]]
        # A number of a table, the scale of a column, and all biases.
        number, scale, biases = (1, 4, 2 * n_items) if at["stored_as"] == "int8" else (size, 0, size * n_items)
        biases *= at["item_bias"]
        # What so many columns, rows or remainders weigh.
        weighs = {
            tables.NarrowLightGCN: lambda k: biases + k * (n * number + scale),  # noqa: B023
            tables.HashedLightGCN: lambda k: biases + d * (k * number + scale),  # noqa: B023
            tables.QuotientRemainderLightGCN: lambda k: biases + d * ((k + math.ceil(n / k)) * number + 2 * scale),  # noqa: B023
        }
        for kind, bytes_of in weighs.items():
            ways = range(1, n + 1) if kind is tables.QuotientRemainderLightGCN else range(1, 20)
            least, what = min(map(bytes_of, ways)), f"{kind.__name__} {at}"
            for budget in (least - 1, least, least + at["spare"], bytes_of(1 + at["spare"]), bytes_of(1 + at["spare"]) - 1):
                model = kind(bytes=budget, **own, **({} if kind is tables.NarrowLightGCN else {"dim": d}))
                fits = [k for k in ways if bytes_of(k) <= budget]
                try:
                    width, table = model._width(n_users, n_items), model._table(n_users, n_items)
                except SettingsError as error:
                    yield f"{what}, refused", float(bool(fits) or f"at least {least}" not in str(error)), 0
                    continue
                found = {tables.NarrowLightGCN: width, tables.HashedLightGCN: getattr(table, "n_rows", None)}
                yield f"{what}, largest", float(found.get(kind, getattr(table, "n_remainders", None)) != max(fits)), 0
        for wanted in (4, n, n + 1, 40):
            fixed = tables.QuotientRemainderLightGCN(n_remainders=wanted, **own)._table(n_users, n_items)
            yield "remainders as given", float(fixed.n_remainders != min(wanted, n)), 0
        without = tables.QuotientRemainderLightGCN(**own)._table(n_users, n_items)
        yield "remainders by default", float(without.n_remainders != tables._fewest_rows(n)), 0
        hashed = tables.HashedLightGCN(n_rows=5, n_hashes=3, random_state=8, **own)._table(n_users, n_items)
        yield "rows as given", float((hashed.n_rows, hashed.n_hashes, hashed.seed, hashed.n_entities) != (5, 3, 8, n)), 0
        yield "width as given", float(tables.NarrowLightGCN(dim=d, **own)._width(n_users, n_items) != d), 0
        most = tables.HashedLightGCN(bytes=10_000_000, **own | {"dim": 1})._table(n_users, n_items).n_rows
        yield "no more rows than may be given", float(most != LIMITS["n_rows"]), 0
        yield "nor columns", float(tables.NarrowLightGCN(bytes=2**40, **own)._width(n_users, n_items) != LIMITS["dim"]), 0
        yield "a row each", float(tables.LightGCN(**own)._table(n_users, n_items).n_entities != n), 0


def _table_starts(rng) -> Checks:
    """What is composed has about the deviation that was asked for: a sum of k rows would be sqrt(k) times as large."""
    n, d, scale, seed = 23, 3, 0.3, int(rng.integers(100))
    drawn = np.random.default_rng(seed).standard_normal
    full = table_stage.FullTable(n).start(d, scale, np.random.default_rng(seed))
    yield "start of a full table", off(full["embeddings"], scale * drawn((n, d))), 1e-15
    for n_hashes in (1, 2, 3):
        drawn = np.random.default_rng(seed).standard_normal
        hashed = table_stage.HashedTable(n, 5, n_hashes, 8).start(d, scale, np.random.default_rng(seed))
        yield "start of a hashed table", off(hashed["codebook"], scale / math.sqrt(n_hashes) * drawn((5, d))), 1e-15
    settings = Settings.preset("default", dim=d, seed=seed)
    table = starts.start_table(sparse.csr_array((20, 3)), settings)
    drawn = generator(seed, "start table").standard_normal
    yield "start of the default's table", off(table.E_coarse, 0.1 * drawn((n, d))), 1e-15
    yield from _singular_starts(rng)
    drawn = np.random.default_rng(seed).standard_normal
    products = table_stage.QuotientRemainderTable(n, 4).start(d, scale, np.random.default_rng(seed))
    for name, rows in (("quotients", 6), ("remainders", 4)):
        yield f"start of {name}", off(products[name], math.sqrt(scale) * drawn((rows, d))), 1e-15


def _singular_starts(rng) -> Checks:
    """A table of singular vectors, up to their signs: wide and narrow, of low rank, with entities without interactions."""
    for n_users, n_items, d, low in ((9, 7, 3, False), (6, 9, 6, False), (7, 5, 8, False), (8, 8, 5, True)):
        seed, users, items = int(rng.integers(2**31)), np.arange(n_users), np.arange(n_items)
        groups = users[:, None] % 2 == items % 2  # of rank 2
        counts = (groups if low else (rng.random(groups.shape) < 0.4) | (users[:, None] == items)).astype(float)
        counts[-1], counts[:, 1] = 0, 0
        degrees = [np.maximum(counts.sum(axis=axis), 1) for axis in (1, 0)]
        U, sigma, V = np.linalg.svd(counts / np.sqrt(np.outer(*degrees)))
        used = min(d, np.count_nonzero(sigma > 1e-9))
        expected = np.concatenate([U[:, :used], V[:used].T]) * np.sqrt(sigma[:used])
        expected *= 0.3 / math.sqrt(np.mean(expected**2))
        normal = 0.1 * generator(seed, "start table").standard_normal((n_users + n_items, d))
        settings = Settings.preset("default", dim=d, seed=seed, table_start="svd", partition_epochs=0)
        found = starts.start_table(sparse.csr_array(counts), settings).E_coarse
        known = np.concatenate([counts.sum(axis=1), counts.sum(axis=0)]) > 0
        yield "without interactions", off(found[~known], normal[~known]), 1e-15
        yield "beyond the rank", off(found[:, used:], normal[:, used:]), 1e-15
        # Equal singular values leave their vectors free: what they add up to is compared.
        products = [Y[known][:, :used] @ Y[known][:, :used].T for Y in (found, expected)]
        apart = sigma[used - 1] - (sigma[used] if used < len(sigma) else 0) > 1e-3
        yield f"products of {used} columns", off(*products) if apart else 0.0, 1e-8


#: By the name that the command line takes. There is one version for both engines.
STARTS = {
    "starts": (partitions_check, assignments_check, sparse_pca_check, fine_codebook_check, code_check, shared_code_check),
    "table_sizes": (sizes_check,),
}
