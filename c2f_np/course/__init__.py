"""Exercises of the course in `notebooks/`, and what marks them.

    from c2f_np.course import exercise
    task = exercise("soft_threshold_backward")     # shows what is to be written
    task.check(my_function)                        # says what is wrong, or that it is right
    task.hint()                                    # one more hint each time
    task.answer()                                  # the source of an answer

One module a subject: each holds a tuple ``EXERCISES``.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

from .exercise import Exercise, Marked, WithoutAnswer

__all__ = ["Exercise", "Marked", "all_exercises", "exercise"]


def all_exercises() -> dict[str, Exercise]:
    """Every exercise by its name."""
    found: dict[str, Exercise] = {}
    for module in pkgutil.iter_modules(__path__):
        for task in getattr(importlib.import_module(f"{__name__}.{module.name}"), "EXERCISES", ()):
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
