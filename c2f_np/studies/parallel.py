"""Doing many independent pieces of work at once: in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice

from ..errors import SettingsError, in_short
from ..processes import WorkerDied, Workers
from ..schema import LIMITS, Parameter
from ..threads import ONE_THREAD, available_cores

BACKENDS = ("processes", "dask")



@dataclass(frozen=True)
class Options:
    """How a study is carried out; none of it changes what is measured."""

    jobs: int = 0  # at a time; 0: as many as there are cores, or workers of a scheduler
    backend: str = "processes"  # processes of this machine, or "dask"
    scheduler: str | None = None  # address of a Dask scheduler; without one, a cluster of `jobs` processes is made here
    retry_failed: bool = False
    report_only: bool = False  # do no job; write the report of what is there

    def __post_init__(self):
        Parameter("--jobs", int, low=0, high=LIMITS["threads"]).checked(self.jobs)
        if self.backend not in BACKENDS:
            raise SettingsError(f"--backend must be one of {', '.join(BACKENDS)}, not {in_short(self.backend)}")
        if self.scheduler is not None and self.backend != "dask":
            raise SettingsError(f"--scheduler {self.scheduler} needs --backend dask")

    @property
    def n_jobs(self) -> int:
        return self.jobs or available_cores()

    @property
    def threads_of_a_job(self) -> int:
        """Threads of each job: one, unless it has the machine to itself; then 0, the job's own choice."""
        return 0 if self.n_jobs == 1 and self.backend == "processes" else 1


@contextmanager
def workers(options: Options) -> Iterator[Callable]:
    """``call(function, tasks, lost)``, which calls a function with each of many argument tuples and yields results as they come.

    If a process dies over a task, its result is ``lost(*task, reason)``. With one job everything happens in this process.
    SettingsError if Dask is asked for and not installed, or does not answer.
    """
    with ExitStack() as stack:
        submit, count, died = None, options.n_jobs, WorkerDied
        if options.backend == "dask":
            submit, count, died = stack.enter_context(_dask(options))
        elif count > 1:
            submit = stack.enter_context(Workers(count, ONE_THREAD)).submit

        def call(function: Callable, tasks: Iterable[tuple], lost: Callable) -> Iterator:
            if submit is None:
                yield from (function(*task) for task in tasks)
                return
            waiting, running = iter(tasks), {}
            while True:
                running |= {submit(function, *task): task for task in islice(waiting, count - len(running))}
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    try:
                        yield future.result()
                    except died as error:
                        yield lost(*task, str(error))

        yield call


@contextmanager
def _dask(options: Options) -> Iterator[tuple]:
    """A Dask cluster: how to submit work, how much it can do at a time, and what is raised where a process died."""
    try:
        from distributed import Client, KilledWorker, LocalCluster
    except ImportError as error:
        raise SettingsError('--backend dask needs Dask: python -m pip install "c2f_np[dask]"') from error
    with ExitStack() as stack:
        address = options.scheduler
        if address is None:
            cluster = LocalCluster(n_workers=options.n_jobs, threads_per_worker=1, processes=True, dashboard_address=None)
            address = stack.enter_context(cluster)
        try:
            client = stack.enter_context(Client(address, timeout="20s"))
        except (OSError, ValueError, TimeoutError) as error:
            raise SettingsError(f"the Dask scheduler {address} does not answer ({error})") from error
        count = options.jobs or sum(client.nthreads().values())
        yield client.get_executor(pure=False).submit, max(count, 1), KilledWorker
