"""All verdicts in one call, and each by itself.

Shapes: n entries of an argument, K differentiated outputs; G (K, n) holds one gradient per output.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from c2f_np.gradcheck import adjoint as adjoint_check
from c2f_np.gradcheck import central as central_check
from c2f_np.gradcheck import complex_step as complex_check
from c2f_np.gradcheck import taylor as taylor_check
from c2f_np.gradcheck.contract import Contract
from c2f_np.gradcheck.diagnosis import diagnose, rough_in_words
from c2f_np.gradcheck.differences import steps_of
from c2f_np.gradcheck.evidence import compare
from c2f_np.gradcheck.kinks import Kinks, find, outside_of_slopes
from c2f_np.gradcheck.operation import Operation, Trouble, UsageError, stream
from c2f_np.gradcheck.report import FAILED, NOT_APPLICABLE, PASSED, Finding, Report, Verdict
from c2f_np.gradcheck.settings import Settings
from c2f_np.gradcheck.vacuity import accepted_impostors
from c2f_np.gradcheck.values import is_differentiable, leaves, norm

#: A forward, a backward, or what names branches: the arguments are the user's.
Function = Callable[..., Any]
#: The checks that ``check_gradients`` runs, in this order. Items of the contract can be named too:
#: ``'contract.layout'``.
CHECKS = ("contract", "central_difference", "complex_step", "taylor_rate", "adjoint")


def check_gradients(
    forward: Function,
    backward: Function,
    arguments: Any,
    *,
    wrt: str | Sequence[str] | None = None,
    linear_in: str | Sequence[str] = (),
    zero_gradient: str | Sequence[str] = (),
    active_set: Function | None = None,
    outputs: int | str | Sequence[int | str] | None = None,
    dtypes: Sequence[str] | None = None,
    checks: Sequence[str] = CHECKS,
    settings: Settings | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Report:
    """Check a hand-written backward against its forward, by every means there is.

    Parameters
    ----------
    forward : callable
        ``forward(**arguments)``: an array, a float, a sparse matrix, or a tuple of these.
    backward : callable
        ``backward(cotangent, **arguments)``: the gradients of ``sum(cotangent * output)``. It is given those of the
        arguments that it names, and what the forward returned if it names ``output``. For a tuple of outputs the
        cotangent is a tuple too, or one leading parameter each. It returns a dict (``{'grad_x': ...}`` or ``{'x':
        ...}``), a tuple in the order of ``wrt``, or one array.
    arguments : dict, tuple or array
        The point. A tuple is passed by position. Floats (arrays, scalars, lists of floats, sparse matrices) are
        differentiated, also inside dictionaries, lists and tuples: there leaf by leaf, as ``params.w`` or ``params[0]``,
        and the gradients come back in the same structure. The rest (integers, complex numbers, objects) passes through;
        it is named in the report, and a gradient that comes back for it is a failure. The checker works on copies, in
        float64.
    wrt : str or sequence of str, optional
        The arguments, or leaves, to check; all that hold floats when left out.
    linear_in : str or sequence of str
        Arguments in which the forward is linear or affine: the adjoint identity is checked.
    zero_gradient : str or sequence of str
        Arguments whose gradient is zero at this point, and rightly so; otherwise a zero gradient is a failure.
    active_set : callable, optional
        ``active_set(**arguments)``: an array, or a tuple of arrays, of booleans or integers that says which branch each
        element takes.
    outputs : int, str or sequence of these, optional
        The outputs to differentiate, when forward returns several.
    dtypes : sequence of str, optional
        ``('float64', 'float32')`` demands that both are kept, and that float32 gives the values of float64.
        ``('float32',)`` is for functions that always compute in float32: they are held to what float32 can do. When left
        out, float32 is checked where the forward keeps it.
    checks : sequence of str
        Which of :data:`CHECKS` to run.
    settings : Settings, optional
        Tolerances and sizes.
    name : str, optional
        Name of the operation in the report.
    seed : int
        Seed of cotangents, directions and samples.

    Returns
    -------
    Report
        ``report.passed``, ``str(report)``, ``report.raise_if_failed()``, ``report.to_json()``.

    Raises
    ------
    UsageError
        When the question makes no sense (an argument that does not exist). What is wrong with forward or backward is in
        the report.

    Examples
    --------
    >>> import numpy as np
    >>> def square(x):
    ...     return x * x
    >>> def square_backward(grad_output, x):
    ...     return 2 * x * grad_output
    >>> check_gradients(square, square_backward, {"x": np.array([1.0, 2.0, 3.0])}).passed
    True
    """
    settings = settings or Settings()
    checks = (checks,) if isinstance(checks, str) else tuple(checks)
    _check_the_checks(checks)
    report = Report(name or getattr(forward, "__name__", "operation"), seed=seed)
    with np.errstate(all="ignore"):
        try:
            operation = Operation(forward, backward, arguments, wrt=wrt, outputs=outputs, name=name)
            linear_in = _known("linear_in", linear_in, operation)
            zero_gradient = _known("zero_gradient", zero_gradient, operation)
            if not any(operation.entries(key).size for key in operation.wrt):
                what = f"{' and '.join(operation.wrt)} without entries" if operation.wrt else "wrt is empty"
                raise Trouble("unchecked", f"{what}: there is nothing to differentiate, so nothing was checked")
            operation.eps = _precision(operation, dtypes)
            operation.measure_grain(stream(seed, "grain"))
            settings = settings.at_precision(operation.eps)
            kinks = Kinks(operation, active_set)
            contract = Contract(operation, settings, seed, dtypes)
            report.verdicts += contract.first_call()
        except Trouble as trouble:
            report.verdicts.append(_trouble(trouble))
            return report

        wanted = [c for c in checks if c.startswith("contract")]
        if wanted:
            report.verdicts += contract.run(lambda item: "contract" in wanted or f"contract.{item}" in wanted)
        report.notes += contract.notes + _sizes(operation) + [text for text in [rough_in_words(operation)] if text]
        for key in operation.wrt:
            try:
                _check_argument(report, operation, key, kinks, settings, checks, key in linear_in, key in zero_gradient, seed)
            except Trouble as trouble:
                report.verdicts.append(_trouble(trouble))
        if "contract" in wanted or "contract.value_kept" in wanted:
            report.verdicts.append(contract.finish())
    report.notes += contract.names_what_is_not_checked()
    return report


def _precision(operation: Operation, dtypes) -> float:
    """The rounding that is promised: float32's for functions that always compute in it and do not promise more."""
    if dtypes is not None:
        single = "float64" not in dtypes
    else:
        given = {getattr(leaf, "dtype", np.dtype(float)) for key in operation.given for leaf in _floats(operation.given[key])}
        found = {getattr(operation.templates[k], "dtype", np.dtype(float)) for k in operation.outputs}
        single = found == {np.dtype(np.float32)} and given <= {np.dtype(np.float32), np.dtype(np.float16)}
    return float(np.finfo(np.float32 if single else np.float64).eps)


