"""Graphs small enough to draw: who interacted with what, the coarse and fine nodes beneath, and how uneven degrees are.

Shapes
------
R : (U, I)     S_coarse : (U + I, C)     S_fine : (C, M), sparse or dense; an entry that is not zero is an edge
"""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from .style import COARSE, CYCLE, FINE, GREY, INK, ITEM, LINES, PALE, SIGNED, USER, new_picture, plain

#: Shape and colour of each kind of node; the shapes tell them apart in grey print.
NODES = {"user": ("o", USER), "item": ("s", ITEM), "coarse": ("D", COARSE), "fine": ("^", FINE)}


def bipartite_graph_picture(
    R, user_names=None, item_names=None, *, held_out=None, highlight_user=None, title: str = "", width: float = 6.5, height=None
):
    """Users in a column on the left, items in a column on the right, a line for each interaction.

    Parameters
    ----------
    R : sparse or dense matrix, shape (U, I)
    user_names, item_names : sequence of str, optional
        By default u0, u1, ... and i0, i1, ...
    held_out : matrix, shape (U, I), optional
        Further interactions, drawn dashed.
    highlight_user : int, optional
        The lines of this user are drawn in black, all others pale.
    title : str
    width, height : float, optional
        Inches; by default the height follows the number of nodes.

    Returns
    -------
    Picture
    """
    R = _dense(R)
    n_users, n_items = R.shape
    rows = max(n_users, n_items)
    picture, axes = new_picture(width, height or max(1.6, 0.6 + 0.24 * rows))
    y_user, y_item = _column(n_users, rows), _column(n_items, rows)
    solid = {"colors": GREY, "linewidths": 1.0, "linestyles": "-"}
    _lines(axes, np.argwhere(R != 0), y_user, y_item, highlight_user, solid)
    if held_out is not None:
        dashed = {"colors": FINE, "linewidths": 1.3, "linestyles": (0, (4, 2))}
        _lines(axes, np.argwhere(_dense(held_out) != 0), y_user, y_item, highlight_user, dashed)
    _nodes(axes, "user", np.zeros(n_users), y_user)
    _nodes(axes, "item", np.ones(n_items), y_item)
    text = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": INK}
    for y, name in zip(y_user, user_names if user_names is not None else _numbered("u", n_users), strict=True):
        axes.annotate(str(name), (0, y), xytext=(-9, 0), ha="right", **text)
    for y, name in zip(y_item, item_names if item_names is not None else _numbered("i", n_items), strict=True):
        axes.annotate(str(name), (1, y), xytext=(9, 0), ha="left", **text)
    handles = [_node_handle("user", "users"), _node_handle("item", "items")]
    if held_out is not None:
        handles += [
            Line2D([], [], color=GREY, label="training"),
            Line2D([], [], color=FINE, linestyle=(0, (4, 2)), label="held out"),
        ]
    _legend(picture, handles)
    longest = max([len(str(name)) for name in user_names] if user_names is not None else [2])
    axes.set(xlim=(-0.06 - 0.018 * longest, 1.12), ylim=(-0.7, rows - 0.3))
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_axis_off()
    return picture


