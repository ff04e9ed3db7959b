"""What a user may set: each value's help, limits and choices, declared once.

A dataclass declares its fields with :func:`described`. Constructors and estimators check values by that declaration, files are
read by it, and the command line makes its options from it. :func:`check_form` does the same for JSON that is not flat.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import json
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ModelFileError, SettingsError, in_short

_IN_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
#: The most that a number may be where neither its declaration nor :data:`LIMITS` says anything else.
MOST = {int: 2**31 - 1, float: 1e30}
#: The most that settings of these names may be: far beyond all use, but nothing that a machine never gets done with.
LIMITS = {
    "dim": 4096, "n_components": 4096, "n_layers": 100, "threads": 1024, "bytes": 2**53,
    "seed": 2**32 - 2,  # scikit-learn takes 32 bits, and the seed after this one is used too
    **dict.fromkeys(("n_coarse", "n_fine", "n_rows", "n_remainders"), 1_000_000),
    **dict.fromkeys(("t_coarse", "t_fine", "t_direct", "n_hashes", "neg_size"), 1000),
    **dict.fromkeys(("max_epochs", "table_epochs", "partition_epochs", "phase1_epochs", "exchange_epochs"), 100_000),
    **dict.fromkeys(("eval_every", "update_every", "patience"), 100_000),
}  # fmt: skip
#: The most for counters and sizes in bytes: every whole number up to here is a float too.
LARGEST = 2**53
_DEEPEST_JSON = 40  # tables and lists within each other in a JSON file


@dataclass(frozen=True)
class Parameter:
    """A value that can be set."""

    name: str
    kind: type
    default: Any = None
    help: str = ""
    choices: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None  # a limit that is itself not allowed
    optional: bool = False  # may be None
    may_be_nan: bool = False

    def checked(self, value: Any) -> Any:
        """The value in its declared type.

        Whole numbers may be given as floats or NumPy numbers, but never as bool or text.

        Raises
        ------
        SettingsError
            With name and value, if it is of another type, no choice, not finite, or beyond the limits.
        """
        if value is None and self.optional:
            return None
        found = _converted(value, self.kind)
        if self.choices is not None and found not in self.choices:
            raise self._error(f"one of {', '.join(self.choices)}", value)
        if found is None:
            raise self._error(_IN_WORDS[self.kind], value)
        if self.kind is float and not math.isfinite(found):
            if self.may_be_nan and math.isnan(found):
                return found
            raise self._error("finite", value)
        high = MOST.get(self.kind) if self.high is None else self.high
        if self.low is not None and found < self.low:
            raise self._error(f"at least {self.low}", value)
        if high is not None and found > high:
            raise self._error(f"at most {high:,}" if self.kind is int else f"at most {high}", value)
        if self.above is not None and not found > self.above:
            raise self._error(f"more than {self.above}", value)
        return found

    def _error(self, wanted: str, value: Any) -> SettingsError:
        return SettingsError(f"{self.name} must be {wanted}, not {in_short(value)}")


def described(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field that knows what it means and what it may be; None is allowed if its type says so."""
    about = {"help": text, "choices": choices, "low": low, "high": high, "above": above}
    return dataclasses.field(default=default, metadata=about)


@functools.cache
def parameters_of(declared: type) -> dict[str, Parameter]:
    """The described fields of a dataclass, by name."""
    hints, found = typing.get_type_hints(declared), {}
    for field in dataclasses.fields(declared):
        if field.metadata:
            kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
            optional = types.NoneType in kinds
            limits = field.metadata if field.metadata["high"] is not None else {**field.metadata, "high": LIMITS.get(field.name)}
            found[field.name] = Parameter(field.name, kinds[0], field.default, optional=optional, **limits)
    return found


def checked_values(instance: Any) -> dict[str, Any]:
    """The described fields of a dataclass instance in their declared types; SettingsError at the first that cannot be."""
    return {name: parameter.checked(getattr(instance, name)) for name, parameter in parameters_of(type(instance)).items()}


