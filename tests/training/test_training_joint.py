"""Joint training from a partition: it learns, an exchange does what it says, and every promise of the two stages' training holds
here too. Training that begins with a table is in test_training_table.py.
"""

import csv
import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse as sparse
from same import begun
from small import JOINT, VARIANTS, joint

import c2f_np.training.loop as loop
from c2f_np import C2FRecommender, load_dataset
from c2f_np.cli import main
from c2f_np.errors import SettingsError
from c2f_np.run import Request, comparison_table, run, run_control
from c2f_np.settings import Settings
from c2f_np.training import train, train_control
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import pose

variants = pytest.mark.parametrize("variant", VARIANTS)


def arrays(state):
    parts = {name: part for name, part in vars(state).items() if part is not None}
    found = {name: part for name, part in parts.items() if not sparse.issparse(part)}
    for name in parts.keys() - found.keys():
        found |= {f"{name}.data": parts[name].data, f"{name}.indices": parts[name].indices}
    return dict(sorted(found.items()))


# ---- the start -----------------------------------------------------------------------------------------------------------
@variants
def test_start_has_what_the_settings_ask_for(data, variant):
    settings = joint(variant)
    state = begun(data, settings).state
    assert (state.S_fine is not None) == (settings.gate > 0) and (state.S_direct is not None) == (settings.t_direct > 0)
    assert state.is_fine == (variant != "alone")
    for S, shape, t in ((state.S_coarse, (32, 6), 2), (state.S_direct, (32, 4), 2), (state.S_fine, (6, 4), 2)):
        if S is not None:
            assert S.shape == shape and (np.diff(S.indptr) == t).all()
    if state.is_fine:
        assert (np.abs(state.E_fine) > settings.threshold).all()  # nothing begins in the dead zone
    assert not state.bias.any() and not state.bias_global.any()


# ---- learning ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_it_learns_and_beats_popularity(tmp_path):
    settings = joint(
        n_coarse=20, n_fine=10, dim=16, coarse_batch=2048, max_epochs=15, update_every=5, eval_every=5, neg_size=2,
        partition="auto",
    )  # fmt: skip
    metrics = run(Request("planted", {}, "default", settings), tmp_path / "run")
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["bpr"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0] - 0.1
    assert metrics["test"]["joint"]["ndcg@20"] > 1.1 * metrics["test"]["popularity"]["ndcg@20"]


# ---- the exchange --------------------------------------------------------------------------------------------------------
def patterns(data, settings):
    """After each epoch, which assignments have other columns than before it."""
    states = [begun(data, settings).state]
    train(data, settings, after_epoch=lambda progress: states.append(progress.state))
    changed = []
    for before, after in zip(states, states[1:], strict=False):
        names = [name for name in ("S_coarse", "S_direct", "S_fine") if getattr(after, name) is not None]
        changed.append([name for name in names if (getattr(before, name).indices != getattr(after, name).indices).any()])
    return changed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[], ["S_coarse"], [], ["S_direct"], [], ["S_coarse"]]),  # in turn
        ({"update_every": 1}, [["S_coarse"], ["S_direct"]] * 3),
        ({"update_every": 0}, [["S_coarse"]] + 5 * [[]]),  # once only, after the first epoch
        ({"update_every": 3}, [[], [], ["S_coarse"], [], [], ["S_direct"]]),
        ({"exchange_epochs": 0}, 6 * [[]]),
        ({"exchange_epochs": 3}, [[], ["S_coarse"], [], [], [], []]),
        ({"update_every": 9}, 6 * [[]]),
        ({"t_direct": 0, "gate": 0.3, "coarse_lr": 0.3}, [[], ["S_coarse"], [], ["S_fine"], [], ["S_coarse"]]),
        ({"gate": 0.3, "coarse_lr": 0.3}, [[], ["S_coarse"], [], ["S_direct"], [], ["S_fine"]]),
        ({"t_direct": 0}, [[], ["S_coarse"]] * 3),
        ({"t_direct": 4, "t_coarse": 6}, 6 * [[]]),  # every column is taken
        ({"t_direct": 1}, [[], ["S_coarse"]] * 3),  # an only link is never given up
        ({"t_coarse": 1}, [[], ["S_direct"]] * 3),
        ({"t_coarse": 1, "t_direct": 1}, 6 * [[]]),
    ],
)
def test_links_are_exchanged_when_they_are_due(data, changes, expected):
    assert patterns(data, joint(**changes)) == expected


