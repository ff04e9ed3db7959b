"""What every recommender, exported ones included, checks first: the ids it is asked about, and how many items. NumPy alone."""

from __future__ import annotations

import numpy as np

from .errors import DataError, SettingsError


def require_k(k: object, most: int) -> None:
    """Raise SettingsError unless k is a whole number from 1 to `most`."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
        raise SettingsError(f"k must be a whole number from 1 to {most} (there are no more items), not {k!r}")


def positions(ids: object, known: np.ndarray, kind: str, order: np.ndarray | None = None) -> np.ndarray:
    """Positions of ids among the known ones, or a DataError; one id counts as a sequence of one. `order` is that of `known`."""
    wanted = np.atleast_1d(np.asarray(ids)).astype(str)
    order = np.argsort(known) if order is None else order
    place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    found = order[place]
    wrong = known[found] != wanted
    if wrong.any():
        raise DataError(f"unknown {kind}", value=wanted[wrong][0])
    return found
