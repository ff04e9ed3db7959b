"""Coding a table by two codebooks: no round makes it worse, a table that has such a code is found, and what links look like."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_limits

from c2f_np.model.links import residual_code, shared_code


def decoded(code):
    Y = code.S_coarse @ code.E_hat
    return Y if code.F is None else Y + code.S_direct @ code.F


def random_table(seed, n=60, d=5):
    return np.random.default_rng(seed).normal(size=(n, d))


def parts(code):
    found = [code.E_hat, code.S_coarse.data, code.S_coarse.indices, np.array(code.errors)]
    return found if code.F is None else [*found, code.F, code.S_direct.data, code.S_direct.indices]


def test_a_table_that_is_a_code_by_hand():
    """Two places far apart, and at either of them four steps to the side: a coarse row for each place, the rest is fine."""
    places = np.array([[9.0, 0, 0, 0], [0, 9, 0, 0]])
    steps = np.array([[0.0, 0, 1, 0], [0, 0, -1, 0], [0, 0, 0, 2], [0, 0, 0, -2]])
    Y = np.repeat(places, 4, axis=0) + np.tile(steps, (2, 1))
    code = residual_code(Y, 2, 4, 1, 1, seed=0)
    first, second = code.S_coarse.indices.reshape(2, 4).tolist()
    assert first == 4 * first[:1] and second == 4 * second[:1] and first != second
    assert_allclose(decoded(code), Y, atol=1e-6)
    assert max(code.errors) < 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_code_is_found(seed):
    """Places and steps in any direction: the first weights are not 1, and the rounds put that right."""
    rng = np.random.default_rng(seed)
    places, steps = 20 * rng.normal(size=(4, 6)), rng.normal(size=(3, 6))
    Y = np.repeat(places, 3, axis=0) + np.tile(steps, (4, 1))
    code = residual_code(Y, 4, 3, 1, 1, seed=seed)
    rows = code.S_coarse.indices.reshape(4, 3)
    assert len(set(rows[:, 0])) == 4 and (rows == rows[:, :1]).all()  # a row for each place ...
    steps_alone = np.sum(np.tile(steps, (4, 1)) ** 2) / np.sum(Y**2)
    assert code.errors[-1] < 0.05 * steps_alone  # ... and the fine rows say nearly all of what these leave


@pytest.mark.parametrize("seed", range(3))
def test_a_code_that_two_tables_share(seed):
    """Each table has its number of links, no round makes it worse, and one alone is coded as by a single codebook."""
    tables, each = [random_table(seed, 30), 0.3 * random_table(seed + 9, 50)], [3, 1]
    errors = []
    for rounds in range(5):
        F, links = shared_code(tables, 8, each, seed=seed, rounds=rounds)
        assert F.shape == (8, 5) and [np.diff(S.indptr).tolist() for S in links] == [30 * [3], 50 * [1]]
        assert_allclose(np.mean(np.concatenate([S.data for S in links]) ** 2), 1)
        errors.append(sum(np.sum((Y - S @ F) ** 2) for Y, S in zip(tables, links, strict=True)))
    assert (np.diff(errors) <= 1e-9).all() and errors[-1] < 0.95 * errors[0]
    F, (S,) = shared_code(tables[:1], 8, [2], seed=seed)
    single = residual_code(tables[0], 8, 1, 2, 0, seed=seed)
    assert_allclose(S @ F, single.S_coarse @ single.E_hat, atol=1e-9)


@pytest.mark.parametrize("links", [(1, 1), (2, 1), (1, 3), (3, 2), (1, 0), (2, 0)])
@pytest.mark.parametrize("seed", range(3))
def test_no_round_makes_it_worse(seed, links):
    Y = random_table(seed)
    code = residual_code(Y, 7, 4, *links, seed=seed, rounds=6)
    assert len(code.errors) == 7
    assert (np.diff(code.errors) <= 1e-12).all() and code.errors[-1] < 0.95 * code.errors[0]
    assert_allclose(code.errors[-1], np.sum((Y - decoded(code)) ** 2) / np.sum(Y**2), rtol=1e-9)


def test_without_rounds_it_is_the_start():
    first = residual_code(random_table(0), 7, 4, 1, 1, seed=0, rounds=0)
    assert first.errors == residual_code(random_table(0), 7, 4, 1, 1, seed=0, rounds=2).errors[:1]


@pytest.mark.parametrize(("t_coarse", "t_direct"), [(1, 1), (2, 3)])
def test_every_row_has_its_links_and_weights_are_of_size_1(t_coarse, t_direct):
    code = residual_code(1e3 * random_table(1), 7, 4, t_coarse, t_direct, seed=0)
    assert code.E_hat.shape == (7, 5) and code.F.shape == (4, 5)
    for S, k, t in ((code.S_coarse, 7, t_coarse), (code.S_direct, 4, t_direct)):
        assert S.shape == (60, k) and S.has_sorted_indices
        assert_array_equal(np.diff(S.indptr), t)
        assert (np.diff(S.indices.reshape(60, t), axis=1) > 0).all()
        assert_allclose(np.mean(S.data**2), 1, rtol=1e-12)


def test_without_direct_links_there_is_no_fine_codebook():
    code = residual_code(random_table(2), 7, 4, 1, 0, seed=0)
    assert code.F is None and code.S_direct is None and code.E_hat.shape == (7, 5)


@pytest.mark.parametrize("Y", [np.zeros((6, 3)), np.ones((6, 3))], ids=["zeros", "ones"])
def test_fewer_different_rows_than_clusters(Y):
    code = residual_code(Y, 3, 2, 1, 1, seed=0)
    assert all(np.isfinite(part).all() for part in parts(code))
    assert_allclose(decoded(code), Y, atol=1e-6)


def test_single_precision_is_coded_in_double():
    Y = random_table(3).astype(np.float32)
    for ours, theirs in zip(parts(residual_code(Y, 5, 3, 1, 1, seed=0)),
                            parts(residual_code(Y.astype(np.float64), 5, 3, 1, 1, seed=0)), strict=True):  # fmt: skip
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours, theirs)


def test_a_seed_decides_every_bit():
    Y = random_table(4)
    first, again, other = (residual_code(Y, 7, 4, 1, 1, seed=seed) for seed in (0, 0, 1))
    for ours, theirs in zip(parts(first), parts(again), strict=True):
        assert_array_equal(ours, theirs)
    assert (first.E_hat != other.E_hat).any() and (first.F != other.F).any()


def test_threads_do_not_change_a_bit():
    """Rows enough for several chunks of k-means and for products that BLAS would cut in two."""
    Y, codes = random_table(5, n=1500, d=24), []
    for threads in (1, 2):
        with threadpool_limits(threads):
            codes.append(residual_code(Y, 20, 8, 1, 2, seed=0, rounds=2))
    for one, two in zip(*map(parts, codes), strict=True):
        assert_array_equal(one, two)
