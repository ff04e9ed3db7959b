"""Sampling, batches and evaluation, which have no gradients: the same again in a few lines of plain Python, compared exactly.

The references share no code with the package. Their random numbers are unbounded integers, their lists are walked through from
the front, and a ranking is a sort of all items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count

import numpy as np
import scipy.sparse as sparse

from ..engine import engine_named, is_compiled
from ..evaluation import evaluate
from ..model import sampling
from ..model.loss import Triples
from ..settings import Settings
from ..training.problem import Problem
from .case import Case, verdict_case
from .problems import generator

# ---- the references ------------------------------------------------------------------------------------------------------


def mixed(x: int) -> int:
    """The mixing function of splitmix64."""
    x %= 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def plain_triples(R: sparse.csr_array, n_draws: int, neg_size: int, seed: int) -> Iterator[tuple[int, int, int]]:
    """What :func:`c2f_np.model.sampling.sample_triples` draws, triple by triple."""
    step, (n_users, n_items) = 0x9E3779B97F4A7C15, R.shape
    for draw in range(n_draws):
        stream = mixed(mixed(seed + step) + draw * step)
        fractions = (mixed(stream + position * step) >> 11 for position in count(1))  # of 2^53
        user = next(fractions) * n_users >> 53
        held = R.indices[R.indptr[user] : R.indptr[user + 1]].tolist()
        if not 0 < len(held) < n_items:
            continue
        positive, n_free, ranks = held[next(fractions) * len(held) >> 53], n_items - len(held), []
        for top in range(max(n_free - neg_size, 0), n_free):
            rank = next(fractions) * (top + 1) >> 53
            ranks.append(top if rank in ranks else rank)
        for negative in ranks:
            for item in held:  # ascending; each one up to here moves the free item on by a place
                negative += item <= negative
            yield user, positive, negative


def plain_batches(R, neg_size: int, size: int, rng: np.random.Generator) -> list[list[tuple[int, int, int]]]:
    """The batches of an epoch, each sorted by user, as lists of (user, positive item, negative item)."""
    drawn = list(plain_triples(R, R.nnz, neg_size, int(rng.integers(2**63))))
    shuffled = [drawn[k] for k in rng.permutation(len(drawn))]
    return [sorted(shuffled[k : k + size], key=lambda triple: triple[0]) for k in range(0, len(shuffled), size)]


def plain_stream(seed: int, stage: str, epoch: int) -> np.random.Generator:
    """The random numbers of an epoch of a stage."""
    return np.random.default_rng([seed, *stage.encode(), *str(epoch).encode()])


def plain_ranking(scores, masked) -> list[int]:
    """All items that are not masked: higher scores first, among equal ones the lower item."""
    left = sorted(set(range(len(scores))) - set(masked))
    return sorted(left, key=lambda item: -scores[item])  # stable


def plain_evaluation(scores, relevant, masked, ks) -> dict[str, list[float]]:
    """NDCG@k, Recall@k and ties at k, user by user, of those with relevant items; dense arguments, one row a user."""
    found = {"users": [user for user in range(len(scores)) if relevant[user].any()]}
    found |= {f"{name}@{k}": [] for k in ks for name in ("ndcg", "recall", "tie")}
    for user in found["users"]:
        masked_items, wanted = (np.flatnonzero(pattern[user]).tolist() for pattern in (masked, relevant))
        listed = plain_ranking(scores[user], masked_items)
        for k in ks:
            places = [place for place, item in enumerate(listed[:k], 1) if item in wanted]
            best = range(1, min(k, len(wanted)) + 1)
            gain, ideal = (math.fsum(1 / math.log2(place + 1) for place in hits) for hits in (places, best))
            found[f"ndcg@{k}"].append(gain / ideal)
            found[f"recall@{k}"].append(len(places) / len(wanted))
            found[f"tie@{k}"].append(k < len(listed) and scores[user][listed[k - 1]] == scores[user][listed[k]])
    return found


# ---- the problems --------------------------------------------------------------------------------------------------------


def interactions(rng: np.random.Generator, n_users: int, n_items: int) -> sparse.csr_array:
    """Rows of all densities, in disorder: one without items, one with all, one with one left; the last row has one item."""
    dense = rng.random((n_users, n_items)) < rng.random((n_users, 1))
    one = np.arange(n_items) == rng.integers(n_items)
    dense[:3] = np.zeros(n_items), np.ones(n_items), ~one
    return sparse.csr_array(np.vstack([rng.permutation(dense[:-1]), one]).astype(np.int8))


def wide(rng: np.random.Generator, n_users: int, n_items: int) -> sparse.csr_array:
    """Numbers of users or items that need more than 16 bits, stored in 64: a few items each, the last one among them."""
    indices = np.sort(np.stack([rng.choice(n_items - 1, 3, replace=False) for _ in range(64)]), axis=1).astype(np.int32)
    indices = np.column_stack([indices[np.arange(n_users) % 64], np.full(n_users, n_items - 1, np.int32)])
    start = 4 * np.arange(n_users + 1)
    R = sparse.csr_array((np.ones(indices.size, np.int8), indices.ravel(), start), shape=(n_users, n_items))
    R.indices, R.indptr = R.indices.astype(np.int64), R.indptr.astype(np.int64)
    return R


def unequal(found, expected, dtype=None) -> float:
    """How many entries differ; infinite if shape or type do."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or dtype is not None and found.dtype != dtype:
        return math.inf
    return float(np.count_nonzero(found != expected))


