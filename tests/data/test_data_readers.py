"""The readers: what they read, and what they say when they cannot."""

import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c2f_np.data import (
    Dataset,
    read_csv,
    read_lightgcn,
    read_lightgcn_file,
    read_ratings_dat,
    read_recbole,
    read_u_data,
    write_lightgcn,
)
from c2f_np.errors import DataError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(interactions):
    """Return (user id, item id, timestamp) of every pair."""
    times = [None] * len(interactions) if interactions.timestamp is None else interactions.timestamp.tolist()
    users, items = interactions.user_ids[interactions.user], interactions.item_ids[interactions.item]
    return list(zip(users.tolist(), items.tolist(), times, strict=True))


def refuses(read, path, message, *, line=None, value=None, **options):
    """Assert that the error names the file, and the line and value if there are any."""
    with pytest.raises(DataError, match=message) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    if line is not None:
        assert caught.value.line == line and f"line {line}" in str(caught.value)
    if value is not None:
        assert repr(value) in str(caught.value)


# --- LightGCN text ------------------------------------------------------------------------------------------------


def test_lightgcn_file(tmp_path):
    path = write(tmp_path / "train.txt", "0 3 17\n10 3\n\n2\n")
    assert rows(read_lightgcn_file(path)) == [("0", "3", None), ("0", "17", None), ("10", "3", None)]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf0 1 2\r\n1 2\r\n", b"0 1 2 \n\n 1\t2", b"0 1 2\r1 2\r", b"00 01 2\n1 02\n"]
)
def test_lightgcn_tolerates_marks_line_ends_and_spaces(tmp_path, content):
    path = write(tmp_path / "train.txt", content)
    assert [row[:2] for row in rows(read_lightgcn_file(path))] == [("0", "1"), ("0", "2"), ("1", "2")]


def test_lightgcn_folder(tmp_path):
    write(tmp_path / "train.txt", "0 3 3 4\n1 3\n7\n")
    write(tmp_path / "valid.txt", "1 3 5\n")
    write(tmp_path / "test.txt", "0 3 5\n8 9\n")
    split = read_lightgcn(tmp_path)
    assert split.user_ids.tolist() == ["0", "1", "7", "8"] and split.item_ids.tolist() == ["3", "4", "5", "9"]
    assert split.train.toarray().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert split.validation.toarray().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert split.test.toarray().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert split.report["duplicates_merged"] == 1
    assert split.report["test_pairs_also_in_training"] == 1 and split.report["validation_pairs_also_in_training"] == 1


@pytest.mark.parametrize(
    ("content", "line", "value", "message"),
    [
        ("0 1\n1 x 2\n", 2, "x", "item id is not a whole number"),
        ("u 1\n", 1, "u", "user id is not a whole number"),
        ("0 1\n\n1 -2\n", 3, "-2", "item id is negative"),
        ("-1 2\n", 1, "-1", "user id is negative"),
        ("0 1.5\n", 1, "1.5", "not a whole number"),
        ("0 1_0\n", 1, "1_0", "not a whole number"),
        ("0 ٣\n", 1, "٣", "not a whole number"),
        ("0 2147483648\n", 1, "2147483648", "larger than 2147483647"),
        ("0 1 2 3\n1 " + "9" * 5000 + " 1" * 2000, 2, "9" * 80, "larger than 2147483647"),
        ("0 nan\n", 1, "nan", "not a whole number"),
        (b"0 1\n1 \xff\n", 2, "0xff", "not UTF-8"),
        ("", None, None, "no interactions"),
        ("0\n1\n", None, None, "no interactions"),
    ],
)
def test_lightgcn_errors(tmp_path, content, line, value, message):
    refuses(read_lightgcn_file, write(tmp_path / "train.txt", content), message, line=line, value=value)


def test_lightgcn_missing_files(tmp_path):
    refuses(read_lightgcn_file, tmp_path / "train.txt", "no such file")
    refuses(read_lightgcn_file, tmp_path, "this is a folder")
    refuses(read_lightgcn, tmp_path / "nowhere", "no such folder")
    write(tmp_path / "train.txt", "0 1\n")
    refuses(read_lightgcn, tmp_path, "no test.txt beside train.txt")
    write(tmp_path / "test.txt", "\n")
    refuses(read_lightgcn, tmp_path, "test.txt: there are no interactions")


def test_ids_up_to_the_largest_are_fine(tmp_path):
    path = write(tmp_path / "train.txt", "2147483647 2147483647\n")
    assert rows(read_lightgcn_file(path)) == [("2147483647", "2147483647", None)]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=6))
