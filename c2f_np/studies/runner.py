"""Carrying out a study in a folder: the jobs that are not done yet, then the tables and the report of all."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..data import Dataset, load_dataset
from ..errors import SettingsError, in_short
from ..files import write_csv, write_text_atomically
from ..folders import folder_named, locked
from .jobs import Job, fingerprint, jobs_of
from .methods import carry_out
from .parallel import Options, workers
from .search import best_trial, point_in_words
from .store import REPORT, ROWS, TABLE, Measurement, Store, table_lines
from .study import SPECIAL_KINDS, Study
from .study_report import write_report


@dataclass(frozen=True)
class Done:
    """What became of a study: its report, and how many jobs there are, have failed, and are still to be done."""

    report: Path
    n_jobs: int = 0
    n_failed: int = 0
    n_missing: int = 0


#: Called with (jobs that have a row, all jobs, key of the job that has just ended, keys of those at work), and with "" for the
#: one that has ended before the first and when work begins.
Watch = Callable[[int, int, str, list[str]], None]
Waiting = Sequence[str]  # keys of the jobs that are not done, those at work first


def run_study(study: Study, folder, options: Options | None = None, *, command: str = "", watch: Watch | None = None) -> Done:
    """Carry out a study in a folder, or go on with one that was stopped; `command` is written into the report.

    Jobs whose results are in the folder, for the same data, settings and version, are not done again. KeyboardInterrupt is passed
    on after the tables and the report of what is there have been written. SettingsError if another process is writing there, or
    the folder holds files of a study's names and no study.
    """
    options, store = options or Options(), Store(folder_named(folder))
    store.refuse_strangers(study.text)
    if options.report_only and study.kind != "runs":
        raise SettingsError(f"--report-only: a study of the kind {study.kind} stores no rows to make a report from")
    if options.report_only and not (store.folder / ROWS).is_dir():
        raise SettingsError(f"--report-only: {store.folder} holds no results of a study; give their folder with --out")
    data = {source.name: load_dataset(source.source, protocol=source.protocol, **source.options) for source in study.sources}
    jobs = jobs_of(study)
    for job in jobs:
        if job.is_trial and data[job.source.name].held_out("validation") is None:
            where = f"{study.path}: run {in_short(job.run.name)}"
            raise SettingsError(f"{where}: {in_short(job.source.name)} has no validation part, on which a search chooses")
    with locked(store.folder):
        store.refuse_strangers(study.text)  # nobody else can have been there since
        return _run_alone(study, data, jobs, store, options, command, watch)


def _run_alone(study: Study, data: dict, jobs: list[Job], store: Store, options: Options, command: str, watch) -> Done:
    """Carry out a study in a folder that is locked and may be written."""
    report = store.folder / REPORT
    store.prepare(study.text)
    if study.kind != "runs":
        module, _, name = SPECIAL_KINDS[study.kind].partition(":")
        write_text_atomically(report, getattr(importlib.import_module(module), name)(study, data, store.folder))
        return Done(report)
    work = _Work(jobs, data, {name: each.fingerprint() for name, each in data.items()}, store, options, watch, study.metric)
    try:
        if not options.report_only:
            work.do()
    finally:
        rows = work.rows()
        write_csv(store.folder / TABLE, [line for row in rows.values() for line in table_lines(row)])
        write_report(study, data, jobs, rows, store, command=command)
    n_failed = sum(row["status"] == "failed" for row in rows.values())
    return Done(report, len(jobs), n_failed, len(jobs) - len(rows))


@dataclass(frozen=True)
class _Work:
    """The jobs of a study and where their rows are."""

    jobs: list[Job]
    data: dict[str, Dataset]
    fingerprints: dict[str, str]
    store: Store
    options: Options
    watch: Watch | None
    metric: str  # by which trials are judged

    def rows(self) -> dict[str, dict]:
        """The rows that stand for the jobs as they are now, by key, in the order of the jobs."""
        by_key, rows, visited = {job.key: job for job in self.jobs}, dict[str, dict](), set[str]()

        def visit(job: Job) -> None:
            visited.add(job.key)
            for key in job.waits_for:  # are looked at first, wherever they stand
                if key not in visited:
                    visit(by_key[key])
            ready, _ = self._ready(job, rows)
            row = None if ready is None else self._row(ready)
            if row is not None:
                rows[job.key] = row

        for job in self.jobs:
            if job.key not in visited:
                visit(job)
        return {job.key: rows[job.key] for job in self.jobs if job.key in rows}

    def _row(self, ready: Job) -> dict | None:
        """The row that stands for a job with these settings."""
        row = self.store.read(ready.key)
        return row if row is not None and row["fingerprint"] == self._fingerprint(ready) else None

    def _fingerprint(self, ready: Job) -> str:
        return fingerprint(ready, self.fingerprints[ready.source.name])

    def _ready(self, job: Job, rows: dict[str, dict]) -> tuple[Job | None, str]:
        """The job with its settings in full, and why it cannot be done, if it cannot; None while it waits for others' rows.

        Of its trials only the best stays, whose searched settings it takes; and it takes the bytes of the job that it needs.
        """
        if any(key not in rows for key in job.waits_for):
            return None, ""
        share = job.run.bytes_share
        if job.trials:
            best = best_trial(job.trials, rows, self.metric)
            if best is None:
                reason = f"all trials of {job.run.name} failed, of which the best would give its settings"
                return dataclasses.replace(job, settings=job.settings | {"searched": None}), reason
            settings = best.settings | ({"seed": job.seed} if "seed" in best.settings else {})
            share = best.run.bytes_share
            job = dataclasses.replace(job, settings=settings, trials=(best,), searched=best.searched)
        if not job.needs:
            return job, ""
        size = next((outcome["size"].get("model") for outcome in rows[job.needs]["outcomes"] if not outcome["part"]), None)
        given = dataclasses.replace(job, settings=job.settings | {"bytes": None if size is None else round(share * size)})
        return given, f"{job.needs} failed, whose bytes this run takes" if size is None else ""

    def do(self) -> None:
        """Do what is not done, in rounds: jobs that wait for others come after them."""
        rows = self.rows()
        tried = {key for key, row in rows.items() if row["status"] == "done" or not self.options.retry_failed}
        waits_for = {job.key: job.waits_for for job in self.jobs}
        while unsure := {key for key in tried if not tried.issuperset(waits_for[key])}:  # what they wait for is done again
            tried -= unsure
        self._tell(tried, "")
        with ExitStack() as stack:
            call = None
            while todo := [job for job in self.jobs if job.key not in tried and tried.issuperset(job.waits_for)]:
                tasks = []
                for job in todo:
                    ready, reason = self._ready(job, rows)
                    row = self._row(ready) if job.waits_for else None
                    if row is not None and row["status"] == "done":
                        # What it waits for was done again, and has given it the same settings.
                        self._note(job, row, rows, tried)
                    elif reason:
                        self._keep(ready, _failed("Needs", reason, ready), [], rows, tried)
                    elif (row := self._trial_row(ready, rows)) is not None:
                        self.store.copy(row, job.key, job.run.name)
                        self._note(job, self.store.read(job.key), rows, tried)
                    else:
                        tasks.append((ready, self.data[job.source.name], self.options.threads_of_a_job))
                if tasks and call is None:
                    call = stack.enter_context(workers(self.options))
                # They are begun in this order, as many at a time as there are workers.
                waiting = [task[0].key for task in tasks]
                self._tell(tried, "", waiting)
                for ready, row, measured in call(_carry_out, tasks, _lost) if tasks else ():
                    waiting.remove(ready.key)
                    self._keep(ready, row, measured, rows, tried, waiting)

    def _trial_row(self, ready: Job, rows: dict[str, dict]) -> dict | None:
        """The row of the trial that was chosen, if it is that of the very training which the job would be."""
        chosen = [rows[trial.key] for trial in ready.trials]
        return next((row for row in chosen if row["fingerprint"] == self._fingerprint(ready)), None)

    def _keep(
        self, ready: Job, row: dict, measured: list[Measurement], rows: dict, tried: set, waiting: Waiting = ()
    ) -> None:
        about = {
            "job": ready.key,
            "data": ready.source.name,
            "protocol": ready.source.protocol,
            "run": ready.run.name,
            "method": ready.run.method,
            "preset": ready.run.preset,
            "seed": ready.seed,
            "searched": point_in_words(ready.searched),
            "fingerprint": self._fingerprint(ready),
            "data_fingerprint": self.fingerprints[ready.source.name],
        }
        self.store.write(ready.key, about | row, measured)
        self._note(ready, self.store.read(ready.key), rows, tried, waiting)

    def _note(self, job: Job, row: dict, rows: dict, tried: set, waiting: Waiting = ()) -> None:
        rows[job.key] = row
        tried.add(job.key)
        self._tell(tried, job.key, waiting)

    def _tell(self, tried: set, ended: str, waiting: Waiting = ()) -> None:
        if self.watch is not None:
            self.watch(len(tried), len(self.jobs), ended, list(waiting[: self.options.n_jobs]))


def _carry_out(ready: Job, data: Dataset, threads: int) -> tuple:
    """A job's result together with the job: results come in any order."""
    return ready, *carry_out(ready, data, threads)


def _lost(ready: Job, data: Dataset, threads: int, reason: str) -> tuple:
    """As :func:`_carry_out`, of a job whose process died."""
    return ready, _failed("WorkerDied", reason, ready), []


def _failed(kind: str, message: str, ready: Job) -> dict:
    error = {"type": kind, "message": message, "traceback": ""}
    return {"status": "failed", "error": error, "settings": ready.settings, "versions": {}, "seconds": 0.0, "peak_memory": None}
