"""C2F-MetaEmbed from scratch: a graph recommender with a coarse and a fine codebook, every gradient written by hand.

>>> import c2f_np
>>> data = c2f_np.load_dataset("planted")
>>> model = c2f_np.C2FRecommender(n_coarse=40, n_fine=16, dim=32).fit(data)  # doctest: +SKIP
>>> model.recommend(data.user_ids[:1], k=5)  # doctest: +SKIP

Names are imported when they are first used, so that ``import c2f_np`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .data import Dataset, load_dataset
    from .errors import C2FError, DataError, ModelFileError, SettingsError
    from .recommender import C2FRecommender
    from .settings import Settings

_WHERE = {
    "C2FRecommender": "recommender",
    "Dataset": "data",
    "load_dataset": "data",
    "Settings": "settings",
    "C2FError": "errors",
    "DataError": "errors",
    "ModelFileError": "errors",
    "SettingsError": "errors",
}

__all__ = [
    "C2FError",
    "C2FRecommender",
    "DataError",
    "Dataset",
    "ModelFileError",
    "Settings",
    "SettingsError",
    "__version__",
    "load_dataset",
]

# Hidden from type checkers, to which it would say that every name is there.
if not TYPE_CHECKING:

    def __getattr__(name: str):
        if name in _WHERE:
            return getattr(import_module(f".{_WHERE[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
