"""Archives: named arrays and one JSON header in an ``.npz`` file, written aside and renamed, read without pickle.

The header is stored as the bytes of a JSON text, under the name ``header``. A reader says what it wants as a *layout*: for each
array its type, its shape in symbols, and what its entries may be. Types and shapes are compared with what the file promises
before any data are read, so that neither a size that does not fit nor memory out of proportion to the file gets any further.
`c2f_np.serving` reads archives with NumPy alone, so SciPy is imported only in :func:`unpack_csr`, which needs it.
"""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelFileError, SettingsError, in_short
from .files import write_atomically
from .schema import check_form, parse_json

if TYPE_CHECKING:
    import scipy.sparse as sparse

_HEADER = "header"
UNSIGNED = "uint8 uint16 uint32 uint64"
# What a small file may unpack to; beyond it so many times its size. Real files unpack to less than ten times theirs.
_ALWAYS_ALLOWED, _MOST_TIMES = 2**24, 100
_LARGEST_HEADER = 2**20
# A table of embeddings, which recommending makes, may be so many times as large as what is read.
_TABLE_TIMES = 20


@dataclass(frozen=True)
class Array:
    """What an array of a file must be.

    A shape consists of numbers and symbols: ``"N"`` is the same size wherever it stands, ``"N*2"`` and ``"U+I"`` follow from
    others. Floats must always be finite, and texts encodable.
    """

    types: str  # names of NumPy types, in the byte order of this machine; "text" for strings of any length
    shape: tuple[int | str, ...]
    low: int | None = None  # the least that an entry may be
    below: int | str | None = None  # a size that every entry must be less than
    optional: bool = False
    or_number: bool = False  # one number may stand for an array of equal ones


def csr_layout(name: str, rows: str, columns: str, entries: str, types: str) -> dict[str, Array]:
    """The layout of a csr matrix as :func:`pack_csr` stores it."""
    return {
        f"{name}.shape": Array("int64", (2,)),
        f"{name}.indptr": Array("int64", (f"{rows}+1",)),
        f"{name}.indices": Array("int32", (entries,), low=0, below=columns),
        f"{name}.data": Array(types, (entries,)),
    }


def write_archive(path, kind: str, version: int, header: dict, arrays: dict, *, compressed: bool = False) -> None:
    """Write arrays and a header (plain JSON) to one file; `kind` and `version` are checked on reading."""
    text = json.dumps({"kind": kind, "version": version} | header, allow_nan=True)
    members = {_HEADER: np.frombuffer(text.encode("utf-8"), dtype=np.uint8)} | arrays
    save = np.savez_compressed if compressed else np.savez
    write_atomically(path, lambda file: save(file, **members))


