"""How many threads an evaluation may use."""

from __future__ import annotations

from ..threads import available_cores
from .inputs import positive_integer


def thread_count(n_threads: int | None) -> int:
    """Return `n_threads`, or for None the number of processors this process may use.

    Raises
    ------
    SettingsError
        If it is not an integer of at least 1.
    """
    if n_threads is not None:
        return positive_integer(n_threads, "n_threads")
    return available_cores()
