"""A forward and a backward that somebody else wrote, called with care.

:class:`Operation` knows how to hand arguments and cotangents over, gives every call its own copies, and brings what
comes back into one form. Whatever a half-finished backward does wrong becomes a :class:`~c2f_np.gradcheck.trouble.Trouble`
in words, with the line of *its* code.

What is differentiated is the *leaves* of the arguments: an array is its own leaf, ``{"params": {"w": w, "b": b}}`` has
the leaves ``params.w`` and ``params.b``. Everywhere in the checker "argument" means such a leaf. Outputs are split in the
same way.

Shapes: n entries of an argument; outputs are a list of arrays of any shape, each with a cotangent of its shape.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from functools import cached_property

import numpy as np

from .directions import floored, scale_of, steps_of
from .trouble import Trouble, UsageError, in_words
from .values import (
    cast,
    children,
    copy_leaf,
    describe,
    entry_name,
    is_differentiable,
    is_sparse,
    leaves,
    map_leaves,
    norm,
    private_copy,
    to_vector,
    with_vector,
)

EPS = float(np.finfo(np.float64).eps)


class Operation:
    """A forward and its backward together with the arguments at which they are checked.

    All as :func:`c2f_np.gradcheck.check_gradients` takes it. The arguments are copied at once, float32 as float64.
    """

    def __init__(self, forward, backward, arguments, *, wrt=None, outputs=None):
        if not callable(forward) or not (backward is None or callable(backward)):
            raise UsageError("forward and backward must be functions")
        self._forward, self._backward, self._parameters = forward, backward, parameters_of(backward)
        self.differentiable = backward is not None
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
        self.template = self.raw_forward(self.arguments)
        self.templates = self.split(self.template)
        self.outputs = self._choose_outputs(outputs)
        self.eps = self.grain = EPS  # the rounding that is promised, and what the outputs have, relative to their size
        for k in self.outputs:
            if not np.all(np.isfinite(to_vector(self.templates[k]))):
                large = self._large()
                raise Trouble(f"forward returns NaN or infinity in output {k} at these arguments{large}", "forward")

    # ---- what is asked for -----------------------------------------------------------------------------------------
    def _choose(self, wrt) -> tuple[str, ...]:
        if wrt is None:
            if not self.floats:
                found = " and ".join(f"{key} is {describe(value)}" for key, value in self.leaves.items()) or "there is none"
                raise UsageError(
                    f"no argument holds floating-point numbers, so there is nothing to differentiate: {found} (give arrays of "
                    "floats)"
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
            flat = children(part, numbers=True) is None and not isinstance(values, dict)
            found |= {k: part} if flat else leaves(part, suffix.removeprefix("."), numbers=True)
        return found

    def _choose_outputs(self, outputs) -> tuple:
        holds = [k for k, value in self.templates.items() if is_differentiable(value)]
        if outputs is None:
            if not holds:
                hint = ": is the `return` missing?" if self.template is None else ", which holds no floats"
                raise Trouble(f"forward returns {describe(self.template)}{hint}", "forward")
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
        sizes = {key: np.nan_to_num(np.abs(self.entries(key)), posinf=1e308) for key in self.floats if self.entries(key).size}
        key = max(sizes, key=lambda k: sizes[k].max(), default=None)
        if key is None or not sizes[key].max() > 30:
            return ": a division by zero, a log of zero?"
        i = int(np.argmax(sizes[key]))
        where = entry_name(key, self.leaves[key], i)
        return f": an overflow? The largest entry that goes in is {where} = {self.entries(key)[i]:.6g}"

    def is_loss(self) -> bool:
        """Whether the outputs are numbers and the arguments arrays."""
        return all(np.shape(self.templates[k]) == () for k in self.outputs) and all(np.shape(self.leaves[k]) for k in self.wrt)

    # ---- forward ---------------------------------------------------------------------------------------------------
    def changed(self, changes: dict) -> dict:
        """Copies of all arguments; those in ``changes`` hold these entries instead."""

        def one(name, leaf):
            return with_vector(leaf, changes[name]) if name in changes else copy_leaf(leaf)

        return {k: one(k, v) if k in self.leaves else map_leaves(one, v, k) for k, v in self.arguments.items()}

    def raw_forward(self, arguments: dict):
        """Call forward as it is; exceptions become Trouble."""
        try:
            with np.errstate(all="ignore"):
                return self._forward(*arguments.values()) if self.by_position else self._forward(**arguments)
        except Exception as error:
            message = f"forward raises {in_words(error, arguments)}"
            if isinstance(error, TypeError) and "keyword" in str(error) and not self.by_position:
                message += "\n      (to pass arguments by position, give them as a tuple instead of a dict)"
            raise Trouble(message, "forward") from error

    def values(self, **changes: np.ndarray) -> list[np.ndarray]:
        """The differentiated outputs as flat vectors, with the entries of some arguments changed."""
        return self.vectors(self.raw_forward(self.changed(changes)))

    def vectors(self, result) -> list[np.ndarray]:
        """What forward returned as flat vectors of the differentiated outputs, real ones in float64."""
        parts = self.split(result)
        missing = [k for k in self.outputs if k not in parts]
        if missing:
            raise Trouble(f"forward returns no output {missing[0]} any more: {describe(result)}", "forward")
        found = [to_vector(parts[k]) for k in self.outputs]
        return [v if np.iscomplexobj(v) else v.astype(np.float64, copy=False) for v in found]

    @cached_property
    def here(self) -> list[np.ndarray]:
        """:meth:`values` at the point itself."""
        return self.values()

    def entries(self, key: str) -> np.ndarray:
        """The entries of one argument as a new flat vector (n,)."""
        return to_vector(self.leaves[key])

    def complex_values(self, key: str, entries: np.ndarray) -> list[np.ndarray]:
        """Like :meth:`values` with complex entries in one argument; dropping an imaginary part raises."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return self.values(**{key: entries})

    def measure_grain(self, rng: np.random.Generator) -> None:
        """Set ``grain``, the roughness of the forward: what fourth differences over tiny steps leave of it.

        A forward that computes in float32, or subtracts large numbers, is rougher than float64 itself.
        """
        lines = {key: floored(rng, self.entries(key).size) * np.abs(self.entries(key)) for key in self.wrt}
        for step in (2.0**-24, 2.0**-18, 2.0**-12):
            try:
                rows = [self.values(**{key: self.entries(key) + k * step * v for key, v in lines.items()}) for k in range(9)]
            except Trouble:
                continue
            if not all(np.isfinite(part).all() for row in rows for part in row):
                continue
            found = [EPS]
            for parts in zip(*rows, strict=True):
                size = np.sum(np.abs(parts[0]))
                rough = np.sum(np.abs(np.diff(np.array(parts), 4, axis=0)), axis=1) / 8  # noise grows eightfold in it
                found.append(float(np.median(rough) / size) if 0 < size < np.inf else 0.0)
            self.grain = max(self.eps, *found) if max(found) > 8 * EPS else self.eps
            if sum(int(np.sum(a != b)) for a, b in zip(rows[0], rows[8], strict=True)) > 0.1 * sum(a.size for a in rows[0]):
                return  # otherwise the steps may be too small for the stairs

    # ---- cotangents ------------------------------------------------------------------------------------------------
    def cotangents(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Random cotangents as flat vectors, one for each differentiated output; no entry is close to zero."""
        return [floored(rng, to_vector(self.templates[k]).size) for k in self.outputs]

    def pack(self, cotangents, dtype=np.float64):
        """Flat cotangents in the form of the outputs: one alone when one output is differentiated, otherwise a tuple.

        In it an output without floats has None, and one that is not differentiated has zeros.
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

    # ---- backward --------------------------------------------------------------------------------------------------
    def raw_backward(self, packed, arguments: dict):
        """Call backward with cotangents in their final form; exceptions become Trouble."""
        positional, keywords = self._call_plan(packed, arguments)
        try:
            with np.errstate(all="ignore"):
                return self._backward(*positional, **keywords)
        except Exception as error:
            shown = packed if isinstance(packed, tuple) else (packed,)
            gradient = {f"cotangent{k if len(shown) > 1 else ''}": value for k, value in enumerate(shown)}
            raise Trouble(f"backward raises {in_words(error, {**gradient, **arguments})}", "raises") from error

    def _call_plan(self, packed, arguments: dict):
        """How backward wants to be called: its positional and its keyword arguments."""
        by_position, parameters = (packed, *arguments.values()), self._parameters
        if parameters is None or any(p.kind == p.VAR_POSITIONAL for p in parameters):
            return by_position, {}
        if self.is_loss() and 0 < len(parameters) <= len(arguments) and all(p.name in arguments for p in parameters):
            raise Trouble(
                f"backward takes no cotangent: its parameters {', '.join(p.name for p in parameters)} are all arguments. Wrap "
                "a loss whose backward has no cotangent with from_loss(forward, backward)",
                "signature",
            )
        leading = 0  # parameters before the first that is an argument
        for p in parameters:
            if p.name in arguments or p.name == "output" or p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD):
                break
            leading += 1
        several = isinstance(packed, tuple) and leading == len(packed) > 1 and any(p.name in arguments for p in parameters)
        cotangents = packed if several else (packed,)
        rest = parameters[len(cotangents) :]
        names = {p.name for p in rest}
        needed = [p.name for p in rest if p.default is p.empty and p.kind != p.VAR_KEYWORD]
        missing = [name for name in needed if name not in {*arguments, "output"}]
        if not missing and all(p.kind != p.POSITIONAL_ONLY for p in rest):
            takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
            keywords = {k: v for k, v in arguments.items() if takes_any or k in names}
            if "output" in names and "output" not in arguments:
                keywords["output"] = self.raw_forward({k: private_copy(v) for k, v in arguments.items()})
            return cotangents, keywords
        positional = [p for p in rest if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        required = [p.name for p in positional if p.default is p.empty]
        fits = len(required) <= len(arguments) <= len(positional)
        if fits and (self.by_position or not any(name in arguments for name in required)):
            return by_position, {}
        raise Trouble(
            f"backward asks for {', '.join(map(repr, missing))}, which is none of the arguments ({', '.join(arguments)}). A "
            "backward is called as backward(cotangent, **arguments), with `output` for what the forward returned; one that "
            "takes a cache is wrapped with from_cache(forward, backward)",
            "signature",
        )

    def gradients(self, cotangents, **changes: np.ndarray) -> dict[str, np.ndarray]:
        """The gradients of ``sum(cotangent * output)`` as flat float64 vectors, by name."""
        arguments = self.changed(changes)
        return self.collect(self.raw_backward(self.pack(cotangents), arguments))

    def collect(self, result) -> dict[str, np.ndarray]:
        """What backward returned, as flat vectors by name; Trouble in words when it is not gradients."""
        return {key: entries_of(key, self.leaves[key], part, self.is_loss) for key, part in self.named(result).items()}

    def named(self, result) -> dict[str, object]:
        """What backward returned for the arguments that are differentiated, by the name of the leaf."""
        found = self.returned(result)
        for key in self.wrt:
            if key not in found:
                keys = ", ".join(map(str, _mapping(result) or ())) or "nothing"
                raise Trouble(
                    f"backward returns no gradient for {key}: it has {keys} (expected the key 'grad_{key}' or '{key}'; to "
                    "leave it out, name the others in wrt=...)",
                    "returns",
                    key,
                )
        return {key: found[key] for key in self.wrt}

    def returned(self, result) -> dict[str, object]:
        """All that backward returned, by the name of the leaf; a key that is no argument's stays as it is."""
        if result is None:
            raise Trouble("backward returns None: is the `return` missing, or is it not written yet?", "returns")
        tops, mapping = self.tops(self.wrt), _mapping(result)
        alone = tops[0] if len(tops) == 1 and children(self.arguments[tops[0]], numbers=True) is not None else None
        in_order = f"{len(tops)} arguments to differentiate: {', '.join(tops)}"
        parts: dict[str, object] = {}
        if mapping is not None:
            keys = {key: _keys(mapping, key) for key in self.arguments}
            if alone and not keys[alone]:  # the gradient of the only argument, in its structure
                parts[alone] = result
            else:
                for key, found in keys.items():
                    if len(found) > 1:
                        raise Trouble(f"backward returns two gradients for {key}: {' and '.join(found)}", "returns", key)
                parts = {key: mapping[found[0]] for key, found in keys.items() if found} | _unused(mapping, keys)
        elif isinstance(result, tuple | list):
            choices = [names for names in (tops, self.tops(self.floats), list(self.arguments)) if len(names) == len(result)]
            tree = choices and (result[0] is None or children(result[0], numbers=True) is not None)
            if alone and not tree:
                parts[alone] = result
            elif choices:
                parts = dict(zip(choices[0], result, strict=True))
            else:
                raise Trouble(
                    f"backward returns {len(result)} gradients, but there are {in_order} (one gradient each, in this order; to "
                    "check fewer, name them in wrt=...)",
                    "returns",
                )
        elif len(tops) == 1:
            parts[tops[0]] = result
        else:
            raise Trouble(
                f"backward returns one gradient ({describe(result)}), but there are {in_order} (to check only one, name it: "
                f"wrt='{(tops or ['...'])[0]}')",
                "returns",
            )
        found = {}
        for key, part in parts.items():
            _spread(key, self.arguments.get(key), part, found)
        return found


class Leaf:
    """One argument of an operation: its n entries, their sizes, and the operation as a function of them alone."""

    def __init__(self, operation: Operation, key: str):
        self.operation, self.key, self.value = operation, key, operation.leaves[key]
        self.entries = operation.entries(key)  # row-major, or in stored order
        self.entries.flags.writeable = False
        self.size, self.scale, self.steps = self.entries.size, scale_of(self.entries), steps_of(self.entries)
        self.shape = (self.size,) if is_sparse(self.value) else np.shape(self.value)

    def name(self, position: int) -> str:
        """The name of one entry, e.g. ``'x[2, 1]'``."""
        return entry_name(self.key, self.value, int(position))

    def values(self, entries: np.ndarray) -> list[np.ndarray] | None:
        """The outputs at these entries, or None where the forward raises or is not finite."""
        try:
            values = self.operation.values(**{self.key: entries})
        except Trouble:
            return None
        return values if all(np.isfinite(v).all() for v in values) else None

    def either_side(self, step: np.ndarray) -> list[list[np.ndarray]] | None:
        """The outputs at x + step and at x - step (n,), or None where one of them is outside."""
        above = self.values(self.entries + step)
        below = None if above is None else self.values(self.entries - step)
        return None if below is None else [above, below]

    def gradients(self, cotangents, **changes: np.ndarray) -> np.ndarray:
        """G (K, n): the gradient through each output alone."""
        operation, outputs = self.operation, range(len(cotangents))
        alone = [operation.alone(cotangents, k) for k in outputs] if len(outputs) > 1 else [cotangents]
        return np.stack([operation.gradients(each, **changes)[self.key] for each in alone])

    def resolution(self, cotangents, gradient: np.ndarray) -> float:
        """What one rounding of all outputs amounts to, relative to a gradient (n,): saturated, it is all differences."""
        outputs = sum(float(np.dot(np.abs(c), np.abs(f))) for c, f in zip(cotangents, self.operation.here, strict=True))
        return self.operation.eps * outputs / max(norm(gradient * self.steps), 1e-300)


# ---- gradients that came back ------------------------------------------------------------------------------------------
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


def _unused(mapping: dict, keys: dict) -> dict:
    """What a mapping holds besides the gradients under these keys."""
    used = {k for found in keys.values() for k in found}
    return {k: part for k, part in mapping.items() if k not in used}


def _spread(name: str, value, gradient, found: dict) -> None:
    """Put the gradient of one argument, split into its leaves as the argument is, into ``found``."""
    parts = children(value)
    if not parts:
        found[name] = gradient
        return
    mapping = _mapping(gradient)
    if gradient is None:
        given = [None] * len(parts)
    elif isinstance(value, dict) and mapping is not None:
        keys = {key: _keys(mapping, key) for key in value}
        given = [mapping[k[0]] if k else None for k in keys.values()]
        found |= {f"{name}[{k!r}]": part for k, part in _unused(mapping, keys).items()}
    elif not isinstance(value, dict) and isinstance(gradient, tuple | list) and len(gradient) == len(parts):
        given = list(gradient)
    else:
        what = f"the gradient of {name} is {describe(gradient)}, but {name} is {describe(value)}"
        raise Trouble(f"{what}: it must have the same structure", "returns", name)
    for (suffix, part), g in zip(parts.items(), given, strict=True):
        _spread(name + suffix, part, g, found)


def entries_of(key: str, value, gradient, is_loss) -> np.ndarray:
    """The gradient of one argument as a flat float64 vector of the argument's entries."""
    if gradient is None:
        raise Trouble(f"the gradient of {key} is None: not written yet?", "returns", key)
    what = f"the gradient of {key} is {describe(gradient)}"
    if is_sparse(value):
        vector = _stored_entries(key, value, gradient)
    elif is_sparse(gradient):
        raise Trouble(f"{what}, but {key} is dense", "shape", key)
    else:
        try:
            array = np.asarray(gradient)
        except Exception as error:  # a ragged list, a tensor that records its own gradient
            raise Trouble(f"{what}, not an array of numbers ({error})", "returns", key) from error
        if array.dtype == object:
            raise Trouble(f"{what}, not an array of numbers", "returns", key)
        if array.shape != np.shape(value):
            loss = array.ndim == 0 and is_loss()
            hint = " Or does backward take no cotangent? Then wrap it with from_loss." if loss else ""
            raise Trouble(_wrong_shape(key, np.shape(value), array) + hint, "shape", key)
        vector = array.ravel()
    if np.iscomplexobj(vector):
        raise Trouble(f"the gradient of {key} is complex, although everything that went in is real", "dtype", key)
    vector = np.array(vector, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        where = entry_name(key, value, int(bad[0]))
        raise Trouble(
            f"the gradient of {key} is {vector[bad[0]]} at {where} ({bad.size} of {vector.size} entries are NaN or infinite), "
            f"although the forward is finite: a division by zero, a log of zero, or an overflow? {where} is "
            f"{to_vector(value)[bad[0]]:.6g}",
            "finite",
            key,
        )
    return vector


def _stored_entries(key: str, value, gradient) -> np.ndarray:
    """The gradient of a sparse argument in the order of its stored entries."""
    size = value.data.size
    if is_sparse(gradient):
        if gradient.shape != value.shape:
            raise Trouble(f"the gradient of {key} has shape {gradient.shape}, {key} itself has {value.shape}", "shape", key)

        def same(ours, theirs, parts, here=slice(None), there=slice(None)):
            return all(np.array_equal(getattr(ours, p)[here], getattr(theirs, p)[there]) for p in parts if hasattr(ours, p))

        pattern = ("indices", "indptr", "row", "col")
        if gradient.format == value.format and gradient.data.size == size and same(value, gradient, pattern):
            return to_vector(gradient)
        ours, theirs = value.tocoo(), gradient.tocoo()
        here, there = np.lexsort((ours.col, ours.row)), np.lexsort((theirs.col, theirs.row))
        if ours.nnz == theirs.nnz == size and same(ours, theirs, ("row", "col"), here, there):
            vector = np.empty(size)
            vector[here] = theirs.data[there]
            return vector
        raise Trouble(
            f"the gradient of {key} must live on the {size} stored entries of {key}, but has {gradient.nnz} elsewhere or "
            "in another number (were zeros dropped, or does it live on the transpose?)",
            "sparse entries",
            key,
        )
    array = np.asarray(gradient)
    if array.shape == (size,):
        return array
    if array.shape == value.shape:
        raise Trouble(
            f"the gradient of {key} is dense, {describe(array)}: return only its {size} stored entries, as a vector in "
            f"the order of {key}.data or as a sparse matrix of the same pattern",
            "sparse entries",
            key,
        )
    raise Trouble(f"the gradient of {key} is {describe(array)}, but {key} has {size} stored entries", "shape", key)


def _wrong_shape(key: str, shape: tuple, array: np.ndarray) -> str:
    text = f"the gradient of {key} has shape {array.shape}, {key} itself has {shape}"
    broadcast = f"{text}: the forward broadcasts {key}, so the gradient is to be summed over"
    extra = array.ndim - len(shape)
    if array.ndim == 2 and array.shape[::-1] == shape:
        return f"{text}: it is transposed"
    if array.size == int(np.prod(shape)):
        return f"{text}: right number of entries, so a reshape (or keepdims) is missing"
    if extra > 0 and (not shape or array.shape[extra:] == shape):
        return f"{broadcast} axis {tuple(range(extra)) if extra > 1 else 0}"
    if extra == 0 and all(a == b or b == 1 for a, b in zip(array.shape, shape, strict=True)):
        return f"{broadcast} axes of length 1 (keepdims=True)"
    return text + (": one number instead of an array; is a sum too many in it?" if array.ndim == 0 else "")


# ---- signatures --------------------------------------------------------------------------------------------------------
def parameters_of(function) -> list[inspect.Parameter] | None:
    """The parameters of a function, or None where it does not tell them."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _is_ufunc(function) -> bool:
    """Whether arguments go by position as in a ufunc: NumPy's own and those that Numba makes."""
    return isinstance(function, np.ufunc) or type(function).__name__ in ("DUFunc", "GUFunc")


def _positional_only(forward) -> bool:
    parameters = parameters_of(forward)
    return _is_ufunc(forward) or parameters is None or any(p.kind == p.POSITIONAL_ONLY for p in parameters)


def _names(forward, count: int) -> list[str]:
    """Names for arguments passed by position: the forward's own where it tells them."""
    parameters = [] if _is_ufunc(forward) else parameters_of(forward) or []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    names = ["x"] if _is_ufunc(forward) else names
    return names + [f"argument{k}" for k in range(len(names), count)]


def _check_names(forward, arguments: dict, by_position: bool) -> None:
    parameters = parameters_of(forward)
    if by_position or parameters is None or any(p.kind == p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters]
    unknown = [key for key in arguments if key not in names]
    if unknown:
        raise UsageError(f"forward takes no argument {unknown[0]!r}: it takes {', '.join(names) or 'none'}")
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in arguments and p.kind != p.VAR_POSITIONAL]
    if missing:
        raise UsageError(f"forward also needs {', '.join(map(repr, missing))}; the arguments given are {', '.join(arguments)}")
