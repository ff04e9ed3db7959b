"""Exercises of the notebooks that measure: size against quality, what was found of a planted structure, paper against code.

Shapes: labels and truth (n,); sizes and qualities (k,); a user's scores, known and relevant items (I,); biases (N,).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..model.loss import softplus
from .exercise import Exercise, Mistake

#: Rows of the tables in docs/results/presets.md that are phases of a training, or popularity.
_ROWS = ("popularity", "coarse_phase1", "coarse", "fine_phase1", "fine")


def stored_results(path) -> dict[tuple[str, str, str], dict[str, float]]:
    """The tables of presets of docs/results/presets.md.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of (data set, preset, row) to dict of metric to float
        Data sets by their headings, e.g. ``("Planted", "staged", "fine")``. Besides the metrics there are "lowest" and
        "highest" (of NDCG@20 over the seeds) and "bytes".
    """
    found, section, preset, heads = {}, "", "", []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("## "):
            section, preset = line.removeprefix("## ").strip(), ""
        elif line.startswith("**"):
            preset = line.split("**")[1]
        elif line and not line.startswith("|"):
            preset = ""  # a sentence: the table after it is another one
        elif line.startswith("|") and "ndcg@5" in line:
            heads = cells
        elif line.startswith("|") and preset and cells[0] in _ROWS:
            values = dict(zip(heads[1:], cells[1:], strict=False))
            low, high = values.pop("NDCG@20, lowest to highest").split(" to ")
            numbers = {name: float(value.replace(",", "")) for name, value in values.items()}
            found[section, preset, cells[0]] = numbers | {"lowest": float(low), "highest": float(high)}
    return found


def study_rows(path) -> dict[str, dict[str, np.ndarray]]:
    """The numbers of a study, from its table ``rows.csv``.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of outcome to dict of column to ndarray, shape (seeds,)
        E.g. ``found["authors / zero-fine"]["test_ndcg@20"]``. Columns without a number are left out, and outcomes that were not
        measured.
    """
    found: dict[str, dict[str, list]] = {}
    with open(path, newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            if row["status"] == "done" and row["test_ndcg@20"]:
                columns = found.setdefault(row["outcome"], {})
                for name, value in row.items():
                    if _is_number(value):
                        columns.setdefault(name, []).append(float(value))
    return {outcome: {name: np.array(values) for name, values in columns.items()} for outcome, columns in found.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- size -----------------------------------------------------------------------------------------------------------------


def _model(seed: int) -> dict:
    rng = np.random.default_rng([seed, 20])
    # Codebooks on either side of 256 rows, so that both kinds of index are asked for.
    few, many = (10, 257), (257, 1500)
    return {
        "n_entities": int(rng.integers(500, 5000)),
        "n_coarse": int(rng.integers(*(few if seed % 2 else many))),
        "n_fine": int(rng.integers(*(many if seed % 3 == 2 else few))),
        "dim": int(rng.integers(8, 128)),
        "t_coarse": int(rng.integers(1, 4)),
        "t_fine": int(rng.integers(1, 5)),
    }


def size_of_model(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    of_coarse, of_fine = (1 if rows <= 256 else 2 for rows in (n_coarse, n_fine))  # bytes of a row number
    codebooks = (n_coarse + n_fine) * dim * 4
    assignments = n_entities * t_coarse * (4 + of_coarse) + n_coarse * t_fine * (4 + of_fine)
    biases = (n_entities + 1) * 4
    return float(codebooks + assignments + biases)


def _other_indices(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine, *, coarse, fine):
    """The size if an index of S_c takes `coarse` bytes and one of S_f `fine`."""
    indices = n_entities * t_coarse * coarse + n_coarse * t_fine * fine
    return 4.0 * _numbers(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine) + indices


def _numbers(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    return (n_coarse + n_fine) * dim + n_entities * t_coarse + n_coarse * t_fine + n_entities + 1


def _without_indices(*sizes):
    return _other_indices(*sizes, coarse=0, fine=0)


def _four_bytes_an_index(*sizes):
    return _other_indices(*sizes, coarse=4, fine=4)


def _one_byte_an_index(*sizes):
    return _other_indices(*sizes, coarse=1, fine=1)


def _by_the_coarse_rows(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    index = 1 if n_coarse <= 256 else 2
    return _other_indices(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine, coarse=index, fine=index)


def _without_biases(n_entities, *others):
    return size_of_model(n_entities, *others) - 4.0 * (n_entities + 1)


def _without_global_bias(*sizes):
    return size_of_model(*sizes) - 4.0


def _codebooks_only(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    return 4.0 * (n_coarse + n_fine) * dim


def _dense_assignments(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    return 4.0 * ((n_coarse + n_fine) * dim + n_entities * n_coarse + n_coarse * n_fine + n_entities + 1)


def _numbers_not_bytes(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    indices = n_entities * t_coarse + n_coarse * t_fine
    return float(_numbers(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine) + indices)


# --- frontier -------------------------------------------------------------------------------------------------------------


def _models(seed: int) -> dict:
    rng = np.random.default_rng([seed, 21])
    sizes, qualities = rng.integers(1, 12, 25) * 1000.0, np.round(rng.random(25), 1)
    return {"sizes": np.append(sizes, [3000.0, 3000.0]), "qualities": np.append(qualities, [0.95, 0.95])}


def on_the_frontier(sizes, qualities):
    smaller_or_equal = sizes[:, None] <= sizes[None, :]  # [j, i]: j is no larger than i
    better_or_equal = qualities[:, None] >= qualities[None, :]
    strictly = (sizes[:, None] < sizes[None, :]) | (qualities[:, None] > qualities[None, :])
    beaten = np.any(smaller_or_equal & better_or_equal & strictly, axis=0)
    return ~beaten


def _beaten_in_both_only(sizes, qualities):
    return ~np.any((sizes[:, None] < sizes) & (qualities[:, None] > qualities), axis=0)


def _beaten_by_twins(sizes, qualities):
    no_worse = (sizes[:, None] <= sizes) & (qualities[:, None] >= qualities)
    np.fill_diagonal(no_worse, False)
    return ~np.any(no_worse, axis=0)


def _best_of_each_size(sizes, qualities):
    return np.array([q == qualities[sizes == s].max() for s, q in zip(sizes, qualities, strict=True)])


def _wrong_direction(sizes, qualities):
    return on_the_frontier(-sizes, qualities)


# --- groups that were found -----------------------------------------------------------------------------------------------


def _groupings(seed: int) -> dict:
    rng = np.random.default_rng([seed, 22])
    truth = rng.integers(0, 4, 60)
    labels = np.where(rng.random(60) < 0.6, truth, rng.integers(0, 6, 60))
    return {"labels": rng.permutation(6)[labels], "truth": truth}


def _pairs(counts):
    return np.sum(counts * (counts - 1) / 2)


def adjusted_rand(labels, truth):
    table = np.zeros((labels.max() + 1, truth.max() + 1))
    np.add.at(table, (labels, truth), 1)
    both = np.sum(table * (table - 1) / 2)  # pairs that are together in both
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    in_labels, in_truth = np.sum(rows * (rows - 1) / 2), np.sum(columns * (columns - 1) / 2)
    by_chance = in_labels * in_truth / (len(labels) * (len(labels) - 1) / 2)
    return (both - by_chance) / ((in_labels + in_truth) / 2 - by_chance)


def _counts(labels, truth):
    table = np.zeros((labels.max() + 1, truth.max() + 1))
    np.add.at(table, (labels, truth), 1)
    n = len(labels)
    return _pairs(table), _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0)), n * (n - 1) / 2


def _not_adjusted(labels, truth):
    both, ours, theirs, every = _counts(labels, truth)
    return (every + 2 * both - ours - theirs) / every


def _chance_below_forgotten(labels, truth):
    both, ours, theirs, every = _counts(labels, truth)
    return (both - ours * theirs / every) / ((ours + theirs) / 2)


def _equal_numbers(labels, truth):
    return float(np.mean(labels == truth))


def _entities_instead_of_pairs(labels, truth):
    table = np.zeros((labels.max() + 1, truth.max() + 1))
    np.add.at(table, (labels, truth), 1)
    both, ours, theirs = np.sum(table**2), np.sum(table.sum(axis=1) ** 2), np.sum(table.sum(axis=0) ** 2)
    chance = ours * theirs / len(labels) ** 2
    return (both - chance) / ((ours + theirs) / 2 - chance)


# --- one user's ranking ---------------------------------------------------------------------------------------------------


def _user(seed: int) -> dict:
    rng = np.random.default_rng([seed, 23])
    kind = rng.permutation(np.repeat([0, 1, 2], [18, 8, 4]))  # unknown, known, relevant
    scores = rng.normal(size=30) + 1.0 * (kind > 0)
    return {"scores": scores, "known": kind == 1, "relevant": kind == 2, "k": 10 if seed % 3 else 3}


def one_users_ndcg(scores, known, relevant, k):
    order = np.argsort(-np.where(known, -np.inf, scores), kind="stable")[:k]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = discounts[: min(k, relevant.sum())].sum()
    return np.sum(relevant[order] * discounts[: len(order)]) / best


def _not_masked(scores, known, relevant, k):
    return one_users_ndcg(scores, np.zeros_like(known), relevant, k)


def _ideal_of_k(scores, known, relevant, k):
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return one_users_ndcg(scores, known, relevant, k) * discounts[: min(k, relevant.sum())].sum() / discounts.sum()


def _no_ideal(scores, known, relevant, k):
    return one_users_ndcg(scores, known, relevant, k) * (1 / np.log2(np.arange(2, k + 2)))[: min(k, relevant.sum())].sum()


def _worst_first(scores, known, relevant, k):
    return one_users_ndcg(-scores, known, relevant, k)


def _natural_logarithm_from_two(scores, known, relevant, k):
    order = np.argsort(-np.where(known, -np.inf, scores), kind="stable")[:k]
    discounts = 1 / np.log2(np.arange(3, k + 3))
    return np.sum(relevant[order] * discounts) / discounts[: min(k, relevant.sum())].sum()


# --- biases ---------------------------------------------------------------------------------------------------------------


def _biases(seed: int) -> dict:
    rng = np.random.default_rng([seed, 24])
    return {
        "bias": rng.normal(size=9),
        "products": rng.normal(size=12),
        "user": rng.integers(0, 3, 12),
        "positive": rng.integers(3, 6, 12),
        "negative": rng.integers(5, 9, 12),
    }


def bias_loss(bias, products, user, positive, negative):
    """Mean softplus of the score differences; `products` holds <H_u, H_j - H_i>, the part without biases."""
    difference = products + (bias[user] + bias[negative]) - (bias[user] + bias[positive])
    return np.mean(softplus(difference))


def bias_gradient(grad_loss, bias, products, user, positive, negative):
    slope = 1 / (1 + np.exp(-(products + bias[negative] - bias[positive]))) * grad_loss / len(user)
    gradient = np.zeros_like(bias)
    np.add.at(gradient, negative, slope)
    np.add.at(gradient, positive, -slope)
    return gradient  # the user's bias stands in both scores: slope - slope = 0


def _bias_slope(grad_loss, bias, products, negative, positive):
    return grad_loss / len(products) / (1 + np.exp(-(products + bias[negative] - bias[positive])))


def _user_in_one_score(grad_loss, bias, products, user, positive, negative):
    gradient = bias_gradient(grad_loss, bias, products, user, positive, negative)
    np.add.at(gradient, user, -_bias_slope(grad_loss, bias, products, negative, positive))
    return gradient


def _last_one_wins(grad_loss, bias, products, user, positive, negative):
    slope = _bias_slope(grad_loss, bias, products, negative, positive)
    gradient = np.zeros_like(bias)
    gradient[negative] += slope
    gradient[positive] -= slope
    return gradient


def _mean_forgotten(grad_loss, bias, products, user, positive, negative):
    return len(user) * bias_gradient(grad_loss, bias, products, user, positive, negative)


def _cotangent_forgotten(grad_loss, bias, products, user, positive, negative):
    return bias_gradient(1.0, bias, products, user, positive, negative)


def _signs_exchanged(grad_loss, bias, products, user, positive, negative):
    return -bias_gradient(grad_loss, bias, products, user, positive, negative)


EXERCISES = (
    Exercise(
        name="size_of_model",
        task=(
            "Write\n\n    def my_size(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine): ...\n\n"
            "that returns the bytes of a model that has a fine stage: both codebooks, both assignments (`t_coarse` entries in "
            "each of n_entities rows, `t_fine` in each of n_coarse rows; an entry is stored as a weight and the number of a "
            "codebook row), a bias for every entity and the global one. A weight takes 4 bytes. A row number takes 1 byte if its "
            "codebook has no more than 256 rows, else 2 (no codebook here has more than 65,536)."
        ),
        solution=size_of_model,
        points=_model,
        hints=(
            "Four sums: two codebooks, two assignments, the biases.",
            "A sparse row with t entries needs t weights and t row numbers. One byte tells 256 rows apart: 0 to 255.",
            "S_c holds numbers of coarse rows, S_f of fine rows: two codebooks, and their indices may differ in size.",
            "There are N + 1 biases.",
        ),
        mistakes=(
            Mistake(_without_indices, "the weights of the assignments are counted, but not where they stand."),
            Mistake(_four_bytes_an_index, "this is a row number as int32. It needs no more than 1 or 2 bytes."),
            Mistake(_one_byte_an_index, "one byte tells 256 rows apart. Some of these codebooks have more."),
            Mistake(_by_the_coarse_rows, "an index of S_f is the number of a *fine* row: n_fine gives its size."),
            Mistake(_without_biases, "nothing is compressed about the biases, and you left them out."),
            Mistake(_without_global_bias, "4 bytes are missing: there is one bias that belongs to nobody."),
            Mistake(_codebooks_only, "these are the codebooks alone. What says which rows an entity is composed from?"),
            Mistake(_dense_assignments, "the assignments are sparse: few entries of each row are stored."),
            Mistake(_numbers_not_bytes, "this counts numbers. Asked for are bytes."),
        ),
    ),
    Exercise(
        name="on_the_frontier",
        task=(
            "A model is *beaten* if another one is no larger and no worse, and better in at least one of the two. Write\n\n"
            "    def my_frontier(sizes, qualities): ...\n\n"
            "that returns a boolean array, true for the models that no other beats. Both arguments have the shape (k,)."
        ),
        solution=on_the_frontier,
        points=_models,
        hints=(
            "Compare every model with every other: sizes[:, None] <= sizes[None, :] is a k x k table.",
            "Three conditions must hold at once: no larger, no worse, and (smaller or better).",
            "Two models that are equal in both do not beat each other.",
        ),
        mistakes=(
            Mistake(_beaten_in_both_only, "to be beaten, a model need not lose in both. What if the sizes are equal?"),
            Mistake(_beaten_by_twins, "two models that are equal in size and quality do not beat each other."),
            Mistake(_best_of_each_size, "this looks only at models of equal size. A smaller model can beat a larger one, too."),
            Mistake(_wrong_direction, "smaller is the better size here, not larger."),
        ),
    ),
    Exercise(
        name="adjusted_rand",
        task=(
            "Write\n\n    def my_adjusted_rand(labels, truth): ...\n\n"
            "the adjusted Rand index of two groupings of the same n things: arrays of group numbers from 0, shape (n,). The "
            "formula is in this notebook. Do it without scikit-learn."
        ),
        solution=adjusted_rand,
        points=_groupings,
        hints=(
            "Count first: a table with a row for each label and a column for each true group. np.add.at adds up.",
            "A cell with m things holds m (m - 1) / 2 pairs that are together in both groupings.",
            "Pairs by chance: (pairs together in labels) * (pairs together in truth) / (all pairs).",
        ),
        mistakes=(
            Mistake(_not_adjusted, "this is the Rand index. What do two groupings get that have nothing to do with each other?"),
            Mistake(_chance_below_forgotten, "chance is taken off above the line, not below it: a perfect match would not be 1."),
            Mistake(_equal_numbers, "the numbers of groups are only names. Group 2 here may be group 0 there."),
            Mistake(_entities_instead_of_pairs, "m things make m (m - 1) / 2 pairs, not m squared."),
        ),
    ),
    Exercise(
        name="one_users_ndcg",
        task=(
            "Write\n\n    def my_ndcg(scores, known, relevant, k): ...\n\n"
            "NDCG@k of one user's ranking. `scores` are numbers, `known` and `relevant` booleans, all of shape (I,). Known items "
            "are left out of the list. The list is by score, best first."
        ),
        solution=one_users_ndcg,
        points=_user,
        hints=(
            "An item that must not be in the list can be given the score minus infinity.",
            "The hit in place j, counted from 1, is worth 1 / log2(j + 1).",
            "Divide by what the best possible list of k items would get. How many hits can that have?",
        ),
        mistakes=(
            Mistake(_not_masked, "the known items are still in the list, and take places from the others."),
            Mistake(_ideal_of_k, "the best list cannot have more hits than there are relevant items."),
            Mistake(_no_ideal, "this is the DCG. It has to be divided by that of the best list."),
            Mistake(_worst_first, "the list begins with the worst item."),
            Mistake(_natural_logarithm_from_two, "the first place must count in full: its discount is 1 / log2(2)."),
        ),
    ),
    Exercise(
        name="bias_gradient",
        task=(
            "The loss of a batch as a function of the biases alone is\n\n"
            "    np.mean(softplus(products + (bias[user] + bias[negative]) - (bias[user] + bias[positive])))\n\n"
            "with `bias` (N,), `products` (B,), and entity numbers `user`, `positive`, `negative` (B,) that may repeat. Write\n\n"
            "    def my_gradient(grad_loss, bias, products, user, positive, negative): ...\n\n"
            "that returns grad_loss times the gradient with respect to bias, shape (N,)."
        ),
        solution=bias_gradient,
        points=_biases,
        forward=bias_loss,
        hints=(
            "The derivative of softplus is the sigmoid.",
            "What is the derivative of one triple's difference with respect to the user's bias? It stands there twice.",
            "An item may occur in several triples: np.add.at collects, gradient[index] += ... keeps the last.",
        ),
        mistakes=(
            Mistake(_user_in_one_score, "the user's bias stands in both scores, of the positive and of the negative item."),
            Mistake(_last_one_wins, "an item that occurs several times must collect all of its contributions."),
            Mistake(_mean_forgotten, "the loss is a mean over the batch."),
            Mistake(_cotangent_forgotten, "the cotangent grad_loss is a factor of everything."),
            Mistake(_signs_exchanged, "the signs are exchanged: which item should go up when the loss goes down?"),
        ),
        options={"wrt": "bias"},
    ),
)
