"""Training that begins with a table: its phases, what moves in them, what the next one starts from, and the same bits."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import same
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal
from same import assert_resumes, assert_same
from small import TABLE, VARIANTS, table

from c2f_np import C2FRecommender, load_dataset
from c2f_np.cli import main
from c2f_np.errors import SettingsError
from c2f_np.model.joint import joint_codebook, joint_graph, table_stage
from c2f_np.model.links import residual_code
from c2f_np.model.starts import code_table, partition_entities, start_table
from c2f_np.run import Request, comparison_table, run
from c2f_np.settings import Settings
from c2f_np.training import loop, phases, train
from c2f_np.training.phases import phase_names, phases_of
from c2f_np.training.problem import evaluate_state, pose

variants = pytest.mark.parametrize("variant", VARIANTS)


def followed(data, settings):
    """The training, and where it stood before the first epoch and after each."""
    steps = same.followed(data, settings)
    return steps[-1], steps


def with_scores(monkeypatch, *scores):
    """Validation finds these, one after another."""
    left = iter(scores)

    def evaluate(*arguments, **options):
        return SimpleNamespace(metrics={phases.STOPPING_METRIC: next(left)})

    for module in (loop, phases):  # after epochs, and of the code
        monkeypatch.setattr(module, "evaluate_state", evaluate)


def first_of_joint(steps):
    return next(step.state for step in steps if step.phase == "joint")


def coded(full, data, settings):
    """A table's code in the precision of training."""
    return code_table(full, pose(data, settings).R, settings).astype(settings.dtype)


# ---- the phases ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 2 * ["partition"] + 3 * ["table"] + 2 * ["joint"]),
        ({"partition_epochs": 0}, 3 * ["table"] + 2 * ["joint"]),
        ({"partition_epochs": 0, "table_epochs": 0}, 2 * ["joint"]),
    ],
)
def test_phases_follow_each_other(data, changes, expected):
    done, steps = followed(data, table(**changes))
    assert [row["phase"] for row in done.history] == [row["stage"] for row in done.history] == expected
    assert [step.phase for step in steps] == [*expected, "done"]  # each step says what comes next
    # Each begins anew: epochs are counted from 1, and the optimiser knows nothing.
    numbers = [row["epoch"] for row in done.history]
    assert numbers == [k + 1 for phase in dict.fromkeys(expected) for k in range(expected.count(phase))]
    for step in steps[:-1]:
        assert (step.moments.step == 0) == (step.phase_epoch == 0)
    assert list(done.finished) == list(dict.fromkeys(expected)) and done.result is done.finished["joint"]


def test_the_default_trains_a_table_and_codes_it():
    settings = Settings.preset("default")
    assert phase_names(settings) == ("table", "joint")
    assert [phase.most_epochs for phase in phases_of(settings, None)] == [20, 12]
    assert phase_names(Settings.preset("default", partition_epochs=1)) == ("partition", "table", "joint")


def test_learning_rates_fall_over_the_epochs_of_each_phase(data):
    """Two rates; the steps are at 2/3 and 5/6 of 3, 6 and 12 epochs."""
    settings = table(
        lr_schedule="steps", start_lr=0.3, coarse_lr=0.06, partition_epochs=3, table_epochs=6, max_epochs=12, patience=99
    )
    _, steps = followed(data, settings)
    of_name = {phase.name: phase for phase in phases_of(settings, None)}
    found = [of_name[step.phase].rate_of(step.phase_epoch) for step in steps[:-1]]
    assert_allclose(found, 2 * [0.3] + [0.1] + 4 * [0.3] + [0.1, 0.03] + 8 * [0.06] + 2 * [0.02] + 2 * [0.006])


# ---- the table -----------------------------------------------------------------------------------------------------------
def test_a_table_starts_small_and_each_entity_has_its_row(data):
    R = pose(data, table()).R
    state = start_table(R, table(dim=200))
    assert state.E_coarse.shape == (32, 200) and 0.095 < state.E_coarse.std() < 0.105
    assert_array_equal(state.S_coarse.toarray(), np.eye(32))
    assert not state.bias.any() and not state.bias_global.any() and not state.is_fine and state.S_direct is None
    other = start_table(R, table(dim=200, seed=1))
    assert (other.E_coarse != state.E_coarse).all()


