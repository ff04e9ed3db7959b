"""A gradient checker for any pair of NumPy functions, a forward and a hand-written backward.

It knows nothing of the model in this package and needs NumPy only (sparse arguments are SciPy's, if the caller has
imported it).

    from c2f_np.gradcheck import check_gradients

    report = check_gradients(forward, backward, {"x": x, "w": w}, linear_in="w")
    print(report)             # a table, and in words what is wrong
    report.raise_if_failed()  # for pytest

Arguments may be nested: ``{"params": {"w": w, "b": [b1, b2]}}`` is checked leaf by leaf, and the gradients come back in
the same structure.

How to read the figures, and what no check can see, is in ``docs/checking_gradients.md``. The checker itself is read in this
order:

1. :mod:`.check`: what users call, and the checks in their order; what they are held to is in :mod:`.check_settings`;
2. :mod:`.operation`: somebody else's forward and backward, called with care; :mod:`.values`, :mod:`.trouble`, and the
   conventions of others in :mod:`.adapters`;
3. :mod:`.contract`: everything about a backward that is not its numbers;
4. :mod:`.argument`: the numerical verdicts on one argument, from :mod:`.directions` and :mod:`.slopes` along them by
   :mod:`.evidence`, :mod:`.taylor` and :mod:`.adjoint`, away from :mod:`.kinks`;
5. :mod:`.diagnosis` and :mod:`.report`: what is wrong, in words;
6. :mod:`.lessons`: what such checks see and what they do not, measured.
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
from .check_settings import CheckSettings
from .report import Finding, GradientError, Report, Verdict, tabulate
from .trouble import UsageError

__all__ = [
    "CHECKS",
    "Finding",
    "GradientError",
    "Report",
    "CheckSettings",
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
