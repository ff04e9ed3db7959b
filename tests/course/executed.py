"""Notebooks, one after the other in one process that works in the folder it is started in, each with names of its own.

A kernel for each would take longer to start than most notebooks take to run. What a cell prints is kept; figures are made and
closed.
From standard input, JSON: for every notebook the sources of its cells. To standard output, JSON: what each printed.
"""

import ast
import contextlib
import io
import json
import linecache
import sys
import types


def run(name: str, sources: list[str]) -> str:
    """Execute cells as a notebook does, shown values included; returns what they printed."""
    module, printed = types.ModuleType("__main__"), io.StringIO()
    sys.modules["__main__"] = module  # where functions say that they come from
    with contextlib.redirect_stdout(printed):
        for number, source in enumerate(sources):
            file = f"<{name}, cell {number}>"
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for inspect
            tree = ast.parse(source)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, file, "exec"), module.__dict__)
            if last is not None:
                show(eval(compile(ast.Expression(last.value), file, "eval"), module.__dict__))
            plt.close("all")
    return printed.getvalue()


def show(value) -> None:
    """As the last line of a cell is."""
    if hasattr(value, "_ipython_display_"):
        value._ipython_display_()
    elif value is not None:
        getattr(value, "_repr_markdown_", value.__repr__)()


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    out, given = sys.stdout, json.load(sys.stdin)
    json.dump({name: run(name, sources) for name, sources in given.items()}, out)
