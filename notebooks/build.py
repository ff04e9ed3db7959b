"""Make the notebooks from their texts: pair, execute, store with outputs.

    python notebooks/build.py                 all that are out of date
    python notebooks/build.py --all           all
    python notebooks/build.py 03              those whose names begin so
    python notebooks/build.py --check         make nothing; say which are out of date, and end with 1 if any is
    python notebooks/build.py --times         make nothing; count words, cells and exercises, and the minutes that they take

A notebook's text is ``notebooks/NN_name.py`` in jupytext's percent format: that is what people edit and what a diff shows.
The ``.ipynb`` beside it is the same text, executed from the top in a fresh process, with its outputs, so that it can be read
without running anything. It remembers a fingerprint of the text it was made from; a test compares the two. It is executed in an
empty folder, so that nobody's ``my_model.py`` has a part in it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
#: A notebook must end within this many seconds on two cores.
LIMIT = 60
KEY = "c2f_np"
#: How fast a text with formulas is read, and how long a cell of code and an exercise take.
WORDS_A_MINUTE, MINUTES_A_CELL, MINUTES_AN_EXERCISE = 150, 0.5, 10


def texts(beginnings: list[str] | None = None) -> list[Path]:
    """The notebooks' texts, in order."""
    found = sorted(HERE.glob("[0-9][0-9]_*.py"))
    return [path for path in found if not beginnings or any(path.name.startswith(b) for b in beginnings)]


def fingerprint(text: Path) -> str:
    """Of the text, whatever the line ends."""
    return hashlib.sha256(text.read_text(encoding="utf-8").replace("\r\n", "\n").encode()).hexdigest()


def stored(text: Path) -> Path:
    """Where the executed notebook stands."""
    return text.with_suffix(".ipynb")


def is_fresh(text: Path) -> bool:
    """Whether the stored notebook was made from this text."""
    path = stored(text)
    if not path.exists():
        return False
    return nbformat.read(path, as_version=4).metadata.get(KEY, {}).get("text") == fingerprint(text)


@dataclass(frozen=True)
class Length:
    """What a notebook asks of its reader."""

    words: int
    cells: int
    exercises: int

    @property
    def reading(self) -> int:
        """Minutes to read text and cells, exercises apart; to the next five."""
        return 5 * round((self.words / WORDS_A_MINUTE + self.cells * MINUTES_A_CELL) / 5)

    @property
    def writing(self) -> int:
        """Minutes for the exercises."""
        return self.exercises * MINUTES_AN_EXERCISE


def length(text: Path) -> Length:
    """Words of the prose (code in it and formulas count as one word each), code cells that are shown, and exercises."""
    cells = jupytext.read(text).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```|</?[a-z]+>", " ", prose, flags=re.S)
    prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", " word ", prose, flags=re.S)
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    exercises = sum(len(re.findall(r"= exercise\(", source)) for source in code)
    shown = [source for source in code if not re.fullmatch(r"(#.*\s*)+", source)]
    return Length(len(re.findall(r"[A-Za-z0-9]\S*", prose)), len(shown) - 2 * exercises, exercises)


def read(text: Path) -> nbformat.NotebookNode:
    """The notebook of a text, without outputs."""
    notebook = jupytext.read(text)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: str | Path) -> None:
    """Run all cells in a fresh process that works in the folder."""
    NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()


def build(text: Path) -> float:
    """Execute a text and store it; returns the seconds it took. Nothing is stored if a cell fails."""
    notebook = read(text)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, folder)
    seconds = time.perf_counter() - started
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same text gives the same file
        cell.metadata.pop("execution", None)
    notebook.metadata[KEY] = {"text": fingerprint(text)}
    notebook.metadata.pop("jupytext", None)
    aside = stored(text).with_suffix(".part")
    nbformat.write(notebook, aside)
    aside.replace(stored(text))
    return seconds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names")
    parser.add_argument("--all", action="store_true", help="also those that are up to date")
    parser.add_argument("--check", action="store_true", help="make nothing")
    parser.add_argument("--times", action="store_true", help="make nothing; count words and minutes")
    options = parser.parse_args(arguments)
    if options.times:
        for text in texts(options.names):
            found = length(text)
            print(f"{text.stem:<32}{found.words:6,} words{found.cells:4} cells{found.exercises:4} exercises"
                  f"   *Reading: {found.reading} minutes. Exercises: {found.exercises}.*")  # fmt: skip
        return 0
    stale = [text for text in texts(options.names) if options.all or not is_fresh(text)]
    if options.check:
        for text in stale:
            print(f"out of date: {stored(text).name}")
        return 1 if stale else 0
    for text in stale:
        print(f"{text.stem:<32}", end="", flush=True)
        seconds = build(text)
        print(f"{seconds:5.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