# ---- the cases -----------------------------------------------------------------------------------------------------------


def sampling_cases(engine: str, seed: int) -> Iterator[Case]:
    """1 to 6 negatives, of small problems with every kind of user; numbers beyond 16 bits; every bit of the random numbers."""

    def check(name, make, n_draws, neg_size):
        def run(seed):
            rng = generator(seed, "sampling", name)
            R, key = make(rng), int(rng.integers(2**64, dtype=np.uint64))
            with np.errstate(over="ignore"):  # interpreted, the hash warns of its wrap-around
                columns = sampling.sample_triples(R, n_draws, neg_size, key, engine=engine_named(engine))
            expected = np.array(list(plain_triples(R, n_draws, neg_size, key)), dtype=np.int32).reshape(-1, 3)
            for part, found, column in zip(("user", "positive", "negative"), columns, expected.T, strict=True):
                yield part, unequal(found, column, np.int32), 0.0

        return verdict_case("sampling", name, engine, run)

    def numbers(seed):
        rng = generator(seed, "numbers")
        random, bounds = rng.integers(2**64, size=60, dtype=np.uint64), rng.integers(2**30, 2**31, 60)
        with np.errstate(over="ignore"):
            if not is_compiled(engine):
                hashed, below = sampling.hash64(random), sampling.below(random, bounds)
            else:
                from ..kernels.step import _below, _hash64

                hashed, below = [_hash64(x) for x in random], [_below(x, b) for x, b in zip(random, bounds, strict=True)]
        yield "hash", unequal(np.array(hashed, np.uint64), np.array([mixed(int(x)) for x in random], np.uint64)), 0.0
        yield "below", unequal(below, [(int(x) >> 11) * int(b) >> 53 for x, b in zip(random, bounds, strict=True)]), 0.0

    yield verdict_case("sampling", "numbers", engine, numbers)
    for neg_size in range(1, 7):
        def small(rng):
            return interactions(rng, *(int(n) for n in rng.integers((6, 5), (20, 30))))

        yield check(f"{neg_size} of every kind of user", small, 60, neg_size)
    yield check("70,000 items", lambda rng: wide(rng, 300, 70_000), 20, 3)
    yield check("70,000 users", lambda rng: wide(rng, 70_000, 8), 20, 6)
    yield check("a single user", lambda rng: sparse.csr_array(rng.permutation(9)[None, :] < 3, dtype=np.int8), 60, 5)
    yield check("a user with some 40,000 items", lambda rng: sparse.csr_array(rng.random((1, 80_000)) < 0.5, dtype=np.int8), 4, 2)


def batch_cases(engine: str, seed: int) -> Iterator[Case]:
    """Whole epochs of several stages in batches of several sizes; a large batch of a few entities."""

    def epochs(seed):
        rng = generator(seed, "epochs")
        R = interactions(rng, 9, 13)
        # Cut without a rest, with a rest of one, into one whole batch, into one that is not full, and anyhow.
        for stage in ("coarse", "fine", "table", "joint"):
            settings = Settings(seed=int(rng.integers(2**32)), neg_size=int(rng.integers(1, 5)), engine=engine)
            epoch, problem = int(rng.integers(300)), Problem(None, settings, R, None, engine_named(engine))
            n = len(plain_batches(R, settings.neg_size, 10**6, plain_stream(settings.seed, stage, epoch))[0])
            divisor = next(size for size in range(7, n + 1) if n % size == 0)
            for size in (divisor, max(n - 1, 1), n, n + 7, int(rng.integers(3, 30))):
                drawn = sampling.generator(settings.seed, stage, epoch), R, settings.neg_size, size
                with np.errstate(over="ignore"):
                    found = list(sampling.drawn_batches(*drawn, engine=problem.engine))
                expected = plain_batches(R, settings.neg_size, size, plain_stream(settings.seed, stage, epoch))
                what = f"{stage}, batches of {size}"
                yield f"{what}: sizes", unequal([len(batch) for batch in found], [len(batch) for batch in expected]), 0.0
                for part, shift in (("user", 0), ("positive", 9), ("negative", 9)):
                    column = "user positive negative".split().index(part)
                    whole = np.concatenate([getattr(batch, part) for batch in found] or [[]])
                    yield f"{what}: {part}", unequal(whole, [t[column] + shift for b in expected for t in b], np.int64), 0.0
                yield f"{what}: entities", unequal([batch.n_entities for batch in found], [22] * len(expected)), 0.0

    def crowd(seed):
        rng, n, last = generator(seed, "crowd"), 40_000, 33_000
        columns = [rng.choice(np.array(numbers, np.int32), n, p=(0.9, 0.1)) for numbers in ((1, 3), (2, 0), (1, last))]
        batch = Triples.by_user(columns, rng.permutation(n), 4, last + 1, engine=engine_named(engine))
        for part, column, shift in zip(("user", "positive", "negative"), columns, (0, 4, 4), strict=True):
            yield part, unequal(np.sort(getattr(batch, part)), np.sort(column.astype(np.int64) + shift)), 0.0
        yield "order", float(np.count_nonzero(np.diff(batch.user) < 0)), 0.0
        slots = np.concatenate([batch.user, batch.positive, batch.negative])
        yield "slots", unequal(batch.occurrences.slots, np.argsort(slots, kind="stable")), 0.0
        entities, counts = np.unique(slots, return_counts=True)
        yield "entities", unequal(batch.occurrences.entities, entities), 0.0
        yield "counts", unequal(batch.occurrences.counts, counts), 0.0

    yield verdict_case("batches", "epochs", engine, epochs)
    yield verdict_case("batches", "more of one entity than 16 bits can count", engine, crowd)


