"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

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
