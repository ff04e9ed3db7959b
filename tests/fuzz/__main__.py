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


def file_inputs(of_all, folder, seed, numbers):
    """For each number: what it is, the folder with a spoilt file in it, and the call that reads it."""
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
        yield number, f"{each.name}, {how}: {' '.join(arguments)}", function, arguments


def option_inputs(of_all, folder, seed, numbers):
    """For each number: what it is, and a command line; the folder holds what it may name."""
    made = {each.name: each.folder for each in of_all}
    needed = {"run": "run.json staged", "study": "study.toml", "clicks": "data some.csv", "parity": "parity"}
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        for name, sample in needed.items():
            shutil.copytree(made[sample], folder / name)
        arguments = command_lines(np.random.default_rng([seed, number]))
        yield number, " ".join(f"{word!r:.60}" for word in arguments), "main", arguments


INPUTS = {"files": file_inputs, "options": option_inputs}


def run(what, seed, numbers, *, made, worker, place, report=print):
    """Carry out inputs made of samples in a folder in `place`; how many ended in which way, and the failures as texts."""
    codes, failures, folder = Counter(), [], place / "input"
    for number, text, function, arguments in INPUTS[what](made, folder, seed, numbers):
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
    with tempfile.TemporaryDirectory() as place, Worker() as worker:
        made = samples(Path(place))
        codes, failures = run(options.what, options.seed, numbers, made=made, worker=worker, place=Path(place))
    ended = ", ".join(f"{n} with exit code {code}" for code, n in sorted(codes.items(), key=str))
    print(f"{len(numbers)} {options.what}, seed {options.seed}: {ended}; failures: {len(failures)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
