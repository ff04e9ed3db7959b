"""What a user may set: each value's help, limits and choices, declared once.

A dataclass declares its fields with :func:`described`. Constructors and estimators check values by that declaration, files are
read by it, and the command line makes its options from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import SettingsError

_IN_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


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
            raise self._error("finite", value)
        if self.low is not None and found < self.low:
            raise self._error(f"at least {self.low}", value)
        if self.high is not None and found > self.high:
            raise self._error(f"at most {self.high}", value)
        if self.above is not None and not found > self.above:
            raise self._error(f"more than {self.above}", value)
        return found

    def _error(self, wanted: str, value: Any) -> SettingsError:
        return SettingsError(f"{self.name} must be {wanted}, not {value!r}")


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
            found[field.name] = Parameter(field.name, kinds[0], field.default, optional=optional, **field.metadata)
    return found


def checked_values(instance: Any) -> dict[str, Any]:
    """The described fields of a dataclass instance in their declared types; SettingsError at the first that cannot be."""
    return {name: parameter.checked(getattr(instance, name)) for name, parameter in parameters_of(type(instance)).items()}


def refuse_unknown(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise SettingsError at the first name that is not known, with the known names that look like it, or else all of them."""
    known = list(known)
    for name in names:
        if name not in known:
            similar = difflib.get_close_matches(name, known)
            advice = f"did you mean {' or '.join(similar)}?" if similar else f"choose one of {', '.join(known)}"
            raise SettingsError(f"unknown {what} {name!r}; {advice}")


def add_options(parser: argparse._ActionsContainer, declared: type, only: Iterable[str] | None = None) -> None:
    """Options for the described fields of a dataclass, or for some of them. What is not given is None."""
    for name, parameter in parameters_of(declared).items():
        if only is not None and name not in only:
            continue
        about: dict[str, Any] = {"help": f"{parameter.help} [{parameter.default}]"}
        if parameter.kind is bool:
            about |= {"action": argparse.BooleanOptionalAction, "default": None}
        elif parameter.choices:
            about |= {"choices": parameter.choices}
        else:
            about |= {"type": parameter.kind, "metavar": {int: "N", float: "X"}.get(parameter.kind, "TEXT")}
        parser.add_argument("--" + name.replace("_", "-"), **about)


def given_options(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options that were given, by name."""
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}


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
        return None
    return number if number == value or math.isnan(number) else None
