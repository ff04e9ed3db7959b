"""The report of a study: Markdown and figures, made from the rows alone, so that it can be written again at any time."""

from __future__ import annotations

import math

import numpy as np

from ..data import Dataset
from ..files import write_atomically, write_text_atomically
from .jobs import Job
from .outcome import part_of_report
from .statistics import LEVEL, N_RESAMPLES
from .store import REPORT, ROWS, STUDY, TABLE, Store, versions_in_words
from .study import Study
from .summary import Line, lines_of

_DPI = 130


def write_report(
    study: Study, data: dict[str, Dataset], jobs: list[Job], rows: dict[str, dict], store: Store, *, command: str = ""
) -> None:
    """Write ``report.md`` and the figures of a study.

    Parameters
    ----------
    study : Study
    data : dict of str to Dataset
    jobs : list of Job
    rows : dict of str to dict
        By the keys of the jobs; those that are missing are listed as not done.
    store : Store
    command : str
        That the report says it comes from.

    Raises
    ------
    ModelFileError
        If the numbers of the users are damaged.
    """
    lines = {name: lines_of(study, name, each, jobs, rows, store) for name, each in data.items()}
    figures = _write_figures(study, data, lines, store)
    text = [*_head(study, command), *_how_to_read(study)]
    for name, each in data.items():
        text += ["", f"## {name}", "", *_about(each), "", *_table(study, each, lines[name])]
        text += ["", f"![{study.title}: {name}]({figures[name]})"] if name in figures else []
    if "" in figures:
        text += ["", f"![{study.title}]({figures['']})"]
    text += [*_failures(jobs, rows), *_missing(jobs, rows), *_versions(rows)]
    write_text_atomically(store.folder / REPORT, "\n".join(text) + "\n")


def title_of(metric: str) -> str:
    """"ndcg@20" as people write it."""
    name, _, k = metric.partition("@")
    return f"{'NDCG' if name == 'ndcg' else name.capitalize()}@{k}"


def _head(study: Study, command: str) -> list[str]:
    return [f"# {study.title}", "", study.question] + (["", "```bash", command, "```"] if command else [])


def _how_to_read(study: Study) -> list[str]:
    return [
        "",
        "± is the standard deviation over the seeds of the model (the split is the same). The intervals are about users: "
        f"{LEVEL:.0%} percentile intervals of a bootstrap over the users who have something to find ({N_RESAMPLES:,} resamples), "
        "each user's value averaged over the seeds first. Differences are paired: user by user, this run minus its reference; "
        "won, lost and tied count users. Seconds are the median over seeds, of jobs that may have run side by side.",
        f"All numbers, for every seed, phase and part of the data: `{TABLE}`. All settings: `{STUDY}`.",
    ]


def _about(data: Dataset) -> list[str]:
    sizes = ", ".join(f"{part} {matrix.nnz:,}" for part, matrix in data.parts())
    return [
        f"{data.name}: {data.n_users:,} users, {data.n_items:,} items; interactions: {sizes}. Protocol {data.protocol}. "
        f"Split: {data.split}. Fingerprint `{data.fingerprint()[:16]}`. Measured on: {part_of_report(data) or 'none'}."
    ]


def _table(study: Study, data: Dataset, lines: list[Line]) -> list[str]:
    if not lines:
        return ["No run is done."]
    second = "ndcg@20" if study.metric == "recall@20" else "recall@20"
    compared = any(line.difference for line in lines)
    several = len({line.reference for line in lines if line.difference}) > 1
    columns = ["run", f"{title_of(study.metric)}, mean ± sd", "users, interval"]
    columns += ["reference"] if several else []
    against = next((line.reference for line in lines if line.difference), "")
    columns += [f"difference to {'the reference' if several else against}", "won / lost / tied"] if compared else []
    columns += [title_of(second), "bytes", "seconds", "seeds"]
    text = ["| " + " | ".join(columns) + " |", "|---" * 1 + "|---:" * (len(columns) - 1) + "|"]
    for line in lines:
        text.append("| " + " | ".join(_cells(line, second, compared, several)) + " |")
    return text


