"""Small problems with everything in them that goes wrong in practice.

Empty rows and columns, isolated nodes, duplicate users, items that are positive in one triple and negative in another, row
loads that differ, weights of both signs; more rows than there are row groups in the compiled kernels.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..model.loss import Triples


def generator(seed: int, *names) -> np.random.Generator:
    """A generator of its own for each case."""
    return np.random.default_rng([seed, *(part for name in names for part in str(name).encode())])


def on_float32_grid(x):
    """Rounded to float32 precision: float32 and float64 then start from the same numbers."""
    if sparse.issparse(x):
        x = x.copy()
        x.data = on_float32_grid(x.data)
        return x
    return np.asarray(x, dtype=np.float32).astype(np.float64)


def random_matrix(rng, n: int, m: int, most: int = 6, size: float = 1.0) -> sparse.csr_array:
    """Sparse, not symmetric, of uneven rows; the second row and the last column are empty."""
    rows, columns = [], []
    for i in range(n):
        count = 0 if i == 1 else int(rng.integers(1, min(most, m - 1) + 1))
        columns.append(np.sort(rng.choice(m - 1, count, replace=False)))
        rows.append(np.full(count, i))
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    values = size * rng.choice([-1.0, 1.0], len(rows)) * rng.uniform(0.3, 1.2, len(rows))
    return sparse.csr_array((on_float32_grid(values), (rows, columns)), shape=(n, m))


def assignment(rng, n: int, m: int, t: int, *, empty: bool = False) -> sparse.csr_array:
    """`t` positive weights of different sizes in each row, the first the largest."""
    columns = np.stack([rng.permutation(m)[:t] for _ in range(n)])
    values = rng.uniform(0.15, 0.5, (n, t))
    values[:, 0] += 0.4
    rows = np.repeat(np.arange(n), t)
    keep = np.ones(n * t, dtype=bool)
    if empty:
        keep[rows == 2] = False
    entries = (on_float32_grid(values.ravel()[keep]), (rows[keep], columns.ravel()[keep]))
    matrix = sparse.csr_array(entries, shape=(n, m))
    matrix.sort_indices()
    return matrix


def rounding_decides(code, tables: list[np.ndarray], most: float) -> bool:
    """Whether rounding may move a code by more than `most`, or makes it None: a greedy choice hangs by a thread.

    Of two that are equally good, each change takes either; hence so many changes. What a change is multiplied by is the condition
    of the systems that are solved, and of rounding its square (normal equations).
    """
    rng, first, visible = np.random.default_rng(0), code(tables), 1e-4 * most**0.5
    for _ in range(60):
        moved = code([Y * (1 + 1e-12 * rng.standard_normal(Y.shape)) for Y in tables])
        if moved is None or any(np.linalg.norm(moved[k] - part) > visible * np.linalg.norm(part) for k, part in first.items()):
            return True
    return False


def normal(rng, *shape) -> np.ndarray:
    """Normal numbers on the float32 grid."""
    return on_float32_grid(rng.standard_normal(shape))


def codebook_off_threshold(rng, shape, tau: float, margin: float = 0.05) -> np.ndarray:
    """Entries inside and outside the threshold, none within `margin` of it; the first row lies inside altogether."""
    inside = rng.random(shape) < 0.4
    inside[0] = True
    inside[1:, 0] = False
    size = np.where(inside, rng.uniform(0.05, 0.9, shape) * (tau - margin), tau + margin + rng.uniform(0, 1.5, shape))
    return on_float32_grid(rng.choice([-1.0, 1.0], shape) * size)


def away_from_threshold(E: np.ndarray, tau: float, margin: float) -> np.ndarray:
    """The same codebook with entries that lie within `margin` of the threshold moved outwards."""
    close = np.abs(np.abs(E) - tau) < margin
    return np.where(close, np.sign(E) * (tau + margin), E)


def interactions(rng, n_users: int, n_items: int) -> sparse.csr_array:
    """Binary interactions; the last user and the last item have none."""
    dense = rng.random((n_users, n_items)) < 0.25
    dense[np.arange(n_users), rng.integers(0, n_items - 1, n_users)] = True
    dense[-1] = False
    dense[:, -1] = False
    return sparse.csr_array(dense.astype(np.float64))


def batch(rng, n_users: int, n_items: int, size: int) -> Triples:
    """Triples with repeated users and items, whole repeated triples, and items on both sides."""
    users = rng.integers(0, max(n_users // 2, 1), size)
    positive = rng.integers(0, n_items - 1, size)
    negative = (positive + 1 + rng.integers(0, n_items - 2, size)) % (n_items - 1)
    if size > 4:
        users[1], positive[1], negative[1] = users[0], positive[0], negative[0]
        users[2], positive[2], negative[2] = users[0], negative[0], positive[0]
        users[3], positive[3], negative[3] = users[0], positive[0], (positive[0] + 1) % (n_items - 1)
        users[-1] = n_users - 1
    return Triples.from_items(users, positive, negative, n_users, n_items)


#: Numbers of users, items and triples: some of which repeat, a single one, every entity, more entities than row groups.
BATCHES = {"drawn": (4, 6, 9), "one": (2, 3, 1), "everybody": (3, 4, 5), "many": (40, 50, 90)}


def batch_of(rng, kind: str) -> tuple[int, int, Triples]:
    """Numbers of users and items, and triples of one of the :data:`BATCHES`."""
    n_users, n_items, size = BATCHES[kind]
    triples = batch(rng, n_users, n_items, size)
    if kind == "everybody":
        columns = np.array([[0, 1, 2, 0, 1], [0, 1, 2, 3, 0], [1, 2, 3, 0, 3]])[:, rng.permutation(size)]
        triples = Triples.from_items(*columns, n_users, n_items)
    return n_users, n_items, triples
