"""The coarse stage alone, as a recommender: this is LEGCF, what the fine stage has to improve on.

Shapes: see `c2f_np.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..archive import Array
from ..estimator import RandomState, as_settings, validation_share
from ..files import FilePath
from ..model.graph import normalised_adjacency
from ..model_file import pack_state, state_layout, state_sizes, unpack_state
from ..recommender import StateRecommender
from ..schema import checked_values, described
from ..settings import STAGED, Settings
from ..training.loop import Phase

# Parameters that are not settings, and settings that go by a shorter name here, where there is one stage.
_NOT_SETTINGS = ("preset", "validation_fraction", "verbose")
_RENAMED = {"lr": "coarse_lr", "batch": "coarse_batch"}


@dataclass(eq=False, repr=False, kw_only=True)
class Coarse(StateRecommender):
    """One shared codebook, assignments updated in closed form: the coarse stage of the model and nothing else.

    Parameters
    ----------
    preset : {"staged", "authors", "paper"}
        Where the settings come from that are not given here (None).
    lr, batch : optional
        ``coarse_lr`` and ``coarse_batch`` of :class:`c2f_np.Settings`.
    n_coarse, dim, ... : optional
        The fields of the same names.
    random_state, n_jobs, verbose : optional
        As for :class:`c2f_np.C2FRecommender`.
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
    random_state: RandomState = None
    dtype: str | None = None
    engine: str | None = None
    n_jobs: int | None = None
    verbose: int = 0
    validation_fraction: float = validation_share()

    def resolved_settings(self) -> Settings:
        """The preset's settings with this estimator's parameters in their place.

        Raises
        ------
        SettingsError
            If one does not fit.
        """
        checked_values(self)
        given = as_settings(self.get_params())
        own = {_RENAMED.get(name, name): value for name, value in given.items() if name not in _NOT_SETTINGS}
        n_coarse = Settings.preset(self.preset, **own).n_coarse
        # The fine stage is never begun, but its codebook must be one that could be: as many rows as the coarse one.
        return Settings.preset(self.preset, **own | {"n_fine": n_coarse, "t_fine": 1})

    def _phases(self, settings: Settings, engine: Any) -> tuple[Phase, ...]:
        """Those of the coarse stage, to the very states that the whole training has; the fine one is never begun."""
        return super()._phases(settings, engine)[:-2]

    def _packed(self) -> dict[str, np.ndarray]:
        return pack_state("state", self.state_)

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        settings = self.resolved_settings()
        return state_layout("state", settings, "coarse"), state_sizes(settings, N=n_users + n_items)

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        settings, R = self.resolved_settings(), self.interactions_
        state = unpack_state("state", arrays, settings, "coarse", sum(R.shape), path)
        self._set_state(state, settings, normalised_adjacency(R).astype(settings.dtype))