def test_a_table_of_singular_vectors_ranks_before_it_is_trained():
    data = load_dataset("planted")
    starts = {kind: Settings.preset("default", dim=32, table_start=kind) for kind in ("normal", "svd")}
    scores = {}
    for kind, settings in starts.items():
        problem = pose(data, settings)
        state = start_table(problem.R, settings).astype("float32")
        stage = table_stage(settings, problem.engine)
        scores[kind] = evaluate_state(state, problem, "validation", stage=stage).metrics["ndcg@20"]
    assert scores["svd"] > 3 * scores["normal"] and scores["svd"] > 0.15, scores


@variants
def test_of_a_table_its_rows_and_the_biases_of_items_move(data, variant):
    _, steps = followed(data, table(variant, partition_epochs=0))
    tables = [step.state for step in steps if step.phase == "table"]
    assert len(tables) == 3
    for before, after in zip(tables, tables[1:], strict=False):
        assert set(steps[0].moments.mean) == {"E_coarse", "bias", "bias_global"}
        assert_array_equal(after.S_coarse.toarray(), np.eye(32))
        assert (after.E_coarse != before.E_coarse).any(axis=1).all()
        assert (after.bias[18:] != before.bias[18:]).all() and not after.bias[:18].any()  # those of users cancel
        assert not after.bias_global.any() and after.E_fine is None


def moved(before, after):
    """The parts of a state that are not what they were."""
    parts = {name: (part, getattr(after, name)) for name, part in vars(before).items() if part is not None}
    dense = {name: [part.toarray() if sparse.issparse(part) else part for part in pair] for name, pair in parts.items()}
    return {name for name, (old, new) in dense.items() if (old != new).any()}


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("t_direct", [0, 1])
def test_as_many_coarse_rows_as_entities(data, tmp_path, engine, t_direct):
    """A codebook of that size has the shape of a table. What is trained is for the phase to say and not for the shape."""
    settings = table("alone", n_coarse=32, t_coarse=1, t_direct=t_direct, engine=engine, dtype="float64")
    done, steps = followed(data, settings)
    whole = {"E_coarse", "S_coarse", "bias"} | ({"E_fine", "S_direct"} if t_direct else set())
    trained = {"partition": whole, "table": {"E_coarse", "bias"}, "joint": whole}
    pairs = [pair for pair in zip(steps, steps[1:], strict=False) if pair[0].phase == pair[1].phase]
    assert [before.phase for before, _ in pairs] == ["partition", "table", "table", "joint"]
    for before, after in pairs:
        assert before.state.E_coarse.shape == (32, 8) and before.state.S_coarse.shape == (32, 32)
        assert moved(before.state, after.state) == trained[before.phase]
        assert set(after.moments.mean) == set(after.moments.square) == trained[before.phase] | {"bias_global"}
    # Whatever moves in it, its code stands for what it had come to.
    full = done.finished["table"].state
    code = coded(full, data, settings)
    assert_array_equal(full.S_coarse.toarray(), np.eye(32))
    found = code.S_coarse @ code.E_coarse + (code.S_direct @ code.E_fine if t_direct else 0)
    assert_allclose(found, full.E_coarse, atol=1e-6)
    assert_resumes(data, settings, steps, tmp_path)


