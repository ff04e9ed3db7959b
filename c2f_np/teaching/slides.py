"""Slides of a notebook: one idea each. What a slide leaves out of the text stands in the speaker's notes.

A slide begins at each heading, and again where one is full. Of a paragraph its first sentence is shown, with all formulas and
lists; figures have a slide of their own; long code and what only asserts are left out. A cell whose metadata hold a slide type
of Jupyter's ("slide", "skip", "notes") is treated as that says.
"""

from __future__ import annotations

import ast
import html
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..files import write_text_atomically
from .notebook import exercises_in, read_notebook, source_of

#: What the pages load, in folders of npm packages.
_ASSETS = {
    "reveal.js/dist": "reveal.js",
    "reveal.js/plugin/notes": "notes",
    "mathjax/es5/tex-svg-full.js": "tex-svg-full.js",
}
_INSTALL = "npm install --no-save reveal.js@4.6.1 mathjax@3.2.2"
#: Lines that fit on a slide, and lines of code.
_LINES, _CODE_LINES, _WIDTH = 11.0, 16, 74

_PAGE = r"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<title>{title}</title>
<link rel="stylesheet" href="assets/reveal.js/reset.css"><link rel="stylesheet" href="assets/reveal.js/reveal.css">
<link rel="stylesheet" href="assets/reveal.js/theme/white.css"><style>{css}
.reveal {{ font-size: 32px; }} .reveal .slides section {{ text-align: left; box-sizing: border-box; padding: 24px 56px; }}
.reveal h1 {{ font-size: 2.1em; text-transform: none; margin-bottom: .6em; }}
.reveal h2 {{ font-size: 1.35em; text-transform: none; margin-bottom: .6em; }}
.reveal p, .reveal ul, .reveal ol {{ margin: .5em 0; }} .reveal ul, .reveal ol {{ display: block; margin-left: 1.2em; }}
.reveal pre {{ width: 100%; box-shadow: none; font-size: .56em; line-height: 1.35; margin: .4em 0; white-space: pre-wrap; }}
.reveal .highlight pre {{ background: #f6f8fa; padding: .6em .8em; }} .reveal code {{ font-size: .88em; }}
.reveal .highlight code, .reveal .highlight span {{ font-size: 1em; }} .reveal table {{ font-size: .7em; margin: .4em 0; }}
.reveal img {{ display: block; margin: 0 auto; max-width: 100%; max-height: 430px; }} mjx-container {{ overflow: visible; }}
.reveal .slides section.stack {{ padding: 0; }}
.measured .slides section {{ display: block !important; position: absolute !important; top: 0; width: 1280px; height: auto; }}
</style></head><body><div class="reveal"><div class="slides">
{slides}
</div></div>
<script>window.MathJax = {{tex: {{inlineMath: [["$", "$"]], displayMath: [["$$", "$$"]], processEscapes: true}},
  options: {{skipHtmlTags: ["script", "style", "pre", "code", "textarea"]}}, startup: {{typeset: false}}}};</script>
<script src="assets/tex-svg-full.js"></script><script src="assets/reveal.js/reveal.js"></script>
<script src="assets/notes/notes.js"></script>
<script>
const size = {{width: 1280, height: 720}};
const ready = Reveal.initialize({{...size, margin: 0.02, hash: true, slideNumber: "c/t", center: true, plugins: [RevealNotes]}});
// What is still too high, by a long formula say, is made smaller, after its formulas are typeset.
ready.then(() => MathJax.startup.promise).then(() => MathJax.typesetPromise()).then(() => {{
  document.body.classList.add("measured");
  for (const slide of document.querySelectorAll(".slides section:not(.stack)")) {{
    let part = 1;
    while ((slide.scrollHeight > size.height || slide.scrollWidth > size.width) && part > 0.5) {{
      part -= 0.05;
      for (const each of slide.children) if (!each.matches("aside")) each.style.zoom = part;
    }}
    slide.dataset.size = part.toFixed(2);
    slide.dataset.fits = slide.scrollHeight <= size.height && slide.scrollWidth <= size.width;
  }}
  document.body.classList.remove("measured");
  Reveal.layout();
  document.body.dataset.ready = "yes";
}});
</script></body></html>
"""


@dataclass
class Slide:
    """One idea: a title, what is shown below it, and what the speaker may say."""

    title: str
    level: int
    shown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: float = 0.0


def write_slides(notebooks: Sequence[Path], out: Path, assets: Path) -> list[Path]:
    """Write a page of slides for each notebook, and what the pages load, into a folder; returns the pages."""
    for name in _ASSETS:
        if not (assets / name).exists():
            raise DataError(f"not there; slides are shown by two npm packages. Run: {_INSTALL}", path=assets / name)
    pages = {out / f"{path.stem}.html": page(read_notebook(path)) for path in notebooks}
    (out / "assets").mkdir(parents=True, exist_ok=True)
    for name, to in _ASSETS.items():
        copy = shutil.copytree if (assets / name).is_dir() else shutil.copyfile
        copy(assets / name, out / "assets" / to, **({"dirs_exist_ok": True} if copy is shutil.copytree else {}))
    for path, text in pages.items():
        write_text_atomically(path, text)
    return list(pages)


def page(content: dict) -> str:
    """The slides of a notebook as a page of HTML."""
    from pygments.formatters import HtmlFormatter

    slides = slides_of(content)
    css = HtmlFormatter(style="default").get_style_defs(".highlight")
    stacks: list[list[str]] = []
    for slide in slides:
        if slide.level < 3 or not stacks:
            stacks.append([])
        heading = "h1" if slide.level == 1 else "h2"
        notes = "".join(slide.notes)
        stacks[-1].append(
            f"<section><{heading}>{slide.title}</{heading}>{''.join(slide.shown)}"
            f"{f'<aside class=notes>{notes}</aside>' if notes else ''}</section>"
        )
    shown = "\n".join(f"<section>{''.join(stack)}</section>" if len(stack) > 1 else stack[0] for stack in stacks)
    return _PAGE.format(title=re.sub(r"<[^>]*>", "", slides[0].title), css=css, slides=shown)


def slides_of(content: dict) -> list[Slide]:
    """The slides of a notebook, in order; those with nothing but a title are left out."""
    slides = [Slide("", 1)]
    checks = {each.cell for each in exercises_in(content)}
    for number, cell in enumerate(content["cells"], 1):
        source, kind = source_of(cell), cell.get("metadata", {}).get("slideshow", {}).get("slide_type")
        if kind == "skip" or number in checks:
            continue
        if kind == "notes":
            slides[-1].notes.append(_html(source))
        elif cell.get("cell_type") == "markdown":
            if kind == "slide":
                slides.append(Slide(slides[-1].title, 2))
            for block in _blocks(source):
                _add_text(slides, block)
        elif cell.get("cell_type") == "code":
            _add_code(slides, source, cell.get("outputs", []))
    return [slide for slide in slides if slide.shown or slide.level == 1]


def _add(slides: list[Slide], shown: str, lines: float) -> None:
    """Show something, on a new slide of the same title if this one is full."""
    if slides[-1].shown and slides[-1].lines + lines > _LINES:
        slides.append(Slide(slides[-1].title, 3))
    slides[-1].shown.append(shown)
    slides[-1].lines += lines


def _add_text(slides: list[Slide], block: str) -> None:
    if heading := re.match(r"(#+) +(.+)$", block):
        title = re.sub(r"^<p>|</p>\s*$", "", _html(re.sub(r"^(\d+)\.", r"\1\.", heading[2])).strip())
        slides[:] = slides[:-1] if not (slides[-1].shown or slides[-1].title) else slides
        slides.append(Slide(title, min(len(heading[1]), 3)))
        return
    if block.startswith("<details"):
        if "predict" in slides[-1].title.lower():
            slides.append(Slide(f"{slides[-1].title}: answer", 3))
            for each in _blocks(re.sub(r"</?details[^>]*>|<summary>.*?</summary>", "", block)):
                _add_text(slides, each)
        return
    if block.startswith("$$"):
        _add(slides, _html(block), 1.6 * (1 + len(re.findall(r"\\\\(?![a-zA-Z])", block))) + 0.6)
    elif block.startswith("```"):
        if block.count("\n") <= _CODE_LINES:
            _add(slides, _html(block), 0.75 * block.count("\n"))
    elif block.lstrip().startswith("|"):
        _add(slides, _html(block), 1.1 * block.count("\n"))
    elif re.match(r"\s*([-*]|\d+\.) ", block):
        for item in re.split(r"\n(?=(?:[-*]|\d+\.) )", block):
            short = _first_sentence(item)
            _add(slides, _html(short), _lines_of(short))
        slides[-1].notes.append(_html(block))
    else:
        short = _first_sentence(block)
        _add(slides, _html(short), _lines_of(short) + 0.4)
        if short != block:
            slides[-1].notes.append(_html(block))


def _add_code(slides: list[Slide], source: str, outputs: list) -> None:
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return
    silent = (ast.Import, ast.ImportFrom, ast.Assert)
    is_asked = re.search(r"NotImplementedError|\.hint\(\)|\bexercise\(|inspect\.getsource|\bwidgets\.", source)
    lines = source.count("\n") + 1
    if statements and not is_asked and not all(isinstance(each, silent) for each in statements) and lines <= _CODE_LINES:
        _add(slides, _highlighted(re.sub(r"\n{3,}", "\n\n", source)), 0.75 * lines + 0.6)
    for output in outputs:
        data = output.get("data", {})
        text = data.get("text/markdown") or data.get("text/plain") or output.get("text") or ""
        text = "".join(text) if isinstance(text, list) else text
        if "image/png" in data:
            slides.append(Slide(slides[-1].title, 3))
            image = data["image/png"]
            _add(slides, f'<img alt="" src="data:image/png;base64,{"".join(image).strip()}">', _LINES - 2.5)
        elif "text/markdown" in data:
            for block in _blocks(text):  # an exercise, of which every word counts
                _add(slides, _html(block), 0.75 * block.count("\n") + _lines_of(block))
        elif text.strip() and not is_asked and text.count("\n") < _CODE_LINES and "def " not in text:
            _add(slides, f"<pre>{html.escape(text.rstrip())}</pre>", 0.75 * (text.rstrip().count("\n") + 1) + 0.4)


def _blocks(source: str) -> Iterator[str]:
    """Headings, paragraphs, lists, tables, displayed formulas, fenced code and folded answers, one by one."""
    pattern = re.compile(r"<details.*?</details>|```.*?```|\$\$.*?\$\$|^#+ [^\n]*$", re.S | re.M)
    end = 0
    for found in [*pattern.finditer(source), None]:
        between = source[end : found.start() if found else len(source)]
        yield from (part.strip("\n") for part in re.split(r"\n\s*\n", between) if re.search(r"\w", part))
        if found:
            yield found.group()
            end = found.end()


def _first_sentence(text: str) -> str:
    """The first sentence, and the second if both are short. No sentence ends inside of a formula or of code."""
    hidden = re.sub(r"\$[^$]*\$|`[^`]*`|\([^()]*\)", lambda found: "x" * len(found.group()), text)
    ends = [m.end() for m in re.finditer(r"[.!?](?:\*\*|\*|\))*(?=\s+[^\sa-z])", hidden)]
    ends = [end for end in ends if not re.search(r"(\b[A-Z]|e\.g|i\.e|[Ee]q|Fig|^\s*\d+)\.$", hidden[:end])]
    if not ends:
        return text
    is_label = text[: ends[0]].endswith("**")
    return text[: ends[1] if len(ends) > 1 and (is_label or ends[1] < 120) else ends[0]]


def _lines_of(text: str) -> float:
    """How many lines a text takes; a formula is shorter than its source."""
    short = re.sub(r"\$([^$]*)\$", lambda found: "x" * (len(re.sub(r"\\[a-zA-Z]+|[{}^_]", "x", found[1])) // 2 + 1), text)
    return -(-len(re.sub(r"\]\([^)]*\)", "", short)) // _WIDTH) + 0.2


def _html(markdown: str) -> str:
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    # Relative links lead nowhere from here.
    return markdown2html_mistune(re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", markdown))


def _highlighted(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(source, PythonLexer(), HtmlFormatter())
