"""An artificial data set with a known answer: coarse groups of fine subgroups, under a long tail of popularity.

Shapes: U users, I items, G groups, S = G times subgroups per group.

Every user and every item belongs to one subgroup and so to one group. A user's items are drawn without replacement,
with probability proportional to ``popularity of the item x affinity``, where the affinity is largest within the
subgroup, smaller within the group, and 1 elsewhere. A model that finds the groups beats popularity; one that finds
the subgroups beats both.

The stream is stable: only ``Generator.random`` of a seeded PCG64 is used, with sorting and inverse distribution
functions on top, because NumPy reserves the right to change its other distributions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from ..errors import DataError
from .interactions import Interactions


@dataclass(frozen=True)
class PlantedParameters:
    """How the artificial data are drawn.

    Parameters
    ----------
    n_users, n_items : int
        U and I.
    n_groups : int
        G, the coarse groups. Users and items are dealt out to the subgroups evenly.
    subgroups_per_group : int
        Fine subgroups in each group.
    subgroup_affinity, group_affinity : float
        How much likelier an item of the user's own subgroup, or of another subgroup of her group, is than an equally
        popular item elsewhere.
    popularity_exponent, popularity_offset : float
        The item of popularity rank r (from 0) has popularity ``(r + offset) ** -exponent``: a larger exponent makes
        the head heavier, a larger offset flattens its top. Ranks are dealt out at random, so no group owns the head.
    least_interactions, most_interactions : int
        Bounds of a user's number of interactions.
    activity_exponent : float
        That number follows a Pareto law with this exponent, starting at `least_interactions` and cut at
        `most_interactions`; a smaller exponent means a longer tail.
    seed : int
        Seed of the draw.
    test_fraction : float
        Share of each user's items held out by the split that goes with the data.
    """

    n_users: int = 1000
    n_items: int = 800
    n_groups: int = 8
    subgroups_per_group: int = 5
    subgroup_affinity: float = 60.0
    group_affinity: float = 8.0
    popularity_exponent: float = 0.8
    popularity_offset: float = 10.0
    least_interactions: int = 14
    most_interactions: int = 120
    activity_exponent: float = 1.5
    seed: int = 2025
    test_fraction: float = 0.2

    def __post_init__(self):
        n_subgroups = self.n_groups * self.subgroups_per_group
        if self.n_groups < 1 or self.subgroups_per_group < 1:
            raise DataError("there must be at least one group and one subgroup")
        if min(self.n_users, self.n_items) < n_subgroups:
            raise DataError(f"{n_subgroups} subgroups need at least as many users and items")
        if not 1 <= self.least_interactions <= self.most_interactions <= self.n_items:
            raise DataError("1 <= least_interactions <= most_interactions <= n_items must hold")
        if min(self.subgroup_affinity, self.group_affinity, self.activity_exponent, self.popularity_offset) <= 0:
            raise DataError("affinities, the activity exponent and the popularity offset must be positive")


@dataclass(frozen=True, eq=False)
class PlantedTruth:
    """What a model should find.

    Parameters
    ----------
    user_group, user_subgroup : ndarray of int64, shape (U,)
        Group 0..G-1 and subgroup 0..S-1 of user "0", "1", ...; ``group = subgroup // subgroups_per_group``.
    item_group, item_subgroup : ndarray of int64, shape (I,)
        Likewise for items.
    parameters : PlantedParameters
    """

    user_group: np.ndarray
    user_subgroup: np.ndarray
    item_group: np.ndarray
    item_subgroup: np.ndarray
    parameters: PlantedParameters = field(default_factory=PlantedParameters)


def generate_planted(parameters: PlantedParameters | None = None) -> tuple[Interactions, PlantedTruth]:
    """Draw the artificial data.

    Parameters
    ----------
    parameters : PlantedParameters, optional
        By default those of the shipped data set.

    Returns
    -------
    interactions : Interactions
        Without timestamps. Ids are "0" to "U-1" and "0" to "I-1"; each is its own code, even for an item nobody has.
    truth : PlantedTruth
    """
    p = parameters or PlantedParameters()
    rng = np.random.Generator(np.random.PCG64(p.seed))
    n_subgroups = p.n_groups * p.subgroups_per_group
    user_subgroup = _deal_out(p.n_users, n_subgroups, rng)
    item_subgroup = _deal_out(p.n_items, n_subgroups, rng)
    user_group, item_group = user_subgroup // p.subgroups_per_group, item_subgroup // p.subgroups_per_group

    popularity = (_shuffled(p.n_items, rng) + p.popularity_offset) ** -p.popularity_exponent
    affinity = np.ones((p.n_users, p.n_items))
    affinity[user_group[:, None] == item_group] = p.group_affinity
    affinity[user_subgroup[:, None] == item_subgroup] = p.subgroup_affinity
    per_user = _activity(p, rng)

    # The n smallest of exponential waiting times with rates w are a draw of n without replacement with weights w
    # (Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006).
    waiting = -np.log1p(-rng.random((p.n_users, p.n_items))) / (popularity * affinity)
    place = np.empty((p.n_users, p.n_items), dtype=np.int64)
    order = np.argsort(waiting, axis=1, kind="stable")
    np.put_along_axis(place, order, np.arange(p.n_items)[None, :], axis=1)
    user, item = np.nonzero(place < per_user[:, None])

    interactions = Interactions(
        user.astype(np.int64),
        item.astype(np.int64),
        None,
        np.arange(p.n_users).astype(np.str_),
        np.arange(p.n_items).astype(np.str_),
        "planted",
        {"rows_read": len(user)},
    )
    return interactions, PlantedTruth(user_group, user_subgroup, item_group, item_subgroup, p)


def planted_truth_files(truth: PlantedTruth) -> dict[str, str]:
    """Return the files that hold the truth: name to content."""
    files = {}
    for kind in ("user", "item"):
        lines = [f"{kind},group,subgroup"]
        groups, subgroups = getattr(truth, f"{kind}_group"), getattr(truth, f"{kind}_subgroup")
        for number, (group, subgroup) in enumerate(zip(groups.tolist(), subgroups.tolist(), strict=True)):
            lines.append(f"{number},{group},{subgroup}")
        files[f"truth_{kind}s.csv"] = "\n".join(lines) + "\n"
    files["parameters.json"] = json.dumps(asdict(truth.parameters), indent=2) + "\n"
    return files


def _shuffled(count: int, rng) -> np.ndarray:
    """Return 0..count-1 in random order."""
    return np.argsort(rng.random(count), kind="stable")


def _deal_out(count: int, n_subgroups: int, rng) -> np.ndarray:
    """Give `count` members subgroups of equal size, in random order."""
    return _shuffled(count, rng) % n_subgroups


def _activity(p: PlantedParameters, rng) -> np.ndarray:
    """Draw each user's number of interactions from the cut Pareto law."""
    chance = rng.random(p.n_users)
    pareto = p.least_interactions * (1 - chance) ** (-1 / p.activity_exponent)
    return np.minimum(np.floor(pareto), p.most_interactions).astype(np.int64)
