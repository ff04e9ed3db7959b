"""The float32 bounds: they hold, they say something, and they notice float32 arithmetic that is worse than it should be."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.verification import rounding, values
from c2f_np.verification.rounding import Bounded, bounded, gamma
from c2f_np.verification.threads import one_kernel_thread
from c2f_np.verification.values import TEXTS, WITHOUT_KERNELS, value_cases

pytestmark = pytest.mark.gradcheck

CALLS = [
    pytest.param(op, number, engine, id=f"{op}-{number}-{engine}")
    for op, texts in TEXTS.items()
    for number in range(len(texts))
    for engine in (("numpy",) if op in WITHOUT_KERNELS else ("numpy", "numba"))
]


def wrong(result, which: int, factor: float, dtype):
    """The results, one of them times a factor, in one precision only."""
    result = list(result)
    part = result[which]
    if part.dtype == dtype:
        result[which] = part * part.dtype.type(factor)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "number", "engine"), CALLS)
def test_a_factor_in_one_precision_only_is_noticed_in_every_result(op, number, engine, dtype, monkeypatch):
    """1.001 in float32, one part in 10^12 in float64: every result, forward and gradient, each alone."""
    factor = 1.001 if dtype == np.float32 else 1 + 1e-12
    text = TEXTS[op][number]
    monkeypatch.setitem(TEXTS, op, (text,))
    with one_kernel_thread():
        first = [case for case in value_cases(op, engine, 3) if not case.interpreted][0]
        assert first.run(3).passed, str(first.run(3))
        rng = np.random.default_rng(0)
        n_results = len(list(text.expected(**text.make(rng, **text.configurations(rng, (5,))[0]))))
        for which in range(n_results):
            seen = []

            def call(engine, which=which, seen=seen, **arguments):
                result = text.call(engine, **arguments)
                seen.append(np.any(values.flat(result)[which]))
                return wrong(result, which, factor, dtype)

            monkeypatch.setitem(TEXTS, op, (replace(text, call=call),))
            cases = [case for case in value_cases(op, engine, 3) if not case.interpreted]
            assert any(not case.run(3).passed for case in cases) or not any(seen), f"result {which} of {op}"
            # What is 0 everywhere has no factor: only the gradient of a bias that cancels may be.
            assert any(seen) or (op, which) == ("bpr", 3)


def test_gamma_is_the_bound_of_n_roundings():
    assert gamma(1) == pytest.approx(2.0**-24, rel=1e-6)
    assert gamma(100) > 100 * 2.0**-24


@pytest.mark.parametrize("seed", range(5))
def test_the_rules_of_bounded_hold_for_random_expressions(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal((20, 7)).astype(np.float32) for _ in range(3))
    A, B, C = (bounded(x) for x in (a, b, c))
    square = a * a + np.float32(1)
    Square = A * A + bounded(np.ones(a.shape))
    pairs = [
        (a * b - c, A * B - C),
        (np.tanh(a * b) * c, (A * B).tanh() * C),
        ((a * b + c).sum(axis=1), (A * B + C).sum(axis=1)),
        (1 / np.sqrt(square), Square.inverse_root()),
        (np.sqrt(square), Square.root()),
        ((a * b) / square, (A * B) / Square),
        (a.T @ b, rounding.dense_product(A.T, B)),
        (0.3 * a, A * 0.3),
    ]
    for single, bound in pairs:
        assert single.dtype == np.float32
        assert np.all(np.abs(single - bound.value) <= bound.error)
        assert np.max(bound.error) < 1e-4


def test_a_bound_that_says_nothing_is_noticed():
    x = np.ones(3)
    assert not rounding.says_something(Bounded(x, np.full(3, 1e-3)))
    assert rounding.says_something(Bounded(x, np.full(3, 1e-4))) and rounding.says_something(bounded(np.zeros(3)))


def test_an_error_above_the_bound_is_a_failure():
    x = np.ones(3)
    for dtype, error in ((np.float32, 1.2e-6), (np.float64, 1e-14)):
        verdict = rounding.held("float32", "x", x + error, Bounded(x, np.full(3, 1e-6)), dtype, "here")
        assert verdict.failed and "here" in verdict.reason
        assert rounding.held("float32", "x", x + error / 2, Bounded(x, np.full(3, 1e-6)), dtype, "here").status == "passed"
    for broken in (np.array([1, np.nan, 1]), np.ones(2)):
        assert rounding.held("float32", "x", broken, Bounded(x, np.full(3, 1e-6)), np.float32, "here").failed


def test_a_single_result_may_be_sparse():
    M = sparse.csr_array(np.eye(2))
    assert [part.tolist() for part in values.flat((M, np.float32(2)))] == [[1, 1], 2]
