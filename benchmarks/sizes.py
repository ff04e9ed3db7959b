"""Named problem sizes and the synthetic data sets of these sizes.

Shapes
------
U users, I items; interactions are pairs (u, i), coded as u * I + i
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from c2f_np.data import Dataset

SEED = 20250120
# Degrees fall with the rank to this power; a shift of the ranks keeps the largest ones where those of real sets are.
POWER = 0.8


@dataclass(frozen=True)
class Size:
    """Users, items, training interactions, and the hyper-parameters that go with them."""

    name: str
    n_users: int
    n_items: int
    n_train: int
    n_coarse: int
    n_fine: int
    dim: int
    n_layers: int = 3
    t_coarse: int = 2
    t_fine: int = 4
    coarse_batch: int = 8192
    fine_batch: int = 32768


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 200, 300, 4000, 20, 8, 32, coarse_batch=2048, fine_batch=4096),
        Size("ml100k", 943, 1682, 80_000, 100, 40, 64),
        Size("gowalla", 29_858, 40_981, 810_128, 300, 100, 128),
    )
}


def like(size: Size, data: Dataset) -> Size:
    """The hyper-parameters of `size` for the users and items of a real data set."""
    return dataclasses.replace(
        size, name="given data", n_users=data.n_users, n_items=data.n_items, n_train=int(data.train.nnz)
    )


def synthetic(size: Size, seed: int = SEED) -> Dataset:
    """A random data set of a size: power-law degrees, nothing to be learnt.

    Validation and test hold an eighth as many interactions as training each, as in an 80/10/10 split. Users and items are in
    random order, so that neighbours in the graph are not neighbours in memory.

    Parameters
    ----------
    size : Size
    seed : int

    Returns
    -------
    Dataset
    """
    rng = np.random.default_rng(seed)
    n_held_out = size.n_train // 8
    sure, others = interactions(size.n_users, size.n_items, size.n_train + 2 * n_held_out, rng)
    n_more = size.n_train - len(sure)
    train = np.concatenate([sure, others[:n_more]])
    validation, test = others[n_more : n_more + n_held_out], others[n_more + n_held_out :]
    parts = (matrix_of(keys, size.n_users, size.n_items) for keys in (train, validation, test))
    return Dataset.from_matrices(*parts, name=f"synthetic, {size.name} size", split="random")


def interactions(n_users: int, n_items: int, n_pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs, as codes: some that touch every user and every item once, and all others, in random order."""
    n_sure = max(n_users, n_items)
    users, items = np.arange(n_sure) % n_users, rng.permutation(n_sure) % n_items
    sure = np.unique(users * np.int64(n_items) + items)
    weights_u, weights_i = _weights(n_users, rng), _weights(n_items, rng)
    found = np.empty(0, dtype=np.int64)
    while len(found) < n_pairs - len(sure):
        users, items = (rng.choice(len(w), size=n_pairs // 2, p=w) for w in (weights_u, weights_i))
        found = np.union1d(found, users * np.int64(n_items) + items)
        found = np.setdiff1d(found, sure, assume_unique=True)
    return sure, rng.permutation(found)[: n_pairs - len(sure)]


def matrix_of(keys: np.ndarray, n_users: int, n_items: int) -> sparse.csr_array:
    """Ones at the coded pairs."""
    ones = np.ones(len(keys), dtype=np.int8)
    return sparse.csr_array((ones, (keys // n_items, keys % n_items)), shape=(n_users, n_items))


def _weights(n: int, rng: np.random.Generator) -> np.ndarray:
    weights = (np.arange(n) + max(20, n / 1000)) ** -POWER
    return rng.permutation(weights / weights.sum())
