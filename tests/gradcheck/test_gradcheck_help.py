"""A half-finished backward gets help in words, and a report can be read in every form."""

import json
import subprocess
import sys
from collections import namedtuple

import gradcheck_rules as rules
import numpy as np
import pytest
import scipy.sparse as sp

from c2f_np.errors import C2FError
from c2f_np.gradcheck import (
    GradientError,
    UsageError,
    adjoint_gap,
    assert_gradients,
    check_adjoint,
    check_central_difference,
    check_complex_step,
    check_contract,
    check_convention,
    check_gradients,
    check_taylor_rate,
    from_cache,
    from_layer,
    from_loss,
    numerical_gradient,
    tabulate,
)

pytestmark = pytest.mark.gradcheck

RNG = np.random.default_rng(1)
X, W, B = RNG.standard_normal((5, 3)), RNG.standard_normal((3, 4)), RNG.standard_normal(4)
POINT = {"x": X, "w": W, "b": B}


def raising(grad_output, x, w):
    grad_x = grad_output @ w.T
    grad_w = x.T @ grad_output[:2]  # the wrong line
    return grad_x, grad_w, grad_output.sum(0)


def unwritten(grad_output, x, w):
    raise NotImplementedError


HELP = {
    "nothing returned": (lambda g, x, w: None, "returns", "is the `return` missing"),
    "too few": (lambda g, x, w: (g @ w.T, x.T @ g), "returns", "returns 2 gradients, but there are 3"),
    "one only": (lambda g, x, w: g @ w.T, "returns", "one gradient"),
    "key missing": (lambda g, x, w: {"grad_x": g @ w.T, "grad_w": x.T @ g}, "returns", "no gradient for b"),
    "key twice": (lambda g, x, w: {"grad_x": g, "x": g}, "returns", "two gradients for x"),
    "one is None": (lambda g, x, w: (g @ w.T, None, g.sum(0)), "returns", "the gradient of w is None"),
    "text": (lambda g, x, w: (g @ w.T, "todo", g.sum(0)), "shape", "shape ()"),
    "transposed": (lambda g, x, w: (g @ w.T, g.T @ x, g.sum(0)), "shape", "it is transposed"),
    "broadcast": (lambda g, x, w: (g @ w.T, x.T @ g, g), "shape", "summed over axis 0"),
    "keepdims": (lambda g, x, w: (g @ w.T, x.T @ g, g.sum(0, keepdims=True)), "shape", "reshape"),
    "scalar": (lambda g, x, w: (g @ w.T, x.T @ g, g.sum()), "shape", "one number instead of an array"),
    "raises": (raising, "raises", "grad_w = x.T @ grad_output[:2]"),
    "unwritten": (unwritten, "raises", "not written yet"),
    "NaN": (lambda g, x, w: (g @ w.T / 0, x.T @ g, g.sum(0)), "finite", "NaN or infinite"),
    "complex": (lambda g, x, w: (g @ w.T + 0j, x.T @ g, g.sum(0)), "dtype", "complex"),
    "wants a cache": (lambda g, cache: None, "signature", "from_cache"),
}


@pytest.mark.parametrize("name", HELP)
def test_half_finished_backward_gets_help(name):
    backward, item, words = HELP[name]
    report = check_gradients(rules.affine, backward, POINT)
    assert report.killed_by[0] == f"contract.{item}", str(report)
    assert words in str(report)
    assert "Traceback" not in str(report) and "operation.py" not in str(report)


def test_an_exception_is_shown_with_the_line_of_their_code():
    report = check_gradients(rules.affine, raising, POINT)
    assert __file__ in str(report) and "in raising" in str(report)
    assert "cotangent (5, 4)" in str(report)


def test_a_forward_that_fails_or_is_not_finite():
    def broken(x):
        return x @ x

    assert "forward raises ValueError" in str(check_gradients(broken, lambda g, x: g, X))
    assert "NaN or infinity" in str(check_gradients(np.log, lambda g, x: g / x, X))
    assert "`return` missing" in str(check_gradients(lambda x: None, lambda g, x: g, X))


