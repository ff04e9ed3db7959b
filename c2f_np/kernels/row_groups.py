"""Groups of consecutive rows with about the same load, so that threads finish together.

Shapes
------
indptr : (n + 1,) of a csr matrix     bounds : (G + 1,); group g owns the rows bounds[g] .. bounds[g + 1] - 1
"""

from __future__ import annotations

import numpy as np

# Enough groups that two or eight threads finish together, few enough that handing them out costs nothing.
_N_GROUPS = 64


def even_row_groups(indptr: np.ndarray, n_groups: int = _N_GROUPS) -> np.ndarray:
    """Cut the rows of a csr matrix into groups with about the same number of entries.

    Parameters
    ----------
    indptr : (n + 1,) ndarray of int
    n_groups : int

    Returns
    -------
    (n_groups + 1,) ndarray of int64, non-decreasing, from 0 to n.
    """
    n_rows = len(indptr) - 1
    # A row costs its entries plus one write of its own, hence the row number in the load.
    load = indptr.astype(np.int64) + np.arange(n_rows + 1)
    bounds = np.searchsorted(load, np.linspace(0, load[-1], n_groups + 1)).astype(np.int64)
    bounds[0], bounds[-1] = 0, n_rows
    return bounds


def even_groups_of(lengths: np.ndarray, n_groups: int = _N_GROUPS) -> np.ndarray:
    """The same for rows given by their numbers of entries."""
    return even_row_groups(np.concatenate([[0], np.cumsum(lengths)]), n_groups)
