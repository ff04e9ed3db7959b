"""The step that trains, held to the dense reference: what reaches the optimiser, what it does with it, what comes after.

Every case makes a few steps with the function that training calls, and holds each to a step of :mod:`.reference` from the same
state: losses, clipped gradients (moments reveal them: m_new = 0.9 m + 0.1 g), moments, parameters, the new assignment or the
exchanged links; and, through the step that follows, the new graph. Configurations are drawn from the seed so that every pair
of options occurs; no setting has its default.

float64 and float32 are held to one bound: see :func:`.points.rounding_share`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import numpy as np
import scipy.sparse as sparse

from ..model.joint import exchange, relinked
from ..model.step import AdamMoments, fresh_moments, train_step
from ..training.loop import training_graph
from . import points, reference
from .case import Case
from .points import N_USERS, N, Point, U, Worst, dense, draw_batch, on_links, parts_of

#: Rows of an assignment whose choice is closer than this are left out: float32 may choose otherwise.
TIE = 1e-5
WEIGHTS = ("S_coarse", "S_direct")
MOMENTS, TURNS = {"moments": ("fresh", "later")}, {"turn": ("first", "second", "third")}


def _moments(rng, c: dict, probe: dict[str, np.ndarray]) -> AdamMoments:
    """Before the first step, or as they are after many, of the size of a gradient."""
    if c["moments"] == "fresh":
        return fresh_moments(probe)
    sizes = {name: 5 * np.sqrt(np.sum(part**2) / max(part.size, 1)) or 1e-3 for name, part in probe.items()}
    mean = {name: (size * rng.standard_normal(probe[name].shape)).astype(probe[name].dtype) for name, size in sizes.items()}
    square = {name: (size**2 * rng.uniform(0.5, 2, part.shape)).astype(part.dtype) for (name, size), part in
              zip(sizes.items(), probe.values(), strict=True)}  # fmt: skip
    return AdamMoments(mean, square, int(rng.choice([1, 5, 6, 40, 2000])))


# ---- the way to the reference ------------------------------------------------------------------------------------------
def _entries(values: dict, like: dict) -> dict:
    """What belongs to the trained arrays, dense: the weights of an assignment at their places."""
    return {k: on_links(v, like[k]) if sparse.issparse(like[k]) else dense(v) for k, v in values.items()}


def _hold_step(worst: Worst, point: Point, state, moments, step, batch, rate: float, *, update=False) -> dict:
    """Hold one step of the package, from a state with moments, to one of the reference."""
    model, s, A = point.model, point.settings, point.A
    before, after, m_before, m_after = parts_of(state), parts_of(step.state), moments, step.moments
    p = {name: dense(value) for name, value in (before | point.fixed).items()}
    trained = {name: before[name] for name in m_before.mean}
    m, v = (_entries(part, trained) for part in (m_before.mean, m_before.square))
    links = {name: on_links(np.ones(S.nnz), S) != 0 for name, S in trained.items() if sparse.issparse(S)}
    if model == "joint" and s.dim < 16:
        p["Y"] = np.zeros((N, s.dim))
    roles = (batch.user, batch.positive, batch.negative)
    expected = reference.train_step(
        model, p, A, roles, s, {name: (m[name], v[name]) for name in trained}, m_before.step + 1, rate, links=links, update=update
    )
    u, share = U[s.dtype], points.rounding_share(A, s, expected["H"], roles, points.cancellation(model, p, s))
    worst.add("losses", step.losses, expected["losses"], share * np.abs(expected["losses"]) + share)
    mean, square = (_entries(part, trained) for part in (m_after.mean, m_after.square))
    # The assignment of a table, the identity, is no parameter.
    is_table = "S_coarse" in p and p["S_coarse"].shape == (N, N)
    movable = {name for name in reference.MODELS[model][2] if name in p} - ({"S_coarse"} if is_table else set())
    worst.same("what is trained", (set(m_after.mean), set(m_after.square)), (movable, movable))
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
            worst.add(f"{name} after the step", dense(after[name]), p[name] - change,
                      8 * u * np.abs(p[name]) + 32 * u * np.abs(change) + 1e-40)  # fmt: skip
    for name, value in after.items():
        if name not in trained and not (update and name.startswith("S_")):
            worst.same("what is not trained", np.array_equal(dense(value), p[name]), True)
        worst.same("precision", str(value.dtype), s.dtype)
    for part in (m_after.mean, m_after.square):
        worst.same("precision", {str(value.dtype) for value in part.values()}, {s.dtype})
    return expected | {"share": share}


def _pieces(name: str):
    """A bias of users cancels, and is looked at apart from the items'."""
    if name == "bias":
        return ("bias of users", slice(N_USERS)), ("bias of items", slice(N_USERS, None))
    return ((name, slice(None)),)


