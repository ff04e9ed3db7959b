"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file aside, then rename it over `path`.

    Parameters
    ----------
    path : path-like
        The file to create or replace. Its folder must exist.
    write : callable
        Receives a binary file object open for writing.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; the old file, if there was one, is then untouched.
    """
    path = Path(path)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give the result the mode any other new file would have.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(aside, 0o666 & ~umask)
        os.replace(aside, path)
    except BaseException:
        try:
            os.unlink(aside)
        except FileNotFoundError:
            pass
        raise


def write_text_atomically(path, text: str) -> None:
    """Write UTF-8 `text` to `path` as :func:`write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))
