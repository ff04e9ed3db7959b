"""What every recommender, exported ones included, checks first: the ids it is asked about, and how many items. NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DataError, SettingsError, in_short
from .ids import as_id, as_ids, is_one_id


def require_k(k: object, most: int, what: str = "items") -> None:
    """Raise SettingsError unless k is a whole number from 1 to `most`."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
        raise SettingsError(f"k must be a whole number from 1 to {most} (there are no more {what}), not {in_short(k)}")


def wanted_ids(ids: Any, kind: str) -> np.ndarray:
    """The ids that somebody asks for, as text; one id counts as a sequence of one."""
    return np.array([as_id(ids, kind)]) if is_one_id(ids) else as_ids(ids, kind)


def positions(ids: object, known: np.ndarray, kind: str, order: np.ndarray | None = None) -> np.ndarray:
    """Positions of ids among the known ones, or a DataError that names the first unknown one. `order` is that of `known`."""
    wanted = wanted_ids(ids, kind)
    found = known_positions(known, wanted, order)
    if (found < 0).any():
        raise DataError(f"unknown {kind}", value=wanted[found < 0][0])
    return found


def known_positions(known: np.ndarray, wanted: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Positions of texts among the known ones; -1 for those that are not."""
    order = np.argsort(known) if order is None else order
    place = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
    found: np.ndarray = order[place]
    return np.where(known[found] == wanted, found, -1)
