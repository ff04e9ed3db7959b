"""Figures of studies: means with what users and seeds leave open, and differences to a reference."""

from __future__ import annotations

import numpy as np

from .frontier import KINDS
from .style import GREY, INK, PALE, new_picture

_ROW = 0.27


def means_over_users(panels, *, xlabel: str = "test NDCG@20"):
    """A dot for each model, its interval over users as a line, its seeds as open circles; a panel for each data set.

    Parameters
    ----------
    panels : sequence of (title, lines, level)
        `lines`: sequence of (name, mean, (low, high) or None, values of the seeds, kind), kinds as in
        :data:`c2f_np.plotting.frontier.KINDS`. `level`: a mean to compare with, drawn as a line, or None.
    xlabel : str

    Returns
    -------
    Picture
    """
    picture, all_axes = _panels(panels)
    for axes, (title, lines, level) in zip(all_axes, panels, strict=True):
        if level is not None:
            axes.axvline(level, color=GREY, linewidth=1, linestyle="--", zorder=0)
        for place, (_, mean, between, seeds, kind) in enumerate(lines):
            colour, marker = KINDS[kind]
            if between is not None:
                axes.plot(between, [place, place], color=colour, linewidth=1.6, zorder=2)
            axes.plot(seeds, np.full(len(seeds), place), marker="o", markersize=4, markerfacecolor="white",
                      markeredgecolor=colour, markeredgewidth=0.8, linestyle="none", zorder=3)
            axes.plot(mean, place, marker=marker, markersize=5.5, color=colour, linestyle="none", zorder=4)
        _name_rows(axes, [line[0] for line in lines])
        axes.set(xlabel=xlabel, title=title)
    return picture


def differences(panels, *, xlabel: str = "difference in test NDCG@20"):
    """What each run has more or less than its reference, with the paired interval over users; a panel for each data set.

    Parameters
    ----------
    panels : sequence of (title, lines)
        `lines`: sequence of (name, difference, (low, high), kind).
    xlabel : str

    Returns
    -------
    Picture
    """
    picture, all_axes = _panels(panels)
    for axes, (title, lines) in zip(all_axes, panels, strict=True):
        axes.axvline(0, color=GREY, linewidth=1, zorder=0)
        for place, (_, mean, between, kind) in enumerate(lines):
            colour, marker = KINDS[kind]
            axes.plot([0, mean], [place, place], color=PALE, linewidth=4, zorder=1, solid_capstyle="butt")
            axes.plot(between, [place, place], color=colour, linewidth=1.6, zorder=2)
            axes.plot(mean, place, marker=marker, markersize=5.5, color=colour, linestyle="none", zorder=3)
        _name_rows(axes, [line[0] for line in lines])
        axes.set(xlabel=xlabel, title=title)
    return picture


def _panels(panels):
    """A picture with a panel below another, as high as they have lines."""
    heights = [max(len(panel[1]), 1) + 2.5 for panel in panels]
    picture, axes = new_picture(7.5, 0.25 + _ROW * sum(heights), len(panels), 1, height_ratios=heights)
    return picture, np.atleast_1d(axes).ravel()


def _name_rows(axes, names) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.06)