def test_questions_without_sense():
    right = rules.affine_backward
    for options, words in (
        ({"wrt": "z"}, "wrt names 'z'"),
        ({"linear_in": "z"}, "linear_in names 'z'"),
        ({"checks": "magic"}, "no check 'magic'"),
        ({"outputs": 3}, "outputs names 3"),
    ):
        with pytest.raises(UsageError, match=words):
            check_gradients(rules.affine, right, POINT, **options)
    with pytest.raises(UsageError, match="takes no argument 'q'"):
        check_gradients(rules.affine, right, {**POINT, "q": 1.0})
    with pytest.raises(UsageError, match="also needs 'b'"):
        check_gradients(rules.affine, right, {"x": X, "w": W})
    with pytest.raises(UsageError, match="only floats"):
        check_gradients(rules.gather, rules.gather_backward, {"table": X, "index": np.array([1])}, wrt="index")
    with pytest.raises(UsageError, match="from_cache"):
        check_gradients(lambda x: (x, {"x": x}), lambda g, x: g, X)
    assert issubclass(UsageError, C2FError)


# ---- conventions
# -------------------------------------------------------------------------------------------------------
Gradients = namedtuple("Gradients", "grad_x grad_w grad_b")


@pytest.mark.parametrize(
    "shape",
    [
        lambda *g: g,
        lambda *g: list(g),
        lambda *g: Gradients(*g),
        lambda x, w, b: {"x": x, "dw": w, "grad_b": b},
    ],
)
def test_forms_of_gradients(shape):
    assert_gradients(rules.affine, lambda g, x, w: shape(*rules.affine_backward(g, x, w)), POINT)


def test_arguments_by_position_and_by_name():
    assert check_gradients(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), X).passed
    assert check_gradients(np.tanh, lambda g, a: g * (1 - np.tanh(a) ** 2), {"x": X}).passed
    assert check_gradients(np.multiply, lambda g, a, b: (g * b, g * a), (X, X[::-1].copy())).passed
    assert check_gradients(rules.affine, rules.affine_backward, (X, W, B)).passed
    assert check_gradients(rules.affine, lambda g, **kw: rules.affine_backward(g, kw["x"], kw["w"]), POINT).passed


def test_only_some_arguments():
    report = check_gradients(rules.affine, lambda g, x: x.T @ g, POINT, wrt="w")
    assert report.passed and report.arguments == ["w"]


def test_several_outputs_as_a_tuple_or_one_by_one():
    def spread(grad_rows, grad_columns, grad_mean, x):
        return rules.row_sums_backward((grad_rows, grad_columns, grad_mean), x)

    assert check_gradients(rules.row_sums, spread, X).passed
    assert check_gradients(rules.row_sums, lambda g, x: np.repeat(g[:, None], 3, 1), X, outputs=0).passed


def test_other_outputs_pass_through():
    assert check_gradients(lambda x: (x * x, x > 0), lambda g, x: 2 * x * g, X).passed


def test_scalars_and_zero_dimensional_arrays():
    def forward(x, scale):
        return float(np.sum(x)) * scale if not np.iscomplexobj(x) else np.sum(x) * scale

    def backward(g, x, scale):
        return np.full_like(x, g * scale), g * np.sum(x)

    for scale in (2.5, np.float64(2.5), np.array(2.5)):
        assert_gradients(forward, backward, {"x": X, "scale": scale}, linear_in=("x", "scale"))


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array])
def test_sparse_arguments_in_every_form(kind):
    p = kind(np.where(RNG.random((6, 4)) < 0.5, RNG.standard_normal((6, 4)), 0))
    x = RNG.standard_normal((4, 2))

    def stored(g, p, x):
        entries = p.tocoo()
        return np.sum(g[entries.row] * x[entries.col], axis=1)

    def same_pattern(g, p, x):
        out = p.copy()
        out.data = stored(g, p, x)
        return out

    def other_format(g, p, x):
        return sp.coo_array(same_pattern(g, p, x))

    for backward in (stored, same_pattern, other_format):
        assert_gradients(lambda p, x: p @ x, backward, {"p": p, "x": x}, wrt="p", linear_in="p")
    dense = check_gradients(lambda p, x: p @ x, lambda g, p, x: g @ x.T, {"p": p, "x": x}, wrt="p")
    assert dense.killed_by == ["contract.sparse_entries"]
    gone = check_gradients(lambda p, x: p @ x, lambda g, p, x: sp.csr_array(p.shape), {"p": p, "x": x}, wrt="p")
    assert gone.killed_by == ["contract.sparse_entries"]


