import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import WIDTHS, adjoint, check_engines, propagate, propagate_backward, random_sparse
from numpy.testing import assert_array_equal

from c2f_np.errors import SettingsError

# 0 receives twice what 1 holds, 1 receives nothing: not symmetric, and zero from the second layer on.
ONE_WAY = sparse.csr_array(np.array([[0.0, 2], [0, 0]]))


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_by_hand(engine):
    X0 = np.array([[1.0], [3]])
    assert_array_equal(propagate(X0, ONE_WAY, 0, engine=engine), X0)
    assert_array_equal(propagate(X0, ONE_WAY, 1, engine=engine), [[(1 + 6) / 2], [1.5]])
    assert_array_equal(propagate(X0, ONE_WAY, 3, engine=engine), [[(1 + 6) / 4], [0.75]])
    # What reaches 0 came from 1, with the factor 2.
    assert_array_equal(propagate_backward(X0, ONE_WAY, 1, engine=engine), [[0.5], [(3 + 2) / 2]])


@pytest.mark.parametrize("n_layers", range(5))
@pytest.mark.parametrize("width", WIDTHS)
def test_engines(n_layers, width):
    rng = np.random.default_rng(n_layers)
    X_hat = random_sparse(rng, 11, 11)
    X, Y = rng.normal(size=(2, 11, width))
    expected = check_engines(propagate, X, X_hat, n_layers)
    check_engines(propagate_backward, Y, X_hat, n_layers)
    dense = X_hat.toarray()
    powers = sum(np.linalg.matrix_power(dense, k) for k in range(n_layers + 1)) / (n_layers + 1)
    np.testing.assert_allclose(expected[0], powers @ X, atol=1e-12)
    for engine in ("numpy", "numba"):
        adjoint(
            lambda x, e=engine: propagate(x, X_hat, n_layers, engine=e),
            lambda y, e=engine: propagate_backward(y, X_hat, n_layers, engine=e),
            X,
            Y,
        )


def test_result_never_shares_memory_with_the_input():
    X = np.ones((2, 16))
    for engine in ("numpy", "numba"):
        for function in (propagate, propagate_backward):
            assert not np.shares_memory(function(X, ONE_WAY, 0, engine=engine), X)


def test_negative_number_of_layers():
    for function in (propagate, propagate_backward):
        with pytest.raises(SettingsError, match="layers"):
            function(np.ones((2, 1)), ONE_WAY, -1)
