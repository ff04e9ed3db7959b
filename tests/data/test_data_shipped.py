"""The data sets that come with the package: known marginals, planted structure, files that equal the generator."""

from pathlib import Path

import numpy as np
import pytest

from c2f_np.data import (
    PlantedParameters,
    dataset_info,
    generate_planted,
    load_dataset,
    load_truth,
    southern_women_split,
    write_shipped,
)
from c2f_np.errors import DataError

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="the package is not tested from a checkout")
def test_shipped_files_are_what_the_program_writes(tmp_path):
    written = write_shipped(tmp_path)
    assert len(written) == 7
    for path in written:
        relative = path.relative_to(tmp_path)
        assert path.read_bytes() == (DATA / relative).read_bytes(), f"{relative}: run write_shipped('data')"
        assert b"\r" not in path.read_bytes()


def test_southern_women_has_the_published_marginals():
    split = southern_women_split()
    attended = (split.train + split.test).toarray()
    assert attended.sum(axis=1).tolist() == [8, 7, 8, 7, 4, 4, 4, 3, 4, 4, 4, 6, 7, 8, 5, 2, 2, 2]
    assert attended.sum(axis=0).tolist() == [3, 3, 6, 4, 8, 8, 10, 14, 12, 5, 4, 6, 3, 3]
    assert attended.max() == 1 and attended.sum() == 89
    assert split.user_ids[0] == "Evelyn Jefferson" and split.user_ids[-1] == "Flora Price"
    assert split.item_ids.tolist() == [f"E{number}" for number in range(1, 15)]


def test_southern_women_split_is_fixed_and_leaves_everybody_something():
    split = southern_women_split()
    assert split.test.nnz == 25 and np.diff(split.test.indptr).min() == 1
    assert np.diff(split.train.indptr).min() == 1
    assert split.train.sum(axis=0).min() >= 1
    assert split.test.toarray()[0].nonzero()[0].tolist() == [0, 1]  # Evelyn, row 0: her first two of eight events


def test_planted_has_the_promised_sizes():
    interactions, truth = generate_planted()
    assert (interactions.n_users, interactions.n_items) == (1000, 800)
    assert len(interactions) == dataset_info("planted").n_interactions
    per_user, per_item = np.bincount(interactions.user), np.bincount(interactions.item, minlength=800)
    assert per_user.min() >= 14 and 25 <= per_user.mean() <= 40
    assert per_item.min() >= 1
    assert np.sort(per_item)[-80:].sum() > 0.25 * len(interactions)  # the head: a tenth of the items
    assert np.bincount(truth.user_subgroup).tolist() == [25] * 40
    assert np.bincount(truth.item_subgroup).tolist() == [20] * 40
    assert (truth.user_group == truth.user_subgroup // 5).all()


def test_planted_structure_is_in_the_data():
    interactions, truth = generate_planted()
    same_subgroup = truth.user_subgroup[interactions.user] == truth.item_subgroup[interactions.item]
    same_group = truth.user_group[interactions.user] == truth.item_group[interactions.item]
    assert 0.25 < same_subgroup.mean() < 0.35  # by chance: 1/40
    assert 0.55 < same_group.mean() < 0.65  # by chance: 1/8


def recall_at_20(scores, data):
    scores = np.where(data.train.toarray() > 0, -np.inf, scores)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    hits = np.take_along_axis(data.test.toarray(), top, axis=1).sum(axis=1)
    return (hits / np.diff(data.test.indptr)).mean()


def test_groups_beat_popularity_and_subgroups_beat_groups():
    data, truth = load_dataset("planted", validation_fraction=0), load_truth("planted")
    popularity = np.tile(data.train.sum(axis=0).astype(float), (1000, 1))
    in_group = truth.user_group[:, None] == truth.item_group
    in_subgroup = truth.user_subgroup[:, None] == truth.item_subgroup
    by_popularity = recall_at_20(popularity, data)
    by_group = recall_at_20(popularity * (1 + 15 * in_group), data)
    by_subgroup = recall_at_20(popularity * (1 + 7 * in_group + 52 * in_subgroup), data)
    assert by_popularity < 0.15
    assert by_group > 2 * by_popularity
    assert by_subgroup > 1.2 * by_group
    assert by_subgroup < 0.6  # far from trivial
    by_the_rules = recall_at_20(truth.item_popularity * (1 + 7 * in_group + 52 * in_subgroup), data)
    assert by_the_rules > by_subgroup  # counts are the true popularity with noise


def test_planted_depends_on_its_parameters_only():
    one, _ = generate_planted(PlantedParameters(n_users=50, n_items=60, seed=3, most_interactions=30))
    same, _ = generate_planted(PlantedParameters(n_users=50, n_items=60, seed=3, most_interactions=30))
    other, _ = generate_planted(PlantedParameters(n_users=50, n_items=60, seed=4, most_interactions=30))
    assert one.item.tolist() == same.item.tolist() != other.item.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(n_users=39), "40 subgroups need"),
        (dict(n_groups=0), "at least one group"),
        (dict(most_interactions=801), "most_interactions <= n_items"),
        (dict(group_affinity=0), "must be positive"),
    ],
)
def test_impossible_parameters(changes, message):
    with pytest.raises(DataError, match=message):
        PlantedParameters(**changes)


def test_no_truth_is_known_for_others():
    with pytest.raises(DataError, match="not 'southern-women'"):
        load_truth("southern-women")
