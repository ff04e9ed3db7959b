"""Functions of one number: their slopes and kinks, the objectives they minimise, and their effect on a codebook."""

from __future__ import annotations

import numpy as np

from .style import COARSE, CYCLE, FINE, GREY, INK, LINES, MARKERS, PALE, colour_bar, heat_map, name_curve, new_picture


def function_and_slope(x: np.ndarray, y: np.ndarray, slope: np.ndarray, kinks: dict, *, title: str):
    """A function (left) and its slope (right); at each kink both one-sided slopes, a dot for the one that is taken.

    `kinks` maps the place of a kink to the function's value there, the slope that is *not* taken and the slope that is; no x may
    lie at a kink.
    """
    picture, (left, right) = new_picture(8.6, 3.2, 1, 2)
    for axes in (left, right):
        axes.axhline(0, color=PALE, linewidth=0.8, zorder=0)
        axes.axvline(0, color=PALE, linewidth=0.8, zorder=0)
    left.plot(x, x, color=GREY, linewidth=0.9, linestyle="--")
    name_curve(left, x[-1], x[-1], "identity", GREY)
    left.plot(x, y, color=FINE, linewidth=1.8)
    edges = [-np.inf, *sorted(kinks), np.inf]
    for low, high in zip(edges, edges[1:], strict=False):
        piece = (x > low) & (x < high)
        right.plot(x[piece], slope[piece], color=FINE, linewidth=1.8)
    for place, (value, other, taken) in kinks.items():
        left.plot(place, value, "o", color=FINE, markersize=5)
        right.plot([place, place], [other, taken], color=GREY, linewidth=0.8, linestyle=":")
        right.plot(place, other, "o", color=FINE, markerfacecolor="white", markersize=6)
        right.plot(place, taken, "o", color=FINE, markersize=6)
    left.set(xlabel="e", ylabel="f(e)", title="The function (dots: its kinks)")
    right.set(xlabel="e", ylabel="slope f'(e)", ylim=(-0.15, 1.15), title="Its slope (dot: taken, ring: not taken)")
    picture.suptitle(title, fontsize=11, color=INK)
    return picture


def objectives(panels: dict[str, tuple[np.ndarray, dict[str, np.ndarray], float]], *, title: str):
    """An objective and its parts, with the minimum of the objective marked.

    `panels` maps a title to x, the named curves over x, the objective first, and the minimiser.
    """
    picture, axes = new_picture(9.2, 3.1, 1, len(panels), sharey=True)
    for panel, (name_of_panel, (x, curves, best)) in zip(np.ravel(axes), panels.items(), strict=True):
        panel.axvline(0, color=PALE, linewidth=0.8, zorder=0)
        for k, (name, y) in enumerate(curves.items()):
            colour = (FINE, COARSE, GREY)[k % 3]
            panel.plot(x, y, color=colour, linestyle=LINES[k], linewidth=1.9 if k == 0 else 1.1, label=name)
        lowest = np.interp(best, x, next(iter(curves.values())))
        panel.plot(best, lowest, "o", color=INK, markersize=6, zorder=4)
        look = {"ha": "center", "fontsize": 8, "color": INK, "arrowprops": {"arrowstyle": "-", "color": INK, "linewidth": 0.7}}
        panel.annotate(f"minimum at {best:g}", (best, lowest), (0, 28), textcoords="offset points", **look)
        panel.set(title=name_of_panel, xlabel="x")
    handles = np.ravel(axes)[0].get_legend_handles_labels()
    np.ravel(axes)[0].set_ylabel("value")
    picture.legend(*handles, fontsize=8, frameon=False, loc="outside lower center", ncols=3)
    picture.suptitle(title, fontsize=11, color=INK)
    return picture


def against_threshold(thresholds: np.ndarray, curves: dict[str, np.ndarray], *, ylabel: str, title: str, mark: float):
    """Shares (0 to 1) over the threshold: the first curve, what is expected, as a line; counts as markers.

    `mark` is a threshold to point at.
    """
    picture, axes = new_picture(6.4, 3.2)
    for k, (name, values) in enumerate(curves.items()):
        style = {"linestyle": "-"} if k == 0 else {"linestyle": "none", "marker": MARKERS[k], "markersize": 5}
        axes.plot(thresholds, values, color=CYCLE[k], label=name, **style)
    axes.axvline(mark, color=GREY, linewidth=0.9, linestyle=":")
    axes.text(mark, 0.02, f" threshold {mark:g}", fontsize=8, color=INK, va="bottom")
    axes.set(xlabel="threshold", ylabel=ylabel, ylim=(0, 1.02), title=title)
    axes.margins(x=0.02)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return picture


def shrinking(E: np.ndarray, F: np.ndarray, tau: float):
    """A codebook E (M, d) before and F after soft thresholding by `tau`: as heat maps on one scale, and entry against entry."""
    reach = float(np.abs(E).max())
    picture, (before, after, points) = new_picture(9.2, 3.1, 1, 3, width_ratios=(1, 1, 1.4))
    for axes, values, title in ((before, E, "Before: E"), (after, F, f"After: F, {np.mean(F == 0):.0%} zeros")):
        image = heat_map(axes, values, reach)
        axes.set(title=title, xlabel="column", ylabel="row")
        axes.spines[["top", "right"]].set_visible(True)
    colour_bar(picture, image, [before, after], "entry", shrink=0.85)
    points.axvspan(-tau, tau, facecolor="none", edgecolor=GREY, hatch="///", linewidth=0, alpha=0.6)
    points.axhline(0, color=PALE, linewidth=0.8, zorder=0)
    points.plot([-reach, reach], [-reach, reach], color=GREY, linewidth=0.8, linestyle="--")
    points.plot(E.ravel(), F.ravel(), "o", color=FINE, markersize=3.5)
    points.set(xlabel="entry of E", ylabel="entry of F", title=f"Threshold {tau:g} (dead zone hatched)")
    return picture


def trajectories(panels: dict[str, tuple[np.ndarray, float]], targets: np.ndarray, *, title: str, ylabel: str = "value"):
    """Numbers over the steps of a training, with their targets as markers at the right edge.

    `panels` maps a title to the numbers, shape (steps + 1, K), and to half the width of a hatched band around 0 (0 for none);
    `targets` has shape (K,).
    """
    picture, axes = new_picture(9.2, 3.3, 1, len(panels), sharey=True)
    for panel, (name, (values, band)) in zip(np.ravel(axes), panels.items(), strict=True):
        steps = np.arange(len(values))
        if band:
            panel.axhspan(-band, band, facecolor="none", edgecolor=PALE, hatch="///", linewidth=0, zorder=0)
        panel.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        for k in range(values.shape[1]):
            panel.plot(steps, values[:, k], color=CYCLE[k], linestyle=LINES[k], linewidth=1.7)
            panel.plot(0, values[0, k], MARKERS[k], color=CYCLE[k], markersize=5)
            panel.plot(steps[-1] * 1.08, targets[k], MARKERS[k], color=CYCLE[k], markersize=6)
        panel.text(steps[-1] * 1.08, 0.99, "targets", transform=panel.get_xaxis_transform(), ha="center", va="top", fontsize=8)
        panel.set(title=name, xlabel="step", xlim=(-steps[-1] * 0.03, steps[-1] * 1.17))
    np.ravel(axes)[0].set_ylabel(ylabel)
    picture.suptitle(title, fontsize=11, color=INK)
    return picture
