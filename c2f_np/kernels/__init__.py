"""Compiled loops. Nothing here decides anything: `c2f_np.model` says what is computed, these say it fast.

Rules: a parallel loop gathers, so that each thread owns the rows it writes and the result has the same bits at any thread
count; no fastmath; results equal the NumPy text in `c2f_np/model` up to rounding, which the tests check.
"""


import os

# Between parallel loops GNU OpenMP lets idle threads spin. On a machine that is also doing something else they then take the core
# from the thread that has work: an epoch of 0.1 s was seen to take 3 s. Waiting passively lets it go.
# This must be set before the first parallel loop runs. An OMP_WAIT_POLICY that is already set is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .assignment import largest_columns  # noqa: E402
from .bpr import bpr_backward, bpr_loss, squared_norm_penalty, squared_norm_penalty_backward  # noqa: E402
from .composition import compose, compose_above, compose_backward  # noqa: E402
from .elementwise import adam_update, tanh_backward  # noqa: E402
from .graph import expanded_graph  # noqa: E402
from .row_products import propagate_collapsed, propagate_collapsed_backward  # noqa: E402
from .sampling import draw_triples  # noqa: E402
from .sparse_product import BridgedLayer, operator, propagate, propagate_backward, symmetric_operator  # noqa: E402
from .triples import sort_slots, take_by_user  # noqa: E402

__all__ = [
    "BridgedLayer", "adam_update", "bpr_backward", "bpr_loss", "compose", "compose_above", "compose_backward", "draw_triples",
    "expanded_graph", "largest_columns", "operator", "propagate", "propagate_backward", "propagate_collapsed",
    "propagate_collapsed_backward", "sort_slots", "squared_norm_penalty", "squared_norm_penalty_backward",
    "symmetric_operator", "take_by_user", "tanh_backward",
]  # fmt: skip
