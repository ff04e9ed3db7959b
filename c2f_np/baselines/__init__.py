"""What the model is compared with, under one interface and one evaluation protocol (docs/baselines.md).

>>> from c2f_np.baselines import make_baseline
>>> from c2f_np import load_dataset
>>> model = make_baseline("ease", regularisation=200).fit(load_dataset("southern-women"))
>>> model.size_in_bytes()["model"]
784
"""

from __future__ import annotations

from typing import Any

from ..archive import header_of
from ..errors import ModelFileError
from ..estimator import BASELINE, Recommender
from ..files import FilePath
from ..schema import refuse_unknown
from .coarse_alone import Coarse
from .ease import EASE
from .item_knn import ItemKNN
from .popularity import Popularity
from .product_quantisation import ProductQuantisedLightGCN
from .tables import BPRMF, HashedLightGCN, LightGCN, NarrowLightGCN, QuotientRemainderLightGCN

__all__ = [
    "BASELINES",
    "BPRMF",
    "EASE",
    "Coarse",
    "HashedLightGCN",
    "ItemKNN",
    "LightGCN",
    "NarrowLightGCN",
    "Popularity",
    "ProductQuantisedLightGCN",
    "QuotientRemainderLightGCN",
    "load_baseline",
    "make_baseline",
]

#: All baselines by name.
BASELINES: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "item-knn": ItemKNN,
    "ease": EASE,
    "bpr-mf": BPRMF,
    "lightgcn": LightGCN,
    "narrow-lightgcn": NarrowLightGCN,
    "coarse": Coarse,
    "hashed": HashedLightGCN,
    "quotient-remainder": QuotientRemainderLightGCN,
    "product-quantisation": ProductQuantisedLightGCN,
}


def load_baseline(path: FilePath) -> Recommender:
    """The fitted baseline of any kind that a file holds.

    Parameters
    ----------
    path : path-like
        Written by a baseline's ``save``.

    Returns
    -------
    Recommender

    Raises
    ------
    ModelFileError
        If the file is missing, damaged or foreign.
    """
    header = header_of(path)
    name = header.get("model")
    for kind in BASELINES.values():
        if kind.__name__ == name or header.get("kind") != BASELINE:  # a foreign file: load says what it is
            return kind.load(path)
    raise ModelFileError(f"{path}: it holds no baseline of this program, but {name!r:.40}")


def make_baseline(name: str, **parameters: Any) -> Recommender:
    """A baseline by name, not fitted yet.

    Parameters
    ----------
    name : str
        A key of :data:`BASELINES`.
    **parameters
        Of its class. Their values are checked when it is fitted.

    Returns
    -------
    Recommender

    Raises
    ------
    SettingsError
        If the name or a parameter is unknown; the message lists the choices.
    """
    refuse_unknown([name], BASELINES, "baseline")
    known = BASELINES[name]().get_params()
    refuse_unknown(parameters, known, f"parameter of {name}")
    return BASELINES[name](**parameters)
