"""The course's running picture: the whole computation of a training step, in which each notebook lights its part."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.patches import FancyArrowPatch

from .style import COARSE, FINE, GREY, INK, ITEM, PALE, new_picture

#: Where each quantity stands, what it is called and how it looks: given, trained (by the colour of its codebook) or computed.
_NODES = {
    "R": (0, 4, "$R$\ninteractions", "given"),
    "A": (6.1, 3.3, "$A$\ngraph", "computed"),
    "triples": (9.1, 4, "$(u,i,j)$\ntriples", "computed"),
    "S_c": (0, 3, "$S_c$\ncoarse links", "links"),
    "E_c": (0, 2, "$E_c$\ncoarse codebook", "coarse"),
    "S_f": (0, 1, "$S_f$\nfine links of rows", "links"),
    "E_f": (0, 0, "$E_f$\nfine codebook", "fine"),
    "F": (1.9, 0, "$F$\nshrunk", "computed"),
    "E_hat": (3.0, 1.5, r"$\hat{E}$" "\nbridged", "computed"),
    "S_d": (4.5, 0, "$S_d$\ndirect links", "links"),
    "Z": (4.8, 2.4, "$Z$\nego", "computed"),
    "X0": (6.1, 2, "$X_0$\nlayer 0", "computed"),
    "H": (7.6, 2, "$H$\npropagated", "computed"),
    "scores": (9.1, 2, "$s_{ui}$\nscores", "computed"),
    "loss": (10.6, 2, r"$\ell$" "\nloss", "computed"),
    "list": (9.1, 0.6, "top $n$\nlist", "computed"),
    "step": (10.6, 0.6, "Adam\nstep", "computed"),
}


class _Arrow(NamedTuple):
    """From, to, the cotangent that the backward pass sends the other way, how far its text is moved (points), and a bend."""

    start: str
    end: str
    cotangent: str = ""
    shift: tuple[float, float] = (0, 12)
    bend: float = 0.0


_EVERYWHERE = (
    _Arrow("R", "A"),
    _Arrow("R", "triples"),
    _Arrow("A", "H"),
    _Arrow("X0", "H", r"$P^\top G_H$"),
    _Arrow("H", "scores", "$G_H$"),
    _Arrow("scores", "loss", "$G_s$"),
    _Arrow("triples", "loss"),
    _Arrow("Z", "loss", r"$2\lambda\,c_eZ_e/B$ (regulariser)", (30, -52), 0.32),
    _Arrow("scores", "list"),
    _Arrow("loss", "step"),
)
#: Where codebook rows are nodes, those of entities are a part of layer 0.
_ENTITIES = _Arrow("Z", "X0", "entity rows", (14, 12))
_SHRINK = _Arrow("E_f", "F", r"$G_F\,[|E_f|>\tau]$", (0, -20))
_MODELS = {
    "coarse": (
        _Arrow("S_c", "A"),
        _Arrow("S_c", "Z"),
        _ENTITIES,
        _Arrow("E_c", "Z", r"$S_c^\top(G_Z\circ(1-Z^2))$", (0, 8)),
        _Arrow("E_c", "X0", "coarse rows of $G_{X_0}$", (20, -12)),
    ),
    "fine": (
        _SHRINK,
        _Arrow("S_c", "A"),
        _Arrow("S_f", "A", bend=-0.1),
        _Arrow("S_c", "Z"),
        _ENTITIES,
        _Arrow("E_hat", "Z", r"$S_c^\top(G_Z\circ(1-Z^2))$", (-28, 12)),
        _Arrow("E_hat", "X0", "coarse rows", (14, -8)),
        _Arrow("E_c", "E_hat"),
        _Arrow("S_f", "E_hat"),
        _Arrow("F", "E_hat", r"$g\,S_f^\top G_{\hat{E}}$", (-34, 0)),
        _Arrow("F", "X0", r"fine rows $\circ\,(1-\tanh^2F)$", (46, -18)),
    ),
    "joint": (
        _SHRINK,
        _Arrow("Z", "X0", "$G_{X_0}$"),
        _Arrow("S_c", "Z", r"$G_Y\hat{E}^\top$ at links"),
        _Arrow("E_hat", "Z", r"$S_c^\top G_Y$", (-8, 16)),
        _Arrow("S_d", "Z", r"$G_YF^\top$ at links", (42, -8)),
        _Arrow("E_c", "E_hat", r"$(1-g)G_{\hat{E}}$", (0, 10)),
        _Arrow("S_f", "E_hat", r"$g\,G_{\hat{E}}F^\top$ at links", (-10, 11)),
        _Arrow("F", "E_hat", r"$g\,S_f^\top G_{\hat{E}}$", (-36, 6)),
        _Arrow("F", "Z", r"$S_d^\top G_Y$", (6, -12)),
    ),
}
_ONLY_IN = {**dict.fromkeys(("S_f", "E_f", "F", "E_hat"), ("fine", "joint")), "S_d": ("joint",)}
_FACES = {"given": "#F2F2F2", "links": "#DDF3EB", "coarse": "#D6E8F5", "fine": "#FBE3D3", "computed": "white"}
_EDGES = {"given": INK, "links": ITEM, "coarse": COARSE, "fine": FINE, "computed": INK}


def computation(*lit: str, model: str = "coarse", backward: bool = False, width: float = 10.5, height: float = 4.6):
    """The computation of a step with some of its quantities lit and the rest pale.

    Parameters
    ----------
    *lit : str
        Names of quantities: R, A, triples, S_c, E_c, S_f, E_f, F, E_hat, S_d, Z, X0, H, scores, loss, list, step. Without any,
        all are lit.
    model : {"coarse", "fine", "joint"}
    backward : bool
        Whether the arrows between lit quantities carry the cotangents that the backward pass sends the other way.

    Returns
    -------
    Picture

    Raises
    ------
    ValueError
        For a quantity or a model that there is not.
    """
    if model not in _MODELS:
        raise ValueError(f"model must be one of {', '.join(_MODELS)}, not {model!r}")
    nodes = {name: node for name, node in _NODES.items() if model in _ONLY_IN.get(name, _MODELS)}
    if unknown := [name for name in lit if name not in nodes]:
        raise ValueError(f"the {model} model has no {unknown[0]!r}; there are {', '.join(nodes)}")
    shown = set(lit or nodes)
    picture, axes = new_picture(width, height)
    boxes = {name: _box(axes, node, name in shown) for name, node in nodes.items()}
    if model != "joint":  # codebook rows are nodes
        boxes["A"].set_text(r"$\hat{X}$" "\nexpanded graph")
    for start, end, cotangent, shift, bend in (*_MODELS[model], *_EVERYWHERE):
        is_lit = {start, end} <= shown
        arrow = FancyArrowPatch(
            nodes[start][:2], nodes[end][:2], connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=11,
            shrinkA=1, shrinkB=1, zorder=2,
            color=INK if is_lit else PALE, linewidth=1.5 if is_lit else 0.9,
            patchA=boxes[start].get_bbox_patch(), patchB=boxes[end].get_bbox_patch(),
        )  # fmt: skip
        axes.add_patch(arrow)
        if backward and is_lit and cotangent:
            middle = [(a + b) / 2 for a, b in zip(nodes[start][:2], nodes[end][:2], strict=True)]
            paper = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
            place = {"textcoords": "offset points", "xytext": shift, "ha": "center", "va": "center"}
            axes.annotate(cotangent, middle, fontsize=8.5, color=FINE, zorder=4, bbox=paper, **place)
    passes = "arrows: forward; in orange: the cotangent sent back along each" if backward else "arrows: forward"
    axes.set_title(f"One training step, {model} model ({passes})", fontsize=10, loc="left")
    axes.set(xlim=(-0.9, 11.3), ylim=(min(node[1] for node in nodes.values()) - 0.6, 4.6))
    axes.set_axis_off()
    return picture


def _box(axes, node: tuple[float, float, str, str], is_lit: bool):
    x, y, label, kind = node
    look = {"facecolor": _FACES[kind] if is_lit else "white", "edgecolor": _EDGES[kind] if is_lit else PALE}
    width = (2.0 if kind in ("coarse", "fine", "links") else 1.4) if is_lit else 0.9
    box = {"boxstyle": "round,pad=0.4", "linewidth": width, **look}
    return axes.text(x, y, label, ha="center", va="center", fontsize=9, color=INK if is_lit else GREY, zorder=3, bbox=box)
