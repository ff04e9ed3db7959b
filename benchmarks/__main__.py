"""Run the benchmarks and write one result file and one page of tables.

    python -m benchmarks                          everything, at ml-100k and Gowalla size
    python -m benchmarks --only steps product     some parts; printed, and written only with --out or --table
    python -m benchmarks --quick --sizes tiny     does it run at all?
    python -m benchmarks --summary docs/performance.md   the summary of the last result into that page
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

from c2f_np.files import write_json, write_text_atomically
from c2f_np.threads import available_cores

from . import environment
from .parts import PARTS
from .plan import Plan, import_torch
from .report import markdown
from .sizes import SIZES
from .summary import with_summary
from .workload import workload_of

FORMAT = 1
HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0 if every part came to its end."""
    options = _parse(arguments)
    if options.summary:
        result = json.loads((options.out or HERE / "results.json").read_text(encoding="utf-8"))
        write_text_atomically(options.summary, with_summary(options.summary.read_text(encoding="utf-8"), result))
        return 0
    machine = environment.describe(options.threads)
    plan = Plan(
        threads=options.threads,
        rounds=options.repeats or (2 if options.quick else 11),
        seconds=options.seconds or (2.0 if options.quick else 30.0),
        quick=options.quick,
        long=options.long,
        torch=None if options.without_torch else import_torch(options.threads),
        data=options.data,
        like=options.like,
    )
    workloads = [workload_of(name, plan) for name in ([options.like] if options.data else options.sizes)]
    result = {
        "format": FORMAT,
        "environment": machine,
        "options": {
            "quick": plan.quick,
            "long": plan.long,
            "rounds": plan.rounds,
            "seconds_a_comparison": plan.seconds,
            "torch_used": plan.torch is not None,
            "parts": options.only,
        },
        "problems": {workload.size.name: workload.describe() for workload in workloads},
        "failed": [],
        "results": [],
    }
    for part in options.only:
        try:
            for record in PARTS[part](plan, workloads):
                result["results"].append(record)
                _write(result, options)
                _say(f"{part}: {record.get('size', '')} {record.get('case', record.get('variable', ''))}")
        except Exception:
            # The other parts of a long run are worth having all the same.
            traceback.print_exc()
            result["failed"].append(part)
    machine["threading_layer"] = _threading_layer()
    _write(result, options)
    print(markdown(result))
    return 1 if result["failed"] else 0


def _parse(arguments: list[str] | None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["ml100k", "gowalla"], help="sizes of synthetic problems")
    parser.add_argument("--data", help="a data set instead: a name or path that c2f_np.load_dataset takes")
    parser.add_argument("--like", choices=SIZES, default="ml100k", help="with --data: the size whose hyper-parameters to use")
    parser.add_argument("--quick", action="store_true", help="few rounds and short curves: a test, not a measurement")
    parser.add_argument("--long", action="store_true", help="whole epochs, however many steps")
    parser.add_argument("--repeats", type=int, help="most rounds of a comparison (11; quick 2)")
    parser.add_argument("--seconds", type=float, help="time for the rounds of a comparison, at least 3 rounds (30; quick 2)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of every competitor (all cores)")
    parser.add_argument("--without-torch", action="store_true", help="as if it were not installed")
    parser.add_argument("--out", type=Path, help="the result (benchmarks/results.json; quick or some parts: not written)")
    parser.add_argument("--table", type=Path, help="the tables (benchmarks/results.md; quick or some parts: not written)")
    parser.add_argument(
        "--summary", type=Path, metavar="PAGE", help="run nothing; write the summary of the result into this file's block"
    )
    options = parser.parse_args(arguments)
    for name in ("threads", "repeats", "seconds"):
        if getattr(options, name) is not None and not getattr(options, name) > 0:
            parser.error(f"--{name} must be positive")
    if options.threads > available_cores():
        parser.error(f"--threads {options.threads}: there are {available_cores()} cores")
    if not options.quick and options.only == list(PARTS):
        # A quick run, or some parts alone, must not replace a measurement of everything by accident.
        options.out = options.out or HERE / "results.json"
        options.table = options.table or HERE / "results.md"
    return options


def _write(result: dict, options) -> None:
    if options.out:
        write_json(options.out, result, allow_nan=False)
    if options.table:
        write_text_atomically(options.table, markdown(result))


def _threading_layer() -> str | None:
    import numba

    try:
        return numba.threading_layer()
    except ValueError:
        return None  # no parallel loop has run


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
