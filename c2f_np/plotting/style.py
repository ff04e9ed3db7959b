"""One style for all figures: colours that colour-blind readers and grey printers can tell apart (Okabe and Ito's), plain axes.

Figures are made without pyplot: there is no global state and no window opens. Every function returns the :class:`Picture` it
drew, and a notebook displays it.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from matplotlib.figure import Figure

from ..files import write_atomically

INK, GREY, PALE = "#222222", "#999999", "#DDDDDD"
#: One colour for each kind of thing, everywhere.
USER, ITEM, COARSE, FINE = "#56B4E9", "#009E73", "#0072B2", "#D55E00"
POPULARITY = GREY
#: For curves without a colour of their own, in this order, each with a line style and a marker that stay distinct in grey print.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Colour maps: for sizes (none to large), and for signed numbers (zero is white).
SIZES, SIGNED = "cividis_r", "PuOr"

# Of figures in notebooks, and in reports.
_DPI, _REPORT_DPI = 110, 130


class Picture(Figure):
    """A figure that a notebook displays by itself."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self._draw_to(file, _DPI)
        return file.getvalue()

    def write(self, path) -> None:
        """Write a PNG file at the resolution of reports, whole or not at all."""
        write_atomically(path, lambda file: self._draw_to(file, _REPORT_DPI))

    def _draw_to(self, file, dpi: int) -> None:
        with warnings.catch_warnings():
            # A letter that no font here has is drawn as a box, which says as much.
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            self.savefig(file, format="png", dpi=dpi)


def new_picture(width: float = 7.0, height: float = 3.2, n_rows: int = 1, n_columns: int = 1, **subplots):
    """A picture of `width` x `height` inches and its axes in the common style; `subplots` goes to ``Figure.subplots``."""
    picture = Picture(figsize=(width, height), layout="constrained")
    axes = picture.subplots(n_rows, n_columns, **subplots)
    for each in np.ravel(axes):
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
    """A curve's name at its end, which makes a legend unnecessary."""
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=colour)


def heat_map(axes, matrix, reach: float):
    """A matrix of signed numbers on the colour scale from -reach to reach; returns the image."""
    return axes.imshow(matrix, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")


def colour_bar(picture, image, axes, label: str = "", *, size: float = 8, **where):
    """A colour bar with small labels beside one or several axes."""
    bar = picture.colorbar(image, ax=list(np.ravel(axes)), **where)
    bar.ax.tick_params(labelsize=size)
    if label:
        bar.set_label(label, fontsize=8)
    return bar


def block_lines(axes, sizes, names, *, linewidth: float, fontsize: float, rotation: float = 0) -> None:
    """Lines between the blocks of a square matrix, and the blocks' names on both sides."""
    ends = np.cumsum(sizes)
    for end in ends[:-1] - 0.5:
        axes.axhline(end, color=INK, linewidth=linewidth)
        axes.axvline(end, color=INK, linewidth=linewidth)
    middles = ends - np.asarray(sizes) / 2 - 0.5
    axes.set_xticks(middles, names, fontsize=fontsize, rotation=rotation)
    axes.set_yticks(middles, names, fontsize=fontsize)
    axes.tick_params(length=0)
