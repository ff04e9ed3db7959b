import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import WIDTHS, bridge, bridge_backward, check_engines, random_sparse
from numpy.testing import assert_allclose

from c2f_np.model.codebook import bridge_backward_assignment, bridge_backward_gate

S = sparse.csr_array(np.array([[0.5, 0.25], [0, 1]]))
F, E = np.array([[4.0], [8]]), np.array([[10.0], [20]])
G = np.array([[1.0], [2]])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_by_hand(engine):
    # S F = 4, 8
    assert_allclose(bridge(E, S, F, 0.25, engine=engine), [[8.5], [17]])
    grad_E, grad_F = bridge_backward(G, S, 0.25, engine=engine)
    assert_allclose(grad_E, [[0.75], [1.5]])
    assert_allclose(grad_F, [[0.125], [0.5625]])


def test_gate_and_weights_by_hand():
    assert bridge_backward_gate(G, E, S, F) == (4 - 10) + 2 * (8 - 20)
    assert_allclose(bridge_backward_assignment(G, S, F, 0.25).toarray(), [[1, 2], [0, 4]])


@pytest.mark.parametrize("gate", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("width", WIDTHS)
def test_engines(width, gate):
    rng = np.random.default_rng(width)
    S, F, E = random_sparse(rng, 6, 4), rng.normal(size=(4, width)), rng.normal(size=(6, width))
    check_engines(bridge, E, S, F, gate)
    check_engines(bridge_backward, E, S, gate)
