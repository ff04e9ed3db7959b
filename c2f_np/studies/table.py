"""Taking a TOML table apart: every key is asked for once, and what nobody asked for is an error that names it."""

from __future__ import annotations

from ..errors import SettingsError

_IN_WORDS = {str: "text", bool: "true or false", int: "a whole number", list: "a list", dict: "a table"}


class Table:
    """A TOML table and where it stands.

    Parameters
    ----------
    values : dict
    place : str
        File and, within it, the table; every error begins with it.
    """

    def __init__(self, values, place: str):
        self.place = place
        if not isinstance(values, dict):
            raise self.error(f"must be a table, not {values!r}")
        self._values = dict(values)

    def error(self, message: str) -> SettingsError:
        return SettingsError(f"{self.place}: {message}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, kind: type, default=None, *, choices=None):
        """The value of a key, of a kind and perhaps of a few.

        Raises
        ------
        SettingsError
            If it is missing and has no default (None), or is of another kind.
        """
        if key not in self._values:
            if default is None:
                raise self.error(f"{key} is missing")
            return default
        value = self._values.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{key} must be {_IN_WORDS[kind]}, not {value!r}")
        if choices is not None and value not in choices:
            raise self.error(f"{key} must be one of {', '.join(choices)}, not {value!r}")
        return value

    def take_list(self, key: str, kind: type, default=None) -> tuple:
        """A list whose members are of a kind."""
        values = self.take(key, list, default)
        for value in values:
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise self.error(f"{key} must be a list, each member {_IN_WORDS[kind]}, not {value!r}")
        return tuple(values)

    def end(self) -> None:
        """Nothing may be left.

        Raises
        ------
        SettingsError
            Names the first key that nobody asked for.
        """
        for key, value in self._values.items():
            raise self.error(f"unknown key {key!r} (its value is {value!r})")
