"""Docstrings as the reference shows them: written to be read in an editor too, they need a few marks before they are reStructuredText."""

import re


def mark_up(app, what, name, obj, options, lines):
    """Blocks of formulas, tables of shapes and bars as they stand; the pages that are mentioned become links."""
    marked, before, literal = [], "", False
    for line in lines:
        if re.fullmatch(r"-{3,}", line) and before == "Shapes":
            marked[-1:] = ["**Shapes**", "", "::", ""]
            literal = True
            continue
        indented = line.startswith(" ")
        if indented and marked and not marked[-1] and not before.startswith(" ") and not before.endswith("::"):
            marked += ["::", ""]
        marked.append(f"    {line}" if literal and line else line if indented else linked(line))
        before = line or before
    lines[:] = marked


def linked(line):
    """A line of prose."""
    line = re.sub(r"(?<!`)\|(?![^`]*`)", r"\\|", line)
    line = re.sub(r"(?<!`)\bmodel\.md, (coarse stage|fine stage|joint training|starts|sampling)", link_to_equations, line)
    return re.sub(r"(?<![`/])\bdocs/(\w+)\.md\b(?!`)", r"`docs/\1.md <../\1.html>`__", line)


def link_to_equations(found):
    return f"`model.md, {found[1]} <../model.html#{found[1].replace(' ', '-')}>`__"


def setup(app):
    app.connect("autodoc-process-docstring", mark_up, priority=100)  # before Napoleon
    return {"parallel_read_safe": True}