def expanded_graph_picture(
    R,
    S_coarse,
    S_fine=None,
    *,
    user_names=None,
    item_names=None,
    coarse_names=None,
    fine_names=None,
    show_weights: bool = False,
    highlight: int | None = None,
    title: str = "",
    width: float = 7.5,
    height=None,
):
    """The graph with its meta nodes, in the order of the matrix's rows: entities, under them coarse nodes, then fine nodes.

    Users and then items stand in one row, interactions are arcs above it. Lines below are weights: the thicker the larger (in
    absolute value), dashed where negative.

    Parameters
    ----------
    R : sparse or dense matrix, shape (U, I)
    S_coarse : sparse or dense matrix, shape (U + I, C)
    S_fine : sparse or dense matrix, shape (C, M), optional
        Without it there is no fine row.
    user_names, item_names, coarse_names, fine_names : sequence of str, optional
        By default u0, ..., i0, ..., c0, ..., f0, ...
    show_weights : bool
        Write each weight on its line; for graphs of a few nodes.
    highlight : int, optional
        Number of an entity (users first). Its ways are drawn in black, all other lines pale: its interactions, its coarse nodes,
        and the fine nodes of those.
    title : str
    width, height : float, optional
        Inches.

    Returns
    -------
    Picture
    """
    R, S_coarse = _dense(R), _dense(S_coarse)
    S_fine = None if S_fine is None else _dense(S_fine)
    n_users, n_items = R.shape
    n = n_users + n_items
    if S_coarse.shape[0] != n:
        raise ValueError(f"S_coarse has {S_coarse.shape[0]} rows, but there are {n_users} + {n_items} entities")
    picture, axes = new_picture(width, height or (3.2 if S_fine is None else 4.3))
    # A gap of one place between users and items; meta nodes are spread over the same width.
    x_entity = np.concatenate([np.arange(n_users), n_users + 1 + np.arange(n_items)]).astype(float)
    x_coarse = _spread(S_coarse.shape[1], x_entity[-1])
    y_entity, y_coarse, y_fine = 0.0, -1.0, -2.0

    names = [*(user_names if user_names is not None else _numbered("u", n_users))]
    names += [*(item_names if item_names is not None else _numbered("i", n_items))]
    upright = n > 20  # names side by side would overlap; the arcs begin above them
    base = 0.055 * max(map(len, map(str, names))) + 0.15 if upright else 0.0
    top = _arcs(axes, np.argwhere(R != 0), x_entity[:n_users], x_entity[n_users:], base, highlight, n_users)
    mine = None if highlight is None else {(highlight, c) for c in np.flatnonzero(S_coarse[highlight])}
    _weights(axes, S_coarse, x_entity, y_entity, x_coarse, y_coarse, COARSE, mine, show_weights)
    if S_fine is not None:
        x_fine = _spread(S_fine.shape[1], x_entity[-1])
        ways = None if highlight is None else {(c, m) for _, c in mine for m in np.flatnonzero(S_fine[c])}
        _weights(axes, S_fine, x_coarse, y_coarse, x_fine, y_fine, FINE, ways, show_weights)

    _nodes(axes, "user", x_entity[:n_users], np.full(n_users, y_entity))
    _nodes(axes, "item", x_entity[n_users:], np.full(n_items, y_entity))
    for x, name in zip(x_entity, names, strict=True):
        axes.annotate(
            str(name), (x, y_entity), xytext=(0, 7), textcoords="offset points", ha="center", va="bottom",
            fontsize=6 if upright else 8, color=INK, rotation=90 if upright else 0, bbox=None if upright else _BEHIND,
        )  # fmt: skip
    _nodes(axes, "coarse", x_coarse, np.full(len(x_coarse), y_coarse))
    _names_right(axes, x_coarse, y_coarse, coarse_names if coarse_names is not None else _numbered("c", len(x_coarse)))
    handles = [_node_handle("user", "users"), _node_handle("item", "items"), _node_handle("coarse", "coarse nodes")]
    if S_fine is not None:
        _nodes(axes, "fine", x_fine, np.full(len(x_fine), y_fine))
        _names_right(axes, x_fine, y_fine, fine_names if fine_names is not None else _numbered("f", len(x_fine)))
        handles.append(_node_handle("fine", "fine nodes"))
    if any(S is not None and (S < 0).any() for S in (S_coarse, S_fine)):
        handles.append(Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="negative weight"))
    _legend(picture, handles)
    bottom = -2.3 if S_fine is not None else -1.3
    axes.set(xlim=(-0.7, x_entity[-1] + 0.7), ylim=(bottom, top + 0.08))
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_axis_off()
    return picture


def block_matrix_picture(matrix, sizes, names, *, title: str = "", width: float = 4.2, height: float = 3.9, show_numbers=None):
    """A matrix as coloured squares with lines between its blocks; the same node order as in the graph.

    Parameters
    ----------
    matrix : sparse or dense matrix, shape (n, n)
    sizes : sequence of int
        Of the blocks; they sum to n.
    names : sequence of str
        Of the blocks, on both sides.
    title : str
    width, height : float
        Inches.
    show_numbers : bool, optional
        Write the entries; by default where n is at most 10.

    Returns
    -------
    Picture
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
    for edge in np.cumsum(sizes)[:-1] - 0.5:
        axes.axhline(edge, color=INK, linewidth=0.8)
        axes.axvline(edge, color=INK, linewidth=0.8)
    middles = np.cumsum(sizes) - np.asarray(sizes) / 2 - 0.5
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
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

    Parameters
    ----------
    degrees : dict of str to ndarray of int, shape (n,)
        Degrees of one data set or of a few, by name; zeros are drawn in the right panel only.
    what : str
        What has the degrees, for the axes.
    title : str
    width : float
        Inches.

    Returns
    -------
    Picture
    """
    picture, (left, right) = new_picture(width, 3.0, 1, 2)
    for (name, values), colour, line in zip(degrees.items(), CYCLE, LINES, strict=False):
        values = np.sort(np.asarray(values))[::-1]
        positive = values[values > 0]
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


