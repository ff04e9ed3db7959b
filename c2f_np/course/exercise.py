"""An exercise: what is to be written, points to try it at, hints that come one by one, and what marks an attempt.

A backward pass is marked by `c2f_np.gradcheck`, that is by differences of the forward pass and not by comparing texts: every
right way of writing it is right. What students get wrong most is known, though. Each exercise lists such mistakes with what to
tell the reader; an attempt that computes the same numbers as a listed mistake is told so before anything else.
"""

from __future__ import annotations

import copy
import dataclasses
import dis
import inspect
import linecache
import re
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..gradcheck import check_gradients
from .my_model import MyModel
from .watched import Watched, module_of

#: What an answer may be off, relative to the largest entry: one that is computed by a formula is right to rounding, and what a
#: difference measures is not.
DERIVATIVE, NUMBERS = 1e-12, 1e-9


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
    tolerance : float, optional
        Of comparisons with the solution, relative to the largest entry; DERIVATIVE where there is a forward, else NUMBERS.
    read : callable
        ``read(result, arguments)``: a result in the form of the solution's, if it is right in another form; else as it is.
    allowed : tuple of str
        Functions of the package, and modules of such, that an answer may call, by their full names. Functions of other exercises
        may be called in any case.

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
    tolerance: float | None = None
    read: Callable = field(default=lambda result, arguments: result)
    allowed: tuple[str, ...] = ()
    _hints_given: int = 0

    def __post_init__(self) -> None:
        if self.tolerance is None:
            self.tolerance = NUMBERS if self.forward is None else DERIVATIVE

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
        watched = self._watched(attempt) if callable(attempt) else attempt
        message = next(filter(None, (self._wrong(watched, seed, seeds) for seed in seeds)), None)
        if message is None and watched.used:
            message = (
                f"the numbers are right, but they are the package's: {watched.used} computes them. Write your own, with NumPy "
                "and SciPy. Functions of other exercises may help (my.name)."
            )
        return Marked(message is None, f"{self.name}: {message or 'right.'}", self.name, attempt)

    def _watched(self, attempt: Callable) -> Watched:
        from . import answers  # which needs this module

        others = [self.forward, *(function for name, function in answers().items() if name != self.name)]
        return Watched(attempt, self.solution, others, self.allowed, None if self._is_linear else self.forward)

    @property
    def _is_linear(self) -> bool:
        """Whether the forward is, in all that it is differentiated by: a difference is then exact, as good as a derivative."""
        wrt, linear = (self.options.get(name) for name in ("wrt", "linear_in"))
        return linear is not None and wrt in (None, linear)

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
            result = _call(attempt, inputs)
        except Exception as error:  # whatever a reader's function raises is an answer to the reader
            return _about_error(error, attempt, inputs)
        if result is None and not _is_empty(attempt):
            return "your function returns nothing (None). Did you forget the return?"
        if result is None or result is ... or result is NotImplemented:
            return f"not written yet: your function returns nothing ({result}). Write it, then run the check again."
        found = self._read(result, arguments)
        right = _call(self.solution, self._inputs(arguments, seed))
        message = _other_form(found, right)
        if message is not None:
            return message
        changed = _changed(before, inputs)
        if self._same(found, right):
            if changed:
                return f"the numbers are right, but your function changes its input {changed}. Work on a copy."
            return self._found_by_check(attempt, arguments, seed, is_last=seed == seeds[-1])
        message = self._explanation(attempt, seeds)
        if message is not None:
            return message
        if changed:
            return f"your function changes its input {changed}, and its numbers are wrong. Work on a copy first."
        names = [_name_of(part, inputs) for part in _parts(result, right)]
        if all(names):
            return f"your function returns what it is given, {' and '.join(names)}, as it is."
        message, is_explained = _difference(found, right, self.tolerance)
        if self.forward is None:
            return message
        message = f"the numerical check does not agree: {message}"
        return message if is_explained else f"{message}\n\n{self._report(attempt, arguments, seed)}"

    def _read(self, result, arguments: dict):
        try:
            return self.read(result, arguments)
        except Exception:  # not one of the forms that it reads; what it is will be told
            return result

    def _explanation(self, attempt: Callable, seeds) -> str | None:
        """The message of the listed mistakes that give the attempt's numbers at every point, if it is one and the same."""
        candidates = list(self.mistakes)
        for seed in seeds:
            arguments = self.points(seed)
            try:
                found = self._read(_call(attempt, self._inputs(arguments, seed)), arguments)
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

    def _found_by_check(self, attempt: Callable, arguments: dict, seed: int, *, is_last: bool) -> str | None:
        """Right numbers; but a second call may give others, and at the last point the numerical check may find more."""
        again = None
        try:
            again = self._read(_call(attempt, self._inputs(arguments, seed)), arguments)
        except Exception as error:
            return f"right at the first call, but at the second your function ends in {type(error).__name__}: {error}"
        if again is None or not self._same(again, _call(self.solution, self._inputs(arguments, seed))):
            return "right at the first call, but not at the second."
        if getattr(attempt, "measured", False):
            return (
                "the numbers are right, but they are measured: your function computes the forward at a point beside the one it "
                "is given. A difference checks a derivative; write the derivative itself, by the chain rule."
            )
        report = self._report(attempt, arguments, seed) if is_last and self.forward is not None else None
        return None if report is None or report.passed else "the numbers are right, but the check finds more.\n\n" + str(report)

    def _report(self, attempt: Callable, arguments: dict, seed: int):
        right = _call(self.solution, self._inputs(arguments, seed))

        def by_position(*given):
            return _arrays(self._read(attempt(*given), arguments), right)

        options = {"dtypes": ("float64",)} | self.options
        return check_gradients(self.forward, by_position, arguments, name=self.name, seed=seed, **options)

    def _same(self, found, right) -> bool:
        return _other_form(found, right) is None and all(
            np.allclose(_dense(a), _dense(b), rtol=0, atol=self.tolerance * _scale(_dense(b)))
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


def _name_of(value, inputs: dict) -> str:
    """Which input a value is, "" if none."""
    return next((name or "the cotangent" for name, each in inputs.items() if each is value), "")


def _about_error(error: Exception, attempt: Callable, inputs: dict) -> str:
    """What a function ended in, the line, and what to think of."""
    function = _written(attempt)
    frames = list(traceback.walk_tb(error.__traceback__))
    theirs = next((k for k, (frame, _) in enumerate(frames, 1) if frame.f_code is Watched.__call__.__code__), 0)
    frames, last = frames[theirs:], frames[-1][0].f_code
    if isinstance(error, NotImplementedError) and "site-packages" not in last.co_filename:
        if len(frames) == 1:
            return "not written yet. Write the function, then run the check again."
        return f"your function calls {last.co_name}, which is not written yet."
    if isinstance(error, TypeError) and (taken := _parameters(function)) is not None and not _takes(function, len(inputs)):
        names = [name or "the cotangent" for name in inputs]
        return f"your function takes {_several(taken, 'argument')}; it is called with {len(names)}: {', '.join(names)}."
    line = _line_of(frames)
    if isinstance(error, TypeError) and "ellipsis" in str(error):
        return f"there is a `...` left to be written{line}."
    return f"your function ends in {type(error).__name__}: {error}{line}{_about_shapes(error, inputs)}"


def _written(attempt: Callable) -> Callable:
    """What the reader handed in, without what is put around it."""
    function = inspect.unwrap(attempt)
    return inspect.unwrap(function.function) if isinstance(function, Watched) else function


def _line_of(frames: list) -> str:
    """The last line of the reader's text in these frames, if it is to be had."""
    for frame, number in reversed(frames):
        is_theirs = frame.f_code.co_filename == frames[0][0].f_code.co_filename and not module_of(frame.f_code)
        if is_theirs and (text := linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()):
            return f"\nin the line `{text}`"
    return ""


def _parameters(function: Callable) -> int | None:
    try:
        return len(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a compiled function does not tell
        return None


def _takes(function: Callable, number: int) -> bool:
    try:
        inspect.signature(function).bind(*range(number))
    except TypeError:
        return False
    return True


def _is_empty(attempt: Callable) -> bool:
    """Whether there is nothing in a function but ``pass``, ``...`` or a docstring."""
    code = getattr(_written(attempt), "__code__", None)
    nothing = ("RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST")
    return code is not None and all(each.opname in nothing for each in dis.get_instructions(code))


def _about_shapes(error: Exception, inputs: dict) -> str:
    """For an error about shapes: those that came in, and what to think of."""
    of_shapes = isinstance(error, ValueError) and re.search("shape|dimension|broadcast|aligned", str(error))
    of_an_index = isinstance(error, IndexError) and re.search("tuple index|axis|indices|dimension", str(error))
    if not (of_shapes or of_an_index):
        return ""
    shapes = {name or "the cotangent": getattr(value, "shape", ()) for name, value in inputs.items()}
    given = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if shape)
    advice = "A @ B needs as many columns in A as rows in B: is a transpose missing, or one too many?"
    if "broadcast" in str(error):
        advice = "Entry by entry, shapes have to agree: is an axis missing, or a sum taken too early?"
    elif of_an_index:
        advice = "Does one of them have fewer axes, or fewer rows, than your function counts on?"
    return f".\nThe shapes are: {given}. {advice}"


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
    if isinstance(right, (tuple, list)) and isinstance(result, np.ndarray):
        shapes = [np.shape(_dense(part)) for part in right]
        if result.shape[:1] == (len(right),) and all(shape == result.shape[1:] for shape in shapes):
            return list(result)  # several results of one shape as one array
    if not isinstance(right, (tuple, list)) and not isinstance(result, tuple):
        return [result]
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _arrays(result, right):
    """As it is, but for lists of numbers, which the numerical check would take for several results."""
    parts = [np.asarray(part) if isinstance(part, (list, tuple)) else part for part in _parts(result, right)]
    if isinstance(right, dict):
        return dict(zip(right, parts, strict=True))
    return tuple(parts) if isinstance(right, tuple) else parts[0]


def _dense(value) -> np.ndarray:
    return value.toarray() if hasattr(value, "toarray") else np.asarray(value)


def _other_form(found, right) -> str | None:
    """A result of another number or shape of parts than asked for, in words."""
    if isinstance(right, dict) and isinstance(found, dict) and set(right) != set(found):
        return f"asked for are {', '.join(right)}; your function returns {', '.join(map(str, found)) or 'an empty dict'}."
    if isinstance(found, dict) and not isinstance(right, dict):
        return f"a dict is returned; asked for {'is one result' if not isinstance(right, tuple) else 'are several, in order'}."
    if isinstance(found, tuple) and len(found) == 1 and not isinstance(right, (tuple, list, dict)):
        return "a tuple of one result is returned, not the result itself. Does the line with return end in a comma?"
    if isinstance(right, dict) and not isinstance(found, (dict, tuple, list)):
        found = (found,)
    ours, wanted = _parts(found, right), _parts(right, right)
    if len(ours) != len(wanted):
        return f"asked for {_count(len(wanted))}, your function returns {len(ours)}."
    for number, (a, b) in enumerate(zip(ours, wanted, strict=True), 1):
        message = _other_array(a, _dense(b))
        if message is not None:
            return f"{_which(number, wanted)} {message}"
    return None


def _other_array(found, right: np.ndarray) -> str | None:
    """What an array of numbers of the right shape would not be, in words."""
    if found is None:
        return "is None."
    if isinstance(found, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return f"is a function, {found.__name__}, not an array of numbers. Are its parentheses missing?"
    if isinstance(found, types.GeneratorType):
        return "is a generator. Is there a yield where a return should stand, or a loop in parentheses?"
    if isinstance(found, np.matrix):
        return "is an np.matrix, in which * means another product. Return an array: np.asarray(...)."
    if isinstance(found, np.ma.MaskedArray):
        return "is a masked array. Return an ordinary one, with a number in every place."
    try:
        array = _dense(found)
    except Exception:  # rows of unequal lengths, or something that only looks like an array
        return f"is {_a(type(found).__name__)}, not an array of numbers."
    if array.dtype == object and isinstance(found, np.ndarray):
        return "is an array of objects (dtype=object), not of numbers. Was it made from rows of unequal lengths, or of arrays?"
    if array.dtype.kind not in "biufc":
        return f"is {_a(type(found).__name__)}, not an array of numbers."
    if array.shape != right.shape and right.ndim == 1 and getattr(found, "nnz", None) == right.size:
        return f"is a sparse matrix of the shape {array.shape}. Asked for are its stored entries: they are its .data."
    if array.shape != right.shape:
        more = " Is a transpose missing, or one too many?" if array.ndim > 1 and array.shape == right.shape[::-1] else ""
        return f"has the shape {array.shape}, but should have {right.shape}.{more}"
    if array.dtype.kind == "f" and right.dtype.kind in "iu":
        return "holds floating-point numbers. Asked for are integers: others are no places in an array."
    if array.dtype.kind == "c" and right.dtype.kind != "c":
        return "is complex; real numbers are asked for."
    if not np.isfinite(array).all():
        return "holds NaN or infinity. Is something divided by 0 (a count from 0?), or log(0) or exp of a large number taken?"
    return None


def _count(number: int) -> str:
    return "is 1 result" if number == 1 else f"are {number} results"


def _several(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _which(number: int, results: list) -> str:
    return f"result {number}" if len(results) > 1 else "the result"


def _difference(found, right, tolerance: float) -> tuple[str, bool]:
    """Where a result differs, in words, and whether a simple relation explains it."""
    for which, a, b, relation in _differing(found, right, tolerance):
        if relation:
            return f"{which} {relation}", True
        if not a.ndim:
            return f"{which} is {a:.6g}, but should be {b:.6g}.", False
        place = np.unravel_index(np.argmax(np.abs(a - b)), a.shape)
        wrong = float(np.mean(np.abs(a - b) > tolerance * _scale(b)))
        where = ", ".join(str(int(i)) for i in place)
        message = f"{which} is {a[place]:.6g} at ({where}), but should be {b[place]:.6g}; {wrong:.0%} of its entries are wrong."
        return message, False
    return "the result is not what was asked for.", False


def _differing(found, right, tolerance: float) -> Iterator[tuple[str, np.ndarray, np.ndarray, str]]:
    """The results that differ: which it is, its numbers and the right ones, and how they are related, if that is simple."""
    wanted = _parts(right, right)
    for number, (a, b) in enumerate(zip(_parts(found, right), wanted, strict=True), 1):
        kind = str(getattr(a, "dtype", ""))
        a, b = (_dense(part).astype(complex if np.iscomplexobj(_dense(part)) else float) for part in (a, b))
        if not np.allclose(a, b, rtol=0, atol=tolerance * _scale(b)):
            yield _which(number, wanted), a, b, _relation(a, b, kind)


def _relation(a: np.ndarray, b: np.ndarray, kind: str) -> str:
    def same(a: np.ndarray, b: np.ndarray, tolerance: float = NUMBERS) -> bool:
        return np.allclose(a, b, rtol=0, atol=tolerance * _scale(b))

    if not a.any():
        return "is zero everywhere." if a.ndim else f"is 0, but should be {b:.6g}."
    if same(a, -b):
        return "has the wrong sign, and is right otherwise."
    if kind in ("float32", "float16") and same(a, b, {"float32": 1e-5, "float16": 1e-2}[kind]):
        return f"is right to a few digits only, since it is of the type {kind}. Compute in float64."
    if same(a, b, 1e-8):
        return "is right to some nine digits only. Is it measured by differences, or is something small added somewhere?"
    if same(a, b, 1e-5):
        return (
            "is right to some five digits only. Is something small left out or wrong, or is part of it computed in single "
            "precision, or measured by differences?"
        )
    factor = complex(np.sum(a * b)).real / max(complex(np.sum(b * b)).real, 1e-300)
    return f"is {factor:.6g} times what it should be." if a.size > 1 and factor and same(a, factor * b) else ""


def _scale(right: np.ndarray) -> float:
    return max(np.max(np.abs(right), initial=0.0), 1e-300)
