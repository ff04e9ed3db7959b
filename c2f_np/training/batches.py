"""The random numbers of a run, and the batches of an epoch.

Everything random comes from (seed, purpose), such as (seed, stage, epoch): an epoch draws the same whatever was drawn before it.

Shapes: see `c2f_np.operations.triples`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..operations.triples import Triples
from .problem import Problem
from .progress import Progress
from .sampling import sample_triples


def generator(seed: int, *purpose) -> np.random.Generator:
    """A stream of its own for each purpose, whatever was drawn elsewhere."""
    words = [b for part in purpose for b in str(part).encode()]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def epoch_batches(progress: Progress, problem: Problem, batch_size: int) -> Iterator[Triples]:
    """The triples of the next epoch, drawn, shuffled, and cut into batches.

    Parameters
    ----------
    progress : Progress
        Whose stage and epoch seed the draw.
    problem : Problem
    batch_size : int

    Yields
    ------
    Triples
        Sorted by user within a batch.
    """
    settings = problem.settings
    rng = generator(settings.seed, progress.stage, progress.stage_epoch)
    sample_seed = int(rng.integers(2**63))
    columns = sample_triples(problem.R, problem.R.nnz, settings.neg_size, sample_seed, engine=settings.engine)
    order = rng.permutation(len(columns[0]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield Triples.by_user(columns, chosen, problem.n_users, problem.n_items, engine=settings.engine)
