"""What the system tells about this machine and this process: versions, the processor's name and the peak memory."""

from __future__ import annotations

import platform
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ._version import __version__

_PROCESSORS = Path("/proc/cpuinfo")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def processor() -> str:
    """The processor's name, as far as the system tells; results may differ in the last bits from one kind to another."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _PROCESSORS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def peak_memory() -> int | None:
    """The most memory that this process has held, in bytes, since :func:`forget_peak_memory`; None where it is unknown."""
    if (mark := _status("VmHWM")) is not None:
        return mark
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory() -> int | None:
    """The memory that this process holds, in bytes; None where the system does not tell."""
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A mark of this process in bytes, from Linux's /proc."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError):
        return None


def forget_peak_memory() -> bool:
    """Reset the peak where the system can (Linux); elsewhere (False) it is that of the whole life of the process."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def versions() -> dict[str, str]:
    """Versions of the package and of what its numbers depend on; Numba's only where it is installed."""
    found = {"c2f_np": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "numba"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