class Members:
    """The arrays of an open file, each of which is looked at before it is read; ModelFileErrors name the file and the array."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self._file = path, file
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self._left = max(_ALWAYS_ALLOWED, _MOST_TIMES * path.stat().st_size)
        for info in file.infolist():
            name = info.filename.removesuffix(".npy")
            if name in self._infos:
                raise self.error(in_short(name), "is there twice")
            self._infos[name] = info

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def error(self, name: str, what: str) -> ModelFileError:
        what = what if len(what) <= 200 else f"{what[:200]} ..."  # some of it is the file's own words
        return ModelFileError(f"{self.path}: {name} {what}")

    def promised(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """Type and shape by the header of an array, which its size in the file must agree with."""
        if name not in self._infos:
            raise self.error(name, "is missing")
        info = self._infos[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self.error(name, "is compressed in a way that NumPy does not write")
        # What the zip and npy readers raise over damaged bytes is of no end of kinds.
        try:
            with self._file.open(info) as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                major = np.lib.format.read_magic(stream)[0]
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                size = stream.tell() + math.prod(shape) * dtype.itemsize
        except Exception as error:  # whose words would not do: NumPy advises to trust the file
            raise self.error(name, "is damaged, or no array") from error
        if dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
            raise self.error(name, f"is no plain array: its header says {dtype} of the shape {shape}")
        if size != info.file_size:
            raise self.error(name, f"is damaged: its header promises {size} bytes, it has {info.file_size}")
        return dtype, shape

    def read(self, name: str) -> np.ndarray:
        """The array."""
        self.promised(name)
        self.allow(name, self._infos[name].file_size)
        try:
            with self._file.open(self._infos[name]) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:
            raise self.error(name, f"is damaged ({' '.join(str(error).split())})") from error

    def allow(self, name: str, n_bytes: int) -> None:
        """Note memory that is needed for an array; an error if all together is out of proportion to the file."""
        self._left -= n_bytes
        if self._left < 0:
            raise self.error(name, f"takes {n_bytes:,} bytes, out of all proportion to the file")

    def allow_table(self, n_entities: int, dim: int) -> None:
        """Note the table of embeddings that the model of this file needs."""
        self.allow("the table of embeddings", 8 * n_entities * dim // _TABLE_TIMES)

    def read_all(self, layout: dict[str, Array], sizes: dict[str, int] | None = None) -> dict[str, np.ndarray]:
        """The arrays of a layout; those that it leaves out are not looked at. `sizes` are the symbols whose values are known."""
        sizes, arrays = dict(sizes or {}), {}
        for name, array in layout.items():
            if name in self or not array.optional:
                self._compare(name, array, sizes)
        for name, array in layout.items():
            if name in self:
                arrays[name] = self.read(name)
                self._check_entries(name, arrays[name], array, sizes)
        return arrays

    def _compare(self, name: str, array: Array, sizes: dict[str, int]) -> None:
        """Compare what is promised with what is wanted; a symbol that stands for nothing yet is noted."""
        dtype, shape = self.promised(name)
        fits = dtype.kind == "U" if array.types == "text" else dtype.name in array.types.split()
        if not (fits and dtype.isnative):
            raise self.error(name, f"holds {dtype}, not {array.types.replace(' ', ' or ')}")
        if array.or_number and not shape:
            return
        if len(shape) == len(array.shape):
            for symbol, size in zip(array.shape, shape, strict=True):
                if isinstance(symbol, str) and symbol.isidentifier():
                    sizes.setdefault(symbol, size)
            if shape == tuple(_size(symbol, sizes) for symbol in array.shape):
                return
        wanted = ", ".join(f"{symbol}" for symbol in array.shape)
        known = ", ".join(f"{symbol} = {size}" for symbol, size in sizes.items() if symbol in wanted)
        raise self.error(name, f"has the shape {shape}, not ({wanted}){f' with {known}' if known else ''}")

    def _check_entries(self, name: str, values: np.ndarray, array: Array, sizes: dict[str, int]) -> None:
        if values.dtype.kind == "U":
            points = np.ascontiguousarray(values).reshape(-1).view(np.uint32) if values.size else values.view(np.uint32)
            if ((points >= 0x110000) | ((points >= 0xD800) & (points < 0xE000))).any():
                raise self.error(name, "holds what is not text")
        elif not np.isfinite(values).all():
            raise self.error(name, "holds numbers that are not finite")
        elif array.low is not None and values.size and values.min() < array.low:
            raise self.error(name, f"holds {values.min()}, less than {array.low}")
        elif array.below is not None and values.size and values.max() >= _size(array.below, sizes):
            raise self.error(name, f"holds {values.max()}, beyond the last one, {_size(array.below, sizes) - 1}")


# What reads the files that users are likely to confuse, for the error.
_READERS = {
    "model": ("a model", "C2FRecommender.load"),
    "baseline": ("a baseline", "c2f_np.baselines.load_baseline"),
    "exported model": ("an exported model", "c2f_np.serving.load_exported"),
}


@contextmanager
def open_archive(path, kind: str, version: int, form: Any, *, oldest: int | None = None) -> Iterator[tuple[dict, Members]]:
    """The header and the arrays of a file; ModelFileError if it is missing, damaged, of another kind or version.

    `form` is that of the header: see :func:`c2f_np.schema.check_form`. Versions from `oldest` on are read, by default one alone.
    """
    with open_members(path) as members:
        header = _header_of(members)
        if header.get("kind") != kind:
            reader = _READERS.get(str(header.get("kind")))
            found = f", but {reader[0]}: {reader[1]} reads it" if reader else ""
            raise ModelFileError(f"{members.path}: not a c2f_np {kind}{found}")
        oldest = version if oldest is None else oldest
        if header.get("version") not in range(oldest, version + 1):
            found = in_short(header.get("version"))
            readable = f"version {version}" if oldest == version else f"versions {oldest} to {version}"
            raise ModelFileError(f"{members.path}: {kind} of version {found}; this program reads {readable}")
        try:
            check_form(header, form)
        except SettingsError as error:
            raise ModelFileError(f"{members.path}: header: {error}") from None
        yield header, members


def header_of(path) -> dict:
    """The header of a file of any kind; ModelFileError if it is missing, damaged or foreign."""
    with open_members(path) as members:
        return _header_of(members)


def _header_of(members: Members) -> dict:
    dtype, shape = members.promised(_HEADER)
    if dtype != np.uint8 or len(shape) != 1:
        raise members.error(_HEADER, "is not text")
    if shape[0] > max(_LARGEST_HEADER, members.path.stat().st_size):
        raise members.error(_HEADER, "is out of all proportion to the file")
    header = parse_json(members.read(_HEADER).tobytes(), members.path)
    return header if isinstance(header, dict) else {}


@contextmanager
def open_members(path) -> Iterator[Members]:
    """The arrays of an npz file."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ModelFileError(f"{path}: damaged, or not a c2f_np file ({error})") from error
    with file:
        yield Members(path, file)