def test_lightgcn_round_trip(tmp_path, values):
    """0: absent, 1: training, 2: validation, 3: test."""
    values = np.array(values)
    values[0, 0] = 1
    parts = {name: values == code for name, code in (("train", 1), ("validation", 2), ("test", 3))}
    if not (parts["test"].any() and parts["validation"].any()):
        return
    data = Dataset.from_matrices(**parts)
    write_lightgcn(data, tmp_path)
    back = read_lightgcn(tmp_path)
    seen = np.flatnonzero(values.any(axis=0))  # items nobody has leave no trace in the files
    assert back.item_ids.tolist() == [str(item) for item in seen]
    assert back.user_ids.tolist() == data.user_ids.tolist()
    for name, expected in parts.items():
        assert (getattr(back, name).toarray() == expected[:, seen]).all()


def test_lightgcn_writes_line_feeds_and_refuses_names(tmp_path):
    write_lightgcn(Dataset.from_matrices([[1, 1], [0, 0]]), tmp_path)
    assert (tmp_path / "train.txt").read_bytes() == b"0 0 1\n1\n"
    assert not (tmp_path / "test.txt").exists()
    with pytest.raises(DataError, match="user id does not fit.*'anna'"):
        write_lightgcn(Dataset.from_matrices([[1]], user_ids=["anna"]), tmp_path)


# --- MovieLens ----------------------------------------------------------------------------------------------------


def test_u_data(tmp_path):
    path = write(tmp_path / "u.data", "196\t242\t3\t881250949\r\n\r\n20\t242\t5\t5\r\n20\t242\t1\t9")
    assert rows(read_u_data(path)) == [("20", "242", 9.0), ("196", "242", 881250949.0)]
    assert rows(read_u_data(path, rating_threshold=4)) == [("20", "242", 5.0)]


def test_ratings_dat(tmp_path):
    path = write(tmp_path / "ratings.dat", "1::1193::5::978300760\n1::661::3.5::978302109\n")
    assert rows(read_ratings_dat(path)) == [("1", "661", 978302109.0), ("1", "1193", 978300760.0)]


@pytest.mark.parametrize(
    ("second_line", "value", "message"),
    [
        ("1\t2\t3", "1\t2\t3", "3 fields where 4 are needed"),
        ("1\t2\t3\t4\t5", None, "5 fields where 4 are needed"),
        ("1::2::3::4", "1::2::3::4", "separated by tab"),
        ("x\t2\t3\t4", "x", "user id is not a whole number"),
        ("1\t-2\t3\t4", "-2", "item id is negative"),
        ("1\t99999999999\t3\t4", "99999999999", "larger than 2147483647"),
        ("1\t2\tgood\t4", "good", "rating is not a number"),
        ("1\t2\tNaN\t4", "NaN", "rating must be finite"),
        ("1\t2\t3\t-inf", "-inf", "timestamp must be finite"),
        ("1\t2\t3\t1e999", "1e999", "timestamp is too large"),
        ("1\t2\t\t4", None, "rating is empty"),
        ("1\t2\t1_0\t4", "1_0", "rating is not a number"),
    ],
)
def test_u_data_errors(tmp_path, second_line, value, message):
    path = write(tmp_path / "u.data", f"1\t1\t1\t1\n{second_line}\n")
    refuses(read_u_data, path, message, line=2, value=value)


def test_empty_movielens(tmp_path):
    refuses(read_u_data, write(tmp_path / "u.data", "\n\n"), "no interactions")
    path = write(tmp_path / "u.data", "1\t1\t3\t1\n")
    refuses(read_u_data, path, "no rating reaches the threshold 4; the highest is 3", rating_threshold=4)


