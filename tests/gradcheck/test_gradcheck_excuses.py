"""What the checker leaves out, it leaves out for a reason that the gradient under check cannot give itself."""

import numpy as np
import pytest
import scipy.sparse as sp

from c2f_np.gradcheck import UsageError, check_gradients, numerical_gradient

pytestmark = pytest.mark.gradcheck


def relu(x):
    return np.where(x.real > 0, x, 0 * x)


def slope_at_zero(x, slope):
    return np.where(x > 0, 1, np.where(x == 0, slope, 0)).astype(x.dtype)


@pytest.mark.parametrize("size", [50, 204, 1000])
@pytest.mark.parametrize("slope, accepted", [(-1, False), (2, False), (50, False), (0, True), (0.5, True), (1, True)])
def test_slopes_at_kinks_that_nobody_announced(size, slope, accepted):
    rng = np.random.default_rng(size)
    x = np.where(rng.random(size) < 0.25, 0, rng.standard_normal(size))
    assert check_gradients(relu, lambda g, x: g * slope_at_zero(x, slope), x).passed == accepted


@pytest.mark.parametrize("slope, accepted", [(-1, False), (2, False), (0, True), (1, True)])
@pytest.mark.parametrize("seed", range(3))
def test_slopes_at_kinks_that_an_entry_has_in_many_outputs(slope, accepted, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((100, 3)) * (rng.random((100, 1)) > 0.3)

    def backward(g, x, b):
        return {"b": (g * slope_at_zero(x + b, slope)).sum(axis=0)}

    point = {"x": x, "b": np.zeros(3)}
    assert check_gradients(lambda x, b: relu(x + b), backward, point, wrt="b", seed=seed).passed == accepted


@pytest.mark.parametrize("slope, accepted", [(50, False), (0, True)])
def test_one_wrong_slope_among_hundreds(slope, accepted):
    x = np.append(np.zeros(698), np.random.default_rng(0).standard_normal(100))

    def backward(g, x):
        return g * (np.sign(x) + 2 * x + slope * (np.arange(x.size) == 13).astype(x.dtype))

    assert check_gradients(lambda x: np.abs(x).sum() + (x**2).sum(), backward, x).passed == accepted


@pytest.mark.parametrize("factor", [1, -1e-8, -1e-10, 1e-12, 1e-20])
def test_a_path_is_not_lost_in_rounding_because_its_gradient_is(factor):
    def backward(g, x):
        return g[0] * np.cos(x) + factor * g[1] * 2 * x

    assert check_gradients(lambda x: (np.sin(x), x * x), backward, np.array([0.3, -1.2, 0.7])).passed == (factor == 1)


STATIONARY = {
    "square": (lambda x: x**2, lambda g, x: 2 * x * g, np.zeros(3)),
    "cube": (lambda x: x**3, lambda g, x: 3 * x**2 * g, np.zeros(3)),
    "cosine": (np.cos, lambda g, x: -g * np.sin(x), np.zeros(3)),
    "minimum": (lambda x: ((x - 2) ** 2).mean(), lambda g, x: g * 2 * (x - 2) / x.size, np.full(3, 2.0)),
    "constant": (lambda x: 0 * x + 1, lambda g, x: 0 * x * g, np.ones(3)),
}


@pytest.mark.parametrize("name", STATIONARY)
def test_a_zero_gradient_may_be_declared_at_a_stationary_point(name):
    report = check_gradients(*STATIONARY[name], zero_gradient="x")
    assert report.passed, str(report)


@pytest.mark.parametrize("forward", [lambda x: 1.0 * x, lambda x: 1e-60 * x, lambda x: np.sin(x) + x**2])
def test_a_zero_gradient_that_is_declared_and_wrong(forward):
    assert not check_gradients(forward, lambda g, x: 2 * x * g, np.zeros(3), zero_gradient="x").passed


def single(x):
    return np.asarray(x, np.float32)


SINGLE = {
    "mean of squares": (lambda x: np.mean(single(x) ** 2), lambda g, x: g * 2 * single(x) / x.size, 1000),
    "log of a sum": (
        lambda x: np.log(np.exp(single(x)).sum()), lambda g, x: g * np.exp(single(x)) / np.exp(single(x)).sum(), 500
    ),
    "tanh": (lambda x: np.tanh(single(x)), lambda g, x: g * (1 - np.tanh(single(x)) ** 2), 10),
    "logistic": (lambda x: 1 / (1 + np.exp(-single(x))), lambda g, x: g * np.exp(-single(x)) / (1 + np.exp(-single(x))) ** 2, 10),
}


@pytest.mark.parametrize("factor, accepted", [(1, True), (1.02, False)])
@pytest.mark.parametrize("name", SINGLE)
def test_functions_that_are_float32_throughout(name, factor, accepted):
    forward, backward, size = SINGLE[name]

    def scaled(g, x):
        return np.float32(factor) * backward(single(g), x)

    for seed in range(8):
        x = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
        report = check_gradients(forward, scaled, x, dtypes=("float32",), seed=seed)
        assert report.passed == accepted, str(report)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("width", [1e-6, 1e-8])
def test_a_smoothed_kink_in_the_point_itself(width, right):
    def forward(x):
        return np.sqrt(x * x + width**2)

    x = np.array([0.0 if right else width, 0.5, 1.0])
    assert check_gradients(forward, lambda g, x: g * (x / forward(x) if right else np.sign(x)), x).passed == right


@pytest.mark.parametrize("make", [sp.lil_array, sp.dok_array, sp.dia_array, sp.lil_matrix, sp.dok_matrix])
def test_sparse_formats_without_entries_of_their_own_are_constants(make):
    point = {"P": make(np.eye(3)), "x": np.arange(6.0).reshape(3, 2) + 1}
    assert check_gradients(lambda P, x: P @ x, lambda g, P, x: {"x": P.T @ g}, point, wrt="x").passed
    with pytest.raises(UsageError, match="P"):
        check_gradients(lambda P, x: P @ x, lambda g, P, x: {"P": g @ x.T}, point, wrt="P")


def test_a_list_of_numbers_as_the_only_argument():
    def backward(g, w):
        return [2 * g * each for each in w]

    point = {"w": [1.0, 2.0, 3.0]}
    assert check_gradients(lambda w: sum(each**2 for each in w), backward, point).passed
    assert not check_gradients(lambda w: sum(each**2 for each in w), lambda g, w: [g * each for each in w], point).passed


def test_a_numerical_gradient_is_of_one_argument():
    with pytest.raises(UsageError, match=r"p\.a, p\.b"):
        numerical_gradient(lambda p: p["a"] * p["b"], {"p": {"a": 1.0, "b": 2.0}}, wrt="p")
