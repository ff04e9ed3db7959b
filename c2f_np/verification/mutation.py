"""Mutation as a measure: of small changes of the code, made by machine, how many do the checks notice?

One process imports everything without compiling (``NUMBA_DISABLE_JIT=1``) and is forked for every mutant. The child puts the
change in and runs the cases that reach the changed lines, the cheapest of each operation first, until one fails, raises an error,
or does not come to an end. Which case reaches which line is recorded once, in children too, so that no cache of the parent ever
holds what was computed with other code.
"""

from __future__ import annotations

import importlib
import json as json_format
import os
import pkgutil
import signal
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import islice
from multiprocessing import connection, get_context

import numpy as np
from tqdm import tqdm

from ..errors import SettingsError
from ..threads import available_cores, one_blas_thread
from .candidates import candidates
from .case import Case
from .catalogue import cases
from .changes import Change, definitions, put_in, users_of
from .command import groups
from .exact import LARGE
from .interpreted import PACKAGE
from .threads import one_kernel_thread

#: Modules in which every definition is mutated, and those of which only some definitions belong to a training step.
FOLDERS = ("model", "kernels")
STEP = {
    "training.problem": None,
    "training.loop": ("train_epoch", "_train_on_triples", "Phase.rate_of", "Phase.updates_in", "Phase.exchanges_after"),
    "training.phases": ("_after_table",),
    "baselines.table_stage": None, "baselines.tables": None,
}  # fmt: skip
#: Written for the compiler; there is nothing of them in plain Python.
NOT_MUTATED = ("kernels.compiled",)

#: A case may take so many seconds of the processor, and so many times what it takes without a change.
LEAST_SECONDS, MOST_TIMES = 10, 10
#: A case is watched for so long, a large one longer. What it calls again and again has long been seen by then.
WATCHED_SECONDS = 1
MOST_MEMORY = 6 << 30

SURVIVED, EQUIVALENT = "survived", "equivalent"

#: Groups of cases: each yields the same cases, in the same order, every time.
Net = dict[tuple, Callable[[], Iterable[Case]]]


