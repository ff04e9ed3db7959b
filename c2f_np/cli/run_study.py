"""``study NAME|FILE.toml``."""

from __future__ import annotations

import shlex
import sys
import textwrap

from ..data import PROTOCOLS
from ..schema import LIMITS
from ..shown import for_terminal
from .bars import JobBar
from .options import add_command, add_quiet, whole_number

_EXAMPLES = """  python -m c2f_np study --list
  python -m c2f_np study presets --dry-run
  python -m c2f_np study presets --seeds 0 1 2 --out runs/presets
  python -m c2f_np study fine-codebook --data ml-100k=PATH/TO/SPLIT --protocol authors
  python -m c2f_np study mine.toml --jobs 8 --backend dask --scheduler tcp://host:8786

Give the command again to continue a stopped study; jobs that are done and have not changed are not repeated.
docs/studies.md explains the format of study files.
"""


def add_to(commands) -> None:
    text = "carry out a study: runs x seeds, with intervals and a report"
    parser = add_command(commands, "study", study_command, text, _EXAMPLES)
    parser.add_argument("study", nargs="?", metavar="NAME|FILE.toml", help="a ready study, or a study file")
    parser.add_argument("--list", action="store_true", help="list the ready studies and their questions")
    text = "data to use instead of the study's; may be repeated"
    parser.add_argument("--data", action="append", default=[], metavar="[NAME=]DATA", help=text)
    parser.add_argument("--settings-of", metavar="NAME", help="give --data the settings that the study has for this data set")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="evaluation protocol instead of the study's")
    seed = whole_number(0, LIMITS["seed"])
    parser.add_argument("--seeds", type=seed, nargs="+", default=[], metavar="N", help="seeds instead of the study's")
    parser.add_argument("--out", metavar="DIR", help="folder of the results [runs/studies/NAME]")
    text = "jobs at a time; 0: as many as cores [0]"
    parser.add_argument("--jobs", type=whole_number(0, LIMITS["threads"]), default=0, metavar="N", help=text)
    text = "where jobs are done: in processes here, or by Dask [processes]"
    parser.add_argument("--backend", choices=("processes", "dask"), default="processes", help=text)
    parser.add_argument("--scheduler", metavar="ADDRESS", help="address of a Dask scheduler (default: a cluster on this machine)")
    parser.add_argument("--retry-failed", action="store_true", help="do failed jobs again")
    parser.add_argument("--dry-run", action="store_true", help="only list the jobs")
    parser.add_argument("--report-only", action="store_true", help="do no job; write the tables and the report of what is there")
    add_quiet(parser)


def study_command(options) -> int:
    from ..errors import SettingsError
    from ..studies import Options, jobs_of, read_study, run_study, with_choices

    if options.list:
        return _list()
    if options.study is None:
        raise SettingsError("say which study: a ready study (see study --list) or a study file")
    choices = {name: getattr(options, name) for name in ("data", "settings_of", "protocol", "seeds")}
    study = with_choices(read_study(options.study), **choices)
    how = Options(options.jobs, options.backend, options.scheduler, options.retry_failed, options.report_only)
    folder = f"runs/studies/{study.name}" if options.out is None else options.out
    if options.dry_run:
        return _dry_run(study, jobs_of(study))
    watch = None if options.quiet or study.kind != "runs" else JobBar()
    try:
        done = run_study(study, folder, how, command=command_of(options), watch=watch)
    except KeyboardInterrupt:
        then = f"continues it. So far: {for_terminal(folder)}" if study.kind == "runs" else "starts it again"
        print(f"\nstopped; the same command {then}", file=sys.stderr)
        return 130
    finally:
        if watch is not None:
            watch.close()
    if not options.quiet:
        print(f"written to {for_terminal(done.report)}" + (f"; {done.n_missing} jobs are not done" if done.n_missing else ""))
    if done.n_failed:
        print(f"{done.n_failed} of {done.n_jobs} jobs failed; the report names them", file=sys.stderr)
        return 1
    return 0


def _list() -> int:
    from ..studies import read_study, ready_studies

    for name in ready_studies():
        study = read_study(name)
        print(f"{name:<18}{study.title}")
        print(textwrap.fill(" ".join(study.question.split()), width=110, initial_indent=" " * 18, subsequent_indent=" " * 18))
    return 0


def _dry_run(study, jobs) -> int:
    from ..studies.search import point_in_words

    if study.kind != "runs":
        print(f"{for_terminal(study.name)}: a study of the kind {study.kind}, one piece of work")
        return 0
    for job in jobs:
        about = [point_in_words(job.searched)] if job.is_trial else []
        about += [f"the best of {len(job.trials)} trials"] if job.trials else []
        about += [f"after: {', '.join(job.run.after)}"] if job.run.after else []
        shown = f"   ({'; '.join(about)})" if about else ""
        print(for_terminal(f"{job.source.name:<16} {job.run.name:<32} seed {job.seed}{shown}"))
    n_trials = sum(job.is_trial for job in jobs)
    print(f"{len(jobs)} jobs" + (f", of which {n_trials} are trials" if n_trials else ""))
    return 0


def command_of(options) -> str:
    """The command with everything that the results depend on, and nothing else."""
    words = ["python", "-m", "c2f_np", "study", options.study]
    for data in options.data:
        words += ["--data", data]
    for flag, value in (("--settings-of", options.settings_of), ("--protocol", options.protocol)):
        words += [flag, value] if value else []
    return shlex.join(words + (["--seeds", *map(str, options.seeds)] if options.seeds else []))
