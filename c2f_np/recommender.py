"""The recommender as a scikit-learn estimator.

Shapes
------
R : (U, I) interactions     user and item embeddings : (U, d), (I, d)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from .data import Dataset
from .engine import engine_here
from .errors import SettingsError
from .estimator import SETTING_OF, EmbeddingRecommender, RandomState, Trainable, as_settings
from .files import FilePath
from .model.graph import normalised_adjacency
from .model.step import ModelState
from .model_file import StoredModel, load_model, save_model, size_in_bytes
from .serving.exported_file import require_replaceable
from .serving.exporting import export_model, splitter_of
from .serving.new_users import Splitter
from .settings import Settings
from .threads import working_threads
from .training import train_or_refit
from .training.loop import Best, Phase, Progress
from .training.phases import phases_of
from .training.problem import entity_embeddings, pose

__all__ = ["C2FRecommender"]


class StateRecommender(EmbeddingRecommender):
    """What all recommenders have in common that are a state of the model: the whole of it, or its coarse stage alone."""

    def resolved_settings(self) -> Settings:
        raise NotImplementedError

    def _phases(self, settings: Settings, engine: Any) -> tuple[Phase, ...]:
        return phases_of(settings, engine)

    def _learn(
        self,
        data: Dataset,
        epochs: dict[str, int] | None,
        after_epoch: Callable[[Progress], None] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, int]:
        settings = self.resolved_settings()
        if epochs is not None:  # of a generator, which may have gone on since
            settings = dataclasses.replace(settings, seed=self.settings_.seed)
        problem = pose(data, settings)
        phases, watch = self._phases(settings, problem.engine), self._watched(after_epoch)
        done, epochs = train_or_refit(phases, epochs, problem, progress=progress, after_epoch=watch)
        self.phases_, self.history_, self.best_epoch_ = done.finished, list(done.history), done.result.epoch
        self._set_state(done.result.state, settings, problem.A)
        return epochs

    @property
    def seed(self) -> int:
        """The setting ``seed``."""
        return self.resolved_settings().seed

    @property
    def threads(self) -> int:
        """The setting ``threads``."""
        return self.resolved_settings().threads

    def _set_state(self, state: ModelState, settings: Settings, A: sparse.csr_array) -> None:
        self.state_, self.settings_ = state, settings
        with working_threads(settings.threads, settings.engine):
            self.embeddings_ = entity_embeddings(state, A, settings)

    def _stored(self) -> StoredModel:
        check_is_fitted(self, "state_")
        entities = self.interactions_, self.user_ids_, self.item_ids_
        return StoredModel(self.state_, self.settings_, *entities, self._about(), self.known_)

    def _biases(self) -> tuple[np.ndarray, np.ndarray, float]:
        n_users, bias = self.interactions_.shape[0], self.state_.bias
        return bias[:n_users], bias[n_users:], self.state_.bias_global[0]

    def _made_splitter(self) -> Splitter:
        return splitter_of(self._stored())

    def _workers(self) -> dict[str, Any]:
        return {"engine": self.settings_.engine, "n_threads": self.settings_.threads or None}

    def size_in_bytes(self) -> dict[str, int]:
        """What inference must hold: see :func:`c2f_np.model_file.size_in_bytes`."""
        check_is_fitted(self, "state_")
        return size_in_bytes(self.state_, self.settings_.threshold)


class C2FRecommender(StateRecommender):
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
    random_state : int, RandomState or Generator, optional
        What the setting ``seed`` comes from. None leaves it to the settings, where it is 0 if it is not given: training is
        reproducible unless you vary it. Of a generator a copy is used.
    dtype : {"float32", "float64"}, optional
        Precision of training.
    engine : {"numba", "numpy"}, optional
    n_jobs : int, optional
        Threads, as scikit-learn counts them: -1 for all cores. None leaves it to the setting ``threads``, which by default takes
        all cores, or one for a small problem. The result does not depend on it.
    verbose : int
        1 prints what is done and every evaluation, 2 every epoch. All of it is logged in any case (``c2f_np``).
    settings : Settings or mapping, optional
        Any other fields of :class:`c2f_np.settings.Settings`, whose help texts explain them. What is given above goes first; a
        mapping with another ``seed`` or ``threads`` than the parameters say is refused.
    validation_fraction : float
        Share of each user's interactions that ``fit`` sets aside for early stopping when it is given a matrix without validation.
        With 0, every phase trains for all its epochs.

    Attributes
    ----------
    settings_ : Settings
    data_ : Dataset
        What it was given.
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
        random_state: RandomState = None,
        dtype: str | None = None,
        engine: str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
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
        self.random_state = random_state
        self.dtype = dtype
        self.engine = engine
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.settings = settings
        self.validation_fraction = validation_fraction

    def resolved_settings(self) -> Settings:
        """The preset's settings, with `settings` and then the parameters that are not None in their place.

        Raises
        ------
        SettingsError
            If one does not fit.
        """
        own = as_settings(self.get_params(deep=False))
        given, preset = own.pop("settings"), own.pop("preset")
        del own["validation_fraction"], own["verbose"]
        further = given.to_dict() if isinstance(given, Settings) else dict(given or {})
        own = {name: value for name, value in own.items() if value is not None}
        for parameter, name in () if isinstance(given, Settings) else SETTING_OF.items():
            if name in own and further.get(name, own[name]) != own[name]:
                raise SettingsError(
                    f"{parameter} = {getattr(self, parameter)!r} and settings[{name!r}] = {further[name]!r} say different things "
                    "of the same; give one of them"
                )
        return Settings.preset(preset, **further | own)

    def fit(
        self,
        X: Trainable,
        y: object = None,
        *,
        validation: sparse.sparray | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
        progress: Progress | None = None,
        after_epoch: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train all phases.

        Parameters
        ----------
        X : Dataset, Interactions, sparse matrix of shape (U, I), or data frame
            Of a matrix every stored nonzero is an interaction, of a data frame every row.
        y : ignored
            There for scikit-learn, which passes labels.
        validation : sparse matrix, shape (U, I), optional
            Held-out interactions for early stopping; only with a matrix.
        user_column, item_column : str, optional
            Of a data frame; by default found among the usual names, as :func:`c2f_np.data.read_csv` does.
        progress : Progress, optional
            Where an earlier run stood.
        after_epoch : callable, optional
            Called with a :class:`c2f_np.training.loop.Progress` after every epoch.

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
        data = self._as_dataset(X, y, validation, user_column, item_column)
        return self._fit(data, after_epoch=after_epoch, progress=progress)

    def save(self, path: FilePath) -> None:
        """Write a model file (``.npz``, no pickle), aside and then renamed.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        save_model(path, self._stored())

    def export(
        self,
        path: FilePath,
        *,
        codebook: str = "float32",
        weights: str = "float32",
        with_interactions: bool = True,
        with_ids: bool = True,
    ) -> None:
        """Write a model for inference with NumPy alone, which :func:`c2f_np.serving.load_exported` reads; see docs/serving.md.

        Parameters
        ----------
        path : path-like
        codebook, weights : {"float32", "float16", "int8"}
            Types of the codebooks and of the weights of links.
        with_interactions : bool
            Without them the file is smaller, but whoever serves the model must have them.
        with_ids : bool
            Without them users and items are numbers, counted from 0.

        Raises
        ------
        SettingsError
            If a type is unknown or too narrow; if something else than an exported model is at this path.
        OSError
            If it cannot be written.
        """
        stored = self._stored()
        require_replaceable(path)
        kept = {"with_interactions": with_interactions, "with_ids": with_ids}
        export_model(stored, path, codebook=codebook, weights=weights, **kept)

    def _about(self) -> dict[str, Any]:
        return {"preset": self.preset} | super()._about()

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
        settings = dataclasses.replace(stored.settings, engine=engine_here(stored.settings.engine))
        model = cls(preset=stored.about.get("preset", "default"), settings=settings)
        model._set_known(stored.R, stored.known, stored.user_ids, stored.item_ids, stored.about)
        A = normalised_adjacency(sparse.csr_array(stored.R)).astype(stored.state.E_coarse.dtype)
        model._set_state(stored.state, settings, A)
        return model
