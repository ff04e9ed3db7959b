"""The steps that train, held to the dense reference: what reaches the optimiser, what it does with it, what comes after.

Every case makes a few steps with the functions that training calls, and holds each to a step of :mod:`.reference` from the same
state: losses, clipped gradients (moments reveal them: m_new = 0.9 m + 0.1 g), moments, parameters, the new assignment or the
exchanged links; and, through the step that follows, the new graph. Configurations are drawn from the seed so that every pair
of options occurs; no setting has its default.

float64 and float32 are held to one bound: to first order, a chain of n operations is off by at most n u times the sum of the
absolute values of its terms, and by a small multiple of sqrt(n) u of it if roundings do not conspire (Higham and Mary, *A New
Approach to Probabilistic Rounding Error Analysis*, 2019). The reference says what the triples contribute in absolute value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sparse

from ..baselines import table_model, table_training
from ..data import Dataset
from ..operations import assignment_update
from ..operations.adam import AdamMoments, fresh_moments
from ..operations.sparse_operator import symmetric_operator
from ..operations.triples import Triples
from ..settings import Settings
from ..stages.joint import relinked
from ..stages.state import ModelState
from ..training import joint as joint_training
from ..training import loop, parameters, problem
from . import problems, reference
from .case import Case, verdict_case
from .cover import pairwise_cover
from .problems import generator, normal

N_USERS, N_ITEMS, N_COARSE, N_FINE = 9, 12, 7, 4
N = N_USERS + N_ITEMS
U = {"float64": 2.0**-53, "float32": 2.0**-24}
#: The multiple of sqrt(n) u. It also covers what the triples' absolute values leave out: cancellation within a triple.
MULTIPLE = 8
#: Rows of an assignment whose choice is closer than this are left out: float32 may choose otherwise.
TIE = 1e-5
WEIGHTS = ("S_coarse", "S_direct")

COMMON = {
    "n_layers": range(6), "batch": ("tiny", "some", "all"), "width": ("narrow", "wide"), "dtype": tuple(U),
    "moments": ("fresh", "later"),
}  # fmt: skip
COARSE = COMMON | {"links": ("one", "two", "many"), "degree": ("signed", "absolute"), "empty": (False, True)}
FINE = COMMON | {
    "links": ("one", "two", "many"), "fine_links": ("one", "many"), "degree": ("signed", "absolute"),
    "reading": ("layers", "collapsed", "bridged"), "layer_bridge": ("raw", "exchange"), "renormalise": (False, True),
    "gate": ("none", "low", "high", "whole"), "threshold": ("none", "some"),
}  # fmt: skip
JOINT = COMMON | {
    "parts": ("coarse codebook", "direct links", "bridge", "both", "table"), "links": ("one", "two", "many"),
    "direct": ("one", "many"), "gate": ("low", "high", "whole"), "threshold": ("none", "some"), "turn": ("odd", "even"),
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

    def __iter__(self):
        return iter((what, figure, 1.0) for what, figure in self.figures.items())


# ---- drawing -----------------------------------------------------------------------------------------------------------
def _links(rng, how: str, most: int) -> int:
    return {"one": 1, "two": 2, "many": int(rng.integers(min(3, most), most + 1))}[how]


def _settings(rng, c: dict, engine: str, **own) -> Settings:
    """No setting has its default, and no two that could be taken for each other are equal."""
    gate = {"none": 0.0, "low": rng.uniform(0.1, 0.4), "high": rng.uniform(0.6, 0.9), "whole": 1.0}[c.get("gate", "low")]
    return Settings(**{
        "n_coarse": N_COARSE, "n_fine": N_FINE, "dim": c["width"], "n_layers": c["n_layers"], "gate": gate,
        "threshold": float(rng.uniform(0.3, 0.7)) if c.get("threshold") == "some" else 0.0,
        "l2": rng.uniform(1, 4), "decay": rng.uniform(0.02, 0.1), "max_grad_value": 1e30, "dtype": c["dtype"], "engine": engine,
        "coarse_lr": rng.uniform(0.03, 0.05), "fine_lr": rng.uniform(0.06, 0.08), "start_lr": rng.uniform(0.09, 0.11),
        "partition": "random", "threads": 1, **own,
    })  # fmt: skip


def _data(rng, *, validation: bool = True) -> Dataset:
    R = problems.interactions(rng, N_USERS, N_ITEMS)
    others = sparse.csr_array((R.toarray() == 0) & (rng.random(R.shape) < 0.2))
    return Dataset.from_matrices(R, validation=others if validation else None)


def _batch(rng, how: str) -> Triples:
    if how == "some":
        return problems.batch(rng, N_USERS, N_ITEMS, int(rng.integers(8, 25)))
    size = int(rng.integers(1, 4)) if how == "tiny" else N_ITEMS + int(rng.integers(0, 9))
    # In a batch of all, every user and every item occurs, also those without interactions.
    users, items = (rng.permutation(np.arange(size) % n) for n in (N_USERS, N_ITEMS))
    return Triples.from_items(users, items, (items + rng.integers(1, N_ITEMS, size)) % N_ITEMS, N_USERS, N_ITEMS)


def _cast(value, dtype):
    return sparse.csr_array(value, dtype=dtype) if sparse.issparse(value) else value.astype(dtype)


def _state(rng, settings: Settings, **parts) -> tuple[Settings, ModelState]:
    parts = {"bias": 0.5 * normal(rng, N), "bias_global": normal(rng, 1)} | parts
    return settings, ModelState(**{name: _cast(value, settings.dtype) for name, value in parts.items()})


def _moderate(model: str, A, settings: Settings, state: ModelState) -> tuple[Settings, ModelState]:
    """The same with smaller codebooks, if scores are so large that the loss would be flat or a straight line."""
    while True:
        p = {name: _dense(value) for name, value in _parts(state).items()}
        make_graph, embed, _ = reference.MODELS[model]
        H = embed(p, make_graph(A, p, settings), settings)[1][:N]
        if np.max(np.abs(H[:N_USERS] @ H[N_USERS:].T)) < 4:
            return settings, state
        smaller = {name: value / 2 for name, value in _parts(state).items() if name.startswith("E_")}
        state = dataclasses.replace(state, **smaller)
        settings = dataclasses.replace(settings, threshold=settings.threshold / 2)


def _fine_codebook(rng, settings: Settings) -> np.ndarray:
    """Some entries inside the threshold, none near it."""
    shape = (N_FINE, settings.dim)
    if not settings.threshold:
        return normal(rng, *shape)
    return np.sign(normal(rng, *shape)) * (settings.threshold + rng.choice([-0.15, 0.2, 0.7], shape))


def _moments(rng, c: dict, probe: dict[str, np.ndarray]) -> AdamMoments:
    """Before the first step, or as they are after many, of the size of a gradient."""
    if c["moments"] == "fresh":
        return fresh_moments(probe)
    sizes = {name: 5 * np.sqrt(np.mean(part**2)) or 1e-3 for name, part in probe.items()}
    mean = {name: (size * rng.standard_normal(probe[name].shape)).astype(probe[name].dtype) for name, size in sizes.items()}
    square = {name: (size**2 * rng.uniform(0.5, 2, part.shape)).astype(part.dtype) for (name, size), part in
              zip(sizes.items(), probe.values(), strict=True)}  # fmt: skip
    return AdamMoments(mean, square, int(rng.choice([1, 5, 6, 40, 2000])))


# ---- the way to the reference ------------------------------------------------------------------------------------------
def _dense(value) -> np.ndarray:
    return np.asarray(value.toarray() if sparse.issparse(value) else value, dtype=np.float64)


def _on_links(values: np.ndarray, S) -> np.ndarray:
    """One number for each stored weight, as a dense matrix."""
    return _dense(sparse.csr_array((values, S.indices, S.indptr), shape=S.shape))


def _parts(state: ModelState) -> dict:
    return {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if getattr(state, f.name) is not None}


def _entries(values: dict, like: dict) -> dict:
    """What belongs to the trained arrays, dense: the weights of an assignment at their places."""
    return {k: _on_links(v, like[k]) if sparse.issparse(like[k]) else _dense(v) for k, v in values.items()}


def _chain(A: np.ndarray, s, n_triples: int) -> int:
    """Operations on the longest way from a parameter through the loss and back."""
    most = int((A != 0).sum(axis=1).max()) + N_COARSE + N_FINE
    return 2 * (s.n_layers + 2) * (most + 4) + s.dim + 3 * n_triples + 40


def _hold_step(worst: Worst, model: str, s, A, old, new, batch, rate, found_losses, *, update=False) -> dict:
    """Hold one step of the package to one of the reference; `old` and `new` are (parts, moments) of the package."""
    (before, m_before), (after, m_after) = old, new
    p = {name: _dense(value) for name, value in before.items()}
    trained = {name: before[name] for name in m_before.mean}
    m, v = (_entries(part, trained) for part in (m_before.mean, m_before.square))
    links = {name: _on_links(np.ones(S.nnz), S) != 0 for name, S in trained.items() if sparse.issparse(S)}
    if model == "joint" and s.dim < 16:
        p["Y"] = np.zeros((N, s.dim))
    roles = (batch.user, batch.positive, batch.negative)
    expected = reference.train_step(
        model, p, A, roles, s, {name: (m[name], v[name]) for name in trained}, m_before.step + 1, rate, links=links, update=update
    )
    u = U[s.dtype]
    H = expected["H"]
    score = max(np.max(np.sum(np.abs(H[roles[0]] * H[item]), axis=1)) for item in roles[1:])
    share = MULTIPLE * u * np.sqrt(_chain(A, s, len(batch))) * (1 + 2 * score)
    worst.add("losses", found_losses, expected["losses"], share * np.abs(expected["losses"]) + share)
    mean, square = (_entries(part, trained) for part in (m_after.mean, m_after.square))
    worst.same("the number of the step", m_after.step, m_before.step + 1)
    for name in trained:
        g, size = expected["clipped"][name], expected["sizes"][name]
        m_new, v_new = expected["moments"][name]
        for part, where in _pieces(name):
            off = share * np.linalg.norm(size[where])
            worst.add(f"gradient of {part}", (mean[name] - 0.9 * m[name])[where] / 0.1, g[where],
                      off + 160 * u * np.linalg.norm(m[name][where]) + 16 * u * np.linalg.norm(g[where]))  # fmt: skip
            scale = np.max(np.abs(g[where]), initial=0)
            worst.add(f"second moment of {part}", square[name][where], v_new[where],
                      0.002 * scale * off + 0.001 * off**2 + 16 * u * np.linalg.norm(v_new[where]))  # fmt: skip
        k = m_before.step + 1
        change = rate / (1 - 0.9**k) * mean[name] / (np.sqrt(square[name]) / np.sqrt(1 - 0.999**k) + 1e-8)
        if not (update and name == "S_coarse"):
            worst.add(f"{name} after the step", _dense(after[name]), p[name] - change,
                      8 * u * np.abs(p[name]) + 32 * u * np.abs(change) + 1e-40)  # fmt: skip
    for name, value in after.items():
        if name not in trained and not (update and name.startswith("S_")):
            worst.same("what is not trained", np.array_equal(_dense(value), p[name]), True)
        worst.same("precision", str(value.dtype), s.dtype)
    for part in (m_after.mean, m_after.square):
        worst.same("precision", {str(value.dtype) for value in part.values()}, {s.dtype})
    return expected | {"share": share}


def _pieces(name: str):
    """A bias of users cancels, and is looked at apart from the items'."""
    if name == "bias":
        return ("bias of users", slice(N_USERS)), ("bias of items", slice(N_USERS, None))
    return ((name, slice(None)),)


