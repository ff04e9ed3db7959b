"""A gradient checker for any pair of NumPy functions, a forward and a hand-written backward.

It knows nothing of the model in this package and needs NumPy only (sparse arguments are SciPy's, if the caller has
imported it).

    from c2f_np.gradcheck import check_gradients

    report = check_gradients(forward, backward, {"x": x, "w": w}, linear_in="w")
    print(report)             # a table, and in words what is wrong
    report.raise_if_failed()  # for pytest

Arguments may be nested: ``{"params": {"w": w, "b": [b1, b2]}}`` is checked leaf by leaf, and the gradients come back in
the same structure.

How to read the figures, and what no check can see, is in ``docs/checking_gradients.md``.
"""

from .adapters import from_cache, from_layer, from_loss
from .adjoint import adjoint_gap
from .check import (
    CHECKS,
    assert_gradients,
    check_adjoint,
    check_central_difference,
    check_complex_step,
    check_contract,
    check_convention,
    check_gradients,
    check_taylor_rate,
    numerical_gradient,
)
from .report import Finding, GradientError, Report, Verdict, tabulate
from .settings import Settings
from .trouble import UsageError

__all__ = [
    "CHECKS",
    "Finding",
    "GradientError",
    "Report",
    "Settings",
    "UsageError",
    "Verdict",
    "adjoint_gap",
    "assert_gradients",
    "check_adjoint",
    "check_central_difference",
    "check_complex_step",
    "check_contract",
    "check_convention",
    "check_gradients",
    "check_taylor_rate",
    "from_cache",
    "from_layer",
    "from_loss",
    "numerical_gradient",
    "tabulate",
]
