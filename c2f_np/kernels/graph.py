"""The expanded graph as the compiled engine has it: degrees added up one entry after the other, and 32-bit indices for the loops.

There is no kernel here: a graph is assembled once an epoch at most, and SciPy needs a small part of a step for it.

Shapes
------
A : (N, N)     S_coarse : (N, C)     S_fine : (C, M), or None     X : (n, n), n = N + C [+ M]
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..model.degrees import inverse_roots
from ..model.graph import expand


def expanded_graph(A, S_coarse, S_fine=None, *, degree: str = "signed") -> sparse.csr_array:
    """X_hat, symmetric to the last bit."""
    X = expand(A, S_coarse, S_fine)
    indices, indptr = (part.astype(A.indices.dtype, copy=False) for part in (X.indices, X.indptr))
    ones = np.ones(X.shape[1], X.dtype)
    factor = inverse_roots(X @ ones, abs(X) @ ones, degree)
    # The factors first: a symmetric matrix stays symmetric to the last bit.
    values = X.data * (np.repeat(factor, np.diff(indptr)) * factor[indices])
    return sparse.csr_array((values, indices, indptr), shape=X.shape)
