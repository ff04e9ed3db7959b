"""From the codebooks to the entities: soft threshold, bridge, composition; each backward pass below its forward.

    F = sign(E_f) max(|E_f| - tau, 0)        soft threshold: the proximal map of tau |.|_1
    E_hat = g S_f F + (1 - g) E_c            bridge: a few fine rows refine every coarse row, with the weight g ("gate")
    Z = tanh(S E)                            composition: an entity is a weighted sum of a few codebook rows

The threshold's derivative is 1 where |E_f| > tau and 0 elsewhere (at |E_f| = tau, a kink, by convention): the entries inside
are a dead zone from which no gradient leads out.

Shapes
------
E_f, F : (M, d)     E_c, E_hat : (C, d)     S_f : (C, M) operator     S : (N, K) operator, E : (K, d)     Z : (N, d)
tau, g : scalars     S, S_f may be sparse matrices or prepared operators
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from .sparse import operator


# ---- soft threshold ----------------------------------------------------------------------------------------------------
def soft_threshold(E: np.ndarray, tau: float) -> np.ndarray:
    """F; complex input branches on the real part (model.md, fine stage, 1)."""
    _require_threshold(tau)
    inside = np.abs(E.real) <= np.real(tau)
    return np.where(inside, 0, E - np.sign(E.real) * number(tau))


def soft_threshold_backward(grad_F: np.ndarray, E: np.ndarray, tau: float) -> np.ndarray:
    """grad_E: the cotangent where |E| > tau, zero elsewhere."""
    _require_threshold(tau)
    return np.where(np.abs(E) > tau, grad_F, 0)


def soft_threshold_backward_tau(grad_F: np.ndarray, E: np.ndarray, tau: float) -> float:
    """grad_tau: ``-sum(grad_F * sign(E))`` over the entries outside the threshold."""
    _require_threshold(tau)
    return float(-np.sum(np.where(np.abs(E) > tau, grad_F * np.sign(E), 0.0)))


def raised_threshold(E: np.ndarray, tau: float, density: float) -> float:
    """The smallest threshold from tau on that leaves at most so large a share of the entries (model.md, joint training, 8)."""
    sizes = np.sort(np.abs(E), axis=None)[::-1]
    most = int(density * sizes.size)
    return max(tau, float(sizes[most])) if most < sizes.size else tau


def _require_threshold(tau) -> None:
    if not np.real(tau) >= 0:
        raise SettingsError(f"the soft threshold must be 0 or more, not {tau}")


def number(x):
    """A number as Python's: one of NumPy's would raise the precision of the arrays that it multiplies."""
    return x.item() if isinstance(x, (np.generic, np.ndarray)) else x


# ---- bridge ------------------------------------------------------------------------------------------------------------
def bridge(E_coarse: np.ndarray, S_fine, F: np.ndarray, gate: float) -> np.ndarray:
    """E_hat (model.md, fine stage, 2); without rows of E_c, g S_f F."""
    gate = number(gate)
    refined = gate * operator(S_fine).forward(F)
    return refined + (1 - gate) * E_coarse if len(E_coarse) else refined


def bridge_backward(grad_E_hat: np.ndarray, S_fine, gate: float) -> tuple[np.ndarray, np.ndarray]:
    """grad_E_coarse = ``(1 - g) grad_E_hat`` and grad_F = ``g S_f^T grad_E_hat``."""
    gate = number(gate)
    return (1 - gate) * grad_E_hat, gate * operator(S_fine).adjoint(grad_E_hat)


def bridge_backward_gate(grad_E_hat: np.ndarray, E_coarse: np.ndarray, S_fine, F: np.ndarray) -> float:
    """grad_g = ``sum(grad_E_hat * (S_f F - E_c))``."""
    return float(np.sum(grad_E_hat * (operator(S_fine).forward(F) - E_coarse)))


def bridge_backward_assignment(grad_E_hat: np.ndarray, S_fine, F: np.ndarray, gate: float) -> sparse.csr_array:
    """grad_S_f = ``g <grad_E_hat[i], F[j]>`` at the stored (i, j)."""
    S_fine = operator(S_fine)
    return S_fine.with_weights(S_fine.weights_gradient(number(gate) * grad_E_hat, F))


# ---- composition -------------------------------------------------------------------------------------------------------
def compose(S, E: np.ndarray) -> np.ndarray:
    """Z, the ego embeddings (model.md, coarse stage, 1)."""
    return np.tanh(operator(S).forward(E))


def compose_above(S, E: np.ndarray) -> np.ndarray:
    """``[tanh(S E); E]``: the composed embeddings above the codebook itself, X0 of the coarse stage."""
    return np.concatenate([compose(S, E), E])


def compose_backward(grad_Z: np.ndarray, S, Z: np.ndarray) -> np.ndarray:
    """grad_E = ``S^T (grad_Z * (1 - Z^2))``; with tanh' = 1 - tanh^2 the output is all that is needed."""
    return operator(S).adjoint(tanh_backward(grad_Z, Z))


def tanh_backward(grad_Z: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """Gradient before tanh, from its output: ``grad_Z * (1 - Z^2)``."""
    return grad_Z * (1 - Z**2)


def compose_backward_assignment(grad_Z: np.ndarray, S, E: np.ndarray, Z: np.ndarray) -> sparse.csr_array:
    """grad_S = ``<grad_Z[i] * (1 - Z[i]^2), E[j]>`` at the stored (i, j)."""
    S = operator(S)
    return S.with_weights(S.weights_gradient(tanh_backward(grad_Z, Z), E))
