"""Pictures of the loss and of what follows it: slopes, triples in the plane, gathered gradients, Adam's first steps."""

from __future__ import annotations

import numpy as np

from .style import COARSE, CYCLE, FINE, GREY, INK, ITEM, LINES, PALE, USER, new_picture

#: One colour, hatch-free but of different lightness, for each role in a triple.
ROLE_COLOURS = (USER, ITEM, FINE)


def loss_and_slope(x, losses: dict[str, np.ndarray], slopes: dict[str, np.ndarray]):
    """Losses over the difference of two scores, and their derivatives beside them.

    Parameters
    ----------
    x : ndarray, shape (n,)
        score(negative) - score(positive).
    losses, slopes : dict of str to ndarray, shape (n,)
        Curves by name; the first in full colour, others grey and dashed.

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(8, 3, 1, 2)
    for each, curves, label in ((axes[0], losses, "loss of one triple"), (axes[1], slopes, "derivative")):
        for k, (name, y) in enumerate(curves.items()):
            colour = COARSE if k == 0 else INK
            each.plot(x, y, color=colour, linestyle=LINES[k], linewidth=1.8 if k == 0 else 1.2, label=name)
        each.axvline(0, color=PALE, linewidth=0.8, zorder=0)
        each.set(xlabel="x = score(negative) - score(positive)", ylabel=label, ylim=(0, None))
        each.legend(frameon=False, fontsize=8, loc="upper left")
    axes[0].text(0.02, 0.07, "order right", transform=axes[0].transAxes, fontsize=8, color=GREY)
    axes[0].text(0.98, 0.07, "order wrong", transform=axes[0].transAxes, fontsize=8, color=GREY, ha="right")
    return picture


def triple_in_the_plane(points, arrows, names, roles):
    """Embeddings as points of the plane, and where a descent step pulls each.

    Parameters
    ----------
    points, arrows : ndarray, shape (n, 2)
        Embeddings and their displacements.
    names : sequence of str
    roles : sequence of int
        0 user, 1 positive, 2 negative; decides the colour.

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(4.6, 3.8)
    points, arrows = np.asarray(points, dtype=float), np.asarray(arrows, dtype=float)
    for place, arrow, name, role in zip(points, arrows, names, roles, strict=True):
        colour = ROLE_COLOURS[role]
        axes.plot([0, place[0]], [0, place[1]], color=PALE, linewidth=1, zorder=0)
        axes.annotate(
            "", place + arrow, place, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
        )
        axes.plot(*place, marker="os^"[role], color=colour, markersize=9, markeredgecolor=INK)
        side = -1 if arrow[1] > 0 else 1
        axes.annotate(name, place, xytext=(0, 13 * side), textcoords="offset points", ha="center", va="center", fontsize=9)
    axes.plot(0, 0, marker="+", color=GREY, markersize=9)
    ends = np.concatenate([points, points + arrows, [[0, 0]]])
    room = 0.22 * np.ptp(ends, axis=0).max()
    axes.set(xlim=(ends[:, 0].min() - room, ends[:, 0].max() + room), ylim=(ends[:, 1].min() - room, ends[:, 1].max() + room))
    axes.set_aspect("equal")
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    return picture


