"""What students are given: the notebooks without answers, each cell marked as what it is, for nbgrader too."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Sequence
from pathlib import Path

from .._version import __version__
from ..errors import DataError
from ..files import write_json, write_text_atomically
from ..folders import require_new
from .notebook import KEY, Asked, exercises_in, read_notebook, source_of

_DETAILS = re.compile(r"\n*<details>\s*<summary>[^<]*(?:answer|solution)[^<]*</summary>.*?</details>", re.I | re.S)
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.M)
_CALL = re.compile(r"\bexercise\((\"[^\"]+\"|'[^']+')\)")

_README = """# Exercises

{notebooks}

Install the package `c2f_np` with its extra `notebooks`, from where your lecturer says, and open a notebook in JupyterLab. In an
answer's cell, write the function in place of `raise NotImplementedError`; run the cell below it to have it checked.

- Keep the names of the functions and of the files. You may add cells and functions of your own.
- Answers use NumPy, SciPy and what you write yourself. The functions of `c2f_np` are not there when your work is marked, except
  for `c2f_np.gradcheck` and those that an exercise names; an answer that calls others counts as not written.
- `my.name` is your own function of that name: the one in the same notebook, else the one in your `my_model.py`. Hand that file in
  beside the notebooks. Where you have none, or yours was marked wrong, the course's answer stands in, so that an exercise which
  builds on another can be right without it. The answer to an exercise itself never stands in for yours.
- Your functions are marked at other numbers than those of the check, each within a limit of time and memory. Files are read and
  written in the notebook's folder only, and there is no network.
- Cells that fail do no harm to others. The function that was last given to an exercise's check is the one that is marked.
"""


def find_notebooks(folder: Path, beginnings: Sequence[str] = ()) -> list[Path]:
    """The notebooks in a folder whose names begin so, in order; DataError for a beginning that none has."""
    found = sorted(folder.glob("*.ipynb"))
    if not found:
        raise DataError("no notebooks here; give the folder notebooks/ of the repository", path=folder)
    for beginning in beginnings:
        if not any(path.name.startswith(beginning) for path in found):
            names = ", ".join(path.stem for path in found)
            raise DataError(f"no notebook's name begins with {beginning!r}; there are {names}", path=folder)
    return [path for path in found if not beginnings or path.name.startswith(tuple(beginnings))]


def write_release(notebooks: Sequence[Path], out: Path, *, for_nbgrader: bool = False) -> dict[str, list[Asked]]:
    """Write the release of some notebooks into a new folder; returns the exercises of each.

    With `for_nbgrader` the places to fill in are marked as nbgrader expects it of an instructor's version.
    """
    require_new(out, "a release goes")
    contents = {path: released(read_notebook(path), path.stem, for_nbgrader=for_nbgrader) for path in notebooks}
    out.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        write_json(out / path.name, content, ensure_ascii=False)
    asked = {path.stem: exercises_in(content) for path, content in contents.items()}
    listed = "\n".join(f"- `{name}.ipynb`: {len(exercises)} exercises" for name, exercises in asked.items())
    write_text_atomically(out / "README.md", _README.format(notebooks=listed))
    return asked


def released(content: dict, name: str, *, for_nbgrader: bool = False) -> dict:
    """A notebook without answers: stubs to fill in, checks that are locked, and metadata that says which is which."""
    content = copy.deepcopy(content)
    asked = {each.exercise: each for each in exercises_in(content)}
    checks = {each.cell: each for each in asked.values()}
    answers = {_cell_of(content, each): each for each in asked.values()}
    cells, heading = [], ""
    for number, cell in enumerate(content["cells"], 1):
        source = source_of(cell)
        if cell.get("cell_type") == "markdown":
            cell["source"], heading = _without_answers(source, heading)
            cells += [cell] if cell["source"].strip() else []
            continue
        cell["source"] = source = _CALL.sub(r"exercise(\1, with_answer=False)", source)
        if number in checks and number in answers:
            cells += _split(cell, checks[number], for_nbgrader)
        elif number in checks:
            cells.append(_check(cell, source, checks[number]))
        elif number in answers:
            cells.append(_answer(cell, source, answers[number], for_nbgrader))
        else:
            cells.append(cell)
    content["cells"] = cells
    content["metadata"][KEY] = {"notebook": name, "version": __version__}
    return content


def _cell_of(content: dict, asked: Asked) -> int:
    """The number of the last cell, up to the check, that defines the function; 0 if none does."""
    pattern = re.compile(rf"^def {asked.function}\(", re.M)
    numbers = [k for k, cell in enumerate(content["cells"][: asked.cell], 1) if cell.get("cell_type") == "code"]
    return max((k for k in numbers if pattern.search(source_of(content["cells"][k - 1]))), default=0)


def _without_answers(source: str, heading: str) -> tuple[str, str]:
    """A text without folded answers, except under the heading Predict, and the heading that it ends under."""
    kept, end = [], 0
    for found in _DETAILS.finditer(source):
        above = _HEADING.findall(source[: found.start()])
        under = above[-1] if above else heading
        kept.append(source[end : found.end() if "predict" in under.lower() else found.start()])
        end = found.end()
    headings = _HEADING.findall(source)
    return "".join([*kept, source[end:]]).strip("\n"), headings[-1] if headings else heading


def _split(cell: dict, asked: Asked, for_nbgrader: bool) -> list[dict]:
    """A cell that holds stub and check as two cells."""
    lines = cell["source"].split("\n")
    statements = ast.parse(cell["source"]).body
    statement = next(each for each in statements if ".check(" in ast.unparse(each))
    above, below = "\n".join(lines[: statement.lineno - 1]).strip("\n"), "\n".join(lines[statement.lineno - 1 :])
    return [_answer(copy.deepcopy(cell), above, asked, for_nbgrader), _check(cell, below, asked)]


def _answer(cell: dict, source: str, asked: Asked, for_nbgrader: bool) -> dict:
    if for_nbgrader:
        region = r"\1### BEGIN SOLUTION\n\1raise NotImplementedError\n\1### END SOLUTION"
        source = re.sub(r"^( *)raise NotImplementedError$", region, source, flags=re.M)
    return _marked(cell, source, asked, "answer", solution=True)


def _check(cell: dict, source: str, asked: Asked) -> dict:
    """A check whose value is the points, as nbgrader takes them."""
    source = re.sub(rf"^(.*\.check\({asked.function}\)(?:\.keep\(\))?);?$", r"\1.points", source, flags=re.M)
    return _marked(cell, source, asked, "check", grade=True, locked=True, points=1)


def _marked(cell: dict, source: str, asked: Asked, role: str, **nbgrader) -> dict:
    """A cell with its role in its metadata, an id that stays, and no output."""
    flags = {"schema_version": 3, "cell_type": "code", "solution": False, "grade": False, "locked": False, "task": False}
    cell["metadata"] = cell.get("metadata", {}) | {
        KEY: {"role": role, "exercise": asked.exercise, "function": asked.function},
        "nbgrader": flags | nbgrader | {"grade_id": f"{role}-{asked.exercise}"},
    }
    return cell | {"source": source, "id": f"{role}-{asked.exercise}"[:64], "outputs": [], "execution_count": None}
