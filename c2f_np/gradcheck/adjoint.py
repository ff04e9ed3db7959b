"""The verdict for linear maps: the adjoint, or dot-product, identity ``<P x, y> = <x, P^T y>``.

No step and no truncation: both sides are computed for random x and y and must agree to rounding. It holds for affine
maps too once their value at 0 is taken off. Use it on rectangular and non-symmetric operators: with a symmetric one a
forgotten transpose is invisible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .operation import Leaf
from .values import norm

DRAWS = 3


@dataclass
class Products:
    """For each draw the left side, the right side's two factors, and the norms the gap is measured by."""

    left: np.ndarray  # (draws,)
    points: np.ndarray  # (draws, n), x
    images: np.ndarray  # (draws, n), P^T y
    norms: np.ndarray  # (draws,), |P x| |y|
    nonlinear: float  # relative deviation of the forward from linearity


def measure(leaf: Leaf, rng: np.random.Generator) -> Products:
    """Both sides of the identity for an argument in which the forward is linear or affine."""

    operation, key = leaf.operation, leaf.key

    def outputs(x):
        return np.concatenate(operation.values(**{key: x}))

    zero = outputs(np.zeros(leaf.size))
    draws, nonlinear = [], 0.0
    for _ in range(DRAWS):
        x, other = rng.standard_normal((2, leaf.size))
        cotangents = operation.cotangents(rng)
        px, y = outputs(x) - zero, np.concatenate(cotangents)
        if 0 < norm(px) < norm(zero):  # an affine map: let the linear part outweigh the constant
            x, other = (v * (norm(zero) / norm(px)) for v in (x, other))
            px = outputs(x) - zero
        pother, both = outputs(other) - zero, outputs(2 * x + other) - zero
        size = norm(both) + 2 * norm(px) + norm(pother) + norm(zero)
        nonlinear = max(nonlinear, norm(both - 2 * px - pother) / max(size, 1e-300))
        image = operation.gradients(cotangents, **{key: x})[key]
        draws.append((math.fsum(px * y), x, image, (norm(px) + norm(zero)) * norm(y)))
    return Products(*map(np.array, zip(*draws, strict=True)), nonlinear)


def gap(products: Products, images: np.ndarray) -> float:
    """The largest gap of the identity relative to the norms, with these images (draws, n) in place of ``P^T y``."""
    gaps = []
    for left, x, image, least in zip(products.left, products.points, images, products.norms, strict=True):
        size = max(least, norm(x) * norm(image))
        gaps.append(0.0 if size == 0 else abs(left - math.fsum(x * image)) / size)
    return max(gaps)


def adjoint_gap(forward: Callable[..., Any], adjoint: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> float:
    """The gap of the adjoint identity for a plain pair of functions.

    Parameters
    ----------
    forward, adjoint : callable
        ``forward(x)`` and ``adjoint(y)``, linear.
    x, y : ndarray
        A point of the domain and one of the range, of any shape.

    Returns
    -------
    float
        ``|<forward(x), y> - <x, adjoint(y)>|`` relative to the larger product of norms.

    Raises
    ------
    ValueError
        When the shapes are not each other's.
    """
    px, pty = np.asarray(forward(x)), np.asarray(adjoint(y))
    if px.shape != np.shape(y) or pty.shape != np.shape(x):
        raise ValueError(
            f"forward maps {np.shape(x)} to {px.shape} and adjoint maps {np.shape(y)} to {pty.shape}; the shapes must be each "
            "other's"
        )
    left, right = math.fsum((px * y).ravel()), math.fsum((x * pty).ravel())
    size = max(np.linalg.norm(px) * np.linalg.norm(y), np.linalg.norm(x) * np.linalg.norm(pty))
    return 0.0 if size == 0 else float(abs(left - right) / size)
