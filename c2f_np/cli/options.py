"""Options that several commands share: where the data are, and the hyper-parameters."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..data import LOAD_OPTIONS
from ..schema import MOST, add_options, given_options, in_short
from ..settings import PRESETS, Settings


def add_command(commands, name: str, run, text: str, examples: str) -> argparse.ArgumentParser:
    """A subcommand with its help, examples, and the function that runs it."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def whole_number(low: int, high: int = MOST[int]) -> Callable[[str], int]:
    """The type of an option that takes whole numbers within limits."""

    def whole_number(text: str) -> int:  # argparse shows this name
        number = int(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high:,}, not {in_short(number)}")
        return number

    return whole_number


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The option that silences a command."""
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Options of :func:`c2f_np.load_dataset`. None stands for its default."""
    add_options(parser.add_argument_group("data"), LOAD_OPTIONS)


def load_options(options: argparse.Namespace) -> dict:
    """The options of :func:`add_load_options` that were given."""
    return {name: LOAD_OPTIONS[name].checked(value) for name, value in given_options(options, LOAD_OPTIONS).items()}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Every field of :class:`c2f_np.settings.Settings` as an option, and the preset."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="named settings (default: default)")
    group = parser.add_argument_group("hyper-parameters (in brackets: the value without a preset)")
    add_options(group, Settings)
