"""Names that come from outside (of files, data, users, items, runs), made harmless for the place where they are shown.

A name may hold what a place takes for an instruction: colours and cursor movements in a terminal, HTML or the end of a cell in
Markdown, a formula in a spreadsheet, mathematics in a figure. One function for each place; a usual name stays as it is.
"""

from __future__ import annotations

import html
import importlib
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

# Control characters, invisible ones that turn text round, halves of pairs, and what begins a new line.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# They join letters in many scripts, and emoji.
_JOINERS = "\u200c\u200d"


def for_terminal(text: object) -> str:
    """In one line of a terminal or log: what cannot be seen is written as Python would, ``\\x1b``."""
    return "".join(
        char if char in _JOINERS or unicodedata.category(char) not in _UNSEEN else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


def for_markdown(text: object) -> str:
    """In a paragraph, heading or table cell of Markdown."""
    shown = re.sub(r"([\\`*\[\]<>|&$~])", r"\\\1", for_terminal(text))
    # Between letters an underscore means nothing; at the beginning of a line more than these do.
    special = r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^\s*[#+=-]|^\s*\d+[.)](?=\s)"
    return re.sub(special, lambda found: f"{found.group()[:-1]}\\{found.group()[-1]}", shown)


def for_csv(cell: object) -> object:
    """In a cell of a CSV file: text that a spreadsheet would take for a formula begins with an apostrophe; numbers stay."""
    if not isinstance(cell, str):
        return cell
    shown = for_terminal(cell)
    return "'" + shown if shown.lstrip()[:1] in ("=", "+", "-", "@") else shown


def for_figure(text: object) -> str:
    """In a figure, where text between two dollars would be mathematics."""
    return for_terminal(text).replace("$", r"\$")


def for_html(text: object) -> str:
    """In text or an attribute of HTML."""
    return html.escape(for_terminal(text))


def html_table(title: object, rows: Iterable[Sequence[object]], *, header: Sequence[object] = (), note: object = "") -> str:
    """A small table for a notebook, all of it escaped, in the colours of the page around it, be they light or dark."""
    line, around = "rgba(128,128,128,.4)", "padding:.15em .8em;border:0;background:none;color:inherit"

    def row(cells: Sequence[object], rule: str = "") -> str:
        first, *others = map(for_html, cells)
        shown = f'<th style="{around};text-align:left;font-weight:normal;opacity:.75;white-space:nowrap{rule}">{first}</th>'
        style = f"{around};text-align:{'right' if header else 'left'}{rule}"
        return f"<tr>{shown}" + "".join(f'<td style="{style}">{cell}</td>' for cell in others) + "</tr>"

    shown = (row(("", *header), f";border-bottom:1px solid {line}") if header else "") + "".join(map(row, rows))
    below = f'<div style="opacity:.75;margin-top:.3em">{for_html(note)}</div>' if note else ""
    return (
        f'<div style="display:inline-block;border:1px solid {line};border-radius:6px;padding:.5em .7em;max-width:56em">'
        f'<div style="font-weight:600;border-bottom:1px solid {line};padding-bottom:.3em">{for_html(title)}</div>'
        f'<table style="border-collapse:collapse;border:0;margin:.3em 0 0;font-size:inherit">{shown}</table>'
        f"{below}</div>"
    )


def write_figure(path: Path, function: str, *arguments, **named) -> bool:
    """Write what a function of `c2f_np.plotting` draws and tell whether it is there: a failure is a warning, numbers matter more.

    The function is given as "module.function": where no folder is writable, Matplotlib may not even be imported.
    """
    module, _, name = function.partition(".")
    try:
        getattr(importlib.import_module(f".plotting.{module}", __package__), name)(*arguments, **named).write(path)
    except Exception as error:  # of fonts, folders, a missing package: whatever it is
        warnings.warn(f"{path}: the figure could not be drawn ({for_terminal(error)})", stacklevel=2)
        return False
    return True
