"""Checkpoints: a run that is interrupted anywhere and goes on ends in the very same bits."""

import json

import numpy as np
import pytest

from c2f_np.archive import read_archive, write_archive
from c2f_np.data import load_dataset
from c2f_np.errors import ModelFileError
from c2f_np.settings import PRESETS, settings_from_preset
from c2f_np.training.checkpoint import load_checkpoint, save_checkpoint
from c2f_np.training.loop import train
from c2f_np.training.progress import phases_of

SMALL = {
    "n_coarse": 6, "n_fine": 4, "dim": 8, "n_components": 4, "t_fine": 2, "eval_every": 2, "max_epochs": 3,
    "patience": 2, "coarse_batch": 64, "fine_batch": 64, "coarse_lr": 1e-2, "fine_lr": 1e-2, "partition": "random",
}  # fmt: skip


#: As many epochs in the phases that only joint training has.
JOINT = {"partition_epochs": 3, "table_epochs": 3}


def small(preset="staged", **changes):
    return settings_from_preset(preset, **(SMALL | (JOINT if preset == "default" else {}) | changes))


@pytest.fixture(scope="module")
def data():
    return load_dataset("southern-women", validation_fraction=0.3)


def state_parts(state):
    parts = [state.E_coarse, state.bias, state.bias_global, state.S_coarse.data, state.S_coarse.indices]
    parts += [state.E_fine] if state.is_fine else []
    return parts + [part for S in (state.S_fine, state.S_direct) if S is not None for part in (S.data, S.indices)]


def parts(progress):
    """Everything in a progress that must be the same, as a flat list."""
    found = state_parts(progress.state)
    for name in sorted(progress.moments.mean):
        found += [progress.moments.mean[name], progress.moments.square[name]]
    bests = list(progress.finished.values())
    for best in bests + ([progress.best] if progress.best else []):
        found += [np.array([best.score, best.epoch]), *state_parts(best.state)]
    rows = [[value for name, value in row.items() if name not in ("stage", "phase", "seconds")] for row in progress.history]
    counts = [progress.moments.step, progress.stage_epoch, progress.phase_epoch, progress.bad_evaluations]
    return [*found, np.array(rows), np.array(counts)]


def assert_same(first, second):
    assert first.phase == second.phase and list(first.finished) == list(second.finished)
    assert list(first.moments.mean) == list(second.moments.mean)
    for left, right in zip(parts(first), parts(second), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("engine", "dtype"), [("numba", "float32"), ("numpy", "float64")])
def test_going_on_after_any_epoch_gives_the_same_bits(data, tmp_path, preset, engine, dtype):
    settings = small(preset, engine=engine, dtype=dtype)
    steps = []
    whole = train(data, settings, after_epoch=steps.append)
    assert len(steps) == 3 * len(phases_of(settings)) and {step.phase for step in steps} == {*phases_of(settings), "done"}
    for number, step in enumerate(steps):
        path = tmp_path / f"{number}.npz"
        save_checkpoint(path, step, settings, data.fingerprint())
        loaded = load_checkpoint(path, settings, data.fingerprint())
        assert_same(step, loaded)
        assert_same(whole, train(data, settings, progress=loaded))


def test_interrupted_after_every_single_epoch(data, tmp_path):
    settings, path, progress = small(), tmp_path / "checkpoint.npz", None

    class Stop(Exception):
        pass

    def save_and_stop(after):
        save_checkpoint(path, after, settings, data.fingerprint())
        raise Stop

    for _ in range(12):
        with pytest.raises(Stop):
            train(data, settings, progress=progress, after_epoch=save_and_stop)
        progress = load_checkpoint(path, settings, data.fingerprint())
    assert progress.is_done
    assert_same(train(data, settings), progress)


