"""One call from a name or a path to a data set ready for training."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from ..errors import DataError, in_short
from ..files import FilePath
from ..schema import Parameter
from .dataset import PROTOCOLS, Dataset, check_protocol
from .frames import has_columns, read_frame, read_parquet
from .interactions import Interactions
from .named import NAMED, cached
from .readers import read_csv, read_lightgcn, read_lightgcn_file, read_ratings_dat, read_recbole, read_u_data
from .shipped import shipped_split
from .splits import Split, apply_protocol, split_none, split_random, split_temporal

SPLITS = ("given", "random", "temporal", "none")
# What to look for in a folder.
_PATTERNS = {
    "lightgcn": "train.txt", "u.data": "u.data", "ratings.dat": "ratings.dat", "csv": "*.csv", "recbole": "*.inter",
    "parquet": "*.parquet",
}  # fmt: skip
# A folder may be what is read.
_FOLDERS = ("lightgcn", "parquet")
FORMATS = tuple(_PATTERNS)
_FORMAT_OF_SUFFIX = {
    ".txt": "lightgcn",
    ".data": "u.data",
    ".dat": "ratings.dat",
    ".csv": "csv",
    ".tsv": "csv",
    ".inter": "recbole",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COLUMNS = ("user_column", "item_column", "rating_column", "timestamp_column")
_OPTIONS = (*_COLUMNS, "separator", "rating_threshold")


def _option(name: str, kind: type, text: str, **limits: Any) -> Parameter:
    return Parameter(name, kind, help=text, optional=True, **limits)


_LOAD_OPTIONS = (
    _option("file_format", str, f"file format: one of auto, {', '.join(FORMATS)}"),
    _option("protocol", str, "evaluation protocol", choices=PROTOCOLS),
    _option("split", str, "how to split", choices=("auto", *SPLITS)),
    _option("test_fraction", float, "share of each user's items for test"),
    _option("n_last", int, "last items of each user for test (temporal split)"),
    _option("validation_fraction", float, "share for validation (protocol clean) [0.1; 0 with the split none]"),
    _option("split_seed", int, "seed of the split, not of the model"),
    _option("rating_threshold", float, "keep ratings of at least this", high=math.inf),
    *(_option(name, str, f"column of the {name.removesuffix('_column')} in a CSV or Parquet file") for name in _COLUMNS),
    _option("separator", str, "column separator of a CSV file"),
    _option("cache_dir", str, "folder of fetched data"),
)
#: The keywords of :func:`load_dataset`, as files and the command line may give them; None is the default.
LOAD_OPTIONS = {option.name: option for option in _LOAD_OPTIONS}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no name that a file could have
        return False


def load_dataset(
    name_or_path: Any,
    *,
    file_format: str = "auto",
    protocol: str = "clean",
    split: str = "auto",
    test_fraction: float = 0.2,
    n_last: int = 1,
    validation_fraction: float | None = None,
    split_seed: int = 0,
    rating_threshold: float | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    separator: str | None = None,
    cache_dir: FilePath | None = None,
) -> Dataset:
    """Load a data set by name, from a file or folder or a data frame, split it, and apply a protocol.

    Parameters
    ----------
    name_or_path : str, path-like, Interactions or data frame
        A name (``"southern-women"``, ``"planted"``, or a fetched one: ``"ml-100k"``, ``"ml-1m"``, ``"gowalla"``); a folder with
        ``train.txt``, ``u.data``, ``ratings.dat``, a single ``.inter`` file, or ``.parquet`` files; or a file. Names take
        precedence over paths: write ``./planted`` for a folder of that name. Or a table in memory, see
        :func:`c2f_np.data.read_frame`.
    file_format : {"auto", "lightgcn", "u.data", "ratings.dat", "csv", "recbole", "parquet"}
        By default told from the file's name.
    protocol : {"clean", "authors"}
        See :mod:`c2f_np.data.splits`.
    split : {"auto", "given", "random", "temporal", "none"}
        ``auto``: as given if the source has a split, else random. ``random`` on a source with a split pools its parts first.
        ``none``: everything is training, and nothing is held out to be judged by.
    test_fraction : float
        For ``random``: the share of each user's items, between 0 and 1.
    n_last : int
        For ``temporal``: how many items each user gives.
    validation_fraction : float
        For ``clean``: the share of each user's training items, from 0 to below 1. By default 0.1, and 0 with the split ``none``:
        then nothing stops training early, and every phase makes all its epochs.
    split_seed : int
        Seed of everything random here; independent of a model's seed.
    rating_threshold : float, optional
        Keep rows whose rating is at least this.
    user_column, item_column, rating_column, timestamp_column : str, optional
        For ``csv``, ``recbole``, ``parquet`` and data frames; see :func:`c2f_np.data.read_csv`.
    separator : str, optional
        For ``csv``.
    cache_dir : path-like, optional
        Where fetched data are; see :func:`c2f_np.data.data_folder`.

    Raises
    ------
    DataError
        If the source cannot be found or read, or the options contradict each other or the source.
    """
    check_protocol(protocol)
    if split not in ("auto", *SPLITS):
        raise DataError(f"the split must be auto or one of {', '.join(SPLITS)}, not {in_short(split)}")
    values = user_column, item_column, rating_column, timestamp_column, separator, rating_threshold
    options: dict[str, Any] = dict(zip(_OPTIONS, values, strict=True))
    in_memory = isinstance(name_or_path, Interactions) or has_columns(name_or_path)
    if not in_memory and not isinstance(name_or_path, str | os.PathLike):
        found = type(name_or_path).__name__
        known = "a name, a path, Interactions or a data frame (a matrix: Dataset.from_matrices)"
        raise DataError(f"data must be {known}, not {found}")
    # Names come first, but only text is a name: Path("planted") is the folder.
    name, info = ("", None) if in_memory else (str(name_or_path), NAMED.get(name_or_path))
    if in_memory:
        if file_format != "auto":
            raise DataError("a table in memory has no file format; leave file_format alone", value=file_format)
        if isinstance(name_or_path, Interactions):
            _accepted(options, "what was read already", ())
            source: Interactions | Split = name_or_path
        else:
            source = read_frame(name_or_path, **_accepted(options, "a data frame", (*_COLUMNS, "rating_threshold")))
        name = source.source
    elif info is None:
        path = Path(name_or_path)
        if not _exists(path):
            raise DataError(f"{in_short(name)} is neither a file or folder nor one of the data sets {', '.join(NAMED)}")
        name, source = _name_of(path.resolve()), read_interactions(path, file_format=file_format, **options)
    elif file_format != "auto":
        raise DataError(f"{name} is a named data set of known format; leave file_format alone", value=file_format)
    elif info.is_shipped:
        _accepted(options, f"the data set {name}", ())
        source = shipped_split(name)
    else:
        folder = cached(name, cache_dir)
        if folder is None:
            raise DataError(f"{name} has not been fetched yet; run: python -m c2f_np data fetch {name}")
        source = read_interactions(folder, file_format=info.file_format, **options)
    parts = _split(source, split, test_fraction, n_last, split_seed)
    if validation_fraction is None:
        validation_fraction = 0.0 if split == "none" else 0.1
    return apply_protocol(parts, protocol, validation_fraction=validation_fraction, seed=split_seed, name=name)


def read_interactions(
    path: FilePath,
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
    if file_format not in ("auto", *FORMATS):
        raise DataError(f"the file format must be auto or one of {', '.join(FORMATS)}, not {in_short(file_format)}")
    path, file_format = _locate(path, file_format)
    values = user_column, item_column, rating_column, timestamp_column, separator, rating_threshold
    options: dict[str, Any] = dict(zip(_OPTIONS, values, strict=True))
    if file_format == "csv":
        return read_csv(path, **options)
    if file_format == "recbole":
        return read_recbole(path, **_accepted(options, "a RecBole file", (*_COLUMNS, "rating_threshold")))
    if file_format == "parquet":
        return read_parquet(path, **_accepted(options, "a Parquet file", (*_COLUMNS, "rating_threshold")))
    if file_format == "lightgcn":
        _accepted(options, "the LightGCN text format", ())
        if path.is_file():
            return read_lightgcn_file(path)
        has_split = (path / "test.txt").exists() or (path / "valid.txt").exists()
        return read_lightgcn(path) if has_split else read_lightgcn_file(path / "train.txt")
    read = read_u_data if file_format == "u.data" else read_ratings_dat
    return read(path, **_accepted(options, f"the format {file_format}", ("rating_threshold",)))


def _name_of(path: Path) -> str:
    """A name for what was read; MovieLens files all have the same name, so theirs is the folder's."""
    return path.parent.name if path.name in ("u.data", "ratings.dat") else path.stem if path.is_file() else path.name


