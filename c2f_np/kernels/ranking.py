"""The compiled loop behind top-k ranking.

Shapes: `scores` (n_rows, n) of some items in a row; `ranking` (n_rows, k); the mask is a CSR pattern whose row
`mask_rows[r]` belongs to row `r` of the scores.

The kernel is serial and gives up the GIL. Threads are made outside, with :mod:`concurrent.futures`, each on rows of its
own: the matrix product that fills a block of scores releases the GIL too, so one pool carries both. ``prange`` would
have to wait for the product, and its `workqueue` layer ends the process when two Python threads enter it at once.
"""

from __future__ import annotations

from .compiled import njit

# Scores that are compared at once. Measured: 32 to 128 are about equally good.
SCORES_OF_A_BLOCK = 64


@njit(nogil=True, inline="always")
def _all_within(scores, cut):
    """Whether no score is above `cut`, and none a NaN. Counted: a loop with a way out is not turned into vector instructions."""
    n_above = 0
    for f in range(scores.shape[0]):
        if scores[f] <= cut:
            continue
        n_above += 1
    return n_above == 0


@njit(nogil=True)
def rank_rows(scores, mask_rows, mask_indptr, mask_indices, ranking, best, filled, first_item, block=SCORES_OF_A_BLOCK):
    """Enter items into the lists of every row; return the row and item of the first NaN, or (-1, -1).

    Column f of `scores` is the item `first_item` + f. `ranking` and `best` (n_rows, k) have the items listed so far and their
    scores, sorted, `filled` (n_rows,) how many: what was written there goes on with the items that come next.

    An item enters only if its score is *greater* than the last on the list. Items come in ascending order, so among equal
    scores the lower index stays in front. Nearly every item fails at that one comparison, and mostly a whole block of `block`
    scores does.
    """
    n_items, k = scores.shape[1], ranking.shape[1]
    for row in range(scores.shape[0]):
        masked = mask_indptr[mask_rows[row]]
        masked_end = mask_indptr[mask_rows[row] + 1]
        for start in range(0, n_items, block):
            stop = min(start + block, n_items)
            if filled[row] == k and _all_within(scores[row, start:stop], best[row, k - 1]):
                continue
            for f in range(start, stop):
                score, item = scores[row, f], first_item + f
                # While there is room anything may enter. A NaN is neither less nor equal, so it gets to the next line.
                if filled[row] == k and score <= best[row, k - 1]:
                    continue
                if score != score:
                    return row, item
                while masked < masked_end and mask_indices[masked] < item:
                    masked += 1
                if masked < masked_end and mask_indices[masked] == item:
                    continue
                if filled[row] < k:
                    filled[row] += 1
                place = filled[row] - 1
                while place > 0 and best[row, place - 1] < score:
                    best[row, place] = best[row, place - 1]
                    ranking[row, place] = ranking[row, place - 1]
                    place -= 1
                best[row, place] = score
                ranking[row, place] = item
    return -1, -1
