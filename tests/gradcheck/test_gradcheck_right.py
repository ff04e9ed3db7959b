"""No false alarm: right rules pass at random points of every scale, with the figures that are promised."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from gradcheck_rules import MAKERS

from c2f_np.gradcheck import check_gradients, kinks, taylor

pytestmark = pytest.mark.gradcheck

CORNERS = list(itertools.product((-6, 6), repeat=2))


def hold(report):
    """The report passes, and every figure keeps its promise."""
    assert report.passed, str(report)
    for v in report.verdicts:
        assert v.status == "passed" or v.reason == "kept", (v, str(report))
        if v.check == "central_difference":
            assert v.figure < 1e-8
        if v.check == "complex_step":
            assert v.figure < 1e-13, str(report)
        if v.check == "taylor_rate":
            assert v.figure > 1.9
        if v.check == "adjoint":
            assert v.figure < 1e-14


@pytest.mark.parametrize("seeds", [range(10), pytest.param(range(10, 60), marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("name", MAKERS)
def test_right_rules_pass_at_every_scale(name, seeds):
    """A thousand points in all: the smallest and largest scales, then any."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        s, t = CORNERS[seed] if seed < len(CORNERS) else rng.integers(-6, 7, 2)
        case = MAKERS[name](rng, 10.0**s, 10.0**t)
        hold(check_gradients(case.forward, case.backward, case.arguments, name=name, seed=seed, **case.options))


@pytest.mark.parametrize(("off", "accepted"), [(0.0, True), (1e-6, False), (1e-4, False)])
def test_a_forward_that_rounds_nothing_at_the_smallest_steps(off, accepted):
    """Its changes are then exactly proportional to the steps, as a wrong gradient's remainder is."""
    steps = taylor.TOP * 4.0 ** -np.arange(taylor.STEPS)
    change = np.round((-0.13 * steps - 0.015 * steps**2) * 2.0**53) / 2.0**53
    change = np.where(steps > 1e-7, change, -0.13 * (1 - 1.5e-8) * steps)
    rounding = np.full((taylor.STEPS, 1, 1), 6.7e-16)
    ladder = taylor.Ladder(steps, change[:, None, None], rounding, np.ones((1, 1)), 0, 1)
    assert taylor.judge(ladder, np.array([[-0.13 * (1 + off)]]), 1.9).accepted == accepted


@pytest.mark.parametrize("factor, accepted", [(1, True), (1.01, False)])
def test_a_small_entry_with_a_small_slope_beside_a_large_sum(factor, accepted):
    """The steps of an entry of 1e-5 move nothing where the slope is 1e-11; those of the others' size do."""
    x, shift = np.array([1.5, -0.7, 1e-5, 2.2]), np.array([0.0, 0.5, -25.0, 1.0])
    wrong = np.array([1, 1, factor, 1])

    def forward(x):
        return np.log1p(np.exp(x + shift)).sum()

    report = check_gradients(forward, lambda c, x: (c * wrong / (1 + np.exp(-x - shift)),), {"x": x})
    assert report.passed == accepted, str(report)


@pytest.mark.parametrize(("off", "accepted"), [(0.0, True), (1e-5, False), (1e-3, False)])
def test_a_small_slope_beside_a_large_value(off, accepted):
    """The second-order term falls below rounding after two steps, and kinks forbid larger ones."""
    steps = taylor.TOP * 4.0 ** -np.arange(taylor.STEPS)
    rounding = np.full(taylor.STEPS, 3.01e-16)
    change = 2.7e-7 * steps + 2.4e-11 * steps**2 + rounding * np.random.default_rng(1).uniform(-0.8, 0.8, taylor.STEPS)
    ladder = taylor.Ladder(steps, change[:, None, None], rounding[:, None, None], np.ones((1, 1)), 0, 1)
    assert taylor.judge(ladder, np.array([[2.7e-7 * (1 + off)]]), 1.9).accepted == accepted


@pytest.mark.parametrize("before, bends", [(2.5e-17, False), (16 * 3.6e-17, True)])
def test_rounding_that_falls_once_is_no_kink(before, bends):
    """Terms that cancel round by more than their sum does. From one step to the next that can fall as at a kink."""
    seconds = dict(zip(kinks.LOOKS, (8.9e-11, 3.5e-13, 1.4e-15, before, 3.6e-17, 1.4e-18), strict=True))

    def either_side(step):
        h = step[0]
        return [here + seconds[h] + 3.6e-5 * h], [here - 3.6e-5 * h]

    here = np.array([5.1e-4])
    operation = SimpleNamespace(here=[here], grain=2.2e-16)
    found, _ = kinks.look(SimpleNamespace(operation=operation, either_side=either_side, key="x"), np.ones(1))
    assert found[0].any() == bends
