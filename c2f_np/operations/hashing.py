"""Hashing: which rows of a shared codebook an entity is the sum of, computed and never stored.

    row_k(e) = floor(n_rows * h_k(e) / 2^32),   h_k(e) = upper 32 bits of (a_k e + b_k mod 2^64),   a_k odd

This is multiply-shift hashing (Dietzfelbinger et al.): a_k and b_k come from the seed, so that no table of row numbers is stored.
Two entities share all of their rows with a probability of about n_rows^-n_hashes; that is what several hashes are for.

The composition is a sparse product, Z = S E, with ones in S where an entity's rows are (a 2 where two hashes meet).

Shapes
------
E : (n_rows, d) codebook     S : (N, n_rows) with n_hashes ones a row     Z : (N, d)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError


def hashed_rows(n_entities: int, n_rows: int, n_hashes: int, seed: int) -> np.ndarray:
    """The codebook rows of entities 0 .. N - 1.

    Parameters
    ----------
    n_entities, n_rows, n_hashes : int
        At least 1, and fewer rows than 2^32.
    seed : int
        Of the multipliers; 0 or more.

    Returns
    -------
    ndarray of int64, shape (N, n_hashes)

    Raises
    ------
    SettingsError
        If there is no row or no hash function.
    """
    if not 1 <= n_rows < 2**32 or n_hashes < 1:
        raise SettingsError(f"hashing needs rows and hash functions, not {n_rows} rows and {n_hashes} functions")
    factors = np.random.default_rng([seed, 0x68617368]).integers(0, 2**64, size=(2, n_hashes), dtype=np.uint64)
    odd, shift = factors[0] | np.uint64(1), factors[1]
    # uint64 arithmetic on arrays wraps around, which is the "mod 2^64".
    hashes = (np.arange(n_entities, dtype=np.uint64)[:, None] * odd + shift) >> np.uint64(32)
    return ((hashes * np.uint64(n_rows)) >> np.uint64(32)).astype(np.int64)


def hash_assignment(n_entities: int, n_rows: int, n_hashes: int, seed: int, dtype=np.float64) -> sparse.csr_array:
    """The same as a matrix S, so that composing is ``sparse_product(S, E)`` and its backward the transpose.

    Parameters
    ----------
    n_entities, n_rows, n_hashes, seed : int
        As for :func:`hashed_rows`.
    dtype : dtype

    Returns
    -------
    csr_array, shape (N, n_rows)
    """
    rows = hashed_rows(n_entities, n_rows, n_hashes, seed)
    ends = np.arange(0, rows.size + 1, n_hashes)
    S = sparse.csr_array((np.ones(rows.size, dtype), rows.ravel(), ends), shape=(n_entities, n_rows))
    S.sum_duplicates()
    return S
