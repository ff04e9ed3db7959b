"""Doing many independent pieces of work at once: in processes of this machine, or on a Dask cluster, both through joblib."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..errors import SettingsError
from ..schema import LIMITS, Parameter
from ..threads import available_cores

BACKENDS = ("loky", "dask")


@dataclass(frozen=True)
class Options:
    """How a study is carried out; none of it changes what is measured."""

    jobs: int = 0  # at a time; 0: as many as there are cores, or workers of a scheduler
    backend: str = "loky"  # processes of this machine, or "dask"
    scheduler: str | None = None  # address of a Dask scheduler; without one, a cluster of `jobs` processes is made here
    retry_failed: bool = False
    report_only: bool = False  # do no job; write the report of what is there

    def __post_init__(self):
        Parameter("--jobs", int, low=0, high=LIMITS["threads"]).checked(self.jobs)
        if self.backend not in BACKENDS:
            raise SettingsError(f"--backend must be one of {', '.join(BACKENDS)}, not {self.backend!r}")
        if self.scheduler is not None and self.backend != "dask":
            raise SettingsError(f"--scheduler {self.scheduler} needs --backend dask")

    @property
    def n_jobs(self) -> int:
        return self.jobs or available_cores()

    @property
    def threads_of_a_job(self) -> int:
        """Threads of each job: one, unless it has the machine to itself; then 0, the job's own choice."""
        return 0 if self.n_jobs == 1 and self.backend == "loky" else 1


@contextmanager
def workers(options: Options) -> Iterator[Callable[[Callable, Iterable[tuple]], Iterator]]:
    """A function that calls another one for each of many argument tuples and yields the results as they come, in any order.

    With one job everything happens in this process. SettingsError if Dask is asked for and not installed, or does not answer.
    """
    from joblib import Parallel, delayed, parallel_config

    with ExitStack() as stack:
        n_jobs = options.n_jobs
        if options.backend == "dask":
            n_jobs = stack.enter_context(_dask(options)) or n_jobs
            stack.enter_context(parallel_config(backend="dask", n_jobs=n_jobs))
        elif n_jobs > 1:
            stack.enter_context(parallel_config(backend="loky", n_jobs=n_jobs, inner_max_num_threads=1))

        def call(function: Callable, arguments: Iterable[tuple]) -> Iterator:
            if n_jobs == 1 and options.backend == "loky":
                yield from (function(*each) for each in arguments)
                return
            # Without memory maps: a worker may sort or cast the arrays it is given.
            parallel = Parallel(return_as="generator_unordered", batch_size=1, max_nbytes=None, pre_dispatch="2*n_jobs")
            results = parallel(delayed(function)(*each) for each in arguments)
            try:
                yield from results
            finally:
                results.close()

        yield call


@contextmanager
def _dask(options: Options) -> Iterator[int]:
    """A Dask client for joblib; yields how many jobs it can do at a time."""
    try:
        from distributed import Client, LocalCluster
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
        yield options.jobs or sum(client.nthreads().values())
