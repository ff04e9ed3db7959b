"""Wrong answers to the exercises, made by machine from right ones, and how the graders take them.

    python tests/course/mutants.py                 # all of them: minutes
    python tests/course/mutants.py top_items fork  # those of some exercises
    python tests/course/mutants.py --sample 100    # a hundred, drawn with a fixed seed

Each must be rejected, and must not be told what is not so. Right answers are the solutions and those of written_differently.py.
`equivalent_answers.toml` lists the changes that make no wrong answer, each with the reason. Attempts are marked in other
processes, since some end theirs. Exercises that ask for a test are left out: a test that is changed is in most cases another
test, and as good a one.
"""

import argparse
import ast
import functools
import importlib
import signal
import sys
import tomllib
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import written_differently

from c2f_np.course import all_exercises, answers
from c2f_np.course.exercise import Exercise
from c2f_np.course.watched import Watched
from c2f_np.verification.candidates import candidates
from c2f_np.verification.changes import Change, changed_function, definitions
from c2f_np.verification.mutation import in_children, sample

TASKS = {name: task for name, task in all_exercises().items() if type(task)._wrong is Exercise._wrong}
#: Points at which an attempt is tried, and others, which a diagnosis has to hold at.
SEEDS, OTHER_SEEDS = (0, 1, 2), (3, 4, 5, 7)
#: Seconds after which a function counts as one that does not end.
LONGEST = 5
#: To start a process takes longer than to mark an attempt.
IN_ONE_PROCESS = 25


@dataclass(frozen=True)
class Mutant:
    """A change of a function that a right answer consists of, and the exercise and the function that it makes an attempt of."""

    exercise: str
    function: str
    change: Change

    @property
    def name(self) -> str:
        return f"{self.exercise}: {self.change.place}: {self.change.text}"


def read_equivalents() -> dict[tuple[str, str, str], str]:
    """Reasons by place, change and exercise; the exercise is "" where the change makes no wrong answer to any."""
    text = Path(__file__).with_name("equivalent_answers.toml").read_text(encoding="utf-8")
    found = {}
    for entry in tomllib.loads(text)["equivalent"]:
        for change in [entry["change"]] if isinstance(entry["change"], str) else entry["change"]:
            found |= {(entry["place"], change, name): entry["reason"] for name in entry.get("exercises", [""])}
    return found


EQUIVALENTS = read_equivalents()


def is_equivalent(mutant: Mutant) -> bool:
    place, text = mutant.change.place, mutant.change.text
    return (place, text, "") in EQUIVALENTS or (place, text, mutant.exercise) in EQUIVALENTS


# ---- which -----------------------------------------------------------------------------------------------------------
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
def mutants(name) -> list[Mutant]:
    """Those of an exercise's right answers."""
    found = []
    for module, function in right_answers(TASKS[name]):
        importlib.import_module(module)
        found += [Mutant(name, function, change) for change in candidates(module, parts_of(module, function))]
    return found


def changes_of(place: str) -> list[Change]:
    """All changes of one function, by the name of its place."""
    module, _, function = place.rpartition(".")
    return candidates(module if module == "written_differently" else f"c2f_np.{module}", [function])


def drawn(number: int, seed: int = 0) -> list[Mutant]:
    """Some of all mutants, as evenly as possible over kinds of changes and exercises; two of each if these are too many."""
    rng = np.random.default_rng(seed)
    shuffled = []
    for name in rng.permutation(list(TASKS))[: number // 2].tolist():
        of_change = {id(mutant.change): mutant for mutant in mutants(name)}
        shuffled.append([of_change[id(change)] for change in sample([m.change for m in mutants(name)], 1 << 30, seed)])
    rounds = [[some[k] for some in shuffled if k < len(some)] for k in range(max(map(len, shuffled)))]
    return [together[k] for together in rounds for k in rng.permutation(len(together))][:number]


# ---- how they are taken ----------------------------------------------------------------------------------------------
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
    message = task._explanation(attempt, SEEDS)
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


def complaint(whole: bool, mutant: Mutant) -> str:
    """What is wrong with how a mutant is marked, or "". Unless the whole check is asked for, numbers that differ decide."""
    task, attempt = TASKS[mutant.exercise], changed_function(mutant.change, mutant.function)
    try:
        with limited():
            same = same_everywhere(task, attempt, SEEDS)
            if (same or whole) and not is_equivalent(mutant) and task.mark(attempt):
                return "is accepted"
            message = "" if same else untrue(task, attempt)
            return f"is told what is not so: {message}" if message else ""
    except DoesNotEnd:
        return ""


def complaints(chosen: list[Mutant], *, whole: bool, jobs: int = 2) -> list[str]:
    """What is wrong with how these mutants are marked. Some in one process; where one ends it, each in a process of its own."""
    look, Watched._look = Watched._look, lambda *_: None  # changed solutions still stand in the package
    batches, found = [chosen[k : k + IN_ONE_PROCESS] for k in range(0, len(chosen), IN_ONE_PROCESS)], []
    try:
        while batches:
            alone = []
            for batch, texts, _ in in_children(functools.partial(_complaints_of, whole), batches, jobs):
                if texts is None and len(batch) > 1:
                    alone += [[mutant] for mutant in batch]
                found += [f"{mutant.name} -- {text}" for mutant, text in zip(batch, texts or [], strict=False) if text]
            batches = alone
    finally:
        Watched._look = look
    return found


def _complaints_of(whole: bool, batch: list[Mutant]) -> list[str]:
    return [complaint(whole, mutant) for mutant in batch]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="exercises; all without any")
    parser.add_argument("--sample", type=int, metavar="N", help="N of all, drawn with a fixed seed")
    arguments = parser.parse_args()
    every = [mutant for name in arguments.names or TASKS for mutant in mutants(name)]
    chosen = drawn(arguments.sample) if arguments.sample else every
    found = complaints(chosen, whole=False)
    print(*found, sep="\n", end="\n" if found else "")
    listed = sum(map(is_equivalent, chosen))
    exercises = len({mutant.exercise for mutant in chosen})
    print(f"{len(chosen)} changed answers to {exercises} exercises, {listed} of them right: {len(found)} complaints")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
