"""Input that is valid, and was taken for something else."""

import numpy as np
import pandas as pd
import pytest

from c2f_np.cli import main
from c2f_np.data import Dataset, Interactions, load_dataset, read_frame, write_lightgcn
from c2f_np.errors import DataError, SettingsError
from c2f_np.run import read_request
from c2f_np.settings import Settings

IDS = np.array(["a", "b", "c"])


def of(user, item, **options):
    return Interactions(np.array(user), np.array(item), None, IDS, IDS, **options)


def test_a_name_comes_before_a_path_and_a_path_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "train.txt").write_text("0 0 1\n1 2 3\n")
    assert load_dataset("planted").n_users == 1000
    for path in (tmp_path / "planted", tmp_path.joinpath("planted").relative_to(tmp_path), "./planted"):
        assert load_dataset(path, split="none").n_users == 2
    short = ["--max-epochs", "1", "--table-epochs", "0", "--engine", "numpy", "--quiet"]
    assert main(["train", "planted", "--out", "run", *short]) == 0
    assert read_request("run").source == "planted"


@pytest.mark.parametrize("validation", [None, np.zeros((2, 3))])
def test_writing_leaves_nothing_of_an_earlier_data_set(tmp_path, validation):
    first, second = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 0], [0, 0, 1]])
    write_lightgcn(Dataset.from_matrices(first, second, first[::-1]), tmp_path)
    data = Dataset.from_matrices(second, validation, first)
    write_lightgcn(data, tmp_path)
    found = load_dataset(tmp_path, validation_fraction=0.0)
    assert found.train.nnz == 2 and found.validation is None and found.test.nnz == 2


def test_codes_that_are_not_sorted_or_occur_twice_are_refused():
    for user, item in (([1, 0, 2], [0, 1, 2]), ([0, 0], [2, 1]), ([0, 0], [1, 1])):
        with pytest.raises(DataError, match="sorted by user"):
            of(user, item)
    with pytest.raises(DataError, match="whole numbers"):
        of([0.0, 1.0], [1, 0])


def test_codes_of_few_bits_do_not_overflow():
    ids = np.array([str(n) for n in range(70_000)])
    pairs = Interactions(np.array([69_999], np.int32), np.array([69_998], np.int32), None, ids, ids)
    assert [part.tolist() for part in pairs.matrix().nonzero()] == [[69_999], [69_998]]


def test_some_pairs_are_a_part():
    pairs = Interactions.from_rows(list("aabc"), list("xyxz"))
    data = Dataset.from_frames(pairs[[0, 1]], test=pairs[[2]])
    assert data.user_ids.tolist() == ["a", "b"] and data.test.nnz == 1
    assert len(pairs[:2]) == 2 and len(pairs[[]]) == 0
    whole = load_dataset("southern-women")
    assert Dataset.from_frames(whole.interactions()).train.nnz == whole.interactions().matrix().nnz
    assert not any("_without_test" in name for name in load_dataset(whole.interactions(), split="none").report)


def test_a_column_may_have_the_name_of_a_method():
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "collect": [1, 2], "collect_schema": [1, 2]})
    assert len(read_frame(frame)) == 2


def test_rounded_ids_of_arrow_are_refused():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"user": pa.array(np.array([20_000_000, 20_000_001], np.float32)), "item": [1, 2]})
    with pytest.raises(DataError, match="user id"):
        read_frame(table)
    assert len(read_frame(pa.table({"user": pa.array([1.0, 2.0]), "item": [1, 2]}))) == 2


@pytest.mark.parametrize("kind, value", [("rating", 10**400), ("timestamp", 10**400), ("rating", "good")])
def test_a_value_that_is_no_number_is_named_with_its_row(kind, value):
    with pytest.raises(DataError, match="row 1"):
        read_frame({"user": [1, 2], "item": [2, 3], kind: [3, value]})


@pytest.mark.parametrize("source", [np.eye(3), None, 3, "x" * 300])
def test_what_is_no_source_is_refused_in_words(source):
    with pytest.raises(DataError):
        load_dataset(source)


def test_a_matrix_of_numbers_beyond_any_float_is_refused():
    with pytest.raises(DataError):
        Dataset.from_matrices([[10**400, 1], [1, 1]])


@pytest.mark.parametrize("fraction, words", [(0.2, "20%"), (0.125, "12.5%"), (0.001, "0.1%")])
def test_a_small_share_is_not_described_as_none(fraction, words):
    rows = np.arange(2000)
    pairs = Interactions.from_rows((rows // 20).astype(str), (rows % 20).astype(str))
    data = load_dataset(pairs, split="random", test_fraction=fraction, validation_fraction=fraction)
    assert f"test: {words} of each" in data.split and data.split.count(words) == 2


def test_masked_entries_are_no_interactions():
    masked = np.ma.masked_array([[1, 1, 0], [1, 0, 1]], mask=[[0, 1, 0], [0, 0, 0]])
    assert Dataset.from_matrices(masked).train.toarray().tolist() == [[1, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("column", ["ratings", "timestamps"])
def test_a_masked_number_is_missing(column):
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    with pytest.raises(DataError, match=f"{column} must be finite"):
        Interactions.from_rows([1, 2, 3], [1, 2, 3], **{column: masked})


def test_the_report_of_parts_counts_the_rows_of_all():
    first, second = [("a", 1), ("a", 1), ("b", 2)], [("b", 1), ("a", 1)]
    frames = (pd.DataFrame(rows, columns=["user", "item"]) for rows in (first, second))
    report = Dataset.from_frames(next(frames), test=next(frames)).report
    assert (report["rows_read"], report["duplicates_merged"], report["test_pairs_also_in_training"]) == (5, 1, 1)


def test_a_setting_needs_a_name():
    with pytest.raises(SettingsError, match="unknown setting 1"):
        Settings.from_dict({1: 2})
