"""Exercises of the course in `notebooks/`, and what marks them.

    from c2f_np.course import exercise
    task = exercise("soft_threshold_backward")     # shows what is to be written
    task.check(my_function)                        # says what is wrong, or that it is right
    task.hint()                                    # one more hint each time
    task.answer()                                  # the source of an answer

What a reader writes is kept in a file of their own: ``task.check(my_function).keep()``, ``my_model()``.
One module a subject: each holds a tuple ``EXERCISES``, and a tuple ``GIVEN`` of the functions that its notebook gives.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from .exercise import Exercise, Marked, WithoutAnswer
from .my_model import MyModel

__all__ = ["Exercise", "Marked", "MyModel", "all_exercises", "answers", "exercise", "my_model"]


@functools.cache
def _subjects() -> tuple[ModuleType, ...]:
    return tuple(importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))


def all_exercises() -> dict[str, Exercise]:
    """Every exercise by its name."""
    found: dict[str, Exercise] = {}
    for module in _subjects():
        for task in getattr(module, "EXERCISES", ()):
            if task.name in found:
                raise ValueError(f"two exercises are called {task.name}")
            found[task.name] = task
    return found


def exercise(name: str, *, with_answer: bool = True) -> Exercise | WithoutAnswer:
    """The exercise of that name, with no hint given yet; what a lecturer hands out asks for it without the answer.

    Raises
    ------
    KeyError
        If there is none; the message lists all.
    """
    found = all_exercises()
    if name not in found:
        raise KeyError(f"there is no exercise {name!r}; there are {', '.join(sorted(found))}")
    task = dataclasses.replace(found[name], _hints_given=0)
    return task if with_answer else WithoutAnswer(task)


def answers() -> dict[str, Callable]:
    """By its name, every function that notebooks give or ask for."""
    given = {function.__name__: function for module in _subjects() for function in getattr(module, "GIVEN", ())}
    return given | {name: task.solution for name, task in all_exercises().items()}


def my_model(path: str | Path = "my_model.py", *, or_answers: bool = False) -> MyModel:
    """The reader's own functions.

    Parameters
    ----------
    path : str or Path
        The file they are kept in; it need not exist yet.
    or_answers : bool
        Whether the course's answer stands in for a function that the file lacks.

    Returns
    -------
    MyModel
        ``my.name`` is the function ``name``; ``my.keep(function)`` writes one into the file.
    """
    return MyModel(Path(path), answers() if or_answers else None)
