"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

FilePath = str | os.PathLike[str]


def write_atomically(path: FilePath, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` write (and read) a temporary file, then rename that to `path`; after an error `path` is as it was."""
    path = Path(path)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give this one the mode of any other new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(aside, 0o666 & ~umask)
        os.replace(aside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def write_text_atomically(path: FilePath, text: str) -> None:
    """Write UTF-8 `text` to `path` as :func:`write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))
