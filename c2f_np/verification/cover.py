"""Configurations drawn from a seed, so that every pair of values of two options occurs together in at least one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice

import numpy as np

from ..engine import AVAILABLE_ENGINES


def pairwise_cover(
    options: Mapping[str, Sequence],
    rng: np.random.Generator,
    *,
    allowed: Callable[[dict], bool] = lambda configuration: True,
    candidates: int = 30,
) -> list[dict]:
    """Draw configurations until every allowed pair of values has occurred.

    Each configuration is the best of some random ones that hold a pair still missing. A different generator gives different
    configurations: over many seeds all combinations occur, not only all pairs.

    Parameters
    ----------
    options : mapping of str to sequence
        The values of each option.
    rng : numpy.random.Generator
    allowed : callable
        ``allowed(configuration) -> bool``; pairs that no allowed configuration holds are given up.
    candidates : int
        Random configurations to choose from, each time.

    Returns
    -------
    list of dict
    """
    names = list(options)
    missing = {
        (first, i, second, j)
        for first, second in combinations(names, 2)
        for i in range(len(options[first]))
        for j in range(len(options[second]))
    }
    chosen = []
    while missing:
        first, i, second, j = sorted(missing)[rng.integers(len(missing))]
        drawn = [{name: int(rng.integers(len(options[name]))) for name in names} for _ in range(candidates)]
        drawn = [at | {first: i, second: j} for at in drawn]
        drawn = [at for at in drawn if allowed({name: options[name][k] for name, k in at.items()})]
        if not drawn:
            missing.discard((first, i, second, j))
            continue
        best = max(drawn, key=lambda at: len(missing & _pairs(at)))
        missing -= _pairs(best)
        chosen.append({name: options[name][k] for name, k in best.items()})
    return chosen


def in_turns(configurations: Iterable, engine: str) -> Iterator:
    """The configurations whose turn is this engine's.

    Differences of both engines say the same, since their values are compared at every configuration: the two share the pairs.
    """
    return islice(configurations, AVAILABLE_ENGINES.index(engine), None, len(AVAILABLE_ENGINES))


def _pairs(at: dict[str, int]) -> set[tuple]:
    """The pairs of values that a configuration, given by the numbers of its values, holds."""
    return {(first, at[first], second, at[second]) for first, second in combinations(at, 2)}
