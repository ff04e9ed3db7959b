import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from c2f_np.errors import SettingsError
from c2f_np.model.codebook import soft_threshold, soft_threshold_backward, soft_threshold_backward_tau

E = np.array([[3.0, 1, 0.5, 0, -0.5, -1, -3]])
G = np.array([[1.0, 2, 4, 8, 16, 32, 64]])


def test_by_hand():
    assert_array_equal(soft_threshold(E, 1.0), [[2, 0, 0, 0, 0, 0, -2]])
    # at |E| = tau the gradient is 0 by convention
    assert_array_equal(soft_threshold_backward(G, E, 1.0), [[1, 0, 0, 0, 0, 0, 64]])
    assert_array_equal(soft_threshold(E, 0.0), E)
    assert_array_equal(soft_threshold_backward(G, E, 0.0), G * (E != 0))


def test_gradient_of_the_threshold():
    assert soft_threshold_backward_tau(G, E, 1.0) == -(1 - 64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept_and_nan_passes_through(dtype):
    E, G = np.array([[3.0, -0.5, np.nan]], dtype), np.ones((1, 3), dtype)
    for tau in (1.0, np.float64(1.0)):
        F = soft_threshold(E, tau)
        assert F.dtype == soft_threshold_backward(G, E, tau).dtype == dtype
        assert_array_equal(F, [[2, 0, np.nan]])  # a diverged codebook is not healed


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)), st.floats(0, 10))
def test_it_is_the_proximal_map(E, tau):
    """0 lies in F - E + tau sign(F)."""
    F = soft_threshold(E, tau)
    assert (np.abs(E - F) <= tau * (1 + 1e-9) + 1e-9).all() and (F * E >= 0).all()
    assert np.isclose((E - F)[F != 0], tau * np.sign(F[F != 0]), atol=1e-9).all()


def test_threshold_is_rounded_to_the_precision_of_the_codebook_in_both_directions():
    """0.1 is more in float32 than in float64; an entry of exactly that number is inside the threshold, both ways."""
    E = np.array([[0.1]], dtype=np.float32)
    assert soft_threshold(E, 0.1)[0, 0] == 0
    assert soft_threshold_backward(np.ones_like(E), E, 0.1)[0, 0] == 0


@pytest.mark.parametrize("tau", [-1e-9, float("nan")])
def test_impossible_thresholds(tau):
    for call in (lambda: soft_threshold(E, tau), lambda: soft_threshold_backward(G, E, tau),
                 lambda: soft_threshold_backward_tau(G, E, tau)):  # fmt: skip
        with pytest.raises(SettingsError, match="threshold"):
            call()
