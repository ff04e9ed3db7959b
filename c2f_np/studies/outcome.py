"""What is measured of a trained model: the same for every method.

Shapes: per user arrays (n_users,), users with something to find.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..evaluation import EvaluationResult


@dataclass(frozen=True)
class Outcome:
    """One row of a report, for one seed.

    Attributes
    ----------
    label : str
        The run's name for its result, else with the phase or analysis behind it.
    part : str
        "" for the result, else the phase or analysis.
    kind : {"popularity", "coarse", "fine", "other"}
        How figures show it.
    metrics : dict of str to dict
        "validation" and "test" (where the data have them): metric to mean.
    size : dict of str to int
        Bytes of what inference needs, part by part; their sum is "model", the number of floats "floats" (None if unknown).
    seconds : float
        Of training until it stood, or of the analysis.
    epochs, best_epoch : int or None
    note : str
        Such as "does not apply"; then there are no metrics.
    per_user : dict of str to ndarray of float32
        Metrics of each user of the part that the report is about.
    users : ndarray of int, or None
    """

    label: str
    part: str
    kind: str
    metrics: dict[str, dict[str, float]]
    size: dict[str, int | None]
    seconds: float
    epochs: int | None = None
    best_epoch: int | None = None
    note: str = ""
    per_user: dict[str, np.ndarray] = field(default_factory=dict)
    users: np.ndarray | None = None

    def to_dict(self) -> dict:
        """All but the arrays, as plain JSON."""
        names = ("label", "part", "kind", "metrics", "size", "seconds", "epochs", "best_epoch", "note")
        return {name: getattr(self, name) for name in names}


def part_of_report(data) -> str:
    """The part of the data that a report is about: test, or validation where there is no test."""
    for part in ("test", "validation"):
        relevant = getattr(data, part)
        if relevant is not None and relevant.nnz:
            return part
    return ""


def measured(results: dict[str, EvaluationResult | None], part: str) -> dict:
    """The fields of an :class:`Outcome` that come from evaluations.

    Parameters
    ----------
    results : dict of str to EvaluationResult
        By part of the data.
    part : str
        The part whose users' numbers are kept.

    Returns
    -------
    dict
    """
    metrics = {name: result.metrics for name, result in results.items() if result is not None}
    kept = results.get(part)
    if kept is None or kept.per_user is None:
        return {"metrics": metrics}
    per_user = {name: np.asarray(values, dtype=np.float32) for name, values in kept.per_user.items()}
    return {"metrics": metrics, "per_user": per_user, "users": np.asarray(kept.users, dtype=np.int64)}