# ---- steps -------------------------------------------------------------------------------------------------------------
def coarse_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """The coarse stage's steps: before, at and after an update of the assignment."""
    yield from points.drawn_cases("coarse_step", points.COARSE | MOMENTS, partial(_steps, "coarse"), engine, seed)


def fine_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """The fine stage's steps, likewise; through layers and collapsed."""
    yield from points.drawn_cases("fine_step", points.FINE | MOMENTS, partial(_steps, "fine"), engine, seed)


def joint_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """Joint training's steps, of both codebooks, one, or a table; an exchange of links before the last."""
    yield from points.drawn_cases("joint_step", points.JOINT | MOMENTS | TURNS, partial(_steps, "joint"), engine, seed)


def table_step_cases(engine: str, seed: int) -> Iterator[Case]:
    """The steps of LightGCN and matrix factorisation (no layers), with a full, a hashed and a quotient-remainder table."""
    yield from points.drawn_cases("table_step", points.TABLES | MOMENTS, partial(_steps, "table"), engine, seed)


def _steps(model: str, engine: str, c: dict, rng) -> Worst:
    """Three steps; the second updates the assignment of a stage, before the last links of joint training are exchanged."""
    worst, point = Worst(), points.point(model, engine, c, rng)
    # Below the defaults and above them: what is cut off at its default would show on one side only.
    weights = {"l2": [rng.uniform(1, 4), rng.uniform(6, 12)], "decay": [2e-5, rng.uniform(0.02, 0.1), rng.uniform(2, 8)]}
    drawn = {name: float(rng.choice(values)) for name, values in weights.items()}
    point = dataclasses.replace(point, settings=dataclasses.replace(point.settings, **drawn))
    settings, state, posed = point.settings, point.state, point.problem
    stage, updates = point.stage(posed.engine), model in ("coarse", "fine")
    # In wide cases one of the three, each of them in turn.
    numbers = range(3) if settings.dim < 16 else [c["number"] % 3 if updates else 0]
    batches = {number: draw_batch(rng, c["batch"]) for number in range(3)}

    def train(graph, number, **options):
        weights = {"l2": settings.l2, "decay": settings.decay, "clip": settings.max_grad_value}
        return train_step(stage, state, moments, graph, batches[number], **weights, **options)

    graph, moments = training_graph(stage, state, posed), fresh_moments(state.parameters(stage.trained))
    collapses = getattr(graph, "collapsed", None) is not None
    worst.same("whether steps are collapsed", collapses, c.get("reading") == "collapsed")
    probe = train(graph, numbers[0], learning_rate=0.1)
    settings, moments = _clipped(rng, c, settings, probe.moments.mean, stage.trained[0])
    point, pull = dataclasses.replace(point, settings=settings), probe.gradients.get("Y", 0)
    for number in numbers:
        rate, update, batch = float(10 ** rng.uniform(-3.5, -0.7)), updates and number == 1, batches[number]
        if number == numbers[-1] and "S_coarse" in stage.trained:
            turn = {"first": 0, "second": 1, "third": 2}[c["turn"]] + 3 * int(rng.integers(3))
            reach = float(rng.uniform(0.1, 0.6))
            new, m_new = exchange(state, moments, graph, pull, turn, threshold=state.tau(settings), reach=reach)
            _hold_exchange(worst, settings, (state, moments), (new, m_new), pull, turn, reach)
            state, moments, graph = new, m_new, relinked(graph, new)
        step = train(graph, number, learning_rate=rate, update_assignment=update)
        expected = _hold_step(worst, point, state, moments, step, batch, rate, update=update)
        worst.same("a graph that is no longer right", step.graph is None, update)
        if update:
            _hold_assignment(worst, model, settings, state, step.state, stage.forward(state, graph), expected)
        if "Y" in expected["sizes"]:
            allowed = expected["share"] * np.linalg.norm(expected["sizes"]["Y"])
            worst.add("gradient of Y", step.gradients["Y"], expected["gradients"]["Y"], allowed)
        pull = pull + step.gradients.get("Y", 0)
        state, moments = step.state, step.moments
        # An update may leave weights whose degrees cancel, or scores so far apart that nothing can be told from rounding.
        if update and not points.is_sound(dataclasses.replace(point, state=state)):
            break
        graph = training_graph(stage, state, posed) if update else step.graph
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
    H = np.concatenate([dense(whole.H_entities), dense(whole.H_coarse), *([dense(whole.H_fine)] if model == "fine" else [])])
    worst.add("H", H, expected["H"], 1e3 * U[s.dtype] * np.linalg.norm(expected["H"]))
    p, eps = {key: dense(value) for key, value in parts_of(state).items()}, float(np.finfo(s.dtype).eps)
    S = reference.new_assignment(model, H, p, s, eps)[name]
    weights = (reference.fine_weights if model == "fine" else reference.coarse_weights)(H, p, eps)
    t = s.t_fine if model == "fine" else s.t_coarse
    ordered = np.sort(weights, axis=1)[:, ::-1]
    clear = np.full(len(S), True) if t == S.shape[1] else ordered[:, t - 1] - ordered[:, t] > TIE * np.max(np.abs(weights))
    found = getattr(new, name)
    worst.add(name, dense(found)[clear], S[clear], (1e-9 + 2 * U[s.dtype]) * np.linalg.norm(S))
    worst.same(f"links in a row of {name}", set(np.diff(found.indptr).tolist()), {t})