def test_a_new_link_begins_at_zero_with_fresh_moments(data, monkeypatch):
    seen = []
    exchange = loop.exchange

    def watched(state, moments, *arguments, **options):
        new = exchange(state, moments, *arguments, **options)
        seen.append((state, moments, *new))
        return new

    monkeypatch.setattr(loop, "exchange", watched)
    train(data, joint())
    assert len(seen) == 3
    for (state, moments, new, new_moments), name in zip(seen, ("S_coarse", "S_direct", "S_coarse"), strict=True):
        old, S = getattr(state, name), getattr(new, name)
        fresh = (S.toarray() != 0) & (old.toarray() == 0)
        assert not fresh.any()  # what is new has the weight 0 ...
        columns, before = (part.indices.reshape(32, 2) for part in (S, old))
        is_new = ~(columns[:, :, None] == before[:, None, :]).any(axis=2)
        assert is_new.sum(axis=1).max() == 1 and is_new.any()
        assert not S.data.reshape(32, 2)[is_new].any()
        for kind in ("mean", "square"):
            values, earlier = getattr(new_moments, kind), getattr(moments, kind)
            assert not values[name].reshape(32, 2)[is_new].any()  # ... and no history
            kept = [earlier[name][2 * row : 2 * row + 2][before[row] == column]
                    for row, column in zip(*np.nonzero(~is_new)[:1], columns[~is_new], strict=True)]  # fmt: skip
            np.testing.assert_array_equal(values[name].reshape(32, 2)[~is_new], np.concatenate(kept))
            for other in values.keys() - {name}:
                assert values[other] is earlier[other]
        assert new_moments.step == moments.step
        for other in {"E_coarse", "E_fine", "bias", "S_coarse", "S_direct"} - {name}:
            assert getattr(new, other) is getattr(state, other)


def test_an_exchange_is_decided_by_the_gradients_of_its_whole_epoch(data, monkeypatch):
    steps, pulls = [], []
    train_step, exchange = loop.train_step, loop.exchange

    def watched_step(*arguments, **options):
        step = train_step(*arguments, **options)
        steps.append(step.gradients["Y"])
        return step

    def watched_exchange(state, moments, graph, grad_Y, turn, **options):
        pulls.append((grad_Y, turn))
        return exchange(state, moments, graph, grad_Y, turn, **options)

    monkeypatch.setattr(loop, "train_step", watched_step)
    monkeypatch.setattr(loop, "exchange", watched_exchange)
    train(data, joint(max_epochs=4, dtype="float64"))
    assert len(steps) % 4 == 0 and len(steps) > 4 and [turn for _, turn in pulls] == [1, 2]
    of_epoch = np.array(steps).reshape(4, -1, 32, 8).sum(axis=1)
    for (found, _), expected in zip(pulls, of_epoch[[1, 3]], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_everything_moves_but_what_cancels(data):
    steps = []
    settings = joint("both", max_epochs=1)
    before = arrays(begun(data, settings).state)
    train(data, settings, after_epoch=steps.append)
    after = arrays(steps[0].state)
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {"E_coarse", "E_fine", "S_coarse.data", "S_fine.data", "S_direct.data", "bias"}


@variants
def test_one_learning_rate_for_all_that_is_trained_jointly(data, variant):
    """`coarse_lr`, with a fine codebook and without: a comparison of the two must not be one of learning rates."""
    settings = joint(variant, coarse_lr=0.05, fine_lr=0.7)
    (phase,) = phases_of(settings, None)
    assert [phase.rate_of(epoch) for epoch in range(3)] == 3 * [0.05]


# ---- what may be wrong with data and settings ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("staged", {"t_direct": 2}, "t_direct = 2 needs training"),
        ("authors", {"fine_start": "normal"}, "fine_start = .normal. needs training"),
        ("default", {"t_direct": 5, "n_fine": 4}, "t_direct = 5 is more than n_fine = 4"),
        ("default", {"propagation": "collapsed"}, "collapsed"),
        ("default", {"fine_start": "components"}, "needs fine_start"),
        ("default", {"t_direct": -1}, "at least 0"),
        ("default", {"exchange_epochs": -1}, "at least 0"),
        ("default", {"training": "both"}, "stages, joint"),
        ("staged", {"fine_density": 0.5}, "need training"),
        ("staged", {"dead_zone": "open"}, "need training"),
        ("default", {"fine_density": 0.0}, "more than 0"),
        ("default", {"fine_density": 0.5, "t_direct": 0}, "needs a fine codebook"),
    ],
)
def test_settings_that_do_not_fit(preset, changes, message):
    with pytest.raises(SettingsError, match=message):
        Settings.preset(preset, **changes)


