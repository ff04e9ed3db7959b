"""Costs and what they buy: size against quality, work against work, a graph against a strip, a change against its effect."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..shown import for_figure
from .style import COARSE, FINE, GREY, INK, LINES, PALE, POPULARITY, colour_bar, name_curve, new_picture, plain

#: Colour and marker of each kind of model, and what a legend calls it.
MODEL_STYLES = {
    "popularity": (POPULARITY, "X"), "coarse": (COARSE, "o"), "fine": (FINE, "s"), "other": (INK, "^"), "table": (GREY, "D"),
}  # fmt: skip
KIND_NAMES = {
    "popularity": "popularity", "coarse": "one codebook", "fine": "two codebooks", "other": "others", "table": "full table",
}  # fmt: skip


def size_quality(points, *, ylabel: str = "test NDCG@20", title: str = "", ceiling: tuple[str, float] | None = None):
    """Models by their size in bytes and their quality, with the frontier: what no smaller model reaches.

    `points` holds (name, bytes, quality, kind of :data:`MODEL_STYLES`); `ceiling` is (name, quality), drawn as a line.
    """
    # Every name has a line of its own beside the axes, so many names need a higher picture.
    height = max(4.0, 1.0 + 0.2 * len(points))
    picture, axes = new_picture(7.5, height)
    ordered = sorted(points, key=lambda point: (point[1], -point[2]))
    sizes = [point[1] for point in ordered]
    best = np.maximum.accumulate([point[2] for point in ordered])
    low, high = min(sizes) / 1.6, max(sizes) * 1.6
    band = {"color": PALE, "linewidth": 5, "zorder": 1, "label": "frontier: the best of at most these bytes"}
    axes.step([*sizes, high], [*best, best[-1]], where="post", **band)
    for _, size, quality, kind in ordered:
        colour, marker = MODEL_STYLES[kind]
        axes.plot(size, quality, marker=marker, color=colour, markersize=7, linestyle="none", zorder=3)
    if ceiling is not None:
        axes.axhline(ceiling[1], color=GREY, linewidth=1, linestyle="--", zorder=0)
        axes.text(low * 1.05, ceiling[1], ceiling[0], fontsize=8, color=INK, va="bottom")
    axes.set_xscale("log")
    factors = (1, 3) if high < 3000 * low else (1,)
    axes.xaxis.set_major_locator(FixedLocator([s * 10**e for e in range(2, 10) for s in factors]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    top = max(best[-1], ceiling[1] if ceiling else best[-1])
    axes.set(xlim=(low, high), ylim=(0, top * 1.12), xlabel="bytes of the model (logarithmic)", ylabel=ylabel)
    axes.set(title=for_figure(title))
    for kind in dict.fromkeys(point[3] for point in ordered):
        colour, marker = MODEL_STYLES[kind]
        axes.plot([], [], marker=marker, color=colour, markersize=7, linestyle="none", label=KIND_NAMES[kind])
    picture.legend(*axes.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower center", ncols=5)
    _name_points(axes, ordered, gap=0.052 * top * 4.0 / height)
    return picture


def draw_sizes_apart(picture, points, *, ylabel: str, title: str) -> None:
    """Models by bytes and quality where many have nearly the same bytes: the axis is cut, and each part has a scale of its own.

    `points` are those of :func:`size_quality`. Names stand on the left of a part's smallest size and on the right of the others,
    or over the points if all have one size.
    """
    groups: list[list] = []
    for point in sorted(points, key=lambda point: point[2]):
        group = next((group for group in groups if 0.5 < point[1] / group[0][1] < 2), None)
        if group is None:
            groups.append([point])
        else:
            group.append(point)
    groups.sort(key=lambda group: group[0][1])
    sizes = [sorted({point[1] for point in group}) for group in groups]
    ratios = [6 if len(each) > 1 else 1 for each in sizes]
    all_axes = picture.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=ratios)[0]
    top = 1.15 * max(point[2] for point in points)
    for axes, group, each in zip(all_axes, groups, sizes, strict=True):
        low, high = each[0], each[-1]
        reach = (high - low) or 1
        for side in (-1, 1) if high > low else (0,):
            here = [point for point in group if not side or (point[1] == low) == (side < 0)]
            heights = _apart(np.array([point[2] for point in here]), 0.1 * top) + (0 if side else 0.04 * top)
            for (name, size, quality, kind), height in zip(here, heights, strict=True):
                colour, marker = MODEL_STYLES[kind]
                axes.plot(size, quality, marker=marker, color=colour, markersize=7, linestyle="none", zorder=3)
                words = textwrap.fill(f"{for_figure(name)}, {quality:.3f}", 30 if side else 17)
                axes.annotate(
                    words, (size, quality), ((high if side > 0 else low) + 0.1 * side * reach, height), fontsize=8,
                    ha=("right", "center", "left")[1 + side], va="center" if side else "bottom", in_layout=False,
                    color=INK if colour == GREY else colour, annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6} if side else None,
                )  # fmt: skip
        axes.set_xticks(each, [f"{size:,}" for size in each])
        axes.set(xlim=(low - 0.9 * reach, high + 0.9 * reach), ylim=(0, top))
        plain(axes)
        if axes is not all_axes[0]:
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
    all_axes[0].set_ylabel(ylabel)
    picture.supxlabel("bytes of the model (each part of the axis has its own scale)", fontsize=9, color=INK)
    picture.suptitle(for_figure(title), fontsize=10, color=INK)


def _name_points(axes, points, *, gap: float) -> None:
    """Names in a column on the right in the order of quality, each tied to its point, so that no two names overlap."""
    points = sorted(points, key=lambda point: point[2])
    heights = _apart(np.array([point[2] for point in points]), gap)
    # A column that grew beyond the axes comes down again, as far as there is room below.
    heights -= np.clip(heights[-1] - axes.get_ylim()[1], 0, max(heights[0], 0))
    for (name, size, quality, kind), height in zip(points, heights, strict=True):
        colour = MODEL_STYLES[kind][0] if kind != "popularity" else INK
        right = axes.get_xlim()[1]
        axes.plot([size, right], [quality, height], color=GREY, linewidth=0.6, zorder=2, clip_on=False)
        # Many names make a column that is higher than the axes.
        axes.annotate(for_figure(name), (right, height), xytext=(3, 0), textcoords="offset points", fontsize=8, color=colour,
                      va="center", annotation_clip=False)


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Ascending heights, moved as little as it takes for them to be `gap` apart."""
    heights = heights.copy()
    for _ in range(1000):
        missing = np.maximum(gap - np.diff(heights), 0)
        if missing.max(initial=0) < 1e-3 * gap:
            break
        heights[:-1] -= missing / 2
        heights[1:] += missing / 2
    return heights


