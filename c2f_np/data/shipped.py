"""The data sets that come with the package: the Southern Women, and artificial data with a known answer.

They are made in memory, in about a tenth of a second, so that an installed package needs no data files. The folder ``data/`` of
the repository holds the same content as files, for people to read; a test compares the two.

Shapes: U users, I items, G groups, S = G times subgroups per group.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError, in_short
from ..files import FilePath, write_text_atomically
from .interactions import Interactions, keys_of_codes, matrix_of_keys
from .readers import write_lightgcn
from .splits import Split, split_random

# A. Davis, B. B. Gardner and M. R. Gardner, Deep South: A Social Anthropological Study of Caste and Class, University of Chicago
# Press, 1941, chapter VII, figure 3: who attended which event, as reported by newspapers of Natchez, Mississippi. The women form
# two overlapping circles, with events E6 to E9 in between, which is what a coarse codebook should find. One column per event,
# E1 to E14; x: she was there.
_ATTENDANCE = """
Evelyn Jefferson   x x x x x x . x x . . . . .
Laura Mandeville   x x x . x x x x . . . . . .
Theresa Anderson   . x x x x x x x x . . . . .
Brenda Rogers      x . x x x x x x . . . . . .
Charlotte McDowd   . . x x x . x . . . . . . .
Frances Anderson   . . x . x x . x . . . . . .
Eleanor Nye        . . . . x x x x . . . . . .
Pearl Oglethorpe   . . . . . x . x x . . . . .
Ruth DeSand        . . . . x . x x x . . . . .
Verne Sanderson    . . . . . . x x x . . x . .
Myra Liddel        . . . . . . . x x x . x . .
Katherina Rogers   . . . . . . . x x x . x x x
Sylvia Avondale    . . . . . . x x x x . x x x
Nora Fayette       . . . . . x x . x x x x x x
Helen Lloyd        . . . . . . x x . x x x . .
Dorothy Murchison  . . . . . . . x x . . . . .
Olivia Carleton    . . . . . . . . x . x . . .
Flora Price        . . . . . . . . x . x . . .
"""


def southern_women_split() -> Split:
    """Return the Southern Women's attendances with a small fixed split.

    Of her n events, a woman holds out n / 3, rounded down, but at least one: the first ones after her events, in the table's
    order, are rotated by her own row number. Nothing is random, so every reader gets the same numbers.

    Returns
    -------
    Split
        18 x 14, 89 attendances, without validation. User ids are the women's names, item ids "E1" to "E14", both in the table's
        order.
    """
    women, rows = [], []
    for line in _ATTENDANCE.strip().splitlines():
        *name, marks = line.split(maxsplit=2)
        women.append(" ".join(name))
        rows.append([mark == "x" for mark in marks.split()])
    attended = np.array(rows)
    held_out = np.zeros_like(attended)
    for row, events in enumerate(map(np.flatnonzero, attended)):
        held_out[row, np.roll(events, -row)[: max(1, len(events) // 3)]] = True
    shape = attended.shape
    train, test = (
        matrix_of_keys(keys_of_codes(*np.nonzero(chosen), shape[1]), shape) for chosen in (attended & ~held_out, held_out)
    )
    events = np.array([f"E{number}" for number in range(1, shape[1] + 1)])
    how = "test: a fixed third of each woman's events, at least one"
    return Split(train, None, test, np.array(women), events, how, "southern-women")


@dataclass(frozen=True)
class PlantedParameters:
    """How the artificial data are drawn.

    Parameters
    ----------
    n_users, n_items : int
        U and I.
    n_groups : int
        G, the coarse groups. Users and items are divided evenly among the subgroups.
    subgroups_per_group : int
        Fine subgroups in each group.
    subgroup_affinity, group_affinity : float
        How much likelier an item of the user's own subgroup, or of another subgroup of her group, is than an equally popular
        item elsewhere.
    popularity_exponent, popularity_offset : float
        The item of popularity rank r (from 0) has popularity ``(r + offset) ** -exponent``: a larger exponent makes the head
        heavier, a larger offset flattens its top. Ranks are assigned at random, so no group owns the head.
    least_interactions, most_interactions : int
        Bounds of a user's number of interactions.
    activity_exponent : float
        That number follows a Pareto law with this exponent, starting at `least_interactions` and cut at `most_interactions`; a
        smaller exponent means a longer tail.
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
    item_popularity : ndarray, shape (I,)
        By which the items were drawn, besides the affinity.
    parameters : PlantedParameters
    """

    user_group: np.ndarray
    user_subgroup: np.ndarray
    item_group: np.ndarray
    item_subgroup: np.ndarray
    item_popularity: np.ndarray
    parameters: PlantedParameters = field(default_factory=PlantedParameters)


def generate_planted(parameters: PlantedParameters | None = None) -> tuple[Interactions, PlantedTruth]:
    """Draw the artificial data: coarse groups of fine subgroups, under a long tail of popularity.

    Every user and every item belongs to one subgroup and so to one group. A user's items are drawn without replacement, with
    probability proportional to ``popularity of the item x affinity``; the affinity is largest within the subgroup, smaller within
    the group, and 1 elsewhere. A model that finds the groups beats popularity; one that finds the subgroups beats both.

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
    # Only the stream of Generator.random is sure not to change: NumPy reserves the right to change its other distributions.
    rng = np.random.Generator(np.random.PCG64(p.seed))
    n_subgroups = p.n_groups * p.subgroups_per_group
    user_subgroup, item_subgroup = (_shuffled(count, rng) % n_subgroups for count in (p.n_users, p.n_items))
    user_group, item_group = user_subgroup // p.subgroups_per_group, item_subgroup // p.subgroups_per_group

    popularity = (_shuffled(p.n_items, rng) + p.popularity_offset) ** -p.popularity_exponent
    affinity = np.ones((p.n_users, p.n_items))
    affinity[user_group[:, None] == item_group] = p.group_affinity
    affinity[user_subgroup[:, None] == item_subgroup] = p.subgroup_affinity
    pareto = p.least_interactions * (1 - rng.random(p.n_users)) ** (-1 / p.activity_exponent)
    per_user = np.minimum(np.floor(pareto), p.most_interactions).astype(np.int64)

    # The n smallest of exponential waiting times with rates w are a draw of n without replacement with weights w
    # (Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006).
    waiting = -np.log1p(-rng.random((p.n_users, p.n_items))) / (popularity * affinity)
    place = np.empty((p.n_users, p.n_items), dtype=np.int64)
    order = np.argsort(waiting, axis=1, kind="stable")
    np.put_along_axis(place, order, np.arange(p.n_items)[None, :], axis=1)
    user, item = np.nonzero(place < per_user[:, None])

    codes, ids = (user.astype(np.int64), item.astype(np.int64)), (np.arange(n).astype(np.str_) for n in (p.n_users, p.n_items))
    interactions = Interactions(*codes, None, *ids, "planted", {"rows_read": len(user)})
    return interactions, PlantedTruth(user_group, user_subgroup, item_group, item_subgroup, popularity, p)


