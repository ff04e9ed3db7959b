"""The command line: ``python -m c2f_np COMMAND``. The other files hold the commands; this one prints errors as one line."""

from __future__ import annotations

import argparse
import sys

from .._version import __version__
from ..errors import C2FError, in_short
from ..shown import for_terminal
from . import checking, course, data, run_study, train, trained
from .options import preset_in
from .output import prepared_output, say_error

_EXAMPLES = """examples:
  python -m c2f_np demo
  python -m c2f_np data fetch ml-100k
  python -m c2f_np train ml-100k --out runs/ml-100k --coarse-lr 3e-3
  python -m c2f_np train clicks.csv --user-column visitor --item-column product --out runs/clicks
  python -m c2f_np refit runs/clicks
  python -m c2f_np recommend runs/clicks --user alice -k 10
"""


class _Parser(argparse.ArgumentParser):
    """Takes values that look like options, and prints an error in the arguments as one line, like any other error."""

    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(None if args is None else self._with_values_joined(args), namespace)

    def _with_values_joined(self, words: list[str]) -> list[str]:
        """The words with ``--user -x`` as ``--user=-x``, which argparse understands; the name of an option is no value."""
        joined: list[str] = []
        while words:
            word, *words = words
            if word == "--":
                return [*joined, word, *words]
            following = words[0] if words else ""
            if following[:1] == "-" != following and self._takes_one_value(word) and not self._is_option(following):
                word, words = f"{word}={following}" if word.startswith("--") else word + following, words[1:]
            joined.append(word)
        return joined

    def _takes_one_value(self, word: str) -> bool:
        actions = {action for name, action in self._option_string_actions.items() if name == word}
        if not actions and word.startswith("--"):
            actions = {action for name, action in self._option_string_actions.items() if name.startswith(word)}
        return len(actions) == 1 and next(iter(actions)).nargs is None

    def _is_option(self, word: str) -> bool:
        return word == "--" or word.partition("=")[0] in self._option_string_actions

    def error(self, message: str):
        if message.endswith("expected one argument"):
            message += "; a value that is the name of an option is given with an equals sign, as --user=--help"
        self.exit(2, f"error: {for_terminal(message)} (see {self.prog} --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; by default the arguments are those of the process.

    Returns the exit code: 0 for success, 1 for a check that failed, 2 for input that cannot be used, 130 after Ctrl-C.
    """
    with prepared_output():
        words = sys.argv[1:] if arguments is None else list(arguments)
        parser = build_parser(preset_in(words))
        for word in words:
            # Bytes that are no text become halves of surrogate pairs, which can be neither stored nor printed.
            if not word.isascii() and word != word.encode("utf-8", "replace").decode("utf-8"):
                parser.error(f"this argument is not UTF-8 text: {in_short(word)}")
        options = parser.parse_args(words)
        try:
            code = options.run(options) or 0
            sys.stdout.flush()
            return code
        except (C2FError, OSError) as error:
            say_error(error)
            return 2
        except MemoryError:
            print("error: out of memory; try a smaller dim, or float32", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return 130


def build_parser(preset: str = "default") -> argparse.ArgumentParser:
    """The parser of all commands; their help shows the values of a preset."""
    parser = _Parser(
        prog="python -m c2f_np",
        description="C2F-MetaEmbed from scratch: a graph recommender with two small codebooks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"c2f_np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train.add_to(commands, preset)
    for module in (data, trained, run_study, checking, course):
        module.add_to(commands)
    return parser
