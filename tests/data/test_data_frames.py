"""Tables with a row for each interaction: read by the names of their columns, and never taken for a matrix."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sparse

from c2f_np import C2FRecommender, load_dataset
from c2f_np.baselines import EASE, LightGCN
from c2f_np.data import Dataset, Interactions, read_csv, read_frame, read_interactions
from c2f_np.errors import DataError

USERS, ITEMS = [7, 7, 8, 9, 9], [10, 20, 10, 20, 30]
PAIRS = [("7", "10"), ("7", "20"), ("8", "10"), ("9", "20"), ("9", "30")]
COLUMNS = {"user_id": USERS, "item_id": ITEMS, "rating": [5, 4, 3, 2, 1], "when": [1.0, 2.0, 3.0, 4.0, 5.0]}


@dataclasses.dataclass
class Frame:
    """What all data frames have in common."""

    data: dict

    @property
    def columns(self):
        return list(self.data)

    def __getitem__(self, name):
        return np.asarray(self.data[name])


def frames():
    yield Frame
    yield dict
    yield lambda data: np.rec.fromarrays(list(map(np.asarray, data.values())), names=list(data))


def pairs(interactions):
    return list(zip(interactions.user_ids[interactions.user], interactions.item_ids[interactions.item], strict=True))


@pytest.mark.parametrize("kind", list(frames()))
def test_columns_are_found_by_name(kind):
    assert pairs(read_frame(kind(COLUMNS))) == PAIRS
    timed = read_frame(kind(COLUMNS), timestamp_column="when", rating_threshold=3)
    assert pairs(timed) == PAIRS[:3] and timed.timestamp.tolist() == [1, 2, 3]
    swapped = read_frame(kind(COLUMNS), user_column="item_id", item_column="user_id")
    assert pairs(swapped) == sorted((item, user) for user, item in PAIRS)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_data_frames_of_others(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    assert pairs(read_frame(make(COLUMNS))) == PAIRS
    assert EASE().fit(make(COLUMNS)).user_ids_.tolist() == ["7", "8", "9"]
    with pytest.raises(DataError, match=r"row 1 \(counted from 0\): the user id is missing"):
        read_frame(make({"user": ["a", None], "item": [1, 2]}))


def test_what_fit_makes_of_a_frame():
    model = EASE().fit(Frame(COLUMNS))
    assert model.interactions_.shape == (3, 3) and model.recommend(8, k=3)[0].tolist() == [["20", "30", ""]]
    rows = EASE().fit(Interactions.from_rows(USERS, ITEMS))
    assert (rows.interactions_ != model.interactions_).nnz == 0 and rows.item_ids_.tolist() == model.item_ids_.tolist()
    renamed = Frame({"visitor": USERS, "product": ITEMS, "user": [0] * 5})
    assert EASE().fit(renamed, user_column="visitor").user_ids_.tolist() == ["7", "8", "9"]
    rng = np.random.default_rng(0)
    many = Frame({"user": rng.integers(0, 20, 300), "item": rng.integers(0, 30, 300)})
    for model in (C2FRecommender(n_coarse=4, n_fine=3, dim=4, max_epochs=2), LightGCN(max_epochs=2)):
        fitted = model.fit(many)
        # As from a matrix, a share is set aside to stop by.
        assert fitted.data_.validation.nnz > 0 and fitted.known_.nnz == fitted.data_.train.nnz + fitted.data_.validation.nnz


@pytest.mark.parametrize(
    ("data", "options", "why"),
    [
        ({"who": USERS, "item": ITEMS}, {}, "unclear which column holds the user ids; set user_column; .*'who', 'item'"),
        ({"user": USERS, "uid": USERS, "item": ITEMS}, {}, "several columns could be the user column"),
        ({"user": USERS, "item": ITEMS}, {"user_column": "who"}, "no column 'who'; .*'user', 'item'$"),
        ({"user": USERS, "item": ITEMS}, {"user_column": "item"}, "one column cannot serve two purposes"),
        ({"10": USERS, "20": ITEMS}, {}, "names of columns are missing.*frame.to_numpy"),
        ({"user": [], "item": []}, {}, "no interactions"),
        ({"user": USERS, "item": ITEMS[:2]}, {}, "differ in number"),
    ],
)
def test_what_is_doubtful_is_refused_with_advice(data, options, why):
    with pytest.raises(DataError, match=why):
        EASE().fit(Frame(data), **options)


def test_a_matrix_is_no_frame_and_a_frame_no_matrix():
    with pytest.raises(DataError, match="is no matrix"):
        Dataset.from_matrices(Frame(COLUMNS))
    with pytest.raises(DataError, match="only with a matrix"):
        EASE().fit(Frame(COLUMNS), validation=np.eye(3))
    with pytest.raises(DataError, match="are for data frames"):
        EASE().fit(np.eye(3), user_column="user")
    with pytest.raises(DataError, match="with named columns, not list"):
        read_frame([1, 2])
    assert EASE().fit(sparse.dok_array(np.eye(3))).interactions_.nnz == 3


LONG = np.array([USERS, ITEMS, COLUMNS["rating"]]).T


@pytest.mark.parametrize(
    "table",
    [
        LONG, LONG[:, :2], LONG.T, LONG[:, :2].T, LONG + [0, 0, 0.5], LONG.astype(np.float32), LONG[:2],
        np.column_stack([LONG, 881250949 + np.arange(5)]), [[0, 1], [0, 2], [1, 1]], LONG.tolist(),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [lambda table: table, sparse.csr_array, sparse.coo_array])
def test_rows_of_ids_are_no_matrix(table, kind):
    with pytest.raises(DataError, match="looks like a table with a row for each interaction"):
        Dataset.from_matrices(kind(np.asarray(table)))


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[1, 0], [0, 1], [1, 1]]), np.ones((3, 3)), np.arange(30).reshape(5, 6),
        np.array([[5, 0, 3, 1, 0], [0, 4, 0, 0, 2]]),
        np.array([[0.5, 1.5], [2.5, 0.5], [0.5, 0]]), np.ones((6, 2), bool), np.array([[100]]), np.arange(10)[:, None],
    ],
)  # fmt: skip
def test_matrices_stay_matrices(matrix):
    assert Dataset.from_matrices(matrix).train.nnz == np.count_nonzero(matrix)


TRIPLES = "1 101 4\n1 102 5\n2 101 3\n"
QUADRUPLES = "1\t101\t4\t881250949\n1\t102\t5\t881250950\n2\t101\t3\t881250951\n"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", TRIPLES, "every line has 3 numbers and users have several lines: .*read from a .csv file"),
        ("a.txt", QUADRUPLES, "every line has 4 numbers .*file_format u.data"),
        ("a.txt", TRIPLES.replace("4", "881250949"), "every line has 3 numbers"),
        ("a.txt", "user item rating\n" + TRIPLES, "line 1: the user id is not a whole number; .*--format csv.*'user'"),
        ("a.txt", TRIPLES.replace(" ", ","), "line 1: the user id is not a whole number; .*--format csv"),
        ("a.txt", TRIPLES.replace(" ", ";"), "line 1: the user id is not a whole number; .*--format csv"),
        ("a.csv", TRIPLES.replace(" ", ","), "line 1: names of columns are missing, such as user,item,rating"),
        ("a.csv", TRIPLES.replace(" ", ";"), "line 1: names of columns are missing"),
        ("a.tsv", TRIPLES.replace(" ", "\t"), "line 1: names of columns are missing"),
        ("a.inter", TRIPLES.replace(" ", "\t"), "line 1: a RecBole header"),
        ("a.data", "1\t101\t881250949\t4\n1\t102\t881250950\t5\n", "ratings look like times"),
        ("a.csv", "user,item,rating\na,x,881250949\n", "ratings look like times"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}.*{why}"):
        read_interactions(tmp_path / name)


def test_the_advice_helps(tmp_path):
    (tmp_path / "a.txt").write_text(QUADRUPLES)
    read = read_interactions(tmp_path / "a.txt", file_format="u.data")
    assert pairs(read) == [("1", "101"), ("1", "102"), ("2", "101")] and read.timestamp is not None
    for text in ("user,item,rating\n" + TRIPLES.replace(" ", ","), "user;item;rating\n" + TRIPLES.replace(" ", ";")):
        (tmp_path / "a.txt").write_text(text)
        assert pairs(read_interactions(tmp_path / "a.txt", file_format="csv")) == pairs(read)
    with pytest.raises(DataError, match="names of columns are missing"):
        (tmp_path / "b.csv").write_text(TRIPLES.replace(" ", ","))
        read_csv(tmp_path / "b.csv", user_column="1", item_column="101")


@pytest.mark.parametrize("text", ["0 1 2\n1 2 3\n2 0 1\n", "0 1\n0 2\n1 1\n", "0 1 2\n0 3\n1 2 3\n", "0 1 2 3\n1 2\n1 3 4 5\n"])
def test_lists_stay_lists(tmp_path, text):
    """One line for each user, pairs, and lines of different lengths."""
    (tmp_path / "a.txt").write_text(text)
    expected = {(line.split()[0], item) for line in text.splitlines() for item in line.split()[1:]}
    assert set(pairs(read_interactions(tmp_path / "a.txt"))) == expected


def test_a_split_of_none_holds_nothing_out(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(u % 4 + 3)))
    data = load_dataset(tmp_path / "a.csv", split="none")
    assert data.validation is None and data.test is None and data.train.nnz == data.known().nnz
    assert "no validation: nothing stops training early" in data.describe()
    asked = load_dataset(tmp_path / "a.csv", split="none", validation_fraction=0.3)
    assert asked.validation.nnz > 0 and "no validation" not in asked.describe() and (asked.known() != data.train).nnz == 0


def test_times_may_be_dates_in_text():
    read = read_frame({"user": [1, 1], "item": [1, 2], "time": ["2024-03-11", "1970-01-01T00:00:07Z"]})
    assert read.timestamp.tolist() == [1710115200, 7]
    with pytest.raises(DataError, match="the column of the timestamp must hold numbers; row 0"):
        read_frame({"user": [1], "item": [1], "time": ["11.03.2024"]})
