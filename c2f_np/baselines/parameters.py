"""Parameters of the baselines: declared as dataclass fields with their help, and checked before anything is fitted."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any

from ..errors import SettingsError


def parameter(
    default: Any, text: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] | None = None
) -> Any:
    """A dataclass field that knows what it means and what it may be."""
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high, "choices": choices})


def check_parameters(estimator: Any) -> None:
    """Raise SettingsError, with name and value, at the first parameter of an estimator that cannot be.

    Parameters
    ----------
    estimator : dataclass instance
        Its fields are declared by :func:`parameter`; None is allowed where the type says so.
    """
    hints = typing.get_type_hints(type(estimator))
    for field in dataclasses.fields(estimator):
        kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
        value = getattr(estimator, field.name)
        if not (value is None and types.NoneType in kinds):
            _check(field.name, value, kinds[0], **{k: v for k, v in field.metadata.items() if k != "help"})


def _check(name: str, value: Any, kind: Any, *, low: float | None, high: float | None, choices: Any) -> None:
    if kind is str:
        if value not in choices:
            raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return
    if kind is bool:
        if not isinstance(value, bool):
            raise SettingsError(f"{name} must be true or false, not {value!r}")
        return
    try:
        good = not isinstance(value, bool) and kind(value) == value and math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise SettingsError(f"{name} must be a {'whole' if kind is int else 'finite'} number, not {value!r}")
    if low is not None and value < low:
        raise SettingsError(f"{name} must be at least {low}, not {value!r}")
    if high is not None and value > high:
        raise SettingsError(f"{name} must be at most {high}, not {value!r}")
