"""What marking writes: the table of grades, a page for each student, and a record of how it was done."""

from __future__ import annotations

import csv
import html
import io
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .._version import __version__
from ..files import write_json, write_text_atomically
from ..shown import for_csv, for_terminal
from .marking import Marking, Marks

# No script, nothing loaded: what a student wrote is only ever shown.
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{student}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }}
section {{ border-left: .3rem solid #c33; padding: 0 1rem; margin: 1rem 0; }} section.right {{ border-color: #2a7; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }} h3 {{ margin: 0; }}
</style></head><body><h1>{student}</h1><p>{points} of {most} exercises are right.</p>
{grades}
{troubles}</body></html>
"""


def write_marks(out: Path, marks: Sequence[Marks], marking: Marking) -> None:
    """Write `grades.csv`, `reports/` and `marking.json` into a folder."""
    (out / "reports").mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for each in marks:
        write_text_atomically(out / "reports" / f"{_file_name(each.student, taken)}.html", report(each))
    write_text_atomically(out / "grades.csv", "\ufeff" + table(marks))  # the mark by which Excel knows UTF-8
    record = {
        "c2f_np": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "seed": marking.seed,
        "seeds": list(marking.seeds),
        "seconds": marking.limits.seconds,
        "memory": marking.limits.memory,
        "exercises": {name: [each.exercise for each in asked] for name, asked in marking.asked.items()},
        "submissions": [asdict(each) for each in marks],
    }
    write_json(out / "marking.json", record)


def table(marks: Sequence[Marks]) -> str:
    """A line for each student: points, a column of 1 or 0 for each exercise, remarks."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [grade.exercise for grade in marks[0].grades]
    writer.writerow(["student", "points", "of", *names, "remarks"])
    for each in marks:
        grades = [int(grade.passed) for grade in each.grades]
        writer.writerow([for_csv(each.student), each.points, len(grades), *grades, for_csv("; ".join(each.remarks))])
    return stream.getvalue()


def report(marks: Marks) -> str:
    """A student's page: every exercise with its reason."""
    grades, notebook = [], None
    for grade in marks.grades:
        if grade.notebook != notebook:
            notebook = grade.notebook
            grades.append(f"<h2>{_shown(notebook)}</h2>")
        mark = "right" if grade.passed else "not right"
        grades.append(
            f'<section class="{"right" if grade.passed else "wrong"}"><h3>{_shown(grade.exercise)}: {mark}</h3>'
            f"<pre>{_shown(grade.reason)}</pre></section>"
        )
    troubles = "".join(f"<li><pre>{_shown(each)}</pre></li>" for each in marks.troubles)
    heard = f"<h2>Cells that ended in an error</h2><ul>{troubles}</ul>" if troubles else ""
    return _PAGE.format(
        student=_shown(marks.student), points=marks.points, most=len(marks.grades), grades="\n".join(grades), troubles=heard
    )


def _shown(text: str) -> str:
    """Text of several lines in HTML."""
    return html.escape("\n".join(map(for_terminal, text.split("\n"))))


def _file_name(student: str, taken: set[str]) -> str:
    """A name that any system takes, and that no other student has, whatever the case of letters."""
    name = "".join(char if char.isalnum() or char in " -_" else "_" for char in student)[:60].strip() or "_"
    unique, number = name, 2
    while unique.casefold() in taken:
        unique, number = f"{name} {number}", number + 1
    taken.add(unique.casefold())
    return unique
