"""``gradcheck``."""

from __future__ import annotations

from ..engine import ENGINES
from .options import add_command

_EXAMPLES = """  python -m c2f_np gradcheck
  python -m c2f_np gradcheck --op soft_threshold --engine numpy
  python -m c2f_np gradcheck --mutants
  python -m c2f_np gradcheck --mutate 100 --seed 1
  python -m c2f_np gradcheck --mutate 30 --within model.loss
"""


def add_to(commands) -> None:
    parser = add_command(commands, "gradcheck", run, "check every gradient numerically, on this machine", _EXAMPLES)
    parser.add_argument("--op", metavar="NAME", help="one operation or stage only")
    parser.add_argument("--engine", choices=ENGINES, help="one engine only (default: both)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random inputs [0]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: the number of cores)")
    parser.add_argument("--mutants", action="store_true", help="put the mistakes of the catalogue in: all must be caught")
    parser.add_argument("--mutate", type=int, metavar="N", help="make N small changes of the code by machine and put them in")
    parser.add_argument("--within", metavar="PLACE", help="with --mutate: only in what begins with this, as model.loss")


def run(options) -> int:
    from ..verification.command import run as check

    given = {name: getattr(options, name) for name in ("op", "engine", "seed", "json", "jobs", "mutants", "mutate", "within")}
    return check(**given)
