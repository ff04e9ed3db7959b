"""The exercises on size, quality and groups; and the tables of stored results are read as they stand."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from c2f_np.course import exercise, experiments
from c2f_np.evaluation import hit_matrix, ndcg_at_k, rank_items
from c2f_np.model.step import ModelState
from c2f_np.model_file import size_in_bytes

ROOT = Path(__file__).parents[2]


def size_of_arrays(N, C, M, d, t, t_f):
    import scipy.sparse as sparse

    def rows(n, m, k):
        columns = np.arange(k)[None, :].repeat(n, axis=0).ravel()
        return sparse.csr_array((np.ones(n * k, np.float32), columns, np.arange(0, n * k + 1, k)), shape=(n, m))

    zeros = (np.zeros(shape, np.float32) for shape in ((C, d), N, 1, (M, d)))
    E_coarse, bias, bias_global, E_fine = zeros
    state = ModelState(E_coarse, rows(N, C, t), bias, bias_global, E_fine, rows(C, M, t_f))
    return size_in_bytes(state)["model"]


def size_by_types(N, C, M, d, t, f):
    one = [np.min_scalar_type(rows - 1).itemsize for rows in (C, M)]
    return 4 * (d * (C + M) + N * t + C * f + N + 1) + one[0] * N * t + one[1] * C * f


def frontier_by_loops(sizes, qualities):
    def beats(j, i):
        return sizes[j] <= sizes[i] and qualities[j] >= qualities[i] and (sizes[j], qualities[j]) != (sizes[i], qualities[i])

    every = range(len(sizes))
    return [not any(beats(j, i) for j in every) for i in every]


def rand_by_pairs(labels, truth):
    n = len(labels)
    ours, theirs = (np.equal.outer(x, x)[np.triu_indices(n, 1)] for x in (labels, truth))
    chance = ours.sum() * theirs.sum() / len(ours)
    return ((ours & theirs).sum() - chance) / ((ours.sum() + theirs.sum()) / 2 - chance)


def ndcg_by_loop(scores, known, relevant, k):
    free = [i for i in range(len(scores)) if not known[i]]
    free.sort(key=lambda i: scores[i], reverse=True)
    gain = sum(1 / np.log2(place + 2) for place, i in enumerate(free[:k]) if relevant[i])
    return gain / sum(1 / np.log2(place + 2) for place in range(min(k, int(relevant.sum()))))


def ndcg_of_the_package(scores, known, relevant, k):
    import scipy.sparse as sparse

    masked, wanted = (sparse.csr_array(x[None, :].astype(np.int8)) for x in (known, relevant))
    return float(ndcg_at_k(hit_matrix(rank_items(scores[None, :], masked, k), wanted), [relevant.sum()], k)[0])


def gradient_by_loop(g, b, x, users, winners, losers):
    result = np.zeros(len(b))
    for value, i, j in zip(x, winners, losers, strict=True):
        s = g / len(x) * (0.5 + 0.5 * np.tanh((value + b[j] - b[i]) / 2))
        result[j] += s
        result[i] -= s
    return result


def gradient_by_bincount(g, b, x, users, winners, losers):
    s = g / x.size / (1 + np.exp(b[winners] - b[losers] - x))
    return np.bincount(losers, s, len(b)) - np.bincount(winners, s, len(b))


DIFFERENT = {
    "size_of_model": (size_of_arrays, size_by_types),
    "on_the_frontier": (frontier_by_loops,),
    "adjusted_rand": (rand_by_pairs, adjusted_rand_score),
    "one_users_ndcg": (ndcg_by_loop, ndcg_of_the_package),
    "bias_gradient": (gradient_by_loop, gradient_by_bincount),
}
NOTEBOOK = {
    "size_of_model": "09_does_it_work",
    "on_the_frontier": "09_does_it_work",
    "adjusted_rand": "09_does_it_work",
    "one_users_ndcg": "11_paper_against_code",
    "bias_gradient": "11_paper_against_code",
}


def test_every_exercise_is_here():
    assert {task.name for task in experiments.EXERCISES} == set(DIFFERENT) == set(NOTEBOOK)


@pytest.mark.parametrize("name", DIFFERENT)
def test_right_answers(name):
    task = exercise(name)
    for attempt in (task.solution, *DIFFERENT[name]):
        assert task.mark(attempt), task.mark(attempt).message


@pytest.mark.parametrize("name", DIFFERENT)
def test_wrong_answers(name):
    task = exercise(name)
    for mistake in task.mistakes:
        assert task.mark(mistake.function).message == f"{name}: {mistake.message}"

    def unwritten(*given):
        raise NotImplementedError

    assert "not written yet" in task.mark(unwritten).message
    for wrong in (lambda x: 0 * x, lambda x: ~x if x.dtype == bool else -x, lambda x: x[::-1] if x.ndim else 1.01 * x):
        assert not task.mark(lambda *given, wrong=wrong: wrong(np.asarray(task.solution(*given))))


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_folded_answer_is_the_solution(name):
    text = (ROOT / "notebooks" / f"{NOTEBOOK[name]}.py").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ").rstrip() for line in text.splitlines()]
    body = inspect.getsource(exercise(name).solution).rstrip().splitlines()[1:]
    first = lines.index(body[0])
    assert lines[first : first + len(body)] == body


def test_stored_results():
    path = ROOT / "docs/results/presets.md"
    found = experiments.stored_results(path)
    assert {key[0] for key in found} == {"MovieLens 100K", "Planted"}
    assert {key[1] for key in found} == {"authors", "paper", "staged"}
    assert len(found) == 2 * 3 * 5
    text = path.read_text(encoding="utf-8")
    for (_, _, row), numbers in found.items():
        assert f"| {row} | {numbers['ndcg@5']:.4f} |" in text
        assert numbers["lowest"] <= numbers["ndcg@20"] <= numbers["highest"]
        assert numbers["bytes"] > 3000


def test_rows_of_a_study(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "data,status,outcome,test_ndcg@20,bytes,note\n"
        "planted,done,a,0.25,100,\n"
        'planted,done,"b, 2 rows",0.5,200,\n'
        "planted,done,a,0.75,100,\n"
        "planted,done,a / control,,,does not apply\n"
        "planted,failed,c,,,DataError: x\n",
        encoding="utf-8",
    )
    found = experiments.study_rows(path)
    assert list(found) == ["a", "b, 2 rows"]
    assert found["a"]["test_ndcg@20"].tolist() == [0.25, 0.75] and found["b, 2 rows"]["bytes"].tolist() == [200]
    assert "note" not in found["a"] and "data" not in found["a"]