# --- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["user", "user_id", "userId", "User ID", "uid"])
@pytest.mark.parametrize("item", ["item", "item_id", "movieId", "ISBN"])
def test_csv_common_names(tmp_path, user, item):
    path = write(tmp_path / "x.csv", f"{item},stars,{user},time\nx,5,anna,7\n")
    assert rows(read_csv(path)) == [("anna", "x", 7.0)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_guesses_the_separator(tmp_path, separator):
    path = write(tmp_path / "x.csv", f"user{separator}item\nanna{separator}x\n")
    assert rows(read_csv(path)) == [("anna", "x", None)]


def test_csv_separator_can_be_given(tmp_path):
    assert rows(read_csv(write(tmp_path / "x.csv", "user^item,y^item\na^1^x\n"), separator="^")) == [("a", "x", None)]
    assert rows(read_csv(write(tmp_path / "x.txt", "user\titem\na\tx\n"), separator=r"\t")) == [("a", "x", None)]
    with pytest.raises(DataError, match="separator must be one character.*'::'"):
        read_csv(tmp_path / "x.csv", separator="::")


def test_csv_quotes_marks_and_line_ends(tmp_path):
    content = '\ufeffuser,item\r\n"Smith, ""J""", büch\r\n\r\n"two\r\nlines",x\r\n'
    path = write(tmp_path / "x.csv", content)
    assert rows(read_csv(path)) == [('Smith, "J"', "büch", None), ("two\r\nlines", "x", None)]


def test_csv_columns_can_be_named_or_left_out(tmp_path):
    path = write(tmp_path / "x.csv", "who,what,rating,when,time\na,x,2,3,yesterday\na,y,5,4,today\n")
    named = dict(user_column="who", item_column="what")
    assert rows(read_csv(path, **named, timestamp_column="when")) == [("a", "x", 3.0), ("a", "y", 4.0)]
    assert rows(read_csv(path, **named, timestamp_column="")) == [("a", "x", None), ("a", "y", None)]
    assert rows(read_csv(path, **named, timestamp_column="", rating_threshold=3)) == [("a", "y", None)]
    refuses(read_csv, path, 'set timestamp_column to ""', line=2, value="yesterday", **named)


@pytest.mark.parametrize(
    ("content", "options", "line", "value", "message"),
    [
        ("", {}, None, None, "the file is empty"),
        ("\n\n", {}, None, None, "the file is empty"),
        ("user,item\n", {}, None, None, "no interactions"),
        ("who,what\na,x\n", {}, 1, None, "which column holds the user ids.*columns are 'who', 'what'"),
        ("user,what\na,x\n", {}, 1, None, "which column holds the item ids"),
        ("user,item,movie\na,x,y\n", {}, 1, None, "several columns could be the item column"),
        ("user,item\na,x\n", dict(user_column="who"), 1, None, "no column 'who'.*'user', 'item'"),
        ("user,item\na,x\n", dict(rating_column="r"), 1, None, "no column 'r'"),
        ("user,item\na,x\n", dict(item_column="user"), 1, None, "two purposes"),
        ("user,item\na,x\n", dict(rating_threshold=3), None, None, "no rating column"),
        ("user,item\na,x\nb\n", {}, 3, "b", "1 fields where the header has 2"),
        ("user,item\na,x,y\n", {}, 2, "a,x,y", "3 fields where the header has 2"),
        ("user,item\n,x\n", {}, 2, None, "user id is empty"),
        ("user,item,rating\na,x,3\nb,x,nan\n", {}, 3, "nan", "rating must be finite"),
        ("user,item,rating\na,x,high\n", {}, 2, "high", "rating is not a number"),
        ("user,item,time\na,x,inf\n", {}, 2, "inf", "timestamp must be finite"),
        ('user,item\n"a,x\nb,y\n', {}, None, None, "not a well-formed table"),
        (b"user,item\na,x\nb,\xe9t\xe9\n", {}, 3, "0xe9", "not UTF-8"),
    ],
)
def test_csv_errors(tmp_path, content, options, line, value, message):
    refuses(read_csv, write(tmp_path / "x.csv", content), message, line=line, value=value, **options)


def test_csv_missing(tmp_path):
    refuses(read_csv, tmp_path / "x.csv", "no such file")


ids = st.text(string.ascii_letters + string.digits + ' ,;"\'\t\n\r|é漢😀', min_size=1, max_size=6)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=8))
def test_csv_round_trip_of_any_ids(tmp_path, pairs):
    quoted = ['"' + a.replace('"', '""') + '","' + b.replace('"', '""') + '"' for a, b in pairs]
    path = write(tmp_path / "x.csv", "user,item\n" + "\n".join(quoted) + "\n")
    assert sorted(row[:2] for row in rows(read_csv(path))) == sorted(set(pairs))


# --- RecBole ------------------------------------------------------------------------------------------------------


def test_recbole(tmp_path):
    path = write(
        tmp_path / "x.inter",
        'user_id:token\titem_id:token\trating:float\ttimestamp:float\nanna\t"7" in\t4\t12.5\nanna\tx\t1\t2\n',
    )
    assert rows(read_recbole(path)) == [("anna", '"7" in', 12.5), ("anna", "x", 2.0)]
    assert rows(read_recbole(path, rating_threshold=2)) == [("anna", '"7" in', 12.5)]


def test_recbole_errors(tmp_path):
    path = write(tmp_path / "x.inter", "user_id\titem_id\n1\t2\n")
    refuses(read_recbole, path, "name:type", line=1, value="user_id")
    path = write(tmp_path / "x.inter", "user_id:token\titem_id:token\n1\t2\n1\n")
    refuses(read_recbole, path, "1 fields where the header has 2", line=3, value="1")
