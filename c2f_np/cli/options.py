"""Options that several commands share: where the data are, and the hyper-parameters."""

from __future__ import annotations

import argparse
import dataclasses
import typing

from ..settings import PRESETS, Settings

_LOAD = (
    "file_format",
    "protocol",
    "split",
    "test_fraction",
    "n_last",
    "validation_fraction",
    "split_seed",
    "rating_threshold",
    "user_column",
    "item_column",
    "rating_column",
    "timestamp_column",
    "separator",
    "cache_dir",
)


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


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Options of :func:`c2f_np.load_dataset`. None stands for its default."""
    group = parser.add_argument_group("data")
    formats = ("auto", "lightgcn", "u.data", "ratings.dat", "csv", "recbole")
    group.add_argument("--format", dest="file_format", metavar="NAME", help=f"file format, of {', '.join(formats)}")
    group.add_argument("--protocol", choices=("authors", "clean"), help="evaluation protocol (default: the preset's)")
    group.add_argument("--split", choices=("auto", "given", "random", "temporal", "none"), help="how to split")
    group.add_argument("--test-fraction", type=float, metavar="F", help="share of each user's items for test")
    group.add_argument("--n-last", type=int, metavar="N", help="last items of each user for test (temporal split)")
    group.add_argument("--validation-fraction", type=float, metavar="F", help="share for validation (protocol clean)")
    group.add_argument("--split-seed", type=int, metavar="N", help="seed of the split, not of the model")
    group.add_argument("--rating-threshold", type=float, metavar="R", help="keep ratings of at least this")
    for column in ("user", "item", "rating", "timestamp"):
        group.add_argument(f"--{column}-column", metavar="NAME", help=f"column of the {column} in a CSV file")
    group.add_argument("--separator", metavar="CHAR", help="column separator of a CSV file")
    group.add_argument("--cache-dir", metavar="DIR", help="where fetched data are")


def load_options(options: argparse.Namespace) -> dict:
    """The options of :func:`add_load_options` that were given."""
    return {name: getattr(options, name) for name in _LOAD if getattr(options, name) is not None}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Every field of :class:`c2f_np.settings.Settings` as an option, and the preset."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="named settings (default: default)")
    group = parser.add_argument_group("hyper-parameters (shown: the value of the plain settings)")
    hints = typing.get_type_hints(Settings)
    for item in dataclasses.fields(Settings):
        flag = "--" + item.name.replace("_", "-")
        text = f"{item.metadata['help']} [{item.default}]"
        if hints[item.name] is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif item.metadata["choices"]:
            group.add_argument(flag, choices=item.metadata["choices"], help=text)
        else:
            letter = "N" if hints[item.name] is int else "X"
            group.add_argument(flag, type=hints[item.name], metavar=letter, help=text)


def given_settings(options: argparse.Namespace) -> dict:
    """The hyper-parameters that were given, by name."""
    names = (item.name for item in dataclasses.fields(Settings))
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