# ---- from the table to both codebooks ------------------------------------------------------------------------------------
@pytest.mark.parametrize("t_direct", [0, 1, 2])
@pytest.mark.parametrize("gate", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_the_model_says_what_the_code_says(data, gate, t_direct, threshold):
    """Whatever a bridge and a soft threshold make of the codebooks: Y is S_c E_hat + S_d F of the code."""
    settings = table(gate=gate, t_direct=t_direct, threshold=threshold, t_coarse=2, dtype="float64")
    problem = pose(data, settings)
    full = start_table(problem.R, settings)
    state = code_table(full, problem.R, settings)
    count = 1.0 + np.concatenate([problem.R.sum(axis=1), problem.R.sum(axis=0)])
    parts = partition_entities(problem.R, 6, method="random", seed=settings.seed)
    code = residual_code(full.E_coarse, 6, 4, 2, t_direct, seed=settings.seed, parts=parts, weight=count)
    expected = code.S_coarse @ code.E_hat + (code.S_direct @ code.F if t_direct else 0)
    graph = joint_graph(problem.A, state, gate, engine=problem.engine)
    found = graph.links.matrix @ joint_codebook(state.E_coarse, state.E_fine, graph, threshold=threshold)
    assert_allclose(found, expected, rtol=0, atol=1e-14)
    left, whole = (count @ part**2 for part in (found - full.E_coarse, full.E_coarse))  # a row counts 1 + degree times
    assert_allclose(left.sum() / whole.sum(), code.errors[-1], rtol=1e-9)
    assert (state.S_fine is None) == (gate == 0) and (state.S_direct is None) == (t_direct == 0)
    assert state.is_fine == (gate > 0 or t_direct > 0)
    for S, t in ((state.S_coarse, 2), (state.S_direct, t_direct), (state.S_fine, 2)):
        assert S is None or (np.diff(S.indptr) == t).all()
    assert state.bias is full.bias and state.bias_global is full.bias_global


def test_nothing_of_the_fine_codebook_begins_in_the_dead_zone(data):
    for variant in ("both", "bridge"):
        settings = table(variant)
        R = pose(data, settings).R
        assert (np.abs(code_table(start_table(R, settings), R, settings).E_fine) > 0.5).all()


def test_joint_training_starts_from_the_best_table(data, monkeypatch):
    """Validation falls after the second epoch: with patience 1 the third is the last, and the second is coded."""
    with_scores(monkeypatch, 0.1, 0.5, 0.2, 0.55, 0.6, 0.7)  # the fourth is of the code
    settings = table(partition_epochs=0, table_epochs=9, patience=1)
    done, steps = followed(data, settings)
    assert [row["phase"] for row in done.history] == 3 * ["table"] + 2 * ["joint"]
    best = done.finished["table"]
    assert best.epoch == 2 and best.score == 0.5 and best.state is steps[2].state
    assert_same(first_of_joint(steps), coded(best.state, data, settings))


@pytest.mark.parametrize(("score", "taken"), [(0.3, "partition"), (0.5, "table"), (0.7, "table"), (float("nan"), "table")])
def test_the_partition_is_taken_if_it_validates_better_than_the_code(data, monkeypatch, score, taken):
    # Two epochs of the partition, of which the first is better; three of the table; the code; two of what was taken.
    with_scores(monkeypatch, 0.5, 0.4, 0.8, 0.9, 0.8, score, 0.1, 0.1)
    settings = table()
    done, steps = followed(data, settings)
    assert done.finished["partition"].epoch == 1 and done.finished["partition"].score == 0.5
    if taken == "partition":
        assert first_of_joint(steps) is done.finished["partition"].state
    else:
        assert_same(first_of_joint(steps), coded(done.finished["table"].state, data, settings))
    assert done.started_from == taken
    # No epoch is better than the start, so the start is the result; what has no score is replaced by the first epoch.
    assert done.result.epoch == (1 if np.isnan(score) else 0)
    assert (done.result.state is first_of_joint(steps)) == (not np.isnan(score))


def test_the_comparison_is_by_validation(data):
    """The same without scores made up: a partition not trained for long, and a table that is not."""
    for changes, taken in (({"start_lr": 1e-9}, "partition"), ({"partition_epochs": 1, "table_epochs": 40}, "table")):
        settings = table(**changes, n_coarse=20)
        done, steps = followed(data, settings)
        problem, code = pose(data, settings), coded(done.finished["table"].state, data, settings)
        better = done.finished["partition"].score > evaluate_state(code, problem, "validation").metrics["ndcg@5"]
        assert better == (taken == "partition")
        assert (first_of_joint(steps) is done.finished["partition"].state) == better


def test_without_validation_the_latest_table_is_taken():
    data, settings = load_dataset("southern-women", validation_fraction=0), table(patience=1)
    done, steps = followed(data, settings)
    assert [best.epoch for best in done.finished.values()] == [2, 3, 2]
    assert_same(first_of_joint(steps), coded(done.finished["table"].state, data, settings))


def test_links_are_exchanged_in_the_last_phase_only(data):
    _, steps = followed(data, table(t_coarse=2, t_direct=2, exchange_epochs=9, update_every=1))
    changed = [
        before.phase
        for before, after in zip(steps, steps[1:], strict=False)
        if before.phase == after.phase and (before.state.S_coarse.indices != after.state.S_coarse.indices).any()
    ]
    assert changed == ["joint"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(dtype):
    """1,800 rows of 40: large enough for the compiled step of Adam and for several chunks of k-means."""
    data, changes = load_dataset("planted"), {"partition_epochs": 1, "table_epochs": 1, "max_epochs": 1, "dim": 40}
    one, two = (train(data, table(**changes, threads=threads, dtype=dtype, coarse_batch=16384)) for threads in (1, 2))
    assert_same(one, two)
    assert {part.dtype for part in vars(one.state).values() if part is not None} == {np.dtype(dtype)}


# ---- what may be wrong with settings -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("staged", {"table_epochs": 1}, "table_epochs and partition_epochs need training"),
        ("authors", {"partition_epochs": 1}, "table_epochs and partition_epochs need training"),
        ("staged", {"table_start": "svd"}, 'table_start = "svd" needs training'),
        ("default", {"table_start": "pca"}, "table_start must be one of normal, svd"),
        ("default", {"table_epochs": 0, "partition_epochs": 1}, "partition_epochs need table_epochs"),
        ("default", {"gate": 0.5, "t_direct": 0, "n_fine": 101, "n_coarse": 100}, "n_fine = 101 is more than n_coarse"),
        ("default", {"table_epochs": -1}, "at least 0"),
        ("default", {"start_lr": -0.1}, "at least 0"),
    ],
)
def test_settings_that_do_not_fit(preset, changes, message):
    with pytest.raises(SettingsError, match=message):
        Settings.preset(preset, **changes)


