"""A forward and a backward that somebody else wrote, called with care.

:class:`Operation` knows how to hand arguments and cotangents over, gives every call its own copies, and brings what
comes back into one form. Whatever a half-finished backward does wrong becomes a :class:`Trouble` in words, with the
line of *its* code.

What is differentiated is the *leaves* of the arguments: an array is its own leaf, ``{"params": {"w": w, "b": b}}`` has
the leaves ``params.w`` and ``params.b``. Everywhere in the checker "argument" means such a leaf. Outputs are split in the
same way.

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
from c2f_np.gradcheck.differences import steps_of
from c2f_np.gradcheck.values import (
    cast,
    children,
    describe,
    entry_name,
    is_differentiable,
    is_numbers,
    is_scalar,
    is_sparse,
    leaves,
    map_leaves,
    norm,
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

        self._tops = {leaf: key for key, value in self.arguments.items() for leaf in leaves(value, key)}
        self.leaves = {k: leaf for key, value in self.arguments.items() for k, leaf in leaves(value, key).items()}
        self.floats = [key for key, value in self.leaves.items() if is_differentiable(value)]
        self.wrt = self._choose(wrt)
        self.excluded = [key for key in self.floats if key not in self.wrt]
        values = self.raw_forward(self.arguments)
        self.template = values
        self.templates = self.split(values)
        self.outputs = self._choose_outputs(outputs)
        self._here: list[np.ndarray] | None = None
        self.eps = float(np.finfo(np.float64).eps)  # the rounding that is promised
        self.grain = self.eps  # the rounding that the outputs have, relative to their size
        for k in self.outputs:
            if not np.all(np.isfinite(to_vector(self.templates[k]))):
                raise Trouble("forward", f"forward returns NaN or infinity in output {k} at these arguments{self._large()}")

    # ---- what is asked for -----------------------------------------------------------------------------------------
    def _choose(self, wrt) -> tuple[str, ...]:
        if wrt is None:
            if not self.floats:
                found = " and ".join(f"{key} is {describe(value)}" for key, value in self.leaves.items()) or "there is none"
                raise UsageError(
                    f"no argument holds floating-point numbers, so there is nothing to differentiate: {found} (give "
                    f"arrays of floats)"
                )
            return tuple(self.floats)
        chosen = []
        for key in (wrt,) if isinstance(wrt, str) else tuple(wrt):
            below = self.below(key)
            if not below:
                raise UsageError(f"wrt names {key!r}, but the arguments are {', '.join(self.leaves)}")
            floats = [leaf for leaf in below if leaf in self.floats]
            if not floats:
                raise UsageError(f"{key!r} is {describe(self.leaves.get(key))}: only floats have gradients")
            chosen += floats
        return tuple(dict.fromkeys(chosen))

    def below(self, name: str) -> list[str]:
        """The leaves that a name stands for: itself, or all leaves of the container of that name."""
        return [leaf for leaf in self.leaves if leaf == name or leaf.startswith((f"{name}.", f"{name}["))]

    def tops(self, names) -> list[str]:
        """The arguments, as the functions take them, to which these leaves belong."""
        return list(dict.fromkeys(self._tops[leaf] for leaf in names))

    def split(self, values) -> dict:
        """The outputs by position, those inside of further containers by name."""
        parts = children(values, numbers=True)
        if parts is None:
            return {0: values}
        if type(values) is tuple and all(isinstance(part, np.ndarray | float) for part in values):
            return dict(enumerate(values))
        found = {}
        for k, (suffix, part) in enumerate(parts.items()):
            inner = leaves(part, suffix.removeprefix("."), numbers=True)
            flat = children(part, numbers=True) is None and not isinstance(values, dict)
            found |= {k: part} if flat else inner
        return found

    def _choose_outputs(self, outputs) -> tuple:
        holds = [k for k, value in self.templates.items() if is_differentiable(value)]
        if outputs is None:
            if not holds:
                hint = ": is the `return` missing?" if self.template is None else ", which holds no floats"
                raise Trouble("forward", f"forward returns {describe(self.template)}{hint}")
            if type(self.template) is tuple and any(children(part) is not None for part in self.template):
                raise UsageError(
                    f"forward returns {' and '.join(describe(v) for v in self.template)}; if this is (output, cache), wrap both "
                    "with from_cache(forward, backward); otherwise name the outputs to differentiate, e.g. outputs=0"
                )
            return tuple(holds)
        chosen = (outputs,) if isinstance(outputs, int | str) else tuple(outputs)
        for k in chosen:
            if k not in holds:
                raise UsageError(f"outputs names {k}, but the outputs that hold floats are {holds}")
        return chosen

    def _large(self) -> str:
        """The largest entry that goes in, where something overflows."""
        sizes = {key: np.abs(self.entries(key)) for key in self.floats if self.entries(key).size}
        key = max(sizes, key=lambda k: np.nan_to_num(sizes[k], posinf=1e308).max(), default=None)
        if key is None or not np.nan_to_num(sizes[key], posinf=1e308).max() > 30:
            return ": a division by zero, a log of zero?"
        i = int(np.argmax(np.nan_to_num(sizes[key], posinf=1e308)))
        return f": an overflow? The largest entry that goes in is {self.entry(key, i)} = {self.entries(key)[i]:.6g}"

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

        def one(name, leaf):
            return with_vector(leaf, changes[name]) if name in changes else private_copy(leaf)

        return {key: map_leaves(one, value, key) for key, value in self.arguments.items()}

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
        return self.vectors(self.raw_forward(self.changed(changes)))

    def vectors(self, result) -> list[np.ndarray]:
        """What forward returned as flat vectors of the differentiated outputs, real ones in float64."""
        parts = self.split(result)
        missing = [k for k in self.outputs if k not in parts]
        if missing:
            raise Trouble("forward", f"forward returns no output {missing[0]} any more: {describe(result)}")
        found = [to_vector(parts[k]) for k in self.outputs]
        return [v if np.iscomplexobj(v) else v.astype(np.float64, copy=False) for v in found]

    def here(self) -> list[np.ndarray]:
        """:meth:`values` at the point itself, computed once."""
        if self._here is None:
            self._here = self.values()
        return self._here

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

    def measure_grain(self, rng: np.random.Generator) -> None:
        """Set ``grain``, the roughness of the forward: what fourth differences over tiny steps leave of it.

        A forward that computes in float32, or subtracts large numbers, is rougher than float64 itself.
        """
        lines = {key: floored(rng, self.entries(key).size) * np.abs(self.entries(key)) for key in self.wrt}
        for step in (2.0**-24, 2.0**-18, 2.0**-12):
            rows = [self.try_values(**{key: self.entries(key) + k * step * v for key, v in lines.items()}) for k in range(9)]
            if any(row is None for row in rows):
                continue
            found = [float(np.finfo(np.float64).eps)]
            for parts in zip(*rows, strict=True):
                size = np.sum(np.abs(parts[0]))
                rough = np.sum(np.abs(np.diff(np.array(parts), 4, axis=0)), axis=1) / 8  # noise grows eightfold in it
                found.append(float(np.median(rough) / size) if 0 < size < np.inf else 0.0)
            self.grain = max(self.eps, *found) if max(found) > 8 * found[0] else self.eps
            if sum(int(np.sum(a != b)) for a, b in zip(rows[0], rows[8], strict=True)) > 0.1 * sum(a.size for a in rows[0]):
                return  # otherwise the steps may be too small for the stairs

    # ---- cotangents ------------------------------------------------------------------------------------------------
    def cotangents(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Random cotangents as flat vectors, one for each differentiated output; no entry is close to zero."""
        return [floored(rng, to_vector(self.templates[k]).size) for k in self.outputs]

    def pack(self, cotangents, dtype=np.float64):
        """Flat cotangents in the form of the outputs: one alone when one output is differentiated, otherwise a tuple.

        The tuple has one place for each output: None where the output holds no floats, zeros where it is not
        differentiated.
        """
        vectors = dict(zip(self.outputs, cotangents, strict=True))
        packed = {
            k: cast(with_vector(leaf, vectors.get(k, np.zeros(to_vector(leaf).size))), dtype)
            for k, leaf in self.templates.items()
            if is_differentiable(leaf)
        }
        if children(self.template, numbers=True) is None or (len(self.outputs) == 1 and type(self.template) in (tuple, list)):
            return packed[self.outputs[0]]
        in_order = iter(packed.get(k) for k in self.templates)
        filled = map_leaves(lambda _, leaf: next(in_order), self.template, numbers=True)
        return tuple(filled) if type(filled) is list else filled

    def alone(self, cotangents, which: int) -> list[np.ndarray]:
        """The cotangents with all but one output's set to zero."""
        return [c if k == which else np.zeros_like(c) for k, c in enumerate(cotangents)]

    def resolution(self, key: str, cotangents, gradient: np.ndarray) -> float:
        """What one rounding of all outputs amounts to, relative to a gradient (n,): saturated, it is all differences."""
        outputs = sum(float(np.dot(np.abs(c), np.abs(f))) for c, f in zip(cotangents, self.here(), strict=True))
        return self.eps * outputs / max(norm(gradient * steps_of(self.entries(key))), 1e-300)

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
        """What backward returned, by the name of the leaf."""
        found = self.returned(result)
        for key in self.wrt:
            if key not in found:
                keys = ", ".join(map(str, _mapping(result) or ())) or "nothing"
                raise Trouble(
                    "returns",
                    f"backward returns no gradient for {key}: it has {keys} (expected the key 'grad_{key}' or '{key}'; to "
                    f"leave it out, name the others in wrt=...)",
                    key,
                )
        return {key: found[key] for key in self.wrt}

    def returned(self, result) -> dict[str, object]:
        """All that backward returned, by the name of the leaf, also for leaves that are not differentiated.

        A key that is no argument's stays as it is.
        """
        if result is None:
            raise Trouble("returns", "backward returns None: is the `return` missing, or is it not written yet?")
        tops, mapping = self.tops(self.wrt), _mapping(result)
        alone = tops[0] if len(tops) == 1 and children(self.arguments[tops[0]]) is not None else None
        parts: dict[str, object] = {}
        if mapping is not None:
            found = {key: _keys(mapping, key) for key in self.arguments}
            if alone and not found[alone]:  # the gradient of the only argument, in its structure
                parts[alone] = result
            else:
                for key, keys in found.items():
                    if len(keys) > 1:
                        raise Trouble("returns", f"backward returns two gradients for {key}: {' and '.join(keys)}", key)
                    if keys:
                        parts[key] = mapping[keys[0]]
                used = {k for keys in found.values() for k in keys}
                parts |= {k: part for k, part in mapping.items() if k not in used}
        elif isinstance(result, tuple | list):
            choices = [names for names in (tops, self.tops(self.floats), list(self.arguments)) if len(names) == len(result)]
            if alone and not (choices and _is_tree(result[0])):
                parts[alone] = result
            elif choices:
                parts = dict(zip(choices[0], result, strict=True))
            else:
                raise Trouble(
                    "returns",
                    f"backward returns {len(result)} gradients, but there are {len(tops)} arguments to differentiate: "
                    f"{', '.join(tops)} (one gradient each, in this order; to check fewer, name them in wrt=...)",
                )
        elif len(tops) == 1:
            parts[tops[0]] = result
        else:
            raise Trouble(
                "returns",
                f"backward returns one gradient ({describe(result)}), but there are {len(tops)} arguments to differentiate: "
                f"{', '.join(tops)} (to check only one, name it: wrt='{(tops or ['...'])[0]}')",
            )
        found = {}
        for key, part in parts.items():
            self._spread(key, self.arguments.get(key), part, found)
        return found

    def _spread(self, name: str, value, gradient, found: dict) -> None:
        """The gradient of one argument, split into its leaves as the argument is."""
        parts = children(value)
        if parts is None or not parts:
            found[name] = gradient
            return
        mapping = _mapping(gradient)
        if gradient is None:
            given = [None] * len(parts)
        elif isinstance(value, dict) and mapping is not None:
            keys = [_keys(mapping, key) for key in value]
            given = [mapping[k[0]] if k else None for k in keys]
            used = {k for ks in keys for k in ks}
            found |= {f"{name}[{k!r}]": part for k, part in mapping.items() if k not in used}
        elif not isinstance(value, dict) and isinstance(gradient, tuple | list) and len(gradient) == len(parts):
            given = list(gradient)
        else:
            raise Trouble(
                "returns",
                f"the gradient of {name} is {describe(gradient)}, but {name} is {describe(value)}: it must have the same "
                f"structure",
                name,
            )
        for (suffix, part), g in zip(parts.items(), given, strict=True):
            self._spread(name + suffix, part, g, found)

    def unchecked(self, result) -> dict[str, object]:
        """Gradients that came back for something that is not differentiated, by name."""
        return {
            key: gradient
            for key, gradient in self.returned(result).items()
            if gradient is not None and key not in self.floats and key in self.leaves
        }

    def entries_of(self, key: str, gradient) -> np.ndarray:
        """One gradient as a flat float64 vector of the argument's entries."""
        value = self.leaves[key]
        size = to_vector(value).size
        if gradient is None:
            raise Trouble("returns", f"the gradient of {key} is None: not written yet?", key)
        if is_sparse(value):
            vector = _stored_entries(key, value, gradient)
        else:
            if is_sparse(gradient):
                raise Trouble("shape", f"the gradient of {key} is {describe(gradient)}, but {key} is dense", key)
            try:
                array = np.asarray(gradient)
            except Exception as error:  # a ragged list, a tensor that records its own gradient
                what = f"the gradient of {key} is {describe(gradient)}, not an array of numbers ({error})"
                raise Trouble("returns", what, key) from error
            if array.dtype == object:
                raise Trouble("returns", f"the gradient of {key} is {describe(gradient)}, not an array of numbers", key)
            if array.shape != np.shape(value):
                loss = array.ndim == 0 and self.is_loss()
                hint = " Or does backward take no cotangent? Then wrap it with from_loss." if loss else ""
                raise Trouble("shape", _wrong_shape(key, value, array) + hint, key)
            vector = array.ravel()
        if np.iscomplexobj(vector):
            raise Trouble("dtype", f"the gradient of {key} is complex, although everything that went in is real", key)
        vector = np.array(vector, dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(vector))
        if bad.size:
            where = entry_name(key, value, int(bad[0]))
            raise Trouble(
                "finite",
                f"the gradient of {key} is {vector[bad[0]]} at {where} ({bad.size} of {size} entries are NaN or infinite), "
                f"although the forward is finite: a division by zero, a log of zero, or an overflow? {where} is "
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
        if self.is_loss() and 0 < len(parameters) <= len(arguments) and all(p.name in arguments for p in parameters):
            raise Trouble(
                "signature",
                f"backward takes no cotangent: its parameters {', '.join(p.name for p in parameters)} are all arguments. Wrap "
                f"a loss whose backward has no cotangent with from_loss(forward, backward)",
            )
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
            f"backward asks for {', '.join(map(repr, missing))}, which is none of the arguments ({', '.join(arguments)}). A "
            "backward is called as backward(cotangent, **arguments), with `output` for what the forward returned; one that "
            "takes a cache is wrapped with from_cache(forward, backward)",
        )

    def is_loss(self) -> bool:
        """Whether the outputs are numbers and the arguments arrays."""
        return all(np.shape(self.templates[k]) == () for k in self.outputs) and all(np.shape(self.leaves[k]) for k in self.wrt)

    # ---- scales ----------------------------------------------------------------------------------------------------
    def entries(self, key: str) -> np.ndarray:
        """The entries of one argument as a flat vector (n,)."""
        return to_vector(self.leaves[key])

    def entry(self, key: str, position: int) -> str:
        """The name of one entry, e.g. ``'x[2, 1]'``."""
        return entry_name(key, self.leaves[key], position)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape in which the entries of an argument are reported (stored entries for a sparse one)."""
        value = self.leaves[key]
        return (value.data.size,) if is_sparse(value) else np.shape(value)


def floored(rng: np.random.Generator, size: int) -> np.ndarray:
    """Random entries of either sign whose magnitudes lie in [0.5, 1.5): each contributes, none dominates."""
    return rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.5, size)


def stream(seed: int, *names) -> np.random.Generator:
    """A generator of its own for each check and argument, so that a check alone draws what it draws among others."""
    words = [part for name in names for part in str(name).encode()]
    return np.random.default_rng([seed, len(words), *words])


def _mapping(result) -> dict | None:
    """Gradients by key, when what backward returned has keys: a dictionary, a named tuple or a dataclass."""
    if hasattr(result, "_asdict"):
        return result._asdict()
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return result if isinstance(result, dict) else None


def _keys(mapping: dict, key) -> list:
    """The keys under which a mapping holds the gradient of ``key``."""
    return [k for k in (f"grad_{key}", key, f"d{key}", f"d_{key}", f"{key}_grad") if k in mapping]


def _is_tree(value) -> bool:
    return value is None or children(value, numbers=True) is not None


def _parameters(function) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _positional_only(forward) -> bool:
    parameters = _parameters(forward)
    return _is_ufunc(forward) or parameters is None or any(p.kind == p.POSITIONAL_ONLY for p in parameters)


def _is_ufunc(function) -> bool:
    """Whether arguments go by position as in a ufunc: NumPy's own and those that Numba makes."""
    return isinstance(function, np.ufunc) or type(function).__name__ in ("DUFunc", "GUFunc")


