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

from ..errors import SettingsError

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class AdamMoments:
    """m and v of each trained array, by its name, and the number of steps taken."""

    mean: dict[str, np.ndarray]
    square: dict[str, np.ndarray]
    step: int = 0


def fresh_moments(parameters: dict[str, np.ndarray]) -> AdamMoments:
    """Moments before the first step: zeros of the parameters' shapes."""
    return AdamMoments(*({name: np.zeros_like(value) for name, value in parameters.items()} for _ in range(2)))


def clip_by_value(gradient: np.ndarray, limit: float) -> np.ndarray:
    """Clip every entry to [-limit, limit]; infinity switches clipping off.

    Raises
    ------
    SettingsError
        If the limit is not positive.
    """
    if not limit > 0:
        raise SettingsError(f"the gradient clip must be positive, not {limit}")
    return np.clip(gradient, -limit, limit)


def adam_update(x, g, m, v, rate: float, root_correction: float):
    """New x, m and v; rate = lr / (1 - beta1^k), root_correction = sqrt(1 - beta2^k)."""
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g * g
    return x - rate * m / (np.sqrt(v) / root_correction + EPSILON), m, v


def adam_step(
    parameters: dict[str, np.ndarray], gradients: dict[str, np.ndarray], moments: AdamMoments,
    *, learning_rate: float, clip: float, update=adam_update,
) -> tuple[dict[str, np.ndarray], AdamMoments]:  # fmt: skip
    """Clip all gradients and move the parameters (model.md, coarse stage, 6); new arrays, the inputs are left as they were.

    `gradients` may hold more than what is trained. `update` is the engine's :func:`adam_update`.
    """
    step = moments.step + 1
    # Python floats, so that float32 parameters stay float32.
    rate, root_correction = learning_rate / (1 - BETA1**step), float(np.sqrt(1 - BETA2**step))
    new, mean, square = {}, {}, {}
    for name, x in parameters.items():
        g = clip_by_value(gradients[name], clip)
        new[name], mean[name], square[name] = update(x, g, moments.mean[name], moments.square[name], rate, root_correction)
    return new, AdamMoments(mean, square, step)
