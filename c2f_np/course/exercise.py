"""An exercise: what is to be written, points to try it at, hints that come one by one, and what marks an attempt.

A backward pass is marked by `c2f_np.gradcheck`, that is by differences of the forward pass and not by comparing texts: every
right way of writing it is right. What students get wrong most is known, though. Each exercise lists such mistakes with what to
tell the reader; an attempt that computes the same numbers as a listed mistake is told so before anything else.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..gradcheck import check_gradients
from .my_model import MyModel


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer.

    Attributes
    ----------
    function : callable
        Computes it, with the signature of the exercise.
    message : str
        What to tell whoever wrote it: what it leaves out, not the answer.
    """

    function: Callable
    message: str


@dataclass(frozen=True)
class Marked:
    """What came of an attempt. Prints as its message; ``bool(marked)`` is whether it is right."""

    passed: bool
    message: str
    name: str = field(default="", compare=False)
    attempt: Callable | None = field(default=None, compare=False, repr=False)
    is_printed: bool = field(default=False, compare=False)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def points(self) -> int:
        """1 for a right answer, 0 for any other."""
        return int(self.passed)

    def keep(self, path: str | Path = "my_model.py") -> Marked:
        """Write what was marked into the reader's file, under the exercise's name, if it is right; see `MyModel.keep`."""
        if self.passed:
            try:
                MyModel(Path(path), None).keep(self.attempt, self.name)
                print(f"Kept in {path}.")
            except DataError as error:
                print(f"Not kept: {error}.")
        return self

    def __repr__(self) -> str:
        return self.message

    def _ipython_display_(self) -> None:
        """As the last value of a notebook's cell: shown once, although ``check`` has printed it already."""
        if not self.is_printed:
            print(self.message)


