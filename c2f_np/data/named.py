"""The data sets known by name, and fetching those that do not come with the package.

Nothing is downloaded unless :func:`fetch` is called. A download is written aside and gets its name only if its checksum is right.
Of an archive only the one expected member is read, and it is written under a name chosen here, so an archive cannot write to
other places.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError, in_short
from ..files import FilePath, write_atomically

ENVIRONMENT_VARIABLE = "C2F_NP_DATA"
# Many times the largest file there is: a server that never stops sending must not fill the disk.
_LARGEST_DOWNLOAD = 2**28


@dataclass(frozen=True)
class RemoteFile:
    """One file to download, and its checksum."""

    remote: str  # path below the data set's base URL
    digest: str
    local: str  # name in the cache
    algorithm: str = "sha256"  # or "git-blob": the SHA-1 that git gives to the content, sha1("blob <size>\0" + content)
    member: str = ""  # of an archive, the one member that is needed


@dataclass(frozen=True)
class DatasetInfo:
    """What there is to know about a named data set before loading it.

    Parameters
    ----------
    name, title, source, terms : str
        `terms` is what must be agreed to before use.
    n_users, n_items, n_interactions : int
        As published.
    file_format, base_url : str
        Format, as in :func:`c2f_np.data.load_dataset`, and where it is fetched; empty for those that come with the package.
    files : tuple of RemoteFile
    """

    name: str
    title: str
    source: str
    terms: str
    n_users: int
    n_items: int
    n_interactions: int
    file_format: str = ""
    base_url: str = ""
    files: tuple[RemoteFile, ...] = ()

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with the package and needs no download."""
        return not self.files

    def describe(self) -> str:
        """Return a few readable lines."""
        origin = "comes with the package" if self.is_shipped else f"fetched from {self.base_url}"
        return (
            f"{self.name}: {self.title}\n"
            f"  {self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions\n"
            f"  {origin}\n  source: {self.source}\n  terms: {self.terms}"
        )


def _movielens(name: str, title: str, counts: tuple[int, int, int], file_format: str, digest: str) -> DatasetInfo:
    return DatasetInfo(
        name,
        title,
        "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
        "ACM Transactions on Interactive Intelligent Systems 5(4), 2015.",
        "for research; no redistribution and no commercial use without the permission of GroupLens; cite the paper above. "
        "The archive's README has the full terms.",
        *counts,
        file_format,
        "https://files.grouplens.org/datasets/movielens",
        (RemoteFile(f"{name}.zip", digest, file_format, member=f"{name}/{file_format}"),),
    )


_SOUTHERN_WOMEN = DatasetInfo(
    "southern-women",
    "18 women and the social events they attended",
    "A. Davis, B. B. Gardner and M. R. Gardner. Deep South. University of Chicago Press, 1941.",
    "facts from a published table; cite the book.",
    *(18, 14, 89),
)
_PLANTED = DatasetInfo(
    "planted",
    "artificial, with known coarse groups and fine subgroups",
    "drawn by c2f_np.data.generate_planted.",
    "none; same licence as the package.",
    *(1000, 800, 31_809),
)
_ML_100K = _movielens(
    "ml-100k",
    "MovieLens 100K: films rated by people, 1997-1998",
    (943, 1682, 100_000),
    "u.data",
    "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
)
_ML_1M = _movielens(
    "ml-1m",
    "MovieLens 1M: films rated by people, 2000-2003",
    (6040, 3706, 1_000_209),
    "ratings.dat",
    "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
)
_GOWALLA = DatasetInfo(
    "gowalla",
    "Gowalla check-ins, users and items with at least ten, split as in the LightGCN paper",
    "E. Cho, S. A. Myers and J. Leskovec. Friendship and Mobility: User Movement in Location-Based Social "
    "Networks. KDD 2011 (SNAP); this form from github.com/gusye1234/LightGCN-PyTorch, commit 947ca2b.",
    "published for research; cite the paper above.",
    *(29_858, 40_981, 1_027_370),
    "lightgcn",
    "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/947ca2b3b1d2d3545b114145710cb06c4e57b3d2/data/gowalla",
    (
        RemoteFile("train.txt", "a27782bd7a1d4d0744148dc0460ea94da74763f2", "train.txt", "git-blob"),
        RemoteFile("test.txt", "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3", "test.txt"),
    ),
)
NAMED = {info.name: info for info in (_SOUTHERN_WOMEN, _PLANTED, _ML_100K, _ML_1M, _GOWALLA)}


