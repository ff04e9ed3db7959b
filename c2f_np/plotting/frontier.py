"""Bargains: what is paid and what is had for it. Size against quality, work against work, a graph against a strip."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .style import COARSE, FINE, GREY, INK, LINES, PALE, POPULARITY, SIZES, new_picture

#: Kinds of points: colour and marker.
KINDS = {
    "popularity": (POPULARITY, "X"),
    "coarse": (COARSE, "o"),
    "fine": (FINE, "s"),
    "other": (INK, "^"),
}


def size_quality(points, *, ylabel: str = "test NDCG@20", title: str = "", ceiling: tuple[str, float] | None = None):
    """Models by their bytes and their quality, with the frontier: what no smaller model reaches.

    Parameters
    ----------
    points : sequence of (name, bytes, quality, kind)
        `kind` is one of :data:`KINDS`.
    ylabel, title : str
    ceiling : (name, quality), optional
        A level to compare with, drawn as a line.

    Returns
    -------
    Picture
    """
    # Every name has a line of its own beside the axes, so many names need a higher picture.
    height = max(4.0, 1.0 + 0.2 * len(points))
    picture, axes = new_picture(7.5, height)
    ordered = sorted(points, key=lambda point: (point[1], -point[2]))
    best, frontier = -np.inf, []
    for point in ordered:
        if point[2] > best:
            best = point[2]
            frontier.append(point)
    sizes = [point[1] for point in ordered]
    low, high = min(sizes) / 1.6, max(sizes) * 1.6
    steps_x = [p[1] for p in frontier] + [high]
    steps_y = [p[2] for p in frontier] + [best]
    axes.step(steps_x, steps_y, where="post", color=PALE, linewidth=5, zorder=1)
    for _, size, quality, kind in ordered:
        colour, marker = KINDS[kind]
        axes.plot(size, quality, marker=marker, color=colour, markersize=7, linestyle="none", zorder=3)
    if ceiling is not None:
        axes.axhline(ceiling[1], color=GREY, linewidth=1, linestyle="--", zorder=0)
        axes.text(low * 1.05, ceiling[1], ceiling[0], fontsize=8, color=INK, va="bottom")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([s * 10**e for e in range(2, 9) for s in (1, 3)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    top = max([best] + ([ceiling[1]] if ceiling else []))
    axes.set(xlim=(low, high), ylim=(0, top * 1.12), xlabel="bytes of the model (logarithmic)", ylabel=ylabel, title=title)
    _name_points(axes, ordered, gap=0.052 * top * 4.0 / height)
    return picture


def _name_points(axes, points, *, gap: float) -> None:
    """Names in a column to the right, in the order of quality, each tied to its point; no name lies on another."""
    points = sorted(points, key=lambda point: point[2])
    heights = _apart(np.array([point[2] for point in points]), gap)
    # A column that grew beyond the axes comes down again, as far as there is room below.
    heights -= np.clip(heights[-1] - axes.get_ylim()[1], 0, max(heights[0], 0))
    for (name, size, quality, kind), height in zip(points, heights, strict=True):
        colour = KINDS[kind][0] if kind != "popularity" else INK
        right = axes.get_xlim()[1]
        axes.plot([size, right], [quality, height], color=GREY, linewidth=0.6, zorder=2, clip_on=False)
        # Many names make a column that is higher than the axes.
        axes.annotate(name, (right, height), xytext=(3, 0), textcoords="offset points", fontsize=8, color=colour, va="center",
                      annotation_clip=False)


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Ascending heights, moved as little as it takes to be `gap` apart."""
    heights = heights.copy()
    for _ in range(1000):
        missing = np.maximum(gap - np.diff(heights), 0)
        if missing.max(initial=0) < 1e-3 * gap:
            break
        heights[:-1] -= missing / 2
        heights[1:] += missing / 2
    return heights


