"""What the study of protocols compares: choices, models, and the order of the models under every choice.

Shapes: a number per user (n_counted,).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

METRICS = ("ndcg", "recall")


@dataclass(frozen=True)
class Row:
    """One choice and what every model gets under it.

    Attributes
    ----------
    choice : str
    values : dict of str to dict of str to ndarray
        Metric ("ndcg", "recall") to model to a number per user. A metric that the choice does not concern is not there.
    """

    choice: str
    values: dict[str, dict[str, np.ndarray]]

    def mean(self, metric: str, model: str) -> float:
        return float(self.values[metric][model].mean()) if metric in self.values else float("nan")


def averaged(draws: Iterable[dict]) -> dict:
    """Numbers per user, averaged over draws or seeds."""
    draws = list(draws)
    return {
        metric: {model: np.mean([draw[metric][model] for draw in draws], axis=0) for model in draws[0][metric]}
        for metric in draws[0]
    }


def over_seeds(tables: list[list[Row]]) -> list[Row]:
    """The same rows of several seeds, averaged user by user."""
    return [Row(rows[0].choice, averaged(row.values for row in rows)) for rows in zip(*tables, strict=True)]


def compared(values: dict[str, np.ndarray], first: str, second: str) -> tuple[float, bool]:
    """Mean difference of two models over the users, and whether it is more than two standard errors of it from 0."""
    difference = values[first] - values[second]
    error = difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else np.inf
    return float(difference.mean()), bool(abs(difference.mean()) > 2 * error)


def order_of(values: dict[str, np.ndarray]) -> str:
    """The models from best to worst; ≈ stands between neighbours less than two standard errors apart."""
    ranked = sorted(values, key=lambda model: -values[model].mean())
    text = ranked[0]
    for better, worse in zip(ranked, ranked[1:], strict=False):
        text += (" > " if compared(values, better, worse)[1] else " ≈ ") + worse
    return text


def reversals(rows: list[Row]) -> tuple[int, int, int]:
    """How many orders of two models, over all choices and metrics, are not those of ours.

    Returns
    -------
    n_compared, n_reversed : int
    n_clear : int
        Of the reversed ones, those in which both differences are more than two standard errors from 0.
    """
    counts = np.zeros(3, int)
    for row in rows[1:]:
        for metric, values in row.values.items():
            names = list(values)
            for place, first in enumerate(names):
                for second in names[place + 1 :]:
                    ours, clear = compared(rows[0].values[metric], first, second)
                    here, clear_here = compared(values, first, second)
                    counts += (1, ours * here < 0, ours * here < 0 and clear and clear_here)
    return tuple(counts.tolist())


def report(rows: list[Row], model: str, k: int) -> str:
    """Two tables in Markdown: the numbers of one model and what moves them; all models and their order."""
    lines = [f"| choice | NDCG@{k} | change | Recall@{k} | change |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        cells = []
        for metric in METRICS:
            value, ours = row.mean(metric, model), rows[0].mean(metric, model)
            change = "" if row is rows[0] or ours == 0 else f"{100 * (value / ours - 1):+.1f} %"
            cells += [f"{value:.4f}", change] if metric in row.values else ["", ""]
        lines.append(f"| {row.choice} | " + " | ".join(cells) + " |")
    names = list(rows[0].values["ndcg"])
    for metric, title in zip(METRICS, ("NDCG", "Recall"), strict=True):
        lines += ["", f"| {title}@{k} | {' | '.join(names)} | order |", "|---|" + "---:|" * len(names) + "---|"]
        for row in rows:
            if metric in row.values:
                numbers = " | ".join(f"{row.mean(metric, name):.4f}" for name in names)
                lines.append(f"| {row.choice} | {numbers} | {order_of(row.values[metric])} |")
    n_compared, n_reversed, n_clear = reversals(rows)
    lines += [
        "",
        f"Of {n_compared} comparisons of two models (choices other than ours, both metrics), {n_reversed} come out in the other "
        f"order than with ours, {n_clear} of them with both differences more than two standard errors (over users) from 0. "
        f"The order of equal scores moves NDCG by at most {_ties(rows):.1g}, over models and orders. "
        "≈ stands between models that are closer than that. A row k = ... has that k in the place of the heading's.",
    ]
    return "\n".join(lines)


def _ties(rows: list[Row]) -> float:
    """The largest change of a model's NDCG by another order of equal scores."""
    return max((abs(row.mean("ndcg", m) - rows[0].mean("ndcg", m)) for row in rows if row.choice.startswith("ties")
                for m in row.values["ndcg"]), default=0.0)