def found_groups(table, *, rows: str = "planted group", columns: str = "codebook row", title: str = ""):
    """How many entities of each planted group (rows of `table`, shape (G, C)) went to each codebook row (columns).

    The columns are sorted by the group that most of their entities come from. Small tables show the counts.
    """
    table = np.asarray(table)
    table = table[:, np.lexsort((-table.max(axis=0), table.argmax(axis=0)))]
    picture, axes = new_picture(6.0, 3.4 if table.shape[0] < 20 else 5.6)
    # White is none; the root keeps a single entity visible beside hundreds.
    image = axes.imshow(table, cmap="Blues", aspect="auto", interpolation="nearest", norm=PowerNorm(0.5, vmin=0))
    if table.size <= 150:
        for (row, column), count in np.ndenumerate(table):
            colour = "white" if count > table.max() / 3 else INK
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    axes.set(xlabel=f"{columns} (in the order of the groups)", ylabel=rows, title=title)
    for axis, count in ((axes.xaxis, table.shape[1]), (axes.yaxis, table.shape[0])):
        axis.set_major_locator(FixedLocator(range(0, count, 1 if count <= 16 else 5)))
    colour_bar(picture, image, axes, shrink=0.9).set_label("entities", fontsize=9)
    return picture


def graph_and_strip(rows, columns, blocks, strip, *, names=("the graph", "the strip"), title: str = ""):
    """Where a square graph has entries (darker: more of them), and a dense matrix beside it at the same scale.

    `rows` and `columns` are the places of the stored entries; `blocks` holds (name or "", size) for each kind of node; `strip`
    (N, k) is shaded by the size of its entries.
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
    for corner, *sides in (((0, 0), n, n), ((left, 0), width, height)):
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=GREY, linewidth=0.8, zorder=3))
    edge = 0
    for name, size in blocks:
        for low, high in (((0, n), (edge, edge)), ((edge, edge), (0, n))):
            axes.plot(low, high, color=COARSE, linewidth=0.8, zorder=3)
        if name:
            axes.text(-0.02 * n, edge + size / 2, name, ha="right", va="center", fontsize=8, color=COARSE)
        edge += size
    axes.set(xlim=(-0.27 * n, left + 0.3 * n), ylim=(1.02 * n, -0.1 * n), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for x, name, side in ((n / 2, names[0], "center"), (left, names[1], "left")):
        axes.text(x, -0.03 * n, name, ha=side, va="bottom", fontsize=9, color=INK)
    picture.suptitle(title, fontsize=10)
    return picture


def work_of_two_ways(
    layered: float, collapsed: float, collapsing: float, n_steps: int, *, unit: str = "million multiplications", title: str = ""
):
    """Work over the steps between two assignment updates, through the layers and with the layers collapsed.

    `layered` and `collapsed` are the work of one step; `collapsing` is done once, before the first collapsed step.
    """
    steps = np.arange(n_steps + 1)
    picture, axes = new_picture(6.5, 3.2)
    ways = (("through layers", layered * steps, COARSE), ("collapsed", collapsing + collapsed * steps, FINE))
    for (name, work, colour), line in zip(ways, LINES, strict=False):
        axes.plot(steps, work, color=colour, linestyle=line, linewidth=1.8)
        name_curve(axes, n_steps, work[-1], name, colour)
    axes.set(xlabel="steps until the links change", ylabel=unit, xlim=(0, n_steps * 1.22), ylim=(0, None), title=title)
    axes.set_xticks(range(0, n_steps + 1, max(1, n_steps // 6)))
    return picture


def moved_by(names, values, baseline: float, *, spread: float | None = None, xlabel: str = "test NDCG@20", title: str = ""):
    """How far each change moves a number: dots for its values and their mean, a line at the number without any change.

    `values` holds one value, or several (one per seed), for each name; `spread` is half the width of a band around `baseline`.
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
    axes.set_yticks(range(len(names)), [for_figure(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.12)
    axes.set(xlabel=xlabel, title=for_figure(title))
    return picture