_BEHIND = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def _dense(matrix) -> np.ndarray:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _numbered(letter: str, n: int) -> list[str]:
    return [f"{letter}{k}" for k in range(n)]


def _column(n: int, rows: int) -> np.ndarray:
    """Heights of n nodes, the first on top, spread over the whole height."""
    return np.linspace(rows - 1, 0, n) if n > 1 else np.array([(rows - 1) / 2])


def _spread(n: int, last: float) -> np.ndarray:
    """Places of n nodes in the middle of n equal parts of [0, last]."""
    return (np.arange(n) + 0.5) * last / n


def _nodes(axes, kind: str, x, y) -> None:
    marker, colour = NODES[kind]
    axes.scatter(x, y, s=70, marker=marker, color=colour, edgecolors=INK, linewidths=0.7, zorder=3)


def _node_handle(kind: str, label: str) -> Line2D:
    marker, colour = NODES[kind]
    look = {"marker": marker, "color": colour, "markeredgecolor": INK, "markeredgewidth": 0.7, "markersize": 7}
    return Line2D([], [], linestyle="", label=label, **look)


def _legend(picture, handles) -> None:
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)


def _names_right(axes, x, y: float, names) -> None:
    for place, name in zip(x, names, strict=True):
        look = {"ha": "left", "va": "center", "fontsize": 8, "color": INK, "bbox": _BEHIND}
        axes.annotate(str(name), (place, y), xytext=(8, 0), textcoords="offset points", **look)


def _lines(axes, pairs, y_left, y_right, highlight, style) -> None:
    """Lines from the left column to the right one; those that are not highlighted go pale."""
    if not len(pairs):
        return
    chosen = np.ones(len(pairs), bool) if highlight is None else pairs[:, 0] == highlight
    for some, look in ((~chosen, {**style, "colors": PALE}), (chosen, style if highlight is None else {**style, "colors": INK})):
        starts, ends = pairs[some, 0], pairs[some, 1]
        if len(starts):
            points = [[(0, y_left[u]), (1, y_right[i])] for u, i in zip(starts, ends, strict=True)]
            axes.add_collection(LineCollection(points, zorder=1, **look))


def _arcs(axes, pairs, x_user, x_item, base: float, highlight, n_users: int) -> float:
    """Interactions as arcs above the row of entities, from the height `base`, the wider the higher; the greatest height."""
    span = x_item[-1] - x_user[0] if len(x_item) and len(x_user) else 1.0
    top = base
    for u, i in pairs:
        mine = highlight is None or highlight in (u, n_users + i)
        height = 1.5 * (x_item[i] - x_user[u]) / span  # of the control points; the arc reaches 3/4 of it
        top = max(top, base + 0.75 * height)
        curve = Path(
            [(x_user[u], base), (x_user[u], base + height), (x_item[i], base + height), (x_item[i], base)],
            [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
        )
        colour = (GREY if highlight is None else INK) if mine else PALE
        axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=colour, linewidth=1.0, zorder=2 if mine else 1))
    return max(top, 0.3)


def _weights(axes, S, x_top, y_top, x_bottom, y_bottom, colour, chosen, show_weights: bool) -> None:
    largest = np.max(np.abs(S), initial=0.0) or 1.0
    written: list[tuple[float, float]] = []
    for i, j in np.argwhere(S != 0):
        mine = chosen is None or (i, j) in chosen
        axes.plot(
            [x_top[i], x_bottom[j]],
            [y_top, y_bottom],
            color=(colour if chosen is None else INK) if mine else PALE,
            linewidth=0.5 + 2.2 * abs(S[i, j]) / largest,
            linestyle=(0, (4, 2)) if S[i, j] < 0 else "-",
            zorder=2 if mine else 1,
        )
        if show_weights and mine:
            x, y = _free_place(written, (x_top[i], y_top), (x_bottom[j], y_bottom), x_scale=x_top[-1] - x_top[0])
            axes.text(x, y, f"{S[i, j]:.3g}", fontsize=7, color=INK, ha="center", va="center", bbox=_BEHIND, zorder=4)


def _free_place(written: list, start, end, x_scale: float) -> tuple[float, float]:
    """The place along a line that is farthest from all labels written so far; it is added to them."""
    along = np.linspace(0.2, 0.75, 12)[:, None]
    places = (1 - along) * np.asarray(start) + along * np.asarray(end)
    stretch = np.array([6.0 / max(x_scale, 1e-9), 4.0])  # a label is wider than it is high
    gaps = [min((np.linalg.norm((p - w) * stretch) for w in map(np.asarray, written)), default=9.0) for p in places]
    written.append(tuple(places[int(np.argmax(np.minimum(gaps, 0.9)))]))
    return written[-1]