@dataclass(frozen=True)
class Reach:
    """One case: where it is, what it costs, the lines that it runs, and whether it passed (None: not watched to the end)."""

    group: tuple
    number: int
    name: str
    seconds: float
    lines: dict[str, set[int]]
    passed: bool | None

    @property
    def most_seconds(self) -> float:
        """What it may take with a change."""
        return LEAST_SECONDS + MOST_TIMES * self.seconds * (10 if self.passed is None else 1)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    ``by`` holds the checks that failed in the first case that noticed, ``case`` its name; "time", "memory" or "crash" if the case
    did not come to an end. Both are empty if the mutant survived `n_cases` cases.
    """

    change: Change
    by: tuple[str, ...] = ()
    case: str = ""
    n_cases: int = 0
    reason: str = ""

    @property
    def verdict(self) -> str:
        return "killed" if self.by else EQUIVALENT if self.reason else SURVIVED

    def to_dict(self) -> dict:
        change = self.change
        return {
            "place": change.place, "file": os.path.relpath(change.file), "line": change.lines[0], "kind": change.kind,
            "change": change.text, "verdict": self.verdict, "killed_by": list(self.by), "case": self.case,
            "cases": self.n_cases, "reason": self.reason,
        }  # fmt: skip


# ---- which ---------------------------------------------------------------------------------------------------------------
def all_candidates(within: str | None = None) -> list[Change]:
    """Every change of what is mutated, or of the places that begin with `within` ("model.loss", "kernels")."""
    found = []
    for module, names in mutated_modules().items():
        if within is None or module.startswith(within) or within.startswith(module):
            found += candidates(f"{PACKAGE}.{module}", names)
    return [change for change in found if within is None or change.place.startswith(within)]


def mutated_modules() -> dict[str, tuple[str, ...] | None]:
    """The modules that are mutated, each with the definitions that are, None for all."""
    modules: dict[str, tuple[str, ...] | None] = {}
    for folder in FOLDERS:
        package = importlib.import_module(f"{PACKAGE}.{folder}")
        modules |= {f"{folder}.{found.name}": None for found in pkgutil.iter_modules(package.__path__)}
    return {name: part for name, part in (modules | STEP).items() if name not in NOT_MUTATED}


def sample(changes: Iterable[Change], n: int, seed: int) -> list[Change]:
    """`n` of the changes, as evenly as possible over folders and kinds."""
    rng = np.random.default_rng(seed)
    groups: dict[tuple, list[Change]] = {}
    for change in changes:
        groups.setdefault((change.folder, change.kind), []).append(change)
    shuffled = [[group[k] for k in rng.permutation(len(group))] for _, group in sorted(groups.items())]
    rounds = [[group[k] for group in shuffled if k < len(group)] for k in range(max(map(len, shuffled), default=0))]
    drawn = []
    for together in rounds:
        drawn += [together[k] for k in rng.permutation(len(together))]
    return drawn[:n]


@dataclass(frozen=True)
class Equivalents:
    """Changes that change no result, each with the reason, by place and text; the text "*" stands for every change there."""

    entries: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def shipped(cls) -> Equivalents:
        return cls.read(resources.files(__package__).joinpath("equivalent.toml"))

    @classmethod
    def read(cls, path: Traversable) -> Equivalents:
        """From a list of places and changes (one, or several of the same reason) with reasons."""
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["equivalent"]
        changes = [(entry, [each] if isinstance(each := entry["change"], str) else each) for entry in entries]
        return cls({(entry["place"], change): entry["reason"] for entry, several in changes for change in several})

    def reason(self, change: Change) -> str:
        return self.entries.get((change.place, change.text), self.entries.get((change.place, "*"), ""))

    def stale(self) -> list[tuple[str, str]]:
        """Entries that no longer name a change."""
        known: dict[str, set[str]] = {}
        modules = mutated_modules()
        for module in {module for module in modules for place, _ in self.entries if place.startswith(f"{module}.")}:
            known |= {f"{module}.{name}": {"*"} for name in definitions(f"{PACKAGE}.{module}")}
            for change in candidates(f"{PACKAGE}.{module}", modules[module]):
                known[change.place].add(change.text)
        return [(place, text) for place, text in self.entries if text not in known.get(place, ())]


# ---- in children ---------------------------------------------------------------------------------------------------------
def in_children(work: Callable, tasks: Iterable, jobs: int) -> Iterator[tuple]:
    """``(task, work(task), exit code)`` of every task, each in a process of its own, in the order in which they end.

    The result is None if the process ended otherwise.
    """
    context, waiting, running = get_context("fork"), iter(tasks), {}
    try:
        while True:
            while len(running) < jobs and (task := next(waiting, None)) is not None:
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(work, task, sender))
                process.start()
                sender.close()
                running[receiver] = (task, process)
            if not running:
                return
            for receiver in connection.wait(list(running)):
                task, process = running.pop(receiver)
                try:
                    result = receiver.recv()
                except EOFError:
                    result = None
                receiver.close()
                process.join()
                yield task, result, process.exitcode
    finally:
        for _, process in running.values():
            process.kill()


def _child(work: Callable, task, sender) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sender.send(work(task))


def record(net: Net, files: Iterable[str], jobs: int, progress=None) -> list[Reach]:
    """Run every case and note the lines of `files` that it reaches; the cheapest of each group first.

    Raises
    ------
    SettingsError
        If a case fails although nothing has been changed.
    """
    files = set(files)

    loaded = set(sys.modules)

    def work(group: tuple) -> tuple[list[Reach], str, set[str]]:
        found, reason = [], ""
        try:
            found = list(_recorded(group, net[group], files))
            reason = next((one.name for one in found if one.passed is False), "")
        except Exception as error:
            reason = f"{group[0]} [{group[1]}]: {type(error).__name__}: {error}"
        return found, reason, set(sys.modules) - loaded

    found: list[Reach] = []
    for group, result, code in in_children(work, net, jobs):
        reached, reason, imported = result or ([], f"{group}, which ended with {code}", ())
        if reason:
            raise _fails_unchanged(reason)
        for name in imported:  # once here, and not again in every child
            with suppress(ImportError):
                importlib.import_module(name)
        found += reached
        if progress is not None:
            progress(group)
    ranks, ranked = Counter(), []
    for one in sorted(found, key=lambda one: one.seconds):
        ranked.append((ranks[one.group], one.seconds, one))
        ranks[one.group] += 1
    return [one for _, _, one in sorted(ranked, key=lambda entry: entry[:2])]


def _recorded(group: tuple, cases: Callable, files: set[str]) -> Iterator[Reach]:
    def enough(*_):
        raise _Enough

    signal.signal(signal.SIGPROF, enough)
    waiting = iter(cases())
    for number in range(1 << 62):
        started, lines, passed = time.process_time(), {}, None
        tracer = _tracer(files, lines)
        threading.settrace(tracer)
        sys.settrace(tracer)
        try:
            case = next(waiting, None)
            if case is None:
                return
            signal.setitimer(signal.ITIMER_PROF, WATCHED_SECONDS * (5 if group[0] in LARGE else 1))
            passed = case.run(group[-1]).passed
            signal.setitimer(signal.ITIMER_PROF, 0)
        except _Enough:
            pass
        finally:
            sys.settrace(None)
            threading.settrace(None)
        yield Reach(group, number, case.name, time.process_time() - started, lines, passed)


class _Enough(BaseException):
    """The case has been watched long enough."""


#: A loop that has run so many lines without a new one is left to run at full speed.
_QUIET = 300


def _tracer(files: set[str], lines: dict[str, set[int]]):
    def called(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        seen = lines.setdefault(frame.f_code.co_filename, set())
        seen.add(frame.f_lineno)
        quiet = 0

        def stepped(frame, event, argument):
            nonlocal quiet
            if event == "line":
                quiet = quiet + 1 if frame.f_lineno in seen else 0
                seen.add(frame.f_lineno)
                if quiet > _QUIET:
                    frame.f_trace_lines = False
            return stepped

        return stepped

    return called


def judge(changes: Iterable[Change], net: Net, reached: list[Reach], jobs: int) -> Iterator[Outcome]:
    """Put each change in and run the cases that reach it, then those that were not watched to the end: they may reach it too."""

    def work(change: Change):
        reaching = _reaching(change, reached)
        names = {one.name for one in reaching}
        return _first_kill(change, net, reaching + [one for one in unsure.values() if one.name not in names])

    def work_unchanged(one: Reach) -> bool:
        return next(islice(net[one.group](), one.number, None)).run(one.group[-1]).passed

    unsure, killers = {one.name: one for one in reached if one.passed is None}, set()
    for change, found, code in in_children(work, changes, jobs):
        if found is None:
            died = {-signal.SIGPROF: "time", -signal.SIGALRM: "time", -signal.SIGKILL: "memory"}.get(code, "crash")
            yield Outcome(change, (died,))
        else:
            killers |= {found[1]} & set(unsure)
            yield Outcome(change, *found)
    for one, passed, _ in in_children(work_unchanged, [unsure[name] for name in sorted(killers)], jobs):
        if not passed:
            raise _fails_unchanged(one.name)


def _fails_unchanged(reason: str) -> SettingsError:
    return SettingsError(f"a check fails although nothing was changed, see python -m c2f_np gradcheck: {reason}")


def _reaching(change: Change, reached: list[Reach]) -> list[Reach]:
    """The cases that run a changed line; those that run its function if a long loop has hidden the line from all of them."""
    lines = users_of(change) if change.of_constant else {change.file: set(change.lines)}
    found = [one for one in reached if any(lines[file] & one.lines.get(file, set()) for file in lines)]
    if found or change.of_constant:
        return found
    whole = set(range(change.definition.body[0].lineno, change.definition.end_lineno + 1))
    return [one for one in reached if whole & one.lines.get(change.file, set())]


def _first_kill(change: Change, net: Net, reaching: list[Reach]) -> tuple[tuple[str, ...], str, int]:
    """The checks that failed, the case, and the number of cases that passed before it."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    put_in(change)
    built: dict[tuple, tuple[Iterator[Case], list[Case]]] = {}
    for n_passed, one in enumerate(reaching):
        signal.setitimer(signal.ITIMER_PROF, one.most_seconds)
        signal.setitimer(signal.ITIMER_REAL, 30 * one.most_seconds)  # for what waits and does not work
        try:
            waiting, made = built.setdefault(one.group, (iter(net[one.group]()), []))
            while len(made) <= one.number:
                made.append(next(waiting))
            report = made[one.number].run(one.group[-1])
        except Exception as error:  # a mistake may stop the building of a case: that is noticed too
            return (type(error).__name__,), one.name, n_passed
        if not report.passed:
            return tuple(report.killed_by), one.name, n_passed
    return (), "", len(reaching)