def _cells(line: Line, second: str, compared: bool, several: bool) -> list[str]:
    if line.main is None:
        nothing = [""] * (7 + 2 * compared + several - 1)
        return [line.label, "; ".join(dict.fromkeys(line.notes)) or "nothing to measure", *nothing[1:]]
    sd = "" if math.isnan(line.main.sd) else f" ± {line.main.sd:.4f}"
    cells = [line.label, f"{line.main.mean:.4f}{sd}"]
    cells.append("" if line.interval is None else f"{line.interval[0]:.4f} to {line.interval[1]:.4f}")
    if several:
        cells.append(line.reference if line.difference else "")
    if compared:
        d = line.difference
        cells += ["", ""] if d is None else [
            f"{d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f})",
            f"{d.won:,} / {d.lost:,} / {d.tied:,}",
        ]
    size = "" if line.bytes is None else f"{line.bytes:,}"
    return [*cells, f"{np.mean(line.metrics[second]):.4f}", size, f"{line.seconds:.1f}", str(line.main.n)]


def _failures(jobs: list[Job], rows: dict[str, dict]) -> list[str]:
    failed = [rows[job.key] for job in jobs if job.key in rows and rows[job.key]["status"] == "failed"]
    if not failed:
        return []
    text = ["", "## Failed", "", "| data | run | seed | error | traceback in |", "|---|---|---:|---|---|"]
    for row in failed:
        message = " ".join(row["error"]["message"].split()).replace("|", "\\|")
        error, file = f"{row['error']['type']}: {message}", f"`{ROWS}/{row['job']}.json`" if row["error"]["traceback"] else ""
        text.append(f"| {row['data']} | {row['run']} | {row['seed']} | {error} | {file} |")
    return text


def _missing(jobs: list[Job], rows: dict[str, dict]) -> list[str]:
    n_missing = sum(job.key not in rows for job in jobs)
    return ["", f"**Not finished: {n_missing} of {len(jobs)} jobs have not been done.**"] if n_missing else []


def _versions(rows: dict[str, dict]) -> list[str]:
    made_with = [(versions_in_words(row), row.get("processor", "")) for row in rows.values() if row["versions"]]
    text = ["", "## Versions", ""] if made_with else []
    return text + ["; ".join(filter(None, each)) + "." for each in dict.fromkeys(made_with)]


def _write_figures(study: Study, data: dict[str, Dataset], lines: dict[str, list[Line]], store: Store) -> dict[str, str]:
    """The figures; their file names by data set, or under "" for one about all."""
    shown = {name: [line for line in each if line.main is not None] for name, each in lines.items()}
    shown = {name: each for name, each in shown.items() if each}
    if not shown or study.figure == "none":
        return {}
    metric = title_of(study.metric)
    parts = " or ".join(dict.fromkeys(part_of_report(data[name]) for name in shown))
    if study.figure == "frontier":
        return _write_frontiers(shown, store, f"{parts} {metric}")
    from ..plotting import studies as figures

    if study.figure == "changes":
        panels = [
            (name, [(x.label, x.difference.mean, (x.difference.low, x.difference.high), x.kind) for x in each if x.difference])
            for name, each in shown.items()
        ]
        panels = [panel for panel in panels if panel[1]]
        if not panels:
            return {}
        picture = figures.differences(panels, xlabel=f"difference in {parts} {metric} to the reference")
    else:
        panels = [
            (name, [(x.label, x.main.mean, x.interval, x.metrics[study.metric], x.kind) for x in each], _level(study, each))
            for name, each in shown.items()
        ]
        picture = figures.means_over_users(panels, xlabel=f"{parts} {metric}")
    return {"": _save(picture, store, "figure.png")}


def _level(study: Study, lines: list[Line]) -> float | None:
    return next((line.main.mean for line in lines if line.label == study.reference), None)


def _write_frontiers(shown: dict[str, list[Line]], store: Store, ylabel: str) -> dict[str, str]:
    from ..plotting.frontier import size_quality

    files = {}
    for number, (name, lines) in enumerate(shown.items()):
        points = [(line.label, line.bytes, line.main.mean, line.kind) for line in lines if line.bytes]
        if points:
            file = "figure.png" if len(shown) == 1 else f"figure_{number + 1}.png"
            files[name] = _save(size_quality(points, ylabel=ylabel, title=name), store, file)
    return files


def _save(picture, store: Store, name: str) -> str:
    write_atomically(store.folder / name, lambda file: picture.savefig(file, format="png", dpi=_DPI))
    return name
