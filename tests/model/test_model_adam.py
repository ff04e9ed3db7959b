from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.engine import engine_named
from c2f_np.errors import SettingsError
from c2f_np.kernels import step as kernel
from c2f_np.model.step import AdamMoments, clip_by_value, fresh_moments
from c2f_np.model.step import adam_step as clipped_step


def adam_step(parameters, gradients, moments, learning_rate, *, engine="numpy", **options):
    """Without clipping."""
    update = engine_named(engine).adam_update
    update = (lambda *given, compiled=update: compiled(*given, **options)) if options and engine == "numba" else update
    return clipped_step(parameters, gradients, moments, learning_rate=learning_rate, clip=np.inf, update=update)


def test_two_steps_by_hand():
    start = {"x": np.array([1.0, 1])}
    # The corrected moments of the first step are g and g^2: the step is lr * sign(g), but for eps.
    x, moments = adam_step(start, {"x": np.array([4.0, -0.5])}, fresh_moments(start), 0.1)
    assert_allclose(x["x"], [1 - 0.1 * 4 / (4 + 1e-8), 1 + 0.1 * 0.5 / (0.5 + 1e-8)], rtol=1e-15)
    assert_allclose(moments.mean["x"], [0.4, -0.05], rtol=1e-15)
    assert_allclose(moments.square["x"], [0.016, 0.00025], rtol=1e-12)
    # m = 0.9 * 0.4 + 0.1 * 2 = 0.56, v = 0.999 * 0.016 + 0.001 * 4 = 0.019984; corrections 0.19 and 0.001999
    y, moments = adam_step(x, {"x": np.array([2.0, 0])}, moments, 0.1)
    assert moments.step == 2
    assert y["x"][0] == pytest.approx(
        x["x"][0] - 0.1 * (0.56 / 0.19) / (np.sqrt(0.019984 / 0.001999) + 1e-8), rel=1e-14
    )


def test_a_zero_gradient_moves_nothing():
    x, _ = adam_step({"x": np.ones(3)}, {"x": np.zeros(3)}, fresh_moments({"x": np.ones(3)}), 0.1)
    assert_array_equal(x["x"], np.ones(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_inputs_are_left_alone(dtype):
    start, gradient = {"x": np.ones((2, 3), dtype)}, {"x": np.full((2, 3), 0.5, dtype)}
    moments = fresh_moments(start)
    new, after = adam_step(start, gradient, moments, 1e-3)
    assert new["x"].dtype == after.mean["x"].dtype == after.square["x"].dtype == dtype
    assert_array_equal(start["x"], 1)
    assert_array_equal(gradient["x"], 0.5)
    assert_array_equal(moments.mean["x"], 0)
    assert moments.step == 0 and after.step == 1


def columns_of_a_wider_array(value):
    """The same numbers, not contiguous."""
    wide = np.full((len(value), 2 * value.shape[1]), np.nan, value.dtype)
    wide[:, ::2] = value
    return wide[:, ::2]


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, columns_of_a_wider_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_engines_give_the_same_bits(dtype, layout, monkeypatch):
    """Over arrays of a table's size, of which the last block is not full, and small ones; from gradients of any size."""
    calls = []
    monkeypatch.setattr(kernel, "_adam", lambda *given, compiled=kernel._adam: calls.append(given) or compiled(*given))
    rng = np.random.default_rng(0)
    shapes = {"table": (20, 8), "small": (5, 8)}
    start = {name: layout(rng.normal(size=shape).astype(dtype)) for name, shape in shapes.items()}
    results = []
    for engine in ("numpy", "numba"):
        rng, parameters, moments = np.random.default_rng(1), start, fresh_moments(start)
        for _ in range(3):
            size = {name: 10.0 ** rng.integers(-12, 3, shape) for name, shape in shapes.items()}
            gradients = {name: layout((size[name] * rng.normal(size=shape)).astype(dtype)) for name, shape in shapes.items()}
            parameters, moments = adam_step(parameters, gradients, moments, 0.01, engine=engine, worth_compiled=160)
        results.append((parameters, moments.mean, moments.square))
    assert [given[0].size for given in calls] == 3 * [20 * 8]  # compiled, but for the small one
    for ours, theirs in zip(*results, strict=True):
        for name in shapes:
            assert theirs[name].dtype == dtype
            assert_array_equal(theirs[name], ours[name])


def test_a_compiled_step_leaves_its_inputs_alone():
    shape, rng = (1 << 16,), np.random.default_rng(0)
    start, gradient, mean, square = ({"x": rng.random(shape)} for _ in range(4))
    given = [part["x"] for part in (start, gradient, mean, square)]
    before = [part.copy() for part in given]
    new, moments = adam_step(start, gradient, AdamMoments(mean, square, 4), 0.1, engine="numba")
    for part, copy in zip(given, before, strict=True):
        assert_array_equal(part, copy)
    for part in (new["x"], moments.mean["x"], moments.square["x"]):
        assert not any(np.shares_memory(part, old) for old in given)
    assert (new["x"] != start["x"]).all() and moments.step == 5


def test_three_steps_of_the_published_code_move_about_three_learning_rates():
    """Published numbers: users' biases have no gradient and stay, the others move by about lr a step."""
    with np.load(Path(__file__).parents[1] / "parity" / "case_a.npz") as stored:
        before, after = stored["bias_user_item"], stored["coarse_after3_bias_user_item"]
        gradient = stored["coarse_grad_bias_user_item"]
    new, _ = adam_step({"b": before}, {"b": gradient}, fresh_moments({"b": before}), 0.01)
    assert_array_equal(new["b"][:12], after[:12])
    moved = after - before
    assert (np.abs(moved) <= 0.0301).all()


def test_clipping():
    gradient = np.array([-5.0, -3, 0, 2, 7])
    assert_array_equal(clip_by_value(gradient, 3), [-3, -3, 0, 2, 3])
    assert_array_equal(clip_by_value(gradient, np.inf), gradient)
    assert gradient[0] == -5
    assert clip_by_value(gradient.astype(np.float32), 3).dtype == np.float32
    for limit in (0, -1, float("nan")):
        with pytest.raises(SettingsError, match="clip"):
            clip_by_value(gradient, limit)
