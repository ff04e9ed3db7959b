"""All that can be checked, by name: every operation, both stages, joint training, trained baselines, sampling and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..engine import AVAILABLE_ENGINES, engine_named
from ..errors import SettingsError
from .case import Case
from .epochs import EPOCHS
from .operations import OPERATIONS
from .sampling import SAMPLING
from .stages import STAGES
from .steps import STEPS

#: All that can be checked, by the name that ``--op`` takes.
CHECKED: dict[str, Callable] = OPERATIONS | STAGES | STEPS | EPOCHS | SAMPLING


def cases(op: str | None = None, engine: str | None = None, seed: int = 0) -> Iterable[Case]:
    """The cases of one operation or of all, for one engine or for all that can be had.

    Parameters
    ----------
    op : str, optional
        A name in :data:`CHECKED`.
    engine : {"numpy", "numba"}, optional
    seed : int

    Raises
    ------
    SettingsError
        If the operation or the engine is unknown; the message lists the names.
    """
    if op is not None and op not in CHECKED:
        raise SettingsError(f"there is no operation {op!r}; choose one of {', '.join(CHECKED)}")
    if engine is not None:
        engine_named(engine)
    if seed < 0:
        raise SettingsError(f"the seed must be 0 or more, not {seed}")
    for name in CHECKED if op is None else (op,):
        for which in AVAILABLE_ENGINES if engine is None else (engine,):
            yield from CHECKED[name](which, seed)