def _floats(value) -> list:
    return [leaf for leaf in leaves(value).values() if is_differentiable(leaf)]


def _sizes(operation: Operation) -> list[str]:
    """A note where values come close to overflow."""
    top = max((float(np.max(np.abs(v), initial=0.0)) for v in operation.here()), default=0.0)
    return [f"the forward's values reach {top:.1e}, close to overflow at 1.8e+308"] if top > 1e150 else []


def assert_gradients(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """:func:`check_gradients` that raises :class:`GradientError`, with the readable report, when anything fails."""
    return check_gradients(forward, backward, arguments, **options).raise_if_failed()


def check_central_difference(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """The gradient against central differences only; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("central_difference",), **options})


def check_complex_step(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """The gradient against the complex step only; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("complex_step",), **options})


def check_taylor_rate(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """The rate of the Taylor remainder only; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("taylor_rate",), **options})


def check_adjoint(
    forward: Function, backward: Function, arguments: Any, *, linear_in: str | Sequence[str], **options: Any
) -> Report:
    """The adjoint identity only; options as in :func:`check_gradients`."""
    options = {"checks": ("adjoint",), "wrt": linear_in, **options}
    return check_gradients(forward, backward, arguments, linear_in=linear_in, **options)


def check_contract(forward: Function, backward: Function, arguments: Any, **options: Any) -> Report:
    """Everything but the numbers; options as in :func:`check_gradients`."""
    return check_gradients(forward, backward, arguments, **{"checks": ("contract",), **options})


def check_convention(
    backward: Function, *, at: Any, expected: Any, cotangent: Any = None, name: str | None = None, seed: int = 0
) -> Report:
    """Assert, to the last bit, what a backward gives exactly at a kink, where no derivative exists and a convention
    decides.

    Parameters
    ----------
    backward : callable
        ``backward(cotangent, **at)``.
    at : dict
        All arguments, at the kink.
    expected : array or dict of arrays
        Without ``cotangent``, the slope of each element: a random cotangent must be multiplied by exactly that. With
        it, the gradient. A dictionary names several gradients; an array alone stands for the first argument that holds
        floats.
    cotangent : array or tuple, optional

    Returns
    -------
    Report
    """
    report = Report(name or getattr(backward, "__name__", "backward"), seed=seed)
    floats = (
        [key for key, value in at.items() if np.asarray(value).dtype.kind == "f"]
        if not isinstance(expected, dict)
        else list(expected)
    )
    if not floats:
        raise UsageError("no argument in `at` holds floats")
    expected = expected if isinstance(expected, dict) else {floats[0]: expected}
    slopes = cotangent is None
    if slopes:
        rng = stream(seed, "convention")
        shape = np.shape(next(iter(expected.values())))
        cotangent = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)

    def forward_of_nothing(**arguments):
        return 0.0

    operation = Operation(forward_of_nothing, backward, at, wrt=tuple(expected))
    try:
        found = operation.collect(operation.raw_backward(cotangent, operation.changed({})))
    except Trouble as trouble:
        report.verdicts.append(_trouble(trouble))
        return report
    for key, value in expected.items():
        wanted = np.ravel(np.asarray(value, dtype=float) * cotangent if slopes else np.asarray(value, dtype=float))
        off = np.flatnonzero(found[key] != wanted)
        if off.size:
            i = int(off[0])
            where = operation.entry(key, i)
            reason = f"at {where} the backward gives {found[key][i]:.17g}, the convention is {wanted[i]:.17g}"
            reason += f" ({off.size} of {wanted.size} entries differ)"
            report.verdicts.append(Verdict("convention", key, FAILED, reason=reason))
        else:
            report.verdicts.append(Verdict("convention", key, PASSED, reason="kept to the last bit"))
    return report


def numerical_gradient(
    forward: Function, arguments: Any, *, wrt: str, cotangent: Any = None, method: str = "central", seed: int = 0
) -> np.ndarray:
    """The gradient of ``sum(cotangent * output)`` from the forward alone, entry by entry.

    Parameters
    ----------
    wrt : str
        One argument.
    cotangent : array or list of arrays, optional
        One for each output; 1 for a scalar output, random ones otherwise.
    method : {'central', 'complex'}

    Returns
    -------
    ndarray
        In the shape of the argument; for a sparse one a vector of its stored entries.
    """
    operation = Operation(forward, None, arguments, wrt=wrt)
    key = operation.wrt[0]
    if cotangent is None:
        scalar = len(operation.outputs) == 1 and operation.values()[0].size == 1
        cotangents = [np.ones(1)] if scalar else operation.cotangents(stream(seed, "numerical", key))
    else:
        parts = cotangent if isinstance(cotangent, tuple | list) else [cotangent]
        cotangents = [np.ravel(np.asarray(part, dtype=float)) for part in parts]
    measure = {"central": central_check.measure, "complex": complex_check.measure}[method]
    everything = replace(Settings(), entry_limit=operation.entries(key).size)
    evidence = measure(operation, key, cotangents, Kinks(operation), everything, stream(seed, method, key))
    gradient = np.full(operation.entries(key).size, np.nan)
    gradient[evidence.positions] = evidence.value.sum(axis=1)
    return gradient.reshape(operation.shape(key))


# ---- one argument
# ------------------------------------------------------------------------------------------------------
def _check_argument(report, operation, key, kinks, settings, checks, linear, declared_zero, seed):
    if operation.entries(key).size == 0:
        report.notes.append(f"{key} has no entries: nothing to differentiate")
        return
    run = _Run(report, operation, key, kinks, settings, declared_zero, seed)
    if not kinks and set(checks) & {"central_difference", "complex_step", "taylor_rate"} and not run.bends():
        return
    if "central_difference" in checks:
        run.central_difference()
    if "complex_step" in checks:
        run.complex_step()
    if "taylor_rate" in checks:
        run.taylor_rate()
    if "adjoint" in checks and linear:
        run.adjoint()
    run.explain()


class _Run:
    """The numerical verdicts on one argument."""

    def __init__(self, report, operation, key, kinks, settings, declared_zero, seed):
        self.report, self.operation, self.key, self.kinks = report, operation, key, kinks
        self.settings, self.declared_zero, self.seed = settings, declared_zero, seed
        self.before = len(report.verdicts)
        self.objections = []
        self.bend = None  # kinks at the point that nobody announced
        self.near = None  # a step within which there are such kinks
        self.strict = lambda: False  # whether the slopes at the kinks alone tell right from wrong

    def gradients(self, cotangents, **changes) -> np.ndarray:
        """G (K, n): the gradient through each output alone."""
        operation, key = self.operation, self.key
        if len(cotangents) == 1:
            return operation.gradients(cotangents, **changes)[key][None]
        return np.stack([operation.gradients(operation.alone(cotangents, k), **changes)[key] for k in range(len(cotangents))])

    def draw(self, rng):
        """Random cotangents and their gradients; of several draws, for few entries, those that cancel least."""
        draws = 5 if self.operation.entries(self.key).size <= 8 else 1
        pairs = []
        for _ in range(draws):
            cotangents = self.operation.cotangents(rng)
            if self.bend:
                cotangents = [np.where(bent, 0.0, c) for c, bent in zip(cotangents, self.bend.outputs, strict=True)]
            pairs.append(self._above_rounding(cotangents, self.gradients(cotangents)))
        return max(pairs, key=lambda pair: norm(pair[1]))

    def _above_rounding(self, cotangents, gradients):
        """Without the outputs through which the gradient is negligible *and* lost in their rounding (a saturated softmax)."""
        operation, scale = self.operation, steps_of(self.operation.entries(self.key))
        total = norm(gradients.sum(axis=0) * scale)
        for k, g in enumerate(gradients):
            alone = operation.alone(cotangents, k)
            if 0 < norm(g * scale) <= 1e-6 * total and operation.resolution(self.key, alone, g) > 1e-7:
                cotangents = [np.zeros_like(c) if j == k else c for j, c in enumerate(cotangents)]
                gradients = np.where(np.arange(len(gradients))[:, None] == k, 0.0, gradients)
                note = f"through output {operation.outputs[k]} the gradient of {self.key} is lost in rounding: not checked"
                if note not in self.report.notes:
                    self.report.notes.append(note)
        return cotangents, gradients

    def bends(self) -> bool:
        """Look for kinks that nobody announced; False when nothing else is left to check."""
        operation, key = self.operation, self.key
        rng = stream(self.seed, "kinks", key)
        bend = find(operation, key, self.settings.entry_limit, rng)
        self.near = bend.near
        if bend.near is not None and not bend:
            self.report.notes.append(
                f"a kink (or as fast a change) within {bend.near:.0e} of the size of {key}: steps are kept short of it"
            )
        if not bend:
            return True
        cotangents = operation.cotangents(rng)
        if not bend.entries.any():
            cotangents = [np.where(bent, c, 0.0) for c, bent in zip(cotangents, bend.outputs, strict=True)]
        gradients = self.gradients(cotangents)

        def allowed(g) -> str | None:
            again = stream(self.seed, "slopes", key)
            return outside_of_slopes(operation, key, bend, cotangents, g, self.settings.entry_limit, again)

        wrong, shown = allowed(gradients), ", ".join(bend.where[:6])
        shown += f", ... ({len(bend.where)} in all)" if len(bend.where) > 6 else ""
        self.strict = lambda: not accepted_impostors(lambda g: allowed(g) is None, gradients)
        if wrong is None and bend.entries.all():
            if self.strict():
                self.add("central_difference", PASSED, reason=f"kink at {shown}, whose slopes allow only this gradient")
                return False
            wrong = f"every entry lies at a kink ({shown}), where no derivative exists: nothing could be checked; move the point"
        if wrong is not None:
            self.add("central_difference", FAILED, reason=wrong)
            self.report.findings.append(Finding(key, "kink", f"kink at {shown}, not announced (active_set=...)"))
            return False
        self.report.notes.append(
            f"kink at {shown}, not announced (active_set=...): there the gradient lies between the slopes to either side, "
            f"and is left out of the other checks"
        )
        self.bend = bend
        self.kinks.held[key] = bend.entries
        return True

    def add(self, check, status, **fields):
        self.report.verdicts.append(Verdict(check, self.key, status, **fields))

    def central_difference(self):
        rng = stream(self.seed, "central_difference", self.key)
        cotangents, gradients = self.draw(rng)
        again = copy.deepcopy(rng)  # for the same entries and directions
        evidence = central_check.measure(self.operation, self.key, cotangents, self.kinks, self.settings, rng, gradients)
        counts = {"left_out": evidence.left_out, "examined": evidence.examined}
        if evidence.left_out > self.settings.left_out * evidence.examined:
            why = "their active set changes" if self.kinks else "the forward is not finite around them, or raises"
            self.add(
                "central_difference",
                FAILED,
                reason=f"{evidence.left_out} of {evidence.examined} entries had to be left out because {why}; at most "
                f"{self.settings.left_out:.0%} may be: move the point away from its kinks",
                **counts,
            )
            return
        tolerance, widest = self.settings.central, self.settings.widest_central
        worst = compare(evidence, gradients, tolerance, widest)
        if not worst.accepted:  # before it is called wrong: much smaller steps, if they see as sharply
            closer = central_check.measure(
                self.operation, self.key, cotangents, self.kinks, self.settings, again, gradients, shrink=4096
            )
            found = compare(closer, gradients, tolerance, widest)
            sharp = closer.resolves(worst) and found.tolerance <= max(worst.tolerance, 0.1 * worst.error)
            if found.accepted and not found.zero and sharp and closer.left_out <= evidence.left_out:
                evidence = closer
        self._judge("central_difference", evidence, gradients, tolerance, widest, counts)

    def complex_step(self):
        rng = stream(self.seed, "complex_step", self.key)
        cotangents, gradients = self.draw(rng)
        try:
            evidence = complex_check.measure(self.operation, self.key, cotangents, self.kinks, self.settings, rng, gradients)
        except complex_check.NotApplicable as why:
            self.add("complex_step", NOT_APPLICABLE, reason=str(why))
            return
        tolerance = self.settings.complex_step
        first = compare(evidence, gradients, tolerance, self.settings.widest_complex)
        if not first.accepted and not first.small_entry and first.error < self.settings.widest_complex:
            tolerance = self._rounding(evidence, gradients, cotangents, tolerance, first.output)
        self._judge("complex_step", evidence, gradients, tolerance, self.settings.widest_complex, {})

    def _rounding(self, evidence, gradients, cotangents, tolerance, output) -> float:
        """The tolerance widened to what rounding the outputs, and the last bit of the argument, do to the gradient."""
        rng = stream(self.seed, "rounding", self.key)
        entries = self.operation.entries(self.key)
        alone = self.operation.alone(cotangents, output)
        tolerance = max(tolerance, 4 * self.operation.resolution(self.key, alone, gradients[output]))
        for _ in range(4):
            nearby = entries * (1 + np.finfo(float).eps * rng.choice([-1.0, 1.0], entries.size))
            try:
                moved = self.gradients(cotangents, **{self.key: nearby})
            except Trouble:
                continue
            tolerance = max(tolerance, 10 * compare(_like(evidence, moved), gradients, tolerance, tolerance).error)
        return min(tolerance, self.settings.widest_complex)

    def _judge(self, check, evidence, gradients, tolerance, widest, counts):
        found = compare(evidence, gradients, tolerance, widest)
        if not found.accepted:
            self.objections.append(found)
        if found.zero:
            self._zero(check, counts)
            return
        if self.declared_zero:
            self.add(
                check,
                FAILED,
                figure=found.error,
                tolerance=found.tolerance,
                reason="declared zero, but the gradient is not",
                **counts,
            )
            return
        if not found.accepted:
            reason = f"error {found.error:.1e} of the gradient's norm, allowed {found.tolerance:.0e}"
            if found.small_entry:
                entry = "" if found.position is None else f": {self.operation.entry(self.key, found.position)}"
                reason = f"a small entry is wrong{entry} (the whole gradient is off by {found.error:.1e} of its norm only)"
            self.add(check, FAILED, figure=found.error, tolerance=found.tolerance, reason=reason, **counts)
            return
        impostors = accepted_impostors(lambda g: compare(evidence, g, tolerance, widest).accepted, gradients)
        if impostors:
            self._vacuous(check, impostors, found.error, found.tolerance, counts)
            return
        ordinary = getattr(self.settings, "central" if check == "central_difference" else check)
        note = "" if found.tolerance <= ordinary else " (widened to the measured rounding)"
        if found.error > ordinary:
            name = check.replace("_", " ")
            self.report.notes.append(
                f"{name} of {self.key}: rounding, measured, allows {found.tolerance:.0e} instead of {ordinary:.0e}"
            )
        reason = f"error {found.error:.1e}, allowed {found.tolerance:.1e}{note}"
        self.add(check, PASSED, figure=found.error, tolerance=found.tolerance, reason=reason, **counts)

    def _vacuous(self, check, impostors, figure, tolerance, counts):
        reason = f"vacuous: at this point and tolerance it would also accept {', '.join(impostors)}"
        self.add(check, FAILED, figure=figure, tolerance=tolerance, reason=reason, vacuous=True, **counts)

    def _zero(self, check, counts):
        if self.declared_zero or self.strict():
            reason = "zero, as declared" if self.declared_zero else "zero beside the kinks, whose slopes allow only this gradient"
            self.add(check, PASSED, figure=0.0, reason=reason, **counts)
            return
        reason = (
            "the gradient is zero here, so nothing can be told right from wrong; choose another point, or declare it with "
            f"zero_gradient={self.key!r}"
        )
        self.add(check, FAILED, figure=0.0, reason=reason, **counts)

    def taylor_rate(self):
        rng = stream(self.seed, "taylor_rate", self.key)
        cotangents, gradients = self.draw(rng)
        ladder = taylor_check.measure(self.operation, self.key, cotangents, self.kinks, self.settings, rng)
        counts = {"left_out": ladder.left_out, "examined": ladder.examined}
        least = self.settings.rate
        if ladder.left_out > self.settings.left_out * ladder.examined:
            reason = f"{ladder.left_out} of {ladder.examined} entries had to be left out because their active set changes"
            self.add("taylor_rate", FAILED, tolerance=least, reason=reason, **counts)
            return
        widest = self.settings.widest_central
        found = taylor_check.judge(ladder, gradients, least, widest)
        if found.zero:
            self._zero("taylor_rate", counts)
            return
        figure = None if np.isnan(found.rate) else found.rate
        if self.declared_zero or not found.accepted:
            reason = found.reason if not found.accepted else "declared zero, but the gradient is not"
            exact = [v for v in self.report.verdicts[self.before :] if v.check == "central_difference" and v.status == PASSED]
            if self.near and exact and exact[0].tolerance == self.settings.central and not self.declared_zero:
                self.add("taylor_rate", NOT_APPLICABLE, reason=f"kinks lie within its steps ({reason})")
                return
            self.add("taylor_rate", FAILED, figure=figure, tolerance=least, reason=reason, **counts)
            return
        impostors = accepted_impostors(lambda g: taylor_check.judge(ladder, g, least, widest).accepted, gradients)
        if impostors:
            self._vacuous("taylor_rate", impostors, figure, least, counts)
            return
        self.add("taylor_rate", PASSED, figure=figure, tolerance=least, reason=found.reason, **counts)

    def adjoint(self):
        products = adjoint_check.measure(self.operation, self.key, self.settings, stream(self.seed, "adjoint", self.key))
        most = self.settings.adjoint
        figure = adjoint_check.gap(products, products.images)
        if products.nonlinear > max(1e-10, 1e3 * self.operation.eps):
            self.add(
                "adjoint",
                FAILED,
                reason=f"the forward is not linear in {self.key} (off by {products.nonlinear:.1e})",
                tolerance=most,
            )
        elif not np.any(products.images) and not np.any(products.left):
            self._zero("adjoint", {})
        elif figure > most:
            reason = f"<P x, y> and <x, P^T y> differ by {figure:.1e} of the norms, allowed {most:.0e}"
            self.add("adjoint", FAILED, figure=figure, tolerance=most, reason=reason)
        else:
            impostors = accepted_impostors(lambda images: adjoint_check.gap(products, images) <= most, products.images)
            if impostors:
                self._vacuous("adjoint", impostors, figure, most, {})
            else:
                self.add("adjoint", PASSED, figure=figure, tolerance=most, reason=f"gap {figure:.1e}, allowed {most:.0e}")

    def explain(self):
        """Add a finding when any of the verdicts on this argument failed on its numbers."""
        mine = [v for v in self.report.verdicts[self.before :] if v.failed]
        if not mine or any(v.vacuous for v in mine):
            return
        operation, key = self.operation, self.key
        state = {"contract.same_bits", "contract.stale_state", "contract.inputs_kept"} & set(self.report.killed_by)
        if state:
            names = " and ".join(sorted(state))
            text = f"what backward returns depends on more than it is given; mend {names} first"
            self.report.findings.append(Finding(key, "state", text))
            return
        if all("is zero here" in v.reason or "left out" in v.reason or "not linear in" in v.reason for v in mine):
            return
        rng = stream(self.seed, "central_difference", key)
        cotangents, gradients = self.draw(rng)
        evidence = central_check.measure(operation, key, cotangents, self.kinks, self.settings, rng, gradients)
        worst = compare(evidence, gradients, self.settings.central)
        if worst.zero:
            self.report.findings.append(Finding(key, "zero gradient", "the backward and central differences are both zero here"))
            return
        if worst.accepted and not any(v.check == "complex_step" for v in mine):
            self.report.findings.append(Finding(key, "kink" if self.near else "other", self._only(mine)))
            return
        if worst.accepted and self.objections:
            worst = self.objections[-1]
        finding = diagnose(operation, key, cotangents, gradients, evidence, worst, self.kinks, self.seed)
        exact = [v for v in self.report.verdicts[self.before :] if v.check == "complex_step" and v.status == PASSED]
        if exact and finding.cause != "kink":
            finding = replace(
                finding,
                cause="kink" if not self.kinks else "rounding",
                explanation=f"the complex step agrees to {exact[0].figure:.0e}, the differences do not: "
                + ("kinks within reach of the larger steps (give active_set=...)" if not self.kinks else "")
                + (", or " if not self.kinks else "")
                + "a forward that loses digits here",
            )
        self.report.findings.append(finding)

    @staticmethod
    def _only(mine) -> str:
        if any(v.check == "adjoint" for v in mine):
            return (
                "at the point itself the gradient agrees with central differences, but not at other points: does backward treat "
                "negative, large or equal values differently, or is the forward not linear everywhere?"
            )
        return (
            "the gradient agrees with central differences; only the rate of the Taylor remainder objects: a kink within reach "
            "of the larger steps (give active_set=...), or a point at which the forward varies too fast"
        )


def _like(evidence, gradients):
    """Evidence that would have been measured, had the gradients been the truth."""
    return replace(
        evidence,
        value=gradients[:, evidence.positions].T,
        along=evidence.directions @ gradients.T,
        entry_share=np.inf,
    )


def _trouble(trouble: Trouble) -> Verdict:
    check = "kinks" if trouble.item == "active set" else f"contract.{trouble.item.replace(' ', '_')}"
    return Verdict(check, trouble.argument, FAILED, reason=str(trouble))


def _known(option: str, names, operation: Operation) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names or ())
    for name in names:
        if not operation.below(name):
            raise UsageError(f"{option} names {name!r}, but the arguments are {', '.join(operation.leaves)}")
    return tuple(leaf for name in names for leaf in operation.below(name))


def _check_the_checks(checks) -> None:
    for check in checks:
        if check not in CHECKS and not check.startswith("contract."):
            raise UsageError(f"there is no check {check!r}; there are {', '.join(CHECKS)}, and items such as 'contract.layout'")
