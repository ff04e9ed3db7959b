"""Study of kind "protocol": one and the same trained models, evaluated in other ways. How far do the numbers move?

What is varied, one thing at a time: which known items are masked, the definition of NDCG and Recall, who is averaged over,
whether all items compete or a sample, the length of the list, and who goes first among equal scores. "Ours" masks training and
validation items, ranks all others and takes the lower index first (docs/evaluation.md), under whatever protocol the data came.

Shapes: a number per user (n_counted,), users with test items only; scores (n_rows, n_items).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy import sparse

from ..data import Dataset
from ..errors import DataError, SettingsError
from ..evaluation import DEFINITIONS, fit_popularity, hit_matrix, over_all_users, popularity_scores, rank_items, rank_sampled
from ..files import write_atomically, write_text_atomically
from ..settings import Settings, settings_from_preset
from ..threads import working_threads
from ..training.loop import train
from ..training.problem import entity_embeddings, pose
from .protocol_report import METRICS, Row, averaged, over_seeds, report

K, OTHER_KS, N_NEGATIVES, N_DRAWS = 20, (5, 10, 50), 100, 5
OURS = tuple(definition for definition in DEFINITIONS if definition.name == "ours")
_BLOCK = 512

Scorer = Callable[[np.ndarray], np.ndarray]


def trained_scorers(dataset: Dataset, settings: Settings) -> dict[str, Scorer]:
    """Popularity and the two stages of one training; each is a function from user indices to scores of all items."""
    problem = pose(dataset, settings)
    finished = train(dataset, settings).finished
    counts = fit_popularity(dataset.train)
    scorers: dict[str, Scorer] = {"popularity": lambda users: popularity_scores(counts, users)}
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
    k: int = K,
    other_ks: Iterable[int] = OTHER_KS,
    n_negatives: int = N_NEGATIVES,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> list[Row]:
    """Evaluate models on the test items in every way of this study.

    Parameters
    ----------
    scorers : dict of str to callable
        Model to a function from user indices to scores, shape (n, n_items).
    dataset : Dataset
    k : int
    other_ks : iterable of int
    n_negatives : int
        Candidates per user besides the relevant ones, where candidates are sampled.
    n_draws : int
        How often candidates, and orders of equal scores, are drawn; numbers per user are means over the draws.
    seed : int
        Of the draws.

    Returns
    -------
    list of Row
        The first one is ours.

    Raises
    ------
    DataError
        If there are no test items.
    """
    test, validation = dataset.test, dataset.validation
    if test is None or test.nnz == 0:
        raise DataError(f"{dataset.name} has no test items to evaluate with")
    users = np.flatnonzero(np.diff(test.indptr))
    relevant, other_ks = sparse.csr_array(test[users]), tuple(other_ks)
    n_relevant = np.diff(relevant.indptr)
    has_validation = validation is not None and validation.nnz > 0
    known = sparse.csr_array(dataset.train + validation) if has_validation else dataset.train
    rng = np.random.default_rng(seed)
    longest = max(k, *other_ks)

    def evaluate(masked, definitions=OURS, at=k, order=None, draw=None) -> dict:
        """Numbers per user for each metric and model; `order` permutes the items, `draw` seeds a sample of candidates."""
        values = {}
        for model, score in scorers.items():
            hits = _hits(score, users, relevant, masked, longest, order, n_negatives, draw)
            for each in definitions:
                values.setdefault(each.metric, {})[model] = each.function(hits, n_relevant, at)
        return values

    ours = evaluate(known)
    rows = [Row("ours", ours)]
    if has_validation:
        rows.append(Row("mask: validation items compete (as in `authors`)", evaluate(dataset.train)))
        rows.append(Row("mask: training items compete", evaluate(validation)))
    rows.append(Row("mask: nothing masked", evaluate(None)))
    for each in DEFINITIONS:
        if each.name != "ours":
            label = f"{'NDCG' if each.metric == 'ndcg' else 'Recall'}: {each.name} ({each.used_by})"
            rows.append(Row(label, evaluate(known, (each,))))
    zeros = {m: {model: over_all_users(v, dataset.n_users) for model, v in by.items()} for m, by in ours.items()}
    rows.append(Row(f"users: the {dataset.n_users - len(users)} without test items count as 0", zeros))
    seeds = [int(each) for each in rng.integers(2**32, size=n_draws)]
    sampled = averaged(evaluate(known, draw=each) for each in seeds)
    rows.append(Row(f"candidates: relevant items and {n_negatives} sampled ones", sampled))
    rows += [Row(f"k = {other}", evaluate(known, at=other)) for other in other_ks]
    n_items = dataset.n_items
    rows.append(Row("ties: higher index first", evaluate(known, order=np.arange(n_items)[::-1])))
    rows.append(Row("ties: in random order", averaged(evaluate(known, order=rng.permutation(n_items)) for _ in range(n_draws))))
    return rows


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


def study_protocol(
    name: str, dataset: Dataset, settings: dict, seeds: Iterable[int], out, *, preset: str = "staged", **choices
) -> str:
    """Train once per seed, evaluate in every way, write ``protocol-NAME.json`` and a figure for each metric.

    Parameters
    ----------
    name : str
        Of the data, in the report and in the names of files.
    dataset : Dataset
    settings : dict
        Fields of :class:`c2f_np.settings.Settings` that differ from the preset's.
    seeds : iterable of int
    out : path-like
        Folder; made if it is not there.
    preset : str
    **choices
        For :func:`measure_choices`.

    Returns
    -------
    str
        Markdown.
    """
    from ..plotting.frontier import moved_by

    out, seeds = Path(out), list(seeds)
    out.mkdir(parents=True, exist_ok=True)
    tables = []
    for seed in seeds:
        scorers = trained_scorers(dataset, settings_from_preset(preset, **(settings | {"seed": seed})))
        tables.append(measure_choices(scorers, dataset, **({"seed": seed} | choices)))
    rows, k, slug = over_seeds(tables), choices.get("k", K), re.sub(r"[^\w-]+", "-", name)
    means = {row.choice: {m: {model: row.mean(m, model) for model in row.values[m]} for m in row.values} for row in rows}
    write_text_atomically(out / f"protocol-{slug}.json", json.dumps(means, indent=2) + "\n")
    pictures = []
    for metric, title in zip(METRICS, ("NDCG", "Recall"), strict=True):
        # Without the names of libraries, which the table has.
        places = [place for place, row in enumerate(rows) if place and metric in row.values]
        labels = [re.sub(r" \(.*", "", rows[place].choice) for place in places]
        values = [[table[place].mean(metric, "fine") for table in tables] for place in places]
        figure = moved_by(labels, values, rows[0].mean(metric, "fine"), xlabel=f"test {title}@{k}, fine", title=name)
        pictures.append(f"protocol-{slug}-{metric}.png")
        write_atomically(out / pictures[-1], lambda file, figure=figure: figure.savefig(file, format="png", dpi=130))
    n_counted = len(rows[0].values["ndcg"]["fine"])
    about = (
        f"{dataset.n_users:,} users, {n_counted:,} of them with test items; {dataset.n_items:,} items. Preset {preset}, "
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}. The first table is of the fine stage."
    )
    shown = "\n".join(f"![what moves {m}]({picture})" for m, picture in zip(("NDCG", "Recall"), pictures, strict=True))
    return f"## {name}\n\n{about}\n\n{report(rows, 'fine', k)}\n\n{shown}\n"


def run(study, datasets, out, options) -> str:
    """The study file's way in: data sets by name; `options` of the file go to :func:`study_protocol`."""
    for key in set(study.options) - {"preset", "k", "other_ks", "n_negatives", "n_draws"}:
        raise SettingsError(f"{study.path}: options: unknown key {key!r} (its value is {study.options[key]!r})")
    parts = [f"# {study.title}\n\n{study.question}\n"]
    of_data = {source.name: source.settings for source in study.sources}
    for name, dataset in datasets.items():
        settings = study.common | of_data.get(name, {})
        parts.append(study_protocol(name, dataset, settings, study.seeds, out, **study.options))
    return "\n".join(parts)
