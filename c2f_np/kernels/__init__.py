"""Compiled loops. Nothing here decides anything: `c2f_np.model` says what is computed, these say it fast.

A module has the name of the text that it stands for (`ranking`: of `c2f_np.evaluation.ranking`; `propagation`: of `sparse` too).
`compiled` and `buffers` are what the loops are made with.

Rules: a parallel loop gathers, so that each thread owns the rows it writes and the result has the same bits at any thread
count; no fastmath; results equal the NumPy text in `c2f_np/model` up to rounding, which the tests check.
"""

from .codebook import compose, compose_above, compose_backward, tanh_backward
from .graph import expanded_graph
from .links import largest_columns
from .loss import (
    bpr_backward,
    bpr_loss,
    sort_slots,
    squared_norm_penalty,
    squared_norm_penalty_backward,
    take_by_user,
)
from .propagation import (
    BridgedLayer,
    operator,
    propagate,
    propagate_backward,
    propagate_collapsed,
    propagate_collapsed_backward,
    symmetric_operator,
)
from .sampling import draw_triples
from .step import adam_update

__all__ = [
    "BridgedLayer", "adam_update", "bpr_backward", "bpr_loss", "compose", "compose_above", "compose_backward", "draw_triples",
    "expanded_graph", "largest_columns", "operator", "propagate", "propagate_backward", "propagate_collapsed",
    "propagate_collapsed_backward", "sort_slots", "squared_norm_penalty", "squared_norm_penalty_backward",
    "symmetric_operator", "take_by_user", "tanh_backward",
]  # fmt: skip
