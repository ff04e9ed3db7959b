"""What the pages, docstrings, comments and notebooks refer to is there: files, names, sections, links, commands."""

import ast
import contextlib
import fnmatch
import functools
import importlib
import inspect
import io
import pkgutil
import re
import shlex
import tokenize
from pathlib import Path

import pytest

import c2f_np
from benchmarks.__main__ import _parse as parse_benchmarks
from c2f_np.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    + [path for folder in ("notebooks", "data", "benchmarks") for path in (ROOT / folder).glob("*.md")]
)
SOURCES = sorted(
    [*(ROOT / "c2f_np").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "notebooks").glob("*.py")]
)
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve())
#: Where the folders are in which a path may start; paths of a run or of the reader's own files start elsewhere.
BASES = (ROOT, ROOT / "c2f_np")
#: Names that a page makes up for an example.
INVENTED = {
    "docs/adding_an_operation.md": {"gated", "gated_backward", "graph.engine.gated", "codebook.gated_backward"},
    "docs/data.md": {"product_id"},
    "docs/design.md": {"operation_backward"},
    "tests/course/test_course_framework.py": {"gated_backward"},
    "notebooks/build.py": {"notebooks/NN_name.py"},
    "notebooks/11_paper_against_code.py": {"funcs.py"},  # of the released code
}
#: Names of other people's code.
FOREIGN = {"ndcg_score", "__pycache__"}
#: What objects are called in the examples.
VARIABLES = {"data": "Dataset", "settings": "Settings", "model": "C2FRecommender", "served": "Served", "task": "Exercise"}
LIBRARIES = {"np": "numpy", "numpy": "numpy", "scipy": "scipy", "concurrent": "concurrent"}


# ---- what there is -------------------------------------------------------------------------------------------------


@functools.cache
def modules():
    """Every module of the package, imported, by its full name."""
    names = [each.name for each in pkgutil.walk_packages(c2f_np.__path__, "c2f_np.") if not each.name.endswith("__main__")]
    return {"c2f_np": c2f_np, **{name: importlib.import_module(name) for name in names}}


@functools.cache
def modules_called(stem):
    return [module for name, module in modules().items() if name.rpartition(".")[2] == stem]


@functools.cache
def classes_called(name):
    found = [vars(module).get(name) for module in modules().values()]
    return [each for each in found if inspect.isclass(each)]


@functools.cache
def folders():
    """In which a path may start; not what commands leave behind, such as ``runs/``."""
    left_behind = set(re.findall(r"^([\w.]+)/$", (ROOT / ".gitignore").read_text(encoding="utf-8"), flags=re.MULTILINE))
    found = {each.name for base in BASES for each in base.iterdir() if each.is_dir() and not each.name.startswith((".", "_"))}
    return found - left_behind


@functools.cache
def files():
    """Every file and folder that belongs to the project, as a path from its root, and by its last name alone."""
    found = {each.name for each in ROOT.iterdir()}
    for folder in ("c2f_np", "docs", "benchmarks", "notebooks", "tests", "data", ".ci"):
        found.update(each.relative_to(ROOT).as_posix() for each in (ROOT / folder).rglob("*"))
    return frozenset(found), frozenset(each.rpartition("/")[2] for each in found)


def exists(named, base=ROOT):
    """Whether there is such a file or folder, or one that fits a pattern with ``*``."""
    relative = re.sub(r"[^/]+/\.\./", "", (base / named).relative_to(ROOT).as_posix())
    return bool(fnmatch.filter(files()[0], relative)) if "*" in relative else relative in files()[0]


@functools.cache
def words_and_strings():
    """The words of all code: names, and what stands in strings other than docstrings; and these strings, as one text."""
    words, strings = set(FOREIGN), []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # An expression that is only a string is a docstring.
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            for field in ("id", "attr", "arg", "name", "asname"):
                if isinstance(value := getattr(node, field, None), str):
                    words.update(value.split("."))
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                words.update(re.findall(r"\w+", node.value))
                words.add(node.value.replace(" ", "_"))  # ``contract.sparse_entries`` is made from "sparse entries"
                strings.append(node.value)
        words.update(re.findall(r"\w+", path.stem))
    return words, "\n".join(strings)


def has(thing, name):
    """Whether an attribute is there, be it only a field or an annotation."""
    return hasattr(thing, name) or any(name in vars(base).get("__annotations__", ()) for base in getattr(thing, "__mro__", ()))


