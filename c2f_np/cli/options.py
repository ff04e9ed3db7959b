"""Options that several commands share: where the data are, and the hyper-parameters."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import typing

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
    formats = ("auto", "lightgcn", "u.data", "ratings.dat", "csv", "recbole")
    group.add_argument("--format", dest="file_format", metavar="NAME", help=f"file format: one of {', '.join(formats)}")
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
    group.add_argument("--cache-dir", metavar="DIR", help="folder of fetched data")


def load_options(options: argparse.Namespace) -> dict:
    """The options of :func:`add_load_options` that were given."""
    from ..data import load_dataset

    names = list(inspect.signature(load_dataset).parameters)[1:]
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Every field of :class:`c2f_np.settings.Settings` as an option, and the preset."""
    parser.add_argument("--preset", choices=tuple(PRESETS), help="named settings (default: default)")
    group = parser.add_argument_group("hyper-parameters (in brackets: the value without a preset)")
    hints = typing.get_type_hints(Settings)
    for item in dataclasses.fields(Settings):
        about = {"help": f"{item.metadata['help']} [{item.default}]"}
        if hints[item.name] is bool:
            about |= {"action": argparse.BooleanOptionalAction, "default": None}
        elif item.metadata["choices"]:
            about |= {"choices": item.metadata["choices"]}
        else:
            about |= {"type": hints[item.name], "metavar": "N" if hints[item.name] is int else "X"}
        group.add_argument("--" + item.name.replace("_", "-"), **about)


def given_settings(options: argparse.Namespace) -> dict:
    """The hyper-parameters that were given, by name."""
    names = (item.name for item in dataclasses.fields(Settings))
    return {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
