"""Graders are tested as code is: wrong answers, made by machine from right ones, are rejected; no diagnosis is untrue.

Right answers are the solutions and those of written_differently.py. `equivalent_answers.toml` lists the changes that make no
wrong answer, each with the reason. Each attempt is marked in a process of its own, since some end it. Exercises that ask for a
test are left out: a test that is changed is in most cases another test, and as good a one.
"""

import ast
import functools
import importlib
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import written_differently

from c2f_np.course import all_exercises, answers
from c2f_np.course.exercise import Exercise
from c2f_np.course.watched import Watched
from c2f_np.verification.candidates import candidates
from c2f_np.verification.changes import changed_function, definitions
from c2f_np.verification.mutation import Equivalents, in_children, sample

TASKS = {name: task for name, task in all_exercises().items() if type(task)._wrong is Exercise._wrong}
LISTED = Equivalents.read(Path(__file__).with_name("equivalent_answers.toml"))
#: Points at which no attempt is tried.
OTHER_SEEDS = (3, 4, 5, 7)
#: Seconds after which a function counts as one that does not end.
LONGEST = 5


class DoesNotEnd(BaseException):
    """Is no Exception, which an exercise would take for an answer's."""


@contextmanager
def limited():
    def stop(*_):
        raise DoesNotEnd

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def right_answers(task):
    """Functions that stand in a module, with their modules."""
    for function in (task.solution, *written_differently.WRITTEN_DIFFERENTLY[task.name]):
        module = getattr(function, "__module__", "")
        if module == "written_differently" or module.startswith("c2f_np.course."):
            if function.__name__ in definitions(module):
                yield module, function.__name__


def parts_of(module, name):
    """A function and the others of its module that it calls, but for the answers to other exercises."""
    found, waiting, others = [], [name], set(answers()) - {name}
    here = definitions(module)
    while waiting:
        each = waiting.pop()
        if each in found or not isinstance(here.get(each), ast.FunctionDef):
            continue
        found.append(each)
        called = {node.id for node in ast.walk(here[each]) if isinstance(node, ast.Name)}
        waiting += sorted(called & set(here) - others)
    return found


@functools.cache
def mutants(name):
    """(change, the function to be changed in the end) of an exercise's right answers."""
    found = []
    for module, function in right_answers(TASKS[name]):
        importlib.import_module(module)
        found += [(change, function) for change in candidates(module, parts_of(module, function))]
    return found


def same_everywhere(task, attempt, seeds):
    """Whether an attempt gives the right numbers at the points of these seeds."""
    for seed in seeds:
        arguments = task.points(seed)
        try:
            found = task._read(attempt(*task._inputs(arguments, seed).values()), arguments)
            right = task.solution(*task._inputs(arguments, seed).values())
        except Exception:
            return False
        if found is None or not task._same(found, right):
            return False
    return True


def untrue(task, attempt):
    """The message of a listed mistake that an attempt gets although elsewhere its numbers are not the mistake's, or ""."""
    message = task._explanation(attempt, (0, 1, 2))
    alike = [mistake for mistake in task.mistakes if mistake.message == message]
    return message if alike and not any(_same_as(task, mistake.function, attempt) for mistake in alike) else ""


def _same_as(task, mistake, attempt):
    for seed in OTHER_SEEDS:
        arguments = task.points(seed)
        try:
            found = task._read(attempt(*task._inputs(arguments, seed).values()), arguments)
        except Exception:
            return False
        if not task._gives(mistake, found, arguments, seed):
            return False
    return True


def complaint(name, whole, mutant):
    """What is wrong with how a mutant is marked, or "". Unless the whole check is asked for, numbers that differ decide."""
    change, function = mutant
    task, attempt = TASKS[name], changed_function(change, function)
    try:
        with limited():
            same = whole or same_everywhere(task, attempt, (0, 1, 2))
            if same and not LISTED.reason(change) and task.mark(attempt):
                return "is accepted"
            message = untrue(task, attempt)
            return f"is told what is not so: {message}" if message else ""
    except DoesNotEnd:
        return ""


def complaints(name, chosen, whole=False):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watched, "_look", lambda *_: None)  # changed solutions still stand in the package
        found = in_children(functools.partial(complaint, name, whole), chosen, jobs=2)
        return [f"{change.place}: {change.text} -- {text}" for (change, _), text, _ in found if text]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_wrong_answer_is_rejected_and_none_hears_what_is_not_so(name):
    assert complaints(name, mutants(name)) == []


@pytest.mark.parametrize("name", TASKS)
def test_some_wrong_answers_are_rejected_by_the_whole_check(name):
    functions = {id(change): function for change, function in mutants(name)}
    chosen = sample([change for change, _ in mutants(name)], 3, seed=len(name))
    assert complaints(name, [(change, functions[id(change)]) for change in chosen], whole=True) == []


def test_what_is_listed_still_names_a_change():
    known = {(change.place, change.text) for name in TASKS for change, _ in mutants(name)}
    assert set(LISTED.entries) <= known
    assert all(len(reason) > 20 for reason in LISTED.entries.values())
