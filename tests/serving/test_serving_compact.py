"""Small arrays: literal numbers, and products against SciPy's."""

import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.errors import SettingsError
from c2f_np.serving import compact
from c2f_np.serving.compact import compact_codebook, compact_matrix, quantise, smallest_unsigned


def made(matrix, kind="float64"):
    S = sparse.csr_array(matrix)
    rows = np.repeat(np.arange(S.shape[0]), np.diff(S.indptr))
    return compact_matrix(rows, S.indices, S.data, S.shape, kind, "S")


@pytest.mark.parametrize("largest, kind", [(0, "u1"), (255, "u1"), (256, "u2"), (65535, "u2"), (65536, "u4"), (2**32, "u8")])
def test_the_smallest_type_that_holds_the_largest(largest, kind):
    small = smallest_unsigned(np.array([0, largest]))
    assert small.dtype == kind and small[1] == largest
    assert smallest_unsigned(np.array([], dtype=int)).dtype == "u1"


def test_int8_by_hand():
    values, groups = np.array([12.7, -6.34, 0.04, 0.0, 254.0]), np.array([0, 0, 0, 1, 2])
    stored, scale = quantise(values, "int8", groups, 3, "x")
    assert stored.dtype == np.int8 and stored.tolist() == [127, -63, 0, 0, 127]
    assert_allclose(scale, [0.1, 0, 2])
    assert_allclose(stored * scale[groups], [12.7, -6.3, 0, 0, 254], rtol=1e-6)


@pytest.mark.parametrize("kind, error", [("float64", 0), ("float32", 2**-24), ("float16", 2**-11), ("int8", 0.5 / 127)])
def test_the_error_is_at_most_half_a_step(kind, error):
    table = np.random.default_rng(0).normal(size=(7, 50)) * 10.0 ** np.arange(-3, 4)[:, None]
    found = compact_codebook(table, kind, "E").dense(np.float64)
    assert (np.abs(found - table) <= error * np.abs(table).max(axis=1, keepdims=True) * (1 + 1e-6)).all()
    assert error == 0 or np.abs(found - table).max() > 0


def test_numbers_that_a_type_cannot_hold():
    with pytest.raises(SettingsError, match="the codebook .* float16"):
        compact_codebook(np.array([[1e5]]), "float16", "the codebook")
    with pytest.raises(SettingsError):
        compact_codebook(np.array([[np.nan]]), "int8", "the codebook")


def test_a_codebook_is_sparse_where_that_is_smaller():
    table = np.zeros((4, 40), np.float32)
    table[1, 3], table[3, 39] = 1.5, -2
    book = compact_codebook(table, "float32", "F")
    # 2 numbers, and a bit for each of 4 x 40 places.
    assert book.nbytes == 2 * 4 + 20
    assert_array_equal(book.dense(np.float32), table)
    full = compact_codebook(table + 1, "float32", "F")
    assert full.nbytes == 4 * 40 * 4
    small = compact_codebook(table, "int8", "F")
    assert small.nbytes == 2 + 20 + 4 * 4 and np.abs(small.dense(np.float32) - table).max() < 1e-6


@pytest.mark.parametrize("piece", [1, 7, 2048])
@pytest.mark.parametrize("shape", [(30, 4), (4, 30), (1, 1), (5, 0), (0, 5)])
def test_products(monkeypatch, piece, shape):
    monkeypatch.setattr(compact, "_PIECE", piece)
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=shape) * (rng.random(shape) < 0.4)
    matrix[::3] = 0
    S, X, Y = made(matrix), rng.normal(size=(3, shape[1])), rng.normal(size=(3, shape[0]))
    assert_allclose(S.times(X), X @ matrix.T, atol=1e-13)
    assert_allclose(S.transposed_times(Y), Y @ matrix, atol=1e-13)
    assert_array_equal(S.dense(np.float64), matrix)
    assert_array_equal(S.magnitudes().dense(np.float64), np.abs(matrix))
    assert_array_equal(S.lengths(), (matrix != 0).sum(axis=1))
    assert S.times(X.astype(np.float32)).dtype == np.float32


def test_rows_of_one_length_need_no_starts():
    even, uneven = made(np.eye(300)), made(np.triu(np.ones((300, 300))))
    assert even.starts == 1 and even.index_bytes == 300 * 2
    assert uneven.index_bytes == 300 * 301 // 2 * 2 + 301 * 2
    assert even.row(7).tolist() == [7] and uneven.row(298).tolist() == [298, 299]


def test_scales_of_an_assignment_belong_to_columns():
    matrix = np.array([[100.0, 0], [50, 0.01], [0, 0.02]])
    S = made(matrix, "int8")
    assert_allclose(S.dense(np.float64), matrix, rtol=0.01)
    assert_allclose(S.times(np.eye(2)).T, S.dense(np.float64), rtol=1e-12)
