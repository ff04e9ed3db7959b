"""Carrying out a study in a folder: the jobs that are not done yet, then the tables and the report of all."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..data import Dataset, load_dataset
from ..errors import SettingsError
from ..files import write_text_atomically
from ..folders import folder_named, locked
from .jobs import Job, fingerprint, jobs_of
from .methods import carry_out
from .parallel import Options, workers
from .store import REPORT, ROWS, TABLE, Measurement, Store, table_lines, write_csv
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
    work = _Work(jobs, data, {name: each.fingerprint() for name, each in data.items()}, store, options, watch)
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

    def rows(self) -> dict[str, dict]:
        """The rows that stand for the jobs as they are now, by key, in the order of the jobs."""
        by_key, rows = {job.key: job for job in self.jobs}, {}

        def visit(job: Job) -> None:
            if job.needs and job.needs not in rows:  # is looked at first, wherever it stands
                visit(by_key[job.needs])
            settings = self._settings(job, rows)
            row = None if settings is None else self._row(job, settings)
            if row is not None:
                rows[job.key] = row

        for job in self.jobs:
            visit(job)
        return {job.key: rows[job.key] for job in self.jobs if job.key in rows}

    def _row(self, job: Job, settings: dict) -> dict | None:
        """The row that stands for a job with these settings."""
        row = self.store.read(job.key)
        return row if row is not None and row["fingerprint"] == self._fingerprint(job, settings) else None

    def _fingerprint(self, job: Job, settings: dict) -> str:
        return fingerprint(job, self.fingerprints[job.source.name], settings)

    def _settings(self, job: Job, rows: dict[str, dict]) -> dict | None:
        """The settings with the bytes of the job that it needs; None while that one has no row."""
        if not job.needs:
            return job.settings
        given = rows.get(job.needs)
        if given is None:
            return None
        size = next((outcome["size"].get("model") for outcome in given["outcomes"] if not outcome["part"]), None)
        return job.settings | {"bytes": None if size is None else round(job.run.bytes_share * size)}

    def do(self) -> None:
        """Do what is not done, in rounds: jobs that need others' bytes come after them."""
        rows = self.rows()
        tried = {key for key, row in rows.items() if row["status"] == "done" or not self.options.retry_failed}
        self._tell(tried, "")
        with ExitStack() as stack:
            call = None
            while todo := [job for job in self.jobs if job.key not in tried and (not job.needs or job.needs in tried)]:
                tasks = []
                for job in todo:
                    settings = self._settings(job, rows)
                    row = self._row(job, settings) if job.needs else None
                    if row is not None and row["status"] == "done":
                        # The job whose bytes it takes was done again, and they are the same.
                        self._note(job, row, rows, tried)
                    elif job.needs and settings["bytes"] is None:
                        reason = f"{job.needs} failed, whose bytes this run takes"
                        self._keep(job, settings, _failed("Needs", reason, settings), [], rows, tried)
                    else:
                        tasks.append((job, self.data[job.source.name], settings, self.options.threads_of_a_job))
                if tasks and call is None:
                    call = stack.enter_context(workers(self.options))
                # They are begun in this order, as many at a time as there are workers.
                waiting = [task[0].key for task in tasks]
                self._tell(tried, "", waiting)
                for job, settings, row, measured in call(_carry_out, tasks, _lost) if tasks else ():
                    waiting.remove(job.key)
                    self._keep(job, settings, row, measured, rows, tried, waiting)

    def _keep(
        self, job: Job, settings: dict, row: dict, measured: list[Measurement], rows: dict, tried: set, waiting: Waiting = ()
    ) -> None:
        about = {
            "job": job.key,
            "data": job.source.name,
            "protocol": job.source.protocol,
            "run": job.run.name,
            "method": job.run.method,
            "preset": job.run.preset,
            "seed": job.seed,
            "fingerprint": self._fingerprint(job, settings),
            "data_fingerprint": self.fingerprints[job.source.name],
        }
        self.store.write(job.key, about | row, measured)
        self._note(job, self.store.read(job.key), rows, tried, waiting)

    def _note(self, job: Job, row: dict, rows: dict, tried: set, waiting: Waiting = ()) -> None:
        rows[job.key] = row
        tried.add(job.key)
        self._tell(tried, job.key, waiting)

    def _tell(self, tried: set, ended: str, waiting: Waiting = ()) -> None:
        if self.watch is not None:
            self.watch(len(tried), len(self.jobs), ended, list(waiting[: self.options.n_jobs]))


def _carry_out(job: Job, data: Dataset, settings: dict, threads: int) -> tuple:
    """A job's result together with the job: results come in any order."""
    return job, settings, *carry_out(job, data, settings, threads)


def _lost(job: Job, data: Dataset, settings: dict, threads: int, reason: str) -> tuple:
    """As :func:`_carry_out`, of a job whose process died."""
    return job, settings, _failed("WorkerDied", reason, settings), []


def _failed(kind: str, message: str, settings: dict) -> dict:
    error = {"type": kind, "message": message, "traceback": ""}
    return {"status": "failed", "error": error, "settings": settings, "versions": {}, "seconds": 0.0, "peak_memory": None}