@dataclass
class Exercise:
    """Something to be written and the means to mark it.

    Attributes
    ----------
    name : str
    task : str
        What is asked for, in Markdown, with the signature and the shapes.
    solution : callable
        A right answer. ``answer()`` shows its source.
    points : callable
        ``points(seed)``: a dict of arguments to try the attempt at, another for each seed.
    forward : callable, optional
        For a backward pass: its forward, called with the same arguments. Without it the attempt's results are compared with
        the solution's.
    hints : tuple of str
        From a nudge to nearly the answer.
    mistakes : tuple of Mistake
    options : dict
        Further options of :func:`c2f_np.gradcheck.check_gradients` (linear_in, active_set, wrt, ...).
    tolerance : float
        Of comparisons with the solution, relative to the largest entry.
    read : callable
        ``read(result, arguments)``: a result in the form of the solution's, if it is right in another form; else as it is.
    allowed : tuple of str
        Functions of the package that an answer may call, by their full names.

    An attempt is called by position, so that its parameters may have any names. float32 is not asked of it, unless `options` say
    ``dtypes``.
    """

    name: str
    task: str
    solution: Callable
    points: Callable[[int], dict]
    forward: Callable | None = None
    hints: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    options: dict = field(default_factory=dict)
    tolerance: float = 1e-9
    read: Callable = field(default=lambda result, arguments: result)
    allowed: tuple[str, ...] = ()
    _hints_given: int = 0

    def check(self, attempt: Callable, seeds=(0, 1, 2)) -> Marked:
        """Mark an attempt and print what was found.

        Parameters
        ----------
        attempt : callable
            With the signature that the task asks for.
        seeds : sequence of int
            Points to try it at.

        Returns
        -------
        Marked
        """
        marked = self.mark(attempt, seeds)
        print(marked.message)
        return dataclasses.replace(marked, is_printed=True)

    def mark(self, attempt: Callable, seeds=(0, 1, 2)) -> Marked:
        """As :meth:`check`, without printing."""
        for seed in seeds:
            message = self._wrong(attempt, seed, seeds)
            if message is not None:
                return Marked(False, f"{self.name}: {message}", self.name, attempt)
        return Marked(True, f"{self.name}: right.", self.name, attempt)

    def hint(self) -> str:
        """The next hint; after the last one it stays there."""
        if not self.hints:
            return "There is no hint for this one."
        self._hints_given = min(self._hints_given + 1, len(self.hints))
        return f"Hint {self._hints_given} of {len(self.hints)}: {self.hints[self._hints_given - 1]}"

    def answer(self) -> str:
        """The source of a right answer (there are others)."""
        return textwrap.dedent(inspect.getsource(self.solution))

    def __repr__(self) -> str:
        return f"exercise {self.name}"

    def _repr_markdown_(self) -> str:
        return f"**Exercise** `{self.name}`. {self.task}"

    def _wrong(self, attempt: Callable, seed: int, seeds) -> str | None:
        """What is wrong at one point, or None; a diagnosis needs the numbers of all."""
        if not callable(attempt):
            return f"a function is asked for, not {_a(type(attempt).__name__)}. Give the function itself, without parentheses."
        arguments = self.points(seed)
        inputs = self._inputs(arguments, seed)
        before = _snapshot(inputs)
        try:
            found = _call(attempt, inputs)
        except NotImplementedError:
            return "not written yet. Write the function, then run the check again."
        except Exception as error:  # whatever a reader's function raises is an answer to the reader
            return f"your function ends in {type(error).__name__}: {error}{_about_shapes(error, inputs)}"
        if found is None:
            return "your function returns nothing (None). Did you forget the return?"
        found = self.read(found, arguments)
        right = _call(self.solution, self._inputs(arguments, seed))
        message = _other_form(found, right)
        if message is not None:
            return message
        changed = _changed(before, inputs)
        if self._same(found, right):
            if changed:
                return f"the numbers are right, but your function changes its input {changed}. Work on a copy."
            return self._found_by_check(attempt, arguments, seed)
        message = self._explanation(attempt, seeds)
        if message is not None:
            return message
        if changed:
            return f"your function changes its input {changed}, and its numbers are wrong. Work on a copy first."
        if self.forward is None:
            return _difference(found, right)
        return "the numerical check does not agree.\n\n" + str(self._report(attempt, arguments, seed))

    def _explanation(self, attempt: Callable, seeds) -> str | None:
        """The message of the listed mistakes that give the attempt's numbers at every point, if it is one and the same."""
        candidates = list(self.mistakes)
        for seed in seeds:
            arguments = self.points(seed)
            try:
                found = self.read(_call(attempt, self._inputs(arguments, seed)), arguments)
            except Exception:  # a function that ends in an error at another point is another mistake
                return None
            candidates = [each for each in candidates if self._gives(each.function, found, arguments, seed)]
        messages = {each.message for each in candidates}
        return messages.pop() if len(messages) == 1 else None

    def _gives(self, mistake: Callable, found, arguments: dict, seed: int) -> bool:
        try:
            return self._same(found, _call(mistake, self._inputs(arguments, seed)))
        except (ValueError, IndexError):  # the mistake cannot be made at this point
            return False

    def _inputs(self, arguments: dict, seed: int) -> dict:
        """Copies of the arguments; for a backward pass with a random cotangent in front."""
        if self.forward is None:
            return copy.deepcopy(arguments)
        out = self.forward(**copy.deepcopy(arguments))
        rng = np.random.default_rng([seed, 77])
        cotangents = [
            rng.standard_normal(np.shape(part)) if np.shape(part) else float(rng.standard_normal())
            for part in (out if isinstance(out, tuple) else (out,))
        ]
        cotangent = tuple(cotangents) if isinstance(out, tuple) else cotangents[0]
        return {"": cotangent} | copy.deepcopy(arguments)

    def _found_by_check(self, attempt: Callable, arguments: dict, seed: int) -> str | None:
        """Right numbers; but the check may find more, e.g. a second call that gives others."""
        if self.forward is None:
            again = None
            try:
                again = self.read(_call(attempt, self._inputs(arguments, seed)), arguments)
            except Exception as error:
                return f"right at the first call, but at the second your function ends in {type(error).__name__}: {error}"
            right = _call(self.solution, self._inputs(arguments, seed))
            return None if again is not None and self._same(again, right) else "right at the first call, but not at the second."
        report = self._report(attempt, arguments, seed)
        return None if report.passed else "the numbers are right, but the check finds more.\n\n" + str(report)

    def _report(self, attempt: Callable, arguments: dict, seed: int):
        def by_position(*given):
            return self.read(attempt(*given), arguments)

        options = {"dtypes": ("float64",)} | self.options
        return check_gradients(self.forward, by_position, arguments, name=self.name, seed=seed, **options)

    def _same(self, found, right) -> bool:
        return _other_form(found, right) is None and all(
            np.allclose(_dense(a), _dense(b), rtol=0, atol=self.tolerance * max(np.max(np.abs(_dense(b)), initial=0.0), 1e-300))
            for a, b in zip(_parts(found, right), _parts(right, right), strict=True)
        )


class WithoutAnswer:
    """An exercise as students are given it: with its task, hints and check, but not with its answer."""

    def __init__(self, task: Exercise):
        self.name, self.task, self.hint = task.name, task.task, task.hint
        self.check, self.mark = task.check, task.mark
        self._repr_markdown_ = task._repr_markdown_

    def answer(self) -> str:
        """Says where answers come from."""
        return "Your lecturer hands out the answers."

    def __repr__(self) -> str:
        return f"exercise {self.name}"


def _call(function: Callable, inputs: dict):
    """Positional: the reader may name parameters as they like."""
    return function(*inputs.values())


def _about_shapes(error: Exception, inputs: dict) -> str:
    """For an error about shapes: those that came in, and what to think of."""
    if not (isinstance(error, ValueError) and re.search("shape|dimension|broadcast|aligned", str(error))):
        return ""
    shapes = {name or "the cotangent": getattr(value, "shape", ()) for name, value in inputs.items()}
    given = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if shape)
    return f".\nThe shapes are: {given}. A @ B needs as many columns in A as rows in B: is a transpose missing, or one too many?"


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' or name == 'ndarray' else 'a'} {name}"


