"""Whole trainings, epoch by epoch: each is the sequence of steps that its settings say, to the last bit.

:mod:`.steps` holds single steps to the dense reference. Here those steps are made one after another by the rules, which are
written down once more (what is trained, batch, learning rate, when an assignment is updated or links are exchanged), and the
epoch that training made must end in the same bits. Then come the losses and scores that it noted, and what every phase begins
and ends with.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
from scipy.special import gammainc

from ..baselines import Coarse, load_baseline, product_quantisation, table_stage, tables
from ..engine import engine_named
from ..model.coarse import CoarseStage
from ..model.fine import FineStage
from ..model.graph import normalised_adjacency
from ..model.joint import JointStage
from ..model.links import residual_code, shared_code
from ..model.loss import Triples
from ..model.sampling import generator, sample_triples
from ..model.starts import partition_entities, with_singular_vectors
from ..model.step import fresh_moments, train_step
from ..settings import Settings
from ..training import loop, train_control, train_refit
from ..training.loop import training_graph
from ..training.phases import chosen_epochs, control_phases, phases_of
from ..training.problem import entity_embeddings, evaluate_state, pose
from . import reference
from .case import Case
from .points import N_COARSE, N_FINE, N_USERS, N, U, Worst, data_set, dense, drawn_cases, parts_of
from .problems import rounding_decides
from .threads import every_array_from_reused_memory

COMMON = {
    "schedule": ("constant", "cosine", "steps"), "update_every": (0, 1, 2), "dtype": tuple(U), "patience": (1, 9),
    "first_phase": ("short", "long", "none"), "validation": (True, False, "empty"),
}  # fmt: skip
STAGES = COMMON | {"reading": ("layers", "collapsed", "bridged"), "start": ("scores", "components")}
JOINT = COMMON | {
    "parts": ("coarse codebook", "direct links", "bridge", "both"), "start": ("partition", "table", "either"),
    "exchange_epochs": (0, 2, 9), "density": (1.0, 0.4), "dead_zone": ("closed", "open"), "residual": ("dense", "none"),
    "table_start": ("normal", "svd"),
}  # fmt: skip
TABLES = {
    "table": ("full", "hashed", "products", "narrow", "quantised"), "dtype": tuple(U), "item_bias": (False, True),
    "patience": (1, 9), "validation": (True, False, "empty"), "stored_as": ("dtype", "int8"), "schedule": COMMON["schedule"],
    "table_start": ("normal", "svd"),
}  # fmt: skip
#: Of the coarse stage alone, parameters that settings call by another name or do not have.
COARSE = {"lr": "coarse_lr", "batch": "coarse_batch", "random_state": "seed", "n_jobs": "threads"}
OTHERS = ("preset", "validation_fraction", "verbose")
BIASES = ("bias", "bias_global")
BATCH = 70  # about two full batches of an epoch, and one that is not


# ---- trainings ---------------------------------------------------------------------------------------------------------
def stages_training_cases(engine: str, seed: int) -> Iterator[Case]:
    """The four phases of the two stages, the control, and the coarse stage by itself."""
    yield from drawn_cases("stages_training", STAGES, _stages, engine, seed)


def joint_training_cases(engine: str, seed: int) -> Iterator[Case]:
    """Joint training from a partition, a table, or the better of the two; links are exchanged."""
    yield from drawn_cases("joint_training", JOINT, _joint, engine, seed)


def table_training_cases(engine: str, seed: int) -> Iterator[Case]:
    """The trainer of the baselines."""
    yield from drawn_cases("table_training", TABLES, _tables, engine, seed)


def _settings(rng, c: dict, engine: str, **own) -> Settings:
    first = {"short": {"phase1_epochs": 1}, "long": {"phase1_epochs": 7}, "none": {"coarse_phase1": False}}[c["first_phase"]]
    return Settings(**{
        "n_coarse": N_COARSE, "n_fine": N_FINE, "dim": int(rng.integers(3, 7)), "n_layers": int(rng.integers(1, 4)),
        "t_coarse": 2, "t_fine": 2, "gate": 0.35, "threshold": float(rng.choice([0.2, 1.3])), "l2": float(rng.choice([2.5, 7.5])),
        "decay": float(rng.choice([2e-5, 0.03, 2.0])), "max_grad_value": float(rng.choice([0.02, 4.0])),
        "coarse_lr": 0.04, "fine_lr": 0.07, "start_lr": 0.1, "coarse_batch": BATCH, "fine_batch": BATCH - 9, "neg_size": 3,
        "eval_every": 2, "patience": c["patience"], "max_epochs": 3, "lr_schedule": c["schedule"], "n_components": 3,
        "anchor_weight": 0.7,
        "update_every": c["update_every"], "seed": int(rng.integers(1000)), "partition": "random", "degree": "absolute",
        "dtype": c["dtype"], "engine": engine, "threads": 1, **first, **own,
    })  # fmt: skip


def _stages(engine: str, c: dict, rng) -> Worst:
    worst, reading = Worst(), c["reading"]
    settings = _settings(
        rng, c, engine, composition="bridged" if reading == "bridged" else "coarse", renormalise_fine=True,
        propagation="collapsed" if reading == "collapsed" else "layers", layer_bridge="exchange", fine_start=c["start"],
    )  # fmt: skip
    posed = pose(data_set(rng, validation=c["validation"]), settings)
    done = _train(worst, posed, ("coarse_phase1", "coarse", "fine_phase1", "fine")[not settings.coarse_phase1 :])
    own = {name: getattr(settings, COARSE.get(name, name)) for name in Coarse().get_params() if name not in OTHERS}
    alone = Coarse(**own).fit(posed.data).phases_
    worst.same("phases of the coarse stage alone", list(alone), list(done.finished)[:-2])
    for phase, best in alone.items():
        worst.same("the coarse stage alone", _bits(best.state), _bits(done.finished[phase].state))
    _follow_control(worst, done, posed)
    return worst


def _joint(engine: str, c: dict, rng) -> Worst:
    worst = Worst()
    phases = {"partition": ("joint",), "table": ("table", "joint"), "either": ("partition", "table", "joint")}[c["start"]]
    gate = {"dense": 0.35, "none": 1.0}[c["residual"]] if c["parts"] in ("bridge", "both") else 0.0
    settings = _settings(
        rng, c, engine, training="joint", fine_start="normal", gate=gate, exchange_epochs=c["exchange_epochs"],
        dead_zone=c["dead_zone"], fine_density=c["density"] if c["parts"] != "coarse codebook" else 1.0,
        t_direct=2 * (c["parts"] in ("direct links", "both")),
        table_start=c["table_start"] if "table" in phases else "normal",
        table_epochs=2 * ("table" in phases), partition_epochs=4 * ("partition" in phases), max_epochs=4,
    )  # fmt: skip
    _train(worst, pose(data_set(rng, validation=c["validation"]), settings), phases)
    return worst


def _train(worst: Worst, posed, names):
    """A whole training."""
    s, most = posed.settings, {}
    for name in names:
        first = s.phase1_epochs if name.endswith("_phase1") else 0
        whole = {"table": s.table_epochs, "partition": s.partition_epochs}.get(name, s.max_epochs)
        most[name] = min(first or whole, whole)
    phases = phases_of(s, posed.engine)
    _hold_start(worst, posed, names[0], loop.begin(phases, posed).state)
    done = _follow(worst, posed, phases, most, s.patience)
    stage, state = _stage(names[-1], posed), done.result.state
    H = stage.forward(state, stage.graph(state, posed.A)).H_entities
    worst.same("embeddings of the result", _bits(entity_embeddings(state, posed.A, s)), _bits(H))
    if _can_be_scored(posed.data):
        held_out = dataclasses.replace(posed.data, validation=None)
        again = train_refit(phases, chosen_epochs(phases, done), pose(held_out, s))
        worst.same("a refit on the same interactions", _bits(again.result.state), _bits(state))
    return done


def _follow(worst: Worst, posed, phases, most: dict[str, int], patience: float, longest: int = 0):
    """Every epoch, then where every phase ends and the next begins."""
    names, progress, graph = list(most), loop.begin(phases, posed), None
    worst.same("phases", [phase.name for phase in phases], names)
    worst.same("counts at the start", (progress.stage_epoch, progress.phase_epoch, progress.bad_evaluations), (0, 0, 0))
    worst.same("history at the start", (progress.history, progress.best), ((), None))
    _hold_moments(worst, posed, progress)
    while not progress.is_done:
        number = names.index(progress.phase)
        name, phase = names[number], phases[number]
        with every_array_from_reused_memory(posed.settings.engine):
            after, _ = loop.train_epoch(phase, progress, posed, graph)
        _hold_epoch(worst, phase, progress, after, posed, most[name], longest or most[name])
        following, graph = loop.run_epoch(phases, progress, posed, graph)
        ends = after.phase_epoch == most[name] or after.bad_evaluations >= patience
        worst.same("when a phase ends", following.phase, [*names, "done"][number + 1] if ends else name)
        if ends:
            _hold_end(worst, posed, after, following)
        else:
            worst.same("an epoch of the loop", _bits(following), _bits(after))
        progress = following
    return progress


def _stage(phase: str, posed):
    """What trains in a phase: in joint training all there is, but for the links of a table."""
    if posed.settings.training == "joint":
        stage = JointStage(posed.settings, posed.engine)
        return dataclasses.replace(stage, trained=("E_coarse", *BIASES)) if phase == "table" else stage
    return (FineStage if phase.startswith("fine") else CoarseStage)(posed.settings, posed.engine)


def _hold_moments(worst: Worst, posed, progress) -> None:
    """Fresh, of what the phase trains."""
    every = ("E_coarse", "E_fine", "S_coarse", "S_fine", "S_direct") if posed.settings.training == "joint" else ("E_coarse",)
    codebooks = {"fine": ("E_fine",), "table": ("E_coarse",)}.get(progress.stage, every)
    parts = {name: part for name, part in parts_of(progress.state).items() if name in (*codebooks, *BIASES)}
    zeros = {name: np.zeros_like(part.data if sparse.issparse(part) else part) for name, part in parts.items()}
    found = progress.moments
    worst.same("fresh moments", (_bits(found.mean), _bits(found.square), found.step), (_bits(zeros), _bits(zeros), 0))


def _hold_epoch(worst: Worst, phase, before, after, posed, most: int, longest: int) -> None:
    """One epoch: its steps, its row of history, and what is kept; schedules reckon with `longest` epochs."""
    s, stage = posed.settings, before.phase.removesuffix("_phase1")
    epoch, second = before.phase_epoch, not before.phase.endswith("_phase1")
    rate = {"coarse": s.coarse_lr, "joint": s.coarse_lr, "table": s.start_lr, "partition": s.start_lr}.get(stage, s.fine_lr)
    kind = s.lr_schedule if second else "constant"
    worst.add("learning rate", phase.rate_of(epoch), rate * _share(kind, epoch, longest), 1e-15)
    for long in (6, 7, 12):  # a schedule of its own length, which few phases here reach
        longer = dataclasses.replace(phase, schedule_epochs=long)
        for later in range(long):
            worst.add("learning rate", longer.rate_of(later), rate * _share(kind, later, long), 1e-15)
    for every in (1, 2, 3):
        often = dataclasses.replace(phase, update_every=every, exchange_every=every, exchange_epochs=9)
        found = [(often.updates_in(later), often.exchanges_after(later)) for later in range(12)]
        worst.same("epochs with updates", [updates for updates, _ in found], [later % every == 0 for later in range(12)])
        due = [later < 9 and later % every == every - 1 for later in range(12)]
        worst.same("epochs with exchanges", [exchanges for _, exchanges in found], due)
    state, moments, losses, sizes = _epoch(before, posed, phase.rate_of(epoch))
    falls = s.fine_density < 1 and before.phase == "joint"
    # Two thirds of the epochs, or one more, make the fine codebook sparse.
    done = min(1, (epoch + 1) / math.ceil(2 * longest / 3)) if falls else 1
    if falls:
        share = s.fine_density + (1 - s.fine_density) * (1 - done) ** 3
        sizes_of = np.sort(np.abs(state.E_fine).ravel())[::-1]
        tau = max(state.threshold[0], *sizes_of[math.floor(share * len(sizes_of)) :][:1])
        state = dataclasses.replace(state, threshold=np.array([tau], dtype=s.dtype))
        alive = np.sum(np.abs(after.state.E_fine) > after.state.threshold)
        worst.same("as sparse as it must be", bool(alive <= share * len(sizes_of)), True)
    worst.same("state after an epoch", _bits(after.state), _bits(state))
    worst.same("moments after an epoch", _bits(after.moments), _bits(moments))
    bpr, regulariser = np.average(losses, axis=0, weights=sizes)
    full = s.fine_batch if stage in ("fine", "control") else s.coarse_batch
    worst.same("sizes of batches", sizes[:-1], [full] * (len(sizes) - 1))
    worst.same("size of the last batch", 0 < sizes[-1] <= full, True)
    row = after.history[-1]
    worst.same("seconds", 0 <= row["seconds"] < 3600, True)
    worst.same("rows of history", after.history[:-1], before.history)
    for name, value in (("bpr", bpr), ("regulariser", regulariser), ("loss", bpr + s.decay * regulariser)):
        worst.add("losses of history", row[name], value, 1e-14 * abs(value))
    E_fine = after.state.E_fine
    alive = np.nan if E_fine is None else np.mean(np.abs(E_fine) > state.tau(s))
    labels = (row["stage"], row["phase"], row["epoch"], after.stage_epoch, after.phase_epoch)
    worst.same("numbers of history", labels, (stage, before.phase, before.stage_epoch + 1, before.stage_epoch + 1, epoch + 1))
    worst.same("share above the threshold", np.array_equal(row["nonzero_fine"], alive, equal_nan=True), True)
    evaluated = (epoch + 1) % s.eval_every == 0 or epoch + 1 >= most
    _hold_score(worst, before, after, posed, row["validation_ndcg@5"], evaluated, evaluated and done == 1)


def _can_be_scored(data) -> bool:
    return data.held_out("validation") is not None


def _share(schedule: str, epoch: int, longest: int) -> float:
    """Of the learning rate, in an epoch counted from 0."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * epoch / longest)) / 2
    if schedule == "steps":
        return 1 if epoch / longest < 2 / 3 else 1 / 3 if epoch / longest < 5 / 6 else 1 / 10
    return 1


