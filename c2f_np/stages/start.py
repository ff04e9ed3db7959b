"""How training starts: assignments from a partition, random codebook and biases, and the fine codebook from SparsePCA.

Shapes
------
parts : (N,)     S_coarse : (N, C)     S_fine : (C, M)     E_coarse : (C, d)     E_fine : (M, d)     P : (N, M)
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..operations.assignment_update import largest_softmax, require_row_entries

FINE_STARTS = ("scores", "components")  # of the fine stage; from a partition, jointly trained codebooks both start unit normal


def start_coarse_assignment(
    parts: np.ndarray, n_coarse: int, t: int, anchor_weight: float, rng: np.random.Generator
) -> sparse.csr_array:
    """S_c at the start: weight w* on the own part, (1 - w*) / (t - 1) on each of t - 1 others, drawn without replacement.

    Parameters
    ----------
    parts : ndarray of int, shape (N,)
    n_coarse : int
    t : int
        Entries in a row. With t = 1 the own part has weight 1.
    anchor_weight : float
        w*.
    rng : numpy.random.Generator

    Returns
    -------
    S_coarse : csr_array of float64, shape (N, C)
    """
    require_row_entries(t, n_coarse)
    n = len(parts)
    # Numbers below C - 1, distinct in each row, stand for the parts other than the own one.
    others = _distinct_below(rng, n, n_coarse - 1, t - 1)
    others = others + (others >= parts[:, None])
    columns = np.concatenate([parts[:, None], others], axis=1)
    values = np.full((n, t), (1 - anchor_weight) / max(t - 1, 1))
    values[:, 0] = 1 if t == 1 else anchor_weight
    S = sparse.csr_array((values.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, n_coarse))
    S.sort_indices()
    return S


def _distinct_below(rng: np.random.Generator, n_rows: int, bound: int, k: int) -> np.ndarray:
    """k distinct numbers below `bound` in each row, every subset equally likely (Floyd's algorithm, all rows at once)."""
    chosen = np.empty((n_rows, k), dtype=np.int64)
    for position, top in enumerate(range(bound - k, bound)):
        draw = rng.integers(0, top + 1, size=n_rows)
        taken = (chosen[:, :position] == draw[:, None]).any(axis=1)
        chosen[:, position] = np.where(taken, top, draw)
    return chosen


def start_fine_assignment(
    S_coarse: sparse.csr_array, parts: np.ndarray, n_fine: int, t_fine: int, *, renormalise: bool = False
) -> sparse.csr_array:
    """S_f at the start: the t_f largest of softmax(S_c^T P) in each row.

    P has 0.5 on an entity's own part and 0.5 / (M - 1) on every other. It is never formed: a constant plus one entry a row.

    Parameters
    ----------
    S_coarse : csr_array, shape (N, C)
    parts : ndarray of int, shape (N,)
        Partition into M parts.
    n_fine, t_fine : int
    renormalise : bool
        See :func:`c2f_np.operations.assignment_update.update_fine_assignment`.

    Returns
    -------
    S_fine : csr_array of float64, shape (C, M)
    """
    n = len(parts)
    elsewhere = 0.5 / (n_fine - 1) if n_fine > 1 else 0.5
    own = sparse.csr_array((np.full(n, 0.5 - elsewhere), (np.arange(n), parts)), shape=(n, n_fine))
    transpose = sparse.csr_array(S_coarse.T, dtype=np.float64)
    affinity = elsewhere * np.asarray(transpose.sum(axis=1)).reshape(-1, 1) + (transpose @ own).toarray()
    return largest_softmax(affinity, t_fine, renormalise=renormalise)


def start_biases(n_entities: int, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Entity biases, unit normal or zero, and the global bias, zero.

    Parameters
    ----------
    n_entities : int
    kind : {"normal", "zero"}
        "normal" is what the released code does, by leaving a framework's default in place.
    rng : numpy.random.Generator

    Returns
    -------
    bias : ndarray, shape (N,)
    bias_global : ndarray, shape (1,)
    """
    if kind not in ("normal", "zero"):
        raise SettingsError(f"bias_start must be normal or zero, not {kind!r}")
    return rng.standard_normal(n_entities) if kind == "normal" else np.zeros(n_entities), np.zeros(1)


def start_fine_codebook(
    E_coarse: np.ndarray, n_fine: int, n_components: int, *, kind: str, threshold: float, seed: int
) -> np.ndarray:
    """E_f at the start, from a SparsePCA of M rows of E_c drawn with replacement.

    ``kind="scores"`` (the released code): each row's scores, which are dense, stand in order at sorted random positions of a
    zero row. The sparsity is random padding, and the coordinates are scrambled.

    ``kind="components"`` (the paper): the sparse components themselves are the rows, each at the scale of its scores, so
    that the codebook is on the scale of E_c. They are moved away from zero by tau, so that soft thresholding returns exactly
    them: unit components would all lie inside the threshold and never be trained. With fewer components than rows they are
    used in turn.

    Parameters
    ----------
    E_coarse : ndarray, shape (C, d)
    n_fine : int
        M.
    n_components : int
        At most d are used.
    kind : {"scores", "components"}
    threshold : float
        tau.
    seed : int

    Returns
    -------
    E_fine : ndarray of float64, shape (M, d)

    Raises
    ------
    SettingsError
        If the kind is unknown or the codebook is not finite.
    """
    if kind not in FINE_STARTS:
        raise SettingsError(f"fine_start must be one of {', '.join(FINE_STARTS)}, not {kind!r}")
    if not np.isfinite(E_coarse).all():
        raise SettingsError("the coarse codebook is not finite: training has diverged; lower the learning rate")
    rng = np.random.default_rng(seed)
    dim = E_coarse.shape[1]
    n_components = min(dim, n_components)
    rows = E_coarse[rng.integers(0, len(E_coarse), size=n_fine)].astype(np.float64)
    scores, components = _sparse_pca(rows, n_components, seed)
    if kind == "scores":
        E_fine = np.zeros((n_fine, dim))
        for row, values in zip(E_fine, scores, strict=True):
            row[np.sort(rng.permutation(dim)[: len(values)])] = values
        return E_fine
    used = np.flatnonzero(np.abs(components).max(axis=1) > 0)
    if not len(used):
        return np.zeros((n_fine, dim))
    scale = np.sqrt(np.mean(scores[:, used] ** 2, axis=0))
    seeds = (components[used] * scale[:, None])[np.arange(n_fine) % len(used)]
    return seeds + threshold * np.sign(seeds)


def _sparse_pca(rows: np.ndarray, n_components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (M x n_components) and components (n_components x d)."""
    from sklearn.decomposition import SparsePCA
    from sklearn.exceptions import ConvergenceWarning

    model = SparsePCA(n_components=n_components, alpha=1, random_state=seed)
    with warnings.catch_warnings():
        # A start need not be converged; the published code does not look either.
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = model.fit_transform(rows)
    return scores, model.components_
