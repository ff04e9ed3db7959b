"""Every hyper-parameter of the method, in one place, and the named presets.

``preset="authors"`` reproduces the released code; ``"paper"`` follows the paper's text in the fine stage; ``"staged"``
repairs both within the two stages; ``"default"`` trains both codebooks jointly and is what we recommend.
docs/model.md has tables of all differences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .engine import DEFAULT_ENGINE, ENGINES
from .errors import SettingsError
from .schema import Parameter, checked_values, described, parameters_of, refuse_unknown

#: Choices that functions of the model check, too.
COMPOSITIONS = ("coarse", "bridged")
LAYER_BRIDGES = ("raw", "exchange")
DEGREES = ("signed", "absolute")
PARTITIONS = ("auto", "metis", "coclustering", "random")
#: Choices that the baselines have, too.
TABLE_STARTS = ("normal", "svd")
LR_SCHEDULES = ("constant", "cosine", "steps")


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of model, training and run. The help text of each field is its documentation.

    Raises
    ------
    SettingsError
        From the constructor, if a value is of the wrong type, out of range, or does not fit the others.
    """

    # sizes
    n_coarse: int = described(100, "rows of the coarse codebook, C", low=1)
    n_fine: int = described(40, "rows of the fine codebook, M", low=1)
    dim: int = described(64, "embedding width d", low=1)
    n_layers: int = described(3, "propagation layers L", low=0)
    t_coarse: int = described(2, "coarse rows that an entity is linked to, t", low=1)
    t_fine: int = described(4, "fine rows that refine a coarse row, t_f", low=1)
    t_direct: int = described(0, "fine rows that an entity is linked to directly; only in joint training", low=0)
    # the model
    training: str = described(
        "stages", "the paper's two stages, or joint training of both codebooks and all links", choices=("stages", "joint")
    )
    gate: float = described(
        0.2, "bridge weight g: share of the fine codebook; 1 in joint training: no coarse codebook is stored", low=0.0, high=1.0
    )  # fmt: skip
    threshold: float = described(1.0, "soft threshold tau", low=0.0)
    fine_density: float = described(
        1.0, "share of the fine codebook's entries that the threshold is raised to leave, in joint training; 1: it stays",
        above=0.0, high=1.0,
    )  # fmt: skip
    dead_zone: str = described(
        "closed", "entries inside the threshold: closed, they stay there; open, they move by the gradient at F (joint training)",
        choices=("closed", "open"),
    )  # fmt: skip
    composition: str = described("coarse", "codebook that entities are composed from in the fine stage", choices=COMPOSITIONS)
    layer_bridge: str = described(
        "raw", "bridge in a layer: as in the released code, or in the paper's text", choices=LAYER_BRIDGES
    )
    degree: str = described("signed", "row sums that normalise the expanded graph", choices=DEGREES)
    renormalise_fine: bool = described(False, "divide each row of S_f by its sum")
    # the starts
    partition: str = described("auto", "partition that starts the assignments", choices=PARTITIONS)
    anchor_weight: float = described(0.5, "weight w* of an entity's own part at the start", low=0.0, high=1.0)
    bias_start: str = described("normal", "biases at the start: standard normal, or zero", choices=("normal", "zero"))
    fine_start: str = described(
        "scores",
        "start of E_f: scores of a sparse PCA, or its components; in joint training standard normal",
        choices=("scores", "components", "normal"),
    )
    n_components: int = described(40, "components of the sparse PCA", low=1)
    # the loss
    l2: float = described(5.0, "factor of the regulariser", low=0.0)
    decay: float = described(1e-4, "weight of the regulariser in the loss", low=0.0)
    # the optimisation
    coarse_lr: float = described(1e-3, "learning rate of the coarse stage and of the phase joint", low=0.0)
    fine_lr: float = described(3e-3, "learning rate of the fine stage", low=0.0)
    coarse_batch: int = described(8192, "triples in a batch of the coarse stage and of joint training", low=1)
    fine_batch: int = described(32768, "triples in a batch of the fine stage", low=1)
    neg_size: int = described(5, "negative items for each positive one", low=1)
    max_grad_value: float = described(3.0, "gradients are clipped to plus or minus this", above=0)
    # the schedule
    eval_every: int = described(5, "epochs between evaluations", low=1)
    patience: int = described(5, "evaluations without improvement after which a phase ends", low=1)
    max_epochs: int = described(1000, "most epochs in a phase (the phases partition and table have their own)", low=1)
    coarse_phase1: bool = described(True, "begin with a phase in which the coarse assignment stays as it started")
    table_epochs: int = described(
        0, "joint training: epochs of the full table, which is then coded; 0: no table start", low=0
    )
    table_start: str = described(
        "normal", "start of the table: normal numbers, or singular vectors of the normalised interactions",
        choices=TABLE_STARTS,
    )  # fmt: skip
    partition_epochs: int = described(
        0, "with table_epochs: epochs from a partition, used if they validate better than the coded table; 0: none", low=0
    )
    start_lr: float = described(1e-2, "learning rate of the phases partition and table", low=0.0)
    phase1_epochs: int = described(0, "most epochs in the first phase of a stage; 0: as in any phase", low=0)
    lr_schedule: str = described(
        "constant",
        "learning rate over a phase: constant; falling to 0; to 1/3 after 2/3 of the epochs, 1/10 after 5/6 (not in the stages' "
        "first phases)",
        choices=LR_SCHEDULES,
    )
    update_every: int = described(
        1, "epochs between assignment updates (second phases) or link exchanges (phase joint); 0: only once", low=0
    )
    exchange_epochs: int = described(
        100, "phase joint: first epochs, in which links are exchanged, and those of the bridge found anew", low=0
    )  # fmt: skip
    # the run
    propagation: str = described(
        "auto", "fine stage: layer by layer, or collapsed (the same up to rounding)", choices=("auto", "layers", "collapsed")
    )
    seed: int = described(0, "seed of the model (the split has its own)", low=0)
    dtype: str = described("float32", "precision of training", choices=("float32", "float64"))
    engine: str = described(DEFAULT_ENGINE, "numba: compiled loops; numpy: the readable ones", choices=ENGINES)
    threads: int = described(0, "threads; 0: all cores, or one for a small problem (the bits are the same)", low=0)

    def __post_init__(self) -> None:
        for name, value in checked_values(self).items():
            object.__setattr__(self, name, value)
        if self.t_coarse > self.n_coarse:
            raise SettingsError(f"t_coarse = {self.t_coarse} is more than n_coarse = {self.n_coarse}")
        if self.t_fine > self.n_fine and self.has_bridge:
            raise SettingsError(f"t_fine = {self.t_fine} is more than n_fine = {self.n_fine}")
        if self.training == "joint":
            self._check_joint()
        elif self.t_direct:
            raise SettingsError(f't_direct = {self.t_direct} needs training = "joint"')
        elif self.table_epochs or self.partition_epochs:
            raise SettingsError('table_epochs and partition_epochs need training = "joint"')
        elif self.table_start != "normal":
            raise SettingsError('table_start = "svd" needs training = "joint"')
        elif self.fine_density < 1 or self.dead_zone == "open":
            raise SettingsError('fine_density below 1 and dead_zone = "open" need training = "joint"')
        elif self.fine_start == "normal":
            raise SettingsError('fine_start = "normal" needs training = "joint"')
        if self.propagation == "collapsed" and self.composition != "coarse":
            raise SettingsError('propagation = "collapsed" needs composition = "coarse"')

    def _check_joint(self) -> None:
        """What joint training needs."""
        if self.fine_start != "normal":
            raise SettingsError('training = "joint" needs fine_start = "normal": there is no trained codebook yet')
        if self.t_direct > self.n_fine:
            raise SettingsError(f"t_direct = {self.t_direct} is more than n_fine = {self.n_fine}")
        if self.fine_density < 1 and not self.has_fine_codebook:
            raise SettingsError("fine_density below 1 needs a fine codebook: t_direct or gate above 0")
        if self.propagation == "collapsed":
            raise SettingsError('propagation = "collapsed" needs training = "stages": joint training is not linear in F')
        if self.partition_epochs and not self.table_epochs:
            raise SettingsError("partition_epochs need table_epochs: without a table, all epochs are from a partition")
        if self.table_epochs and self.gate > 0 and not self.t_direct and self.n_fine > self.n_coarse:
            raise SettingsError(f"n_fine = {self.n_fine} is more than n_coarse = {self.n_coarse}, whose rows they are to code")

    @classmethod
    def preset(cls, preset: str = "default", **overrides: Any) -> Self:
        """The settings of a preset, with some of them replaced.

        Parameters
        ----------
        preset : {"authors", "paper", "staged", "default"}
        **overrides
            Fields of this class; those that are None keep the preset's value.

        Returns
        -------
        Settings

        Raises
        ------
        SettingsError
            If the preset or a field is unknown, or a value does not fit.
        """
        known = Parameter("preset", str, choices=tuple(PRESETS)).checked(preset)
        return cls.from_dict(PRESETS[known] | {name: value for name, value in overrides.items() if value is not None})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The settings with these values by name, as :meth:`to_dict` gives them.

        Raises
        ------
        SettingsError
            If a name is unknown, or a value does not fit.
        """
        refuse_unknown(values, parameters_of(Settings), "setting")
        return cls(**values)

    @property
    def has_bridge(self) -> bool:
        """Whether coarse rows have links to fine rows."""
        return self.training == "stages" or self.gate > 0

    @property
    def has_coarse_codebook(self) -> bool:
        """Whether there is one: in joint training with gate = 1, coarse rows consist of fine rows alone."""
        return self.training == "stages" or self.gate < 1

    @property
    def has_fine_codebook(self) -> bool:
        """Whether a fine codebook can affect the loss; in joint training without direct links and bridge it cannot."""
        return self.has_bridge or self.t_direct > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, for JSON."""
        return dataclasses.asdict(self)


PRESETS: dict[str, dict[str, Any]] = {
    "authors": {},
    "paper": {
        "composition": "bridged",
        "layer_bridge": "exchange",
        "fine_start": "components",
        "degree": "absolute",
        "renormalise_fine": True,
    },
    "staged": {
        "layer_bridge": "exchange",
        "fine_start": "components",
        "degree": "absolute",
        "bias_start": "zero",
        "coarse_lr": 3e-3,
    },
    "default": {
        "training": "joint",
        "t_coarse": 1,
        "t_direct": 1,
        "gate": 0.0,
        "threshold": 0.0,
        "fine_start": "normal",
        "bias_start": "zero",
        "table_start": "svd",
        "table_epochs": 20,
        "start_lr": 3e-2,
        "coarse_lr": 4e-3,
        "coarse_batch": 16384,
        "exchange_epochs": 0,
        "lr_schedule": "steps",
        "max_epochs": 12,
        "eval_every": 4,
        "patience": 12,
    },
}

#: Presets that train the coarse and the fine stage one after the other.
STAGED = tuple(name for name in PRESETS if Settings.preset(name).training == "stages")
