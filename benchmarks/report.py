"""The result as Markdown: everything in it comes from the result's JSON."""

from __future__ import annotations

from .records import COMPETITORS


def markdown(result: dict) -> str:
    """Tables of a result.

    Parameters
    ----------
    result : dict
        As ``python -m benchmarks`` writes it.

    Returns
    -------
    str
    """
    records = result["results"]
    of_kind = {kind: [r for r in records if r["kind"] == kind] for kind in ("timing", "curve", "memory", "start")}
    sections = [_head(result)]
    if of_kind["timing"]:
        sections += [_timings(of_kind["timing"]), _verification(of_kind["timing"]), _rooflines(of_kind["timing"])]
    if of_kind["curve"]:
        sections.append(_curves(of_kind["curve"]))
    if of_kind["memory"]:
        sections.append(_memory(of_kind["memory"]))
    if of_kind["start"]:
        sections.append(_start(of_kind["start"]))
    return "\n\n".join(filter(None, sections)) + "\n"


def _head(result: dict) -> str:
    machine, versions = result["environment"], result["environment"]["versions"]
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    lines = [
        "# Benchmarks",
        "",
        f"Made by `python -m benchmarks` on {machine['date']}; what is measured and how to read it: docs/performance.md.",
    ]
    if result["options"]["quick"]:
        lines += ["", "**A quick run: it shows that everything works, and is no measurement.**"]
    if result["failed"]:
        lines += ["", f"**Parts that failed: {', '.join(result['failed'])}.**"]
    lines += [
        "",
        f"- {machine['cpu']}, {machine['cores_usable']} cores, {machine['threads']} threads used ({caches}); "
        f"load before the run {machine['load_at_start']}",
        f"- Python {machine['python']}, " + ", ".join(f"{n} {v or 'not installed'}" for n, v in versions.items()),
        f"- BLAS: {', '.join(machine['blas'])}",
        f"- c2f_np {machine['c2f_np']}, commit {machine['commit']}",
    ]
    for name, problem in result["problems"].items():
        lines.append(
            f"- **{name}**: {'synthetic' if problem['synthetic'] else 'not synthetic'}, {problem['n_users']:,} users, "
            f"{problem['n_items']:,} items, {problem['n_train']:,} training interactions; C {problem['n_coarse']}, "
            f"M {problem['n_fine']}, d {problem['dim']}, L {problem['n_layers']}; the coarse graph has "
            f"{problem['nodes_coarse_graph']:,} nodes and {problem['entries_coarse_graph']:,} entries"
        )
    return "\n".join(lines)


def _timings(records: list[dict]) -> str:
    used = [name for name in COMPETITORS if any(name in record["seconds"] for record in records)]
    lines = [
        "## Times",
        "",
        "Median (25 % to 75 %) of one call; × is the median divided by ours. \\* see the notes below the table.",
        "",
        "| part | size | what | " + " | ".join(COMPETITORS[name] for name in used) + " |",
        "|---|---|---|" + "---:|" * len(used),
    ]
    notes = []
    for record in records:
        cells = []
        for name in used:
            found = record["seconds"].get(name)
            cells.append(_cell(found, record["ratio_to_ours"].get(name)))
            if found and found.get("note"):
                notes.append(f"- {record['part']}, {record['size']}, {record['case']}, {COMPETITORS[name]}: {found['note']}")
        lines.append(f"| {record['part']} | {record['size']} | {record['case']} | " + " | ".join(cells) + " |")
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def _cell(found: dict | None, ratio: float | None) -> str:
    if found is None:
        return ""
    if "error" in found:
        return found["error"]
    star = "\\*" if found.get("note") else ""
    text = f"{span(found)}{star}"
    return text if ratio is None else f"{text} ×{ratio:.2f}"


def span(found: dict) -> str:
    factor, unit = (1e3, "ms") if found["median"] < 1 else (1, "s")
    low, middle, high = (digits(found[key] * factor) for key in ("q25", "median", "q75"))
    return f"{middle} {unit} ({low}–{high})"


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _verification(records: list[dict]) -> str:
    lines = [
        "## The same arithmetic",
        "",
        "Relative difference from ours of the losses and the clipped gradients of one batch: the largest of BPR loss, "
        "regulariser, codebooks, biases and, in joint training, weights of the links.",
        "",
        "| size | what | competitor | float32 | float64 | agrees |",
        "|---|---|---|---:|---:|---|",
    ]
    n_head = len(lines)
    for record in records:
        for name, found in record.get("verification", {}).items():
            single, double = (f"{max(found[dtype].values()):.1e}" for dtype in ("float32", "float64"))
            agrees = "yes" if found["agrees"] else "**no**"
            lines.append(f"| {record['size']} | {record['case']} | {COMPETITORS[name]} | {single} | {double} | {agrees} |")
    return "\n".join(lines) if len(lines) > n_head else ""


