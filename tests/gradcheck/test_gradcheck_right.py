"""No false alarm: right rules pass at random points of every scale, with the figures that are promised."""

import itertools

import numpy as np
import pytest
from gradcheck_rules import MAKERS

from c2f_np.gradcheck import check_gradients

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
