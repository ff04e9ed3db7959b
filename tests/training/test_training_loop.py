"""Training in two stages: four phases, early stopping, the order of update and step."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from same import assert_same, begun
from small import stages

import c2f_np.training.loop as loop
from c2f_np.data import load_dataset
from c2f_np.model import starts
from c2f_np.model.loss import Triples
from c2f_np.model.step import fresh_moments, train_step
from c2f_np.settings import STAGED
from c2f_np.training import train
from c2f_np.training.loop import run_epoch, training_graph
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import pose, stage_of

PHASES = ("coarse_phase1", "coarse", "fine_phase1", "fine")


def arrays(state):
    parts = {"E_coarse": state.E_coarse, "bias": state.bias, "bias_global": state.bias_global}
    parts |= {"S_coarse": state.S_coarse.toarray()}
    if state.is_fine:
        parts |= {"E_fine": state.E_fine, "S_fine": state.S_fine.toarray()}
    return parts


def differ(first, second):
    first, second = arrays(first), arrays(second)
    return any(first[name].shape != second[name].shape or (first[name] != second[name]).any() for name in first)


def test_the_training_of_a_phase_moves_what_it_should(data):
    steps = []
    settings = stages(max_epochs=2)
    start = begun(data, settings)
    train(data, settings, after_epoch=steps.append)
    states = [start.state] + [step.state for step in steps]
    moved = [
        {name for name in arrays(before) if (arrays(before)[name] != arrays(after)[name]).any()}
        for before, after in zip(states, states[1:], strict=False)
    ]
    # The step that ends the coarse stage goes back to its best state; it is left out.
    for index in (0, 1):
        assert moved[index] == {"E_coarse", "bias"}
    assert moved[2] == {"E_coarse", "bias", "S_coarse"}
    for index in (4, 5):
        assert moved[index] == {"E_fine", "bias"}
    for index in (6, 7):
        assert moved[index] == {"E_fine", "bias", "S_fine"}


def test_history_has_a_row_for_each_epoch(data):
    done = train(data, stages())
    assert [row["phase"] for row in done.history] == [phase for phase in PHASES for _ in range(3)]
    assert [row["epoch"] for row in done.history] == [1, 2, 3, 4, 5, 6] * 2
    assert [row["stage"] for row in done.history] == ["coarse"] * 6 + ["fine"] * 6
    # Every second epoch is evaluated, and the last.
    evaluated = [not np.isnan(row["validation_ndcg@5"]) for row in done.history]
    assert evaluated == [False, True, True] * 4
    for row in done.history:
        assert row["loss"] == pytest.approx(row["bpr"] + 1e-4 * row["regulariser"])
        assert np.isnan(row["nonzero_fine"]) == (row["stage"] == "coarse")


def scripted(monkeypatch, scores):
    """Let evaluations return these numbers, one after another."""
    left = iter(scores)
    monkeypatch.setattr(
        loop, "evaluate_state", lambda *_, **__: SimpleNamespace(metrics={loop.STOPPING_METRIC: next(left)})
    )


def test_early_stopping_waits_for_its_patience_and_keeps_the_best(data, monkeypatch):
    settings = stages(max_epochs=100, eval_every=2, patience=2)
    # Phase by phase: an equal score is no improvement; an improvement starts the count anew.
    scores = [[0.1, 0.3, 0.2, 0.3], [0.5, 0.4, 0.6, 0.1, 0.6], [0.1, 0.0, 0.1], [0.0, 0.1, 0.2, 0.1, 0.15]]
    scripted(monkeypatch, sum(scores, []))
    steps = []
    done = train(data, settings, after_epoch=steps.append)
    epochs = {phase: sum(row["phase"] == phase for row in done.history) for phase in PHASES}
    assert epochs == {"coarse_phase1": 8, "coarse": 10, "fine_phase1": 6, "fine": 10}
    assert {phase: done.finished[phase].epoch for phase in PHASES} == {
        "coarse_phase1": 4, "coarse": 8 + 6, "fine_phase1": 2, "fine": 6 + 6,
    }  # fmt: skip
    assert {phase: done.finished[phase].score for phase in PHASES} == {
        "coarse_phase1": 0.3, "coarse": 0.6, "fine_phase1": 0.1, "fine": 0.2,
    }  # fmt: skip
    # The best state of a phase is the state after that epoch.
    assert_same(done.finished["coarse_phase1"].state, steps[3].state)
    assert_same(done.finished["coarse"].state, steps[13].state)
    assert_same(done.finished["fine"].state, steps[18 + 11].state)


def test_second_phases_go_on_from_where_the_first_stands(data, monkeypatch):
    # The best states are early ones, so that best and latest cannot be confused.
    scripted(monkeypatch, [0.9, 0.1, 0.1] + [0.9, 0.8, 0.1] + [0.9, 0.1, 0.1] + [0.9, 0.1, 0.1])
    settings = stages(eval_every=1, max_epochs=3)
    problem = pose(data, settings)
    steps = [begun(data, settings)]
    train(data, settings, after_epoch=steps.append)
    end = steps[3]
    assert end.phase == "coarse" and end.phase_epoch == 0 and end.stage_epoch == 3 and end.best is None
    assert differ(end.state, end.finished["coarse_phase1"].state)
    assert end.moments.step >= 3
    # By hand: an epoch from the latest state is what training did.
    scripted(monkeypatch, [0.0])
    by_hand, _ = run_epoch(phases_of(settings, problem.engine), end, problem)
    assert_same(by_hand.state, steps[4].state)
    assert steps[4].moments.step > end.moments.step

    fine = steps[6]
    best = fine.finished["coarse"].state
    assert fine.phase == "fine_phase1" and fine.stage_epoch == 0 and fine.moments.step == 0
    assert fine.finished["coarse"].epoch == 4
    np.testing.assert_array_equal(fine.state.E_coarse, best.E_coarse)
    np.testing.assert_array_equal(fine.state.S_coarse.toarray(), best.S_coarse.toarray())
    np.testing.assert_array_equal(fine.state.bias, best.bias)
    assert differ(dataclasses.replace(fine.state, E_fine=None, S_fine=None), steps[5].state)

    assert steps[9].phase == "fine" and differ(steps[9].state, steps[9].finished["fine_phase1"].state)


@pytest.mark.parametrize(("update_every", "updated"), [(0, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (9, [0])])
def test_updates_come_as_often_as_asked(data, update_every, updated):
    steps = []
    settings = stages(max_epochs=5, update_every=update_every, eval_every=9)
    train(data, settings, after_epoch=steps.append)
    for phase, name in (("coarse", "S_coarse"), ("fine", "S_fine")):
        first = [row["phase"] for row in steps[-1].history].index(phase)
        found = []
        # The last epoch of the coarse stage already shows the start of the fine one: S_coarse is the best's, the same.
        for epoch in range(5):
            before, after = (getattr(steps[first + epoch + shift].state, name) for shift in (-1, 0))
            if (before.toarray() != after.toarray()).any():
                found.append(epoch)
        assert found == updated


@pytest.mark.parametrize("stage", ["coarse", "fine"])
@pytest.mark.parametrize("preset", STAGED)
def test_the_step_of_an_update_batch_belongs_to_the_old_graph(data, preset, stage):
    settings = stages(preset, dtype="float64", propagation="layers")  # the update goes through layers: the same bits
    problem = pose(data, settings)
    state = starts.start_coarse(problem.R, settings)
    if stage == "fine":
        state = starts.start_fine(state, problem.R, settings)
    trainer = stage_of(state, settings)
    assert trainer.name == stage
    moments, graph = fresh_moments(state.parameters(trainer.trained)), training_graph(trainer, state, problem)
    rng = np.random.default_rng(0)
    triples = Triples(rng.integers(0, 18, 30), rng.integers(18, 32, 30), rng.integers(18, 32, 30), 32)
    options = {"l2": settings.l2, "decay": settings.decay, "clip": settings.max_grad_value, "learning_rate": 1e-2}
    fixed, updated = (
        train_step(trainer, state, moments, graph, triples, **options, update_assignment=update) for update in (False, True)
    )
    # What was built from the old assignment is not used again.
    assert fixed.graph is graph and updated.graph is None
    np.testing.assert_array_equal(fixed.losses, updated.losses)
    name = f"S_{stage}"
    for part in set(arrays(fixed.state)) - {name}:
        np.testing.assert_array_equal(arrays(fixed.state)[part], arrays(updated.state)[part])
    for kind in ("mean", "square"):
        for part, value in getattr(fixed.moments, kind).items():
            np.testing.assert_array_equal(value, getattr(updated.moments, kind)[part])
    # The assignment comes from the forward pass before the step.
    expected = trainer.updated(trainer.forward(state, graph), state)
    assert list(expected) == [name]
    found = getattr(updated.state, name).toarray()
    np.testing.assert_array_equal(expected[name].toarray(), found)
    assert (found != getattr(fixed.state, name).toarray()).any()


@pytest.mark.parametrize("preset", STAGED)
def test_every_step_has_the_graph_of_the_state_that_it_starts_from(data, preset, monkeypatch):
    """The first of an epoch and the one after an update as well."""
    seen, step = [], loop.train_step

    def watched(stage, state, moments, graph, triples, **options):
        seen.append((stage, state, graph, options["update_assignment"]))
        return step(stage, state, moments, graph, triples, **options)

    monkeypatch.setattr(loop, "train_step", watched)
    settings = stages(preset, dtype="float64", max_epochs=2)
    train(data, settings)
    problem = pose(data, settings)
    assert sum(update for *_, update in seen) == 4  # two epochs of each second phase
    for stage, state, graph, _ in seen:
        rebuilt = training_graph(stage, state, problem)
        H, expected = (stage.forward(state, over).H_entities for over in (graph, rebuilt))
        np.testing.assert_array_equal(H, expected)


def test_training_learns():
    data = load_dataset("southern-women", validation_fraction=0)
    done = train(data, stages(max_epochs=40, dtype="float64"))
    losses = [row["bpr"] for row in done.history if row["stage"] == "coarse"]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


def test_collapsed_and_layered_training_agree(data):
    """The whole training, to rounding; and "auto" collapses here."""
    histories = {}
    for propagation in ("layers", "collapsed", "auto"):
        settings = stages("authors", dtype="float64", propagation=propagation)
        histories[propagation] = train(data, settings).history
    fine = [row["stage"] == "fine" for row in histories["layers"]]
    for name in ("bpr", "regulariser", "validation_ndcg@5"):
        layers, collapsed, auto = (np.array([row[name] for row in rows]) for rows in histories.values())
        np.testing.assert_allclose(collapsed, layers, rtol=1e-10)
        np.testing.assert_array_equal(auto, collapsed)
    assert any(fine)


def test_first_phases_may_be_shorter(data):
    history = train(data, stages(phase1_epochs=1, max_epochs=3)).history
    assert [row["phase"] for row in history] == (
        ["coarse_phase1"] + 3 * ["coarse"] + ["fine_phase1"] + 3 * ["fine"]
    )
    for phase1_epochs, expected in ((1, 1), (9, 3), (0, 3)):  # never more than another phase; 0 says no less
        phases = phases_of(stages(phase1_epochs=phase1_epochs, max_epochs=3), None)
        assert [(phase.name, phase.most_epochs) for phase in phases] == list(zip(PHASES, 2 * [expected, 3], strict=True))


def rates_of_epochs(data, settings, monkeypatch):
    """The rate that all steps of an epoch were made with, epoch by epoch."""
    rates, of_epochs, step = set(), [], loop.train_step

    def watched(*arguments, learning_rate, **options):
        rates.add(learning_rate)
        return step(*arguments, learning_rate=learning_rate, **options)

    def after_epoch(progress):
        of_epochs.append(rates.pop())
        assert not rates

    monkeypatch.setattr(loop, "train_step", watched)
    train(data, settings, after_epoch=after_epoch)
    return of_epochs


def test_learning_rate_falls_in_steps_in_second_phases(data, monkeypatch):
    settings = stages(lr_schedule="steps", max_epochs=6, phase1_epochs=1, coarse_lr=0.3, fine_lr=0.03, patience=9)
    rates = rates_of_epochs(data, settings, monkeypatch)
    falling = np.array([1, 1, 1, 1, 1 / 3, 1 / 10])
    np.testing.assert_allclose(rates, [0.3, *0.3 * falling, 0.03, *0.03 * falling])


def test_learning_rate_falls_along_a_cosine_in_second_phases(data, monkeypatch):
    settings = stages(lr_schedule="cosine", max_epochs=4, phase1_epochs=2, coarse_lr=0.1, fine_lr=0.01)
    rates = rates_of_epochs(data, settings, monkeypatch)
    falling = np.array([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    np.testing.assert_allclose(rates, [0.1, 0.1, *0.1 * falling, 0.01, 0.01, *0.01 * falling])


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_with_a_rate_of_0_nothing_moves(data, stage):
    """The rate of a stage is what its steps use."""
    done = train(data, stages(**{f"{stage}_lr": 0.0}))
    first, second = (done.finished[phase].state for phase in (f"{stage}_phase1", stage))
    np.testing.assert_array_equal(getattr(first, f"E_{stage}"), getattr(second, f"E_{stage}"))
    np.testing.assert_array_equal(first.bias, second.bias)


def test_without_a_first_coarse_phase_assignments_move_from_the_first_epoch(data):
    settings = stages(coarse_phase1=False, max_epochs=2)
    done = train(data, settings)
    assert [row["phase"] for row in done.history] == ["coarse"] * 2 + ["fine_phase1"] * 2 + ["fine"] * 2
    assert list(done.finished) == ["coarse", "fine_phase1", "fine"]
    started = begun(data, settings)
    assert started.phase == "coarse" and phases_of(settings, None)[0].updates_in(0)
    assert (started.state.S_coarse != done.finished["coarse"].state.S_coarse).nnz