# ---- the command ---------------------------------------------------------------------------------------------------------
def run_mutation(
    n: int, op: str | None = None, engine: str | None = None, seed: int = 0, json: bool = False,
    within: str | None = None, jobs: int | None = None,
) -> int:  # fmt: skip
    """Draw `n` mutants, judge them, print the shares and the survivors; 1 if one survives that is not listed as equivalent.

    Ctrl-C ends the run early, with the shares of the mutants judged so far and exit code 1.
    """
    if not hasattr(os, "fork"):
        raise SettingsError("--mutate makes a copy of the process for each mutant (os.fork), which this platform does not offer")
    if n < 1:
        raise SettingsError(f"--mutate must be 1 or more, not {n}")
    started, jobs = time.perf_counter(), jobs or available_cores()
    net = {group: partial(cases, *group) for group in groups(op, engine, seed)}
    changes = all_candidates(within)
    if not changes:
        raise SettingsError(f"nothing that begins with {within!r} is mutated; try one of {', '.join(mutated_modules())}")
    drawn = sample(changes, n, seed) if op is None else changes
    equivalents = Equivalents.shipped()
    with one_blas_thread(), one_kernel_thread():
        with _bar(len(net), "cases", "group") as bar:
            files = {change.file for change in drawn} | {f for change in drawn if change.of_constant for f in users_of(change)}
            reached = record(net, files, jobs, lambda group: bar.update())
        if op is not None:  # one operation is asked only about what it runs
            drawn = sample([change for change in changes if _reaching(change, reached)], n, seed)
        outcomes = [Outcome(change, reason=equivalents.reason(change)) for change in drawn if equivalents.reason(change)]
        waiting = [change for change in drawn if not equivalents.reason(change)]
        with _bar(len(waiting), "mutants", "mutant") as bar, _until_interrupted(len(drawn), outcomes):
            for outcome in judge(waiting, net, reached, jobs):
                outcomes.append(outcome)
                bar.update()
                if outcome.verdict == SURVIVED and not json:
                    bar.write(_survivor(outcome), file=sys.stdout)
                    sys.stdout.flush()
    outcomes.sort(key=lambda o: (o.change.place, o.change.lines[0], o.change.text))
    survived = [outcome for outcome in outcomes if outcome.verdict == SURVIVED]
    seconds = time.perf_counter() - started
    if json:
        data = {"passed": not survived, "seconds": seconds, "seed": seed, "mutants": [outcome.to_dict() for outcome in outcomes]}
        print(json_format.dumps(data))
    else:
        print(f"\n{shares(outcomes)}\n\n{len(outcomes)} mutants, {len(survived)} survived; {seconds:.0f} s, seed {seed}")
    if not outcomes:
        print(f"no case of {op} runs anything of {within}: nothing was measured", file=sys.stderr)
    return 1 if survived or len(outcomes) < len(drawn) or not outcomes else 0


