"""Learning curves."""

from __future__ import annotations

import math

from .style import COARSE, FINE, GREY, INK, POPULARITY, new_picture, plain

_LABELS = {"partition": "from a partition", "table": "a row for every entity", "joint": "coarse and fine, jointly"}


def learning_curves(history: list[dict], table: dict[str, dict], *, title: str = ""):
    """Validation NDCG@5 over the epochs with the phases marked, and test NDCG@20 of each model beside it.

    Parameters
    ----------
    history : list of dict
        Rows of a training history.
    table : dict of str to dict
        Test metrics of each model, by its name.
    title : str

    Returns
    -------
    Picture
    """
    figure, (curves, bars) = new_picture(9, 3.6, 1, 2, width_ratios=(2, 1))
    _draw_curves(curves, history)
    _draw_bars(bars, table)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _draw_curves(axes, history: list[dict]) -> None:
    start = 0
    phases = list(dict.fromkeys(row["phase"] for row in history))
    for phase in phases:
        rows = [row for row in history if row["phase"] == phase]
        colour = COARSE if phase.startswith("coarse") else GREY if phase == "table" else FINE
        points = [
            (start + k + 1, row["validation_ndcg@5"])
            for k, row in enumerate(rows)
            if not math.isnan(row["validation_ndcg@5"])
        ]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, linewidth=1.4)
        if start:
            axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=":")
        label = _LABELS.get(phase) or (phase.replace("_phase1", ", phase 1") if "_" in phase else f"{phase}, phase 2")
        middle = start + 0.5 + len(rows) / 2
        axes.text(middle, 1.01, label, transform=axes.get_xaxis_transform(), ha="center", fontsize=7, color=colour)
        start += len(rows)
    axes.set(xlabel="epoch", ylabel="validation NDCG@5", xlim=(0, start + 1))
    plain(axes)


def _draw_bars(axes, table: dict[str, dict]) -> None:
    names = list(table)
    values = [table[name]["ndcg@20"] for name in names]
    grey = ("popularity", "a row each")  # for comparison
    colours = [POPULARITY if name in grey else COARSE if name.startswith("coarse,") else FINE for name in names]
    axes.barh(range(len(names)), values, color=colours, height=0.6)
    for position, value in enumerate(values):
        axes.text(value, position, f" {value:.4f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="test NDCG@20", xlim=(0, max(values) * 1.25 or 1))
    plain(axes)
