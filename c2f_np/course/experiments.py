"""Exercises of the notebooks that measure: bytes, frontiers, intervals, groups that were found, two protocols, biases.

Shapes: labels and truth (n,); sizes and qualities (k,); a user's scores, known and held-out items (I,); biases (N,).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy import stats

from ..model.loss import softplus
from .data_and_graph import ndcg, top_items
from .exercise import Exercise, Mistake

#: What studies of this repository have found.
RESULTS = Path(__file__).parents[2] / "docs" / "results"


def study_rows(name: str, folder: Path = RESULTS) -> dict[str, dict[str, np.ndarray]]:
    """The numbers of a study, from its table in its folder of ``docs/results/``; its ``report.md`` has the command that made it.

    Returns
    -------
    dict of outcome to dict of column to ndarray, shape (seeds,)
        E.g. ``found["authors / zero-fine"]["test_ndcg@20"]``. Columns without a number are left out, and outcomes that were not
        measured.
    """
    found: dict[str, dict[str, list]] = {}
    with open(folder / name / "rows.csv", newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            if row["status"] == "done" and row["test_ndcg@20"]:
                columns = found.setdefault(row["outcome"], {})
                for column, value in row.items():
                    if _is_number(value):
                        columns.setdefault(column, []).append(float(value))
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
    # As many rows as one byte tells apart and one more, in either codebook; fewer (more than a signed byte would) and many more.
    few, many = int(rng.integers(130, 250)), int(rng.integers(300, 1500))
    n_coarse, n_fine = ((256, 257), (257, 256), (many, few))[seed % 3]
    return {
        "n_entities": int(rng.integers(500, 5000)),
        "n_coarse": n_coarse,
        "n_fine": n_fine,
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


def _two_bytes_an_index(*sizes):
    return _other_indices(*sizes, coarse=2, fine=2)


def _by_the_coarse_rows(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
    index = 1 if n_coarse <= 256 else 2
    return _other_indices(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine, coarse=index, fine=index)


def _one_byte_up_to(most: int):
    """Another number of rows that one byte should tell apart."""

    def variant(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine):
        coarse, fine = (1 if rows <= most else 2 for rows in (n_coarse, n_fine))
        return _other_indices(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine, coarse=coarse, fine=fine)

    return variant


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


# --- two protocols --------------------------------------------------------------------------------------------------------


def _user(seed: int) -> dict:
    """Validation items with high scores, and all scores below 0 in some points: there a known item at 0 would come first.

    Item 0 is held out, and so is the item just behind the end of a list, where it must not count.
    """
    rng = np.random.default_rng([seed, 23])
    kind = np.append(3, rng.permutation(np.repeat([0, 1, 2, 3], [16, 6, 4, 3])))  # unknown, train, validation, held out
    scores = rng.normal(size=30) + np.array([0, 1.5, 1.5, 0.8])[kind] - (6 if seed % 2 else 0)
    scores[0] += 1
    free = np.argsort(-np.where((kind == 1) | (kind == 2), -np.inf, scores))
    hits = np.flatnonzero(kind[free] == 3)
    return {
        "scores": scores, "train": kind == 1, "validation": kind == 2, "held_out": np.flatnonzero(kind == 3),
        "n": int(hits[3 - seed % 3]),
    }  # fmt: skip


def ndcg_twice(scores, train, validation, held_out, n):
    left_out = ndcg(top_items(scores, train | validation, n), held_out, n)
    competing = ndcg(top_items(scores, train, n), held_out, n)
    return left_out, competing


def _masked_with(value):
    """Known items get a number in place of minus infinity."""

    def variant(scores, train, validation, held_out, n):
        def masked(known):
            return np.argsort(-np.where(known, value, scores), kind="stable")[:n]

        return ndcg(masked(train | validation), held_out, n), ndcg(masked(train), held_out, n)

    return variant


def _training_items_compete(scores, train, validation, held_out, n):
    nobody = np.zeros_like(train)
    return ndcg(top_items(scores, validation, n), held_out, n), ndcg(top_items(scores, nobody, n), held_out, n)


def _exchanged(scores, train, validation, held_out, n):
    return ndcg_twice(scores, train, validation, held_out, n)[::-1]


def _validation_is_right_too(scores, train, validation, held_out, n):
    more = np.concatenate([held_out, np.flatnonzero(validation)])
    return ndcg(top_items(scores, train | validation, n), held_out, n), ndcg(top_items(scores, train, n), more, n)


# --- intervals ------------------------------------------------------------------------------------------------------------


def _seeds(seed: int) -> dict:
    """Two methods that rise and fall together from seed to seed."""
    rng = np.random.default_rng([seed, 25])
    shared = rng.normal(0.3, 0.02, 3 + 2 * (seed % 3))
    return {"ours": shared + rng.normal(0.01, 0.003, len(shared)), "theirs": shared + rng.normal(0, 0.003, len(shared))}


def paired_interval(ours, theirs):
    difference = ours - theirs
    n = len(difference)
    reach = stats.t.ppf(0.975, n - 1) * np.std(difference, ddof=1) / np.sqrt(n)
    return np.mean(difference), np.mean(difference) - reach, np.mean(difference) + reach


def _interval(reach):
    def variant(ours, theirs):
        mean, n = np.mean(ours - theirs), len(ours)
        half = reach(ours, theirs, n)
        return mean, mean - half, mean + half

    return variant


def _t(n):
    return stats.t.ppf(0.975, n - 1)


def _deviation(ours, theirs, ddof=1):
    return np.std(ours - theirs, ddof=ddof)


def _of_the_other(ours, theirs):
    mean, low, high = paired_interval(ours, theirs)
    return -mean, -high, -low


# --- biases ---------------------------------------------------------------------------------------------------------------


def _biases(seed: int) -> dict:
    """Items that repeat, and items and a user that do not: where only repetitions are wrong is to be seen."""
    rng = np.random.default_rng([seed, 24])
    return {
        "bias": rng.normal(size=11),
        "products": rng.normal(size=12),
        "user": np.append(rng.integers(0, 3, 11), 3),
        "positive": np.append(rng.integers(4, 7, 11), 9),
        "negative": np.append(rng.integers(6, 9, 11), 10),
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


_USER_TWICE = "the user's bias stands in both scores, that of the positive and that of the negative item."


def _bias_slope(grad_loss, bias, products, negative, positive):
    return grad_loss / len(products) / (1 + np.exp(-(products + bias[negative] - bias[positive])))


def _user_too(factor):
    """With a share for the user, which has none."""

    def variant(grad_loss, bias, products, user, positive, negative):
        gradient = bias_gradient(grad_loss, bias, products, user, positive, negative)
        np.add.at(gradient, user, factor * _bias_slope(grad_loss, bias, products, negative, positive))
        return gradient

    return variant


def _products_only(grad_loss, bias, products, user, positive, negative):
    return bias_gradient(grad_loss, np.zeros_like(bias), products, user, positive, negative)


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
            "Write `size_of_model(n_entities, n_coarse, n_fine, dim, t_coarse, t_fine)`: "
            "the bytes of a model that has a fine stage: both codebooks, both assignments (`t_coarse` entries in "
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
            Mistake(_one_byte_up_to(255), "256 rows have the numbers 0 to 255. How many bytes do these need?"),
            Mistake(_one_byte_up_to(257), "257 rows have the numbers 0 to 256. How many bytes do these need?"),
            Mistake(_two_bytes_an_index, "two bytes tell 65,536 rows apart. Some of these codebooks have fewer than 257."),
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
            "A model is *beaten* if another one is no larger and no worse, and better in at least one of the two. Write "
            "`on_the_frontier(sizes, qualities)`: a boolean array, true for the models that no other beats. Both arguments have "
            "the shape (k,)."
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
            "Write `adjusted_rand(labels, truth)`: the adjusted Rand index "
            "of two groupings of the same n things: arrays of group numbers from 0, shape (n,). The "
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
        name="ndcg_twice",
        task=(
            "Write `ndcg_twice(scores, train, validation, held_out, n)`: the NDCG@n of one user under two protocols, as a pair. "
            "First with the items of `validation` left out of the list, as those of `train` always are; then with the items of "
            "`validation` competing in it. `scores`, `train` and `validation` have the shape (I,), the last two are booleans; "
            "`held_out` are numbers of items. Use `my.top_items` and `my.ndcg`."
        ),
        solution=ndcg_twice,
        points=_user,
        hints=(
            "my.top_items(scores, known, n) leaves out the items that are known. Which are, in each protocol?",
            "train | validation is true where either is.",
        ),
        mistakes=(
            Mistake(_masked_with(0.0), "a known item with the score 0 comes first wherever the other scores are negative."),
            Mistake(_training_items_compete, "the items of training are in the list; no protocol wants that."),
            Mistake(_exchanged, "right, but in the other order: first with the validation items left out."),
            Mistake(_validation_is_right_too, "in the second list the validation items compete. They do not count as hits."),
        ),
    ),
    Exercise(
        name="paired_interval",
        task=(
            "Write `paired_interval(ours, theirs)`. Two methods were trained with the same seeds; `ours` and `theirs` hold what "
            "they reached, one number a seed, shape (seeds,). Return the mean of the differences and the two ends of its 95 % "
            "interval by Student's t: mean, low, high. `scipy.stats.t.ppf(0.975, degrees_of_freedom)` is the quantile."
        ),
        solution=paired_interval,
        points=_seeds,
        hints=(
            "What is common to both at a seed cancels in the difference: take differences first, then everything else.",
            "The standard deviation of a mean of n independent numbers is their own divided by the root of n.",
            "n - 1 degrees of freedom, and np.std(..., ddof=1).",
        ),
        mistakes=(
            Mistake(
                _interval(lambda a, b, n: _t(n) * np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / n)),
                "these are the deviations of two independent samples. What both share at a seed has not cancelled.",
            ),
            Mistake(
                _interval(lambda a, b, n: _t(n) * _deviation(a, b)),
                "this is how far a single difference may lie. How much less does their mean vary?",
            ),
            Mistake(
                _interval(lambda a, b, n: _t(n) * _deviation(a, b, 0) / np.sqrt(n)),
                "the deviation of a sample has n - 1 below the root, not n.",
            ),
            Mistake(
                _interval(lambda a, b, n: 1.959963984540054 * _deviation(a, b) / np.sqrt(n)),
                "this is the normal distribution's quantile. With so few seeds the deviation is itself uncertain: Student's t.",
            ),
            Mistake(
                _interval(lambda a, b, n: 1.96 * _deviation(a, b) / np.sqrt(n)),
                "this is the normal distribution's quantile. With so few seeds the deviation is itself uncertain: Student's t.",
            ),
            Mistake(
                _interval(lambda a, b, n: stats.t.ppf(0.95, n - 1) * _deviation(a, b) / np.sqrt(n)),
                "this interval holds 90 %: 5 % lie beyond each of its ends.",
            ),
            Mistake(
                _interval(lambda a, b, n: stats.t.ppf(0.975, n) * _deviation(a, b) / np.sqrt(n)),
                "n differences have n - 1 degrees of freedom: one went into the mean.",
            ),
            Mistake(_of_the_other, "the sign: asked for is ours minus theirs."),
        ),
    ),
    Exercise(
        name="bias_gradient",
        task=(
            "The loss of a batch as a function of the biases alone is\n\n"
            "    np.mean(softplus(products + (bias[user] + bias[negative]) - (bias[user] + bias[positive])))\n\n"
            "with `bias` (N,), `products` (B,), and entity numbers `user`, `positive`, `negative` (B,) that may repeat. Write "
            "`bias_gradient(grad_loss, bias, products, user, positive, negative)`: grad_loss times the gradient with respect to "
            "bias, shape (N,)."
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
            *(Mistake(_user_too(factor), _USER_TWICE) for factor in (-1, 1, -2, 2)),
            Mistake(_products_only, "the sigmoid is taken at the products alone; the biases are part of the difference, too."),
            Mistake(_last_one_wins, "an item that occurs several times must collect all of its contributions."),
            Mistake(_mean_forgotten, "the loss is a mean over the batch."),
            Mistake(_cotangent_forgotten, "the cotangent grad_loss is a factor of everything."),
            Mistake(_signs_exchanged, "the signs are exchanged: which item should go up when the loss goes down?"),
        ),
        options={"wrt": "bias"},
    ),
)