# ---- the product ---------------------------------------------------------------------------------------------------------
def test_early_stopping_keeps_the_best(data):
    done = train(data, joint(max_epochs=200, patience=2, eval_every=1))
    scores = [row["validation_ndcg@5"] for row in done.history]
    best = int(np.argmax(scores))
    assert len(scores) == best + 1 + 2 < 200
    assert done.finished["joint"].epoch == best + 1 and done.finished["joint"].score == scores[best]


def test_there_is_no_coarse_stage_for_the_control_to_continue(data):
    settings = joint()
    with pytest.raises(SettingsError, match="joint training has none"):
        train_control(train(data, settings), pose(data, settings))


@variants
def test_fitted_saved_and_loaded(data, tmp_path, variant):
    model = C2FRecommender("default", settings=JOINT | VARIANTS[variant]).fit(data)
    assert list(model.phases_) == ["joint"] and {row["phase"] for row in model.history_} == {"joint"}
    model.save(tmp_path / "model.npz")
    loaded = C2FRecommender.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.embeddings_, model.embeddings_)
    for ours, theirs in zip(model.recommend(data.user_ids, k=3), loaded.recommend(data.user_ids, k=3), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.size_in_bytes() == model.size_in_bytes() and loaded.settings_ == model.settings_
    assert loaded.evaluate(data).metrics == model.evaluate().metrics
    links = {"direct": 128, "both": 140, "bridge": 76, "alone": 64, "sparse": 128}[variant]
    codebooks = 6 * 32
    if variant != "alone":  # all numbers, or those outside the threshold and bits; and the threshold, if it is the state's
        alive = np.count_nonzero(np.abs(model.state_.E_fine) > model.state_.tau(model.settings_))
        codebooks += 4 * (min(32, alive + 1) + (variant == "sparse"))
    assert model.size_in_bytes()["model"] == codebooks + links * 5 + 33 * 4


def test_a_run_folder(data, tmp_path, capsys):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in JOINT.items()]
    assert main(["train", "southern-women", "--out", str(tmp_path / "run"), *arguments]) == 0
    assert "codebooks and links, jointly" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["preset"] == "default" and metrics["epochs"] == {"joint": 6} and set(metrics["best_epoch"]) == {"joint"}
    assert set(metrics["test"]) == {"popularity", "joint"} and set(metrics["size_in_bytes"]) == {"popularity", "joint"}
    rows = [line.split("|")[0].strip() for line in comparison_table(metrics).splitlines()[-2:]]
    assert rows == ["popularity", "codebooks and links, jointly"]
    model = C2FRecommender.load(tmp_path / "run" / "model.npz")
    assert model.evaluate(load_dataset("southern-women")).metrics == metrics["test"]["joint"]
    # Going on with a finished run changes nothing; another training of it is refused; and it has no control.
    assert main(["train", "southern-women", "--out", str(tmp_path / "run"), "--resume", "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"] == metrics["test"]
    assert main(["train", "southern-women", "--out", str(tmp_path / "run"), "--resume", "--exchange-epochs", "1"]) == 2
    assert "exchange_epochs = 60, not 1" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="joint training has none"):
        run_control(tmp_path / "run")
    assert not (tmp_path / "run" / "control.json").exists()


def test_the_phases_of_the_stages_are_not_in_it(data):
    done = train(data, joint())
    assert {row["phase"] for row in done.history} == {"joint"}
    assert dataclasses.replace(done, phase="joint").stage == "joint"
