"""Figures of results: learning curves of a run, and a study's means and differences with what users and seeds leave uncertain."""

from __future__ import annotations

import math

import numpy as np

from ..shown import for_figure
from ..training.phases import TITLES
from .frontier import MODEL_STYLES, draw_sizes_apart
from .style import COARSE, FINE, GREY, INK, POPULARITY, Picture, new_picture, plain


def learning_curves(history: list[dict], table: dict[str, dict], *, title: str = ""):
    """Validation NDCG@5 over the epochs with the phases marked, and test NDCG@20 of each model beside it.

    `history` holds the rows of a training history; `table` maps the name of a model to its test metrics.
    """
    picture, (curves, bars) = new_picture(9, 3.6, 1, 2, width_ratios=(2, 1))
    _draw_curves(curves, history)
    _draw_bars(bars, table)
    if title:
        picture.suptitle(for_figure(title), fontsize=11, color=INK)
    return picture


def demo_figure(stages: list[dict], control: list[dict], joint: list[dict], models, share: float):
    """The demo's figure: learning curves of the two stages with their control and of the default preset; bytes and quality.

    `stages`, `control` and `joint` hold the rows of training histories, `models` (name, bytes, NDCG@20, kind of
    :data:`~c2f_np.plotting.frontier.MODEL_STYLES`), `share` how much of the fine codebook is not zero.
    """
    picture = Picture(figsize=(9.5, 7.4), layout="constrained")
    above, below = picture.subfigures(2, 1, height_ratios=(1, 1.05))
    left, right = above.subplots(1, 2, width_ratios=(1.6, 1), sharey=True)
    _draw_curves(left, stages)
    first = {}
    for epoch, row in enumerate(stages, 1):
        if not math.isnan(row["validation_ndcg@5"]):
            first.setdefault(row["phase"], (epoch, row["validation_ndcg@5"]))
    begin = next(epoch for epoch, row in enumerate(stages) if row["stage"] == "fine")
    points = [(begin + k, row["validation_ndcg@5"]) for k, row in enumerate(control, 1)]
    points = [(epoch, value) for epoch, value in points if value is not None]
    left.plot(*zip(*points, strict=True), color=COARSE, linewidth=1.4, linestyle="--")
    said = "coarse stage continued\ninstead of the fine,\nat the fine rate\n"
    left.text(*points[-1], said, color=COARSE, fontsize=8, ha="right", va="bottom")
    why = {
        "coarse": ("links replaced", (22, -4)),
        "fine_phase1": (f"bridge, fine rows\nswitched on\n({share:.0%} of their\nentries not 0)", (6, -44)),
        "fine": ("fine links\nreplaced", (14, -36)),
    }
    for phase, (text, place) in why.items():
        left.annotate(text, first[phase], place, textcoords="offset points", fontsize=8, color=INK, va="center",
                      arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.8})  # fmt: skip
    names = {name: title.replace(": ", ":\n").replace(", ", ",\n") for name, title in TITLES.items()}
    names["joint"] = "table coded,\ncontinued"
    _draw_curves(right, joint, names=names, model=INK)
    right.set_ylabel("")
    left.set_ylim(0, 1.15 * left.get_ylim()[1])
    left.set_title("Planted data, while training (validation items): the paper's two stages", pad=26, fontsize=10, color=INK)
    right.set_title("Our default, while training", pad=26, fontsize=10, color=INK)
    title = "When trained (test items): quality of every model of the table, and its bytes"
    draw_sizes_apart(below, models, ylabel="test NDCG@20", title=title)
    return picture


def _draw_curves(axes, history: list[dict], *, names: dict[str, str] = TITLES, model: str = FINE) -> None:
    """Curves of the phases one after the other, with their names above; `model` is the colour of those that end in the model."""
    start = 0
    for phase in dict.fromkeys(row["phase"] for row in history):
        values = [row["validation_ndcg@5"] for row in history if row["phase"] == phase]
        colour = COARSE if phase.startswith("coarse") else GREY if phase == "table" else model
        points = [(start + k, value) for k, value in enumerate(values, 1) if not math.isnan(value)]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, linewidth=1.4)
        if start:
            axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=":")
        middle = start + 0.5 + len(values) / 2
        axes.text(middle, 1.01, names[phase], transform=axes.get_xaxis_transform(), ha="center", fontsize=7, color=colour)
        start += len(values)
    axes.set(xlabel="epoch", ylabel="validation NDCG@5", xlim=(0, start + 1))
    plain(axes)


def _draw_bars(axes, table: dict[str, dict]) -> None:
    names = list(table)
    values = [table[name]["ndcg@20"] for name in names]
    grey = (TITLES["popularity"], TITLES["table"])  # for comparison
    colours = [POPULARITY if name in grey else COARSE if name.startswith("coarse,") else FINE for name in names]
    axes.barh(range(len(names)), values, color=colours, height=0.6)
    for position, value in enumerate(values):
        axes.text(value, position, f" {value:.4f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="test NDCG@20", xlim=(0, max(values) * 1.25 or 1))
    plain(axes)


def means_over_users(panels, *, xlabel: str):
    """A dot for each model, its interval over users as a line, its seeds as open circles; one panel for each data set.

    `panels` holds (title, lines, level or None), a line being (name, mean, (low, high) or None, values of the seeds, kind of
    :data:`~c2f_np.plotting.frontier.MODEL_STYLES`); `level` is a mean to compare with.
    """
    picture, all_axes = _panels(panels, xlabel)
    for axes, (_, lines, level) in zip(all_axes, panels, strict=True):
        if level is not None:
            axes.axvline(level, color=GREY, linewidth=1, linestyle="--", zorder=0)
        for place, (_, mean, between, seeds, kind) in enumerate(lines):
            colour, marker = MODEL_STYLES[kind]
            if between is not None:
                axes.plot(between, [place, place], color=colour, linewidth=1.6, zorder=2)
            axes.plot(seeds, np.full(len(seeds), place), marker="o", markersize=4, markerfacecolor="white",
                      markeredgecolor=colour, markeredgewidth=0.8, linestyle="none", zorder=3)
            axes.plot(mean, place, marker=marker, markersize=5.5, color=colour, linestyle="none", zorder=4)
    return picture


def differences_to_reference(panels, *, xlabel: str):
    """How far each run lies above or below its reference, with the paired interval; one panel for each data set.

    `panels` holds (title, lines), a line being (name, difference, (low, high), kind).
    """
    picture, all_axes = _panels(panels, xlabel)
    for axes, (_, lines) in zip(all_axes, panels, strict=True):
        axes.axvline(0, color=GREY, linewidth=1, zorder=0)
        for place, (_, mean, between, kind) in enumerate(lines):
            colour, marker = MODEL_STYLES[kind]
            axes.plot(between, [place, place], color=colour, linewidth=1.6, zorder=2)
            axes.plot(mean, place, marker=marker, markersize=5.5, color=colour, linestyle="none", zorder=3)
    return picture


def _panels(panels, xlabel: str):
    """Panels one below the other, each as high as it has lines, with the lines' names."""
    heights = [max(len(lines), 1) + 2.5 for _, lines, *_ in panels]
    picture, all_axes = new_picture(7.5, 0.25 + 0.27 * sum(heights), len(panels), 1, height_ratios=heights)
    for axes, (title, lines, *_) in zip(np.ravel(all_axes), panels, strict=True):
        axes.set_yticks(range(len(lines)), [for_figure(line[0]) for line in lines], fontsize=8, color=INK)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.margins(x=0.06)
        axes.set(xlabel=xlabel, title=for_figure(title))
    return picture, np.ravel(all_axes)
