"""Folders that commands write: nothing is touched that this program has not written, and one process at a time writes.

A folder is held by a lock. It ends with the process, however that ends; its file, :data:`LOCK`, stays and means nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DataError, SettingsError, in_short
from .files import FilePath

LOCK = ".c2f_np.lock"


def folder_named(name: FilePath) -> Path:
    """The folder of that name, which need not be there; SettingsError if there cannot be one."""
    if not os.fspath(name):
        raise SettingsError('the name of the folder to write is empty; "." is the current folder')
    folder = Path(name)
    nearest = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), None)
    if nearest is not None and not nearest.is_dir():
        raise SettingsError(f"{nearest} is not a folder; choose another place to write to")
    return folder


def file_named(name: FilePath) -> Path:
    """The file of that name, which need not be there; SettingsError if there cannot be one."""
    path = Path(name)
    if not os.fspath(name) or path.is_dir():
        raise SettingsError(f"{in_short(os.fspath(name))} is not the name of a file to write")
    if not path.parent.is_dir():
        raise SettingsError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def refuse_strangers(folder: Path, names: Iterable[str], why: str) -> None:
    """Raise SettingsError if the folder holds anything of these names, which writing would replace."""
    present = [name for name in names if os.path.lexists(folder / name)]
    if present:
        raise SettingsError(
            f"{folder} holds {', '.join(present)}, but {why}. What this program has not written is not replaced: "
            "choose another folder, or move that away"
        )


def require_new(folder: Path, what: str) -> None:
    """Raise DataError if there is something already where a command makes a folder of its own."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"there is something already; {what} into a new folder", path=folder)


def delete_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Delete what a process that was killed while it wrote one of these files could not take away."""
    for name in names:
        for leftover in folder.glob(f".{name}.????????.part"):
            leftover.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and be the only one who writes there; SettingsError if somebody else does.

    A folder that was made here is taken away again if it stays empty.
    """
    from filelock import FileLock, Timeout

    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SettingsError(
            f"another process is writing in {folder}: wait until it has ended, or choose another folder"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # somebody else may have begun there, or deleted it
            if is_new and os.listdir(folder) == [LOCK]:
                os.unlink(folder / LOCK)
                folder.rmdir()
        lock.release()
