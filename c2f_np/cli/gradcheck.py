"""``gradcheck``."""

from __future__ import annotations

from ..engine import ENGINES
from .options import add_command

_EXAMPLES = """  python -m c2f_np gradcheck
  python -m c2f_np gradcheck --op soft_threshold --engine numpy
  python -m c2f_np gradcheck --mutants
"""


def add_to(commands) -> None:
    parser = add_command(commands, "gradcheck", run, "check every gradient numerically, on this machine", _EXAMPLES)
    parser.add_argument("--op", metavar="NAME", help="one operation or stage only")
    parser.add_argument("--engine", choices=ENGINES, help="one engine only (default: both)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random inputs [0]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--mutants", action="store_true", help="put mistakes into the backward passes: all must be caught")


def run(options) -> int:
    from ..verification.command import run as check

    return check(op=options.op, engine=options.engine, seed=options.seed, json=options.json, mutants=options.mutants)