def _hold_exchange(worst: Worst, s, old, new, pull, turn: int, reach: float) -> None:
    """Coarse links, direct ones and those of the bridge take turns; entities with one link to a codebook keep it."""
    (before, m_before), (after, m_after) = old, new
    p = {name: dense(value) for name, value in parts_of(before).items()}
    may = {"S_coarse": s.t_coarse > 1, "S_direct": s.t_direct > 1, "S_fine": "S_fine" in p}
    movable = [name for name, can in may.items() if can]
    moves = movable[(turn + 2) % 3 if len(movable) == 3 else (turn + 1) % len(movable)] if movable else None
    for name, value in parts_of(after).items():
        if name != moves:
            worst.same("what is not exchanged", np.array_equal(dense(value), p[name]), True)
    for name in m_before.mean:
        if name != moves:
            for new_part, old_part in ((m_after.mean, m_before.mean), (m_after.square, m_before.square)):
                worst.same("moments of what is not exchanged", np.array_equal(new_part[name], old_part[name]), True)
    if moves is None:
        return
    E_hat, F = reference.codebooks(p, s)
    if moves == "S_fine":
        _hold_pursuit(worst, s, old, new, p, F, dense(pull), reach)
        return
    S, E = getattr(before, moves), E_hat if moves == "S_coarse" else F
    links = on_links(np.ones(S.nnz), S) != 0
    wish = np.sort(np.where(links, -1, np.abs(dense(pull) @ E.T)), axis=1)
    strength = np.sort(np.where(links, np.abs(p[moves]) * np.linalg.norm(E, axis=1), np.inf), axis=1)
    clear = (wish[:, -2] < (1 - TIE) * wish[:, -1]) & (strength[:, 0] < (1 - TIE) * strength[:, 1])
    expected, expected_links = reference.exchange_links(p[moves], links, E, dense(pull))
    found = getattr(after, moves)
    found_links = on_links(np.ones(found.nnz), found) != 0
    worst.same("exchanged links", np.array_equal(found_links[clear], expected_links[clear]), True)
    worst.same("weights of exchanged links", np.array_equal(dense(found)[clear], expected[clear]), True)
    for new_part, old_part in ((m_after.mean, m_before.mean), (m_after.square, m_before.square)):
        carried = np.where(expected_links & links, on_links(old_part[moves], S), 0)
        same = np.array_equal(on_links(new_part[moves], found)[clear], carried[clear])
        worst.same("moments of exchanged links", same, True)


def _hold_pursuit(worst: Worst, s, old, new, p, F, pull, reach: float) -> None:
    """The bridge is found anew by pursuit of g S_f F moved along its gradient; rows that it would take further off stay."""
    (before, m_before), (after, m_after) = old, new
    G = p["S_coarse"].T @ pull
    size = np.sqrt(np.mean(G**2, axis=1, keepdims=True))
    target = p["S_fine"] @ F - reach / s.gate * G / np.where(size > 0, size, 1)
    S, clear = reference.pursue(target, F, s.t_fine)
    off = [np.sum((target - each @ F) ** 2, axis=1) for each in (S, p["S_fine"])]
    scale, alone = np.linalg.norm(target), np.sum(np.abs(F) > 0, axis=1).min() > 0
    clear = (clear > TIE * scale) & (np.abs(off[0] - off[1]) > TIE * scale**2)
    expected = np.where((off[0] < off[1])[:, None], S, p["S_fine"])
    found, links = after.S_fine, on_links(np.ones(after.S_fine.nnz), after.S_fine) != 0
    worst.same("links in a row of S_fine", set(np.diff(found.indptr).tolist()), {s.t_fine})
    if not alone or not clear.any():
        return
    # Weights of rows that are nearly multiples of each other are not determined, what they add up to is.
    worst.add("what the bridge makes", (dense(found) @ F)[clear], (expected @ F)[clear], 1e-3 * scale)
    was = on_links(np.ones(before.S_fine.nnz), before.S_fine) != 0
    for new_part, old_part in ((m_after.mean, m_before.mean), (m_after.square, m_before.square)):
        carried = np.where(links & was, on_links(old_part["S_fine"], before.S_fine), 0)
        worst.same("moments of the bridge", np.array_equal(on_links(new_part["S_fine"], found), carried), True)


#: The names that the command line takes.
STEPS = {
    "coarse_step": coarse_step_cases, "fine_step": fine_step_cases, "joint_step": joint_step_cases,
    "table_step": table_step_cases,
}  # fmt: skip