def shipped_split(name: str) -> Split:
    """A data set that comes with the package, with its own split and without validation."""
    if name == "southern-women":
        return southern_women_split()
    interactions, truth = generate_planted()
    return split_random(interactions, truth.parameters.test_fraction, truth.parameters.seed)


def load_truth(name: str = "planted") -> PlantedTruth:
    """Return the planted groups, in the order of the rows and columns of ``load_dataset("planted")``.

    Raises
    ------
    DataError
        If no truth is known for that name.
    """
    if name != "planted":
        raise DataError(f"the truth is known only for 'planted', not {in_short(name)}")
    return generate_planted()[1]


def write_shipped(folder: FilePath) -> list[Path]:
    """Write the shipped data sets to ``southern_women/`` and ``planted/`` in a folder, the same bytes on every platform.

    Returns
    -------
    list of pathlib.Path
        The files, sorted.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    women, truth, folder = southern_women_split(), load_truth(), Path(folder)
    texts = {
        "southern_women/attendance.csv": "user,item,held_out\n"
        + "".join(
            f"{women.user_ids[row]},{women.item_ids[column]},{int(women.test[row, column])}\n"
            for row, column in np.argwhere((women.train + women.test).toarray())
        ),
        "southern_women/table.txt": _ATTENDANCE.lstrip("\n"),
        "planted/parameters.json": json.dumps(asdict(truth.parameters), indent=2) + "\n",
        "planted/truth_users.csv": _truth_text("user", truth.user_group, truth.user_subgroup),
        "planted/truth_items.csv": _truth_text("item", truth.item_group, truth.item_subgroup),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / name, text)
    write_lightgcn(shipped_split("planted"), folder / "planted")
    return sorted(folder / name for name in (*texts, "planted/train.txt", "planted/test.txt"))


def _shuffled(count: int, rng) -> np.ndarray:
    """0..count-1 in random order."""
    return np.argsort(rng.random(count), kind="stable")


def _truth_text(kind: str, groups: np.ndarray, subgroups: np.ndarray) -> str:
    rows = enumerate(zip(groups, subgroups, strict=True))
    return f"{kind},group,subgroup\n" + "".join(f"{number},{group},{subgroup}\n" for number, (group, subgroup) in rows)
