"""``control DIR``."""

from __future__ import annotations

from .options import add_command

_EXAMPLES = """  python -m c2f_np control runs/ml-100k

The fine stage has its own learning rate, batch size and epochs. The control gives the same to the coarse stage: from
the run's best coarse state it goes on training E_c, as long and as fast. What the fine stage is better by is what its codebook
brings.
"""


def add_to(commands) -> None:
    parser = add_command(commands, "control", run, "continue the coarse stage as the fine one was trained", _EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="folder of a finished run; control.json is written there")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options) -> int:
    from ..run import comparison_table, read_request, run_control
    from .progress import PhaseBars

    bars = None if options.quiet else PhaseBars(read_request(options.folder).settings)
    metrics = run_control(options.folder, watch=bars)
    if not options.quiet:
        bars.close()
        part = "test" if metrics["test"] is not None else "validation"
        if metrics[part] is not None:
            print(comparison_table(metrics, part, ("coarse", "control", "fine")))
    return 0
