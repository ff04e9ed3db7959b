"""The report of a study: Markdown and figures, made from the rows alone, so that it can be written again at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..data import Dataset
from ..errors import ModelFileError
from ..files import write_text_atomically
from ..shown import for_markdown, for_terminal, write_figure
from .jobs import Job
from .search import best_trial, point_in_words, validation_score
from .statistics import LEVEL, N_RESAMPLES, Difference, compare_models, sample_deviation
from .store import REPORT, ROWS, STUDY, TABLE, Store, versions_in_words
from .study import WITHIN, Study
from .surgery import AFTER, ANALYSES

# The draws of the users: the same for every report, so that a report can be written again.
_BOOTSTRAP_SEED = 20250


@dataclass
class Line:
    """A model of a report, over its seeds; everything from `seeds` on is of the report's part of the data."""

    label: str
    part: str
    kind: str
    reference: str  # label of what it is compared with, or ""
    notes: list[str]
    seeds: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)  # a value for each seed
    mean: float | None = None  # of the main metric, over seeds; None if nothing was measured
    sd: float = math.nan
    bytes: int | None = None  # mean over seeds: of a sparse fine codebook every seed leaves another share
    seconds: float = math.nan  # median over seeds
    per_user: np.ndarray | None = None  # main metric of the users, averaged over seeds
    interval: tuple[float, float] | None = None  # over users
    difference: Difference | None = None  # to the reference, over users


def report_lines(study: Study, name: str, data: Dataset, jobs: list[Job], rows: dict[str, dict], store: Store) -> list[Line]:
    """The lines of one data set, in the order of the study; jobs without a row are left out.

    ModelFileError if the users' numbers are damaged, or those of two rows belong to different users.
    """
    part, found, users = data.judged_by(), {}, None
    for job in jobs:
        row = rows.get(job.key)
        if job.source.name != name or job.is_trial or row is None or row["status"] != "done":
            continue
        for outcome, of_users in zip(row["outcomes"], store.users_of(job.key, row), strict=True):
            values = None
            if of_users is not None and study.metric in of_users[1]:
                users = of_users[0] if users is None else users
                if not np.array_equal(users, of_users[0]):
                    raise ModelFileError(f"{store.folder}: the row {job.key} was measured on other users than those before it")
                values = of_users[1][study.metric].astype(np.float64)
            found.setdefault(outcome["label"], []).append((job, outcome, values))
    lines = [_line(study, part, measured) for measured in found.values()]
    _compare([line for line in lines if line.per_user is not None])
    # Results and analyses are always shown, phases if the study asks for them. No analysis has the name of a phase.
    return [line for line in lines if study.phases == "all" or not line.part or line.part in AFTER]


def _line(study: Study, part: str, measured: list[tuple]) -> Line:
    """A model from what was measured with each seed: (job, outcome, values of the users or None)."""
    job, first, _ = measured[0]
    notes = [outcome["note"] for _, outcome, _ in measured if outcome["note"]]
    line = Line(first["label"], first["part"], first["kind"], job.run.reference or study.reference, notes)
    measured = [each for each in measured if part in each[1]["metrics"]]
    if not measured:
        return line
    jobs, outcomes, values = zip(*measured, strict=True)
    line.seeds = [job.seed for job in jobs]
    line.metrics = {name: [o["metrics"][part][name] for o in outcomes] for name in outcomes[0]["metrics"][part]}
    of_seeds = line.metrics[study.metric]
    line.mean, line.sd = float(np.mean(of_seeds)), sample_deviation(of_seeds)
    sizes = [size for o in outcomes if (size := o["size"].get("model")) is not None]
    line.bytes = round(np.mean(sizes)) if sizes else None
    line.seconds = float(np.median([o["seconds"] for o in outcomes]))
    if all(each is not None for each in values):
        line.per_user = np.mean(values, axis=0)
    return line


def _compare(lines: list[Line]) -> None:
    """Fill in intervals and differences."""
    if not lines:
        return
    column = {line.label: position for position, line in enumerate(lines)}
    references = [column.get(line.reference) for line in lines]
    values = np.stack([line.per_user for line in lines], axis=1)
    intervals, differences = compare_models(values, references, np.random.default_rng(_BOOTSTRAP_SEED))
    for line, between, difference in zip(lines, intervals, differences, strict=True):
        line.interval, line.difference = between, difference


