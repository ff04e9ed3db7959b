"""The main rows of a result, and the block of docs/performance.md that holds them.

The block stands between two marks. ``python -m benchmarks --summary docs/performance.md`` writes it from the result file; a test
compares the two, so that no number in it can be older than the file or typed by hand.
"""

from __future__ import annotations

from .records import COMPETITORS
from .report import digits, span

PARTS = ("product", "steps", "graph", "assignment", "sampling", "evaluation", "outside")
COLUMNS = ("ours_numpy", "scipy", "scikit_learn", "torch_coo", "torch_csr_transpose", "torch_dense")


def summary(result: dict) -> str:
    """A table of the main cases: our median, and how many times longer each competitor took.

    Parameters
    ----------
    result : dict
        As ``python -m benchmarks`` writes it.

    Returns
    -------
    str
    """
    machine = result["environment"]
    lines = [
        f"{machine['cpu']}, {machine['threads']} threads, float32, {machine['date']}; medians, × is the median divided by ours:",
        "",
        "| size | what | ours | " + " | ".join(COMPETITORS[name] for name in COLUMNS) + " |",
        "|---|---|---:|" + "---:|" * len(COLUMNS),
    ]
    for record in result["results"]:
        if record["kind"] != "timing" or record["part"] not in PARTS:
            continue
        ratios = record["ratio_to_ours"]
        cells = [f"×{digits(ratios[name])}" if name in ratios else "" for name in COLUMNS]
        lines.append(f"| {record['size']} | {record['case']} | {span(record['seconds']['ours'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_summary(text: str, result: dict) -> str:
    """The text of a page with its block replaced by the summary."""
    return replace_block(text, "benchmarks", summary(result))


def replace_block(text: str, name: str, content: str) -> str:
    """A text with what stands between ``<!-- name: begin -->`` and ``<!-- name: end -->`` replaced.

    Raises
    ------
    ValueError
        If the marks do not stand in the text, once and in order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the text needs one line {begin} and after it one line {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
