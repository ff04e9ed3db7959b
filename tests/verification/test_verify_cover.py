"""Configurations that cover every pair of values."""

from itertools import combinations, product

import numpy as np

from c2f_np.verification.cover import pairwise_cover

OPTIONS = {
    "L": (0, 1, 2, 3, 4, 5), "gate": (0.0, 0.3, 0.8), "tau": (0.0, 0.7), "links": (1, 2, 6), "degree": ("signed", "absolute"),
}  # fmt: skip


def pairs_of(configurations):
    return {(a, c[a], b, c[b]) for c in configurations for a, b in combinations(OPTIONS, 2)}


def test_every_pair_occurs_in_far_fewer_configurations_than_there_are():
    drawn = pairwise_cover(OPTIONS, np.random.default_rng(0))
    for a, b in combinations(OPTIONS, 2):
        assert {(a, x, b, y) for x, y in product(OPTIONS[a], OPTIONS[b])} <= pairs_of(drawn)
    assert len(drawn) <= 30  # of 216; 18 is the least that L with gate or links allows


def test_a_seed_repeats_and_another_one_differs():
    first, again, other = (pairwise_cover(OPTIONS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_what_is_not_allowed_does_not_occur_and_the_rest_does():
    drawn = pairwise_cover(OPTIONS, np.random.default_rng(3), allowed=lambda c: not (c["L"] == 0 and c["gate"] == 0.8))
    assert all(not (c["L"] == 0 and c["gate"] == 0.8) for c in drawn)
    assert ("L", 0, "gate", 0.3) in pairs_of(drawn) and ("L", 5, "gate", 0.8) in pairs_of(drawn)
