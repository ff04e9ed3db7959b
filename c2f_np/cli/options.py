"""Options that several commands share: where the data are, and the hyper-parameters."""

from __future__ import annotations

import argparse
import inspect

from ..data import FORMATS, PROTOCOLS, SPLITS, load_dataset
from ..schema import add_options, given_options
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


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """The option that silences a command."""
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Options of :func:`c2f_np.load_dataset`. None stands for its default."""
    group = parser.add_argument_group("data")
    formats = f"file format: one of auto, {', '.join(FORMATS)}"
    group.add_argument("--format", dest="file_format", metavar="NAME", help=formats)
    group.add_argument("--protocol", choices=PROTOCOLS, help="evaluation protocol (default: the preset's)")
    group.add_argument("--split", choices=("auto", *SPLITS), help="how to split")
    group.add_argument("--test-fraction", type=float, metavar="F", help="share of each user's items for test")
    group.add_argument("--n-last", type=int, metavar="N", help="last items of each user for test (temporal split)")
    group.add_argument("--validation-fraction", type=float, metavar="F", help="share for validation (protocol clean)")
    group.add_argument("--split-seed", type=int, metavar="N", help="seed of the split, not of the model")
    group.add_argument("--rating-threshold", type=float, metavar="R", help="keep ratings of at least this")
    for column in ("user", "item", "rating", "timestamp"):
        group.add_argument(f"--{column}-column", metavar="NAME", help=f"column of the {column} in a CSV file")
    group.add_argument("--separator", metavar="CHAR", help="column separator of a CSV file")
    group.add_argument("--cache-dir", metavar="DIR", help="folder of fetched data")


def load_options(options: argparse.Namespace) -> dict:
    """The options of :func:`add_load_options` that were given."""
    return given_options(options, list(inspect.signature(load_dataset).parameters)[1:])


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Every field of :class:`c2f_np.settings.Settings` as an option, and the preset."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="named settings (default: default)")
    group = parser.add_argument_group("hyper-parameters (in brackets: the value without a preset)")
    add_options(group, Settings)