def resolves(dotted):
    """Whether ``package.module.Class.attribute`` can be imported."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for position, part in enumerate(parts[end:], end):
            if not has(thing, part):
                return False
            if (thing := getattr(thing, part, None)) is None:
                return position == len(parts) - 1
        return True
    return False


def resolves_in(module, name):
    """Whether a role's target is there, seen from a module: in it, in its package, or a method of one of its classes."""
    if name.startswith("."):
        return resolves(f"{module.__name__ if hasattr(module, '__path__') else module.__package__}{name}")
    if name.split(".")[0] in (*LIBRARIES, "c2f_np"):
        return resolves(name)
    first, _, rest = name.partition(".")
    for place in (module, importlib.import_module(module.__name__.rpartition(".")[0] or "c2f_np"), c2f_np):
        if hasattr(place, first):
            thing = getattr(place, first)
            return not rest or has(thing, rest)
    return any(inspect.isclass(each) and has(each, name) for each in vars(module).values())


@functools.cache
def sections():
    """Of docs/model.md: for each section's title, in small letters, the numbers of its equations, the bold titles of its
    paragraphs, and the rows of its tables."""
    found = {}
    for part in re.split(r"^## ", (ROOT / "docs/model.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        lines = body.splitlines()
        found[title.strip().lower()] = (
            {int(number) for line in lines if line.startswith("    ") for number in re.findall(r"\((\d)\) ", line)},
            {bold[1].strip(" .").lower() for line in lines if (bold := re.match(r"\*\*(.+?)\*\*", line))},
            [line for line in lines if line.startswith("|")],
        )
    return found


def numbers(text):
    """{1, 2, 3} of "coarse stage, 1-3"; empty if there is no number."""
    match = re.search(r", (\d)(?:-(\d))?", text)
    return set(range(int(match[1]), int(match[2] or match[1]) + 1)) if match else set()


def anchors(path):
    titles = re.findall(r"^#+ +(.+?)\s*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in titles}


# ---- what is said --------------------------------------------------------------------------------------------------


def texts(path, content=None):
    """Pieces of prose of a file with the line that each starts in: a page as it is; of code the strings and comments."""
    content = content or path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [(1, content)]
    found, comment = [], None
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT:
            text = re.sub(r"^#:? ?", "", token.string)
            if comment and comment[2] == token.start[0] - 1:
                found[-1] = comment = comment[0], f"{comment[1]}\n{text}", token.start[0]
            else:
                found.append(comment := (token.start[0], text, token.start[0]))
        elif token.type == tokenize.STRING:
            body = re.sub(r"^\w*(\"\"\"|'''|\"|')(.*)\1$", r"\2", token.string, flags=re.DOTALL)
            found.append((token.start[0], body))
    return [each[:2] for each in found]


def complaints(path, name=None):
    """Every reference of a file that leads nowhere, with its line."""
    name = name or path.relative_to(ROOT).as_posix()
    found = []
    for start, text in texts(path):
        for at, what in problems(text, path, INVENTED.get(name, set())):
            found.append(f"{name}:{start + text.count(chr(10), 0, at)}: {what}")
    return found


def problems(text, path, invented=frozenset()):
    """Positions and descriptions of what a text refers to and is not there."""
    if not re.search(r"[`/\[_]|model|stage, |python -m|import", text):
        return
    for kind in (paths, roles, names, citations, links, commands, named_tests):
        for at, what in kind(text, path):
            if what.split("`")[1] not in invented:
                yield at, what


def paths(text, path):
    """Paths that begin in a folder of the repository, and file names in backticks."""
    for match in re.finditer(r"(?<![\w./:*{}~(-])(\w+)/[\w./*-]*", text):
        named = match[0].rstrip(".")
        is_quoted = text[match.start() - 1 : match.start()] == "`"
        if match[1] not in folders() or not ("." in named or named.endswith("/") or is_quoted):
            continue
        module, _, attribute = named.rpartition(".")
        is_name = module and attribute and resolves(f"c2f_np.{module.replace('/', '.')}.{attribute}")
        if not is_name and not any(exists(named.rstrip("/"), base) for base in (*BASES, path.parent)):
            yield match.start(), f"no file `{named}`"
    for match in re.finditer(r"`(\w[\w-]*\.(?:py|md|toml|ipynb|csv|json|npz|txt))`", text):
        written = all(part in words_and_strings()[1] for part in re.split(r"[A-Z]{2,}", match[1]))
        if not written and match[1] not in files()[1]:
            yield match.start(), f"no file, and none that the code writes: `{match[1]}`"


def roles(text, path):
    """``:func:`` and its like."""
    if path.suffix != ".py" or not path.is_relative_to(ROOT / "c2f_np"):
        return
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for match in re.finditer(r":(?:func|class|mod|meth|data|attr|exc):`~?([^`]+)`", text):
        if dotted in modules() and not resolves_in(modules()[dotted], re.sub(r"\s", "", match[1])):
            yield match.start(), f"nothing is called `{match[1]}` here"


def names(text, path):
    """Names in backticks: those of the package can be imported, all others stand somewhere in the code."""
    for match in re.finditer(r"(?<![`:])(``?)([^`\n]+)\1(?!`)", text):
        code = match[2]
        inner = re.fullmatch(r"(?:\w+/)*(\w+)\.py: ([\w, ]+)", code)
        if inner:
            for each in inner[2].split(", "):
                if not any(has(module, each) for module in modules_called(inner[1])):
                    yield match.start(), f"no module {inner[1]} has `{each}`"
            continue
        call = re.fullmatch(r"([A-Za-z_][\w.]*?)(\(.*\)|\[.*\]|=[^=].*)?", code)
        if not call or not re.search(r"[a-z]", call[1]) or call[1].endswith("."):
            continue
        first, _, rest = call[1].partition(".")
        if re.search(r"\.(py|md|toml|ipynb|csv|json|npz|txt|inter|data|dat|png)$", call[1]):
            continue
        if first == "c2f_np" or first in LIBRARIES:
            full = call[1] if first == "c2f_np" else f"{LIBRARIES[first]}.{rest}".rstrip(".")
            if not resolves(full):
                yield match.start(), f"cannot import `{call[1]}`"
        elif rest and (modules_called(first) or classes_called(first)) and path.suffix == ".md":
            things = [*modules_called(first), *classes_called(first), *classes_called(VARIABLES.get(first, ""))]
            if not any(functools.reduce(lambda t, part: getattr(t, part, None), rest.split(".")[:-1], each) is not None
                       and has(functools.reduce(getattr, rest.split(".")[:-1], each), rest.split(".")[-1]) for each in things):
                yield match.start(), f"neither a module nor a class has `{call[1]}`"
        elif "_" in call[1] or rest:
            if missing := [part for part in call[1].split(".") if "_" in part and part not in words_and_strings()[0]]:
                yield match.start(), f"no code has the name `{missing[0]}`"
    for match in re.finditer(r"^\s*(?:>>> )?from (c2f_np[\w.]*) import ([\w, ]+)$", text, flags=re.MULTILINE):
        for each in match[2].split(","):
            imported = each.split(" as ")[0].strip()
            if not resolves(f"{match[1]}.{imported}"):
                yield match.start(), f"cannot import `{match[1]}.{imported}`"


def citations(text, path):
    """``model.md, coarse stage, 4-5``: the section is there, and so are its equations or its paragraph."""
    for match in re.finditer(r"model\.md`?\)?(?:, | \(|,? sections? |, section )([^.;)\n]*(?:; [^.)\n]*)?)", text):
        rest = re.sub(r"[*\"]|\bsections?\b", "", match[1]).strip().lower()
        if not path.suffix == ".py" or not rest:
            continue
        if path.is_relative_to(ROOT / "notebooks"):
            rest = re.split(r"(?:^|,? )(?:for|its|the same)\b|:", rest.replace(" to ", "-"))[0]
        yield from ((match.start(), what) for what in unknown_in_model(rest))
    if path.name == "model.md":
        for match in re.finditer(r"\b(?:as|in|of) (coarse stage|fine stage|joint training), (\d(?:-\d)?)", text):
            yield from ((match.start(), what) for what in unknown_in_model(f"{match[1]}, {match[2]}"))


def unknown_in_model(citation):
    """What of "coarse stage, 1-3; starts" docs/model.md does not have."""
    heads = {head: key for key in sections() for head in (key, key.split(":")[0])}
    known = None
    rest = citation.strip(" ,;.")
    while rest:
        part = next((head for head in sorted(heads, key=len, reverse=True) if re.match(rf"{re.escape(head)}\b", rest)), None)
        bold = known and next((b for b in sections()[known][1] if re.match(rf"{re.escape(b)}\b", rest)), None)
        if part:
            known = heads[part]
        elif number := re.match(r"\d(?:-\d)?", rest):
            if not known or not numbers(f", {number[0]}") <= sections()[known][0]:
                yield f"model.md has no equation `{citation}`"
            part = number[0]
        elif bold:
            part = bold
        else:
            yield f"model.md has no section `{citation}`"
            return
        rest = re.sub(r"^(?:[,;\s]|and\b)+", "", rest[len(part) :])


def links(text, path):
    """Markdown's links: the file, and the heading in it."""
    if path.suffix == ".py" and not path.is_relative_to(ROOT / "notebooks"):
        return
    for match in re.finditer(r"\]\(([^()\s]+)\)", text):
        if re.match(r"https?://|mailto:", match[1]):
            continue
        file, _, anchor = match[1].partition("#")
        target = path.parent / file if file else path
        if not target.exists():
            yield match.start(), f"the link `{match[1]}` leads nowhere"
        elif anchor and anchor not in anchors(target):
            yield match.start(), f"the link `{match[1]}` names no heading of its page"


def parses(parser, words):
    """Nothing if a parser takes the words, else what it says."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser(words)
        except SystemExit as end:
            return said.getvalue().strip() if end.code else ""
    return ""


@functools.cache
def options():
    """Every option of every command, and of the benchmarks."""
    parsers, of_commands = [build_parser()], set()
    for parser in parsers:  # those of subcommands are added while it runs
        of_commands |= set(parser._option_string_actions)
        parsers += [each for action in parser._actions if hasattr(action.choices, "values") for each in action.choices.values()]
    benchmarks = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py"))
    return of_commands | set(re.findall(r"\"(--[\w-]+)\"", benchmarks))


def commands(text, path):
    """Commands that are named, in whole or by their beginning, and options that stand alone."""
    text = re.sub(r"\\\n\s*", lambda match: " " * len(match[0]), text)
    for match in re.finditer(r"(`*)python -m ((?:c2f_np|benchmarks)[\w.]*)([^`\n]*)", text):
        tail = re.split(r"\s#|\s{3,}\S|&&|[;,)](?:\s|$)|\{", match[3])[0]
        if match[1] and match[3].startswith(" "):
            tail = match[3]
        if match[2] not in ("c2f_np", "benchmarks"):
            module = match[2].rstrip(".")
            if not (ROOT / (module.replace(".", "/") + ".py")).exists():
                yield match.start(), f"no module `{module}`"
            continue
        try:
            words = shlex.split(tail)
        except ValueError:
            words = tail.split()
        if words and words[-1].endswith((".", ":")) and not match[1]:
            words[-1] = words[-1][:-1]
        if not words or words[0] in ("COMMAND", "..."):
            continue
        for place, word in enumerate(words):
            if word.isupper() and words[place - 1] == "--preset":
                words[place] = "default"
        said = parses(parse_benchmarks if match[2] == "benchmarks" else build_parser().parse_args, words)
        # A sentence may name a command without all that it needs.
        if said and not ("required" in said and (match[1] or len(words) == 1 or "{" in match[3])):
            yield match.start(), f"not a command: `{' '.join(words)}`: {said}"
    for match in re.finditer(r"(?<!`)`(--[a-z][\w-]*)", text):
        if match[1] not in options():
            yield match.start(), f"no command has the option `{match[1]}`"


def named_tests(text, path):
    """``model_graph`` in docs/model.md stands for tests/model/test_model_graph.py."""
    if path.name != "model.md":
        return
    for match in re.finditer(r"\b(model|training)_\w+\b", "".join(c if c != "`" else " " for c in text)):
        if text[match.start() - 1] in "`=" or match[0] in words_and_strings()[0]:
            continue
        if not (ROOT / "tests" / match[1] / f"test_{match[0]}.py").exists():
            yield match.start(), f"no test `{match[0]}`"


# ---- the tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, *SOURCES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_reference_leads_somewhere(path):
    found = complaints(path)
    assert not found, "\n" + "\n".join(found)


def test_every_page_is_linked_from_the_readme_or_a_page_that_is():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^()\s#]+)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                target = (page.parent / link).resolve()
                waiting.append(target / "README.md" if target.is_dir() and (target / "README.md").exists() else target)
    missing = [page.relative_to(ROOT).as_posix() for page in PAGES if page not in reached]
    assert not missing


@functools.cache
def cited_equations():
    """Every function whose docstring cites equations of docs/model.md: place, name, section, numbers."""
    found = []
    for path in (ROOT / "c2f_np").rglob("*.py"):
        if "model.md, " not in path.read_text(encoding="utf-8"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node) or ""
                if cited := re.search(r"model\.md, (coarse stage|fine stage|joint training)(, \d(?:-\d)?)", docstring):
                    place = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
                    found.append(pytest.param(node.name, cited[1], numbers(cited[2]), id=f"{place}:{node.name}"))
    return found


@pytest.mark.parametrize(("function", "section", "cited"), cited_equations())
def test_an_equation_that_a_function_cites_is_its_own(function, section, cited):
    """The table under the equations names the function in the row of that number, or in the row of the whole."""
    rows = [row for row in sections()[section][2] if re.search(rf"\b{function}\b", row)]
    assert rows, f"docs/model.md names no {function} under {section}"
    assert any("all of it" in row or cited & numbers(row.split("|")[1]) for row in rows), rows


def test_there_are_citations_to_follow():
    assert len(cited_equations()) >= 10 and len(sections()) >= 6
    assert numbers("fine stage, 4, all") == {4} and numbers("coarse stage, 2-3") == {2, 3} and numbers("all of it") == set()


@pytest.mark.parametrize(
    ("place", "good", "stale"),
    [
        ("docs/model.md", "`graph.normalise`", "`graph.normalize`"),
        ("docs/model.md", "`training/loop.run_phases`", "`training/loop.run_phase`"),
        ("docs/model.md", "`..._assignment` and model_bpr", "model_brp"),
        ("docs/model.md", "as coarse stage, 4-5", "as coarse stage, 4-7"),
        ("docs/model.md", "[here](#joint-training)", "[here](#joined-training)"),
        ("docs/baselines.md", "`c2f_np/baselines/table_stage.py`", "`c2f_np/baselines/table_stages.py`"),
        ("docs/baselines.md", "`table_stage.py`", "`table_trainer.py`"),
        ("docs/baselines.md", "[evaluation](evaluation.md#the-order)", "[evaluation](evaluation.md#order)"),
        ("docs/baselines.md", "`python -m c2f_np gradcheck --op table_model`", "`python -m c2f_np gradcheck --operation table`"),
        ("docs/baselines.md", "    python -m c2f_np study rivals --jobs 2", "    python -m c2f_np studies rivals --jobs 2"),
        ("docs/baselines.md", "`python -m c2f_np train --preset paper`", "`python -m c2f_np train --preset papers`"),
        ("docs/baselines.md", "`--preset NAME`", "`--preset-name NAME`"),
        ("docs/baselines.md", "python -m benchmarks --only steps", "python -m benchmarks --only step"),
        ("docs/baselines.md", "`python -m benchmarks.pages`", "`python -m benchmarks.page`"),
        ("docs/baselines.md", "from c2f_np import load_dataset", "from c2f_np import load_data_set"),
        ("docs/baselines.md", "`data.fingerprint()`", "`data.finger_print()`"),
        ("docs/baselines.md", "`Triples.occurrences`", "`Triples.occurrence`"),
        ("docs/baselines.md", "`joint_forward`", "`forward_joint`"),
        ("docs/baselines.md", "`scipy.sparse.csr_array`", "`scipy.sparse.csr_arrays`"),
        ("docs/baselines.md", "`rows.csv`", "`lines_of_rows.csv`"),
        ("notebooks/README.md", "`model/graph.py: degree_factors`", "`model/graph.py: factors_of_degree`"),
        ("c2f_np/model/step.py", '"""See :func:`adam_step`."""', '"""See :func:`adam_steps`."""'),
        ("c2f_np/model/step.py", "# As in ``c2f_np.settings.Settings.dim``.", "# As in ``c2f_np.settings.Settings.dims``."),
        ("c2f_np/model/step.py", "# Cells of tests/parity/case_a.npz.", "# Cells of tests/parity/case_of_a.npz."),
        ("c2f_np/model/step.py", '"""Step (model.md, coarse stage, 6)."""', '"""Step (model.md, coarse stage, 9)."""'),
        ("c2f_np/model/step.py", '"""Draw (model.md, sampling)."""', '"""Draw (model.md, training samples)."""'),
        ("notebooks/06_coarse_stage.py", "# `docs/model.md` (graph, starts)", "# `docs/model.md` (graph, beginnings)"),
    ],
)
def test_a_stale_reference_is_noticed(place, good, stale):
    def found(text):
        pieces = texts(ROOT / place, text)
        return [what for _, piece in pieces for _, what in problems(piece, ROOT / place)]

    assert found(good) == []
    assert len(found(stale)) == 1
