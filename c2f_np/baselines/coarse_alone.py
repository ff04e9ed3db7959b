"""The coarse stage alone, as a recommender: this is LEGCF, what the fine stage has to improve on.

Shapes: see `c2f_np.model`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ..archive import Array
from ..data import Dataset
from ..estimator import EmbeddingRecommender, validation_share
from ..files import FilePath
from ..model.graph import normalised_adjacency
from ..model.step import ModelState
from ..model_file import StoredModel, pack_state, size_in_bytes, state_layout, state_sizes, unpack_state
from ..schema import checked_values, described
from ..serving.exporting import splitter_of
from ..serving.new_users import Splitter
from ..settings import STAGED, Settings
from ..threads import working_threads
from ..training import train_or_refit
from ..training.loop import Progress
from ..training.phases import phases_of
from ..training.problem import entity_embeddings, pose

# Parameters that are not settings, and settings that go by a shorter name here, where there is one stage.
_NOT_SETTINGS = ("preset", "validation_fraction")
_RENAMED = {"lr": "coarse_lr", "batch": "coarse_batch"}


@dataclass(eq=False, repr=False, kw_only=True)
class Coarse(EmbeddingRecommender):
    """One shared codebook, assignments updated in closed form: the coarse stage of the model and nothing else.

    Parameters
    ----------
    preset : {"staged", "authors", "paper"}
        Where the settings come from that are not given here (None).
    lr, batch : optional
        ``coarse_lr`` and ``coarse_batch`` of :class:`c2f_np.Settings`.
    n_coarse, dim, ... : optional
        The fields of the same names.
    validation_fraction : float
        As for :class:`c2f_np.C2FRecommender`.

    Attributes
    ----------
    settings_ : Settings
    state_ : ModelState
    embeddings_ : ndarray, shape (N, d)
    phases_ : dict of str to Best
    """

    preset: str = described("staged", "where the settings come from that are not given here", choices=STAGED)
    n_coarse: int | None = None
    dim: int | None = None
    n_layers: int | None = None
    t_coarse: int | None = None
    degree: str | None = None
    partition: str | None = None
    anchor_weight: float | None = None
    bias_start: str | None = None
    lr: float | None = None
    l2: float | None = None
    decay: float | None = None
    batch: int | None = None
    neg_size: int | None = None
    max_grad_value: float | None = None
    eval_every: int | None = None
    patience: int | None = None
    max_epochs: int | None = None
    coarse_phase1: bool | None = None
    phase1_epochs: int | None = None
    lr_schedule: str | None = None
    update_every: int | None = None
    seed: int | None = None
    dtype: str | None = None
    engine: str | None = None
    threads: int | None = None
    validation_fraction: float = validation_share()

    def resolved_settings(self) -> Settings:
        """The preset's settings with this estimator's parameters in their place.

        Raises
        ------
        SettingsError
            If one does not fit.
        """
        checked_values(self)
        own = {_RENAMED.get(name, name): value for name, value in self.get_params().items() if name not in _NOT_SETTINGS}
        n_coarse = Settings.preset(self.preset, **own).n_coarse
        # The fine stage is never begun, but its codebook must be one that could be: as many rows as the coarse one.
        return Settings.preset(self.preset, **own | {"n_fine": n_coarse, "t_fine": 1})

    def _learn(
        self, data: Dataset, epochs: dict[str, int] | None, after_epoch: Callable[[Progress], None] | None = None
    ) -> dict[str, int]:
        settings = self.resolved_settings()
        problem = pose(data, settings)
        # The phases of the coarse stage, to the very states that the whole training has; the fine one is never begun.
        phases = phases_of(settings, problem.engine)[:-2]
        done, epochs = train_or_refit(phases, epochs, problem, after_epoch=after_epoch)
        self.phases_, self.history_, self.best_epoch_ = done.finished, list(done.history), done.result.epoch
        self._set_state(done.result.state, settings, problem.A)
        return epochs

    def _split_seed(self) -> int:
        return self.resolved_settings().seed

    def _set_state(self, state: ModelState, settings: Settings, A: sparse.csr_array) -> None:
        self.state_, self.settings_ = state, settings
        with working_threads(settings.threads, settings.engine):
            self.embeddings_ = entity_embeddings(state, A, settings)

    def _packed(self) -> dict[str, np.ndarray]:
        return pack_state("state", self.state_)

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        settings = self.resolved_settings()
        return state_layout("state", settings, "coarse"), state_sizes(settings, N=n_users + n_items)

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        settings, R = self.resolved_settings(), self.interactions_
        state = unpack_state("state", arrays, settings, "coarse", sum(R.shape), path)
        self._set_state(state, settings, normalised_adjacency(R).astype(settings.dtype))

    def size_in_bytes(self) -> dict[str, int]:
        """Codebook, assignment and biases: :func:`c2f_np.model_file.size_in_bytes`."""
        check_is_fitted(self, "interactions_")
        return size_in_bytes(self.state_)

    def _biases(self) -> tuple[np.ndarray, np.ndarray, float]:
        n_users, bias = self.interactions_.shape[0], self.state_.bias
        return bias[:n_users], bias[n_users:], self.state_.bias_global[0]

    def _made_splitter(self) -> Splitter:
        ids = self.user_ids_, self.item_ids_
        return splitter_of(StoredModel(self.state_, self.settings_, self.interactions_, *ids, {}))

    def _workers(self) -> dict[str, Any]:
        return {"engine": self.settings_.engine, "n_threads": self.settings_.threads or None}
