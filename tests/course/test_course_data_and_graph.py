"""The graders of notebook 00: right answers however written, wrong ones with a word on what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from c2f_np.course import exercise
from c2f_np.course.data_and_graph import EXERCISES
from c2f_np.evaluation import hit_matrix, ndcg_at_k, rank_items
from c2f_np.model.graph import normalised_adjacency

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_data_and_graph.py"

SEEDS = (0, 1, 2)


def blocks(R):
    n = sum(R.shape)
    B = np.zeros((n, n))
    B[: len(R), len(R) :] = R
    B += B.T
    with np.errstate(divide="ignore"):
        root = 1 / np.sqrt(B.sum(0))
    root[np.isinf(root)] = 0
    return np.diag(root) @ B @ np.diag(root)


def by_the_package(R):
    return normalised_adjacency(R).toarray()


def sorted_pairs(scores, masked, k):
    return [i for _, i in sorted((-s, i) for i, s in enumerate(scores) if not masked[i])][:k]


def lowered(scores, masked, k):
    return np.argsort(np.where(masked, np.inf, -scores), kind="stable")[:k]


def ndcg_in_a_loop(ranked, relevant, k):
    found = best = 0.0
    for place, item in enumerate(list(ranked)[:k], 1):
        found += (item in set(relevant.tolist())) / np.log(place + 1)
        best += (place <= len(relevant)) / np.log(place + 1)
    return found / best


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("normalise_by_hand", blocks),
        ("normalise_by_hand", by_the_package),
        ("rank_one_user", sorted_pairs),
        ("rank_one_user", lowered),
        ("ndcg_one_user", ndcg_in_a_loop),
    ],
)
def test_right_answers_written_differently_are_right(name, answer):
    assert exercise(name).mark(answer)


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_the_solution_is_right_and_shown(task):
    assert exercise(task.name).mark(task.solution)
    assert "def " in task.answer() and task.task and 2 <= len(task.hints) <= 4


LISTED = [(task, mistake) for task in EXERCISES for mistake in task.mistakes]


@pytest.mark.parametrize(("task", "mistake"), LISTED, ids=lambda x: getattr(x, "name", ""))
def test_listed_mistakes_are_named(task, mistake):
    marked = exercise(task.name).mark(mistake.function)
    assert not marked and mistake.message in marked.message


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_the_unwritten_zeros_and_the_negative_are_wrong(task):
    def unwritten(*arguments):
        raise NotImplementedError

    assert "not written yet" in exercise(task.name).mark(unwritten).message
    assert not exercise(task.name).mark(lambda *a: np.zeros_like(np.asarray(task.solution(*a), float)))
    assert not exercise(task.name).mark(lambda *a: -np.asarray(task.solution(*a), float))


def test_division_by_an_empty_degree_is_noticed():
    def careless(R):
        B = np.block([[np.zeros((len(R), len(R))), R], [R.T, np.zeros((R.shape[1], R.shape[1]))]])
        with np.errstate(all="ignore"):
            root = np.sqrt(B.sum(1))
            return B / root / root[:, None]

    assert "NaN" in exercise("normalise_by_hand").mark(careless).message


@pytest.mark.parametrize("seed", SEEDS)
def test_the_solutions_agree_with_the_package(seed):
    normalise, rank, ndcg = EXERCISES
    R = normalise.points(seed)["R"]
    np.testing.assert_allclose(normalise.solution(R), normalised_adjacency(R).toarray(), atol=1e-15)
    point = rank.points(seed)
    masked = np.array(point["masked"], ndmin=2)
    np.testing.assert_array_equal(
        rank_items(point["scores"][None], csr_array(masked), point["k"], engine="numpy")[0], rank.solution(**point)
    )
    point = ndcg.points(seed)
    relevant = csr_array(np.isin(np.arange(20), point["relevant"])[None])
    hits = hit_matrix(point["ranked"][None], relevant)
    assert ndcg_at_k(hits, np.array([len(point["relevant"])]), point["k"])[0] == pytest.approx(ndcg.solution(**point), rel=1e-14)


def test_the_folded_answers_of_the_notebook_are_right():
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in NOTEBOOK.read_text(encoding="utf-8").splitlines())
    answers = {}
    for block in re.findall(r"```python\n(def .*?)```", text, flags=re.DOTALL):
        exec(block, {"np": np}, answers)
    assert set(answers) == {task.name for task in EXERCISES}
    for name, answer in answers.items():
        assert exercise(name).mark(answer), name