def refuse_unknown(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise SettingsError at the first name that is not known, with the known names that look like it, or else all of them."""
    known = list(known)
    for name in names:
        if name not in known:
            similar = difflib.get_close_matches(str(name), known)
            advice = f"did you mean {' or '.join(similar)}?" if similar else f"choose one of {', '.join(known)}"
            raise SettingsError(f"unknown {what} {in_short(name)}; {advice}")


def add_options(
    parser: argparse._ActionsContainer,
    declared: type | Mapping[str, Parameter],
    only: Iterable[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Options for the described fields of a dataclass, or for named parameters, or some of them. What is not given is None.

    `defaults` are what None then stands for, where that is not what was declared: help shows it.
    """
    for name, parameter in (declared if isinstance(declared, Mapping) else parameters_of(declared)).items():
        if only is not None and name not in only:
            continue
        default = (defaults or {}).get(name, parameter.default)
        shown = "" if default is None else f" [{default}]"
        about: dict[str, Any] = {"help": parameter.help + shown, "dest": name}
        if parameter.kind is bool:
            about |= {"action": argparse.BooleanOptionalAction, "default": None}
        elif parameter.choices:
            about |= {"choices": parameter.choices}
        else:
            about |= {"type": parameter.kind, "metavar": {int: "N", float: "X"}.get(parameter.kind, "TEXT")}
        flag = "format" if name == "file_format" else name.replace("_", "-")
        parser.add_argument(f"--{flag}", **about)


def given_options(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options that were given, by name."""
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


def parse_json(raw: bytes, path: Any) -> Any:
    """The value of a JSON text in UTF-8; ModelFileError names `path` if it is none, or cannot be printed or written again."""
    try:
        value = json.loads(raw.decode("utf-8"))
        waiting = [(value, 0)]
        while waiting:
            part, depth = waiting.pop()
            if depth > _DEEPEST_JSON:
                raise ValueError(f"tables or lists more than {_DEEPEST_JSON} deep")
            if isinstance(part, dict):
                waiting += [(inner, depth + 1) for each in part.items() for inner in each]
            elif isinstance(part, list):
                waiting += [(inner, depth + 1) for inner in part]
            elif isinstance(part, str):
                part.encode("utf-8")  # half of a surrogate pair cannot be
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: damaged ({error})") from error
    return value


def check_form(value: Any, form: Any, place: str = "") -> None:
    """Raise SettingsError, naming the place, unless a JSON value is of a form.

    Parameters
    ----------
    value
    form
        A :class:`Parameter`; ``{"key": form, "key?": form}``, where the second key may be missing and further ones are ignored;
        ``{"*": form}`` for a table with any keys; ``[form]`` for a list; ``(None, form)`` for what may be null; ``None`` for
        anything.
    place : str
        How to call the value.
    """
    if isinstance(form, tuple):
        form = None if value is None else form[1]
    if form is None:
        return
    if isinstance(form, Parameter):
        dataclasses.replace(form, name=place).checked(value)
        return
    Parameter(place or "the whole", type(form)).checked(value)
    inside = f"{place}." if place else ""
    if isinstance(form, list):
        for position, part in enumerate(value):
            check_form(part, form[0], f"{place}[{position}]")
    elif "*" in form:
        for key, part in value.items():
            check_form(part, form["*"], f"{inside}{key}")
    else:
        for key, part in form.items():
            name = key.removesuffix("?")
            if name in value:
                check_form(value[name], part, f"{inside}{name}")
            elif name == key:
                raise SettingsError(f"{inside}{name} is missing")


#: Forms of single values.
TEXT, ANY_TEXT = Parameter("", str), Parameter("", str, optional=True)
NUMBER, NUMBER_OR_NAN = Parameter("", float, high=math.inf), Parameter("", float, high=math.inf, may_be_nan=True)
COUNT, COUNT_OR_NONE = Parameter("", int, low=0, high=LARGEST), Parameter("", int, low=0, high=LARGEST, optional=True)


def _converted(value: Any, kind: type) -> Any:
    """The value as a `kind`, exactly; None if it is no such thing."""
    if kind is bool:
        return bool(value) if isinstance(value, (bool, np.bool_)) else None
    if kind not in (int, float):
        return kind(value) if isinstance(value, kind) else None
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return None
    try:
        number = kind(value)
    except (ValueError, OverflowError):  # a float that is no whole number's, or a whole number beyond any float
        return math.inf if kind is float else None
    return number if number == value or math.isnan(number) else None
