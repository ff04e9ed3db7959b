"""The course solved, notebook after notebook in one folder, with a my_model.py that grows; as shipped, it says what is missing.

`.ci/run` executes every notebook as it is shipped.
"""

import ast
import json
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path

import executed
import pytest
from test_notebooks_stored import FOLDER, NAMES, build, read

from c2f_np.course import exercise
from c2f_np.teaching.notebook import exercises_in

#: What my_model says when the course's answer stands in.
STOOD_IN = re.compile(r"^my\.(\w+): the course's answer", re.MULTILINE)
TEXTS = [FOLDER / f"{name}.py" for name in NAMES]
#: Long ones that do not go on with what their reader wrote; that their answers are right shows in test_course_every_exercise.py.
NOT_SOLVED = {"09_does_it_work", "10_blind_spots", "11_paper_against_code"}
#: Threads for matrices of this size cost more than they bring.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}


def answers_in(notebook):
    """The folded blocks of code that define a function, by its name."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)]
    return {name: block.rstrip() for block in blocks for name in re.findall(r"^def (\w+)\(", block, flags=re.MULTILINE)}


def stub_of(notebook, asked):
    """The empty function of an exercise."""
    body = ast.parse(notebook.cells[asked.cell - 1].source).body
    stub = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == asked.function)
    assert "raise NotImplementedError" in ast.unparse(stub)
    return stub


def solve(notebook):
    """Put the folded answers in the place of the empty functions; returns the names of the exercises."""
    answers, asked = answers_in(notebook), exercises_in(notebook)
    for each in asked:
        assert each.function == each.exercise
        cell, stub = notebook.cells[each.cell - 1], stub_of(notebook, each)
        lines = cell.source.split("\n")
        cell.source = "\n".join([*lines[: stub.lineno - 1], answers[each.function], *lines[stub.end_lineno :]])
    return [each.exercise for each in asked]


def printed(sources, folder):
    """What the cells of each notebook print, all executed in one process that works in the folder."""
    program = [sys.executable, str(Path(executed.__file__))]
    done = subprocess.run(program, input=json.dumps(sources), cwd=folder, env=os.environ | ONE_THREAD, capture_output=True,
                          text=True, timeout=900)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cells(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_the_course_solved(tmp_path):
    """Every check says right, everything is kept, nothing stands in for it, and the file can be imported by itself."""
    notebooks = {text.stem: build().read(text) for text in TEXTS if text.stem not in NOT_SOLVED}
    asked = {name: solve(notebook) for name, notebook in notebooks.items()}
    for name, said in printed({name: cells(notebook) for name, notebook in notebooks.items()}, tmp_path).items():
        for each in asked[name]:
            assert f"{each}: right.\nKept in my_model.py.\n" in said, f"{name}: {each}"
        assert STOOD_IN.findall(said) == [], name
    program = "import my_model; print(*(name for name in dir(my_model) if callable(getattr(my_model, name))))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {each for several in asked.values() for each in several} <= set(done.stdout.split())


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_what_is_given_is_not_written_and_is_not_kept(text, tmp_path, monkeypatch, capsys):
    """As it stands in today's text, told by today's checks."""
    monkeypatch.chdir(tmp_path)
    notebook = build().read(text)
    for each in exercises_in(notebook):
        source, file, namespace = ast.unparse(stub_of(notebook, each)), f"<{each.exercise}>", {}
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # it could be kept
        exec(compile(source, file, "exec"), namespace)
        exercise(each.exercise).check(namespace[each.function]).keep()
        said = f"{each.exercise}: not written yet. Write the function, then run the check again.\n"
        assert capsys.readouterr().out == said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.stem)
def test_stored_notebooks_are_unsolved_ones(text):
    stored = read(text.stem)
    outputs = [output for cell in stored.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert [each.exercise for each in exercises_in(stored) if f"{each.exercise}: not written yet." not in said] == []
