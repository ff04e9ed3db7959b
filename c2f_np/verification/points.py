"""Where the stages and their steps are checked: tiny problems with settings, states and batches, drawn by configuration.

No setting has its default, and no two that could be taken for each other are equal.

Shapes: see `c2f_np.model.step`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import scipy.sparse as sparse

from ..baselines.table_stage import (
    FullTable,
    HashedTable,
    QuotientRemainderTable,
    Table,
    TableProblem,
    TableStage,
    TableState,
)
from ..baselines.tables import TableRecommender
from ..data import Dataset
from ..engine import engine_named
from ..model.coarse import CoarseStage
from ..model.fine import FineStage
from ..model.graph import normalised_adjacency
from ..model.joint import JointStage, table_stage
from ..model.links import largest_softmax
from ..model.loss import Triples
from ..model.step import ModelState
from ..settings import DEGREES, Settings
from ..training.problem import Problem, pose
from . import problems, reference
from .case import Case, verdict_case
from .cover import pairwise_cover
from .problems import generator, normal

N_USERS, N_ITEMS, N_COARSE, N_FINE = 9, 12, 7, 4
N = N_USERS + N_ITEMS
#: What must be left of a degree whose weights have both signs: where less is, results are mostly rounding.
LEAST_DEGREE = 0.05
#: So large a score may be.
LARGEST_SCORE = 30
#: The rounding of each precision.
U = {"float64": 2.0**-53, "float32": 2.0**-24}

COMMON = {"n_layers": range(6), "batch": ("tiny", "some", "all"), "width": ("narrow", "wide"), "dtype": tuple(U)}
STAGES = COMMON | {"links": ("one", "two", "many"), "weights": ("positive", "signed"), "degree": DEGREES}
COARSE = STAGES | {"empty": (False, True)}
FINE = STAGES | {
    "fine_links": ("one", "many"),
    "reading": ("layers", "collapsed", "bridged"), "layer_bridge": ("raw", "exchange"), "renormalise": (False, True),
    "gate": ("none", "low", "high", "whole"), "threshold": ("none", "some"),
}  # fmt: skip
JOINT = COMMON | {
    "parts": ("coarse codebook", "direct links", "bridge", "both", "table"), "links": ("one", "two", "many"),
    "direct": ("none", "one", "many"), "gate": ("none", "low", "high", "whole"), "threshold": ("none", "some", "raised"),
    "dead_zone": ("closed", "open"),
}  # fmt: skip
TABLES = COMMON | {"table": ("full", "hashed", "products"), "item_bias": (False, True)}


class Worst:
    """The worst figure of everything that was compared, as a share of what is allowed."""

    def __init__(self):
        self.figures: dict[str, float] = {}

    def add(self, what: str, found, expected, allowed) -> None:
        """`allowed` is a number, held to the norm of the difference, or an array, held entry by entry."""
        off = np.abs(np.asarray(found, dtype=np.float64) - expected)
        off = off if np.ndim(allowed) else np.linalg.norm(off)
        # Where nothing is allowed, nothing may be off. NaN is never allowed.
        share = np.where(off == 0, 0.0, off / np.maximum(allowed, np.finfo(float).tiny))
        worst = float(np.max(share, initial=0.0))
        self.figures[what] = max(self.figures.get(what, 0.0), worst if np.isfinite(worst) else 1e300)

    def same(self, what: str, found, expected) -> None:
        """Equal to the last bit, or not."""
        self.add(what, 0.0 if found == expected else 1.0, 0.0, 0.5)

    def take(self, other: Worst) -> None:
        """What was compared elsewhere."""
        for what, figure in other.figures.items():
            self.figures[what] = max(self.figures.get(what, 0.0), figure)

    @property
    def is_too_much(self) -> bool:
        """Whether something is off by more than is allowed."""
        return any(figure > 1 for figure in self.figures.values())

    def __iter__(self):
        return iter((what, figure, 1.0) for what, figure in self.figures.items())


def configurations(name: str, options: dict, engine: str, seed: int, crossed=None) -> Iterator[tuple[dict, str, Callable]]:
    """Configurations that cover all pairs, with their text and ``rng()``, a generator of their own that always starts anew.

    With `crossed`, only pairs of these options are covered; the other ones are drawn anew for each configuration.
    """
    rng = generator(seed, name, engine)
    for number, c in enumerate(pairwise_cover({key: options[key] for key in crossed or options}, rng, allowed=_is_consistent)):
        rest = {}
        while len(rest | c) < len(options) or not _is_consistent(c | rest):
            rest = {key: values[rng.integers(len(values))] for key, values in options.items() if key not in c}
        c = {key: (c | rest)[key] for key in options}
        variation = ", ".join(str(value) if isinstance(value, str) else f"{key} {value}" for key, value in c.items())
        yield c | {"number": number}, variation, partial(generator, seed, name, engine, number)


def _is_consistent(c: dict) -> bool:
    """Joint training has direct links and a bridge weight where its parts have them, and a table exchanges nothing."""
    if "parts" not in c:
        return True
    has_direct, has_bridge = c["parts"] in ("direct links", "both"), c["parts"] in ("bridge", "both")
    fits = [(c[key] != "none") == has for key, has in (("direct", has_direct), ("gate", has_bridge)) if key in c]
    return all(fits) and not (c["parts"] == "table" and c.get("where") == "updated")


def drawn_cases(name: str, options: dict, check, engine: str, seed: int) -> Iterator[Case]:
    """A case for each of some configurations that cover all pairs: ``check(engine, c, rng)`` compares."""
    for c, variation, rng in configurations(name, options, engine, seed):
        yield verdict_case(name, variation, engine, lambda _, c=c, rng=rng: check(engine, c, rng()))


# ---- settings and data -------------------------------------------------------------------------------------------------
def _numbers(rng, c: dict, engine: str) -> dict:
    width = rng.choice([1, 2, 3, 4, 5, 6] if c["width"] == "narrow" else [16, 48, 49])
    return {
        "dim": int(width), "n_layers": c["n_layers"], "l2": rng.uniform(1, 4), "decay": rng.uniform(0.02, 0.1), "engine": engine,
        "max_grad_value": 1e30, "dtype": c.get("dtype", "float64"), "threads": 1,
    }  # fmt: skip


def _settings(rng, c: dict, engine: str, **own) -> Settings:
    gate = {"none": 0.0, "low": rng.uniform(0.1, 0.4), "high": rng.uniform(0.6, 0.9), "whole": 1.0}[c.get("gate", "low")]
    return Settings(**_numbers(rng, c, engine) | {
        "n_coarse": N_COARSE, "n_fine": N_FINE, "gate": gate,
        "threshold": float(rng.choice([rng.uniform(0.5, 0.8), rng.uniform(1.1, 1.5)])) * (c.get("threshold", "none") != "none"),
        "coarse_lr": rng.uniform(0.03, 0.05), "fine_lr": rng.uniform(0.06, 0.08), "start_lr": rng.uniform(0.09, 0.11),
        "partition": "random", **own,
    })  # fmt: skip


def data_set(rng, *, validation: bool | str = True) -> Dataset:
    """Interactions; the last user and the last item have none."""
    R = problems.interactions(rng, N_USERS, N_ITEMS)
    others = sparse.csr_array((R.toarray() == 0) & (rng.random(R.shape) < 0.2))
    held_out = {True: others, False: None, "empty": 0 * others}[validation]
    return Dataset.from_matrices(R, validation=held_out)


def draw_batch(rng, how: str) -> Triples:
    """One to three triples, some in which much repeats, or so many that every entity occurs."""
    if how == "some":
        return problems.batch(rng, N_USERS, N_ITEMS, int(rng.integers(8, 25)))
    size = int(rng.integers(1, 4)) if how == "tiny" else N_ITEMS + int(rng.integers(0, 9))
    users, items = (rng.permutation(np.arange(size) % n) for n in (N_USERS, N_ITEMS))
    return Triples.from_items(users, items, (items + rng.integers(1, N_ITEMS, size)) % N_ITEMS, N_USERS, N_ITEMS)


def _links(rng, how: str, most: int) -> int:
    return {"none": 0, "one": 1, "two": 2, "many": int(rng.integers(min(3, most), most + 1))}[how]


# ---- states ------------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Point:
    """Where something is checked.

    Attributes
    ----------
    model : {"coarse", "fine", "joint", "table"}
        As the reference names it.
    settings : Settings, or an estimator with its parameters for "table"
    data : Dataset
    A : ndarray, shape (N, N)
        The reference's adjacency.
    state : ModelState, or TableState for "table"
    table : Table, optional
    fixed : dict of str to ndarray
        What the reference wants besides the state.
    """

    model: str
    settings: Settings | TableRecommender
    data: Dataset
    A: np.ndarray
    state: ModelState | TableState
    table: Table | None = None
    fixed: dict = dataclasses.field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """What is trained, by the engine of the settings."""
        s = self.settings
        if self.table is None:
            return pose(self.data, s)
        R = sparse.csr_array(self.data.train)
        return TableProblem(self.data, s, R, normalised_adjacency(R).astype(s.dtype), engine_named(s.engine))

    def stage(self, engine):
        """What trains the state, by an engine."""
        if self.table is not None:
            return TableStage(self.table, self.settings.n_layers, tuple(self.state.arrays), engine)
        if self.model == "joint":
            # A row for every entity is a table: its links, the identity, are not trained.
            return (table_stage if len(self.state.E_coarse) == N else JointStage)(self.settings, engine)
        return (FineStage if self.model == "fine" else CoarseStage)(self.settings, engine)


def point(model: str, engine: str, c: dict, rng) -> Point:
    """A state of a model, for a configuration of its own."""
    if model in ("coarse", "fine"):
        return stage_point(model, engine, c, rng)
    return (joint_point if model == "joint" else table_point)(engine, c, rng)


def stage_point(model: str, engine: str, c: dict, rng) -> Point:
    """A state of the coarse or fine stage, for a configuration of COARSE or FINE."""
    t, t_fine = _links(rng, c["links"], N_COARSE - 1), _links(rng, c.get("fine_links", "one"), N_FINE)
    reading = c.get("reading", "layers")
    settings = _settings(
        rng, c, engine, t_coarse=t, t_fine=t_fine, degree=c["degree"], renormalise_fine=c.get("renormalise", True),
        composition="bridged" if reading == "bridged" else "coarse", layer_bridge=c.get("layer_bridge", "raw"),
        propagation="collapsed" if reading == "collapsed" else "layers",
    )  # fmt: skip
    while True:
        parts = {"E_coarse": normal(rng, N_COARSE, settings.dim)}
        parts["S_coarse"] = problems.assignment(rng, N, N_COARSE, t, empty=c.get("empty", False))
        if c["weights"] == "signed":
            parts["S_coarse"] = _some_negative(parts["S_coarse"])
        if model == "fine":
            parts["E_fine"] = _fine_codebook(rng, settings)
            parts["S_fine"] = largest_softmax(normal(rng, N_COARSE, N_FINE), t_fine)
        found = _point(rng, model, settings, parts)
        if is_sound(found):
            return found


def joint_point(engine: str, c: dict, rng) -> Point:
    """A state of joint training, for a configuration of JOINT."""
    direct, bridged, is_table = (c["parts"] in kinds for kinds in (("direct links", "both"), ("bridge", "both"), ("table",)))
    t, t_direct = _links(rng, c["links"], N_COARSE - 1), _links(rng, c["direct"], N_FINE - 1)
    settings = _settings(
        rng, c, engine, training="joint", fine_start="normal", t_coarse=t, t_fine=int(rng.integers(1, N_FINE + 1)),
        t_direct=t_direct, table_epochs=3 * is_table, dead_zone=c["dead_zone"],
    )  # fmt: skip
    n_rows = N if is_table else 0 if settings.gate == 1 else N_COARSE
    parts = {"E_coarse": normal(rng, n_rows, settings.dim)}
    parts["S_coarse"] = sparse.eye_array(N, format="csr") if is_table else _signed(rng, problems.assignment(rng, N, N_COARSE, t))
    if direct or bridged:
        parts["E_fine"] = _fine_codebook(rng, settings)
    if bridged:
        parts["S_fine"] = _signed(rng, largest_softmax(normal(rng, N_COARSE, N_FINE), settings.t_fine))
    if direct:
        parts["S_direct"] = _signed(rng, problems.assignment(rng, N, N_FINE, t_direct))
    if "E_fine" in parts and c["threshold"] == "raised":
        parts["threshold"] = np.full(1, np.float32(settings.threshold))
        settings = dataclasses.replace(settings, threshold=settings.threshold / 3, fine_density=0.4)
    return _point(rng, "joint", settings, parts)


def table_point(engine: str, c: dict, rng) -> Point:
    """Parameters of a baseline, for a configuration of TABLES."""
    numbers = _numbers(rng, c, engine)
    settings = TableRecommender(n_jobs=numbers.pop("threads"), **numbers | {
        "item_bias": c["item_bias"], "lr": rng.uniform(0.03, 0.05), "batch": 17, "neg_size": 3, "eval_every": 2, "patience": 3,
        "max_epochs": 5, "start_scale": 0.3, "random_state": 1,
    })  # fmt: skip
    n_hashes, n_rows, m, seed = (int(rng.integers(*ends)) for ends in ((1, 4), (3, 9), (2, 7), (0, 99)))
    table, fixed = {
        "full": (FullTable(N), {}),
        "hashed": (HashedTable(N, n_rows, n_hashes, seed, settings.dtype, engine),
                   {"S": reference.hashed_assignment(N, n_rows, n_hashes, seed)}),
        "products": (QuotientRemainderTable(N, m), {}),
    }[c["table"]]  # fmt: skip
    values = table.start(settings.dim, 0.7 * settings.dim**-0.25, rng)
    values |= {"item_bias": 0.5 * rng.standard_normal(N_ITEMS)} if settings.item_bias else {}
    values = {name: problems.on_float32_grid(value).astype(settings.dtype) for name, value in values.items()}
    data = data_set(rng)
    return Point("table", settings, data, reference.adjacency(data.train.toarray()), TableState(values, N), table, fixed)


def _point(rng, model: str, settings: Settings, parts: dict) -> Point:
    """With codebooks so small that the loss is neither flat nor a straight line."""
    parts = {"bias": 0.5 * normal(rng, N), "bias_global": normal(rng, 1)} | parts
    data = data_set(rng)
    A = reference.adjacency(data.train.toarray())
    make_graph, embed, _ = reference.MODELS[model]
    while True:
        p = {name: dense(value) for name, value in parts.items()}
        H = embed(p, make_graph(A, p, settings), settings)[1][:N]
        if _largest_score(H) < 4:
            break
        parts = {name: value / 2 if name.startswith(("E_", "thr")) else value for name, value in parts.items()}
        settings = dataclasses.replace(settings, threshold=settings.threshold / 2)
    return Point(model, settings, data, A, ModelState(**parts).astype(settings.dtype))


def is_sound(point: Point) -> bool:
    """Whether results in a state are more than rounding: no degree cancels, and no score is so large that its slope is lost."""
    p, s = {name: dense(value) for name, value in parts_of(point.state).items()}, point.settings
    make_graph, embed, _ = reference.MODELS[point.model]
    H = embed(p, make_graph(point.A, p, s), s)[1][:N]
    return _left_of_degrees(point) > LEAST_DEGREE and _largest_score(H) < LARGEST_SCORE


def _largest_score(H: np.ndarray) -> float:
    return float(np.max(np.abs(H[:N_USERS] @ H[N_USERS:].T)))


def _left_of_degrees(point: Point) -> float:
    """The least that is left of a degree, as a share of the sum of its absolute values; 1 where nothing can cancel.

    The rounding of a degree counts by the inverse of it, in every layer. A degree of exactly 0 is none.
    """
    if point.model not in ("coarse", "fine") or point.settings.degree == "absolute":
        return 1.0
    S = dense(point.state.S_coarse)
    T = dense(point.state.S_fine) if point.model == "fine" else np.zeros((S.shape[1], 0))
    rows = (np.hstack([point.A, S]), np.hstack([S.T, T]), T.T)
    left = np.abs(np.concatenate([X.sum(axis=1) / np.maximum(np.abs(X).sum(axis=1), np.finfo(float).tiny) for X in rows]))
    return float(np.min(left[left > 1e-9], initial=1.0))


def _fine_codebook(rng, settings: Settings) -> np.ndarray:
    """Some entries inside the threshold, some just inside and some just outside: a step sees even a threshold slightly wrong.

    One entry of every row is outside, so that no batch, however small, meets dead rows alone.
    """
    shape = (N_FINE, settings.dim)
    if not settings.threshold:
        return normal(rng, *shape)
    sizes = settings.threshold * rng.choice([0.5, 0.98, 1.02, 1.5, 2.0], shape)
    sizes[np.arange(N_FINE), rng.integers(0, settings.dim, N_FINE)] = settings.threshold * rng.choice([1.02, 1.5, 2.0], N_FINE)
    return problems.on_float32_grid(np.sign(rng.standard_normal(shape)) * sizes)


def _signed(rng, S: sparse.csr_array) -> sparse.csr_array:
    """Trained weights have either sign."""
    return sparse.csr_array((S.data * rng.choice([-1.0, 1.0], S.nnz), S.indices, S.indptr), shape=S.shape)


def _some_negative(S: sparse.csr_array) -> sparse.csr_array:
    """Every third weight negative and small, as closed-form updates may leave them."""
    negative = (np.arange(S.nnz) % 3 == 1) & (np.abs(S.data) < 0.5)
    return sparse.csr_array((np.where(negative, -0.5 * S.data, S.data), S.indices, S.indptr), shape=S.shape)


# ---- the way to the reference ------------------------------------------------------------------------------------------
def dense(value) -> np.ndarray:
    """A dense matrix of float64."""
    return np.asarray(value.toarray() if sparse.issparse(value) else value, dtype=np.float64)


def on_links(values: np.ndarray, S) -> np.ndarray:
    """One number for each stored weight, as a dense matrix."""
    return dense(sparse.csr_array((values, S.indices, S.indptr), shape=S.shape))


def parts_of(state: ModelState | TableState) -> dict:
    """What a state consists of, by name."""
    if isinstance(state, TableState):
        return state.arrays
    return {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if getattr(state, f.name) is not None}


def cancellation(model: str, p: dict, s) -> float:
    """How much larger the terms are than their sum: of S_c E_hat + S_d F in joint training, of F alone in the fine stage.

    Weights found by pursuit may be in the thousands, and an entry of F is what is left of one of E_f without the threshold.
    """
    if model not in ("joint", "fine"):
        return 1.0

    def composed(p, E_hat, F):
        return p["S_coarse"] @ E_hat + (p["S_direct"] @ F if "S_direct" in p else 0)

    sizes = {name: np.abs(value) for name, value in p.items()}
    E_hat, F = reference.codebooks(p, s)
    fine = None if F is None else np.where(F != 0, sizes["E_fine"] + p.get("threshold", s.threshold), 0)
    if model == "fine":
        return float(np.linalg.norm(fine) / np.linalg.norm(F)) if F.any() else 1.0
    terms = reference.bridge(sizes, fine, s) if "S_fine" in p else sizes["E_coarse"]
    return float(np.linalg.norm(composed(sizes, terms, fine)) / np.linalg.norm(composed(p, E_hat, F)))


def rounding_share(A: np.ndarray, s, H: np.ndarray, roles, cancelled: float = 1.0) -> float:
    """What a gradient may be off by, as a share of the sum of the absolute values of its terms in :func:`.reference.gradients`.

    To first order, a chain of n operations is off by at most n u times the sum of the absolute values of its terms, and by a
    small multiple of sqrt(n) u of it if roundings do not conspire (Higham and Mary, *A New Approach to Probabilistic Rounding
    Error Analysis*, 2019). The multiple also covers what those absolute values leave out: cancellation between the layers' ways.
    `cancelled` is what :func:`cancellation` finds of the composition.
    """
    most = int((A != 0).sum(axis=1).max()) + N_COARSE + N_FINE
    # Operations on the longest way from a parameter through the loss and back.
    chain = 2 * (s.n_layers + 2) * (most + 4) + s.dim + 3 * len(roles[0]) + 40
    # The slope of a triple is off, relatively, by as much as its score is off absolutely.
    score = max(np.max(np.sum(np.abs(H[roles[0]] * H[item]), axis=1)) for item in roles[1:])
    return 4 * U[s.dtype] * max(np.sqrt(chain), cancelled) * (1 + 2 * score)