@contextmanager
def _until_interrupted(total: int, outcomes: list[Outcome]) -> Iterator[None]:
    """Ctrl-C ends a long run with the shares of what has been judged."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted: {len(outcomes)} of {total} mutants were judged", file=sys.stderr)


def _bar(total: int, what: str, unit: str):
    return tqdm(total=total, desc=what, unit=unit, disable=None, file=sys.stderr, dynamic_ncols=True)


def _survivor(outcome: Outcome) -> str:
    change = outcome.change
    before, _, after = change.text.partition(" => ")
    seen = f"survived {outcome.n_cases} cases" if outcome.n_cases else "not reached by any case"
    where = f"{os.path.relpath(change.file)}:{change.lines[0]}"
    return f"{where}: {change.name}, {change.kind}: {seen}\n  - {before}\n  + {after}"


def shares(outcomes: list[Outcome]) -> str:
    """The share killed of what is not equivalent, by folder and by kind."""
    rows = [("", "mutants", "killed", "equivalent", "survived", "share killed")]
    for key in (lambda o: o.change.folder, lambda o: o.change.kind, lambda o: "all"):
        for name in sorted({key(outcome) for outcome in outcomes}):
            count = Counter(outcome.verdict for outcome in outcomes if key(outcome) == name)
            live = count["killed"] + count[SURVIVED]
            share = f"{count['killed'] / live:.1%}" if live else "-"
            rows.append((name, *map(str, (count.total(), count["killed"], count[EQUIVALENT], count[SURVIVED])), share))
        rows.append(("",) * 6)
    width = max(len(row[0]) for row in rows)
    return "\n".join((row[0].ljust(width) + "".join(cell.rjust(14) for cell in row[1:])).rstrip() for row in rows[:-1])