def test_adapters():
    def forward(x, w, b):
        return x @ w + b, (x, w)

    def backward(dout, cache):
        return rules.affine_backward(dout, *cache)

    assert_gradients(*from_cache(forward, backward), POINT)
    assert_gradients(*from_cache(forward, backward), (X, W, B))

    class Layer:
        def forward(self, x, w, b):
            self.x, self.w = x, w
            return x @ w + b

        def backward(self, dout):
            self.dx, self.dw, self.db = rules.affine_backward(dout, self.x, self.w)
            return self.dx

    assert_gradients(*from_layer(Layer(), names=("dx", "dw", "db")), POINT)

    def loss_gradient(x, target):
        return 2 * (x - target) / x.size

    assert_gradients(*from_loss(rules.mean_square, loss_gradient), {"x": X, "target": X[::-1].copy()}, wrt="x")


# ---- kinks
# ---------------------------------------------------------------------------------------------------------------
def relu(x):
    return np.where(x.real > 0, x, 0 * x)


def relu_backward(grad_output, x):
    return np.where(x > 0, grad_output, np.zeros_like(grad_output))


def test_a_kink_is_named_and_left_out_when_declared():
    x = RNG.standard_normal((5, 5))
    x[1, 2] = 0.0
    report = check_gradients(relu, relu_backward, x)
    assert report.passed and "kink at x[1, 2], not announced" in report.notes[0], str(report)
    report = check_gradients(relu, lambda g, x: relu_backward(g, x) - g * (x == 0), x)
    assert not report.passed and report.findings[0].cause == "kink" and "kink at x[1, 2]" in str(report)
    report = check_gradients(relu, relu_backward, x, active_set=lambda x: x > 0)
    assert report.passed, str(report)
    assert report.verdict("central_difference").left_out == 1
    assert report.verdict("central_difference").examined == 25


def test_too_many_kinks_are_a_failure():
    x = RNG.standard_normal((5, 5))
    x[:2] = 0.0
    report = check_gradients(relu, relu_backward, x, active_set=lambda x: x > 0)
    assert report.killed_by == ["central_difference", "taylor_rate"]
    assert "left out" in str(report)


def test_nothing_but_kinks_is_a_failure():
    report = check_gradients(relu, relu_backward, np.zeros((5, 5)), active_set=lambda x: x > 0)
    assert report.killed_by == ["central_difference", "taylor_rate"]
    assert "25 of 25 entries had to be left out" in report.verdict("central_difference").reason


def test_directions_avoid_kinks_behind_a_matrix():
    x, w = RNG.standard_normal((40, 30)), RNG.standard_normal((30, 20))

    def forward(x, w):
        return relu(x @ w) ** 2

    def backward(g, x, w):
        inner = 2 * g * np.maximum(x @ w, 0)
        return inner @ w.T, x.T @ inner

    def active_set(x, w):
        return x @ w > 0

    assert_gradients(forward, backward, {"x": x, "w": w}, active_set=active_set)


def test_a_threshold_shared_by_many_elements():
    point = {"x": RNG.standard_normal((160, 40)), "tau": 0.5}
    assert_gradients(
        rules.soft_threshold, rules.soft_threshold_backward, point, active_set=rules.soft_threshold_branches
    )


def test_convention_at_the_kink():
    at = {"x": np.array([0.5, -0.5, 1.0]), "tau": 0.5}
    assert check_convention(rules.soft_threshold_backward, at=at, expected={"x": np.array([0.0, 0.0, 1.0])}).passed
    report = check_convention(lambda g, x: g * (x >= 0), at={"x": np.array([0.0, 1.0])}, expected=np.array([0.0, 1.0]))
    assert report.killed_by == ["convention"] and "x[0]" in str(report)
    total = {"x": np.array([0.0, 0.0, 4.0]), "tau": np.array(-4.0)}
    assert check_convention(
        rules.soft_threshold_backward, at=at, expected=total, cotangent=np.array([2.0, 3.0, 4.0])
    ).passed


