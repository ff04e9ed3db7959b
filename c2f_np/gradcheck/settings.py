"""The numbers a check is held to, all in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

EPS64 = 2.0**-52


@dataclass(frozen=True)
class Settings:
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
        Number of random directions for a large argument, and for the Taylor rate (at most four there).
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

    def at_precision(self, eps: float) -> Settings:
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
