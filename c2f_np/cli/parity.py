"""``parity FILE.npz ...``."""

from __future__ import annotations

from ..engine import ENGINES
from .options import add_command

_EXAMPLES = """  python -m c2f_np parity tests/parity/case_a.npz
  python -m c2f_np parity --engine numba tests/parity/*.npz
"""


def add_to(commands) -> None:
    text = "compare every quantity with the numbers of the authors' code"
    parser = add_command(commands, "parity", parity_command, text, _EXAMPLES)
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="reference numbers")
    parser.add_argument("--engine", choices=ENGINES, help="one engine only (default: both)")


def parity_command(options) -> int:
    from ..parity import main_parity

    return main_parity(options.files, options.engine or "both")