def write_report(
    study: Study, data: dict[str, Dataset], jobs: list[Job], rows: dict[str, dict], store: Store, *, command: str = ""
) -> None:
    """Write ``report.md`` and the figures; jobs without a row count as not done, and `command` is what the report comes from."""
    lines = {name: report_lines(study, name, each, jobs, rows, store) for name, each in data.items()}
    figures = _write_figures(study, data, lines, store)
    text = [heading(study)]
    text += ["", "```bash", for_terminal(command), "```"] if command else []
    text += [
        "",
        "± is the standard deviation over the seeds of the model (the split is the same). The intervals are about users: "
        f"{LEVEL:.0%} percentile intervals of a bootstrap over the users who have something to find ({N_RESAMPLES:,} resamples), "
        "each user's value averaged over the seeds first. Differences are paired: user by user, this run minus its reference; "
        "won, lost and tied count users. Seconds are the median over seeds, of jobs that may have run side by side.",
        f"All numbers, for every seed, phase and part of the data: `{TABLE}`. All settings: `{STUDY}`.",
    ]
    for name, each in data.items():
        text += ["", f"## {for_markdown(name)}", "", *_about(each), "", *_table(study, lines[name])]
        text += ["", f"![{for_markdown(study.title)}: {for_markdown(name)}]({figures[name]})"] if name in figures else []
        text += _searches(study, [job for job in jobs if job.source.name == name], rows)
    if "" in figures:
        text += ["", f"![{for_markdown(study.title)}]({figures['']})"]
    text += [*_failures(jobs, rows), *_missing(jobs, rows), *_versions(rows)]
    write_text_atomically(store.folder / REPORT, "\n".join(text) + "\n")


def heading(study: Study) -> str:
    """The title and the question of a study, which somebody wrote."""
    return "\n".join([f"# {for_markdown(study.title)}", "", *map(for_markdown, study.question.splitlines())])


def title_of(metric: str) -> str:
    """"ndcg@20" as people write it."""
    name, _, k = metric.partition("@")
    return f"{'NDCG' if name == 'ndcg' else name.capitalize()}@{k}"


def markdown_table(head: list[str], rows, align: str) -> list[str]:
    """The lines of a Markdown table; `align` has an l or r for each column."""
    rule = "|" + "".join("---|" if each == "l" else "---:|" for each in align)
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(cells)} |" for cells in rows)]


def _about(data: Dataset) -> list[str]:
    sizes = ", ".join(f"{part} {matrix.nnz:,}" for part, matrix in data.parts())
    return [
        f"{for_markdown(data.name)}: {data.n_users:,} users, {data.n_items:,} items; interactions: {sizes}. "
        f"Protocol {data.protocol}. Split: {data.split}. Fingerprint `{data.fingerprint()[:16]}`. "
        f"Measured on: {data.judged_by() or 'none'}."
    ]


def _table(study: Study, lines: list[Line]) -> list[str]:
    if not lines:
        return ["No run is done."]
    second = "ndcg@20" if study.metric == "recall@20" else "recall@20"
    references = list(dict.fromkeys(line.reference for line in lines if line.difference))
    several = len(references) > 1
    head = ["run", f"{title_of(study.metric)}, mean ± sd", "users, interval"]
    head += ["reference"] if several else []
    if references:
        head += [f"difference to {'the reference' if several else for_markdown(references[0])}", "won / lost / tied"]
    head += [title_of(second), "bytes", "seconds", "seeds"]
    rows = [_cells(line, second, len(head), several, bool(references)) for line in lines]
    return markdown_table(head, rows, "l" + "r" * (len(head) - 1))


def _cells(line: Line, second: str, n_columns: int, several: bool, compared: bool) -> list[str]:
    if line.mean is None:
        nothing = [""] * (n_columns - 2)
        return [for_markdown(line.label), for_markdown("; ".join(dict.fromkeys(line.notes))) or "nothing to measure", *nothing]
    cells = [for_markdown(line.label), f"{line.mean:.4f}" + ("" if math.isnan(line.sd) else f" ± {line.sd:.4f}")]
    cells.append("" if line.interval is None else f"{line.interval[0]:.4f} to {line.interval[1]:.4f}")
    d = line.difference
    if several:
        cells.append(for_markdown(line.reference) if d else "")
    if compared:
        cells.append("" if d is None else f"{d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f})")
        cells.append("" if d is None else f"{d.won:,} / {d.lost:,} / {d.tied:,}")
    size = "" if line.bytes is None else f"{line.bytes:,}"
    return [*cells, f"{np.mean(line.metrics[second]):.4f}", size, f"{line.seconds:.1f}", str(len(line.seeds))]


