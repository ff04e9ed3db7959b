"""Exercises that are marked by more than their numbers: curves that must not overflow, draws that must be even and end."""

import numpy as np
import pytest
from written_differently import typed

from c2f_np.course import exercise
from c2f_np.course.loss_and_optimiser import sample_triples, softplus


def said(name, attempt):
    marked = exercise(name).mark(attempt)
    assert not marked
    return marked.message


@pytest.mark.parametrize("name", ["softplus", "sigmoid"])
def test_overflow_on_the_way_is_told_although_the_result_may_be_right(name):
    noisy = {
        "softplus": lambda x: np.where(x > 0, x + np.log1p(np.exp(-x)), np.log1p(np.exp(x))),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    }
    assert "overflow encountered" in said(name, noisy[name])


def test_a_softplus_that_loses_small_values_is_told():
    assert "right where the result is large" in said("softplus", lambda x: np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x))))
    assert exercise("softplus").mark(lambda x: typed(softplus)(x).tolist())


def test_a_loop_without_end_is_stopped():
    def hangs(R, rng):
        has = R.toarray() != 0
        user = rng.integers(0, len(has), R.nnz)
        negative = rng.integers(0, has.shape[1], R.nnz)
        while (wrong := has[user, negative]).any():
            negative[wrong] = rng.integers(0, has.shape[1], wrong.sum())
        return user, negative, negative

    assert "One user here has every item" in said("sample_triples", hangs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda R, u, p, n: (u, p), "3 results"),
        (lambda R, u, p, n: None, "nothing (None)"),
        (lambda R, u, p, n: (u, p, 1.0 * n), "integers"),
        (lambda R, u, p, n: (u, p, n[:-1]), "one length"),
        (lambda R, u, p, n: (u[:3], p[:3], n[:3]), "so many triples"),
        (lambda R, u, p, n: (u + 8, p, n), "users' numbers should lie"),
        (lambda R, u, p, n: (u, p, n + 9), "items' numbers should lie"),
        (lambda R, u, p, n: (u, p, n) if R.data.__setitem__(0, 7.0) is None else (), "changes its input R"),
    ],
)
def test_what_is_wrong_with_a_draw_is_told(change, words):
    assert words in said("sample_triples", lambda R, rng: change(R, *sample_triples(R, rng)))


def test_a_draw_may_come_as_one_array():
    assert exercise("sample_triples").mark(lambda R, rng: np.stack(typed(sample_triples)(R, rng)))
