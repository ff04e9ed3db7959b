"""An exercise: what is to be written, points to try it at, hints that come one by one, and what marks an attempt.

A backward pass is marked by `c2f_np.gradcheck`, that is by differences of the forward pass and not by comparing texts: every
right way of writing it is right. What students get wrong most is known, though. Each exercise lists such mistakes with what to
tell the reader; an attempt that computes the same numbers as a listed mistake is told so before anything else.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..gradcheck import check_gradients


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

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return self.message


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
        return marked

    def mark(self, attempt: Callable, seeds=(0, 1, 2)) -> Marked:
        """As :meth:`check`, without printing."""
        for seed in seeds:
            message = self._wrong(attempt, seed)
            if message is not None:
                return Marked(False, f"{self.name}: {message}")
        return Marked(True, f"{self.name}: right.")

    def hint(self) -> str:
        """The next hint; after the last one it stays there."""
        if not self.hints:
            return "There is no hint for this one."
        self._hints_given = min(self._hints_given + 1, len(self.hints))
        return f"Hint {self._hints_given} of {len(self.hints)}: {self.hints[self._hints_given - 1]}"

    def answer(self) -> str:
        """The source of a right answer (there are others)."""
        return textwrap.dedent(inspect.getsource(self.solution))

    def _repr_markdown_(self) -> str:
        return f"**Exercise** `{self.name}`. {self.task}"

    def _wrong(self, attempt: Callable, seed: int) -> str | None:
        """What is wrong at one point, or None."""
        arguments = self.points(seed)
        try:
            found = _call(attempt, self._inputs(arguments, seed))
        except NotImplementedError:
            return "not written yet. Write the function, then run the check again."
        except Exception as error:  # whatever a reader's function raises is an answer to the reader
            return f"your function ends in {type(error).__name__}: {error}"
        if found is None:
            return "your function returns nothing (None). Did you forget the return?"
        right = _call(self.solution, self._inputs(arguments, seed))
        message = _other_form(found, right)
        if message is not None:
            return message
        if self._same(found, right):
            return self._breaks_the_rules(attempt, arguments, seed)
        for mistake in self.mistakes:
            if self._same(found, _call(mistake.function, self._inputs(arguments, seed))):
                return mistake.message
        if self.forward is None:
            return _difference(found, right)
        report = check_gradients(self.forward, attempt, arguments, name=self.name, seed=seed, **self.options)
        return "the numerical check does not agree.\n\n" + str(report)

    def _inputs(self, arguments: dict, seed: int) -> dict:
        """Copies of the arguments; for a backward pass with a random cotangent in front."""
        copies = {name: value.copy() if hasattr(value, "copy") else value for name, value in arguments.items()}
        if self.forward is None:
            return copies
        out = self.forward(**{name: value.copy() if hasattr(value, "copy") else value for name, value in arguments.items()})
        rng = np.random.default_rng([seed, 77])
        cotangent = rng.standard_normal(np.shape(out)) if np.shape(out) else float(rng.standard_normal())
        return {"": cotangent} | copies

    def _breaks_the_rules(self, attempt: Callable, arguments: dict, seed: int) -> str | None:
        """Right numbers; but inputs may have been changed, or the check may find more."""
        inputs = self._inputs(arguments, seed)
        before = [np.array(_dense(value), copy=True) for value in inputs.values()]
        _call(attempt, inputs)
        for (name, value), old in zip(inputs.items(), before, strict=True):
            if not np.array_equal(_dense(value), old):
                return f"the numbers are right, but your function changes its input {name or 'cotangent'}. Work on a copy."
        if self.forward is None:
            return None
        report = check_gradients(self.forward, attempt, arguments, name=self.name, seed=seed, **self.options)
        return None if report.passed else "the numbers are right, but the check finds more.\n\n" + str(report)

    def _same(self, found, right) -> bool:
        return _other_form(found, right) is None and all(
            np.allclose(_dense(a), _dense(b), rtol=0, atol=self.tolerance * max(np.max(np.abs(_dense(b)), initial=0.0), 1e-300))
            for a, b in zip(_parts(found), _parts(right), strict=True)
        )


def _call(function: Callable, inputs: dict):
    """Positional: the reader may name parameters as they like."""
    return function(*inputs.values())


def _parts(result) -> list:
    if isinstance(result, dict):
        return [result[name] for name in sorted(result)]
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _dense(value) -> np.ndarray:
    return value.toarray() if hasattr(value, "toarray") else np.asarray(value)


def _other_form(found, right) -> str | None:
    """A result of another number or shape of parts than asked for, in words."""
    if isinstance(right, dict) and isinstance(found, dict) and set(right) != set(found):
        return f"asked for are {', '.join(sorted(right))}; your function returns {', '.join(sorted(map(str, found)))}."
    ours, wanted = _parts(found), _parts(right)
    if len(ours) != len(wanted):
        return f"asked for are {len(wanted)} results, your function returns {len(ours)}."
    for number, (a, b) in enumerate(zip(ours, wanted, strict=True), 1):
        which = f"result {number}" if len(wanted) > 1 else "the result"
        try:
            shape = np.shape(_dense(a))
            np.asarray(_dense(a), dtype=float)
        except (TypeError, ValueError):
            return f"{which} is a {type(a).__name__}, not an array of numbers."
        if shape != np.shape(_dense(b)):
            more = " Is a transpose missing, or one too many?" if shape == np.shape(_dense(b))[::-1] else ""
            return f"{which} has the shape {shape}, but should have {np.shape(_dense(b))}.{more}"
        if not np.isfinite(_dense(a)).all():
            return f"{which} holds NaN or infinity. Is something divided by 0, or the logarithm of 0 taken?"
    return None


def _difference(found, right) -> str:
    """Where a result differs, in words, with the simplest relation that explains it."""
    for number, (a, b) in enumerate(zip(_parts(found), _parts(right), strict=True), 1):
        a, b = _dense(a).astype(float), _dense(b).astype(float)
        if np.allclose(a, b, rtol=1e-9, atol=1e-12):
            continue
        which = f"result {number}" if len(_parts(right)) > 1 else "the result"
        if np.allclose(a, -b):
            return f"{which} has the wrong sign, and is right otherwise."
        size = float(np.sum(b * b))
        factor = float(np.sum(a * b)) / size if size else float("nan")
        if np.isfinite(factor) and abs(factor) > 1e-12 and np.allclose(a, factor * b):
            return f"{which} is {factor:.6g} times what it should be."
        place = np.unravel_index(np.argmax(np.abs(a - b)), a.shape) if a.ndim else ()
        where = f" at {tuple(int(i) for i in place)}" if a.ndim else ""
        wrong = float(np.mean(~np.isclose(a, b, rtol=1e-9, atol=1e-12)))
        share = f"; {wrong:.0%} of its entries are wrong" if a.ndim else ""
        return f"{which} is {float(a[place]):.6g}{where}, but should be {float(b[place]):.6g}{share}."
    return "the result is not what was asked for."
