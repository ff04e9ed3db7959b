"""What a check found, as data, and as something a person can read.

A :class:`Verdict` is one check of one argument. A :class:`Report` is all verdicts on one operation; it prints as text,
as Markdown and as an HTML table, turns into a dictionary or JSON, and raises :class:`GradientError` for pytest.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..shown import for_markdown

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable"

#: The checks whose figures have a column of their own, with the heading of that column.
COLUMNS = {
    "central_difference": "central diff.",
    "complex_step": "complex step",
    "taylor_rate": "Taylor rate",
    "adjoint": "adjoint gap",
}


class GradientError(AssertionError):
    """A gradient that failed its check; the message is the report. ``.reports`` holds the reports as data."""

    def __init__(self, message: str, reports: Iterable[Report] = ()) -> None:
        self.reports = tuple(reports)
        super().__init__(message)


@dataclass(frozen=True)
class Verdict:
    """One check of one argument (or of the whole operation, when ``argument`` is None).

    Attributes
    ----------
    check : str
        ``'central_difference'``, ``'complex_step'``, ``'taylor_rate'``, ``'adjoint'``, ``'kinks'``, ``'convention'``,
        or ``'contract.<item>'``.
    argument : str or None
        The argument whose gradient was judged.
    status : str
        ``'passed'``, ``'failed'`` or ``'not applicable'`` (never counted as passed; ``reason`` says why).
    figure : float or None
        The error relative to the gradient's norm, the Taylor rate, or the adjoint gap.
    tolerance : float or None
        What the figure was held to: at most this, for a Taylor rate more than this.
    reason : str
        One sentence in words.
    left_out, examined : int
        Entries left out because their active set changed, of how many.
    vacuous : bool
        The check would have accepted 0, -g or 1.01 g at its own tolerance; always a failure.
    """

    check: str
    argument: str | None
    status: str
    figure: float | None = None
    tolerance: float | None = None
    reason: str = ""
    left_out: int = 0
    examined: int = 0
    vacuous: bool = False

    @property
    def failed(self) -> bool:
        return self.status == FAILED


@dataclass(frozen=True)
class Finding:
    """What is wrong with one gradient: the place, both values, the step, and the likely cause.

    ``index`` is the position in the flattened argument (the stored entries of a sparse one), ``entry`` the same as a
    person writes it. ``ours`` is what the backward says, ``numerical`` what a difference of the forward says.
    """

    argument: str
    cause: str
    explanation: str
    entry: str | None = None
    index: int | None = None
    output: int | None = None
    ours: float | None = None
    numerical: float | None = None
    step: float | None = None
    factor: float | None = None


def show_figure(verdict: Verdict) -> str:
    """A figure as it stands in the table."""
    if verdict.vacuous:
        return "vacuous"
    if verdict.figure is None:
        return "n/a" if verdict.status == NOT_APPLICABLE else "ok" if not verdict.failed else "FAILED"
    if verdict.check == "taylor_rate":
        return "linear" if math.isinf(verdict.figure) else f"{verdict.figure:.2f}"
    return "0" if verdict.figure == 0 else f"{verdict.figure:.1e}"


def _plain(record: Verdict | Finding) -> dict[str, Any]:
    """A record as a dictionary; numbers that JSON does not have become text."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(record).items()}


