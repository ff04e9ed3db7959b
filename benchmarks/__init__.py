"""Benchmarks of c2f_np against SciPy and, where it is installed, PyTorch: ``python -m benchmarks`` (docs/performance.md)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
