"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from .shown import for_csv

FilePath = str | os.PathLike[str]


def write_atomically(path: FilePath, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` write (and read) a temporary file, then rename that to `path`; after an error `path` is as it was."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        # Not by the module tempfile, whose files are private: this one gets the mode of any other new file.
        with open(aside, "x+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(aside)):
            # A full disk does not say which file there was no room for, and the name of the temporary one helps nobody.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_text_atomically(path: FilePath, text: str) -> None:
    """Write UTF-8 `text` to `path` as :func:`write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: FilePath, value: Any, **options: Any) -> None:
    """Write a value as JSON; `options` are those of :func:`json.dumps`."""
    write_text_atomically(path, json.dumps(value, **{"indent": 1} | options) + "\n")


def write_csv(path: FilePath, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file with the columns in the order in which they first occur."""
    lines, text = list(lines), io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: for_csv(cell) for name, cell in line.items()} for line in lines)
    write_text_atomically(path, text.getvalue())
