import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import WIDTHS, check_engines, compose, compose_backward, random_sparse, tanh_backward
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.kernels.propagation import tanh_in_place
from c2f_np.model.codebook import compose_backward_assignment
from c2f_np.threads import kernel_threads
from c2f_np.verification.threads import possible_threads


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_by_hand(engine):
    S, E = sparse.csr_array(np.array([[0.5, 0.5], [0, 1]])), np.array([[2.0], [4]])
    Z = compose(S, E, engine=engine)
    assert_allclose(Z, [[np.tanh(3)], [np.tanh(4)]], rtol=1e-15)
    # With Z = 0.5 and 0 the slopes 1 - Z^2 are 0.75 and 1.
    assert_allclose(
        compose_backward(np.array([[4.0], [10]]), S, np.array([[0.5], [0]]), engine=engine), [[1.5], [11.5]]
    )


def test_gradient_of_the_weights_by_hand():
    S, E = sparse.csr_array(np.array([[0.5, 0.5], [0, 1]])), np.array([[2.0], [4]])
    grad = compose_backward_assignment(np.array([[4.0], [10]]), S, E, np.array([[0.5], [0]]))
    assert_allclose(grad.toarray(), [[6, 12], [0, 40]])


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_gradient_before_tanh_by_hand(engine):
    """Slopes 1 - Z^2: 1 in the middle, 0.75 on both sides, 0 at the end."""
    Z = np.array([[0.0, 0.5], [-0.5, 1.0]])
    assert_array_equal(tanh_backward(np.array([[3.0, 4], [8, 9]]), Z, engine=engine), [[3, 3], [6, 0]])


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (7, 5), (700, 48)])  # the last has three blocks, one of them not full
def test_engines_of_the_gradient_before_tanh(shape):
    rng = np.random.default_rng(0)
    (grad_Y,) = check_engines(tanh_backward, rng.normal(size=shape), np.tanh(rng.normal(size=shape)))
    assert grad_Y.shape == shape


@pytest.mark.parametrize("width", WIDTHS)
def test_engines(width):
    rng = np.random.default_rng(width)
    S, E = random_sparse(rng, 12, 5), rng.normal(size=(5, width))
    (Z,) = check_engines(compose, S, E)
    assert (Z[1] == 0).all()  # an entity without an assignment
    check_engines(lambda g, z, S, engine: compose_backward(g, S, z, engine=engine), rng.normal(size=Z.shape), Z, S)


def test_complex_step_equals_backward():
    rng = np.random.default_rng(0)
    S, E, G = random_sparse(rng, 6, 4), rng.normal(size=(4, 2)), rng.normal(size=(6, 2))
    step = np.zeros((4, 2), complex)
    step[3, 1] = 1e-30j
    slope = np.sum(G * compose(S, E + step)).imag / 1e-30
    assert slope == pytest.approx(compose_backward(G, S, compose(S, E))[3, 1], rel=1e-13)


def test_tanh_in_blocks_gives_the_same_bits():
    rng = np.random.default_rng(0)
    for dtype, width in ((np.float32, 128), (np.float64, 37)):
        for rows in (0, 1, 15, 16, 17, 93):
            X = rng.standard_normal((rows, width)).astype(dtype)
            for threads in possible_threads():
                with kernel_threads(threads):
                    assert_array_equal(tanh_in_place(X.copy(), worth_a_thread=1), np.tanh(X))
