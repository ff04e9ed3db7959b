"""A check that would also accept garbage checks nothing.

Every check compares a gradient with measured numbers. The measurement does not involve the gradient, so the same
comparison can be made again, at the same tolerance, with gradients known to be wrong. A check that accepts one of them
is *vacuous*, and that is a failure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: What every check must reject: nothing, the wrong sign, one per cent too much.
IMPOSTORS = {"0": 0.0, "-g": -1.0, "1.01 g": 1.01}


def accepted_impostors(accepts: Callable[[np.ndarray], bool], gradient) -> list[str]:
    """The names of the wrong gradients that a check would accept.

    Parameters
    ----------
    accepts : callable
        ``accepts(gradient)`` is the check's own comparison at its own tolerance.
    gradient : ndarray
        The gradient that the check accepted, in whatever shape the comparison takes it.
    """
    return [name for name, factor in IMPOSTORS.items() if accepts(factor * gradient)]
