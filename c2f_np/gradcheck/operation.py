"""A forward and a backward that somebody else wrote, called with care.

:class:`Operation` knows how to hand arguments and cotangents over, gives every call its own copies, and brings what
comes back into one form. Whatever a half-finished backward does wrong becomes a :class:`Trouble` in words, with the
line of *its* code.

Shapes: n entries of an argument; outputs are a list of arrays of any shape, each with a cotangent of its shape.
"""

from __future__ import annotations

import dataclasses
import inspect
import linecache
import os
import traceback
import warnings

import numpy as np

from c2f_np.errors import C2FError
from c2f_np.gradcheck.values import (
    cast,
    describe,
    entry_name,
    is_differentiable,
    is_scalar,
    is_sparse,
    private_copy,
    to_vector,
    with_vector,
)

_HERE = os.path.dirname(os.path.abspath(__file__))


class UsageError(C2FError):
    """The checker was asked for something that makes no sense, e.g. the gradient of an argument that does not exist."""


class Trouble(Exception):
    """A forward or backward that did not give what it must; the message is help in words."""

    def __init__(self, item: str, message: str, argument: str | None = None):
        self.item = item  # the item of the contract that is broken: 'returns', 'shape', 'raises', ...
        self.argument = argument
        super().__init__(message)


class Operation:
    """A forward and its backward together with the arguments at which they are checked.

    Parameters
    ----------
    forward : callable
        ``forward(**arguments)``, or ``forward(*arguments)`` when the arguments are a tuple. Returns an array, a scalar,
        a sparse matrix, or a tuple of these.
    backward : callable
        ``backward(cotangent, **arguments)``: see :func:`c2f_np.gradcheck.check_gradients`.
    arguments : dict, tuple or array
        Copied at once; float32 is turned into float64.
    wrt : str or sequence of str, optional
        The arguments to differentiate; all that hold floats when left out.
    outputs : int or sequence of int, optional
        The positions of the outputs that are differentiated; all that hold floats when left out.
    name : str, optional
        Name of the operation in reports.
    """

    def __init__(self, forward, backward, arguments, *, wrt=None, outputs=None, name=None):
        if not callable(forward) or not (backward is None or callable(backward)):
            raise UsageError("forward and backward must be functions")
        self._forward, self._backward = forward, backward
        self.name = name or getattr(forward, "__name__", type(forward).__name__)
        if isinstance(arguments, dict):
            self.given, self.by_position = dict(arguments), _positional_only(forward)
        else:
            parts = arguments if isinstance(arguments, tuple | list) else (arguments,)
            self.given, self.by_position = dict(zip(_names(forward, len(parts)), parts, strict=True)), True
        self.arguments = {key: private_copy(cast(value, np.float64)) for key, value in self.given.items()}
        _check_names(forward, self.arguments, self.by_position)

        self.floats = [key for key, value in self.arguments.items() if is_differentiable(value)]
        self.wrt = self._choose(wrt)
        values = self.raw_forward(self.arguments)
        self.single = not isinstance(values, tuple | list)
        self.templates = [values] if self.single else list(values)
        self.outputs = self._choose_outputs(outputs)
        for k in self.outputs:
            if not np.all(np.isfinite(to_vector(self.templates[k]))):
                raise Trouble("forward", f"forward returns NaN or infinity in output {k} at these arguments")

    # ---- what is asked for -----------------------------------------------------------------------------------------
    def _choose(self, wrt) -> tuple[str, ...]:
        if wrt is None:
            if not self.floats:
                raise UsageError("no argument holds floating-point numbers, so there is nothing to differentiate")
            return tuple(self.floats)
        wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
        for key in wrt:
            if key not in self.arguments:
                raise UsageError(f"wrt names {key!r}, but the arguments are {', '.join(self.arguments)}")
            if key not in self.floats:
                raise UsageError(f"{key!r} is {describe(self.arguments[key])}: only floats have gradients")
        return wrt

    def _choose_outputs(self, outputs) -> tuple[int, ...]:
        holds = [k for k, value in enumerate(self.templates) if is_differentiable(value)]
        if outputs is None:
            if not holds:
                found = describe(self.templates[0] if self.single else tuple(self.templates))
                hint = ": is the `return` missing?" if found == "None" else ", which holds no floats"
                raise Trouble("forward", f"forward returns {found}{hint}")
            others = [describe(v) for k, v in enumerate(self.templates) if k not in holds]
            if not self.single and any(text.startswith(("dict", "tuple", "list")) for text in others):
                raise UsageError(
                    f"forward returns {' and '.join(describe(v) for v in self.templates)}; if this is (output, "
                    f"cache), wrap both with "
                    "from_cache(forward, backward); otherwise name the outputs to differentiate, e.g. outputs=0"
                )
            return tuple(holds)
        chosen = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        for k in chosen:
            if k not in holds:
                raise UsageError(f"outputs names {k}, but the outputs that hold floats are {holds}")
        return chosen

    @property
    def differentiable(self) -> bool:
        """Whether there is a backward at all."""
        return self._backward is not None

    @property
    def output_names(self) -> list[int | None]:
        """For each differentiated output its position, or None when there is only one."""
        return [None] if len(self.outputs) == 1 else list(self.outputs)

    # ---- forward ---------------------------------------------------------------------------------------------------
    def changed(self, changes: dict) -> dict:
        """Copies of all arguments; those in ``changes`` hold these entries instead."""
        return {
            key: with_vector(value, changes[key]) if key in changes else private_copy(value)
            for key, value in self.arguments.items()
        }

    def raw_forward(self, arguments: dict):
        """Call forward as it is; exceptions become Trouble."""
        try:
            with np.errstate(all="ignore"):
                return self._forward(*arguments.values()) if self.by_position else self._forward(**arguments)
        except Exception as error:
            message = f"forward raises {in_words(error, arguments)}"
            if isinstance(error, TypeError) and "keyword" in str(error) and not self.by_position:
                message += "\n      (to pass arguments by position, give them as a tuple instead of a dict)"
            raise Trouble("forward", message) from error

    def values(self, **changes: np.ndarray) -> list[np.ndarray]:
        """The differentiated outputs as flat vectors, with the entries of some arguments changed."""
        result = self.raw_forward(self.changed(changes))
        result = list(result) if isinstance(result, tuple | list) else [result]
        return [np.ravel(to_vector(result[k])) for k in self.outputs]

    def complex_values(self, key: str, entries: np.ndarray) -> list[np.ndarray]:
        """Like :meth:`values` with complex entries in one argument; dropping an imaginary part raises."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return self.values(**{key: entries})

    def try_values(self, **changes) -> list[np.ndarray] | None:
        """:meth:`values`, or None where the forward raises or is not finite (outside of its domain)."""
        try:
            values = self.values(**changes)
        except Trouble:
            return None
        return values if all(np.all(np.isfinite(v)) for v in values) else None

    # ---- cotangents ------------------------------------------------------------------------------------------------
    def cotangents(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Random cotangents as flat vectors, one for each differentiated output; no entry is close to zero."""
        return [floored(rng, to_vector(self.templates[k]).size) for k in self.outputs]

    def pack(self, cotangents, dtype=np.float64):
        """Flat cotangents in the form of the outputs: one alone when one output is differentiated, otherwise a tuple.

        The tuple has one place for each output: None where the output holds no floats, zeros where it is not
        differentiated.
        """
        packed: list = [None] * len(self.templates)
        for k, template in enumerate(self.templates):
            if is_differentiable(template):
                packed[k] = cast(with_vector(template, np.zeros(to_vector(template).size)), dtype)
        for k, vector in zip(self.outputs, cotangents, strict=True):
            packed[k] = cast(with_vector(self.templates[k], vector), dtype)
        return packed[self.outputs[0]] if len(self.outputs) == 1 else tuple(packed)

    def alone(self, cotangents, which: int) -> list[np.ndarray]:
        """The cotangents with all but one output's set to zero."""
        return [c if k == which else np.zeros_like(c) for k, c in enumerate(cotangents)]

    # ---- backward --------------------------------------------------------------------------------------------------
    def raw_backward(self, packed, arguments: dict):
        """Call backward with cotangents in their final form; exceptions become Trouble."""
        lead, keywords, positions = self._call_plan(packed, arguments)
        try:
            with np.errstate(all="ignore"):
                return self._backward(*lead, *positions, **keywords)
        except Exception as error:
            shown = packed if isinstance(packed, tuple) else (packed,)
            gradient = {f"cotangent{k if len(shown) > 1 else ''}": value for k, value in enumerate(shown)}
            raise Trouble("raises", f"backward raises {in_words(error, {**gradient, **arguments})}") from error

    def gradients(self, cotangents, **changes: np.ndarray) -> dict[str, np.ndarray]:
        """The gradients of ``sum(cotangent * output)`` as flat float64 vectors, by name."""
        arguments = self.changed(changes)
        return self.collect(self.raw_backward(self.pack(cotangents), arguments))

    def collect(self, result) -> dict[str, np.ndarray]:
        """What backward returned, as flat vectors by name; Trouble in words when it is not gradients."""
        named = self.named(result)
        return {key: self.entries_of(key, named[key]) for key in self.wrt}

    def named(self, result) -> dict[str, object]:
        """What backward returned, by the name of the argument."""
        if result is None:
            raise Trouble("returns", "backward returns None: is the `return` missing, or is it not written yet?")
        if hasattr(result, "_asdict"):
            result = result._asdict()
        elif dataclasses.is_dataclass(result):
            result = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        if isinstance(result, dict):
            named = {}
            for key in self.wrt:
                found = [k for k in (f"grad_{key}", key, f"d{key}", f"d_{key}", f"{key}_grad") if k in result]
                if not found:
                    raise Trouble(
                        "returns",
                        f"backward returns no gradient for {key}: it has {', '.join(map(str, result)) or 'nothing'} "
                        f"(expected the key "
                        f"'grad_{key}' or '{key}'; to leave it out, name the others in wrt=...)",
                        key,
                    )
                if len(found) > 1:
                    raise Trouble("returns", f"backward returns two gradients for {key}: {' and '.join(found)}", key)
                named[key] = result[found[0]]
            return named
        if isinstance(result, tuple | list):
            for names in (self.wrt, self.floats, list(self.arguments)):
                if len(result) == len(names) and set(self.wrt) <= set(names):
                    return {key: part for key, part in zip(names, result, strict=True) if key in self.wrt}
            raise Trouble(
                "returns",
                f"backward returns {len(result)} gradients, but there are {len(self.wrt)} arguments to "
                f"differentiate: {', '.join(self.wrt)} "
                "(one gradient each, in this order; to check fewer, name them in wrt=...)",
            )
        if len(self.wrt) == 1:
            return {self.wrt[0]: result}
        raise Trouble(
            "returns",
            f"backward returns one gradient ({describe(result)}), but there are {len(self.wrt)} arguments to "
            f"differentiate: "
            f"{', '.join(self.wrt)} (to check only one, name it: wrt='{self.wrt[0]}')",
        )

    def entries_of(self, key: str, gradient) -> np.ndarray:
        """One gradient as a flat float64 vector of the argument's entries."""
        value = self.arguments[key]
        size = to_vector(value).size
        if gradient is None:
            raise Trouble("returns", f"the gradient of {key} is None: not written yet?", key)
        if is_sparse(value):
            vector = _stored_entries(key, value, gradient)
        else:
            if is_sparse(gradient):
                raise Trouble("shape", f"the gradient of {key} is {describe(gradient)}, but {key} is dense", key)
            array = np.asarray(gradient)
            if array.dtype == object:
                raise Trouble("returns", f"the gradient of {key} is {describe(gradient)}, not an array of numbers", key)
            if array.shape != np.shape(value):
                raise Trouble("shape", _wrong_shape(key, value, array), key)
            vector = array.ravel()
        if np.iscomplexobj(vector):
            raise Trouble("dtype", f"the gradient of {key} is complex, although everything that went in is real", key)
        vector = np.array(vector, dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(vector))
        if bad.size:
            where = entry_name(key, value, int(bad[0]))
            raise Trouble(
                "finite",
                f"the gradient of {key} is {vector[bad[0]]} at {where} ({bad.size} of {size} entries are NaN or "
                f"infinite), although the forward "
                f"is finite: a division by zero, a log of zero, or an overflow? {where} is "
                f"{to_vector(value)[bad[0]]:.6g}",
                key,
            )
        return vector

    def _call_plan(self, packed, arguments: dict):
        """How backward wants to be called: leading cotangents, keyword arguments, positional arguments."""
        values = list(arguments.values())
        parameters = _parameters(self._backward)
        if parameters is None or any(p.kind == p.VAR_POSITIONAL for p in parameters):
            return (packed,), {}, values
        leading = []
        for p in parameters:
            if p.name in arguments or p.name == "output" or p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD):
                break
            leading.append(p)
        known = {p.name for p in parameters if p.name in arguments}
        takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
        cotangents = packed if isinstance(packed, tuple) and len(leading) == len(packed) > 1 and known else (packed,)
        rest = parameters[len(cotangents) :]
        missing = [
            p.name
            for p in rest
            if p.default is p.empty and p.kind != p.VAR_KEYWORD and p.name not in arguments and p.name != "output"
        ]
        if not missing:
            keywords = {k: v for k, v in arguments.items() if takes_any or any(p.name == k for p in rest)}
            if any(p.name == "output" for p in rest) and "output" not in arguments:
                keywords["output"] = self.raw_forward({k: private_copy(v) for k, v in arguments.items()})
            if all(p.kind != p.POSITIONAL_ONLY for p in rest):
                return cotangents, keywords, []
        positional = [p for p in rest if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        required = [p for p in positional if p.default is p.empty]
        if len(required) <= len(values) <= len(positional) and not any(p.name in arguments for p in required):
            return (packed,), {}, values
        if len(required) <= len(values) <= len(positional) and self.by_position:
            return (packed,), {}, values
        raise Trouble(
            "signature",
            f"backward asks for {', '.join(map(repr, missing))}, which is none of the arguments "
            f"({', '.join(arguments)}). A backward is called "
            "as backward(cotangent, **arguments), with `output` for what the forward returned; one that takes a "
            "cache is wrapped "
            "with from_cache(forward, backward)",
        )

    # ---- scales ----------------------------------------------------------------------------------------------------
    def entries(self, key: str) -> np.ndarray:
        """The entries of one argument as a flat vector (n,)."""
        return to_vector(self.arguments[key])

    def entry(self, key: str, position: int) -> str:
        """The name of one entry, e.g. ``'x[2, 1]'``."""
        return entry_name(key, self.arguments[key], position)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape in which the entries of an argument are reported (stored entries for a sparse one)."""
        value = self.arguments[key]
        return (value.data.size,) if is_sparse(value) else np.shape(value)


def floored(rng: np.random.Generator, size: int) -> np.ndarray:
    """Random entries of either sign whose magnitudes lie in [0.5, 1.5): each contributes, none dominates."""
    return rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)


def stream(seed: int, *names) -> np.random.Generator:
    """A generator of its own for each check and argument, so that a check alone draws what it draws among others."""
    words = [part for name in names for part in str(name).encode()]
    return np.random.default_rng([seed, len(words), *words])


def _parameters(function) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _positional_only(forward) -> bool:
    parameters = _parameters(forward)
    return isinstance(forward, np.ufunc) or parameters is None or any(p.kind == p.POSITIONAL_ONLY for p in parameters)


def _names(forward, count: int) -> list[str]:
    """Names for arguments passed by position: the forward's own where it tells them."""
    parameters = None if isinstance(forward, np.ufunc) else _parameters(forward)
    names = [p.name for p in parameters or [] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    if isinstance(forward, np.ufunc):
        names = ["x"]
    return names + [f"argument{k}" for k in range(len(names), count)]


def _check_names(forward, arguments: dict, by_position: bool) -> None:
    parameters = _parameters(forward)
    if by_position or parameters is None or any(p.kind == p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters]
    unknown = [key for key in arguments if key not in names]
    if unknown:
        raise UsageError(f"forward takes no argument {unknown[0]!r}: it takes {', '.join(names) or 'none'}")
    missing = [
        p.name for p in parameters if p.default is p.empty and p.name not in arguments and p.kind != p.VAR_POSITIONAL
    ]
    if missing:
        raise UsageError(
            f"forward also needs {', '.join(map(repr, missing))}; the arguments given are {', '.join(arguments)}"
        )


def call_with(function, arguments: dict):
    """Call a helper function such as an active set with those of the arguments that it names."""
    parameters = _parameters(function)
    if parameters is None or any(p.kind == p.VAR_KEYWORD for p in parameters):
        return function(**arguments)
    named = [p.name for p in parameters]
    if any(name in arguments for name in named):
        return function(**{k: v for k, v in arguments.items() if k in named})
    return function(*list(arguments.values())[: len(named)])


def _stored_entries(key: str, value, gradient) -> np.ndarray:
    stored = to_vector(value)
    if is_sparse(gradient):
        if gradient.shape != value.shape:
            raise Trouble(
                "shape", f"the gradient of {key} has shape {gradient.shape}, {key} itself has {value.shape}", key
            )
        same = gradient.format == value.format and gradient.data.size == stored.size
        if same and all(
            np.array_equal(getattr(gradient, part), getattr(value, part))
            for part in ("indices", "indptr", "row", "col")
            if hasattr(value, part)
        ):
            return to_vector(gradient)
        ours, theirs = value.tocoo(), gradient.tocoo()
        where = np.lexsort((ours.col, ours.row)), np.lexsort((theirs.col, theirs.row))
        if ours.nnz == theirs.nnz and all(
            np.array_equal(getattr(ours, part)[where[0]], getattr(theirs, part)[where[1]]) for part in ("row", "col")
        ):
            vector = np.empty(stored.size)
            vector[where[0]] = theirs.data[where[1]]
            return vector
        raise Trouble(
            "sparse entries",
            f"the gradient of {key} must live on the {stored.size} stored entries of {key}, but has {gradient.nnz} "
            f"elsewhere or in another "
            "number (were zeros dropped, or does it live on the transpose?)",
            key,
        )
    array = np.asarray(gradient)
    if array.shape == (stored.size,):
        return array
    if array.shape == value.shape:
        raise Trouble(
            "sparse entries",
            f"the gradient of {key} is dense, {describe(array)}: return only its {stored.size} stored entries, as a "
            f"vector in the order of "
            f"{key}.data or as a sparse matrix of the same pattern",
            key,
        )
    raise Trouble(
        "shape", f"the gradient of {key} is {describe(array)}, but {key} has {stored.size} stored entries", key
    )


def _wrong_shape(key: str, value, array: np.ndarray) -> str:
    shape = np.shape(value)
    text = f"the gradient of {key} has shape {array.shape}, {key} itself has {shape}"
    if array.ndim == 2 and array.shape[::-1] == shape:
        return text + ": it is transposed"
    if array.size == int(np.prod(shape)):
        return text + ": right number of entries, so a reshape (or keepdims) is missing"
    if array.ndim > len(shape) and (not shape or array.shape[array.ndim - len(shape) :] == shape):
        axes = tuple(range(array.ndim - len(shape)))
        return (
            text
            + f": the forward broadcasts {key}, so the gradient is to be "
            + f"summed over axis {axes if len(axes) > 1 else axes[0]}"
        )
    if array.ndim == len(shape) and all(a == b or b == 1 for a, b in zip(array.shape, shape, strict=True)):
        return (
            text
            + f": the forward broadcasts {key}, so the gradient is to be summed over axes of length 1 (keepdims=True)"
        )
    if array.ndim == 0:
        return text + ": one number instead of an array; is a sum too many in it?"
    return text


def in_words(error: BaseException, arguments: dict) -> str:
    """An exception from the code under check: what, in which of *its* lines, with which shapes."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frame = _their_frame(error)
    if frame is not None:
        text += f"\n      in {frame.filename}, line {frame.lineno}, in {frame.name}"
        line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
        text += f"\n        {line}" if line else ""
    if isinstance(error, NotImplementedError):
        return text + "\n      (not written yet)"
    shapes = ", ".join(f"{key} {np.shape(v)}" for key, v in arguments.items() if hasattr(v, "shape") or is_scalar(v))
    if isinstance(error, ValueError | IndexError | TypeError) and shapes:
        text += f"\n      (shapes: {shapes})"
    return text


def _their_frame(error: BaseException):
    """The deepest frame that belongs neither to the checker nor to an installed library."""
    libraries = [os.path.dirname(os.path.abspath(np.__file__)), os.path.dirname(os.path.abspath(os.__file__))]
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if os.path.dirname(os.path.abspath(f.filename)) != _HERE
    ]
    theirs = [
        f
        for f in frames
        if not any(os.path.abspath(f.filename).startswith(lib + os.sep) for lib in libraries)
        and "site-packages" not in f.filename
    ]
    return theirs[-1] if theirs else None