def _searches(study: Study, jobs: list[Job], rows: dict[str, dict]) -> list[str]:
    """What the runs with a search were tuned to, once all their trials have a row."""
    cells = []
    for run, trials in {job.run.name: job.trials for job in jobs if job.trials}.items():
        if any(trial.key not in rows for trial in trials):
            continue
        of_run = [rows[trial.key] for trial in trials]
        scores = [score for row in of_run if (score := validation_score(row, study.metric)) is not None]
        best, n_failed = best_trial(trials, rows, study.metric), len(trials) - len(scores)
        found = ["none: all trials failed", "", ""]
        if best is not None:
            found = [for_markdown(point_in_words(best.searched)), f"{max(scores):.4f}", f"{min(scores):.4f} to {max(scores):.4f}"]
        count = f"{len(trials)}, {n_failed} failed" if n_failed else str(len(trials))
        cells.append([for_markdown(run), count, *found, f"{sum(row.get('seconds', 0.0) for row in of_run):.1f}"])
    if not cells:
        return []
    metric = f"validation {title_of(study.metric)}"
    about = (
        f"Each of these runs was tried with several settings and one seed, and uses those with the best {metric}. The test part "
        "played no role in the choice. Seconds are those of all trials together, with their evaluation."
    )
    head = ["run", "trials", "chosen", metric, "over all trials", "seconds"]
    return ["", "### Chosen on validation", "", about, "", *markdown_table(head, cells, "lrlrrr")]


def _failures(jobs: list[Job], rows: dict[str, dict]) -> list[str]:
    failed = [rows[job.key] for job in jobs if job.key in rows and rows[job.key]["status"] == "failed"]
    cells = []
    for row in failed:
        message = for_markdown(" ".join(row["error"]["message"].split()))
        file = f"`{ROWS}/{row['job']}.json`" if row["error"]["traceback"] else ""
        data, run = for_markdown(row["data"]), for_markdown(row["run"])
        cells.append([data, run, str(row["seed"]), f"{row['error']['type']}: {message}", file])
    table = markdown_table(["data", "run", "seed", "error", "traceback in"], cells, "llrll")
    return ["", "## Failed", "", *table] if failed else []


def _missing(jobs: list[Job], rows: dict[str, dict]) -> list[str]:
    n_missing = sum(job.key not in rows for job in jobs)
    return ["", f"**Not finished: {n_missing} of {len(jobs)} jobs have not been done.**"] if n_missing else []


def _versions(rows: dict[str, dict]) -> list[str]:
    made_with = [(versions_in_words(row), row.get("processor", "")) for row in rows.values() if row["versions"]]
    text = ["", "## Versions", ""] if made_with else []
    return text + [for_markdown("; ".join(filter(None, each))) + "." for each in dict.fromkeys(made_with)]


def _write_figures(study: Study, data: dict[str, Dataset], lines: dict[str, list[Line]], store: Store) -> dict[str, str]:
    """The figures; their file names by data set, or under "" for one about all."""
    shown = {name: measured for name, each in lines.items() if (measured := [line for line in each if line.mean is not None])}
    if not shown or study.figure == "none":
        return {}
    parts = " or ".join(dict.fromkeys(data[name].judged_by() for name in shown))
    label, pictures = f"{parts} {title_of(study.metric)}", {}
    if study.figure == "frontier":
        for number, (name, each) in enumerate(shown.items(), 1):
            # What was damaged on purpose is nobody's choice.
            points = [
                (line.label, line.bytes, line.mean, line.kind)
                for line in each
                if line.bytes and line.label.partition(WITHIN)[2] not in ANALYSES
            ]
            file = "figure.png" if len(shown) == 1 else f"figure_{number}.png"
            if points:
                pictures[name] = file, "frontier.size_quality", points, {"ylabel": label, "title": name}
    elif study.figure == "changes":
        panels = [
            (name, [(x.label, x.difference.mean, (x.difference.low, x.difference.high), x.kind) for x in each if x.difference])
            for name, each in shown.items()
        ]
        panels = [panel for panel in panels if panel[1]]
        if panels:
            label = f"difference in {label} to the reference"
            pictures[""] = "figure.png", "results.differences_to_reference", panels, {"xlabel": label}
    else:
        panels = [
            (
                name,
                [(x.label, x.mean, x.interval, x.metrics[study.metric], x.kind) for x in each],
                next((x.mean for x in each if x.label == study.reference), None),
            )
            for name, each in shown.items()
        ]
        pictures[""] = "figure.png", "results.means_over_users", panels, {"xlabel": label}
    return {
        name: file
        for name, (file, function, shown, more) in pictures.items()
        if write_figure(store.folder / file, function, shown, **more)
    }
