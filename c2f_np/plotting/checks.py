"""Pictures of gradient checks: secants, the error against the step, the Taylor remainder, what a set of tests catches."""

from __future__ import annotations

import numpy as np

from .style import CYCLE, GREY, INK, LINES, MARKERS, PALE, new_picture

#: Errors that are exactly 0 have no place on a logarithmic axis and are drawn here.
FLOOR = 1e-17


def secant_picture(x, y, pairs: dict[str, tuple], *, tangent=None, title: str = "", width: float = 5.0):
    """A function (x, y) and straight lines through two of its points: what a difference quotient measures.

    `pairs` maps the name of a secant to its points (x1, y1, x2, y2); `tangent` is (x, y, slope); `width` is in
    inches.
    """
    picture, axes = new_picture(width, 3.0)
    axes.plot(x, y, color=INK, linewidth=1.8, label="f")
    limits = axes.get_xlim(), axes.get_ylim()
    ends = np.asarray(limits[0])
    if tangent is not None:
        x0, y0, slope = tangent
        axes.plot(ends, y0 + slope * (ends - x0), color=GREY, linewidth=1.2, linestyle=":", label=f"tangent, slope {slope:.3g}")
    for (name, (x1, y1, x2, y2)), colour, line, marker in zip(pairs.items(), CYCLE[1:], LINES[1:], MARKERS[1:], strict=False):
        slope = (y2 - y1) / (x2 - x1)
        label = f"{name}, slope {slope:.3g}"
        axes.plot(ends, y1 + slope * (ends - x1), color=colour, linewidth=1.2, linestyle=line, label=label)
        axes.plot([x1, x2], [y1, y2], color=colour, marker=marker, linestyle="", markersize=6)
    axes.set(xlim=limits[0], ylim=limits[1], xlabel="x", ylabel="f(x)")
    axes.set_title(title, fontsize=10, color=INK)
    axes.legend(fontsize=8, frameon=False)
    return picture


def v_curve_picture(steps, errors: dict[str, np.ndarray], *, title: str = "", width: float = 6.5, height: float = 3.8):
    """Relative errors of numerical derivatives (name of the method to errors) against the step, both axes logarithmic.

    Errors of 0 are drawn at the lower edge; `width` and `height` are in inches.
    """
    picture, axes = new_picture(width, height)
    _logarithmic_curves(axes, steps, errors)
    eps = float(np.finfo(float).eps)
    axes.axhline(eps, color=GREY, linewidth=0.8, linestyle=":")
    axes.annotate("rounding unit, eps", (max(steps), eps), ha="right", va="bottom", fontsize=8, color=GREY)
    axes.set(xlabel="step h (log)", ylabel="relative error (log)", ylim=(FLOOR / 2, 10))
    axes.set_title(title, fontsize=10, color=INK)
    axes.legend(fontsize=8, frameon=False, loc="upper center", ncols=len(errors), bbox_to_anchor=(0.5, 1.0))
    return picture


def taylor_picture(steps, remainders: dict[str, np.ndarray], *, title: str = "", width: float = 6.0, height: float = 3.6):
    """Taylor remainders against the step, with guide lines that fall like h and like h squared.

    `remainders` maps the name of a gradient g to |f(x + h v) - f(x) - h <g, v>|; `width` and `height` are in inches.
    """
    picture, axes = new_picture(width, height)
    steps = np.asarray(steps, dtype=float)
    _logarithmic_curves(axes, steps, remainders)
    lowest, highest = axes.get_ylim()
    start = max(np.max(values) for values in remainders.values())
    quarter = np.argsort(steps)[len(steps) // 4]
    look = {"xytext": (-6, 6), "textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 8, "color": GREY}
    for power, name in ((1, "like h"), (2, "like h²")):
        guide = 3 * start * (steps / steps.max()) ** power
        axes.loglog(steps, guide, color=PALE, linewidth=4, zorder=0)
        axes.annotate(name, (steps[quarter], guide[quarter]), **look)
    axes.set(xlabel="step h (log)", ylabel="remainder (log)", ylim=(lowest, 10 * highest))
    axes.set_title(title, fontsize=10, color=INK)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return picture


def _logarithmic_curves(axes, steps, curves: dict[str, np.ndarray]) -> None:
    for (name, values), colour, line, marker in zip(curves.items(), CYCLE, LINES, MARKERS, strict=False):
        look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 3.5, "linewidth": 1.4}
        axes.loglog(steps, np.maximum(values, FLOOR), label=name, **look)


def caught_picture(caught, mistakes, tests, *, title: str = "", width: float = 7.0, height=None):
    """Which test rejects which mistake: a filled square where it does, an empty one where the mistake passes.

    `caught` has a row for each of the names `mistakes` and a column for each of the names `tests`, NaN (a dash) where a test does
    not apply; `width` and `height` are in inches.
    """
    caught = np.asarray(caught, dtype=float)
    picture, axes = new_picture(width, height or 1.1 + 0.28 * len(mistakes))
    looks = (
        (caught == 1, {"marker": "s", "s": 100, "color": CYCLE[0], "edgecolors": INK, "linewidths": 0.6}),
        (caught == 0, {"marker": "s", "s": 100, "color": "white", "edgecolors": CYCLE[1], "linewidths": 1.4}),
        (np.isnan(caught), {"marker": "_", "s": 60, "color": GREY, "linewidths": 1.2}),
    )
    for where, look in looks:
        rows, columns = np.nonzero(where)
        axes.scatter(columns, rows, **look)
    axes.set_xticks(range(len(tests)), tests, fontsize=8)
    axes.set_yticks(range(len(mistakes)), mistakes, fontsize=8)
    axes.set(xlim=(-0.6, len(tests) - 0.4), ylim=(len(mistakes) - 0.5, -0.5))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    words = "filled: rejected     empty: not rejected" + ("     dash: does not apply" if np.isnan(caught).any() else "")
    picture.supxlabel(words, fontsize=8, color=INK)
    if title:
        picture.suptitle(title, fontsize=10, color=INK)
    return picture


def curves_beside_one(curves: dict[str, np.ndarray], reference: str, *, xlabel: str, ylabel: str, title: str = ""):
    """A small panel for each curve but the one called `reference`, which is drawn, pale and broad, behind every other."""
    others = [name for name in curves if name != reference]
    rows = -(-len(others) // 5)
    picture, panels = new_picture(9.5, 0.7 + 1.7 * rows, rows, 5, sharex=True, sharey=True)
    panels = np.ravel(panels)
    for axes, name in zip(panels, others, strict=False):
        steps = range(1, len(curves[name]) + 1)
        axes.plot(steps, curves[reference], color=PALE, linewidth=5, label=reference)
        axes.plot(steps, curves[name], color=CYCLE[1], linewidth=1.5, label="this one")
        axes.set_title(name, fontsize=9, color=INK)
    for axes in panels[len(others) :]:
        axes.set_axis_off()
    panels[0].legend(fontsize=8, frameon=False)
    picture.supxlabel(xlabel, fontsize=9, color=INK)
    picture.supylabel(ylabel, fontsize=9, color=INK)
    picture.suptitle(title, fontsize=10, color=INK)
    return picture