# ---- the product ---------------------------------------------------------------------------------------------------------
def test_it_learns_and_beats_popularity(tmp_path):
    settings = table(
        n_coarse=20, n_fine=10, dim=16, coarse_batch=2048, neg_size=2, partition_epochs=0, table_epochs=10, max_epochs=5,
        eval_every=5,
    )  # fmt: skip
    metrics = run(Request("planted", {}, "default", settings), tmp_path / "run")
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["bpr"]) for row in csv.DictReader(file)]
    assert losses[9] < losses[0] - 0.1 and losses[14] < losses[10]
    scores = {name: found["ndcg@20"] for name, found in metrics["test"].items()}
    assert min(scores["joint"], scores["table"]) > 1.3 * scores["popularity"]


def test_a_run_folder(data, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in TABLE.items()]
    assert main(["train", "southern-women", "--out", str(folder), *arguments]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == {"partition": 2, "table": 3, "joint": 2}
    rows = [line.split("|")[0].strip() for line in comparison_table(metrics).splitlines()[-4:]]
    assert rows == ["popularity", "start: graph partition", "start: full table", "codebooks and links, jointly"]
    model = C2FRecommender.load(folder / "model.npz")
    assert model.evaluate(load_dataset("southern-women")).metrics == metrics["test"]["joint"]
    # Two codebooks, a link to either (4 bytes and 1) and biases; the table that it came from is not in it.
    assert model.size_in_bytes()["model"] == metrics["size_in_bytes"]["joint"]["model"] == 10 * 32 + 2 * 32 * 5 + 33 * 4
    # That table has no links: everyone has a row.
    assert metrics["size_in_bytes"]["table"]["model"] == 32 * 32 + 33 * 4
    assert main(["train", "southern-women", "--out", str(folder), "--resume", "--quiet"]) == 0
    assert json.loads((folder / "metrics.json").read_text())["test"] == metrics["test"]
    capsys.readouterr()
    assert main(["train", "southern-women", "--out", str(folder), "--resume", "--table-epochs", "4"]) == 2
    assert "table_epochs = 3, not 4" in capsys.readouterr().err
