"""The LightGCN text format: a folder with ``train.txt``, ``test.txt`` and perhaps ``valid.txt``.

One line per user: the user's id, then the ids of the items, separated by spaces::

    0 3 17 42
    1 3
    2

Here user 0 has three items, user 1 one, user 2 none, which is legal. Ids are whole numbers from 0. Users and items
are those that any of the files mentions; numbers that nobody mentions get no row or column.
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import write_text_atomically
from .dataset import Dataset, disjoint_parts
from .interactions import Interactions, assemble
from .pairs import keys_of_codes
from .reading import LARGEST_ID, numbered_lines, parse_whole_id
from .splits import Split

_FILES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
_DIGITS_AND_SPACES = re.compile(r"[0-9 \t\n]*")


def read_lightgcn_file(path) -> Interactions:
    """Read one file in LightGCN text form, without any split.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Interactions
        Without timestamps. Users without items are left out.

    Raises
    ------
    DataError
        If the file is missing, empty or malformed, or an id is negative or larger than 2**31 - 1; with path, line,
        value.
    """
    user, item, _ = _read_pairs(path)
    users, user = np.unique(user, return_inverse=True)
    items, item = np.unique(item, return_inverse=True)
    return assemble(user, item, _as_strings(users), _as_strings(items), None, None, None, str(path), path)


def read_lightgcn(folder) -> Split:
    """Read a folder in LightGCN text form, with the split it comes with.

    Pairs of the test or validation file that are in the training file too are dropped there, and counted; so are
    validation pairs that are in the test file.

    Parameters
    ----------
    folder : path-like
        Holds ``train.txt`` and at least one of ``test.txt`` and ``valid.txt``.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        As :func:`read_lightgcn_file`, or if files are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder", path=folder)
    present = {part: folder / name for part, name in _FILES.items() if part == "train" or (folder / name).exists()}
    if len(present) == 1:
        raise DataError("there is no test.txt beside train.txt, so no split is given", path=folder)
    read = {part: _read_pairs(path) for part, path in present.items()}
    users = np.unique(np.concatenate([np.concatenate([user, mentioned]) for user, _, mentioned in read.values()]))
    items = np.unique(np.concatenate([item for _, item, _ in read.values()]))
    keys, n_duplicates = {}, 0
    for part, (user, item, _) in read.items():
        keys[part] = keys_of_codes(np.searchsorted(users, user), np.searchsorted(items, item), len(items))
        n_duplicates += len(user) - len(keys[part])
    shape = (len(users), len(items))
    parts, dropped = disjoint_parts(keys["train"], keys.get("validation"), keys.get("test"), shape)
    report = {
        "rows_read": sum(len(user) for user, _, _ in read.values()),
        "duplicates_merged": n_duplicates,
        **dropped,
    }
    how = "as given by " + ", ".join(path.name for path in present.values())
    return Split(*parts, np.array(_as_strings(users)), np.array(_as_strings(items)), how, folder.name, report)


def write_lightgcn(data: Dataset | Split, folder) -> None:
    """Write ``train.txt`` and, where there are such parts, ``valid.txt`` and ``test.txt``.

    Parameters
    ----------
    data : Dataset or Split
        Its external ids must be whole numbers from 0 to 2**31 - 1.
    folder : path-like
        Created if it is missing.

    Raises
    ------
    DataError
        If an id is anything else.
    OSError
        If the folder cannot be written.
    """
    folder = Path(folder)
    for kind, ids in (("user", data.user_ids), ("item", data.item_ids)):
        for external_id in ids.tolist():
            if not re.fullmatch(r"0|[1-9][0-9]{0,9}", external_id) or int(external_id) > LARGEST_ID:
                raise DataError(f"this {kind} id does not fit the LightGCN text format", value=external_id)
    folder.mkdir(parents=True, exist_ok=True)
    users, items = data.user_ids.tolist(), data.item_ids.tolist()
    for part, name in _FILES.items():
        matrix = getattr(data, part)
        if matrix is None:
            continue
        lines = []
        for row, user in enumerate(users):
            columns = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].tolist()
            lines.append(" ".join([user, *(items[column] for column in columns)]) + "\n")
        write_text_atomically(folder / name, "".join(lines))


def _read_pairs(path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the users and items of all pairs, duplicates included, and the users of all lines."""
    items, users, counts = array("q"), array("q"), array("q")
    for number, line in numbered_lines(path):
        ids = _ids_of_line(line, path, number)
        if ids:
            users.append(ids[0])
            counts.append(len(ids) - 1)
            items.extend(ids[1:])
    if not items:
        raise DataError("there are no interactions in it", path=path)
    mentioned = np.array(users, dtype=np.int64)
    return np.repeat(mentioned, np.array(counts)), np.array(items, dtype=np.int64), mentioned


def _ids_of_line(line: str, path, number: int) -> list[int]:
    fields = line.split()
    # The good case costs one match and one map a line; only a line that fails is taken apart.
    if _DIGITS_AND_SPACES.fullmatch(line) and max(map(len, fields), default=0) <= 10:
        ids = list(map(int, fields))
        if max(ids, default=0) <= LARGEST_ID:
            return ids
    return [
        parse_whole_id(field, "item id" if position else "user id", path, number)
        for position, field in enumerate(fields)
    ]


def _as_strings(ids: np.ndarray) -> list[str]:
    return [str(number) for number in ids.tolist()]
