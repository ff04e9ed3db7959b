"""Every deliberately wrong rule is rejected, at every point, by the check that should, for the cause that it is."""

import gradcheck_rules as rules
import numpy as np
import pytest
import scipy.sparse as sp

from c2f_np.gradcheck import check_gradients

pytestmark = pytest.mark.gradcheck

NUMBERS = ("central_difference", "complex_step", "taylor_rate")


def scaled(backward, factor):
    """The same backward with all gradients times a factor."""

    def wrong(grad_output, **arguments):
        result = backward(grad_output, **arguments)
        return {key: factor * value for key, value in result.items()} if isinstance(result, dict) else factor * result

    return wrong


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 0.99, 1.01, 1.03, 2.0, 1 + 1e-6])
@pytest.mark.parametrize("maker", ["matmul", "large_matmul", "uneven_matmul", "gather", "soft_threshold", "sparse_product"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_factors_and_signs_are_rejected_by_all_three(maker, factor, seed):
    rng = np.random.default_rng(seed)
    case = rules.MAKERS[maker](rng, *10.0 ** rng.integers(-6, 7, 2))
    report = check_gradients(case.forward, scaled(case.backward, factor), case.arguments, seed=seed, **case.options)
    for argument in report.arguments:
        for check in NUMBERS:
            assert report.verdict(check, argument).failed, str(report)
        if argument in case.options.get("linear_in", ()):
            assert report.verdict("adjoint", argument).failed
    causes = {finding.cause for finding in report.findings}
    expected = {-1.0: "wrong sign", 0.0: "zero gradient"}.get(factor, "missing factor")
    assert causes == {expected}, str(report)
    if expected == "missing factor":
        assert all(abs(finding.factor / factor - 1) < 1e-5 for finding in report.findings)


RNG = np.random.default_rng(0)
SQUARE = {"x": RNG.standard_normal((4, 4)), "w": RNG.standard_normal((4, 4))}
POINT = {"x": RNG.standard_normal((5, 4))}


def overwriting(grad_output, table, index):
    grad_table = np.zeros_like(table)
    grad_table[index] += grad_output
    return grad_table


def no_mask(grad_output, x, tau):
    return {**rules.soft_threshold_backward(grad_output, x, tau), "grad_x": grad_output.copy()}


def one_sided_mask(grad_output, x, tau):
    right = rules.soft_threshold_backward(grad_output, x, tau)
    return {"tau": right["grad_tau"], "x": np.where(x > tau, grad_output, 0.0)}


def square(x):
    return x * x


THRESHOLD = {"x": RNG.standard_normal((6, 5)), "tau": 0.4}
GATHER = {"table": RNG.standard_normal((6, 3)), "index": np.array([0, 1, 1, 4, 2, 5, 5, 3])}
SPARSE = {
    "p": sp.csr_array(np.where(RNG.random((5, 5)) < 0.5, RNG.standard_normal((5, 5)), 0.0) + np.eye(5)),
    "x": RNG.standard_normal((5, 3)),
}

#: name: forward, wrong backward, arguments, options, the wrong argument, cause
WRONG = {
    "transpose of w forgotten": (
        rules.matmul, lambda g, x, w: (g @ w, x.T @ g), SQUARE, {"linear_in": "x"}, "x", "missing transpose",
    ),
    "transpose of x forgotten": (
        rules.matmul, lambda g, x, w: (g @ w.T, x @ g), SQUARE, {"linear_in": "w"}, "w", "missing transpose",
    ),
    "gradient transposed": (rules.matmul, lambda g, x, w: (g @ w.T, g.T @ x), SQUARE, {}, "w", "missing transpose"),
    "sparse transpose forgotten": (
        rules.sparse_product,
        lambda g, p, x: {**rules.sparse_product_backward(g, p, x), "grad_x": p @ g},
        SPARSE, {"linear_in": "x"}, "x", "missing transpose",
    ),
    "mask forgotten": (
        rules.soft_threshold, no_mask, THRESHOLD, {"active_set": rules.soft_threshold_branches}, "x", "missing mask",
    ),
    "mask of one side": (
        rules.soft_threshold, one_sided_mask, THRESHOLD, {"active_set": rules.soft_threshold_branches}, "x",
        "gradient cut",
    ),
    "duplicates overwritten": (rules.gather, overwriting, GATHER, {"linear_in": "table"}, "table", "overwritten"),
    "product rule, one term": (rules.two_paths, lambda g, x: g * np.sin(x), POINT, {}, "x", None),
    "product rule, other term": (rules.two_paths, lambda g, x: g * x * np.cos(x), POINT, {}, "x", None),
    "local derivative forgotten": (np.tanh, lambda g, x: g, POINT, {}, "x", "missing factor"),
    "local derivative twice": (np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2) ** 2, POINT, {}, "x", "missing factor"),
    "projection forgotten": (
        rules.normalise, lambda g, x: g / np.sqrt(np.sum(x * x, axis=1, keepdims=True)), POINT, {}, "x", None,
    ),
    "length forgotten": (
        rules.normalise, lambda g, x, output: g - output * np.sum(g * output, axis=1, keepdims=True), POINT, {}, "x",
        "missing factor",
    ),
    "off by one": (square, lambda g, x: np.roll(2 * x * g, 1, axis=0), POINT, {}, "x", "off by one"),
    "mean forgotten": (
        rules.mean_square, lambda g, x, target: 2 * g * (x - target), {**POINT, "target": np.ones((5, 4))},
        {"wrt": "x"}, "x", "missing factor",
    ),
    "one entry of 20": (
        square, lambda g, x: 2 * x * g * np.where(np.arange(20).reshape(5, 4) == 7, 1.01, 1), POINT, {}, "x",
        "some entries",
    ),
    "cotangent ignored": (square, lambda g, x: 2 * x, POINT, {}, "x", "cotangent ignored"),
    "float32 inside": (square, lambda g, x: (2 * x * g).astype(np.float32).astype(x.dtype), POINT, {}, "x", "rounding"),
    "sum over outputs, one forgotten": (
        rules.row_sums, lambda c, x: c[0][:, None] + 2 * x * c[1], POINT, {}, "x", "zero gradient",
    ),
    "gradient all zero": (square, lambda g, x: 0 * x * g, POINT, {}, "x", "zero gradient"),
    "scale of scaled tanh": (
        rules.scaled_tanh,
        lambda g, x, scale: {**rules.scaled_tanh_backward(g, x, scale), "scale": np.sum(g * np.tanh(x / scale))},
        {**POINT, "scale": 1.3}, {}, "scale", "missing factor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_rejected_for_the_right_cause(name, seed):
    forward, backward, arguments, options, argument, cause = WRONG[name]
    report = check_gradients(forward, backward, arguments, seed=seed, **options)
    assert not report.passed
    assert report.verdict("central_difference", argument).failed, str(report)
    assert report.verdict("complex_step", argument).failed, str(report)
    if options.get("linear_in") == argument:
        assert report.verdict("adjoint", argument).failed
    for other in set(report.arguments) - {argument}:
        assert not any(v.failed for v in report.verdicts if v.argument == other), str(report)
    (finding,) = report.findings
    assert finding.argument == argument
    if cause:
        assert finding.cause == cause, str(report)
    assert finding.entry in str(report)
    assert finding.entry.startswith(argument)
    assert finding.ours != finding.numerical


# ---- the contract ----------------------------------------------------------------------------------------------------
class Stale:
    """Forward leaves its argument behind; backward uses what was left last."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, grad_output, x):
        return 2 * np.real(self.x) * grad_output


class Adding:
    total = 0.0

    def backward(self, grad_output, x):
        self.total = self.total + 2 * x * grad_output
        return self.total


class Buffer:
    """Right numbers, but the same array is returned again and again."""

    out = np.zeros((5, 4))

    def backward(self, grad_output, x):
        self.out[...] = 2 * x * grad_output
        return self.out


def spoils_input(grad_output, x):
    x *= 2
    return x * grad_output


def spoils_cotangent(grad_output, x):
    grad_output *= 2 * x
    return grad_output.copy()


def impure(x, random=np.random.default_rng(0)):  # noqa: B008
    return x * x + 1e-12 * random.standard_normal()


def fixed_double(grad_output, x):
    return (2.0 * x * grad_output).astype(np.float64)


def contiguous_only(grad_output, x):
    if not x.flags.c_contiguous:
        raise ValueError("this kernel wants C order")
    return 2 * x * grad_output


def memory_order(grad_output, x):
    return 2 * x.ravel(order="K").reshape(x.shape) * grad_output


def not_linear(grad_output, x):
    return 2 * x * grad_output + 1e-9 * grad_output**2


def first_output_only(cotangents, x):
    rows, columns, mean = cotangents
    if rows.any():
        return np.repeat(rows[:, None], x.shape[1], axis=1)
    return 2 * x * columns + mean / x.size


CONTRACT = {
    "inputs_kept": (square, spoils_input),
    "cotangents_kept": (square, spoils_cotangent),
    "same_bits": (impure, lambda g, x: 2 * x * g),
    "stale_state": ((stale := Stale()).forward, stale.backward),
    "result_kept": (square, Buffer().backward),
    "dtype": (square, fixed_double),
    "zero_cotangent": (square, lambda g, x: 2 * x * g + 1e-12),
    "linear": (square, not_linear),
    "layout": (square, memory_order),
}


@pytest.mark.parametrize("item", CONTRACT)
def test_breach_of_contract_is_found(item):
    forward, backward = CONTRACT[item]
    report = check_gradients(forward, backward, POINT)
    assert f"contract.{item}" in report.killed_by, str(report)
    alone = check_gradients(forward, backward, POINT, checks=f"contract.{item}")
    assert alone.killed_by == [f"contract.{item}"]


def test_more_breaches():
    assert "contract.same_bits" in check_gradients(square, Adding().backward, POINT).killed_by
    assert "contract.layout" in check_gradients(square, contiguous_only, POINT).killed_by
    report = check_gradients(rules.row_sums, first_output_only, POINT)
    assert "contract.linear" in report.killed_by
    assert "overwritten instead of accumulated" in str(report)
    report = check_gradients(square, Adding().backward, POINT, checks="contract.same_bits")
    assert "never reset" in str(report)


def test_callers_arrays_are_never_touched():
    point = {"x": np.arange(1.0, 21).reshape(5, 4)}
    check_gradients(square, spoils_input, point)
    np.testing.assert_array_equal(point["x"], np.arange(1.0, 21).reshape(5, 4))


def test_a_wrong_forward_value_later_is_found():
    class Drifting:
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * x + (1e-15 if self.calls > 40 else 0.0)

    report = check_gradients(Drifting().forward, lambda g, x: 2 * x * g, POINT)
    assert "contract.value_kept" in report.killed_by


OTHERS = {
    "sparse": sp.csr_array(np.eye(4)), "integers": np.arange(16).reshape(4, 4), "objects": np.full((4, 4), None),
    "texts": np.full((4, 4), "a"), "complex": np.full((4, 4), 1j), "masked": np.ma.masked_array(np.ones((4, 4)), np.eye(4)),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("wrong", [lambda G: 1.5 * G, np.negative, np.transpose, lambda G: G * np.arange(4)], ids="xst*")
def test_what_is_wrong_is_found_beside_an_argument_of_the_same_shape(other, wrong):
    X = np.random.default_rng(3).standard_normal((4, 4))

    def backward(G, X, other):
        return {"grad_X": wrong(3 * X**2 * G)}

    report = check_gradients(lambda X, other: X**3, backward, {"X": X, "other": other}, wrt="X")
    assert not report.passed and "contract.raises" not in {v.check for v in report.failures}
