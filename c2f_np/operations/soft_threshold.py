"""Soft thresholding: the fine codebook is made sparse by moving every entry towards zero by tau, and no further.

    F = sign(E) max(|E| - tau, 0)

It is the proximal map of tau |.|_1. Its derivative is 1 where |E| > tau and 0 where |E| <= tau: the entries inside the
threshold are a dead zone from which no gradient leads out.

Shapes
------
E, F : (M, d)     tau : scalar
"""

from __future__ import annotations

import numpy as np

from ..engine import is_compiled
from ..errors import SettingsError


def soft_threshold(E: np.ndarray, tau: float, *, engine: str = "numpy") -> np.ndarray:
    """Shrink every entry towards zero by `tau` (model.md, fine stage, 1).

    Parameters
    ----------
    E : ndarray, shape (M, d)
        Fine codebook before thresholding. Complex input branches on the real part.
    tau : float
        Threshold, not negative.
    engine : {"numpy", "numba"}

    Returns
    -------
    F : ndarray, shape (M, d)

    Raises
    ------
    SettingsError
        If `tau` is negative.
    """
    _require_threshold(tau)
    if is_compiled(engine):
        from ..kernels.soft_threshold import shrink

        return shrink(E, E.dtype.type(tau))
    active = np.abs(E.real) > _real(tau)
    return np.where(active, E - np.sign(E.real) * _as(E, tau), E.dtype.type(0))


def soft_threshold_backward(grad_F: np.ndarray, E: np.ndarray, tau: float, *, engine: str = "numpy") -> np.ndarray:
    """Gradient with respect to E: the cotangent where |E| > tau, zero elsewhere.

    At |E| = tau exactly, where the function has a kink, the convention is 0.

    Parameters
    ----------
    grad_F, E : ndarray, shape (M, d)
    tau : float
    engine : {"numpy", "numba"}

    Returns
    -------
    grad_E : ndarray, shape (M, d)
    """
    _require_threshold(tau)
    if is_compiled(engine):
        from ..kernels.soft_threshold import mask_shrunk

        return mask_shrunk(grad_F, E, E.dtype.type(tau))
    return np.where(np.abs(E) > tau, grad_F, grad_F.dtype.type(0))


def soft_threshold_backward_tau(grad_F: np.ndarray, E: np.ndarray, tau: float) -> float:
    """Gradient with respect to the threshold: ``-sum(grad_F * sign(E))`` over the entries outside it."""
    _require_threshold(tau)
    return float(-np.sum(np.where(np.abs(E) > tau, grad_F * np.sign(E), 0.0)))


def _require_threshold(tau) -> None:
    if not _real(tau) >= 0:
        raise SettingsError(f"the soft threshold must be 0 or more, not {tau}")


def _real(tau):
    return np.real(tau)


def _as(E: np.ndarray, tau):
    """The threshold in the codebook's precision, unless a complex step is being taken in it."""
    return tau if np.iscomplexobj(tau) else E.dtype.type(tau)
