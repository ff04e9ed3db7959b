"""What a model consists of, and the two parts of its loss.

Shapes
------
E_coarse : (C, d)     E_fine : (M, d)     S_coarse : (N, C) csr     S_fine : (C, M) csr     S_direct : (N, M) csr
bias : (N,)     bias_global : (1,)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse


@dataclass(frozen=True)
class ModelState:
    """Codebooks, assignments and biases.

    Attributes
    ----------
    E_coarse : ndarray, shape (C, d)
    S_coarse : csr_array, shape (N, C)
    bias : ndarray, shape (N,)
        One per entity, users first.
    bias_global : ndarray, shape (1,)
    E_fine : ndarray, shape (M, d), or None before the fine stage
        Before soft thresholding.
    S_fine : csr_array, shape (C, M), or None before the fine stage, and where nothing is bridged
    S_direct : csr_array, shape (N, M), or None
        Direct links from entities to fine rows; only joint training has them.
    """

    E_coarse: np.ndarray
    S_coarse: sparse.csr_array
    bias: np.ndarray
    bias_global: np.ndarray
    E_fine: np.ndarray | None = None
    S_fine: sparse.csr_array | None = None
    S_direct: sparse.csr_array | None = None

    @property
    def is_fine(self) -> bool:
        """Whether there is a fine codebook."""
        return self.E_fine is not None


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, data term and regulariser apart.

    Attributes
    ----------
    bpr : float
    regulariser : float
        With the factor l2, without the decay.
    decay : float
    """

    bpr: float
    regulariser: float
    decay: float

    @property
    def total(self):
        """``bpr + decay * regulariser``."""
        return self.bpr + self.decay * self.regulariser
