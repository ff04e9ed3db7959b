"""Commands that check the computation: ``gradcheck``, and ``parity FILE.npz ...``."""

from __future__ import annotations

from ..engine import ENGINES
from ..schema import LIMITS
from .options import add_command, whole_number

_GRADCHECK = """  python -m c2f_np gradcheck
  python -m c2f_np gradcheck --op soft_threshold --engine numpy
  python -m c2f_np gradcheck --mutants
  python -m c2f_np gradcheck --mutate 100 --seed 1
  python -m c2f_np gradcheck --mutate 30 --within model.loss
"""

_PARITY = """  python -m c2f_np parity tests/parity/case_a.npz
  python -m c2f_np parity --engine numba tests/parity/*.npz
"""


def add_to(commands) -> None:
    text = "check every gradient numerically, on this machine"
    parser = add_command(commands, "gradcheck", gradcheck_command, text, _GRADCHECK)
    parser.add_argument("--op", metavar="NAME", help="one operation or stage only")
    parser.add_argument("--engine", choices=ENGINES, help="one engine only (default: both)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="seed of the random inputs [0]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    jobs = whole_number(1, LIMITS["threads"])
    parser.add_argument("--jobs", type=jobs, metavar="N", help="processes (default: the number of cores)")
    parser.add_argument("--mutants", action="store_true", help="put the mistakes of the catalogue in: all must be caught")
    text = "make N small changes of the code by machine and put them in"
    parser.add_argument("--mutate", type=whole_number(1, 1_000_000), metavar="N", help=text)
    parser.add_argument("--within", metavar="PLACE", help="with --mutate: only in what begins with this, as model.loss")

    text = "compare every quantity with the numbers of the authors' code"
    parser = add_command(commands, "parity", parity_command, text, _PARITY)
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="reference numbers")
    parser.add_argument("--engine", choices=ENGINES, help="one engine only (default: both)")


def gradcheck_command(options) -> int:
    from ..verification.command import run

    names = ("op", "engine", "seed", "json", "jobs", "mutants", "mutate", "within")
    return run(**{name: getattr(options, name) for name in names})


def parity_command(options) -> int:
    from ..parity import main_parity

    return main_parity(options.files, options.engine or "both")
