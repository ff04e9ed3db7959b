"""Small settings for every way to train: two stages, jointly from a partition, and jointly from a table."""

import functools

from c2f_np.settings import STAGED, Settings

SIZES = {"n_coarse": 6, "n_fine": 4, "dim": 8, "t_fine": 2, "coarse_batch": 64, "coarse_lr": 1e-2, "partition": "random"}
STAGES = SIZES | {"n_components": 4, "eval_every": 2, "max_epochs": 3, "fine_batch": 64, "fine_lr": 1e-2}
#: What the preset would begin with in place of a partition, and how its rate would fall.
FROM_PARTITION = {"table_epochs": 0, "partition_epochs": 0, "lr_schedule": "constant"}
JOINT = SIZES | FROM_PARTITION | {
    "t_coarse": 2, "t_direct": 2, "gate": 0.0, "threshold": 0.0, "eval_every": 2, "patience": 5, "max_epochs": 6,
    "update_every": 2, "exchange_epochs": 60,
}  # fmt: skip
TABLE = SIZES | {
    "table_start": "normal", "partition_epochs": 2,
    "table_epochs": 3, "max_epochs": 2, "start_lr": 3e-2, "eval_every": 1, "patience": 9,
}  # fmt: skip
#: With direct links (the default), the bridge too, the bridge alone, no fine codebook, one that gets sparse.
VARIANTS = {
    "direct": {},
    "both": {"gate": 0.3, "threshold": 0.5, "t_direct": 2},
    "bridge": {"gate": 0.3, "threshold": 0.5, "t_direct": 0},
    "alone": {"t_direct": 0, "t_coarse": 2},
    "sparse": {"fine_density": 0.4, "dead_zone": "open"},
}


def stages(preset="staged", **changes):
    return Settings.preset(preset, **(STAGES | changes))


def joint(variant="direct", **changes):
    return Settings.preset("default", **(JOINT | VARIANTS[variant] | changes))


def table(variant="direct", **changes):
    return Settings.preset("default", **(TABLE | VARIANTS[variant] | changes))


#: Every way, by its name; each takes further changes.
WAYS = {preset: functools.partial(stages, preset) for preset in STAGED}
WAYS |= {f"{way.__name__} {variant}": functools.partial(way, variant) for way in (joint, table) for variant in VARIANTS}
