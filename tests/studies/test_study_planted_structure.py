"""The study of the planted structure: labels by hand, agreement at its ends, and the whole study on a small planted set."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from c2f_np.data import Dataset, PlantedParameters, generate_planted
from c2f_np.errors import DataError, SettingsError
from c2f_np.settings import Settings
from c2f_np.studies import planted_structure as p
from c2f_np.studies import read_study

GROUP, SUBGROUP = np.array([0, 0, 0, 0, 1, 1, 1, 1] * 2), np.array([0, 0, 1, 1, 2, 2, 3, 3] * 2)
TRUTH = {"group": GROUP, "subgroup": SUBGROUP}
SMALL = {"n_coarse": 4, "n_fine": 2, "t_fine": 1, "dim": 8, "max_epochs": 1, "partition": "random", "engine": "numpy"}


def test_largest_weights_are_by_size_and_ties_go_down():
    S = sparse.csr_array(np.array([[0.2, -0.9, 0], [0.5, 0, -0.5], [0, 0, 0], [0, 0, 0.1]]))
    columns, tied = p.largest_weight(S)
    assert columns.tolist() == [1, 0, -1, 2]
    assert tied.tolist() == [False, True, False, False]
    # Entity to coarse row to fine row.
    assert p.lifted(columns, np.array([7, 8, 9])).tolist() == [8, 7, -1, 9]


def test_a_perfect_partition_has_ari_1_whatever_its_labels():
    for labels in (SUBGROUP, np.array([30, 10, 20, 0])[SUBGROUP]):
        found = p.agreement(labels, TRUTH, 8)
        assert found["parts"] == 4
        for kind in p.ENTITIES:
            assert found[f"ari subgroup {kind}"] == found[f"nmi subgroup {kind}"] == 1
            assert found[f"ari group {kind}"] < 0.8  # each group is in two pieces
    # The users right, the items all in one.
    found = p.agreement(np.where(np.arange(16) < 8, GROUP, 0), TRUTH, 8)
    assert (found["ari group users"], found["ari group items"]) == (1, 0) and 0 < found["ari group all"] < 1


def test_a_random_partition_has_ari_about_0_and_nmi_above():
    rng = np.random.default_rng(0)
    truth = {"group": np.arange(900) % 3, "subgroup": np.arange(900) % 30}
    found = p.agreement(rng.permutation(np.arange(900) % 30), truth, 500)
    assert abs(found["ari subgroup all"]) < 0.02 < 0.1 < found["nmi subgroup all"]


def test_kmeans_goes_by_direction_not_length():
    rng = np.random.default_rng(0)
    H = np.eye(4)[SUBGROUP] * np.repeat([1.0, 50.0], 8)[:, None] + 0.01 * rng.standard_normal((16, 4))
    assert p.agreement(p.kmeans_labels(H, 4, 0), TRUTH, 8)["ari subgroup all"] == 1


def small_planted():
    interactions, truth = generate_planted(
        PlantedParameters(n_users=24, n_items=20, n_groups=2, subgroups_per_group=2, least_interactions=5, most_interactions=9)
    )
    R = sparse.csr_array((np.ones(len(interactions.user)), (interactions.user, interactions.item)), shape=(24, 20))
    return Dataset.from_matrices(R, name="small"), p.truth_of(truth)


def test_every_view_of_a_small_training(tmp_path):
    data, truth = small_planted()
    text = p.study_structure(data, truth, SMALL, (0,), tmp_path, ("staged",))
    views = (
        "random, 4 parts", "partition into 4, where coarse starts", "coarse, start", "coarse, coarse stage",
        "fine, start of the fine stage", "fine, fine stage", "k-means into 2, fine stage", "k-means into 4, start",
    )  # fmt: skip
    for view in views:
        assert f"| {view} |" in text
    # At the start with t = 2 both weights are one half, for everybody.
    line = next(line for line in text.splitlines() if line.startswith("| coarse, start |"))
    assert "| 100 % |" in line
    assert (tmp_path / "planted-structure-staged.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "planted-structure.csv").read_text().startswith("preset,seed,partition,parts,")


def test_the_truth_must_be_of_the_data():
    data, _ = small_planted()
    with pytest.raises(DataError, match="16 group labels for 44 users and items"):
        p.measure_structure(data, TRUTH, Settings.preset(**SMALL))


def test_the_ready_studies_are_read_and_bad_ones_refused(tmp_path):
    study = read_study("planted-structure")
    assert (study.kind, study.seeds, study.common["n_coarse"]) == ("planted-structure", (0, 1, 2), 40)
    assert read_study("protocol").kind == "protocol"
    path = Path(tmp_path / "other.toml")
    path.write_text('title = "t"\nquestion = "q"\nkind = "planted-structure"\ndata = ["southern-women"]\n')
    with pytest.raises(DataError, match="needs the data set 'planted'"):
        p.carry_out_planted_study(read_study(path), {}, tmp_path)
    path.write_text('title = "t"\nquestion = "q"\nkind = "planted-structure"\n[options]\nwhat = 1\n')
    with pytest.raises(SettingsError, match="unknown key 'what'"):
        p.carry_out_planted_study(read_study(path), {}, tmp_path)
