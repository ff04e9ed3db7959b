"""Study of kind "planted-structure": does training find the groups and subgroups that were planted?

Partitions of the entities are read off a model and compared with the truth by the adjusted Rand index (ARI: 1 for the same
partition whatever its labels, about 0 for a random one) and by the normalised mutual information (NMI, which grows with the
number of parts also for random partitions; the random row shows by how much):

    partition   the partition that the assignments start from
    coarse      the coarse row of largest |weight| in S_c
    fine        the fine row of largest |weight| of that coarse row in S_f
    direct      the fine row of largest |weight| of direct links, where a model has them
    k-means     of the propagated embeddings, at unit length, into as many clusters as there are groups, or subgroups

Reading one row off a code of several signed weights throws most of the code away; only k-means sees what the weights and the
graph make of it. Random partitions into as many parts as there are coarse, or fine, rows stand beside them.

Shapes: labels (N,), users first; S_coarse (N, C); S_fine (C, M); H (N, d).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from ..data import Dataset
from ..data.shipped import PlantedTruth, load_truth
from ..errors import DataError
from ..files import write_csv
from ..model.starts import partition_entities, start_fine
from ..settings import STAGED, Settings
from ..shown import write_figure
from ..threads import working_threads
from ..training import train
from ..training.loop import begin
from ..training.phases import phases_of
from ..training.problem import entity_embeddings, pose
from .study import Study
from .study_report import heading, markdown_table

LEVELS, ENTITIES = ("group", "subgroup"), ("all", "users", "items")


def largest_weight(S: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """The column of largest |weight| of every row (the lower of equals; -1 for an empty row), and whether it has an equal."""
    S = sparse.csr_array(S)
    columns, tied = np.full(S.shape[0], -1, np.int64), np.zeros(S.shape[0], bool)
    for row in range(S.shape[0]):
        here = slice(S.indptr[row], S.indptr[row + 1])
        weights = np.abs(S.data[here])
        if weights.size and weights.max() > 0:
            best = S.indices[here][weights == weights.max()]
            columns[row], tied[row] = best.min(), best.size > 1
    return columns, tied


def lifted(of_entities: np.ndarray, of_rows: np.ndarray) -> np.ndarray:
    """Labels of entities through the rows that they belong to; -1 stays -1."""
    return np.where(of_entities >= 0, of_rows[of_entities], -1)


def kmeans_labels(H: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Clusters of the rows at unit length: their length is mostly popularity."""
    from sklearn.cluster import KMeans

    H = np.asarray(H, np.float64)
    length = np.linalg.norm(H, axis=1, keepdims=True)
    unit = np.divide(H, length, out=np.zeros_like(H), where=length > 0)
    return KMeans(n_clusters, n_init=4, random_state=seed).fit(unit).labels_.astype(np.int64)


