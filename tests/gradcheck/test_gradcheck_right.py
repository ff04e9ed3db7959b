"""No false alarm: right rules pass at random points of every scale, with the figures that are promised."""

import numpy as np
import pytest
from gradcheck_rules import MAKERS
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_np.gradcheck import check_gradients

pytestmark = pytest.mark.gradcheck

decades = st.integers(-6, 6)


def run(name, seed, s, t):
    case = MAKERS[name](np.random.default_rng(seed), 10.0**s, 10.0**t)
    return check_gradients(case.forward, case.backward, case.arguments, name=name, seed=seed, **case.options)


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


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**31), s=decades, t=decades)
def test_right_rules_pass_at_every_scale(name, seed, s, t):
    hold(run(name, seed, s, t))


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_right_rules_pass_at_many_more_points(name):
    for seed in range(50):
        s, t = np.random.default_rng([seed, 7]).integers(-6, 7, 2)
        hold(run(name, seed, s, t))


def test_there_are_a_thousand_cases():
    assert 60 * len(MAKERS) >= 1000
