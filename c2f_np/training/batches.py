"""The batches of an epoch. Everything random comes from (seed, stage, epoch): an epoch draws the same whatever was drawn before.

Shapes: see `c2f_np.model.triples`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..model.sampling import sample_triples
from ..model.triples import Triples


def drawn_batches(rng: np.random.Generator, R, neg_size: int, batch_size: int, *, engine) -> Iterator[Triples]:
    """The triples of an epoch: as many draws as R has entries, shuffled and cut; the last batch is what is left.

    Each batch is sorted by user.
    """
    columns = sample_triples(R, R.nnz, neg_size, int(rng.integers(2**63)), engine=engine)
    order = rng.permutation(len(columns[0]))
    for start in range(0, len(order), batch_size):
        yield Triples.by_user(columns, order[start : start + batch_size], *R.shape, engine=engine)
