"""``python -m tests.faults kill | crash | full-disk``."""

import argparse
import sys
import tempfile
from pathlib import Path

from . import __doc__ as about
from .crashes import crash
from .full_disks import fill
from .kills import kill


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=about.splitlines()[0])
    faults = parser.add_subparsers(dest="fault", required=True)
    for name, text, count in (
        ("kill", "kill runs of all presets at random moments", 200),
        ("crash", "end runs just before each system call that changes a file", None),
        ("full-disk", "let the disk fill up after a random number of bytes", 100),
    ):
        of_fault = faults.add_parser(name, help=text)
        if count is None:
            of_fault.add_argument("--every", type=int, default=1, metavar="N", help="only at every N-th call [1]")
        else:
            of_fault.add_argument("--count", type=int, default=count, metavar="N", help=f"how many [{count}]")
            of_fault.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the moments [1]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if given.fault == "crash":
            failed = crash(given.every, Path(place))
        else:
            failed = {"kill": kill, "full-disk": fill}[given.fault](given.count, given.seed, Path(place))
    for each in failed:
        print(f"FAILED: {each}")
    print(f"{len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
