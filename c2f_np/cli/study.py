"""``study NAME|FILE.toml``."""

from __future__ import annotations

import shlex
import sys
import textwrap
from pathlib import Path

from .options import add_command

_EXAMPLES = """  python -m c2f_np study --list
  python -m c2f_np study presets --dry-run
  python -m c2f_np study presets --seeds 0 1 2 --out runs/presets
  python -m c2f_np study fine-codebook --data ml-100k=PATH/TO/SPLIT --protocol authors
  python -m c2f_np study mine.toml --jobs 8 --backend dask --scheduler tcp://host:8786

A study that was stopped goes on when the command is given again; what is done and has not changed is not done again. The format
of study files is explained in docs/studies.md.
"""


def add_to(commands) -> None:
    parser = add_command(commands, "study", run, "runs x seeds, side by side, with intervals and a report", _EXAMPLES)
    parser.add_argument("study", nargs="?", metavar="NAME|FILE.toml", help="a ready study, or a study file")
    parser.add_argument("--list", action="store_true", help="the ready studies and what they ask")
    parser.add_argument(
        "--data", action="append", default=[], metavar="[NAME=]DATA", help="in place of the study's data; may be repeated"
    )
    parser.add_argument("--settings-of", metavar="NAME", help="give --data the settings that the study has for this data set")
    parser.add_argument("--protocol", choices=("authors", "clean"), help="evaluation protocol, in place of the study's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], metavar="N", help="seeds, in place of the study's")
    parser.add_argument("--out", metavar="DIR", help="folder of the results [runs/studies/NAME]")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="jobs at a time; 0: as many as cores [0]")
    parser.add_argument("--backend", choices=("loky", "dask"), default="loky", help="processes here, or Dask [loky]")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler (default: a cluster on this machine)")
    parser.add_argument("--retry-failed", action="store_true", help="do again what failed")
    parser.add_argument("--dry-run", action="store_true", help="only list the jobs")
    parser.add_argument("--report-only", action="store_true", help="do no job; write tables and report of what is there")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(options) -> int:
    from ..errors import SettingsError
    from ..studies import Options, jobs_of, read_study, run_study, with_choices

    if options.list:
        return _list()
    if options.study is None:
        raise SettingsError("say which study: one of those that study --list names, or a file")
    study = read_study(options.study)
    study = with_choices(
        study, data=options.data, settings_of=options.settings_of, protocol=options.protocol, seeds=options.seeds
    )
    how = Options(options.jobs, options.backend, options.scheduler, options.retry_failed, options.report_only)
    folder = Path(options.out or f"runs/studies/{study.name}")
    if options.dry_run:
        if study.kind != "runs":
            print(f"{study.name}: a study of the kind {study.kind}, one piece of work")
            return 0
        jobs = jobs_of(study)
        for job in jobs:
            after = f"   (after: {', '.join(job.run.after)})" if job.run.after else ""
            print(f"{job.source.name:<16} {job.run.name:<32} seed {job.seed}{after}")
        print(f"{len(jobs)} jobs")
        return 0
    watch = None if options.quiet or study.kind != "runs" else _Bar()
    try:
        done = run_study(study, folder, how, command=command_of(options), watch=watch)
    except KeyboardInterrupt:
        then = f"goes on. So far: {folder}" if study.kind == "runs" else "begins anew"
        print(f"\nstopped; the same command {then}", file=sys.stderr)
        return 130
    finally:
        if watch is not None:
            watch.close()
    if not options.quiet:
        print(f"written to {done.report}" + (f"; {done.n_missing} jobs are not done" if done.n_missing else ""))
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


def command_of(options) -> str:
    """The command with everything that the results depend on, and nothing else."""
    words = ["python", "-m", "c2f_np", "study", options.study]
    for data in options.data:
        words += ["--data", data]
    for flag, value in (("--settings-of", options.settings_of), ("--protocol", options.protocol)):
        words += [flag, value] if value else []
    return shlex.join(words + (["--seeds", *map(str, options.seeds)] if options.seeds else []))


class _Bar:
    """A progress bar of jobs."""

    def __init__(self):
        self._bar = None

    def __call__(self, n_done: int, n_all: int, key: str) -> None:
        from tqdm import tqdm

        if self._bar is None:
            pause = 0.1 if sys.stderr.isatty() else 10
            self._bar = tqdm(total=n_all, initial=n_done, unit="job", dynamic_ncols=True, mininterval=pause, maxinterval=pause)
            return
        self._bar.set_postfix_str(key, refresh=False)
        self._bar.update(n_done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
