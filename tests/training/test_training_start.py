"""Starts: partitions, assignments, biases, and the fine codebook from a sparse PCA."""

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np.errors import SettingsError
from c2f_np.model import starts
from c2f_np.model.codebook import soft_threshold
from c2f_np.model.sparse_pca import sparse_pca
from c2f_np.model.starts import (
    metis_is_installed,
    partition_entities,
    start_biases,
    start_coarse_assignment,
    start_fine_assignment,
    start_fine_codebook,
)

needs_metis = pytest.mark.skipif(not metis_is_installed(), reason="pymetis is not installed")
METHODS = ["auto", pytest.param("metis", marks=needs_metis), "coclustering", "random"]


def blocks(n_blocks=4, size=10, seed=0):
    """Dense blocks on the diagonal, a little noise around them."""
    rng = np.random.default_rng(seed)
    own = np.kron(np.eye(n_blocks), np.ones((size, size))) * (rng.random((n_blocks * size,) * 2) < 0.8)
    return sparse.csr_array(((own + (rng.random(own.shape) < 0.01)) > 0).astype(np.int8))


@pytest.mark.parametrize("method", METHODS)
def test_a_partition_numbers_every_entity_and_repeats(method):
    R = blocks()
    parts = partition_entities(R, 6, method=method, seed=3)
    assert parts.shape == (80,) and parts.dtype == np.int64
    assert parts.min() >= 0 and parts.max() < 6 and len(set(parts)) >= 4
    np.testing.assert_array_equal(parts, partition_entities(R, 6, method=method, seed=3))


@pytest.mark.parametrize("method", [pytest.param("metis", marks=needs_metis), "coclustering"])
def test_graph_partitions_find_planted_blocks(method):
    parts = partition_entities(blocks(), 4, method=method, seed=0)
    truth = np.tile(np.repeat(np.arange(4), 10), 2)
    shares = [np.bincount(parts[truth == block]).max() / 20 for block in range(4)]
    assert min(shares) >= 0.9


def test_random_parts_are_of_equal_size():
    sizes = np.bincount(partition_entities(blocks(), 7, method="random", seed=0))
    assert sizes.max() - sizes.min() <= 1


