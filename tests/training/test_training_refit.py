"""A refit: the same training without validation, for the epochs that validation chose."""

import dataclasses

import numpy as np
import pytest
from same import assert_same
from small import WAYS, stages, table

from c2f_np.data import Dataset
from c2f_np.training import loop, train, train_refit
from c2f_np.training.phases import chosen_epochs, phases_of
from c2f_np.training.problem import pose


def refit(data, settings, done):
    problem = pose(data, settings)
    phases = phases_of(settings, problem.engine)
    return train_refit(phases, chosen_epochs(phases, done), problem)


@pytest.mark.parametrize("way", WAYS)
def test_on_the_same_interactions_it_ends_in_the_same_state(data, way):
    """The epochs are chosen right, every phase starts where it did, and rates and random numbers are the same: to the bit."""
    settings = WAYS[way](patience=1, eval_every=1, lr_schedule="cosine", max_epochs=8)
    done = train(data, settings)
    unjudged = dataclasses.replace(data, validation=None, test=None)
    again = refit(unjudged, settings, done)
    assert_same(again.result.state, done.result.state)
    assert len(again.history) <= len(done.history) and all(np.isnan(row["validation_ndcg@5"]) for row in again.history)


def test_the_epochs_of_stages(data):
    """A first phase is gone through to its end; a stage that hands its best checkpoint on is trained up to that."""
    settings = stages(patience=1, eval_every=1, max_epochs=9)
    done = train(data, settings)
    made = {name: sum(row["phase"] == name for row in done.history) for name in done.finished}
    assert chosen_epochs(phases_of(settings, None), done) == {
        "coarse_phase1": made["coarse_phase1"],
        "coarse": done.finished["coarse"].epoch - made["coarse_phase1"],
        "fine_phase1": made["fine_phase1"],
        "fine": done.finished["fine"].epoch - made["fine_phase1"],
    }


@pytest.mark.parametrize("taken", ["table", "partition"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_start_that_lost_is_not_trained(data, monkeypatch, taken, epoch):
    settings = table()
    done = train(data, settings)
    rival = {"table": "partition", "partition": "table"}[taken]
    joint = dataclasses.replace(done.finished["joint"], epoch=epoch)
    told = dataclasses.replace(done, started_from=taken, finished=done.finished | {"joint": joint})
    seen, train_epoch = [], loop.train_epoch
    monkeypatch.setattr(loop, "train_epoch", lambda phase, *rest: seen.append(phase.name) or train_epoch(phase, *rest))
    again = refit(data.whole(), settings, told)
    assert seen == [taken] * done.finished[taken].epoch + ["joint"] * epoch and rival not in again.finished
    if taken == "partition" and epoch == 0:
        assert_same(again.result.state, again.finished["partition"].state)


def test_it_learns_from_everything(data):
    whole = data.whole()
    parts = [part.toarray() for _, part in data.parts()]
    assert isinstance(whole, Dataset) and len(parts) == 3 and (whole.train.toarray() == sum(parts)).all()
    assert whole.validation is None and whole.test is None and whole.split == "everything is training (train, validation, test)"
    settings = table()
    done = train(data, settings)
    seen = []
    draw = loop.drawn_batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "drawn_batches", lambda rng, R, *rest, **more: seen.append(R) or draw(rng, R, *rest, **more))
        refit(whole, settings, done)
    assert seen and all((R != whole.train).nnz == 0 for R in seen)