# ---- the two stages ----------------------------------------------------------------------------------------------------
def coarse_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """The coarse stage's steps: before, at and after an update of the assignment."""
    yield from _cases("coarse_step", COARSE, _stage_steps, engine, seed)


def fine_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """The fine stage's steps, likewise; through layers and collapsed."""
    yield from _cases("fine_step", FINE, _stage_steps, engine, seed)


def _cases(name: str, options: dict, steps, engine: str, seed: int, allowed=lambda c: True) -> Iterator[Case]:
    for number, c in enumerate(pairwise_cover(options, generator(seed, name, engine), allowed=allowed)):

        def check(seed, number=number, c=c):
            rng = generator(seed, name, engine, number)
            narrow = c["width"] == "narrow"
            width = int(rng.choice([1, 2, 3, 4, 5, 6] if narrow else [16, 48, 49]))
            # Wide ones take one step each, every kind of step in turn.
            which = slice(None) if narrow else slice(number % 3, number % 3 + 1)
            return steps(name.removesuffix("_step"), engine, c | {"width": width}, rng, which)

        variation = ", ".join(str(value) if isinstance(value, str) else f"{key} {value}" for key, value in c.items())
        yield verdict_case(name, variation, engine, check)


def _stage_steps(model: str, engine: str, c: dict, rng, which: slice) -> Worst:
    worst, is_fine = Worst(), model == "fine"
    t, t_fine = _links(rng, c["links"], N_COARSE - 1), _links(rng, c.get("fine_links", "one"), N_FINE)
    reading = c.get("reading", "layers")
    settings = _settings(
        rng, c, engine, t_coarse=t, t_fine=t_fine, degree=c["degree"], renormalise_fine=c.get("renormalise", True),
        composition="bridged" if reading == "bridged" else "coarse", layer_bridge=c.get("layer_bridge", "raw"),
        propagation="collapsed" if reading == "collapsed" else "layers",
    )  # fmt: skip
    parts = {"E_coarse": normal(rng, N_COARSE, settings.dim)}
    parts["S_coarse"] = problems.assignment(rng, N, N_COARSE, t, empty=c.get("empty", False))
    if is_fine:
        parts["E_fine"] = _fine_codebook(rng, settings)
        parts["S_fine"] = assignment_update.largest_softmax(normal(rng, N_COARSE, N_FINE), t_fine)
    data = _data(rng)
    A = reference.adjacency(data.train.toarray())
    settings, state = _moderate(model, A, *_state(rng, settings, **parts))
    batches = [_batch(rng, c["batch"]) for _ in range(3)][which]

    def step(settings, state, moments, graph, batch, **options):
        return loop.train_step(state, moments, problem.pose(data, settings), graph, batch, **options)

    graph = problem.graph_of(state, problem.pose(data, settings))
    fresh = fresh_moments(parameters.trained_parameters(state, settings))
    probe = step(settings, state, fresh, graph, batches[0])[1].mean
    settings, moments = _clipped(rng, c, settings, probe, "E_fine" if is_fine else "E_coarse")
    # The first step takes the stage's own rate.
    rates = [None, *rng.uniform(0.01, 0.02, 2).tolist()][which]
    for batch, update, rate in zip(batches, (False, True, False)[which], rates, strict=True):
        whole = problem.forward(state, graph, settings)
        new, m_new, new_graph, losses = step(
            settings, state, moments, graph, batch, update_assignment=update, learning_rate=rate
        )
        own = settings.fine_lr if is_fine else settings.coarse_lr
        expected = _hold_step(
            worst, model, settings, A, (_parts(state), moments), (_parts(new), m_new), batch,
            own if rate is None else rate, losses, update=update,
        )  # fmt: skip
        if update:
            _hold_assignment(worst, model, settings, state, new, whole, expected)
        state, moments, graph = new, m_new, new_graph
    return worst