def _rooflines(records: list[dict]) -> str:
    lines = [
        "## Roofline of the sparse product",
        "",
        "Bytes by two counts: *compulsory*, everything once; *gathered*, a row of X for every entry. The bandwidth each "
        "competitor reaches by them, and its fraction of a stream copy made in the same rounds.",
        "",
        "| size | competitor | compulsory | gathered | stream copy | by compulsory | by gathered | Gflop/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    n_head = len(lines)
    for record in records:
        if (shown := record.get("roofline")) is None:
            continue
        for name, reached in shown["reached"].items():
            rates = (
                f"{reached['bytes_per_second'][count] / 1e9:.1f} GB/s ({reached['fraction_of_stream_copy'][count]:.0%})"
                for count in ("compulsory", "gathered")
            )
            sizes = (f"{shown['bytes'][count] / 1e6:,.1f} MB" for count in ("compulsory", "gathered"))
            lines.append(
                f"| {record['size']} | {COMPETITORS[name]} | {' | '.join(sizes)} | "
                f"{shown['stream_copy_bytes_per_second'] / 1e9:.1f} GB/s | {' | '.join(rates)} | "
                f"{reached['flops_per_second'] / 1e9:.1f} |"
            )
    return "\n".join(lines) if len(lines) > n_head else ""


def _curves(records: list[dict]) -> str:
    lines = [
        "## Scaling of the propagation, forward and backward",
        "",
        "Time as a power of one number, all others held: exponent ± its standard error, R², the slopes between neighbouring "
        "points, and the medians.",
        "",
        "| over | competitor | exponent | R² | slopes | points |",
        "|---|---|---:|---:|---|---|",
    ]
    for record in records:
        for name, curve in record["curves"].items():
            fitted = curve["fit"]
            exponent = "one point" if fitted["exponent"] is None else f"{fitted['exponent']:.2f}"
            if fitted["standard_error"] is not None:
                exponent += f" ± {fitted['standard_error']:.2f}"
            r_squared = "" if fitted["r_squared"] is None else f"{fitted['r_squared']:.3f}"
            slopes = ", ".join(f"{slope:.2f}" for slope in fitted["slopes"])
            points = ", ".join(f"{int(x):,}: {digits(p['median'] * 1e3)} ms" for x, p in curve["points"].items())
            lines.append(f"| {record['variable']} | {COMPETITORS[name]} | {exponent} | {r_squared} | {slopes} | {points} |")
    return "\n".join(lines)


def _memory(records: list[dict]) -> str:
    used = [name for name in COMPETITORS if any(name in record["bytes"] for record in records)]
    lines = [
        "## Peak memory",
        "",
        "Resident memory of a fresh process: the most during some steps (in brackets: once the data was loaded, before any "
        "graph).",
        "",
        "| size | what | " + " | ".join(COMPETITORS[name] for name in used) + " |",
        "|---|---|" + "---:|" * len(used),
    ]
    for record in records:
        cells = []
        for name in used:
            found = record["bytes"].get(name, {"error": ""})
            if "error" in found:
                cells.append(found["error"])
                continue
            peak = found["peak_steps"] if found["peak_steps"] is not None else found["peak"]
            held = f" ({found['loaded'] / 2**20:,.0f})" if found["loaded"] is not None else ""
            cells.append("unknown" if peak is None else f"{peak / 2**20:,.0f} MiB{held}")
        lines.append(f"| {record['size']} | {record['case']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _start(records: list[dict]) -> str:
    lines = [
        "## Start, and where time goes",
        "",
        "Median (25 % to 75 %). Imports, first steps and whole trainings have processes of their own; *process* is the wall time "
        "of all of it.",
    ]
    for record in records:
        parts = list(next(iter(record["seconds"].values())))
        titles = " | ".join(part.replace("_", " ") for part in parts)
        case = record["case"] + (f" ({record['size']})" if record["size"] else "")
        lines += ["", f"| {case} | {titles} |", "|---|" + "---:|" * len(parts)]
        for label, found in record["seconds"].items():
            lines.append(f"| {label} | " + " | ".join(span(found[part]) for part in parts) + " |")
    return "\n".join(lines)
