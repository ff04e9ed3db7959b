"""The demo: the paper's two stages, our default preset, a control of each, on the planted data: table, figure, one user's list.

The two stages follow the paper's text (preset "paper") with a short schedule, so that each phase still has something to learn:
60 epochs a phase, a higher learning rate in the fine stage, and a threshold that keeps about a sixth of the fine codebook.
"""

from __future__ import annotations

import csv
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .data import Dataset, load_dataset, load_truth
from .folders import folder_named, refuse_strangers
from .model_file import load_model, size_in_bytes
from .run import CONTROL, HISTORY, MODEL, Request, holds_run, run, run_control
from .settings import Settings
from .shown import for_terminal, write_figure
from .studies.surgery import zero_fine
from .training.problem import entity_embeddings, evaluate_state, pose

SIZES = {"n_coarse": 40, "n_fine": 16, "dim": 32}
PAPER = {"max_epochs": 60, "fine_lr": 0.03, "threshold": 0.1, "n_components": 16}
FIGURE = "demo.png"

POPULARITY = "popularity: the same items for everyone"
PHASE_1, PHASE_2 = "coarse stage, phase 1: links fixed", "coarse stage, phase 2: links updated"
CONTINUED = "coarse stage continued instead of the fine"
FINE, ZEROED = "fine stage: sparse fine codebook, bridge", "fine stage, its codebook set to zero"
DEFAULT, DEFAULT_ZEROED = "ours, default: both codebooks jointly", "ours, its fine codebook set to zero"
ALONE = "ours with the coarse codebook alone"
TABLE = "full table: everyone a row of their own"
#: Colour and marker of each in the figure.
KINDS = {POPULARITY: "popularity", PHASE_1: "coarse", PHASE_2: "coarse", CONTINUED: "coarse", FINE: "fine", ZEROED: "fine",
         DEFAULT: "other", DEFAULT_ZEROED: "other", ALONE: "other", TABLE: "table"}  # fmt: skip
LEGEND = """
measures   Recall@20: share of a user's test items among the 20 ranked first. NDCG@20: hits near the top count more.

data       40 planted subgroups in 8 groups, one for each coarse row: made for codebooks. On MovieLens 100K a full table
           (LightGCN) wins: NDCG@20 .336 in 1,344,000 bytes, against .318 in 72,594 (docs/fine_codebook.md).

bytes      Users and items are weighted sums of rows. A link is a weight and a row's number: 1,800 x 2 x (4 + 1) bytes, in the
           fine stage {n_coarse} x {paper.t_fine} more. Biases: 1,801 x 4. Not counted: interactions, propagated embeddings.

coarse     The graph is cut into {n_coarse} parts (a partition), each with a row. First links: to the row of one's part, and to
           another at random. Phase 2 replaces all links once an epoch, by least squares, not by gradient.

fine       {n_fine} rows, two phases. The bridge mixes {paper.gate:.0%} of fine rows into each coarse row. The threshold leaves
           {share:.0%} of the fine entries, stored with a bit for every place. "Set to zero" damages a trained model: links stay.

continued  The fine stage gains {fine:+.3f} over phase 2; the coarse stage, continued with the fine stage's rate, batch and
           epochs, {continued:+.3f}. With a higher coarse rate from the start, NDCG@20 is .291 after the fine stage and
           .302 after the continued coarse stage (3 seeds; `python -m c2f_np study fine-codebook`).

settings   Both stages: preset "paper", but threshold {threshold} (preset: {paper.threshold:g}), fine rate {fine_lr}
           ({paper.fine_lr}), {n_components} components of a sparse PCA ({paper.n_components}), {max_epochs} epochs a phase
           ({paper.max_epochs:,}), so that every phase has something to learn.

ours       Not the paper's: no bridge, no threshold, dense fine rows; a coarse and a fine link for each user and item. A full
           table starts from singular vectors, is trained for {default.table_epochs} epochs and cut down to codebooks;
           rows and weights are trained together from there{kept}.
"""
#: The README's sentence.
HONEST = """\
A second, fine codebook adds almost nothing in the paper's two stages (5 % on Gowalla), and nothing beside one codebook
trained likewise. docs/fine_codebook.md measures and explains this."""


