"""Taking the fine codebook apart: what changes is what is said, and nothing else."""

import dataclasses

import numpy as np
import pytest

from c2f_np import C2FRecommender, load_dataset
from c2f_np.evaluation import evaluate_embeddings
from c2f_np.model.starts import start_coarse, start_fine
from c2f_np.serving import load_exported
from c2f_np.settings import Settings
from c2f_np.studies.methods import _measure_state
from c2f_np.studies.surgery import ANALYSES, no_fine, random_fine, shuffled_fine_rows, without_fine_edges, zero_fine
from c2f_np.training.problem import entity_embeddings, pose, stage_of


def problem_of(**settings):
    own = dict(n_coarse=6, n_fine=4, dim=8, n_components=4, t_fine=2, threshold=0.1, partition="random", engine="numpy")
    own |= dict(dtype="float64") | settings
    return pose(load_dataset("southern-women"), Settings.preset("authors", **own))


@pytest.fixture(scope="module")
def problem():
    return problem_of()


@pytest.fixture(scope="module")
def state(problem):
    state = start_fine(start_coarse(problem.R, problem.settings), problem.R, problem.settings)
    return dataclasses.replace(state, E_fine=np.random.default_rng(3).standard_normal(state.E_fine.shape))


def graph_of(state, problem):
    return stage_of(state, problem.settings).graph(state, problem.A)


def rng():
    return np.random.default_rng(0)


def untouched(before, after, *changed):
    return all(getattr(before, f.name) is getattr(after, f.name) for f in dataclasses.fields(before) if f.name not in changed)


def test_changes_of_the_codebook(state):
    zero, permuted, shuffled = zero_fine(state), random_fine(state, rng()), shuffled_fine_rows(state, rng())
    for changed in (zero, permuted, shuffled):
        assert untouched(state, changed, "E_fine") and changed.E_fine.shape == state.E_fine.shape
    assert not zero.E_fine.any() and state.E_fine.all()
    np.testing.assert_array_equal(np.sort(permuted.E_fine, axis=1), np.sort(state.E_fine, axis=1))
    # A permutation for each row: the columns are not simply exchanged.
    assert (np.sort(permuted.E_fine, axis=0) != np.sort(state.E_fine, axis=0)).any()
    assert sorted(map(tuple, shuffled.E_fine)) == sorted(map(tuple, state.E_fine))
    assert (shuffled.E_fine != state.E_fine).any(axis=1).all()


def test_every_analysis_leaves_its_input_alone(state, problem):
    before = [state.E_fine.copy(), state.E_coarse.copy(), state.S_fine.data.copy()]
    for analysis in ANALYSES.values():
        analysis(state, problem, rng())
    for old, new in zip(before, [state.E_fine, state.E_coarse, state.S_fine.data], strict=True):
        np.testing.assert_array_equal(old, new)


def test_no_fine_is_the_coarse_stage(state, problem):
    coarse = no_fine(state)
    assert not coarse.is_fine and untouched(state, coarse, "E_fine", "S_fine", "S_direct")
    expected = entity_embeddings(start_coarse(problem.R, problem.settings), problem.A, problem.settings)
    np.testing.assert_array_equal(entity_embeddings(coarse, problem.A, problem.settings), expected)


@pytest.mark.parametrize("degree", ["signed", "absolute"])
def test_without_edges_the_graph_is_the_coarse_one(state, degree):
    problem = problem_of(degree=degree)
    n = sum(state.S_coarse.shape)
    coarse = graph_of(no_fine(state), problem).X_hat.matrix.toarray()
    cut = without_fine_edges(state, problem).layer.X_hat.matrix.toarray()
    np.testing.assert_array_equal(cut[:n, :n], coarse)
    assert not cut[n:].any() and not cut[:, n:].any()
    # Leaving the edges out of the fine graph would not do: its degrees still count them.
    whole = graph_of(state, problem).layer.X_hat.matrix.toarray()
    assert np.abs(whole[:n, :n] - coarse).max() > 0.01


@pytest.mark.parametrize("layer_bridge", ["raw", "exchange"])
def test_without_edges_and_gate_only_the_bridge_of_the_layers_is_left(state, layer_bridge):
    problem = problem_of(gate=0.0, layer_bridge=layer_bridge)
    H = stage_of(state, problem.settings).forward(state, without_fine_edges(state, problem)).H_entities
    coarse = entity_embeddings(no_fine(state), problem.A, problem.settings)
    # With a closed gate both readings leave coarse messages as they are.
    np.testing.assert_allclose(H, coarse, rtol=1e-12)


def test_without_edges_a_fine_row_reaches_entities_by_the_bridge_only(state):
    problem = problem_of(gate=0.3)
    cut = stage_of(state, problem.settings).forward(state, without_fine_edges(state, problem)).H_entities
    whole = entity_embeddings(state, problem.A, problem.settings)
    coarse = entity_embeddings(no_fine(state), problem.A, problem.settings)
    assert np.abs(cut - whole).max() > 1e-3 and np.abs(cut - coarse).max() > 1e-3


@pytest.mark.parametrize("preset", ["default", "staged"])
def test_int8_is_the_exported_model(preset, tmp_path):
    """Its metrics and bytes are those of the file that `export` writes with int8, whatever the model."""
    small = dict(n_coarse=6, n_fine=4, dim=8, t_fine=2, max_epochs=2, eval_every=1, engine="numpy")
    model = C2FRecommender(preset=preset, settings=small | ({"n_components": 4} if preset == "staged" else {}))
    data = load_dataset("southern-women")
    model.fit(data)
    model.export(tmp_path / "small.npz", codebook="int8", weights="int8")
    problem, served = pose(data, model.settings_), load_exported(tmp_path / "small.npz")
    found = _measure_state("run", "int8", model.state_, None, problem, 0.0, "int8")
    H, masked = np.split(served.embeddings(), [data.n_users]), data.masked_when_ranking("test")
    expected = evaluate_embeddings(*H, served.item_bias, data.test, masked, protocol=data.protocol)
    assert found.metrics["test"] == expected.metrics and found.label == "run / int8"
    assert found.size["model"] == served.size_in_bytes()["model"] < model.size_in_bytes()["model"] / 2
