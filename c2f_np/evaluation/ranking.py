"""Top-k ranking of items, best first.

The order is total, so that a ranking is one list and not one of several: higher score first, among equal scores the
lower item index first. A masked item is never listed; an item with the score -inf is, after all others.

Shapes: `scores` (n_rows, n_items); `masked` (n_rows, n_items) sparse; rankings (n_rows, min(k, n_items)) of item
indices.
"""

from __future__ import annotations

from queue import SimpleQueue

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from ..engine import DEFAULT_ENGINE, is_compiled
from ..errors import DataError
from ..threads import in_threads, one_blas_thread
from .inputs import Pattern, dense_scores, pattern_of, positive_integer, thread_count
from .ties import ties_after

# The compiled buffer moves about k/2 entries for an item that enters. Beyond this k a full sort of the row is as fast
# (41,000 items: 1.1 against 3.3 ms a row at k = 1000, both 3.2 ms at 2000).
LONGEST_BUFFER = 1000

# The last bits of a product can depend on where in BLAS's register tiles its row falls (seen with OpenBLAS in float32).
# Blocks therefore start and end on multiples of 48, which the usual tile heights divide, and the last one is filled up
# with zeros: then a row falls the same way whatever the block size.
ROW_STEP = 48
MOST_ROWS = 5 * ROW_STEP
BLOCK_BYTES = 64 * 2**20
# Items, as many at a time, whose scores of a block of users stay in a core's cache until they are compared. OpenBLAS (AVX2) takes
# columns by 192, of which this is a multiple: then the last bits are those of the product with all items.
ITEMS_AT_A_TIME = 5 * 192


def rank_items(
    scores: ArrayLike, masked: sparse.sparray | None, k: int, *, engine: str = DEFAULT_ENGINE, n_threads: int | None = None
) -> np.ndarray:
    """List the k best items of every row, best first.

    Parameters
    ----------
    scores : array_like, shape (n_rows, n_items)
        float32 or float64; integers are taken as float64. Infinities are fine, NaN is not.
    masked : csr_array, shape (n_rows, n_items), or None
        Its nonzero entries are the items left out, row by row.
    k : int
        Length of the lists, at least 1. A catalogue of fewer items gives lists of that length.
    engine : {"numpy", "numba"}
    n_threads : int, optional
        By default all processors. The result does not depend on it.

    Returns
    -------
    ndarray of int64, shape (n_rows, min(k, n_items))
        Item indices: higher scores first, lower index first among equal scores; -1 in the places that a row with fewer
        than k items left cannot fill.

    Raises
    ------
    DataError
        If a score is NaN (masked or not: the model that gave it is broken), or the shapes do not match.
    SettingsError
        If `k`, `engine` or `n_threads` is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> rank_items(np.array([[0.5, 2.0, 0.5, 1.0]]), None, 3, engine="numpy")
    array([[1, 3, 0]])
    """
    compiled = is_compiled(engine)
    scores = dense_scores(scores)
    pattern = pattern_of(masked, "masked", scores.shape)
    n_rows, n_items = scores.shape
    ranking = np.empty((n_rows, min(positive_integer(k, "k"), n_items)), np.int64)
    rank_in_threads(scores, np.arange(n_rows), pattern, ranking, compiled, thread_count(n_threads), "row")
    return ranking


