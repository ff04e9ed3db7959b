"""Which codebook rows an entity is linked to, and with which weights: everything about links that is not a gradient step.

*Closed-form updates* (the two stages). W minimises |H_entities - W H_coarse|; among the minimisers it has the least norm.

    W = H_entities pinv(H_coarse);   S_c = the t largest entries of each row of W, with their values
    T = W^T H_entities pinv(H_fine); S_f = the t_f largest entries of each row of softmax(T)

*Pursuit* (joint training). Orthogonal matching pursuit: t times the row that explains most of what is left is taken, and the
weights of all that were taken are fitted anew. Alternating it with the codebook that explains Y best is the *method of optimal
directions* of sparse coding (Engan et al., ICASSP 1999); of a table, with two codebooks, it makes a *residual code*.

    S = pursue(Y, E, t)         min |Y_i - S_i E|^2 over rows S_i of t entries, greedily
    E = fit_codebook(Y, S)      min |Y - S E|^2 over codebooks; with weights, min sum_i w_i |Y_i - S_i E|^2
    residual_code(Y)            Y ~ S_c E_hat + S_d F: where an entity lies, and what is left

    shared_code([Y_1, ...])     Y_k ~ S_k F: one codebook for several tables, such as the coarse rows and what is left of Y

*Exchange* (joint training, an option). The weakest link goes, the most wanted comes. A free link has the weight 0, and its pull
is the slope of the loss there: to first order, the free row with the largest pull is where a new weight lowers the loss
fastest. It starts at 0, so that an exchange changes the composed row by no more than the weakest link. (The rule by
which sparse networks are grown in Evci et al., *Rigging the Lottery*, ICML 2020.)

    strength(i, j) = |s_ij| |E_j|       pull(i, j) = |<grad_Y_i, E_j>|

Everywhere ties go to the lower column, and what is as large as N x C is formed for `rows_at_a_time` rows at a time.

Shapes
------
H_entities : (N, d)   H_coarse : (C, d)   H_fine : (M, d)   W : (N, C)   T : (C, M)   Y, grad_Y : (N, d)   E : (K, d)   S : (N, K)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.linalg import cho_factor, cho_solve

from ..errors import SettingsError
from ..threads import one_blas_thread
from .pursuit import pursue_rows

#: Rounds of fitting codebooks and links in turn. The error falls by less than 1 % after the fifth.
ROUNDS = 10
_MOST_ITERATIONS = 50  # of k-means, which is only where the rounds begin
# Rows of a codebook that is fitted by singular values. They take 24 s for 4,000 rows, and a Cholesky factor with a ridge 2.
_BY_SINGULAR_VALUES = 1024
_FIT_RIDGE = 1e-10  # of the mean of the diagonal


# ---- closed-form updates -----------------------------------------------------------------------------------------------
def pseudoinverse(H: np.ndarray) -> np.ndarray:
    """Moore-Penrose inverse in float64, shape (d, K).

    Singular values below ``max(shape) * eps`` times the largest count as 0, with the eps of the precision in which H came: what
    float32 arithmetic left behind in a deficient direction is noise and must not be inverted.
    """
    if not np.isfinite(H).all():
        raise SettingsError("embeddings are not finite: training has diverged; lower the learning rate")
    cutoff = max(H.shape) * np.finfo(H.dtype).eps
    return np.linalg.pinv(H.astype(np.float64), rcond=cutoff)


def largest_columns(W: np.ndarray, t: int) -> np.ndarray:
    """Columns of the t largest entries of each row, ascending, shape (n, t)."""
    return np.sort(np.argsort(-W, axis=1, kind="stable")[:, :t], axis=1)


def keep_largest(W: np.ndarray, t: int, *, largest=largest_columns) -> sparse.csr_array:
    """The t largest entries of each row, with their values. `largest` is the engine's :func:`largest_columns`."""
    n, m = W.shape
    require_row_entries(t, m)
    columns = largest(W, t)
    return _rows_of(np.take_along_axis(W, columns, axis=1), columns, m)


def update_coarse_assignment(
    H_entities, H_coarse, t: int, *, largest=largest_columns, rows_at_a_time: int = 8192
) -> sparse.csr_array:
    """S_c, in the dtype of the embeddings (model.md, coarse stage, two phases)."""
    inverse = pseudoinverse(H_coarse)
    blocks = _blocks(H_entities, rows_at_a_time)
    parts = [keep_largest(H_entities[rows].astype(np.float64) @ inverse, t, largest=largest) for rows in blocks]
    return sparse.csr_array(sparse.vstack(parts, format="csr"), dtype=H_entities.dtype)


