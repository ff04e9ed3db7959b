"""``python -m c2f_np gradcheck``: every operation and both stages on the reader's machine.

One line for each operation and argument with the worst figure of all its cases; failures are printed in full.
"""

from __future__ import annotations

import json as json_format
import math
import sys
import time

from ..gradcheck import Report, tabulate
from ..gradcheck.report import COLUMNS, NOT_APPLICABLE
from .case import Case
from .catalogue import cases
from .threads import one_kernel_thread


def check(op: str | None = None, engine: str | None = None, seed: int = 0) -> list[tuple[Case, Report]]:
    """Run the cases; see :func:`~c2f_np.verification.catalogue.cases` for the arguments."""
    with one_kernel_thread():
        return [(case, case.run(seed)) for case in cases(op, engine, seed)]


def run(
    op: str | None = None, engine: str | None = None, seed: int = 0, json: bool = False, mutants: bool = False,
    mutate: int | None = None, within: str | None = None, jobs: int | None = None,
) -> int:  # fmt: skip
    """Check, print the table, and return the exit code.

    Parameters
    ----------
    op : str, optional
        One operation or stage by name; all of them by default.
    engine : {"numpy", "numba"}, optional
        Both by default.
    seed : int
        Seed of all random problems, cotangents and directions.
    json : bool
        Print everything as JSON instead of the table.
    mutants : bool
        Put each mistake of the catalogue into the package and report which check kills it.
    mutate : int, optional
        Put so many changes made by machine into the package and report which survive.
    within : str, optional
        With `mutate`: only in the modules, functions and constants whose place begins with this.
    jobs : int, optional
        Processes to work with; by default as many as there are cores.

    Returns
    -------
    int
        0 if everything passed (or every mutant was killed), 1 otherwise.

    Raises
    ------
    SettingsError
        If the operation or engine is unknown.
    """
    if mutate is not None:
        from . import mutation

        if not mutation.is_interpreted():
            given = {"--mutate": mutate, "--op": op, "--engine": engine, "--seed": seed, "--within": within, "--jobs": jobs}
            arguments = [str(part) for name, value in given.items() if value is not None for part in (name, value)]
            return mutation.interpreted(arguments + ["--json"] * json)
        return mutation.run_mutation(mutate, op, engine, seed, json, within, jobs)
    if mutants:
        from .mutants import run_mutants

        return run_mutants(op, engine, seed, json)
    started = time.perf_counter()
    results = check(op, engine, seed)
    seconds = time.perf_counter() - started
    passed = bool(results) and all(report.passed for _, report in results)
    if json:
        data = {"passed": passed, "seconds": seconds, "seed": seed}
        data["cases"] = [
            {"operation": case.operation, "variation": case.variation, "engine": case.engine, "report": report.to_dict()}
            for case, report in results
        ]
        print(json_format.dumps(data, allow_nan=False))
    else:
        print(_summary(results))
        failed = [report for _, report in results if not report.passed]
        if failed:
            print("\n" + tabulate(failed))
        verdicts = sum(len(report.verdicts) for _, report in results)
        bad = sum(len(report.failures) for report in failed)
        print(f"\n{len(results)} cases, {verdicts} verdicts, {bad} failed; {seconds:.0f} s, seed {seed}")
        if not results:
            print(f"{op} has no version for engine {engine}: nothing was checked", file=sys.stderr)
    return 0 if passed else 1


HEADINGS = ("operation", "engine", "argument", "cases", "central diff.", "complex step", "Taylor rate", "adjoint gap",
            "float32/bound", "verdict")  # fmt: skip


def _summary(results) -> str:
    """A table with the worst figures by operation, engine and argument."""
    groups: dict[tuple, list] = {}
    for case, report in results:
        key = (case.operation, case.engine)
        for argument in report.arguments:
            own = [v for v in report.verdicts if v.argument == argument]
            groups.setdefault((*key, argument), []).append(own)
        rest = [v for v in report.verdicts if v.argument not in report.arguments]
        if rest:
            groups.setdefault((*key, "(the rest)"), []).append(rest)
    rows = [HEADINGS]
    for (operation, engine, argument), parts in groups.items():
        verdicts = [v for part in parts for v in part]
        failed = any(v.failed for v in verdicts)
        figures = [_worst(verdicts, check) for check in (*COLUMNS, "float32")]
        rows.append((operation, engine, argument, str(len(parts)), *figures, "FAILED" if failed else "passed"))
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _worst(verdicts, check: str) -> str:
    mine = [v for v in verdicts if v.check == check and v.status != NOT_APPLICABLE and v.figure is not None]
    figures = [v.figure for v in mine if "as declared" not in v.reason]
    if not figures:
        return "zero" if mine else "-"
    if check == "taylor_rate":
        return "linear" if math.isinf(min(figures)) else f"{min(figures):.2f}"
    return f"{max(figures):.2f}" if check == "float32" else f"{max(figures):.1e}"
