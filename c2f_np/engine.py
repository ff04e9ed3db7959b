"""The two engines: ``"numpy"``, the text that people read, and ``"numba"``, the same functions compiled.

An engine is a module: :mod:`c2f_np.model.text` or :mod:`c2f_np.kernels`, which hold functions of the same names. It is chosen
once, where a graph, a recommender or a run is made.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import SettingsError
from .schema import Parameter

ENGINES = ("numpy", "numba")
#: Those that can be had here: the compiled one only where Numba is installed; it is then the default.
AVAILABLE_ENGINES = ENGINES if importlib.util.find_spec("numba") else ("numpy",)
DEFAULT_ENGINE = AVAILABLE_ENGINES[-1]
LEFT_OUT = "numba is not installed: the compiled engine was left out"


def engine_named(name: str) -> ModuleType:
    """The module of an engine.

    Raises
    ------
    SettingsError
        If the name is neither, or Numba is asked for and not installed.
    """
    if not is_compiled(name):
        return importlib.import_module("c2f_np.model.text")
    try:
        return importlib.import_module("c2f_np.kernels")
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("numba", "llvmlite"):
            raise
        raise SettingsError('engine = "numba" needs the package numba; engine = "numpy" works without it') from error


def is_compiled(engine: str) -> bool:
    """Tell whether `engine` is the compiled one; raise SettingsError if the name is neither."""
    Parameter("engine", str, choices=ENGINES).checked(engine)
    return engine == "numba"


def engine_here(engine: str) -> str:
    """What a model of an engine is read with: the other one, if that is the compiled one and Numba is not installed."""
    return DEFAULT_ENGINE if engine in ENGINES and engine not in AVAILABLE_ENGINES else engine
