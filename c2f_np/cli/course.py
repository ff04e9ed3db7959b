"""``course release | mark | slides``: the course for a lecturer."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from ..errors import SettingsError
from ..folders import require_new
from ..schema import LIMITS
from ..shown import for_terminal
from .options import add_command, whole_number

_EXAMPLES = """  python -m c2f_np course release 03 --out week3
  python -m c2f_np course mark submissions --release week3 --out marks
  python -m c2f_np course slides 03 --out slides
"""


def add_to(commands) -> None:
    parser = add_command(commands, "course", None, "release, mark and show the course, for lecturers", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    release = _of_notebooks(actions, "release", release_course, "write notebooks for students, without answers")
    release.add_argument("--nbgrader", action="store_true", help="as the instructor's version for nbgrader")
    slides = _of_notebooks(actions, "slides", make_slides, "write slides of notebooks that need no network")
    slides.add_argument("--assets", metavar="DIR", default="node_modules", help="folder of npm packages [node_modules]")
    mark = actions.add_parser("mark", help="mark a folder of submissions", description="Mark a folder of submissions.")
    mark.set_defaults(run=mark_course)
    mark.add_argument("submissions", metavar="FOLDER", help="with a folder, notebook or zip file for each student")
    mark.add_argument("--release", required=True, metavar="DIR", help="what `course release` wrote")
    mark.add_argument("--out", required=True, metavar="DIR", help="a new folder, for the grades and reports")
    text = "of the numbers to mark at (default: drawn, recorded)"
    mark.add_argument("--seed", type=whole_number(0, 2**31), metavar="N", help=text)
    text = "for a notebook's cells, and for each exercise [30]"
    mark.add_argument("--time-limit", type=_seconds, default=30.0, metavar="SECONDS", help=text)
    text = "limit of a process, on Linux [2048]"
    mark.add_argument("--memory", type=whole_number(256, 2**20), default=2048, metavar="MB", help=text)
    jobs = whole_number(1, LIMITS["threads"])
    mark.add_argument("--jobs", type=jobs, metavar="N", help="submissions at a time (default: the number of cores)")


def _of_notebooks(actions, name: str, run, text: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    parser.add_argument("names", nargs="*", metavar="NN", help="beginnings of names of notebooks (default: all)")
    parser.add_argument("--from", dest="source", default="notebooks", metavar="DIR", help="where the notebooks are [notebooks]")
    parser.add_argument("--out", required=True, metavar="DIR", help="a folder; for a release a new one")
    return parser


def _seconds(text: str) -> float:
    if not 1 <= (number := float(text)) <= 86_400:
        raise argparse.ArgumentTypeError("must be from 1 to 86400 seconds")
    return number


def release_course(options) -> int:
    from ..teaching.release import find_notebooks, write_release

    asked = write_release(find_notebooks(Path(options.source), options.names), Path(options.out), for_nbgrader=options.nbgrader)
    for name, exercises in asked.items():
        print(for_terminal(f"{name:<32}{len(exercises)} exercises"))
    return 0


def mark_course(options) -> int:
    from ..teaching.marking import Marking, default_closed, mark_folder, read_release
    from ..teaching.reports import write_marks
    from ..teaching.session import Limits

    folder, release, out = Path(options.submissions), Path(options.release), Path(options.out)
    require_new(out, "marks go")
    if out.resolve().is_relative_to(folder.resolve()):
        raise SettingsError("--out lies in the folder of submissions, where it would count as one; give another")
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    closed = default_closed(folder, release, out)
    marking = Marking(*read_release(release), seed, Limits(options.time_limit, options.memory * 2**20, closed))
    marks = []
    for each in mark_folder(folder, marking, options.jobs):
        marks.append(each)
        print(for_terminal(f"{each.student:<32}{each.points} of {len(each.grades)}"), flush=True)
        for remark in each.remarks:
            print(for_terminal(f"  {remark}"), file=sys.stderr)
    write_marks(out, marks, marking)
    print(for_terminal(f"{out / 'grades.csv'}, seed {seed}"))
    return 0


def make_slides(options) -> int:
    from ..teaching.release import find_notebooks
    from ..teaching.slides import write_slides

    for path in write_slides(find_notebooks(Path(options.source), options.names), Path(options.out), Path(options.assets)):
        print(for_terminal(path))
    return 0
