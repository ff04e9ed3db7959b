"""The notebooks that people see: executed from their texts, in order, without an error, in the frame of the course."""

import base64
import importlib.util
import re
import sys
from pathlib import Path

import nbformat
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
]
FRAME = [
    "What you will do",
    "The idea",
    "The mathematics",
    "Forward",
    "Backward",
    "Predict",
    "Check",
    "Faster",
    "Exercises",
    "Read next",
]
#: What may be missing where it makes no sense.
OPTIONAL = {"Forward", "Backward", "Faster"}
#: The beginning of a path on somebody's machine, not of an address or a page.
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|mnt|Users|private|var)/\w|(?<!\w)[A-Z]:\\\\?\w")
LARGEST_IMAGE, LARGEST_NOTEBOOK = 400_000, 1_500_000


def load_build():
    """notebooks/build.py, which is a program and not a part of the package."""
    spec = importlib.util.spec_from_file_location("notebooks_build", FOLDER / "build.py")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()


def read(name):
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


def headings(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    return re.findall(r"^## +(.+?)\s*$", text, flags=re.MULTILINE)


def test_the_course_is_complete():
    assert [text.stem for text in build.texts()] == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


def test_the_index_lists_every_notebook():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"({name}.ipynb)" in index


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_was_made_from_its_text(name):
    text = FOLDER / f"{name}.py"
    assert build.stored(text).exists()
    assert build.is_fresh(text), f"out of date: python notebooks/build.py {name[:2]}"


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
    found = headings(name)
    assert [heading for heading in found if heading not in FRAME] == []
    assert found == [heading for heading in FRAME if heading in found], "in another order, or twice"
    assert set(FRAME) - set(found) <= OPTIONAL
    first = read(name).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_shows_no_path_of_a_machine(name):
    for text in shown_texts(name):
        assert not (place := ABSOLUTE.search(text)), text[max(place.start() - 40, 0) : place.end() + 40]


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_asserts_and_lets_the_reader_write(name):
    sources = [cell.source for cell in code_cells(name)]
    assert sum("assert " in source for source in sources) >= 5
    assert any("raise NotImplementedError" in source for source in sources)
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    assert text.count("<details>") == text.count("</details>") >= 2
    assert "import pyplot" not in "".join(sources) and "sys.path" not in "".join(sources)


def test_a_changed_text_is_noticed(tmp_path):
    text = tmp_path / "00_x.py"
    text.write_text("# %%\n1\n", encoding="utf-8")
    assert not build.is_fresh(text)
    notebook = nbformat.v4.new_notebook(metadata={build.KEY: {"text": build.fingerprint(text)}})
    nbformat.write(notebook, build.stored(text))
    assert build.is_fresh(text)
    text.write_bytes(b"# %%\r\n1\r\n")
    assert build.is_fresh(text), "line ends are no change"
    text.write_text("# %%\n2\n", encoding="utf-8")
    assert not build.is_fresh(text)


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
