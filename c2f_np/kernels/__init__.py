"""Compiled loops. Nothing here decides anything: `c2f_np.model` says what is computed, these say it fast.

Two modules make a training step: `propagation` has everything that is a sparse product (the texts `propagation`, `sparse` and
`codebook`), `step` the rest (`sampling`, `loss` and `step`). The others have the name of the text that they stand for (`ranking`:
of `c2f_np.evaluation.ranking`).
`compiled` and `buffers` are what the loops are made with.

Rules: a parallel loop gathers, so that each thread owns the rows it writes and the result has the same bits at any thread
count; no fastmath; results equal the NumPy text in `c2f_np/model` up to rounding, which the tests check.
"""

from .graph import expanded_graph
from .links import largest_columns
from .propagation import (
    BridgedLayer,
    compose,
    compose_above,
    compose_backward,
    operator,
    propagate,
    propagate_backward,
    propagate_collapsed,
    propagate_collapsed_backward,
    symmetric_operator,
    tanh_backward,
)
from .step import (
    adam_update,
    bpr_backward,
    bpr_loss,
    draw_triples,
    sort_slots,
    squared_norm_penalty,
    squared_norm_penalty_backward,
    take_by_user,
)

__all__ = [
    "BridgedLayer", "adam_update", "bpr_backward", "bpr_loss", "compose", "compose_above", "compose_backward", "draw_triples",
    "expanded_graph", "largest_columns", "operator", "propagate", "propagate_backward", "propagate_collapsed",
    "propagate_collapsed_backward", "sort_slots", "squared_norm_penalty", "squared_norm_penalty_backward",
    "symmetric_operator", "take_by_user", "tanh_backward",
]  # fmt: skip
