"""From 1e5 to 2e7 interactions: seconds and memory of reading, of the start, and of an epoch, with fitted exponents.

    python -m benchmarks.scale
    python -m benchmarks.scale --most 1e6 --out /tmp/scale

Interactions are drawn with power-law degrees; as in public sets, there are a hundred of them for every user, and the items grow
with their root. They are written as a CSV file, and every size has a process of its own, which reads the file and trains an epoch
of the table and one of the joint model, with the default preset but for batches of a 24th of an epoch, at most a million triples.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from c2f_np.files import write_json, write_text_atomically
from c2f_np.machine import peak_memory
from c2f_np.threads import available_cores

from . import child, environment
from .parts.scaling import fit
from .sizes import SEED, interactions

SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000)
STEPS, MOST_TRIPLES = 24, 1 << 20
#: What is measured, in seconds, by the title of its column.
SECONDS = {"reading": "reading", "start": "until the first epoch", "table": "an epoch of the table",
           "code": "code of the table", "joint": "a joint epoch"}  # fmt: skip


def measure(path: str, threads: int) -> dict:
    """In a process of its own: read and train; seconds of each, and the most memory until then."""
    from c2f_np.data import load_dataset
    from c2f_np.settings import Settings
    from c2f_np.training import train

    started = time.perf_counter()
    data = load_dataset(path)
    found: dict = {"reading": time.perf_counter() - started, "memory_reading": peak_memory(), "n_train": int(data.train.nnz)}
    settings = Settings.preset("default", table_epochs=1, max_epochs=1, eval_every=1, threads=threads)
    batch = min(max(settings.coarse_batch, settings.neg_size * data.train.nnz // STEPS), MOST_TRIPLES)
    settings = Settings.from_dict(settings.to_dict() | {"coarse_batch": batch})
    starts, ends = [], []

    def after_epoch(progress) -> None:
        ends.append(time.perf_counter())
        found[progress.history[-1]["phase"]] = progress.history[-1]["seconds"]

    # The table is coded, and the joint phase begun, before its epoch counts as finished.
    train(data, settings, after_epoch=after_epoch, before_start=lambda phase, phases: starts.append(time.perf_counter()))
    found |= {"start": starts[1] - starts[0] - found["table"], "code": ends[0] - starts[1]}
    return found | {"batch": batch, "memory": peak_memory()}


def write_interactions(path: Path, n: int) -> tuple[int, int]:
    """A CSV file of n interactions; how many users and items they are of."""
    n_users, n_items = max(n // 100, 100), int(1700 * (n / 1e5) ** 0.5)
    keys = np.concatenate(interactions(n_users, n_items, n, np.random.default_rng(SEED)))
    with path.open("w", encoding="ascii") as file:
        file.write("user,item\n")
        for some in np.array_split(keys, -(-n // 1_000_000)):
            np.savetxt(file, np.stack([some // n_items, some % n_items], axis=1), "%d", ",")
    return n_users, n_items


def report(rows: list[dict], machine: dict) -> str:
    """The rows as a page: times, memory, and the powers that fit them."""
    lines = [
        "# From 100,000 to 20 million interactions", "", "```bash", "python -m benchmarks.scale", "```", "",
        f"{machine['cpu']}, {machine['threads']} threads, float32, {machine['date']}, commit {machine['commit']}. Interactions "
        "are those of the file, of which some 72 % are trained on; seconds; memory is the most that the process held.", "",
        f"| interactions | users | items | file, MB | {' | '.join(SECONDS.values())} | triples a batch | reading, MiB | MiB |",
        "|" + "---:|" * (len(SECONDS) + 7),
    ]  # fmt: skip
    for row in rows:
        seconds = " | ".join(f"{row[name]:.3g}" if row[name] < 100 else f"{row[name]:.0f}" for name in SECONDS)
        memory = " | ".join(f"{row[name] / 2**20:,.0f}" for name in ("memory_reading", "memory"))
        sizes = f"{row['n']:,} | {row['n_users']:,} | {row['n_items']:,} | {row['file'] / 1e6:,.0f}"
        lines.append(f"| {sizes} | {seconds} | {row['batch']:,} | {memory} |")
    lines += ["", "As a power of the interactions: exponent ± its standard error, and the slopes between neighbours.", ""]
    for name, title in (SECONDS | {"memory": "memory"}).items():
        fitted = fit([row["n"] for row in rows], [row[name] for row in rows])
        if fitted["exponent"] is None:
            continue
        error = "" if fitted["standard_error"] is None else f" ± {fitted['standard_error']:.2f}"
        slopes = ", ".join(f"{slope:.2f}" for slope in fitted["slopes"])
        lines.append(f"- {title}: {fitted['exponent']:.2f}{error} ({slopes})")
    if len(rows) > 1:
        lines += ["", _end_of_memory(rows)]
    return "\n".join(lines) + "\n"


def _end_of_memory(rows: list[dict]) -> str:
    before, last = rows[-2:]
    each = (last["memory"] - before["memory"]) / (last["n"] - before["n"])
    end = last["n"] + (8 * 2**30 - last["memory"]) / each
    return (
        f"Between the two largest sizes an interaction takes {each:,.0f} bytes more: 8 GiB end at about {end / 1e6:,.0f} "
        "million. What takes most are the triples of an epoch, drawn at once, and the order in which they are used; "
        "`neg_size` makes them fewer."
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write rows.json and report.md to a folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=float, default=SIZES[-1], help="interactions of the largest size")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--resume", action="store_true", help="keep the sizes that the folder has, and measure the others")
    parser.add_argument("--out", type=Path, default=environment.ROOT / "docs/results/scale", help="folder")
    options = parser.parse_args(arguments)
    sizes = [n for n in SIZES if n <= options.most]
    if not sizes:
        parser.error(f"--most must be {SIZES[0]:,} or more")
    machine, rows = environment.describe(options.threads), []
    options.out.mkdir(parents=True, exist_ok=True)
    if options.resume:
        earlier = json.loads((options.out / "rows.json").read_text(encoding="utf-8"))
        machine, rows = earlier["environment"], earlier["rows"]
        sizes = [n for n in sizes if n not in [row["n"] for row in rows]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.csv"
        write_interactions(path, SIZES[0])
        child.run("scale", str(path), str(options.threads))  # compiles
        for n in sizes:
            n_users, n_items = write_interactions(path, n)
            about = {"n": n, "n_users": n_users, "n_items": n_items, "file": path.stat().st_size}
            rows.append(about | child.run("scale", str(path), str(options.threads)))
            print(json.dumps(rows[-1]), flush=True)
            write_json(options.out / "rows.json", {"environment": machine, "rows": rows})
            write_text_atomically(options.out / "report.md", report(rows, machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
