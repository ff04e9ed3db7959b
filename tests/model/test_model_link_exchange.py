"""The exchange of links: what goes, what comes, and that the new link is where the loss falls fastest."""

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.errors import SettingsError
from c2f_np.model.links import exchange_links


def links(columns, weights, k):
    """An assignment from its columns and weights, row by row."""
    columns, weights = np.array(columns), np.array(weights, dtype=float)
    n, t = columns.shape
    return sparse.csr_array((weights.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, k))


def places(S):
    """Columns and weights, row by row."""
    n = S.shape[0]
    return S.indices.reshape(n, -1).tolist(), S.data.reshape(n, -1).tolist()


def test_by_hand():
    """Four rows of width 1, so that a pull is |gradient| times the row's size."""
    S = links([[0, 1], [0, 1], [1, 3]], [[0.5, 0.2], [0.1, -2.0], [1.0, 0.3]], 4)
    E = np.array([[1.0], [2.0], [-3.0], [4.0]])
    grad_Y = np.array([[1.0], [-2.0], [0.0]])
    found = exchange_links(S, E, grad_Y)
    # Strengths of row 0: 0.5 and 0.4, its second link goes; of row 1: 0.1 and 4, its first goes, although it is the lower column.
    # Both want column 3, whose pulls are 4 and 8. The third row has no gradient.
    assert places(found.S) == ([[0, 3], [1, 3], [1, 3]], [[0.5, 0.0], [-2.0, 0.0], [1.0, 0.3]])
    assert_array_equal(found.kept, [0, -1, 3, -1, 4, 5])
    assert_array_equal(found.carry(np.arange(10.0, 16.0)), [10, 0, 13, 0, 14, 15])
    # The old assignment is what it was.
    assert places(S) == ([[0, 1], [0, 1], [1, 3]], [[0.5, 0.2], [0.1, -2.0], [1.0, 0.3]])


def test_a_new_link_stands_at_its_place_in_the_row():
    S = links([[1, 3]], [[5.0, 0.1]], 4)
    found = exchange_links(S, np.array([[9.0], [1.0], [1.0], [1.0]]), np.ones((1, 1)))
    assert places(found.S) == ([[0, 1]], [[0.0, 5.0]])
    assert_array_equal(found.kept, [-1, 0])
    assert_array_equal(found.carry(np.array([7.0, 8.0])), [0, 7])


def test_strength_counts_the_codebook_row_and_pull_the_direction():
    S = links([[0, 1]], [[0.9, 0.2]], 4)
    E = np.array([[0.1, 0.0], [3.0, 4.0], [0.0, 9.0], [-2.0, 0.0]])
    # Strengths 0.09 and 1: the larger weight goes. The gradient looks along the first axis: row 2 is long, but not that way.
    found = exchange_links(S, E, np.array([[1.0, 0.0]]))
    assert places(found.S) == ([[1, 3]], [[0.2, 0.0]])


def test_ties_go_to_the_lower_column():
    S = links([[1, 2], [0, 3]], [[0.5, -0.5], [0.5, 0.5]], 4)
    found = exchange_links(S, np.ones((4, 1)), np.ones((2, 1)))
    assert places(found.S) == ([[0, 2], [1, 3]], [[0.0, -0.5], [0.0, 0.5]])


def test_rows_without_a_pull_are_left_alone():
    S = links([[0, 1], [2, 3]], [[0.5, 0.2], [0.1, 0.3]], 4)
    E = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    for grad_Y in (np.zeros((2, 2)), np.array([[0.0, 3.0], [0.0, -1.0]])):  # nothing, and nothing that a row could answer
        found = exchange_links(S, E, grad_Y)
        assert places(found.S) == places(S)
        assert_array_equal(found.kept, np.arange(4))


def test_nothing_to_exchange():
    full = links([[0, 1, 2], [0, 1, 2]], np.ones((2, 3)), 3)
    found = exchange_links(full, np.ones((3, 2)), np.ones((2, 2)))
    assert places(found.S) == places(full)
    assert_array_equal(found.kept, np.arange(6))
    nobody = exchange_links(sparse.csr_array((0, 4)), np.ones((4, 2)), np.ones((0, 2)))
    assert nobody.S.shape == (0, 4) and len(nobody.kept) == 0


