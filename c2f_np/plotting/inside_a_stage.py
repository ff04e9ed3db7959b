"""Pictures of whole stages: the expanded graph in blocks, assignments before and after training, gradients by the way they
arrive, and the sparsity of the fine codebook during training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sparse

from .style import COARSE, FINE, INK, ITEM, SIGNED, SIZES, USER, block_lines, colour_bar, heat_map, new_picture


def expanded_adjacency(X, sizes, names, *, title: str = "", width: float = 5.0):
    """The matrix (n, n) of the expanded graph as a picture, with lines between its blocks of `sizes` rows called `names`."""
    X = X.toarray() if sparse.issparse(X) else np.asarray(X)
    picture, axes = new_picture(width, width * 0.86)
    image = axes.imshow(np.ma.masked_equal(X, 0), interpolation="nearest", **_scale_of([X]))
    block_lines(axes, sizes, names, linewidth=1, fontsize=8)
    axes.tick_params(labeltop=True, labelbottom=False)
    axes.spines[["top", "right"]].set_visible(True)
    colour_bar(picture, image, axes, "weight of the edge (white: no edge)", shrink=0.7)
    if title:
        axes.set_title(title, fontsize=10)
    return picture


def _scale_of(matrices) -> dict:
    """One colour scale for several matrices: from 0 if nothing is negative, otherwise with 0 in the middle."""
    lowest, highest = min(matrix.min() for matrix in matrices), max(matrix.max() for matrix in matrices)
    if lowest < 0:
        return {"cmap": SIGNED, "vmin": -max(-lowest, highest), "vmax": max(-lowest, highest)}
    return {"cmap": SIZES, "vmin": 0, "vmax": highest or 1.0}


def assignments_side_by_side(
    matrices: dict[str, Any], row_groups, group_names, *, title: str, ylabel: str = "entities", order=True
):
    """Assignments by name, shape (N, C), as heat maps on one scale, rows sorted by their group; zeros are white.

    `row_groups` (N,) numbers the groups called `group_names`. With `order`, the columns of each matrix are sorted by the group
    with the largest weight in them, because columns have no order of their own.
    """
    picture, axes = new_picture(4.3 * len(matrices), 4.4, 1, len(matrices), sharey=True, squeeze=False)
    axes = axes.ravel()
    rows = np.argsort(row_groups, kind="stable")
    sizes = np.bincount(row_groups, minlength=len(group_names))
    dense = {name: np.asarray(S.toarray() if sparse.issparse(S) else S)[rows] for name, S in matrices.items()}
    scale = _scale_of(dense.values())
    ends = np.cumsum(sizes)
    for each, (name, S) in zip(axes, dense.items(), strict=True):
        if order:
            weight = np.stack([np.abs(part).sum(axis=0) for part in np.split(S, ends[:-1])])
            S = S[:, np.argsort(weight.argmax(axis=0), kind="stable")]
        image = each.imshow(np.ma.masked_equal(S, 0), aspect="auto", interpolation="nearest", **scale)
        for end in ends[:-1]:
            each.axhline(end - 0.5, color=INK, linewidth=0.6)
        each.set(title=name, xlabel="coarse row")
    axes[0].set_yticks(ends - sizes / 2 - 0.5, group_names, fontsize=8)
    axes[0].set_ylabel(ylabel)
    colour_bar(picture, image, axes, "weight of the link (white: no link)", shrink=0.7)
    picture.suptitle(title, fontsize=11)
    return picture


def gradients_by_way(parts: dict[str, np.ndarray], *, ylabel: str = "row of the codebook", title: str = "", height: float = 2.6):
    """The gradients of one array that arrive along different ways, by name, as heat maps on one scale."""
    picture, axes = new_picture(2.2 * len(parts) + 0.6, height, 1, len(parts), sharey=True, squeeze=False)
    largest = max(np.abs(part).max() for part in parts.values()) or 1.0
    for each, (name, part) in zip(axes.ravel(), parts.items(), strict=True):
        image = heat_map(each, part, largest)
        each.set_title(f"{name}\nnorm {np.sqrt(np.sum(part * part)):.2g}", fontsize=8.5)
        each.set(xlabel="coordinate", xticks=[], yticks=[])
    axes.ravel()[0].set_ylabel(ylabel)
    colour_bar(picture, image, axes, "gradient", shrink=0.9)
    if title:
        picture.suptitle(title, fontsize=10)
    return picture


def codebooks_side_by_side(codebooks: dict[str, np.ndarray], threshold: float, *, title: str = ""):
    """Fine codebooks by name, shape (M, d), on one scale; what soft thresholding by `threshold` sets to zero is grey."""
    picture, axes = new_picture(4.2 * len(codebooks), 2.9, 1, len(codebooks), squeeze=False)
    largest = max(np.abs(E).max() for E in codebooks.values()) or 1.0
    for each, (name, E) in zip(axes.ravel(), codebooks.items(), strict=True):
        dead = np.abs(E) <= threshold
        each.set_facecolor("#BBBBBB")
        image = heat_map(each, np.ma.masked_array(E, dead), largest)
        each.set(title=f"{name.capitalize()}: {np.mean(~dead):.0%} beyond the threshold", xlabel="coordinate", ylabel="fine row")
    colour_bar(picture, image, axes, "entry", shrink=0.9)
    picture.suptitle(title, fontsize=11)
    return picture


def codebook_sparsity(
    epochs, alive, *, died=None, revived=None, xlabel: str, title: str
):
    """Share of the fine codebook beyond the threshold over the epochs, and beside it what died and what came back.

    `died` and `revived` count the entries that fell inside the threshold, and that came out of it, up to each epoch.
    """
    both = died is not None
    picture, axes = new_picture(8.4 if both else 5, 2.9, 1, 2 if both else 1, squeeze=False)
    axes = axes.ravel()
    axes[0].plot(epochs, alive, color=FINE, marker="o", markersize=3, linewidth=1.4)
    axes[0].set(xlabel=xlabel, ylabel="share beyond the threshold", ylim=(0, None))
    if both:
        axes[1].plot(epochs, died, color=INK, linewidth=1.4, label="fell inside")
        axes[1].plot(epochs, revived, color=ITEM, linewidth=1.8, linestyle="--", label="came back out")
        axes[1].set(xlabel=xlabel, ylabel="entries, added up", ylim=(0, None))
        axes[1].legend(frameon=False, fontsize=8)
    for each in axes:
        each.xaxis.get_major_locator().set_params(integer=True)
    picture.suptitle(title, fontsize=11)
    return picture


def layer_factors(names, powers: dict[str, np.ndarray], *, ylabel: str = "size after k layers", title: str = ""):
    """How sizes (by name) develop over the layers `names`, on a logarithmic axis."""
    picture, axes = new_picture(5.6, 2.8)
    for k, (name, sizes) in enumerate(powers.items()):
        colour, line, marker = (FINE, COARSE, USER)[k], ("--", "-", ":")[k], "so^"[k]
        axes.plot(names, sizes, color=colour, linestyle=line, marker=marker, markersize=4, label=name)
    axes.set_yscale("log")
    axes.set(xlabel="layers k", ylabel=f"{ylabel} (logarithmic)", title=title)
    axes.legend(frameon=False, fontsize=8)
    return picture