def _clipped(rng, c: dict, settings, probe: dict[str, np.ndarray], codebook: str):
    """Settings that clip some entries of a codebook's gradient and not all, and the moments to begin with.

    `probe` holds first moments after a step from none, without clipping.
    """
    sizes = np.abs(probe[codebook][probe[codebook] != 0]) / 0.1
    limit = float(np.quantile(sizes, 0.6)) if sizes.size else 1.0
    return dataclasses.replace(settings, max_grad_value=limit), _moments(rng, c, probe)


def _hold_assignment(worst, model, s, state, new, whole, expected) -> None:
    """The update, from the H of this step: of the reference in float64, of the package in float32 (and that held to it)."""
    name = "S_fine" if model == "fine" else "S_coarse"
    H = np.concatenate([_dense(whole.H_entities), _dense(whole.H_coarse), *([_dense(whole.H_fine)] if model == "fine" else [])])
    worst.add("H", H, expected["H"], 1e3 * U[s.dtype] * np.linalg.norm(expected["H"]))
    p, eps = {key: _dense(value) for key, value in _parts(state).items()}, float(np.finfo(s.dtype).eps)
    S = reference.new_assignment(model, H, p, s, eps)[name]
    weights = (reference.fine_weights if model == "fine" else reference.coarse_weights)(H, p, eps)
    t = s.t_fine if model == "fine" else s.t_coarse
    ordered = np.sort(weights, axis=1)[:, ::-1]
    clear = np.full(len(S), True) if t == S.shape[1] else ordered[:, t - 1] - ordered[:, t] > TIE * np.max(np.abs(weights))
    found = getattr(new, name)
    worst.add(name, _dense(found)[clear], S[clear], (1e-9 + 2 * U[s.dtype]) * np.linalg.norm(S))
    worst.same(f"links in a row of {name}", set(np.diff(found.indptr).tolist()), {t})


