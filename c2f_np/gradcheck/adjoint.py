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

from c2f_np.gradcheck.operation import Operation
from c2f_np.gradcheck.settings import Settings
from c2f_np.gradcheck.values import norm

DRAWS = 3


@dataclass
class Products:
    """For each draw the left side, the right side's two factors, and the norms the gap is measured by."""

    left: np.ndarray  # (draws,)
    points: np.ndarray  # (draws, n), x
    images: np.ndarray  # (draws, n), P^T y
    norms: np.ndarray  # (draws,), |P x| |y|
    nonlinear: float = 0.0  # relative deviation of the forward from linearity


def measure(operation: Operation, key: str, settings: Settings, rng: np.random.Generator) -> Products:
    """Both sides of the identity for an argument in which the forward is linear or affine."""
    n = operation.entries(key).size
    zero = operation.values(**{key: np.zeros(n)})
    left, points, images, norms, nonlinear = [], [], [], [], 0.0
    for _ in range(DRAWS):
        x, other = rng.standard_normal((2, n))
        cotangents = operation.cotangents(rng)
        px = [a - b for a, b in zip(operation.values(**{key: x}), zero, strict=True)]
        if 0 < _norm(px) < _norm(zero):  # an affine map: let the linear part outweigh the constant
            x, other = (v * (_norm(zero) / _norm(px)) for v in (x, other))
            px = [a - b for a, b in zip(operation.values(**{key: x}), zero, strict=True)]
        pother = [a - b for a, b in zip(operation.values(**{key: other}), zero, strict=True)]
        both = [a - b for a, b in zip(operation.values(**{key: 2 * x + other}), zero, strict=True)]
        size = _norm(both) + 2 * _norm(px) + _norm(pother) + _norm(zero)
        nonlinear = max(nonlinear, _norm([b - 2 * p - q for b, p, q in zip(both, px, pother, strict=True)]) / max(size, 1e-300))
        left.append(_dot(px, cotangents))
        points.append(x)
        images.append(operation.gradients(cotangents, **{key: x})[key])
        norms.append((_norm(px) + _norm(zero)) * _norm(cotangents))
    return Products(np.array(left), np.array(points), np.array(images), np.array(norms), nonlinear)


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
            f"forward maps {np.shape(x)} to {px.shape} and adjoint maps {np.shape(y)} to {pty.shape}; the shapes "
            f"must be each other's"
        )
    left, right = math.fsum((px * y).ravel()), math.fsum((x * pty).ravel())
    size = max(np.linalg.norm(px) * np.linalg.norm(y), np.linalg.norm(x) * np.linalg.norm(pty))
    return 0.0 if size == 0 else float(abs(left - right) / size)


def _dot(a, b) -> float:
    return math.fsum(float(t) for p, q in zip(a, b, strict=True) for t in p * q)


def _norm(parts) -> float:
    return norm(np.concatenate(parts))