@dataclass(frozen=True)
class Row:
    """A model of the table; the parts of its bytes have the names of :func:`c2f_np.model_file.size_in_bytes`."""

    name: str
    metrics: dict[str, float]
    bytes: dict[str, int]

    @property
    def made_of(self) -> str:
        """What the bytes consist of."""
        if "codebooks" not in self.bytes:
            return "one count for each item"
        links = self.bytes["assignment weights"] + self.bytes["assignment indices"]
        return f"{self.bytes['codebooks']:9,}  {links:6,}  {self.bytes['biases']:6,}"


def requests(*, seed: int, threads: int) -> dict[str, Request]:
    """The trainings by the name of their folder; "" is the demo's own."""
    common = SIZES | {"seed": seed, "threads": threads}
    chosen = {
        "paper": Settings.preset("paper", **common, **PAPER), "": Settings.preset("default", **common),
        "alone": Settings.preset("default", **common, t_coarse=2, t_direct=0),
    }  # fmt: skip
    return {
        folder: Request("planted", {"protocol": "clean"}, "paper" if folder == "paper" else "default", settings)
        for folder, settings in chosen.items()
    }


def demo(folder, *, seed: int = 0, threads: int = 0, watch: Callable[[Settings], Callable] | None = None) -> str:
    """Train all, write three run folders and the figure, and return what the demo prints.

    Parameters
    ----------
    folder : path-like
        Run folder of the default preset. ``paper`` in it is that of the two stages, ``alone`` that of one codebook.
    seed, threads : int
        See :class:`c2f_np.Settings`.
    watch : callable, optional
        From a training's settings to what is called with its progress after every epoch.

    Returns
    -------
    str
    """
    folder, wanted = folder_named(folder), requests(seed=seed, threads=threads)
    for name in wanted:
        if not holds_run(folder / name):
            refuse_strangers(folder / name, [FIGURE], "no run of the demo")
    data = load_dataset("planted", protocol="clean")
    found = {
        name: run(request, folder / name, overwrite=True, data=data, watch=watch and watch(request.settings))
        for name, request in wanted.items()
    }
    found["paper"] = run_control(folder / "paper", watch=watch and watch(wanted["paper"].settings))
    phases = {
        POPULARITY: ("paper", "popularity"), PHASE_1: ("paper", "coarse_phase1"), PHASE_2: ("paper", "coarse"),
        CONTINUED: ("paper", "control"), FINE: ("paper", "fine"), DEFAULT: ("", "joint"), ALONE: ("alone", "joint"),
        TABLE: ("", "table"),
    }  # fmt: skip
    rows = {
        name: Row(name, found[which]["test"][phase], found[which]["size_in_bytes"][phase])
        for name, (which, phase) in phases.items()
    }
    for name, which in ((ZEROED, "paper"), (DEFAULT_ZEROED, "")):
        state = load_model(folder / which / MODEL).state
        metrics = evaluate_state(zero_fine(state), pose(data, wanted[which].settings), "test").metrics
        rows[name] = Row(name, metrics, size_in_bytes(state, wanted[which].settings.threshold))
    rows = {name: rows[name] for name in KINDS}
    stages, joint = (_history(folder / which / HISTORY) for which in ("paper", ""))
    control = json.loads((folder / "paper" / CONTROL).read_text(encoding="utf-8"))["history"]
    share = float(stages[-1]["nonzero_fine"])
    models = [(row.name, row.bytes["model"], row.metrics["ndcg@20"], KINDS[row.name]) for row in rows.values()]
    write_figure(folder / FIGURE, "results.demo_figure", stages, control, joint, models, share)
    kept = "" if found[""]["best_epoch"]["joint"] else "; here this improved nothing"
    user = one_user(folder, data, wanted[""].settings, rows[DEFAULT].metrics)
    return "\n\n".join([table(rows), legend(rows, share, kept), user, HONEST])


