"""From the rows of a study to the lines of its report: numbers only, no text.

Shapes: users of a data set (n_users,), values of a line averaged over its seeds (n_users,).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..data import Dataset
from ..errors import ModelFileError
from .jobs import Job
from .outcome import part_of_report
from .statistics import Difference, Spread, compare, spread
from .store import Store
from .study import Study

# The draws of the users: the same for every report, so that a report can be written again.
_BOOTSTRAP_SEED = 20250


@dataclass
class Line:
    """A model of a report, over its seeds.

    Attributes
    ----------
    label, run, part, kind : str
    reference : str
        Label of what it is compared with, or "".
    seeds : list of int
    metrics : dict of str to list of float
        Of the report's part of the data, a value for each seed.
    bytes, floats : int or None
        Of the first seed.
    seconds : float
        Median over seeds.
    notes : list of str
    per_user : ndarray, shape (n_users,), or None
        The main metric, averaged over seeds.
    main : Spread or None
        Over seeds.
    interval : (low, high) or None
        Over users.
    difference : Difference or None
        To the reference, over users.
    """

    label: str
    run: str
    part: str
    kind: str
    reference: str
    seeds: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    bytes: int | None = None
    floats: int | None = None
    seconds: float = float("nan")
    notes: list[str] = field(default_factory=list)
    per_user: np.ndarray | None = None
    main: Spread | None = None
    interval: tuple[float, float] | None = None
    difference: Difference | None = None


def lines_of(study: Study, name: str, data: Dataset, jobs: list[Job], rows: dict[str, dict], store: Store) -> list[Line]:
    """The lines of one data set, in the order of the study.

    Parameters
    ----------
    study : Study
    name : str
        The data set.
    data : Dataset
    jobs : list of Job
    rows : dict of str to dict
        By the keys of the jobs; jobs without one are left out.
    store : Store
        Where the users' numbers are.

    Returns
    -------
    list of Line

    Raises
    ------
    ModelFileError
        If the numbers of the users are damaged, or those of two rows belong to different users.
    """
    part, lines = part_of_report(data), {}
    collected: dict[str, list[tuple[float, np.ndarray | None]]] = {}
    users = None
    for job in jobs:
        row = rows.get(job.key)
        if job.source.name != name or row is None or row["status"] != "done":
            continue
        for outcome, of_users in zip(row["outcomes"], store.users_of(job.key, row), strict=True):
            label = outcome["label"]
            line = lines.setdefault(
                label, Line(label, job.run.name, outcome["part"], outcome["kind"], job.run.reference or study.reference)
            )
            if outcome["note"]:
                line.notes.append(outcome["note"])
            if part not in outcome["metrics"]:
                continue
            line.seeds.append(job.seed)
            for metric, value in outcome["metrics"][part].items():
                line.metrics.setdefault(metric, []).append(value)
            line.bytes = outcome["size"].get("model") if line.bytes is None else line.bytes
            line.floats = outcome["size"].get("floats") if line.floats is None else line.floats
            values = None
            if of_users is not None and study.metric in of_users[1]:
                users = of_users[0] if users is None else users
                if not np.array_equal(users, of_users[0]):
                    raise ModelFileError(f"{store.folder}: the row {job.key} was measured on other users than those before it")
                values = of_users[1][study.metric].astype(np.float64)
            collected.setdefault(label, []).append((outcome["seconds"], values))
    for label, values in collected.items():
        line = lines[label]
        line.seconds = float(np.median([seconds for seconds, _ in values]))
        line.main = spread(line.metrics[study.metric])
        if all(of_users is not None for _, of_users in values):
            line.per_user = np.mean([of_users for _, of_users in values], axis=0)
    _compare(list(lines.values()))
    return [line for line in lines.values() if study.phases == "all" or _is_shown(line)]


def _is_shown(line: Line) -> bool:
    """Results and analyses; phases are shown only if the study asks for them. No analysis has the name of a phase."""
    from .surgery import AFTER

    return not line.part or line.part in AFTER


def _compare(lines: list[Line]) -> None:
    """Fill in intervals and differences."""
    lines = [line for line in lines if line.per_user is not None]
    if not lines:
        return
    column = {line.label: position for position, line in enumerate(lines)}
    references = [column.get(line.reference) for line in lines]
    values = np.stack([line.per_user for line in lines], axis=1)
    intervals, differences = compare(values, references, np.random.default_rng(_BOOTSTRAP_SEED))
    for line, between, difference in zip(lines, intervals, differences, strict=True):
        line.interval, line.difference = between, difference
