"""The float32 bounds: they hold, they say something, and they notice float32 arithmetic that is worse than it should be."""

import numpy as np
import pytest

from c2f_np.verification import rounding
from c2f_np.verification.catalogue import cases
from c2f_np.verification.rounding import Bounded, bounded, gamma
from c2f_np.verification.threads import one_kernel_thread

pytestmark = pytest.mark.gradcheck

# The graph is bounded where no degree cancels; the stages are composed of the operations that are.
HELD = ("sparse_product", "compose", "soft_threshold", "bridge", "propagate", "bridged_layer", "propagate_bridged",
        "bpr", "regulariser", "graph")  # fmt: skip


@pytest.mark.parametrize("op", HELD)
def test_every_operation_is_held_to_a_derived_bound(op):
    with one_kernel_thread():
        for engine in ("numpy", "numba") if op != "graph" else ("numpy",):
            # The first case of each here; test_verify_cases.py holds all of them.
            found = [v for v in next(iter(cases(op, engine, 5))).run(5).verdicts if v.check == "float32"]
            assert {v.argument for v in found} > {"output"}  # forward and backward
            assert all(v.status == "passed" and v.figure <= 1 for v in found), found


def test_gamma_is_the_bound_of_n_roundings():
    assert gamma(1) == pytest.approx(2.0**-24, rel=1e-6)
    assert gamma(100) > 100 * 2.0**-24


@pytest.mark.parametrize("seed", range(5))
def test_the_rules_of_bounded_hold_for_random_expressions(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal((20, 7)).astype(np.float32) for _ in range(3))
    A, B, C = (bounded(x) for x in (a, b, c))
    pairs = [
        (a * b - c, A * B - C),
        (np.tanh(a * b) * c, (A * B).tanh() * C),
        ((a * b + c).sum(axis=1), (A * B + C).sum(axis=1)),
        (1 / np.sqrt(a * a + np.float32(1)), (A * A + bounded(np.ones(a.shape))).inverse_root()),
        (0.3 * a, A * 0.3),
    ]
    for single, bound in pairs:
        assert single.dtype == np.float32
        assert np.all(np.abs(single - bound.value) <= bound.error)
        assert np.max(bound.error) < 1e-4


def test_a_bound_that_says_nothing_is_a_failure():
    x = np.ones(3)
    verdict = rounding._verdict("x", x, x, Bounded(x, np.full(3, 0.1)))
    assert verdict.status == "failed" and "says nothing" in verdict.reason


def test_an_error_above_the_bound_is_a_failure():
    x = np.ones(3)
    verdict = rounding._verdict("x", x, x + 1e-5, Bounded(x, np.full(3, 1e-6)))
    assert verdict.status == "failed" and verdict.figure > 1


def test_a_bound_for_another_function_is_a_failure():
    x = np.ones(3)
    verdict = rounding._verdict("x", x, x, Bounded(2 * x, np.full(3, 1e-6)))
    assert verdict.status == "failed"
