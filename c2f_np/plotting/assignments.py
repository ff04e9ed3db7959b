"""Assignments and codebooks as heat maps: which rows an entity is made of, before and after."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from .style import GREY, INK, block_lines, colour_bar, heat_map, new_picture


def heat_maps(
    panels: dict[str, np.ndarray],
    *,
    title: str,
    row_names: dict[str, list[str]] | None = None,
    row_kinds: dict[str, str] | None = None,
    height: float = 4.6,
):
    """Matrices (name to matrix) side by side, each with its own colour scale below it; zero is white.

    By the name of the panel, `row_names` gives the names of the rows and `row_kinds` says what they are; `height` is in inches.
    """
    # Each panel is as wide as it has columns, within reason.
    widths = [np.clip(matrix.shape[1], 5, 16) for matrix in panels.values()]
    picture, axes = new_picture(9.2, height, 1, len(panels), width_ratios=widths)
    for panel, (name, matrix) in zip(np.ravel(axes), panels.items(), strict=True):
        image = _framed_heat_map(panel, matrix)
        panel.set(title=name, xlabel="column", ylabel=(row_kinds or {}).get(name, ""))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
        names = (row_names or {}).get(name)
        if names is not None:
            panel.set_yticks(range(len(names)), names, fontsize=6.5)
        _colour_bar_below(picture, image, panel)
    picture.suptitle(title, fontsize=11, color=INK)
    return picture


def before_and_after(
    before: np.ndarray, after: np.ndarray, *, title: str, row_names: list[str] | None = None, names=("Before", "After")
):
    """An assignment (N, C) before and after a change, and the difference.

    NaN stands for an entry that is not stored; it is crossed out.
    """
    picture, axes = new_picture(8.6, 1.4 + 0.2 * len(before), 1, 3, sharey=True)
    reach = float(np.nanmax(np.abs([before, after])))
    for panel, matrix, name in zip(axes, (before, after, after - before), (*names, "Change"), strict=True):
        image = _framed_heat_map(panel, np.nan_to_num(matrix), reach)
        rows, columns = np.nonzero(np.isnan(matrix))
        panel.plot(columns, rows, "x", color=GREY, markersize=3, markeredgewidth=0.6)
        panel.set(title=name, xlabel="codebook row")
        panel.set_xticks(range(matrix.shape[1]))
    if row_names is not None:
        axes[0].set_yticks(range(len(row_names)), row_names, fontsize=6.5)
    colour_bar(picture, image, axes, "weight", shrink=0.8, aspect=25)
    picture.suptitle(f"{title} (crosses: no link)", fontsize=11, color=INK)
    return picture


def codebooks(E_coarse: np.ndarray, refined: np.ndarray, E_hat: np.ndarray, gate: float):
    """The coarse codebook (C, d), what the fine rows say about it, and their mixture, on one scale.

    `gate` is the share of `refined` in the mixture `E_hat`.
    """
    titles = ("$E_c$, coarse", "$S_f F$, from the fine rows", f"$\\hat E$: {1 - gate:.1f} of the first, {gate:.1f} of the second")
    picture, axes = new_picture(9.2, 2.6, 1, 3, sharey=True)
    reach = float(max(np.abs(E_coarse).max(), np.abs(refined).max()))
    for panel, matrix, title in zip(axes, (E_coarse, refined, E_hat), titles, strict=True):
        image = _framed_heat_map(panel, matrix, reach)
        panel.set(title=title, xlabel="column")
        panel.title.set_fontsize(9)
        panel.set_yticks(range(len(matrix)))
    axes[0].set_ylabel("coarse row")
    colour_bar(picture, image, axes, "value", shrink=0.8, aspect=25)
    picture.suptitle("The bridge mixes the coarse codebook with fine rows", fontsize=11, color=INK)
    return picture


def block_matrices(matrices: dict[str, np.ndarray], sizes: dict[str, int], *, title: str):
    """Square matrices (name to matrix) over the same nodes, each with its own colour scale, with lines between kinds of nodes.

    `sizes` gives the kinds of nodes in order and the number of each; they add up to the side of the matrices.
    """
    picture, axes = new_picture(9.2, 4.0, 1, len(matrices))
    for panel, (name, matrix) in zip(np.ravel(axes), matrices.items(), strict=True):
        image = _framed_heat_map(panel, matrix)
        panel.set_aspect("equal")
        _colour_bar_below(picture, image, panel)
        block_lines(panel, list(sizes.values()), list(sizes), linewidth=0.7, fontsize=7, rotation=90)
        panel.set_title(name)
    picture.suptitle(title, fontsize=11, color=INK)
    return picture


def _framed_heat_map(axes, matrix: np.ndarray, reach: float | None = None):
    axes.spines[["top", "right"]].set_visible(True)
    return heat_map(axes, matrix, float(np.abs(matrix).max()) if reach is None else reach)


def _colour_bar_below(picture, image, panel) -> None:
    bar = colour_bar(picture, image, panel, size=7, location="bottom", shrink=0.9, aspect=25, pad=0.02)
    bar.set_label("entry", fontsize=7)
    bar.ax.locator_params(nbins=4)
