"""Graphs small enough to draw: who interacted with what, the adjacency matrix in blocks, and how uneven degrees are."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from .style import CYCLE, FINE, GREY, INK, ITEM, LINES, PALE, SIGNED, USER, block_lines, new_picture, plain

#: Shape and colour of each kind of node; the shapes tell them apart in grey print.
NODES = {"user": ("o", USER), "item": ("s", ITEM)}
_DASHED = (0, (4, 2))


def bipartite_graph_picture(
    R, user_names=None, item_names=None, *, held_out=None, highlight_user=None, title: str = "", width: float = 6.5, height=None
):
    """Users in a column on the left, items on the right, and a line for each interaction in R (U, I).

    `held_out` holds further interactions, drawn dashed; the lines of `highlight_user` are black and all others pale. Names
    default to u0, u1, ... and i0, i1, ...; `width` and `height` are in inches.
    """
    R = _dense(R)
    rows = max(R.shape)
    picture, axes = new_picture(width, height or max(1.6, 0.6 + 0.24 * rows))
    heights = [np.linspace(rows - 1, 0, n) if n > 1 else np.array([(rows - 1) / 2]) for n in R.shape]
    _lines(axes, R, heights, highlight_user, {"colors": GREY, "linewidths": 1.0, "linestyles": "-"})
    if held_out is not None:
        _lines(axes, _dense(held_out), heights, highlight_user, {"colors": FINE, "linewidths": 1.3, "linestyles": _DASHED})
    handles = []
    sides = (("user", user_names, -9, "right"), ("item", item_names, 9, "left"))
    for x, ((kind, names, shift, side), y) in enumerate(zip(sides, heights, strict=True)):
        marker, colour = NODES[kind]
        axes.scatter(np.full(len(y), x), y, s=70, marker=marker, color=colour, edgecolors=INK, linewidths=0.7, zorder=3)
        look = {"marker": marker, "color": colour, "markeredgecolor": INK, "markeredgewidth": 0.7, "markersize": 7}
        handles.append(Line2D([], [], linestyle="", label=f"{kind}s", **look))
        names = names if names is not None else [f"{kind[0]}{k}" for k in range(len(y))]
        text = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": INK}
        for place, name in zip(y, names, strict=True):
            axes.annotate(str(name), (x, place), xytext=(shift, 0), ha=side, **text)
    if held_out is not None:
        handles.append(Line2D([], [], color=GREY, label="training"))
        handles.append(Line2D([], [], color=FINE, linestyle=_DASHED, label="held out"))
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    longest = max(len(str(name)) for name in user_names) if user_names is not None else 2
    axes.set(xlim=(-0.06 - 0.018 * longest, 1.12), ylim=(-0.7, rows - 0.3))
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_axis_off()
    return picture


def _lines(axes, R: np.ndarray, heights, highlight: int | None, style: dict) -> None:
    """A line for each interaction; those that are not highlighted go pale, behind the others."""
    y_left, y_right = heights
    pairs = np.argwhere(R != 0)
    chosen = np.ones(len(pairs), bool) if highlight is None else pairs[:, 0] == highlight
    for some, colour in ((~chosen, PALE), (chosen, style["colors"] if highlight is None else INK)):
        if some.any():
            points = [[(0, y_left[u]), (1, y_right[i])] for u, i in pairs[some]]
            axes.add_collection(LineCollection(points, zorder=1, **(style | {"colors": colour})))


def block_matrix_picture(matrix, sizes, names, *, title: str = "", width: float = 4.2, height: float = 3.9, show_numbers=None):
    """A matrix (n, n) as coloured squares with lines between its blocks of `sizes` rows, called `names`.

    `show_numbers` writes the entries (default: if n is at most 10); `width` and `height` are in inches.
    """
    matrix = _dense(matrix).astype(float)
    n = len(matrix)
    if sum(sizes) != n or len(sizes) != len(names):
        raise ValueError(f"blocks of {tuple(sizes)} named {tuple(names)} do not make {n} rows")
    picture, axes = new_picture(width, height)
    largest = np.max(np.abs(matrix), initial=0.0) or 1.0
    numbers = show_numbers if show_numbers is not None else n <= 10
    limit = 1.3 * largest if numbers else largest  # the darkest colours would hide the numbers
    image = axes.imshow(matrix, cmap=SIGNED, vmin=-limit, vmax=limit)
    block_lines(axes, sizes, names, linewidth=0.8, fontsize=8)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(GREY)
    if numbers:
        for i, j in np.argwhere(matrix != 0):
            strong = abs(matrix[i, j]) > 0.75 * largest
            axes.text(j, i, f"{matrix[i, j]:.3g}", ha="center", va="center", fontsize=7, color="white" if strong else INK)
    else:
        picture.colorbar(image, ax=axes, shrink=0.7).ax.tick_params(labelsize=8, colors=INK)
    axes.set_title(title, fontsize=10, color=INK)
    return picture


def degree_tail_picture(degrees: dict[str, np.ndarray], *, what: str = "item", title: str = "", width: float = 7.5):
    """How uneven degrees are: sorted degrees, and the share of all interactions that the most popular hold.

    `degrees` maps the name of a data set to the degrees of its users or items, whose kind is `what`; `width` is in inches.
    """
    picture, (left, right) = new_picture(width, 3.0, 1, 2)
    for (name, values), colour, line in zip(degrees.items(), CYCLE, LINES, strict=False):
        values = np.sort(np.asarray(values))[::-1]
        positive = values[values > 0]  # 0 has no place on a logarithmic axis
        left.loglog(1 + np.arange(len(positive)), positive, color=colour, linestyle=line, linewidth=1.6, label=name)
        share = np.concatenate([[0], np.cumsum(values)]) / max(values.sum(), 1)
        right.plot(np.linspace(0, 1, len(share)), share, color=colour, linestyle=line, linewidth=1.6, label=name)
    right.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    right.annotate("all equal", (0.62, 0.6), fontsize=8, color=GREY, va="top")
    left.set(xlabel=f"{what}s, most popular first (log)", ylabel="interactions (log)")
    right.set(xlabel=f"share of the {what}s, most popular first", ylabel="their share of the interactions")
    right.set(xlim=(0, 1), ylim=(0, 1.02))
    for axes in (left, right):
        plain(axes)
    if len(degrees) > 1:
        right.legend(fontsize=8, frameon=False, loc="lower right")
    if title:
        picture.suptitle(title, fontsize=11, color=INK)
    return picture


def _dense(matrix) -> np.ndarray:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
