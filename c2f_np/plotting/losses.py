"""Pictures of the loss and what follows from it: slopes, triples in the plane, gathered gradients, Adam's first steps."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from .style import COARSE, CYCLE, FINE, GREY, INK, ITEM, LINES, PALE, USER, new_picture

#: A colour for each role in a triple: user, positive, negative.
ROLE_COLOURS = (USER, ITEM, FINE)
# Frame of an entity that only one thread adds to.
_ALONE = {"edgecolor": GREY, "linewidth": 0.8}


def loss_and_slope(x, losses: dict[str, np.ndarray], slopes: dict[str, np.ndarray]):
    """Losses by name over x = score(positive) - score(negative), and beside them how strongly each pulls, minus its derivative.

    The first curve is in full colour, the others are dashed.
    """
    picture, axes = new_picture(8, 3, 1, 2)
    for each, curves, label in ((axes[0], losses, "loss of one triple"), (axes[1], slopes, "minus the derivative")):
        for k, (name, y) in enumerate(curves.items()):
            colour = COARSE if k == 0 else INK
            each.plot(x, y, color=colour, linestyle=LINES[k], linewidth=1.8 if k == 0 else 1.2, label=name)
        each.axvline(0, color=PALE, linewidth=0.8, zorder=0)
        each.set(xlabel="x = score(positive) - score(negative)", ylabel=label, ylim=(0, None))
        each.legend(frameon=False, fontsize=8, loc="upper right")
    axes[0].set_title("The loss of a pair of items", fontsize=10)
    axes[1].set_title("How strongly it pulls", fontsize=10)
    for x, text, side in ((0.02, "order wrong", "left"), (0.98, "order right", "right")):
        axes[0].text(x, 0.07, text, transform=axes[0].transAxes, fontsize=8, color=GREY, ha=side)
    return picture


def triple_in_the_plane(points, arrows, names, roles):
    """Embeddings as points of the plane, shape (n, 2), and arrows to where a descent step pulls them.

    `roles` holds 0 (user), 1 (positive) or 2 (negative) for each point.
    """
    picture, axes = new_picture(4.6, 3.8)
    points, arrows = np.asarray(points, dtype=float), np.asarray(arrows, dtype=float)
    for place, arrow, name, role in zip(points, arrows, names, roles, strict=True):
        colour = ROLE_COLOURS[role]
        axes.plot([0, place[0]], [0, place[1]], color=PALE, linewidth=1, zorder=0)
        look = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", place + arrow, place, arrowprops=look)
        axes.plot(*place, marker="os^"[role], color=colour, markersize=9, markeredgecolor=INK)
        side = -1 if arrow[1] > 0 else 1
        axes.annotate(name, place, xytext=(0, 13 * side), textcoords="offset points", ha="center", va="center", fontsize=9)
    axes.plot(0, 0, marker="+", color=GREY, markersize=9)
    ends = np.concatenate([points, points + arrows, [[0, 0]]])
    room = 0.22 * np.ptp(ends, axis=0).max()
    axes.set(xlim=(ends[:, 0].min() - room, ends[:, 0].max() + room), ylim=(ends[:, 1].min() - room, ends[:, 1].max() + room))
    axes.set_aspect("equal")
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    axes.set_title("Arrows: one step of descent on a triple", fontsize=10)
    return picture


def scatter_and_gather(slots, entities, owner_of_slot, names):
    """The same contributions twice: scattered by the triples, and gathered by the entities.

    Each line has the colour and dash of the thread that adds: on the left that of the triple, on the right that of the entity.
    Where lines of two threads meet (bold frame), the threads conflict. `slots` names every slot (a triple in a role), `entities`
    and `owner_of_slot` give its entity and its triple, and `names` are those of the entities.
    """
    picture, axes = new_picture(9.5, 3.4, 1, 2)
    entities, owner_of_slot = np.asarray(entities), np.asarray(owner_of_slot)
    x_slots, x_names = np.linspace(0, 1, len(slots)), np.linspace(0.08, 0.92, len(names))
    sides = (owner_of_slot, "Scatter: one thread per triple"), (entities, "Gather: one thread per entity")
    for each, (owner, title) in zip(axes, sides, strict=True):
        for slot, entity in enumerate(entities):
            thread = int(owner[slot])
            look = {"color": CYCLE[thread % len(CYCLE)], "linestyle": LINES[thread % len(LINES)], "linewidth": 1.5}
            each.plot([x_slots[slot], x_names[entity]], [0.84, 0.16], **look)
            each.text(x_slots[slot], 0.92, slots[slot], ha="center", va="center", fontsize=8, color=INK)
        for entity, name in enumerate(names):
            edge = {"edgecolor": INK, "linewidth": 2} if len(set(owner[entities == entity])) > 1 else _ALONE
            box = {"boxstyle": "round", "facecolor": "white", **edge}
            each.text(x_names[entity], 0.08, name, ha="center", va="center", fontsize=9, color=INK, bbox=box)
        each.set(xlim=(-0.07, 1.07), ylim=(-0.02, 1.02), title=title)
        each.set_axis_off()
    words = "colour and dash: the thread that adds     thick frame: two threads write to one entity"
    picture.supxlabel(words, fontsize=8, color=INK)
    return picture


def free_ranks(taken, n_items: int, rank: int | None = None):
    """The items 0 to n_items - 1 in a row: those a user has (`taken`), and the free ones ranked among themselves.

    The free item of rank `rank` is marked.
    """
    picture, axes = new_picture(7, 1.5)
    taken = set(int(item) for item in taken)
    free = [item for item in range(n_items) if item not in taken]
    for item in range(n_items):
        mine = item in taken
        chosen = rank is not None and not mine and free.index(item) == rank
        frame = {"linewidth": 2.6, "zorder": 3} if chosen else {"linewidth": 0.8, "zorder": 2}
        axes.add_patch(Rectangle((item - 0.45, -0.45), 0.9, 0.9, facecolor=ITEM if mine else "white", edgecolor=INK, **frame))
        axes.text(item, 0, str(item), ha="center", va="center", fontsize=9, color="white" if mine else INK, zorder=4)
        if not mine:
            weight = "bold" if chosen else "normal"
            axes.text(item, -0.8, str(free.index(item)), ha="center", va="center", fontsize=9, color=FINE, fontweight=weight)
    for y, text, colour in ((0, "item", INK), (-0.8, "rank among those she lacks", FINE)):
        axes.text(-0.8, y, text, ha="right", va="center", fontsize=9, color=colour)
    axes.set(xlim=(-4.2, n_items - 0.4), ylim=(-1.2, 0.6))
    words = "Filled: the items that a user has" + (f"; thick frame: the item of rank {rank}" if rank is not None else "")
    axes.set_title(words, fontsize=9)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return picture


def first_steps(steps, lengths: dict[str, np.ndarray]):
    """Lengths of Adam's steps by name, in units of the learning rate."""
    picture, axes = new_picture(6.4, 2.9)
    for k, (name, values) in enumerate(lengths.items()):
        axes.plot(steps, values, color=CYCLE[k], linestyle=LINES[k], linewidth=1.6, label=name)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xscale("log")
    axes.set(xlabel="step (logarithmic)", ylabel="step length / learning rate", ylim=(0, None), xlim=(1, steps[-1]))
    axes.set_title("How far Adam moves a number, step by step", fontsize=10)
    return picture


