"""The whole course, notebook after notebook in one folder: solved, with a my_model.py that grows, and unsolved."""

import ast
import re
import subprocess
import sys

import pytest
from test_notebooks_stored import build

from c2f_np.teaching.notebook import exercises_in

#: What my_model says when the course's answer stands in.
STOOD_IN = re.compile(r"^my\.(\w+): the course's answer", re.MULTILINE)
TEXTS = build.texts()


def answers_in(notebook):
    """The folded blocks of code that define a function, by its name."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]
    return {name: block.rstrip() for block in blocks for name in re.findall(r"^def (\w+)\(", block, flags=re.MULTILINE)}


def solve(notebook):
    """Put the folded answers in the place of the empty functions; returns the names of the exercises."""
    answers, asked = answers_in(notebook), exercises_in(notebook)
    for each in asked:
        assert each.function == each.exercise
        cell = notebook.cells[each.cell - 1]
        stub = next(
            node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef) and node.name == each.function
        )
        assert "raise NotImplementedError" in ast.unparse(stub)
        lines = cell.source.split("\n")
        cell.source = "\n".join([*lines[: stub.lineno - 1], answers[each.function], *lines[stub.end_lineno :]])
    return [each.exercise for each in asked]


def printed(notebook):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.mark.slow
def test_the_course_solved(tmp_path):
    """Every check says right, everything is kept, nothing stands in for it, and the file can be imported by itself."""
    names = []
    for text in TEXTS:
        notebook = build.read(text)
        asked = solve(notebook)
        build.execute(notebook, tmp_path)
        said = printed(notebook)
        for name in asked:
            assert f"{name}: right.\nKept in my_model.py.\n" in said, f"{text.stem}: {name}"
        assert STOOD_IN.findall(said) == [], text.stem
        names += asked
    program = "import my_model; print(*(name for name in dir(my_model) if callable(getattr(my_model, name))))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(names) <= set(done.stdout.split())


@pytest.mark.slow
def test_the_course_unsolved(tmp_path):
    """It runs to its end; every check says that nothing is written, and only what notebooks give is kept."""
    names = []
    for text in TEXTS:
        notebook = build.read(text)
        build.execute(notebook, tmp_path)
        said, asked = printed(notebook), [each.exercise for each in exercises_in(notebook)]
        for name in asked:
            assert f"{name}: not written yet." in said, f"{text.stem}: {name}"
        names += asked
    given = (tmp_path / "my_model.py").read_text(encoding="utf-8")
    assert not set(re.findall(r"^def (\w+)", given, flags=re.MULTILINE)) & set(names)
