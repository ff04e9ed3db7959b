"""The two evaluation protocols: where validation items come from, and what the test ranking leaves out.

=========== ======================================= ====================================================
protocol    validation items, unless they are given left out of the test ranking
=========== ======================================= ====================================================
``authors`` a third of each user's test items       training items; validation items compete
``clean``   a share of each user's training items   training and validation items
=========== ======================================= ====================================================

Figures of one protocol must not be compared with figures of the other: test sets, training sets and rankings all
differ.
"""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from .dataset import Dataset, check_protocol
from .pairs import (
    STREAM_VALIDATION,
    draw_per_user,
    keys_of_matrix,
    matrix_of_keys,
    seed_in_words,
    split_generator,
)
from .splits import Split, check_fraction


def apply_protocol(
    split: Split, protocol: str = "clean", *, validation_fraction: float = 0.1, seed=0, name: str | None = None
) -> Dataset:
    """Turn a split into a data set.

    Validation that came with the data is used as it is under either protocol; only the masking then differs.

    Parameters
    ----------
    split : Split
    protocol : {"authors", "clean"}
    validation_fraction : float
        The share of each user's training items that ``clean`` takes; 0 for no validation. ``authors`` ignores it.
    seed : int or numpy.random.Generator
        The split's seed; validation has a stream of its own, so it does not shift with the draw of the test items.
    name : str, optional
        By default the split's source.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the protocol is unknown, the fraction or the seed is impossible, or ``authors`` meets a split without test.
    """
    check_protocol(protocol)
    train, validation, test, how = split.train, split.validation, split.test, split.how
    if validation is not None:
        pass
    elif protocol == "authors":
        if test is None:
            raise DataError(
                'the protocol "authors" takes validation from the test items, and there are none; use "clean"'
            )
        validation, test = _third_of_test(test, seed)
        how += f"; validation: a third of each user's test items at random ({seed_in_words(seed)})"
    else:
        check_fraction(validation_fraction, "validation_fraction", zero_is_fine=True)
        if validation_fraction:
            train, validation = _share_of_training(train, validation_fraction, seed)
            share = f"{validation_fraction:.0%} of each user's training items at random"
            how += f"; validation: {share} ({seed_in_words(seed)})"
    return Dataset(
        name or split.source, train, validation, test, split.user_ids, split.item_ids, how, protocol, dict(split.report)
    )


def _third_of_test(test, seed):
    """Return (validation, test): a third of each user's test items, rounded up, becomes validation."""
    n_test = np.diff(test.indptr).astype(np.int64)
    return _move(test, -(-n_test // 3), split_generator(seed, STREAM_VALIDATION))


def _share_of_training(train, fraction: float, seed):
    """Return (train, validation): a share of each user's training items becomes validation, but never the last one.

    The share is rounded up or down at random, in proportion. Plain rounding would take nothing from users with few
    items, and early stopping would then listen to the busiest users only.
    """
    rng = split_generator(seed, STREAM_VALIDATION)
    per_user = np.diff(train.indptr).astype(np.int64)
    wanted = np.floor(fraction * per_user + rng.random(len(per_user))).astype(np.int64)
    validation, train = _move(train, np.minimum(wanted, np.maximum(per_user - 1, 0)), rng)
    return train, validation if validation.nnz else None


def _move(matrix, how_many: np.ndarray, rng):
    """Return (what was drawn, what is left)."""
    keys = keys_of_matrix(matrix)
    taken = draw_per_user(keys // matrix.shape[1], how_many, rng)
    return matrix_of_keys(keys[taken], matrix.shape), matrix_of_keys(keys[~taken], matrix.shape)
