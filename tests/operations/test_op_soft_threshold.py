import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from op_rules import WIDTHS, check_engines

from c2f_np.errors import SettingsError
from c2f_np.operations.soft_threshold import soft_threshold, soft_threshold_backward, soft_threshold_backward_tau

E = np.array([[3.0, 1, 0.5, 0, -0.5, -1, -3]])
G = np.array([[1.0, 2, 4, 8, 16, 32, 64]])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_by_hand(engine):
    assert_array_equal(soft_threshold(E, 1.0, engine=engine), [[2, 0, 0, 0, 0, 0, -2]])
    # at |E| = tau the gradient is 0 by convention
    assert_array_equal(soft_threshold_backward(G, E, 1.0, engine=engine), [[1, 0, 0, 0, 0, 0, 64]])
    assert_array_equal(soft_threshold(E, 0.0, engine=engine), E)
    assert_array_equal(soft_threshold_backward(G, E, 0.0, engine=engine), G * (E != 0))


def test_gradient_of_the_threshold():
    assert soft_threshold_backward_tau(G, E, 1.0) == -(1 - 64)


@pytest.mark.parametrize("tau", [0, 0.5, 1.0, 100.0])
@pytest.mark.parametrize("width", WIDTHS)
def test_engines(width, tau):
    rng = np.random.default_rng(width)
    E, G = rng.normal(size=(2, 5, width)) * 2
    check_engines(soft_threshold, E, tau)
    check_engines(soft_threshold_backward, G, E, tau)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)), st.floats(0, 10))
def test_it_is_the_proximal_map(E, tau):
    """0 lies in F - E + tau sign(F); and both engines give the same bits."""
    F = soft_threshold(E, tau)
    assert_array_equal(F, soft_threshold(E, tau, engine="numba"))
    assert (np.abs(E - F) <= tau * (1 + 1e-9) + 1e-9).all() and (F * E >= 0).all()
    assert np.isclose((E - F)[F != 0], tau * np.sign(F[F != 0]), atol=1e-9).all()


def test_threshold_is_rounded_to_the_precision_of_the_codebook_in_both_directions():
    """0.1 is more in float32 than in float64; an entry of exactly that number is inside the threshold, both ways."""
    E = np.array([[0.1]], dtype=np.float32)
    for engine in ("numpy", "numba"):
        assert soft_threshold(E, 0.1, engine=engine)[0, 0] == 0
        assert soft_threshold_backward(np.ones_like(E), E, 0.1, engine=engine)[0, 0] == 0


@pytest.mark.parametrize("tau", [-1e-9, float("nan")])
def test_impossible_thresholds(tau):
    for call in (lambda: soft_threshold(E, tau), lambda: soft_threshold_backward(G, E, tau),
                 lambda: soft_threshold_backward_tau(G, E, tau)):  # fmt: skip
        with pytest.raises(SettingsError, match="threshold"):
            call()
