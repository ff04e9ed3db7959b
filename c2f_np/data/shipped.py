"""The data sets that come with the package.

They are made in memory, in about a tenth of a second, and never read from files, so that an installed package needs
none. The folder ``data/`` of the repository holds the same content as files, for people to read; a test compares the
two.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..files import write_text_atomically
from .lightgcn import write_lightgcn
from .planted import PlantedTruth, generate_planted, planted_truth_files
from .southern_women import southern_women_files, southern_women_split
from .splits import Split, split_random


def shipped_split(name: str) -> Split:
    """Return a data set that comes with the package, with its own split.

    Parameters
    ----------
    name : {"southern-women", "planted"}

    Returns
    -------
    Split
        Without validation.

    Raises
    ------
    DataError
        If the name is neither.
    """
    if name == "southern-women":
        return southern_women_split()
    if name == "planted":
        interactions, truth = generate_planted()
        return split_random(interactions, truth.parameters.test_fraction, truth.parameters.seed)
    raise DataError(f"no data set named {name!r} comes with the package; planted and southern-women do")


def load_truth(name: str = "planted") -> PlantedTruth:
    """Return the groups that were planted.

    Parameters
    ----------
    name : {"planted"}

    Returns
    -------
    PlantedTruth
        Its arrays are in the order of the rows and columns of ``load_dataset("planted")``.

    Raises
    ------
    DataError
        If no truth is known for that name.
    """
    if name != "planted":
        raise DataError(f"a truth is known for 'planted' only, not {name!r}")
    return generate_planted()[1]


def write_shipped(folder) -> list[Path]:
    """Write the shipped data sets as files, the same bytes on every platform.

    Parameters
    ----------
    folder : path-like
        ``southern_women/`` and ``planted/`` are created in it.

    Returns
    -------
    list of pathlib.Path
        The files, sorted.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder = Path(folder)
    written = _write_texts(folder / "southern_women", southern_women_files())
    written += _write_texts(folder / "planted", planted_truth_files(load_truth("planted")))
    write_lightgcn(shipped_split("planted"), folder / "planted")
    written += [folder / "planted" / "train.txt", folder / "planted" / "test.txt"]
    return sorted(written)


def _write_texts(folder: Path, files: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text_atomically(folder / name, text)
    return [folder / name for name in files]
