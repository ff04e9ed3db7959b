"""The command line: ``python -m c2f_np COMMAND``. The other files hold the commands; this one prints errors as one line."""

from __future__ import annotations

import argparse
import sys

from .._version import __version__
from ..errors import C2FError
from . import checking, data, run_study, train, trained

_EXAMPLES = """examples:
  python -m c2f_np demo
  python -m c2f_np data fetch ml-100k
  python -m c2f_np train ml-100k --out runs/ml-100k --coarse-lr 3e-3
  python -m c2f_np train clicks.csv --user-column visitor --item-column product --out runs/clicks
  python -m c2f_np recommend runs/clicks --user alice -k 10
"""


class _Parser(argparse.ArgumentParser):
    """Prints an error in the arguments as one line, like any other error."""

    def error(self, message: str):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; by default the arguments are those of the process.

    Returns the exit code: 0 for success, 1 for a check that failed, 2 for input that cannot be used, 130 after Ctrl-C.
    """
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else arguments
    for argument in given:
        # Bytes that are no text become halves of surrogate pairs, which can be neither stored nor printed.
        if not argument.isascii() and argument != argument.encode("utf-8", "replace").decode("utf-8"):
            parser.error(f"this argument is not UTF-8 text: {argument!r}")
    options = parser.parse_args(given)
    try:
        return options.run(options) or 0
    except BrokenPipeError:
        # A pipe that is closed early (| head) is the reader's decision, not an error.
        sys.stderr.close()
        return 0
    except (C2FError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("error: out of memory; try a smaller dim, or float32", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="python -m c2f_np",
        description="C2F-MetaEmbed from scratch: a graph recommender with two small codebooks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"c2f_np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (train, data, trained, run_study, checking):
        module.add_to(commands)
    return parser
