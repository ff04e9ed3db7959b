"""The exercises on propagation accept what is right, however it is written, and say what is wrong with the rest."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.course.sparse_propagation import EXERCISES

TASKS = {task.name: task for task in EXERCISES}


def _dense_product(grad_Y, M, X):
    return np.einsum("if,ij->jf", grad_Y, M.toarray())


def _weights_entry_by_entry(grad_Y, M, X):
    coo = M.tocoo()
    values = [grad_Y[i] @ X[j] for i, j in zip(coo.row, coo.col, strict=True)]
    return sparse.csr_array((values, (coo.row, coo.col)), shape=M.shape)


def _polynomial(M, coefficients):
    M = M.toarray()
    return sum(c * np.linalg.matrix_power(M, k) for k, c in enumerate(coefficients))


def _transposed_polynomial(grad_H, X0, X_hat, n_layers):
    return _polynomial(X_hat, [1 / (n_layers + 1)] * (n_layers + 1)).T @ grad_H


def _selection_matrix(grad_H_rows, X0, X_hat, n_layers, rows):
    selection = np.eye(len(X0))[rows]
    return _transposed_polynomial(selection.T @ grad_H_rows, X0, X_hat, n_layers)


def _powers(grad_H, X0, X_hat, alpha):
    powers = [_polynomial(X_hat, [0] * k + [1]) for k in range(len(alpha))]
    return _polynomial(X_hat, alpha).T @ grad_H, np.array([np.sum(grad_H * (power @ X0)) for power in powers])


WRITTEN_DIFFERENTLY = {
    "sparse_product_backward": _dense_product,
    "sparse_product_backward_weights": _weights_entry_by_entry,
    "propagate_backward": _transposed_polynomial,
    "propagate_rows_backward": _selection_matrix,
    "weighted_layers_backward": _powers,
}


@pytest.mark.parametrize("name", TASKS)
def test_a_right_answer_written_differently_is_accepted(name):
    marked = TASKS[name].mark(WRITTEN_DIFFERENTLY[name])
    assert marked, marked.message
