"""One training step, the same for everything that is trained: forward, loss, backward, clipping, Adam.

A *stage* says what is trained and how: :class:`~c2f_np.model.coarse.CoarseStage`, :class:`~c2f_np.model.fine.FineStage`,
:class:`~c2f_np.model.joint.JointStage`, and :class:`c2f_np.baselines.table_stage.TableStage` of the trained baselines. Each has

    trained                 names of what the optimiser moves
    graph(state, A)         what is propagated over, with the engine that computes
    forward(state, graph, batch=None)                       embeddings of all entities, or of a batch's
    gradients(forward, slope, state, graph, triples, l2=, decay=)
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..model.adam import AdamMoments, adam_step
from ..model.joint import JointGraph, relinked
from ..model.loss import batch_loss
from ..model.triples import Triples


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step leaves behind: the moved state, the losses (BPR, regulariser) before it, and all gradients."""

    state: object
    moments: AdamMoments
    graph: object
    losses: np.ndarray
    gradients: dict[str, np.ndarray]


def train_step(
    stage, state, moments: AdamMoments, graph, triples: Triples,
    *, l2: float, decay: float, clip: float, learning_rate: float, update_assignment: bool = False,
) -> Step:  # fmt: skip
    """Move what the stage trains by one batch.

    With `update_assignment` the assignment is replaced in closed form between the forward pass and the step; the gradient still
    belongs to the graph of the forward pass. The graph is then None: it must be built anew.
    """
    # An assignment update looks at all nodes, a step only at those of its batch.
    forward = stage.forward(state, graph, batch=None if update_assignment else triples)
    loss, slope = batch_loss(forward, state.bias, state.bias_global, triples, l2=l2, decay=decay, engine=stage.engine)
    gradients = stage.gradients(forward, slope, state, graph, triples, l2=l2, decay=decay)
    parameters, moments = adam_step(
        state.parameters(stage.trained), gradients, moments,
        learning_rate=learning_rate, clip=clip, update=stage.engine.adam_update,
    )  # fmt: skip
    moved = state.moved(parameters)
    if update_assignment:
        moved, graph = dataclasses.replace(moved, **stage.updated(forward, state)), None
    elif isinstance(graph, JointGraph) and "S_coarse" in stage.trained:
        graph = relinked(graph, moved)
    return Step(moved, moments, graph, np.array([loss.bpr, loss.regulariser], dtype=np.float64), gradients)
