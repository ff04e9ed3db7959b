"""A fine codebook that gets sparse in joint training: when, how far, and what counts as its result."""

import dataclasses

import numpy as np
import pytest
from small import JOINT, joint, table

from c2f_np import C2FRecommender
from c2f_np.model.codebook import soft_threshold
from c2f_np.model_file import size_in_bytes
from c2f_np.serving import load_exported
from c2f_np.serving.exporting import reduce_model
from c2f_np.training import train, train_refit
from c2f_np.training.loop import Phase
from c2f_np.training.phases import chosen_epochs, phases_of
from c2f_np.training.problem import pose


def alive(state, settings):
    return np.mean(np.abs(state.E_fine) > state.tau(settings))


def test_the_schedule_by_hand():
    phase = Phase("joint", None, None, 60, 1, 0.1, 10, density=0.2)
    assert [phase.density_after(epoch) for epoch in (39, 40, 59)] == 3 * [0.2]
    assert phase.density_after(19) == pytest.approx(0.2 + 0.8 / 8) and phase.density_after(0) == pytest.approx(0.9414875)
    shorter = dataclasses.replace(phase, most_epochs=45, schedule_epochs=60)  # as a refit is
    assert [shorter.density_after(epoch) for epoch in range(60)] == [phase.density_after(epoch) for epoch in range(60)]
    assert [dataclasses.replace(phase, density=1.0).density_after(epoch) for epoch in (0, 59)] == [1.0, 1.0]


@pytest.mark.parametrize("dead_zone", ["closed", "open"])
@pytest.mark.parametrize("way", [joint, table])
def test_every_epoch_is_as_sparse_as_it_must_be_and_only_sparse_states_are_results(data, way, dead_zone):
    settings, steps = way("sparse", fine_density=0.3, dead_zone=dead_zone, max_epochs=7, eval_every=1, coarse_lr=0.1), []
    done = train(data, settings, after_epoch=steps.append)
    steps = [step for step in steps if step.history[-1]["phase"] == "joint"]
    phase = phases_of(settings, None)[-1]
    taus = [0.0, *(step.state.tau(settings) for step in steps)]
    for epoch, step in enumerate(steps):
        assert alive(step.state, settings) <= phase.density_after(epoch)
        assert step.history[-1]["nonzero_fine"] == alive(step.state, settings) and taus[epoch + 1] >= taus[epoch]
    assert taus[-1] > 0 and taus[1] < taus[5]
    best = done.finished["joint"]
    assert best.epoch >= 5 and alive(best.state, settings) <= 0.3
    if dead_zone == "closed" and way is joint:
        assert np.isclose(alive(steps[4].state, settings), 0.3, atol=0.04)


def test_what_is_dead_comes_back_through_an_open_zone_alone(data):
    # A threshold that is never raised, and a codebook half of which starts inside it.
    for dead_zone in ("closed", "open"):
        settings = joint(dead_zone=dead_zone, threshold=0.5, coarse_lr=0.1, max_epochs=4)
        problem = pose(data, settings)
        (phase,) = phases_of(settings, problem.engine)

        def start(finished, problem, phase=phase):
            begun = phase.start(finished, problem)
            E = begun.state.E_fine.copy()
            E[:, ::2] *= 0.4 / np.abs(E[:, ::2])
            return dataclasses.replace(begun, state=dataclasses.replace(begun.state, E_fine=E))

        state = train_refit([dataclasses.replace(phase, start=start)], {"joint": 4}, problem).result.state
        revived = np.abs(state.E_fine[:, ::2]) > 0.5
        assert revived.any() == (dead_zone == "open")


def test_a_refit_ends_as_sparse(data):
    settings = table("sparse", max_epochs=5)
    done = train(data, settings)
    problem = pose(dataclasses.replace(data, validation=None), settings)
    phases = phases_of(settings, problem.engine)
    again = train_refit(phases, chosen_epochs(phases, done), problem).result
    assert alive(again.state, settings) <= settings.fine_density


def test_file_and_export_know_the_threshold(data, tmp_path):
    model = C2FRecommender("default", settings=JOINT | {"fine_density": 0.3, "max_epochs": 4}).fit(data)
    state, settings = model.state_, model.settings_
    assert state.tau(settings) > settings.threshold == 0
    model.save(tmp_path / "model.npz")
    loaded = C2FRecommender.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.embeddings_, model.embeddings_)
    assert loaded.size_in_bytes() == size_in_bytes(state) == model.size_in_bytes()
    model.export(tmp_path / "small.npz")
    np.testing.assert_allclose(load_exported(tmp_path / "small.npz").embeddings(), model.embeddings_, atol=1e-6)
    F = reduce_model(model._stored()).parts.F
    np.testing.assert_array_equal(F.dense(np.float32), soft_threshold(state.E_fine, state.tau(settings)))
    dense = dataclasses.replace(state, threshold=np.zeros(1, np.float32))
    assert size_in_bytes(state)["codebooks"] < size_in_bytes(dense)["codebooks"]