def _hold_score(worst: Worst, before, after, posed, score: float, evaluated: bool, counts: bool) -> None:
    """The score is that of the state after the epoch; the best state is the first of the best score that counts, or the last."""
    known = _can_be_scored(posed.data) and evaluated
    worst.same("which epochs have a score", not np.isnan(score), known)
    if known and posed.settings.dtype == "float64":  # in float32 two items may change places
        worst.add("validation score", score, _ndcg(after.state, posed), 1e-12)
    better = counts and (before.best is None or not known or score > before.best.score)
    if better:
        worst.same("the best state", (after.best.epoch, after.best.state is after.state), (after.stage_epoch, True))
        worst.same("the best score", np.array_equal(after.best.score, score, equal_nan=True), True)
    else:
        worst.same("the best state", after.best is before.best, True)
    bad = 0 if better else before.bad_evaluations + counts
    worst.same("evaluations without improvement", after.bad_evaluations, bad)


def _ndcg(state, posed) -> float:
    """Validation NDCG@5 of a state, from the reference."""
    s, data = posed.settings, posed.data
    p = {name: dense(value) for name, value in parts_of(state).items()}
    model = "joint" if s.training == "joint" else "fine" if "E_fine" in p else "coarse"
    make_graph, embed, _ = reference.MODELS[model]
    H = embed(p, make_graph(reference.adjacency(data.train.toarray()), p, s), s)[1][:N]
    scores = H[:N_USERS] @ H[N_USERS:].T + p["bias"][N_USERS:]
    return reference.ndcg(scores, data.train.toarray() != 0, data.validation.toarray() != 0, 5)


