"""Propagation: numbers that spread over a graph, embeddings that become alike, and what the layers do to the spectrum."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import PowerNorm

from .style import CYCLE, GREY, INK, ITEM, LINES, MARKERS, PALE, SIZES, USER, colour_bar, name_curve, new_picture


def spreading(columns: dict[str, np.ndarray], R, user_names=None, item_names=None, *, title: str, label: str = "value"):
    """The bipartite graph of R (U, I), once for every column of numbers, each node filled by its number: users left, items right.

    `columns` maps a panel's title to the numbers of the nodes, users first, none negative; a node with 0 stays white. Colours
    follow the square root, so that small numbers are visible. `label` is that of the colour bar, which all panels share.
    """
    n_users, n_items = R.shape
    x = np.repeat([0.0, 1.0], [n_users, n_items])
    y = np.concatenate([np.linspace(1, 0, n_users), np.linspace(1, 0, n_items)])
    rows, items = R.nonzero()
    scale = PowerNorm(0.5, vmin=0, vmax=max(float(np.max(values)) for values in columns.values()))
    picture, axes = new_picture(9.2, 4.6, 1, len(columns), sharey=True)
    for panel, (name, values) in zip(np.ravel(axes), columns.items(), strict=True):
        for u, i in zip(rows, items + n_users, strict=True):
            panel.plot(x[[u, i]], y[[u, i]], color=GREY, linewidth=0.4, zorder=1)
        panel.scatter(x, y, color="white", s=52, edgecolors=GREY, linewidths=0.6, zorder=2)
        some = np.flatnonzero(values)
        look = {"cmap": SIZES, "norm": scale, "s": 52, "edgecolors": INK, "linewidths": 0.6, "zorder": 3}
        image = panel.scatter(x[some], y[some], c=values[some], **look)
        panel.set(title=name, xlim=(-0.25, 1.25), ylim=(-0.12, 1.04))
        panel.axis("off")
    first, last = np.ravel(axes)[[0, -1]]
    for panel, names, start, shift, side in ((first, user_names, 0, -6, "right"), (last, item_names, n_users, 6, "left")):
        look = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 7, "color": INK}
        for k, name in enumerate(names if names is not None else (), start):
            panel.annotate(name, (x[k], y[k]), (shift, 0), **look)
    first.annotate("users", (0, -0.05), ha="center", va="top", fontsize=8, color=INK, annotation_clip=False)
    first.annotate("items", (1, -0.05), ha="center", va="top", fontsize=8, color=INK, annotation_clip=False)
    picture.suptitle(title, fontsize=11, color=INK)
    bar = colour_bar(picture, image, axes, f"{label} (root scale)", shrink=0.7, aspect=30, pad=0.06)
    bar.set_ticks([0, *(scale.vmax * np.array([0.05, 0.2, 0.5, 1]))])
    bar.ax.yaxis.set_major_formatter("{x:.2g}")
    return picture


def clouds(embeddings: dict[str, np.ndarray], n_users: int, *, title: str):
    """Embeddings of two columns as points, one panel per title; the first `n_users` are users.

    Each panel has its own scale, the same on both axes, with the origin in the middle.
    """
    picture, axes = new_picture(9.2, 3.1, 1, len(embeddings))
    for panel, (name, points) in zip(np.ravel(axes), embeddings.items(), strict=True):
        reach = 1.12 * float(np.abs(points).max())
        panel.axhline(0, color=PALE, linewidth=0.8, zorder=0)
        panel.axvline(0, color=PALE, linewidth=0.8, zorder=0)
        panel.scatter(*points[:n_users].T, color=USER, s=22, edgecolors=INK, linewidths=0.4, label="users")
        panel.scatter(*points[n_users:].T, color=ITEM, s=24, marker="s", edgecolors=INK, linewidths=0.4, label="items")
        panel.set(title=name, xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="column 1")
        panel.locator_params(nbins=5)
    np.ravel(axes)[0].set_ylabel("column 2")
    picture.suptitle(title, fontsize=11, color=INK)
    picture.legend(*np.ravel(axes)[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return picture


def spectrum_and_filters(eigenvalues: np.ndarray, filters: dict[str, tuple[np.ndarray, np.ndarray]], *, title: str):
    """The eigenvalues of a graph in order (left), and the factor each is multiplied by (right).

    `filters` maps a name to the points at which the filter was evaluated and its values there.
    """
    picture, (left, right) = new_picture(9, 3.4, 1, 2)
    order = np.sort(eigenvalues)
    left.axhline(0, color=GREY, linewidth=0.8)
    left.vlines(np.arange(1, len(order) + 1), 0, order, color=CYCLE[0], linewidth=1)
    left.plot(np.arange(1, len(order) + 1), order, "o", color=CYCLE[0], markersize=3.5)
    left.set(xlabel="eigenvalue number, in ascending order", ylabel="eigenvalue", ylim=(-1.1, 1.1))
    left.set_title("Eigenvalues of the graph, in order")
    right.axhline(0, color=GREY, linewidth=0.8)
    for k, (name, (at, values)) in enumerate(filters.items()):
        right.plot(at, values, color=CYCLE[k], linestyle=LINES[k], linewidth=1.6, label=name)
    right.plot(eigenvalues, np.full(len(eigenvalues), -0.16), "|", color=INK, markersize=7)
    right.annotate("the graph's eigenvalues", (-1, -0.16), (0, -6), textcoords="offset points", va="top", fontsize=7, color=INK)
    right.set(xlabel="eigenvalue", ylabel="multiplied by", xlim=(-1.05, 1.05), ylim=(-0.32, 1.08))
    right.set_title("Factor from the mean over the layers")
    right.legend(fontsize=8, frameon=False, loc="upper left")
    picture.suptitle(title, fontsize=11, color=INK)
    return picture


def against_layers(n_layers: np.ndarray, curves: dict[str, np.ndarray], *, ylabel: str, title: str, log: bool = False):
    """Curves by name over the number of layers, named at their ends; `log` makes the vertical axis logarithmic."""
    picture, axes = new_picture(7, 3.2)
    for k, (name, values) in enumerate(curves.items()):
        every = max(len(values) // 8, 1)
        look = {"color": CYCLE[k], "linestyle": LINES[k], "marker": MARKERS[k], "markersize": 4, "markevery": every}
        axes.plot(n_layers, values, **look)
        name_curve(axes, n_layers[-1], values[-1], name, CYCLE[k])
    if log:
        axes.set_yscale("log")
        ylabel += "\n(logarithmic)"
    axes.set(xlabel="number of layers", ylabel=ylabel, title=title)
    axes.margins(x=0.02)
    return picture
