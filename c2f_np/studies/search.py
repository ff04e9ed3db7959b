"""Choosing a run's settings on the validation part alone: which points of its search are tried, and which was best.

A trial is a job like any other. Its run is named "run / trial 3", as no run of a file and no phase or analysis can be.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import in_short
from .study import WITHIN, Run

if TYPE_CHECKING:
    from .jobs import Job

#: A key of a search that is no setting: how much of the bytes that a run may weigh its model is given.
BYTES_USED = "bytes_used"


def points_of(lists: dict[str, list]) -> list[dict]:
    """Every combination of the values; the last key varies fastest."""
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def n_trials(run: Run, most: int) -> int:
    """The number of a run's trials."""
    return min(most, math.prod(map(len, run.search.values()))) if run.search else 0


def trials_of(run: Run, most: int) -> list[tuple[Run, dict]]:
    """A run's trials and the point of each, drawn without replacement; the draws depend on nothing but its name and its search.

    With a larger `most` the first ones stay.
    """
    words = json.dumps([run.name, run.search], default=str)
    rng, points = np.random.default_rng(list(hashlib.sha256(words.encode()).digest())), points_of(run.search)
    drawn = [points[place] for place in _draw([*map(len, run.search.values())], n_trials(run, most), rng)]
    names = (f"{run.name}{WITHIN}trial {number}" for number in itertools.count(1))
    return [(dataclasses.replace(at_point(run, point), name=name), point) for name, point in zip(names, drawn, strict=False)]


def _draw(lengths: list[int], n: int, rng: np.random.Generator) -> list[int]:
    """The numbers of n points of a product of lists of these lengths.

    Each is drawn from those that have least in common with the points before, by the squares of the numbers of equal values:
    otherwise few trials might leave out a value, or try it only together with another.
    """
    places = np.array([*itertools.product(*map(range, lengths))])  # of the values in their lists, shape (points, keys)
    left, common, drawn = rng.permutation(len(places)), np.zeros(len(places)), list[int]()
    for _ in range(n):
        point = left[np.argmin(common[left])]
        common += (places == places[point]).sum(axis=1) ** 2
        left = left[left != point]
        drawn.append(int(point))
    return drawn


def at_point(run: Run, point: dict) -> Run:
    """The run with the values of a point of its search; no analyses, which do not belong to the choice."""
    settings = run.settings | {key: value for key, value in point.items() if key != BYTES_USED}
    share = run.bytes_share * point.get(BYTES_USED, 1.0)
    return dataclasses.replace(run, settings=settings, bytes_share=share, after=(), search={})


def validation_score(row: dict | None, metric: str) -> float | None:
    """What a trial is judged by: the metric of its result on the validation part; None if it failed."""
    outcomes = row["outcomes"] if row is not None and row["status"] == "done" else ()
    return next((each["metrics"].get("validation", {}).get(metric) for each in outcomes if not each["part"]), None)


def best_trial(trials: Sequence[Job], rows: dict[str, dict], metric: str) -> Job | None:
    """The trial with the highest score, of equal ones the first; None if all failed."""
    scores = [(score, job) for job in trials if (score := validation_score(rows.get(job.key), metric)) is not None]
    return max(scores, key=lambda each: each[0])[1] if scores else None


def point_in_words(point: dict) -> str:
    """The values of a point: "coarse_lr = 0.003, n_coarse = 20"."""
    return ", ".join(f"{key} = {in_short(value)}" for key, value in point.items())