# ---- verdicts
# --------------------------------------------------------------------------------------------------------------
def test_each_verdict_alone():
    for check, name in (
        (check_central_difference, "central_difference"),
        (check_complex_step, "complex_step"),
        (check_taylor_rate, "taylor_rate"),
    ):
        report = check(rules.affine, rules.affine_backward, POINT)
        assert {v.check for v in report.verdicts} == {name} and report.passed
        together = check_gradients(rules.affine, rules.affine_backward, POINT)
        assert report.verdict(name, "w") == together.verdict(name, "w")
    assert check_adjoint(rules.affine, rules.affine_backward, POINT, linear_in=("x", "w", "b")).passed
    assert all(
        v.check.startswith("contract.") for v in check_contract(rules.affine, rules.affine_backward, POINT).verdicts
    )


def test_adjoint_on_rectangular_and_nonlinear_maps():
    p = RNG.standard_normal((7, 4))
    assert adjoint_gap(lambda x: p @ x, lambda y: p.T @ y, RNG.standard_normal(4), RNG.standard_normal(7)) < 1e-14
    with pytest.raises(ValueError, match="shapes"):
        adjoint_gap(lambda x: p @ x, lambda y: p @ y[:4], RNG.standard_normal(4), RNG.standard_normal(7))
    report = check_adjoint(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), X, linear_in="x")
    assert "not linear" in str(report)


def test_complex_step_is_never_passed_silently():
    pairs = {
        "drops the imaginary part": (lambda x: np.asarray(x, dtype=float) ** 2, lambda g, x: 2 * x * g),
        "does not accept complex": (np.cbrt, lambda g, x: g / (3 * np.cbrt(x) ** 2)),
        "stays real": (np.abs, lambda g, x: g * np.sign(x)),
        "not analytic": (lambda x: x * np.abs(x), lambda g, x: 2 * g * np.abs(x)),
    }
    for words, (forward, backward) in pairs.items():
        report = check_gradients(forward, backward, X)
        verdict = report.verdict("complex_step")
        assert verdict.status == "not applicable" and words in verdict.reason, str(report)
        assert report.passed and "n/a" in str(report) and words in str(report)
        assert not check_complex_step(forward, backward, X).passed


def test_zero_gradients_must_be_declared():
    def forward(x, y):
        return x * x + 0 * y

    def backward(g, x, y):
        return 2 * x * g, 0 * g

    report = check_gradients(forward, backward, {"x": X, "y": X.copy()})
    assert {v.argument for v in report.failures} == {"y"} and "zero_gradient='y'" in str(report)
    assert check_gradients(forward, backward, {"x": X, "y": X.copy()}, zero_gradient="y").passed
    assert not check_gradients(forward, backward, {"x": X, "y": X.copy()}, zero_gradient=("x", "y")).passed
    assert not check_gradients(
        forward, lambda g, x, y: (2 * x * g, 1e-9 * g), {"x": X, "y": X.copy()}, zero_gradient="y"
    ).passed


def test_small_entries_are_seen_on_small_and_large_arguments():
    for rows, columns in ((5, 3), (30, 40)):
        x, w = RNG.standard_normal((rows, columns)), RNG.standard_normal((columns, rows))
        x[:, 2] *= 1e-10

        def backward(g, x, w):
            grad_w = x.T @ g
            grad_w[2] *= -1
            return g @ w.T, grad_w

        report = check_gradients(rules.matmul, backward, {"x": x, "w": w}, checks="central_difference")
        assert {v.argument for v in report.failures} == {"w"}
        assert report.findings[0].cause == "wrong sign" and report.findings[0].entry.startswith("w[2,")


def test_one_wrong_entry_of_many_is_located():
    def backward(g, x):
        out = 2 * x * g
        out[77, 3] = 0
        return out

    report = check_gradients(lambda x: x * x, backward, RNG.standard_normal((160, 40)))
    assert report.killed_by == ["central_difference", "complex_step", "taylor_rate"]
    assert report.findings[0].entry == "x[77, 3]"


def test_an_argument_without_entries():
    report = check_gradients(
        lambda x, y: x * x, lambda g, x, y: (2 * x * g, y), {"x": X, "y": np.zeros((0, 3))}, wrt=("x", "y")
    )
    assert report.passed and "no entries" in report.notes[0]


def test_dtypes_on_demand():
    def doubles(x):
        return x.astype(np.result_type(x, np.float64)) ** 2

    def backward(g, x):
        return 2 * x * g.astype(x.dtype)

    lenient = check_gradients(doubles, backward, X)
    assert lenient.passed and "float32 is not checked" in lenient.notes[0]
    assert check_gradients(doubles, backward, X, dtypes=("float64", "float32")).killed_by == ["contract.dtype"]
    assert check_gradients(doubles, backward, X, dtypes=("float64",)).passed