def _epoch(before, posed, rate: float):
    """The steps of an epoch, and an exchange of links after them."""
    s, name, epoch = posed.settings, before.phase.removesuffix("_phase1"), before.phase_epoch
    stage, state, moments, graph, pull = _stage(before.phase, posed), before.state, before.moments, None, 0
    updates = before.phase in ("coarse", "fine", "control") and {0: epoch == 0, 1: True, 2: epoch in (0, 2, 4)}[s.update_every]
    exchanges = {0: epoch == 0, 1: True, 2: epoch in (1, 3, 5)}[s.update_every]
    size, losses, sizes = s.fine_batch if name in ("fine", "control") else s.coarse_batch, [], []
    for triples in _batches(generator(s.seed, name, before.stage_epoch), posed.R, s.neg_size, size, posed.engine):
        graph = training_graph(stage, state, posed) if graph is None else graph
        step = train_step(
            stage, state, moments, graph, triples, l2=s.l2, decay=s.decay, clip=s.max_grad_value, learning_rate=rate,
            update_assignment=updates and not losses,
        )  # fmt: skip
        state, moments, graph = step.state, step.moments, step.graph
        losses.append(step.losses)
        sizes.append(len(triples))
        pull = pull + step.gradients.get("Y", 0)
    if before.phase == "joint" and epoch < s.exchange_epochs and exchanges:
        turn = {0: 1, 1: epoch + 1, 2: (epoch + 1) // 2}[s.update_every]
        state, moments = loop.exchange(state, moments, graph, pull, turn, threshold=state.tau(s), reach=rate * len(losses))
    return state, moments, losses, sizes


def _batches(rng, R, neg_size: int, size: int, engine) -> Iterator[Triples]:
    """As many draws as there are interactions, shuffled and cut."""
    columns = sample_triples(R, R.nnz, neg_size, int(rng.integers(2**63)), engine=engine)
    order = rng.permutation(len(columns[0]))
    for first in range(0, len(order), size):
        yield Triples.by_user(columns, order[first : first + size], *R.shape, engine=engine)


def _hold_end(worst: Worst, posed, after, following) -> None:
    """The phase's result is its best state; a second phase goes on from where the first stands, all others begin anew."""
    phase, then = after.phase, following.phase
    result = following.finished[phase]
    worst.same("the result of a phase", _bits(result), _bits(after.best))
    if phase in ("coarse", "fine") and _can_be_scored(posed.data):
        of_phase = next(each for each in phases_of(posed.settings, posed.engine) if each.name == phase)
        alone, beside = (evaluate_state(result.state, posed, "validation", stage=stage) for stage in (None, of_phase.stage))
        worst.same("a state without its stage", alone.metrics, beside.metrics)
    earlier = {name: best for name, best in following.finished.items() if name != phase}
    worst.same("results of earlier phases", _bits(earlier), _bits(after.finished))
    worst.same("counts at the start of a phase", (following.phase_epoch, following.bad_evaluations), (0, 0))
    if then in ("coarse", "fine", "control", "done"):
        worst.same("a second phase goes on", _bits(following.state), _bits(after.state))
        worst.same("moments of a second phase", _bits(following.moments), _bits(after.moments))
        worst.same("epochs of the stage go on", (following.stage_epoch, following.best), (after.stage_epoch, None))
        return
    state, s = following.state, posed.settings
    worst.same("epochs of a new stage", following.stage_epoch, 0)
    _hold_moments(worst, posed, following)
    worst.same("precision", {str(part.dtype) for part in parts_of(state).values()}, {s.dtype})
    if then != "joint" or following.started_from == "table":
        _hold_start(worst, posed, then, state, following.finished.get("table"))
    if then == "fine_phase1":
        best = following.finished["coarse"].state
        for name in ("E_coarse", "S_coarse", "bias", "bias_global"):
            worst.same("where the fine stage starts", _bits(getattr(state, name)), _bits(getattr(best, name)))
    if then == "joint":
        table, rival = following.finished["table"], following.finished.get("partition")
        started = following.started_from
        kept = rival.state if started == "partition" else table.state
        worst.same("biases of the start", _bits(kept.bias), _bits(state.bias))
        if not _can_be_scored(posed.data):
            worst.same("what joint training starts from", (started, following.best), ("table", None))
        else:
            own, best = evaluate_state(state, posed, "validation").metrics["ndcg@5"], following.best
            found = None if best is None else (best.score, best.epoch, best.state is state)
            worst.same("whether the start is a candidate", found, (own, 0, True) if s.fine_density == 1 else None)
            worst.same("the better start", started == "table" or own > -1 and rival.score == own, True)
            worst.same("the worse start", rival is None or own >= rival.score, True)
            if started == "table":
                tied = {"table": table, "partition": loop.Best(own, 1, table.state)}
                again = phases_of(s, posed.engine)[-1].start(tied, posed).started_from
                worst.same("of two starts that validate equally well", again, "table")
            alone = phases_of(s, posed.engine)[-1].start({"partition": loop.Best(own, 1, table.state)}, posed)
            worst.same("a refit", (alone.state is table.state, alone.best, alone.started_from), (True, None, "partition"))


def _hold_start(worst: Worst, posed, phase: str, state, table=None) -> None:
    """What a phase starts from: normal codebooks, partitions of the entities, a code of the table."""
    s, p = posed.settings, {name: dense(value) for name, value in parts_of(state).items()}
    own = {
        k: partition_entities(posed.R, n, method="random", seed=s.seed + k) for k, n in enumerate((s.n_coarse, s.n_fine))
    }  # another seed for the partition of the fine rows

    def partitioned(what, S, parts, t):
        anchor = 1.0 if t == 1 else s.anchor_weight
        rest = np.sort(np.where(np.arange(S.shape[1]) == parts[:, None], 0, S), axis=1)[:, ::-1]
        expected = np.zeros(S.shape)
        expected[:, : t - 1] = (1 - anchor) / max(t - 1, 1)
        worst.add(f"own part of {what}", S[np.arange(len(S)), parts], anchor, 1e-6)
        worst.add(f"other parts of {what}", rest, expected, 1e-6)

    def normal(what, E, deviation=1.0):
        # A sum of squares that one normal sample in ten million has, below and above; of an empty one there is nothing to see.
        below = gammainc(E.size / 2, np.sum((E / deviation) ** 2) / 2) if E.size else 0.5
        worst.same(f"deviation of {what}", 1e-7 < below < 1 - 1e-7, True)

    if phase not in ("fine_phase1", "joint") or table is None and phase == "joint":
        normal("bias", p["bias"])
        worst.same("global bias", p["bias_global"].tolist(), [0.0])
        if phase == "table" and s.table_start == "svd":
            worst.add("size of E_coarse", np.log(np.sqrt(np.mean(p["E_coarse"] ** 2)) / 0.3), 0, 0.5)
        else:
            normal("E_coarse", p["E_coarse"], 0.1 if phase == "table" else 1.0)
        if phase == "table":
            worst.same("assignment of a table", np.array_equal(p["S_coarse"], np.eye(N)), True)
            return
        partitioned("S_coarse", p["S_coarse"], own[0], s.t_coarse)
    wanted = {"E_fine": phase == "fine_phase1" or s.training == "joint" and (s.gate > 0 or s.t_direct > 0),
              "S_fine": phase == "fine_phase1" or s.training == "joint" and s.gate > 0, "S_direct": s.t_direct > 0}  # fmt: skip
    worst.same("parts of the start", {name: name in p for name in wanted}, wanted)
    own_threshold = p["threshold"].tolist() if "threshold" in p else None
    rises = wanted["E_fine"] and s.fine_density < 1
    worst.same("threshold of the start", own_threshold, np.array([s.threshold], s.dtype).tolist() if rises else None)
    F = reference.soft_threshold(p["E_fine"], s.threshold) if wanted["E_fine"] else None
    if table is not None:
        _hold_code(worst, posed, p, F, dense(table.state.S_coarse) @ dense(table.state.E_coarse))
    elif wanted["S_fine"]:
        _hold_bridge(worst, s, p["S_fine"], p["S_coarse"], own[1])
    if table is None and s.t_direct:
        partitioned("S_direct", p["S_direct"], own[1], s.t_direct)
    if table is None and s.training == "joint" and wanted["E_fine"]:
        normal("F", F)
        worst.same("alive at the start", bool(np.all(np.abs(p["E_fine"]) > s.threshold)), True)


def _hold_code(worst: Worst, posed, p: dict, F, Y) -> None:
    """Codebooks and links say what the code of the table says: E_hat is its coarse codebook and F its fine one.

    With a bridge, fine rows code its coarse rows. Without direct links or a residual these are fine rows of their own, and a
    coarse row counts as often as it is used; without a residual, direct links code what is then left.
    """
    s = posed.settings
    R = dense(posed.R)
    count = 1 + np.concatenate([R.sum(axis=1), R.sum(axis=0)])
    parts = partition_entities(posed.R, s.n_coarse, method=s.partition, seed=s.seed)
    own_rows = "S_fine" in p and not (s.t_direct and s.gate < 1)  # fine rows that are found for the coarse rows first

    def coded(Y):
        code = residual_code(Y, s.n_coarse, s.n_fine, s.t_coarse, s.t_direct, seed=s.seed, parts=parts, weight=count)
        if not own_rows:
            return code, code.F, None
        S_coarse = dense(code.S_coarse)
        used = np.sum(count[:, None] * S_coarse**2, axis=0)
        weight = np.sqrt(np.where(used > 0, used, 1))[:, None]
        tables = [weight * code.E_hat, *([np.sqrt(count)[:, None] * (Y - S_coarse @ code.E_hat)] if s.t_direct else [])]
        fine, links = shared_code(tables, s.n_fine, [s.t_fine, s.t_direct][: len(tables)], seed=s.seed)
        return code, fine, dense(links[0]) / weight / s.gate

    def codebooks(tables):
        code, fine, _ = coded(*tables)
        return {"E_hat": code.E_hat} | ({} if fine is None else {"F": fine})

    every, worst = worst, Worst()
    code, fine, S_fine = coded(Y)
    E_hat, S_coarse = code.E_hat, dense(code.S_coarse)
    worst.add("S_coarse of the code", p["S_coarse"], S_coarse, 1e-6 * np.linalg.norm(p["S_coarse"]))
    wanted, clear = None if code.F is None else dense(code.S_direct), slice(None)
    if own_rows:
        worst.add("S_fine of the code", p["S_fine"], S_fine, 1e-6 * np.linalg.norm(S_fine))
        E_hat = E_hat if s.gate < 1 else S_fine @ fine
        if s.t_direct:
            wanted, gap = reference.pursue(Y - S_coarse @ E_hat, fine, s.t_direct)
            clear = gap > 1e-6 * np.linalg.norm(Y)
    elif "S_fine" in p:
        S_fine, gap = reference.pursue(E_hat / s.gate, fine, s.t_fine)
        sure = gap > 1e-6 * np.linalg.norm(E_hat)
        worst.add("S_fine of the code", (p["S_fine"] @ fine)[sure], (S_fine @ fine)[sure], 1e-3 * np.linalg.norm(S_fine @ fine))
    worst.same("rows of a residual", len(p["E_coarse"]), 0 if "S_fine" in p and s.gate == 1 else s.n_coarse)
    # E_c and E_f, that is F moved away from zero by tau, are rounded, and may be much larger than what they add up to.
    moved = None if F is None else np.abs(F) + s.threshold
    terms = s.gate * np.abs(p["S_fine"]) @ moved if "S_fine" in p else np.zeros(E_hat.shape)
    terms += (1 - s.gate) * np.abs(p["E_coarse"]) if len(p["E_coarse"]) else 0
    rounding = 8 * U[s.dtype]
    most = 1e-5 * np.linalg.norm(E_hat) + rounding * np.linalg.norm(terms)
    worst.add("E_hat of the code", reference.codebooks(p, s)[0], E_hat, most)
    if F is not None:
        worst.add("F of the code", F, fine, 1e-5 * np.linalg.norm(fine) + rounding * np.linalg.norm(moved))
    if wanted is not None:
        found = p["S_direct"][clear] @ fine
        worst.add("S_direct of the code", found, (wanted @ fine)[clear], 1e-3 * np.linalg.norm(wanted @ fine))
    if not worst.is_too_much or not rounding_decides(codebooks, [Y], 1e-5):
        every.take(worst)


def _hold_bridge(worst: Worst, s, S_fine, S_coarse, parts) -> None:
    """S_f at the start, in the rows whose choice is clear: equal counts of a partition give equal weights."""
    every = reference.start_fine_assignment(S_coarse, parts, s.n_fine, s.n_fine, False)
    ordered = np.sort(every, axis=1)[:, ::-1]
    clear = ordered[:, s.t_fine - 1] - ordered[:, s.t_fine] > 1e-5
    renormalise = s.renormalise_fine or s.training == "joint" and s.gate == 1
    S = reference.start_fine_assignment(S_coarse, parts, s.n_fine, s.t_fine, renormalise)
    worst.add("S_fine at the start", S_fine[clear], S[clear], 1e-6 * np.linalg.norm(S))
    worst.add("sums of S_fine", np.sort(S_fine, axis=1), np.sort(S, axis=1), 1e-5)


def _follow_control(worst: Worst, done, posed) -> None:
    """The control makes the fine stage's epochs, by its rate and batch, with the coarse codebook."""
    # As if the fine stage had been ended an epoch early: the schedule does not become shorter.
    done = dataclasses.replace(done, history=done.history[:-1])
    most = {f"control{end}": sum(row["phase"] == f"fine{end}" for row in done.history) for end in ("_phase1", "")}
    phases = control_phases(done, posed)
    worst.same("where the control starts", _bits(loop.begin(phases, posed).state), _bits(done.finished["coarse"].state))
    followed = _follow(worst, posed, phases, most, math.inf, posed.settings.max_epochs)
    worst.same("the control", _bits(train_control(done, posed)), _bits(followed))


# ---- the trainer of the baselines ----------------------------------------------------------------------------------------
def _tables(engine: str, c: dict, rng) -> Worst:
    worst, data = Worst(), data_set(rng, validation=c["validation"])
    in_bytes, number, d = c["stored_as"] == "int8", np.dtype(c["dtype"]).itemsize, 4

    def weighs(*rows: int) -> int:  # a column of tables with so many rows
        return sum(n + 4 if in_bytes else n * number for n in rows)

    biases = c["item_bias"] * data.n_items * (2 if in_bytes else number)
    # A byte less than a fourth column, a seventh row, or another row of quotients or remainders would take.
    budget = {"hashed": d * weighs(7), "narrow": 4 * weighs(N), "products": d * weighs(5, -(-N // 5) + 1)}.get(c["table"], 0) - 1
    n_remainders = max((m for m in range(1, N) if d * weighs(m, -(-N // m)) <= budget), default=5)
    given = {"bytes": budget + biases} if rng.random() < 0.5 or c["table"] == "narrow" else {}
    kind, own = {
        "full": (tables.LightGCN, {}), "narrow": (tables.NarrowLightGCN, given),
        "quantised": (product_quantisation.ProductQuantisedLightGCN, {"n_parts": 2, "n_centroids": 3}),
        "hashed": (tables.HashedLightGCN, {"n_hashes": 2} | (given or {"n_rows": 6})),
        "products": (tables.QuotientRemainderLightGCN, given or {"n_remainders": n_remainders}),
    }[c["table"]]  # fmt: skip
    start = c["table_start"] if c["table"] in ("full", "narrow", "quantised") else "normal"
    s = kind(
        dim=d, n_layers=int(rng.integers(0, 4)), item_bias=c["item_bias"], lr=0.04, l2=2.5, decay=0.03, batch=BATCH, neg_size=3,
        eval_every=2, patience=c["patience"], max_epochs=5, start_scale=0.3, max_grad_value=0.02,
        random_state=int(rng.integers(1000)), lr_schedule=c["schedule"], table_start=start,
        dtype=c["dtype"], stored_as=c["stored_as"], engine=engine, n_jobs=1, validation_fraction=0.0, **own,
    )  # fmt: skip
    table = {
        "full": table_stage.FullTable(N), "narrow": table_stage.FullTable(N),
        "hashed": table_stage.HashedTable(N, 6, 2, s.seed, s.dtype, engine),
        "products": table_stage.QuotientRemainderTable(N, n_remainders),
        "quantised": product_quantisation.QuantisedTable(N, 2, 3),
    }[c["table"]]  # fmt: skip
    rows: list[dict] = []

    def note(progress) -> None:
        columns = ("epoch", "bpr", "regulariser", "loss", "validation_ndcg@5", "seconds")
        rows.append({name: progress.history[-1][name] for name in columns})

    given = {"X": data} if rng.random() < 0.5 else {"X": data.train, "validation": data.validation}  # a data set, or matrices
    if rng.random() < 0.5:
        trained = s.fit(**given, after_epoch=note)
    else:
        trained = s.fit(**given)
        rows = trained.history_
    values = table.start(3 if c["table"] == "narrow" else s.dim, s.start_scale, np.random.default_rng([s.seed, 0]))
    R = sparse.csr_array(data.train)
    if start == "svd":
        values["embeddings"] = with_singular_vectors(values["embeddings"], R, s.seed)
    values |= {"item_bias": np.zeros(data.n_items)} if s.item_bias else {}
    values = {name: value.astype(s.dtype) for name, value in values.items()}
    state, moments = table_stage.TableState(values, N), fresh_moments(values)
    stage = table_stage.TableStage(table, s.n_layers, tuple(values), engine_named(engine))
    graph = stage.graph(state, normalised_adjacency(R).astype(s.dtype))
    best, bad, score, number = (None, np.nan, 0), 0, np.nan, 0
    for number, row in enumerate(rows, 1):
        losses, sizes = [], []
        with every_array_from_reused_memory(engine):
            for triples in _batches(np.random.default_rng([s.seed, number]), R, s.neg_size, BATCH, stage.engine):
                step = train_step(
                    stage, state, moments, graph, triples, l2=s.l2, decay=s.decay, clip=s.max_grad_value,
                    learning_rate=s.lr * _share(s.lr_schedule, number - 1, s.max_epochs),
                )  # fmt: skip
                state, moments = step.state, step.moments
                losses.append(step.losses)
                sizes.append(len(triples))
        bpr, regulariser = np.average(losses, axis=0, weights=sizes)
        for name, value in (("bpr", bpr), ("regulariser", regulariser), ("loss", bpr + s.decay * regulariser)):
            worst.add("losses of history", row[name], value, 1e-14 * abs(value))
        score, evaluated = row["validation_ndcg@5"], number % 2 == 0 or number == s.max_epochs
        worst.same("which epochs have a score", not np.isnan(score), evaluated and _can_be_scored(data))
        if evaluated:
            better = best[0] is None or np.isnan(score) or score > best[1]
            best, bad = ((state.arrays, score, number), 0) if better else (best, bad + 1)
        worst.same("numbers of history", row["epoch"], number)
    worst.same("when training ends", bad >= s.patience or number == s.max_epochs, True)
    worst.same("the best epoch", trained.best_epoch_, best[2])
    worst.same("whether it took time", trained.seconds_ > 0, True)
    kept, arrays = {}, dict(best[0])
    if c["table"] == "quantised":
        arrays["codes"], arrays["centroids"] = product_quantisation.quantise_rows(arrays.pop("embeddings"), 2, 3, s.seed)
    for name, value in arrays.items():
        if in_bytes and name == "item_bias":
            kept[name] = value.astype(np.float16)
        elif in_bytes and name != "codes":
            kept[name], kept[f"{name}.scale"] = reference.in_bytes(value)
        else:
            kept[name] = value
    worst.same("what is kept of the best parameters", _bits(trained.parameters_), _bits(kept))
    worst.same("history", repr(trained.history_), repr(rows))
    users, items, overall = trained._biases()
    expected = kept["item_bias"].astype(s.dtype) if s.item_bias else None
    worst.same("biases", (users, _bits(items), overall), (None, _bits(expected), 0.0))
    sizes = {name: value.size * value.itemsize for name, value in kept.items()}
    worst.same("sizes", trained.size_in_bytes(), sizes | {"model": sum(sizes.values())})
    worst.same("the budget is kept", given.get("bytes", np.inf) >= trained.size_in_bytes()["model"], True)
    p = {name: dense(value) for name, value in kept.items()}
    p = {name: value * p.get(f"{name}.scale", 1) for name, value in p.items() if not name.endswith(".scale")}
    p |= {"S": dense(table.assignment.matrix)} if c["table"] == "hashed" else {}
    if c["table"] == "quantised":
        p["embeddings"] = np.array([[*p["centroids"][one, :2], *p["centroids"][other, 2:]] for one, other in kept["codes"]])
    A = reference.adjacency(data.train.toarray())
    Z, H = reference.table(p, A, s)[:2]
    worst.add("embeddings", trained.embeddings_, H, 1e3 * U[s.dtype] * np.linalg.norm(H))
    n_users_of, (n_users, _) = data.train.toarray().sum(axis=0), data.train.shape
    summed = np.sum([np.linalg.matrix_power(A, layer) @ Z for layer in range(max(s.n_layers, 1))], axis=0)[n_users:]
    sent = np.where(n_users_of > 0, 1 / np.sqrt(np.maximum(n_users_of, 1)), 0)[:, None] * summed
    splitter = trained._made_splitter()
    worst.add("what items send to a new user", splitter.sent, sent, 1e3 * U[s.dtype] * np.linalg.norm(summed))
    worst.add("rows of the trained users", splitter.Z, Z[:n_users], 1e3 * U[s.dtype] * np.linalg.norm(Z))
    worst.same("layers", splitter.n_layers, s.n_layers)
    worst.same("width of a file", trained._layout(n_users, data.n_items)[1], {"d": Z.shape[1]})
    with tempfile.TemporaryDirectory() as folder:
        trained.save(path := Path(folder, "model.npz"))
        read = load_baseline(path)
    for name in ("parameters_", "embeddings_"):
        worst.same(f"{name} of a saved model", _bits(getattr(read, name)), _bits(getattr(trained, name)))
    for name in ("interactions_", "known_"):
        stored = [(getattr(model, name) != 0).toarray().tolist() for model in (read, trained)]
        worst.same(f"{name} of a saved model", *stored)
    worst.same("biases of a saved model", _bits(read._biases()[1]), _bits(items))
    return worst


def _bits(value):
    """Something that is equal for the same bits in the same precision, and only then."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if sparse.issparse(value):
        return _bits(value.data), value.indices.tolist(), value.indptr.tolist(), value.shape
    if isinstance(value, dict):
        return {name: _bits(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value):
        return [_bits(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "history"]
    return repr(value)  # NaN is equal to itself


#: The names that the command line takes.
EPOCHS = {
    "stages_training": stages_training_cases, "joint_training": joint_training_cases, "table_training": table_training_cases,
}  # fmt: skip
