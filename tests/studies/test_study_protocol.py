"""The study of protocols: choices on scores that can be drawn, orders and p.reversals, and the whole study on a few users."""

import json

import numpy as np
import pytest
from scipy import sparse

from c2f_np.data import Dataset
from c2f_np.errors import DataError
from c2f_np.evaluation import evaluate_ranking
from c2f_np.studies import protocol as p
from c2f_np.studies import read_study

# Three users, six items, as in docs/evaluation.md; user 2 has no test items.
SCORES = np.array([[0.9, 0.8, 0.8, 0.1, 0.7, 0.3], [0.2, 0.1, 0.4, 0.9, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])


def matrix(lists, n_items=6):
    dense = np.zeros((len(lists), n_items))
    for row, items in enumerate(lists):
        dense[row, items] = 1
    return dense


DATA = Dataset.from_matrices(matrix([[0], [3], [4]]), matrix([[], [5], [5]]), matrix([[2, 4, 5], [2], []]))


def means(rows, metric="ndcg", model="model"):
    return {row.name.split(" (")[0]: row.mean(metric, model) for row in rows if metric in row.values}


def test_choices_worked_out_by_hand():
    rows = p.measure_choices({"model": lambda users: SCORES[users]}, DATA, k=3, other_ks=(1,), n_negatives=9, n_draws=2)
    ndcg, recall = means(rows), means(rows, "recall")
    # The figures of docs/evaluation.md, its clean mask and its authors'.
    assert (round(ndcg["ours"], 4), round(recall["ours"], 4)) == (0.7654, 0.8333)
    assert (round(ndcg["mask: validation items compete"], 4), round(recall["k = 1"], 4)) == (0.5808, 0.5)
    # User 0's item 0 and user 1's item 3 are on top and no longer masked: 0, 1, 2 and 3, 2, 4.
    assert recall["mask: training items compete"] == pytest.approx((1 / 3 + 1) / 2)
    # The higher index first: 2 before 1 for user 0, who then has hits at 1 and 3.
    assert ndcg["ties: higher index first"] == pytest.approx(((1 + 1 / 2) / (1 + 1 / np.log2(3) + 1 / 2) + 1) / 2)
    assert recall["users: the 1 without test items count as 0"] == pytest.approx(recall["ours"] * 2 / 3)
    # More candidates than there are items: nothing changes.
    assert ndcg["candidates: relevant items and 9 sampled ones"] == pytest.approx(ndcg["ours"])
    assert recall["Recall: hit rate"] == 1
    # Definitions of one metric say nothing of the other.
    assert not any(name.startswith("NDCG: ") for name in recall) and any(name.startswith("NDCG: ") for name in ndcg)


def test_ours_is_what_the_evaluator_says_and_random_ties_lie_between():
    rng = np.random.default_rng(0)
    kinds = rng.choice(4, size=(60, 40), p=[0.2, 0.1, 0.2, 0.5])
    data = Dataset.from_matrices(*(sparse.csr_array(kinds == part) for part in range(3)))
    scores = {"counts": rng.integers(0, 3, (60, 40)), "better": kinds == 2}
    rows = p.measure_choices({name: lambda users, s=s: s[users] for name, s in scores.items()}, data, k=10, other_ks=(5,))
    for name, each in scores.items():
        expected = evaluate_ranking(lambda users, s=each: s[users], data.test, data.masked_when_ranking("test"), (10,))
        assert means(rows, "ndcg", name)["ours"] == pytest.approx(expected.metrics["ndcg@10"], rel=1e-12)
        assert means(rows, "recall", name)["ours"] == pytest.approx(expected.metrics["recall@10"], rel=1e-12)
    ndcg = means(rows, "ndcg", "counts")
    assert len({round(ndcg[f"ties: {order}"], 12) for order in ("higher index first", "in random order")} | {ndcg["ours"]}) == 3
    # Nothing ties across what is relevant for the model that knows.
    assert means(rows, "ndcg", "better")["ties: in random order"] == 1 == means(rows, "ndcg", "better")["ours"]


def row_of(choice, **models):
    return p.Choice(choice, {"ndcg": {name: np.array(values, float) for name, values in models.items()}})


def test_orders_differences_and_reversals():
    ours = row_of("ours", a=[0.9, 0.8, 1.0, 0.9], b=[0.1, 0.2, 0.1, 0.3], c=[0.1, 0.3, 0.1, 0.1])
    assert p.mean_difference(ours.values["ndcg"], "a", "b") == (pytest.approx(0.725), True)
    assert p.order_of(ours.values["ndcg"]) == "a > b ≈ c"
    flipped = row_of("flipped", a=[0.1, 0.2, 0.1, 0.3], b=[0.9, 0.8, 1.0, 0.9], c=[0.1, 0.3, 0.1, 0.3])
    # a-b turns clearly, a-c not clearly (0.175 and 0.2: the difference is within its error), b-c stays.
    assert p.reversals([ours, flipped]) == (3, 2, 1)
    assert p.reversals([ours, ours]) == (3, 0, 0)
    averaged = p.over_seeds([[ours], [flipped]])[0]
    assert averaged.values["ndcg"]["a"].tolist() == pytest.approx([0.5, 0.5, 0.55, 0.6])


def test_the_report_shows_changes_and_leaves_out_what_does_not_apply():
    ours = p.Choice("ours", {metric: {"a": np.array([0.5, 0.5]), "b": np.array([0.1, 0.2])} for metric in ("ndcg", "recall")})
    text = p.protocol_tables([ours, row_of("half", a=[0.25, 0.25], b=[0.1, 0.1])], "a", 20)
    assert "| ours | 0.5000 |  | 0.5000 |  |" in text
    assert "| half | 0.2500 | -50.0 % |  |  |" in text
    assert text.count("| half |") == 2  # no line among those of Recall


def test_without_test_or_validation_items():
    scorers = {"model": lambda users: SCORES[users]}
    with pytest.raises(DataError, match="no test items"):
        p.measure_choices(scorers, Dataset.from_matrices(matrix([[0], [1], [2]])))
    rows = p.measure_choices(scorers, Dataset.from_matrices(matrix([[0], [3], [4]]), None, matrix([[2], [2], []])), k=2)
    assert [row.name for row in rows if row.name.startswith("mask")] == ["mask: nothing masked"]


def test_the_whole_study_on_a_few_users(tmp_path):
    rng = np.random.default_rng(1)
    kinds = rng.choice(4, size=(30, 20), p=[0.3, 0.1, 0.1, 0.5])
    data = Dataset.from_matrices(*(sparse.csr_array(kinds == part) for part in range(3)), name="few")
    small = {"n_coarse": 6, "n_fine": 4, "dim": 8, "max_epochs": 1, "partition": "random", "engine": "numpy", "t_fine": 2}
    text = p.study_protocol("few", data, small, (0, 1), tmp_path, preset="staged", n_draws=1, n_negatives=5)
    assert "seeds 0, 1" in text and "popularity" in text and "| ties: in random order |" in text
    stored = json.loads((tmp_path / "protocol-few.json").read_text())
    assert set(stored["ours"]["ndcg"]) == {"popularity", "coarse", "fine"}
    for metric in p.TITLES:
        assert f"(protocol-few-{metric}.png)" in text
        assert (tmp_path / f"protocol-few-{metric}.png").read_bytes().startswith(b"\x89PNG")


def test_names_that_differ_in_punctuation_and_data_that_will_not_do(tmp_path, monkeypatch):
    file = tmp_path / "study.toml"
    data = '[[data]]\nsource = "a-b"\n[[data]]\nsource = "a b"\n'
    few = 'n_coarse = 3\nn_fine = 2\nt_fine = 1\ndim = 4\nmax_epochs = 1\npartition = "random"\n'
    file.write_text(f'title = "t"\nquestion = "?"\nkind = "protocol"\n{data}[common]\n{few}')
    study, trained = read_study(file), []
    three = Dataset.from_matrices(matrix([[0, 1], [3], [4]]), None, matrix([[2], [2], []]))
    same = dict.fromkeys(["popularity", "coarse", "fine"], lambda users: SCORES[users])
    monkeypatch.setattr(p, "trained_scorers", lambda *_: trained.append(1) or same)
    with pytest.raises(DataError, match="no test items"):
        p.carry_out_protocol_study(study, {"a-b": three, "a b": Dataset.from_matrices(three.train)}, tmp_path)
    assert not trained
    p.carry_out_protocol_study(study, {"a-b": three, "a b": three}, tmp_path)
    assert len(list(tmp_path.glob("protocol-*.json"))) == 2
