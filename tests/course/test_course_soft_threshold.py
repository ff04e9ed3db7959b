"""The exercises on soft thresholding accept what is right, however it is written, and say what is wrong with the rest."""

from __future__ import annotations

import numpy as np
import pytest

from c2f_np.course.soft_threshold import EXERCISES

TASKS = {task.name: task for task in EXERCISES}


def _product_with_a_mask(grad_F, E, tau):
    return grad_F * ((E > tau) | (E < -tau))


def _entry_by_entry(grad_F, E, tau):
    total = 0.0
    for g, e in zip(grad_F.ravel(), E.ravel(), strict=True):
        total += -g if e > tau else g if e < -tau else 0.0
    return total


def _column_by_column(grad_F, E, tau):
    columns = range(E.shape[1])
    masked = np.stack([_product_with_a_mask(grad_F[:, f], E[:, f], tau[f]) for f in columns], axis=1)
    return masked, np.array([_entry_by_entry(grad_F[:, f], E[:, f], tau[f]) for f in columns])


def _elastic_by_cases(e, tau, rho):
    return np.where(e > tau, (e - tau) / (1 + rho), np.where(e < -tau, (e + tau) / (1 + rho), 0.0))


WRITTEN_DIFFERENTLY = {
    "soft_threshold_backward": _product_with_a_mask,
    "soft_threshold_backward_tau": _entry_by_entry,
    "soft_threshold_columns_backward": _column_by_column,
    "elastic_net_prox": _elastic_by_cases,
}


@pytest.mark.parametrize("name", TASKS)
def test_a_right_answer_written_differently_is_accepted(name):
    marked = TASKS[name].mark(WRITTEN_DIFFERENTLY[name])
    assert marked, marked.message
