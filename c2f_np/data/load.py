"""One call from a name or a path to a data set ready for training."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from .catalog import CATALOG
from .dataset import Dataset, check_protocol
from .fetch import cached
from .interactions import Interactions
from .lightgcn import read_lightgcn, read_lightgcn_file
from .movielens import read_ratings_dat, read_u_data
from .protocols import apply_protocol
from .shipped import shipped_split
from .splits import Split, split_none, split_random, split_temporal
from .tables import read_csv, read_recbole

FORMATS = ("lightgcn", "u.data", "ratings.dat", "csv", "recbole")
SPLITS = ("given", "random", "temporal", "none")
_FORMAT_OF_SUFFIX = {
    ".txt": "lightgcn",
    ".data": "u.data",
    ".dat": "ratings.dat",
    ".csv": "csv",
    ".tsv": "csv",
    ".inter": "recbole",
}


def load_dataset(
    name_or_path,
    *,
    file_format: str = "auto",
    protocol: str = "clean",
    split: str = "auto",
    test_fraction: float = 0.2,
    n_last: int = 1,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    rating_threshold: float | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    separator: str | None = None,
    cache_dir=None,
) -> Dataset:
    """Load a data set by name or from a file or folder, split it, and apply a protocol.

    Parameters
    ----------
    name_or_path : str or path-like
        A name (``"southern-women"``, ``"planted"``, or a fetched one: ``"ml-100k"``, ``"ml-1m"``, ``"gowalla"``); a
        folder with ``train.txt``, ``u.data``, ``ratings.dat`` or a single ``.inter`` file; or a file. A name goes
        before a path: write ``./planted`` for a folder called so.
    file_format : {"auto", "lightgcn", "u.data", "ratings.dat", "csv", "recbole"}
        By default told from the file's name.
    protocol : {"clean", "authors"}
        See :mod:`c2f_np.data.protocols`.
    split : {"auto", "given", "random", "temporal", "none"}
        ``auto``: as given if the source has a split, else random. ``random`` on a source with a split pools its parts
        first.
        ``none``: everything is training.
    test_fraction : float
        For ``random``: the share of each user's items, between 0 and 1.
    n_last : int
        For ``temporal``: how many items each user gives.
    validation_fraction : float
        For ``clean``: the share of each user's training items, from 0 to below 1.
    split_seed : int
        Seed of everything random here; independent of a model's seed.
    rating_threshold : float, optional
        Keep rows whose rating is at least this.
    user_column, item_column, rating_column, timestamp_column : str, optional
        For ``csv`` and ``recbole``; see :func:`c2f_np.data.read_csv`.
    separator : str, optional
        For ``csv``.
    cache_dir : path-like, optional
        Where fetched data are; see :func:`c2f_np.data.data_folder`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If the source cannot be found or read, or the options contradict each other or the source.
    """
    check_protocol(protocol)
    if split not in ("auto", *SPLITS):
        raise DataError(f"the split must be auto or one of {', '.join(SPLITS)}, not {split!r}")
    columns = {
        "user_column": user_column,
        "item_column": item_column,
        "rating_column": rating_column,
        "timestamp_column": timestamp_column,
    }
    name, source = _read_source(name_or_path, file_format, columns, separator, rating_threshold, cache_dir)
    parts = _split(source, split, test_fraction, n_last, split_seed)
    return apply_protocol(parts, protocol, validation_fraction=validation_fraction, seed=split_seed, name=name)


def read_interactions(
    path,
    *,
    file_format: str = "auto",
    rating_threshold: float | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    separator: str | None = None,
) -> Interactions | Split:
    """Read a file or folder without splitting it.

    Parameters
    ----------
    path : path-like
    file_format, rating_threshold, user_column, item_column, rating_column, timestamp_column, separator
        As in :func:`load_dataset`.

    Returns
    -------
    Interactions or Split
        A Split for a LightGCN folder with a test or validation file.

    Raises
    ------
    DataError
        As :func:`load_dataset`.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("there is no such file or folder", path=path)
    columns = {
        "user_column": user_column,
        "item_column": item_column,
        "rating_column": rating_column,
        "timestamp_column": timestamp_column,
    }
    if file_format not in ("auto", *FORMATS):
        raise DataError(f"the file format must be auto or one of {', '.join(FORMATS)}, not {file_format!r}")
    return _read_path(path, file_format, columns, separator, rating_threshold)


