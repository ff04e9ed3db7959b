"""Exercises on the graph, walks along it, rankings and their judgement (notebook 00)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from .exercise import Exercise, Mistake


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


# ---- the graph -------------------------------------------------------------------------------------------------------
def adjacency(R):
    return sparse.block_array([[None, R], [R.T, None]], format="csr")


def normalised_adjacency(R):
    A_0 = adjacency(R)
    degree = A_0.sum(axis=1)
    half = sparse.diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1)))  # an empty row stays empty
    return sparse.csr_array(half @ A_0 @ half)


def _scaled(R, left: float, right: float):
    """D^left A_0 D^right, empty rows left empty."""
    A_0 = adjacency(R).toarray()
    degree = A_0.sum(axis=1)
    base = np.where(degree > 0, degree, 1)
    return base[:, None] ** left * A_0 * base**right


def _interactions(seed: int) -> dict:
    """Binary; no two degrees of a pair of neighbours alike everywhere; an empty user and an empty item."""
    rng = np.random.default_rng([seed, 1])
    R = (rng.random((6, 5)) < 0.5).astype(float)
    R[np.arange(6), rng.integers(0, 5, 6)] = 1
    R[0, :4] = 1
    R[2], R[:, 4] = 0, 0
    return {"R": sparse.csr_array(R)}


def _upper_only(R):
    A = normalised_adjacency(R).toarray()
    A[R.shape[0] :] = 0
    return A


def _with_loops(R):
    """A graph in which every node is its own neighbour."""
    A_0 = adjacency(R).toarray() + np.eye(sum(R.shape))
    root = np.sqrt(A_0.sum(axis=1))
    return A_0 / root[:, None] / root


def _one_symmetric_scale(R):
    A_0 = adjacency(R).toarray()
    return A_0 / A_0.sum(axis=1).max()


NORMALISE = Exercise(
    "normalised_adjacency",
    "Write `normalised_adjacency(R)`: from the interactions `R`, a `scipy.sparse.csr_array` of shape (U, I), to "
    "$A=D^{-1/2}A_0D^{-1/2}$ of shape (U + I, U + I), users first, dense or sparse. `my.adjacency(R)` is $A_0$, sparse; "
    "`my.dense` makes a sparse matrix dense. Some users and items have no interactions: their rows and columns stay zero.",
    normalised_adjacency,
    _interactions,
    hints=(
        "The degree of a node is its row sum in A_0. An entry of A is an entry of A_0 divided by the square roots of two "
        "degrees.",
        "To divide by 0 gives infinity or NaN: divide an empty row by 1 instead, `np.sqrt(np.where(degree > 0, degree, 1))`.",
        "Once along the rows and once along the columns: `A_0 / root[:, None] / root` if A_0 is dense, or a product with "
        "`sparse.diags_array(1 / root)` from both sides.",
    ),
    mistakes=(
        Mistake(lambda R: adjacency(R).toarray(), "this is A_0 itself: nothing has been normalised yet."),
        Mistake(
            lambda R: _scaled(R, -1, 0),
            "you divide each row by its own degree, so that rows sum to 1. That is another normalisation ($D^{-1}A_0$), and it "
            "is not symmetric. Each entry should be divided by something of both its nodes.",
        ),
        Mistake(
            lambda R: _scaled(R, 0, -1),
            "you divide each column by its own degree, so that columns sum to 1. That is another normalisation ($A_0D^{-1}$), "
            "and it is not symmetric. Each entry should be divided by something of both its nodes.",
        ),
        Mistake(
            lambda R: _scaled(R, -0.5, 0),
            "one half is missing: you divide by the root of the row's degree only. The column's node wants its share, too.",
        ),
        Mistake(
            lambda R: _scaled(R, 0, -0.5),
            "one half is missing: you divide by the root of the column's degree only. The row's node wants its share, too.",
        ),
        Mistake(
            lambda R: _scaled(R, -1, -1),
            "you divide by both degrees, but not by their roots: look at the exponent of D again.",
        ),
        Mistake(
            lambda R: _scaled(R, 0.5, 0.5),
            "you multiply by the roots of the degrees. They belong into the denominator.",
        ),
        Mistake(
            _with_loops,
            "every node is linked to itself: the diagonal of A_0 is 0.",
        ),
        Mistake(_upper_only, "the graph has no direction, but your matrix does: the lower left block is missing."),
        Mistake(_one_symmetric_scale, "every entry has been divided by the same number. Degrees differ from node to node."),
    ),
)


# ---- walks and popularity --------------------------------------------------------------------------------------------
def three_step_walks(R):
    n_users = R.shape[0]
    R_tilde = normalised_adjacency(R)[:n_users, n_users:]
    return R_tilde @ R_tilde.T @ R_tilde


def _one_step(R):
    return normalised_adjacency(R).toarray()[: R.shape[0], R.shape[0] :]


def _without_normalisation(R):
    R = R.toarray()
    return R @ R.T @ R


def _five_steps(R):
    R_tilde = _one_step(R)
    return dense(three_step_walks(R)) @ R_tilde.T @ R_tilde


def _averaging_steps(R):
    n_users = R.shape[0]
    step = _scaled(R, -1, 0)
    return np.linalg.matrix_power(step, 3)[:n_users, n_users:]


def _entry_by_entry(R):
    n_users = R.shape[0]
    return dense(normalised_adjacency(R))[:n_users, n_users:] ** 3


def _known_left_out(R):
    return np.where(dense(R) > 0, 0.0, dense(three_step_walks(R)))


WALKS = Exercise(
    "three_step_walks",
    "Write `three_step_walks(R)`: for every user and item the weight of all walks user, item, user, item along the normalised "
    "graph, of shape (U, I), dense or sparse. `my.normalised_adjacency(R)` is the graph.",
    three_step_walks,
    _interactions,
    hints=(
        "One step is a product with A; which rows and columns of A @ A @ A are asked for?",
        "It is cheaper to take the block first. Rows of users and columns of items make `R_tilde = A[:U, U:]`; the opposite "
        "block is its transpose.",
        "From the user to items, back to users, on to items: `R_tilde @ R_tilde.T @ R_tilde`.",
    ),
    mistakes=(
        Mistake(
            lambda R: np.zeros(R.shape),
            "the result is zero everywhere. An even number of steps from a user ends at users: how many are yours?",
        ),
        Mistake(_one_step, "this is a single step: it reaches only the items that the user has."),
        Mistake(_without_normalisation, "these walks are along the bare interactions. Take the normalised graph."),
        Mistake(_entry_by_entry, "`**` takes powers entry by entry. A walk is a product of matrices, `@`."),
        Mistake(_known_left_out, "the items that a user has are 0. All scores are asked for; what is known is left out later."),
        Mistake(_five_steps, "these walks have five steps; three are asked for."),
        Mistake(
            _averaging_steps,
            "your steps divide by the degree of one of the two nodes only. Those of the normalised graph divide by the roots of "
            "both.",
        ),
    ),
)


def popularity(R):
    return np.tile(R.sum(axis=0), (R.shape[0], 1))


POPULARITY = Exercise(
    "popularity",
    "Write `popularity(R)`: the scores of a recommender that offers everybody the same, the number of interactions of each item: "
    "an array of shape (U, I), all rows alike.",
    popularity,
    _interactions,
    hints=(
        "The degree of an item is the sum of its column in R.",
        "`np.tile(row, (U, 1))` repeats a row for every user.",
    ),
    mistakes=(
        Mistake(
            lambda R: np.tile(R.sum(axis=1)[:, None], (1, R.shape[1])),
            "these are the degrees of users. For one user all items get the same score.",
        ),
        Mistake(
            lambda R: np.where(dense(R) > 0, 0.0, popularity(R)),
            "the items that a user has are 0. All scores are asked for; what is known is left out later.",
        ),
        Mistake(
            lambda R: np.tile(R.sum(axis=0) / R.sum(), (R.shape[0], 1)),
            "these are shares. They rank alike; the numbers of interactions are asked for.",
        ),
        Mistake(
            lambda R: np.tile(R.sum(axis=0) / R.shape[0], (R.shape[0], 1)),
            "these are shares. They rank alike; the numbers of interactions are asked for.",
        ),
    ),
)


# ---- a list ----------------------------------------------------------------------------------------------------------
def top_items(scores, known, n):
    lowered = np.where(known, -np.inf, scores)  # a new array; a known item loses against every score
    return np.argsort(-lowered, kind="stable")[:n]  # stable: equal scores stay in the order of their numbers


def _scores(seed: int) -> dict:
    """Mostly negative, with many ties, the best items known; at every third seed all others are asked for."""
    rng = np.random.default_rng([seed, 2])
    scores = rng.integers(-8, -2, 40) / 2.0
    scores[rng.choice(np.arange(10, 40), 3, replace=False)] = [1.5, -0.5, -0.5]
    scores[[0, 4, 9]] = 2.0
    known = np.zeros(40, bool)
    known[[0, 4, 9, 11]] = True
    scores[[11, 12]] = -0.5, scores.min()
    return {"scores": scores, "known": known, "n": 36 if seed % 3 == 2 else 5}


def _ranked(scores, known, n):
    return np.argsort(-scores, kind="stable")[:n]


def _known_as_zero(scores, known, n):
    return np.argsort(-np.where(known, 0.0, scores), kind="stable")[:n]


def _worst_first(scores, known, n):
    candidates = np.flatnonzero(~known)
    return candidates[np.argsort(scores[candidates], kind="stable")[:n]]


def _higher_number_first(scores, known, n):
    return np.argsort(np.where(known, -np.inf, scores), kind="stable")[::-1][:n]


def _places_among_candidates(scores, known, n):
    return np.argsort(-scores[~known], kind="stable")[:n]


def _best_last(scores, known, n):
    return top_items(scores, known, n)[::-1]


def _only_known(scores, known, n):
    return top_items(scores, ~known, n)


RANK = Exercise(
    "top_items",
    "Write `top_items(scores, known, n)`: the numbers of the `n` best items for one user, best first. `scores` has shape (I,), "
    "`known` is a boolean array of shape (I,), True for the items that the user has and that must not appear. Among equal scores "
    "the lower number comes first. At least `n` items are not known. Scores may be negative, even all of them.",
    top_items,
    _scores,
    hints=(
        "`np.argsort` sorts upwards. What can you sort instead of `scores`?",
        'A stable sort (`kind="stable"`) keeps equal entries in the order of their numbers; reversing it afterwards spoils that.',
        "A known item must lose against every score there is: give it the score `-np.inf`, in a copy.",
    ),
    mistakes=(
        Mistake(_ranked, "items that the user has are on the list. They must be left out."),
        Mistake(
            _known_as_zero,
            "you give known items the score 0. Here most scores are negative, and so the known items come early. Zero is a score "
            "like any other.",
        ),
        Mistake(_worst_first, "this list has the worst item first."),
        Mistake(_best_last, "these are the right items, with the best of them last."),
        Mistake(
            _higher_number_first,
            "nearly: among equal scores you put the higher number first. Reversing a stable sort reverses the ties too.",
        ),
        Mistake(
            _places_among_candidates,
            "these are places in the list of unknown items, not item numbers: translate them back.",
        ),
        Mistake(_only_known, "known the wrong way round: True marks what must *not* appear."),
    ),
)


# ---- its judgement ---------------------------------------------------------------------------------------------------
def recall(recommended, held_out):
    return np.sum(np.isin(recommended, held_out)) / len(held_out)


def _found(seed: int) -> dict:
    """Two or three hits among five; the held-out items are more than places."""
    rng = np.random.default_rng([seed, 4])
    items = rng.permutation(30)
    held_out, others = items[: 7 + seed % 3], items[10:]
    recommended = rng.permutation(np.concatenate([held_out[: 2 + seed % 2], others[: 3 - seed % 2]]))
    return {"recommended": recommended, "held_out": np.sort(held_out)}


RECALL = Exercise(
    "recall",
    "Write `recall(recommended, held_out)`: the share of one user's held-out items that are on the list. Both are arrays of item "
    "numbers without duplicates; `held_out` has at least one.",
    recall,
    _found,
    hints=(
        "`np.isin(recommended, held_out)` says of every place whether there is a hit.",
        "The number of hits, divided by how many there were to be found.",
    ),
    mistakes=(
        Mistake(
            lambda recommended, held_out: np.mean(np.isin(recommended, held_out)),
            "you divide by the number of places on the list (the share of hits among them is the precision). Divide by the "
            "number of items that were to be found, even if they are more than places.",
        ),
        Mistake(
            lambda recommended, held_out: np.sum(np.isin(recommended, held_out)),
            "this is the number of hits. Which share is it of all that were to be found?",
        ),
        Mistake(
            lambda recommended, held_out: float(np.any(np.isin(recommended, held_out))),
            "this only says whether there is a hit at all.",
        ),
    ),
)


def ndcg(recommended, held_out, n):
    discount = 1 / np.log2(np.arange(2, n + 2))  # places 1, 2, ..., n
    hit = np.isin(recommended[:n], held_out)
    return np.sum(discount * hit) / np.sum(discount[: min(n, len(held_out))])


def _lists(seed: int) -> dict:
    """Fewer held-out items than n at even seeds, more at odd ones; the list is longer than n."""
    rng = np.random.default_rng([seed, 3])
    some = rng.permutation(np.arange(2, 20))
    held_out = np.sort(some[:4] if seed % 2 == 0 else np.append(1, some[:7]))
    others = np.setdiff1d(np.arange(20), held_out)
    # Two hits and three misses at first; what follows beyond n must not count.
    first = np.array([others[0], held_out[0], others[1], held_out[2], others[2]])
    rest = rng.permutation(np.setdiff1d(np.arange(20), first))
    return {"recommended": np.concatenate([first, rest]), "held_out": held_out, "n": 5}


def _dcg(recommended, held_out, n, discount=None):
    discount = 1 / np.log2(np.arange(2, n + 2)) if discount is None else discount
    return np.sum(discount * np.isin(recommended[:n], held_out))


def _ideal_of_all(recommended, held_out, n):
    return _dcg(recommended, held_out, n) / np.sum(1 / np.log2(np.arange(2, len(held_out) + 2)))


def _ideal_of_n(recommended, held_out, n):
    return _dcg(recommended, held_out, n) / np.sum(1 / np.log2(np.arange(2, n + 2)))


def _ideal_of_the_hits(recommended, held_out, n):
    n_hits = np.sum(np.isin(recommended[:n], held_out))
    return _dcg(recommended, held_out, n) / np.sum(1 / np.log2(np.arange(2, n_hits + 2)))


def _one_over_place(recommended, held_out, n):
    discount = 1 / np.arange(1, n + 1)
    return _dcg(recommended, held_out, n, discount) / np.sum(discount[: min(n, len(held_out))])


def _places_from_zero(recommended, held_out, n):
    discount = 1 / np.log2(np.arange(3, n + 3))
    return _dcg(recommended, held_out, n, discount) / np.sum(discount[: min(n, len(held_out))])


def _whole_list(recommended, held_out, n):
    return _dcg(recommended, held_out, len(recommended)) / np.sum(1 / np.log2(np.arange(2, min(n, len(held_out)) + 2)))


NDCG = Exercise(
    "ndcg",
    "Write `ndcg(recommended, held_out, n)`: NDCG@n of one user, a number. `recommended` holds item numbers, best first (it may "
    "be longer than `n`), `held_out` the numbers of the held-out items, at least one, without duplicates.",
    ndcg,
    _lists,
    hints=(
        "The first `n` of the list count, and nothing behind them. `np.isin` says which of them are hits.",
        "Place j, counted from 1, has the discount 1 / log2(j + 1): 1, .6309, .5, ...",
        "The best list has its hits on top. How many can it have? No more than there are held-out items, and no more than n.",
    ),
    mistakes=(
        Mistake(
            lambda recommended, held_out, n: 0.0,
            "the result is 0, though there are hits. Is the sum of the best list infinite? Place 1 is divided by log2(2); "
            "log2(1) is 0.",
        ),
        Mistake(_dcg, "this is the DCG. It still has to be divided by that of the best list possible."),
        Mistake(
            _ideal_of_all,
            "your best list has more than n places. With more held-out items than places no real list could reach 1.",
        ),
        Mistake(
            _ideal_of_n,
            "your best list has n hits, even when there are fewer held-out items than that. No list could do that.",
        ),
        Mistake(
            _ideal_of_the_hits,
            "your best list has the hits of this list, moved to the top. The best list there could be has all held-out items, as "
            "far as there are places.",
        ),
        Mistake(_one_over_place, "your discount is 1 / place. That of NDCG falls more slowly, with a logarithm."),
        Mistake(_places_from_zero, "your discounts are one place too far on: place 1 counts 1 / log2(2) = 1."),
        Mistake(_whole_list, "hits behind place n are counted too."),
        Mistake(
            lambda recommended, held_out, n: recall(recommended[:n], held_out),
            "this is the recall: it does not matter to it at which place a hit stands. To NDCG it does.",
        ),
    ),
)


# ---- all users -------------------------------------------------------------------------------------------------------
def evaluate(scores, R, test, n):
    values = []
    for u in range(R.shape[0]):
        held_out = test[[u]].indices
        if len(held_out) > 0:
            known = R[[u]].toarray()[0] > 0
            values.append(ndcg(top_items(scores[u], known, n), held_out, n))
    return np.mean(values)


def _everybody(seed: int) -> dict:
    """Two users without held-out items, one for whom nothing is found; known items have high scores, most others low ones.

    At even seeds nearly all are below 0, where a known item at 0 would come first; at odd ones many known items are above it.
    """
    rng = np.random.default_rng([seed, 5])
    pairs = rng.random((9, 16))
    known, held_out = pairs < 0.25, pairs > 0.7
    held_out[[2, 5]] = False
    held_out[np.flatnonzero(np.arange(9) % 3 == 1), rng.integers(0, 4, 3)] = True
    known &= ~held_out
    scores = rng.normal(-4 if seed % 2 == 0 else -1.5, 1, (9, 16)) + 2.0 * known + 0.8 * held_out
    scores[4] = np.where(held_out[4], -9, scores[4])
    return {"scores": scores, "R": sparse.csr_array(known * 1.0), "test": sparse.csr_array(held_out * 1.0), "n": 4}


def _mean_over(users, scores, R, test, n, *, measure=ndcg, mask=None):
    values = []
    for u in users:
        held_out = test[[u]].indices
        known = np.zeros(R.shape[1], bool) if mask is None else mask[[u]].toarray()[0] > 0
        best = top_items(scores[u], known, n)
        values.append(measure(best, held_out, n) if len(held_out) > 0 else 0.0)
    return np.mean(values)


def _asked(test):
    return np.flatnonzero(np.diff(test.indptr))


EVALUATE = Exercise(
    "evaluate",
    "Write `evaluate(scores, R, test, n)`: the mean of NDCG@n over all users who have something held out. `scores` is a dense "
    "array of shape (U, I); `R` and `test` are sparse, of the same shape: what is known and left out of the lists, and what is "
    "held out. `my.top_items` and `my.ndcg` do the work for one user.",
    evaluate,
    _everybody,
    hints=(
        "Loop over the users; `test[[u]].indices` holds the numbers of u's held-out items.",
        "`R[[u]].toarray()[0] > 0` is the boolean array that `my.top_items` wants.",
        "A user without held-out items has no NDCG: leave them out, and take the mean over the others.",
    ),
    mistakes=(
        Mistake(
            lambda scores, R, test, n: _mean_over(range(R.shape[0]), scores, R, test, n, mask=R),
            "users without held-out items are counted as 0. Nobody could have found anything for them: leave them out.",
        ),
        Mistake(
            lambda scores, R, test, n: _mean_over(_asked(test), scores, R, test, n),
            "known items are on the lists and take the places of others. Mask R.",
        ),
        Mistake(
            lambda scores, R, test, n: _mean_over(
                _asked(test), scores, R, test, n, mask=R, measure=lambda best, held_out, n: recall(best, held_out)
            ),
            "this is the mean recall. NDCG is asked for.",
        ),
        *(
            Mistake(
                hides_the_answer,
                "held-out items are left out of the lists, so that nothing can be found. Leave out what is known, R, and no "
                "more.",
            )
            for hides_the_answer in (
                lambda scores, R, test, n: _mean_over(_asked(test), scores, R, test, n, mask=test),
                lambda scores, R, test, n: _mean_over(_asked(test), scores, R, test, n, mask=R + test),
            )
        ),
        Mistake(
            lambda scores, R, test, n: len(_asked(test)) * evaluate(scores, R, test, n),
            "this is the sum over the users, not their mean.",
        ),
    ),
)

GIVEN = (dense, adjacency)

EXERCISES = (NORMALISE, WALKS, RANK, RECALL, NDCG, POPULARITY, EVALUATE)
