"""Sparse PCA: the objective of scikit-learn, and what the factors must satisfy."""

import numpy as np
import pytest
from sklearn.decomposition import SparsePCA

from c2f_np.model.sparse_pca import sparse_factors, sparse_pca


def objective(X, V, W, alpha):
    return np.sum((X - V @ W) ** 2) / 2 + alpha * np.sum(np.abs(W))


def data(kind, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((40, 24))
    if kind == "few rows, drawn again and again":
        X = 2 * X[rng.integers(0, 12, 40)]
    if kind == "blocks":
        X = 0.2 * X + np.kron(rng.standard_normal((40, 6)), np.ones(4)) * 2
    return X - X.mean(axis=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_components", [8, 24])
@pytest.mark.parametrize("kind", ["normal", "few rows, drawn again and again", "blocks"])
def test_the_objective_is_as_low_as_scikit_learn_gets_it(kind, n_components):
    ours, theirs = [], []
    for seed in range(5):
        X = data(kind, seed)
        V, W = sparse_factors(X, n_components, alpha=1.0, tol=1e-8, max_sweeps=1000)
        ours.append(objective(X, V, W, 1.0))
        model = SparsePCA(n_components, alpha=1, random_state=seed).fit(X)
        theirs.append(model.error_[-1])
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


def test_each_factor_is_the_best_one_beside_the_others():
    X = data("normal", 0)
    V, W = sparse_factors(X, 6, alpha=1.0, tol=1e-12, max_sweeps=5000)
    at_the_end, rng = objective(X, V, W, 1.0), np.random.default_rng(1)
    assert np.linalg.norm(V, axis=0) == pytest.approx(np.ones(6))
    for k in range(6):
        for _ in range(20):
            moved, turned = W.copy(), V.copy()
            moved[k] += 1e-3 * rng.standard_normal(24) * (rng.random(24) < 0.3)
            turned[:, k] += 1e-3 * rng.standard_normal(40)
            turned[:, k] /= np.linalg.norm(turned[:, k])
            assert min(objective(X, V, moved, 1.0), objective(X, turned, W, 1.0)) > at_the_end * (1 - 1e-9)


def test_no_sweep_raises_the_objective():
    X = data("few rows, drawn again and again", 3)
    values = [objective(X, *sparse_factors(X, 10, alpha=0.5, tol=-1, max_sweeps=n), 0.5) for n in range(30)]
    assert np.all(np.diff(values) < 0)


def test_scores_and_components_give_back_what_is_worth_its_price():
    X = data("blocks", 1)
    scores, components = sparse_pca(X, 6)
    assert np.linalg.norm(components, axis=1) == pytest.approx(np.ones(6))
    assert np.mean(components != 0) < 0.5
    assert np.linalg.norm(X - scores @ components) < 0.15 * np.linalg.norm(X)


def test_what_costs_more_than_it_explains_stays_zero():
    assert not sparse_pca(data("normal", 0), 5, alpha=100)[1].any()
    assert not sparse_pca(np.ones((4, 3)), 2)[0].any()
