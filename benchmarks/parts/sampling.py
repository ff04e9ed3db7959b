"""The triples of an epoch, against the same draws in NumPy and against rejection in plain Python."""

from __future__ import annotations

import numpy as np

from c2f_np.engine import engine_named
from c2f_np.model.sampling import sample_triples

from ..records import timing_record
from ..timing import Competitor, interleave

# Draws that the Python loop makes; its time is scaled to all of them.
PYTHON_DRAWS = 20_000


def run(plan, workloads):
    """A record for every size."""
    for workload in workloads:
        R, neg_size = workload.problem().R, workload.settings().neg_size
        n_draws = min(R.nnz, PYTHON_DRAWS)
        note = "plain Python with rejection"
        if n_draws < R.nnz:
            note += f"; scaled from {n_draws:,} of {R.nnz:,} draws"
        loop = rejection_sampler(R, n_draws, neg_size)
        with plan.ours():
            both = [sample_triples(R, R.nnz, neg_size, 0, engine=engine_named(engine)) for engine in ("numba", "numpy")]
        competitors = [
            Competitor("ours", lambda R=R, k=neg_size: sample_triples(R, R.nnz, k, 0, engine=engine_named("numba")), plan.ours),
            Competitor(
                "ours_numpy",
                lambda R=R, k=neg_size: sample_triples(R, R.nnz, k, 0, engine=engine_named("numpy")),
                lambda: plan.ours("numpy"),
            ),
            Competitor(
                "scipy",
                loop,
                scale=R.nnz / n_draws,
                note=note,
            ),
        ]
        times = interleave(competitors, **plan.measuring)
        yield timing_record(
            "sampling", f"triples of an epoch, {R.nnz:,} draws with {neg_size} negatives", workload.size.name, times,
            engines_give_the_same=all(np.array_equal(a, b) for a, b in zip(*both, strict=True)),
        )  # fmt: skip


def rejection_sampler(R, n_draws: int, neg_size: int):
    """A call that draws users, a positive of each and negatives until none is known; the sets of items are made beforehand."""
    items_of = [row.tolist() for row in np.split(R.indices, R.indptr[1:-1])]
    known_to = [set(items) for items in items_of]
    n_users, n_items = R.shape

    def call():
        import random

        rng, triples = random.Random(0), []
        for _ in range(n_draws):
            user = rng.randrange(n_users)
            known = known_to[user]
            if not known or len(known) + neg_size > n_items:
                continue
            positive, drawn = rng.choice(items_of[user]), set()
            while len(drawn) < neg_size:
                item = rng.randrange(n_items)
                if item not in known:
                    drawn.add(item)
            triples.extend((user, positive, item) for item in drawn)
        return np.array(triples, dtype=np.int32)

    return call