def evaluation_cases(engine: str, seed: int) -> Iterator[Case]:
    """Blocks of several sizes, 1 to 3 threads, long masks, many ties, users left out; lists of all lengths."""

    def check(name, sizes, ks, ways=3):
        def run(seed):
            rng = generator(seed, "evaluation", name)
            n_users, n_items = (int(rng.integers(*size)) for size in sizes)
            # Whole numbers: every product is exact, and scores are equal in most rows.
            users, items = (rng.integers(-3, 4, (n, 3)).astype(np.float32) for n in (n_users, n_items))
            bias = rng.integers(-3, 4, n_items).astype(np.float32)
            part = rng.random((n_users, n_items))
            relevant, masked = part < rng.choice([0.0, 0.1, 0.3], (n_users, 1)), part > rng.choice([0.05, 0.3, 0.9], (n_users, 1))
            relevant[-1, -1] = masked[n_users // 2] = True
            masked[0, 0] = False
            scores = users @ items.T + bias
            relevant[0, plain_ranking(scores[0], np.flatnonzero(masked[0]))[0]] = True  # at every k somebody has a hit
            expected = plain_evaluation(scores.tolist(), relevant, masked, ks)
            n, pattern = len(expected["users"]), {"relevant": sparse.csr_array(relevant), "masked": sparse.csr_array(masked)}
            for n_threads, block_rows in ((2, int(rng.integers(1, 40))), (3, 49), (1, None))[:ways]:
                how = {"engine": engine, "n_threads": n_threads, "block_rows": block_rows, "per_user": True}
                how |= pattern | {"ks": ks}
                kinds = {
                    "scores": (evaluate.evaluate_ranking, lambda block: scores[block]),
                    "embeddings": (evaluate.evaluate_embeddings, users, items, bias),
                }
                for kind, (evaluated, *model) in kinds.items():
                    # What is left in memory by an earlier, right evaluation would hide rows that nobody has written to.
                    np.full((n, min(max(ks) + 1, n_items)), -1), np.ones((n, len(ks)), bool)
                    result = evaluated(*model, **how)
                    what = f"{kind}, {n_threads} threads"
                    yield f"{what}: users", unequal(result.users, expected["users"]), 0.0
                    yield f"{what}: counts", unequal([result.n_users, result.n_users_left_out], [n, n_users - n]), 0.0
                    yield f"{what}: ties", unequal([result.ties[k] for k in ks], [sum(expected[f"tie@{k}"]) for k in ks]), 0.0
                    for metric in (f"{metric}@{k}" for k in ks for metric in ("ndcg", "recall")):
                        each = np.asarray(expected[metric])
                        gap = np.linalg.norm(result.per_user[metric] - each) / np.linalg.norm(each)
                        yield f"{what}: {metric} of each user", gap, 1e-14
                        yield f"{what}: {metric}", abs(result.metrics[metric] / (math.fsum(each) / n) - 1), 1e-14

        return verdict_case("evaluation", name, engine, run)

    yield check("blocks, masks and ties", ((97, 130), (60, 80)), (1, 4, 2, 45))
    yield check("lists longer than the catalogue", ((50, 60), (60, 80)), (7, 99), ways=1)
    yield check("33,000 items", ((2, 3), (33_000, 33_001)), (30, 4), ways=1)
    yield check("lists that are sorted as a whole", ((3, 4), (1_300, 1_400)), (1_001, 5), ways=1)


#: By the names that ``--op`` takes.
SAMPLING = {"sampling": sampling_cases, "batches": batch_cases, "evaluation": evaluation_cases}
