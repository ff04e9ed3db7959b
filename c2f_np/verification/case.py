"""One case of one operation, and what it is held to.

A case is a forward and a backward at a point, for one engine. Its functions look the package's functions up when they are
called, so that a mutant put into a module is what the case checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
import scipy.sparse as sparse

from ..engine import engine_named
from ..gradcheck import CheckSettings, Report, Verdict, check_gradients
from ..gradcheck.directions import stream
from ..gradcheck.operation import Operation

PASSED, FAILED = "passed", "failed"

#: What every figure is held to, whatever the checker would allow where rounding is worse.
CENTRAL, COMPLEX_STEP, TAYLOR_RATE, ADJOINT = 3e-8, 1e-13, 1.9, 1e-14

#: Small problems entry by entry; larger ones along directions, each of which holds every entry, and at sampled entries.
SETTINGS = CheckSettings(entry_limit=24, directions=4, samples=8)


#: So often a point is drawn anew at which nothing could be told; then it is taken, and the check says what is wrong.
MOST_DRAWS = 20


@dataclass(frozen=True)
class Case:
    """An operation at a point.

    Attributes
    ----------
    operation : str
        What ``--op`` names.
    variation : str
        What is particular about this case.
    engine : {"numpy", "numba"}
    run : callable
        ``run(seed) -> Report``.
    interpreted : bool
        Whether the command runs the case without compiling: the kernels are then plain Python (``NUMBA_DISABLE_JIT=1``).
    """

    operation: str
    variation: str
    engine: str
    run: Callable[[int], Report]
    interpreted: bool = False

    @property
    def name(self) -> str:
        return f"{self.operation} [{self.engine}] {self.variation}"


def gradient_case(
    operation, variation, engine, forward, backward, arguments, *, exactly_zero=(), **options
) -> Case:
    """A case for :func:`c2f_np.gradcheck.check_gradients`.

    Parameters
    ----------
    operation, variation, engine : str
    forward, backward, arguments, options
        As :func:`c2f_np.gradcheck.check_gradients` takes them.
    exactly_zero : sequence of str
        Arguments that cancel in the forward: their gradient must be 0 to the last bit (see :func:`zero_verdicts`).
    """
    case_name = f"{operation} [{engine}] {variation}"
    options = {"settings": SETTINGS, "dtypes": ("float64", "float32"), **options}
    if exactly_zero:
        options.setdefault("wrt", tuple(key for key in arguments if key not in exactly_zero))

    def run(seed: int) -> Report:
        report = check_gradients(forward, backward, arguments, name=case_name, seed=seed, **options)
        hold_to_figures(report)
        if report.passed:
            report.verdicts += zero_verdicts(forward, backward, arguments, exactly_zero, seed)
        return report

    return Case(operation, variation, engine, run)


def hold_to_figures(report: Report) -> None:
    """Add a failure for every figure that is worse than promised, even where the checker widened its tolerance."""
    for v in list(report.verdicts):
        if v.status == "not applicable" and v.check in ("complex_step", "central_difference", "taylor_rate", "adjoint"):
            report.verdicts.append(Verdict(v.check, v.argument, FAILED, reason=f"must be applicable here: {v.reason}"))
        if v.status != PASSED or v.figure is None or "as declared" in v.reason:
            continue
        most = {"central_difference": CENTRAL, "complex_step": COMPLEX_STEP, "adjoint": ADJOINT}.get(v.check)
        if most is not None and not v.figure < most or v.check == "taylor_rate" and not v.figure > TAYLOR_RATE:
            reason = f"{v.figure:.2g} is accepted by the checker but not here, where {most or TAYLOR_RATE:g} is promised"
            report.verdicts.append(Verdict(v.check, v.argument, FAILED, v.figure, most, reason))


def zero_verdicts(forward, backward, arguments: dict, names, seed: int) -> list[Verdict]:
    """The gradient of arguments that cancel is 0 to the last bit, and the forward agrees that they cancel.

    A central difference of such an argument is rounding and nothing else, so the forward is judged by the complex step, whose
    imaginary part must cancel exactly.
    """
    verdicts = []
    for key in names:
        operation = Operation(forward, backward, arguments, wrt=key)
        rng = stream(seed, "exactly zero", key)
        gradient = operation.gradients(operation.cotangents(rng))[key]
        reason = ""
        if np.any(gradient != 0):
            reason = f"the gradient must be exactly 0, entry {int(np.argmax(gradient != 0))} is {np.max(np.abs(gradient)):.3g}"
        elif _depends(operation, key, rng):
            reason = "the forward depends on it"
        verdicts.append(Verdict("exact_zero", key, FAILED if reason else PASSED, 0.0, 0.0, reason or "0 to the last bit"))
    return verdicts


def _depends(operation: Operation, key: str, rng) -> bool:
    entries = operation.entries(key)
    moved = operation.complex_values(key, entries + 1j * 2.0**-100 * rng.standard_normal(entries.size))
    return any(np.any(np.abs(np.imag(part)) > 2.0**-140) for part in moved)


def depends_on_all(forward, arguments: dict, names) -> bool:
    """Whether the value depends on each of these arguments by more than rounding: elsewhere a gradient says nothing."""
    rng = stream(0, "depends")
    return all(_depends(Operation(forward, None, arguments, wrt=key), key, rng) for key in sorted(names))


#: What a comparison yields: what was compared, the figure, and the most that it may be.
Checks = Iterator[tuple[str, float, float]]


def differs(ours, theirs) -> float:
    """0 if both hold the same numbers, else 1."""
    return 0.0 if np.array_equal(np.asarray(ours), np.asarray(theirs)) else 1.0


def off(ours, theirs) -> float:
    """The largest difference as a share of the largest entry."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        return math.inf
    return float(np.max(np.abs(ours - theirs), initial=0) / max(np.max(np.abs(theirs), initial=0), 1e-300))


