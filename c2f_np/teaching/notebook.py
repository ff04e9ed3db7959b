"""Notebooks as the release and the marking read them: cells of JSON, and the exercises in them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

#: Under this key of a notebook's and of a cell's metadata stands what the course knows about it.
KEY = "c2f_np"
_LARGEST = 64 * 2**20


@dataclass(frozen=True)
class Asked:
    """An exercise in a notebook: the function that is to be written, and the cell of its check."""

    exercise: str
    function: str
    cell: int


def read_notebook(path: Path) -> dict:
    """A notebook's content; DataError if it is none."""
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"a notebook of more than {_LARGEST // 2**20} MB", path=path)
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"no notebook: {error}", path=path) from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise DataError("no notebook of format 4: it has no list of cells", path=path)
    return content


def source_of(cell: dict) -> str:
    """A cell's text, which a file holds as one string or as lines."""
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def code_cells(content: dict) -> list[tuple[int, str]]:
    """The numbers, counted from 1 over all cells, and sources of the code cells."""
    return [(k, source_of(cell)) for k, cell in enumerate(content["cells"], 1) if cell.get("cell_type") == "code"]


def exercises_in(content: dict) -> list[Asked]:
    """What is to be written, found in the code: ``task_1 = exercise("name")`` and, below it, ``task_1.check(name)``.

    Of several functions that are checked, the one that has the exercise's name is asked for.
    """
    found: dict[str, Asked] = {}
    variables: dict[str, str] = {}
    for number, source in code_cells(content):
        for node in _statements(source):
            for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
                func = call.func
                if not (isinstance(func, ast.Attribute) and func.attr == "check"):
                    continue
                name = _exercise_name(func.value, variables)
                if name is None or not call.args or not isinstance(call.args[0], ast.Name):
                    continue
                if call.args[0].id == name or name not in found or found[name].function != name:
                    found[name] = Asked(name, call.args[0].id, number)
            if isinstance(node, ast.Assign) and (name := _exercise_name(node.value, {})):
                variables |= {target.id: name for target in node.targets if isinstance(target, ast.Name)}
    return list(found.values())


def names_of_exercises(content: dict) -> set[str]:
    """The exercises that a notebook's code names."""
    walked = (each for _, source in code_cells(content) for node in _statements(source) for each in ast.walk(node))
    return {name for each in walked if (name := _exercise_name(each, {}))}


def functions_named(content: dict, name: str) -> Iterator[ast.FunctionDef]:
    """The functions of that name in a notebook's code."""
    for _, source in code_cells(content):
        for node in _statements(source):
            yield from (each for each in ast.walk(node) if isinstance(each, ast.FunctionDef) and each.name == name)


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _exercise_name(node: ast.AST, variables: dict[str, str]) -> str | None:
    """The name in ``exercise("name")``, or of the exercise that a variable holds."""
    if isinstance(node, ast.Name):
        return variables.get(node.id)
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return node.args[0].value if called == "exercise" and isinstance(node.args[0].value, str) else None
