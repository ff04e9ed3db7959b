"""Coarse rows that consist of fine rows alone (joint training with a gate of 1): a second level of composition."""

import numpy as np
import pytest
from same import assert_resumes, begun, followed
from small import JOINT, TABLE, joint, table

from c2f_np import C2FRecommender
from c2f_np.model.links import residual_code
from c2f_np.model.starts import code_table, partition_entities, start_table
from c2f_np.serving import load_exported
from c2f_np.studies.surgery import no_fine
from c2f_np.training import train
from c2f_np.training.problem import evaluate_state, pose
from tests.stored import stored, write

ALONE = pytest.mark.parametrize("t_direct", [0, 1])


@ALONE
@pytest.mark.parametrize("way", [joint, table])
def test_it_trains_all_there_is_and_resumes(data, tmp_path, way, t_direct):
    settings = way("bridge", gate=1.0, t_direct=t_direct, exchange_epochs=9, update_every=1, coarse_lr=0.05)
    steps = followed(data, settings)
    begins = next(step for step in steps if step.phase == "joint")
    assert begins.state.E_coarse.shape == (0, 8) and steps[-1].result.state.E_coarse.shape == (0, 8)
    assert set(begins.moments.mean) == {"E_coarse", "E_fine", "S_coarse", "S_fine", "bias", "bias_global"} | (
        {"S_direct"} if t_direct else set()
    )
    last = steps[-1].state
    for name in ("S_coarse", "S_fine", *(["S_direct"] if t_direct else [])):
        assert (getattr(last, name).data != getattr(begins.state, name).data).any()
    # From a partition the bridge is as good as drawn, and is soon found anew.
    assert way is table or (last.S_fine.indices != begins.state.S_fine.indices).any()
    assert_resumes(data, settings, steps, tmp_path)


@ALONE
def test_the_start_codes_the_coarse_rows(data, t_direct):
    """With as many fine rows and links as there are coarse rows nothing is lost; with fewer, less than a partition loses."""
    settings = table("bridge", gate=1.0, t_direct=t_direct, t_coarse=1, dtype="float64", n_fine=6, t_fine=6)
    problem = pose(data, settings)
    full = start_table(problem.R, settings)
    R = problem.R
    how = {"parts": partition_entities(R, 6, method="random"), "weight": 1.0 + np.concatenate([R.sum(axis=1), R.sum(axis=0)])}
    code = residual_code(full.E_coarse, 6, 6, 1, t_direct, seed=settings.seed, **how)
    state = code_table(full, problem.R, settings)
    F = np.sign(state.E_fine) * np.maximum(np.abs(state.E_fine) - settings.threshold, 0)
    np.testing.assert_array_equal(state.S_coarse.toarray(), code.S_coarse.toarray())
    if not t_direct:
        np.testing.assert_allclose(state.S_fine @ F, code.E_hat, atol=1e-6)
    Y = state.S_coarse @ (state.S_fine @ F)
    left = full.E_coarse - Y
    if t_direct:
        assert np.sum((left - state.S_direct @ F) ** 2) < np.sum(left**2)
    few = code_table(full, problem.R, table("bridge", gate=1.0, t_direct=t_direct, t_coarse=1, dtype="float64", t_fine=2))
    F = np.sign(few.E_fine) * np.maximum(np.abs(few.E_fine) - settings.threshold, 0)
    E_hat = few.S_fine @ F
    used = code.S_coarse.toarray().T ** 2 @ how["weight"]
    assert 0.4 * np.sum(used @ code.E_hat**2) > np.sum(used @ (code.E_hat - E_hat) ** 2)


def test_a_partition_start_makes_means_of_fine_rows(data):
    settings = joint("bridge", gate=1.0)
    state = begun(data, settings).state
    np.testing.assert_allclose(state.S_fine.sum(axis=1), 1, rtol=1e-6)


@ALONE
def test_files_hold_links_and_no_coarse_codebook(data, tmp_path, t_direct):
    model = C2FRecommender("default", settings=TABLE | {"gate": 1.0, "t_direct": t_direct}).fit(data)
    model.save(tmp_path / "model.npz")
    arrays = stored(tmp_path / "model.npz")[1]
    assert arrays["state.E_coarse"].size == 0 and arrays["state.S_fine.indices"].dtype == np.uint8
    sizes = model.size_in_bytes()
    assert sizes["codebooks"] == 4 * 8 * 4 and sizes["assignment weights"] == 4 * (32 + 6 * 2 + 32 * t_direct)
    assert sizes["model"] == sum(a.nbytes for name, a in arrays.items() if name.startswith("state."))
    loaded = C2FRecommender.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(loaded.embeddings_, model.embeddings_)
    # Older files of such a model hold a coarse codebook that nothing uses.
    header, older = stored(tmp_path / "model.npz")
    write(tmp_path / "older.npz", "model", 1, header, older | {"state.E_coarse": np.ones((6, 8), np.float32)})
    assert C2FRecommender.load(tmp_path / "older.npz").size_in_bytes() == model.size_in_bytes()
    for kind in ("float32", "int8"):
        model.export(tmp_path / f"{kind}.npz", codebook=kind)
        served = load_exported(tmp_path / f"{kind}.npz")
        np.testing.assert_allclose(served.embeddings(), model.embeddings_, atol=1e-6 if kind == "float32" else 0.1)
        assert served.recommend_from([data.item_ids[:3]], 2)[0].shape == (1, 2)
    assert served.size_in_bytes()["codebooks"] == 4 * 8 + 4 * 4  # a byte for a number, a scale for a row


def test_without_its_fine_codebook_nothing_is_left_but_biases(data):
    settings = joint("bridge", gate=1.0)
    problem, state = pose(data, settings), train(data, settings).result.state
    bare = no_fine(state)
    assert not bare.is_fine and bare.E_coarse.shape == (6, 8) and not bare.E_coarse.any()
    assert 0 <= evaluate_state(bare, problem, "test").metrics["ndcg@20"] <= 1


@pytest.mark.slow
def test_it_learns_as_the_coarse_codebook_does(tmp_path):
    from c2f_np import load_dataset

    data = load_dataset("planted")
    sizes = JOINT | {
        "n_coarse": 30, "n_fine": 12, "dim": 16, "coarse_batch": 4096, "max_epochs": 12, "eval_every": 4, "neg_size": 2,
        "t_direct": 0, "t_coarse": 1, "exchange_epochs": 8, "table_epochs": 12, "start_lr": 3e-2,
    }  # fmt: skip
    found = {}
    for gate in (0.0, 1.0):
        model = C2FRecommender("default", settings=sizes | {"gate": gate}).fit(data)
        found[gate] = model.evaluate(part="test").metrics["ndcg@20"]
        assert [row["bpr"] for row in model.history_][-1] < 0.69
    assert found[1.0] > 0.7 * found[0.0]