def _locate(path: Path, file_format: str) -> tuple[Path, str]:
    """The file to read (or, for LightGCN, perhaps the folder) and its format."""
    if path.is_file():
        if file_format == "auto":
            file_format = _FORMAT_OF_SUFFIX.get(path.suffix.lower(), "")
        if not file_format:
            choices = ", ".join(FORMATS)
            raise DataError(f"its name does not tell the format; set file_format to one of {choices}", path=path)
        return path, file_format
    if not path.is_dir():
        raise DataError("this is a pipe or a device; a file or folder is needed", path=path)
    found = {kind: sorted(path.glob(pattern)) for kind, pattern in _PATTERNS.items()}
    if file_format == "auto":
        known = [kind for kind in FORMATS if found[kind] and kind != "csv"]
        if not known:
            raise DataError("the folder has no train.txt, u.data, ratings.dat, .inter or .parquet file; name the file", path=path)
        if len(known) > 1:
            raise DataError(f"the folder has data in several formats; set file_format (--format) to one of {known}", path=path)
        file_format = known[0]
    files = found[file_format]
    if len(files) != 1 and not (files and file_format == "parquet"):
        raise DataError(f"the folder has {len(files)} files of the format {file_format}; name the file", path=path)
    return path if file_format in _FOLDERS else files[0], file_format


def _accepted(options: dict[str, Any], what: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The options that were given; a DataError if one of them is not among `names`, those that mean something for `what`."""
    given = {name: value for name, value in options.items() if value is not None}
    unfit = [name for name in given if name not in names and name != "rating_threshold"]
    if unfit:
        raise DataError(f"{what} has fixed columns; leave {', '.join(unfit)} alone")
    if "rating_threshold" in given and "rating_threshold" not in names:
        raise DataError(f"{what} has no ratings, so a rating threshold makes no sense", value=given["rating_threshold"])
    return given


def _split(source: Interactions | Split, how: str, test_fraction: float, n_last: int, seed: int) -> Split:
    if how == "auto":
        how = "given" if isinstance(source, Split) else "random"
    if how == "given":
        if not isinstance(source, Split):
            raise DataError(f"{source.source} comes without a split; choose random, temporal or none")
        return source
    interactions = source.pooled() if isinstance(source, Split) else source
    if how == "random":
        return split_random(interactions, test_fraction, seed)
    if how == "temporal":
        return split_temporal(interactions, n_last, seed)
    return split_none(interactions)
