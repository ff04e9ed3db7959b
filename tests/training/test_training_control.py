"""The control: the coarse stage goes on as the fine stage was trained."""

import dataclasses

import numpy as np
import pytest

from c2f_np import load_dataset
from c2f_np.errors import SettingsError
from c2f_np.settings import Settings
from c2f_np.training import loop, train, train_control
from c2f_np.training.phases import CONTROL
from c2f_np.training.problem import pose

SMALL = dict(
    n_coarse=6, n_fine=4, dim=8, n_components=4, t_fine=2, eval_every=2, max_epochs=5, phase1_epochs=3, neg_size=2,
    coarse_lr=0.05, fine_lr=0.02, coarse_batch=40, fine_batch=25,
)  # fmt: skip


@pytest.fixture(scope="module")
def problem():
    return pose(load_dataset("southern-women", validation_fraction=0.3), Settings.preset("authors", **SMALL))


@pytest.fixture(scope="module")
def done(problem):
    return train(problem.data, problem.settings)


@pytest.fixture
def steps(monkeypatch):
    """State, size of the batch, rate and whether the assignment is updated, of every step that is made."""
    made, train_step = [], loop.train_step

    def watched(stage, state, moments, graph, triples, **options):
        made.append((state, len(triples), options["learning_rate"], options["update_assignment"]))
        return train_step(stage, state, moments, graph, triples, **options)

    monkeypatch.setattr(loop, "train_step", watched)
    return made


def test_a_schedule_falls_as_it_did_in_a_fine_stage_that_ended_early(problem, steps):
    settings = dataclasses.replace(problem.settings, lr_schedule="cosine", max_epochs=20, patience=1, eval_every=1)
    done = train(problem.data, settings)
    fine = [step[1:] for step in steps if step[0].is_fine]
    assert 1 < sum(row["phase"] == "fine" for row in done.history) < 20
    assert len({rate for _, rate, _ in fine}) > 1
    steps.clear()
    train_control(done, pose(problem.data, settings))
    assert [step[1:] for step in steps] == fine


def test_same_number_of_epochs_rate_and_batch(problem, done, steps):
    train(problem.data, problem.settings)
    fine = [step[1:] for step in steps if step[0].is_fine]
    steps.clear()
    result = train_control(done, problem)
    assert [step[1:] for step in steps] == fine  # step by step
    assert not any(state.is_fine for state, *_ in steps)
    first = steps[0][0]
    np.testing.assert_array_equal(first.E_coarse, done.finished["coarse"].state.E_coarse)
    assert [row["phase"] for row in result.history] == 3 * ["control_phase1"] + 5 * ["control"]
    assert set(result.finished) == set(CONTROL) and result.is_done
    assert (result.finished["control"].state.E_coarse != first.E_coarse).any()
    scores = [row["validation_ndcg@5"] for row in result.history if row["phase"] == "control"]
    assert result.finished["control"].score == np.nanmax(scores)
    assert not np.isnan(scores[-1])  # the last epoch is looked at in any case


def test_it_has_samples_of_its_own(problem, done):
    """Not the epochs of the coarse stage over again."""
    history = train_control(done, problem).history
    assert history[0]["bpr"] not in [row["bpr"] for row in done.history]


def test_an_unfinished_training_has_no_control(problem, done):
    with pytest.raises(SettingsError, match="come to its end"):
        train_control(dataclasses.replace(done, phase="fine"), problem)