# ---- joint training ----------------------------------------------------------------------------------------------------
def joint_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """Joint training's steps, of both codebooks, one, or a table; an exchange of links before the last."""
    yield from _cases("joint_step", JOINT, _joint_steps, engine, seed)


def _joint_steps(model: str, engine: str, c: dict, rng, which: slice) -> Worst:
    worst, parts = Worst(), {}
    direct, bridged = c["parts"] in ("direct links", "both"), c["parts"] in ("bridge", "both")
    t, t_fine = _links(rng, c["links"], N_COARSE - 1), int(rng.integers(1, N_FINE + 1))
    t_direct = _links(rng, c["direct"], N_FINE - 1) if direct else 0
    is_table = c["parts"] == "table"
    settings = _settings(
        rng, c, engine, training="joint", fine_start="normal", t_coarse=t, t_fine=t_fine, t_direct=t_direct,
        **({} if bridged else {"gate": 0.0}), table_epochs=3 * is_table,
    )  # fmt: skip
    parts["E_coarse"] = normal(rng, N if is_table else N_COARSE, settings.dim)
    parts["S_coarse"] = sparse.eye_array(N, format="csr") if is_table else _signed(rng, problems.assignment(rng, N, N_COARSE, t))
    if direct or bridged:
        parts["E_fine"] = _fine_codebook(rng, settings)
    if bridged:
        parts["S_fine"] = assignment_update.largest_softmax(normal(rng, N_COARSE, N_FINE), t_fine)
    if direct:
        parts["S_direct"] = _signed(rng, problems.assignment(rng, N, N_FINE, t_direct))
    data = _data(rng)
    A = reference.adjacency(data.train.toarray())
    settings, state = _moderate(model, A, *_state(rng, settings, **parts))
    batches = [_batch(rng, c["batch"]) for _ in range(3)][which]
    graph = problem.graph_of(state, problem.pose(data, settings))
    fresh = fresh_moments(parameters.trained_parameters(state, settings))
    probe = joint_training.joint_step(state, fresh, problem.pose(data, settings), graph, batches[0], 0.1)[1].mean
    settings, moments = _clipped(rng, c, settings, probe, "E_coarse")
    posed = problem.pose(data, settings)
    pull = np.zeros((N, settings.dim), dtype=settings.dtype)
    for number, batch in list(enumerate(batches)):
        rate = float(rng.uniform(0.01, 0.02))
        if number == 2 and not is_table:
            turn = 2 * int(rng.integers(3)) + (c["turn"] == "odd")
            new, m_new = joint_training.exchange(state, moments, graph, pull, turn, threshold=settings.threshold)
            _hold_exchange(worst, settings, (state, moments), (new, m_new), pull, turn)
            state, moments, graph = new, m_new, relinked(graph, new)
        new, m_new, graph, losses, grad_Y = joint_training.joint_step(state, moments, posed, graph, batch, rate)
        expected = _hold_step(
            worst, model, settings, A, (_parts(state), moments), (_parts(new), m_new), batch, rate, losses
        )  # fmt: skip
        if "Y" in expected["sizes"]:
            allowed = expected["share"] * np.linalg.norm(expected["sizes"]["Y"])
            worst.add("gradient of Y", grad_Y, expected["gradients"]["Y"], allowed)
        worst.same("what is trained", set(m_new.mean), set(_trained_jointly(state, is_table)))
        state, moments, pull = new, m_new, pull + grad_Y
    return worst


