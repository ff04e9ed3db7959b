"""Data frames: tables with named columns (of pandas, polars, Arrow, dictionaries) and a row for each interaction; Parquet files.

All that is asked of a table are the names of its columns and ``table[name]``, which every library of data frames gives. So none
of them is required, nor a layer above them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..errors import DataError, in_short
from ..files import FilePath
from ..ids import as_ids
from .columns import date_in_seconds, find_columns
from .interactions import Interactions


def has_columns(table: Any) -> bool:
    """Whether something has named columns, so that it is no matrix."""
    return _names(table) is not None


def read_frame(
    table: Any,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    rating_threshold: float | None = None,
) -> Interactions:
    """Read a data frame with a row for each interaction.

    Parameters
    ----------
    table : data frame of pandas, polars or Arrow, structured array, or mapping of names to columns
    user_column, item_column, rating_column, timestamp_column : str, optional
        Names of columns; see :func:`c2f_np.data.read_csv`.
    rating_threshold : float, optional
        Keep rows whose rating is at least this; by default every row counts.

    Returns
    -------
    Interactions
        With timestamps if there is such a column.

    Raises
    ------
    DataError
        If it is unclear which column is which, or a value cannot be used; with its row.
    """
    columns = _columns(table, user=user_column, item=item_column, rating=rating_column, timestamp=timestamp_column)
    users, items = columns.pop("user"), columns.pop("item")
    numbers = {f"{kind}s": _numbers(column, kind) for kind, column in columns.items()}
    return Interactions.from_rows(users, items, **numbers, rating_threshold=rating_threshold, source="data frame")


def codes_of_rows(table: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Numbers of the users and of the items of a data frame's rows, and the times if there are any."""
    columns = _columns(table, rating="", user=None, item=None, timestamp=None)
    users, items = (np.unique(as_ids(columns[kind], kind), return_inverse=True)[1] for kind in ("user", "item"))
    return users, items, _numbers(columns["timestamp"], "timestamp") if "timestamp" in columns else None


def _columns(table: Any, **given: str | None) -> dict[str, Any]:
    """The columns of a data frame by their kind: those that are given by name, or else found; "" for none."""
    names = _names(table)
    if names is None:
        raise DataError(f"a data frame is needed, with named columns, not {type(table).__name__}")
    if callable(getattr(table, "collect", None)):  # a lazy frame; of another a column may have this name
        table = table.collect()
    wanted = {kind: None if name is None else str(name) for kind, name in given.items()}
    advice = "; a matrix of users x items must be given as one, such as frame.to_numpy()"
    place = find_columns([str(name) for name in names], wanted, "the data frame's columns", advice=advice)
    return {kind: _column(table, names[at], kind) for kind, at in place.items()}


def read_parquet(path: FilePath, **options: Any) -> Interactions:
    """Read a Parquet file, or a folder of them that make one table; needs pyarrow (``pip install c2f_np[parquet]``).

    Parameters
    ----------
    path : path-like
    **options
        As for :func:`read_frame`. Other columns are not read.

    Returns
    -------
    Interactions

    Raises
    ------
    DataError
        As :func:`read_frame`; if the file cannot be read, or pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.dataset
    except ImportError:
        raise DataError("Parquet is read by pyarrow: python -m pip install pyarrow", path=path) from None
    try:
        interactions = read_frame(_Parquet(pyarrow.dataset.dataset(path, format="parquet")), **options)
    except DataError as error:
        raise DataError(str(error), path=path) from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # also of column names that are no text
        raise DataError(f"it cannot be read as Parquet: {str(error).partition(chr(10))[0]}", path=path) from None
    return replace(interactions, source=str(Path(path)))


class _Parquet:
    """A table on disk, of which only the columns that are asked for are read."""

    def __init__(self, dataset: Any) -> None:
        self._dataset, self.columns = dataset, dataset.schema.names

    def __getitem__(self, name: str) -> Any:
        return self._dataset.to_table(columns=[name]).column(0)


def _names(table: Any) -> list[Any] | None:
    """The names of the columns of a table; None if it has none."""
    if issparse(table):  # one of SciPy's kinds is a dictionary
        return None
    if isinstance(table, Mapping):
        return list(table)
    if isinstance(table, np.ndarray):
        return None if table.dtype.names is None else list(table.dtype.names)
    if callable(getattr(table, "collect_schema", None)):
        return list(table.collect_schema().names())
    names = getattr(table, "column_names", getattr(table, "columns", None))
    return None if names is None or callable(names) else list(names)


def _column(table: Any, name: Any, kind: str) -> Any:
    try:
        column = table[name]
    except (TypeError, KeyError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"the column {in_short(name)} cannot be read ({reason}); is it a data frame in memory?") from None
    if getattr(column, "ndim", 1) != 1:
        raise DataError(f"several columns are called {in_short(name)}", value=kind)
    return column


def _numbers(column: Any, kind: str) -> np.ndarray:
    """A column of ratings or times as numbers; times may be dates, also as ISO 8601 text, which become seconds since 1970."""
    values = np.asarray(column)
    if kind == "timestamp" and values.dtype.kind in "OU" and len(values):
        with suppress(ValueError, AttributeError):
            texts = (value if isinstance(value, str) else value.isoformat() for value in values)
            values = np.array([date_in_seconds(text) for text in texts])
    if values.dtype.kind == "M":
        missing = np.isnat(values)
        values = np.where(missing, np.nan, values.astype("datetime64[us]").astype(np.int64) / 1e6)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        row, value = next((row, value) for row, value in enumerate(values) if not _is_a_number(value))
        wrong = f"the column of the {kind} must hold numbers; row {row} (counted from 0) does not; name another one"
        raise DataError(wrong, value=value) from None


def _is_a_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
