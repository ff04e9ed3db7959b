"""What training and run folders report of a state: every part of the data, masked as its protocol says, against a plain sort."""

import numpy as np
import pytest
from scipy import sparse

from c2f_np.data import Dataset
from c2f_np.model import starts
from c2f_np.settings import PRESETS, Settings
from c2f_np.training.loop import begin
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import entity_embeddings, evaluate_state, pose
from c2f_np.verification.sampling import plain_evaluation

KS = (5, 10, 20, 50)
SMALL = {
    "n_coarse": 6, "n_fine": 4, "dim": 8, "n_components": 4, "t_fine": 2, "partition": "random", "dtype": "float64",
    "bias_start": "normal",  # no ties
}  # fmt: skip


def made_up(protocol):
    """More than a block of users, more than a list of items, some users with far more than 40 training items."""
    rng = np.random.default_rng(4)
    kinds = rng.random((110, 80))
    kinds[::5] *= 0.5  # training items are below 0.4
    parts = (sparse.csr_array(part.astype(np.int8)) for part in (kinds < 0.4, (0.4 < kinds) & (kinds < 0.5), kinds > 0.8))
    return Dataset.from_matrices(*parts, protocol=protocol)


@pytest.mark.parametrize("protocol", ["clean", "authors"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_both_parts_of_the_data_are_masked_as_the_protocol_says(preset, protocol, engine):
    data = made_up(protocol)
    settings = Settings.preset(preset, **SMALL, engine=engine, threads=2)
    problem = pose(data, settings)
    states = [begin(phases_of(settings, problem.engine), problem).state]
    states += [starts.start_fine(states[0], problem.R, settings)] if settings.training == "stages" else []
    train, validation, test = (part.toarray().astype(bool) for part in (data.train, data.validation, data.test))
    assert (train.sum(axis=1) > 45).sum() > 10
    for state in states:
        H = entity_embeddings(state, problem.A, settings)
        scores = H[:110] @ H[110:].T + state.bias[110:]
        for part, relevant, masked in (
            ("validation", validation, train),
            ("test", test, train | validation if protocol == "clean" else train),
        ):
            result = evaluate_state(state, problem, part)
            expected = plain_evaluation(scores, relevant, masked, KS)
            assert (result.n_users, result.protocol) == (len(expected["users"]), protocol)
            assert list(result.metrics) == [f"{metric}@{k}" for metric in ("ndcg", "recall") for k in KS]
            for name, value in result.metrics.items():
                assert value == pytest.approx(np.mean(expected[name]), rel=1e-12) and value > 0, name


def test_a_part_that_is_empty_is_not_evaluated():
    data = made_up("clean")
    settings = Settings.preset("staged", **SMALL)
    problem = pose(Dataset.from_matrices(data.train, None, data.test), settings)
    state = starts.start_coarse(problem.R, settings)
    assert evaluate_state(state, problem, "validation") is None
    assert evaluate_state(state, problem, "test").n_users == np.count_nonzero(np.diff(data.test.indptr))
