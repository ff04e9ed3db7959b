"""The NumPy engine: the operations that also exist compiled, under the same names, in :mod:`c2f_np.kernels`."""

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
    propagate,
    propagate_backward,
    propagate_collapsed,
    propagate_collapsed_backward,
)
from .sampling import draw_triples
from .sparse import operator, symmetric_operator
from .step import adam_update

__all__ = [
    "BridgedLayer", "adam_update", "bpr_backward", "bpr_loss", "compose", "compose_above", "compose_backward", "draw_triples",
    "expanded_graph", "largest_columns", "operator", "propagate", "propagate_backward", "propagate_collapsed",
    "propagate_collapsed_backward", "sort_slots", "squared_norm_penalty", "squared_norm_penalty_backward",
    "symmetric_operator", "take_by_user", "tanh_backward",
]  # fmt: skip