def found_groups(table, *, rows: str = "planted group", columns: str = "codebook row", title: str = ""):
    """Which group went to which row of a codebook: counts, the columns put in the order of the rows they mostly hold.

    Parameters
    ----------
    table : ndarray of int, shape (G, C)
    rows, columns, title : str

    Returns
    -------
    Picture
    """
    table = np.asarray(table)
    order = np.lexsort((-table.max(axis=0), table.argmax(axis=0)))
    picture, axes = new_picture(6.0, 3.4 if table.shape[0] < 20 else 5.6)
    image = axes.imshow(table[:, order], cmap=SIZES, aspect="auto", interpolation="nearest", vmin=0)
    axes.set(xlabel=f"{columns} (in the order of the groups)", ylabel=rows, title=title)
    for axis, count in ((axes.xaxis, table.shape[1]), (axes.yaxis, table.shape[0])):
        axis.set_major_locator(FixedLocator(range(0, count, 1 if count <= 16 else 5)))
    bar = picture.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("entities", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return picture


def graph_and_strip(rows, columns, blocks, strip, *, names=("the graph", "the strip")):
    """Where a square graph has entries (darker: more of them), and a dense matrix beside it at the same scale.

    Parameters
    ----------
    rows, columns : ndarray of int
        Of the stored entries.
    blocks : sequence of (name, size)
        Kinds of nodes, in order; sizes add up to n for a graph of n x n. A name may be empty.
    strip : ndarray, shape (N, k)
        Drawn by the size of its entries.
    names : (str, str)

    Returns
    -------
    Picture
    """
    n = sum(size for _, size in blocks)
    strip = np.sqrt(np.abs(np.asarray(strip)))
    left = 1.12 * n
    cells = np.histogram2d(rows, columns, bins=min(n, 232), range=((0, n), (0, n)))[0]
    picture, axes = new_picture(6.0, 4.8)
    shades = {"interpolation": "nearest", "zorder": 2}
    axes.imshow(cells, extent=(0, n, n, 0), cmap="Greys", vmax=np.quantile(cells[cells > 0], 0.995), **shades)
    width, height = strip.shape[1], len(strip)
    axes.imshow(strip, extent=(left, left + width, height, 0), cmap="Greys", vmin=0, vmax=np.quantile(strip, 0.98), **shades)
    axes.add_patch(_frame(0, 0, n, n))
    axes.add_patch(_frame(left, 0, width, height))
    edge = 0
    for name, size in blocks:
        for low, high in (((0, n), (edge, edge)), ((edge, edge), (0, n))):
            axes.plot(low, high, color=COARSE, linewidth=0.8, zorder=3)
        if name:
            axes.text(-0.02 * n, edge + size / 2, name, ha="right", va="center", fontsize=8, color=COARSE)
        edge += size
    axes.set(xlim=(-0.27 * n, left + 0.3 * n), ylim=(1.02 * n, -0.1 * n), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.text(n / 2, -0.03 * n, names[0], ha="center", va="bottom", fontsize=9, color=INK)
    axes.text(left, -0.03 * n, names[1], ha="left", va="bottom", fontsize=9, color=INK)
    return picture


def _frame(x: float, y: float, width: float, height: float):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, edgecolor=GREY, linewidth=0.8, zorder=3)


def work_of_two_ways(layered: float, collapsed: float, collapsing: float, n_steps: int, *, unit: str = "million multiplications"):
    """Work over the steps between two assignment updates: so much a step, or some at once and less a step.

    Parameters
    ----------
    layered, collapsed, collapsing : float
        A step of either kind, and what has to be done once for the second.
    n_steps : int
    unit : str

    Returns
    -------
    Picture
    """
    steps = np.arange(n_steps + 1)
    picture, axes = new_picture(6.5, 3.2)
    axes.plot(steps, layered * steps, color=COARSE, linestyle=LINES[0], linewidth=1.8)
    axes.plot(steps, collapsing + collapsed * steps, color=FINE, linestyle=LINES[1], linewidth=1.8)
    axes.set(xlabel="steps until the assignments change", ylabel=unit, xlim=(0, n_steps * 1.22), ylim=(0, None))
    axes.set_xticks(range(0, n_steps + 1, max(1, n_steps // 6)))
    axes.annotate("through layers", (n_steps, layered * n_steps), xytext=(4, 0), textcoords="offset points", fontsize=8,
                  va="center", color=COARSE)
    axes.annotate("collapsed", (n_steps, collapsing + collapsed * n_steps), xytext=(4, 0), textcoords="offset points",
                  fontsize=8, va="center", color=FINE)
    return picture


def moved_by(names, values, baseline: float, *, spread: float | None = None, xlabel: str = "test NDCG@20", title: str = ""):
    """What each change does to a number: a dot for each, a line for what it is without a change, a band for what seeds do.

    Parameters
    ----------
    names : sequence of str
    values : sequence of float, or of sequences of float
        One value or several (e.g. seeds) for each name.
    baseline : float
    spread : float, optional
        Half the width of the band.
    xlabel, title : str

    Returns
    -------
    Picture
    """
    values = [np.atleast_1d(each) for each in values]
    picture, axes = new_picture(7.0, 0.9 + 0.36 * len(names))
    if spread is not None:
        axes.axvspan(baseline - spread, baseline + spread, color=PALE, zorder=0, linewidth=0)
    axes.axvline(baseline, color=GREY, linewidth=1, zorder=1)
    for place, each in enumerate(values):
        mean = float(each.mean())
        axes.plot([baseline, mean], [place, place], color=FINE, linewidth=1.6, zorder=2)
        axes.plot(each, np.full(len(each), place), marker="o", markersize=4, markerfacecolor="white", markeredgecolor=FINE,
                  linestyle="none", zorder=3)
        axes.plot(mean, place, marker="s", markersize=6, color=FINE, linestyle="none", zorder=4)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.12)
    axes.set(xlabel=xlabel, title=title)
    return picture
