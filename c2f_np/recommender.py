"""The recommender as a scikit-learn estimator.

Shapes
------
R : (U, I) interactions     user and item embeddings : (U, d), (I, d)
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ._version import __version__
from .data import Dataset
from .estimator import EmbeddingRecommender, Ids, as_dataset
from .evaluation import rank_embeddings
from .files import FilePath
from .lookup import positions, require_k
from .model.graph import normalised_adjacency
from .model.step import ModelState
from .model_file import StoredModel, load_model, save_model, size_in_bytes
from .settings import Settings
from .threads import working_threads
from .training.loop import train
from .training.phases import Best, Progress
from .training.problem import entity_embeddings

__all__ = ["C2FRecommender", "versions"]


class C2FRecommender(EmbeddingRecommender):
    """C2F-MetaEmbed: users and items share a dense coarse and a sparse fine codebook.

    Parameters
    ----------
    preset : {"default", "staged", "authors", "paper"}
        Where the settings come from that are not given here (None).
    n_coarse, n_fine : int, optional
        Rows of the coarse and of the fine codebook.
    dim, n_layers : int, optional
        Embedding width, and propagation layers.
    l2 : float, optional
        Factor of the regulariser.
    max_epochs, patience : int, optional
        Most epochs of a phase, and evaluations without improvement that end it.
    seed : int, optional
    dtype : {"float32", "float64"}, optional
        Precision of training.
    engine : {"numba", "numpy"}, optional
    threads : int, optional
        0: all cores, one for a small problem. The result does not depend on it.
    settings : Settings or mapping, optional
        Any other fields of :class:`c2f_np.settings.Settings`, whose help texts explain them. What is given above goes first.
    validation_fraction : float
        Share of each user's interactions that ``fit`` sets aside for early stopping when it is given a matrix without validation.
        With 0, every phase trains for all its epochs.

    Attributes
    ----------
    settings_ : Settings
    data_ : Dataset
        What was trained on.
    phases_ : dict of str to Best
        The best checkpoint of each phase.
    history_ : list of dict
        One row per epoch.
    state_ : ModelState
        The result of the last phase, which the methods use.
    embeddings_ : ndarray, shape (U + I, d)
        Propagated, users first.
    seconds_ : float
        Wall time of ``fit``.
    best_epoch_ : int
        The epoch of the last phase whose state was kept.

    Examples
    --------
    >>> from c2f_np import C2FRecommender, load_dataset
    >>> data = load_dataset("planted")
    >>> model = C2FRecommender(n_coarse=40, n_fine=16, dim=32).fit(data)   # doctest: +SKIP
    >>> model.recommend(data.user_ids[:3], k=5)                           # doctest: +SKIP
    """

    about_: dict[str, Any]
    settings_: Settings
    state_: ModelState
    phases_: dict[str, Best]

    def __init__(
        self,
        preset: str = "default",
        *,
        n_coarse: int | None = None,
        n_fine: int | None = None,
        dim: int | None = None,
        n_layers: int | None = None,
        l2: float | None = None,
        max_epochs: int | None = None,
        patience: int | None = None,
        seed: int | None = None,
        dtype: str | None = None,
        engine: str | None = None,
        threads: int | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        validation_fraction: float = 0.1,
    ) -> None:
        self.preset = preset
        self.n_coarse = n_coarse
        self.n_fine = n_fine
        self.dim = dim
        self.n_layers = n_layers
        self.l2 = l2
        self.max_epochs = max_epochs
        self.patience = patience
        self.seed = seed
        self.dtype = dtype
        self.engine = engine
        self.threads = threads
        self.settings = settings
        self.validation_fraction = validation_fraction

    def resolved_settings(self) -> Settings:
        """The preset's settings, with `settings` and then the parameters that are not None in their place.

        Raises
        ------
        SettingsError
            If one does not fit.
        """
        own = self.get_params(deep=False)
        further, preset = own.pop("settings"), own.pop("preset")
        del own["validation_fraction"]
        further = further.to_dict() if isinstance(further, Settings) else dict(further or {})
        return Settings.preset(preset, **further | {name: value for name, value in own.items() if value is not None})

    def fit(
        self,
        interactions: Dataset | sparse.sparray,
        validation: sparse.sparray | None = None,
        *,
        progress: Progress | None = None,
        after_epoch: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train all phases.

        Parameters
        ----------
        interactions : Dataset or sparse matrix, shape (U, I)
            Of a matrix every stored nonzero is an interaction.
        validation : sparse matrix, shape (U, I), optional
            Held-out interactions for early stopping; only with a matrix.
        progress : Progress, optional
            Where an earlier run stood.
        after_epoch : callable, optional
            Called with a :class:`c2f_np.training.phases.Progress` after every epoch.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If the interactions cannot be used.
        SettingsError
            If a setting does not fit, or training diverges.
        """
        started, settings = time.perf_counter(), self.resolved_settings()
        data = as_dataset(interactions, validation, validation_fraction=self.validation_fraction, seed=settings.seed)
        done = train(data, settings, progress=progress, after_epoch=after_epoch)
        self.settings_, self.data_ = settings, data
        self.phases_, self.history_ = done.finished, list(done.history)
        self._set_model(done.result.state, settings, data.train, data.user_ids, data.item_ids)
        self.best_epoch_ = done.result.epoch
        self.seconds_ = time.perf_counter() - started
        return self

    def _set_model(
        self, state: ModelState, settings: Settings, R: sparse.csr_array, user_ids: np.ndarray, item_ids: np.ndarray
    ) -> None:
        self.state_ = state
        self.interactions_ = sparse.csr_array(R)
        self.user_ids_, self.item_ids_ = np.asarray(user_ids), np.asarray(item_ids)
        A = normalised_adjacency(self.interactions_).astype(state.E_coarse.dtype)
        with working_threads(settings.threads, settings.engine):
            self.embeddings_ = entity_embeddings(state, A, settings)

    def _biases(self) -> tuple[np.ndarray, np.ndarray, float]:
        n_users, bias = self.interactions_.shape[0], self.state_.bias
        return bias[:n_users], bias[n_users:], self.state_.bias_global[0]

    def _workers(self) -> dict[str, Any]:
        return {"engine": self._settings().engine, "n_threads": self._settings().threads or None}

    def similar_items(self, items: Ids, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items whose propagated embeddings point most nearly the same way (cosine), without the item itself.

        Parameters
        ----------
        items : one id or a sequence of ids
        k : int
            At most the number of items less one.

        Returns
        -------
        items : ndarray of str, shape (n, k)
        cosines : ndarray, shape (n, k)

        Raises
        ------
        DataError
            If an item is unknown.
        SettingsError
            If k is out of range.
        """
        check_is_fitted(self, "state_")
        n_users, n_items = self.interactions_.shape
        require_k(k, n_items - 1)
        rows = positions(items, self.item_ids_, "item")
        H = self.embeddings_[n_users:]
        norms = np.linalg.norm(H, axis=1, keepdims=True)
        directions = H / np.where(norms > 0, norms, 1)
        itself = sparse.csr_array((np.ones(len(rows), np.int8), (np.arange(len(rows)), rows)), shape=(len(rows), n_items))
        top = rank_embeddings(
            directions[rows], directions, None, itself, k, engine=self._settings().engine, n_threads=1
        )
        return self._named(top, np.einsum("nd,nkd->nk", directions[rows], directions[top]))

    def size_in_bytes(self) -> dict[str, int]:
        """What inference must hold: see :func:`c2f_np.model_file.size_in_bytes`."""
        check_is_fitted(self, "state_")
        return size_in_bytes(self.state_)

    def save(self, path: FilePath) -> None:
        """Write a model file (``.npz``, no pickle), aside and then renamed.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        check_is_fitted(self, "state_")
        save_model(
            path,
            StoredModel(
                self.state_, self._settings(), self.interactions_, self.user_ids_, self.item_ids_, self._about()
            ),
        )

    def _about(self) -> dict[str, Any]:
        data = getattr(self, "data_", None)
        if data is None:
            return self.about_
        return {
            "preset": self.preset,
            "data": {"name": data.name, "fingerprint": data.fingerprint(), "split": data.split},
            "protocol": data.protocol,
            "versions": versions(),
        }

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Read a model file.

        Returns
        -------
        C2FRecommender
            Fitted; it recommends, and evaluates on data it is given.

        Raises
        ------
        ModelFileError
            If the file is missing, damaged or foreign.
        """
        stored = load_model(path)
        model = cls(preset=stored.about.get("preset", "default"), settings=stored.settings)
        model.settings_, model.about_ = stored.settings, stored.about
        model._set_model(stored.state, stored.settings, stored.R, stored.user_ids, stored.item_ids)
        return model

    def _settings(self) -> Settings:
        return self.settings_


def versions() -> dict[str, str]:
    """Versions of the package and of what its numbers depend on; Numba's only where it is installed."""
    found = {"c2f_np": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "numba"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
