"""Exercises on the graph, the ranking and its metrics (notebook 00)."""

from __future__ import annotations

import numpy as np

from .exercise import Exercise, Mistake


# ---- normalise_by_hand -----------------------------------------------------------------------------------------------
def normalise_by_hand(R):
    n_users, n_items = R.shape
    A = np.zeros((n_users + n_items, n_users + n_items))
    for u in range(n_users):
        for i in range(n_items):
            if R[u, i]:
                A[u, n_users + i] = A[n_users + i, u] = 1 / np.sqrt(R[u].sum() * R[:, i].sum())
    return A


def _adjacency(R):
    n_users, n_items = R.shape
    return np.block([[np.zeros((n_users, n_users)), R], [R.T, np.zeros((n_items, n_items))]])


def _scaled(R, left: float, right: float):
    """D^left B D^right, empty rows left empty."""
    B = _adjacency(R)
    degree = B.sum(axis=1)
    base = np.where(degree > 0, degree, 1)
    return base[:, None] ** left * B * base**right


def _interactions(seed: int) -> dict:
    """Binary, with an empty user and an empty item at every seed but the first."""
    rng = np.random.default_rng([seed, 1])
    R = (rng.random((5, 4)) < 0.5).astype(float)
    R[np.arange(5), rng.integers(0, 4, 5)] = 1
    R[0] = 1
    if seed % 3:
        R[2], R[:, 3] = 0, 0
    return {"R": R}


def _upper_only(R):
    A = normalise_by_hand(R)
    A[len(R) :] = 0
    return A


def _one_symmetric_scale(R):
    B = _adjacency(R)
    return B / max(B.sum(axis=1).max(), 1)


NORMALISE = Exercise(
    "normalise_by_hand",
    "Write `normalise_by_hand(R)`: from a dense binary array `R` of shape (U, I) to the dense normalised adjacency "
    "$A=D^{-1/2}BD^{-1/2}$ of shape (U + I, U + I), users first. Some users and items may have no interactions: their rows and "
    "columns stay zero. Use loops or blocks as you like, but not the package.",
    normalise_by_hand,
    _interactions,
    hints=(
        "Build B first, with `np.block` from four blocks; two of them are zero.",
        "The degree of a node is its row sum in B. An entry of A is an entry of B divided by the square roots of two degrees.",
        "Divide by `np.sqrt(np.where(degree > 0, degree, 1))`, once along the rows and once along the columns: "
        "`B / root[:, None] / root`.",
    ),
    mistakes=(
        Mistake(_adjacency, "this is B itself: nothing has been normalised yet."),
        Mistake(
            lambda R: _scaled(R, -1, 0),
            "you divide each row by its own degree, so that rows sum to 1. That is another normalisation ($D^{-1}B$), and it is "
            "not symmetric. Each entry should be divided by something of both its nodes.",
        ),
        Mistake(
            lambda R: _scaled(R, -0.5, 0),
            "one half is missing: you divide by the root of the row's degree only. The column's node wants its share too.",
        ),
        Mistake(
            lambda R: _scaled(R, -1, -1),
            "you divide by both degrees, but not by their roots: look at the exponent of D again.",
        ),
        Mistake(_upper_only, "the graph has no direction, but your matrix does: the lower left block is missing."),
        Mistake(_one_symmetric_scale, "every entry has been divided by the same number. Degrees differ from node to node."),
    ),
)


# ---- rank_one_user ---------------------------------------------------------------------------------------------------
def rank_one_user(scores, masked, k):
    candidates = np.flatnonzero(~masked)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:k]]


def _scores(seed: int) -> dict:
    """Negative scores among them, ties among the best, the best item masked."""
    rng = np.random.default_rng([seed, 2])
    scores = rng.integers(-6, 3, 12) / 2.0
    scores[[2, 5, 7]] = 1.5 if seed % 2 else -0.5
    scores[[4, 9]] = 2.0
    masked = np.zeros(12, bool)
    masked[[4, 9, 11]] = True
    return {"scores": scores if seed % 2 else scores - 2.5, "masked": masked, "k": 5}


def _ranked(scores, masked, k):
    return np.argsort(-scores, kind="stable")[:k]


def _masked_as_zero(scores, masked, k):
    return np.argsort(-np.where(masked, 0.0, scores), kind="stable")[:k]


def _worst_first(scores, masked, k):
    candidates = np.flatnonzero(~masked)
    return candidates[np.argsort(scores[candidates], kind="stable")[:k]]


def _higher_index_first(scores, masked, k):
    return np.argsort(np.where(masked, -np.inf, scores), kind="stable")[::-1][:k]


def _places_among_candidates(scores, masked, k):
    return np.argsort(-scores[~masked], kind="stable")[:k]


