"""One call from a name or path to a data set, and what it says to options that make no sense."""

import subprocess
import sys

import pytest

from c2f_np.data import list_datasets, load_dataset, read_interactions, write_shipped
from c2f_np.errors import DataError

CSV = "user,item,rating,time\na,x,5,1\na,y,2,2\na,z,4,3\nb,x,3,1\nb,y,4,2\n"


@pytest.fixture
def folder(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    write("csv/x.csv", CSV)
    write("tsv/x.tsv", CSV.replace(",", "\t"))
    write("inter/x.inter", "user_id:token\titem_id:token\na\tx\na\ty\nb\tx\n")
    write("ml/u.data", "1\t1\t5\t1\n1\t2\t5\t2\n2\t1\t5\t1\n")
    write("ml1/ratings.dat", "1::1::5::1\n1::2::5::2\n2::1::5::1\n")
    write("given/train.txt", "0 0 1 2\n1 0 1\n")
    write("given/test.txt", "0 3 4\n1 2\n")
    write("whole/train.txt", "0 0 1 2\n1 0 1\n")
    write("mixed/train.txt", "0 1\n")
    write("mixed/u.data", "1\t1\t5\t1\n1\t2\t5\t2\n2\t1\t5\t1\n")
    write("x.xlsx", "")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "shape", "name"),
    [
        ("csv/x.csv", (2, 3), "x"),
        ("tsv/x.tsv", (2, 3), "x"),
        ("inter", (2, 2), "inter"),
        ("inter/x.inter", (2, 2), "x"),
        ("ml", (2, 2), "ml"),
        ("ml/u.data", (2, 2), "ml"),
        ("ml1", (2, 2), "ml1"),
        ("given", (2, 5), "given"),
        ("whole", (2, 3), "whole"),
        ("whole/train.txt", (2, 3), "train"),
    ],
)
def test_formats_are_told_from_names(folder, path, shape, name):
    data = load_dataset(folder / path, validation_fraction=0)
    assert data.train.shape == shape and data.name == name


def test_a_format_can_be_chosen(folder):
    assert load_dataset(folder / "mixed", file_format="u.data").n_users == 2
    with pytest.raises(DataError, match="no such file or folder"):
        read_interactions(folder / "nothing")


def test_auto_split_is_as_given_or_else_random(folder):
    assert "as given by train.txt, test.txt" in load_dataset(folder / "given").split
    assert "at random" in load_dataset(folder / "whole").split


def test_a_given_split_can_be_made_anew(folder):
    data = load_dataset(folder / "given", split="random", test_fraction=0.5, validation_fraction=0)
    assert data.train.nnz + data.test.nnz == 8
    everything = load_dataset(folder / "given", split="none", validation_fraction=0)
    assert everything.train.nnz == 8 and everything.test is None


def test_temporal_split_threshold_and_columns(folder):
    options = dict(rating_threshold=3, rating_column="rating", validation_fraction=0)
    data = load_dataset(folder / "csv/x.csv", split="temporal", n_last=1, **options)
    assert data.test[data.user_index("a")[0], data.item_index("z")[0]] == 1
    assert data.report["rows_below_threshold"] == 1


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("csv/x.csv", dict(split="given"), "x.csv comes without a split"),
        ("csv/x.csv", dict(split="daily"), "auto or one of given, random, temporal, none, not 'daily'"),
        ("csv/x.csv", dict(file_format="xlsx"), "one of lightgcn, u.data, ratings.dat, csv, recbole, parquet, not 'xlsx'"),
        ("csv/x.csv", dict(file_format="u.data"), "x.csv, line 1: number of fields: 1, needed: 4"),
        ("given", dict(split="temporal"), "needs timestamps, and given has none"),
        ("given", dict(rating_threshold=3), "has no ratings.*3"),
        ("given", dict(user_column="u", separator=","), "fixed columns; leave user_column, separator alone"),
        ("ml", dict(timestamp_column="t"), "fixed columns; leave timestamp_column alone"),
        ("inter", dict(separator=","), "leave separator alone"),
        ("inter", dict(split="temporal"), "needs timestamps"),
        ("inter", dict(rating_threshold=3), "no rating column"),
        ("csv", {}, "no train.txt, u.data, ratings.dat, .inter or .parquet"),
        ("given", dict(file_format="csv"), "0 files of the format csv"),
        ("nowhere", {}, "neither a file or folder nor one of the data sets southern-women, planted"),
        ("csv/x.csv", dict(protocol="honest"), "protocol must be"),
        ("given", dict(split="none", protocol="authors"), "takes validation from the test items"),
        ("x.xlsx", {}, "its name does not tell the format"),
        ("mixed", {}, "several formats"),
        ("name: ml-100k", {}, "ml-100k has not been fetched yet; run: python -m c2f_np data fetch ml-100k"),
        ("name: planted", dict(file_format="csv"), "leave file_format alone"),
        ("name: planted", dict(rating_threshold=3), "the data set planted has no ratings"),
    ],
)
def test_contradictions(folder, path, options, message):
    name = path.removeprefix("name: ")
    with pytest.raises(DataError, match=message):
        load_dataset(folder / path if name == path else name, cache_dir=folder, **options)


def test_names_and_shipped_files_are_the_same_data(tmp_path):
    write_shipped(tmp_path)
    assert load_dataset(tmp_path / "planted").fingerprint() == load_dataset("planted").fingerprint()
    assert load_dataset("southern-women").train.shape == (18, 14)
    women = load_dataset(tmp_path / "southern_women" / "attendance.csv", split="none", validation_fraction=0)
    assert women.train.shape == (18, 14) and women.train.nnz == 89


def test_fetched_data_are_loaded_from_the_cache(tmp_path, monkeypatch):
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "u.data").write_text("1\t1\t5\t1\n1\t2\t5\t2\n")
    monkeypatch.setenv("C2F_NP_DATA", str(tmp_path))
    data = load_dataset("ml-100k", validation_fraction=0)
    assert data.name == "ml-100k" and data.train.shape == (1, 2)


def test_the_catalog_describes_everything():
    assert [info.name for info in list_datasets()] == ["southern-women", "planted", "ml-100k", "ml-1m", "gowalla"]
    for info in list_datasets():
        assert info.source in info.describe() and info.terms in info.describe()
        assert info.is_shipped == (not info.files) and bool(info.base_url) == bool(info.files)


def test_importing_is_light():
    code = "import sys, c2f_np.data; print([m for m in ('numba', 'pooch', 'tqdm', 'requests') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