def agreement(found: np.ndarray, truth: dict[str, np.ndarray], n_users: int) -> dict[str, float]:
    """ARI and NMI of a partition with each level of the truth, such as "ari group users"; and the number of its "parts"."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    values = {"parts": float(len(np.unique(found)))}
    for level, labels in truth.items():
        for kind, part in zip(ENTITIES, (slice(None), slice(0, n_users), slice(n_users, None)), strict=True):
            values[f"ari {level} {kind}"] = float(adjusted_rand_score(labels[part], found[part]))
            values[f"nmi {level} {kind}"] = float(normalized_mutual_info_score(labels[part], found[part]))
    return values


def truth_of(truth: PlantedTruth) -> dict[str, np.ndarray]:
    """Labels of all entities, users first, at both levels."""
    return {level: np.concatenate([getattr(truth, f"{kind}_{level}") for kind in ("user", "item")]) for level in LEVELS}


def partitions_found(dataset: Dataset, settings, truth: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, float]]:
    """Train, and read every partition off the start and off the result.

    The labels by view, each with the share of entities whose largest weight is not the only one of its size.
    """
    problem = pose(dataset, settings)
    rng, found = np.random.default_rng(settings.seed), {}
    for name, n_parts, seed in (("coarse", settings.n_coarse, settings.seed), ("fine", settings.n_fine, settings.seed + 1)):
        parts = partition_entities(problem.R, n_parts, method=settings.partition, seed=seed)
        found[f"random, {n_parts} parts"] = (rng.permutation(np.arange(len(parts)) % n_parts), 0.0)
        found[f"partition into {n_parts}, where {name} starts"] = (parts, 0.0)
    finished = train(dataset, settings).finished
    coarse, fine = finished["coarse"].state, finished["fine"].state
    with working_threads(problem.threads, settings.engine):
        first = begin(phases_of(settings, problem.engine), problem).state
        states = {"start": first, "coarse stage": coarse}
        states |= {"start of the fine stage": start_fine(coarse, problem.R, settings).astype(settings.dtype), "fine stage": fine}
        for when, state in states.items():
            own, tied = largest_weight(state.S_coarse)
            if not state.is_fine:  # the fine stage leaves S_c as it is
                found[f"coarse, {when}"] = (own, float(tied.mean()))
            else:
                rows, tied_rows = largest_weight(state.S_fine)
                either = tied | lifted(own, tied_rows.astype(np.int64)).astype(bool)
                found[f"fine, {when}"] = (lifted(own, rows), float(either.mean()))
                if state.S_direct is not None:
                    columns, tied = largest_weight(state.S_direct)
                    found[f"direct, {when}"] = (columns, float(tied.mean()))
            H = entity_embeddings(state, problem.A, settings)
            for n_clusters in sorted({len(np.unique(labels)) for labels in truth.values()}):
                found[f"k-means into {n_clusters}, {when}"] = (kmeans_labels(H, n_clusters, settings.seed), 0.0)
    return found


def measure_structure(dataset: Dataset, truth: dict[str, np.ndarray], settings) -> dict[str, dict[str, float]]:
    """View to its agreement with the truth and the share of "tied" entities; DataError if the truth is of other entities."""
    n = dataset.n_users + dataset.n_items
    for level, labels in truth.items():
        if len(labels) != n:
            raise DataError(f"the truth has {len(labels)} {level} labels for {n} users and items of {dataset.name}")
    found = partitions_found(dataset, settings, truth)
    return {view: agreement(labels, truth, dataset.n_users) | {"tied": tied} for view, (labels, tied) in found.items()}


def structure_table(by_seed: Sequence[dict[str, dict[str, float]]]) -> str:
    """Markdown: means over seeds; ARI of everything, NMI of all entities, and how far the seeds are apart in ARI."""
    columns = [f"{level} {kind}" for level in LEVELS for kind in ENTITIES]
    head = ["partition", "parts", *(f"ARI {column.replace(' ', ', ')}" for column in columns), "NMI group", "NMI subgroup"]
    head += ["equal weights", "ARI group, all: lowest to highest"]
    rows = []
    for view in by_seed[0]:
        mean = {key: np.mean([each[view][key] for each in by_seed]) for key in by_seed[0][view]}
        numbers = [f"{mean[key]:.3f}" for key in (*(f"ari {column}" for column in columns), "nmi group all", "nmi subgroup all")]
        ends = [each[view]["ari group all"] for each in by_seed]
        share = f"{100 * mean['tied']:.0f} %" if mean["tied"] else ""
        rows.append([view, f"{mean['parts']:g}", *numbers, share, f"{min(ends):.3f} to {max(ends):.3f}"])
    return "\n".join(markdown_table(head, rows, "l" + "r" * (len(head) - 1)))


def study_structure(dataset: Dataset, truth: dict, settings: dict, seeds: Iterable[int], out, presets=STAGED) -> str:
    """Train each preset with each seed; write ``planted-structure.csv`` and a figure for each preset; returns Markdown.

    `settings` are those that differ from the presets'.
    """
    out, seeds, parts, rows = Path(out), list(seeds), [], []
    out.mkdir(parents=True, exist_ok=True)
    for preset in presets:
        every = [Settings.preset(preset, **(settings | {"seed": seed})) for seed in seeds]
        by_seed = [measure_structure(dataset, truth, each) for each in every]
        for seed, measured in zip(seeds, by_seed, strict=True):
            rows += [{"preset": preset, "seed": seed, "partition": view} | values for view, values in measured.items()]
        file = f"planted-structure-{re.sub(r'[^a-z0-9]+', '-', preset)}.png"
        values = [[each[view]["ari subgroup all"] for each in by_seed] for view in by_seed[0]]
        label = "ARI with the subgroups, all entities"
        names, title = list(by_seed[0]), f"preset {preset}"
        drawn = write_figure(out / file, "frontier.moved_by", names, values, 0.0, xlabel=label, title=title)
        parts.append(f"## Preset {preset}\n\n{structure_table(by_seed)}\n")
        parts += [f"![ARI of every partition]({file})\n"] if drawn else []
    write_csv(out / "planted-structure.csv", rows)
    sizes = ", ".join(f"{len(np.unique(labels))} {level}s" for level, labels in truth.items())
    about = (
        f"Planted: {sizes}. Means over the seeds {', '.join(map(str, seeds))}. Equal weights: entities whose largest weight "
        "has an equal, so that the lower row was taken."
    )
    return "\n".join([about + "\n", *parts])


def carry_out_planted_study(study: Study, datasets: dict[str, Dataset], out) -> str:
    """The report of the study file; the truth is known for the shipped planted data only."""
    if [source.source for source in study.sources] != ["planted"]:
        raise DataError("the study of the planted structure needs the data set 'planted', whose structure is known")
    source = study.sources[0]
    settings = study.common | source.settings
    text = study_structure(datasets[source.name], truth_of(load_truth()), settings, study.seeds, out, **study.options)
    return f"{heading(study)}\n\n{text}"