def loss_and_order(steps, loss, share, *, title: str, start: float | None = None):
    """A training loss, and beside it the share of pairs in the right order (0 to 1).

    `start` is a loss to mark: that of a model that cannot tell items apart.
    """
    picture, axes = new_picture(8, 2.8, 1, 2)
    axes[0].plot(steps, loss, color=COARSE, linewidth=1.6)
    if start is not None:
        axes[0].axhline(start, color=GREY, linewidth=0.9, linestyle="--")
        look = {"textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 8, "color": GREY}
        axes[0].annotate("all scores equal: log 2", (steps[-1], start), xytext=(0, -4), **look)
    axes[0].set(xlabel="step", ylabel="BPR loss of the batch", ylim=(0, None))
    axes[1].plot(steps, share, color=COARSE, linewidth=1.6)
    axes[1].set(xlabel="step", ylabel="share in the right order", ylim=(0, 1.02))
    axes[0].set_title("Loss of every batch", fontsize=10)
    axes[1].set_title("Pairs of the last batch in the right order", fontsize=10)
    picture.suptitle(title, fontsize=11, color=INK)
    return picture


def compared_losses(curves: dict[str, np.ndarray], *, title: str, ylabel: str = "loss of the batch"):
    """Losses by name over the steps; the first is broad and pale, so that one that lies on it can be seen."""
    picture, axes = new_picture(7.2, 3.0)
    looks = ({"color": COARSE, "linewidth": 5, "alpha": 0.35}, *({"color": c, "linewidth": 1.2} for c in (INK, ITEM, USER)))
    for (name, losses), look in zip(curves.items(), looks, strict=False):
        axes.plot(np.arange(1, len(losses) + 1), losses, label=name, **look)
    axes.set(xlabel="step", ylabel=ylabel, title=title)
    axes.legend(frameon=False, fontsize=8)
    return picture


def quality_by_round(curves: dict[str, tuple], references: dict[str, float], *, title: str, ylabel: str):
    """Curves by name, each (rounds, values), and horizontal lines to compare with; the name of a line stands above it."""
    picture, axes = new_picture(7.2, 3.4)
    for k, (name, (rounds, values)) in enumerate(curves.items()):
        axes.plot(rounds, values, color=CYCLE[k], linestyle=LINES[k], marker="os^"[k], markersize=5, linewidth=1.7, label=name)
    for name, value in references.items():
        axes.axhline(value, color=GREY, linewidth=1, linestyle=":")
        above = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points", "ha": "right"}
        axes.annotate(name, (0.99, value), fontsize=8, color=GREY, va="bottom", **above)
    axes.set(xlabel="round of training", ylabel=ylabel, title=title, ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return picture
