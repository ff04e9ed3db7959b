"""Functions as people write them: right ones pass, wrong ones do not, and what is out of the ordinary is called by its name."""

import dataclasses
import warnings

import gradcheck_family as family
import numpy as np
import pytest
import scipy.sparse as sp
from gradcheck_functions import F64, FUNCTIONS, relu, spoiled_leaves

from c2f_np.gradcheck import CheckSettings, UsageError, check_gradients
from c2f_np.gradcheck.operation import Operation

pytestmark = pytest.mark.gradcheck


def run(name, backward=None):
    forward, right, arguments, options = FUNCTIONS[name]
    return check_gradients(forward, backward or right, arguments, **options)


def really_wrong(name):
    """All spoiled versions of a function's backward whose gradients are off by more than 1e-6 of their norms."""
    forward, right, arguments, options = FUNCTIONS[name]
    wrt = options.get("wrt")

    def gradients(backward):
        operation = Operation(forward, backward, arguments, wrt=wrt)
        packed = operation.pack(operation.cotangents(np.random.default_rng(0)))
        with np.errstate(all="ignore"):
            return operation.collect(operation.raw_backward(packed, operation.changed({})))

    good = gradients(right)
    for words, backward in spoiled_leaves(right, arguments):
        bad = gradients(backward)
        size = {key: max(np.max(np.abs(g)), 1e-300) for key, g in good.items()}
        if any(np.linalg.norm((bad[k] - g) / size[k]) > 1e-6 * np.linalg.norm(g / size[k]) for k, g in good.items()):
            yield words, backward


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_functions_pass_without_warnings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = run(name)
    assert report.passed, str(report)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_version_fails(name):
    versions = list(really_wrong(name))
    words, backward = versions[len(name) % len(versions)]
    assert not run(name, backward).passed, words


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_wrong_version_fails(name):
    for words, backward in really_wrong(name):
        assert not run(name, backward).passed, words


# ---- random functions --------------------------------------------------------------------------------------------------
def right_passes_and_wrong_fails(seed):
    rng = np.random.default_rng(seed)
    program, arguments = family.draw(rng)
    report = check_gradients(program.forward, program.backward, arguments, seed=seed)
    assert report.passed, f"seed {seed}: {program}, {arguments}\n{report}"
    wrong = family.spoiled(rng, program, arguments)
    if wrong is not None:
        report = check_gradients(wrong.forward, wrong.backward, arguments, seed=seed)
        assert not report.passed, f"seed {seed}: {wrong}, {arguments}\n{report}"
    return wrong is not None


def test_random_functions():
    assert sum(right_passes_and_wrong_fails(seed) for seed in range(12)) >= 11


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_a_thousand_random_functions(part):
    """Every second one wrong."""
    assert sum(right_passes_and_wrong_fails(seed) for seed in range(1000 + 25 * part, 1025 + 25 * part)) >= 23


# ---- by name -------------------------------------------------------------------------------------------------------------
RNG = np.random.default_rng(3)
X, W, B = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 2)), RNG.standard_normal(2)
P32, X32 = RNG.standard_normal((5, 4)).astype(np.float32), RNG.standard_normal((4, 2)).astype(np.float32)
BOTH = {"dtypes": ("float64", "float32")}


@dataclasses.dataclass
class Weights:
    w: np.ndarray


def square(x):
    return x * x


def times(factor, only=np.float32):
    """The backward of the square, wrong by a factor in one precision."""
    return lambda g, x: 2 * x * g * (x.dtype.type(factor) if x.dtype == only else x.dtype.type(1))


def affine(x, w):
    return x @ w


def affine_17(g, x, w):
    return {"x": g @ np.asarray(w, float).T, "w": 17 * x.T @ g}


def single(x):
    return P32 @ x.astype(np.float32)


def single_backward(g, x):
    return P32.T @ g.astype(np.float32)


def sine_in(dtype, out=np.float64):
    return lambda x: np.sin(x.astype(dtype)).astype(out)


def affine_of_dict(p):
    return p["w"] * 2 + p["b"]["c"]


NESTED = {"p": {"w": B, "b": {"c": 2 * B}}}
HUGE, TIED = np.array([600.0, 1.0]), np.array([1.0, 1.0, 0.5])
KINKED = np.array([0.0, 1.0, -2.0])

