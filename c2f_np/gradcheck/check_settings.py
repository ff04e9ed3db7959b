"""What a check is held to: the tolerances, and the wrong gradients that it must reject.

A check that would also accept garbage checks nothing. What is measured does not involve the gradient, so the same
comparison can be made again, at the same tolerance, with gradients known to be wrong. A check that accepts one of them
is *vacuous*, and that is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

EPS64 = 2.0**-52

#: What every check must reject: nothing, the wrong sign, one per cent too much.
IMPOSTORS = {"0": 0.0, "-g": -1.0, "1.01 g": 1.01}


def accepted_impostors(accepts: Callable[[np.ndarray], bool], gradient: np.ndarray) -> list[str]:
    """The names of the wrong gradients that a check, which accepts this gradient, would accept as well."""
    return [name for name, factor in IMPOSTORS.items() if accepts(factor * gradient)]


@dataclass(frozen=True)
class CheckSettings:
    """Tolerances and sizes of a run. All tolerances are relative; there is no absolute one.

    Attributes
    ----------
    central : float
        Largest error of the gradient against central differences, relative to the gradient's norm.
    complex_step : float
        The same against the complex step.
    rate : float
        The Taylor remainder must fall faster than this power of the step.
    adjoint : float
        Largest gap of ``<P x, y> = <x, P^T y>``, relative to the norms.
    linearity : float
        Largest deviation of the backward from linearity in its cotangent, and between memory layouts.
    entry_limit : int
        Arguments with at most this many entries are checked entry by entry, larger ones along directions and at sampled
        entries.
    directions : int
        Number of random directions for a large argument, and for the Taylor rate (at most three there).
    samples : int
        Number of sampled entries of a large argument.
    left_out : float
        Largest share of entries that may be left out because of kinks.
    widest_central, widest_complex : float
        Where rounding, measured, is worse than the tolerance, the tolerance is widened, but never beyond these.
    float32 : float
        Largest deviation of float32 from float64, in units of float32's rounding 1.2e-7: of the forward's values and of
        the gradients, relative to their norms. Widened to what rounding the inputs does, measured.
    """

    central: float = 1e-8
    complex_step: float = 1e-13
    rate: float = 1.9
    adjoint: float = 1e-14
    linearity: float = 1e-12
    entry_limit: int = 200
    directions: int = 6
    samples: int = 16
    left_out: float = 0.1
    widest_central: float = 1e-5
    widest_complex: float = 1e-9
    float32: float = 500.0

    def directions_of(self, size: int) -> int:
        """The number of directions along which an argument of so many entries is measured; a small one needs none."""
        return 0 if size <= self.entry_limit else self.directions

    def at_precision(self, eps: float) -> CheckSettings:
        """The tolerances for functions that compute with rounding ``eps``; those of float64 are the defaults.

        Differences lose a third of the digits (eps**(2/3)), everything else is in proportion to eps.
        """
        if eps <= EPS64:
            return self
        more = eps / EPS64
        return replace(
            self,
            central=max(self.central, min(1e-8 * more ** (2 / 3), 3e-3)),
            widest_central=5e-3,
            complex_step=max(self.complex_step, 1e-13 * more),
            widest_complex=1e-3,
            adjoint=max(self.adjoint, 1e-14 * more),
            linearity=max(self.linearity, 1e-12 * more),
        )
