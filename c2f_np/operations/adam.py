"""Clipping by value and the Adam step, as PyTorch's ``Adam`` without weight decay computes it.

    g <- min(max(g, -c), c)
    m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
    x <- x - lr / (1 - beta1^k) * m / (sqrt(v) / sqrt(1 - beta2^k) + eps),   k = number of the step, from 1

Shapes
------
x, g, m, v : any one shape
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine import is_compiled
from ..errors import SettingsError

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class AdamMoments:
    """Running moments of the gradient of each trained array.

    Attributes
    ----------
    mean, square : dict of str to ndarray
        m and v, of the shapes of the parameters.
    step : int
        Steps taken so far.
    """

    mean: dict[str, np.ndarray]
    square: dict[str, np.ndarray]
    step: int = 0


def fresh_moments(parameters: dict[str, np.ndarray]) -> AdamMoments:
    """Moments before the first step: zeros of the parameters' shapes."""
    return AdamMoments(
        {name: np.zeros_like(value) for name, value in parameters.items()},
        {name: np.zeros_like(value) for name, value in parameters.items()},
    )


def clip_by_value(gradient: np.ndarray, limit: float) -> np.ndarray:
    """Clip every entry of a gradient to [-limit, limit].

    Parameters
    ----------
    gradient : ndarray
    limit : float
        Positive; infinity switches clipping off.

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    SettingsError
        If the limit is not positive.
    """
    if not limit > 0:
        raise SettingsError(f"the gradient clip must be positive, not {limit}")
    return np.clip(gradient, -limit, limit)


def adam_step(
    parameters: dict[str, np.ndarray],
    gradients: dict[str, np.ndarray],
    moments: AdamMoments,
    learning_rate: float,
    *,
    engine: str = "numpy",
    worth_compiled: int = 1 << 16,
) -> tuple[dict[str, np.ndarray], AdamMoments]:
    """One Adam step over all trained arrays (model.md, coarse stage, 6).

    Parameters
    ----------
    parameters, gradients : dict of str to ndarray
        The same keys, the same shapes.
    moments : AdamMoments
    learning_rate : float
    engine : {"numpy", "numba"}
        Compiled, arrays of the size of a table take one trip through memory; smaller ones are left to NumPy.
    worth_compiled : int
        Entries from which an array counts as large: below, NumPy's passes stay in the cache.

    Returns
    -------
    parameters : dict of str to ndarray
        New arrays; the inputs are left as they were.
    moments : AdamMoments
    """
    step = moments.step + 1
    rate = learning_rate / (1 - BETA1**step)
    root_correction = np.sqrt(1 - BETA2**step)
    new, mean, square = {}, {}, {}
    for name, value in parameters.items():
        g = gradients[name]
        if is_compiled(engine) and value.size >= worth_compiled:
            from ..kernels.elementwise import adam

            given = (value, g, moments.mean[name], moments.square[name])
            new[name], mean[name], square[name] = adam(*given, rate, float(root_correction), BETA1, BETA2, EPSILON)
            continue
        mean[name] = BETA1 * moments.mean[name] + (1 - BETA1) * g
        square[name] = BETA2 * moments.square[name] + (1 - BETA2) * g * g
        # Python floats, so that float32 parameters stay float32.
        new[name] = value - rate * mean[name] / (np.sqrt(square[name]) / float(root_correction) + EPSILON)
    return new, AdamMoments(mean, square, step)
