"""One style for all figures: colours that colour-blind readers and grey printers can tell apart (Okabe and Ito's), plain axes.

Figures are made without pyplot: nothing is global, nothing pops up, and a function returns what it drew. A :class:`Picture` shows
itself in a notebook.
"""

from __future__ import annotations

import io

from matplotlib.figure import Figure

INK, GREY, PALE = "#222222", "#999999", "#DDDDDD"
#: One colour for each kind of thing, everywhere.
USER, ITEM, COARSE, FINE = "#56B4E9", "#009E73", "#0072B2", "#D55E00"
POPULARITY = GREY
#: For curves without a colour of their own, in this order, each with a line style and marker that grey print keeps apart.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Colour maps: of sizes (from nothing to much), and of numbers with a sign (zero is white).
SIZES, SIGNED = "cividis_r", "PuOr"

_DPI = 110


class Picture(Figure):
    """A figure that a notebook shows by itself."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=_DPI)
        return file.getvalue()


def new_picture(width: float = 7.0, height: float = 3.2, n_rows: int = 1, n_columns: int = 1, **subplots):
    """A picture and its axes, in the common style.

    Parameters
    ----------
    width, height : float
        Inches.
    n_rows, n_columns : int
    **subplots
        For ``Figure.subplots``: ``width_ratios``, ``sharey``, ...

    Returns
    -------
    picture : Picture
    axes : Axes, or ndarray of Axes
    """
    picture = Picture(figsize=(width, height), layout="constrained")
    axes = picture.subplots(n_rows, n_columns, **subplots)
    for each in [axes] if n_rows * n_columns == 1 else axes.ravel():
        plain(each)
    return picture, axes


def plain(axes) -> None:
    """No box around the axes, small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set(fontsize=9, color=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    axes.title.set(fontsize=10, color=INK)


def name_curve(axes, x: float, y: float, text: str, colour: str = INK) -> None:
    """A curve's name at its end, which needs no legend."""
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=colour)
