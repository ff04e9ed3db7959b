"""Joint training from a partition: it learns, an exchange does what it says, and every promise of the two stages' training holds
here too. Training that begins with a table is in test_training_table.py.
"""

import csv
import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse as sparse
from same import assert_close, assert_resumes, assert_same, begun, followed, leaves

import c2f_np.training.loop as loop
from c2f_np import C2FRecommender, load_dataset
from c2f_np.cli import main
from c2f_np.data import Dataset
from c2f_np.errors import SettingsError
from c2f_np.run import Request, comparison_table, run, run_control
from c2f_np.settings import Settings
from c2f_np.training.loop import train, train_control
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import entity_embeddings, evaluate_state, pose

#: What the preset would begin with in place of a partition, and how its rate would fall.
FROM_PARTITION = {"table_epochs": 0, "partition_epochs": 0, "lr_schedule": "constant"}
SMALL = FROM_PARTITION | {
    "n_coarse": 6, "n_fine": 4, "dim": 8, "t_coarse": 2, "t_fine": 2, "t_direct": 2, "gate": 0.0, "threshold": 0.0,
    "coarse_lr": 1e-2, "coarse_batch": 64, "eval_every": 2, "patience": 5, "max_epochs": 6, "update_every": 2,
    "exchange_epochs": 60, "partition": "random",
}  # fmt: skip
#: With direct links, with the bridge too, with the bridge alone, without a fine codebook.
VARIANTS = {
    "direct": {},
    "both": {"gate": 0.3, "threshold": 0.5},
    "bridge": {"gate": 0.3, "threshold": 0.5, "t_direct": 0},
    "alone": {"t_direct": 0},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def small(variant="direct", **changes):
    return Settings.preset("default", **(SMALL | VARIANTS[variant] | changes))


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women", validation_fraction=0.3)


def arrays(state):
    parts = {name: part for name, part in vars(state).items() if part is not None}
    found = {name: part for name, part in parts.items() if not sparse.issparse(part)}
    for name in parts.keys() - found.keys():
        found |= {f"{name}.data": parts[name].data, f"{name}.indices": parts[name].indices}
    return dict(sorted(found.items()))


# ---- the start -----------------------------------------------------------------------------------------------------------
@variants
def test_start_has_what_the_settings_ask_for(data, variant):
    settings = small(variant)
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
def test_it_learns_and_beats_popularity(tmp_path):
    settings = small(
        n_coarse=20, n_fine=10, dim=16, coarse_batch=2048, max_epochs=15, update_every=5, eval_every=5, neg_size=2,
        partition="auto",
    )  # fmt: skip
    metrics = run(Request("planted", {}, "default", settings), tmp_path / "run")
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["bpr"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0] - 0.1
    assert metrics["test"]["joint"]["ndcg@20"] > 1.1 * metrics["test"]["popularity"]["ndcg@20"]


# ---- the same bits -------------------------------------------------------------------------------------------------------
@variants
@pytest.mark.parametrize(("engine", "dtype"), [("numba", "float32"), ("numpy", "float64")])
def test_going_on_after_any_epoch_gives_the_same_bits(data, tmp_path, variant, engine, dtype):
    """Exchanges come after epochs 2, 4 and 6: checkpoints lie before, at and after one."""
    settings = small(variant, engine=engine, dtype=dtype)
    steps = followed(data, settings)
    first = steps[0].state.S_coarse.indices
    assert len(steps) == 7 and (steps[2].state.S_coarse.indices != first).any()
    assert_resumes(data, settings, steps, tmp_path)


@variants
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(data, variant, dtype):
    one, two = (train(data, small(variant, threads=threads, dtype=dtype)) for threads in (1, 2))
    assert_same(one, two)
    found = [value for _, value in leaves(one) if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    assert found and {value.dtype for value in found} == {np.dtype(dtype)}


@variants
def test_engines_end_in_the_same_state(data, variant):
    ours, compiled = (train(data, small(variant, engine=engine, dtype="float64")) for engine in ("numpy", "numba"))
    assert_close(ours, compiled, rtol=1e-7, atol=1e-9)


def test_a_seed_decides_every_bit(data):
    first, again, other = (train(data, small(seed=seed)) for seed in (5, 5, 6))
    assert_same(first, again)
    for name, part in arrays(other.state).items():
        if name != "bias_global":  # which cancels
            assert (part != arrays(first.state)[name]).any(), name


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
        ({"exchange_epochs": 0}, 6 * [[]]),
        ({"exchange_epochs": 3}, [[], ["S_coarse"], [], [], [], []]),
        ({"update_every": 9}, 6 * [[]]),
        ({"t_direct": 0, "gate": 0.3}, [[], ["S_coarse"]] * 3),  # S_f stays
        ({"t_direct": 0}, [[], ["S_coarse"]] * 3),
        ({"t_direct": 4, "t_coarse": 6}, 6 * [[]]),  # every column is taken
        ({"t_direct": 1}, [[], ["S_coarse"]] * 3),  # an only link is never given up
        ({"t_coarse": 1}, [[], ["S_direct"]] * 3),
        ({"t_coarse": 1, "t_direct": 1}, 6 * [[]]),
    ],
)
def test_links_are_exchanged_when_they_are_due(data, changes, expected):
    assert patterns(data, small(**changes)) == expected