def pack_csr(name: str, matrix: sparse.csr_array) -> dict[str, np.ndarray]:
    """The arrays of a csr matrix, under names that begin with `name`."""
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
        f"{name}.shape": np.array(matrix.shape, dtype=np.int64),
    }


def unpack_csr(
    name: str, arrays: dict[str, np.ndarray], shape: tuple[int, int], path, *, each: int | None = None
) -> sparse.csr_array:
    """The csr matrix of arrays that fit :func:`csr_layout`; ModelFileError unless its rows are in order, `each` long if given."""
    import scipy.sparse as sparse

    data, indices, indptr, stored = (arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr", "shape"))
    if tuple(stored.tolist()) != shape:
        raise ModelFileError(f"{path}: {name}.shape is {tuple(stored.tolist())}, not {shape}")
    lengths = np.diff(indptr)
    if indptr[0] != 0 or indptr[-1] != len(indices) or (lengths < 0).any():
        raise ModelFileError(f"{path}: {name}.indptr does not lead through its {len(indices)} entries")
    if each is not None and (lengths != each).any():
        raise ModelFileError(f"{path}: {name}.indptr has a row of {lengths[lengths != each][0]} links, not {each}")
    if not rows_increase(indices, indptr):
        raise ModelFileError(f"{path}: {name}.indices has a row that is not in order, or holds a column twice")
    return sparse.csr_array((data, indices, indptr), shape=shape)


def index_type(n_columns: int) -> np.dtype:
    """The smallest unsigned type that can number the columns."""
    return np.min_scalar_type(n_columns - 1)


def without_zeros(table: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers of a table that are not 0, row by row, and a bitmap with a bit for every place, set where they stand.

    If that takes no fewer bytes than the table: the table itself, and None.
    """
    values, bitmap = table[table != 0], np.packbits(table != 0)
    return (values, bitmap) if values.nbytes + bitmap.nbytes < table.nbytes else (table, None)


def with_zeros(values: np.ndarray, bitmap: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """The table of :func:`without_zeros`."""
    if bitmap is None:
        return values
    table = np.zeros(shape, values.dtype)
    table[np.unpackbits(bitmap, count=table.size).view(bool).reshape(shape)] = values
    return table


def table_layout(name: str, types: str, rows: int | str, columns: str, n_places: int) -> dict[str, Array]:
    """The layout of a table with so many places as :func:`pack_table` stores it: the whole of it, or numbers and their places."""
    return {
        name: Array(types, (rows, columns), optional=True),
        f"{name}.values": Array(types, (f"{name}_size".replace(".", "_"),), optional=True),
        f"{name}.bitmap": Array("uint8", (-(-n_places // 8),), optional=True),
    }


def pack_table(name: str, values: np.ndarray, bitmap: np.ndarray | None) -> dict[str, np.ndarray]:
    """The arrays of :func:`without_zeros`, under names that begin with `name`."""
    return {name: values} if bitmap is None else {f"{name}.values": values, f"{name}.bitmap": bitmap}


def unpack_table(name: str, arrays: dict[str, np.ndarray], n_places: int, path) -> tuple[np.ndarray, np.ndarray | None]:
    """What :func:`pack_table` was given; ModelFileError names what is missing or does not fit."""
    parts = [f"{name}.values", f"{name}.bitmap"]
    parts = parts if name not in arrays and any(part in arrays for part in parts) else [name]
    for part in parts:
        if part not in arrays:
            raise ModelFileError(f"{path}: {part} is missing")
    values, bitmap = arrays[parts[0]], arrays[parts[1]] if len(parts) > 1 else None
    if bitmap is not None:
        marked = np.flatnonzero(np.unpackbits(bitmap))
        if len(marked) != len(values) or marked.max(initial=0) >= max(n_places, 1):
            raise ModelFileError(f"{path}: {name}.bitmap marks {len(marked)} places; {name}.values has {len(values)} numbers")
    return values, bitmap


def rows_increase(columns: np.ndarray, starts: np.ndarray) -> bool:
    """Whether the columns of every row are in order, without duplicates; row i has those from starts[i] to starts[i + 1]."""
    steps = np.diff(columns.astype(np.int64)) > 0
    borders = starts[1:-1]
    steps[borders[(borders > 0) & (borders < len(columns))] - 1] = True
    return bool(steps.all())


def _size(symbol: int | str, sizes: dict[str, int]) -> int | None:
    """What a symbol stands for: a number, a known size, or a sum of products of such."""
    if isinstance(symbol, int):
        return symbol
    terms = [term.split("*") for term in symbol.split("+")]
    return sum(math.prod(int(factor) if factor.isdigit() else sizes[factor] for factor in term) for term in terms)
