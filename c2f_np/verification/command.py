"""``python -m c2f_np gradcheck``: every operation and both stages on the reader's machine.

One line for each operation and argument with the worst figure of all its cases; failures are printed in full.
"""

from __future__ import annotations

import json as json_format
import math
import sys
import time
from collections.abc import Iterator
from functools import cache

from tqdm import tqdm

from ..engine import AVAILABLE_ENGINES, ENGINES, LEFT_OUT
from ..errors import SettingsError
from ..gradcheck import Report, tabulate
from ..gradcheck.report import COLUMNS, NOT_APPLICABLE
from ..processes import Workers
from ..threads import available_cores, one_blas_thread
from .case import Case
from .catalogue import CHECKED, cases
from .interpreted import environment_of_workers, is_interpreted, run_interpreted
from .threads import one_kernel_thread


def check(op: str | None = None, engine: str | None = None, seed: int = 0, jobs: int = 1) -> list[tuple[Case, Report]]:
    """Run the cases; see :func:`~c2f_np.verification.catalogue.cases` for the arguments.

    With one job the cases run in this process, otherwise in as many others; the reports are the same. Cases marked as interpreted
    run in processes that do not compile.
    """
    here = is_interpreted()
    listed = [(case, (*group, number)) for group in groups(op, engine, seed) for number, case in enumerate(cases(*group))]
    n_plain = max(jobs // 2, 1)  # few cases, and a process takes seconds to start
    with (
        Workers(jobs, environment_of_workers(compiled=True)) as compiled,
        Workers(n_plain, environment_of_workers(compiled=False)) as plain,
        tqdm(total=len(listed), unit="case", disable=None, file=sys.stderr, dynamic_ncols=True) as bar,
    ):
        elsewhere = {}
        for case, task in listed:
            if case.interpreted and not here or jobs > 1:
                elsewhere[task] = (plain if case.interpreted else compiled).submit(_run_task, *task)
                elsewhere[task].add_done_callback(lambda _: bar.update())
        results = []
        for case, task in listed:
            if task in elsewhere:
                results.append((case, elsewhere[task].result()))
            else:
                results.append((case, _report_of(case, seed)))
                bar.update()
    return results


def groups(op: str | None = None, engine: str | None = None, seed: int = 0) -> list[tuple[str, str, int]]:
    """The arguments of :func:`~c2f_np.verification.catalogue.cases` for one operation and engine after the other."""
    next(iter(cases(op, engine, seed)), None)  # raises if there is no such operation or engine
    engines = AVAILABLE_ENGINES if engine is None else (engine,)
    return [(o, e, seed) for o in (CHECKED if op is None else (op,)) for e in engines]


def _run_task(op: str, engine: str, seed: int, number: int) -> Report:
    """In a worker: the report of one case."""
    waiting, built = _cases_here(op, engine, seed)
    while len(built) <= number:
        built.append(next(waiting))
    return _report_of(built[number], seed)


@cache
def _cases_here(op: str, engine: str, seed: int) -> tuple[Iterator[Case], list[Case]]:
    """The cases of a group that are still to be built, and those that are."""
    return iter(cases(op, engine, seed)), []


def _report_of(case: Case, seed: int) -> Report:
    with one_kernel_thread(), one_blas_thread():
        return case.run(seed)


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
        Processes to work with; by default as many as there are cores, and this process alone for one operation.

    Returns
    -------
    int
        0 if everything passed (or every mutant was killed), 1 otherwise.

    Raises
    ------
    SettingsError
        If the operation or engine is unknown.
    """
    if (mutants or mutate is not None) and AVAILABLE_ENGINES != ENGINES:
        raise SettingsError("--mutate and --mutants need the package numba: kernels are mutated too")
    if (mutants or mutate is not None) and not is_interpreted():
        given = {"--mutate": mutate, "--op": op, "--engine": engine, "--seed": seed, "--within": within, "--jobs": jobs}
        arguments = [str(part) for name, value in given.items() if value is not None for part in (name, value)]
        return run_interpreted(arguments + ["--json"] * json + ["--mutants"] * mutants)
    if mutate is not None:
        from .mutation import run_mutation

        return run_mutation(mutate, op, engine, seed, json, within, jobs)
    if mutants:
        from .mutants import run_mutants

        return run_mutants(op, engine, seed, json, jobs)
    if engine is None and AVAILABLE_ENGINES != ENGINES:
        print(LEFT_OUT, file=sys.stderr)
    started = time.perf_counter()
    # One operation is done before other processes would have started.
    results = check(op, engine, seed, jobs or (available_cores() if op is None else 1))
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
