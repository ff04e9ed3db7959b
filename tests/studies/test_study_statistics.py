"""Means, intervals and paired differences: worked out by hand, and how often an interval holds the truth."""

import math

import numpy as np
import pytest

from c2f_np.studies import statistics
from c2f_np.studies.statistics import bootstrap_means, compare_models, interval, sample_deviation


def rng():
    return np.random.default_rng(7)


def difference_of(values, other, generator, n_resamples=2000):
    """The difference of two models."""
    return compare_models(np.stack([values, other], axis=1), [1, None], generator, n_resamples)[1][0]


def test_deviation_by_hand():
    assert sample_deviation([2.0, 4.0, 9.0]) == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert math.isnan(sample_deviation([1.0]))


def test_resampled_means_of_two_users():
    """Of two users with 0 and 1, the mean of two draws is 0, 1/2 or 1 with the chances 1/4, 1/2, 1/4."""
    means = bootstrap_means([[0.0], [1.0]], rng(), 20_000)[:, 0]
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(counts / 20_000, [0.25, 0.5, 0.25], atol=0.015)


def test_all_columns_see_the_same_draws():
    values = rng().random(40)
    means = bootstrap_means(np.stack([values, 1 - values], axis=1), rng(), 500)
    np.testing.assert_allclose(means.sum(axis=1), 1)
    assert means[:, 0].std() > 0.01


def test_pieces_do_not_change_what_is_drawn(monkeypatch):
    values = rng().random((30, 2))
    whole = bootstrap_means(values, rng(), 101)
    monkeypatch.setattr(statistics, "_DRAWS_AT_A_TIME", 30 * 10)
    np.testing.assert_array_equal(bootstrap_means(values, rng(), 101), whole)


def test_percentile_interval():
    assert interval(np.arange(101.0), 0.5) == (25.0, 75.0)
    # 0.9 is no binary fraction, and neither is what is left out on each side.
    assert interval(np.arange(101.0), 0.9) == pytest.approx((5, 95), rel=1e-14)


def test_paired_difference_by_hand():
    found = difference_of([0.5, 0.2, 0.9, 0.4], [0.3, 0.3, 0.9, 0.1], rng())
    assert found.mean == pytest.approx((0.2 - 0.1 + 0 + 0.3) / 4)
    assert (found.won, found.lost, found.tied) == (2, 1, 1)
    assert -0.1 <= found.low < found.mean < found.high <= 0.3


def test_pairing_takes_away_what_is_hard_for_both():
    """Users differ a lot, the models by exactly 0.01: the interval of the difference is that point."""
    hard = rng().random(50)
    found = difference_of(hard + 0.01, hard, rng())
    assert found.low == pytest.approx(0.01) and found.high == pytest.approx(0.01) and found.won == 50
    intervals, differences = compare_models(np.stack([hard + 0.01, hard], axis=1), [1, None], rng())
    assert intervals[0][1] - intervals[0][0] > 0.1
    assert differences[1] is None and differences[0].high == pytest.approx(0.01)


def test_a_model_is_not_compared_with_itself():
    _, differences = compare_models(rng().random((9, 2)), [0, 0], rng())
    assert differences[0] is None and differences[1] is not None


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """Skewed values as recommenders have them: many users at 0. 95 % intervals of the mean and of the paired difference."""
    generator, n_trials, n_users = np.random.default_rng(1), 600, 250
    held = np.zeros(2)
    for _ in range(n_trials):
        first = np.where(generator.random(n_users) < 0.4, 0, generator.beta(1, 3, n_users))  # mean 0.6 / 4
        second = np.clip(first + generator.normal(0.02, 0.1, n_users), -1, 2)  # 0.02 more, give or take
        (low, high), _ = compare_models(np.stack([first, second], axis=1), [None, 0], generator, 500)[0]
        difference = difference_of(second, first, generator, 500)
        held += [low <= 0.15 <= high, difference.low <= 0.02 <= difference.high]
    share = held / n_trials
    # Three standard errors of a share are 0.027.
    assert (np.abs(share - 0.95) < 0.03).all(), share
