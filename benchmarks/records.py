"""The form of a result, and how two results are compared."""

from __future__ import annotations

import numpy as np

from .timing import ratios_to

# The order of columns in the table. Torch's csr product with autograd transposes the matrix in every backward pass;
# "torch_csr_transpose" is what an experienced user would write instead: a transpose made once and a backward of his own.
COMPETITORS = {
    "ours": "ours",
    "ours_contracted": "ours, with FMA",
    "ours_numpy": "ours, NumPy engine",
    "scipy": "NumPy/SciPy",
    "scikit_learn": "scikit-learn",
    "torch_csr": "torch CSR",
    "torch_csr_transpose": "torch CSR, stored transpose",
    "torch_coo": "torch COO",
    "torch_dense": "torch",
}
TORCH_KINDS = {"torch_csr": "csr", "torch_csr_transpose": "csr_transpose", "torch_coo": "coo"}


def timing_record(part: str, case: str, size: str, summaries: dict[str, dict], expected=(), **more) -> dict:
    """A comparison as it stands in the result file.

    Parameters
    ----------
    part, case, size : str
    summaries : dict of str to dict
        From :func:`benchmarks.timing.interleave`, in seconds.
    expected : sequence of str
        Competitors that belong here; those that are missing are noted as not installed.
    **more
        Further entries: verification, roofline, notes.

    Returns
    -------
    dict
    """
    times = dict(summaries)
    for name in expected:
        times.setdefault(name, {"error": "not installed"})
    return {"kind": "timing", "part": part, "case": case, "size": size, "seconds": times,
            "ratio_to_ours": ratios_to("ours", summaries), **more}  # fmt: skip


def relative_difference(a, b) -> float:
    """|a - b| / |b|, Euclidean, in float64."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    size = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (size if size > 0 else 1.0)
