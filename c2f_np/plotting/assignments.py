"""Assignments and codebooks as heat maps: who is made of what, before and after."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator

from .style import GREY, INK, SIGNED, new_picture


def heat_maps(panels: dict[str, np.ndarray], *, row_names: dict[str, list[str]] | None = None, height: float = 4.6):
    """Matrices beside each other, each on a scale of its own, below it; zero is white.

    Parameters
    ----------
    panels : dict of str to ndarray, shape (rows, columns)
        Title and matrix; each as wide as it has columns, within reason.
    row_names : dict of str to list of str, optional
        For the panels of these titles.
    height : float
        Inches.

    Returns
    -------
    Picture
    """
    widths = [np.clip(matrix.shape[1], 5, 16) for matrix in panels.values()]
    picture, axes = new_picture(9.2, height, 1, len(panels), width_ratios=widths)
    for panel, (title, matrix) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        drawn = _heat_map(panel, matrix, float(np.abs(matrix).max()))
        panel.set(title=title, xlabel="column")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
        names = (row_names or {}).get(title)
        if names is not None:
            panel.set_yticks(range(len(names)), names, fontsize=6.5)
        _own_colour_bar(picture, drawn, panel)
    return picture


def before_and_after(before: np.ndarray, after: np.ndarray, *, row_names: list[str] | None = None, titles=("before", "after")):
    """An assignment before and after something, and the difference; entries that are not stored are crossed out.

    Parameters
    ----------
    before, after : ndarray, shape (N, C)
        NaN where nothing is stored.
    row_names : list of str, optional
    titles : pair of str

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(8.6, 1.4 + 0.2 * len(before), 1, 3, sharey=True)
    change = after - before
    reach = float(np.nanmax(np.abs([before, after])))
    for panel, matrix, title in zip(axes, (before, after, change), (*titles, "change"), strict=True):
        drawn = _heat_map(panel, np.nan_to_num(matrix), reach)
        rows, columns = np.nonzero(np.isnan(matrix))
        panel.plot(columns, rows, "x", color=GREY, markersize=3, markeredgewidth=0.6)
        panel.set(title=title, xlabel="codebook row")
        panel.set_xticks(range(matrix.shape[1]))
    if row_names is not None:
        axes[0].set_yticks(range(len(row_names)), row_names, fontsize=6.5)
    _colour_bar(picture, drawn, axes, "weight")
    return picture


def codebooks(E_coarse: np.ndarray, refined: np.ndarray, E_hat: np.ndarray, gate: float):
    """The coarse codebook, what the fine one says about it, and the mixture of both, on one scale.

    Parameters
    ----------
    E_coarse, refined, E_hat : ndarray, shape (C, d)
    gate : float
        Share of `refined` in `E_hat`.

    Returns
    -------
    Picture
    """
    titles = ("$E_c$, coarse", "$S_f F$, from the fine rows", f"$\\hat E$: {gate:.2f} of the second, {1 - gate:.2f} of the first")
    picture, axes = new_picture(9.2, 2.6, 1, 3, sharey=True)
    reach = float(max(np.abs(E_coarse).max(), np.abs(refined).max()))
    for panel, matrix, title in zip(axes, (E_coarse, refined, E_hat), titles, strict=True):
        drawn = _heat_map(panel, matrix, reach)
        panel.set(title=title, xlabel="column")
        panel.title.set_fontsize(9)
        panel.set_yticks(range(len(matrix)))
    axes[0].set_ylabel("coarse row")
    _colour_bar(picture, drawn, axes, "value")
    return picture


def block_matrices(matrices: dict[str, np.ndarray], sizes: dict[str, int]):
    """Square matrices over the same nodes, with lines between the kinds of nodes; each has a scale and a colour bar of its own.

    Parameters
    ----------
    matrices : dict of str to ndarray, shape (n, n)
    sizes : dict of str to int
        Kinds of nodes, in order, and how many of each; they add up to n.

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(9.2, 4.0, 1, len(matrices))
    ends = np.cumsum(list(sizes.values()))
    middles = ends - np.array(list(sizes.values())) / 2 - 0.5
    for panel, (title, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        drawn = _heat_map(panel, matrix, float(np.abs(matrix).max()))
        panel.set_aspect("equal")
        _own_colour_bar(picture, drawn, panel)
        for end in ends[:-1]:
            panel.axhline(end - 0.5, color=INK, linewidth=0.7)
            panel.axvline(end - 0.5, color=INK, linewidth=0.7)
        panel.set_xticks(middles, sizes, fontsize=7, rotation=90)
        panel.set_yticks(middles, sizes, fontsize=7)
        panel.tick_params(length=0)
        panel.set_title(title)
    return picture


def _heat_map(axes, matrix: np.ndarray, reach: float):
    axes.spines[["top", "right"]].set_visible(True)
    return axes.imshow(matrix, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")


def _colour_bar(picture, drawn, axes, label: str) -> None:
    bar = picture.colorbar(drawn, ax=list(np.atleast_1d(axes)), shrink=0.8, aspect=25)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(label, fontsize=8)


def _own_colour_bar(picture, drawn, panel) -> None:
    bar = picture.colorbar(drawn, ax=panel, location="bottom", shrink=0.9, aspect=25, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.ax.locator_params(nbins=4)