def scatter_and_gather(slots, entities, owner_of_slot, names):
    """The same contributions twice: handed out by the triples, and collected by the entities.

    Lines have the colour and dash of whoever does the adding: on the left the thread of a triple, on the right the thread of an
    entity. An entity that lines of two threads reach is a place where they get into each other's way.

    Parameters
    ----------
    slots : sequence of str
        Name of each slot (a triple in a role).
    entities : ndarray of int, shape (n_slots,)
        Entity number of each slot.
    owner_of_slot : ndarray of int, shape (n_slots,)
        The triple of each slot.
    names : sequence of str
        Of the entities.

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(9.5, 3.4, 1, 2)
    entities, owner_of_slot = np.asarray(entities), np.asarray(owner_of_slot)
    x_slots = np.linspace(0, 1, len(slots))
    x_names = np.linspace(0.08, 0.92, len(names))
    for each, owner, title in (
        (axes[0], owner_of_slot, "scatter: one thread per triple"),
        (axes[1], entities, "gather: one thread per entity"),
    ):
        for slot, entity in enumerate(entities):
            thread = int(owner[slot])
            each.plot(
                [x_slots[slot], x_names[entity]],
                [0.84, 0.16],
                color=CYCLE[thread % len(CYCLE)],
                linestyle=LINES[thread % len(LINES)],
                linewidth=1.5,
            )
            each.text(x_slots[slot], 0.92, slots[slot], ha="center", va="center", fontsize=8, color=INK)
        for entity, name in enumerate(names):
            threads = len({int(t) for t in owner[entities == entity]})
            shared = threads > 1
            each.text(
                x_names[entity], 0.08, name, ha="center", va="center", fontsize=9, color=INK,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": INK if shared else GREY,
                      "linewidth": 2 if shared else 0.8},
            )  # fmt: skip
        each.set(xlim=(-0.07, 1.07), ylim=(-0.02, 1.02), title=title)
        each.set_axis_off()
    return picture


def free_ranks(taken, n_items: int, rank: int | None = None):
    """The items of a catalogue in a row: those a user has, and the others numbered among themselves.

    Parameters
    ----------
    taken : sequence of int
        Items the user has.
    n_items : int
    rank : int, optional
        The free item of this rank is marked.

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(7, 1.5)
    taken = set(int(item) for item in taken)
    free = [item for item in range(n_items) if item not in taken]
    for item in range(n_items):
        mine = item in taken
        chosen = rank is not None and not mine and free.index(item) == rank
        frame = {"linewidth": 2.6, "zorder": 3} if chosen else {"linewidth": 0.8, "zorder": 2}
        axes.add_patch(_box(item, 0, facecolor=ITEM if mine else "white", edgecolor=INK, **frame))
        axes.text(item, 0, str(item), ha="center", va="center", fontsize=9, color="white" if mine else INK, zorder=4)
        if not mine:
            axes.text(item, -0.8, str(free.index(item)), ha="center", va="center", fontsize=9, color=FINE,
                      fontweight="bold" if chosen else "normal")  # fmt: skip
    axes.text(-0.8, 0, "item", ha="right", va="center", fontsize=9, color=INK)
    axes.text(-0.8, -0.8, "rank among the free", ha="right", va="center", fontsize=9, color=FINE)
    axes.set(xlim=(-4.2, n_items - 0.4), ylim=(-1.2, 0.6))
    axes.set_aspect("equal")
    axes.set_axis_off()
    return picture


def first_steps(steps, lengths: dict[str, np.ndarray]):
    """Length of Adam's steps, in units of the learning rate, under a gradient that does not change.

    Parameters
    ----------
    steps : ndarray of int, shape (n,)
    lengths : dict of str to ndarray, shape (n,)

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(6.4, 2.9)
    for k, (name, values) in enumerate(lengths.items()):
        axes.plot(steps, values, color=CYCLE[k], linestyle=LINES[k], linewidth=1.6, label=name)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xscale("log")
    axes.set(xlabel="step (logarithmic)", ylabel="step length / learning rate", ylim=(0, None), xlim=(1, steps[-1]))
    return picture


def _box(x: float, y: float, size: float = 0.9, **style):
    from matplotlib.patches import Rectangle

    return Rectangle((x - size / 2, y - size / 2), size, size, **style)


def loss_and_order(steps, loss, share, *, start: float | None = None):
    """A training loss, and beside it the share of pairs in the right order.

    Parameters
    ----------
    steps, loss, share : ndarray, shape (n,)
        `share` between 0 and 1.
    start : float, optional
        A loss to mark with a line: what a model that cannot tell items apart has.

    Returns
    -------
    Picture
    """
    picture, axes = new_picture(8, 2.8, 1, 2)
    axes[0].plot(steps, loss, color=COARSE, linewidth=1.6)
    if start is not None:
        axes[0].axhline(start, color=GREY, linewidth=0.9, linestyle="--")
        axes[0].annotate(
            "nothing known", (steps[-1], start), xytext=(0, -4), textcoords="offset points",
            ha="right", va="top", fontsize=8, color=GREY,
        )  # fmt: skip
    axes[0].set(xlabel="step", ylabel="BPR loss of the batch", ylim=(0, None))
    axes[1].plot(steps, share, color=COARSE, linewidth=1.6)
    axes[1].set(xlabel="step", ylabel="share in the right order", ylim=(0, 1.02))
    return picture
