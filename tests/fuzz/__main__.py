"""The commands; see the package's text."""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from .material import samples
from .options import command_lines
from .spoil import pick, spoil
from .worker import Worker


def file_inputs(place, seed, numbers):
    """For each number: what it is, a folder with a spoilt file, and the call that reads it."""
    of_all, folder = samples(place), place / "input"
    # A sample of each kind is as likely as one of any other, however many samples the kind has.
    kinds = {}
    for each in of_all:
        kinds.setdefault(each.name.split()[0], []).append(each)
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        each = pick(rng, pick(rng, list(kinds.values())))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(each.folder, folder)
        how = spoil(folder / each.file, rng)
        function, arguments = pick(rng, each.calls)
        yield number, f"{each.name}, {how}: {' '.join(arguments)}", folder, function, arguments


def option_inputs(place, seed, numbers):
    """For each number: what it is, a folder, and a command line."""
    samples(place)
    for number in numbers:
        folder = place / "input"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(place / "run staged", folder / "run")
        shutil.copytree(place / "study", folder / "study")
        shutil.copytree(place / "data some.csv", folder / "clicks")
        shutil.copytree(place / "parity", folder / "parity")
        arguments = command_lines(np.random.default_rng([seed, number]))
        yield number, " ".join(f"{word!r:.60}" for word in arguments), folder, "main", arguments


INPUTS = {"files": file_inputs, "options": option_inputs}


def run(what, seed, numbers, *, report=print):
    """Carry out inputs; how many ended in which way, and the failures as texts."""
    codes, failures = Counter(), []
    with tempfile.TemporaryDirectory() as place, Worker() as worker:
        for number, text, folder, function, arguments in INPUTS[what](Path(place), seed, numbers):
            outcome = worker.do(folder, function, arguments)
            codes[outcome.code] += 1
            if outcome.wrong or len(numbers) == 1:
                failures += [f"{number}: {text}: {outcome.wrong}"] if outcome.wrong else []
                report(f"{number}: {text}\n  {outcome.wrong or outcome.code}\n  {outcome.printed[-600:]}")
    return codes, failures


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("what", choices=tuple(INPUTS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this one input")
    options = parser.parse_args()
    numbers = range(options.count) if options.only is None else [options.only]
    codes, failures = run(options.what, options.seed, numbers)
    ended = ", ".join(f"{n} with exit code {code}" for code, n in sorted(codes.items(), key=str))
    print(f"{len(numbers)} {options.what}, seed {options.seed}: {ended}; failures: {len(failures)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
