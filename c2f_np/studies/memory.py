"""What a job ran on and took: the processor's name, and the most memory that the process held."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

_PROCESSORS = Path("/proc/cpuinfo")
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


def processor() -> str:
    """The processor's name, as far as the system tells. Results may differ in the last bits from one kind to another."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _PROCESSORS.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()
