"""Compiled loops. Nothing here decides anything: `c2f_np.model` says what is computed, these say it fast.

A module has the name of the text that it stands for (`ranking`: of `c2f_np.evaluation.ranking`; `propagation`: of `sparse` too).
`compiled` and `buffers` are what the loops are made with.

Rules: a parallel loop gathers, so that each thread owns the rows it writes and the result has the same bits at any thread
count; no fastmath; results equal the NumPy text in `c2f_np/model` up to rounding, which the tests check.
"""


import os

# Between parallel loops GNU OpenMP lets idle threads spin. On a machine that is also doing something else they then take the core
# from the thread that has work: an epoch of 0.1 s was seen to take 3 s. Waiting passively lets it go.
# This must be set before the first parallel loop runs. An OMP_WAIT_POLICY that is already set is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .codebook import compose, compose_above, compose_backward, tanh_backward  # noqa: E402
from .graph import expanded_graph  # noqa: E402
from .links import largest_columns  # noqa: E402
from .loss import (  # noqa: E402
    bpr_backward,
    bpr_loss,
    sort_slots,
    squared_norm_penalty,
    squared_norm_penalty_backward,
    take_by_user,
)  # fmt: skip
from .propagation import (  # noqa: E402
    BridgedLayer,
    operator,
    propagate,
    propagate_backward,
    propagate_collapsed,
    propagate_collapsed_backward,
    symmetric_operator,
)  # fmt: skip
from .sampling import draw_triples  # noqa: E402
from .step import adam_update  # noqa: E402

__all__ = [
    "BridgedLayer", "adam_update", "bpr_backward", "bpr_loss", "compose", "compose_above", "compose_backward", "draw_triples",
    "expanded_graph", "largest_columns", "operator", "propagate", "propagate_backward", "propagate_collapsed",
    "propagate_collapsed_backward", "sort_slots", "squared_norm_penalty", "squared_norm_penalty_backward",
    "symmetric_operator", "take_by_user", "tanh_backward",
]  # fmt: skip
