"""Partitions of the entities into parts of about equal size, from which the assignments start.

Shapes
------
R : (U, I) interactions     parts : (N,) part of each entity, users first
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse

from ..errors import SettingsError
from ..operations.graph import bipartite_adjacency

METHODS = ("auto", "metis", "coclustering", "random")


def partition_entities(R, n_parts: int, *, method: str = "auto", seed: int = 0) -> np.ndarray:
    """Partition the unweighted user-item graph.

    Parameters
    ----------
    R : sparse, shape (U, I)
        Training interactions.
    n_parts : int
    method : {"auto", "metis", "coclustering", "random"}
        METIS through pymetis; scikit-learn's spectral co-clustering, which is there on every platform; or parts drawn at random.
        "auto" takes METIS where it is installed.
    seed : int

    Returns
    -------
    parts : ndarray of int64, shape (N,)

    Raises
    ------
    SettingsError
        If there are fewer entities than parts, the method is unknown, or METIS is asked for and not installed.
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
    if method not in METHODS:
        raise SettingsError(f"partition must be one of {', '.join(METHODS)}, not {method!r}")
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

    R = sparse.csr_array(R, dtype=np.float64)
    degree = np.concatenate([np.asarray(R.sum(axis=1)).ravel(), np.asarray(R.sum(axis=0)).ravel()])
    linked = degree > 0
    users, items = linked[: R.shape[0]], linked[R.shape[0] :]
    parts = np.arange(len(degree), dtype=np.int64) % n_parts
    if 1 < n_parts < min(users.sum(), items.sum()):
        model = SpectralCoclustering(n_clusters=n_parts, random_state=seed)
        model.fit(sparse.csr_matrix(R[users][:, items]))
        parts[linked] = np.concatenate([model.row_labels_, model.column_labels_])
    return parts
