"""The demo: the paper's two stages and the default preset on the planted data, in one table, one figure, and one user's list.

The two stages follow the paper's text (preset "paper") with a short schedule, so that each phase still has something to learn:
60 epochs a phase, a higher learning rate in the fine stage, and a threshold that keeps about a fifth of the fine codebook.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .data import Dataset, load_dataset, load_truth
from .folders import folder_named, refuse_strangers
from .model_file import load_model, size_in_bytes
from .run import HISTORY, MODEL, Request, holds_run, run
from .settings import Settings
from .shown import write_figure
from .studies.surgery import zero_fine
from .training.problem import entity_embeddings, evaluate_state, pose

SIZES = {"n_coarse": 40, "n_fine": 16, "dim": 32}
PAPER = {"max_epochs": 60, "fine_lr": 0.03, "threshold": 0.1, "n_components": 16}
FIGURE = "demo.png"

POPULARITY = "popularity: the same items for everyone"
PHASE_1, PHASE_2 = "coarse stage, phase 1: links fixed", "coarse stage, phase 2: links updated"
FINE, ZEROED = "fine stage: sparse fine codebook, bridge", "fine stage, fine codebook set to zero"
DEFAULT = "default preset: both trained jointly"


@dataclass(frozen=True)
class Row:
    """A model of the table; the parts of its bytes have the names of :func:`c2f_np.model_file.size_in_bytes`."""

    name: str
    metrics: dict[str, float]
    bytes: dict[str, int]

    @property
    def kind(self) -> str:
        """Colour and marker in the figure."""
        return {POPULARITY: "popularity", PHASE_1: "coarse", PHASE_2: "coarse", DEFAULT: "other"}.get(self.name, "fine")

    @property
    def made_of(self) -> str:
        """What the bytes consist of."""
        if "codebooks" not in self.bytes:
            return "a count for each item"
        links = self.bytes["assignment weights"] + self.bytes["assignment indices"]
        return f"codebooks {self.bytes['codebooks']:,}, links {links:,}, biases {self.bytes['biases']:,}"


def requests(*, seed: int, threads: int) -> dict[str, Request]:
    """The two trainings by the name of their folder; "" is the demo's own."""
    common = SIZES | {"seed": seed, "threads": threads}
    chosen = {"paper": Settings.preset("paper", **common, **PAPER), "": Settings.preset("default", **common)}
    return {
        folder: Request("planted", {"protocol": "clean"}, folder or "default", settings) for folder, settings in chosen.items()
    }


def demo(folder, *, seed: int = 0, threads: int = 0, watch: Callable[[Settings], Callable] | None = None) -> str:
    """Train both, write their run folders and the figure, and return what the demo prints.

    Parameters
    ----------
    folder : path-like
        Run folder of the default preset; that of the two stages is ``paper`` in it.
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
    paper, default = found["paper"], found[""]
    state = load_model(folder / "paper" / MODEL).state
    zeroed = evaluate_state(zero_fine(state), pose(data, wanted["paper"].settings), "test").metrics
    rows = [
        Row(name, metrics["test"][phase], metrics["size_in_bytes"][phase])
        for name, metrics, phase in (
            (POPULARITY, paper, "popularity"), (PHASE_1, paper, "coarse_phase1"), (PHASE_2, paper, "coarse"),
            (FINE, paper, "fine"), (DEFAULT, default, "joint"),
        )
    ]  # fmt: skip
    rows.insert(4, Row(ZEROED, zeroed, size_in_bytes(state)))
    with (folder / "paper" / HISTORY).open(newline="", encoding="utf-8") as file:
        history = [{name: _number(value) for name, value in row.items()} for row in csv.DictReader(file)]
    models = [(row.name, row.bytes["model"], row.metrics["ndcg@20"], row.kind) for row in rows]
    write_figure(folder / FIGURE, "results.demo_figure", history, models)
    share = float(history[-1]["nonzero_fine"])
    return "\n\n".join([table(rows), legend(share), one_user(folder, data, wanted[""].settings)])


def _number(text: str) -> str | float:
    """A cell of the log."""
    try:
        return float(text or "nan")
    except ValueError:
        return text


def table(rows: list[Row]) -> str:
    """The models side by side."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'on the test items':<{width}}  Recall@20  NDCG@20   bytes  made of"]
    for row in rows:
        recall, ndcg = row.metrics["recall@20"], row.metrics["ndcg@20"]
        lines.append(f"{row.name:<{width}}  {recall:9.4f}  {ndcg:7.4f}  {row.bytes['model']:6,}  {row.made_of}")
    return "\n".join(lines)


def legend(share: float) -> str:
    """What the table's words mean."""
    return f"""\
Recall@20: share of a user's test items among the 20 items ranked first. NDCG@20: the same, but items near the top count more.
Every user and item is a weighted sum of rows of the codebooks; a link says which row, and how much of it.
Coarse stage: a coarse codebook of {SIZES["n_coarse"]} rows. Phase 2 also updates the links, in closed form.
Fine stage: {SIZES["n_fine"]} fine rows refine the coarse rows by the bridge; the threshold keeps {share:.0%} of their entries.
A phase has at most {PAPER["max_epochs"]} epochs: the two stages are not trained to the end. If they are, the fine codebook
contributes less (docs/fine_codebook.md)."""


def one_user(folder: Path, data: Dataset, settings: Settings, *, k: int = 10) -> str:
    """What the first user with at most k training items had, and what the default preset ranks first, with planted groups."""
    state, truth = load_model(folder / MODEL).state, load_truth()
    problem = pose(data, settings)
    H = entity_embeddings(state, problem.A, settings)
    user = int(np.argmax(np.diff(problem.R.indptr) <= k))
    scores = H[data.n_users :] @ H[user] + state.item_bias(data.n_users)
    had, held_out = (np.flatnonzero(part.toarray()[0]) for part in (problem.R[[user]], data.test[[user]]))
    scores[had] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]

    def named(items: np.ndarray) -> str:
        groups = [f"{truth.item_group[int(data.item_ids[item])]}" for item in items]
        stars = ["*" if item in held_out else "" for item in items]
        return ", ".join(f"{data.item_ids[item]}{star} ({group})" for item, star, group in zip(items, stars, groups, strict=True))

    number = data.user_ids[user]
    return f"""\
User {number}, of planted group {truth.user_group[int(number)]}; the groups of items in brackets:
  had           {named(had)}
  ranked first  {named(best)}
  * one of the {len(held_out)} test items, which training has not seen"""

