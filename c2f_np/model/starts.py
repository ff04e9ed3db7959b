"""How training starts: partitions of the entities, SparsePCA, and the first state of each phase.

    S_c   weight w* on an entity's own part, (1 - w*) / (t - 1) on each of t - 1 other parts, drawn without replacement
    S_f   the t_f largest of softmax(S_c^T P) in each row; P (N x M) has 0.5 on the own part and 0.5 / (M - 1) elsewhere
    E_c   unit normal
    b     unit normal (what the released code does, by leaving a framework's default in place), or 0; b_0 = 0
    E_f   from a sparse PCA of M rows of E_c drawn with replacement
    Y     of a table: normal numbers; or c [U; V] diag(sigma)^1/2, with the d leading singular triples (U, sigma, V) of the
          normalised interactions D_U^-1/2 R D_I^-1/2: <Y_user, Y_item> is c^2 times their best approximation of rank d

Everything random comes from (seed, purpose). All numbers are float64; training casts them.

Shapes
------
R : (U, I) interactions     parts : (N,) part of each entity, users first
S_c : (N, C)     S_f : (C, M)     S_d : (N, M)     E_c : (C, d)     E_f : (M, d)
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError, in_short, require_one_of
from ..settings import PARTITIONS, Settings
from ..threads import one_blas_thread
from .graph import bipartite_adjacency
from .links import largest_softmax, pursue, require_row_entries, residual_code, shared_code
from .sampling import generator
from .sparse_pca import sparse_pca
from .step import ModelState

FINE_STARTS = ("scores", "components")  # of the fine stage; from a partition, jointly trained codebooks both start unit normal
# Of a table. Small, so that nearly all of a row is learned; not 0, where all rows would learn the same.
_TABLE_SCALE = 0.1
# Root mean square of a table of singular vectors. Where tanh is all but straight; on MovieLens 100K twice as much was as good.
_SINGULAR_SCALE = 0.3
# Of the largest. Below it a column is noise; and one of zeros would stay so, its gradient being 0.
_LEAST_SINGULAR_VALUE = 1e-6
# Subspace iterations, after which the tables are as good as those of exact singular vectors.
_SVD_ITERATIONS = 7


# ---- partitions --------------------------------------------------------------------------------------------------------
def partition_entities(R, n_parts: int, *, method: str = "auto", seed: int = 0) -> np.ndarray:
    """Partition the unweighted user-item graph into parts of about equal size, shape (N,).

    "metis" through pymetis; "coclustering" is scikit-learn's and there on every platform; "random" deals parts out at random;
    "auto" takes METIS where it is installed.
    """
    require_partition(R.shape, n_parts, method)
    n_entities = sum(R.shape)
    if n_parts == 1:
        return np.zeros(n_entities, dtype=np.int64)
    if method == "random":
        return np.random.default_rng(seed).permutation(np.arange(n_entities, dtype=np.int64) % n_parts)
    if method == "metis" or (method == "auto" and metis_is_installed()):
        return _metis(R, n_parts, seed)
    return _coclustering(R, n_parts, seed)


def require_partition(shape: tuple[int, int], n_parts: int, method: str) -> None:
    """Raise SettingsError where :func:`partition_entities` would, without partitioning."""
    n_entities = sum(shape)
    if n_parts > n_entities:
        raise SettingsError(
            f"a codebook of {n_parts} rows for {n_entities} entities ({shape[0]} users and {shape[1]} items): "
            "choose fewer rows (n_coarse, n_fine) than entities"
        )
    require_one_of(PARTITIONS, method, "partition")
    if method == "metis" and not metis_is_installed():
        raise SettingsError("partition='metis' needs the package pymetis; 'coclustering' works everywhere")


def metis_is_installed() -> bool:
    """Whether pymetis can be imported."""
    try:
        import pymetis  # noqa: F401
    except ImportError:
        return False
    return True


def _metis(R, n_parts: int, seed: int) -> np.ndarray:
    import pymetis

    B = bipartite_adjacency(R)
    neighbours = pymetis.CSRAdjacency(B.indptr.astype(np.int32), B.indices.astype(np.int32))
    _, parts = pymetis.part_graph(n_parts, neighbours, options=pymetis.Options(seed=seed))
    return np.asarray(parts, dtype=np.int64)


def _coclustering(R, n_parts: int, seed: int) -> np.ndarray:
    """Spectral co-clustering of the entities that have interactions; the others are dealt out in turn."""
    from sklearn.cluster import SpectralCoclustering

    R = sparse.csr_array(R)
    degree = np.concatenate([np.asarray(R.sum(axis=1)).ravel(), np.asarray(R.sum(axis=0)).ravel()])
    linked = degree > 0
    users, items = linked[: R.shape[0]], linked[R.shape[0] :]
    parts = np.arange(len(degree), dtype=np.int64) % n_parts
    if n_parts < min(users.sum(), items.sum()):
        model = SpectralCoclustering(n_clusters=n_parts, random_state=seed)
        model.fit(sparse.csr_matrix(R[users][:, items]))
        parts[linked] = np.concatenate([model.row_labels_, model.column_labels_])
    return parts


# ---- assignments, biases, the fine codebook ------------------------------------------------------------------------------
def start_coarse_assignment(
    parts: np.ndarray, n_coarse: int, t: int, anchor_weight: float, rng: np.random.Generator
) -> sparse.csr_array:
    """S_c; with t = 1 the own part has weight 1. (S_d starts in the same way, from a partition into M parts.)"""
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
    """S_f, from a partition into M parts. P is never formed: it is a constant plus one entry a row."""
    n = len(parts)
    elsewhere = 0.5 / max(n_fine - 1, 1)
    own = sparse.csr_array((np.full(n, 0.5 - elsewhere), (np.arange(n), parts)), shape=(n, n_fine))
    transpose = sparse.csr_array(S_coarse.T, dtype=np.float64)
    affinity = elsewhere * np.asarray(transpose.sum(axis=1)).reshape(-1, 1) + (transpose @ own).toarray()
    return largest_softmax(affinity, t_fine, renormalise=renormalise)


def start_biases(n_entities: int, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Biases of the entities, unit normal or zero, and the global one, zero."""
    if kind not in ("normal", "zero"):
        raise SettingsError(f"bias_start must be normal or zero, not {in_short(kind)}")
    return rng.standard_normal(n_entities) if kind == "normal" else np.zeros(n_entities), np.zeros(1)


