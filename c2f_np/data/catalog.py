"""The data sets known by name: two that come with the package, three that are fetched from their publishers."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError


@dataclass(frozen=True)
class RemoteFile:
    """One file to download and the proof that it is the right one.

    Parameters
    ----------
    remote : str
        Its path below the data set's base URL.
    digest : str
        What the file must have, in hexadecimal.
    algorithm : {"sha256", "git-blob"}
        ``git-blob`` is the SHA-1 that git gives to the content, ``sha1("blob <size>\\0" + content)``.
    member : str
        For an archive, the one member that is needed; else empty.
    local : str
        Name of the file in the cache.
    """

    remote: str
    digest: str
    algorithm: str
    local: str
    member: str = ""


@dataclass(frozen=True)
class DatasetInfo:
    """What there is to know about a named data set before loading it.

    Parameters
    ----------
    name, title, source, terms : str
        `terms` is what must be agreed to before use.
    n_users, n_items, n_interactions : int
        As published.
    file_format : str
        As in :func:`c2f_np.data.load_dataset`; empty for those that come with the package.
    base_url : str
        Where it is fetched; empty for those that come with the package.
    files : tuple of RemoteFile
    """

    name: str
    title: str
    source: str
    terms: str
    n_users: int
    n_items: int
    n_interactions: int
    file_format: str = ""
    base_url: str = ""
    files: tuple[RemoteFile, ...] = ()

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with the package and needs no download."""
        return not self.files

    def describe(self) -> str:
        """Return a few readable lines."""
        size = f"{self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions"
        origin = "comes with the package" if self.is_shipped else f"fetched from {self.base_url}"
        return "\n".join(
            [
                f"{self.name}: {self.title}",
                f"  {size}",
                f"  {origin}",
                f"  source: {self.source}",
                f"  terms: {self.terms}",
            ]
        )


_GROUPLENS_TERMS = (
    "for research; no redistribution and no commercial use without the permission of GroupLens; cite the paper above. "
    "The archive's README has the full terms."
)
_HARPER = (
    "F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5(4), 2015."
)
_GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens"

CATALOG = {
    info.name: info
    for info in (
        DatasetInfo(
            "southern-women",
            "18 women and the social events they attended",
            "A. Davis, B. B. Gardner and M. R. Gardner. Deep South. University of Chicago Press, 1941.",
            "facts from a published table; cite the book.",
            18,
            14,
            89,
        ),
        DatasetInfo(
            "planted",
            "artificial, with known coarse groups and fine subgroups",
            "drawn by c2f_np.data.generate_planted.",
            "none; same licence as the package.",
            1000,
            800,
            31809,
        ),
        DatasetInfo(
            "ml-100k",
            "MovieLens 100K: films rated by people, 1997-1998",
            _HARPER,
            _GROUPLENS_TERMS,
            943,
            1682,
            100_000,
            "u.data",
            _GROUPLENS_URL,
            (
                RemoteFile(
                    "ml-100k.zip",
                    "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
                    "sha256",
                    "u.data",
                    "ml-100k/u.data",
                ),
            ),
        ),
        DatasetInfo(
            "ml-1m",
            "MovieLens 1M: films rated by people, 2000-2003",
            _HARPER,
            _GROUPLENS_TERMS,
            6040,
            3706,
            1_000_209,
            "ratings.dat",
            _GROUPLENS_URL,
            (
                RemoteFile(
                    "ml-1m.zip",
                    "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
                    "sha256",
                    "ratings.dat",
                    "ml-1m/ratings.dat",
                ),
            ),
        ),
        DatasetInfo(
            "gowalla",
            "Gowalla check-ins, users and items with at least ten, split as in the LightGCN paper",
            "E. Cho, S. A. Myers and J. Leskovec. Friendship and Mobility: User Movement in Location-Based Social "
            "Networks. KDD 2011 (SNAP); this form from github.com/gusye1234/LightGCN-PyTorch, commit 947ca2b.",
            "published for research; cite the paper above.",
            29_858,
            40_981,
            1_027_370,
            "lightgcn",
            "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/"
            "947ca2b3b1d2d3545b114145710cb06c4e57b3d2/data/gowalla",
            (
                RemoteFile("train.txt", "a27782bd7a1d4d0744148dc0460ea94da74763f2", "git-blob", "train.txt"),
                RemoteFile(
                    "test.txt",
                    "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
                    "sha256",
                    "test.txt",
                ),
            ),
        ),
    )
}


def list_datasets() -> list[DatasetInfo]:
    """Return what is known about every named data set, those that come with the package first."""
    return list(CATALOG.values())


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known about one named data set.

    Parameters
    ----------
    name : str

    Returns
    -------
    DatasetInfo

    Raises
    ------
    DataError
        If there is no such name.
    """
    if name not in CATALOG:
        raise DataError(f"there is no data set named {name!r}; the names are {', '.join(CATALOG)}")
    return CATALOG[name]