def fine_affinity(H_entities: np.ndarray, H_coarse: np.ndarray, H_fine: np.ndarray) -> np.ndarray:
    """T in float64: how much the entities of a coarse row lean on each fine row.

    W is never formed: T = pinv(H_coarse)^T (H_entities^T H_entities) pinv(H_fine), a product of small matrices.
    """
    entities = H_entities.astype(np.float64)
    return pseudoinverse(H_coarse).T @ (entities.T @ entities) @ pseudoinverse(H_fine)


def softmax_rows(T: np.ndarray) -> np.ndarray:
    """Softmax of each row, without overflow."""
    powers = np.exp(T - T.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def largest_softmax(T: np.ndarray, t: int, *, renormalise: bool = False, largest=largest_columns) -> sparse.csr_array:
    """The t largest entries of each row of softmax(T), optionally divided by their sum (which the published code does not)."""
    S = keep_largest(softmax_rows(T), t, largest=largest)
    if renormalise:
        rows = S.data.reshape(-1, t)
        S.data = (rows / rows.sum(axis=1, keepdims=True)).ravel()
    return S


def update_fine_assignment(
    H_entities, H_coarse, H_fine, t_fine: int, *, renormalise: bool = False, largest=largest_columns
) -> sparse.csr_array:
    """S_f, in the dtype of the embeddings; errors as of :func:`update_coarse_assignment` (model.md, fine stage, 6)."""
    T = fine_affinity(H_entities, H_coarse, H_fine)
    return largest_softmax(T, t_fine, renormalise=renormalise, largest=largest).astype(H_entities.dtype)


def require_row_entries(t: int, n_columns: int) -> None:
    """Raise SettingsError unless 1 <= t <= n_columns."""
    if not 1 <= t <= n_columns:
        raise SettingsError(f"cannot keep {t} entries in a row of {n_columns}: choose between 1 and {n_columns}")


# ---- pursuit -----------------------------------------------------------------------------------------------------------
def pursue(Y: np.ndarray, E: np.ndarray, t: int, *, rows_at_a_time: int = 8192) -> sparse.csr_array:
    """Code every row of Y by t rows of E: exactly t entries a row (some may be 0), sorted, in float64."""
    k = len(E)
    if not 1 <= t <= k:
        raise SettingsError(f"a row cannot be coded by {t} rows of a codebook of {k}")
    Y, E = np.asarray(Y, np.float64), np.asarray(E, np.float64)
    chosen, weights = np.empty((len(Y), t), np.int64), np.empty((len(Y), t))
    with one_blas_thread():
        for rows in _blocks(Y, rows_at_a_time):
            chosen[rows], weights[rows] = pursue_rows(Y[rows], E, t)
    order = np.argsort(chosen, axis=1)
    return _rows_of(*(np.take_along_axis(part, order, axis=1) for part in (weights, chosen)), k)


def fit_codebook(
    Y: np.ndarray, S: sparse.csr_array, E: np.ndarray, weight: np.ndarray | None = None, *,
    by_singular_values: int = _BY_SINGULAR_VALUES,
) -> np.ndarray:  # fmt: skip
    """The codebook, in float64, that explains Y best by the links S: of least norm where S does not determine it.

    With more rows than are fitted `by_singular_values` a ridge takes the place of the least norm, to which it comes close.

    `weight` says how much the error of a row of Y counts, shape (N,); None: as much as any other's. `E` is taken for the rows
    that no link of a weight other than 0 leads to, which could be anything.
    """
    S = sparse.csr_array(S, dtype=np.float64)
    transpose = S.T.tocsr() if weight is None else sparse.csr_array(S.multiply(weight[:, None])).T.tocsr()
    gram = (transpose @ S).toarray()
    known, linked = transpose @ np.asarray(Y, np.float64), np.diag(gram)[:, None] > 0
    with one_blas_thread():
        if len(gram) <= by_singular_values:
            fitted = np.linalg.lstsq(gram, known, rcond=None)[0]
        else:
            np.fill_diagonal(gram, np.diag(gram) + _FIT_RIDGE * (np.trace(gram) / len(gram) or 1.0))
            fitted = cho_solve(cho_factor(gram, overwrite_a=True), known)
    return np.where(linked, fitted, E)


@dataclass(frozen=True)
class ResidualCode:
    """Codebooks and links of a table, in float64, with t_coarse and t_direct links a row; the mean square of all weights is 1.

    F and S_direct are None without direct links. `errors` holds |Y - S_c E_hat - S_d F|^2 / |Y|^2, every row counted as often as
    its weight says, at the start and after every round.
    """

    E_hat: np.ndarray
    S_coarse: sparse.csr_array
    F: np.ndarray | None
    S_direct: sparse.csr_array | None
    errors: tuple[float, ...]


def residual_code(
    Y: np.ndarray, n_coarse: int, n_fine: int, t_coarse: int, t_direct: int, *, seed: int, rounds: int = ROUNDS,
    parts: np.ndarray | None = None, weight: np.ndarray | None = None,
) -> ResidualCode:  # fmt: skip
    """Code a table (model.md, joint training, 6).

    E_hat begins as the means of `parts`, shape (N,), or as the centres of k-means on the rows of Y, F as the centres of the
    residuals; then links and codebooks are fitted in turn, each given the others, and no such step makes the error larger. This
    is residual vector quantisation with a weight on every link. `weight` says how much the error of a row counts, shape (N,)."""
    Y = np.asarray(Y, np.float64)
    left, codebooks, links = Y, [], []
    for k, (size, t) in enumerate(((n_coarse, t_coarse), (n_fine, t_direct))[: 2 if t_direct else 1]):
        by_parts = k == 0 and parts is not None
        codebooks.append(means(Y, parts, size, weight) if by_parts else centres(left, size, seed + k, weight))
        links.append(pursue(left, codebooks[k], t))
        left = left - links[k] @ codebooks[k]
    errors = [_share(left, Y, weight)]
    for _ in range(rounds):
        codebooks = _fitted_codebooks(Y, links, codebooks, weight)
        for k, E in enumerate(codebooks):
            links[k] = _better_links(_left(Y, links, codebooks, without=k), E, links[k])
        errors.append(_share(_left(Y, links, codebooks), Y, weight))
    (S_coarse, E_hat), (S_direct, F) = [*map(_unit_weights, links, codebooks), (None, None)][:2]
    return ResidualCode(E_hat, S_coarse, F, S_direct, tuple(errors))


def shared_code(
    tables: list[np.ndarray], n_rows: int, links_a_row: list[int], *, seed: int, rounds: int = ROUNDS
) -> tuple[np.ndarray, list[sparse.csr_array]]:
    """One codebook F, and for each table its links, in float64: Y_k ~ S_k F (model.md, joint training, 6).

    As :func:`residual_code`, but the tables stand below each other. The mean square of all weights is 1."""
    whole = np.concatenate(tables)
    F = centres(whole, n_rows, seed)
    links = [pursue(Y, F, t) for Y, t in zip(tables, links_a_row, strict=True)]
    for _ in range(rounds):
        F = fit_codebook(whole, sparse.vstack(links, format="csr"), F)
        links = [_better_links(Y, F, S) for Y, S in zip(tables, links, strict=True)]
    scale = np.sqrt(np.mean(np.concatenate([S.data for S in links]) ** 2)) or 1.0
    return F * scale, [sparse.csr_array(S / scale) for S in links]


def means(Y: np.ndarray, parts: np.ndarray, k: int, weight: np.ndarray | None = None) -> np.ndarray:
    """The mean row of each of k parts, shape (k, d); of a part without rows, row `part` of Y, so that it may find some."""
    count = np.bincount(parts, weight, minlength=k)
    member = sparse.csr_array((np.ones(len(Y)) if weight is None else weight, (parts, np.arange(len(Y)))), shape=(k, len(Y)))
    return np.where(count[:, None] > 0, member @ Y / np.where(count > 0, count, 1)[:, None], Y[:k])


def centres(Y: np.ndarray, k: int, seed: int, weight: np.ndarray | None = None) -> np.ndarray:
    """k centres of k-means, in float64, shape (k, d); the same for any number of threads."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings():
        # Fewer different rows than clusters is no fault: some centres are then the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Several threads add up a cluster's rows in the order in which they happen to finish.
        with one_blas_thread(), threadpool_limits(1, user_api="openmp"):
            found = KMeans(k, n_init=1, max_iter=_MOST_ITERATIONS, random_state=seed % 2**32).fit(Y, sample_weight=weight)
    return found.cluster_centers_.astype(np.float64)


def _fitted_codebooks(Y, links: list[sparse.csr_array], codebooks: list[np.ndarray], weight) -> list[np.ndarray]:
    """All codebooks, fitted together."""
    fitted = fit_codebook(Y, sparse.hstack(links, format="csr"), np.concatenate(codebooks), weight)
    return np.split(fitted, np.cumsum([len(E) for E in codebooks])[:-1])


def _left(Y, links, codebooks, *, without: int | None = None) -> np.ndarray:
    """What the codebooks, or all without one of them, leave of Y."""
    for k, (S, E) in enumerate(zip(links, codebooks, strict=True)):
        Y = Y if k == without else Y - S @ E
    return Y


def _better_links(Y: np.ndarray, E: np.ndarray, S: sparse.csr_array) -> sparse.csr_array:
    """Links found anew, in the rows where these come closer to Y than those of S. (With several a greedy choice may not.)"""
    found = pursue(Y, E, S.nnz // len(Y))
    better = _squares(Y - found @ E) < _squares(Y - S @ E)
    keep = np.repeat(~better, S.nnz // len(Y))
    found.data[keep], found.indices[keep] = S.data[keep], S.indices[keep]
    return found


def _unit_weights(S: sparse.csr_array, E: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """The same product with weights of mean square 1: the steps of an optimiser fit weights of that size."""
    scale = np.sqrt(np.mean(S.data**2))
    return (S, E) if scale == 0 else (sparse.csr_array(S / scale), E * scale)


def _share(left: np.ndarray, Y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """|left|^2 / |Y|^2, every row counted as often as its weight says."""
    each = 1 if weight is None else weight[:, None]
    return float(np.sum(each * left**2) / max(np.sum(each * Y**2), np.finfo(float).tiny))


def _squares(Y: np.ndarray) -> np.ndarray:
    return np.sum(Y**2, axis=1)


# ---- exchange ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ExchangedLinks:
    """An assignment after an exchange, and for each stored weight the position it had before: -1 for a new link."""

    S: sparse.csr_array
    kept: np.ndarray

    def carry(self, values: np.ndarray) -> np.ndarray:
        """What belonged to the old weights, one number each, for the new ones: 0 for new links."""
        return np.where(self.kept >= 0, values[self.kept], 0)


def exchange_links(
    S: sparse.csr_array, E: np.ndarray, grad_Y: np.ndarray, *, rows_at_a_time: int = 8192
) -> ExchangedLinks:
    """Exchange the weakest link of every row for the free one with the largest pull (model.md, joint training, 7).

    `grad_Y` is the gradient of the loss at ``S E``, summed over as many batches as one likes. A row of zeros is left alone; if
    every column is taken there is nothing to exchange.
    """
    n, k = S.shape
    t = S.nnz // max(n, 1)
    if E.shape[0] != k or grad_Y.shape != (n, E.shape[1]):
        raise SettingsError(f"an assignment of {n} x {k} does not fit a codebook {E.shape} and a gradient {grad_Y.shape}")
    if not np.array_equal(S.indptr, np.arange(n + 1) * t):
        raise SettingsError("links can be exchanged only where every row has the same number of them")
    if t == 0:
        return ExchangedLinks(S, np.arange(S.nnz))
    columns, weights = S.indices.reshape(n, t).copy(), S.data.reshape(n, t).copy()
    kept = np.arange(n * t).reshape(n, t)
    weakest = np.argmin(np.abs(weights) * np.linalg.norm(E, axis=1)[columns], axis=1)
    for rows in _blocks(grad_Y, rows_at_a_time):
        rows = np.arange(rows.start, rows.stop)
        pull = np.abs(grad_Y[rows] @ E.T)
        pull[np.arange(len(rows))[:, None], columns[rows]] = -1
        wanted = np.argmax(pull, axis=1)
        moved = pull[np.arange(len(rows)), wanted] > 0
        rows, wanted = rows[moved], wanted[moved]
        columns[rows, weakest[rows]] = wanted
        weights[rows, weakest[rows]] = 0
        kept[rows, weakest[rows]] = -1
    order = np.argsort(columns, axis=1, kind="stable")
    columns, weights, kept = (np.take_along_axis(part, order, axis=1) for part in (columns, weights, kept))
    return ExchangedLinks(_rows_of(weights, columns, k), kept.ravel())


def pursued_links(S: sparse.csr_array, E: np.ndarray, Y: np.ndarray) -> ExchangedLinks:
    """The links S found anew by pursuit of Y, in the rows where that comes closer; in the precision of S."""
    n, t = S.shape[0], S.nnz // S.shape[0]
    found = sparse.csr_array(_better_links(Y, E, S), dtype=S.dtype)
    same = found.indices.reshape(n, t, 1) == S.indices.reshape(n, 1, t)
    kept = np.where(same.any(axis=2), t * np.arange(n)[:, None] + same.argmax(axis=2), -1)
    return ExchangedLinks(found, kept.ravel())


def _blocks(rows: np.ndarray, size: int) -> list[slice]:
    """Slices of at most `size` rows."""
    return [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]


def _rows_of(weights: np.ndarray, columns: np.ndarray, n_columns: int) -> sparse.csr_array:
    """A matrix with the same number of entries in every row, given row by row, both (n, t)."""
    n, t = columns.shape
    return sparse.csr_array((weights.ravel(), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, n_columns))