def start_fine_codebook(
    E_coarse: np.ndarray, n_fine: int, n_components: int, *, kind: str, threshold: float, seed: int
) -> np.ndarray:
    """E_f.

    ``kind="scores"`` (the released code): each row's scores, which are dense, stand in order at sorted random positions of a
    zero row. The sparsity is random padding, and the coordinates are scrambled.

    ``kind="components"`` (the paper): the sparse components themselves are the rows, each at the scale of its scores, so
    that the codebook is on the scale of E_c. They are moved away from zero by tau, so that soft thresholding returns exactly
    them: unit components would all lie inside the threshold and never be trained. With fewer components than rows they are
    used in turn.
    """
    require_one_of(FINE_STARTS, kind, "fine_start")
    if not np.isfinite(E_coarse).all():
        raise SettingsError("the coarse codebook is not finite: training has diverged; lower the learning rate")
    rng = np.random.default_rng(seed)
    dim = E_coarse.shape[1]
    n_components = min(dim, n_components)
    rows = E_coarse[rng.integers(0, len(E_coarse), size=n_fine)].astype(np.float64)
    scores, components = sparse_pca(rows, n_components)
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


# ---- first states ------------------------------------------------------------------------------------------------------
def start_coarse(R, settings: Settings) -> ModelState:
    """Of the coarse stage."""
    return _from_partition(R, settings, generator(settings.seed, "start coarse"))


