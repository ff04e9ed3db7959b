"""The random numbers of a run, and the batches of an epoch.

Everything random comes from (seed, purpose), such as (seed, stage, epoch): an epoch draws the same whatever was drawn before it.

Shapes: see `c2f_np.operations.triples`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

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

    Returns
    -------
    iterator of Triples
        Sorted by user within a batch.
    """
    settings = problem.settings
    rng = generator(settings.seed, progress.stage, progress.stage_epoch)
    return drawn_batches(rng, problem.R, settings.neg_size, batch_size, engine=settings.engine)


def drawn_batches(
    rng: np.random.Generator, R: sparse.csr_array, neg_size: int, batch_size: int, *, engine: str
) -> Iterator[Triples]:
    """As many draws as there are interactions, shuffled and cut; the last batch is what is left."""
    columns = sample_triples(R, R.nnz, neg_size, int(rng.integers(2**63)), engine=engine)
    order = rng.permutation(len(columns[0]))
    for start in range(0, len(order), batch_size):
        yield Triples.by_user(columns, order[start : start + batch_size], *R.shape, engine=engine)
