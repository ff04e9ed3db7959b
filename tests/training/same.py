"""Everything in a training's progress, leaf by leaf: the same bits, or at which field they differ."""

import dataclasses

import numpy as np
import scipy.sparse as sparse

from c2f_np.training import train
from c2f_np.training.checkpoint import load_checkpoint, save_checkpoint
from c2f_np.training.loop import begin, run_epoch
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import pose


def leaves(value, place=""):
    """Every array, number and text in dataclasses, dicts, tuples and sparse matrices, with the place where it stands."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif sparse.issparse(value):
        value = {"shape": value.shape, "data": value.data, "indices": value.indices, "indptr": value.indptr}
    elif isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield place, value
    else:
        for name, part in value.items():
            yield from leaves(part, f"{place}.{name}")


def assert_same(first, second):
    """Same fields, types, shapes and bits; only clocks may differ."""
    first, second = (dict(leaves(value)) for value in (first, second))
    assert list(first) == list(second)
    for place, value in first.items():
        one, other = np.asarray(value), np.asarray(second[place])
        same = (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        assert same or place.endswith(".seconds"), f"{place} was {one}, is {other}"


def assert_close(first, second, **tolerances):
    """Same fields, texts and missing parts; numbers within tolerances."""
    first, second = (dict(leaves(value)) for value in (first, second))
    assert list(first) == list(second)
    for place, value in first.items():
        if value is None or isinstance(value, str):
            assert value == second[place], place
        elif not place.endswith(".seconds"):
            np.testing.assert_allclose(second[place], value, **tolerances, err_msg=place)


def begun(data, settings):
    """Where a training with these settings begins."""
    problem = pose(data, settings)
    return begin(phases_of(settings, problem.engine), problem)


def followed(data, settings):
    """Where a training stood before the first epoch and after each."""
    steps = [begun(data, settings)]
    train(data, settings, after_epoch=steps.append)
    return steps


def assert_resumes(data, settings, steps, folder):
    """After each epoch the next one, step by step to the end; from the middle of each phase the whole rest."""
    problem = pose(data, settings)
    phases = phases_of(settings, problem.engine)
    for number, step in enumerate(steps):
        path = folder / f"{number}.npz"
        save_checkpoint(path, step, settings, data.fingerprint())
        loaded = load_checkpoint(path, settings, data)
        assert_same(loaded, step)
        if not step.is_done:
            assert_same(run_epoch(phases, loaded, problem)[0], steps[number + 1])
        if step.is_done or step.phase_epoch == 1:
            assert_same(train(data, settings, progress=loaded), steps[-1])


def scrambled(value, rng):
    """The same structure with other numbers everywhere, so that none is what it would be if it were left out or mixed up."""
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return dataclasses.replace(value, **{name: scrambled(getattr(value, name), rng) for name in fields})
    if isinstance(value, dict):
        return {name: scrambled(part, rng) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(scrambled(part, rng) for part in value)
    if sparse.issparse(value):
        return sparse.csr_array((scrambled(value.data, rng), value.indices, value.indptr), shape=value.shape)
    if isinstance(value, np.ndarray):
        return rng.standard_normal(value.shape).astype(value.dtype)
    if isinstance(value, int):
        return int(rng.integers(1, 10**6))
    return float(rng.random()) if isinstance(value, float) else value
