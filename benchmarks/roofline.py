"""How fast memory is on this machine, and how many bytes a sparse product has to move.

Two counts, between which the truth lies:

    compulsory   the matrix, X and the output once each: a cache as large as X
    gathered     the matrix and the output once, and a row of X for every stored entry: no cache at all

Shapes
------
matrix : (n, m) csr     X : (m, d)     out : (n, d)
"""

from __future__ import annotations

import numpy as np

from .environment import last_cache_bytes, memory_bytes


def stream_copy(quick: bool = False):
    """A copy of a large array by compiled loops on all threads.

    Parameters
    ----------
    quick : bool
        A smaller array.

    Returns
    -------
    call : callable
        Copies once.
    n_bytes : int
        Read plus written by a call. The line that a write fetches first is not counted, neither here nor below.
    """
    from numba import njit, prange

    @njit(parallel=True)
    def copy(source, target):
        for i in prange(source.shape[0]):
            target[i] = source[i]

    # Beyond the last cache, which a processor may share with other tenants and tell as a whole; within reason.
    size = max(64 * 2**20 if quick else 256 * 2**20, min(4 * last_cache_bytes(), 2**30))
    size = min(size, (memory_bytes() or 2**32) // 8)
    source = np.ones((64 * 2**20 if quick else size) // 8)
    target = np.zeros_like(source)
    return (lambda: copy(source, target)), 2 * source.nbytes


def bytes_moved(matrix, width: int, itemsize: int) -> dict[str, int]:
    """Bytes of a product with a dense matrix of some width, by both counts."""
    entries = matrix.nnz * (matrix.indices.itemsize + matrix.data.itemsize) + matrix.indptr.nbytes
    out = matrix.shape[0] * width * itemsize
    return {
        "compulsory": entries + matrix.shape[1] * width * itemsize + out,
        "gathered": entries + matrix.nnz * width * itemsize + out,
    }


def roofline(matrix, width: int, itemsize: int, summaries: dict[str, dict], copy_bytes: int) -> dict:
    """Bandwidth of each competitor by both counts, and as a fraction of the stream copy's.

    Parameters
    ----------
    matrix : csr_array
    width, itemsize : int
        Of the dense matrix.
    summaries : dict of str to dict
        Times; ``"stream_copy"`` must be among them.
    copy_bytes : int

    Returns
    -------
    dict
    """
    moved = bytes_moved(matrix, width, itemsize)
    stream = copy_bytes / summaries["stream_copy"]["median"]
    reached = {}
    for name, found in summaries.items():
        if name == "stream_copy" or "median" not in found:
            continue
        rates = {count: n / found["median"] for count, n in moved.items()}
        reached[name] = {
            "bytes_per_second": rates,
            "fraction_of_stream_copy": {count: rate / stream for count, rate in rates.items()},
            "flops_per_second": 2 * matrix.nnz * width / found["median"],
        }
    return {
        "bytes": moved,
        "stream_copy_bytes": copy_bytes,
        "stream_copy_bytes_per_second": stream,
        "least_seconds_at_stream_copy": {count: n / stream for count, n in moved.items()},
        "reached": reached,
    }