@pytest.mark.parametrize("seed", [2005, 2541])
def test_a_float32_sum_whose_terms_cancel(seed):
    """The gradient of the shift is a sum; at these cotangents a thousandth of its terms is left of it."""
    x, shift = np.random.default_rng(0).standard_normal(6), np.array([0.7])

    def checked(backward):
        return check_gradients(
            lambda x, t: x - t, backward, (x, shift), dtypes=("float64", "float32"), seed=seed, checks=("contract",)
        )

    assert checked(lambda g, x, t: (g, -np.sum(g, dtype=g.dtype).reshape(1))).passed

    def rough(g, x, t):
        terms = g.astype(np.float16) if g.dtype == np.float32 else g
        return g, -np.sum(terms).reshape(1).astype(g.dtype)

    assert checked(rough).killed_by == ["contract.dtype"]


def test_numerical_gradients():
    for method, tolerance in (("central", 1e-10), ("complex", 1e-15)):
        g = numerical_gradient(lambda x: np.sum(np.tanh(x)), X, wrt="x", method=method)
        np.testing.assert_allclose(g, 1 - np.tanh(X) ** 2, rtol=0, atol=tolerance)
    c = RNG.standard_normal(X.shape)
    np.testing.assert_allclose(numerical_gradient(np.exp, X, wrt="x", cotangent=c), c * np.exp(X), rtol=1e-9)


# ---- reports
# ---------------------------------------------------------------------------------------------------------------
def test_report_in_every_form():
    good = check_gradients(rules.affine, rules.affine_backward, POINT, linear_in="x", name="affine")
    bad = check_gradients(rules.affine, lambda g, x, w: (g @ w.T, 2 * x.T @ g, g.sum(0)), POINT, name="wrong | affine")
    assert good.raise_if_failed() is good
    with pytest.raises(GradientError, match="2 times the numerical one") as caught:
        bad.raise_if_failed()
    assert caught.value.reports == (bad,) and isinstance(caught.value, AssertionError)
    data = json.loads(bad.to_json())
    assert data["passed"] is False and data["killed_by"] == ["central_difference", "complex_step", "taylor_rate"]
    assert data["findings"][0]["argument"] == "w" and abs(data["findings"][0]["factor"] - 2) < 1e-9
    assert json.loads(good.to_json())["verdicts"][-1]["check"] == "contract.value_kept"
    text, markdown, page = (tabulate([good, bad], style=style) for style in ("text", "markdown", "html"))
    for shown in (text, markdown, page):
        assert "affine" in shown and "FAILED" in shown and "2 times the numerical one" in shown
    assert "wrong \\| affine" in markdown and "<table>" in page
    assert bad._repr_html_().startswith("<table>") and bad._repr_markdown_().startswith("| operation")
    assert "seed=0" in text
    with pytest.raises(ValueError, match="style"):
        tabulate([good], style="latex")
    with pytest.raises(KeyError):
        good.verdict("adjoint", "w")


def test_the_same_seed_gives_the_same_report():
    one = check_gradients(rules.affine, rules.affine_backward, POINT, seed=5)
    two = check_gradients(rules.affine, rules.affine_backward, POINT, seed=5)
    assert one.to_json() == two.to_json()


def test_import_needs_numpy_only():
    code = (
        "import sys, c2f_np.gradcheck; "
        "print([m for m in sys.modules if m.split('.')[0] in ('scipy', 'numba', 'torch') or "
        "m.startswith(('c2f_np.model', 'c2f_np.kernels'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_undeclared_kinks_are_named_as_the_cause_on_large_arguments():
    x, w = RNG.standard_normal((160, 40)), RNG.standard_normal((40, 50))
    cases = [
        (relu, relu_backward, x),
        (lambda x: np.maximum(x.astype(np.float64), 0), relu_backward, x),
        (lambda w: np.maximum(x[:60, :40] @ w, 0), lambda g, w: x[:60, :40].T @ (g * (x[:60, :40] @ w > 0)), w),
    ]
    for forward, backward, point in cases:
        report = check_gradients(forward, backward, (point,))
        assert report.passed or {finding.cause for finding in report.findings} == {"kink"}, str(report)
