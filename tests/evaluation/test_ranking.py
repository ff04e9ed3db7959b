"""Top-k lists: literal ones, then the two engines against each other."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import rows_of
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

from c2f_np.errors import C2FError, DataError, SettingsError
from c2f_np.evaluation import count_ties_at_cut, rank_embeddings, rank_items, ranking
from c2f_np.threads import one_blas_thread

ENGINES = ["numpy", "numba"]
INF = np.inf


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_ranking_that_can_be_drawn(engine, dtype):
    scores = np.array(
        [
            [9, 8, 8, 1, 7, 3],  # item 0 masked; 1 and 2 tie and stay in order
            [5, 5, 5, 5, 5, 5],  # all tie: by index, past the masked 0 and 2
            [1, 2, 3, 4, 5, 6],  # only item 3 is left
            [1, 2, 3, 4, 5, 6],  # nothing is left
            [-INF, 2, -INF, INF, INF, 1],  # -inf is a score like any other, the lowest
        ],
        dtype,
    )
    masked = rows_of([[0], [0, 2], [0, 1, 2, 4, 5], range(6), [1]], 6)
    expected = [
        [1, 2, 4, 5],
        [1, 3, 4, 5],
        [3, -1, -1, -1],
        [-1, -1, -1, -1],
        [3, 4, 5, 0],
    ]
    found = rank_items(scores, masked, 4, engine=engine)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    # k larger than the catalogue: lists as long as the catalogue
    found = rank_items(scores, masked, 99, engine=engine)
    assert found.shape == (5, 6)
    np.testing.assert_array_equal(found[0], [1, 2, 4, 5, 3, -1])
    np.testing.assert_array_equal(found[4], [3, 4, 5, 0, 2, -1])


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_at_the_cut_are_counted(engine):
    scores = np.array([[3.0, 2.0, 2.0, 1.0], [3.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 0.0], [4.0, 4.0, 4.0, 4.0]])
    masked = rows_of([[], [], [0], [0, 1]], 4)
    # Cut after 2: row 0 has 3,2|2: a tie. Row 1 has 3,3|2: none. Row 2 has 1,1|0: none. Row 3 has 4,4 and no more.
    assert count_ties_at_cut(scores, masked, 2, engine=engine) == 1
    # Cut after 1: 3|2 no, 3|3 tie, 1|1 tie, 4|4 tie.
    assert count_ties_at_cut(scores, masked, 1, engine=engine) == 3
    assert count_ties_at_cut(scores, masked, 4, engine=engine) == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("column", [0, 2, 4])
def test_nan_is_reported_with_its_place(engine, column):
    scores = np.arange(20.0).reshape(4, 5)[:, ::-1].copy()
    scores[2, column] = np.nan
    with pytest.raises(DataError, match=rf"row 2 and item {column} is not a number"):
        rank_items(scores, rows_of([[], [], [column], []], 5), 2, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_earliest_nan_is_reported_at_any_thread_count(engine):
    scores = np.zeros((200, 3))
    scores[[70, 190], 1] = np.nan
    for n_threads in (1, 2, 3):
        with pytest.raises(DataError, match="row 70 and item 1"):
            rank_items(scores, None, 2, engine=engine, n_threads=n_threads)


def test_what_is_not_valid_is_refused():
    scores = np.zeros((2, 3))
    for k in (0, -1, 1.5, True, "3"):
        with pytest.raises(SettingsError, match="k must be an integer"):
            rank_items(scores, None, k)
    with pytest.raises(SettingsError, match="engine"):
        rank_items(scores, None, 1, engine="torch")
    with pytest.raises(SettingsError, match="n_threads"):
        rank_items(scores, None, 1, n_threads=0)
    with pytest.raises(DataError, match="masked has the shape"):
        rank_items(scores, rows_of([[0]], 3), 1)
    with pytest.raises(DataError, match="sparse"):
        rank_items(scores, np.zeros((2, 3)), 1)
    with pytest.raises(DataError, match="matrix"):
        rank_items(np.zeros(3), None, 1)
    with pytest.raises(DataError, match="real"):
        rank_items(np.zeros((2, 3), complex), None, 1)
    assert issubclass(DataError, C2FError)


@pytest.mark.parametrize("engine", ENGINES)
def test_empty_inputs_give_empty_lists(engine):
    assert rank_items(np.zeros((0, 4)), None, 2, engine=engine).shape == (0, 2)
    assert rank_items(np.zeros((3, 0)), None, 2, engine=engine).shape == (3, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_masks_in_disorder_and_stored_zeros_are_understood_and_left_alone(engine):
    # Row 0: items 3, 1, 3 (unsorted, twice) and a stored zero at 0, which masks nothing.
    masked = sparse.csr_array((np.array([1, 1, 1, 0]), np.array([3, 1, 3, 0]), np.array([0, 4])), shape=(1, 4))
    np.testing.assert_array_equal(rank_items(np.array([[4, 3, 2, 1]]), masked, 4, engine=engine), [[0, 2, -1, -1]])
    np.testing.assert_array_equal(masked.indices, [3, 1, 3, 0])


def test_long_lists_are_sorted_instead_with_the_same_result(monkeypatch):
    scores = np.random.default_rng(5).integers(0, 30, (20, 60)).astype(np.float32)
    short = rank_items(scores, None, 40)
    monkeypatch.setattr(ranking, "LONGEST_BUFFER", 10)
    np.testing.assert_array_equal(rank_items(scores, None, 40), short)


@st.composite
def problems(draw):
    n_rows, n_items = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    values = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([-INF, INF, -0.0]), st.floats(-1, 1, width=32))
    scores = draw(st.lists(values, min_size=n_rows * n_items, max_size=n_rows * n_items))
    mask = draw(st.lists(st.booleans(), min_size=n_rows * n_items, max_size=n_rows * n_items))
    if draw(st.booleans()):
        mask[:n_items] = [True] * n_items  # a row with nothing left
    shape = (n_rows, n_items)
    return np.array(scores, dtype).reshape(shape), np.array(mask).reshape(shape), draw(st.integers(1, 15))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_engines_agree_and_the_order_is_the_promised_one(problem):
    scores, mask, k = problem
    found = rank_items(scores, sparse.csr_array(mask), k, engine="numpy")
    compiled = rank_items(scores, sparse.csr_array(mask), k, engine="numba", n_threads=2)
    np.testing.assert_array_equal(found, compiled)
    for row in range(scores.shape[0]):
        # The same order by Python's own sort of pairs.
        order = sorted((-score, item) for item, score in enumerate(scores[row]) if not mask[row, item])
        expected = [item for _, item in order][:k]
        assert found[row].tolist() == expected + [-1] * (found.shape[1] - len(expected))


def integer_model(seed, n_users=150, n_items=70, d=5, dtype=np.float32):
    """Small integers: every product is exact, whatever the order of its sum, and ties abound."""
    rng = np.random.default_rng(seed)
    users, items = (rng.integers(-3, 4, (n, d)).astype(dtype) for n in (n_users, n_items))
    bias = rng.integers(-3, 4, n_items).astype(dtype)
    masked = sparse.random_array((n_users, n_items), density=0.2, format="csr", rng=rng)
    return users, items, bias, masked


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embeddings_rank_as_their_scores_do(engine, dtype):
    users, items, bias, masked = integer_model(1, dtype=dtype)
    scores = users @ items.T + bias
    expected = rank_items(scores, masked, 9, engine="numpy")
    for n_threads in (1, 2):
        for block_rows in (None, 1, 50, 96, 1000):
            found = rank_embeddings(
                users, items, bias, masked, 9, block_rows=block_rows, engine=engine, n_threads=n_threads
            )  # fmt: skip
            np.testing.assert_array_equal(found, expected)
    some = np.array([149, 3, 3, 80])
    found = rank_embeddings(users, items, bias, masked, 9, users=some, engine=engine)
    np.testing.assert_array_equal(found, expected[some])
    no_bias = rank_embeddings(users, items, None, None, 9, engine=engine)
    np.testing.assert_array_equal(no_bias, rank_items(users @ items.T, None, 9, engine="numpy"))
    assert rank_embeddings(users, items, None, None, 9, users=[], engine=engine).shape == (0, 9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_and_engines_do_not_change_a_bit(dtype):
    # Real-valued embeddings, and eight items twice: their scores tie, or differ in a last bit, which must not vary.
    rng = np.random.default_rng(2)
    users, items = rng.standard_normal((500, 33)).astype(dtype), rng.standard_normal((211, 33)).astype(dtype)
    items[100:108] = items[:8]
    bias = np.zeros(211, dtype)
    first = rank_embeddings(users, items, bias, None, 211, n_threads=1, block_rows=96, engine="numpy")
    for engine in ENGINES:
        for n_threads in (1, 2, 4):
            found = rank_embeddings(users, items, bias, None, 211, n_threads=n_threads, block_rows=96, engine=engine)
            np.testing.assert_array_equal(found, first)


def test_bad_embeddings_are_refused():
    users, items, bias, masked = integer_model(3)
    broken = users.copy()
    broken[130, 2] = np.nan
    for n_threads in (1, 2):
        with pytest.raises(DataError, match="user 130 and item 0 is not a number"):
            rank_embeddings(broken, items, bias, masked, 5, n_threads=n_threads, block_rows=48)
    with pytest.raises(DataError, match="user 0 and item 0 is not a number"):
        rank_embeddings(users, items, np.full(70, np.nan), masked, 5)
    with pytest.raises(DataError, match="width"):
        rank_embeddings(users[:, :3], items, bias, masked, 5)
    with pytest.raises(DataError, match="item_bias must be 70"):
        rank_embeddings(users, items, bias[:9], masked, 5)
    with pytest.raises(DataError, match="user_embeddings"):
        rank_embeddings(users.astype(int), items, bias, masked, 5)
    with pytest.raises(DataError, match="150 users.*'150'"):
        rank_embeddings(users, items, bias, masked, 5, users=[0, 150])
    with pytest.raises(SettingsError, match="block_rows"):
        rank_embeddings(users, items, bias, masked, 5, block_rows=0)


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_the_hold_on_blas_nests_and_restores():
    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) <= {1}
        with one_blas_thread():
            pass
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
    with threadpool_limits(1, user_api="blas"):
        with one_blas_thread():
            pass
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
    with pytest.raises(KeyError):
        with one_blas_thread():
            raise KeyError
    assert blas_threads() == before


def test_several_python_threads_may_rank_at_once():
    users, items, bias, masked = integer_model(4)
    expected = rank_embeddings(users, items, bias, masked, 9, n_threads=1)
    before = blas_threads()
    found = []

    def rank():
        for _ in range(5):
            found.append(rank_embeddings(users, items, bias, masked, 9, n_threads=2, block_rows=48))

    threads = [threading.Thread(target=rank) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert all(np.array_equal(each, expected) for each in found)
    assert blas_threads() == before


def test_importing_the_package_does_not_import_numba():
    code = "import sys, c2f_np.evaluation; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("n_items", [959, 960, 961, 2_500])
def test_items_beyond_the_first_part_are_ranked_like_the_others(n_items):
    """Whole numbers, so that scores are exact, with many ties; masked items and a NaN in the last part."""
    rng = np.random.default_rng(n_items)
    users, items = rng.integers(-3, 4, (70, 4)).astype(np.float32), rng.integers(-3, 4, (n_items, 4)).astype(np.float32)
    masked = sparse.csr_array((rng.random((70, n_items)) < 0.3).astype(np.int8))
    scores, allowed = users @ items.T, masked.toarray() == 0
    found = rank_embeddings(users, items, None, masked, 30, engine="numba", n_threads=2)
    for row, of_user, open_to in zip(found, scores, allowed, strict=True):
        assert row.tolist() == sorted(np.flatnonzero(open_to), key=lambda i: (-of_user[i], i))[:30]  # noqa: B023
    assert found.max() > n_items * 0.9
    broken = items.copy()
    broken[-1] = np.nan
    with pytest.raises(DataError, match=f"item {n_items - 1} is not a number"):
        rank_embeddings(users, broken, None, None, 30, engine="numba")