def _signed(rng, S):
    """Trained weights have either sign."""
    S.data *= rng.choice([-1.0, 1.0], S.nnz)
    return S


def _trained_jointly(state: ModelState, is_table: bool) -> list[str]:
    names = ["E_coarse", "bias", "bias_global"]
    return names if is_table else [*names, *(n for n in ("E_fine", "S_coarse", "S_direct") if getattr(state, n) is not None)]


def _hold_exchange(worst: Worst, s, old, new, pull, turn: int) -> None:
    """Odd turns move coarse links and even turns direct ones; entities with one link to a codebook keep it."""
    (before, m_before), (after, m_after) = old, new
    p = {name: _dense(value) for name, value in _parts(before).items()}
    more_than_one = {"S_coarse": s.t_coarse > 1, "S_direct": s.t_direct > 1}
    moves = "S_coarse" if turn % 2 else "S_direct"
    if not more_than_one[moves]:
        moves = next((name for name in WEIGHTS if more_than_one[name]), None)
    for name, value in _parts(after).items():
        if name != moves:
            worst.same("what is not exchanged", np.array_equal(_dense(value), p[name]), True)
    for name in m_before.mean:
        if name != moves:
            for new_part, old_part in ((m_after.mean, m_before.mean), (m_after.square, m_before.square)):
                worst.same("moments of what is not exchanged", np.array_equal(new_part[name], old_part[name]), True)
    if moves is None:
        return
    E_hat, F = reference.codebooks(p, s)
    S, E = getattr(before, moves), E_hat if moves == "S_coarse" else F
    links = _on_links(np.ones(S.nnz), S) != 0
    wish = np.sort(np.where(links, -1, np.abs(_dense(pull) @ E.T)), axis=1)
    strength = np.sort(np.where(links, np.abs(p[moves]) * np.linalg.norm(E, axis=1), np.inf), axis=1)
    clear = (wish[:, -2] < (1 - TIE) * wish[:, -1]) & (strength[:, 0] < (1 - TIE) * strength[:, 1])
    expected, expected_links = reference.exchange_links(p[moves], links, E, _dense(pull))
    found = getattr(after, moves)
    found_links = _on_links(np.ones(found.nnz), found) != 0
    worst.same("exchanged links", np.array_equal(found_links[clear], expected_links[clear]), True)
    worst.same("weights of exchanged links", np.array_equal(_dense(found)[clear], expected[clear]), True)
    for new_part, old_part in ((m_after.mean, m_before.mean), (m_after.square, m_before.square)):
        carried = np.where(expected_links & links, _on_links(old_part[moves], S), 0)
        same = np.array_equal(_on_links(new_part[moves], found)[clear], carried[clear])
        worst.same("moments of exchanged links", same, True)