#: name: forward, backward, arguments, options, what must be in the report; all of them fail
WRONG = {
    "float32 only": (square, times(1.5), X, BOTH, "in float32 the gradient of x is off by 5.0e-01"),
    "float32 only, by a little": (square, times(1.001), X, BOTH, "in float32 the gradient"),
    "float32 only, nobody asked": (square, times(1.5), X, {}, "in float32 the gradient"),
    "float32 only, in the forward": (
        lambda x: x * x * x.dtype.type(1.01 if x.dtype == np.float32 else 1), times(1), X, BOTH, "in float32 the forward's value",
    ),
    "cotangent clipped": (square, lambda g, x: 2 * x * np.clip(g, -4, 4), X, {}, "clipped"),
    "cotangent clipped by its norm": (square, lambda g, x: 2 * x * g * min(1, 10 / np.linalg.norm(g)), X, {}, "clipped"),
    "small cotangents dropped": (square, lambda g, x: 2 * x * np.where(np.abs(g) < 1e-6, 0, g), X, {}, "dropped"),
    "cotangents dropped beside larger ones": (
        square, lambda g, x: 2 * x * np.where(np.abs(g) < 1e-3 * np.abs(g).max(), 0, g), X, {}, "small entries are lost",
    ),
    "sign of the cotangent lost": (lambda x: x.sum(), lambda g, x: np.full_like(x, abs(g)), X[0], {}, "is not linear in"),
    "nothing named": (square, times(1), X, {"wrt": ()}, "nothing was checked"),
    "nothing there": (square, times(1), X[:0], {}, "nothing was checked"),
    "nothing named, contract only": (square, times(1), X, {"wrt": (), "checks": "contract"}, "nothing was checked"),
    "integers": (affine, affine_17, {"x": X, "w": np.arange(6).reshape(3, 2)}, {}, "w is int64 array"),
    "an integer": (lambda x, s: s * x, lambda g, x, s: {"x": s * g, "s": 17.0}, {"x": X, "s": 3}, {}, "s is int 3"),
    "an integer in a dict": (
        lambda p: p["w"] * p["n"], lambda g, p: {"w": p["n"] * g, "n": 3.0}, {"p": {"w": B, "n": 2}}, {}, "p.n is int 2",
    ),
    "complex": (
        lambda x, w: (x @ w).real, lambda g, x, w: {"x": g @ w.real.T, "w": 17 * x.T @ g}, {"x": X, "w": W + 1j}, {},
        "w is complex128 array",
    ),
    "objects in an array": (
        lambda x, w: (x @ w).astype(float), affine_17, {"x": X, "w": W.astype(object)}, F64, "w is object array",
    ),
    "an object": (
        lambda x, p: x @ p.w, lambda g, x, p: {"x": g @ p.w.T, "p": Weights(x.T @ g)}, {"x": X, "p": Weights(W)}, {}, "a Weights",
    ),
    "integers, sparse": (
        lambda p, x: p @ x, lambda g, p, x: {"x": p.T @ g, "p": g @ x.T},
        {"p": sp.csr_array(np.array([[1, 0, 2], [0, 3, 0]])), "x": W}, {}, "p is int64 sparse",
    ),
    "a list of numbers": (
        affine, affine_17, {"x": X, "w": W.tolist()}, {}, "17 times the numerical one",
    ),
    "a list where an array is meant": (
        affine, lambda g, x, w: {"x": g @ w.T, "w": x.T @ g}, {"x": X, "w": W.tolist()}, {}, "give an array",
    ),
    "one leaf of a dict": (affine_of_dict, lambda g, p: {"p": {"w": 2 * g, "b": {"c": -g}}}, NESTED, {}, "p.b.c: the sign"),
    "one leaf of a list": (
        lambda p: p[0] + p[1] ** 2, lambda g, p: {"p": [g, p[1] * g]}, {"p": [B, 2 * B]}, {}, "p[1]: a factor is missing",
    ),
    "a leaf is missing": (affine_of_dict, lambda g, p: {"p": {"w": 2 * g}}, NESTED, {}, "the gradient of p.b.c is None"),
    "another structure": (affine_of_dict, lambda g, p: {"p": [2 * g, g]}, NESTED, {}, "the same structure"),
    "loss without a cotangent": (lambda x: np.sum(x**2), lambda x: 2 * x, X, {}, "from_loss"),
    "loss without a cotangent, another name": (lambda x: np.sum(x**2), lambda w: 2 * w, X, {}, "from_loss"),
    "overflow": (lambda x: np.exp(x) ** 2, lambda g, x: 2 * g * np.exp(2 * x), HUGE, {}, "overflow? The largest"),
    "exp(600)": (np.exp, lambda g, x: 1.01 * g * np.exp(x), HUGE, {}, "1.01 times the numerical one"),
    "float32 in the forward": (sine_in(np.float32), lambda g, x: g * np.cos(x), X, {}, "as float32 is"),
    "float32 in the forward, a factor": (sine_in(np.float32), lambda g, x: 2 * g * np.cos(x), X, {}, "that is 2; besides"),
    "float16 in the forward": (sine_in(np.float16), lambda g, x: g * np.cos(x), X, {}, "as float16 is"),
    "float32 out of the forward": (
        sine_in(np.float32, np.float32), lambda g, x: g * np.cos(x), X, {}, "float64 in, float32 out of the forward",
    ),
    "float32 operator": (single, lambda g, x: np.float32(1.01) * single_backward(g, x), X32, {"linear_in": "x"}, "FAILED"),
    "float32 operator, upside down": (single, lambda g, x: single_backward(g, x)[::-1], X32, {"linear_in": "x"}, "FAILED"),
    "nothing but kinks": (np.abs, lambda g, x: g * np.sign(x), np.zeros(3), {}, "every entry lies at a kink"),
    "beyond the slopes": (np.abs, lambda g, x: g * np.where(x == 0, 5, np.sign(x)), KINKED, {}, "between the slopes"),
    "wrong beside a kink": (relu, lambda g, x: g * (x < 0), KINKED, {}, "kink at x[0]"),
    "wrong near a kink": (relu, lambda g, x: g * (x > -1e-2), np.array([-1e-3, 1, -2]), {}, "a mask is missing"),
    "ties counted twice": (lambda x: x.max(), lambda g, x: g * (x == x.max()), TIED, {}, "kink at x[0], x[1]"),
    "a jump": (lambda x: (x >= 0) + x, lambda g, x: g, np.array([0.0, 1.0]), F64, "the forward jumps"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_called_by_its_name(name):
    forward, backward, arguments, options, words = WRONG[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_gradients(forward, backward, arguments, **options)
    assert not report.passed, str(report)
    assert words in str(report), str(report)


#: name: forward, backward, arguments, options, what must be in the report; all of them pass
RIGHT = {
    "what is not differentiated": (
        lambda x, i, c: x[i] * c.real, lambda g, x, i, c: (np.bincount(i, g * c.real, x.size), None, None),
        {"x": B, "i": np.array([0, 1, 1]), "c": 2j + np.arange(3)}, F64, "not differentiated: i (int64",
    ),
    "the only argument's structure": (affine_of_dict, lambda g, p: {"grad_w": 2 * g, "b": {"c": g}}, NESTED, {}, "p.b.c"),
    "one leaf": (affine_of_dict, lambda g, p: {"p": {"w": 2 * g}}, NESTED, {"wrt": "p.w"}, "p.b.c (not named in wrt)"),
    "a key too many": (affine_of_dict, lambda g, p: {"w": 2 * g, "b": {"c": g}, "z": 1}, NESTED, {}, "'z'"),
    "float32 operator": (single, single_backward, X32, {"linear_in": "x"}, "adjoint"),
    "float32 operator, demanded": (
        single, single_backward, X32.astype(float), {"linear_in": "x", "dtypes": ("float32",)}, "adjoint",
    ),
    "exp(600)": (np.exp, lambda g, x: g * np.exp(x), HUGE, {}, "close to overflow"),
    "an entry at a kink": (relu, lambda g, x: g * (x > 0), KINKED, {}, "kink at x[0]"),
    "the other convention": (relu, lambda g, x: g * (x >= 0), KINKED, {}, "kink at x[0]"),
    "kinks very near": (
        lambda x: relu(x - 0.5), lambda g, x: g * (x > 0.5), np.array([0.5005, 1, -2, 0.4999, 0.50000001]), {}, "a kink (or",
    ),
    "a tie shared": (lambda x: x.max(), lambda g, x: g * (x == x.max()) / (x == x.max()).sum(), TIED,
                     F64, "kink at x[0], x[1]"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_and_is_called_by_its_name(name):
    forward, backward, arguments, options, words = RIGHT[name]
    report = check_gradients(forward, backward, arguments, **options)
    assert report.passed and words in str(report), str(report)


def test_nothing_to_differentiate_names_what_there_is():
    with pytest.raises(UsageError, match="x is int64 array of shape"):
        check_gradients(square, times(1), {"x": np.arange(4)})
    with pytest.raises(UsageError, match="x is masked float64 array"):
        check_gradients(square, times(1), {"x": np.ma.masked_array(X, X > 1)})


def test_tolerances_follow_the_precision():
    assert CheckSettings().at_precision(2.0**-52) == CheckSettings()
    single, eps = CheckSettings().at_precision(2.0**-23), 2.0**-23
    assert single.adjoint / eps == pytest.approx(CheckSettings().adjoint * 2.0**52) and single.central < 1e-2
    assert CheckSettings(adjoint=1.0).at_precision(eps).adjoint == 1.0


def test_compiled_functions():
    numba = pytest.importorskip("numba")
    backward = lambda g, x: 2 * x * g  # noqa: E731
    for function in (
        numba.vectorize(square), numba.vectorize(["float64(float64)"])(square), numba.njit(square),
    ):  # fmt: skip
        for arguments in ({"x": X}, (X,)):
            assert check_gradients(function, backward, arguments, dtypes=("float64",)).passed

    @numba.extending.intrinsic
    def needs_compiling(context, x):
        """Cannot be called from Python."""

    report = check_gradients(lambda x: needs_compiling(x), backward, X)
    assert "needs to be compiled" in str(report) and "not written yet" not in str(report)


def test_the_count_of_forward_calls_stays_small():
    calls = []
    check_gradients(lambda x: calls.append(1) or np.tanh(x), lambda g, x: g * (1 - np.tanh(x) ** 2), X)
    assert len(calls) < 240