def _snapshot(value):
    """What can be changed in place, to be compared later: the bytes of arrays, also inside of other things."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: _snapshot(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_snapshot(part) for part in value]
    if dataclasses.is_dataclass(value):
        return [_snapshot(getattr(value, each.name)) for each in dataclasses.fields(value)]
    return None


def _changed(before: dict, inputs: dict) -> str | None:
    """The name of an input that was changed, or None."""
    return next((name or "cotangent" for name, value in inputs.items() if _snapshot(value) != before[name]), None)


def _parts(result, right) -> list:
    """The results one by one, in the order of the right answer's. A list of numbers is an array, where one is asked for."""
    if isinstance(right, dict):
        return [result[name] for name in right] if isinstance(result, dict) else list(result)
    if isinstance(right, (tuple, list)) and isinstance(result, np.ndarray) and not any(np.ndim(_dense(part)) for part in right):
        return list(result)  # several numbers as one array
    if not isinstance(right, (tuple, list)) and not isinstance(result, tuple):
        return [result]
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _dense(value) -> np.ndarray:
    return value.toarray() if hasattr(value, "toarray") else np.asarray(value)


def _other_form(found, right) -> str | None:
    """A result of another number or shape of parts than asked for, in words."""
    if isinstance(right, dict) and isinstance(found, dict) and set(right) != set(found):
        return f"asked for are {', '.join(right)}; your function returns {', '.join(map(str, found)) or 'an empty dict'}."
    if isinstance(found, dict) and not isinstance(right, dict):
        return f"a dict is returned; asked for {'is one result' if not isinstance(right, tuple) else 'are several, in order'}."
    if isinstance(right, dict) and not isinstance(found, (dict, tuple, list)):
        found = (found,)
    ours, wanted = _parts(found, right), _parts(right, right)
    if len(ours) != len(wanted):
        return f"asked for {_count(len(wanted))}, your function returns {len(ours)}."
    for number, (a, b) in enumerate(zip(ours, wanted, strict=True), 1):
        which = f"result {number}" if len(wanted) > 1 else "the result"
        if a is None:
            return f"{which} is None."
        try:
            array = _dense(a)
        except ValueError:  # rows of unequal lengths
            return f"{which} is {_a(type(a).__name__)}, not an array of numbers."
        if array.dtype.kind not in "biufc":
            return f"{which} is {_a(type(a).__name__)}, not an array of numbers."
        shape = np.shape(_dense(b))
        if array.shape != shape:
            more = " Is a transpose missing, or one too many?" if array.shape == shape[::-1] else ""
            return f"{which} has the shape {array.shape}, but should have {shape}.{more}"
        if not np.isfinite(array).all():
            return f"{which} holds NaN or infinity. Is something divided by 0, or the logarithm of 0 taken?"
    return None


def _count(number: int) -> str:
    return "is 1 result" if number == 1 else f"are {number} results"


def _difference(found, right) -> str:
    """Where a result differs, in words, with the simplest relation that explains it."""
    parts = list(zip(_parts(found, right), _parts(right, right), strict=True))
    for number, (a, b) in enumerate(parts, 1):
        a, b = (_dense(part).astype(complex if np.iscomplexobj(_dense(part)) else float) for part in (a, b))
        scale = max(np.max(np.abs(b), initial=0.0), 1e-300)
        if np.allclose(a, b, rtol=0, atol=1e-9 * scale):
            continue
        which = f"result {number}" if len(parts) > 1 else "the result"
        if not a.any():
            return f"{which} is zero everywhere." if a.ndim else f"{which} is 0, but should be {b:.6g}."
        if np.allclose(a, -b, rtol=0, atol=1e-9 * scale):
            return f"{which} has the wrong sign, and is right otherwise."
        if np.allclose(a, b, rtol=0, atol=1e-5 * scale):
            return f"{which} is right to some five digits only. Is part of it computed in single precision?"
        factor = complex(np.sum(a * b)).real / max(complex(np.sum(b * b)).real, 1e-300)
        if a.size > 1 and np.allclose(a, factor * b, rtol=0, atol=1e-9 * abs(factor) * scale):
            return f"{which} is {factor:.6g} times what it should be."
        place = np.unravel_index(np.argmax(np.abs(a - b)), a.shape) if a.ndim else ()
        where = f" at {tuple(int(i) for i in place)}" if a.ndim else ""
        wrong = float(np.mean(np.abs(a - b) > 1e-9 * scale))
        share = f"; {wrong:.0%} of its entries are wrong" if a.ndim else ""
        return f"{which} is {a[place]:.6g}{where}, but should be {b[place]:.6g}{share}."
    return "the result is not what was asked for."
