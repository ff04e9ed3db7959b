"""What a run of the benchmarks has been asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from c2f_np.threads import working_threads


@dataclass(frozen=True)
class Plan:
    """Options of a run, and torch if it is there.

    Attributes
    ----------
    threads : int
        Of every competitor.
    rounds : int
        Most rounds of a comparison.
    seconds : float
        Time for the rounds of a comparison.
    quick : bool
        Small curves and few rounds: to see that everything runs, not to measure.
    long : bool
        Whole epochs are measured even where some of their steps would do.
    torch : module or None
    data, like : str or None
        A real data set, and the size whose hyper-parameters it is given.
    """

    threads: int
    rounds: int
    seconds: float
    quick: bool = False
    long: bool = False
    torch: object = None
    data: str | None = None
    like: str | None = None

    @property
    def measuring(self) -> dict:
        """What :func:`benchmarks.timing.interleave` wants to know."""
        return {"rounds": self.rounds, "seconds": self.seconds}

    def ours(self, engine: str = "numba"):
        """Threads as in training: compiled loops on all, BLAS on one."""
        return working_threads(self.threads, engine)

    def plain(self):
        """Threads of a plain NumPy competitor: BLAS may use as many as our loops do."""
        return threadpool_limits(self.threads, user_api="blas")


def import_torch(threads: int):
    """torch, set to `threads` threads, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    import warnings

    # Said once for every csr tensor otherwise.
    warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)", category=UserWarning)
    torch.set_num_threads(threads)
    return torch
