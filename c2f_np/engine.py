"""The two engines: ``"numpy"``, the text that people read, and ``"numba"``, the same functions compiled."""

from __future__ import annotations

from .errors import SettingsError

ENGINES = ("numpy", "numba")


def is_compiled(engine: str) -> bool:
    """Tell whether `engine` is the compiled one.

    Parameters
    ----------
    engine : {"numpy", "numba"}

    Returns
    -------
    bool

    Raises
    ------
    SettingsError
        If the name is neither.
    """
    if engine not in ENGINES:
        raise SettingsError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    return engine == "numba"
