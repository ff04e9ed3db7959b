"""What every way of training promises: to go on where it stopped, and what engines, threads, seeds and odd data do not change."""

from functools import partial

import numpy as np
import pytest
from same import assert_close, assert_resumes, assert_same, followed, leaves
from small import WAYS, joint, stages, table

from c2f_np.data import Dataset, load_dataset
from c2f_np.errors import DataError, SettingsError
from c2f_np.kernels import buffers
from c2f_np.training import train
from c2f_np.training.phases import phase_names, phases_of
from c2f_np.training.problem import entity_embeddings, evaluate_state, pose

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


# ---- the same bits -------------------------------------------------------------------------------------------------------
@every_way
@pytest.mark.parametrize(("engine", "dtype"), [("numba", "float32"), ("numpy", "float64")])
def test_going_on_after_any_epoch_gives_the_same_bits(data, tmp_path, way, engine, dtype):
    """Within each phase and between them; before, at and after an exchange of links."""
    settings = way(engine=engine, dtype=dtype)
    steps = followed(data, settings)
    epochs = [phase.most_epochs for phase in phases_of(settings, None)]
    assert len(steps) == 1 + sum(epochs) and {step.phase for step in steps} == {*phase_names(settings), "done"}
    assert_resumes(data, settings, steps, tmp_path)


@every_way
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(data, way, dtype):
    one, two = (train(data, way(threads=threads, dtype=dtype)) for threads in (1, 2))
    assert_same(one, two)
    found = [value for _, value in leaves(one) if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    assert found and {value.dtype for value in found} == {np.dtype(dtype)}  # the precision is kept


@every_way
def test_memory_that_is_used_again_does_not_change_a_bit(data, way, monkeypatch):
    """From a mebibyte on arrays come from such memory; here all do."""
    usual = train(data, way(dtype="float32"))
    monkeypatch.setattr(buffers, "reused_buffers", partial(buffers.reused_buffers, smallest=1))
    assert_same(train(data, way(dtype="float32")), usual)


@every_way
def test_engines_end_in_the_same_state(data, way):
    ours, compiled = (train(data, way(engine=engine, dtype="float64")) for engine in ("numpy", "numba"))
    assert_close(ours, compiled, rtol=1e-6, atol=1e-8)


@every_way
def test_a_seed_decides_every_bit(data, way):
    first, again, other = (train(data, way(seed=seed)) for seed in (5, 5, 6))
    assert_same(first, again)
    for (place, one), (_, two) in zip(leaves(first.finished), leaves(other.finished), strict=True):
        if place.endswith(("E_coarse", "E_fine", "state.bias")) and one is not None:
            assert (one != two).any(), place


# ---- data and settings ---------------------------------------------------------------------------------------------------
@every_way
def test_without_validation_every_phase_runs_to_its_end(way):
    settings = way(patience=1)
    done = train(load_dataset("southern-women", validation_fraction=0), settings)
    assert len(done.history) == sum(phase.most_epochs for phase in phases_of(settings, None))
    assert all(np.isnan(row["validation_ndcg@5"]) for row in done.history)
    last = {row["phase"]: row["epoch"] for row in done.history}
    assert {phase: best.epoch for phase, best in done.finished.items()} == last
    assert all(np.isnan(best.score) for best in done.finished.values())
    assert_same(done.result.state, done.state)


@pytest.mark.parametrize("partition", ["auto", pytest.param("coclustering", marks=pytest.mark.slow), "random"])
@every_way
def test_entities_without_training_interactions_do_not_hurt(way, partition):
    rng = np.random.default_rng(0)
    dense = rng.random((20, 15)) < 0.3
    dense[[3, 19]] = False
    dense[:, [0, 7]] = False
    held_out = np.zeros_like(dense)
    held_out[3, 0] = held_out[4, 7] = True
    data = Dataset.from_matrices(dense, held_out, held_out * 0)
    assert data.report["users_without_training"] == 2 and data.report["items_without_training"] == 2
    settings = way(partition=partition)
    done, problem = train(data, settings), pose(data, settings)
    for name, part in leaves((done.state, done.moments, done.finished)):
        assert part is None or name.endswith(".score") or np.isfinite(part).all(), name
    assert np.isfinite(entity_embeddings(done.state, problem.A, settings)).all()
    assert all(np.isfinite(row["loss"]) for row in done.history)
    result = evaluate_state(done.state, problem, "validation")
    assert np.isfinite(list(result.metrics.values())).all() and result.n_users == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("way", "rates", "stage"),
    [
        (stages, {"coarse_lr": 1e30}, "coarse"),
        (stages, {"fine_lr": 1e30}, "fine"),
        (joint, {"coarse_lr": 1e30, "gate": 0.3, "threshold": 0.5}, "joint"),
        (table, {"start_lr": 1e30, "gate": 0.3, "threshold": 0.5, "t_direct": 2}, "partition"),
    ],
)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_a_learning_rate_that_diverges_is_named(data, way, rates, stage, engine):
    with pytest.raises(SettingsError, match=f"diverged in epoch . of the {stage} stage.*learning rate"):
        train(data, way(engine=engine, **({} if way is table else {"max_epochs": 8}), **rates))


@pytest.mark.parametrize("way", [stages, joint, table])
@pytest.mark.parametrize("name", ["n_coarse", "n_fine"])
def test_fewer_entities_than_rows_is_found_before_the_first_epoch(data, way, name):
    def no_epoch(_):
        raise AssertionError("an epoch was trained")

    with pytest.raises(SettingsError, match="33 rows for 32 entities"):
        train(data, way(**{name: 33}), after_epoch=no_epoch)


def test_a_codebook_that_is_left_out_may_be_of_any_size(data):
    pose(data, joint("alone", n_fine=33))


def test_nothing_to_rank_is_an_error():
    with pytest.raises(DataError, match="nothing to rank"):
        train(Dataset.from_matrices(np.ones((8, 9))), stages())