@dataclass
class Report:
    """All verdicts on one operation.

    Attributes
    ----------
    operation : str
    verdicts : list of Verdict
    findings : list of Finding
        One for each argument whose gradient is wrong.
    notes : list of str
        Remarks that are not failures.
    seed : int
        The seed with which the same run can be had again.
    """

    operation: str
    verdicts: list[Verdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seed: int = 0

    # ---- questions -------------------------------------------------------------------------------------------------
    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return any(v.status == PASSED for v in self.verdicts) and not self.failures

    @property
    def failures(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.failed]

    @property
    def killed_by(self) -> list[str]:
        """The names of the checks that failed, each once, in the order in which they ran."""
        return list(dict.fromkeys(v.check for v in self.failures))

    @property
    def arguments(self) -> list[str]:
        return list(dict.fromkeys(v.argument for v in self.verdicts if v.argument is not None and v.check in COLUMNS))

    def verdict(self, check: str, argument: str | None = None) -> Verdict:
        """The verdict of one check on one argument; KeyError when that check did not run."""
        for v in self.verdicts:
            if v.check == check and (argument is None or v.argument == argument):
                return v
        raise KeyError(f"no verdict of {check!r}" + (f" on {argument!r}" if argument else ""))

    # ---- as data ---------------------------------------------------------------------------------------------------
    def to_dict(self) -> dict:
        """Everything in plain types. An infinite Taylor rate becomes the string 'linear'."""
        verdicts = [_plain(v) for v in self.verdicts]
        for v in verdicts:
            if v["check"] == "taylor_rate" and v["figure"] == "inf":
                v["figure"] = "linear"
        return {
            "operation": self.operation,
            "passed": self.passed,
            "seed": self.seed,
            "killed_by": self.killed_by,
            "verdicts": verdicts,
            "findings": [_plain(f) for f in self.findings],
            "notes": list(self.notes),
        }

    def to_json(self, **options: Any) -> str:
        """:meth:`to_dict` as JSON (no NaN, no Infinity)."""
        return json.dumps(self.to_dict(), allow_nan=False, **options)

    # ---- for a person ----------------------------------------------------------------------------------------------
    def rows(self) -> list[list[str]]:
        """The table's rows: operation, argument, four figures, entries left out, verdict."""
        rows = []
        for argument in self.arguments:
            mine = [v for v in self.verdicts if v.argument == argument]
            figures = [next((show_figure(v) for v in mine if v.check == c), "-") for c in COLUMNS]
            left_out = max((v.left_out for v in mine), default=0)
            examined = max((v.examined for v in mine if v.left_out == left_out), default=0)
            verdict = "FAILED" if any(v.failed for v in mine) else "passed"
            rows.append([self.operation, argument, *figures, f"{left_out} of {examined}", verdict])
        rest = [v for v in self.verdicts if v.check not in COLUMNS and v.argument not in self.arguments]
        if rest or not rows:
            kinds = sorted({v.check.partition(".")[0] for v in rest})
            what = " and ".join(kinds) or "nothing"
            bad = [v for v in rest if v.failed]
            good = sum(v.status == PASSED for v in rest)
            verdict = "FAILED" if bad else "passed" if good else "nothing checked"
            rows.append([self.operation, f"({what}: {good} of {good + len(bad)})", "", "", "", "", "", verdict])
        return rows

    def explain(self) -> list[str]:
        """The failures in words, one line each (continuations indented)."""
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.argument}: {finding.explanation}")
            if finding.entry is not None:
                through = "" if finding.output is None else f" (through output {finding.output})"
                step = "" if finding.step is None else f", step {finding.step:.1e}"
                lines.append(
                    f"    at {finding.entry}{through}: the backward says {finding.ours:.8g}, "
                    f"the forward says {finding.numerical:.8g}{step}"
                )
            lines += [
                f"    rejected by {v.check.replace('_', ' ')}: {v.reason}"
                for v in self.failures
                if v.argument == finding.argument
            ]
        explained = {finding.argument for finding in self.findings}
        same: dict[tuple, list[str]] = {}
        for v in self.failures:
            if v.argument not in explained:
                same.setdefault((v.argument, v.reason), []).append(v.check.replace("_", " "))
        for (argument, reason), checks in same.items():
            subject = "" if argument is None else f" of {argument}"
            lines.append(f"{', '.join(checks)}{subject} failed: {reason}")
        return lines

    def __str__(self) -> str:
        return tabulate([self])

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return tabulate([self], style="markdown")

    def _repr_html_(self) -> str:
        return tabulate([self], style="html")

    def raise_if_failed(self) -> Report:
        """Raise :class:`GradientError` with the readable report when anything failed; otherwise return the report."""
        if not self.passed:
            raise GradientError("\n" + str(self), [self])
        return self


HEADINGS = ["operation", "argument", *COLUMNS.values(), "left out", "verdict"]


def tabulate(reports: Iterable[Report], *, style: str = "text") -> str:
    """Several reports as one table, with the failures explained underneath.

    Parameters
    ----------
    reports : iterable of Report
    style : {'text', 'markdown', 'html'}

    Returns
    -------
    str
    """
    styles = {"text": _text, "markdown": _markdown, "html": _html}
    if style not in styles:
        raise ValueError(f"style is 'text', 'markdown' or 'html', not {style!r}")
    reports = list(reports)
    rows = [row for report in reports for row in report.rows()]
    details = [(report.operation, _remarks(report)) for report in reports]
    return styles[style](rows, [(operation, lines) for operation, lines in details if lines], reports)


def _remarks(report: Report) -> list[str]:
    """The failures in words, and the notes."""
    not_applicable = [
        f"{v.check.replace('_', ' ')}{'' if v.argument is None else ' of ' + v.argument} not applicable: {v.reason}"
        for v in report.verdicts
        if v.status == NOT_APPLICABLE
    ]
    return [*report.explain(), *(f"note: {text}" for text in report.notes + not_applicable)]


def _text(rows, details, reports) -> str:
    widths = [max(len(row[k]) for row in [HEADINGS, *rows]) for k in range(len(HEADINGS))]

    def line(row):
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    out = [line(HEADINGS), line(["-" * width for width in widths]), *map(line, rows)]
    for operation, lines in details:
        out += ["", f"{operation}:", *("  " + text for text in lines)]
    seeds = sorted({r.seed for r in reports if not r.passed})
    if seeds:
        out += ["", f"(the same run again: seed={', '.join(map(str, seeds))})"]
    return "\n".join(out)


def _markdown(rows, details, _) -> str:
    def cells(row):
        return "| " + " | ".join(row) + " |"

    out = [cells(HEADINGS), "|" + "---|" * len(HEADINGS)]
    for operation, argument, *figures, verdict in rows:
        names = for_markdown(operation), for_markdown(argument)
        out.append(cells([*names, *figures, f"**{verdict}**" if verdict == "FAILED" else verdict]))
    for operation, lines in details:
        out += ["", f"**{for_markdown(operation)}**", "", "```text", *lines, "```"]
    return "\n".join(out)


def _html(rows, details, _) -> str:
    def cells(row, tag):
        style = ' style="background:#fdd;color:#000"' if tag == "td" and row[-1] == "FAILED" else ""
        return f"<tr{style}>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

    out = ["<table>", "<thead>", cells(HEADINGS, "th"), "</thead>", "<tbody>", *(cells(row, "td") for row in rows)]
    out += ["</tbody>", "</table>"]
    for operation, lines in details:
        out.append(f"<p><b>{html.escape(operation)}</b></p><pre>{html.escape(chr(10).join(lines))}</pre>")
    return "\n".join(out)
