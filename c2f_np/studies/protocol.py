"""Study of kind "protocol": one and the same trained models, evaluated in other ways. How far do the numbers move?

What is varied, one thing at a time: which known items are masked, the definition of NDCG and Recall, which users are averaged
over, whether all items compete or a sample, the length of the list, and which of equal scores goes first. "Ours" masks training
and validation items, ranks all others and takes the lower index first (docs/evaluation.md), whatever protocol the data were
loaded with.

Shapes: a number per user (n_counted,), users with test items only; scores (n_rows, n_items).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from scipy import sparse

from ..baselines import Popularity
from ..data import Dataset
from ..errors import DataError
from ..evaluation import DEFINITIONS, hit_matrix, over_all_users, rank_items, rank_sampled
from ..files import write_json
from ..settings import Settings
from ..shown import for_markdown, write_figure
from ..threads import working_threads
from ..training import train
from ..training.problem import entity_embeddings, pose
from .jobs import word_for_files
from .study import Study
from .study_report import heading, markdown_table

OURS = tuple(definition for definition in DEFINITIONS if definition.name == "ours")
TITLES = {"ndcg": "NDCG", "recall": "Recall"}
_BLOCK = 512

#: From user indices to the scores of all items.
Scorer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """One way to evaluate: metric to model to a number per user. Metrics that it does not concern are absent."""

    name: str
    values: dict[str, dict[str, np.ndarray]]

    def mean(self, metric: str, model: str) -> float:
        return float(self.values[metric][model].mean()) if metric in self.values else float("nan")


def trained_scorers(dataset: Dataset, settings: Settings) -> dict[str, Scorer]:
    """Popularity and the two stages of one training."""
    problem = pose(dataset, settings)
    finished = train(dataset, settings).finished
    popular = Popularity().fit(dataset)
    scorers: dict[str, Scorer] = {"popularity": lambda users: popular.score_items(dataset.user_ids[users])}
    with working_threads(problem.threads, settings.engine):
        for phase in ("coarse", "fine"):
            state = finished[phase].state
            scorers[phase] = _dot_product(entity_embeddings(state, problem.A, settings), state.bias, dataset.n_users)
    return scorers


def _dot_product(H: np.ndarray, bias: np.ndarray, n_users: int) -> Scorer:
    return lambda users: H[users] @ H[n_users:].T + bias[n_users:]


def measure_choices(
    scorers: dict[str, Scorer],
    dataset: Dataset,
    *,
    k: int = 20,
    other_ks: Iterable[int] = (5, 10, 50),
    n_negatives: int = 100,
    n_draws: int = 5,
    seed: int = 0,
) -> list[Choice]:
    """Evaluate models on the test items in every way of this study; the first one is ours.

    Where candidates are sampled there are `n_negatives` per user besides the relevant ones. They, and orders of equal scores, are
    drawn `n_draws` times (from `seed`); numbers per user are means over the draws.
    """
    test, validation = _test_items(dataset), dataset.held_out("validation")
    users, n_items = np.flatnonzero(np.diff(test.indptr)), dataset.n_items
    relevant, other_ks = sparse.csr_array(test[users]), tuple(other_ks)
    n_relevant = np.diff(relevant.indptr)
    known = dataset.train if validation is None else sparse.csr_array(dataset.train + validation)
    rng = np.random.default_rng(seed)
    longest = max((k, *other_ks))

    def evaluate(masked, definitions=OURS, at=k, order=None, draw=None) -> dict:
        """Numbers per user for each metric and model; `order` permutes the items, `draw` seeds a sample of candidates."""
        values = {}
        for model, score in scorers.items():
            hits = _hits(score, users, relevant, masked, longest, order, n_negatives, draw)
            for each in definitions:
                values.setdefault(each.metric, {})[model] = each.function(hits, n_relevant, at)
        return values

    ours = evaluate(known)
    found = {"ours": ours}
    if validation is not None:
        found["mask: validation items compete (as in `authors`)"] = evaluate(dataset.train)
        found["mask: training items compete"] = evaluate(validation)
    found["mask: nothing masked"] = evaluate(None)
    for each in DEFINITIONS:
        if each.name != "ours":
            found[f"{TITLES[each.metric]}: {each.name} ({each.used_by})"] = evaluate(known, (each,))
    zeros = {m: {model: over_all_users(v, dataset.n_users) for model, v in by.items()} for m, by in ours.items()}
    found[f"users: the {dataset.n_users - len(users)} without test items count as 0"] = zeros
    draws = [int(each) for each in rng.integers(2**32, size=n_draws)]
    sampled = averaged(evaluate(known, draw=each) for each in draws)
    found[f"candidates: relevant items and {n_negatives} sampled ones"] = sampled
    found |= {f"k = {other}": evaluate(known, at=other) for other in other_ks}
    found["ties: higher index first"] = evaluate(known, order=np.arange(n_items)[::-1])
    found["ties: in random order"] = averaged(evaluate(known, order=rng.permutation(n_items)) for _ in range(n_draws))
    return [Choice(name, values) for name, values in found.items()]


def _test_items(dataset: Dataset) -> sparse.csr_array:
    test = dataset.held_out("test")
    if test is None:
        raise DataError(f"{dataset.name} has no test items to evaluate with")
    return test


def _hits(score: Scorer, users, relevant, masked, length: int, order, n_negatives: int, draw: int | None) -> np.ndarray:
    """Which places of the lists are hits, shape (n_counted, length); one block of users at a time."""
    found = []
    # The same candidates for every model.
    rng = None if draw is None else np.random.default_rng(draw)
    for start in range(0, len(users), _BLOCK):
        block = users[start : start + _BLOCK]
        scores, wanted = score(block), relevant[start : start + _BLOCK]
        out = None if masked is None else sparse.csr_array(masked[block])
        if order is not None:
            scores, wanted = scores[:, order], sparse.csr_array(wanted[:, order])
            out = None if out is None else sparse.csr_array(out[:, order])
        topk = rank_items(scores, out, length) if rng is None else rank_sampled(scores, wanted, out, length, n_negatives, rng)
        found.append(hit_matrix(topk, wanted))
    return np.concatenate(found)


def averaged(draws: Iterable[dict]) -> dict:
    """Numbers per user, averaged over draws or seeds."""
    draws = list(draws)
    return {
        metric: {model: np.mean([draw[metric][model] for draw in draws], axis=0) for model in draws[0][metric]}
        for metric in draws[0]
    }


def over_seeds(tables: list[list[Choice]]) -> list[Choice]:
    """The same choices with several seeds, averaged user by user."""
    return [Choice(same[0].name, averaged(each.values for each in same)) for same in zip(*tables, strict=True)]


def mean_difference(values: dict[str, np.ndarray], first: str, second: str) -> tuple[float, bool]:
    """Mean difference of two models over the users, and whether it is more than two standard errors from 0."""
    difference = values[first] - values[second]
    error = difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else np.inf
    return float(difference.mean()), bool(abs(difference.mean()) > 2 * error)


def order_of(values: dict[str, np.ndarray]) -> str:
    """The models from best to worst; ≈ stands between neighbours less than two standard errors apart."""
    ranked = sorted(values, key=lambda model: -values[model].mean())
    signs = [" > " if mean_difference(values, better, worse)[1] else " ≈ " for better, worse in pairwise(ranked)]
    return ranked[0] + "".join(sign + worse for sign, worse in zip(signs, ranked[1:], strict=True))


def reversals(choices: list[Choice]) -> tuple[int, int, int]:
    """How many orders of two models there are (all choices and metrics), how many are not as with ours, and how many clearly so.

    A reversal is clear if both differences are more than two standard errors from 0.
    """
    counts = np.zeros(3, int)
    for choice in choices[1:]:
        for metric, values in choice.values.items():
            for pair in combinations(values, 2):
                ours, clear = mean_difference(choices[0].values[metric], *pair)
                here, clear_here = mean_difference(values, *pair)
                counts += (1, ours * here < 0, ours * here < 0 and clear and clear_here)
    return tuple(counts.tolist())


def protocol_tables(choices: list[Choice], model: str, k: int) -> str:
    """Two kinds of tables in Markdown: the numbers of one model and what moves them; all models and their order."""
    ours = choices[0]
    rows = [[choice.name, *(cell for metric in TITLES for cell in _cells(choice, ours, metric, model))] for choice in choices]
    lines = markdown_table(["choice", f"NDCG@{k}", "change", f"Recall@{k}", "change"], rows, "lrrrr")
    names = list(ours.values["ndcg"])
    for metric, title in TITLES.items():
        rows = [
            [choice.name, *(f"{choice.mean(metric, name):.4f}" for name in names), order_of(choice.values[metric])]
            for choice in choices
            if metric in choice.values
        ]
        lines += ["", *markdown_table([f"{title}@{k}", *names, "order"], rows, "l" + "r" * len(names) + "l")]
    n_compared, n_reversed, n_clear = reversals(choices)
    ties = [choice for choice in choices if choice.name.startswith("ties")]
    moved = max((abs(each.mean("ndcg", m) - ours.mean("ndcg", m)) for each in ties for m in names), default=0.0)
    lines += [
        "",
        f"Of {n_compared} comparisons of two models (choices other than ours, both metrics), {n_reversed} come out in the other "
        f"order than with ours, {n_clear} of them with both differences more than two standard errors (over users) from 0. "
        f"The order of equal scores moves NDCG by at most {moved:.1g}, over models and orders. "
        "≈ stands between models that are closer than that. A row k = ... has that k in the place of the heading's.",
    ]
    return "\n".join(lines)


def _cells(choice: Choice, ours: Choice, metric: str, model: str) -> list[str]:
    if metric not in choice.values:
        return ["", ""]
    value, before = choice.mean(metric, model), ours.mean(metric, model)
    return [f"{value:.4f}", "" if choice is ours or before == 0 else f"{100 * (value / before - 1):+.1f} %"]


def study_protocol(
    name: str, dataset: Dataset, settings: dict, seeds: Iterable[int], out, *, preset: str = "staged", k: int = 20, **choices
) -> str:
    """Train once per seed, evaluate in every way, write ``protocol-NAME.json`` and a figure for each metric; returns Markdown.

    `settings` are those that differ from the preset's; `choices` are for :func:`measure_choices`.
    """
    out, seeds, word = Path(out), list(seeds), word_for_files(name)
    out.mkdir(parents=True, exist_ok=True)
    tables = []
    for seed in seeds:
        scorers = trained_scorers(dataset, Settings.preset(preset, **(settings | {"seed": seed})))
        tables.append(measure_choices(scorers, dataset, k=k, **({"seed": seed} | choices)))
    rows = over_seeds(tables)
    means = {row.name: {m: {model: row.mean(m, model) for model in row.values[m]} for m in row.values} for row in rows}
    write_json(out / f"protocol-{word}.json", means)
    shown = []
    for metric, title in TITLES.items():
        places = [place for place, row in enumerate(rows) if place and metric in row.values]
        labels = [re.sub(r" \(.*", "", rows[place].name) for place in places]  # the table has the names of libraries
        values = [[table[place].mean(metric, "fine") for table in tables] for place in places]
        axis, file = f"test {title}@{k}, fine", f"protocol-{word}-{metric}.png"
        before = rows[0].mean(metric, "fine")
        if write_figure(out / file, "frontier.moved_by", labels, values, before, xlabel=axis, title=name):
            shown.append(f"![what moves {title}]({file})")
    n_counted = len(rows[0].values["ndcg"]["fine"])
    about = (
        f"{dataset.n_users:,} users, {n_counted:,} of them with test items; {dataset.n_items:,} items. Preset {preset}, "
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}. The first table is of the fine stage."
    )
    return "\n\n".join([f"## {for_markdown(name)}", about, protocol_tables(rows, "fine", k), "\n".join(shown)]) + "\n"


def carry_out_protocol_study(study: Study, datasets: dict[str, Dataset], out) -> str:
    """The report of the study file, data set by data set."""
    parts = [heading(study) + "\n"]
    for source in study.sources:  # all of them before the first is trained
        _test_items(datasets[source.name])
        pose(datasets[source.name], Settings.preset(study.options["preset"], **(study.common | source.settings)))
    for source in study.sources:
        settings = study.common | source.settings
        parts.append(study_protocol(source.name, datasets[source.name], settings, study.seeds, out, **study.options))
    return "\n".join(parts)