RANK = Exercise(
    "rank_one_user",
    "Write `rank_one_user(scores, masked, k)`: the indices of the `k` best items, best first. `scores` has shape (I,), `masked` "
    "is a boolean array of shape (I,), True for the items that must not appear. Among equal scores the lower index comes first. "
    "At least `k` items are not masked. Scores may be negative, even all of them.",
    rank_one_user,
    _scores,
    hints=(
        "`np.argsort` sorts upwards. What can you sort instead of `scores`?",
        'A stable sort (`kind="stable"`) keeps equal entries in the order of their indices; reversing it afterwards spoils that.',
        "A masked item must lose against every score there is: give it the score `-np.inf`, in a copy.",
    ),
    mistakes=(
        Mistake(_ranked, "items that the user is known to have are on the list. They must be left out."),
        Mistake(
            _masked_as_zero,
            "you give masked items the score 0. Here other scores are negative, and so the masked items come first. "
            "Zero is a score like any other.",
        ),
        Mistake(_worst_first, "this list has the worst item first."),
        Mistake(
            _higher_index_first,
            "nearly: among equal scores you put the higher index first. Reversing a stable sort reverses the ties too.",
        ),
        Mistake(
            _places_among_candidates,
            "these are places in the list of unmasked items, not item numbers: translate them back.",
        ),
    ),
)


# ---- ndcg_one_user ---------------------------------------------------------------------------------------------------
def ndcg_one_user(ranked, relevant, k):
    discount = 1 / np.log2(np.arange(2, k + 2))
    hit = np.isin(ranked[:k], relevant)
    return np.sum(discount * hit) / np.sum(discount[: min(k, len(relevant))])


def _lists(seed: int) -> dict:
    """Fewer relevant items than k at even seeds, more at odd ones; the list is longer than k."""
    rng = np.random.default_rng([seed, 3])
    relevant = np.sort(rng.choice(20, 3 if seed % 2 == 0 else 8, replace=False))
    others = np.setdiff1d(np.arange(20), relevant)
    # Two hits and three misses at first; what follows beyond k must not count.
    first = np.array([others[0], relevant[0], others[1], relevant[2], others[2]])
    rest = rng.permutation(np.setdiff1d(np.arange(20), first))
    return {"ranked": np.concatenate([first, rest]), "relevant": relevant, "k": 5}


def _dcg(ranked, relevant, k, discount=None):
    discount = 1 / np.log2(np.arange(2, k + 2)) if discount is None else discount
    return np.sum(discount * np.isin(ranked[:k], relevant))


def _ideal_of_all(ranked, relevant, k):
    return _dcg(ranked, relevant, k) / np.sum(1 / np.log2(np.arange(2, len(relevant) + 2)))


def _ideal_of_k(ranked, relevant, k):
    return _dcg(ranked, relevant, k) / np.sum(1 / np.log2(np.arange(2, k + 2)))


def _one_over_place(ranked, relevant, k):
    discount = 1 / np.arange(1, k + 1)
    return _dcg(ranked, relevant, k, discount) / np.sum(discount[: min(k, len(relevant))])


def _whole_list(ranked, relevant, k):
    return _dcg(ranked, relevant, len(ranked)) / np.sum(1 / np.log2(np.arange(2, min(k, len(relevant)) + 2)))


def _recall(ranked, relevant, k):
    return np.isin(ranked[:k], relevant).sum() / len(relevant)


NDCG = Exercise(
    "ndcg_one_user",
    "Write `ndcg_one_user(ranked, relevant, k)`: NDCG@k of one user, a number. `ranked` holds item numbers, best first "
    "(it may be longer than `k`), `relevant` holds the numbers of the relevant items, at least one, "
    "without duplicates. Not with the package.",
    ndcg_one_user,
    _lists,
    hints=(
        "The first `k` of the list count, and nothing behind them. `np.isin` says which of them are relevant.",
        "Place j, counted from 1, has the discount 1 / log2(j + 1): 1, .6309, .5, ...",
        "The ideal list has its hits on top. How many can it have? No more than there are relevant items, and no more than k.",
    ),
    mistakes=(
        Mistake(_dcg, "this is the DCG. It still has to be divided by that of the best list possible."),
        Mistake(
            _ideal_of_all,
            "your ideal list has more than k places. With more relevant items than places no real list could reach 1.",
        ),
        Mistake(
            _ideal_of_k,
            "your ideal list has k hits, even when there are fewer relevant items than that. No list could do that.",
        ),
        Mistake(_one_over_place, "your discount is 1 / place. That of NDCG falls more slowly, with a logarithm."),
        Mistake(_whole_list, "hits behind place k are counted too."),
        Mistake(_recall, "this is Recall@k: it does not matter to it at which place a hit stands. To NDCG it does."),
    ),
)

EXERCISES = (NORMALISE, RANK, NDCG)