def test_seed_changes_the_random_partition():
    first, second = (partition_entities(blocks(), 7, method="random", seed=seed) for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("method", METHODS)
def test_entities_without_interactions_get_a_part(method):
    R = blocks().toarray()
    R[[0, 5]] = 0
    R[:, 7] = 0
    parts = partition_entities(sparse.csr_array(R), 3, method=method, seed=0)
    assert parts.shape == (80,) and parts.min() >= 0 and parts.max() < 3


@pytest.mark.parametrize("method", METHODS)
def test_one_part_and_as_many_parts_as_entities(method):
    R = sparse.csr_array(np.array([[1, 1, 0], [0, 1, 1]], dtype=np.int8))
    assert not partition_entities(R, 1, method=method).any()
    parts = partition_entities(R, 5, method=method)
    assert parts.shape == (5,) and parts.min() >= 0 and parts.max() < 5


@pytest.mark.parametrize("method", METHODS)
def test_fewer_entities_than_parts(method):
    with pytest.raises(SettingsError, match="6 rows for 5 entities"):
        partition_entities(sparse.csr_array(np.ones((2, 3))), 6, method=method)


def test_unknown_method_and_missing_metis(monkeypatch):
    with pytest.raises(SettingsError, match="partition must be one of"):
        partition_entities(blocks(), 3, method="louvain")
    monkeypatch.setattr(starts, "metis_is_installed", lambda: False)
    with pytest.raises(SettingsError, match="pymetis"):
        partition_entities(blocks(), 3, method="metis")
    auto = partition_entities(blocks(), 3, method="auto", seed=1)
    np.testing.assert_array_equal(auto, partition_entities(blocks(), 3, method="coclustering", seed=1))


@pytest.mark.parametrize(("t", "weight"), [(2, 0.5), (3, 0.6), (6, 0.2), (4, 1.0)])
def test_coarse_start_has_its_anchor_and_equal_others(t, weight):
    parts = np.random.default_rng(0).integers(0, 6, 50)
    S = start_coarse_assignment(parts, 6, t, weight, np.random.default_rng(1))
    assert S.shape == (50, 6) and (np.diff(S.indptr) == t).all() and S.has_sorted_indices
    for row in range(50):
        columns, values = S.indices[S.indptr[row] : S.indptr[row + 1]], S.data[S.indptr[row] : S.indptr[row + 1]]
        assert len(set(columns)) == t
        assert values[columns == parts[row]] == [weight]
        np.testing.assert_allclose(values[columns != parts[row]], (1 - weight) / (t - 1))


def test_coarse_start_with_one_entry_is_the_part_itself():
    parts = np.array([2, 0, 1, 2])
    S = start_coarse_assignment(parts, 3, 1, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(S.toarray(), np.eye(3)[parts])
    alone = start_coarse_assignment(np.zeros(4, dtype=int), 1, 1, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(alone.toarray(), np.ones((4, 1)))


def test_coarse_start_draws_the_other_parts_uniformly():
    S = start_coarse_assignment(np.full(6000, 2), 5, 3, 0.5, np.random.default_rng(0))
    counts = np.bincount(S.indices, minlength=5)
    assert counts[2] == 6000
    np.testing.assert_allclose(counts[[0, 1, 3, 4]], 3000, rtol=0.06)


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize(("n_fine", "t_fine"), [(5, 2), (5, 5), (1, 1), (2, 1)])
def test_fine_start_is_the_literal_dense_formula(n_fine, t_fine, renormalise):
    rng = np.random.default_rng(0)
    S_coarse = start_coarse_assignment(rng.integers(0, 4, 30), 4, 2, 0.5, rng)
    parts = rng.integers(0, n_fine, 30)
    P = np.full((30, n_fine), 0.5 / (n_fine - 1) if n_fine > 1 else 0.5)
    P[np.arange(30), parts] = 0.5
    powers = np.exp(S_coarse.toarray().T @ P)
    softmax = powers / powers.sum(axis=1, keepdims=True)
    expected = np.zeros_like(softmax)
    for row in range(4):
        best = sorted(range(n_fine), key=lambda column: (-softmax[row, column], column))[:t_fine]
        expected[row, best] = softmax[row, best]
        if renormalise:
            expected[row] /= expected[row].sum()
    S_fine = start_fine_assignment(S_coarse, parts, n_fine, t_fine, renormalise=renormalise)
    np.testing.assert_allclose(S_fine.toarray(), expected, rtol=1e-12)
    assert (np.diff(S_fine.indptr) == t_fine).all()


def test_biases():
    bias, bias_global = start_biases(4000, "normal", np.random.default_rng(0))
    assert abs(bias.mean()) < 0.06 and abs(bias.std() - 1) < 0.06 and bias_global.tolist() == [0]
    bias, bias_global = start_biases(9, "zero", np.random.default_rng(0))
    assert bias.tolist() == [0] * 9 and bias_global.tolist() == [0]
    with pytest.raises(SettingsError):
        start_biases(9, "ones", np.random.default_rng(0))


def pca_of_the_drawn_rows(E_coarse, n_fine, n_components, seed):
    rows = E_coarse[np.random.default_rng(seed).integers(0, len(E_coarse), size=n_fine)]
    return sparse_pca(rows, n_components)


@pytest.fixture(scope="module")
def codebook():
    return np.random.default_rng(0).standard_normal((14, 8)) * 2


def test_scores_stand_in_order_in_each_row(codebook):
    scores, _ = pca_of_the_drawn_rows(codebook, 6, 5, 4)
    E_fine = start_fine_codebook(codebook, 6, 5, kind="scores", threshold=1.0, seed=4)
    assert E_fine.shape == (6, 8)
    for row, values in zip(E_fine, scores, strict=True):
        assert np.count_nonzero(row) <= 5
        np.testing.assert_array_equal(row[row != 0], values[values != 0])
    # The places are drawn anew for each row.
    assert len({tuple(np.flatnonzero(row)) for row in E_fine}) > 1


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_thresholding_the_components_start_returns_the_scaled_components(codebook, threshold):
    scores, components = pca_of_the_drawn_rows(codebook, 6, 4, 4)
    used = np.flatnonzero(np.abs(components).max(axis=1) > 0)
    assert len(used)
    scaled = components[used] * np.sqrt((scores[:, used] ** 2).mean(axis=0))[:, None]
    E_fine = start_fine_codebook(codebook, 6, 4, kind="components", threshold=threshold, seed=4)
    np.testing.assert_allclose(
        soft_threshold(E_fine, threshold), scaled[np.arange(6) % len(used)], rtol=1e-12, atol=1e-14
    )


def test_components_are_at_most_the_width(codebook):
    E_fine = start_fine_codebook(codebook, 10, 99, kind="scores", threshold=1.0, seed=0)
    assert E_fine.shape == (10, 8) and np.isfinite(E_fine).all()


@pytest.mark.parametrize("kind", ["scores", "components"])
def test_a_constant_codebook_starts_finite(kind):
    E_fine = start_fine_codebook(np.ones((5, 4)), 3, 4, kind=kind, threshold=1.0, seed=0)
    assert E_fine.shape == (3, 4) and np.isfinite(E_fine).all()


def test_codebook_errors(codebook):
    with pytest.raises(SettingsError, match="fine_start"):
        start_fine_codebook(codebook, 6, 4, kind="zeros", threshold=1.0, seed=0)
    with pytest.raises(SettingsError, match="diverged"):
        start_fine_codebook(codebook * np.inf, 6, 4, kind="scores", threshold=1.0, seed=0)
