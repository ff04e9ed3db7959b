"""The machine and the libraries a run was made with: enough to judge the numbers, nothing that names anybody or any place."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from c2f_np.machine import processor
from c2f_np.threads import available_cores

from . import ROOT

LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "scikit-learn", "threadpoolctl", "torch")


def describe(threads: int) -> dict:
    """CPU, caches, memory, versions, date, and how busy the machine was at the start."""
    import c2f_np

    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": processor(),
        "cores_usable": available_cores(),
        "caches": caches(),
        "memory_bytes": memory_bytes(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "c2f_np": c2f_np.__version__,
        "commit": commit(),
        "versions": {name: version(name) for name in LIBRARIES},
        "blas": blas(),
        # Above about half a core the numbers are those of a shared machine.
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def caches() -> dict[str, str]:
    """Sizes of the first core's caches by level, where Linux tells them."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def last_cache_bytes() -> int:
    """Size of the last cache level, or 32 MiB where it is not known."""
    sizes = [int(size[:-1]) * {"K": 2**10, "M": 2**20}[size[-1]] for size in caches().values() if size[-1:] in "KM"]
    return max(sizes, default=32 * 2**20)


def memory_bytes() -> int | None:
    """Physical memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def blas() -> list[str]:
    """The linear algebra libraries that NumPy and SciPy have loaded."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    found = {(lib["internal_api"], lib["version"]) for lib in threadpool_info() if lib["user_api"] == "blas"}
    return sorted(" ".join(filter(None, names)) for names in found)


def version(name: str) -> str | None:
    """Installed version of a library, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit the code stands at, with a plus sign if files of the package differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "c2f_np", "benchmarks") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
