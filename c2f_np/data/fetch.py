"""Downloading public data sets to the user's own machine, each proven by its checksum before anybody sees it.

Nothing is ever downloaded unless :func:`fetch` is called. A download goes to a temporary file in the cache folder and
is moved into place only when its checksum is right; of an archive, only the one expected member is read, and it is
written under a name chosen here, so an archive cannot write anywhere else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from ..files import write_atomically
from .catalog import DatasetInfo, RemoteFile, dataset_info

ENVIRONMENT_VARIABLE = "C2F_NP_DATA"


def data_folder(cache_dir=None) -> Path:
    """Return the folder that holds fetched data.

    Parameters
    ----------
    cache_dir : path-like, optional
        By default the environment variable ``C2F_NP_DATA``, else the operating system's cache folder for ``c2f_np``.

    Returns
    -------
    pathlib.Path
        It need not exist.
    """
    chosen = cache_dir or os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("c2f_np"))


def cached(name: str, cache_dir=None) -> Path | None:
    """Return the folder of a fetched data set, or None if it is not there in full.

    Parameters
    ----------
    name : str
    cache_dir : path-like, optional
        As in :func:`data_folder`.

    Returns
    -------
    pathlib.Path or None

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
    cache_dir=None,
    progress: bool = True,
    base_url: str | None = None,
    announce: Callable[[str], None] | None = print,
) -> Path:
    """Download a data set, unless it is there already.

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

    Returns
    -------
    pathlib.Path
        The folder with the data.

    Raises
    ------
    DataError
        If the name is unknown, the server cannot be reached or does not have the file, the checksum is wrong, or the
        folder cannot be written. The message says what to do by hand.
    """
    info = dataset_info(name)
    if info.is_shipped:
        raise DataError(f"{name} comes with the package; there is nothing to fetch")
    folder = data_folder(cache_dir) / name
    if all(_is_in_place(file, folder) for file in info.files):
        return folder
    if announce is not None:
        announce(info.describe())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder cannot be made: {error.strerror or error}", path=folder) from None
    for file in info.files:
        _provide(info, file, folder, (base_url or info.base_url).rstrip("/"), progress)
    return folder


def git_blob_id(path) -> str:
    """Return the id git gives to a file's content: the SHA-1 of ``blob <size>\\0`` and the content.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        40 hexadecimal digits.
    """
    digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    return _hash_file(path, digest)


def _provide(info: DatasetInfo, file: RemoteFile, folder: Path, base_url: str, progress: bool) -> None:
    """Bring one file into the folder: found there, put there by hand, or downloaded."""
    if _is_in_place(file, folder):
        return
    downloaded = folder / Path(file.remote).name
    by_hand = _by_hand(info, file, folder)
    # An archive that somebody put there by hand is as good as a download, if it is the right one.
    if not (downloaded.is_file() and _checksum(downloaded, file.algorithm) == file.digest):
        _download(f"{base_url}/{file.remote}", downloaded, file, progress, by_hand)
    if file.member:
        _unpack(downloaded, file, folder, by_hand)


def _is_in_place(file: RemoteFile, folder: Path) -> bool:
    """Tell whether a file is there, and right; for what came out of an archive, no checksum is published."""
    local = folder / file.local
    return local.is_file() and (bool(file.member) or _checksum(local, file.algorithm) == file.digest)


def _download(url: str, target: Path, file: RemoteFile, progress: bool, by_hand: str) -> None:
    import pooch
    import requests

    try:
        handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise DataError(f"nothing can be written here: {error.strerror or error}", path=target.parent) from None
    os.close(handle)
    try:
        pooch.HTTPDownloader(progressbar=progress, timeout=30)(url, aside, None)
        found = _checksum(aside, file.algorithm)
        if found != file.digest:
            raise DataError(f"{url} does not have the right checksum: {file.algorithm} {found}. {by_hand}")
        os.chmod(aside, 0o644)  # temporary files are private
        os.replace(aside, target)
    except requests.HTTPError as error:
        raise DataError(f"{url} cannot be had: the server answers {error.response.status_code}. {by_hand}") from None
    except requests.RequestException as error:
        raise DataError(f"{url} cannot be reached ({type(error).__name__}). {by_hand}") from None
    except OSError as error:
        raise DataError(f"it cannot be written: {error.strerror or error}", path=target) from None
    finally:
        Path(aside).unlink(missing_ok=True)


def _unpack(archive: Path, file: RemoteFile, folder: Path, by_hand: str) -> None:
    """Write the one expected member; the archive is then no longer needed."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(file.member) as member:
            write_atomically(folder / file.local, lambda out: shutil.copyfileobj(member, out))
    except (zipfile.BadZipFile, KeyError):
        raise DataError(f"this is not a zip archive with {file.member} in it. {by_hand}", path=archive) from None
    except OSError as error:
        raise DataError(f"it cannot be unpacked: {error.strerror or error}", path=archive) from None
    archive.unlink(missing_ok=True)


def _by_hand(info: DatasetInfo, file: RemoteFile, folder: Path) -> str:
    """Say how to do without this program's download."""
    what = "SHA-256" if file.algorithm == "sha256" else "git blob id (git hash-object)"
    target = folder / Path(file.remote).name
    return (
        f"By hand: download {info.base_url}/{file.remote}, check that its {what} is {file.digest}, "
        f"save it as {target}, and run the command again"
    )


def _checksum(path, algorithm: str) -> str:
    return git_blob_id(path) if algorithm == "git-blob" else _hash_file(path, hashlib.sha256())


def _hash_file(path, digest) -> str:
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