# ---- the baselines -----------------------------------------------------------------------------------------------------
def table_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """The steps of LightGCN and matrix factorisation (no layers), with a full, a hashed and a quotient-remainder table."""
    yield from _cases("table_step", TABLES, _table_steps, engine, seed)


def _table_steps(model: str, engine: str, c: dict, rng, which: slice) -> Worst:
    worst, data = Worst(), _data(rng)
    settings = _table_settings(rng, c, engine)
    n_hashes, n_rows, m, seed = (int(rng.integers(*ends)) for ends in ((1, 4), (3, 9), (2, 7), (0, 99)))
    made = {
        "full": (table_model.FullTable(N), {}),
        "hashed": (table_model.HashedTable(N, n_rows, n_hashes, seed, settings.dtype),
                   {"S": reference.hashed_assignment(N, n_rows, n_hashes, seed)}),
        "products": (table_model.QuotientRemainderTable(N, m), {}),
    }  # fmt: skip
    table, fixed = made[c["table"]]
    values = table.start(settings.dim, 0.7 * settings.dim**-0.25, rng)
    values |= {"item_bias": 0.5 * rng.standard_normal(N_ITEMS)} if settings.item_bias else {}
    values = {name: value.astype(settings.dtype) for name, value in values.items()}
    A = reference.adjacency(data.train.toarray())
    operator = symmetric_operator(sparse.csr_array(problem.normalised_adjacency(data.train), dtype=settings.dtype))
    batches = [_batch(rng, c["batch"]) for _ in range(3)][which]
    fresh = fresh_moments(values)
    probe = table_training.train_step(values, fresh, table, operator, batches[0], settings)[1].mean
    settings, moments = _clipped(rng, c, settings, probe, next(iter(probe)))
    for batch in batches:
        new, m_new, losses = table_training.train_step(values, moments, table, operator, batch, settings)
        _hold_step(
            worst, model, settings, A, (values | fixed, moments), (new, m_new), batch, settings.lr, losses
        )  # fmt: skip
        values, moments = new, m_new
    return worst


def _table_settings(rng, c: dict, engine: str, **own) -> table_training.TableSettings:
    return table_training.TableSettings(**{
        "dim": c["width"], "n_layers": c["n_layers"], "item_bias": c["item_bias"], "lr": rng.uniform(0.03, 0.05),
        "l2": rng.uniform(1, 4), "decay": rng.uniform(0.02, 0.1), "batch": 17, "neg_size": 3, "eval_every": 2, "patience": 3,
        "max_epochs": 5, "start_scale": 0.3, "max_grad_value": 1e30, "seed": 1, "dtype": c["dtype"], "engine": engine,
        "threads": 1, **own,
    })  # fmt: skip


#: The names that the command line takes.
STEPS = {
    "coarse_step": coarse_step_cases, "fine_step": fine_step_cases, "joint_step": joint_step_cases,
    "table_step": table_step_cases,
}  # fmt: skip