def test_a_new_link_begins_at_zero_with_fresh_moments(data, monkeypatch):
    seen = []
    exchange = loop.exchange

    def watched(state, moments, *arguments, **options):
        new = exchange(state, moments, *arguments, **options)
        seen.append((state, moments, *new))
        return new

    monkeypatch.setattr(loop, "exchange", watched)
    train(data, small())
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
    train(data, small(max_epochs=4, dtype="float64"))
    assert len(steps) % 4 == 0 and len(steps) > 4 and [turn for _, turn in pulls] == [1, 2]
    of_epoch = np.array(steps).reshape(4, -1, 32, 8).sum(axis=1)
    for (found, _), expected in zip(pulls, of_epoch[[1, 3]], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_everything_moves_but_what_cancels_and_the_bridge(data):
    steps = []
    settings = small("both", max_epochs=1)
    before = arrays(begun(data, settings).state)
    train(data, settings, after_epoch=steps.append)
    after = arrays(steps[0].state)
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {"E_coarse", "E_fine", "S_coarse.data", "S_direct.data", "bias"}


@variants
def test_one_learning_rate_for_all_that_is_trained_jointly(data, variant):
    """`coarse_lr`, with a fine codebook and without: a comparison of the two must not be one of learning rates."""
    settings = small(variant, coarse_lr=0.05, fine_lr=0.7)
    (phase,) = phases_of(settings, None)
    assert [phase.rate_of(epoch) for epoch in range(3)] == 3 * [0.05]


# ---- what may be wrong with data and settings ----------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_learning_rate_that_diverges_is_named(data, engine):
    with pytest.raises(SettingsError, match="diverged in epoch . of the joint stage.*learning rate"):
        train(data, small("both", engine=engine, coarse_lr=1e30, fine_lr=1e30))


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
    ],
)
def test_settings_that_do_not_fit(preset, changes, message):
    with pytest.raises(SettingsError, match=message):
        Settings.preset(preset, **changes)


def test_fewer_entities_than_rows(data):
    for changes in ({"n_coarse": 33}, {"n_fine": 33}):
        with pytest.raises(SettingsError, match="33 rows for 32 entities"):
            train(data, small(**changes))
    pose(data, small("alone", n_fine=33))  # a codebook that is left out may be of any size


def test_without_validation_the_latest_state_is_the_model():
    done = train(load_dataset("southern-women", validation_fraction=0), small(patience=1))
    assert len(done.history) == 6 and done.result.epoch == 6 and np.isnan(done.result.score)
    assert done.result.state is done.state


@variants
def test_entities_without_training_interactions_do_not_hurt(variant):
    rng = np.random.default_rng(0)
    dense = rng.random((20, 15)) < 0.3
    dense[[3, 19]] = False
    dense[:, [0, 7]] = False
    held_out = np.zeros_like(dense)
    held_out[3, 0] = held_out[4, 7] = True
    data = Dataset.from_matrices(dense, held_out, held_out * 0)
    settings = small(variant, partition="auto")
    done, problem = train(data, settings), pose(data, settings)
    for name, part in leaves((done.state, done.moments, done.finished)):
        assert part is None or np.isfinite(part).all(), name
    assert np.isfinite(entity_embeddings(done.state, problem.A, settings)).all()
    result = evaluate_state(done.state, problem, "validation")
    assert np.isfinite(list(result.metrics.values())).all() and result.n_users == 2


# ---- the product ---------------------------------------------------------------------------------------------------------
def test_early_stopping_keeps_the_best(data):
    done = train(data, small(max_epochs=200, patience=2, eval_every=1))
    scores = [row["validation_ndcg@5"] for row in done.history]
    best = int(np.argmax(scores))
    assert len(scores) == best + 1 + 2 < 200
    assert done.finished["joint"].epoch == best + 1 and done.finished["joint"].score == scores[best]


def test_there_is_no_coarse_stage_for_the_control_to_continue(data):
    settings = small()
    with pytest.raises(SettingsError, match="joint training has none"):
        train_control(train(data, settings), pose(data, settings))


@variants
def test_fitted_saved_and_loaded(data, tmp_path, variant):
    model = C2FRecommender("default", settings=SMALL | VARIANTS[variant]).fit(data)
    assert list(model.phases_) == ["joint"] and {row["phase"] for row in model.history_} == {"joint"}
    model.save(tmp_path / "model.npz")
    loaded = C2FRecommender.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.embeddings_, model.embeddings_)
    for ours, theirs in zip(model.recommend(data.user_ids, k=3), loaded.recommend(data.user_ids, k=3), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.size_in_bytes() == model.size_in_bytes() and loaded.settings_ == model.settings_
    assert loaded.evaluate(data).metrics == model.evaluate().metrics
    links = {"direct": 128, "both": 140, "bridge": 76, "alone": 64}[variant]
    codebooks = (6 + 4 * (variant != "alone")) * 32
    assert model.size_in_bytes()["model"] == codebooks + links * 5 + 33 * 4


def test_a_run_folder(data, tmp_path, capsys):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["train", "southern-women", "--out", str(tmp_path / "run"), *arguments]) == 0
    assert "coarse and fine" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["preset"] == "default" and metrics["epochs"] == {"joint": 6} and set(metrics["best_epoch"]) == {"joint"}
    assert set(metrics["test"]) == {"popularity", "joint"} and set(metrics["size_in_bytes"]) == {"popularity", "joint"}
    rows = [line.split("|")[0].strip() for line in comparison_table(metrics).splitlines()[-2:]]
    assert rows == ["popularity", "coarse and fine"]
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
    done = train(data, small())
    assert {row["phase"] for row in done.history} == {"joint"}
    assert dataclasses.replace(done, phase="joint").stage == "joint"
