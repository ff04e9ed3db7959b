"""What happens to docstrings and notebooks before Sphinx reads them: both are written to be read elsewhere too."""

import json
import re

WIDGET = "application/vnd.jupyter.widget-view+json"


def mark_up(app, what, name, obj, options, lines):
    """A docstring: blocks of formulas, tables of shapes and bars as they stand; the pages that are mentioned become links."""
    marked, before, literal = [], "", False
    for line in lines:
        if re.fullmatch(r"-{3,}", line) and before == "Shapes":
            marked[-1:] = ["**Shapes**", "", "::", ""]
            literal = True
            continue
        indented = line.startswith(" ")
        if indented and marked and not marked[-1] and not before.startswith(" ") and not before.endswith("::"):
            marked += ["::", ""]
        marked.append(f"    {line}" if literal and line else line if indented else with_links(line))
        before = line or before
    lines[:] = marked


def with_links(line):
    """A line of prose."""
    line = re.sub(r"(?<!`)\|(?![^`]*`)", r"\\|", line)
    line = re.sub(r"(?<!`)\bmodel\.md, (coarse stage|fine stage|joint training|starts|sampling)", to_equations, line)
    return re.sub(r"(?<![`/])\bdocs/(\w+)\.md\b(?!`)", r"`docs/\1.md <../\1.html>`__", line)


def to_equations(found):
    """A link to a section of docs/model.md."""
    return f"`model.md, {found[1]} <../model.html#{found[1].replace(' ', '-')}>`__"


def still_pictures(app, docname, source):
    """A notebook: a slider needs a kernel, so the picture under it is shown, as it was when the notebook was stored."""
    if WIDGET not in source[0]:
        return
    notebook = json.loads(source[0])
    models = notebook["metadata"].pop("widgets")["application/vnd.jupyter.widget-state+json"]["state"]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [each for output in cell["outputs"] for each in still(output, models)]
    source[0] = json.dumps(notebook)


def still(output, models):
    """An output, or in place of a widget what its parts show."""
    if WIDGET not in output.get("data", {}):
        return [output]
    parts = models[output["data"][WIDGET]["model_id"]]["state"]["children"]
    note = {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": "*In Jupyter there is a slider here.*"}}
    return [note] + [each for part in parts for each in models[part.removeprefix("IPY_MODEL_")]["state"].get("outputs", [])]


def with_explorer(app, pagename, templatename, context, doctree):
    """The page on which the model is moved by hand: its scripts, and only there."""
    if pagename == "docs/explore/index":
        app.add_css_file("explore.css")
        for script in ("explore_model.js", "explore.js"):
            app.add_js_file(script, loading_method="defer")


def skip_requests(app, what, name, found, skip, options):
    """Leave out the methods that scikit-learn adds for routing metadata (``set_fit_request`` and its like)."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app):
    app.connect("autodoc-process-docstring", mark_up, priority=100)  # before Napoleon
    app.connect("autodoc-skip-member", skip_requests)
    app.connect("html-page-context", with_explorer)
    app.connect("source-read", still_pictures)
    return {"parallel_read_safe": True}
