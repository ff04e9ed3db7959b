"""The numerical verdicts on one argument: central differences, complex step, Taylor rate, adjoint; and why they failed.

Shapes: n entries of the argument, K differentiated outputs; G (K, n) holds one gradient per output.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property

import numpy as np

from . import adjoint, taylor
from .check_settings import CheckSettings, accepted_impostors
from .diagnosis import diagnose
from .directions import floored, stream
from .evidence import Comparison, Evidence, central_differences, compare, complex_steps
from .kinks import ActiveSet, Bend, Kinks, find, outside_of_slopes
from .operation import EPS, Leaf
from .report import FAILED, NOT_APPLICABLE, PASSED, Finding, Report, Verdict
from .slopes import COMPLEX_STEP, NotApplicable
from .trouble import Trouble
from .values import norm


class Argument:
    """The checks of one argument; each adds its verdict to the report."""

    def __init__(self, report: Report, leaf: Leaf, active_set: ActiveSet | None, settings: CheckSettings, declared_zero, seed):
        self.report, self.leaf, self.operation, self.key = report, leaf, leaf.operation, leaf.key
        self.kinks = Kinks(leaf, active_set)
        self.settings, self.declared_zero, self.seed = settings, declared_zero, seed
        self.before = len(report.verdicts)
        self.objections: list[Comparison] = []
        self.bend: Bend | None = None  # kinks at the point that nobody announced
        self.near: float | None = None  # a step within which there are such kinks
        self.strict = lambda: False  # whether the slopes at the kinks alone tell right from wrong

    def run(self, checks, linear: bool) -> None:
        """All that is asked for, in order."""
        if not self.leaf.size:
            self.report.notes.append(f"{self.key} has no entries: nothing to differentiate")
            return
        numerical = [check for check in ("central_difference", "complex_step", "taylor_rate") if check in checks]
        if not self.kinks and numerical and not self.bends():
            return
        for check in numerical:
            getattr(self, check)()
        if "adjoint" in checks and linear:
            self.adjoint()
        self.explain()

    # ---- gradients under check -------------------------------------------------------------------------------------
    def draw(self, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        """Random cotangents and their gradients; of several draws, for few entries, those that cancel least."""
        pairs = []
        for _ in range(5 if self.leaf.size <= 8 else 1):
            cotangents = self.operation.cotangents(rng)
            if self.bend:
                cotangents = [np.where(bent, 0.0, c) for c, bent in zip(cotangents, self.bend.outputs, strict=True)]
            pairs.append(self._above_rounding(cotangents, self.leaf.gradients(cotangents)))
        return max(pairs, key=lambda pair: norm(pair[1]))

    def _above_rounding(self, cotangents, gradients):
        """Without the outputs through which the gradient is negligible *and* lost in their rounding (a saturated softmax)."""
        operation, scale = self.operation, self.leaf.steps
        total = norm(gradients.sum(axis=0) * scale)
        for k, g in enumerate(gradients):
            alone = operation.alone(cotangents, k)
            lost = 0 < norm(g * scale) <= 1e-6 * total and self.leaf.resolution(alone, g) > 1e-7
            if lost and self._moves_little(alone, 1e-5 * total):
                cotangents = [np.zeros_like(c) if j == k else c for j, c in enumerate(cotangents)]
                gradients = np.where(np.arange(len(gradients))[:, None] == k, 0.0, gradients)
                note = f"through output {operation.outputs[k]} the gradient of {self.key} is lost in rounding: not checked"
                if note not in self.report.notes:
                    self.report.notes.append(note)
        return cotangents, gradients

    def _moves_little(self, cotangents, most: float) -> bool:
        """Whether the forward itself says so: the gradient under check may be small because it is wrong."""
        step = 2.0**-14
        ends = self.leaf.either_side(step * floored(stream(self.seed, "through", self.key), self.leaf.size) * self.leaf.steps)
        if ends is None:
            return False
        change = sum(np.dot(c, plus - minus) for c, plus, minus in zip(cotangents, *ends, strict=True))
        return bool(abs(change) / (2 * step) <= most)

    # ---- kinks that nobody announced -------------------------------------------------------------------------------
    def bends(self) -> bool:
        """Look for them; False when nothing else is left to check."""
        leaf, key, limit = self.leaf, self.key, self.settings.entry_limit
        rng = stream(self.seed, "kinks", key)
        bend = find(leaf, limit, rng)
        self.near = bend.near
        if not bend:
            if bend.near is not None:
                self.report.notes.append(
                    f"a kink (or as fast a change) within {bend.near:.0e} of the size of {key}: steps are kept short of it"
                )
            return True
        # Of one sign: where signs differ, slopes to either side add up to a range in which nearly any gradient lies.
        cotangents = [np.abs(c) for c in self.operation.cotangents(rng)]
        if not bend.entries.any():
            cotangents = [np.where(bent, c, 0.0) for c, bent in zip(cotangents, bend.outputs, strict=True)]
        gradients = leaf.gradients(cotangents)

        def objection(g) -> str | None:
            return outside_of_slopes(leaf, bend, cotangents, g, limit, stream(self.seed, "slopes", key))

        wrong, shown = objection(gradients), ", ".join(bend.where[:6])
        shown += f", ... ({len(bend.where)} in all)" if len(bend.where) > 6 else ""
        self.strict = lambda: not accepted_impostors(lambda g: objection(g) is None, gradients)
        if wrong is None and bend.entries.all():
            if self.strict():
                self.add("central_difference", PASSED, f"kink at {shown}, whose slopes allow only this gradient")
                return False
            wrong = f"every entry lies at a kink ({shown}), where no derivative exists: nothing could be checked; move the point"
        if wrong is not None:
            self.add("central_difference", FAILED, wrong)
            self.report.findings.append(Finding(key, "kink", f"kink at {shown}, not announced (active_set=...)"))
            return False
        self.report.notes.append(
            f"kink at {shown}, not announced (active_set=...): there the gradient lies between the slopes to either side, and is "
            "left out of the other checks"
        )
        self.bend = bend
        self.kinks.held = bend.entries
        return True

    # ---- verdicts --------------------------------------------------------------------------------------------------
    def add(self, check: str, status: str, reason: str, **fields) -> None:
        self.report.verdicts.append(Verdict(check, self.key, status, reason=reason, **fields))

    def settle(self, check, zero, objection, accepts, gradients, reason, figure, tolerance, **counts) -> None:
        """The verdict: a zero gradient, an objection, and impostors that would be accepted as well are failures."""
        if zero:
            status, reason = FAILED, (
                f"the gradient is zero here, so nothing can be told right from wrong; choose another point, or declare it with "
                f"zero_gradient={self.key!r}"
            )
            if self.declared_zero:
                status, reason = PASSED, "zero, as declared"
            elif self.strict():
                status, reason = PASSED, "zero beside the kinks, whose slopes allow only this gradient"
            self.add(check, status, reason, figure=0.0, **counts)
            return
        fields = {"figure": figure, "tolerance": tolerance, **counts}
        if objection:
            self.add(check, FAILED, objection, **fields)
        elif impostors := accepted_impostors(accepts, gradients):
            reason = f"vacuous: at this point and tolerance it would also accept {', '.join(impostors)}"
            self.add(check, FAILED, reason, vacuous=True, **fields)
        else:
            self.add(check, PASSED, reason, **fields)

    def compared(self, check, evidence, gradients, tolerance, widest, **counts) -> None:
        """The verdict of a comparison with evidence."""
        found = compare(evidence, gradients, tolerance, widest)
        ordinary = self.settings.central if check == "central_difference" else self.settings.complex_step
        objection = ""
        is_zero = self.declared_zero and not gradients.any()
        if check == "complex_step" and is_zero and abs(found.numerical) <= COMPLEX_STEP**1.5:
            found = replace(found, error=0.0, zero=True)  # what higher orders leave of so small a step
        if not found.accepted:
            self.objections.append(found)
            objection = f"error {found.error:.1e} of the gradient's norm, allowed {found.tolerance:.0e}"
        if found.small_entry:
            entry = "" if found.position is None else f": {self.leaf.name(found.position)}"
            objection = f"a small entry is wrong{entry} (the whole gradient is off by {found.error:.1e} of its norm only)"
        if self.declared_zero:
            objection = "declared zero, but the gradient is not"
        note = "" if found.tolerance <= ordinary else " (widened to the measured rounding)"
        reason = f"error {found.error:.1e}, allowed {found.tolerance:.1e}{note}"

        def accepts(g):
            return compare(evidence, g, tolerance, widest).accepted

        self.settle(check, found.zero, objection, accepts, gradients, reason, found.error, found.tolerance, **counts)
        if self.report.verdicts[-1].status == PASSED and found.error > ordinary:
            self.report.notes.append(
                f"{check.replace('_', ' ')} of {self.key}: rounding, measured, allows {found.tolerance:.0e} instead of "
                f"{ordinary:.0e}"
            )

    def central_differences(self, cotangents, rng, gradients, shrink=1.0) -> Evidence:
        """:func:`~c2f_np.gradcheck.evidence.central_differences` by this argument."""
        return central_differences(self.leaf, cotangents, self.kinks, self.settings, rng, gradients, shrink)

    @cached_property
    def differences(self):
        """Cotangents, their gradients, the central differences, and the state of the generator with which these were made."""
        rng = stream(self.seed, "central_difference", self.key)
        cotangents, gradients = self.draw(rng)
        again = copy.deepcopy(rng)
        evidence = self.central_differences(cotangents, rng, gradients)
        return cotangents, gradients, evidence, again

    def too_many_left_out(self, measured) -> str:
        """In words, that more entries than allowed had to be left out, or nothing."""
        if measured.left_out <= self.settings.left_out * measured.examined:
            return ""
        return f"{measured.left_out} of {measured.examined} entries had to be left out because "

    def central_difference(self) -> None:
        cotangents, gradients, evidence, again = self.differences
        counts = {"left_out": evidence.left_out, "examined": evidence.examined}
        if too_many := self.too_many_left_out(evidence):
            why = "their active set changes" if self.kinks else "the forward is not finite around them, or raises"
            most = f"; at most {self.settings.left_out:.0%} may be: move the point away from its kinks"
            self.add("central_difference", FAILED, too_many + why + most, **counts)
            return
        tolerance, widest = self.settings.central, self.settings.widest_central
        worst = compare(evidence, gradients, tolerance, widest)
        if not worst.accepted:  # before it is called wrong: much smaller steps, if they see as sharply
            closer = self.central_differences(cotangents, again, gradients, shrink=4096)
            found = compare(closer, gradients, tolerance, widest)
            sharp = closer.resolves(worst) and found.tolerance <= max(worst.tolerance, 0.1 * worst.error)
            if found.accepted and not found.zero and sharp and closer.left_out <= evidence.left_out:
                evidence = closer
        self.compared("central_difference", evidence, gradients, tolerance, widest, **counts)

    def complex_step(self) -> None:
        rng = stream(self.seed, "complex_step", self.key)
        cotangents, gradients = self.draw(rng)
        try:
            measured = self.differences[::2] if "differences" in vars(self) else None
            evidence = complex_steps(self.leaf, cotangents, self.kinks, self.settings, rng, gradients, measured)
        except NotApplicable as why:
            self.add("complex_step", NOT_APPLICABLE, str(why))
            return
        tolerance, widest = self.settings.complex_step, self.settings.widest_complex
        first = compare(evidence, gradients, tolerance, widest)
        if not first.accepted and not first.small_entry and first.error < widest:
            tolerance = self._rounding(evidence, gradients, cotangents, tolerance, first.output)
        self.compared("complex_step", evidence, gradients, tolerance, widest)

    def _rounding(self, evidence, gradients, cotangents, tolerance, output) -> float:
        """The tolerance widened to what rounding the outputs, and the last bit of the argument, do to the gradient."""
        rng, entries = stream(self.seed, "rounding", self.key), self.leaf.entries
        alone = self.operation.alone(cotangents, output)
        tolerance = max(tolerance, 4 * self.leaf.resolution(alone, gradients[output]))
        for _ in range(4):
            nearby = entries * (1 + EPS * rng.choice([-1.0, 1.0], entries.size))
            try:
                moved = self.leaf.gradients(cotangents, **{self.key: nearby})
            except Trouble:
                continue
            tolerance = max(tolerance, 10 * compare(evidence.as_if(moved), gradients, tolerance, tolerance).error)
        return min(tolerance, self.settings.widest_complex)

    def taylor_rate(self) -> None:
        rng = stream(self.seed, "taylor_rate", self.key)
        cotangents, gradients = self.draw(rng)
        ladder = taylor.measure(self.leaf, cotangents, self.kinks, self.settings, rng)
        counts = {"left_out": ladder.left_out, "examined": ladder.examined}
        least, widest = self.settings.rate, self.settings.widest_central
        if too_many := self.too_many_left_out(ladder):
            self.add("taylor_rate", FAILED, f"{too_many}their active set changes", tolerance=least, **counts)
            return
        found = taylor.judge(ladder, gradients, least, widest)
        zero = found.zero or self.declared_zero and found.accepted and not gradients.any()  # of a stationary point
        objection = found.reason if not found.accepted else "declared zero, but the gradient is not" if self.declared_zero else ""
        exact, analytic = self.passed("central_difference"), self.passed("complex_step")
        if objection and exact and exact.tolerance == self.settings.central and not self.declared_zero:
            if self.near or analytic and analytic.tolerance == self.settings.complex_step:
                why = "kinks lie within its steps" if self.near else "the forward varies too fast for its steps"
                self.add("taylor_rate", NOT_APPLICABLE, f"{why} ({objection})")
                return
        figure = None if np.isnan(found.rate) else found.rate

        def accepts(g):
            return taylor.judge(ladder, g, least, widest).accepted

        self.settle("taylor_rate", zero, objection, accepts, gradients, found.reason, figure, least, **counts)
        last = self.report.verdicts[-1]
        if self.operation.eps > EPS and exact and (last.vacuous or last.failed and not found.rate <= 1.5):
            hidden = replace(last, status=NOT_APPLICABLE, vacuous=False, reason=f"rounding hides it ({last.reason})")
            self.report.verdicts[-1] = hidden

    def adjoint(self) -> None:
        products, most = adjoint.measure(self.leaf, stream(self.seed, "adjoint", self.key)), self.settings.adjoint
        figure: float | None = adjoint.gap(products, products.images)
        objection = f"<P x, y> and <x, P^T y> differ by {figure:.1e} of the norms, allowed {most:.0e}" if figure > most else ""
        zero = not np.any(products.images) and not np.any(products.left)
        if products.nonlinear > max(1e-10, 1e3 * self.operation.eps):
            objection = f"the forward is not linear in {self.key} (off by {products.nonlinear:.1e})"
            figure, zero = None, False
        reason = f"gap {figure or 0:.1e}, allowed {most:.0e}"

        def accepts(images):
            return adjoint.gap(products, images) <= most

        self.settle("adjoint", zero, objection, accepts, products.images, reason, figure, most)

    # ---- why -------------------------------------------------------------------------------------------------------
    def passed(self, check: str) -> Verdict | None:
        """The verdict of a check on this argument, if it passed."""
        mine = self.report.verdicts[self.before :]
        return next((v for v in mine if v.check == check and v.status == PASSED), None)

    def explain(self) -> None:
        """Add a finding when any of the verdicts on this argument failed on its numbers."""
        mine = [v for v in self.report.verdicts[self.before :] if v.failed]
        if not mine or any(v.vacuous for v in mine):
            return
        state = {"contract.same_bits", "contract.stale_state", "contract.inputs_kept"} & set(self.report.killed_by)
        if state:
            text = f"what backward returns depends on more than it is given; mend {' and '.join(sorted(state))} first"
            self.report.findings.append(Finding(self.key, "state", text))
        elif not all("is zero here" in v.reason or "left out" in v.reason or "not linear in" in v.reason for v in mine):
            self.report.findings.append(self._cause(mine))

    def _cause(self, mine: list[Verdict]) -> Finding:
        """What central differences say about a gradient that any of the checks rejects."""
        key = self.key
        cotangents, gradients, evidence, _ = self.differences
        worst = compare(evidence, gradients, self.settings.central)
        if worst.zero:
            return Finding(key, "zero gradient", "the backward and central differences are both zero here")
        if worst.accepted and not any(v.check == "complex_step" for v in mine):
            text = (
                "the gradient agrees with central differences; only the rate of the Taylor remainder objects: a kink within "
                "reach of the larger steps (give active_set=...), or a point at which the forward varies too fast"
            )
            if any(v.check == "adjoint" for v in mine):
                text = (
                    "at the point itself the gradient agrees with central differences, but not at other points: does backward "
                    "treat negative, large or equal values differently, or is the forward not linear everywhere?"
                )
            return Finding(key, "kink" if self.near else "other", text)
        if worst.accepted and self.objections:
            worst = self.objections[-1]
        finding = diagnose(self.leaf, cotangents, gradients, evidence, worst, self.kinks, self.seed)
        exact = self.passed("complex_step")
        if exact and finding.cause != "kink":
            kinks = "" if self.kinks else "kinks within reach of the larger steps (give active_set=...), or "
            text = f"the complex step agrees to {exact.figure:.0e}, the differences do not: {kinks}"
            text += "a forward that loses digits here"
            finding = replace(finding, cause="rounding" if self.kinks else "kink", explanation=text)
        return finding