def test_another_number_of_threads_or_epochs_may_go_on(data, tmp_path):
    settings, steps = small(max_epochs=3, threads=1), []
    train(data, settings, after_epoch=steps.append)
    save_checkpoint(tmp_path / "c.npz", steps[1], settings, data.fingerprint())
    longer = small(max_epochs=5, threads=2)
    resumed = train(data, longer, progress=load_checkpoint(tmp_path / "c.npz", longer, data.fingerprint()))
    assert_same(train(data, longer), resumed)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"coarse_lr": 0.5}, {"dim": 16}, {"engine": "numpy"}, {"dtype": "float64"}, {"gate": 0.3}]
)
def test_other_settings_are_refused_by_name(data, tmp_path, change):
    steps, settings = [], small(max_epochs=1)
    train(data, settings, after_epoch=steps.append)
    save_checkpoint(tmp_path / "c.npz", steps[0], settings, data.fingerprint())
    with pytest.raises(ModelFileError, match=next(iter(change))):
        load_checkpoint(tmp_path / "c.npz", small(max_epochs=1, **change), data.fingerprint())
    with pytest.raises(ModelFileError, match="other data"):
        load_checkpoint(tmp_path / "c.npz", settings, "0" * 64)


def test_damaged_checkpoints(data, tmp_path):
    steps, settings = [], small(max_epochs=1)
    train(data, settings, after_epoch=steps.append)
    path = tmp_path / "c.npz"
    save_checkpoint(path, steps[0], settings, data.fingerprint())
    header, arrays = read_archive(path, "checkpoint", 1)
    header = {name: value for name, value in header.items() if name not in ("kind", "version")}

    def refused(new_header, new_arrays):
        write_archive(path, "checkpoint", 1, new_header, new_arrays)
        with pytest.raises(ModelFileError, match=path.name):
            load_checkpoint(path, settings, data.fingerprint())

    for name in header.keys() - {"started_from"}:  # younger than the format: older runs have none
        refused({other: value for other, value in header.items() if other != name}, arrays)
    for name in arrays:
        refused(header, {other: value for other, value in arrays.items() if other != name})
    refused(header | {"phase": "third"}, arrays)
    refused(header | {"bests": 3}, arrays)
    refused(header | {"settings": json.dumps(header["settings"])}, arrays)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(path, settings, data.fingerprint())
    with pytest.raises(ModelFileError, match="no such file"):
        load_checkpoint(tmp_path / "none.npz", settings, data.fingerprint())


def test_number_of_epochs_is_fixed_once_it_shapes_the_learning_rate(data, tmp_path):
    settings, steps = small(max_epochs=3, lr_schedule="cosine"), []
    whole = train(data, settings, after_epoch=steps.append)
    save_checkpoint(tmp_path / "c.npz", steps[4], settings, data.fingerprint())
    assert_same(train(data, settings, progress=load_checkpoint(tmp_path / "c.npz", settings, data.fingerprint())), whole)
    with pytest.raises(ModelFileError, match="max_epochs = 3, not 5"):
        load_checkpoint(tmp_path / "c.npz", small(max_epochs=5, lr_schedule="cosine"), data.fingerprint())


def test_a_run_older_than_a_setting_goes_on_with_its_default(data, tmp_path):
    steps, settings = [], small(max_epochs=1)
    train(data, settings, after_epoch=steps.append)
    save_checkpoint(tmp_path / "c.npz", steps[0], settings, data.fingerprint())
    header, arrays = read_archive(tmp_path / "c.npz", "checkpoint", 1)
    del header["settings"]["lr_schedule"]
    header = {name: value for name, value in header.items() if name not in ("kind", "version")}
    write_archive(tmp_path / "c.npz", "checkpoint", 1, header, arrays)
    load_checkpoint(tmp_path / "c.npz", settings, data.fingerprint())
    with pytest.raises(ModelFileError, match="lr_schedule = constant, not cosine"):
        load_checkpoint(tmp_path / "c.npz", small(max_epochs=1, lr_schedule="cosine"), data.fingerprint())