def _from_partition(R, s: Settings, rng: np.random.Generator) -> ModelState:
    """A coarse codebook, its links from a partition, and the biases."""
    parts = partition_entities(R, s.n_coarse, method=s.partition, seed=s.seed)
    S_coarse = start_coarse_assignment(parts, s.n_coarse, s.t_coarse, s.anchor_weight, rng)
    E_coarse = rng.standard_normal((s.n_coarse, s.dim))
    return ModelState(E_coarse, S_coarse, *start_biases(sum(R.shape), s.bias_start, rng))


def start_fine(coarse: ModelState, R, settings: Settings) -> ModelState:
    """Of the fine stage, from the coarse stage's result."""
    s, seed = settings, settings.seed + 1  # another partition than the coarse one, hence another seed
    parts = partition_entities(R, s.n_fine, method=s.partition, seed=seed)
    S_fine = start_fine_assignment(coarse.S_coarse, parts, s.n_fine, s.t_fine, renormalise=s.renormalise_fine)
    E_fine = start_fine_codebook(
        coarse.E_coarse, s.n_fine, s.n_components, kind=s.fine_start, threshold=s.threshold, seed=seed
    )
    return dataclasses.replace(coarse, E_fine=E_fine, S_fine=S_fine)


def start_joint(R, settings: Settings) -> ModelState:
    """Of joint training from partitions: both codebooks unit normal, links from two partitions of the entities.

    The fine codebook starts tau away from zero: soft thresholding returns the normal draw, and nothing begins in the dead zone.
    """
    s, rng = settings, generator(settings.seed, "start joint")
    state = _from_partition(R, s, rng)
    if not s.has_fine_codebook:
        return state
    E_fine = rng.standard_normal((s.n_fine, s.dim))
    E_fine += s.threshold * np.sign(E_fine)
    # Another partition than the coarse one, hence another seed.
    parts = partition_entities(R, s.n_fine, method=s.partition, seed=s.seed + 1)
    S_fine = S_direct = None
    if s.gate > 0:
        # With g = 1 nothing else makes up the coarse rows: they are means of fine rows.
        renormalise = s.renormalise_fine or s.gate == 1
        S_fine = start_fine_assignment(state.S_coarse, parts, s.n_fine, s.t_fine, renormalise=renormalise)
    if s.t_direct:
        S_direct = start_coarse_assignment(parts, s.n_fine, s.t_direct, s.anchor_weight, rng)
    E_coarse = state.E_coarse if s.gate < 1 else state.E_coarse[:0]
    return dataclasses.replace(
        state, E_coarse=E_coarse, E_fine=E_fine, S_fine=S_fine, S_direct=S_direct, threshold=_own_threshold(s)
    )


def _own_threshold(s: Settings) -> np.ndarray | None:
    """The threshold of a state that will raise it."""
    return np.full(1, s.threshold) if s.fine_density < 1 else None


def start_table(R, settings: Settings) -> ModelState:
    """Of a table: a row of its own for every entity, as a codebook of N rows with S_c = I."""
    n, rng = sum(R.shape), generator(settings.seed, "start table")
    table = _TABLE_SCALE * rng.standard_normal((n, settings.dim))
    if settings.table_start == "svd":
        table = with_singular_vectors(table, R, settings.seed)
    itself = sparse.csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n))
    return ModelState(table, itself, *start_biases(n, settings.bias_start, rng))


def with_singular_vectors(table: np.ndarray, R, seed: int) -> np.ndarray:
    """The table with singular vectors in its rows and columns, as far as there are any; the other numbers stay."""
    vectors, table = singular_table(R, table.shape[1], seed), table.copy()
    known = np.concatenate([R.sum(axis=1), R.sum(axis=0)]) > 0  # who has no interactions keeps its numbers
    table[known, : vectors.shape[1]] = vectors[known]
    return table