def _read_source(name_or_path, file_format, columns, separator, rating_threshold, cache_dir):
    """Return the name and the Interactions or Split of a named or stored source."""
    name = str(name_or_path)
    info = CATALOG.get(name)
    if info is None:
        path = Path(name_or_path)
        if not path.exists():
            raise DataError(f"{name!r} is neither a file or folder nor one of the data sets {', '.join(CATALOG)}")
        source = read_interactions(
            path, file_format=file_format, separator=separator, rating_threshold=rating_threshold, **columns
        )
        return _name_of(path.resolve()), source
    if file_format != "auto":
        raise DataError(f"{name} is a named data set of known format; leave file_format alone", value=file_format)
    if info.is_shipped:
        _refuse(f"the data set {name}", columns, separator, rating_threshold)
        return name, shipped_split(name)
    folder = cached(name, cache_dir)
    if folder is None:
        raise DataError(f"{name} has not been fetched yet; run: python -m c2f_np data fetch {name}")
    return name, _read_path(folder, info.file_format, columns, separator, rating_threshold)


def _name_of(path: Path) -> str:
    """Return a name for what was read; MovieLens files all have the same name, but stand in a folder that has not."""
    return path.parent.name if path.name in ("u.data", "ratings.dat") else path.stem if path.is_file() else path.name


def _read_path(path: Path, file_format: str, columns, separator, rating_threshold):
    path, file_format = _locate(path, file_format)
    if file_format == "csv":
        return read_csv(path, **columns, separator=separator, rating_threshold=rating_threshold)
    if file_format == "recbole":
        _refuse("a RecBole file", {}, separator, None)
        return read_recbole(path, **columns, rating_threshold=rating_threshold)
    if file_format == "lightgcn":
        _refuse("the LightGCN text format", columns, separator, rating_threshold)
        if path.is_file():
            return read_lightgcn_file(path)
        has_split = (path / "test.txt").exists() or (path / "valid.txt").exists()
        return read_lightgcn(path) if has_split else read_lightgcn_file(path / "train.txt")
    _refuse(f"the format {file_format}", columns, separator, None)
    return (read_u_data if file_format == "u.data" else read_ratings_dat)(path, rating_threshold=rating_threshold)


def _locate(path: Path, file_format: str) -> tuple[Path, str]:
    """Return the file to read (or, for LightGCN, perhaps the folder) and its format."""
    if path.is_file():
        if file_format == "auto":
            file_format = _FORMAT_OF_SUFFIX.get(path.suffix.lower(), "")
            if not file_format:
                choices = ", ".join(FORMATS)
                raise DataError(f"its name does not tell the format; set file_format to one of {choices}", path=path)
        return path, file_format
    found = {
        "lightgcn": [path] if (path / "train.txt").exists() else [],
        "u.data": [file for file in [path / "u.data"] if file.exists()],
        "ratings.dat": [file for file in [path / "ratings.dat"] if file.exists()],
        "recbole": sorted(path.glob("*.inter")),
        "csv": sorted(path.glob("*.csv")),
    }
    if file_format == "auto":
        known = [kind for kind in ("lightgcn", "u.data", "ratings.dat", "recbole") if found[kind]]
        if not known:
            raise DataError("the folder has no train.txt, u.data, ratings.dat or .inter file; name the file", path=path)
        if len(known) > 1:
            raise DataError(f"the folder has data in several formats; set file_format (--format) to one of {known}", path=path)
        file_format = known[0]
    files = found[file_format]
    if len(files) != 1:
        raise DataError(f"the folder has {len(files)} files of the format {file_format}; name the file", path=path)
    return files[0], file_format


def _refuse(what: str, columns, separator, rating_threshold) -> None:
    """Raise DataError if an option was given that means nothing here."""
    given = [option for option, value in {**columns, "separator": separator}.items() if value is not None]
    if given:
        raise DataError(f"{what} has fixed columns; leave {', '.join(given)} alone")
    if rating_threshold is not None:
        raise DataError(f"{what} has no ratings, so a rating threshold makes no sense", value=rating_threshold)


def _split(source: Interactions | Split, how: str, test_fraction, n_last, seed) -> Split:
    is_given = isinstance(source, Split)
    if how == "auto":
        how = "given" if is_given else "random"
    if how == "given":
        if not is_given:
            raise DataError(f"{source.source} comes without a split; choose random, temporal or none")
        return source
    interactions = source.pooled() if is_given else source
    if how == "random":
        return split_random(interactions, test_fraction, seed)
    if how == "temporal":
        return split_temporal(interactions, n_last, seed)
    return split_none(interactions)
