"""The batches that training steps on: whole epochs, each its own, drawn as a plain re-implementation draws them."""

import itertools
from collections import Counter

import numpy as np
import pytest
from same import begun
from small import STAGES

import c2f_np.training.loop as loop
from c2f_np.baselines import LightGCN
from c2f_np.model.sampling import drawn_batches, generator
from c2f_np.settings import PRESETS, Settings
from c2f_np.training import train
from c2f_np.training.problem import pose
from c2f_np.verification.sampling import plain_batches, plain_stream

SMALL = STAGES | {"max_epochs": 2, "patience": 9, "fine_batch": 50, "seed": 3, "neg_size": 3}


def small(preset="staged", **changes):
    phases = {"partition_epochs": 2, "table_epochs": 2} if preset == "default" else {}
    return Settings.preset(preset, **(SMALL | phases | changes))


def watched(monkeypatch):
    """Lets the steps through, and notes what each was given and the losses it found."""
    seen, train_step = [], loop.train_step

    def noting(stage, state, moments, graph, triples, **options):
        step = train_step(stage, state, moments, graph, triples, **options)
        seen.append((triples, step.losses))
        return step

    monkeypatch.setattr(loop, "train_step", noting)
    return seen


def assert_are(batches, expected, n_users):
    """The same triples in the same batches; `expected` has numbers of items."""
    assert [len(batch) for batch in batches] == [len(batch) for batch in expected]
    for batch, plain in zip(batches, expected, strict=True):
        found = np.column_stack([batch.user, batch.positive - n_users, batch.negative - n_users])
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_training_steps_on_whole_epochs_each_its_own(data, preset, engine, monkeypatch):
    settings = small(preset, engine=engine)
    seen = watched(monkeypatch)
    history = train(data, settings).history
    R, taken = pose(data, settings).R, 0
    stages = ("partition", "table", "joint") if preset == "default" else ("coarse", "fine")
    epochs = [(stage, epoch) for stage in stages for epoch in range(2 if preset == "default" else 4)]
    assert len(epochs) == len(history)
    for (stage, epoch), row in zip(epochs, history, strict=True):
        expected = plain_batches(R, 3, 50 if stage == "fine" else 64, plain_stream(3, stage, epoch))
        steps = seen[taken : taken + len(expected)]
        assert_are([triples for triples, _ in steps], expected, data.n_users)
        # What history tells is the mean over all triples of the epoch, the last batch counting by its size.
        weights = [len(batch) for batch in expected]
        assert len(set(weights)) == 2
        means = np.average([losses for _, losses in steps], axis=0, weights=weights)
        np.testing.assert_allclose([row["bpr"], row["regulariser"]], means, rtol=1e-12)
        taken += len(expected)
    assert taken == len(seen)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_trained_tables_step_on_whole_epochs_each_its_own(data, engine, monkeypatch):
    seen = watched(monkeypatch)
    own = {"dim": 4, "n_layers": 1, "item_bias": True, "batch": 64, "neg_size": 3, "max_epochs": 3, "eval_every": 9}
    model = LightGCN(**own, random_state=5, engine=engine)
    model.fit(data)
    R = pose(data, small()).R
    expected = [batch for epoch in (1, 2, 3) for batch in plain_batches(R, 3, 64, np.random.default_rng([5, epoch]))]
    assert_are([triples for triples, _ in seen], expected, data.n_users)
    for row, start in zip(model.history_, range(0, len(seen), len(seen) // 3), strict=True):
        steps = seen[start : start + len(seen) // 3]
        means = np.average([losses for _, losses in steps], axis=0, weights=[len(triples) for triples, _ in steps])
        np.testing.assert_allclose([row["bpr"], row["regulariser"]], means, rtol=1e-12)


def triples_of(problem, stage, epoch, batch_size):
    """An epoch's triples in the order of its batches."""
    s = problem.settings
    rng = generator(s.seed, stage, epoch)
    batches = list(drawn_batches(rng, problem.R, s.neg_size, batch_size, engine=problem.engine))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size} and 0 < len(batches[-1]) <= batch_size
    for batch in batches:
        assert (np.diff(batch.user) >= 0).all()
    columns = ([int(number) for batch in batches for number in getattr(batch, part)] for part in ("user", "positive", "negative"))
    return list(zip(*columns, strict=True))


def test_epochs_stages_and_seeds_draw_other_triples_in_another_order(data):
    problem = pose(data, small())
    epochs = {(seed, stage, epoch): triples_of(pose(data, small(seed=seed)), stage, epoch, 1)
              for seed in (0, 1) for stage in ("coarse", "fine") for epoch in (0, 1, 10, 11)}  # fmt: skip
    assert triples_of(pose(data, small(seed=1)), "fine", 11, 1) == epochs[1, "fine", 11]
    n_users = data.n_users
    for (first, one), (second, other) in itertools.combinations(epochs.items(), 2):
        # As many (nobody here lacks three free items), and hardly more in common than chance has it.
        assert len(one) == len(other) == 3 * problem.R.nnz
        assert one != other and (Counter(one) & Counter(other)).total() < 0.5 * len(one), (first, second)
        # Nor does one epoch pass through the users as another does.
        assert np.mean([a[0] == b[0] for a, b in zip(one, other, strict=True)]) < 4 / n_users


def test_batches_cut_one_shuffled_epoch_whatever_their_size(data):
    problem = pose(data, small())
    n = 3 * problem.R.nnz
    whole = triples_of(problem, "coarse", 4, 1)
    assert len(whole) == n
    for size in (2, 7, n // 3, n - 1, n, n + 1):
        found = triples_of(problem, "coarse", 4, size)
        for start_ in range(0, n, size):
            assert found[start_ : start_ + size] == sorted(whole[start_ : start_ + size], key=lambda triple: triple[0])
    # A shuffle: triples of one draw do not stand together, and users are in no order.
    users = np.array([user for user, _, _ in whole])
    together = np.mean([one[:2] == other[:2] for one, other in itertools.pairwise(whole)])
    assert together < 0.1 and 0.3 < np.mean(np.diff(users) > 0) < 0.6


def test_no_two_streams_of_random_numbers_are_the_same():
    """Of any seed, purpose, stage and epoch that training asks for."""
    purposes = [("start coarse",), ("start joint",), ("start table",), ("code table",)]
    purposes += [(stage, epoch) for stage in ("coarse", "fine", "partition", "table", "joint") for epoch in range(200)]
    numbers = [int(generator(seed, *purpose).integers(2**63)) for seed in (0, 1, 10) for purpose in purposes]
    assert len(set(numbers)) == len(numbers)
    again = generator(10, "joint", 199)
    assert int(again.integers(2**63)) == numbers[-1]


def test_a_training_begins_with_epoch_0(data):
    assert begun(data, small()).stage_epoch == 0
