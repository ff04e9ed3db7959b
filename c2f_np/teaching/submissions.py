"""What was handed in: a folder, a zip file or a notebook for each student, brought into a folder where a process may work."""

from __future__ import annotations

import os
import shutil
import time
import unicodedata
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from .notebook import KEY, names_of_exercises, read_notebook

#: Of one student.
_MOST_FILES, _MOST_BYTES = 2_000, 200 * 2**20
_LEFT_ALONE = ("__MACOSX", ".ipynb_checkpoints", "__pycache__")


@dataclass
class Submission:
    """What one student handed in.

    Attributes
    ----------
    student : str
    paths : list of Path
        Folders, zip files and notebooks.
    """

    student: str
    paths: list[Path] = field(default_factory=list)


def find_submissions(folder: Path) -> list[Submission]:
    """One for each folder, zip file or notebook in `folder`; what has the same name belongs together."""
    if not folder.is_dir():
        raise DataError("no folder: give the one that holds a folder, notebook or zip file for each student", path=folder)
    found: dict[str, Submission] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _LEFT_ALONE:
            continue
        if path.is_dir() or path.suffix.lower() in (".ipynb", ".zip"):
            # A name that a Mac wrote and one that a Windows machine wrote are the same name.
            student = unicodedata.normalize("NFC", path.name if path.is_dir() else path.stem)
            found.setdefault(student, Submission(student)).paths.append(path)
    if not found:
        raise DataError("nothing was handed in: a folder, a notebook or a zip file for each student is expected", path=folder)
    return list(found.values())


class _Room:
    """Copies into a folder as long as there is room."""

    def __init__(self, remarks: list[str]):
        self.files, self.bytes, self.remarks = 0, 0, remarks

    def copy(self, source, to: Path) -> bool:
        """Copy an open file; False once there is no room."""
        self.files += 1
        to.parent.mkdir(parents=True, exist_ok=True)
        with open(to, "wb") as file:
            while block := source.read(2**20):
                self.bytes += len(block)
                if self.files > _MOST_FILES or self.bytes > _MOST_BYTES:
                    self.remarks.append(f"more than {_MOST_FILES:,} files or {_MOST_BYTES // 2**20} MB: the rest was left out")
                    return False
                file.write(block)
        return True


def bring(submission: Submission, folder: Path) -> list[str]:
    """Copy a submission into `folder`, zip files unpacked; returns remarks on what could not be read."""
    remarks: list[str] = []
    room = _Room(remarks)
    for path in submission.paths:
        for source, below in _files(path):
            if source.suffix.lower() == ".zip":
                if not _unpack(source, folder / below.parent / below.stem, room):
                    break
                continue
            with open(source, "rb") as file:
                if not room.copy(file, folder / below):
                    break
            shutil.copystat(source, folder / below)
    return remarks


def _files(path: Path):
    """The files of a submission and where they belong; links are not followed, they could lead anywhere."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _LEFT_ALONE)
        for name in sorted(names):
            source = Path(parent, name)
            if source.is_file() and not source.is_symlink():
                yield source, source.relative_to(path)


def _unpack(path: Path, folder: Path, room: _Room) -> bool:
    """Unpack a zip file; False once there is no room."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                parts = [part for part in member.filename.replace("\\", "/").split("/") if part not in ("", ".", "..")]
                if member.is_dir() or not parts or set(parts) & set(_LEFT_ALONE) or ":" in parts[0]:
                    continue
                to = folder.joinpath(*parts)
                with archive.open(member) as file:
                    if not room.copy(file, to):
                        return False
                with suppress(ValueError, OverflowError, OSError):
                    os.utime(to, (moment := time.mktime((*member.date_time, 0, 0, -1)), moment))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
        room.remarks.append(f"{path.name} could not be unpacked: {error}")
    return True


def notebooks_of(folder: Path, wanted: dict[str, set[str]]) -> tuple[dict[str, tuple[Path, dict]], list[str]]:
    """The file for each notebook of the release, with its content, and remarks; `wanted`: the exercises of each.

    A notebook is known by its metadata, else by its name, else by its exercises; of several the one saved last is taken.
    """
    found: dict[str, list[tuple[Path, dict]]] = {}
    remarks: list[str] = []
    for path in sorted(folder.rglob("*.ipynb")):
        below = path.relative_to(folder)
        if path.name.startswith(".") or set(below.parts) & set(_LEFT_ALONE):
            continue
        try:
            content = read_notebook(path)
        except (DataError, OSError) as error:
            remarks.append(f"{below} could not be read: {str(error).partition(': ')[2] or error}")
            continue
        name = _name_of(path, content, wanted)
        if name is None:
            remarks.append(f"{below} is none of the notebooks that are marked")
        else:
            found.setdefault(name, []).append((path, content))
    chosen = {}
    for name, several in found.items():
        chosen[name] = max(several, key=lambda pair: (pair[0].stat().st_mtime, pair[0]))
        if len(several) > 1:
            place = chosen[name][0].relative_to(folder)
            remarks.append(f"{name}: of {len(several)} files the one saved last was marked, {place}")
    return chosen, remarks


def _name_of(path: Path, content: dict, wanted: dict[str, set[str]]) -> str | None:
    metadata = content.get("metadata")
    ours = metadata.get(KEY) if isinstance(metadata, dict) else None
    told = ours.get("notebook") if isinstance(ours, dict) else None
    if isinstance(told, str) and told in wanted:
        return told
    named = [name for name in wanted if name in path.stem]
    if named:
        return named[0]
    mentioned = names_of_exercises(content)
    best = max(wanted, key=lambda name: len(wanted[name] & mentioned))
    return best if wanted[best] & mentioned else None