def _history(path: Path) -> list[dict]:
    """The log of a run."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> str | float:
    """A cell of the log."""
    try:
        return float(text or "nan")
    except ValueError:
        return text


def table(rows: dict[str, Row]) -> str:
    """The models side by side."""
    width = max(map(len, rows))
    lines = [f"{'on the test items':<{width}}  Recall@20  NDCG@20    bytes  codebooks + links + biases"]
    for name, row in rows.items():
        recall, ndcg = row.metrics["recall@20"], row.metrics["ndcg@20"]
        lines.append(f"{name:<{width}}  {recall:9.4f}  {ndcg:7.4f}  {row.bytes['model']:7,}  {row.made_of}")
    return "\n".join(lines)


def legend(rows: dict[str, Row], share: float, kept: str) -> str:
    """What the table's words mean, and what its rows say."""
    continued, fine = (rows[name].metrics["ndcg@20"] - rows[PHASE_2].metrics["ndcg@20"] for name in (CONTINUED, FINE))
    found = {"share": share, "kept": kept, "fine": fine, "continued": continued}
    found |= {preset: Settings.preset(preset) for preset in ("paper", "default")}
    parts = [part.split() for part in LEGEND.format(**found, **SIZES, **PAPER).split("\n\n")]
    return "\n".join(_wrapped(" ".join(text), f"{word:<11}") for word, *text in parts)


def _wrapped(text: str, first: str) -> str:
    """In lines of a terminal, those after the first as far to the right."""
    return textwrap.fill(text, 120, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def one_user(folder: Path, data: Dataset, settings: Settings, means: dict[str, float], *, k: int = 10) -> str:
    """What the default preset ranks first for the first user with at most k training items, with planted subgroups."""
    state, truth = load_model(folder / MODEL).state, load_truth()
    problem = pose(data, settings)
    H = entity_embeddings(state, problem.A, settings)
    user = int(np.argmax(np.diff(problem.R.indptr) <= k))
    scores = H[data.n_users :] @ H[user] + state.item_bias(data.n_users)
    masked = data.masked_when_ranking("test")
    known, trained_on, held_out = (np.flatnonzero(part.toarray()[0]) for part in (
        masked[[user]], problem.R[[user]], data.test[[user]]))  # fmt: skip
    scores[known] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]
    number = int(data.user_ids[user])

    def listed(title: str, items: np.ndarray) -> str:
        numbers = [int(data.item_ids[item]) for item in items]
        stars = [f"{each}{'*' if item in held_out else ' '}" for each, item in zip(numbers, items, strict=True)]
        within = [f"{truth.item_group[each]}.{truth.item_subgroup[each]:02d} " for each in numbers]
        lines = ((title, stars), ("  subgroup", within))
        return "\n".join((f"  {name:<13}" + "".join(f"{cell:>6}" for cell in cells)).rstrip() for name, cells in lines)

    group, found = truth.user_group[number], np.intersect1d(best, held_out).size
    alike = truth.item_group[data.item_ids.astype(int)] == group
    by_chance = k / np.sum(alike & (scores > -np.inf)) * alike[held_out].mean()
    said = f"""
    {found} of {len(held_out)} test items: recall@{k} {found / len(held_out):.2f}; mean of all users {means[f"recall@{k}"]:.2f};
    {k} of group {group} at random {by_chance:.2f}. {alike[best].sum()} of {k} are of group {group}, as are {alike.sum()} of all
    {data.n_items} items. `python -m c2f_np recommend {for_terminal(folder)} --user {number}` leaves out test items, too: another
    list."""
    return f"""\
User {number} of planted group {group}, subgroup {group}.{truth.user_subgroup[number]:02d}: \
the first with at most {k} training items. Our default ranks.
{listed("trained on", trained_on)}
{listed("ranked first", best)}
{_wrapped(" ".join(said.split()), "* ")}"""
