"""What a model consists of.

Shapes
------
E_coarse : (C, d)     E_fine : (M, d)     S_coarse : (N, C) csr     S_fine : (C, M) csr     S_direct : (N, M) csr
bias : (N,), users first     bias_global : (1,)
"""

from __future__ import annotations

import dataclasses
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

    def item_bias(self, n_users: int) -> np.ndarray:
        """The biases of the items, shape (I,)."""
        return self.bias[n_users:]

    def parameters(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The arrays of these names that the state has; of an assignment the stored weights, row by row."""
        parts = {name: getattr(self, name) for name in names}
        return {name: part.data if sparse.issparse(part) else part for name, part in parts.items() if part is not None}

    def moved(self, parameters: dict[str, np.ndarray]) -> ModelState:
        """The state with other values of some parameters; the patterns of the assignments stay."""
        changed = {}
        for name, values in parameters.items():
            old = getattr(self, name)
            pattern = sparse.issparse(old)
            changed[name] = sparse.csr_array((values, old.indices, old.indptr), shape=old.shape) if pattern else values
        return dataclasses.replace(self, **changed)

    def astype(self, dtype) -> ModelState:
        """The state in another precision."""
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return ModelState(**{name: None if part is None else part.astype(dtype) for name, part in parts.items()})
