"""``njit`` as the kernels use it: compiled code is kept in the user's cache folder, or in memory where nothing can be written.

The folder belongs to one state of the kernels' sources, whose digest is part of its name: Numba itself does not see edits of a
module that a kernel imports. A NUMBA_CACHE_DIR that is set is respected. Nothing is ever written beside the sources.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from platformdirs import user_cache_dir


def njit(**options: Any) -> Callable:
    """``numba.njit`` with a cache on disk, if there is a place for it."""

    def decorate(function):
        if config.CACHE_DIR or config.DISABLE_JIT:
            return numba.njit(cache=True, **options)(function)
        folder = cache_folder()
        # Numba decides where code is kept when a function is decorated; other packages' functions must not move.
        config.CACHE_DIR = folder or ""
        try:
            return numba.njit(cache=folder is not None, **options)(function)
        finally:
            config.CACHE_DIR = ""

    return decorate


@cache
def cache_folder() -> str | None:
    """Where compiled code is kept; None if no file can be made there."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    folder = os.path.join(user_cache_dir("c2f_np", appauthor=False), f"compiled-{digest.hexdigest()[:16]}")
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder
