"""Training triples: random users, one of their items each, and items they have not interacted with.

One draw is a user (uniform over users, not over interactions), one of the user's items (uniform) as the positive, and
`neg_size` distinct items from the complement (every subset equally likely) as negatives: that many triples.

Nothing is rejected, so nothing can hang. The r-th item that a user has *not* interacted with is found by bisection in the
sorted list of those it has, and distinct r come from Floyd's algorithm. Random numbers are a function of (seed, draw,
position), a splitmix64 hash, so that any thread can make any draw and all get the same.

Shapes
------
R : (U, I) csr     D draws     users, positives : (D,)     negatives : (D, neg_size)     T <= D * neg_size triples
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

from ..errors import DataError
from .loss import Triples

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def generator(seed: int, *purpose) -> np.random.Generator:
    """A stream of its own for each purpose, whatever was drawn elsewhere."""
    words = [b for part in purpose for b in str(part).encode()]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def drawn_batches(rng: np.random.Generator, R, neg_size: int, batch_size: int, *, engine) -> Iterator[Triples]:
    """The batches of an epoch, each sorted by user: as many draws as R has entries, shuffled and cut; the last is the rest."""
    columns = sample_triples(R, R.nnz, neg_size, int(rng.integers(2**63)), engine=engine)
    n_triples = len(columns[0])
    order = rng.permutation(np.arange(n_triples, dtype=np.min_scalar_type(n_triples)))  # narrow numbers are shuffled sooner
    for start in range(0, len(order), batch_size):
        yield Triples.by_user(columns, order[start : start + batch_size], *R.shape, engine=engine)


def sample_triples(R: sparse.csr_array, n_draws: int, neg_size: int, seed: int, *, engine) -> tuple:
    """Draw an epoch's triples (model.md, sampling), not yet shuffled: users, positives, negatives, each int32 of shape (T,).

    `R` has sorted indices. A user without training items, or with all items, is passed over; a user with fewer items left
    than `neg_size` gives as many negatives as there are. Both engines give the same triples. They are the columns of one
    array: a batch takes triples from all over the epoch, and each lies in one place.
    """
    require_something_to_rank(R)
    key = hash64(np.array([seed], dtype=np.uint64) + _GOLDEN)[0]
    users, positives, negatives = engine.draw_triples(R.indptr, R.indices, R.shape[1], n_draws, neg_size, key)
    triples = np.empty((n_draws, neg_size, 3), np.int32)
    for role, drawn in enumerate((users[:, None], positives[:, None], negatives)):
        triples[:, :, role] = drawn
    triples, exist = triples.reshape(-1, 3), negatives.reshape(-1) >= 0
    return tuple((triples if exist.all() else triples[exist]).T)


def require_something_to_rank(R: sparse.csr_array) -> None:
    """Raise DataError if no user has both an item and a non-item."""
    degree = np.diff(R.indptr)
    if not ((degree > 0) & (degree < R.shape[1])).any():
        raise DataError(
            "no user has both an interaction and an item left over: there is nothing to rank "
            f"(n_samples = {R.shape[0]} users, n_features = {R.shape[1]} items)"
        )


def hash64(x: np.ndarray) -> np.ndarray:
    """The mixing function of splitmix64, on uint64 with wrap-around."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * _FIRST
        x = (x ^ (x >> np.uint64(27))) * _SECOND
        return x ^ (x >> np.uint64(31))


def below(random: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 to bound - 1, from 64 random bits each, uniform up to 2^-53 * bound."""
    fraction = (random >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (fraction * bound).astype(np.int64)


def draw_triples(indptr, indices, n_items: int, n_draws: int, neg_size: int, key: np.uint64):
    """Users, positives and negatives of each draw, int32; -1 where there is no (further) negative."""
    n_users = len(indptr) - 1
    with np.errstate(over="ignore"):
        stream = hash64(key + np.arange(n_draws, dtype=np.uint64) * _GOLDEN)

    def random(position: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            return hash64(stream + np.uint64(position + 1) * _GOLDEN)

    users = below(random(0), np.full(n_draws, n_users))
    first, degree = indptr[users].astype(np.int64), np.diff(indptr)[users]
    usable = degree > 0
    place = np.where(usable, first + below(random(1), degree), 0)
    positives = indices[place]
    n_free = n_items - degree
    ranks: list[np.ndarray] = []
    for k in range(neg_size):
        # Floyd: draw below top + 1; if that rank is taken, take top itself. With fewer than neg_size free items, stop early.
        top = n_free - np.minimum(neg_size, n_free) + k
        draw = below(random(2 + k), top + 1)
        taken = np.any([earlier == draw for earlier in ranks], axis=0)
        ranks.append(np.where(usable & (top < n_free), np.where(taken, top, draw), -1))
    negatives = np.full((n_draws, neg_size), -1, dtype=np.int64)
    for k, rank in enumerate(ranks):
        real = rank >= 0
        negatives[real, k] = _free_item(indices, first[real], degree[real], rank[real])
    return users.astype(np.int32), positives.astype(np.int32), negatives.astype(np.int32)


def _free_item(indices: np.ndarray, first: np.ndarray, degree: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The rank-th item that is not in ``indices[first : first + degree]``, for many lists at once.

    Before the j-th item of a list lie ``indices[first + j] - j`` free ones, so rank + j is the answer for the number j of list
    items with at most `rank` free ones before them.
    """
    low, high = np.zeros_like(rank), degree.astype(np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        inside = low < high
        before = indices[first + np.where(inside, middle, 0)] - middle
        up = inside & (before <= rank)
        low, high = np.where(up, middle + 1, low), np.where(inside & ~up, middle, high)
    return rank + low