def _names(forward, count: int) -> list[str]:
    """Names for arguments passed by position: the forward's own where it tells them."""
    parameters = None if _is_ufunc(forward) else _parameters(forward)
    names = [p.name for p in parameters or [] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    if _is_ufunc(forward):
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
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in arguments and p.kind != p.VAR_POSITIONAL]
    if missing:
        raise UsageError(f"forward also needs {', '.join(map(repr, missing))}; the arguments given are {', '.join(arguments)}")


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
            raise Trouble("shape", f"the gradient of {key} has shape {gradient.shape}, {key} itself has {value.shape}", key)
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
            f"the gradient of {key} must live on the {stored.size} stored entries of {key}, but has {gradient.nnz} elsewhere or "
            "in another number (were zeros dropped, or does it live on the transpose?)",
            key,
        )
    array = np.asarray(gradient)
    if array.shape == (stored.size,):
        return array
    if array.shape == value.shape:
        raise Trouble(
            "sparse entries",
            f"the gradient of {key} is dense, {describe(array)}: return only its {stored.size} stored entries, as a vector in "
            f"the order of {key}.data or as a sparse matrix of the same pattern",
            key,
        )
    raise Trouble("shape", f"the gradient of {key} is {describe(array)}, but {key} has {stored.size} stored entries", key)


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
        return text + f": the forward broadcasts {key}, so the gradient is to be summed over axes of length 1 (keepdims=True)"
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
        inner = traceback.extract_tb(error.__traceback__)[-1].filename.replace(os.sep, "/")
        if "/numba/" in inner:
            jit = "1" if os.environ.get("NUMBA_DISABLE_JIT") == "1" else "0"
            return text + f"\n      (raised by Numba: this needs to be compiled; NUMBA_DISABLE_JIT is {jit})"
        return text + "\n      (not written yet)"
    lists = [key for key, value in arguments.items() if is_numbers(value)]
    if lists and isinstance(error, AttributeError | TypeError):
        text += f"\n      ({', '.join(lists)}: a list of numbers is handed over as a list; give an array)"
    shapes = ", ".join(f"{key} {np.shape(v)}" for key, v in arguments.items() if hasattr(v, "shape") or is_scalar(v))
    if isinstance(error, ValueError | IndexError | TypeError) and shapes:
        text += f"\n      (shapes: {shapes})"
    return text


def _their_frame(error: BaseException):
    """The deepest frame that belongs neither to the checker nor to an installed library."""
    libraries = [os.path.dirname(os.path.abspath(np.__file__)), os.path.dirname(os.path.abspath(os.__file__))]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.dirname(os.path.abspath(f.filename)) != _HERE]
    theirs = [
        f
        for f in frames
        if not any(os.path.abspath(f.filename).startswith(lib + os.sep) for lib in libraries)
        and "site-packages" not in f.filename
    ]
    return theirs[-1] if theirs else None
