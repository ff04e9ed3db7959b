"""The most memory that a process held while it did something."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Begin anew where the system can (Linux); elsewhere the peak is that of the whole life of the process."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        pass


def peak_in_bytes() -> int | None:
    """The peak resident memory since :func:`forget_peak`, or None where it is not known."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
