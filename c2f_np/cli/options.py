"""Options that several commands share: where the data are, and the hyper-parameters."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from contextlib import suppress

from ..data import LOAD_OPTIONS, load_dataset
from ..errors import in_short
from ..schema import MOST, add_options, given_options
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


def add_load_options(parser: argparse.ArgumentParser, preset: str = "default") -> None:
    """Options of :func:`c2f_np.load_dataset`. None stands for its default, or for the protocol of the preset."""
    given = inspect.signature(load_dataset).parameters
    defaults = {name: given[name].default for name in LOAD_OPTIONS} | {"protocol": protocol_of(preset)}
    add_options(parser.add_argument_group("data"), LOAD_OPTIONS, defaults=defaults)


def protocol_of(preset: str, split: str | None = None) -> str:
    """The protocol that a preset goes with; the authors' takes validation from test items, so that it needs some."""
    return "authors" if preset == "authors" and split != "none" else "clean"


def preset_in(words: list[str]) -> str:
    """The preset that the words of a command name; the default one if they name none."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--preset")
    with suppress(argparse.ArgumentError):
        named = parser.parse_known_args(words)[0].preset
        return named if named in PRESETS else "default"
    return "default"


def load_options(options: argparse.Namespace) -> dict:
    """The options of :func:`add_load_options` that were given."""
    return {name: LOAD_OPTIONS[name].checked(value) for name, value in given_options(options, LOAD_OPTIONS).items()}


def add_settings(parser: argparse.ArgumentParser, preset: str) -> None:
    """Every field of :class:`c2f_np.settings.Settings` as an option, with a preset's values as the defaults, and the preset."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="named settings; help shows those of the preset given [default]")
    group = parser.add_argument_group(f"hyper-parameters (in brackets: the values of the preset {preset})")
    add_options(group, Settings, defaults=Settings.preset(preset).to_dict())
