"""Carrying out a study in a folder: the jobs that are not done yet, then the tables and the report of all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..data import Dataset, load_dataset
from ..errors import SettingsError
from ..files import write_text_atomically
from .jobs import Job, fingerprint, jobs_of
from .kinds import function_of
from .memory import processor
from .methods import carry_out
from .parallel import Options, workers
from .report import write_report
from .store import REPORT, ROWS, STUDY, TABLE, Store, write_table
from .study import Source, Study


@dataclass(frozen=True)
class Done:
    """What became of a study.

    Attributes
    ----------
    report : Path
    n_jobs, n_failed, n_missing : int
        Of all jobs; those that failed; those that are still to be done.
    """

    report: Path
    n_jobs: int = 0
    n_failed: int = 0
    n_missing: int = 0


def load_sources(study: Study) -> dict[str, Dataset]:
    """The data sets of a study by name.

    Raises
    ------
    DataError
    """
    return {source.name: _load(source) for source in study.sources}


def _load(source: Source) -> Dataset:
    return load_dataset(source.source, protocol=source.protocol, **source.options)


def run_study(
    study: Study,
    folder,
    options: Options | None = None,
    *,
    command: str = "",
    watch: Callable[[int, int, str], None] | None = None,
) -> Done:
    """Carry out a study, or go on with one that was stopped.

    Parameters
    ----------
    study : Study
    folder : path-like
        Made if it is not there. Jobs whose results stand here, for the same data, settings and version, are not done again.
    options : Options, optional
    command : str
        Written into the report.
    watch : callable, optional
        Called with (jobs that have a row, all jobs, key of the job that has just ended or ""), once before the first.

    Returns
    -------
    Done

    Raises
    ------
    DataError, SettingsError, OSError
        KeyboardInterrupt is passed on, after tables and report of what is there have been written.
    """
    options = options or Options()
    store = Store(Path(folder))
    if options.report_only:
        _require_results(study, store)
    data = load_sources(study)
    if study.kind != "runs":
        store.prepare()
        write_text_atomically(store.folder / STUDY, study.text)
        write_text_atomically(store.folder / REPORT, function_of(study.kind)(study, data, store.folder, options))
        return Done(store.folder / REPORT)
    jobs = jobs_of(study)
    fingerprints = {name: each.fingerprint() for name, each in data.items()}
    store.prepare()
    write_text_atomically(store.folder / STUDY, study.text)
    work = _Work(jobs, data, fingerprints, store, options, watch)
    try:
        if not options.report_only:
            work.do()
    finally:
        rows = work.rows()
        write_table(store.folder / TABLE, [rows[job.key] for job in jobs if job.key in rows])
        write_report(study, data, jobs, rows, store, command=command)
    n_failed = sum(row["status"] == "failed" for row in rows.values())
    return Done(store.folder / REPORT, len(jobs), n_failed, len(jobs) - len(rows))


def _require_results(study: Study, store: Store) -> None:
    if study.kind != "runs":
        raise SettingsError(f"--report-only: a study of the kind {study.kind} keeps no rows that a report could be made from")
    if not (store.folder / ROWS).is_dir():
        raise SettingsError(f"--report-only: {store.folder} holds no results of a study; --out names their folder")


@dataclass(frozen=True)
class _Work:
    """The jobs of a study and where their rows are."""

    jobs: list[Job]
    data: dict[str, Dataset]
    fingerprints: dict[str, str]
    store: Store
    options: Options
    watch: Callable[[int, int, str], None] | None

    def rows(self) -> dict[str, dict]:
        """The rows that stand for the jobs as they are now, by key, in the order of the jobs."""
        rows: dict[str, dict] = {}
        # A job that needs another one is looked at after it, wherever it stands.
        for job in sorted(self.jobs, key=lambda job: _depth(job, self.jobs)):
            settings = self._settings(job, rows)
            if settings is None:
                continue
            row = self._row(job, settings)
            if row is not None:
                rows[job.key] = row
        return {job.key: rows[job.key] for job in self.jobs if job.key in rows}

    def _row(self, job: Job, settings: dict) -> dict | None:
        """The row that stands for a job with these settings."""
        row = self.store.read(job.key)
        same = row is not None and row["fingerprint"] == fingerprint(job, self.fingerprints[job.source.name], settings)
        return row if same else None

    def _settings(self, job: Job, rows: dict[str, dict]) -> dict | None:
        """The settings with the bytes of the job that it needs; None while that one has no row."""
        if not job.needs:
            return job.settings
        given = rows.get(job.needs)
        if given is None:
            return None
        size = next((o["size"].get("model") for o in given["outcomes"] if not o["part"]), None)
        return job.settings | {"bytes": size}

    def do(self) -> None:
        """Do what is not done, in rounds: jobs that need others' bytes come after them."""
        rows = self.rows()
        tried = {key for key, row in rows.items() if row["status"] == "done" or not self.options.retry_failed}
        if self.watch is not None:
            self.watch(len(tried), len(self.jobs), "")
        with ExitStack() as stack:
            call = None
            while True:
                todo = [job for job in self.jobs if job.key not in tried and (not job.needs or job.needs in tried)]
                if not todo:
                    return
                tasks = []
                for job in todo:
                    settings = self._settings(job, rows)
                    row = self._row(job, settings) if job.needs else None
                    if row is not None and row["status"] == "done":
                        # The job whose bytes it takes was done again, and they are the same.
                        self._note(job, row, rows, tried)
                    elif job.needs and settings["bytes"] is None:
                        self._keep(job, settings, _without_its_need(job, settings), [], rows, tried)
                    else:
                        tasks.append((job, self.data[job.source.name], settings, self.options.threads_of_a_job))
                if tasks and call is None:
                    call = stack.enter_context(workers(self.options))
                for job, settings, row, outcomes in call(_one, tasks) if tasks else ():
                    self._keep(job, settings, row, outcomes, rows, tried)

    def _keep(self, job: Job, settings: dict, row: dict, outcomes, rows: dict, tried: set) -> None:
        about = {
            "job": job.key,
            "data": job.source.name,
            "protocol": job.source.protocol,
            "run": job.run.name,
            "method": job.run.method,
            "preset": job.run.preset,
            "seed": job.seed,
            "fingerprint": fingerprint(job, self.fingerprints[job.source.name], settings),
            "data_fingerprint": self.fingerprints[job.source.name],
        }
        self.store.write(job.key, about | row, outcomes)
        self._note(job, self.store.read(job.key), rows, tried)

    def _note(self, job: Job, row: dict, rows: dict, tried: set) -> None:
        rows[job.key] = row
        tried.add(job.key)
        if self.watch is not None:
            self.watch(len(tried), len(self.jobs), job.key)


def _one(job: Job, data: Dataset, settings: dict, threads: int):
    """A job with its name tag: results come in any order."""
    row, outcomes = carry_out(job, data, settings, threads)
    return job, settings, row | {"processor": processor()}, outcomes


def _depth(job: Job, jobs: list[Job]) -> int:
    by_key, depth = {each.key: each for each in jobs}, 0
    while job.needs:
        job, depth = by_key[job.needs], depth + 1
    return depth


def _without_its_need(job: Job, settings: dict) -> dict:
    message = f"{job.needs} failed, whose bytes this run takes"
    error = {"type": "Needs", "message": message, "traceback": ""}
    return {"status": "failed", "error": error, "settings": settings, "versions": {}, "seconds": 0.0, "peak_memory": None}
