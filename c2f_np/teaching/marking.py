"""Marking what a class handed in: each notebook in a process of its own, each exercise judged in this one."""

from __future__ import annotations

import ast
import inspect
import os
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

from ..course import all_exercises
from ..course.exercise import Exercise
from ..errors import DataError
from ..processes import WorkerDied, Workers
from .notebook import Asked, code_cells, exercises_in, functions_named, read_notebook
from .session import Ended, Limits, Session, package_reason, temporary_folder
from .submissions import Submission, bring, find_submissions, notebooks_of

#: Every kind of point that an exercise has comes within so many seeds.
SEEDS = 6


@dataclass(frozen=True)
class Grade:
    """What came of one exercise: right or not, and why."""

    notebook: str
    exercise: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Marks:
    """What came of one submission; remarks are for the lecturer."""

    student: str
    grades: tuple[Grade, ...]
    remarks: tuple[str, ...]
    troubles: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        return sum(grade.passed for grade in self.grades)


@dataclass(frozen=True)
class Marking:
    """How a submission is marked: the exercises of each notebook and the code that was given, seeds, limits of a process."""

    asked: dict[str, list[Asked]]
    given: dict[str, set[str]]
    seed: int
    limits: Limits

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + SEEDS)


def read_release(folder: Path) -> tuple[dict[str, list[Asked]], dict[str, set[str]]]:
    """The exercises in each notebook of a release, and the sources of its code cells."""
    contents = {path.stem: read_notebook(path) for path in sorted(folder.glob("*.ipynb"))}
    asked = {name: exercises_in(content) for name, content in contents.items()}
    asked = {name: exercises for name, exercises in asked.items() if exercises}
    if not asked:
        raise DataError("no notebook with an exercise; give the folder that `course release` wrote", path=folder)
    known = all_exercises()
    for name, exercises in asked.items():
        for each in exercises:
            if each.exercise not in known:
                raise DataError(f"there is no exercise {each.exercise!r} in this version", path=folder / f"{name}.ipynb")
    return asked, {name: {source for _, source in code_cells(contents[name])} for name in asked}


def mark_folder(folder: Path, marking: Marking, jobs: int | None = None):
    """Marks of every submission in a folder, as they come, in order."""
    submissions = find_submissions(folder)
    with Workers(min(jobs or os.cpu_count() or 1, len(submissions)), {}) as workers:
        for submission, future in [(each, workers.submit(mark_submission, each, marking)) for each in submissions]:
            try:
                yield future.result()
            except (WorkerDied, OSError, MemoryError) as error:
                yield _all_wrong(submission.student, marking, f"It could not be marked: {error}")


def _all_wrong(student: str, marking: Marking, reason: str) -> Marks:
    grades = [Grade(name, each.exercise, False, reason) for name, asked in marking.asked.items() for each in asked]
    return Marks(student, tuple(grades), (reason,))


def mark_submission(submission: Submission, marking: Marking) -> Marks:
    """Marks of one submission."""
    grades: list[Grade] = []
    troubles: list[str] = []
    with temporary_folder() as name:
        folder = Path(name)
        remarks = bring(submission, folder)
        wanted = {notebook: {each.exercise for each in asked} for notebook, asked in marking.asked.items()}
        found, more = notebooks_of(folder, wanted)
        remarks += more
        for notebook, asked in marking.asked.items():
            if notebook not in found:
                why = " ".join(["It was not handed in.", *(f"{each}." for each in remarks if " could not be " in each)])
                grades += [Grade(notebook, each.exercise, False, why) for each in asked]
                continue
            path, content = found[notebook]
            cells, functions = code_cells(content), {each.exercise: each.function for each in asked}
            with Session(path.parent, cells, functions, marking.limits) as session:
                for each in asked:
                    failed = [grade.exercise for grade in grades if not grade.passed]
                    passed, reason = _judged(each, session, marking.seeds, failed)
                    grades.append(Grade(notebook, each.exercise, passed, reason))
                    if passed and _is_published(content, each):
                        remarks.append(f"{each.exercise}: the published answer word for word, but for names")
            # What fails because the package is not there is nobody's fault.
            own = {number for number, source in cells if source not in marking.given[notebook]}
            troubles += [f"{notebook}, cell {number}: {error}" for number, error in sorted(session.troubles) if number in own]
    return Marks(submission.student, tuple(grades), tuple(remarks), tuple(troubles))


def _judged(asked: Asked, session: Session, seeds, failed: list[str]) -> tuple[bool, str]:
    """Whether the answer to an exercise is right, and why. What `failed` before does not count against it."""
    try:
        session.begin()
        kind = session.kinds[asked.exercise]
        if kind == "missing":
            return False, f"There is no function {asked.function}.{_trouble_of(asked, session)}"
        if kind.startswith("package "):
            return False, package_reason(kind.removeprefix("package "))
        if kind != "function":
            return False, f"A function is asked for; {asked.function} is of type {kind}."
        marked = all_exercises()[asked.exercise].mark(session.function(asked.exercise, failed), seeds)
    except Ended as ended:
        return False, str(ended)
    return marked.passed, marked.message.removeprefix(f"{asked.exercise}: ")


def _trouble_of(asked: Asked, session: Session) -> str:
    """Why it may be missing: the cell that failed nearest to its check."""
    others = [trouble for trouble in session.troubles if f"name {asked.function!r} is not defined" not in trouble[1]]
    # A name may be missing only because a demonstration above, which used the package, was passed over.
    others = [trouble for trouble in others if not trouble[1].startswith("NameError")] or others
    cell, error = min(others, key=lambda trouble: abs(trouble[0] - asked.cell), default=(0, ""))
    return f" Cell {cell}: {error}" if cell else ""


def _is_published(content: dict, asked: Asked) -> bool:
    """Whether an answer of some length is the solution but for names, comments and layout."""
    task: Exercise = all_exercises()[asked.exercise]
    solution = ast.parse(textwrap.dedent(inspect.getsource(task.solution))).body[0]
    if not isinstance(solution, ast.FunctionDef) or sum(isinstance(each, ast.stmt) for each in ast.walk(solution)) < 5:
        return False  # so short that two people write the same
    return any(_without_names(each) == _without_names(solution) for each in functions_named(content, asked.function))


def _without_names(function: ast.FunctionDef) -> str:
    """A function's code with its own names numbered in the order in which they come."""
    numbers: dict[str, str] = {}
    function = ast.parse(ast.unparse(function)).body[0]
    own = {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    own |= {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    for each in ast.walk(function):
        if isinstance(each, ast.arg):
            each.arg, each.annotation = numbers.setdefault(each.arg, f"v{len(numbers)}"), None
        elif isinstance(each, ast.Name) and each.id in own:
            each.id = numbers.setdefault(each.id, f"v{len(numbers)}")
    function.name, function.returns = "f", None
    return ast.dump(function)


def default_closed(*folders: Path) -> tuple[str, ...]:
    """What a student's process must not read: the lecturer's folders, home, and what other processes work on."""
    return tuple(str(Path(each).resolve()) for each in (*folders, Path.home(), tempfile.gettempdir()))