def singular_table(R, dim: int, seed: int) -> np.ndarray:
    """c [U; V] diag(sigma)^1/2, with fewer than `dim` columns if R has a lower rank; about 0 for who has no interactions."""
    from sklearn.utils.extmath import randomized_svd

    R = sparse.csr_array(R, dtype=np.float64)
    of_users, of_items = (np.maximum(R.sum(axis=axis), 1) ** -0.5 for axis in (1, 0))
    normalised = sparse.csr_array(R.multiply(of_users[:, None]).multiply(of_items[None, :]))
    with one_blas_thread():
        U, sigma, V = randomized_svd(normalised, min(dim, *R.shape), n_iter=_SVD_ITERATIONS, random_state=seed)
    rank = np.count_nonzero(sigma > _LEAST_SINGULAR_VALUE * sigma[0])
    vectors = np.concatenate([U, V.T])[:, :rank] * np.sqrt(sigma[:rank])
    if rank == 0:
        return vectors
    return vectors * (_SINGULAR_SCALE / np.sqrt(np.mean(vectors**2)))


def code_table(table: ModelState, R, settings: Settings) -> ModelState:
    """Of joint training from a trained table: codebooks and links are its residual code; the biases stay.

    The coarse rows begin as the means of a partition of the entities, and a row of the table counts 1 + degree times: about as
    often as it is the user or the positive item of a triple.

    E_f is moved away from zero by tau, so that soft thresholding returns the F of the code. With a bridge the coarse rows of the
    code are coded by fine rows, g S_f F ~ E_hat, and what that leaves of them is (1 - g) E_c. If there is no E_c, fine rows are
    chosen for the coarse rows and what these leave of the table, and direct links code what is then left.
    """
    s, gate, Y = settings, settings.gate, table.E_coarse
    count = 1.0 + np.concatenate([np.asarray(R.sum(axis=1)).ravel(), np.asarray(R.sum(axis=0)).ravel()])
    parts = partition_entities(R, s.n_coarse, method=s.partition, seed=s.seed)
    code = residual_code(Y, s.n_coarse, s.n_fine, s.t_coarse, s.t_direct, seed=s.seed, parts=parts, weight=count)
    E_hat, S_coarse, F, S_fine, S_direct = code.E_hat, code.S_coarse, code.F, None, code.S_direct
    if not s.has_fine_codebook:
        return dataclasses.replace(table, E_coarse=E_hat, S_coarse=S_coarse)
    E_coarse = E_hat
    if gate > 0:
        if F is None or gate == 1:
            # An error in a coarse row counts as often as entities are linked to it, each as often as it counts itself.
            used = np.bincount(S_coarse.indices, np.repeat(count, s.t_coarse) * S_coarse.data**2, minlength=s.n_coarse)
            weight = np.sqrt(np.where(used > 0, used, 1))
            tables, each = [weight[:, None] * E_hat], [s.t_fine]
            if s.t_direct:
                tables, each = [*tables, np.sqrt(count)[:, None] * (Y - S_coarse @ E_hat)], [*each, s.t_direct]
            F, (S_fine, *_) = shared_code(tables, s.n_fine, each, seed=s.seed)
            S_fine.data /= gate * np.repeat(weight, s.t_fine)
        else:
            S_fine = pursue(E_hat / gate, F, s.t_fine)
        refined = gate * (S_fine @ F)
        if gate == 1 and s.t_direct:
            S_direct = pursue(Y - S_coarse @ refined, F, s.t_direct)
        E_coarse = (E_hat - refined) / (1 - gate) if gate < 1 else E_hat[:0]
    E_fine = F + s.threshold * np.sign(F)
    return dataclasses.replace(
        table, E_coarse=E_coarse, S_coarse=S_coarse, E_fine=E_fine, S_fine=S_fine, S_direct=S_direct,
        threshold=_own_threshold(s),
    )  # fmt: skip