def list_datasets() -> list[DatasetInfo]:
    """Return what is known about every named data set, those that come with the package first."""
    return list(NAMED.values())


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known about one named data set.

    Raises
    ------
    DataError
        If there is no such name.
    """
    if name not in NAMED:
        raise DataError(f"there is no data set named {in_short(name)}; the names are {', '.join(NAMED)}")
    return NAMED[name]


def data_folder(cache_dir: FilePath | None = None) -> Path:
    """Return the folder that holds fetched data; it need not exist.

    Parameters
    ----------
    cache_dir : path-like, optional
        By default the environment variable ``C2F_NP_DATA``, else the operating system's cache folder for ``c2f_np``.
    """
    chosen = cache_dir or os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("c2f_np"))


def cached(name: str, cache_dir: FilePath | None = None) -> Path | None:
    """Return the folder of a fetched data set below :func:`data_folder`, or None if it is not there in full.

    Raises
    ------
    DataError
        If there is no data set of that name.
    """
    info = dataset_info(name)
    folder = data_folder(cache_dir) / name
    return folder if info.files and all((folder / file.local).is_file() for file in info.files) else None


def fetch(
    name: str,
    *,
    cache_dir: FilePath | None = None,
    progress: bool = True,
    base_url: str | None = None,
    announce: Callable[[str], None] | None = print,
) -> Path:
    """Download a data set, unless it is there already, and return its folder.

    Parameters
    ----------
    name : str
        One that is fetched: see :func:`c2f_np.data.list_datasets`.
    cache_dir : path-like, optional
        As in :func:`data_folder`.
    progress : bool
        Show a progress bar.
    base_url : str, optional
        A mirror. Its files must have the same checksums.
    announce : callable, optional
        Receives the source and the terms, as text, before anything is downloaded; None for silence.

    Raises
    ------
    DataError
        If the name is unknown, the server cannot be reached or does not have the file, the checksum is wrong, or the folder
        cannot be written. The message says what to do by hand.
    """
    info = dataset_info(name)
    if info.is_shipped:
        raise DataError(f"{name} comes with the package; there is nothing to fetch")
    folder = data_folder(cache_dir) / name
    missing = [file for file in info.files if not _is_in_place(file, folder)]
    if not missing:
        return folder
    if announce is not None:
        announce(info.describe())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder cannot be made: {error.strerror or error}", path=folder) from None
    for file in missing:
        downloaded, by_hand = folder / file.remote, _by_hand(info, file, folder)
        # An archive that somebody put there by hand is as good as a download, if it is the right one; and it stays.
        is_there = os.path.lexists(downloaded)
        if is_there and not _is_right(downloaded, file):
            raise DataError(f"this is not the file to fetch, and it is not replaced: move it away. {by_hand}", path=downloaded)
        if not is_there:
            _download(f"{(base_url or info.base_url).rstrip('/')}/{file.remote}", downloaded, file, progress, by_hand)
        if file.member:
            _unpack(downloaded, file, folder, by_hand)
            if not is_there:
                downloaded.unlink(missing_ok=True)
    return folder


def checksum(file: BinaryIO, algorithm: str) -> str:
    """The checksum of an open file, in hexadecimal; see :class:`RemoteFile`."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if algorithm == "git-blob" else hashlib.new(algorithm)
    return hashlib.file_digest(file, lambda: start).hexdigest()


def _is_right(path: Path, expected: RemoteFile) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return checksum(file, expected.algorithm) == expected.digest


def _is_in_place(file: RemoteFile, folder: Path) -> bool:
    """Whether a file is there, and right; for what came out of an archive, no checksum is published."""
    local = folder / file.local
    return local.is_file() if file.member else _is_right(local, file)


class _Limited:
    """A file to download to, that takes no more than it should."""

    def __init__(self, file: BinaryIO, message: str) -> None:
        self._file, self._message, self._left = file, message, _LARGEST_DOWNLOAD

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise DataError(self._message)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _download(url: str, target: Path, expected: RemoteFile, progress: bool, by_hand: str) -> None:
    import pooch
    import requests

    def download(file: BinaryIO) -> None:
        pooch.HTTPDownloader(progressbar=progress, timeout=30)(url, _Limited(file, f"{url} is too large. {by_hand}"), None)
        found = checksum(file, expected.algorithm)
        if found != expected.digest:
            raise DataError(f"{url} does not have the right checksum: {expected.algorithm} {found}. {by_hand}")

    try:
        write_atomically(target, download)
    except requests.HTTPError as error:
        raise DataError(f"{url} cannot be downloaded: the server answered {error.response.status_code}. {by_hand}") from None
    except requests.RequestException as error:
        raise DataError(f"{url} cannot be reached ({type(error).__name__}). {by_hand}") from None
    except OSError as error:
        raise DataError(f"it cannot be written: {error.strerror or error}", path=target) from None


def _unpack(archive: Path, file: RemoteFile, folder: Path, by_hand: str) -> None:
    """Write the one expected member."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(file.member) as member:
            write_atomically(folder / file.local, lambda out: shutil.copyfileobj(member, out))
    except (zipfile.BadZipFile, KeyError):
        raise DataError(f"this is not a zip archive with {file.member} in it. {by_hand}", path=archive) from None
    except OSError as error:
        raise DataError(f"it cannot be unpacked: {error.strerror or error}", path=archive) from None


def _by_hand(info: DatasetInfo, file: RemoteFile, folder: Path) -> str:
    """How to do without this program's download."""
    what = "SHA-256" if file.algorithm == "sha256" else "git blob id (git hash-object)"
    return (
        f"By hand: download {info.base_url}/{file.remote}, check that its {what} is {file.digest}, "
        f"save it as {folder / file.remote}, and run the command again"
    )