def test_rows_of_different_length_are_an_error():
    with pytest.raises(SettingsError, match="same number"):
        exchange_links(sparse.csr_array([[1.0, 1, 0], [1, 0, 0]]), np.ones((3, 1)), np.ones((2, 1)))
    with pytest.raises(SettingsError, match="same number"):  # as many as rows, but not in every row
        exchange_links(sparse.csr_array([[1.0, 1, 0], [0, 0, 0]]), np.ones((3, 1)), np.ones((2, 1)))


def random_links(rng, n, k, t, width):
    columns = np.sort(np.argsort(rng.random((n, k)), axis=1)[:, :t], axis=1)
    return links(columns, rng.normal(size=(n, t)), k), rng.normal(size=(k, width)), rng.normal(size=(n, width))


def test_blocks_of_rows_do_not_show():
    arguments = random_links(np.random.default_rng(0), 23, 6, 2, 3)
    whole = exchange_links(*arguments)
    for rows in (1, 5, 22):
        parts = exchange_links(*arguments, rows_at_a_time=rows)
        assert places(whole.S) == places(parts.S)
        assert_array_equal(whole.kept, parts.kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept(dtype):
    S, E, grad_Y = random_links(np.random.default_rng(0), 5, 6, 2, 3)
    found = exchange_links(S.astype(dtype), E.astype(dtype), grad_Y.astype(dtype))
    assert found.S.dtype == dtype and found.carry(np.ones(10, dtype)).dtype == dtype


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_every_row_keeps_its_number_of_links(n, k, t, seed):
    t = min(t, k)
    rng = np.random.default_rng(seed)
    S, E, grad_Y = random_links(rng, n, k, t, 2)
    grad_Y[rng.random(n) < 0.3] = 0
    found = exchange_links(S, E, grad_Y)
    assert_array_equal(found.S.indptr, S.indptr)
    columns = found.S.indices.reshape(n, t)
    assert (np.diff(columns, axis=1) > 0).all() and columns.min() >= 0 and columns.max() < k  # sorted, none twice
    kept = found.kept.reshape(n, t)
    assert ((kept < 0).sum(axis=1) == (grad_Y.any(axis=1) & (t < k))).all()
    old = found.kept >= 0
    assert_array_equal(found.S.data[old], S.data[found.kept[old]])
    assert_array_equal(found.S.indices[old], S.indices[found.kept[old]])
    assert not found.S.data[~old].any()
    # What is new was free before.
    before = S.toarray() != 0
    rows = np.repeat(np.arange(n), t)
    assert not before[rows[~old], found.S.indices[~old]].any()
    # The composed rows move by no more than the weakest link of each.
    strength = np.abs(S.data.reshape(n, t)) * np.linalg.norm(E, axis=1)[S.indices.reshape(n, t)]
    moved = np.linalg.norm((found.S - S) @ E, axis=1)
    assert (moved <= strength.min(axis=1) + 1e-12).all()


def test_the_loss_falls_fastest_along_the_new_weight():
    """For any loss of Y = S E, here a sum of softplus: every weight that is not stored is tried, by a central difference."""
    rng = np.random.default_rng(3)
    S, E, target = random_links(rng, 6, 5, 2, 3)

    def loss(dense):
        return np.sum(np.logaddexp(0, target * (dense @ E)))

    dense, h = S.toarray(), 1e-5
    grad_Y = target / (1 + np.exp(-target * (dense @ E)))
    found = exchange_links(S, E, grad_Y)
    new_columns = found.S.indices[found.kept < 0]
    assert len(new_columns) == 6
    for row, chosen in enumerate(new_columns):
        slopes = np.zeros(5)
        for column in np.flatnonzero(dense[row] == 0):
            step = np.zeros_like(dense)
            step[row, column] = h
            slopes[column] = (loss(dense + step) - loss(dense - step)) / (2 * h)
        assert_allclose(slopes[chosen], E[chosen] @ grad_Y[row], rtol=1e-7)
        assert chosen == np.argmax(np.abs(slopes))
