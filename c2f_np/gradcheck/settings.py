"""The numbers a check is held to, all in one place."""

from __future__ import annotations

from dataclasses import dataclass


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
