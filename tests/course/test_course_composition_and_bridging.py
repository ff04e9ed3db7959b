"""The exercises on composition and bridges accept what is right, however it is written, and say what is wrong with the rest."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.course.composition_and_bridging import EXERCISES

TASKS = {task.name: task for task in EXERCISES}


def _slope_from_cosh(grad_Z, S, E):
    return np.einsum("ij,if->jf", S.toarray(), grad_Z / np.cosh(S @ E) ** 2)


def _entry_by_entry(G, S, E, factor=1.0):
    coo = S.tocoo()
    values = [factor * (G[i] @ E[j]) for i, j in zip(coo.row, coo.col, strict=True)]
    return sparse.csr_array((values, (coo.row, coo.col)), shape=S.shape)


def _stacked(grad_X0, S, E):
    slopes = np.concatenate([1 - np.tanh(S @ E) ** 2, np.ones_like(E)])
    return np.concatenate([S.toarray(), np.eye(len(E))]).T @ (grad_X0 * slopes)


def _bridge_by_columns(grad_E_hat, E_coarse, S_fine, F, gate):
    return grad_E_hat - gate * grad_E_hat, (gate * S_fine.toarray()).T @ grad_E_hat


def _columns_of(layer, X_hat, S_coarse, S_fine, gate):
    """The matrix of a linear layer: what it makes of each unit vector."""
    return layer(np.eye(X_hat.shape[0]), X_hat, S_coarse, S_fine, gate)


def _transposed(layer):
    def backward(grad_next, X, X_hat, S_coarse, S_fine, gate):
        return _columns_of(layer, X_hat, S_coarse, S_fine, gate).T @ grad_next

    return backward


WRITTEN_DIFFERENTLY = {
    "compose_backward": _slope_from_cosh,
    "compose_backward_assignment": lambda g, S, E: _entry_by_entry(g / np.cosh(S @ E) ** 2, S, E),
    "compose_above_backward": _stacked,
    "bridge_backward": _bridge_by_columns,
    "bridge_backward_gate": lambda g, E_c, S_f, F, gate: np.vdot(g, S_f @ F) - np.vdot(g, E_c),
    "bridge_backward_assignment": lambda g, E_c, S_f, F, gate: _entry_by_entry(g, S_f, F, gate),
    "bridged_layer_backward": _transposed(TASKS["bridged_layer_backward"].forward),
    "bridged_layer_exchange_backward": _transposed(TASKS["bridged_layer_exchange_backward"].forward),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_right_answer_written_differently_is_accepted(name):
    marked = TASKS[name].mark(WRITTEN_DIFFERENTLY[name])
    assert marked, marked.message