def verdict_case(operation, variation, engine, check) -> Case:
    """A case that compares with a literal reference; ``check(seed)`` yields (what, figure, tolerance)."""

    def run(seed: int) -> Report:
        report = Report(f"{operation} [{engine}] {variation}", seed=seed)
        for what, figure, tolerance in check(seed):
            status = PASSED if figure <= tolerance else FAILED
            reason = f"{what}: off by {figure:.1e}, allowed {tolerance:.0e}"
            report.verdicts.append(Verdict("reference", what, status, float(figure), tolerance, reason))
        return report

    return Case(operation, variation, engine, run)


def twin(engine: str, *values) -> ModuleType:
    """The engine of a forward: that of the case, but NumPy where a complex step is being taken.

    So the compiled backward is held to the complex step of the same function.
    """
    return engine_named("numpy" if any(np.iscomplexobj(value) for value in values) else engine)


def promoted(*values) -> tuple:
    """The values, all of them complex as soon as one is: in-place steps of a forward need one dtype."""
    if not any(np.iscomplexobj(value) for value in values):
        return values
    return tuple(value.astype(complex) if hasattr(value, "astype") else value for value in values)


@dataclass
class InDtype:
    """Something constant, made once for each precision: ``constant(x)`` is the one that goes with the array x.

    With an engine it is ``make(dtype, engine module)``, of the :func:`twin` that computes with x.
    """

    make: Callable
    engine: str | None = None
    _made: dict = field(default_factory=dict)

    def __call__(self, *like):
        dtype = np.dtype(np.float32 if all(np.asarray(x).dtype == np.float32 for x in like) else np.float64)
        kind = (dtype,) if self.engine is None else (dtype, twin(self.engine, *like))
        if kind not in self._made:
            self._made[kind] = self.make(*kind)
        return self._made[kind]


def operator_in_dtype(matrix, engine: str) -> InDtype:
    """A prepared sparse operator for each precision."""
    return InDtype(lambda dtype, module: module.operator(sparse.csr_array(matrix, dtype=dtype)), engine)