def rank_in_threads(
    scores: np.ndarray, mask_rows: np.ndarray, masked: Pattern, ranking: np.ndarray, compiled: bool, n_threads: int, kind: str
) -> None:
    """Fill a ranking (see :func:`rank_block`), several rows at a time; `kind` names a row of the mask if a score is NaN."""
    step = max(16, -(-len(scores) // (4 * n_threads)))

    def work(first: int) -> None:
        here = slice(first, first + step)
        nan_at, _ = rank_block(scores[here], mask_rows[here], masked, ranking[here], compiled)
        if nan_at is not None:
            at = f"{kind} {mask_rows[first + nan_at[0]]} and item {nan_at[1]}"
            raise DataError(f"the score of {at} is not a number (NaN)")

    in_threads(work, range(0, len(scores), step), n_threads)


def has_buffer(k: int, compiled: bool) -> bool:
    """Whether lists of k items are made by the compiled loop, which can be given a part of the items after the other."""
    return compiled and k <= LONGEST_BUFFER


def rank_block(
    scores: np.ndarray, mask_rows: np.ndarray, masked: Pattern, ranking: np.ndarray, compiled: bool
) -> tuple[tuple[int, int] | None, np.ndarray]:
    """Fill the rows of a ranking; the part of :func:`rank_items` that one thread does.

    Parameters
    ----------
    scores : ndarray of float32 or float64, shape (n_rows, n_items)
    mask_rows : ndarray of int64, shape (n_rows,)
        Which row of `masked` belongs to each row of `scores`.
    masked : Pattern
    ranking : ndarray of int64, shape (n_rows, k)
        Written to.
    compiled : bool

    Returns
    -------
    tuple of int, or None
        Row and item of the first NaN, if there is one; the ranking is then of no use.
    ndarray, shape (n_rows, k)
        The scores of the items listed, in that order; where none is, any number.
    """
    lists = ranking, *new_lists(ranking, scores.dtype)
    if ranking.shape[1] == 0:
        return None, lists[1]
    if has_buffer(ranking.shape[1], compiled):
        return enter_items(scores, 0, mask_rows, masked, *lists), lists[1]

    for row in range(len(scores)):
        if np.isnan(scores[row]).any():
            return (row, int(np.argmax(np.isnan(scores[row])))), lists[1]
        allowed = np.ones(scores.shape[1], bool)
        allowed[masked.indices[masked.indptr[mask_rows[row]] : masked.indptr[mask_rows[row] + 1]]] = False
        candidates = np.flatnonzero(allowed)
        # Stable: equal scores stay in the order of their indices.
        best = candidates[np.argsort(-scores[row, candidates], kind="stable")[: ranking.shape[1]]]
        ranking[row, : best.size] = best
    return None, np.take_along_axis(scores, ranking, axis=1)


def new_lists(ranking: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Lists without items: -1 is written into the ranking; room for the scores of those listed, and how many there are."""
    ranking[...] = -1
    return np.empty(ranking.shape, dtype), np.zeros(len(ranking), np.int64)


def enter_items(
    scores: np.ndarray,
    first_item: int,
    mask_rows: np.ndarray,
    masked: Pattern,
    ranking: np.ndarray,
    best: np.ndarray,
    filled: np.ndarray,
) -> tuple[int, int] | None:
    """Go on with lists by the items from `first_item` on; the place of a NaN, if there is one."""
    from ..kernels.ranking import rank_rows

    row, item = rank_rows(scores, mask_rows, masked.indptr, masked.indices, ranking, best, filled, first_item)
    return None if row < 0 else (row, item)


def count_ties_at_cut(
    scores: ArrayLike, masked: sparse.sparray | None, k: int, *, engine: str = DEFAULT_ENGINE, n_threads: int | None = None
) -> int:
    """Count the rows in which the k-th and the next item have equal scores.

    In those rows the order of the item indices, not the model, decided who is on the list. Parameters and errors are
    those of :func:`rank_items`.

    Returns
    -------
    int
    """
    scores = dense_scores(scores)
    k = positive_integer(k, "k")
    ranking = rank_items(scores, masked, k + 1, engine=engine, n_threads=n_threads)
    return int(np.count_nonzero(ties_after(np.take_along_axis(scores, ranking, axis=1), ranking, (k,))))


def rank_embeddings(
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    item_bias: np.ndarray | None,
    masked: sparse.sparray | None,
    k: int,
    *,
    users: ArrayLike | None = None,
    block_rows: int | None = None,
    engine: str = DEFAULT_ENGINE,
    n_threads: int | None = None,
) -> np.ndarray:
    """List the k best items of users under a dot-product model, without ever holding all scores.

    The score of user u and item i is ``<user_embeddings[u], item_embeddings[i]> + item_bias[i]``; the bias rides along
    in the matrix product as a further column. What is the same for all items of a user cannot change the ranking.

    Parameters
    ----------
    user_embeddings : array_like, shape (n_users, d)
        float32 or float64; the scores are computed in the wider of the two embeddings' types.
    item_embeddings : array_like, shape (n_items, d)
    item_bias : array_like, shape (n_items,), or None
    masked : csr_array, shape (n_users, n_items), or None
        Items left out, for all users, also those not asked for.
    k : int
    users : array_like of int, shape (n_rows,), optional
        The users asked for; by default all.
    block_rows : int, optional
        Users scored at a time, rounded up to a multiple of 48. By default 240; where a block has all items (engine "numpy", or k
        above 1,000), as many as 64 MiB hold, but 48 to 240.
    engine : {"numpy", "numba"}
        Of the ranking; the product is BLAS's in both.
    n_threads : int, optional
        Blocks worked on at a time, each with BLAS on one thread; by default all processors. The result does not depend
        on it.

    Returns
    -------
    ndarray of int64, shape (n_rows, min(k, n_items))
        As :func:`rank_items` gives it.

    Raises
    ------
    DataError
        If a score is NaN, or a shape, type or user index does not fit.
    SettingsError
        If `k`, `block_rows`, `engine` or `n_threads` is not valid.

    Notes
    -----
    Beyond the result: ``n_threads * block_rows * (n + d + 1) + n_items * (d + 1)`` numbers of the scores' type, n = 960 or
    all items, and 8 bytes for every entry of `masked`. At Gowalla's size (40,981 items, d = 128, float32, two threads,
    810,128 masked entries) that is 30 MB.
    """
    ranking, _ = rank_embeddings_with_ties(
        user_embeddings,
        item_embeddings,
        item_bias,
        masked,
        k,
        (),
        users=users,
        block_rows=block_rows,
        engine=engine,
        n_threads=n_threads,
    )
    return ranking


def rank_embeddings_with_ties(
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    item_bias: np.ndarray | None,
    masked: sparse.sparray | None,
    k: int,
    tie_ks: tuple[int, ...],
    *,
    users: ArrayLike | None = None,
    block_rows: int | None = None,
    engine: str = DEFAULT_ENGINE,
    n_threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`rank_embeddings` lists, and where scores tie; arguments, errors and memory are explained there.

    The scores are gone when the lists are there, so ties have to be looked for on the way.

    Parameters
    ----------
    tie_ks : tuple of int
        Places after which a tie is looked for, all below `k` or not below the number of items.

    Returns
    -------
    ranking : ndarray of int64, shape (n_rows, min(k, n_items))
    tied : ndarray of bool, shape (n_rows, len(tie_ks))
        See :func:`~c2f_np.evaluation.ties.ties_after`.
    """
    compiled = is_compiled(engine)
    n_threads = thread_count(n_threads)
    k = positive_integer(k, "k")
    left, right = _with_bias(user_embeddings, item_embeddings, item_bias)
    n_users, n_items, dtype = left[0].shape[0], right.shape[0], right.dtype
    pattern = pattern_of(masked, "masked", (n_users, n_items))
    users = np.arange(n_users) if users is None else _user_indices(users, n_users)
    ranking = np.empty((users.size, min(k, n_items)), np.int64)
    tied = np.zeros((users.size, len(tie_ks)), bool)
    if ranking.size == 0:
        return ranking, tied

    buffered = has_buffer(ranking.shape[1], compiled)
    width = min(ITEMS_AT_A_TIME, n_items) if buffered else n_items
    if block_rows is None:
        block_rows = min(BLOCK_BYTES // (width * dtype.itemsize), MOST_ROWS) // ROW_STEP * ROW_STEP
        block_rows = max(block_rows, ROW_STEP)
    else:
        block_rows = -(-positive_integer(block_rows, "block_rows") // ROW_STEP) * ROW_STEP
    block_rows = min(block_rows, -(-users.size // ROW_STEP) * ROW_STEP)
    starts = range(0, users.size, block_rows)
    buffers: SimpleQueue[tuple[np.ndarray, np.ndarray]] = SimpleQueue()
    for _ in range(min(n_threads, len(starts))):
        buffers.put((np.empty((block_rows, right.shape[1]), dtype), np.empty(block_rows * width, dtype)))

    def work(start: int) -> None:
        block = users[start : start + block_rows]
        buffer = factors, scores = buffers.get()
        try:
            column = 0
            for part in left:
                np.take(part, block, axis=0, out=factors[: block.size, column : column + part.shape[1]], mode="clip")
                column += part.shape[1]
            factors[block.size :] = 0  # what an earlier block left there, or nobody: it could overflow
            here = slice(start, start + block.size)
            lists = ranking[here], *new_lists(ranking[here], dtype)
            for first in range(0, n_items, width):
                part = right[first : first + width]
                some = scores[: block_rows * len(part)].reshape(block_rows, len(part))
                with np.errstate(invalid="ignore"):  # NaN is reported below, with its place
                    np.matmul(factors, part.T, out=some)
                if buffered:
                    nan_at, best = enter_items(some[: block.size], first, block, pattern, *lists), lists[1]
                else:
                    nan_at, best = rank_block(some[: block.size], block, pattern, ranking[here], compiled)
                if nan_at is not None:
                    raise DataError(f"the score of user {block[nan_at[0]]} and item {nan_at[1]} is not a number (NaN)")
            tied[here] = ties_after(best, ranking[here], tie_ks)
        finally:
            buffers.put(buffer)

    with one_blas_thread():
        in_threads(work, starts, n_threads)
    return ranking, tied


def _with_bias(
    user_embeddings: np.ndarray, item_embeddings: np.ndarray, item_bias: np.ndarray | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Write the score as one product: [U, 1] times [V, item bias] transposed.

    The left factor comes in parts, put side by side block by block; the right one whole.
    """
    left = [_matrix(user_embeddings, "user_embeddings")]
    right = [_matrix(item_embeddings, "item_embeddings")]
    n_users, n_items = left[0].shape[0], right[0].shape[0]
    if left[0].shape[1] != right[0].shape[1]:
        raise DataError(f"embeddings of users and items differ in width: {left[0].shape[1]} and {right[0].shape[1]}")
    dtype = np.result_type(left[0], right[0])
    if item_bias is not None:
        left.append(np.ones((n_users, 1), dtype))
        item_bias = np.asarray(item_bias)
        if item_bias.shape != (n_items,) or item_bias.dtype.kind not in "iuf":
            raise DataError(f"item_bias must be {n_items} real numbers, not {item_bias.dtype} of shape {item_bias.shape}")
        right.append(item_bias[:, np.newaxis])
    left = [part.astype(dtype, copy=False) for part in left]
    return left, np.concatenate(right, axis=1, dtype=dtype, casting="same_kind")


def _matrix(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype not in (np.float32, np.float64):
        raise DataError(f"{name} must be a float32 or float64 matrix, not {values.dtype} of shape {values.shape}")
    return values


def _user_indices(users: ArrayLike, n_users: int) -> np.ndarray:
    users = np.asarray(users)
    if users.ndim != 1 or (users.size and users.dtype.kind not in "iu"):
        raise DataError(f"users must be a vector of indices, not {users.dtype} of shape {users.shape}")
    users = users.astype(np.int64)
    wrong = users[(users < 0) | (users >= n_users)]
    if wrong.size:
        raise DataError(f"there are {n_users} users, counted from 0", value=int(wrong[0]))
    return users
