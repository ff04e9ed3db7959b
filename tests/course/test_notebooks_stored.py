"""The notebooks that people see: executed from their texts, in order, without an error, in the frame of the course."""

import base64
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = [
    "00_data_and_graph",
    "01_checking_a_gradient",
    "02_sparse_propagation",
    "03_soft_thresholding",
    "04_composition_and_bridging",
    "05_loss_and_optimiser",
    "06_coarse_stage",
    "07_fine_stage",
    "08_the_collapse",
    "09_does_it_work",
    "10_blind_spots",
    "11_paper_against_code",
    "12_the_joint_model",
    "13_find_the_bug",
]
#: Level-2 headings in their order, as far as a notebook has them; "Write: ..." and "Question: ..." may come several times.
FRAME = ["What you will do", "The idea", "Write", "Question", "Predict", "Check", "Try it", "Faster", "Exercises", "Read next"]
REQUIRED = {"What you will do", "The idea", "Read next"}
#: Those that measure and compare. All others ask for a function before they derive it.
EMPIRICAL = {"09_does_it_work", "10_blind_spots", "11_paper_against_code", "13_find_the_bug"}
MOST_WORDS = 2400
#: What belongs to the package's versions, which come last, under "Faster".
MACHINERY = re.compile(r"engine_named|c2f_np\.kernels|\bonto=|getsource")
#: The beginning of a path on somebody's machine, not of an address or a page.
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|mnt|Users|private|var)/\w|(?<!\w)[A-Z]:\\\\?\w")
LARGEST_IMAGE, LARGEST_NOTEBOOK = 400_000, 1_500_000


@cache
def build():
    """notebooks/build.py, which is a program and not a part of the package; not at import: it takes seconds."""
    spec = importlib.util.spec_from_file_location("notebooks_build", FOLDER / "build.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def read(name):
    import nbformat

    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def outputs(name):
    return [output for cell in code_cells(name) for output in cell.outputs]


def shown_texts(name):
    """All that a reader sees as text: sources and textual outputs."""
    yield from (cell.source for cell in read(name).cells)
    for output in outputs(name):
        if output.output_type == "stream":
            yield output.text
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield value


def text_of(name):
    return "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")


def sources(name):
    return "\n".join(cell.source for cell in code_cells(name))


def in_order(name):
    return "\n".join(cell.source for cell in read(name).cells)


def headings(name):
    return re.findall(r"^## +(.+?)\s*$", text_of(name), flags=re.MULTILINE)


def test_the_course_is_complete():
    assert [text.stem for text in build().texts()] == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


def test_the_index_lists_every_notebook():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"({name}.ipynb)" in index


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_was_made_from_its_text(name):
    text = FOLDER / f"{name}.py"
    assert build().stored(text).exists()
    assert build().is_fresh(text), f"out of date: python notebooks/build.py {name[:2]}"


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_ran_from_the_top_without_an_error(name):
    cells = [cell for cell in code_cells(name) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert outputs(name), "nothing is shown"
    for output in outputs(name):
        assert output.output_type != "error"
        assert not (output.output_type == "stream" and "Traceback (most recent call last)" in output.text)
        if output.output_type == "execute_result":
            assert output.execution_count


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_has_pictures_and_none_is_huge(name):
    images = [output.data["image/png"] for output in outputs(name) if "image/png" in output.get("data", {})]
    assert images, "no picture"
    for image in images:
        content = base64.b64decode(image)
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        assert content[:4] == b"\x89PNG" and len(content) < LARGEST_IMAGE
        assert 150 < width < 1600 and 100 < height < 1400
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST_NOTEBOOK


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_has_the_frame(name):
    found = [re.match(r"[^:]+", heading)[0] for heading in headings(name)]
    assert [heading for heading in found if heading not in FRAME] == []
    assert found == sorted(found, key=FRAME.index) and set(found) >= REQUIRED
    assert all(found.count(heading) == 1 for heading in found if heading not in ("Write", "Question"))
    assert "Write" in found or name in EMPIRICAL
    first = read(name).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "symbols.md" in text_of(name)


@pytest.mark.parametrize("name", sorted(set(NAMES) - EMPIRICAL))
def test_readers_write_before_they_are_shown(name):
    for section in re.split(r"^## +", in_order(name), flags=re.MULTILINE):
        if section.startswith("Write"):
            assert ".check(" in section.partition("The derivation")[0], section.partition("\n")[0]
            assert not (found := MACHINERY.search(section)), found[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_a_variable_of_its_own_and_is_kept_under_its_name(name):
    asked = re.findall(r"^(\w+) = exercise\(\"(\w+)\"\)$", sources(name), flags=re.MULTILINE)
    assert asked and [variable for variable, _ in asked] == [f"task_{k}" for k in range(1, len(asked) + 1)]
    for variable, exercise in asked:
        assert f"\n{variable}.check({exercise}).keep();" in sources(name)
        assert f"# print({variable}.hint())" in sources(name)
    assert not re.search(r"^print\(\w+\.hint", sources(name), flags=re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_the_time_of_a_notebook_is_measured(name):
    length = build().length(FOLDER / f"{name}.py")
    assert length.words <= MOST_WORDS
    assert f"*Reading: {length.reading} minutes. Exercises: {length.exercises}.*" in read(name).cells[0].source
    row = next(line for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines() if f"({name}.ipynb)" in line)
    assert row.endswith(f"| {length.reading} | {length.exercises} |"), "python notebooks/build.py --times"


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_shows_no_path_of_a_machine(name):
    for text in shown_texts(name):
        assert not (place := ABSOLUTE.search(text)), text[max(place.start() - 40, 0) : place.end() + 40]


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_asserts_and_lets_the_reader_write(name):
    sources = [cell.source for cell in code_cells(name)]
    assert sum("assert " in source for source in sources) >= 5
    assert any("raise NotImplementedError" in source for source in sources)
    assert text_of(name).count("<details>") == text_of(name).count("</details>") >= 2
    assert "import pyplot" not in "".join(sources) and "sys.path" not in "".join(sources)


def test_a_changed_text_is_noticed(tmp_path):
    text = tmp_path / "00_x.py"
    text.write_text("# %%\n1\n", encoding="utf-8")
    assert not build().is_fresh(text)
    import nbformat

    notebook = nbformat.v4.new_notebook(metadata={build().KEY: {"text": build().fingerprint(text)}})
    nbformat.write(notebook, build().stored(text))
    assert build().is_fresh(text)
    text.write_bytes(b"# %%\r\n1\r\n")
    assert build().is_fresh(text), "line ends are no change"
    text.write_text("# %%\n2\n", encoding="utf-8")
    assert not build().is_fresh(text)


@pytest.mark.parametrize(
    ("text", "is_absolute"),
    [
        ("see /home/ann/data", True),
        ("File '/tmp/x.py'", True),
        (r"C:\Users\ann", True),
        ("https://arxiv.org/abs/2501.11870", False),
        ("[docs](../docs/model.md)", False),
        ("forward/backward, a/work/b, D: the width", False),
    ],
)
def test_what_counts_as_a_path(text, is_absolute):
    assert bool(ABSOLUTE.search(text)) == is_absolute
